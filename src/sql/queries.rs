//! The queries that run, wait, or have ended not long ago: what an organisation may know of its own, and how many results it may
//! have. All of it is kept in memory, and goes with the process, as the results do.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};

pub use super::{
    query_info::{QueryInfo, QueryState},
    tracked::{Query, QueryFacts, Tracked},
};
use crate::{
    access::{Principal, Reach},
    config::BackgroundConfig,
    ids::{OrganisationSlug, QueryId},
    query::QueryError,
};

/// Whose queries they are: an organisation's, or an administrator's own.
type Party = Option<OrganisationSlug>;

/// All of them.
#[derive(Debug)]
pub struct Queries {
    limits: BackgroundConfig,
    parties: Mutex<HashMap<Party, BTreeMap<QueryId, Arc<Query>>>>,
}

impl Queries {
    pub(super) fn new(limits: BackgroundConfig) -> Self {
        Self { limits, parties: Mutex::default() }
    }

    /// A query comes. What its organisation has too many of that have ended is forgotten.
    ///
    /// # Errors
    /// [`QueryError::Busy`] where it is to be answered later, and the organisation has as many of these that have not ended as it
    /// may.
    pub fn begin(&self, facts: QueryFacts) -> Result<Tracked, QueryError> {
        let mut parties = self.lock();
        let own = parties.entry(facts.asker.organisation.clone()).or_default();
        self.forget_old(own);
        if facts.later.is_some() {
            self.make_room(own)?;
        }
        let query = Arc::new(Query::of(facts));
        own.insert(query.id.clone(), Arc::clone(&query));
        Ok(Tracked::new(query))
    }

    /// A query that nobody finds, because nobody asked it: a check of a statement.
    #[must_use]
    pub fn unlisted(&self, facts: QueryFacts) -> Tracked {
        Tracked::new(Arc::new(Query::of(facts)))
    }

    fn forget_old(&self, own: &mut BTreeMap<QueryId, Arc<Query>>) {
        let kept = chrono::Duration::from_std(self.limits.kept).unwrap_or(chrono::Duration::MAX);
        let oldest = Utc::now().checked_sub_signed(kept).unwrap_or_default();
        own.retain(|_, query| !query.has_ended_before(oldest));
        let ended = own.values().filter(|query| query.has_ended_before(DateTime::<Utc>::MAX_UTC));
        let surplus = ended.clone().count().saturating_sub(self.limits.listed.saturating_sub(1));
        // Results are kept for longer than what has none: somebody comes back for them.
        let without = ended.clone().filter(|query| query.result().is_none());
        let gone: Vec<QueryId> = without.take(surplus).map(|query| query.id.clone()).collect();
        for id in gone {
            own.remove(&id);
        }
    }

    /// Of queries that are answered later, an organisation has so many and no more: the oldest result gives way.
    fn make_room(&self, own: &mut BTreeMap<QueryId, Arc<Query>>) -> Result<(), QueryError> {
        let counts = |query: &&Arc<Query>| {
            let is_over = query.has_ended_before(DateTime::<Utc>::MAX_UTC);
            query.facts.later.is_some() && (!is_over || query.result().is_some())
        };
        let counted: Vec<&Arc<Query>> = own.values().filter(counts).collect();
        if counted.len() < self.limits.results {
            return Ok(());
        }
        match counted.into_iter().find(|query| query.result().is_some()) {
            Some(oldest) => {
                oldest.cancel();
                Ok(())
            }
            None => Err(QueryError::Busy { setting: "sql.organisation_results", limit: self.limits.results }),
        }
    }

    /// Those that a caller may know of, the newest first, those made before `after`; one more than `limit` where there are more.
    #[must_use]
    pub fn page(&self, caller: &Principal, after: Option<&QueryId>, limit: u32) -> Vec<Arc<Query>> {
        let mut parties = self.lock();
        for own in parties.values_mut() {
            self.forget_old(own);
        }
        let seen = parties.iter().filter(|(party, _)| is_seen(caller, party));
        let mut seen: Vec<&Arc<Query>> = seen.flat_map(|(_, own)| own.values()).collect();
        seen.retain(|query| after.is_none_or(|after| query.id < *after));
        seen.sort_by(|a, b| b.id.cmp(&a.id));
        seen.into_iter().take(limit as usize + 1).cloned().collect()
    }

    /// The query of an id, where the caller may know of it.
    #[must_use]
    pub fn find(&self, caller: &Principal, id: &QueryId) -> Option<Arc<Query>> {
        let mut parties = self.lock();
        for own in parties.values_mut() {
            self.forget_old(own);
        }
        let mut seen = parties.iter().filter(|(party, _)| is_seen(caller, party));
        seen.find_map(|(_, own)| own.get(id).cloned())
    }

    /// Forgets what has been kept for long enough, so that its results leave the disk.
    pub fn forget_expired(&self) {
        let mut parties = self.lock();
        for own in parties.values_mut() {
            self.forget_old(own);
        }
        parties.retain(|_, own| !own.is_empty());
    }

    /// A query as it is shown.
    #[must_use]
    pub fn info(&self, query: &Query) -> QueryInfo {
        query.info(self.limits.kept)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Party, BTreeMap<QueryId, Arc<Query>>>> {
        self.parties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a caller may know of the queries of a party: its own organisation's, or all.
fn is_seen(caller: &Principal, party: &Party) -> bool {
    match (caller.reach(), party) {
        (Reach::Server, _) => true,
        (Reach::Organisation(own), Some(party)) => own == party,
        (Reach::Organisation(_) | Reach::Nothing, _) => false,
    }
}
