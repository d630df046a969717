//! A project's rows made anew from its uploads: from their staged files where these are as they were written, else from the
//! originals. For `wattlake rebuild`, and wherever a file of the lake was found to be lost or altered.

use std::{
    collections::BTreeSet,
    io::{self, Read},
    thread,
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    CHUNKS_WAITING, Ingest, IngestError, blocking,
    check::{self, Form},
    folder::Folder,
    intake::Intake,
    manifest::Manifest,
    routes::{Divider, Part, Routes},
    stage,
};
use crate::{
    catalog::{LedgerStaged, UploadRecord},
    durable,
    ids::{ChangeId, ProjectSlug},
    lake::{self, Change, ChangeKind, Finding, StagedFile, Written},
    payments::{decoder::Limits, unpack::UnpackLimits},
};

/// What the ledger is told of an upload's staged files, which are in its folder.
pub(super) fn staged_records(project: &ProjectSlug, folder: &Folder, staged: &[StagedFile]) -> Vec<LedgerStaged> {
    let record = |staged: &StagedFile| {
        let below = staged.file.path.strip_prefix(folder.path()).unwrap_or(&staged.file.path);
        LedgerStaged {
            project: project.clone(),
            month: staged.month,
            path: below.to_string_lossy().into_owned(),
            bytes: staged.file.bytes,
            rows: staged.file.rows,
            sha256: staged.file.sha256,
        }
    };
    staged.iter().map(record).collect()
}

impl Ingest {
    /// Makes the files of `project` anew from its uploads, beside those that are there, and puts them in their place in one
    /// commit. Gives the version that has them.
    pub async fn rebuild(&self, project: &ProjectSlug) -> Result<u64, IngestError> {
        let _turn = self.lake.lock(project).await;
        self.settle_projects(&BTreeSet::from([project.clone()])).await?;
        let live = self.live_uploads(project).await?;
        let meters = self.meters(project).await?;
        let changes = meters.changes();
        let id = ChangeId::new();
        let (lake, snapshot) = (self.lake.clone(), self.lake.snapshot());
        let (change, of) = (id.clone(), project.clone());
        let placement =
            blocking(move || Ok(lake::rebuild(lake.root(), &snapshot, &of, &change, &live, &meters)?)).await?;
        let change = Change {
            id,
            kind: ChangeKind::Rebuild,
            facts: vec![("project", project.to_string())],
            removed: placement.removed,
            added: placement.added,
            metadata: None,
        };
        match self.lake.commit(&change).await {
            Ok(snapshot) => {
                self.catalog.set_connections_shown(project, changes).await?;
                self.catalog.note_recovered(project, snapshot.version).await?;
                self.lake.repaired(project);
                Ok(snapshot.version)
            }
            Err(error) => {
                if matches!(self.lake.version_of(&change.id).await, Ok(None)) {
                    self.lake.discard(&change.added);
                }
                Err(error.into())
            }
        }
    }

    /// Repairs projects as they are found to be damaged, for as long as the server runs. What cannot be repaired stays
    /// refused, and is tried again now and then: a disk may come back.
    pub async fn repair_for_ever(&self) {
        loop {
            for project in self.lake.damaged() {
                match self.rebuild(&project).await {
                    Ok(version) => {
                        tracing::warn!(%project, version, "a damaged project was made anew from its uploads");
                    }
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(%project, error, "a damaged project could not be repaired; it stays refused");
                    }
                }
            }
            if let Err(error) = self.catch_up_all().await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "whether payments show their connections could not be found out");
            }
            let _ = tokio::time::timeout(REPAIR_AGAIN, self.lake.damage_found()).await;
        }
    }

    /// The staged files of an upload's rows of `project`, with the bytes that were written: as they are, or made anew.
    pub(super) async fn staged_files(
        &self,
        record: &UploadRecord,
        project: &ProjectSlug,
    ) -> Result<Vec<StagedFile>, IngestError> {
        let noted = self.catalog.staged_files(&record.id).await?;
        let folder = Folder::kept(&self.data_dir, &record.id);
        let (of_project, of_others): (Vec<_>, Vec<_>) =
            noted.whole.into_iter().partition(|noted| noted.project == *project);
        let staged: Vec<StagedFile> = of_project.iter().map(|noted| staged_file(&folder, noted)).collect();
        // Of several projects, one may have no rows.
        let has_some = !staged.is_empty() || !of_others.is_empty();
        let whole = noted.broken.is_empty() && has_some;
        let (staged, whole) = blocking(move || {
            let whole = whole && staged.iter().all(is_whole);
            Ok((staged, whole))
        })
        .await?;
        let staged = if whole {
            staged
        } else {
            tracing::warn!(upload = %record.id, "its staged rows are lost or altered, and are made anew from its original");
            self.stage_again(record, project, &of_project, of_others).await?
        };
        Ok(staged)
    }

    /// Reads the original of an upload again, and puts its rows in the place of the staged files that are there.
    async fn stage_again(
        &self,
        record: &UploadRecord,
        project: &ProjectSlug,
        noted: &[LedgerStaged],
        of_others: Vec<LedgerStaged>,
    ) -> Result<Vec<StagedFile>, IngestError> {
        let damaged = |what: &str| {
            IngestError::Damaged(Finding::Upload {
                upload: record.id.clone(),
                project: project.clone(),
                what: what.to_owned(),
            })
        };
        let kept = Folder::kept(&self.data_dir, &record.id);
        let original =
            self.original(&record.id).map_err(|error| damaged(&format!("its original cannot be read: {error}")))?;
        let (data_dir, id, of) = (self.data_dir.clone(), record.id.clone(), project.clone());
        let (from, memory) = (kept.clone(), self.memory.clone());
        let (work, sha256, staged) = blocking(move || {
            let manifest = Manifest::read(&from).map_err(IngestError::io("reading what the upload was told"))?;
            let work = Folder::begin(&data_dir, &id).map_err(IngestError::io("making a folder for the upload"))?;
            let (chunks, queue) = mpsc::channel(CHUNKS_WAITING);
            let reader = thread::spawn(move || send_all(original, &chunks));
            let intake = Intake::new(queue, &work.original()).map_err(IngestError::io("reading the original"))?;
            let form = Form { packing: manifest.packing(), unpacked: UnpackLimits::NONE };
            let projects = manifest.projects();
            let routing = match projects.len() {
                1 => None,
                _ => Some(Routes::read(&from).map_err(IngestError::io("reading where rows went"))?.routing(&projects)),
            };
            let context = manifest.context(Limits::LARGEST, routing.clone());
            let checked = check::check(intake, form, context, &memory, &work)?;
            reader.join().map_err(|_| IngestError::Stopped)?;
            let mut divider = Divider::new(&projects, routing.as_deref());
            let wanted = projects.iter().position(|told| told.project == of);
            let parts = divider.parts(checked.rows.into_batches()?).filter_map(|part| match part {
                Ok(part) => (Some(part.project) == wanted).then_some(Ok(Part { project: 0, ..part })),
                Err(error) => Some(Err(error)),
            });
            let staged = stage::stage(parts, &work, std::slice::from_ref(&of))?.remove(&of).unwrap_or_default();
            Ok((work, checked.original.sha256, staged))
        })
        .await?;
        let rows = |sum: u64, more: u64| sum + more;
        let (before, now) = (
            noted.iter().map(|noted| noted.rows).fold(0, rows),
            staged.iter().map(|staged| staged.file.rows).fold(0, rows),
        );
        let outcome = if sha256 != record.sha256 {
            Err(damaged("its original is not the file that came"))
        } else if !noted.is_empty() && before != now {
            Err(damaged("its original gives other rows than those that were staged"))
        } else {
            self.put_staged(record, project, &work, &kept, staged, of_others).await
        };
        work.discard();
        outcome
    }

    /// Moves the staged files of a project to where an upload keeps them, and notes them beside those of its other projects.
    async fn put_staged(
        &self,
        record: &UploadRecord,
        project: &ProjectSlug,
        work: &Folder,
        kept: &Folder,
        mut staged: Vec<StagedFile>,
        of_others: Vec<LedgerStaged>,
    ) -> Result<Vec<StagedFile>, IngestError> {
        let (from, to) = (work.path().to_owned(), kept.path().to_owned());
        let staged = blocking(move || {
            for staged in &mut staged {
                let inside = staged.file.path.strip_prefix(&from).unwrap_or(&staged.file.path);
                let target = to.join(inside);
                durable::rename(&staged.file.path, &target).map_err(IngestError::io("keeping staged rows"))?;
                staged.file.path = target;
            }
            Ok(staged)
        })
        .await?;
        let noted = [staged_records(project, kept, &staged), of_others].concat();
        self.catalog.record_staged(&record.id, &noted).await?;
        Ok(staged)
    }
}

/// How long until another try at a project that could not be repaired.
const REPAIR_AGAIN: Duration = Duration::from_mins(10);

/// Bytes of an original that are read at a time.
const CHUNK: usize = 256 << 10;

/// Sends what `original` gives until nobody listens. What cannot be read ends it with an error in the queue.
fn send_all(mut original: impl Read, chunks: &mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut chunk = vec![0; CHUNK];
        let read = original.read(&mut chunk);
        let chunk = read.map(|count| {
            chunk.truncate(count);
            Bytes::from(chunk)
        });
        if chunk.as_ref().is_ok_and(Bytes::is_empty) {
            return;
        }
        let failed = chunk.is_err();
        if chunks.blocking_send(chunk).is_err() || failed {
            return;
        }
    }
}

pub(super) fn staged_file(folder: &Folder, noted: &LedgerStaged) -> StagedFile {
    let path = folder.path().join(&noted.path);
    let file = Written { path, rows: noted.rows, bytes: noted.bytes, sha256: noted.sha256 };
    StagedFile { month: noted.month, file }
}

/// Whether a staged file's bytes are those that were written.
pub(super) fn is_whole(staged: &StagedFile) -> bool {
    lake::fingerprint(&staged.file.path).is_ok_and(|found| found == (staged.file.bytes, staged.file.sha256))
}
