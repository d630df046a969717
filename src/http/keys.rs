//! `/v1/keys`: whom a server answers. A secret is told once, when its key is made.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::{
    AppState, JsonObject, NoParameters, OrganisationManager, PageRequest, Parameters, Problem,
    answers::{KeyList, MadeKey, RotatedKey},
    auth::forbidden,
    fields::Fields,
    found::KeyManager,
    next_cursor,
    problem_types::{Raises, Refused},
    requests::{NewKeyFields, RotationFields},
};
use crate::{
    access::{Permission, Principal, Role},
    audit::note,
    catalog::{ApiKey, KeyTerms, checked_name},
    ids::OrganisationSlug,
};

/// How long both keys of a rotation hold where the request does not say, as far as the settings let them.
pub(super) const DEFAULT_OVERLAP: Duration = Duration::from_hours(24);

/// Seconds beyond every setting of `keys.max_overlap_days`.
const LONGEST_OVERLAP_S: u64 = 10_000 * 24 * 3600;

/// What making a key can come to.
struct Creation;

impl Raises for Creation {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_key", "not_found", "organisation_needed", "limit_reached", "storage_full"]
    }
}

/// What revoking one can come to.
struct Revocation;

impl Raises for Revocation {
    fn codes() -> Vec<&'static str> {
        vec!["storage_full"]
    }
}

/// What rotating one can come to.
struct Turn;

impl Raises for Turn {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_key", "key_ended", "limit_reached", "storage_full"]
    }
}

/// Make a key
///
/// Of the manager's own organisation; an administrator names any, or none where there is one only. The secret is told here
/// and never again.
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys",
    request_body = NewKeyFields,
    responses(
        (status = 201, description = "The key and its secret.", body = MadeKey),
        Refused<(OrganisationManager, NoParameters, JsonObject, Creation)>
    )
)]
pub(super) async fn create_key(
    manager: OrganisationManager,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<MadeKey>), Problem> {
    let terms = read_terms(manager.principal(), body)?;
    let made = state.catalog.create_key(terms).await?;
    note(|learned| {
        learned.object = Some(made.key.prefix.clone());
        learned.parameters = Some(json!({ "role": made.key.role, "organisation": made.key.organisation }));
    });
    Ok((StatusCode::CREATED, Json(MadeKey { secret: made.secret, key: made.key })))
}

/// What a body asks for, as far as its sender may.
fn read_terms(principal: &Principal, body: Map<String, Value>) -> Result<KeyTerms, Problem> {
    let mut fields = Fields::of(body);
    let name = fields.text("name", checked_name);
    fields.need("name", name.as_ref());
    let role = fields.parsed::<Role>("role");
    fields.need("role", role.as_ref());
    let organisation = fields.parsed::<OrganisationSlug>("organisation");
    let expires_at = fields.text("expires_at", |text| in_the_future(text, Utc::now()));
    if role == Some(Role::Admin) && organisation.is_some() {
        fields.fault("organisation", "an administrator's key is of no organisation".to_owned());
    }
    fields.finish("invalid_key")?;
    let (Some(name), Some(role)) = (name, role) else { return Err(Problem::unexplained()) };
    if role == Role::Admin && principal.role != Role::Admin {
        return Err(forbidden(principal.role, Permission::RunServer.roles()));
    }
    let organisation = if role == Role::Admin { None } else { organisation_for(principal, organisation)? };
    Ok(KeyTerms { name, role, organisation, expires_at })
}

/// The organisation that something new is of: the one that is named, or the caller's own. None is left to an
/// administrator's, who need not name the only one.
pub(super) fn organisation_for(
    principal: &Principal,
    named: Option<OrganisationSlug>,
) -> Result<Option<OrganisationSlug>, Problem> {
    match named {
        Some(named) if !principal.reaches(&named) => Err(Problem::no_organisation()),
        Some(named) => Ok(Some(named)),
        None => Ok(principal.organisation.clone()),
    }
}

pub(super) fn in_the_future(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let wrong = || "an instant in the future with its offset is what it takes, such as 2030-01-01T00:00:00Z".to_owned();
    text.parse().ok().filter(|at| *at > now).ok_or_else(wrong)
}

/// List keys
///
/// Those of the manager's own organisation; an administrator's key lists all. The newest first, those that were revoked too.
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys",
    params(PageRequest<String>),
    responses(
        (status = 200, description = "A page of them.", body = KeyList),
        Refused<(OrganisationManager, Parameters)>
    )
)]
pub(super) async fn list_keys(
    manager: OrganisationManager,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<KeyList>, Problem> {
    let page = PageRequest::<String>::take(&mut parameters)?;
    parameters.finish()?;
    let page = state.catalog.keys_page(manager.principal(), page.after.as_deref(), page.limit).await?;
    let next = next_cursor(&page, |key| key.prefix.clone());
    Ok(Json(KeyList { keys: page.items, next_cursor: next }))
}

/// Revoke a key
///
/// For good: it fails from the next request on, and a file that still comes under it does not land. One that is revoked
/// already stays so.
#[utoipa::path(
    delete, path = "/v1/keys/{prefix}", tag = "keys",
    params(("prefix" = String, Path, description = "The eight letters after `wl_`.")),
    responses(
        (status = 200, description = "The key as it is now.", body = ApiKey),
        Refused<(KeyManager, NoParameters, Revocation)>
    )
)]
pub(super) async fn revoke_key(
    found: KeyManager,
    State(state): State<AppState>,
    _: NoParameters,
) -> Result<Json<ApiKey>, Problem> {
    Ok(Json(state.catalog.revoke_key(&found.key.prefix).await?))
}

/// Rotate a key
///
/// Makes a key of the same name, role and organisation, which lives as long as this one was to. Both hold until the overlap
/// is over; then this one ends. The secret is told here and never again.
#[utoipa::path(
    post, path = "/v1/keys/{prefix}/rotate", tag = "keys",
    params(("prefix" = String, Path, description = "The eight letters after `wl_`.")),
    request_body = RotationFields,
    responses(
        (status = 201, description = "The new key and its secret, and the old key as it is now.", body = RotatedKey),
        Refused<(KeyManager, NoParameters, JsonObject, Turn)>
    )
)]
pub(super) async fn rotate_key(
    found: KeyManager,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<RotatedKey>), Problem> {
    let mut fields = Fields::of(body);
    let most = state.catalog.limits().overlap;
    let overlap = fields.number("overlap_s", 0..=LONGEST_OVERLAP_S).map(Duration::from_secs);
    if overlap.is_some_and(|overlap| overlap > most) {
        let most = most.as_secs();
        fields.fault(
            "overlap_s",
            format!("both keys of a rotation hold for {most} seconds at most, says keys.max_overlap_days"),
        );
    }
    fields.finish("invalid_key")?;
    let overlap = overlap.unwrap_or(DEFAULT_OVERLAP.min(most));
    let rotation = state.catalog.rotate_key(&found.key.prefix, overlap).await?;
    let (secret, key) = (rotation.new.secret, rotation.new.key);
    note(|learned| learned.parameters = Some(json!({ "replaced_by": key.prefix })));
    Ok((StatusCode::CREATED, Json(RotatedKey { secret, key, replaced: rotation.old })))
}
