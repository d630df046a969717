//! What an upload is: what came in, from whom, and what became of it.

use std::{collections::BTreeSet, fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::now;
use crate::ids::{ChangeId, ProjectSlug, UploadId};

/// What to do with a file that has bad rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Nothing of the file lands.
    #[default]
    RejectFile,
    /// The good rows land; the bad ones are kept beside.
    SkipRows,
}

impl OnError {
    pub const NAMES: [&'static str; 2] = ["reject_file", "skip_rows"];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RejectFile => "reject_file",
            Self::SkipRows => "skip_rows",
        }
    }
}

impl FromStr for OnError {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "reject_file" => Ok(Self::RejectFile),
            "skip_rows" => Ok(Self::SkipRows),
            _ => Err(format!("{text:?} is not one of {}", Self::NAMES.join(", "))),
        }
    }
}

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UploadStatus {
    /// Its bytes are coming in, or are being checked.
    Receiving,
    /// Checked and staged; on its way into the lake. After a crash, the lake's log says whether it got there.
    Committing,
    /// Its rows are in the lake.
    Committed,
    /// Refused for its content. Nothing of it is in the lake; its original and its errors are kept.
    Rejected,
    /// Ended by a failure of ours. Nothing of it is in the lake.
    Failed,
    /// Its rows are on their way out of the lake. After a crash, the lake's log says whether they went.
    Deleting,
    /// Taken out of the lake. What was kept of it stays, and it can come back.
    Deleted,
    /// Its rows are on their way back. After a crash, the lake's log says whether they came.
    Restoring,
    /// Erased; only its record is left.
    Purged,
}

impl UploadStatus {
    pub const ALL: [Self; 9] = [
        Self::Receiving,
        Self::Committing,
        Self::Committed,
        Self::Rejected,
        Self::Failed,
        Self::Deleting,
        Self::Deleted,
        Self::Restoring,
        Self::Purged,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Receiving => "receiving",
            Self::Committing => "committing",
            Self::Committed => "committed",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
            Self::Deleted => "deleted",
            Self::Restoring => "restoring",
            Self::Purged => "purged",
        }
    }
}

impl FromStr for UploadStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|status| status.as_str() == text);
        found.ok_or_else(|| format!("{text:?} is not one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

impl fmt::Display for UploadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One upload, as the catalogue holds it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UploadRecord {
    pub id: UploadId,
    /// Ordered by slug.
    pub projects: Vec<ProjectSlug>,
    pub dataset_name: String,
    pub dataset_type: String,
    pub data_provider: String,
    pub file_name: String,
    pub on_error: OnError,
    pub status: UploadStatus,
    /// Of the bytes as they came, in hexadecimal.
    pub sha256: String,
    /// The size of the file as it came.
    pub bytes: u64,
    pub received_at: DateTime<Utc>,
    /// Of uploads that landed only, as is `lake_version`, which is their place in the order of uploads.
    pub committed_at: Option<DateTime<Utc>>,
    pub lake_version: Option<u64>,
    /// Counts, months, warnings and errors, as the API answers them.
    pub report: Value,
    /// The key that sent it.
    pub key_prefix: String,
    /// Since when it is deleted, or being deleted.
    pub deleted_at: Option<DateTime<Utc>>,
    /// The change of the lake that is under way with it: it is `deleting` or `restoring`.
    pub change: Option<ChangeId>,
}

/// Which uploads to list; `None` is any.
#[derive(Clone, Debug, Default)]
pub struct UploadFilter {
    pub project: Option<ProjectSlug>,
    pub status: Option<UploadStatus>,
    pub dataset_name: Option<String>,
    /// Received at or after.
    pub from: Option<DateTime<Utc>>,
    /// Received before.
    pub to: Option<DateTime<Utc>>,
}

/// What a query may say of an upload in the lake, once for each of its projects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadFacts {
    pub id: UploadId,
    pub project: ProjectSlug,
    pub dataset_name: String,
    pub committed_at: DateTime<Utc>,
}

impl UploadRecord {
    /// A record of an upload that starts now.
    #[must_use]
    pub fn starting(projects: Vec<ProjectSlug>, dataset_name: String, file_name: String, key_prefix: String) -> Self {
        let projects: BTreeSet<ProjectSlug> = projects.into_iter().collect();
        Self {
            id: UploadId::new(),
            projects: projects.into_iter().collect(),
            dataset_name,
            dataset_type: "electricity_payments".to_owned(),
            data_provider: "user".to_owned(),
            file_name,
            on_error: OnError::default(),
            status: UploadStatus::Receiving,
            sha256: String::new(),
            bytes: 0,
            received_at: now(),
            committed_at: None,
            lake_version: None,
            report: Value::Null,
            key_prefix,
            deleted_at: None,
            change: None,
        }
    }
}
