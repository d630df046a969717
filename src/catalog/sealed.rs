//! The rows of the ledger and their seals: `SQLite` has no checksums of its own, so each row carries a hash of its columns, and
//! what changed by itself is found when it is read.

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use twox_hash::XxHash3_64;

use super::{CatalogError, from_micros, read};
use crate::ids::{ChangeId, Month, ProjectSlug};

/// Bytes of one log entry at most, unpacked.
const MAX_ENTRY_BYTES: usize = 256 << 20;

/// A version of the lake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerVersion {
    pub version: u64,
    pub change: ChangeId,
    /// The bytes of the log's entry.
    pub entry: Vec<u8>,
    pub entry_sha256: [u8; 32],
    /// Active files after this version, and their rows.
    pub files: u64,
    pub rows: u64,
    pub written_at: DateTime<Utc>,
}

/// A file of the lake: of the newest version, or of an earlier one and not removed from the disk yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerFile {
    /// Relative to the table's root.
    pub path: String,
    pub project: ProjectSlug,
    pub month: Month,
    pub bytes: u64,
    pub rows: u64,
    pub sha256: [u8; 32],
    pub added_in: u64,
    /// The version that it is no longer part of, and since when.
    pub removed: Option<(u64, DateTime<Utc>)>,
}

/// The newest checkpoint of the lake's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerCheckpoint {
    pub version: u64,
    pub sha256: [u8; 32],
    /// The bytes of `_last_checkpoint`.
    pub pointer: Vec<u8>,
}

/// A staged file of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerStaged {
    pub project: ProjectSlug,
    pub month: Month,
    /// Below the upload's folder.
    pub path: String,
    pub bytes: u64,
    pub rows: u64,
    pub sha256: [u8; 32],
}

/// What reading some rows of the ledger gave: those whose seals hold, and the names of the others.
#[derive(Clone, Debug)]
pub struct Sealed<T> {
    pub whole: Vec<T>,
    pub broken: Vec<String>,
}

impl<T> Default for Sealed<T> {
    fn default() -> Self {
        Self { whole: Vec::new(), broken: Vec::new() }
    }
}

pub(super) type VersionRow = (i64, String, Vec<u8>, Vec<u8>, i64, i64, i64, i64);
pub(super) type FileRow = (String, String, String, i64, i64, Vec<u8>, i64, Option<i64>, Option<i64>, i64);
pub(super) type StagedRow = (String, String, String, i64, i64, Vec<u8>, i64);

/// A version's row, if its seal holds and its entry is the one that was written.
pub(super) fn version_of(row: VersionRow) -> Option<LedgerVersion> {
    let (version, change, entry, entry_sha256, files, rows, written_at, seal) = row;
    let version = LedgerVersion {
        version: to_u64(version),
        change: change.parse().ok()?,
        entry: zstd::bulk::decompress(&entry, MAX_ENTRY_BYTES).ok()?,
        entry_sha256: entry_sha256.try_into().ok()?,
        files: to_u64(files),
        rows: to_u64(rows),
        written_at: from_micros(written_at),
    };
    let whole = version_seal(&version) == seal && Sha256::digest(&version.entry)[..] == version.entry_sha256;
    whole.then_some(version)
}

pub(super) fn sealed_files(rows: Vec<FileRow>) -> Result<Sealed<LedgerFile>, CatalogError> {
    let mut sealed = Sealed::default();
    for row in rows {
        let path = row.0.clone();
        match file_of(row) {
            Ok((file, true)) => sealed.whole.push(file),
            Ok((_, false)) | Err(CatalogError::Unreadable { .. }) => sealed.broken.push(path),
            Err(error) => return Err(error),
        }
    }
    Ok(sealed)
}

/// A file's row, and whether its seal holds.
pub(super) fn file_of(row: FileRow) -> Result<(LedgerFile, bool), CatalogError> {
    let (path, project, month, bytes, rows, sha256, added_in, removed_in, removed_at, seal) = row;
    let unreadable = |what| CatalogError::Unreadable { what, value: path.clone() };
    let file = LedgerFile {
        project: read("project of a file", &project)?,
        month: read("month of a file", &month)?,
        bytes: to_u64(bytes),
        rows: to_u64(rows),
        sha256: sha256.try_into().map_err(|_| unreadable("SHA-256 of a file"))?,
        added_in: to_u64(added_in),
        removed: removed_in.zip(removed_at).map(|(version, at)| (to_u64(version), from_micros(at))),
        path,
    };
    let whole = file_seal(&file) == seal;
    Ok((file, whole))
}

/// A staged file's row, if its seal holds.
pub(super) fn staged_of(row: StagedRow) -> Option<LedgerStaged> {
    let (project, month, path, bytes, rows, sha256, seal) = row;
    let staged = LedgerStaged {
        project: project.parse().ok()?,
        month: month.parse().ok()?,
        path,
        bytes: to_u64(bytes),
        rows: to_u64(rows),
        sha256: sha256.try_into().ok()?,
    };
    (staged_seal(&staged) == seal).then_some(staged)
}

pub(super) fn version_seal(version: &LedgerVersion) -> i64 {
    let LedgerVersion { version, change, entry: _, entry_sha256, files, rows, written_at } = version;
    let entry_sha256 = hex::encode(entry_sha256);
    seal(&format!("{version} {change} {entry_sha256} {files} {rows} {}", written_at.timestamp_micros()))
}

pub(super) fn file_seal(file: &LedgerFile) -> i64 {
    let LedgerFile { path, project, month, bytes, rows, sha256, added_in, removed } = file;
    let removed = removed.map(|(version, at)| (version, at.timestamp_micros()));
    seal(&format!("{path} {project} {month} {bytes} {rows} {} {added_in} {removed:?}", hex::encode(sha256)))
}

pub(super) fn staged_seal(file: &LedgerStaged) -> i64 {
    let LedgerStaged { project, month, path, bytes, rows, sha256 } = file;
    seal(&format!("{project} {month} {path} {bytes} {rows} {}", hex::encode(sha256)))
}

fn seal(text: &str) -> i64 {
    XxHash3_64::oneshot(text.as_bytes()).cast_signed()
}

pub(super) fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What was written was not negative; a row where it is has a broken seal.
pub(super) fn to_u64(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
