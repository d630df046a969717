//! One question in SQL with all that it is answered from: answered at once, or later, for who comes back.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    AppState, Problem,
    as_of::LakeAt,
    auth::permit,
    etag,
    metrics::{damaged, validators},
    middleware::{PREFERENCE_APPLIED, QUERY_ID, TRUNCATED},
    problem_types::Raises,
    recording::RecordedAtEnd,
    rights::Standing,
    sql_body::Sending,
};
use crate::{
    access::{Permission, Principal, Scope},
    audit::{note, trail},
    catalog::{ConnectionFilter, ConnectionRecord, UploadFacts},
    error::ErrorKind,
    ids::QueryName,
    lake::{AsOf, LakeError},
    query::{Format, ProjectConnection, ProjectFacts},
    sql::{
        Failure, Fault, SqlAnswer, SqlError, SqlInputs, SqlRequest,
        queries::{QueryFacts, QueryInfo, Tracked},
    },
};

/// What running SQL can come to.
pub(super) struct Ran;

impl Raises for Ran {
    fn codes() -> Vec<&'static str> {
        let own = [
            "row_too_large",
            "too_many_connections",
            "share_ended",
            "cancelled",
            "too_many_queries",
            "crashed",
            "unavailable",
            "deadline",
        ];
        [Fault::codes(), own.to_vec(), vec!["data_damaged", "version_not_kept"]].concat()
    }
}

/// A question, and what it is answered from.
pub(super) struct Prepared {
    principal: Principal,
    request: SqlRequest,
    /// The limit on rows that the caller named itself.
    wanted: Option<usize>,
    params: Value,
    saved: Option<(QueryName, u32)>,
    scope: Scope,
    projects: Vec<ProjectFacts>,
    uploads: Vec<UploadFacts>,
    connections: Vec<ProjectConnection>,
    lake: LakeAt,
}

/// What is asked, before it is known from what it is answered.
pub(super) struct Question {
    pub(super) request: SqlRequest,
    pub(super) wanted: Option<usize>,
    pub(super) as_of: Option<AsOf>,
    /// The values of placeholders, as they were sent.
    pub(super) params: Value,
    pub(super) saved: Option<(QueryName, u32)>,
}

impl Prepared {
    /// Looks up what a question is answered from. `scope` is all that its asker may see.
    pub(super) async fn of(
        state: &AppState,
        principal: &Principal,
        scope: Scope,
        question: Question,
    ) -> Result<Self, Problem> {
        let Question { request, wanted, as_of, params, saved } = question;
        note(|learned| {
            learned.projects = scope.projects().cloned().collect();
            learned.shares = scope.shares();
        });
        let projects = state.catalog.projects_in(&scope).await?.iter().map(ProjectFacts::from).collect();
        let lake = LakeAt::of(state, as_of, &scope).await?;
        let uploads = lake.uploads(state, &scope).await?;
        note(|learned| learned.lake_version = Some(lake.snapshot.version));
        let incomplete = state.lake.incomplete(scope.projects());
        if !incomplete.is_empty() {
            return Err(damaged(&incomplete));
        }
        let connections = if state.sql.names_connections(&request.sql) {
            permit(principal, Permission::ReadConnections)?;
            connections_of(state, &scope).await?
        } else {
            Vec::new()
        };
        let principal = principal.clone();
        Ok(Self { principal, request, wanted, params, saved, scope, projects, uploads, connections, lake })
    }

    fn inputs(&self) -> SqlInputs<'_> {
        SqlInputs {
            snapshot: Arc::clone(&self.lake.snapshot),
            scope: &self.scope,
            projects: &self.projects,
            uploads: &self.uploads,
            connections: &self.connections,
            is_earlier: self.lake.is_earlier(),
        }
    }

    fn facts(&self, is_for_later: bool) -> QueryFacts {
        QueryFacts {
            sql: self.request.sql.clone(),
            parameters: self.params.clone(),
            saved: self.saved.clone(),
            asker: self.principal.clone(),
            lake_version: self.lake.snapshot.version,
            later: is_for_later.then(|| self.scope.clone()),
        }
    }

    fn begin(&self, state: &AppState, is_for_later: bool) -> Result<Tracked, Problem> {
        let query = state.sql.queries().begin(self.facts(is_for_later)).map_err(SqlError::Query)?;
        let id = query.query().id().to_string();
        note(|learned| learned.object = Some(id));
        Ok(query)
    }

    /// The answer, with a validator: nothing is run where the caller has that answer.
    pub(super) async fn answer_if_changed(self, state: &AppState, headers: &HeaderMap) -> Result<Response, Problem> {
        if state.sql.may_read_clock(&self.request) {
            return self.answer(state).await;
        }
        // A weak one: without an ORDER BY, rows come in another order each time.
        let tag = format!("\"{}\"", state.sql.etag(&self.request, &self.inputs()));
        let weak = format!("W/{tag}");
        if etag::is_known(headers, &tag) {
            return Ok((StatusCode::NOT_MODIFIED, validators(&weak)).into_response());
        }
        let mut response = self.answer(state).await?;
        for (name, value) in validators(&weak) {
            let value = HeaderValue::from_str(&value).map_err(|error| Problem::internal(&error))?;
            response.headers_mut().insert(name, value);
        }
        Ok(response)
    }

    /// The answer, as it comes.
    pub(super) async fn answer(self, state: &AppState) -> Result<Response, Problem> {
        let query = self.begin(state, false)?;
        let id = HeaderValue::from_str(query.query().id().as_str()).map_err(|error| Problem::internal(&error))?;
        let mut standing = Standing::new(&state.catalog, &self.principal, &self.scope);
        let begun = self.begun(state, &query, &mut standing).await;
        let (format, wanted) = (self.request.format, self.wanted);
        let answer = match begun {
            Ok(answer) => answer,
            Err(problem) => {
                query.failed(problem.to_json());
                return Err(problem);
            }
        };
        let mut response = sent(answer, standing, format, wanted, query);
        response.headers_mut().insert(QUERY_ID, id);
        Ok(response)
    }

    async fn begun(&self, state: &AppState, query: &Tracked, standing: &mut Standing) -> Result<SqlAnswer, Problem> {
        let answer = standing.during(Box::pin(state.sql.ask(&self.request, self.inputs(), query))).await?;
        let answer = answer.map_err(|error| self.problem(state, error))?;
        standing.check().await?;
        Ok(answer)
    }

    /// The columns that the answer would have. It is planned, and not run.
    pub(super) async fn columns(mut self, state: &AppState) -> Result<Value, Problem> {
        (self.request.only_plan, self.request.format) = (true, Format::Json);
        let query = state.sql.queries().unlisted(self.facts(false));
        let mut standing = Standing::new(&state.catalog, &self.principal, &self.scope);
        let mut answer = self.begun(state, &query, &mut standing).await?;
        let bytes = answer.whole().ok_or_else(Problem::unexplained)?;
        let mut body: Value = serde_json::from_slice(&bytes).map_err(|error| Problem::internal(&error))?;
        Ok(body["columns"].take())
    }

    fn problem(&self, state: &AppState, error: SqlError) -> Problem {
        match error {
            SqlError::Lake(LakeError::Damaged(findings)) => self.lake.found(state, &findings),
            other => other.into(),
        }
    }

    /// Runs it on, and says where its asker finds what it comes to.
    pub(super) fn answer_later(self, state: &AppState) -> Result<Response, Problem> {
        let query = self.begin(state, true)?;
        let info = state.sql.queries().info(query.query());
        let location = format!("/v1/queries/{}", info.id);
        let state = state.clone();
        tokio::spawn(async move {
            let mut standing = Standing::new(&state.catalog, &self.principal, &self.scope);
            let stored = standing.during(Box::pin(state.sql.store(&self.request, self.inputs(), &query))).await;
            let stored = stored.and_then(|stored| stored.map_err(|error| self.problem(&state, error)));
            match stored {
                Ok(stored) => query.kept(stored),
                Err(problem) => query.failed(problem.to_json()),
            }
        });
        let preference = HeaderValue::from_static("respond-async");
        let headers = [(header::LOCATION, location)];
        let mut response = (StatusCode::ACCEPTED, headers, Json::<QueryInfo>(info)).into_response();
        response.headers_mut().insert(PREFERENCE_APPLIED, preference);
        Ok(response)
    }
}

/// The connections of one's own projects.
async fn connections_of(state: &AppState, scope: &Scope) -> Result<Vec<ProjectConnection>, Problem> {
    let (filter, limit) = (ConnectionFilter::default(), state.sql.limits().max_connections);
    let mut connections = Vec::new();
    for project in scope.owned() {
        let mut after: Option<String> = None;
        loop {
            let page = state.catalog.connections_piece(project, &filter, after.as_deref()).await?;
            after = page.items.last().map(|last| last.connection.external_id().to_owned()).filter(|_| page.more);
            let of_project =
                |found: ConnectionRecord| ProjectConnection { project: project.clone(), connection: found.connection };
            connections.extend(page.items.into_iter().map(of_project));
            if connections.len() > limit {
                let detail = format!(
                    "the projects of this key have more than {limit} connections, the server's sql.max_connections"
                );
                return Err(Problem::new(ErrorKind::Rejected, "too_many_connections", detail));
            }
            if after.is_none() {
                break;
            }
        }
    }
    Ok(connections)
}

/// Whether a request would rather be answered later (RFC 7240, 4.1).
pub(super) fn is_for_later(headers: &HeaderMap) -> bool {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = preferences.flat_map(|value| value.split(','));
    preferences.any(|preference| {
        let name = preference.split([';', '=']).next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case("respond-async")
    })
}

/// An answer on its way: at once as a whole where it has come to its end, else piece after piece.
fn sent(mut answer: SqlAnswer, standing: Standing, format: Format, wanted: Option<usize>, query: Tracked) -> Response {
    note(|learned| learned.rows = Some(answer.row_count()));
    let mut response = if let Some(bytes) = answer.whole() {
        query.sent();
        let mut response = Body::from(bytes).into_response();
        if answer.truncated() == Some(true) {
            response.headers_mut().insert(TRUNCATED, HeaderValue::from_static("true"));
        }
        response
    } else {
        let says_it = matches!(format, Format::Json | Format::Ndjson);
        let mut response =
            Sending::new(answer, standing, trail(), says_it, wanted, Some(query)).into_body().into_response();
        response.extensions_mut().insert(RecordedAtEnd);
        response
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
}

/// Rows of a result that is kept, on their way; `truncated` is whether rows were left out of it.
pub(super) fn sent_of_kept(mut answer: SqlAnswer, standing: Standing, format: Format, truncated: bool) -> Response {
    note(|learned| learned.rows = Some(answer.row_count()));
    let mut response = if let Some(bytes) = answer.whole() {
        Body::from(bytes).into_response()
    } else {
        let mut response = Sending::new(answer, standing, trail(), true, None, None).into_body().into_response();
        response.extensions_mut().insert(RecordedAtEnd);
        response
    };
    if truncated {
        response.headers_mut().insert(TRUNCATED, HeaderValue::from_static("true"));
    }
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    response
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
                    SqlError::Cancelled => "cancelled",
                    SqlError::ResultsFull { .. } => "results_full",
                    SqlError::Failed(Failure::RowTooLarge) => "row_too_large",
                    _ => "unavailable",
                };
                Self::failure(other.kind(), code, &other)
            }
        }
    }
}

/// The SQL of a question, as its entry in the audit log has it.
pub(super) fn note_sql(sql: &str, params: &Value) {
    note(|learned| learned.parameters = Some(json!({ "sql": sql, "params": params })));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_would_rather_come_back_says_so_among_other_preferences() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("prefer", HeaderValue::from_static(value));
            }
            is_for_later(&headers)
        };
        for yes in [&["respond-async"][..], &["wait=5, Respond-Async"], &["return=minimal", "respond-async; x=1"]] {
            assert!(of(yes), "{yes:?}");
        }
        for no in [&[][..], &["wait=5"], &["respond-asynchronously"]] {
            assert!(!of(no), "{no:?}");
        }
    }
}
