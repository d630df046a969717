//! `/v1/projects`.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use serde_json::{Map, Value, json};

use super::{
    Admin, AppState, Caller, JsonObject, NoParameters, PageRequest, Parameters, PathName, Problem,
    answers::ProjectList,
    next_cursor,
    problem_types::{Raises, Refused},
    requests::{NewProjectFields, ProjectChangeFields},
};
use crate::{
    access::Role,
    catalog::{FieldError, Project, ProjectText},
    error::ErrorKind,
    ids::ProjectSlug,
    nearest::nearest,
};

/// The most faults of one body that are listed.
const MAX_FAULTS: usize = 20;

/// What making a project can come to.
struct Creation;

impl Raises for Creation {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_project", "project_exists", "limit_reached", "storage_full"]
    }
}

/// What changing one can come to.
struct Change;

impl Raises for Change {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_project", "currency_fixed", "storage_full"]
    }
}

/// Make a project
#[utoipa::path(
    post, path = "/v1/projects", tag = "projects",
    request_body = NewProjectFields,
    responses(
        (status = 201, description = "The project.", body = Project,
            headers(("Location" = String, description = "Where it is."))),
        Refused<(Admin, NoParameters, JsonObject, Creation)>
    )
)]
pub(super) async fn create_project(
    _: Admin,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Project>), Problem> {
    let (text, faults) = read_fields(body);
    let new = checked(faults, text.into_new())?;
    let project = state.catalog.create_project(new).await?;
    let location = format!("/v1/projects/{}", project.slug);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(project)))
}

/// List projects
///
/// Those that the key may see, by slug.
#[utoipa::path(
    get, path = "/v1/projects", tag = "projects",
    params(PageRequest<ProjectSlug>),
    responses((status = 200, description = "A page of them.", body = ProjectList), Refused<(Caller, Parameters)>)
)]
pub(super) async fn list_projects(
    Caller(principal): Caller,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<ProjectList>, Problem> {
    let page = PageRequest::<ProjectSlug>::take(&mut parameters)?;
    parameters.finish()?;
    let page = match principal.role {
        Role::Admin => state.catalog.projects_page(page.after.as_ref(), page.limit).await?,
    };
    let next = next_cursor(&page, |project| project.slug.clone());
    Ok(Json(ProjectList { projects: page.items, next_cursor: next }))
}

/// Get a project
#[utoipa::path(
    get, path = "/v1/projects/{slug}", tag = "projects",
    params(("slug" = ProjectSlug, Path)),
    responses(
        (status = 200, description = "The project.", body = Project),
        Refused<(Caller, PathName<ProjectSlug>, NoParameters)>
    )
)]
pub(super) async fn get_project(
    Caller(principal): Caller,
    State(state): State<AppState>,
    PathName(slug): PathName<ProjectSlug>,
    _: NoParameters,
) -> Result<Json<Project>, Problem> {
    let project = match principal.role {
        Role::Admin => state.catalog.project(&slug).await?,
    };
    project.map(Json).ok_or_else(Problem::not_found)
}

/// Change a project
///
/// The fields that are there change, the others stay. The slug never changes, the currency not once there are uploads.
#[utoipa::path(
    patch, path = "/v1/projects/{slug}", tag = "projects",
    params(("slug" = ProjectSlug, Path)),
    request_body = ProjectChangeFields,
    responses(
        (status = 200, description = "The project as it is now.", body = Project),
        Refused<(Admin, PathName<ProjectSlug>, NoParameters, JsonObject, Change)>
    )
)]
pub(super) async fn update_project(
    _: Admin,
    State(state): State<AppState>,
    PathName(slug): PathName<ProjectSlug>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<Json<Project>, Problem> {
    let (text, faults) = read_fields(body);
    let change = checked(faults, text.into_change())?;
    Ok(Json(state.catalog.update_project(&slug, change).await?))
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
    faults.truncate(MAX_FAULTS);
    let names: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    let detail = match faults.as_slice() {
        [one] => format!("{}: {}", one.field, one.message),
        _ => format!("{} fields are wrong: {}", faults.len(), names.join(", ")),
    };
    Err(Problem::new(ErrorKind::Invalid, "invalid_project", detail).with("errors", json!(faults)))
}
