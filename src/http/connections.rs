//! `/v1/projects/{slug}/connections`: whom a project supplies. Personal data: read by who may read rows, and never shared.

use std::io;

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use chrono::NaiveDate;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use serde::Deserialize;
use serde_json::json;

use super::{
    AppState, Caller, JsonObject, NoParameters, PageRequest, Parameters, Problem,
    connection_answers::{ConnectionAnswer, ConnectionList, ConnectionsReport},
    declared::Declared,
    extract::{Flag, Members},
    fields::wrong_fields,
    found::{ConnectionManager, ConnectionViewer, ConnectionsImporter, ConnectionsReader},
    invalid_parameter, next_cursor,
    problem_types::{Raises, Refused},
    recording::given,
    requests::{ConnectionFilterParameters, ConnectionsBody, ImportParameters},
    rights::Rights,
    uploads::template,
};
use crate::{
    audit::note,
    catalog::{Catalog, CatalogError, ConnectionFilter, ConnectionRecord, FieldError, OnError},
    connections::{CATEGORIES, CONNECTIONS, ConnectionChange, Decoded, Field, decode_csv, decode_items},
    error::ErrorKind,
    ids::ProjectSlug,
    ingest::{ConnectionImport, ConnectionReport, IngestError, last_day},
    payments::decoder::Limits,
};

/// What receiving connections can come to.
struct Reception;

impl Raises for Reception {
    fn codes() -> Vec<&'static str> {
        let body =
            ["body_broken", "body_timeout", "body_too_large", "unsupported_type", "invalid_json", "repeated_key"];
        [&body[..], &["connections_rejected", "limit_reached", "too_many_uploads", "data_damaged", "storage_full"]]
            .concat()
    }
}

/// What changing one can come to.
struct Change;

impl Raises for Change {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_connection", "data_damaged", "storage_full"]
    }
}

/// What taking one away can come to.
struct Removal;

impl Raises for Removal {
    fn codes() -> Vec<&'static str> {
        vec!["data_damaged", "storage_full"]
    }
}

/// Send connections
///
/// As a CSV file with the header of `/v1/templates/CONNECTIONS.csv`, or as JSON. The same connection again changes nothing; one
/// with the same id and other fields takes the place of the earlier one. The site and the category of payments follow. A file
/// that was taken once can be sent again, also where its answer did not come.
#[utoipa::path(
    post, path = "/v1/projects/{slug}/connections", tag = "connections",
    params(("slug" = ProjectSlug, Path), ImportParameters),
    request_body(content((String = "text/csv"), (ConnectionsBody = "application/json"))),
    responses(
        (status = 200, description = "What became of them; with `dry_run`, what would.", body = ConnectionsReport),
        Refused<(ConnectionsImporter, Parameters, Reception)>
    )
)]
pub(super) async fn import_connections(
    found: ConnectionsImporter,
    State(state): State<AppState>,
    mut parameters: Parameters,
    request: Request,
) -> Result<Json<ConnectionsReport>, Problem> {
    let on_error = parameters.take_as::<OnError>("on_error")?.unwrap_or_default();
    let dry_run = parameters.take_as::<Flag>("dry_run")?.is_some_and(|flag| flag.0);
    parameters.finish()?;
    let form = BodyForm::of(request.headers())?;
    let place = state.ingest.place()?;
    let limits = &state.config.connections;
    let (most, setting) = match form {
        BodyForm::Csv => (limits.max_bytes, "connections.max_bytes"),
        BodyForm::Json => (limits.max_json_bytes, "connections.max_json_bytes"),
    };
    let too_large = || {
        let detail = format!("the body has more than {most} bytes ({setting}); send it in parts");
        Problem::new(ErrorKind::TooLarge, "body_too_large", detail)
    };
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > most) {
        return Err(too_large());
    }
    let body = request.into_body().into_data_stream().map_err(io::Error::other);
    let rights = Rights::of(&state.catalog, &found.principal);
    let body = std::pin::pin!(rights.body(body));
    let bytes = read_whole(body, most).await?.ok_or_else(too_large)?;
    let (rows, upload) = (limits.max_rows, &state.config.upload);
    let limits = Limits { row_bytes: upload.max_row_bytes, field_bytes: upload.max_field_bytes, rows };
    let decode = move || match form {
        BodyForm::Csv => {
            decode_csv(&bytes[..], limits, last_day()).map_err(|error| IngestError::Interrupted(error).into())
        }
        BodyForm::Json => decode_json(&bytes, rows),
    };
    let decoded = tokio::task::spawn_blocking(decode).await.map_err(|_| Problem::unexplained())??;
    let import = ConnectionImport { project: found.project, decoded, on_error, dry_run };
    let report = state.ingest.import_connections(import).await?;
    drop(place);
    note(|learned| {
        learned.rows = Some(report.counts.accepted);
        learned.lake_version = report.lake_version;
        learned.parameters = Some(json!({ "on_error": on_error, "dry_run": dry_run, "counts": report.counts }));
    });
    answer(report, dry_run).map(Json)
}

/// How connections come.
#[derive(Clone, Copy)]
enum BodyForm {
    Csv,
    Json,
}

impl BodyForm {
    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/json") && !headers.contains_key(header::CONTENT_ENCODING) {
            return Ok(Self::Json);
        }
        if let Ok(Declared::Plain { coding: None, media: None }) = Declared::of(headers) {
            return Ok(Self::Csv);
        }
        let detail = "connections are sent as text/csv in UTF-8, or as application/json, and not packed";
        Err(Problem::new(ErrorKind::UnsupportedType, "unsupported_type", detail))
    }
}

/// The bytes of a body; none where it has more than `most`.
async fn read_whole(
    mut body: impl Stream<Item = io::Result<Bytes>> + Unpin,
    most: usize,
) -> Result<Option<Bytes>, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(IngestError::Interrupted)?;
        if bytes.len() + chunk.len() > most {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes.freeze()))
}

fn decode_json(bytes: &[u8], max_rows: u64) -> Result<Decoded, Problem> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sent {
        connections: Vec<Members>,
    }
    let sent: Sent = serde_json::from_slice(bytes).map_err(|error| {
        let detail = format!("the body is not JSON of the form {{\"connections\": [{{…}}]}}: {error}");
        Problem::new(ErrorKind::Invalid, "invalid_json", detail)
            .with("line", error.line())
            .with("column", error.column())
    })?;
    let items = sent.connections.into_iter().map(Members::into_object).collect::<Result<Vec<_>, _>>()?;
    Ok(decode_items(items, max_rows, last_day()))
}

fn answer(report: ConnectionReport, dry_run: bool) -> Result<ConnectionsReport, Problem> {
    let ConnectionReport { counts, warnings, errors, refused, lake_version } = report;
    if !refused {
        return Ok(ConnectionsReport { dry_run, lake_version, counts, warnings, errors });
    }
    let first = errors.first().map(|first| format!("; line {}: {}", first.line, first.message)).unwrap_or_default();
    let (bad, read) = (counts.rejected, counts.read);
    let detail = format!("{bad} of {read} connections are rejected, so nothing was taken{first}");
    Err(Problem::new(ErrorKind::Rejected, "connections_rejected", detail)
        .with("counts", json!(counts))
        .with("errors", json!(errors))
        .with("warnings", json!(warnings)))
}

/// List the connections of a project
///
/// By id; as JSON in pages, or with `format=csv` all that match, as a file that can be sent again.
#[utoipa::path(
    get, path = "/v1/projects/{slug}/connections", tag = "connections",
    params(
        ("slug" = ProjectSlug, Path),
        ConnectionFilterParameters,
        PageRequest<String>
    ),
    responses(
        (status = 200, description = "A page of them, or all as a file.",
            content((ConnectionList = "application/json"), (String = "text/csv"))),
        Refused<(ConnectionsReader, Parameters)>
    )
)]
pub(super) async fn list_connections(
    found: ConnectionsReader,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    note(|learned| learned.parameters = given(parameters.rest(), &["cursor"]));
    let filter = read_filter(&mut parameters)?;
    let as_csv = match parameters.take("format")?.as_deref() {
        None | Some("json") => false,
        Some("csv") => true,
        Some(_) => {
            return Err(invalid_parameter("format", "format is json or csv").with("allowed", vec!["json", "csv"]));
        }
    };
    if as_csv {
        // All of them: there are no pages to ask for.
        parameters.finish()?;
        return Ok(csv(state.catalog, found.project.slug, filter));
    }
    let page = PageRequest::<String>::take(&mut parameters)?;
    parameters.finish()?;
    let page = state.catalog.connections_page(&found.project.slug, &filter, page.after.as_deref(), page.limit).await?;
    note(|learned| learned.rows = Some(page.items.len() as u64));
    let next = next_cursor(&page, |record| record.connection.external_id().to_owned());
    let connections = page.items.into_iter().map(ConnectionAnswer::from).collect();
    Ok(Json(ConnectionList { connections, next_cursor: next }).into_response())
}

fn read_filter(parameters: &mut Parameters) -> Result<ConnectionFilter, Problem> {
    let category = parameters.take("category")?;
    if let Some(wrong) = category.as_ref().filter(|word| !CATEGORIES.contains(&word.as_str())) {
        let shown: String = wrong.chars().take(100).collect();
        let detail = format!("{shown:?} is no category; they are {}", CATEGORIES.join(", "));
        return Err(invalid_parameter("category", detail).with("allowed", CATEGORIES.to_vec()));
    }
    let day = |parameters: &mut Parameters, name: &'static str| {
        let text = parameters.take(name)?;
        let read = |text: String| text.parse::<NaiveDate>().map_err(|_| invalid_parameter(name, "a day is YYYY-MM-DD"));
        text.map(read).transpose()
    };
    Ok(ConnectionFilter {
        site: parameters.take("site")?,
        category,
        milestone: parameters.take("milestone")?,
        from: day(parameters, "connected_from")?,
        to: day(parameters, "connected_to")?,
    })
}

/// All that match, piece by piece, under the header of the template.
fn csv(catalog: Catalog, project: ProjectSlug, filter: ConnectionFilter) -> Response {
    let header = csv_line(CONNECTIONS.columns.iter().map(|column| Some(column.name)));
    let rest = stream::try_unfold(Some(String::new()), move |after| {
        let (catalog, project, filter) = (catalog.clone(), project.clone(), filter.clone());
        async move {
            let Some(after) = after else { return Ok::<_, CatalogError>(None) };
            let page = catalog.connections_piece(&project, &filter, Some(&after)).await?;
            let last = page.items.last().map(|record| record.connection.external_id().to_owned());
            let lines = page.items.iter().flat_map(csv_of).collect::<Vec<u8>>();
            Ok(last.map(|last| (Bytes::from(lines), page.more.then_some(last))))
        }
    });
    let body = stream::once(async move { Ok(Bytes::from(header)) }).chain(rest);
    let disposition = format!("attachment; filename=\"{}\"", CONNECTIONS.file_name);
    let headers =
        [(header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    (headers, Body::from_stream(body)).into_response()
}

fn csv_of(record: &ConnectionRecord) -> Vec<u8> {
    csv_line(Field::ALL.into_iter().map(|field| record.connection.get(field)))
}

/// A line of CSV (RFC 4180).
fn csv_line<'a>(values: impl Iterator<Item = Option<&'a str>>) -> Vec<u8> {
    let mut line = Vec::with_capacity(256);
    for (at, value) in values.enumerate() {
        if at > 0 {
            line.push(b',');
        }
        let value = value.unwrap_or_default();
        if value.contains(['"', ',', '\n', '\r']) {
            line.push(b'"');
            line.extend_from_slice(value.replace('"', "\"\"").as_bytes());
            line.push(b'"');
        } else {
            line.extend_from_slice(value.as_bytes());
        }
    }
    line.push(b'\n');
    line
}

/// Get a connection
#[utoipa::path(
    get, path = "/v1/projects/{slug}/connections/{external_id}", tag = "connections",
    params(("slug" = ProjectSlug, Path), ("external_id" = String, Path)),
    responses(
        (status = 200, description = "The connection.", body = ConnectionAnswer),
        Refused<(ConnectionViewer, NoParameters)>
    )
)]
pub(super) async fn get_connection(found: ConnectionViewer, _: NoParameters) -> Json<ConnectionAnswer> {
    Json(found.record.into())
}

/// Change a connection
///
/// The fields that are there change, the others stay, and a null takes a value away. The id never changes. Payments follow.
#[utoipa::path(
    patch, path = "/v1/projects/{slug}/connections/{external_id}", tag = "connections",
    params(("slug" = ProjectSlug, Path), ("external_id" = String, Path)),
    request_body = ConnectionChange,
    responses(
        (status = 200, description = "The connection as it is now.", body = ConnectionAnswer),
        Refused<(ConnectionManager, NoParameters, JsonObject, Change)>
    )
)]
pub(super) async fn update_connection(
    found: ConnectionManager,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<Json<ConnectionAnswer>, Problem> {
    let id = found.record.connection.external_id().to_owned();
    match state.ingest.update_connection(found.project, id, body).await {
        Err(IngestError::WrongConnection(faults)) => {
            let faults = faults.into_iter().map(|fault| FieldError { field: fault.field, message: fault.message });
            Err(wrong_fields("invalid_connection", faults.collect()))
        }
        other => Ok(Json(other?.into())),
    }
}

/// Delete a connection
///
/// Its payments stay, and are counted to the site that they name themselves.
#[utoipa::path(
    delete, path = "/v1/projects/{slug}/connections/{external_id}", tag = "connections",
    params(("slug" = ProjectSlug, Path), ("external_id" = String, Path)),
    responses(
        (status = 200, description = "The connection as it was.", body = ConnectionAnswer),
        Refused<(ConnectionManager, NoParameters, Removal)>
    )
)]
pub(super) async fn delete_connection(
    found: ConnectionManager,
    State(state): State<AppState>,
    _: NoParameters,
) -> Result<Json<ConnectionAnswer>, Problem> {
    let id = found.record.connection.external_id().to_owned();
    Ok(Json(state.ingest.delete_connection(found.project, id).await?.into()))
}

/// Get a template of a file of connections
#[utoipa::path(
    get, path = "/v1/templates/CONNECTIONS.csv", tag = "reference",
    responses(
        (status = 200, description = "The header, and two rows as examples.", body = String, content_type = "text/csv",
            headers(("Content-Disposition" = String, description = "With the name of the file."))),
        Refused<(Caller, NoParameters)>
    )
)]
pub(super) async fn get_connections_template(_: Caller, _: NoParameters) -> Response {
    template(&CONNECTIONS)
}
