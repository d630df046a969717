//! `/v1/projects/{slug}/shares` and `/v1/shares`: which months of a project another organisation is shown.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use chrono::Utc;
use serde_json::{Map, Value, json};

use super::{
    AppState, JsonObject, NoParameters, PageRequest, Parameters, Problem, ProjectReader,
    answers::{ShareList, SidedShareList},
    auth::permit,
    fields::Fields,
    found::{ProjectManager, ShareManager},
    keys::in_the_future,
    next_cursor,
    problem_types::{Raises, Refused},
    requests::{NewShareFields, ShareChangeFields, ShareSide},
};
use crate::{
    access::{Detail, MonthRange, Permission},
    audit::note,
    catalog::{Catalog, Direction, NewShare, Share, ShareChange},
    ids::{Month, OrganisationSlug, ProjectSlug, ShareId},
};

/// What making a share can come to.
struct Creation;

impl Raises for Creation {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_share", "not_found", "limit_reached", "storage_full"]
    }
}

/// What changing one can come to.
struct Change;

impl Raises for Change {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_share", "share_revoked", "storage_full"]
    }
}

/// What revoking one can come to.
struct Revocation;

impl Raises for Revocation {
    fn codes() -> Vec<&'static str> {
        vec!["storage_full"]
    }
}

/// Share a project
///
/// With another organisation, by whole months of UTC. Its keys may then read the project's record, and metrics of these
/// months; nothing else of the project, and they cannot share on. Several shares of one project add up.
#[utoipa::path(
    post, path = "/v1/projects/{slug}/shares", tag = "shares",
    params(("slug" = ProjectSlug, Path)),
    request_body = NewShareFields,
    responses(
        (status = 201, description = "The share.", body = Share,
            headers(("Location" = String, description = "Where it is changed and revoked."))),
        Refused<(ProjectManager, NoParameters, JsonObject, Creation)>
    )
)]
pub(super) async fn create_share(
    manager: ProjectManager,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<Share>), Problem> {
    let ProjectManager { project, principal } = manager;
    let new = read_new(&state.catalog, body, project.slug, principal.key_prefix)?;
    let share = state.catalog.create_share(new).await?;
    note(|learned| {
        learned.object = Some(share.id.to_string());
        learned.parameters = Some(json!({ "recipient": share.recipient, "detail": share.detail }));
    });
    let location = format!("/v1/projects/{}/shares/{}", share.project, share.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(share)))
}

fn read_new(
    catalog: &Catalog,
    body: Map<String, Value>,
    project: ProjectSlug,
    key_prefix: String,
) -> Result<NewShare, Problem> {
    let mut fields = Fields::of(body);
    let recipient = fields.parsed::<OrganisationSlug>("recipient");
    fields.need("recipient", recipient.as_ref());
    let months = MonthRange { from: fields.parsed::<Month>("months_from"), to: fields.parsed::<Month>("months_to") };
    let detail = fields.parsed::<Detail>("detail");
    fields.need("detail", detail.as_ref());
    let note = fields.text("note", |text| catalog.checked_note(text)).unwrap_or_default();
    let expires_at = fields.text("expires_at", |text| in_the_future(text, Utc::now()));
    fields.finish("invalid_share")?;
    let (Some(recipient), Some(detail)) = (recipient, detail) else { return Err(Problem::unexplained()) };
    Ok(NewShare { project, recipient, months, detail, note, expires_at, created_by: Some(key_prefix) })
}

/// List the shares of a project
///
/// With whomever, the newest first; those that were revoked or have expired too.
#[utoipa::path(
    get, path = "/v1/projects/{slug}/shares", tag = "shares",
    params(("slug" = ProjectSlug, Path), PageRequest<ShareId>),
    responses(
        (status = 200, description = "A page of them.", body = ShareList),
        Refused<(ProjectManager, Parameters)>
    )
)]
pub(super) async fn list_project_shares(
    manager: ProjectManager,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<ShareList>, Problem> {
    let page = PageRequest::<ShareId>::take(&mut parameters)?;
    parameters.finish()?;
    let page = state.catalog.shares_of(Some(&manager.project.slug), page.after.as_ref(), page.limit).await?;
    let next = next_cursor(&page, |share| share.id.clone());
    Ok(Json(ShareList { shares: page.items, next_cursor: next }))
}

/// List shares
///
/// What the key's organisation gives, for its managers, and what it receives, as long as it holds; the newest first. To an
/// administrator, each is given.
#[utoipa::path(
    get, path = "/v1/shares", tag = "shares",
    params(ShareSide, PageRequest<ShareId>),
    responses(
        (status = 200, description = "A page of them.", body = SidedShareList),
        Refused<(ProjectReader, Parameters)>
    )
)]
pub(super) async fn list_shares(
    reader: ProjectReader,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<SidedShareList>, Problem> {
    let direction = parameters.take_as::<Direction>("direction")?;
    let page = PageRequest::<ShareId>::take(&mut parameters)?;
    parameters.finish()?;
    let principal = reader.principal();
    if direction == Some(Direction::Given) {
        permit(principal, Permission::Manage)?;
    }
    let page = state.catalog.shares_page(principal, direction, page.after.as_ref(), page.limit).await?;
    let next_cursor = next_cursor(&page, |share| share.id.clone());
    let shares = page.items.into_iter().map(|share| {
        let given = principal.reaches(&share.organisation);
        let direction = if given { Direction::Given } else { Direction::Received };
        // Which key of the other side made it is that side's business.
        let share = Share { created_by: share.created_by.filter(|_| given), ..share };
        let mut shown = json!(share);
        shown["direction"] = json!(direction);
        shown
    });
    Ok(Json(SidedShareList { shares: shares.collect(), next_cursor }))
}

/// Change a share
///
/// The fields that are there change, the others stay. A null opens an end of the months, or takes the expiry away; a share
/// that expired holds again where it is prolonged. Recipient and project never change.
#[utoipa::path(
    patch, path = "/v1/projects/{slug}/shares/{id}", tag = "shares",
    params(("slug" = ProjectSlug, Path), ("id" = ShareId, Path)),
    request_body = ShareChangeFields,
    responses(
        (status = 200, description = "The share as it is now.", body = Share),
        Refused<(ShareManager, NoParameters, JsonObject, Change)>
    )
)]
pub(super) async fn update_share(
    found: ShareManager,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<Json<Share>, Problem> {
    let mut fields = Fields::of(body);
    let stays = |_: &str| Err("it never changes: revoke this share and make another".to_owned());
    fields.text::<OrganisationSlug>("recipient", stays);
    let month = |text: &str| text.parse::<Month>().map_err(|error| error.to_string());
    let months_from = fields.or_nothing("months_from", month);
    let months_to = fields.or_nothing("months_to", month);
    let detail = fields.parsed::<Detail>("detail");
    let note = fields.text("note", |text| state.catalog.checked_note(text));
    let expires_at = fields.or_nothing("expires_at", |text| in_the_future(text, Utc::now()));
    fields.finish("invalid_share")?;
    let change = ShareChange { months_from, months_to, detail, note, expires_at };
    Ok(Json(state.catalog.update_share(&found.share.id, change).await?))
}

/// Revoke a share
///
/// For good: the recipient's next question does not find it, and one that runs ends. One that is revoked already stays so.
#[utoipa::path(
    delete, path = "/v1/projects/{slug}/shares/{id}", tag = "shares",
    params(("slug" = ProjectSlug, Path), ("id" = ShareId, Path)),
    responses(
        (status = 200, description = "The share as it is now.", body = Share),
        Refused<(ShareManager, NoParameters, Revocation)>
    )
)]
pub(super) async fn revoke_share(
    found: ShareManager,
    State(state): State<AppState>,
    _: NoParameters,
) -> Result<Json<Share>, Problem> {
    Ok(Json(state.catalog.revoke_share(&found.share.id).await?))
}
