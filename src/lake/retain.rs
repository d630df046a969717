//! Files that no version needs any more: removed after a while, never while a query may still read them.

use std::{io, time::Duration};

use chrono::Utc;

use super::{Lake, LakeError};
use crate::{catalog::LedgerFile, ids::UploadId};

impl Lake {
    /// Removes the files that left the newest version longer than `retention` ago, so that earlier versions stay readable
    /// for that long, and that no snapshot in use has. Gives their number.
    pub async fn remove_old_files(&self, retention: Duration) -> Result<usize, LakeError> {
        let oldest = self.oldest_in_use();
        let now = Utc::now();
        let due = |file: &LedgerFile| {
            file.removed.is_some_and(|(version, at)| {
                version <= oldest && now.signed_duration_since(at).to_std().is_ok_and(|age| age >= retention)
            })
        };
        let old = self.catalog.removed_files().await?.whole.into_iter().filter(due).collect();
        self.remove(old).await
    }

    /// Removes the files of earlier versions that hold rows of `upload`, whatever their age. A query that still reads an
    /// earlier version may fail for it: what is erased by law is not waited for.
    pub(crate) async fn remove_history_of(&self, upload: &UploadId) -> Result<usize, LakeError> {
        let files = self.catalog.removed_files().await?.whole;
        let (root, upload) = (self.root.clone(), upload.clone());
        let holding = move || {
            let mut holding = Vec::new();
            for file in files {
                match super::file::holds_upload(&root.join(&file.path), &upload) {
                    Ok(false) => {}
                    Err(LakeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                    // What cannot be read cannot be shown to be free of it.
                    Ok(true) | Err(_) => holding.push(file),
                }
            }
            holding
        };
        let holding = tokio::task::spawn_blocking(holding).await.map_err(|_| LakeError::Stopped)?;
        self.remove(holding).await
    }

    async fn remove(&self, files: Vec<LedgerFile>) -> Result<usize, LakeError> {
        let root = self.root.clone();
        let remove = move || {
            let mut gone = Vec::new();
            for file in files {
                match std::fs::remove_file(root.join(&file.path)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!(path = file.path, %error, "an old file of the lake was not removed");
                    }
                    _ => gone.push(file.path),
                }
            }
            gone
        };
        let gone = tokio::task::spawn_blocking(remove).await.map_err(|_| LakeError::Stopped)?;
        self.catalog.forget_files(&gone).await?;
        Ok(gone.len())
    }
}
