//! What is learned of a request, or of a command, while it is worked on: noted where it is learned, and read when its entry
//! is written.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;

use crate::ids::{ProjectSlug, ShareId};

tokio::task_local! {
    static TRAIL: Trail;
}

/// Of one request, from its first byte to its answer.
#[derive(Clone, Debug, Default)]
pub struct Trail(Arc<Mutex<Learned>>);

/// The fields of an entry that are not known from the beginning.
#[derive(Clone, Debug, Default)]
pub struct Learned {
    /// What it is done to, or with.
    pub object: Option<String>,
    pub projects: Vec<ProjectSlug>,
    /// The shares that it rests on, each with its project.
    pub shares: BTreeMap<ShareId, ProjectSlug>,
    pub parameters: Option<Value>,
    pub rows: Option<u64>,
    pub lake_version: Option<u64>,
}

impl Trail {
    #[must_use]
    pub fn of(learned: Learned) -> Self {
        Self(Arc::new(Mutex::new(learned)))
    }

    /// Does the work with this as the place of what is noted.
    pub async fn follow<T>(&self, work: impl Future<Output = T>) -> T {
        TRAIL.scope(self.clone(), work).await
    }

    #[must_use]
    pub fn learned(&self) -> Learned {
        self.lock().clone()
    }

    /// Notes something of the request that this is of, where its task has gone on to the next.
    pub fn note(&self, write: impl FnOnce(&mut Learned)) {
        write(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Learned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of what is noted of the request that this task works on, for what goes on after its answer has begun.
#[must_use]
pub fn trail() -> Trail {
    TRAIL.try_with(Trail::clone).unwrap_or_default()
}

/// Notes something of the request that this task works on; nothing where it works on none.
pub fn note(write: impl FnOnce(&mut Learned)) {
    // A task of its own, as of the upkeep, has no trail.
    let _ = TRAIL.try_with(|trail| write(&mut trail.lock()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_noted_on_the_way_is_that_of_the_own_request() {
        note(|learned| learned.rows = Some(1));
        let (one, other) = (Trail::default(), Trail::default());
        let work = |rows| async move {
            tokio::task::yield_now().await;
            note(|learned| learned.rows = Some(rows));
        };
        tokio::join!(one.follow(work(2)), other.follow(work(3)));
        assert_eq!((one.learned().rows, other.learned().rows), (Some(2), Some(3)));
    }
}
