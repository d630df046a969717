//! The folder of one upload: what is kept of it, and where.
//!
//! ```text
//! uploads/<id>/upload.json                             what it was told about its file
//! uploads/<id>/original.csv.zst                        the file byte for byte, in zstd; also one that came packed
//! uploads/<id>/rejected.csv.zst                        its rejected rows, where there are any
//! uploads/<id>/routes.json.zst                         to which of several projects its meters went
//! uploads/<id>/accepted/<project>/<month>-<n>.parquet  its good rows, sorted
//! ```

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{
    durable,
    ids::{Month, ProjectSlug, UploadId},
};

/// An upload's folder: below `tmp/` while it is checked, below `uploads/` once it is kept.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder for an upload that begins.
    pub(super) fn begin(data_dir: &Path, id: &UploadId) -> io::Result<Self> {
        let path = data_dir.join("tmp").join(id.as_str());
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    /// A folder that is there and is somebody else's to remove.
    pub(super) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The folder of an upload that is kept.
    pub(super) fn kept(data_dir: &Path, id: &UploadId) -> Self {
        Self(data_dir.join("uploads").join(id.as_str()))
    }

    /// Removes what uploads left that a process did not end.
    pub(super) fn clear_unfinished(data_dir: &Path) -> io::Result<()> {
        match fs::remove_dir_all(data_dir.join("tmp")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn manifest(&self) -> PathBuf {
        self.0.join("upload.json")
    }

    pub(super) fn original(&self) -> PathBuf {
        self.0.join("original.csv.zst")
    }

    pub(super) fn rejected(&self) -> PathBuf {
        self.0.join("rejected.csv.zst")
    }

    pub(super) fn routes(&self) -> PathBuf {
        self.0.join("routes.json.zst")
    }

    pub(super) fn spool(&self) -> PathBuf {
        self.0.join("spool.arrow")
    }

    pub(super) fn accepted(&self, project: &ProjectSlug, month: Month, number: usize) -> PathBuf {
        self.0.join("accepted").join(project.as_str()).join(format!("{month}-{number}.parquet"))
    }

    /// Removes staged rows that are not to be kept.
    pub(super) fn discard_accepted(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.0.join("accepted")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Moves the folder to where it is kept, on disk, and gives its new place.
    pub(super) fn keep(&self, data_dir: &Path, id: &UploadId) -> io::Result<Self> {
        let kept = Self::kept(data_dir, id);
        durable::sync_dir(&self.0)?;
        durable::rename(&self.0, &kept.0)?;
        Ok(kept)
    }

    /// Removes the folder and all that is in it.
    pub(super) fn discard(&self) {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(folder = %self.0.display(), %error, "the folder of an upload was not removed");
            }
            _ => {}
        }
    }
}

/// A file for reading and writing that has no name, so that nothing is left of it however the process ends.
pub(super) fn scratch_file(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}
