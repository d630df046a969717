//! An upload erased, as laws on personal data ask for: its file, its rejected and staged rows, and every file of the lake's
//! history that has rows of it. What stays is that there was one: its record, with its counts and without its values.

use std::{io, sync::Arc};

use super::{Ingest, IngestError, blocking, folder::Folder, withdraw::projects_of};
use crate::{
    access::Scope,
    catalog::{UploadRecord, UploadStatus},
    failpoints,
    ids::UploadId,
};

/// What was erased.
#[derive(Debug)]
pub struct Purged {
    pub upload: UploadRecord,
    /// Files of earlier versions of the lake that had rows of it.
    pub lake_files: usize,
    /// Files that were set aside when they were found in the lake's folder, and which nobody has looked into.
    pub set_aside: usize,
}

impl Ingest {
    /// Erases an upload that is out of the lake: deleted, rejected, or failed. Doing it again does no harm, so one that a
    /// crash cut short is simply asked for again. Goes on to the end even if the caller stops waiting.
    ///
    /// # Errors
    /// [`IngestError::NoUploads`] for one that is absent or not in the scope; [`IngestError::NotDeleted`] for an upload whose rows count.
    pub async fn purge(self: &Arc<Self>, scope: &Scope, id: &UploadId) -> Result<Purged, IngestError> {
        self.records_in(scope, std::slice::from_ref(id)).await?;
        let (ingest, id) = (self.clone(), id.clone());
        let work = async move { ingest.erase(&id).await };
        self.under_way.spawn(work).await.map_err(|_| IngestError::Stopped)?
    }

    async fn erase(&self, id: &UploadId) -> Result<Purged, IngestError> {
        let ids = std::slice::from_ref(id);
        let projects = projects_of(&self.records(ids).await?);
        let _turns = self.turns_of(&projects).await;
        self.settle_projects(&projects).await?;
        let mut upload = self.records(ids).await?.remove(0);
        if !matches!(
            upload.status,
            UploadStatus::Deleted | UploadStatus::Rejected | UploadStatus::Failed | UploadStatus::Purged
        ) {
            return Err(IngestError::NotDeleted { upload: upload.id, status: upload.status });
        }
        let lake_files = self.lake.remove_history_of(id).await?;
        failpoints::pass("purge::history").map_err(IngestError::io("erasing the upload's history"))?;
        let kept = Folder::kept(&self.data_dir, id);
        blocking(move || kept.erase().map_err(IngestError::io("erasing the upload's folder"))).await?;
        failpoints::pass("purge::folder").map_err(IngestError::io("erasing the upload's folder"))?;
        upload.report = without_values(&upload.report);
        upload.status = UploadStatus::Purged;
        upload.deleted_at = self.catalog.purge_upload(id, &upload.report).await?;
        let set_aside = self.lake.set_aside().map_err(IngestError::io("looking at what was set aside"))?;
        tracing::warn!(upload = %id, lake_files, set_aside, "an upload is erased");
        Ok(Purged { upload, lake_files, set_aside })
    }
}

/// The report without what the file said: its counts and months.
fn without_values(report: &serde_json::Value) -> serde_json::Value {
    serde_json::json!({
        "counts": report["counts"],
        "months": report["months"],
        "warnings": [],
        "errors": [],
        "rejected_rows": false,
    })
}

impl Folder {
    /// Removes the folder and all that is in it, and its entry, on disk.
    fn erase(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(self.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.path().parent().map_or(Ok(()), crate::durable::sync_dir)
    }
}
