//! Extractors that are the permission: a handler that takes `Admin` cannot be reached without an administrator's key.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use super::{AppState, Problem, middleware::KeyOfRequest, problem_types::Raises};
use crate::{
    access::{Principal, Role},
    error::ErrorKind,
};

/// Anybody with a key that holds.
pub struct Caller(pub Principal);

/// The holder of an administrator's key.
pub struct Admin(pub Principal);

/// Whoever may read the operational counters: the holder of an administrator's key, or anybody where `http.metrics_open`
/// says so.
pub struct Monitor;

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let presented = bearer(&parts.headers).ok_or_else(unauthenticated)?;
        let principal = state.catalog.verify_key(presented).await?.ok_or_else(unauthenticated)?;
        if let Some(key) = parts.extensions.get::<KeyOfRequest>() {
            key.set(&principal.key_prefix);
        }
        Ok(Self(principal))
    }
}

impl FromRequestParts<AppState> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Caller(principal) = Caller::from_request_parts(parts, state).await?;
        match principal.role {
            Role::Admin => Ok(Self(principal)),
        }
    }
}

impl FromRequestParts<AppState> for Monitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        if state.config.http.metrics_open {
            return Ok(Self);
        }
        Admin::from_request_parts(parts, state).await.map(|Admin(_)| Self)
    }
}

impl Raises for Caller {
    fn codes() -> Vec<&'static str> {
        vec!["unauthenticated", "unavailable"]
    }
}

impl Raises for Admin {
    fn codes() -> Vec<&'static str> {
        Caller::codes()
    }
}

impl Raises for Monitor {
    fn codes() -> Vec<&'static str> {
        Admin::codes()
    }
}

/// The token of the one `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// One answer for no key, a wrong one and a revoked one: which it was is nobody's business who holds none.
fn unauthenticated() -> Problem {
    let detail = "send a key that holds as Authorization: Bearer wl_…; `wattlake keys create` makes one";
    Problem::new(ErrorKind::Unauthenticated, "unauthenticated", detail)
}
