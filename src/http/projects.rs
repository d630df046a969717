//! `/v1/projects`.

use std::slice;

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use serde_json::{Map, Value};

use super::{
    AppState, JsonObject, NoParameters, OrganisationManager, PageRequest, Parameters, Problem, ProjectReader,
    answers::ProjectList,
    fields::wrong_fields,
    found::{ProjectManager, ProjectViewer},
    keys::organisation_for,
    next_cursor,
    problem_types::{Raises, Refused},
    requests::{NewProjectFields, ProjectChangeFields},
};
use crate::{
    audit::note,
    catalog::{CatalogError, FieldError, Project, ProjectText},
    error::ErrorKind,
    ids::ProjectSlug,
    nearest::nearest,
};

/// What making a project can come to.
struct Creation;

impl Raises for Creation {
    fn codes() -> Vec<&'static str> {
        let request = ["invalid_project", "not_found", "organisation_needed"];
        [&request[..], &["project_exists", "slug_taken", "limit_reached", "storage_full"]].concat()
    }
}

/// What changing one can come to.
struct Change;

impl Raises for Change {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_project", "currency_fixed", "enrolment_currency", "storage_full"]
    }
}

/// Make a project
///
/// Of the manager's own organisation; an administrator names any, or none where there is one only.
#[utoipa::path(
    post, path = "/v1/projects", tag = "projects",
    request_body = NewProjectFields,
    responses(
        (status = 201, description = "The project.", body = Project,
            headers(("Location" = String, description = "Where it is."))),
        Refused<(OrganisationManager, NoParameters, JsonObject, Creation)>
    )
)]
pub(super) async fn create_project(
    manager: OrganisationManager,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Project>), Problem> {
    let (text, faults) = read_fields(body);
    let mut new = checked(faults, text.into_new())?;
    new.organisation = organisation_for(manager.principal(), new.organisation)?;
    let project = match state.catalog.create_project(new).await {
        Err(CatalogError::ProjectExists(slug)) => return Err(taken(&state, &manager, slug).await),
        other => other?,
    };
    note(|learned| {
        learned.object = Some(project.slug.to_string());
        learned.projects = vec![project.slug.clone()];
    });
    let location = format!("/v1/projects/{}", project.slug);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(project)))
}

/// The slug is another project's: one that the caller may know of, or one that is nobody's business here.
async fn taken(state: &AppState, manager: &OrganisationManager, slug: ProjectSlug) -> Problem {
    match state.catalog.scope(manager.principal(), slice::from_ref(&slug)).await {
        Ok(Some(_)) => CatalogError::ProjectExists(slug).into(),
        Ok(None) => Problem::new(ErrorKind::Conflict, "slug_taken", "this slug is taken; choose another"),
        Err(error) => error.into(),
    }
}

/// List projects
///
/// Those that the key may see, by slug.
#[utoipa::path(
    get, path = "/v1/projects", tag = "projects",
    params(PageRequest<ProjectSlug>),
    responses((status = 200, description = "A page of them.", body = ProjectList), Refused<(ProjectReader, Parameters)>)
)]
pub(super) async fn list_projects(
    reader: ProjectReader,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<ProjectList>, Problem> {
    let page = PageRequest::<ProjectSlug>::take(&mut parameters)?;
    parameters.finish()?;
    let scope = reader.scope(&state.catalog, &[]).await?;
    let page = state.catalog.projects_page(&scope, page.after.as_ref(), page.limit).await?;
    // Whose project is shared sees who read its record, and by what.
    note(|learned| {
        let read = |project: &ProjectSlug| page.items.iter().any(|item| item.slug == *project);
        learned.shares = scope.shares();
        learned.shares.retain(|_, project| read(project));
        learned.projects = learned.shares.values().cloned().collect();
    });
    let next = next_cursor(&page, |project| project.slug.clone());
    Ok(Json(ProjectList { projects: page.items, next_cursor: next }))
}

/// Get a project
#[utoipa::path(
    get, path = "/v1/projects/{slug}", tag = "projects",
    params(("slug" = ProjectSlug, Path)),
    responses(
        (status = 200, description = "The project.", body = Project),
        Refused<(ProjectViewer, NoParameters)>
    )
)]
pub(super) async fn get_project(found: ProjectViewer, _: NoParameters) -> Json<Project> {
    Json(found.project)
}

/// Change a project
///
/// The fields that are there change, the others stay. Slug and organisation never change, the currency not once there are
/// uploads.
#[utoipa::path(
    patch, path = "/v1/projects/{slug}", tag = "projects",
    params(("slug" = ProjectSlug, Path)),
    request_body = ProjectChangeFields,
    responses(
        (status = 200, description = "The project as it is now.", body = Project),
        Refused<(ProjectManager, NoParameters, JsonObject, Change)>
    )
)]
pub(super) async fn update_project(
    found: ProjectManager,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<Json<Project>, Problem> {
    let (text, faults) = read_fields(body);
    let change = checked(faults, text.into_change())?;
    Ok(Json(state.catalog.update_project(&found.project.slug, change).await?))
}

/// Sorts a body into the fields of a project; what is unknown or not a text is a fault.
fn read_fields(body: Map<String, Value>) -> (ProjectText, Vec<FieldError>) {
    let mut text = ProjectText::default();
    let mut faults = Vec::new();
    for (field, value) in body {
        let message = match (text.field_mut(&field), value) {
            (Some(place), Value::String(value)) => {
                *place = Some(value);
                continue;
            }
            (Some(place), _) => {
                // It is there, if wrong: to say also that it is missing would mislead.
                *place = None;
                format!("{field} is a text, in quotes")
            }
            (None, _) => {
                let meant = nearest(&field, ProjectText::FIELDS);
                let meant = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
                format!("a project has no {field:?}; it has {}{meant}", ProjectText::FIELDS.join(", "))
            }
        };
        faults.push(FieldError { field, message });
    }
    (text, faults)
}

/// The value where there are no faults; else one problem with all of them, one entry a field.
fn checked<T>(mut faults: Vec<FieldError>, value: Result<T, Vec<FieldError>>) -> Result<T, Problem> {
    let errors = match value {
        Ok(value) if faults.is_empty() => return Ok(value),
        Ok(_) => Vec::new(),
        Err(errors) => errors,
    };
    for error in errors {
        if faults.iter().all(|fault| fault.field != error.field) {
            faults.push(error);
        }
    }
    Err(wrong_fields("invalid_project", faults))
}
