//! `/v1/metrics`: the catalogue of metrics, and the answer of one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::{
    AppState, MetricReader, NoParameters, Parameters, PathName, Problem,
    answers::MetricList,
    as_of::{AsOfParameter, LakeAt, OfEarlier},
    etag::{self, IfNoneMatch, NotModified},
    extract::invalid_parameter,
    metric_paths::{Figures, MetricParameters},
    middleware::{LEFT_OUT, TRUNCATED, WITHHELD},
    problem_types::{Raises, Refused},
    recording::given,
    rights::Rights,
    sql_request::chosen_format,
};
use crate::{
    access::Scope,
    audit::note,
    catalog::ConnectionFacts,
    error::ErrorKind,
    ids::ProjectSlug,
    lake::{AsOf, Finding},
    query::{Inputs, Metric, MetricInfo, MetricRequest, ParameterError, ProjectFacts, QueryError},
    telemetry::AskedMetric,
};

/// List the metrics
///
/// What there is to ask for, with definitions, parameters and units.
#[utoipa::path(
    get, path = "/v1/metrics", tag = "metrics",
    responses((status = 200, description = "All of them.", body = MetricList), Refused<(MetricReader, NoParameters)>)
)]
pub(super) async fn list_metrics(_: MetricReader, State(state): State<AppState>, _: NoParameters) -> Response {
    let metrics: Vec<&MetricInfo> = state.metrics.iter().map(|metric| &metric.info).collect();
    Json(MetricList { metrics }).into_response()
}

/// What a question can come to.
struct Question;

impl Raises for Question {
    fn codes() -> Vec<&'static str> {
        let question = ["unknown_metric", "not_acceptable", "query_memory", "answer_too_large"];
        let shared = ["shared_as_aggregates", "connections_not_shared", "share_ended"];
        [&question[..], &shared, &["too_many_connections", "too_many_queries", "query_timeout"]].concat()
    }
}

/// Get the figures of a metric
///
/// Over what the key may see and no more. Each metric has a path of its own here, with its parameters and its columns.
#[utoipa::path(
    get, path = "/v1/metrics/{name}", tag = "metrics",
    params(("name" = String, Path, description = "The name of a metric."), MetricParameters, AsOfParameter, IfNoneMatch),
    responses(Figures, NotModified, Refused<(MetricReader, PathName<String>, Parameters, Question, OfEarlier)>)
)]
pub(super) async fn get_metric(
    reader: MetricReader,
    State(state): State<AppState>,
    PathName(name): PathName<String>,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Some(metric) = state.metrics.get(&name) else { return Err(unknown_metric(&state, &name)) };
    let asked = state.counters.question(metric.name());
    let answer = ask(&state, &reader, metric, parameters, &headers, &asked).await;
    asked.ended(match &answer {
        Ok(answer) if answer.status() == StatusCode::NOT_MODIFIED => "not_modified",
        Ok(_) => "answered",
        Err(problem) => problem.code(),
    });
    answer
}

async fn ask(
    state: &AppState,
    reader: &MetricReader,
    metric: &Arc<Metric>,
    mut parameters: Parameters,
    headers: &HeaderMap,
    asked: &AskedMetric,
) -> Result<Response, Problem> {
    let as_of = parameters.take_as::<AsOf>("as_of")?;
    let format = chosen_format(parameters.take("format")?.as_deref(), headers)?;
    note(|learned| learned.parameters = given(parameters.rest(), &[]));
    let request = MetricRequest::parse(metric, parameters.rest(), &state.parameter_limits())?;

    let scope = reader.scope(&state.catalog, &request.projects).await?;
    note(|learned| {
        learned.projects = scope.projects().cloned().collect();
        learned.shares = scope.shares();
        // They are its projects now.
        learned.parameters = given(parameters.rest(), &["project"]);
    });
    let facts: Vec<ProjectFacts> = state.catalog.projects_in(&scope).await?.iter().map(ProjectFacts::from).collect();
    let lake = LakeAt::of(state, as_of, &scope).await?;
    let uploads = if metric.reads_uploads() { lake.uploads(state, &scope).await? } else { Vec::new() };
    let connections = if metric.reads_connections() { connections_of(state, &scope).await? } else { BTreeMap::new() };
    let inputs = Inputs {
        snapshot: Arc::clone(&lake.snapshot),
        scope: &scope,
        projects: &facts,
        uploads: &uploads,
        connections: &connections,
        now: lake.now(),
        is_earlier: lake.is_earlier(),
    };
    note(|learned| learned.lake_version = Some(inputs.snapshot.version));
    let incomplete = state.lake.incomplete(scope.projects());
    if !incomplete.is_empty() {
        return Err(damaged(&incomplete));
    }
    let etag = format!("\"{}\"", state.engine.etag(metric, &request, &inputs, format)?);
    if etag::is_known(headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, validators(&etag)).into_response());
    }
    let rights = Rights::of(&state.catalog, reader.principal()).to(&scope);
    let began = Instant::now();
    let answer = Box::pin(state.engine.answer(reader.principal(), metric, &request, inputs, format));
    let answer = rights.during(answer).await;
    asked.ran(began.elapsed());
    let answer = answer?;
    if let Err(QueryError::Damaged(findings)) = &answer {
        return Err(lake.found(state, findings));
    }
    let answer = answer?;
    asked.gave(answer.rows, answer.bytes.len());
    note(|learned| learned.rows = Some(answer.rows as u64));
    let mut response = (validators(&etag), Body::from(answer.bytes)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    if answer.truncated {
        response.headers_mut().insert(TRUNCATED, HeaderValue::from_static("true"));
    }
    if let Some(cells) = answer.withheld_cells {
        response.headers_mut().insert(WITHHELD, cells.into());
    }
    if answer.left_out > 0 {
        response.headers_mut().insert(LEFT_OUT, answer.left_out.into());
    }
    Ok(response)
}

/// The connections of one's own projects, for a metric that needs them. Those of others are not shared.
async fn connections_of(
    state: &AppState,
    scope: &Scope,
) -> Result<BTreeMap<ProjectSlug, Vec<ConnectionFacts>>, Problem> {
    let limit = state.engine.limits().max_connections;
    let (mut connections, mut room) = (BTreeMap::new(), limit);
    for project in scope.projects().filter(|project| scope.owns(project)) {
        let of_project = state.catalog.connection_facts(project, room).await?;
        let Some(left) = room.checked_sub(of_project.len()) else {
            let detail = format!(
                "the projects that are asked for have more than {limit} connections, the server's query.max_connections; ask \
                 with project for fewer of them"
            );
            return Err(Problem::new(ErrorKind::Rejected, "too_many_connections", detail));
        };
        room = left;
        connections.insert(project.clone(), of_project);
    }
    Ok(connections)
}

/// Caches may keep an answer, for the holder of this key alone, and ask each time whether it still holds.
pub(super) fn validators(etag: &str) -> [(header::HeaderName, String); 3] {
    [
        (header::ETAG, etag.to_owned()),
        (header::CACHE_CONTROL, "private, no-cache".to_owned()),
        (header::VARY, "Authorization, Accept, Accept-Encoding".to_owned()),
    ]
}

fn unknown_metric(state: &AppState, name: &str) -> Problem {
    let names: Vec<&str> = state.metrics.iter().map(|metric| metric.name()).collect();
    let meant = crate::nearest::nearest(name, names.iter().copied());
    let meant = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
    let name: String = name.chars().take(100).collect();
    let detail = format!("there is no metric {name:?}{meant}");
    Problem::new(ErrorKind::NotFound, "unknown_metric", detail).with("allowed", names)
}

impl From<ParameterError> for Problem {
    fn from(error: ParameterError) -> Self {
        invalid_parameter(&error.parameter, error.to_string()).with("expected", error.allowed)
    }
}

/// The answer to a question that needs rows which are lost or altered: which projects it would have been wrong for. They
/// are all of the caller's scope.
pub(super) fn damaged(findings: &[Finding]) -> Problem {
    let projects: BTreeSet<&str> = findings.iter().filter_map(Finding::project).map(ProjectSlug::as_str).collect();
    let names = projects.iter().copied().collect::<Vec<_>>();
    let detail = format!(
        "stored payments of {} are damaged and are not answered from; they are being made anew from the uploads, so try again in a \
         moment",
        names.join(", ")
    );
    Problem::new(ErrorKind::Unavailable, "data_damaged", detail).with("projects", names)
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        let error = match error {
            QueryError::Parameter(error) => return error.into(),
            QueryError::TooDetailed(error) => {
                let problem = Problem::new(ErrorKind::Forbidden, error.code(), error.to_string());
                return problem.with("projects", json!(error.projects));
            }
            other => other,
        };
        let code = match &error {
            QueryError::Busy { .. } => "too_many_queries",
            QueryError::Timeout(_) => "query_timeout",
            QueryError::Resources(_) => "query_memory",
            QueryError::AnswerTooLarge { .. } => "answer_too_large",
            QueryError::Damaged(findings) => return damaged(findings),
            _ => "query",
        };
        Self::failure(error.kind(), code, &error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use datafusion::error::DataFusionError;

    use super::*;

    #[test]
    fn a_limit_of_ours_is_not_laid_to_the_request_and_only_a_busy_server_asks_for_it_again() {
        let answer = |error: QueryError| {
            let response = Problem::from(error).into_response();
            (response.status().as_u16(), response.headers().contains_key(header::RETRY_AFTER))
        };
        assert_eq!(answer(QueryError::Busy { setting: "query.queue", limit: 1 }), (429, true));
        assert_eq!(answer(QueryError::Timeout(Duration::from_secs(30))), (504, false));
        assert_eq!(answer(QueryError::Resources(DataFusionError::ResourcesExhausted(String::new()))), (422, false));
        assert_eq!(answer(QueryError::AnswerTooLarge { limit: 1 }), (422, false));
    }
}
