//! What is found wrong with what is stored: named, whoever finds it.

use std::fmt;

use crate::ids::{ProjectSlug, RunId, UploadId};

/// One thing that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// A row of the ledger does not match its seal, or is not there.
    LedgerVersion { version: u64 },
    /// Rows of the ledger that say which files there are do not match their seals, or are not all there.
    LedgerFiles { broken: Vec<String> },
    /// The log has no entry for a version of the ledger.
    EntryMissing { version: u64 },
    /// The log's entry is not the one that was written.
    EntryAltered { version: u64 },
    /// A file of the log's folder that Wattlake did not write.
    ForeignLogFile { name: String },
    /// A checkpoint that is not the one that was written, or the file that points to it.
    CheckpointAltered { name: String },
    /// A file of the lake is not there.
    FileMissing { project: ProjectSlug, path: String },
    /// A file of the lake is not the one that was written.
    FileAltered { project: ProjectSlug, path: String, how: String },
    /// A file in the folder of a partition that Wattlake did not write.
    ForeignFile { path: String },
    /// A file that was written for a change which did not take place.
    Orphan { path: String },
    /// What is kept of an upload is missing or not as it was written.
    Upload { project: ProjectSlug, upload: UploadId, what: String },
    /// An upload that was answered as committed is in no version of the lake.
    UploadMissing { project: ProjectSlug, upload: UploadId },
    /// The verdicts of a verification are missing or not as they were kept.
    Verdicts { run: RunId },
    /// The audit log does not hold from this entry on.
    AuditLog { entry: u64, how: &'static str },
}

impl Finding {
    /// The project whose rows cannot be trusted because of it.
    #[must_use]
    pub fn project(&self) -> Option<&ProjectSlug> {
        match self {
            Self::FileMissing { project, .. }
            | Self::FileAltered { project, .. }
            | Self::UploadMissing { project, .. } => Some(project),
            _ => None,
        }
    }

    /// The file of the lake that it is about.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::FileMissing { path, .. } | Self::FileAltered { path, .. } => Some(path),
            _ => None,
        }
    }

    /// What kind of finding it is, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::LedgerVersion { .. } | Self::LedgerFiles { .. } => "ledger_altered",
            Self::EntryMissing { .. } => "entry_missing",
            Self::EntryAltered { .. } => "entry_altered",
            Self::ForeignLogFile { .. } | Self::ForeignFile { .. } => "foreign_file",
            Self::CheckpointAltered { .. } => "checkpoint_altered",
            Self::FileMissing { .. } => "file_missing",
            Self::FileAltered { .. } => "file_altered",
            Self::Orphan { .. } => "orphan",
            Self::Upload { .. } => "upload_altered",
            Self::UploadMissing { .. } => "upload_missing",
            Self::Verdicts { .. } => "verdicts_damaged",
            Self::AuditLog { .. } => "audit_broken",
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LedgerVersion { version } => {
                write!(f, "the ledger's row of version {version} is not as it was written")
            }
            Self::LedgerFiles { broken } if broken.is_empty() => {
                f.write_str("the ledger does not list all files of the newest version")
            }
            Self::LedgerFiles { broken } => {
                write!(f, "the ledger's rows of these files are not as they were written: {}", broken.join(", "))
            }
            Self::EntryMissing { version } => write!(f, "the log has no entry of version {version}"),
            Self::EntryAltered { version } => {
                write!(f, "the log's entry of version {version} is not as it was written")
            }
            Self::ForeignLogFile { name } => write!(f, "_delta_log/{name} was not written by this Wattlake"),
            Self::CheckpointAltered { name } => write!(f, "_delta_log/{name} is not as it was written"),
            Self::FileMissing { path, .. } => write!(f, "{path} is missing"),
            Self::FileAltered { path, how, .. } => write!(f, "{path} is not as it was written: {how}"),
            Self::ForeignFile { path } => write!(f, "{path} was not written by this Wattlake"),
            Self::Orphan { path } => write!(f, "{path} was left by a change that did not take place"),
            Self::Upload { upload, what, .. } => write!(f, "{upload}: {what}"),
            Self::UploadMissing { upload, .. } => write!(f, "{upload} is committed and in no version of the lake"),
            Self::Verdicts { run } => write!(f, "the verdicts of {run} are not as they were kept; verify again"),
            Self::AuditLog { entry, how } => write!(f, "entry {entry} of the audit log {how}"),
        }
    }
}
