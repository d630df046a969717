//! `/v1/organisations`.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};

use super::{
    Admin, AppState, Caller, JsonObject, NoParameters, PageRequest, Parameters, Problem,
    answers::OrganisationList,
    fields::Fields,
    found::{OrganisationEditor, OrganisationViewer},
    next_cursor,
    problem_types::{Raises, Refused},
    requests::{NewOrganisationFields, OrganisationChangeFields},
};
use crate::{
    audit::note,
    catalog::{Organisation, checked_name},
    ids::OrganisationSlug,
};

/// What making an organisation can come to.
struct Creation;

impl Raises for Creation {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_organisation", "organisation_exists", "limit_reached", "storage_full"]
    }
}

/// What changing one can come to.
struct Change;

impl Raises for Change {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_organisation", "storage_full"]
    }
}

/// Make an organisation
#[utoipa::path(
    post, path = "/v1/organisations", tag = "organisations",
    request_body = NewOrganisationFields,
    responses(
        (status = 201, description = "The organisation.", body = Organisation,
            headers(("Location" = String, description = "Where it is."))),
        Refused<(Admin, NoParameters, JsonObject, Creation)>
    )
)]
pub(super) async fn create_organisation(
    _: Admin,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Organisation>), Problem> {
    let mut fields = Fields::of(body);
    let slug = fields.parsed::<OrganisationSlug>("slug");
    fields.need("slug", slug.as_ref());
    let name = fields.text("name", checked_name);
    fields.need("name", name.as_ref());
    fields.finish("invalid_organisation")?;
    let (Some(slug), Some(name)) = (slug, name) else { return Err(Problem::unexplained()) };
    note(|learned| learned.object = Some(slug.to_string()));
    let made = state.catalog.create_organisation(slug, name).await?;
    let location = format!("/v1/organisations/{}", made.slug);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(made)))
}

/// List organisations
///
/// The key's own; an administrator's key lists all, by slug.
#[utoipa::path(
    get, path = "/v1/organisations", tag = "organisations",
    params(PageRequest<OrganisationSlug>),
    responses((status = 200, description = "A page of them.", body = OrganisationList), Refused<(Caller, Parameters)>)
)]
pub(super) async fn list_organisations(
    caller: Caller,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<OrganisationList>, Problem> {
    let page = PageRequest::<OrganisationSlug>::take(&mut parameters)?;
    parameters.finish()?;
    let page = state.catalog.organisations(caller.principal(), page.after.as_ref(), page.limit).await?;
    let next = next_cursor(&page, |organisation| organisation.slug.clone());
    Ok(Json(OrganisationList { organisations: page.items, next_cursor: next }))
}

/// Get an organisation
#[utoipa::path(
    get, path = "/v1/organisations/{slug}", tag = "organisations",
    params(("slug" = OrganisationSlug, Path)),
    responses(
        (status = 200, description = "The organisation.", body = Organisation),
        Refused<(OrganisationViewer, NoParameters)>
    )
)]
pub(super) async fn get_organisation(found: OrganisationViewer, _: NoParameters) -> Json<Organisation> {
    Json(found.organisation)
}

/// Change an organisation
///
/// Its name. The slug never changes.
#[utoipa::path(
    patch, path = "/v1/organisations/{slug}", tag = "organisations",
    params(("slug" = OrganisationSlug, Path)),
    request_body = OrganisationChangeFields,
    responses(
        (status = 200, description = "The organisation as it is now.", body = Organisation),
        Refused<(OrganisationEditor, NoParameters, JsonObject, Change)>
    )
)]
pub(super) async fn update_organisation(
    found: OrganisationEditor,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<Json<Organisation>, Problem> {
    let organisation = found.organisation;
    let mut fields = Fields::of(body);
    let stays = |_: &str| Err("a slug never changes, because keys and projects hold it".to_owned());
    fields.text::<OrganisationSlug>("slug", stays);
    let name = fields.text("name", checked_name);
    fields.finish("invalid_organisation")?;
    match name {
        Some(name) => Ok(Json(state.catalog.rename_organisation(&organisation.slug, &name).await?)),
        None => Ok(Json(organisation)),
    }
}
