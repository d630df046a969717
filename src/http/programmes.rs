//! `/v1/programmes`: who pays for connections which really pay, by which rule, and whom they invite.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use utoipa::IntoParams;

use super::{
    AppState, JsonObject, NoParameters, OrganisationManager, PageRequest, Parameters, Problem, ProjectReader,
    extract::invalid_parameter,
    fields::Fields,
    found_programmes::{ProgrammeManager, ProgrammeViewer},
    keys::organisation_for,
    next_cursor,
    problem_types::{Raises, Refused},
    programme_answers::{
        NewProgrammeFields, ProgrammeChangeFields, ProgrammeList, ProgrammeTerms, ProgrammeVersionList, SidedProgramme,
    },
};
use crate::{
    access::Principal,
    audit::note,
    catalog::{
        CatalogError, NewProgramme, Programme, ProgrammeChange, ProgrammeError, ProgrammeVersion, Side, checked_name,
    },
    error::ErrorKind,
    ids::{OrganisationSlug, ProgrammeSlug},
    programmes::{Rule, checked_columns},
};

/// Which terms to read.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "a description")]
struct OfVersion {
    /// The newest, if nothing else is said.
    #[param(minimum = 1)]
    version: Option<u32>,
}

/// What making a programme can come to.
struct Creation;

impl Raises for Creation {
    fn codes() -> Vec<&'static str> {
        let request = ["invalid_programme", "not_found", "organisation_needed"];
        [&request[..], &["programme_exists", "slug_taken", "limit_reached", "storage_full"]].concat()
    }
}

/// What changing one can come to.
struct Change;

impl Raises for Change {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_programme", "not_found", "limit_reached", "storage_full"]
    }
}

/// Columns that a list names at most, those that are repeated among them.
const MAX_COLUMNS: usize = 100;

/// Make a programme
///
/// Of the manager's own organisation, which administers it; an administrator names any, or none where there is one only. The
/// organisations that are invited see it and may enrol their projects; nobody else knows of it.
#[utoipa::path(
    post, path = "/v1/programmes", tag = "programmes",
    request_body = NewProgrammeFields,
    responses(
        (status = 201, description = "The programme.", body = ProgrammeTerms,
            headers(("Location" = String, description = "Where it is."))),
        Refused<(OrganisationManager, NoParameters, JsonObject, Creation)>
    )
)]
pub(super) async fn create_programme(
    manager: OrganisationManager,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<ProgrammeTerms>), Problem> {
    let principal = manager.principal();
    let mut new = read_new(body, principal)?;
    new.organisation = organisation_for(principal, new.organisation)?;
    let programme = match state.catalog.create_programme(new).await {
        Err(CatalogError::Programme(ProgrammeError::Exists(slug))) => return Err(taken(&state, principal, slug).await),
        other => other?,
    };
    note(|learned| {
        learned.object = Some(programme.slug.to_string());
        learned.parameters = Some(terms_noted(&programme));
    });
    let location = format!("/v1/programmes/{}", programme.slug);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(ProgrammeTerms::of(programme, principal)?)))
}

/// What the audit log keeps of a programme: which terms, and who may see it.
fn terms_noted(programme: &Programme) -> Value {
    json!({ "version": programme.version, "invited": programme.invited.len() })
}

/// The slug is another programme's: one that the caller may know of, or one that is nobody's business here.
async fn taken(state: &AppState, principal: &Principal, slug: ProgrammeSlug) -> Problem {
    match state.catalog.programme(&slug).await {
        Ok(Some(programme)) if programme.side_of(principal).is_some() => {
            CatalogError::from(ProgrammeError::Exists(slug)).into()
        }
        Ok(_) => Problem::new(ErrorKind::Conflict, "slug_taken", "this slug is taken; choose another"),
        Err(error) => error.into(),
    }
}

fn read_new(body: Map<String, Value>, principal: &Principal) -> Result<NewProgramme, Problem> {
    let mut fields = Fields::of(body);
    let slug = fields.parsed::<ProgrammeSlug>("slug");
    fields.need("slug", slug.as_ref());
    let name = fields.text("name", checked_name);
    fields.need("name", name.as_ref());
    let organisation = fields.parsed::<OrganisationSlug>("organisation");
    let required_columns = take_columns(&mut fields).unwrap_or_default();
    let rule = take_rule(&mut fields);
    fields.need("rule", rule.as_ref());
    let invited = take_invited(&mut fields).unwrap_or_default();
    fields.finish("invalid_programme")?;
    let (Some(slug), Some(name), Some(rule)) = (slug, name, rule) else { return Err(Problem::unexplained()) };
    let created_by = Some(principal.key_prefix.clone());
    Ok(NewProgramme { slug, organisation, name, required_columns, rule, invited, created_by })
}

fn take_columns(fields: &mut Fields) -> Option<Vec<String>> {
    fields.value("required_columns", |value| {
        let names: Vec<String> = listed(value, "required_columns is a list of names of columns")?;
        if names.len() > MAX_COLUMNS {
            return Err(format!("required_columns names at most {MAX_COLUMNS} columns"));
        }
        checked_columns(&names)
    })
}

fn take_invited(fields: &mut Fields) -> Option<Vec<OrganisationSlug>> {
    fields.value("invited", |value| listed(value, "invited is a list of slugs of organisations"))
}

pub(super) fn take_rule(fields: &mut Fields) -> Option<Rule> {
    fields.value("rule", |value| {
        let rule: Rule = serde_json::from_value(value).map_err(|error| format!("it is no rule: {error}"))?;
        rule.check().map_err(|(field, message)| format!("{field}: {message}"))?;
        Ok(rule)
    })
}

fn listed<T: DeserializeOwned>(value: Value, what: &str) -> Result<Vec<T>, String> {
    serde_json::from_value(value).map_err(|error| format!("{what}: {error}"))
}

/// List programmes
///
/// Those of the key's organisation, and those that invite it or in which it takes part, by slug.
#[utoipa::path(
    get, path = "/v1/programmes", tag = "programmes",
    params(PageRequest<ProgrammeSlug>),
    responses(
        (status = 200, description = "A page of them.", body = ProgrammeList),
        Refused<(ProjectReader, Parameters)>
    )
)]
pub(super) async fn list_programmes(
    reader: ProjectReader,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<ProgrammeList>, Problem> {
    let page = PageRequest::<ProgrammeSlug>::take(&mut parameters)?;
    parameters.finish()?;
    let principal = reader.principal();
    let page = state.catalog.programmes_page(principal, page.after.as_ref(), page.limit).await?;
    let next_cursor = next_cursor(&page, |programme| programme.slug.clone());
    let sided = page.items.into_iter().filter_map(|programme| {
        let side = programme.side_of(principal)?;
        Some(SidedProgramme { programme, side })
    });
    Ok(Json(ProgrammeList { programmes: sided.collect(), next_cursor }))
}

/// Get a programme
///
/// With its newest terms, or those of the version that is named, and with what enrolling a project discloses.
#[utoipa::path(
    get, path = "/v1/programmes/{programme}", tag = "programmes",
    params(("programme" = ProgrammeSlug, Path), OfVersion),
    responses(
        (status = 200, description = "The programme.", body = ProgrammeTerms),
        Refused<(ProgrammeViewer, Parameters)>
    )
)]
pub(super) async fn get_programme(
    found: ProgrammeViewer,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<ProgrammeTerms>, Problem> {
    let version = parameters.take_as::<u32>("version")?;
    parameters.finish()?;
    let ProgrammeViewer { programme, principal, .. } = found;
    let programme = match version {
        None => programme,
        Some(0) => return Err(invalid_parameter("version", "versions are numbered from 1")),
        Some(version) => {
            let terms = state.catalog.programme_version(&programme.slug, version).await?;
            programme.with_terms(terms.ok_or_else(Problem::not_found)?)
        }
    };
    Ok(Json(ProgrammeTerms::of(programme, &principal)?))
}

/// List the versions of a programme's terms
///
/// The newest first. Each stays what it is.
#[utoipa::path(
    get, path = "/v1/programmes/{programme}/versions", tag = "programmes",
    params(("programme" = ProgrammeSlug, Path), PageRequest<u32>),
    responses(
        (status = 200, description = "A page of them.", body = ProgrammeVersionList),
        Refused<(ProgrammeViewer, Parameters)>
    )
)]
pub(super) async fn list_programme_versions(
    found: ProgrammeViewer,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<ProgrammeVersionList>, Problem> {
    let request = PageRequest::<u32>::take(&mut parameters)?;
    parameters.finish()?;
    let page = state.catalog.programme_versions(&found.programme.slug, request.after, request.limit).await?;
    let next_cursor = next_cursor(&page, |version| version.version);
    let shown = page.items.into_iter().map(|version| {
        // Which key of the other side made it is that side's business.
        let created_by = version.created_by.filter(|_| found.side == Side::Administrator);
        ProgrammeVersion { created_by, ..version }
    });
    Ok(Json(ProgrammeVersionList { versions: shown.collect(), next_cursor }))
}

/// Change a programme
///
/// The fields that are there change, the others stay. Another rule, or other columns, make the next version of the terms: projects
/// that take part stay with the version that was consented to, until they consent to the newer one. The same again changes nothing.
/// Slug and organisation never change.
#[utoipa::path(
    patch, path = "/v1/programmes/{programme}", tag = "programmes",
    params(("programme" = ProgrammeSlug, Path)),
    request_body = ProgrammeChangeFields,
    responses(
        (status = 200, description = "The programme as it is now.", body = ProgrammeTerms),
        Refused<(ProgrammeManager, NoParameters, JsonObject, Change)>
    )
)]
pub(super) async fn update_programme(
    found: ProgrammeManager,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<Json<ProgrammeTerms>, Problem> {
    let ProgrammeManager { programme, principal } = found;
    let mut fields = Fields::of(body);
    for fixed in ["slug", "organisation"] {
        fields.text::<()>(fixed, |_| Err("it never changes; make another programme".to_owned()));
    }
    let change = ProgrammeChange {
        name: fields.text("name", checked_name),
        required_columns: take_columns(&mut fields),
        rule: take_rule(&mut fields),
        invited: take_invited(&mut fields),
        changed_by: Some(principal.key_prefix.clone()),
    };
    fields.finish("invalid_programme")?;
    let programme = state.catalog.update_programme(&programme.slug, change).await?;
    note(|learned| learned.parameters = Some(terms_noted(&programme)));
    Ok(Json(ProgrammeTerms::of(programme, &principal)?))
}
