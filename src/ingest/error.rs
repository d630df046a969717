//! What can go wrong with an upload that is not its content.

use std::{collections::BTreeSet, io};

use crate::{
    catalog::{CatalogError, UploadStatus},
    connections::FieldFault,
    error::ErrorKind,
    ids::UploadId,
    lake::{self, Finding, LakeError},
    payments::unpack::UnpackError,
};

/// Why an upload came to no answer of its own. A file that is refused for its content is not an error: see [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    #[error("the file has more than {limit} bytes (upload.max_bytes); split it, by month for example")]
    TooLarge { limit: u64 },
    #[error(transparent)]
    UnpacksTooLarge(UnpackError),
    #[error("{limit} uploads are under way, which is the limit (upload.concurrency)")]
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
    #[error("a request with this Idempotency-Key is under way; wait for its answer")]
    KeyInFlight,
    #[error("this Idempotency-Key was sent with another request, or another file; give each request its own key")]
    KeyReused,
    #[error("there is no upload {}", list(.0))]
    NoUploads(Vec<UploadId>),
    #[error("{}", wrong_statuses(.what, .uploads))]
    WrongStatus {
        /// What was to be done, such as `deleted`.
        what: &'static str,
        uploads: Vec<(UploadId, UploadStatus)>,
    },
    #[error("{upload} is {status}; only what is out of the lake can be erased: delete it first")]
    NotDeleted { upload: UploadId, status: UploadStatus },
    #[error("there is no such connection")]
    NoConnection,
    #[error("fields of the connection are wrong")]
    WrongConnection(Vec<FieldFault>),
    #[error("the upload was stopped")]
    Stopped,
}

/// Uploads that a message names; there may be a thousand.
const NAMED: usize = 10;

fn list(ids: &[UploadId]) -> String {
    let named: Vec<&str> = ids.iter().take(NAMED).map(UploadId::as_str).collect();
    let more = ids.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} others") } else { String::new() };
    named.join(", ") + &more
}

fn wrong_statuses(what: &str, uploads: &[(UploadId, UploadStatus)]) -> String {
    let statuses: BTreeSet<&str> = uploads.iter().map(|(_, status)| status.as_str()).collect();
    let ids: Vec<UploadId> = uploads.iter().map(|(id, _)| id.clone()).collect();
    let statuses = statuses.into_iter().collect::<Vec<_>>().join(" or ");
    format!("only an upload whose rows landed can be {what}; {statuses}: {}", list(&ids))
}

impl IngestError {
    pub(super) fn io(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    /// What ended the reading of a file: that it did not come, or that it unpacks to more than it may.
    pub(super) fn receiving(source: io::Error) -> Self {
        match source.downcast() {
            Ok(error) => Self::UnpacksTooLarge(error),
            Err(source) => Self::Io { what: "receiving the file", source },
        }
    }

    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::TooLarge { .. } | Self::UnpacksTooLarge(_) => ErrorKind::TooLarge,
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Interrupted(_) | Self::WrongConnection(_) => ErrorKind::Invalid,
            Self::CurrencyChanged | Self::KeyInFlight | Self::WrongStatus { .. } | Self::NotDeleted { .. } => {
                ErrorKind::Conflict
            }
            Self::KeyReused => ErrorKind::Rejected,
            Self::NoUploads(_) | Self::NoConnection => ErrorKind::NotFound,
            Self::Io { source, .. } => lake::io_kind(source),
            Self::Arrow(_) => ErrorKind::Internal,
            Self::Catalog(error) => error.kind(),
            Self::Lake(error) => error.kind(),
            Self::Stopped | Self::Damaged(_) => ErrorKind::Unavailable,
        }
    }
}
