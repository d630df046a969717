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

use super::{
    AppState, Caller, NoParameters, PageRequest, Parameters, PathName, Problem, UploadReader,
    answers::{Upload, UploadList},
    dataset_answers::{DatasetType, DatasetTypeList},
    found::UploadViewer,
    next_cursor,
    problem_types::Refused,
};
use crate::{
    audit::note,
    catalog::{UploadFilter, UploadRecord, UploadStatus},
    connections::CONNECTIONS,
    ids::{ProjectSlug, UploadId},
    lake,
    payments::{definition::PAYMENTS, file_definition::FileDefinition, packing::Packing},
};

/// Bytes of a download that are read at a time.
const CHUNK: usize = 256 << 10;

/// An upload as the API answers it: its record, and the counts, months and warnings of its report.
pub(super) fn upload_json(record: &UploadRecord) -> Value {
    json!(Upload::of(record, rejected_rows_link(record)))
}

/// An upload in a list: without its row errors.
pub(super) fn listed_json(record: &UploadRecord) -> Value {
    let mut upload = upload_json(record);
    upload.as_object_mut().map(|fields| fields.shift_remove("errors"));
    upload
}

/// Where an upload's rejected rows are, if it has any.
pub(super) fn rejected_rows_link(record: &UploadRecord) -> Option<String> {
    let has_some = record.report["rejected_rows"].as_bool().unwrap_or(false);
    has_some.then(|| format!("/v1/uploads/{}/rejected.csv", record.id))
}

/// List uploads
///
/// The newest first, without their row errors: those that the key may see.
#[utoipa::path(
    get, path = "/v1/uploads", tag = "uploads",
    params(
        ("project" = Option<ProjectSlug>, Query, description = "Those to this project."),
        ("status" = Option<UploadStatus>, Query, description = "Those that are so far."),
        ("dataset_name" = Option<String>, Query, description = "Those of exactly this name."),
        ("from" = Option<String>, Query, format = DateTime, description = "Those received at or after this instant."),
        ("to" = Option<String>, Query, format = DateTime, description = "Those received before this instant."),
        PageRequest<UploadId>
    ),
    responses(
        (status = 200, description = "A page of them.", body = UploadList),
        Refused<(UploadReader, Parameters, PathName<ProjectSlug>)>
    )
)]
pub(super) async fn list_uploads(
    reader: UploadReader,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<UploadList>, Problem> {
    let page = PageRequest::<UploadId>::take(&mut parameters)?;
    let filter = UploadFilter {
        project: parameters.take_as::<ProjectSlug>("project")?,
        status: parameters.take_as::<UploadStatus>("status")?,
        dataset_name: parameters.take("dataset_name")?,
        from: parameters.take_as::<Instant>("from")?.map(|from| from.0),
        to: parameters.take_as::<Instant>("to")?.map(|to| to.0),
    };
    parameters.finish()?;
    let scope = reader.scope(&state.catalog, filter.project.as_slice()).await?;
    // Of a project that is only shared with the caller there are figures, and no uploads to know of.
    if filter.project.as_ref().is_some_and(|project| !scope.owns(project)) {
        return Err(Problem::no_project());
    }
    note(|learned| learned.projects.extend(filter.project.clone()));
    let page = state.catalog.uploads(&scope, &filter, page.after.as_ref(), page.limit).await?;
    let next = next_cursor(&page, |upload| upload.id.clone());
    let uploads = page.items.iter().map(listed_json).collect();
    Ok(Json(UploadList { uploads, next_cursor: next }))
}

/// A value of `from` and `to`, which name when something was.
pub(super) struct Instant(pub(super) DateTime<Utc>);

impl FromStr for Instant {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| {
            "an instant with its offset is what it takes, such as 2024-05-01T00:00:00Z (in a URL the + of an offset is %2B)"
        })
    }
}

/// Get an upload
///
/// With its first 100 row errors.
#[utoipa::path(
    get, path = "/v1/uploads/{id}", tag = "uploads",
    params(("id" = UploadId, Path)),
    responses(
        (status = 200, description = "The upload.", body = Upload),
        Refused<(UploadViewer, NoParameters)>
    )
)]
pub(super) async fn get_upload(found: UploadViewer, _: NoParameters) -> Json<Value> {
    Json(upload_json(&found.upload))
}

/// Get the file of an upload
///
/// The original, byte for byte. 404 once it is erased.
#[utoipa::path(
    get, path = "/v1/uploads/{id}/file", tag = "uploads",
    params(("id" = UploadId, Path)),
    responses(
        (status = 200, description = "The file, packed as it came.",
            content((String = "text/csv"), ("application/gzip"), ("application/zstd")),
            headers(("Content-Disposition" = String, description = "With the name of the file."))),
        Refused<(UploadViewer, NoParameters)>
    )
)]
pub(super) async fn get_upload_file(
    found: UploadViewer,
    State(state): State<AppState>,
    _: NoParameters,
) -> Result<Response, Problem> {
    let upload = kept(found)?;
    let packing = Packing::of_file_name(&upload.file_name).unwrap_or_default();
    download(&upload.file_name, packing, move || state.ingest.original(&upload.id).map(Some)).await
}

/// Get the rejected rows of an upload
///
/// With the columns line, column, code and message behind their own. 404 where there are none.
#[utoipa::path(
    get, path = "/v1/uploads/{id}/rejected.csv", tag = "uploads",
    params(("id" = UploadId, Path)),
    responses(
        (status = 200, description = "The rows.", body = String, content_type = "text/csv",
            headers(("Content-Disposition" = String, description = "With the name of the file."))),
        Refused<(UploadViewer, NoParameters)>
    )
)]
pub(super) async fn get_rejected_rows(
    found: UploadViewer,
    State(state): State<AppState>,
    _: NoParameters,
) -> Result<Response, Problem> {
    let upload = kept(found)?;
    download("rejected.csv", Packing::Plain, move || state.ingest.rejected_rows(&upload.id)).await
}

/// Get a template of a file of payments
#[utoipa::path(
    get, path = "/v1/templates/ELECTRICITY_PAYMENT.csv", tag = "reference",
    responses(
        (status = 200, description = "The header, and two rows as examples.", body = String, content_type = "text/csv",
            headers(("Content-Disposition" = String, description = "With the name of the file."))),
        Refused<(Caller, NoParameters)>
    )
)]
pub(super) async fn get_template(_: Caller, _: NoParameters) -> Response {
    template(&PAYMENTS)
}

/// The template of a kind of file.
pub(super) fn template(of: &FileDefinition) -> Response {
    let disposition = format!("attachment; filename=\"{}\"", of.file_name);
    let headers =
        [(header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    (headers, of.template()).into_response()
}

/// List the kinds of files
///
/// What a file may and must have, from the definition that the decoder reads by.
#[utoipa::path(
    get, path = "/v1/dataset-types", tag = "reference",
    responses((status = 200, description = "All of them.", body = DatasetTypeList), Refused<(Caller, NoParameters)>)
)]
pub(super) async fn list_dataset_types(_: Caller, _: NoParameters) -> Json<DatasetTypeList> {
    Json(DatasetTypeList { dataset_types: [&PAYMENTS, &CONNECTIONS].map(DatasetType::of) })
}

/// An upload of which the files are still there.
fn kept(found: UploadViewer) -> Result<UploadRecord, Problem> {
    let upload = found.upload;
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
