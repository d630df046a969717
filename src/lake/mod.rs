//! The lake: one Delta table of payments, partitioned by project and month.

mod collisions;
mod entry;
mod error;
mod file;
mod finding;
mod history;
mod log;
pub mod masking;
mod materialise;
mod meters;
mod names;
mod place;
mod reconcile;
mod refold;
mod retain;
mod row_set;
mod rows;
pub mod scan;
mod set_aside;
pub mod snapshot;
mod sorted;
mod store;
mod verify;

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock, Weak},
};

use chrono::Utc;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedMutexGuard;

use self::reconcile::{Opened, Reconcile};
pub use self::{
    entry::{Change, ChangeKind},
    error::{LakeError, io_kind},
    file::{Waiting, Written, write},
    finding::Finding,
    history::{AsOf, AsOfError, Earlier},
    meters::{Meters, refresh},
    names::FileNames,
    place::{Placement, StagedFile, count, count_staged, place},
    refold::{LiveUpload, rebuild, refold},
    row_set::RowSet,
    rows::{FileRows, folded_rows},
    snapshot::{LakeFile, Snapshot, Verified},
    verify::{fingerprint, verify},
};
use crate::{
    catalog::{Catalog, LedgerFile, LedgerVersion},
    durable, failpoints,
    ids::{ChangeId, ProjectSlug},
    payments::schema::FILE_SCHEMA,
};

/// Where the table is, below the data folder.
pub const TABLE_FOLDER: &str = "lake/payments";

/// Versions that are read from the ledger at a time.
const VERSIONS_AT_A_TIME: u32 = 500;

fn sync_folder_of(path: &Path) -> Result<(), LakeError> {
    path.parent()
        .map_or(Ok(()), durable::sync_dir)
        .map_err(|source| LakeError::Io { what: format!("syncing the folder of {}", path.display()), source })
}

/// Removes files that no commit has. Where that fails, they are only in the way: the ledger says what
/// belongs to the lake.
fn discard(root: &Path, files: &[LakeFile]) {
    for file in files {
        if let Err(error) = std::fs::remove_file(root.join(&file.path)) {
            tracing::warn!(path = file.path, %error, "a file that was not committed is left in the lake's folder");
        }
    }
}

/// The table of payments: its current snapshot, and the one place that changes it.
pub struct Lake {
    root: PathBuf,
    catalog: Catalog,
    log: log::DeltaLog,
    current: RwLock<Arc<Snapshot>>,
    /// The snapshots that were ever current, or asked for as earlier ones, and that somebody still has.
    in_use: Mutex<Vec<Weak<Snapshot>>>,
    /// Held while a version is written, so that versions follow one another.
    committing: tokio::sync::Mutex<Committing>,
    /// One lock a project, held from the look at what is there to the commit: see [`Lake::lock`].
    projects: Mutex<HashMap<ProjectSlug, Arc<tokio::sync::Mutex<()>>>>,
    damaged: verify::Damaged,
    history: history::History,
}

/// What the one that commits has to know of the last commit.
#[derive(Default)]
struct Committing {
    /// It is in the ledger, and neither could the log be written nor the ledger be taken back.
    unsettled: Option<u64>,
}

impl Lake {
    /// Opens the table below `data_dir`, or makes an empty one. What is not as the ledger says is named in the log and
    /// mended, or its project is refused: see [`Lake::damaged`].
    pub async fn open(catalog: Catalog, data_dir: &Path) -> Result<Self, LakeError> {
        let root = data_dir.join(TABLE_FOLDER);
        let root = durable::create_dir_all(&root)
            .and_then(|()| root.canonicalize())
            .map_err(|source| LakeError::Io { what: format!("making {}", root.display()), source })?;
        let log = log::DeltaLog::of(&root)?;
        let lake = Self {
            root,
            catalog,
            log,
            current: RwLock::default(),
            in_use: Mutex::default(),
            committing: tokio::sync::Mutex::default(),
            projects: Mutex::default(),
            damaged: verify::Damaged::default(),
            history: history::History::default(),
        };
        lake.reload().await?;
        lake.complete_schema().await?;
        Ok(lake)
    }

    /// Gives a table from before the columns that it lacks, once: readers of the log find them null in earlier files.
    async fn complete_schema(&self) -> Result<(), LakeError> {
        let columns: Vec<&str> = FILE_SCHEMA.fields().iter().map(|field| field.name().as_str()).collect();
        let columns = columns.join(",");
        if self.catalog.lake_columns().await?.as_ref() == Some(&columns) {
            return Ok(());
        }
        let (mut metadata, mut next) = (None, 0);
        loop {
            let page = self.catalog.ledger_versions(next, VERSIONS_AT_A_TIME).await?;
            let Some(last) = page.whole.last() else { break };
            next = last.version + 1;
            metadata = page.whole.iter().rev().find_map(|version| entry::metadata(&version.entry)).or(metadata);
        }
        let metadata = metadata.ok_or_else(|| LakeError::Layout("no version says what the table is".to_owned()))?;
        if let Some(completed) = log::completed(&metadata)? {
            let change = Change {
                id: ChangeId::new(),
                kind: ChangeKind::Schema,
                facts: Vec::new(),
                removed: Vec::new(),
                added: Vec::new(),
                metadata: Some(completed),
            };
            let version = self.commit(&change).await?.version;
            tracing::info!(version, "the lake's table has the columns of this version of Wattlake from now on");
        }
        Ok(self.catalog.set_lake_columns(&columns).await?)
    }

    /// Compares ledger, log and files, and takes what they say as the newest version.
    async fn reload(&self) -> Result<(), LakeError> {
        let opened = Reconcile::of(&self.catalog, &self.log, &self.root, false).run().await?;
        self.damaged.add(opened.findings);
        let snapshot = opened.snapshot;
        // What was seen to be whole stays so.
        snapshot.keep_verified(&self.snapshot());
        self.publish(snapshot);
        Ok(())
    }

    /// The folder that the paths of [`LakeFile`]s are relative to.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the table is where it was when the server started.
    pub async fn ping(&self) -> Result<(), LakeError> {
        let log = self.log.folder();
        let there = tokio::fs::metadata(log).await;
        there.map(drop).map_err(|source| LakeError::Io { what: format!("looking at {}", log.display()), source })
    }

    /// The newest version. It stays readable while later ones are committed.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the right to change the files of `project`. Uploads to one project follow one another from here to
    /// their commit, because each must see the payment IDs of the one before; those to different projects do not wait.
    pub async fn lock(&self, project: &ProjectSlug) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
            locks.entry(project.clone()).or_default().clone()
        };
        lock.lock_owned().await
    }

    /// Makes `change` the next version. The files that it adds are in place and on disk already.
    ///
    /// The ledger has it first: from then on it is part of the lake, whenever the process ends. Where the log cannot be
    /// written, the ledger is taken back.
    pub async fn commit(&self, change: &Change) -> Result<Arc<Snapshot>, LakeError> {
        pass("commit::committing")?;
        let mut turn = self.committing.lock().await;
        self.settle(&mut turn).await?;
        let before = self.snapshot();
        let version = before.version + 1;
        let at = Utc::now();
        let after = before.after(version, &change.removed, &change.added);
        let entry = change.entry(version, at)?;
        let ledger = LedgerVersion {
            version,
            change: change.id.clone(),
            entry_sha256: Sha256::digest(&entry).into(),
            entry,
            files: after.files().count() as u64,
            rows: after.files().map(|file| file.rows).sum(),
            written_at: at,
        };
        let added: Vec<LedgerFile> = change.added.iter().map(|file| ledger_file(file, version)).collect();
        let removed: Vec<&str> = change.removed.iter().map(|file| file.path.as_str()).collect();
        self.catalog.record_version(&ledger, &added, &removed).await?;
        let logged = match pass("commit::recorded") {
            Ok(()) => self.log.write(version, ledger.entry).await,
            failed => failed,
        };
        if let Err(error) = logged {
            return Err(self.take_back(&mut turn, version, error).await);
        }
        // From here on nothing can fail it.
        let _ = pass("commit::logged");
        let after = self.publish(after);
        if version.is_multiple_of(log::CHECKPOINT_INTERVAL) {
            let (log, catalog) = (self.log.clone(), self.catalog.clone());
            tokio::spawn(async move { checkpoint(&log, &catalog, version).await });
        }
        Ok(after)
    }

    /// Takes a version back from the ledger, whose entry could not be written, and gives the error to answer.
    async fn take_back(&self, turn: &mut Committing, version: u64, error: LakeError) -> LakeError {
        if let Err(failed) = self.catalog.forget_version(version).await {
            tracing::error!(version, error = %failed, "a version that the log does not have stays in the ledger for now");
            turn.unsettled = Some(version);
            return error;
        }
        if matches!(error, LakeError::Conflict { .. })
            && let Err(failed) = self.reload().await
        {
            tracing::error!(version, error = %failed, "another program's entry in the log could not be set aside");
        }
        error
    }

    /// Ends what the last commit left open. It was refused, so the ledger is taken back now, or this fails too; where the log
    /// has it after all, it is part of the lake.
    async fn settle(&self, turn: &mut Committing) -> Result<(), LakeError> {
        let Some(version) = turn.unsettled else { return Ok(()) };
        if self.log.entry(version)?.is_none() {
            self.catalog.forget_version(version).await?;
        } else {
            self.reload().await?;
        }
        turn.unsettled = None;
        Ok(())
    }

    /// How many files were set aside: see ARCHITECTURE.md.
    pub fn set_aside(&self) -> io::Result<usize> {
        set_aside::SetAside::beside(&self.root).count()
    }

    /// Removes files that were placed for a change which no commit has.
    pub fn discard(&self, placed: &[LakeFile]) {
        discard(&self.root, placed);
    }

    /// The version of the oldest snapshot that somebody still has: a query under way, or nobody but the newest.
    fn oldest_in_use(&self) -> u64 {
        let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.iter().filter_map(Weak::upgrade).map(|snapshot| snapshot.version).min().unwrap_or_default()
    }

    /// The files of a snapshot stay for as long as somebody has it.
    fn note_in_use(&self, snapshot: &Arc<Snapshot>) {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|earlier| earlier.strong_count() > 0);
        in_use.push(Arc::downgrade(snapshot));
    }

    fn publish(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        self.note_in_use(&snapshot);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = snapshot.clone();
        snapshot
    }

    /// The version that `change` made, or `None` if there is none.
    pub async fn version_of(&self, change: &ChangeId) -> Result<Option<u64>, LakeError> {
        self.settle(&mut *self.committing.lock().await).await?;
        Ok(self.catalog.version_of_change(change).await?)
    }

    /// Notes what was found by those who read: see [`verify`].
    pub fn found(&self, findings: &[Finding]) {
        self.damaged.add(findings.iter().cloned());
    }

    /// Projects of which a file is lost or altered, and which are not answered until they are repaired.
    #[must_use]
    pub fn damaged(&self) -> Vec<ProjectSlug> {
        self.damaged.projects()
    }

    /// Findings of some projects that make every question about them unanswerable, whichever files it would read.
    #[must_use]
    pub fn incomplete<'a>(&self, projects: impl Iterator<Item = &'a ProjectSlug>) -> Vec<Finding> {
        self.damaged.incomplete(projects)
    }

    /// Resolves when damage was found since the last time.
    pub async fn damage_found(&self) {
        self.damaged.added().await;
    }

    /// A project was made anew from its uploads.
    pub fn repaired(&self, project: &ProjectSlug) {
        self.damaged.clear(project);
    }

    /// Looks at ledger, log and files without changing anything, and at the bytes of every file. Slow; for `wattlake fsck`.
    pub async fn inspect(catalog: &Catalog, data_dir: &Path) -> Result<Vec<Finding>, LakeError> {
        let root = data_dir.join(TABLE_FOLDER);
        let root = root
            .canonicalize()
            .map_err(|source| LakeError::Io { what: format!("opening {}", root.display()), source })?;
        let log = log::DeltaLog::of(&root)?;
        let look = Reconcile::of(catalog, &log, &root, true);
        let Opened { snapshot, mut findings } = look.run().await?;
        let known: HashSet<String> = findings.iter().filter_map(Finding::path).map(str::to_owned).collect();
        let files: Vec<Arc<LakeFile>> = snapshot.files().filter(|file| !known.contains(&file.path)).cloned().collect();
        let verified =
            tokio::task::spawn_blocking(move || verify(&root, &files)).await.map_err(|_| LakeError::Stopped)?;
        match verified {
            Err(LakeError::Damaged(more)) => findings.extend(more),
            other => other?,
        }
        Ok(findings)
    }
}

/// Passes a failpoint.
fn pass(point: &'static str) -> Result<(), LakeError> {
    failpoints::pass(point).map_err(|source| LakeError::Io { what: format!("passing {point}"), source })
}

/// Writes a checkpoint. It only shortens the start of other readers, so a failure is logged.
async fn checkpoint(log: &log::DeltaLog, catalog: &Catalog, version: u64) {
    let written = async { Ok::<_, LakeError>(catalog.record_checkpoint(&log.checkpoint(version).await?).await?) };
    if let Err(error) = written.await {
        tracing::warn!(version, error = %error, "the checkpoint of the lake's log was not written");
    }
}

fn ledger_file(file: &LakeFile, added_in: u64) -> LedgerFile {
    LedgerFile {
        path: file.path.clone(),
        project: file.project.clone(),
        month: file.month,
        bytes: file.bytes,
        rows: file.rows,
        sha256: file.sha256,
        added_in,
        removed: None,
    }
}
