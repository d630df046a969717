//! What can go wrong in the lake.

use std::io;

use super::Finding;
use crate::{catalog::CatalogError, error::ErrorKind};

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
    #[error("the ledger")]
    Catalog(#[from] CatalogError),
    #[error(
        "the lake has a log and the catalogue no ledger of it; put catalogue and lake back from one and the same backup"
    )]
    NoLedger,
    #[error(
        "what version {version} of the lake was is lost, in the ledger and in the log; put catalogue and lake back from one and the same backup"
    )]
    Lost { version: u64 },
    #[error("damaged: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Damaged(Vec<Finding>),
    #[error("a change is in the ledger, and whether the log has it is not known")]
    Unsettled,
    #[error("the work was stopped")]
    Stopped,
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
            Self::Conflict { .. } | Self::Damaged(_) | Self::Unsettled | Self::Stopped => ErrorKind::Unavailable,
            Self::Catalog(error) => error.kind(),
            Self::NoLedger | Self::Lost { .. } => ErrorKind::Conflict,
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
