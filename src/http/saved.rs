//! `/v1/queries/saved`: SQL that an organisation keeps under a name, with declared parameters, and fetches like a metric.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{
    AppState, JsonObject, MetricReader, NoParameters, PageRequest, Parameters, PathName, Problem, SqlWriter,
    as_of::AsOfParameter,
    etag::{IfNoneMatch, NotModified},
    extract::invalid_parameter,
    fields::Fields,
    keys::organisation_for,
    next_cursor,
    problem_types::{Raises, Refused},
    sql::{NotAcceptable, Rows},
    sql_request::Asked,
    sql_run::{Prepared, Question, Ran, note_sql},
};
use crate::{
    access::Principal,
    audit::note,
    catalog::{SavedParameter, SavedQuery, SavedText},
    error::ErrorKind,
    ids::{OrganisationSlug, QueryName},
    sql::saved::{bound, declared_values, sample_values},
};

/// The most placeholders of one, and the most characters of a text that describes.
const MAX_PARAMETERS: usize = 50;
const MAX_DESCRIPTION: usize = 2_000;
/// What a request says beside the values, so that no placeholder can have the name.
const RESERVED: [&str; 8] = ["organisation", "version", "format", "limit", "timeout_s", "csv_guard", "as_of", "cursor"];

#[derive(Serialize, ToSchema)]
pub(super) struct SavedQueryList {
    pub(super) saved_queries: Vec<SavedQuery>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct SavedVersionList {
    pub(super) versions: Vec<SavedQuery>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

/// The body that saves a query.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the description of what `saved::read_draft` reads")]
struct SavedFields {
    /// One SELECT, with `$name` where a parameter stands.
    sql: String,
    /// What it is for.
    #[schema(max_length = 2000)]
    description: Option<String>,
    #[schema(max_items = 50)]
    parameters: Option<Vec<SavedParameter>>,
    /// Whose it is; an administrator's key needs it where there are several.
    organisation: Option<OrganisationSlug>,
}

/// Whose things are asked for.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "a description")]
struct OfOrganisation {
    /// That of the key, if nothing else is said; an administrator's key names one where there are several.
    organisation: Option<OrganisationSlug>,
}

/// What a saved query is run with, beside the values of its own parameters.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "a description")]
struct SavedOptions {
    /// The newest, if nothing else is said.
    #[param(minimum = 1)]
    version: Option<u32>,
    /// The form of the answer; it goes before the Accept header.
    #[param(inline, value_type = Option<String>, example = "json")]
    format: Option<String>,
    /// The most rows that are wanted, up to `sql.max_rows`.
    #[param(minimum = 1)]
    limit: Option<u64>,
    /// The most seconds that it may take, up to `sql.timeout_s`.
    #[param(minimum = 1)]
    timeout_s: Option<u64>,
    /// Whether texts in CSV are no formulas to a spreadsheet.
    csv_guard: Option<bool>,
}

/// What saving one can come to.
struct Saving;

impl Raises for Saving {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_saved_query", "not_found", "organisation_needed", "limit_reached", "storage_full"]
    }
}

/// What a saved query that a path names can come to.
struct Named;

impl Raises for Named {
    fn codes() -> Vec<&'static str> {
        vec!["not_found", "organisation_needed"]
    }
}

/// Whose saved queries a request is about: those of the key's organisation; an administrator names one.
async fn organisation_of(
    state: &AppState,
    principal: &Principal,
    named: Option<OrganisationSlug>,
) -> Result<OrganisationSlug, Problem> {
    let named = organisation_for(principal, named)?;
    Ok(state.catalog.named_or_only(named).await?)
}

/// List saved queries
///
/// The newest version of each, by name.
#[utoipa::path(
    get, path = "/v1/queries/saved", tag = "sql",
    params(OfOrganisation, PageRequest<QueryName>),
    responses(
        (status = 200, description = "A page of them.", body = SavedQueryList),
        Refused<(MetricReader, Parameters, Named)>
    )
)]
pub(super) async fn list_saved(
    reader: MetricReader,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<SavedQueryList>, Problem> {
    let named = parameters.take_as("organisation")?;
    let page = PageRequest::<QueryName>::take(&mut parameters)?;
    parameters.finish()?;
    let organisation = organisation_of(&state, reader.principal(), named).await?;
    let page = state.catalog.saved_queries(&organisation, page.after.as_ref(), page.limit).await?;
    let next = next_cursor(&page, |saved| saved.name.clone());
    Ok(Json(SavedQueryList { saved_queries: page.items, next_cursor: next }))
}

/// List the versions of a saved query
///
/// The newest first. Each stays what it is.
#[utoipa::path(
    get, path = "/v1/queries/saved/{name}/versions", tag = "sql",
    params(("name" = QueryName, Path), OfOrganisation, PageRequest<u32>),
    responses(
        (status = 200, description = "A page of them.", body = SavedVersionList),
        Refused<(MetricReader, PathName<QueryName>, Parameters, Named)>
    )
)]
pub(super) async fn list_versions(
    reader: MetricReader,
    State(state): State<AppState>,
    PathName(name): PathName<QueryName>,
    mut parameters: Parameters,
) -> Result<Json<SavedVersionList>, Problem> {
    let named = parameters.take_as("organisation")?;
    let request = PageRequest::<u32>::take(&mut parameters)?;
    parameters.finish()?;
    let organisation = organisation_of(&state, reader.principal(), named).await?;
    let page = state.catalog.saved_versions(&organisation, &name, request.after, request.limit).await?;
    if page.items.is_empty() && request.after.is_none() {
        return Err(Problem::not_found());
    }
    let next = next_cursor(&page, |saved| saved.version);
    Ok(Json(SavedVersionList { versions: page.items, next_cursor: next }))
}

/// Save a query
///
/// Under a new name, or as the next version of what has it; the same again changes nothing. It is planned, over what the key may
/// see, before it is saved. Whoever may read metrics of the organisation may then run it, and sees its rows, over what its own key
/// may see.
#[utoipa::path(
    put, path = "/v1/queries/saved/{name}", tag = "sql",
    params(("name" = QueryName, Path)),
    request_body = SavedFields,
    responses(
        (status = 201, description = "It is there now.", body = SavedQuery),
        (status = 200, description = "It has a new version now, or is what it was.", body = SavedQuery),
        Refused<(SqlWriter, NoParameters, JsonObject, Saving, Ran)>
    )
)]
pub(super) async fn save_query(
    writer: SqlWriter,
    State(state): State<AppState>,
    PathName(name): PathName<QueryName>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<SavedQuery>), Problem> {
    let Draft { organisation, description, sql, parameters } = read_draft(body)?;
    let values = sample_values(&parameters);
    note_sql(&sql, &Value::Null);
    let organisation = organisation_of(&state, writer.principal(), organisation).await?;
    let asked = Asked::default().with_sql(sql.clone());
    let mut request = asked.into_request(&HeaderMap::new(), state.sql.limits(), state.sql.limits().timeout)?;
    request.parameters = bound(&values).map_err(|error| wrong(error.to_string()))?;
    let scope = writer.scope(&state.catalog, &[]).await?;
    let question = Question { request, wanted: None, as_of: None, params: values, saved: None };
    let columns = Prepared::of(&state, writer.principal(), scope, question).await?.columns(&state).await?;
    let text = SavedText { description, sql, parameters, columns };
    let (key, most) = (&writer.principal().key_prefix, state.sql.limits().saved);
    let (saved, is_new) = state.catalog.save_query(&organisation, &name, text, key, most).await?;
    note(|learned| learned.object = Some(format!("{}@{}", saved.name, saved.version)));
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(saved)))
}

fn wrong(detail: String) -> Problem {
    Problem::new(ErrorKind::Invalid, "invalid_saved_query", detail)
}

/// What a body asks to save.
struct Draft {
    organisation: Option<OrganisationSlug>,
    description: String,
    sql: String,
    parameters: Vec<SavedParameter>,
}

fn read_draft(mut body: Map<String, Value>) -> Result<Draft, Problem> {
    let parameters = body.shift_remove("parameters").filter(|value| !value.is_null());
    let mut fields = Fields::of(body);
    let organisation = fields.parsed::<OrganisationSlug>("organisation");
    let sql = fields.text("sql", |text| Ok(text.to_owned()));
    fields.need("sql", sql.as_ref());
    let description = fields.text("description", |text| {
        let short = text.chars().count() <= MAX_DESCRIPTION;
        if short { Ok(text.to_owned()) } else { Err(format!("description has at most {MAX_DESCRIPTION} characters")) }
    });
    let parameters = parameters.map_or(Ok(Vec::new()), read_parameters);
    let parameters = parameters.map_err(|message| fields.fault("parameters", message)).unwrap_or_default();
    fields.finish("invalid_saved_query")?;
    let sql = sql.ok_or_else(Problem::unexplained)?;
    Ok(Draft { organisation, description: description.unwrap_or_default(), sql, parameters })
}

fn read_parameters(json: Value) -> Result<Vec<SavedParameter>, String> {
    let parameters: Vec<SavedParameter> = serde_json::from_value(json).map_err(|error| {
        format!("parameters is a list of objects with name, type, and perhaps description and default: {error}")
    })?;
    if parameters.len() > MAX_PARAMETERS {
        return Err(format!("there are at most {MAX_PARAMETERS} parameters"));
    }
    let mut names = BTreeSet::new();
    for SavedParameter { name, description, default, .. } in &parameters {
        let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !plain || name.len() > 63 || !name.starts_with(|first: char| first.is_ascii_lowercase()) {
            return Err("a parameter's name is 1 to 63 of a-z, 0-9 and _, and begins with a letter".to_owned());
        }
        if RESERVED.contains(&name.as_str()) {
            return Err(format!("{name} says something else in a request; give the parameter another name"));
        }
        if !names.insert(name) {
            return Err(format!("there are two parameters {name}"));
        }
        let longest = description.chars().count().max(default.as_ref().map_or(0, |text| text.chars().count()));
        if longest > MAX_DESCRIPTION {
            return Err(format!("texts of the parameter {name} have more than {MAX_DESCRIPTION} characters"));
        }
    }
    Ok(parameters)
}

/// Run a saved query
///
/// Its newest version, or the one that is named, over what the key may see, as `GET /v1/sql` would: with the values of its
/// parameters in the query string, and with an `ETag`.
#[utoipa::path(
    get, path = "/v1/queries/saved/{name}", tag = "sql",
    params(("name" = QueryName, Path), OfOrganisation, SavedOptions, AsOfParameter, IfNoneMatch),
    responses(
        Rows<true>, NotModified,
        Refused<(MetricReader, PathName<QueryName>, Parameters, (NotAcceptable, Named), Ran)>
    )
)]
pub(super) async fn run_saved(
    reader: MetricReader,
    State(state): State<AppState>,
    PathName(name): PathName<QueryName>,
    headers: HeaderMap,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let named = parameters.take_as("organisation")?;
    let version = parameters.take_as::<u32>("version")?;
    if version == Some(0) {
        return Err(invalid_parameter("version", "versions are numbered from 1"));
    }
    let asked = Asked::take_options(&mut parameters)?;
    let organisation = organisation_of(&state, reader.principal(), named).await?;
    let saved = state.catalog.saved_query(&organisation, &name, version).await?.ok_or_else(Problem::not_found)?;
    let mut given = BTreeMap::new();
    for SavedParameter { name, .. } in &saved.parameters {
        given.extend(parameters.take(name)?.map(|text| (name.clone(), text)));
    }
    parameters.finish()?;
    let values = declared_values(&saved.parameters, &given)
        .map_err(|missing| invalid_parameter(&missing.0, missing.to_string()))?;
    note(|learned| {
        let saved = format!("{}@{}", saved.name, saved.version);
        learned.parameters = Some(json!({ "saved": saved, "sql": null, "params": values }));
    });
    let (wanted, as_of) = (asked.limit, asked.as_of);
    let asked = asked.with_sql(saved.sql);
    let mut request = asked.into_request(&headers, state.sql.limits(), state.sql.limits().timeout)?;
    request.parameters = bound(&values).map_err(|error| invalid_parameter("params", error.to_string()))?;
    let scope = reader.scope(&state.catalog, &[]).await?;
    let question = Question { request, wanted, as_of, params: values, saved: Some((saved.name, saved.version)) };
    Prepared::of(&state, reader.principal(), scope, question).await?.answer_if_changed(&state, &headers).await
}

/// Delete a saved query
///
/// All its versions. What is saved under the name later goes on with the next version.
#[utoipa::path(
    delete, path = "/v1/queries/saved/{name}", tag = "sql",
    params(("name" = QueryName, Path), OfOrganisation),
    responses(
        (status = 204, description = "It is gone."),
        Refused<(SqlWriter, PathName<QueryName>, Parameters, Named)>
    )
)]
pub(super) async fn delete_saved(
    writer: SqlWriter,
    State(state): State<AppState>,
    PathName(name): PathName<QueryName>,
    mut parameters: Parameters,
) -> Result<StatusCode, Problem> {
    let named = parameters.take_as("organisation")?;
    parameters.finish()?;
    let organisation = organisation_of(&state, writer.principal(), named).await?;
    let was_there = state.catalog.delete_saved_query(&organisation, &name).await?;
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(Problem::not_found()) }
}
