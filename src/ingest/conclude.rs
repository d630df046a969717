//! The second half of an upload, once its file is received and checked: it lands, or it is refused, or it was only a try.
//!
//! From the first word in the catalogue on, the order of steps makes every crash and every failure one that can be told
//! apart later: the catalogue names the upload before its folder is kept; its files are on disk before the catalogue says
//! `committing`; and only the lake's log says that it landed.

use std::collections::BTreeSet;

use chrono::{SubsecRound, Utc};

use super::{
    Ingest, IngestError, Outcome, UploadRequest, Work, blocking,
    check::Checked,
    folder::Folder,
    manifest::Told,
    parts::months_of,
    rebuild::staged_records,
    report::Report,
    stage::{self, Staged},
};
use crate::{
    catalog::{OnError, UploadRecord, UploadStatus},
    failpoints,
    ids::{ChangeId, ProjectSlug},
    lake::{self, Change, ChangeKind, LakeError},
    payments::report::Counts,
};

/// Why an upload did not land, or one was not deleted.
pub(super) enum NotLanded {
    /// It is certain that it did not, and it can be cleared away.
    Failed(IngestError),
    /// Not even the log could be asked. What is there stays; the next upload of the project, or the next start, settles it.
    Unsettled(IngestError),
}

impl NotLanded {
    pub(super) fn into_error(self) -> IngestError {
        match self {
            Self::Failed(error) | Self::Unsettled(error) => error,
        }
    }
}

impl<E: Into<IngestError>> From<E> for NotLanded {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Ingest {
    pub(super) async fn finish(
        &self,
        request: UploadRequest,
        mut record: UploadRecord,
        checked: Checked,
        work: &Work,
    ) -> Result<Outcome, IngestError> {
        record.sha256.clone_from(&checked.original.sha256);
        record.bytes = checked.original.bytes;
        // A dry run says what would be found now, whatever came before.
        if !request.dry_run
            && let Some(first) =
                self.catalog.committed_upload_of(&request.scope, &record.projects, &record.sha256).await?
        {
            return self.conclude_repeated(&request, &record, first).await;
        }
        let report = Report::of(&checked);
        let refused = checked.unreadable
            || checked.read == checked.rejected
            || (checked.rejected > 0 && request.on_error == OnError::RejectFile);
        if refused || request.dry_run {
            return self.conclude_unplaced(&request, record, checked, report, refused, work).await;
        }
        let staged = self.stage_parts(&request, &record, checked, work).await?;
        failpoints::pass("commit::staged").map_err(IngestError::io("staging rows"))?;
        self.conclude_placed(&request, record, staged, report, work).await
    }

    /// The same bytes came before.
    async fn conclude_repeated(
        &self,
        request: &UploadRequest,
        record: &UploadRecord,
        first: UploadRecord,
    ) -> Result<Outcome, IngestError> {
        if let Some(key) = request.key_with(&record.sha256) {
            self.catalog.keep_repeated_key(&key, &first.id).await?;
        }
        Ok(Outcome::Repeated(first))
    }

    /// An upload that stays out of the lake: refused, or a dry run. Its counts say what its rows would have been.
    async fn conclude_unplaced(
        &self,
        request: &UploadRequest,
        mut record: UploadRecord,
        checked: Checked,
        mut report: Report,
        refused: bool,
        work: &Work,
    ) -> Result<Outcome, IngestError> {
        if checked.unreadable {
            report.counts = Counts { read: checked.read, rejected: checked.read, ..Counts::default() };
        } else if checked.routing.is_some() {
            self.count_parts(request, &record, checked, &mut report, work).await?;
        } else {
            let (lake, snapshot) = (self.lake.clone(), self.lake.snapshot());
            let project = record.projects.first().cloned().ok_or(IngestError::Stopped)?;
            let (placement, months) = blocking(move || {
                let mut months = BTreeSet::new();
                let batches = checked.rows.into_batches()?.map(|batch| {
                    let batch = batch?;
                    months.extend(stage::months_of_rows(&batch)?);
                    Ok(batch)
                });
                let batches = batches.map(|batch: Result<_, IngestError>| batch.map_err(LakeError::from_rows));
                let placement = lake::count(lake.root(), &snapshot, &project, batches)?;
                Ok((placement, months))
            })
            .await
            .map_err(|error| self.noted(error))?;
            report.months = months.iter().map(ToString::to_string).collect();
            report.place(&placement);
        }
        record.report = report.to_json();
        if request.dry_run {
            return Ok(if refused { Outcome::Rejected(record) } else { Outcome::Checked(record) });
        }
        let _turns = self.turns_of(&record.projects.iter().cloned().collect()).await;
        self.catalog.insert_upload_with_key(&record, request.key_with(&record.sha256).as_ref()).await?;
        if let Err(error) = self.keep(&record, work).await {
            self.abandon(&record).await;
            return Err(error);
        }
        record.status = UploadStatus::Rejected;
        self.catalog.set_upload_status(&record.id, record.status, None).await?;
        Ok(Outcome::Rejected(record))
    }

    /// An upload whose rows go into the lake.
    async fn conclude_placed(
        &self,
        request: &UploadRequest,
        mut record: UploadRecord,
        staged: Staged,
        mut report: Report,
        work: &Work,
    ) -> Result<Outcome, IngestError> {
        report.months = months_of(&staged);
        let projects: BTreeSet<ProjectSlug> = record.projects.iter().cloned().collect();
        let _turns = self.turns_of(&projects).await;
        self.settle_projects(&projects).await?;
        // The same file twice at once: the second sees here that the first has landed.
        let first = self.catalog.committed_upload_of(&request.scope, &record.projects, &record.sha256).await?;
        if let Some(first) = first {
            return self.conclude_repeated(request, &record, first).await;
        }
        self.catalog.insert_upload_with_key(&record, request.key_with(&record.sha256).as_ref()).await?;
        let version = match self.land(request, &mut record, staged, &mut report, work).await {
            Ok(version) => version,
            Err(NotLanded::Unsettled(error)) => return Err(error),
            Err(NotLanded::Failed(error)) => {
                self.abandon(&record).await;
                return Err(error);
            }
        };
        // As the catalogue keeps it, so that the answer now and the record later say the same.
        let at = Utc::now().trunc_subsecs(6);
        if let Err(error) = self.catalog.set_upload_committed(&record.id, version, at, &record.report).await {
            // The log has it, so it is true; the catalogue follows when it is settled.
            tracing::error!(upload = %record.id, %error, "the catalogue does not know yet that an upload landed");
        }
        // Whatever comes now, it is true, and is told.
        let _ = failpoints::pass("commit::committed");
        record.status = UploadStatus::Committed;
        record.committed_at = Some(at);
        record.lake_version = Some(version);
        Ok(Outcome::Committed(record))
    }

    /// Keeps the upload, places its rows and commits them. Gives the version of the lake that has them.
    async fn land(
        &self,
        request: &UploadRequest,
        record: &mut UploadRecord,
        mut staged: Staged,
        report: &mut Report,
        work: &Work,
    ) -> Result<u64, NotLanded> {
        failpoints::pass("commit::receiving").map_err(IngestError::io("recording the upload"))?;
        // From its record on, the projects' currencies are fixed; until then they may have changed under the rows.
        for project in &request.projects {
            let now = self.catalog.project(&project.slug).await?;
            if now.is_none_or(|now| now.currency != project.currency) {
                return Err(IngestError::CurrencyChanged.into());
            }
        }
        let kept = self.keep(record, work).await?;
        failpoints::pass("commit::kept").map_err(IngestError::io("keeping the upload"))?;
        let mut noted = Vec::new();
        for (project, files) in &mut staged {
            for staged in files.iter_mut() {
                if let Ok(inside) = staged.file.path.strip_prefix(work.folder.path()) {
                    staged.file.path = kept.path().join(inside);
                }
            }
            noted.extend(staged_records(project, &kept, files));
        }
        self.catalog.record_staged(&record.id, &noted).await?;
        let sites = Told::of(request).into_iter().map(|told| (told.project, told.default_site));
        self.catalog.record_upload_sites(&record.id, &sites.collect::<Vec<_>>()).await?;
        let (removed, added) = self.place_parts(&ChangeId::from(&record.id), staged, report).await?;
        record.report = report.to_json();
        let change = Change {
            id: ChangeId::from(&record.id),
            kind: ChangeKind::Upload,
            facts: facts(request, record),
            removed,
            added,
            metadata: None,
        };
        let committing = self.catalog.set_upload_status(&record.id, UploadStatus::Committing, Some(&record.report));
        if let Err(error) = committing.await {
            self.lake.discard(&change.added);
            return Err(error.into());
        }
        self.commit(&change).await
    }

    /// Commits `change` and gives its version; where it did not land, its files are removed.
    pub(super) async fn commit(&self, change: &Change) -> Result<u64, NotLanded> {
        match self.lake.commit(change).await {
            Ok(snapshot) => Ok(snapshot.version),
            Err(error) => match self.lake.version_of(&change.id).await {
                Ok(Some(version)) => Ok(version),
                Ok(None) => {
                    self.lake.discard(&change.added);
                    Err(error.into())
                }
                Err(_) => Err(NotLanded::Unsettled(error.into())),
            },
        }
    }

    /// Tells the lake what was found to be damaged on the way to an error, so that it is repaired.
    pub(super) fn noted(&self, error: IngestError) -> IngestError {
        if let IngestError::Lake(LakeError::Damaged(findings)) = &error {
            self.lake.found(findings);
        }
        error
    }

    async fn keep(&self, record: &UploadRecord, work: &Work) -> Result<Folder, IngestError> {
        let (folder, data_dir, id) = (work.folder.clone(), self.data_dir.clone(), record.id.clone());
        blocking(move || folder.keep(&data_dir, &id).map_err(IngestError::io("keeping the upload"))).await
    }

    /// Settles uploads that were under way when a process ended.
    pub(super) async fn recover(&self) -> Result<(), IngestError> {
        for upload in self.catalog.unfinished_uploads().await? {
            self.settle(&upload).await?;
        }
        Ok(())
    }

    /// Settles what a failure left unfinished of these projects. The caller holds their locks, and all that is under way
    /// holds one of them.
    pub async fn settle_projects(&self, projects: &BTreeSet<ProjectSlug>) -> Result<(), IngestError> {
        for left in self.catalog.unfinished_uploads().await? {
            if left.projects.iter().any(|project| projects.contains(project)) {
                self.settle(&left).await?;
            }
        }
        Ok(())
    }

    /// Decides by the lake's log whether an upload that was left half way got there, or whether one that was being deleted
    /// or restored is.
    async fn settle(&self, upload: &UploadRecord) -> Result<(), IngestError> {
        if let Some(change) = &upload.change {
            let version = self.lake.version_of(change).await?;
            tracing::info!(upload = %upload.id, status = %upload.status, version, "an interrupted change is settled");
            return Ok(self.catalog.end_change(change, version.is_some()).await?);
        }
        if let Some(version) = self.lake.version_of(&ChangeId::from(&upload.id)).await? {
            tracing::info!(upload = %upload.id, version, "an interrupted upload is in the lake");
            self.catalog.set_upload_committed(&upload.id, version, upload.received_at, &upload.report).await?;
        } else {
            tracing::warn!(upload = %upload.id, "an interrupted upload is not in the lake; its sender has to send it again");
            self.abandon(upload).await;
        }
        Ok(())
    }

    /// Notes that an upload failed, and removes what was kept of it: nothing of it was promised.
    async fn abandon(&self, record: &UploadRecord) {
        if let Err(error) = self.catalog.set_upload_status(&record.id, UploadStatus::Failed, None).await {
            // It is settled as failed later, and removed then.
            tracing::error!(upload = %record.id, %error, "a failed upload could not be noted as failed");
            return;
        }
        let kept = Folder::kept(&self.data_dir, &record.id);
        let removed = blocking(move || {
            kept.discard();
            Ok(())
        });
        if removed.await.is_err() {
            tracing::warn!(upload = %record.id, "the folder of a failed upload was not removed");
        }
    }
}

/// What the lake's log is to say of an upload, beside that it is one.
fn facts(request: &UploadRequest, record: &UploadRecord) -> Vec<(&'static str, String)> {
    let mut facts = vec![("sha256", record.sha256.clone())];
    if let Some(key) = request.key_with(&record.sha256) {
        facts.push(("key_prefix", key.key_prefix));
        facts.push(("idempotency_key", key.key.as_str().to_owned()));
        facts.push(("request_sha256", key.request_sha256));
    }
    facts
}
