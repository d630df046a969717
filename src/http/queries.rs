//! `/v1/queries`: the SQL that an organisation runs or ran not long ago, and the results that are kept for who comes back.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::{
    AppState, NoParameters, PageRequest, Parameters, Problem, SqlWriter,
    etag::{self, IfNoneMatch, NotModified},
    extract::invalid_parameter,
    found::{QueryCanceller, QueryViewer},
    metrics::validators,
    middleware::NEXT_CURSOR,
    next_cursor,
    problem_types::{MEDIA_TYPE, Raises, Refused},
    rights::Standing,
    sql::{NotAcceptable, ResultRows},
    sql_request::chosen_format,
    sql_run::{Ran, sent_of_kept},
};
use crate::{
    audit::note,
    catalog::Page,
    error::ErrorKind,
    ids::QueryId,
    sql::{SqlAnswer, queries::QueryInfo, queries::QueryState},
};

#[derive(Serialize, ToSchema)]
pub(super) struct QueryList {
    pub(super) queries: Vec<QueryInfo>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

/// What is asked of a result.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "the description of what `get_result` reads")]
pub(super) struct ResultOptions {
    /// The form of the rows; it goes before the Accept header.
    #[param(inline, value_type = Option<String>, example = "csv")]
    format: Option<String>,
    /// The most rows of a page; all that are left without it.
    #[param(minimum = 1)]
    limit: Option<u64>,
    /// The `next_cursor` of the page before, from the statistics of JSON and NDJSON or the header `x-wattlake-next-cursor`.
    cursor: Option<String>,
    /// Whether texts in CSV are no formulas to a spreadsheet.
    csv_guard: Option<bool>,
}

/// What a result can come to.
struct Kept;

impl Raises for Kept {
    fn codes() -> Vec<&'static str> {
        vec!["query_under_way", "result_not_kept", "results_full", "share_ended", "unavailable"]
    }
}

/// List SQL queries
///
/// Those of the key's organisation that run, wait, or ended not long ago, the newest first; to an administrator, all. They are
/// listed for `sql.kept_s`, and no longer than the server runs.
#[utoipa::path(
    get, path = "/v1/queries", tag = "sql",
    params(PageRequest<QueryId>),
    responses((status = 200, description = "A page of them.", body = QueryList), Refused<(SqlWriter, Parameters)>)
)]
pub(super) async fn list_queries(
    writer: SqlWriter,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<QueryList>, Problem> {
    let page = PageRequest::<QueryId>::take(&mut parameters)?;
    parameters.finish()?;
    let queries = state.sql.queries();
    let mut found = queries.page(writer.principal(), page.after.as_ref(), page.limit);
    let more = found.len() > page.limit as usize;
    found.truncate(page.limit as usize);
    let page = Page { items: found.iter().map(|query| queries.info(query)).collect(), more };
    let next = next_cursor(&page, |info: &QueryInfo| info.id.clone());
    Ok(Json(QueryList { queries: page.items, next_cursor: next }))
}

/// Follow an SQL query
///
/// How far it is, and where its result is.
#[utoipa::path(
    get, path = "/v1/queries/{id}", tag = "sql",
    params(("id" = QueryId, Path)),
    responses((status = 200, description = "The query.", body = QueryInfo), Refused<(QueryViewer, NoParameters)>)
)]
pub(super) async fn get_query(found: QueryViewer, State(state): State<AppState>, _: NoParameters) -> Json<QueryInfo> {
    Json(state.sql.queries().info(&found.query))
}

/// Get the result of an SQL query
///
/// Of one that was sent with `Prefer: respond-async`, once it has succeeded: in any form, as a whole or in pages, as often as is
/// wanted while it is kept. What it rests on must still be shared. Of one that failed, it is the problem that it failed with.
#[utoipa::path(
    get, path = "/v1/queries/{id}/result", tag = "sql",
    params(("id" = QueryId, Path), ResultOptions, IfNoneMatch),
    responses(ResultRows, NotModified, Refused<(QueryViewer, Parameters, NotAcceptable, Kept, Ran)>)
)]
pub(super) async fn get_result(
    found: QueryViewer,
    State(state): State<AppState>,
    headers: HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let format = chosen_format(parameters.take("format")?.as_deref(), &headers)?;
    let limit = parameters.take_as::<u64>("limit")?;
    if limit == Some(0) {
        return Err(invalid_parameter("limit", "limit is 1 or more"));
    }
    let cursor = parameters.take("cursor")?;
    let offset = cursor.map_or(Ok(0), |cursor| offset_of(&cursor))?;
    let csv_guard = parameters.take_as("csv_guard")?.unwrap_or_default();
    parameters.finish()?;

    let QueryViewer { query, principal } = found;
    let facts = query.facts();
    if let Some(problem) = query.problem() {
        return Ok(told_again(&problem));
    }
    let kept = query.result().zip(facts.later.as_ref());
    let (stored, scope) = kept.ok_or_else(|| without_result(query.state()))?;
    note(|learned| {
        learned.projects = scope.projects().cloned().collect();
        learned.shares = scope.shares();
        learned.lake_version = Some(facts.lake_version);
    });
    // Whoever fetches it must see all that it was answered from, now as then.
    let mut standing = Standing::new(&state.catalog, &principal, scope);
    standing.check().await?;

    let (rows, limit) = (stored.rows(), limit.unwrap_or(u64::MAX));
    if offset > rows {
        return Err(invalid_parameter("cursor", "cursor is the next_cursor of the page before, as it was given"));
    }
    let end = offset.saturating_add(limit).min(rows);
    let next = (end < rows).then(|| cursor_of(end));
    let etag =
        format!("\"{}-{offset}-{end}-{}{}\"", query.id(), format.name(), if csv_guard { "-guarded" } else { "" });
    if etag::is_known(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, validators(&etag)).into_response());
    }
    let page = (offset, end - offset);
    let answer = SqlAnswer::kept(&stored, facts.lake_version, (format, csv_guard), page, next.clone());
    let mut response = sent_of_kept(answer.await?, standing, format, stored.truncated());
    for (name, value) in validators(&etag).into_iter().chain(next.map(|next| (NEXT_CURSOR, next))) {
        let value = HeaderValue::from_str(&value).map_err(|error| Problem::internal(&error))?;
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}

/// The problem that a query failed with, as it would have been answered.
fn told_again(problem: &Value) -> Response {
    let status = problem["status"].as_u64().and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let media_type = [(header::CONTENT_TYPE, MEDIA_TYPE)];
    (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), media_type, problem.to_string()).into_response()
}

/// Why a query has no result to fetch.
fn without_result(state: QueryState) -> Problem {
    match state {
        QueryState::Queued | QueryState::Running => {
            let detail = "the query has not come to its end; ask again in a moment";
            let name = if state == QueryState::Queued { "queued" } else { "running" };
            Problem::new(ErrorKind::Conflict, "query_under_way", detail).with("state", name)
        }
        QueryState::Succeeded | QueryState::Failed | QueryState::Cancelled => {
            let detail = "no result of this query is kept: it was cancelled or sent at once, or its result gave way to newer ones";
            Problem::new(ErrorKind::Gone, "result_not_kept", detail)
        }
    }
}

fn cursor_of(offset: u64) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(offset.to_string())
}

fn offset_of(cursor: &str) -> Result<u64, Problem> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok();
    let offset = bytes.and_then(|bytes| String::from_utf8(bytes).ok()).and_then(|text| text.parse().ok());
    offset.ok_or_else(|| invalid_parameter("cursor", "cursor is the next_cursor of the page before, as it was given"))
}

/// Cancel an SQL query
///
/// One that runs or waits ends within a second, and whoever waits for it is told so; the result of one that has ended is removed.
/// Its own key may, and whoever manages the organisation.
#[utoipa::path(
    delete, path = "/v1/queries/{id}", tag = "sql",
    params(("id" = QueryId, Path)),
    responses(
        (status = 200, description = "The query as it is now; it may take a moment to end.", body = QueryInfo),
        Refused<(QueryCanceller, NoParameters)>
    )
)]
pub(super) async fn cancel_query(
    found: QueryCanceller,
    State(state): State<AppState>,
    _: NoParameters,
) -> Json<QueryInfo> {
    found.query.cancel();
    let queries = state.sql.queries();
    Json(queries.info(&found.query))
}
