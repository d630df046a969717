//! Files that no version needs any more: removed after a while, never while a query may still read them.

use std::{collections::BTreeSet, io, path::Path, time::Duration};

use chrono::Utc;

use super::{Lake, LakeError};
use crate::{catalog::LedgerFile, durable, ids::UploadId};

impl Lake {
    /// Removes the files that left the newest version longer than `retention` ago, so that earlier versions stay readable
    /// for that long, and that no snapshot in use has. Gives their number.
    pub async fn remove_old_files(&self, retention: Duration) -> Result<usize, LakeError> {
        let _held = self.history.hold().await;
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
        let _held = self.history.hold().await;
        let files = self.catalog.removed_files().await?.whole;
        let (root, of) = (self.root.clone(), upload.clone());
        let holding = move || {
            let mut holding = Vec::new();
            for file in files {
                match super::file::holds_upload(&root.join(&file.path), &of) {
                    Ok(false) => {}
                    Err(LakeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
                    // What cannot be read cannot be shown to be free of it.
                    Ok(true) | Err(_) => holding.push(file),
                }
            }
            holding
        };
        let holding = tokio::task::spawn_blocking(holding).await.map_err(|_| LakeError::Stopped)?;
        let count = holding.len();
        match self.remove(holding).await? {
            gone if gone == count => Ok(gone),
            gone => {
                let source = io::Error::other(format!("{} of {count} files were not removed", count - gone));
                Err(LakeError::Io { what: format!("removing the history of {upload}"), source })
            }
        }
    }

    async fn remove(&self, files: Vec<LedgerFile>) -> Result<usize, LakeError> {
        let root = self.root.clone();
        let remove = move || {
            let (mut gone, mut folders) = (Vec::new(), BTreeSet::new());
            for file in files {
                let path = root.join(&file.path);
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        tracing::warn!(path = file.path, %error, "an old file of the lake was not removed");
                    }
                    _ => {
                        gone.push(file.path);
                        folders.extend(path.parent().map(Path::to_owned));
                    }
                }
            }
            // Before they are forgotten: a file that came back with a power cut would be taken for a foreign one.
            let synced =
                folders.iter().filter(|folder| folder.is_dir()).try_for_each(|folder| durable::sync_dir(folder));
            synced.map(|()| gone).map_err(|source| LakeError::Io { what: "removing old files".to_owned(), source })
        };
        let gone = tokio::task::spawn_blocking(remove).await.map_err(|_| LakeError::Stopped)??;
        self.catalog.forget_files(&gone).await?;
        Ok(gone.len())
    }
}
