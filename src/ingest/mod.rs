//! The upload, from the first byte to the answer: receive and check → stage → place → commit.
//!
//! ```text
//! intake → decoder → spool ─┬─ repeats, rejected rows ──→ report (rejected: kept, nothing of it in the lake)
//!                           └─ stage (Parquet per month) ─ place (collisions) ─ catalogue row ─ Delta commit ─ report
//! ```
//!
//! Order is what makes a crash harmless: the original and the staged files are on disk before the catalogue says
//! `committing`; the catalogue says so before the Delta commit; and the commit itself names the upload, so that the next
//! start can tell from the log alone whether it got there ([`Ingest::recover`]).

mod check;
mod folder;
mod intake;
mod rejected;
mod repeats;
mod spool;
mod stage;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use chrono::{Duration, Utc};
use futures::{Stream, StreamExt};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use self::{check::Checked, folder::Folder, intake::Intake};
use crate::{
    catalog::{Catalog, CatalogError, OnError, Project, UploadRecord, UploadStatus},
    config::UploadConfig,
    error::ErrorKind,
    ids::UploadId,
    lake::{self, Change, Lake, LakeError, Placement, StagedFile},
    payments::{
        dataset_name,
        decoder::{FileContext, Limits},
        report::Counts,
    },
};

/// Chunks of a body that wait for the decoder at most.
const CHUNKS_WAITING: usize = 16;

/// How far a payment may lie ahead of the server's clock: clocks differ, and files are made ahead of midnight elsewhere.
const CLOCK_TOLERANCE: Duration = Duration::hours(24);

/// Why an upload came to no answer of its own. A file that is refused for its content is not an error: see [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("the file has more than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("{limit} uploads are under way, which is the limit")]
    Busy { limit: usize },
    #[error("the file did not arrive whole")]
    Interrupted(#[source] io::Error),
    #[error("{what}")]
    Io { what: &'static str, source: io::Error },
    #[error("rows of the upload")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("the catalogue")]
    Catalog(#[from] CatalogError),
    #[error("the lake")]
    Lake(#[from] LakeError),
    #[error("the upload was stopped")]
    Stopped,
}

impl IngestError {
    fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Interrupted(_) => ErrorKind::Invalid,
            Self::Io { source, .. } => lake::io_kind(source),
            Self::Arrow(_) => ErrorKind::Internal,
            Self::Catalog(error) => error.kind(),
            Self::Lake(error) => error.kind(),
            Self::Stopped => ErrorKind::Unavailable,
        }
    }
}

/// What an upload says about itself before its file.
#[derive(Clone, Debug)]
pub struct UploadRequest {
    pub project: Project,
    pub dataset_name: String,
    pub dataset_type: String,
    pub data_provider: String,
    pub file_name: String,
    pub on_error: OnError,
    /// Check and report, and keep nothing.
    pub dry_run: bool,
    /// The key that sends it.
    pub key_prefix: String,
}

/// What became of an upload.
#[derive(Debug)]
pub enum Outcome {
    /// Its rows are in the lake, on disk.
    Committed(UploadRecord),
    /// The same bytes came before; this is the record of that upload, and nothing was written.
    Repeated(UploadRecord),
    /// Refused for its content. Kept, unless it was a dry run; nothing of it is in the lake.
    Rejected(UploadRecord),
    /// A dry run that found nothing against it.
    Checked(UploadRecord),
}

/// The upload use case, over one catalogue and one lake.
pub struct Ingest {
    catalog: Catalog,
    lake: Arc<Lake>,
    data_dir: PathBuf,
    config: UploadConfig,
    places: Arc<Semaphore>,
}

impl Ingest {
    /// Ends what an earlier process left: see [`Self::recover`].
    pub async fn open(
        catalog: Catalog,
        lake: Arc<Lake>,
        data_dir: &Path,
        config: UploadConfig,
    ) -> Result<Self, IngestError> {
        let places = Arc::new(Semaphore::new(config.concurrency));
        let ingest = Self { catalog, lake, data_dir: data_dir.to_owned(), config, places };
        Folder::clear_unfinished(data_dir).map_err(IngestError::io("removing unfinished uploads"))?;
        ingest.recover().await?;
        Ok(ingest)
    }

    /// Settles uploads that were on their way into the lake when a process ended. The lake's log decides.
    async fn recover(&self) -> Result<(), IngestError> {
        for upload in self.catalog.unfinished_uploads().await? {
            match self.lake.version_of(&upload.id).await? {
                Some(version) => {
                    tracing::info!(upload = %upload.id, version, "an interrupted upload is in the lake");
                    self.catalog.set_upload_committed(&upload.id, version, upload.received_at, &upload.report).await?;
                }
                None => {
                    tracing::warn!(upload = %upload.id, "an interrupted upload is not in the lake; send it again");
                    self.catalog.set_upload_status(&upload.id, UploadStatus::Failed, None).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes in one file. `body` is its bytes; an error in it is the sender's.
    ///
    /// Once the file is received, the rest goes on even if the caller stops waiting, so that an upload never ends half way
    /// between the catalogue and the lake.
    pub async fn upload(
        self: &Arc<Self>,
        request: UploadRequest,
        body: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<Outcome, IngestError> {
        let busy = |_| IngestError::Busy { limit: self.config.concurrency };
        let place = self.places.clone().try_acquire_owned().map_err(busy)?;
        let mut record = UploadRecord::starting(
            vec![request.project.slug.clone()],
            request.dataset_name.clone(),
            request.file_name.clone(),
            request.key_prefix.clone(),
        );
        record.dataset_type.clone_from(&request.dataset_type);
        record.data_provider.clone_from(&request.data_provider);
        record.on_error = request.on_error;
        let folder =
            Folder::begin(&self.data_dir, &record.id).map_err(IngestError::io("making the upload's folder"))?;
        let work = TemporaryFolder(folder);
        let checked = self.receive(&request, &record, &work.0, body).await?;
        let ingest = self.clone();
        tokio::spawn(async move {
            let _place = place;
            ingest.finish(request, record, checked, work).await
        })
        .await
        .map_err(|_| IngestError::Stopped)?
    }

    async fn receive(
        &self,
        request: &UploadRequest,
        record: &UploadRecord,
        folder: &Folder,
        body: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<Checked, IngestError> {
        let context = FileContext {
            default_site: dataset_name::site(&request.dataset_name).unwrap_or(&request.project.name).to_owned(),
            currency: request.project.currency.to_string(),
            upload_id: record.id.clone(),
            not_after_micros: (record.received_at + CLOCK_TOLERANCE).timestamp_micros(),
            limits: Limits {
                row_bytes: self.config.max_row_bytes,
                field_bytes: self.config.max_field_bytes,
                rows: self.config.max_rows,
            },
        };
        let (chunks, queue) = mpsc::channel(CHUNKS_WAITING);
        let folder = folder.clone();
        let check = tokio::task::spawn_blocking(move || {
            let intake = Intake::new(queue, &folder.original()).map_err(IngestError::io("keeping the original"))?;
            check::check(intake, context, &folder)
        });
        let sent = self.send(body, chunks).await;
        let checked = check.await.map_err(|_| IngestError::Stopped)?;
        // What stopped the sending explains more than what the reader made of it.
        sent.and(checked)
    }

    /// Passes the body on, and counts it.
    async fn send(
        &self,
        body: impl Stream<Item = io::Result<Bytes>>,
        chunks: mpsc::Sender<io::Result<Bytes>>,
    ) -> Result<(), IngestError> {
        let mut body = std::pin::pin!(body);
        let mut bytes = 0;
        while let Some(chunk) = body.next().await {
            let stopped = match chunk {
                Ok(chunk) => {
                    bytes += chunk.len() as u64;
                    if bytes <= self.config.max_bytes {
                        // A closed queue means that the check failed; it says why.
                        if chunks.send(Ok(chunk)).await.is_err() {
                            return Ok(());
                        }
                        continue;
                    }
                    IngestError::TooLarge { limit: self.config.max_bytes }
                }
                Err(error) => IngestError::Interrupted(error),
            };
            // Without it, the file would look as if it ended here.
            let _ = chunks.send(Err(io::Error::from(io::ErrorKind::ConnectionAborted))).await;
            return Err(stopped);
        }
        Ok(())
    }

    async fn finish(
        &self,
        request: UploadRequest,
        mut record: UploadRecord,
        checked: Checked,
        work: TemporaryFolder,
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
        let folder = work.0.clone();
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
        work: &TemporaryFolder,
    ) -> Result<Outcome, IngestError> {
        if checked.unreadable {
            report.counts = Counts { read: checked.read, rejected: checked.read, ..Counts::default() };
        } else {
            let (lake, snapshot) = (self.lake.clone(), self.lake.snapshot());
            let project = request.project.slug.clone();
            let placement = blocking(move || {
                let batches = checked.rows.into_batches()?.map(|batch| batch.map_err(LakeError::from_rows));
                Ok(lake::count(lake.root(), &snapshot, &project, batches)?)
            })
            .await?;
            report.place(&placement);
        }
        record.report = report.to_json();
        record.status = if refused { UploadStatus::Rejected } else { UploadStatus::Receiving };
        if request.dry_run {
            return Ok(if refused { Outcome::Rejected(record) } else { Outcome::Checked(record) });
        }
        work.0.keep(&self.data_dir, &record.id).map_err(IngestError::io("keeping the upload"))?;
        self.catalog.insert_upload(&record).await?;
        Ok(Outcome::Rejected(record))
    }

    async fn commit(
        &self,
        request: &UploadRequest,
        mut record: UploadRecord,
        mut staged: Vec<StagedFile>,
        mut report: Report,
        work: TemporaryFolder,
    ) -> Result<Outcome, IngestError> {
        report.months = staged.iter().map(|staged| staged.month.to_string()).collect();
        report.months.dedup();
        let project = request.project.slug.clone();
        let _turn = self.lake.lock(&project).await;
        // The same file twice at once: the second sees here that the first has landed.
        if let Some(first) = self.catalog.committed_upload_of(&record.projects, &record.sha256).await? {
            return Ok(Outcome::Repeated(first));
        }
        let kept = work.0.keep(&self.data_dir, &record.id).map_err(IngestError::io("keeping the upload"))?;
        for staged in &mut staged {
            if let Ok(inside) = staged.file.path.strip_prefix(work.0.path()) {
                staged.file.path = kept.path().join(inside);
            }
        }
        let (lake, snapshot, upload) = (self.lake.clone(), self.lake.snapshot(), record.id.clone());
        let placement = blocking(move || Ok(lake::place(lake.root(), &snapshot, &project, &upload, &staged)?)).await?;
        report.place(&placement);
        record.report = report.to_json();
        record.status = UploadStatus::Committing;
        self.catalog.insert_upload(&record).await?;
        let change = Change { upload: record.id.clone(), removed: placement.removed, added: placement.added };
        let snapshot = match self.lake.commit(change).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                // Whether it got there is settled from the log when the server starts next.
                tracing::error!(upload = %record.id, "the commit of an upload failed");
                return Err(error.into());
            }
        };
        let at = Utc::now();
        self.catalog.set_upload_committed(&record.id, snapshot.version, at, &record.report).await?;
        record.status = UploadStatus::Committed;
        record.committed_at = Some(at);
        record.lake_version = Some(snapshot.version);
        Ok(Outcome::Committed(record))
    }

    /// The kept original of an upload, byte for byte as it came. Blocks while it is read.
    pub fn original(&self, id: &UploadId) -> io::Result<impl io::Read + Send + use<>> {
        zstd::Decoder::new(File::open(Folder::kept(&self.data_dir, id).original())?)
    }

    /// The rejected rows of an upload as CSV, or `None` where there are none. Blocks while it is read.
    pub fn rejected_rows(&self, id: &UploadId) -> io::Result<Option<impl io::Read + Send + use<>>> {
        match File::open(Folder::kept(&self.data_dir, id).rejected()) {
            Ok(file) => zstd::Decoder::new(file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The folder of an upload under way; what was not kept is removed, however the upload ends.
struct TemporaryFolder(Folder);

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        if self.0.path().exists() {
            self.0.discard();
        }
    }
}

/// The report of an upload, as the API answers it and the catalogue keeps it.
struct Report {
    counts: Counts,
    months: Vec<String>,
    warnings: serde_json::Value,
    errors: serde_json::Value,
}

impl Report {
    fn of(checked: &Checked) -> Self {
        let counts =
            Counts { read: checked.read, duplicate: checked.repeated, rejected: checked.rejected, ..Counts::default() };
        Self { counts, months: Vec::new(), warnings: json!(checked.warnings), errors: json!(checked.errors) }
    }

    fn place(&mut self, placement: &Placement) {
        self.counts.new = placement.new;
        self.counts.corrected = placement.corrected;
        self.counts.accepted = placement.new + placement.corrected;
        self.counts.duplicate += placement.duplicate;
    }

    fn to_json(&self) -> serde_json::Value {
        json!({ "counts": self.counts, "months": self.months, "warnings": self.warnings, "errors": self.errors })
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IngestError> + Send + 'static,
) -> Result<T, IngestError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| IngestError::Stopped)?
}
