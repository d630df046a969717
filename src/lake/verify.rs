//! Whether the bytes of a file are those that were written. A Parquet file with a flipped bit mostly reads without an
//! error, and wrong; so no file is read before its hash was compared once.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::{Finding, LakeError, LakeFile};
use crate::ids::ProjectSlug;

/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;

/// Size and SHA-256 of a file.
pub fn fingerprint(path: &Path) -> io::Result<(u64, [u8; 32])> {
    let mut file = File::open(path)?;
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok((bytes, hash.finalize().into())),
            count => {
                hash.update(&chunk[..count]);
                bytes += count as u64;
            }
        }
    }
}

/// Reads a file of the lake and compares it with what was written; what is wrong with it, if anything is.
pub(super) fn inspect(root: &Path, file: &LakeFile) -> Result<Option<Finding>, LakeError> {
    let (project, path) = (file.project.clone(), file.path.clone());
    match fingerprint(&root.join(&file.path)) {
        Ok((bytes, _)) if bytes != file.bytes => {
            let how = format!("it has {bytes} bytes instead of {}", file.bytes);
            Ok(Some(Finding::FileAltered { project, path, how }))
        }
        Ok((_, sha256)) if sha256 != file.sha256 => {
            Ok(Some(Finding::FileAltered { project, path, how: "its SHA-256 is another".to_owned() }))
        }
        Ok(_) => {
            file.verified.set();
            Ok(None)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Finding::FileMissing { project, path })),
        // Bytes that the disk no longer gives are as lost as those that it gives wrong.
        Err(error) if error.raw_os_error() == Some(EIO) => {
            Ok(Some(Finding::FileAltered { project, path, how: "the disk cannot read it".to_owned() }))
        }
        Err(source) => Err(LakeError::Io { what: format!("reading {path}"), source }),
    }
}

/// The error number of a failing disk.
const EIO: i32 = 5;

/// Compares each file of `files` that this process has not seen yet, on some threads. Blocks.
///
/// # Errors
/// [`LakeError::Damaged`] with what was found. Nothing may then be read of the projects that it names.
pub fn verify(root: &Path, files: &[Arc<LakeFile>]) -> Result<(), LakeError> {
    let unseen: Vec<&LakeFile> = files.iter().map(AsRef::as_ref).filter(|file| !file.verified.is_set()).collect();
    if unseen.is_empty() {
        return Ok(());
    }
    let found = Mutex::new(Ok(Vec::new()));
    let next = Mutex::new(unseen.iter());
    let work = || {
        loop {
            let file = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(file) = file else { return };
            let result = inspect(root, file);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match (result, found.as_mut()) {
                (Ok(finding), Ok(findings)) => findings.extend(finding),
                (Err(error), Ok(_)) => *found = Err(error),
                (_, Err(_)) => return,
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(unseen.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    match found.into_inner().unwrap_or_else(PoisonError::into_inner)? {
        findings if findings.is_empty() => Ok(()),
        findings => Err(LakeError::Damaged(findings)),
    }
}

/// Projects of which a file is known to be lost or altered, until they are repaired.
#[derive(Debug, Default)]
pub(super) struct Damaged {
    projects: Mutex<BTreeMap<ProjectSlug, Vec<Finding>>>,
    more: Notify,
}

impl Damaged {
    pub(super) fn add(&self, findings: impl IntoIterator<Item = Finding>) {
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        for finding in findings {
            let Some(project) = finding.project().cloned() else { continue };
            let known = projects.entry(project).or_default();
            if !known.contains(&finding) {
                tracing::error!(%finding, "the lake is damaged; the project is not answered until it is repaired");
                known.push(finding);
                self.more.notify_one();
            }
        }
    }

    /// Resolves when more was found since the last time.
    pub(super) async fn added(&self) {
        self.more.notified().await;
    }

    /// Of some projects, uploads that no file of the lake tells of: what other files say of them is not all there is.
    pub(super) fn incomplete<'a>(&self, projects: impl Iterator<Item = &'a ProjectSlug>) -> Vec<Finding> {
        let known = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let findings = projects.filter_map(|project| known.get(project)).flatten();
        findings.filter(|finding| matches!(finding, Finding::UploadMissing { .. })).cloned().collect()
    }

    pub(super) fn clear(&self, project: &ProjectSlug) {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner).remove(project);
    }

    pub(super) fn projects(&self) -> Vec<ProjectSlug> {
        self.projects.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}
