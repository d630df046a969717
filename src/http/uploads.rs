//! `/v1/uploads`: what came in and what became of it. Receiving is in `receive.rs`.

use std::{
    io::{self, Read},
    str::FromStr,
};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use futures::{Stream, stream};
use serde_json::{Value, json};

use super::{AppState, Caller, NoParameters, PageRequest, Parameters, PathName, Problem, next_cursor};
use crate::{
    access::Principal,
    access::Role,
    catalog::{UploadFilter, UploadRecord, UploadStatus},
    ids::{ProjectSlug, UploadId},
    lake,
    payments::{definition, packing::Packing},
};

/// Bytes of a download that are read at a time.
const CHUNK: usize = 256 << 10;

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
        "deleted_at": record.deleted_at,
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
    PathName(id): PathName<UploadId>,
    _: NoParameters,
) -> Result<Json<Value>, Problem> {
    Ok(Json(upload_json(&find(&state, &principal, &id).await?)))
}

/// `GET /v1/uploads/{id}/file`: the original, byte for byte.
pub(super) async fn get_upload_file(
    Caller(principal): Caller,
    State(state): State<AppState>,
    PathName(id): PathName<UploadId>,
    _: NoParameters,
) -> Result<Response, Problem> {
    let upload = find_kept(&state, &principal, &id).await?;
    let packing = Packing::of_file_name(&upload.file_name).unwrap_or_default();
    download(&upload.file_name, packing, move || state.ingest.original(&upload.id).map(Some)).await
}

/// `GET /v1/uploads/{id}/rejected.csv`: the rejected rows with line, column, code and message.
pub(super) async fn get_rejected_rows(
    Caller(principal): Caller,
    State(state): State<AppState>,
    PathName(id): PathName<UploadId>,
    _: NoParameters,
) -> Result<Response, Problem> {
    let upload = find_kept(&state, &principal, &id).await?;
    download("rejected.csv", Packing::Plain, move || state.ingest.rejected_rows(&upload.id)).await
}

/// `GET /v1/templates/ELECTRICITY_PAYMENT.csv`.
pub(super) async fn get_template(_: Caller, _: NoParameters) -> Response {
    let disposition = format!("attachment; filename=\"{}\"", definition::FILE_NAME);
    let headers =
        [(header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    (headers, definition::template()).into_response()
}

/// `GET /v1/dataset-types`: what a file may and must have, from the definition that the decoder reads by.
pub(super) async fn list_dataset_types(_: Caller, _: NoParameters) -> Json<Value> {
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

async fn find(state: &AppState, principal: &Principal, id: &UploadId) -> Result<UploadRecord, Problem> {
    let upload = match principal.role {
        Role::Admin => state.catalog.upload(id).await?,
    };
    upload.ok_or_else(Problem::not_found)
}

/// An upload of which the files are still there.
async fn find_kept(state: &AppState, principal: &Principal, id: &UploadId) -> Result<UploadRecord, Problem> {
    let upload = find(state, principal, id).await?;
    if matches!(upload.status, UploadStatus::Purged | UploadStatus::Failed) {
        Err(Problem::not_found())
    } else {
        Ok(upload)
    }
}

/// Streams a kept file; 404 where it is not there.
async fn download<R: Read + Send + 'static>(
    name: &str,
    packing: Packing,
    open: impl FnOnce() -> io::Result<Option<R>> + Send + 'static,
) -> Result<Response, Problem> {
    let failed = |error: io::Error| Problem::failure(lake::io_kind(&error), "upload", &error);
    let opened = tokio::task::spawn_blocking(open).await.map_err(|_| Problem::unexplained())?;
    let reader = opened.map_err(failed)?.ok_or_else(Problem::not_found)?;
    let body = Body::from_stream(chunks(reader));
    let headers = [
        (header::CONTENT_TYPE, packing.media_type().to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, body).into_response())
}

/// Reads a piece when one is asked for, so that a client who stops reading holds no thread. Ends with an error where
/// reading fails, so that a cut-off download does not look whole.
fn chunks<R: Read + Send + 'static>(reader: R) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(reader, async |mut reader| {
        let read = move || {
            let mut chunk = Vec::with_capacity(CHUNK);
            reader.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
            Ok((!chunk.is_empty()).then(|| (Bytes::from(chunk), reader)))
        };
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_download_that_nobody_reads_holds_no_thread() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let stalled =
                download("x.csv", Packing::Plain, || Ok(Some(io::repeat(b'x').take(16 << 20)))).await.unwrap();
            let work = tokio::task::spawn_blocking(|| 7);
            assert_eq!(tokio::time::timeout(Duration::from_secs(20), work).await.unwrap().unwrap(), 7);
            let whole = axum::body::to_bytes(stalled.into_body(), usize::MAX).await.unwrap();
            assert_eq!(whole.len(), 16 << 20);
        });
    }

    #[tokio::test]
    async fn a_download_that_cannot_be_read_to_its_end_breaks_off() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("torn"))
            }
        }
        let torn = download("x.csv", Packing::Plain, || Ok(Some((&b"half"[..]).chain(Broken)))).await.unwrap();
        assert!(axum::body::to_bytes(torn.into_body(), usize::MAX).await.is_err());
    }
}
