//! The rows of relations beside `payments`: projects, uploads, and connections as metrics read them.

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, StringArray, TimestampMicrosecondArray};
use sha2::{Digest, Sha256};

use super::{period::days_since_epoch, plan::ProjectFacts};
use crate::{
    catalog::{ConnectionFacts, UploadFacts},
    ids::ProjectSlug,
};

/// The columns of [`super::session::Table::Projects`], each project with its zone.
pub(super) fn project_columns<'z>(projects: &[&ProjectFacts], zones: impl Iterator<Item = &'z str>) -> Vec<ArrayRef> {
    let text = |value: fn(&ProjectFacts) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(projects.iter().map(|project| value(project))))
    };
    vec![
        text(|project| project.slug.as_str()),
        text(|project| &project.name),
        text(|project| &project.kind),
        text(|project| &project.currency),
        Arc::new(StringArray::from_iter_values(zones)),
        text(|project| &project.country),
    ]
}

/// The columns of [`super::session::Table::Uploads`].
pub(super) fn upload_columns(uploads: &[&UploadFacts]) -> Vec<ArrayRef> {
    let text = |value: fn(&UploadFacts) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(uploads.iter().map(|upload| value(upload))))
    };
    let committed = uploads.iter().map(|upload| upload.committed_at.timestamp_micros());
    vec![
        text(|upload| upload.id.as_str()),
        text(|upload| upload.project.as_str()),
        text(|upload| &upload.dataset_name),
        Arc::new(TimestampMicrosecondArray::from_iter_values(committed).with_timezone("UTC")),
    ]
}

/// The columns of [`super::session::Table::Connections`].
pub(super) fn connection_columns(connections: &[(&ProjectSlug, &ConnectionFacts)]) -> Vec<ArrayRef> {
    let days = connections.iter().map(|(_, one)| one.connected_on.and_then(days_since_epoch));
    vec![
        Arc::new(StringArray::from_iter_values(connections.iter().map(|(slug, _)| slug.as_str()))),
        Arc::new(StringArray::from_iter_values(connections.iter().map(|(_, one)| one.external_id.as_str()))),
        Arc::new(days.collect::<Date32Array>()),
    ]
}

/// A hash of what metrics read of connections. They are no part of the lake, so its version does not tell them apart.
pub(super) fn connections_hash(connections: &[(&ProjectSlug, &ConnectionFacts)]) -> String {
    let mut hash = Sha256::new();
    for (slug, ConnectionFacts { external_id, connected_on }) in connections {
        // A length before each text, so that no two lists give the same bytes.
        for text in [slug.as_str(), external_id] {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        }
        hash.update(connected_on.and_then(days_since_epoch).unwrap_or(i32::MIN).to_le_bytes());
    }
    hex::encode(hash.finalize())
}
