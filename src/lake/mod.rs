//! The lake: one Delta table of payments, partitioned by project and month.

mod collisions;
mod file;
mod log;
mod materialise;
mod names;
mod place;
mod refold;
mod row_set;
pub mod scan;
pub mod snapshot;
mod store;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use tokio::sync::OwnedMutexGuard;

pub use self::{
    file::{Waiting, Written, write},
    log::{Change, ChangeKind},
    names::FileNames,
    place::{Placement, StagedFile, count, place},
    refold::{LiveUpload, rebuild, refold},
    row_set::RowSet,
    snapshot::{LakeFile, Snapshot, Verified},
};
use crate::{
    durable,
    error::ErrorKind,
    ids::{ChangeId, ProjectSlug},
};

/// Where the table is, below the data folder.
pub const TABLE_FOLDER: &str = "lake/payments";

/// What went wrong in the lake. Its texts are for the log, not for outsiders.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    #[error("the lake's log")]
    Delta(#[from] deltalake_core::DeltaTableError),
    #[error("{what}")]
    Io { what: String, source: io::Error },
    #[error("a Parquet file of the lake")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error("rows of the lake")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("the lake has version {version} already: another program writes to it")]
    Conflict { version: u64 },
    #[error("the lake is not as Wattlake lays it out: {0}")]
    Layout(String),
    /// The source of the rows failed, not the lake.
    #[error("the rows for the lake")]
    Rows(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl LakeError {
    /// An error of whoever hands rows to the lake.
    pub fn from_rows(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Rows(Box::new(error))
    }

    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Io { source, .. } => io_kind(source),
            Self::Delta(error) => root_io(error).map_or(ErrorKind::Internal, io_kind),
            Self::Parquet(error) => root_io(error).map_or(ErrorKind::Internal, io_kind),
            Self::Arrow(error) => root_io(error).map_or(ErrorKind::Internal, io_kind),
            Self::Conflict { .. } => ErrorKind::Unavailable,
            Self::Rows(error) => root_io(error.as_ref()).map_or(ErrorKind::Internal, io_kind),
            Self::Layout(_) => ErrorKind::Internal,
        }
    }
}

/// The kind of an I/O error on our own storage.
#[must_use]
pub fn io_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
        _ => ErrorKind::Unavailable,
    }
}

/// The I/O error at the bottom of an engine's error, where there is one.
fn root_io<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        next = error.source();
    }
    None
}

fn sync_folder_of(path: &Path) -> Result<(), LakeError> {
    path.parent()
        .map_or(Ok(()), durable::sync_dir)
        .map_err(|source| LakeError::Io { what: format!("syncing the folder of {}", path.display()), source })
}

/// Removes files that no commit has. Where that fails, they are only in the way: the log says what belongs to the lake.
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
    log: Arc<log::DeltaLog>,
    current: RwLock<Arc<Snapshot>>,
    /// Held while a version is written, so that versions follow one another.
    committing: tokio::sync::Mutex<()>,
    /// One lock a project, held from the look at what is there to the commit: see [`Lake::lock`].
    projects: Mutex<HashMap<ProjectSlug, Arc<tokio::sync::Mutex<()>>>>,
}

impl Lake {
    /// Opens the table below `data_dir`, or makes an empty one.
    pub async fn open(data_dir: &Path) -> Result<Self, LakeError> {
        let root = data_dir.join(TABLE_FOLDER);
        let root = durable::create_dir_all(&root)
            .and_then(|()| root.canonicalize())
            .map_err(|source| LakeError::Io { what: format!("making {}", root.display()), source })?;
        let (log, snapshot) = log::DeltaLog::open(&root).await?;
        Ok(Self {
            root,
            log: Arc::new(log),
            current: RwLock::new(Arc::new(snapshot)),
            committing: tokio::sync::Mutex::new(()),
            projects: Mutex::default(),
        })
    }

    /// The folder that the paths of [`LakeFile`]s are relative to.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the table is where it was when the server started.
    pub async fn ping(&self) -> Result<(), LakeError> {
        let log = self.root.join("_delta_log");
        let there = tokio::fs::metadata(&log).await;
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
    pub async fn commit(&self, change: &Change) -> Result<Arc<Snapshot>, LakeError> {
        let _turn = self.committing.lock().await;
        let before = self.snapshot();
        let version = before.version + 1;
        if let Err(error) = self.log.commit(version, change).await {
            // The entry may be there all the same, ours or another program's: only the log knows what is in it.
            self.publish(self.log.read().await?);
            return Err(error);
        }
        let after = self.publish(before.after(version, &change.removed, &change.added));
        let log = self.log.clone();
        tokio::spawn(async move { log.checkpoint_if_due(version).await });
        Ok(after)
    }

    /// Removes files that were placed for a change which no commit has.
    pub fn discard(&self, placed: &[LakeFile]) {
        discard(&self.root, placed);
    }

    fn publish(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = snapshot.clone();
        snapshot
    }

    /// The version that `change` made, or `None` if there is none.
    pub async fn version_of(&self, change: &ChangeId) -> Result<Option<u64>, LakeError> {
        self.log.version_of(change).await
    }
}
