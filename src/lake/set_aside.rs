//! Where files go that do not belong to the lake: out of it, and kept, because somebody may want them.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::LakeError;
use crate::durable;

/// The folder `lake/set-aside`, beside the table.
#[derive(Debug, Clone)]
pub(super) struct SetAside(PathBuf);

impl SetAside {
    /// Beside the table in `root`.
    pub(super) fn beside(root: &Path) -> Self {
        Self(root.with_file_name("set-aside"))
    }

    /// How many files are there.
    pub(super) fn count(&self) -> io::Result<usize> {
        match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            other => Ok(other?.count()),
        }
    }

    /// Moves a file there, under a name that is not taken. A file that is gone already is as good as moved.
    pub(super) fn take(&self, path: &Path) -> Result<(), LakeError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let target = self.0.join(format!("{}-{name}", uuid::Uuid::now_v7().simple()));
        match durable::rename(path, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => Ok(()),
            Err(source) => Err(LakeError::Io { what: format!("setting {} aside", path.display()), source }),
            Ok(()) => {
                tracing::warn!(from = %path.display(), to = %target.display(), "set aside");
                Ok(())
            }
        }
    }
}
