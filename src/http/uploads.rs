//! `/v1/uploads`: what came in and what became of it. Receiving is in `receive.rs`.

use std::{
    io::{self, Read},
    str::FromStr,
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use futures::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{AppState, Caller, PageRequest, Parameters, Problem, next_cursor};
use crate::{
    access::Principal,
    access::Role,
    catalog::{UploadFilter, UploadRecord, UploadStatus},
    ids::{ProjectSlug, UploadId},
    lake,
    payments::definition,
};

/// Bytes of a download that are read at a time.
const CHUNK: usize = 64 << 10;

/// An upload as the API answers it: its record, and the counts, months and warnings of its report.
pub(super) fn upload_json(record: &UploadRecord) -> Value {
    json!({
        "id": record.id,
        "status": record.status,
        "projects": record.projects,
        "dataset_name": record.dataset_name,
        "dataset_type": record.dataset_type,
        "data_provider": record.data_provider,
        "file_name": record.file_name,
        "on_error": record.on_error,
        "lake_version": record.lake_version,
        "counts": record.report["counts"],
        "months": record.report["months"],
        "warnings": record.report["warnings"],
        "errors": record.report["errors"],
        "rejected_rows": rejected_rows_link(record),
        "sha256": record.sha256,
        "bytes": record.bytes,
        "received_at": record.received_at,
        "committed_at": record.committed_at,
        "key_prefix": record.key_prefix,
    })
}

/// Where an upload's rejected rows are, if it has any.
pub(super) fn rejected_rows_link(record: &UploadRecord) -> Option<String> {
    let has_some = record.report["rejected_rows"].as_bool().unwrap_or(false);
    has_some.then(|| format!("/v1/uploads/{}/rejected.csv", record.id))
}

/// `GET /v1/uploads?project&status&dataset_name&from&to&limit&cursor`: the newest first, without their row errors.
pub(super) async fn list_uploads(
    Caller(principal): Caller,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<Value>, Problem> {
    let page = PageRequest::<UploadId>::take(&mut parameters)?;
    let filter = UploadFilter {
        project: parameters.take_as::<ProjectSlug>("project")?,
        status: parameters.take_as::<UploadStatus>("status")?,
        dataset_name: parameters.take("dataset_name")?,
        from: parameters.take_as::<Instant>("from")?.map(|from| from.0),
        to: parameters.take_as::<Instant>("to")?.map(|to| to.0),
    };
    parameters.finish()?;
    if let Some(project) = &filter.project {
        state.catalog.project(project).await?.ok_or_else(Problem::no_project)?;
    }
    let page = match principal.role {
        Role::Admin => state.catalog.uploads(&filter, page.after.as_ref(), page.limit).await?,
    };
    let next = next_cursor(&page, |upload| upload.id.clone());
    let uploads: Vec<Value> = page
        .items
        .iter()
        .map(|record| {
            let mut upload = upload_json(record);
            upload.as_object_mut().map(|fields| fields.shift_remove("errors"));
            upload
        })
        .collect();
    Ok(Json(json!({ "uploads": uploads, "next_cursor": next })))
}

/// A value of `from` and `to`, which name when uploads were received.
struct Instant(DateTime<Utc>);

impl FromStr for Instant {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| {
            "an instant with its offset is what it takes, such as 2024-05-01T00:00:00Z (in a URL the + of an offset is %2B)"
        })
    }
}

/// `GET /v1/uploads/{id}`: with its first row errors.
pub(super) async fn get_upload(
    Caller(principal): Caller,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(upload_json(&find(&state, &principal, &id).await?)))
}

/// `GET /v1/uploads/{id}/file`: the original, byte for byte.
pub(super) async fn get_upload_file(
    Caller(principal): Caller,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let upload = find(&state, &principal, &id).await?;
    download(&upload.file_name, move || state.ingest.original(&upload.id).map(Some)).await
}

/// `GET /v1/uploads/{id}/rejected.csv`: the rejected rows with line, column, code and message.
pub(super) async fn get_rejected_rows(
    Caller(principal): Caller,
    State(state): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let upload = find(&state, &principal, &id).await?;
    download("rejected.csv", move || state.ingest.rejected_rows(&upload.id)).await
}

/// `GET /v1/templates/ELECTRICITY_PAYMENT.csv`.
pub(super) async fn get_template(_: Caller) -> Response {
    let disposition = format!("attachment; filename=\"{}\"", definition::FILE_NAME);
    let headers =
        [(header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    (headers, definition::template()).into_response()
}

/// `GET /v1/dataset-types`: what a file may and must have, from the definition that the decoder reads by.
pub(super) async fn list_dataset_types(_: Caller) -> Json<Value> {
    let columns: Vec<Value> = definition::COLUMNS
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "required": column.required,
                "format": column.format,
                "format_description": column.format.describe(),
                "meaning": column.meaning,
                "lake_column": column.lake_column,
            })
        })
        .collect();
    Json(json!({ "dataset_types": [{
        "name": definition::DATASET_TYPE,
        "title": "Electricity payments",
        "file_name": definition::FILE_NAME,
        "template": format!("/v1/templates/{}", definition::FILE_NAME),
        "columns": columns,
    }] }))
}

async fn find(state: &AppState, principal: &Principal, id: &str) -> Result<UploadRecord, Problem> {
    let id: UploadId = id.parse().map_err(|_| Problem::not_found())?;
    let upload = match principal.role {
        Role::Admin => state.catalog.upload(&id).await?,
    };
    upload.ok_or_else(Problem::not_found)
}

/// Streams a kept CSV file; 404 where it is not there.
async fn download<R: Read + Send + 'static>(
    name: &str,
    open: impl FnOnce() -> io::Result<Option<R>> + Send + 'static,
) -> Result<Response, Problem> {
    let failed = |error: io::Error| Problem::failure(lake::io_kind(&error), "upload", &error);
    let opened = tokio::task::spawn_blocking(open).await.map_err(|_| Problem::unexplained())?;
    let reader = opened.map_err(failed)?.ok_or_else(Problem::not_found)?;
    let (chunks, mut queue) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || send_chunks(reader, &chunks));
    let body = Body::from_stream(stream::poll_fn(move |context| queue.poll_recv(context)));
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, body).into_response())
}

/// Ends with an error chunk where reading fails, so that a cut-off download does not look whole.
fn send_chunks(mut reader: impl Read, chunks: &mpsc::Sender<io::Result<Bytes>>) {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = reader.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
        let end = !matches!(read, Ok(1..));
        let sent = match read {
            Ok(0) => Ok(()),
            Ok(_) => chunks.blocking_send(Ok(chunk.into())),
            Err(error) => chunks.blocking_send(Err(error)),
        };
        if end || sent.is_err() {
            return;
        }
    }
}
