//! The upload, from the first byte to the answer: receive and check → stage → place → commit.
//!
//! ```text
//! intake → decoder → spool ─┬─ repeats, rejected rows ──→ report (rejected: kept, nothing of it in the lake)
//!                           └─ stage (Parquet per month) ─ place (collisions) ─ catalogue row ─ Delta commit ─ report
//! ```
//!
//! What makes a crash harmless is the order of the steps: see `conclude.rs`.

mod check;
mod conclude;
mod connections;
mod error;
mod folder;
mod idempotency;
mod inspect;
mod intake;
mod manifest;
mod offline;
mod parts;
mod purge;
mod rebuild;
mod rejected;
mod repeats;
mod report;
mod routes;
mod spool;
mod stage;
mod tally;
mod withdraw;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::TaskTracker;

use self::{
    check::{Checked, Form},
    folder::Folder,
    idempotency::{KeyInFlight, KeysInFlight},
    intake::Intake,
    manifest::Manifest,
    spool::SpoolMemory,
};
pub use self::{
    connections::{ConnectionImport, ConnectionReport, last_day},
    error::IngestError,
    inspect::inspect_uploads,
    offline::{FileCheck, check_file},
    purge::Purged,
    withdraw::Withdrawal,
};
use crate::{
    access::Scope,
    catalog::{Catalog, OnError, Project, UploadRecord},
    config::UploadConfig,
    ids::{IdempotencyKey, UploadId},
    lake::{Finding, Lake},
    payments::{decoder::Limits, packing::Packing, unpack::UnpackLimits},
    telemetry::{Counters, UploadInCount},
};

/// Chunks of a body that wait for the decoder at most.
const CHUNKS_WAITING: usize = 16;

/// What an upload says about itself before its file.
#[derive(Clone, Debug)]
pub struct UploadRequest {
    /// One, or several of one organisation in the order of their slugs: then each row goes to the one whose connections hold its
    /// meter.
    pub projects: Vec<Project>,
    pub dataset_name: String,
    pub dataset_type: String,
    pub data_provider: String,
    /// It says how the file is packed: see [`Packing::of_file_name`].
    pub file_name: String,
    pub on_error: OnError,
    /// Check and report, and keep nothing.
    pub dry_run: bool,
    /// What its sender may see. The same bytes that came before are looked for there.
    pub scope: Scope,
    /// The key that sends it.
    pub key_prefix: String,
    /// The sender's name for the request, by which the same request again is known.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// What became of an upload.
#[derive(Debug)]
pub enum Outcome {
    /// Its rows are in the lake, on disk.
    Committed(UploadRecord),
    /// The same bytes came before, from somebody whose uploads the sender may see; this is the record of that upload, and nothing was written.
    Repeated(UploadRecord),
    /// Refused for its content. Kept, unless it was a dry run; nothing of it is in the lake.
    Rejected(UploadRecord),
    /// A dry run that found nothing against it.
    Checked(UploadRecord),
    /// The request's idempotency key has this answer already; the upload is as it is now. Nothing was written.
    Replayed(Box<Self>),
}

/// The upload use case, over one catalogue and one lake.
pub struct Ingest {
    catalog: Catalog,
    lake: Arc<Lake>,
    data_dir: PathBuf,
    config: UploadConfig,
    places: Arc<Semaphore>,
    memory: SpoolMemory,
    keys: KeysInFlight,
    /// One deletion or restoration at a time, which bounds their memory.
    withdrawing: Semaphore,
    /// Uploads whose file is received, deletions and restorations.
    under_way: TaskTracker,
    counters: Arc<Counters>,
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
        let memory = SpoolMemory::new(config.memory_bytes);
        let under_way = TaskTracker::new();
        let (keys, withdrawing) = (KeysInFlight::default(), Semaphore::new(1));
        let (data_dir, counters) = (data_dir.to_owned(), Arc::default());
        let ingest = Self { catalog, lake, data_dir, config, places, memory, keys, withdrawing, under_way, counters };
        let folder = ingest.data_dir.clone();
        let failed = IngestError::io("removing unfinished uploads");
        blocking(move || Folder::clear_unfinished(&folder).map_err(failed)).await?;
        ingest.recover().await?;
        ingest.note_upload_sites().await?;
        ingest.catch_up_all().await?;
        let missing = ingest.catalog.uploads_without_version().await?;
        let missing = missing.into_iter().map(|(upload, project)| Finding::UploadMissing { project, upload });
        ingest.lake.found(&missing.collect::<Vec<_>>());
        Ok(ingest)
    }

    /// Counts its uploads there.
    #[must_use]
    pub fn counted_in(self, counters: Arc<Counters>) -> Self {
        Self { counters, ..self }
    }

    /// Takes in one file. `body` is its bytes, packed as its name says; an error in it is the sender's.
    ///
    /// Once the file is received, the rest goes on even if the caller stops waiting, so that an upload never ends half way
    /// between the catalogue and the lake.
    pub async fn upload(
        self: &Arc<Self>,
        request: UploadRequest,
        body: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<Outcome, IngestError> {
        let (counted, dry_run) = (Arc::new(self.counters.upload()), request.dry_run);
        let ended = self.take_in(request, body, counted.clone()).await;
        tally::count(&counted, dry_run, &ended);
        ended
    }

    async fn take_in(
        self: &Arc<Self>,
        request: UploadRequest,
        body: impl Stream<Item = io::Result<Bytes>>,
        counted: Arc<UploadInCount>,
    ) -> Result<Outcome, IngestError> {
        let key = self.keys.take(&request)?;
        if let Some(answered) = self.answered_key(&request).await? {
            return self.replay(&request, answered, body).await;
        }
        let place = self.place()?;
        let mut record = UploadRecord::starting(
            request.projects.iter().map(|project| project.slug.clone()).collect(),
            request.dataset_name.clone(),
            request.file_name.clone(),
            request.key_prefix.clone(),
        );
        record.dataset_type.clone_from(&request.dataset_type);
        record.data_provider.clone_from(&request.data_provider);
        record.on_error = request.on_error;
        let (data_dir, id) = (self.data_dir.clone(), record.id.clone());
        // Made whole where the folder is, so that it is removed too when nobody waits for it any more.
        let begin = move || {
            let folder = Folder::begin(&data_dir, &id).map_err(IngestError::io("making the upload's folder"))?;
            Ok(Arc::new(Work { folder, _place: place, _key: key }))
        };
        let work = blocking(begin).await?;
        let checked = match self.receive(&request, &record, &work, body).await {
            Ok(checked) => checked,
            Err(error) => {
                work.end().await;
                return Err(error);
            }
        };
        let ingest = self.clone();
        let finish = async move {
            let dry_run = request.dry_run;
            let outcome = ingest.finish(request, record, checked, &work).await;
            work.end().await;
            // Here too, because nobody may wait for it any more.
            tally::count(&counted, dry_run, &outcome);
            outcome
        };
        self.under_way.spawn(finish).await.map_err(|_| IngestError::Stopped)?
    }

    /// Waits until the uploads whose file is received, deletions and restorations have landed, or have failed. For a server
    /// that stops.
    pub async fn drain(&self) {
        self.under_way.close();
        self.under_way.wait().await;
    }

    async fn receive(
        &self,
        request: &UploadRequest,
        record: &UploadRecord,
        work: &Arc<Work>,
        body: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<Checked, IngestError> {
        let limits = limits(&self.config);
        let required = self.catalog.required_columns(&record.projects).await?;
        let manifest = Manifest::of(request, record, required)?;
        let routing = self.routing(&request.projects).await?;
        let form = form(&self.config, manifest.packing());
        let (chunks, queue) = mpsc::channel(CHUNKS_WAITING);
        // Its own hold on the folder: it writes there for a moment yet when the sender has gone, and this future with it.
        let (work, memory) = (work.clone(), self.memory.clone());
        let check = tokio::task::spawn_blocking(move || {
            manifest.write(&work.folder).map_err(IngestError::io("keeping what the upload was told"))?;
            let intake =
                Intake::new(queue, &work.folder.original()).map_err(IngestError::io("keeping the original"))?;
            check::check(intake, form, manifest.context(limits, routing), &memory, &work.folder)
        });
        let sent = send(body, chunks, self.config.max_bytes).await;
        let checked = check.await.map_err(|_| IngestError::Stopped)?;
        // What stopped the sending explains more than what the reader made of it.
        sent.and(checked)
    }

    /// The kept original of an upload, byte for byte as it came. Blocks while it is read.
    pub fn original(&self, id: &UploadId) -> io::Result<impl io::Read + Send + use<>> {
        open_original(&Folder::kept(&self.data_dir, id))
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

fn open_original(folder: &Folder) -> io::Result<impl io::Read + Send + use<>> {
    zstd::Decoder::new(File::open(folder.original())?)
}

/// Passes a body on to its check, and counts it.
async fn send(
    body: impl Stream<Item = io::Result<Bytes>>,
    chunks: mpsc::Sender<io::Result<Bytes>>,
    max_bytes: u64,
) -> Result<(), IngestError> {
    let mut body = std::pin::pin!(body);
    let mut bytes = 0;
    while let Some(chunk) = body.next().await {
        let stopped = match chunk {
            Ok(chunk) => {
                bytes += chunk.len() as u64;
                if bytes <= max_bytes {
                    // A closed queue means that the check failed; it says why.
                    if chunks.send(Ok(chunk)).await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
                IngestError::TooLarge { limit: max_bytes }
            }
            Err(error) => IngestError::Interrupted(error),
        };
        // Without it, the file would look as if it ended here.
        let _ = chunks.send(Err(io::Error::from(io::ErrorKind::ConnectionAborted))).await;
        return Err(stopped);
    }
    Ok(())
}

fn form(config: &UploadConfig, packing: Packing) -> Form {
    Form { packing, unpacked: UnpackLimits { bytes: config.max_bytes, ratio: config.max_unpack_ratio } }
}

fn limits(config: &UploadConfig) -> Limits {
    Limits { row_bytes: config.max_row_bytes, field_bytes: config.max_field_bytes, rows: config.max_rows }
}

/// An upload under way: its folder, of which what was not kept is removed however the upload ends, its place among those
/// that may be under way at once, and its idempotency key, which no other request may have meanwhile.
struct Work {
    folder: Folder,
    _place: OwnedSemaphorePermit,
    _key: Option<KeyInFlight>,
}

impl Work {
    /// Removes what was not kept before the upload is answered, on a thread that may wait: it can be gigabytes.
    async fn end(self: Arc<Self>) {
        let removed = tokio::task::spawn_blocking(move || drop(self));
        if removed.await.is_err() {
            tracing::warn!("what an upload left was not removed; the next start does it");
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.folder.discard();
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, IngestError> + Send + 'static,
) -> Result<T, IngestError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| IngestError::Stopped)?
}
