//! The second half of an upload, once its file is received and checked: it lands, or it is refused, or it was only a try.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{SubsecRound, Utc};

use super::{Ingest, IngestError, Outcome, UploadRequest, Work, blocking, check::Checked, report::Report, stage};
use crate::{
    catalog::{OnError, UploadRecord, UploadStatus},
    lake::{self, Change, LakeError, StagedFile},
    payments::report::Counts,
};

impl Ingest {
    pub(super) async fn finish(
        &self,
        request: UploadRequest,
        mut record: UploadRecord,
        checked: Checked,
        work: Arc<Work>,
    ) -> Result<Outcome, IngestError> {
        record.sha256.clone_from(&checked.original.sha256);
        record.bytes = checked.original.bytes;
        if let Some(first) = self.catalog.committed_upload_of(&record.projects, &record.sha256).await? {
            return Ok(Outcome::Repeated(first));
        }
        let summary = Report::of(&checked);
        let refused = checked.unreadable
            || checked.read == checked.rejected
            || (checked.rejected > 0 && request.on_error == OnError::RejectFile);
        if refused || request.dry_run {
            return self.conclude_unplaced(&request, record, checked, summary, refused, &work).await;
        }
        let folder = work.folder.clone();
        let project = request.project.slug.clone();
        let staged = blocking(move || stage::stage(checked.rows.into_batches()?, &folder, &project)).await?;
        self.commit(&request, record, staged, summary, work).await
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
        } else {
            let (lake, snapshot) = (self.lake.clone(), self.lake.snapshot());
            let project = request.project.slug.clone();
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
            .await?;
            report.months = months.iter().map(ToString::to_string).collect();
            report.place(&placement);
        }
        record.report = report.to_json();
        record.status = if refused { UploadStatus::Rejected } else { UploadStatus::Receiving };
        if request.dry_run {
            return Ok(if refused { Outcome::Rejected(record) } else { Outcome::Checked(record) });
        }
        work.folder.keep(&self.data_dir, &record.id).map_err(IngestError::io("keeping the upload"))?;
        self.catalog.insert_upload(&record).await?;
        Ok(Outcome::Rejected(record))
    }

    async fn commit(
        &self,
        request: &UploadRequest,
        mut record: UploadRecord,
        mut staged: Vec<StagedFile>,
        mut report: Report,
        work: Arc<Work>,
    ) -> Result<Outcome, IngestError> {
        report.months = staged.iter().map(|staged| staged.month.to_string()).collect();
        report.months.dedup();
        let project = request.project.slug.clone();
        let _turn = self.lake.lock(&project).await;
        // The same file twice at once: the second sees here that the first has landed.
        if let Some(first) = self.catalog.committed_upload_of(&record.projects, &record.sha256).await? {
            return Ok(Outcome::Repeated(first));
        }
        let kept = work.folder.keep(&self.data_dir, &record.id).map_err(IngestError::io("keeping the upload"))?;
        for staged in &mut staged {
            if let Ok(inside) = staged.file.path.strip_prefix(work.folder.path()) {
                staged.file.path = kept.path().join(inside);
            }
        }
        let (lake, snapshot, upload) = (self.lake.clone(), self.lake.snapshot(), record.id.clone());
        let placement = blocking(move || Ok(lake::place(lake.root(), &snapshot, &project, &upload, &staged)?)).await?;
        report.place(&placement);
        record.report = report.to_json();
        record.status = UploadStatus::Committing;
        self.catalog.insert_upload(&record).await?;
        let change = Change {
            upload: record.id.clone(),
            sha256: record.sha256.clone(),
            removed: placement.removed,
            added: placement.added,
        };
        let snapshot = match self.lake.commit(change).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                // Where not even that can be settled now, the next start does.
                if let Err(error) = self.settle(&record).await {
                    tracing::error!(upload = %record.id, %error, "an interrupted upload is not settled");
                }
                return Err(error.into());
            }
        };
        // As the catalogue keeps it, so that the answer now and the record later say the same.
        let at = Utc::now().trunc_subsecs(6);
        self.catalog.set_upload_committed(&record.id, snapshot.version, at, &record.report).await?;
        record.status = UploadStatus::Committed;
        record.committed_at = Some(at);
        record.lake_version = Some(snapshot.version);
        Ok(Outcome::Committed(record))
    }
}
