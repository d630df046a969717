//! The lake as it was: its earlier versions, for as long as all files of them are kept.

use std::{
    collections::{BTreeSet, VecDeque},
    str::FromStr,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use tokio::sync::MutexGuard;

use super::{Finding, Lake, LakeError, Snapshot, reconcile::snapshot_of};
use crate::{catalog::Sealed, error::ErrorKind, ids::ProjectSlug};

/// So many earlier versions are at hand, those that were asked for last: each is a list of all its files.
const AT_HAND: usize = 4;

/// When the lake is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    Version(u64),
    Instant(DateTime<Utc>),
}

impl FromStr for AsOf {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(version) = text.parse() {
            return Ok(Self::Version(version));
        }
        let instant = DateTime::parse_from_rfc3339(text);
        instant.map(|at| Self::Instant(at.to_utc())).map_err(|_| {
            "what was asked is neither a version of the lake, such as 17, nor an instant with its offset, such as \
             2026-05-01T00:00:00Z or 2026-05-01T03:00:00+03:00"
        })
    }
}

/// The lake as it was.
#[derive(Clone, Debug)]
pub struct Earlier {
    pub snapshot: Arc<Snapshot>,
    /// The instant that was asked for, or when the version was written.
    pub at: DateTime<Utc>,
}

/// Why the lake cannot be looked at as it was; fit for outsiders, but for what is beneath [`Self::Lake`].
#[derive(Debug, thiserror::Error)]
pub enum AsOfError {
    #[error("the newest version of the lake is {newest}, and there is no {version} yet")]
    NoSuchVersion { version: u64, newest: u64 },
    #[error("that is still to come; leave as_of out for the lake as it is")]
    Future,
    #[error("the lake was empty then")]
    BeforeAll,
    #[error(
        "version {version} of the lake is no longer kept whole for what this asks of: what leaves the lake is removed after the \
         server's lake.retention_days, or at once where an upload is purged; ask with as_of={whole_from} or later"
    )]
    NotKept { version: u64, whole_from: u64 },
    #[error("the lake as it was")]
    Lake(#[from] LakeError),
}

impl AsOfError {
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchVersion { .. } | Self::Future | Self::BeforeAll => ErrorKind::Invalid,
            Self::NotKept { .. } => ErrorKind::Gone,
            Self::Lake(error) => error.kind(),
        }
    }
}

/// Earlier versions that were asked for.
#[derive(Debug, Default)]
pub(super) struct History(tokio::sync::Mutex<VecDeque<Arc<Snapshot>>>);

/// Held while files of earlier versions are removed: nobody opens such a version meanwhile.
pub(super) struct Held<'a>(#[expect(dead_code, reason = "it is held")] MutexGuard<'a, VecDeque<Arc<Snapshot>>>);

impl History {
    /// What is at hand is forgotten, so that files go which nobody else reads.
    pub(super) async fn hold(&self) -> Held<'_> {
        let mut at_hand = self.0.lock().await;
        at_hand.clear();
        Held(at_hand)
    }
}

impl Lake {
    /// The lake as it was, for questions about `projects`: of others, files may be missing in it.
    pub async fn as_of<'a>(
        &self,
        as_of: AsOf,
        projects: impl Iterator<Item = &'a ProjectSlug>,
    ) -> Result<Earlier, AsOfError> {
        let newest = self.snapshot();
        let (version, at) = self.version_as_of(as_of, newest.version).await?;
        if version == newest.version {
            return Ok(Earlier { snapshot: newest, at });
        }
        let projects: BTreeSet<&ProjectSlug> = projects.collect();
        let mut at_hand = self.history.0.lock().await;
        let known = at_hand.iter().find(|known| known.version == version).cloned();
        let snapshot = if let Some(known) = known {
            known
        } else {
            let (snapshot, has_all) = self.read_version(version, &newest, &projects).await?;
            let snapshot = Arc::new(snapshot);
            self.note_in_use(&snapshot);
            if has_all {
                at_hand.truncate(AT_HAND - 1);
                at_hand.push_front(Arc::clone(&snapshot));
            }
            snapshot
        };
        let whole_from = self.catalog.whole_from(projects.into_iter()).await.map_err(LakeError::from)?;
        drop(at_hand);
        if version < whole_from {
            return Err(AsOfError::NotKept { version, whole_from });
        }
        Ok(Earlier { snapshot, at })
    }

    async fn version_as_of(&self, as_of: AsOf, newest: u64) -> Result<(u64, DateTime<Utc>), AsOfError> {
        match as_of {
            AsOf::Version(version) => {
                let written = self.catalog.version_written(version).await.map_err(LakeError::from)?;
                let written = written.filter(|_| version <= newest);
                Ok((version, written.ok_or(AsOfError::NoSuchVersion { version, newest })?))
            }
            AsOf::Instant(at) if at > Utc::now() => Err(AsOfError::Future),
            AsOf::Instant(at) => {
                let version = self.catalog.version_by(at).await.map_err(LakeError::from)?;
                Ok((version.ok_or(AsOfError::BeforeAll)?.min(newest), at))
            }
        }
    }

    /// The version as the ledger has it, and whether that is so for all projects, and not for these alone.
    async fn read_version(
        &self,
        version: u64,
        newest: &Snapshot,
        projects: &BTreeSet<&ProjectSlug>,
    ) -> Result<(Snapshot, bool), LakeError> {
        let Sealed { whole, broken } = self.catalog.files_of_version(version).await?;
        let has_all = broken.is_empty();
        let of_these = |path: &String| projects.iter().any(|slug| path.starts_with(&format!("project_id={slug}/")));
        let broken: Vec<String> = broken.into_iter().filter(of_these).collect();
        if !broken.is_empty() {
            return Err(LakeError::Damaged(vec![Finding::LedgerFiles { broken }]));
        }
        let snapshot = snapshot_of(version, &whole);
        snapshot.keep_verified(newest);
        Ok((snapshot, has_all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_and_an_instant_with_its_offset_are_read_and_a_local_time_is_not() {
        let instant = "2026-04-30T21:00:00Z".parse().unwrap();
        assert_eq!("17".parse(), Ok(AsOf::Version(17)));
        assert_eq!("2026-05-01T00:00:00+03:00".parse(), Ok(AsOf::Instant(instant)));
        for wrong in ["", "-1", "2026-05-01", "2026-05-01T00:00:00", "yesterday"] {
            assert!(wrong.parse::<AsOf>().is_err(), "{wrong}");
        }
    }
}
