//! Deleting uploads and bringing them back.

use std::slice;

use axum::{Json, extract::State};
use serde_json::{Map, Value, json};
use utoipa::IntoParams;

use super::{
    AppState, JsonObject, NoParameters, OrganisationManager, Parameters, Problem,
    answers::{DeletedUploads, PurgedUpload, Upload},
    extract::Flag,
    found::{UploadEraser, UploadManager},
    problem_types::{Raises, Refused},
    requests::UploadIds,
    uploads::{listed_json, upload_json},
};
use crate::{
    audit::note,
    catalog::UploadRecord,
    error::ErrorKind,
    ids::UploadId,
    ingest::{IngestError, Purged},
};

/// Uploads that one request deletes at most.
pub(super) const MAX_UPLOADS: usize = 1000;
/// Verifications that a problem names at most.
const MAX_RUNS: u32 = 10;
/// Ids that a problem names at most, and characters of each.
const MAX_NAMED: usize = 100;

/// What changing the lake's uploads can come to.
struct Withdrawal;

impl Raises for Withdrawal {
    fn codes() -> Vec<&'static str> {
        vec!["upload_status", "storage_full"]
    }
}

/// Delete an upload
///
/// Its rows leave the lake, and what it had corrected comes back. It can be restored. One that is deleted already stays so.
#[utoipa::path(
    delete, path = "/v1/uploads/{id}", tag = "uploads",
    params(("id" = UploadId, Path)),
    responses(
        (status = 200, description = "The upload as it is now.", body = Upload),
        Refused<(UploadManager, NoParameters, Withdrawal)>
    )
)]
pub(super) async fn delete_upload(
    found: UploadManager,
    State(state): State<AppState>,
    _: NoParameters,
) -> Result<Json<Value>, Problem> {
    let UploadManager { upload, scope } = found;
    let deleted = state.ingest.delete(&scope, &[upload.id]).await.map_err(of_one)?;
    note_uploads(&deleted.uploads, Some(deleted.lake_version));
    Ok(Json(deleted.uploads.first().map_or(Value::Null, upload_json)))
}

/// Restore a deleted upload
///
/// It comes back at its old place in the order of uploads: what later ones had corrected stays corrected.
#[utoipa::path(
    post, path = "/v1/uploads/{id}/restore", tag = "uploads",
    params(("id" = UploadId, Path)),
    responses(
        (status = 200, description = "The upload as it is now.", body = Upload),
        Refused<(UploadManager, NoParameters, Withdrawal)>
    )
)]
pub(super) async fn restore_upload(
    found: UploadManager,
    State(state): State<AppState>,
    _: NoParameters,
) -> Result<Json<Value>, Problem> {
    let UploadManager { upload, scope } = found;
    let restored = state.ingest.restore(&scope, &upload.id).await.map_err(of_one)?;
    note_uploads(&restored.uploads, Some(restored.lake_version));
    Ok(Json(restored.uploads.first().map_or(Value::Null, upload_json)))
}

/// What a list of uploads can come to.
struct IdList;

impl Raises for IdList {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_body", "not_found"]
    }
}

/// Delete several uploads
///
/// All of them in one commit, or none.
#[utoipa::path(
    post, path = "/v1/uploads/delete", tag = "uploads",
    request_body = UploadIds,
    responses(
        (status = 200, description = "The uploads as they are now, without their row errors.", body = DeletedUploads),
        Refused<(OrganisationManager, NoParameters, JsonObject, IdList, Withdrawal)>
    )
)]
pub(super) async fn delete_uploads(
    manager: OrganisationManager,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<Json<DeletedUploads>, Problem> {
    let ids = read_ids(body)?;
    note(|learned| learned.parameters = Some(json!({ "uploads": ids })));
    let scope = manager.scope(&state.catalog, &[]).await?;
    let deleted = state.ingest.delete(&scope, &ids).await?;
    note_uploads(&deleted.uploads, Some(deleted.lake_version));
    let uploads = deleted.uploads.iter().map(listed_json).collect();
    Ok(Json(DeletedUploads { lake_version: deleted.lake_version, uploads }))
}

/// Erase an upload for good
///
/// One that is out of the lake: its file, and all that came of it. Its record stays, without any value of the file. Where verdicts of
/// verifications rest on it, that is said first, and nothing is erased before it is asked for with `with_evidence`.
#[utoipa::path(
    post, path = "/v1/uploads/{id}/purge", tag = "uploads",
    params(("id" = UploadId, Path), PurgeParameters),
    responses(
        (status = 200, description = "What was erased.", body = PurgedUpload),
        Refused<(UploadEraser, Parameters, (Withdrawal, EvidenceLost))>
    )
)]
pub(super) async fn purge_upload(
    found: UploadEraser,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<PurgedUpload>, Problem> {
    let with_evidence = parameters.take_as::<Flag>("with_evidence")?.is_some_and(|flag| flag.0);
    parameters.finish()?;
    let UploadEraser { upload, scope } = found;
    if !with_evidence {
        refuse_evidence(&state, &upload).await?;
    }
    // What is deleted is in no version that a query begins with, so that nothing of it comes back.
    state.engine.forget();
    let Purged { upload, lake_files, set_aside } = state.ingest.purge(&scope, &upload.id).await.map_err(of_one)?;
    note_uploads(slice::from_ref(&upload), None);
    let upload = upload_json(&upload);
    Ok(Json(PurgedUpload { upload, lake_files_removed: lake_files, files_set_aside: set_aside }))
}

/// What is erased.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "a description")]
struct PurgeParameters {
    /// Whether it is erased even where verdicts of verifications rest on it, which can then no longer be shown to be right.
    #[param(default = false)]
    with_evidence: Option<bool>,
}

/// That verdicts would lose what they rest on.
struct EvidenceLost;

impl Raises for EvidenceLost {
    fn codes() -> Vec<&'static str> {
        vec!["evidence_of_verdicts"]
    }
}

/// # Errors
/// Verdicts that count rest on the upload.
async fn refuse_evidence(state: &AppState, upload: &UploadRecord) -> Result<(), Problem> {
    let runs = state.catalog.runs_resting_on(&upload.id, MAX_RUNS).await?;
    if runs.is_empty() {
        return Ok(());
    }
    let runs: Vec<String> = runs.iter().map(ToString::to_string).collect();
    let detail = format!(
        "verdicts rest on it, and could no longer be shown to be right: of {}; with with_evidence=true it is erased even so",
        runs.join(", ")
    );
    Err(Problem::new(ErrorKind::Conflict, "evidence_of_verdicts", detail).with("runs", runs))
}

/// Notes the projects of uploads, and the version with which they are as they are now.
fn note_uploads(uploads: &[UploadRecord], lake_version: Option<u64>) {
    note(|learned| {
        learned.projects = uploads.iter().flat_map(|upload| upload.projects.iter().cloned()).collect();
        learned.lake_version = lake_version;
    });
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
