//! How far a run is, and whether it is to go on.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::VerificationError;
use crate::programmes::ConnectionName;

/// Of one run.
#[derive(Debug)]
pub(super) struct Progress {
    /// Payments to be looked at, and those that were.
    rows: AtomicU64,
    done: AtomicU64,
    began: Instant,
    timeout: Duration,
    /// What is judged, in the order of names.
    pub(super) names: Vec<ConnectionName>,
}

impl Progress {
    pub(super) fn new(timeout: Duration, names: Vec<ConnectionName>) -> Self {
        Self { rows: AtomicU64::new(0), done: AtomicU64::new(0), began: Instant::now(), timeout, names }
    }

    pub(super) fn expect(&self, rows: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
    }

    pub(super) fn step(&self, rows: u64) {
        self.done.fetch_add(rows, Ordering::Relaxed);
    }

    /// From 0 to 1.
    pub(super) fn share(&self) -> f64 {
        let (done, rows) = (self.done.load(Ordering::Relaxed), self.rows.load(Ordering::Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "it is shown with two digits")]
        let share = if rows == 0 { 0.0 } else { done as f64 / rows as f64 };
        (share.min(1.0) * 100.0).floor() / 100.0
    }

    /// # Errors
    /// The time is over.
    pub(super) fn check(&self) -> Result<(), VerificationError> {
        if self.began.elapsed() > self.timeout {
            return Err(VerificationError::TooLong { limit: self.timeout });
        }
        Ok(())
    }
}
