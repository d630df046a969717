//! `/v1/sql`: SQL that a person wrote, over what its key may see.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName},
    response::Response,
};
use serde_json::Value;
use utoipa::{
    IntoParams, IntoResponses, ToSchema,
    openapi::{
        ContentBuilder, Object, Ref, RefOr, Required, ResponseBuilder, Type,
        header::HeaderBuilder,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::ObjectBuilder,
    },
};

use super::{
    AppState, Parameters, Problem, SqlWriter,
    as_of::AsOfParameter,
    etag::{IfNoneMatch, NotModified},
    middleware::{NEXT_CURSOR, QUERY_ID, TRUNCATED},
    problem_types::{Raises, Refused},
    sql_request::{Asked, SqlFields, SqlOptions, SqlText},
    sql_run::{Prepared, Question, Ran, is_for_later, note_sql},
};
use crate::{
    query::{Format, WrittenColumn},
    sql::queries::QueryInfo,
};

/// Run SQL
///
/// One SELECT over `payments`, `projects`, `sites` and `uploads`, each as far as the key may see it. It runs in a process of its
/// own, and ends with its deadline, its key, what is shared with it, or the connection. With `Prefer: respond-async` it goes on
/// without the connection, within `sql.background_timeout_s`, and its result is kept for `sql.kept_s`; `format` is then said
/// where that is fetched.
#[utoipa::path(
    post, path = "/v1/sql", tag = "sql",
    params(SqlOptions, AsOfParameter, Prefer),
    request_body(content((SqlFields = "application/json"), (String = "text/plain"), (String = "application/sql"))),
    responses(
        Rows<false>,
        (status = 202, description = "The query runs, or waits for its turn.", body = QueryInfo, headers(
            ("Location" = String, description = "Where it is followed."),
            ("Preference-Applied" = String, description = "`respond-async`."),
        )),
        Refused<(SqlWriter, Asked, Ran)>
    )
)]
pub(super) async fn run_sql(
    writer: SqlWriter,
    State(state): State<AppState>,
    headers: HeaderMap,
    asked: Asked,
) -> Result<Response, Problem> {
    let is_for_later = is_for_later(&headers);
    let limits = state.sql.limits();
    let timeout = if is_for_later { limits.background.timeout } else { limits.timeout };
    let prepared = prepared(&state, &writer, asked, &headers, timeout).await?;
    if is_for_later { prepared.answer_later(&state) } else { prepared.answer(&state).await }
}

/// Run SQL that a cache may keep
///
/// The same, with an `ETag`: the answer is 304 without anything run as long as the lake, the scope and the SQL are the same.
#[utoipa::path(
    get, path = "/v1/sql", tag = "sql",
    params(SqlText, SqlOptions, AsOfParameter, IfNoneMatch),
    responses(Rows<true>, NotModified, Refused<(SqlWriter, Parameters, NotAcceptable, Ran)>)
)]
pub(super) async fn get_sql(
    writer: SqlWriter,
    State(state): State<AppState>,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let (asked, timeout) = (Asked::of_query(parameters)?, state.sql.limits().timeout);
    prepared(&state, &writer, asked, &headers, timeout).await?.answer_if_changed(&state, &headers).await
}

pub(super) struct NotAcceptable;

impl Raises for NotAcceptable {
    fn codes() -> Vec<&'static str> {
        vec!["not_acceptable"]
    }
}

async fn prepared(
    state: &AppState,
    writer: &SqlWriter,
    asked: Asked,
    headers: &HeaderMap,
    most: Duration,
) -> Result<Prepared, Problem> {
    let params: Value = asked.params.as_deref().and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    note_sql(&asked.sql, &params);
    let (wanted, as_of) = (asked.limit, asked.as_of);
    let request = asked.into_request(headers, state.sql.limits(), most)?;
    let scope = writer.scope(&state.catalog, &[]).await?;
    let question = Question { request, wanted, as_of, params, saved: None };
    Prepared::of(state, writer.principal(), scope, question).await
}

/// The `Prefer` of an operation.
struct Prefer;

impl IntoParams for Prefer {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let parameter = ParameterBuilder::new()
            .name("Prefer")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some("`respond-async`: the query is answered later (RFC 7240)."))
            .schema(Some(Object::with_type(Type::String)));
        vec![parameter.build()]
    }
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
    /// Of a result that is kept, and of it alone: the `cursor` of the next page; null on the last.
    next_cursor: Option<String>,
}

/// The rows, in every form that there is, and whether a cache may keep them.
pub(super) struct Rows<const MAY_BE_KEPT: bool>;

impl<const MAY_BE_KEPT: bool> IntoResponses for Rows<MAY_BE_KEPT> {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        let about = "The id by which the query is found at /v1/queries while it runs.";
        rows(MAY_BE_KEPT, (QUERY_ID, about))
    }
}

/// Rows of a result that is kept.
pub(super) struct ResultRows;

impl IntoResponses for ResultRows {
    fn responses() -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
        rows(true, (NEXT_CURSOR, "The `cursor` of the next page; it is not there on the last."))
    }
}

fn rows(may_be_kept: bool, (own, about_own): (HeaderName, &str)) -> BTreeMap<String, RefOr<utoipa::openapi::Response>> {
    let text = |about: &str| {
        HeaderBuilder::new().schema(Some(Object::with_type(Type::String))).description(Some(about)).build()
    };
    let lines = |about: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(about)).build();
    let about = "`true` where rows were left out, and that is known when the answer begins; JSON and NDJSON say it at their end too.";
    let mut response = ResponseBuilder::new()
        .description("The rows. An answer that breaks off ends with the connection, and never as a whole one does.")
        .header(TRUNCATED.as_str(), text(about))
        .header(own.as_str(), text(about_own));
    if may_be_kept {
        response = response
            .header(
                "ETag",
                text("A weak tag of the answer, for If-None-Match; there is none where the SQL may read the clock."),
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
