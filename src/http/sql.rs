//! `/v1/sql`: SQL that a person wrote, over what its key may see.

use std::collections::BTreeMap;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use utoipa::{
    IntoResponses, ToSchema,
    openapi::{
        ContentBuilder, Object, Ref, RefOr, ResponseBuilder, Type, header::HeaderBuilder, schema::ObjectBuilder,
    },
};

use super::{
    AppState, Parameters, Problem, SqlWriter,
    etag::{self, IfNoneMatch, NotModified},
    metrics::{damaged, validators},
    middleware::TRUNCATED,
    problem_types::{Raises, Refused},
    recording::RecordedAtEnd,
    rights::Standing,
    sql_body::Sending,
    sql_request::{Asked, SqlFields, SqlOptions, SqlText},
};
use crate::{
    access::Scope,
    audit::{note, trail},
    error::ErrorKind,
    lake::LakeError,
    query::{Format, ProjectFacts, WrittenColumn},
    sql::{Failure, Fault, SqlAnswer, SqlError, SqlInputs, SqlRequest},
};

/// What SQL can come to.
struct Ran;

impl Raises for Ran {
    fn codes() -> Vec<&'static str> {
        let own =
            ["row_too_large", "share_ended", "too_many_queries", "crashed", "unavailable", "data_damaged", "deadline"];
        [Fault::codes(), own.to_vec()].concat()
    }
}

/// Run SQL
///
/// One SELECT over `payments`, `projects`, `sites` and `uploads`, each as far as the key may see it. It runs in a process of its
/// own, and ends with its deadline, its key, what is shared with it, or the connection.
#[utoipa::path(
    post, path = "/v1/sql", tag = "sql",
    params(SqlOptions),
    request_body(content((SqlFields = "application/json"), (String = "text/plain"), (String = "application/sql"))),
    responses(Rows<false>, Refused<(SqlWriter, Asked, Ran)>)
)]
pub(super) async fn run_sql(
    writer: SqlWriter,
    State(state): State<AppState>,
    headers: HeaderMap,
    asked: Asked,
) -> Result<Response, Problem> {
    answer(&state, &writer, asked, &headers, false).await
}

/// Run SQL that a cache may keep
///
/// The same, with an `ETag`: the answer is 304 without anything run as long as the lake, the scope and the SQL are the same.
#[utoipa::path(
    get, path = "/v1/sql", tag = "sql",
    params(SqlText, SqlOptions, IfNoneMatch),
    responses(Rows<true>, NotModified, Refused<(SqlWriter, Parameters, NotAcceptable, Ran)>)
)]
pub(super) async fn get_sql(
    writer: SqlWriter,
    State(state): State<AppState>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Problem> {
    answer(&state, &writer, Asked::of_query(parameters)?, &headers, true).await
}

struct NotAcceptable;

impl Raises for NotAcceptable {
    fn codes() -> Vec<&'static str> {
        vec!["not_acceptable"]
    }
}

async fn answer(
    state: &AppState,
    writer: &SqlWriter,
    asked: Asked,
    headers: &HeaderMap,
    may_be_kept: bool,
) -> Result<Response, Problem> {
    let params: Value = asked.params.as_deref().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    note(|learned| learned.parameters = Some(json!({ "sql": asked.sql, "params": params })));
    let wanted = asked.limit;
    let request = asked.into_request(headers, state.sql.limits())?;
    let scope = writer.scope(&state.catalog, &[]).await?;
    note(|learned| {
        learned.projects = scope.projects().cloned().collect();
        learned.shares = scope.shares();
    });
    let facts: Vec<ProjectFacts> = state.catalog.projects_in(&scope).await?.iter().map(ProjectFacts::from).collect();
    let uploads = state.catalog.upload_facts(&scope.projects().cloned().collect()).await?;
    let inputs = SqlInputs { snapshot: state.lake.snapshot(), scope: &scope, projects: &facts, uploads: &uploads };
    note(|learned| learned.lake_version = Some(inputs.snapshot.version));
    let incomplete = state.lake.incomplete(scope.projects());
    if !incomplete.is_empty() {
        return Err(damaged(&incomplete));
    }
    let may_be_kept = may_be_kept && !state.sql.may_read_clock(&request);
    // A weak one: without an ORDER BY, rows come in another order each time.
    let tag = format!("\"{}\"", state.sql.etag(&request, &inputs));
    let weak = format!("W/{tag}");
    if may_be_kept && etag::is_known(headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, validators(&weak)).into_response());
    }
    let mut response = ran(state, writer, &request, inputs, &scope, wanted).await?;
    if may_be_kept {
        let (mut parts, body) = response.into_parts();
        for (name, value) in validators(&weak) {
            parts.headers.insert(name, HeaderValue::from_str(&value).map_err(|error| Problem::internal(&error))?);
        }
        response = Response::from_parts(parts, body);
    }
    Ok(response)
}

async fn ran(
    state: &AppState,
    writer: &SqlWriter,
    request: &SqlRequest,
    inputs: SqlInputs<'_>,
    scope: &Scope,
    wanted: Option<usize>,
) -> Result<Response, Problem> {
    let mut standing = Standing::new(&state.catalog, writer.principal(), scope);
    let begun = standing.during(Box::pin(state.sql.ask(writer.principal(), request, inputs))).await?;
    if let Err(SqlError::Lake(LakeError::Damaged(findings))) = &begun {
        state.lake.found(findings);
    }
    let mut answer: SqlAnswer = begun?;
    standing.check().await?;
    note(|learned| learned.rows = Some(answer.row_count()));
    let mut response = if let Some(bytes) = answer.whole() {
        let mut response = Body::from(bytes).into_response();
        if answer.truncated() == Some(true) {
            response.headers_mut().insert(TRUNCATED, HeaderValue::from_static("true"));
        }
        response
    } else {
        let sending = Sending::new(answer, standing, trail(), request.format, wanted);
        let mut response = sending.into_body().into_response();
        response.extensions_mut().insert(RecordedAtEnd);
        response
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(request.format.content_type()));
    Ok(response)
}

/// An answer to SQL in JSON.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the description of what `query::Streamed` writes")]
pub(super) struct SqlResult {
    columns: Vec<WrittenColumn>,
    /// A value for each column. A decimal is an exact numeral; an integer beyond 2^53, a date, an instant and what is no number
    /// (`NaN`, `Infinity`) are texts.
    rows: Vec<Vec<Value>>,
    row_count: u64,
    /// Whether there are more rows than `limit`, `sql.max_rows` or `sql.max_answer_bytes` let through.
    truncated: bool,
    /// The version of the lake that the rows are of.
    lake_version: u64,
    statistics: SqlStatistics,
}

#[derive(ToSchema)]
#[allow(dead_code, reason = "the description of what `sql::SqlAnswer` writes")]
pub(super) struct SqlStatistics {
    elapsed_ms: u64,
    /// That were read of files.
    scanned_rows: u64,
    scanned_bytes: u64,
}

/// The rows, in every form that there is, and whether a cache may keep them.
struct Rows<const MAY_BE_KEPT: bool>;

impl<const MAY_BE_KEPT: bool> IntoResponses for Rows<MAY_BE_KEPT> {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let text = |about: &str| {
            HeaderBuilder::new().schema(Some(Object::with_type(Type::String))).description(Some(about)).build()
        };
        let lines = |about: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(about)).build();
        let about = "`true` where rows were left out, and that is known when the answer begins; JSON and NDJSON say it at their end too.";
        let mut response = ResponseBuilder::new()
            .description("The rows. An answer that breaks off ends with the connection, and never as a whole one does.")
            .header(TRUNCATED.as_str(), text(about));
        if MAY_BE_KEPT {
            response = response
                .header(
                    "ETag",
                    text(
                        "A weak tag of the answer, for If-None-Match; there is none where the SQL may read the clock.",
                    ),
                )
                .header("Vary", text("What an answer depends on beside its URL."));
        }
        for format in Format::ALL {
            let content = ContentBuilder::new();
            let content = match format {
                Format::Json => content.schema(Some(Ref::from_schema_name("SqlResult"))),
                Format::Ndjson => content.schema(Some(lines(
                    "An object a row, and at last {\"wattlake\": {\"status\": \"complete\", \"row_count\", \"truncated\", …}}, or \
                     \"failed\" with the problem.",
                ))),
                Format::Csv => content.schema(Some(lines("A header, and a row a line."))),
                Format::Arrow | Format::Parquet => content,
            };
            response = response.content(format.media_type(), content.build());
        }
        BTreeMap::from([("200".to_owned(), response.into())])
    }
}

impl From<SqlError> for Problem {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Query(error) => error.into(),
            SqlError::Lake(LakeError::Damaged(findings)) => damaged(&findings),
            SqlError::Failed(Failure::Fault(fault)) => fault.into(),
            SqlError::Crashed { how } => {
                tracing::error!(how, "a process for SQL crashed");
                let detail = "the process of the query ended before its answer did; the server and other queries are not concerned; \
                              quote the x-request-id of this answer";
                Self::new(ErrorKind::Internal, "crashed", detail)
            }
            other => {
                let code = match &other {
                    SqlError::Deadline(_) | SqlError::Cpu(_) => "deadline",
                    SqlError::OutOfMemory { .. } => "out_of_memory",
                    SqlError::Failed(Failure::RowTooLarge) => "row_too_large",
                    _ => "unavailable",
                };
                Self::failure(other.kind(), code, &other)
            }
        }
    }
}
