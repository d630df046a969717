//! One query, from when it comes to when it is forgotten: how far it has come, what it came to, and that it is cancelled.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{
    frames::Progress,
    query_info::{QueryInfo, QueryProgress, QueryState, ResultInfo},
    stored::Stored,
};
use crate::{
    access::{Principal, Scope},
    ids::{QueryId, QueryName},
};

/// What is known of a query when it comes.
#[derive(Clone, Debug)]
pub struct QueryFacts {
    pub sql: String,
    /// The values of its placeholders.
    pub parameters: Value,
    /// The saved query that it is, and in which version.
    pub saved: Option<(QueryName, u32)>,
    pub asker: Principal,
    pub lake_version: u64,
    /// Where its asker comes back for the result: what it is answered from, which whoever fetches that must see too.
    pub later: Option<Scope>,
}

/// A query, from when it comes to when it is forgotten.
#[derive(Debug)]
pub struct Query {
    pub(super) id: QueryId,
    pub(super) facts: QueryFacts,
    submitted_at: DateTime<Utc>,
    cancel: CancellationToken,
    progress: Seen,
    came_to: Mutex<CameTo>,
}

/// What was seen of its progress.
#[derive(Debug, Default)]
struct Seen {
    scanned_rows: AtomicU64,
    scanned_bytes: AtomicU64,
    /// [`u64::MAX`] where it is not known.
    rows_to_scan: AtomicU64,
    rows: AtomicU64,
}

#[derive(Debug, Default)]
struct CameTo {
    started_at: Option<DateTime<Utc>>,
    end: Option<(DateTime<Utc>, End)>,
}

/// What a query came to.
#[derive(Debug)]
enum End {
    Sent,
    /// None once it is kept no longer.
    Kept(Option<Arc<Stored>>),
    Failed(Value),
    Cancelled,
}

/// A query that has not come to its end. Dropped before that, nobody waits for it any more, and it is cancelled.
#[derive(Debug)]
pub struct Tracked {
    query: Arc<Query>,
}

/// Whoever tells how far a query has come, and hears that it is cancelled.
#[derive(Clone, Debug)]
pub(super) struct Watched(Arc<Query>);

impl Watched {
    pub(super) fn cancelled(&self) -> impl Future<Output = ()> + use<> {
        self.0.cancel.clone().cancelled_owned()
    }

    pub(super) fn came_to(&self, progress: Progress) {
        let seen = &self.0.progress;
        seen.scanned_rows.store(progress.scanned_rows, Ordering::Relaxed);
        seen.scanned_bytes.store(progress.scanned_bytes, Ordering::Relaxed);
        seen.rows_to_scan.store(progress.rows_to_scan.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn has_rows(&self, rows: u64) {
        self.0.progress.rows.store(rows, Ordering::Relaxed);
    }

    pub(super) fn starts(&self) {
        self.0.lock().started_at = Some(Utc::now());
    }
}

impl Query {
    pub(super) fn of(facts: QueryFacts) -> Self {
        Self {
            id: QueryId::new(),
            facts,
            submitted_at: Utc::now(),
            cancel: CancellationToken::new(),
            progress: Seen::default(),
            came_to: Mutex::default(),
        }
    }

    #[must_use]
    pub fn id(&self) -> &QueryId {
        &self.id
    }

    #[must_use]
    pub fn facts(&self) -> &QueryFacts {
        &self.facts
    }

    /// Ends it, if it has not ended; forgets its result, if there is one.
    pub fn cancel(&self) {
        self.cancel.cancel();
        if let Some((_, End::Kept(stored))) = &mut self.lock().end {
            *stored = None;
        }
    }

    /// Its result, where that is whole and kept.
    #[must_use]
    pub fn result(&self) -> Option<Arc<Stored>> {
        match &self.lock().end {
            Some((_, End::Kept(stored))) => stored.clone(),
            _ => None,
        }
    }

    /// Why it failed, as the answer to it would have said.
    #[must_use]
    pub fn problem(&self) -> Option<Value> {
        match &self.lock().end {
            Some((_, End::Failed(problem))) => Some(problem.clone()),
            _ => None,
        }
    }

    #[must_use]
    pub fn state(&self) -> QueryState {
        let came_to = self.lock();
        match (&came_to.end, came_to.started_at) {
            (Some((_, End::Sent | End::Kept(_))), _) => QueryState::Succeeded,
            (Some((_, End::Failed(_))), _) => QueryState::Failed,
            (Some((_, End::Cancelled)), _) => QueryState::Cancelled,
            (None, Some(_)) => QueryState::Running,
            (None, None) => QueryState::Queued,
        }
    }

    /// As it is shown; a result is kept for so long.
    pub(super) fn info(&self, kept: Duration) -> QueryInfo {
        let state = self.state();
        let came_to = self.lock();
        let seen = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let to_scan = seen(&self.progress.rows_to_scan);
        let ended_at = came_to.end.as_ref().map(|(at, _)| *at);
        let result = match &came_to.end {
            Some((at, End::Kept(Some(stored)))) => Some(ResultInfo {
                row_count: stored.rows(),
                bytes: stored.bytes(),
                truncated: stored.truncated(),
                expires_at: *at + kept,
                url: format!("/v1/queries/{}/result", self.id),
            }),
            _ => None,
        };
        let problem = match &came_to.end {
            Some((_, End::Failed(problem))) => Some(problem.clone()),
            _ => None,
        };
        QueryInfo {
            id: self.id.clone(),
            state,
            respond_async: self.facts.later.is_some(),
            sql: self.facts.sql.clone(),
            params: self.facts.parameters.clone(),
            saved_query: self.facts.saved.as_ref().map(|(name, _)| name.clone()),
            saved_version: self.facts.saved.as_ref().map(|(_, version)| *version),
            organisation: self.facts.asker.organisation.clone(),
            key: self.facts.asker.key_prefix.clone(),
            lake_version: self.facts.lake_version,
            submitted_at: self.submitted_at,
            started_at: came_to.started_at,
            ended_at,
            progress: QueryProgress {
                scanned_rows: seen(&self.progress.scanned_rows),
                scanned_bytes: seen(&self.progress.scanned_bytes),
                rows_to_scan: (to_scan != u64::MAX && came_to.started_at.is_some()).then_some(to_scan),
                row_count: seen(&self.progress.rows),
            },
            result,
            problem,
        }
    }

    pub(super) fn has_ended_before(&self, instant: DateTime<Utc>) -> bool {
        self.lock().end.as_ref().is_some_and(|(at, _)| *at < instant)
    }

    fn lock(&self) -> MutexGuard<'_, CameTo> {
        self.came_to.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tracked {
    pub(super) fn new(query: Arc<Query>) -> Self {
        Self { query }
    }

    #[must_use]
    pub fn query(&self) -> &Arc<Query> {
        &self.query
    }

    pub(super) fn watched(&self) -> Watched {
        Watched(Arc::clone(&self.query))
    }

    /// Its answer was sent to its last row.
    pub fn sent(self) {
        self.end(End::Sent);
    }

    /// Its answer is kept.
    pub fn kept(self, stored: Stored) {
        self.end(End::Kept(Some(Arc::new(stored))));
    }

    /// It has no answer, for what a problem tells; or because it was cancelled.
    pub fn failed(self, problem: Value) {
        self.end(if self.query.cancel.is_cancelled() { End::Cancelled } else { End::Failed(problem) });
    }

    fn end(&self, end: End) {
        self.query.lock().end.get_or_insert_with(|| (Utc::now(), end));
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.end(End::Cancelled);
    }
}
