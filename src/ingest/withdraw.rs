//! Uploads that are deleted, and that come back: their rows leave the lake, or return to it, as if they had never come, or
//! had never gone. What was kept of an upload stays either way.
//!
//! The order of steps makes a crash harmless, as in `conclude.rs`: the catalogue names the change that is under way with the
//! uploads; its files are on disk before it is committed; and only the lake's log says whether it landed.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, SubsecRound, Utc};
use tokio::sync::OwnedMutexGuard;

use super::{Ingest, IngestError, blocking, conclude::NotLanded};
use crate::{
    access::Scope,
    catalog::{UploadRecord, UploadStatus},
    ids::{ChangeId, ProjectSlug, UploadId},
    lake::{self, Change, ChangeKind, LiveUpload},
};

/// Uploads that were deleted or restored.
#[derive(Debug)]
pub struct Withdrawal {
    /// A version of the lake in which they are.
    pub lake_version: u64,
    /// In the order in which they were asked for.
    pub uploads: Vec<UploadRecord>,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Out,
    Back,
}

impl Way {
    /// The status of an upload that can go this way, and of one that has gone.
    fn statuses(self) -> (UploadStatus, UploadStatus) {
        match self {
            Self::Out => (UploadStatus::Committed, UploadStatus::Deleted),
            Self::Back => (UploadStatus::Deleted, UploadStatus::Committed),
        }
    }

    fn kind(self) -> ChangeKind {
        match self {
            Self::Out => ChangeKind::Delete,
            Self::Back => ChangeKind::Restore,
        }
    }

    fn done(self) -> &'static str {
        match self {
            Self::Out => "deleted",
            Self::Back => "restored",
        }
    }
}

impl Ingest {
    /// Takes uploads out of the lake, all of them in one commit, and restores what they had corrected. One that is deleted
    /// already stays so; where all are, nothing is done.
    ///
    /// # Errors
    /// [`IngestError::NoUploads`] for those that are absent or not in the scope, [`IngestError::WrongStatus`] for uploads
    /// whose rows never landed: nothing is done then.
    pub async fn delete(self: &Arc<Self>, scope: &Scope, ids: &[UploadId]) -> Result<Withdrawal, IngestError> {
        self.begin_withdrawal(scope, ids, Way::Out).await
    }

    /// Brings a deleted upload back, at its old place in the order of uploads: what later ones had corrected stays corrected.
    ///
    /// # Errors
    /// As of [`Self::delete`].
    pub async fn restore(self: &Arc<Self>, scope: &Scope, id: &UploadId) -> Result<Withdrawal, IngestError> {
        self.begin_withdrawal(scope, std::slice::from_ref(id), Way::Back).await
    }

    /// Goes on to the end even if the caller stops waiting.
    async fn begin_withdrawal(
        self: &Arc<Self>,
        scope: &Scope,
        ids: &[UploadId],
        way: Way,
    ) -> Result<Withdrawal, IngestError> {
        let mut seen = BTreeSet::new();
        let ids: Vec<UploadId> = ids.iter().filter(|id| seen.insert(*id)).cloned().collect();
        // Before anything waits for anybody else's project.
        self.records_in(scope, &ids).await?;
        let ingest = self.clone();
        let work = async move { ingest.withdraw(&ids, way).await };
        self.under_way.spawn(work).await.map_err(|_| IngestError::Stopped)?
    }

    async fn withdraw(&self, ids: &[UploadId], way: Way) -> Result<Withdrawal, IngestError> {
        let _one_at_a_time = self.withdrawing.acquire().await.map_err(|_| IngestError::Stopped)?;
        let projects = projects_of(&self.records(ids).await?);
        let _turns = self.turns_of(&projects).await;
        self.settle_projects(&projects).await?;
        let mut uploads = self.records(ids).await?;
        let (from, to) = way.statuses();
        let wrong = uploads.iter().filter(|upload| ![from, to].contains(&upload.status));
        let wrong: Vec<_> = wrong.map(|upload| (upload.id.clone(), upload.status)).collect();
        if !wrong.is_empty() {
            return Err(IngestError::WrongStatus { what: way.done(), uploads: wrong });
        }
        let moving: Vec<UploadRecord> = uploads.iter().filter(|upload| upload.status == from).cloned().collect();
        if moving.is_empty() {
            return Ok(Withdrawal { lake_version: self.lake.snapshot().version, uploads });
        }
        // As the catalogue keeps it, so that the answer now and the record later say the same.
        let at = Utc::now().trunc_subsecs(6);
        let lake_version = self.move_uploads(&moving, way, at).await?;
        for upload in uploads.iter_mut().filter(|upload| upload.status == from) {
            upload.status = to;
            upload.deleted_at = matches!(way, Way::Out).then_some(at);
        }
        Ok(Withdrawal { lake_version, uploads })
    }

    /// Moves uploads whose projects are locked, and gives the version of the lake that says so.
    async fn move_uploads(&self, moving: &[UploadRecord], way: Way, at: DateTime<Utc>) -> Result<u64, IngestError> {
        let change = ChangeId::new();
        let ids: Vec<UploadId> = moving.iter().map(|upload| upload.id.clone()).collect();
        match way {
            Way::Out => self.catalog.begin_deletion(&ids, &change, at).await?,
            Way::Back => self.catalog.begin_restoration(&ids, &change).await?,
        }
        let landed = self.land_withdrawal(moving, way, &change).await;
        if !matches!(landed, Err(NotLanded::Unsettled(_)))
            && let Err(error) = self.catalog.end_change(&change, landed.is_ok()).await
        {
            // The log knows, so the catalogue follows when it is settled.
            tracing::error!(%change, %error, "the catalogue does not know yet how a change of uploads ended");
        }
        match landed {
            Ok(version) => {
                tracing::info!(%change, version, uploads = ids.len(), "uploads are {}", way.done());
                Ok(version)
            }
            Err(NotLanded::Failed(error) | NotLanded::Unsettled(error)) => Err(error),
        }
    }

    /// Places what the fold over the other uploads gives, project by project, and commits it at once.
    async fn land_withdrawal(&self, moving: &[UploadRecord], way: Way, id: &ChangeId) -> Result<u64, NotLanded> {
        let ids: Vec<&str> = moving.iter().map(|upload| upload.id.as_str()).collect();
        let facts = vec![("uploads", ids.join(","))];
        let mut change =
            Change { id: id.clone(), kind: way.kind(), facts, removed: Vec::new(), added: Vec::new(), metadata: None };
        for project in projects_of(moving) {
            match self.place_withdrawal(moving, &project, id).await {
                Ok(placement) => {
                    change.removed.extend(placement.removed);
                    change.added.extend(placement.added);
                }
                Err(error) => {
                    self.lake.discard(&change.added);
                    return Err(error.into());
                }
            }
        }
        self.commit(&change).await
    }

    async fn place_withdrawal(
        &self,
        moving: &[UploadRecord],
        project: &ProjectSlug,
        change: &ChangeId,
    ) -> Result<lake::Placement, IngestError> {
        let live = self.live_uploads_with(project, Some(change)).await?;
        let mut affected = Vec::new();
        for upload in moving.iter().filter(|upload| upload.projects.contains(project)) {
            affected.extend(self.staged_files(upload, project).await?);
        }
        let (lake, snapshot, meters) = (self.lake.clone(), self.lake.snapshot(), self.meters(project).await?);
        let (project, change) = (project.clone(), change.clone());
        let placed =
            blocking(move || Ok(lake::refold(lake.root(), &snapshot, &project, &change, &affected, &live, &meters)?));
        placed.await.map_err(|error| self.noted(error))
    }

    /// The uploads that make up a project's rows, in the order in which they landed, with their staged files: what
    /// [`lake::rebuild`] makes the project from. The caller holds the project's lock.
    pub async fn live_uploads(&self, project: &ProjectSlug) -> Result<Vec<LiveUpload>, IngestError> {
        self.live_uploads_with(project, None).await
    }

    /// The same with the uploads that a change is bringing back.
    async fn live_uploads_with(
        &self,
        project: &ProjectSlug,
        change: Option<&ChangeId>,
    ) -> Result<Vec<LiveUpload>, IngestError> {
        let mut live = Vec::new();
        for record in self.catalog.live_uploads(project, change).await? {
            let files = self.staged_files(&record, project).await?;
            live.push(LiveUpload { upload: record.id, files });
        }
        Ok(live)
    }

    /// Of these uploads, those that are erased for good.
    pub async fn erased(&self, ids: &[UploadId]) -> Result<Vec<UploadId>, IngestError> {
        let erased = |upload: &UploadRecord| upload.status == UploadStatus::Purged;
        Ok(self.records(ids).await?.into_iter().filter(erased).map(|upload| upload.id).collect())
    }

    /// Uploads that made up a project's rows once, in the order that is given, with their staged files, whether they count now or are
    /// deleted. None of them may be erased.
    pub async fn uploads_of(&self, project: &ProjectSlug, ids: &[UploadId]) -> Result<Vec<LiveUpload>, IngestError> {
        let records = self.records(ids).await?;
        let mut live = Vec::new();
        for id in ids {
            let Some(record) = records.iter().find(|record| record.id == *id) else { continue };
            live.push(LiveUpload { upload: id.clone(), files: self.staged_files(record, project).await? });
        }
        Ok(live)
    }

    /// The uploads of these ids, where all of them are in the scope.
    pub(super) async fn records_in(&self, scope: &Scope, ids: &[UploadId]) -> Result<Vec<UploadRecord>, IngestError> {
        let uploads = self.catalog.uploads_of(ids).await?;
        let seen = uploads.iter().filter(|upload| scope.has_upload(&upload.projects, &upload.key_prefix));
        let seen: BTreeSet<&UploadId> = seen.map(|upload| &upload.id).collect();
        let missing: Vec<UploadId> = ids.iter().filter(|id| !seen.contains(id)).cloned().collect();
        if missing.is_empty() { Ok(uploads) } else { Err(IngestError::NoUploads(missing)) }
    }

    /// The uploads of these ids.
    pub(super) async fn records(&self, ids: &[UploadId]) -> Result<Vec<UploadRecord>, IngestError> {
        let uploads = self.catalog.uploads_of(ids).await?;
        let found: BTreeSet<&UploadId> = uploads.iter().map(|upload| &upload.id).collect();
        let missing: Vec<UploadId> = ids.iter().filter(|id| !found.contains(id)).cloned().collect();
        if missing.is_empty() { Ok(uploads) } else { Err(IngestError::NoUploads(missing)) }
    }

    /// Waits for the locks of projects, one after the other in the order of their slugs, so that no two wait for each other.
    pub(super) async fn turns_of(&self, projects: &BTreeSet<ProjectSlug>) -> Vec<OwnedMutexGuard<()>> {
        let mut turns = Vec::with_capacity(projects.len());
        for project in projects {
            turns.push(self.lake.lock(project).await);
        }
        turns
    }
}

pub(super) fn projects_of(uploads: &[UploadRecord]) -> BTreeSet<ProjectSlug> {
    uploads.iter().flat_map(|upload| upload.projects.iter().cloned()).collect()
}
