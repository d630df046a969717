//! What can go wrong with an upload that is not its content.

use std::io;

use crate::{
    catalog::CatalogError,
    error::ErrorKind,
    lake::{self, Finding, LakeError},
};

/// Why an upload came to no answer of its own. A file that is refused for its content is not an error: see [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("the file has more than {limit} bytes; split it, by month for example")]
    TooLarge { limit: u64 },
    #[error("{limit} uploads are under way, which is the limit")]
    Busy { limit: usize },
    #[error("the file did not arrive whole")]
    Interrupted(#[source] io::Error),
    #[error("{what}")]
    Io { what: &'static str, source: io::Error },
    #[error("rows of the upload")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error("the catalogue")]
    Catalog(#[from] CatalogError),
    #[error("the lake")]
    Lake(#[from] LakeError),
    #[error("the project's currency changed while the file came; send it again")]
    CurrencyChanged,
    #[error("{0}")]
    Damaged(Finding),
    #[error("the upload was stopped")]
    Stopped,
}

impl IngestError {
    pub(super) fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Interrupted(_) => ErrorKind::Invalid,
            Self::CurrencyChanged => ErrorKind::Conflict,
            Self::Io { source, .. } => lake::io_kind(source),
            Self::Arrow(_) => ErrorKind::Internal,
            Self::Catalog(error) => error.kind(),
            Self::Lake(error) => error.kind(),
            Self::Stopped | Self::Damaged(_) => ErrorKind::Unavailable,
        }
    }
}
