//! What can go wrong with a verification.

use std::{io, time::Duration};

use crate::{
    catalog::CatalogError,
    error::ErrorKind,
    ids::{ProjectSlug, UploadId},
    ingest::IngestError,
    lake::{self, AsOfError, LakeError},
    programmes::ConnectionName,
};

/// Names that a message tells at most.
const NAMED: usize = 10;

/// Why there is no verification. The messages without a source are fit for outsiders.
#[derive(Debug, thiserror::Error)]
pub enum VerificationError {
    #[error("{limit} verifications run or wait, which is the limit (verification.queue)")]
    Busy { limit: usize },
    #[error("there is nothing to verify: no connection that was asked for {what}{}", left_out(.other_terms))]
    Nothing { what: &'static str, other_terms: Vec<ProjectSlug> },
    #[error("{count} connections are more than {limit} (verification.max_connections); select some of them")]
    TooMany { count: usize, limit: usize },
    #[error("not among what can be verified: {}", list(.0))]
    NotThere(Vec<ConnectionName>),
    #[error("it took more than {} s (verification.timeout_s)", limit.as_secs())]
    TooLong { limit: Duration },
    #[error("the verification has not ended")]
    NotDone,
    #[error("the verification failed, and has no verdicts; begin another")]
    Failed,
    #[error("a project has left the programme meanwhile; begin another")]
    Left,
    #[error("payments that it rests on are erased for good: of {}", uploads(.0))]
    EvidenceGone(Vec<UploadId>),
    #[error("its verdicts are not as they were kept; verify again")]
    Altered,
    #[error("the columns of payments are others than this version reads")]
    Columns,
    #[error("{what}")]
    Io { what: &'static str, source: io::Error },
    #[error("rows of payments")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("verdicts as Parquet")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error("verdicts as CSV")]
    Csv(#[from] csv::Error),
    #[error("the catalogue")]
    Catalog(#[from] CatalogError),
    #[error("the lake")]
    Lake(#[from] LakeError),
    #[error("the lake as it was")]
    AsOf(#[from] AsOfError),
    #[error("uploads")]
    Ingest(#[from] IngestError),
    #[error("the server stopped before it ended; begin another")]
    Stopped,
}

fn list(names: &[ConnectionName]) -> String {
    let first: Vec<String> = names.iter().take(NAMED).map(ToString::to_string).collect();
    let more = names.len().saturating_sub(NAMED);
    first.join(", ") + &if more > 0 { format!(" and {more} others") } else { String::new() }
}

fn left_out(projects: &[ProjectSlug]) -> String {
    if projects.is_empty() {
        return String::new();
    }
    let named: Vec<&str> = projects.iter().take(NAMED).map(ProjectSlug::as_str).collect();
    format!("; left out, because they consented to other terms: {} (rule_version)", named.join(", "))
}

fn uploads(ids: &[UploadId]) -> String {
    ids.iter().take(NAMED).map(UploadId::as_str).collect::<Vec<_>>().join(", ")
}

impl VerificationError {
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Nothing { .. } | Self::TooMany { .. } | Self::NotThere(_) => ErrorKind::Rejected,
            Self::TooLong { .. } => ErrorKind::Timeout,
            Self::NotDone | Self::Failed | Self::Left => ErrorKind::Conflict,
            Self::EvidenceGone(_) => ErrorKind::Gone,
            Self::Io { source, .. } => lake::io_kind(source),
            Self::Altered | Self::Stopped => ErrorKind::Unavailable,
            Self::Columns | Self::Arrow(_) | Self::Parquet(_) | Self::Csv(_) => ErrorKind::Internal,
            Self::Catalog(error) => error.kind(),
            Self::Lake(error) => error.kind(),
            Self::AsOf(error) => error.kind(),
            Self::Ingest(error) => error.kind(),
        }
    }

    /// What a run that failed says of it, to whoever began it.
    pub(super) fn told(&self) -> String {
        match self.kind() {
            _ if matches!(self, Self::Stopped) => self.to_string(),
            ErrorKind::Internal | ErrorKind::Unavailable | ErrorKind::StorageFull => {
                "the server could not end it; begin another, and tell whoever runs the server if that fails too"
                    .to_owned()
            }
            _ => self.to_string(),
        }
    }
}
