//! Deleting uploads and bringing them back.

use axum::{Json, extract::State};
use serde_json::{Map, Value, json};

use super::{Admin, AppState, JsonObject, NoParameters, PathName, Problem, uploads::upload_json};
use crate::{
    error::ErrorKind,
    ids::UploadId,
    ingest::{IngestError, Purged},
};

/// Uploads that one request deletes at most.
const MAX_UPLOADS: usize = 1000;
/// Ids that a problem names at most, and characters of each.
const MAX_NAMED: usize = 100;

/// `DELETE /v1/uploads/{id}`: its rows leave the lake, and what it had corrected comes back. It can be restored.
pub(super) async fn delete_upload(
    _: Admin,
    State(state): State<AppState>,
    PathName(id): PathName<UploadId>,
    _: NoParameters,
) -> Result<Json<Value>, Problem> {
    let deleted = state.ingest.delete(&[id]).await.map_err(of_one)?;
    Ok(Json(deleted.uploads.first().map_or(Value::Null, upload_json)))
}

/// `POST /v1/uploads/{id}/restore`: a deleted upload comes back, at its old place in the order of uploads.
pub(super) async fn restore_upload(
    _: Admin,
    State(state): State<AppState>,
    PathName(id): PathName<UploadId>,
    _: NoParameters,
) -> Result<Json<Value>, Problem> {
    let restored = state.ingest.restore(&id).await.map_err(of_one)?;
    Ok(Json(restored.uploads.first().map_or(Value::Null, upload_json)))
}

/// `POST /v1/uploads/delete` with `{"uploads": [ids]}`: all of them in one commit, or none.
pub(super) async fn delete_uploads(
    _: Admin,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<Json<Value>, Problem> {
    let deleted = state.ingest.delete(&read_ids(body)?).await?;
    let uploads: Vec<Value> = deleted
        .uploads
        .iter()
        .map(|record| {
            let mut upload = upload_json(record);
            upload.as_object_mut().map(|fields| fields.shift_remove("errors"));
            upload
        })
        .collect();
    Ok(Json(json!({ "lake_version": deleted.lake_version, "uploads": uploads })))
}

/// `POST /v1/uploads/{id}/purge`: erases an upload that is out of the lake, for good.
pub(super) async fn purge_upload(
    _: Admin,
    State(state): State<AppState>,
    PathName(id): PathName<UploadId>,
    _: NoParameters,
) -> Result<Json<Value>, Problem> {
    let Purged { upload, lake_files, set_aside } = state.ingest.purge(&id).await.map_err(of_one)?;
    Ok(Json(json!({ "upload": upload_json(&upload), "lake_files_removed": lake_files, "files_set_aside": set_aside })))
}

/// The ids of a body. What is no id is no upload either, and is named with those.
fn read_ids(mut body: Map<String, Value>) -> Result<Vec<UploadId>, Problem> {
    let invalid = |detail: String| Problem::new(ErrorKind::Invalid, "invalid_body", detail);
    let Some(Value::Array(values)) = body.shift_remove("uploads") else {
        return Err(invalid("uploads is missing: a list of upload ids, such as {\"uploads\": [\"upl_…\"]}".to_owned()));
    };
    if let Some((field, _)) = body.into_iter().next() {
        let field: String = field.chars().take(MAX_NAMED).collect();
        return Err(invalid(format!("there is no field {field:?} here; uploads is all there is")));
    }
    if values.is_empty() || values.len() > MAX_UPLOADS {
        return Err(invalid(format!("uploads has {} ids; 1 to {MAX_UPLOADS} is what it takes", values.len())));
    }
    let (mut ids, mut unknown) = (Vec::new(), Vec::new());
    for value in values {
        let Value::String(text) = value else { return Err(invalid("uploads holds texts, in quotes".to_owned())) };
        match text.parse() {
            Ok(id) => ids.push(id),
            Err(_) => unknown.push(text),
        }
    }
    if unknown.is_empty() { Ok(ids) } else { Err(no_uploads(unknown)) }
}

/// A path that names no upload answers what every such path does.
fn of_one(error: IngestError) -> Problem {
    match error {
        IngestError::NoUploads(_) => Problem::not_found(),
        other => other.into(),
    }
}

/// Some of the uploads that a body names are not there; nothing was done with the others.
pub(super) fn no_uploads(mut ids: Vec<String>) -> Problem {
    let count = ids.len();
    ids.truncate(MAX_NAMED);
    let ids: Vec<String> = ids.into_iter().map(|id| id.chars().take(MAX_NAMED).collect()).collect();
    let detail = format!("{count} of the uploads are not there, and so none was deleted: {}", ids.join(", "));
    Problem::new(ErrorKind::NotFound, "not_found", detail).with("uploads", ids)
}
