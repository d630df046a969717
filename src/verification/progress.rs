//! How far a run is, and whether it is to go on.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
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
    /// When its turn came: to wait costs it nothing.
    began: OnceLock<Instant>,
    timeout: Duration,
    /// Whether the server stops.
    stop: Arc<AtomicBool>,
    /// What is judged, in the order of names, once that is known.
    names: OnceLock<Vec<ConnectionName>>,
}

impl Progress {
    pub(super) fn new(timeout: Duration, stop: Arc<AtomicBool>) -> Self {
        let (rows, done, began, names) = (AtomicU64::new(0), AtomicU64::new(0), OnceLock::new(), OnceLock::new());
        Self { rows, done, began, timeout, stop, names }
    }

    pub(super) fn tell(&self, names: Vec<ConnectionName>) {
        let _ = self.names.set(names);
    }

    pub(super) fn names(&self) -> &[ConnectionName] {
        self.names.get().map_or(&[], Vec::as_slice)
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
    /// The time is over, or the server stops.
    pub(super) fn check(&self) -> Result<(), VerificationError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(VerificationError::Stopped);
        }
        if self.began.get_or_init(Instant::now).elapsed() > self.timeout {
            return Err(VerificationError::TooLong { limit: self.timeout });
        }
        Ok(())
    }
}
