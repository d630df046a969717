//! Extractors that are the permission: a handler that takes `Admin` cannot be reached without an administrator's key. Those
//! that are about one thing that the path names are in `found.rs`.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};

use super::{
    AppState, Problem, middleware::KeyOfRequest, problem_types::Raises, recording, rights::Rights, watch::Watch,
};
use crate::{
    access::{Permission, Principal, Role, Scope},
    catalog::{Catalog, Proof},
    error::ErrorKind,
    ids::ProjectSlug,
};

/// Anybody with a key that holds.
pub struct Caller {
    principal: Principal,
    /// Of its connection.
    watch: Option<Watch>,
}

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let Some(presented) = bearer(&parts.headers) else {
            state.counters.unauthenticated("none");
            return Err(unauthenticated());
        };
        let principal = match state.catalog.verify_key(presented).await? {
            Proof::Holds(principal) => principal,
            Proof::Ended { prefix, organisation, how } => {
                state.counters.unauthenticated(how);
                recording::refuse(parts, state, &prefix, organisation, how);
                return Err(unauthenticated());
            }
            Proof::Nothing => {
                state.counters.unauthenticated("unknown");
                return Err(unauthenticated());
            }
        };
        if let Some(key) = parts.extensions.get::<KeyOfRequest>() {
            key.set(&principal.key_prefix);
        }
        let watch = parts.extensions.get::<Watch>().cloned();
        if let Some(watch) = &watch {
            watch.follow(Rights::of(&state.catalog, &principal));
        }
        recording::admit(parts, state, &principal).await?;
        Ok(Self { principal, watch })
    }
}

impl Caller {
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}

impl Raises for Caller {
    fn codes() -> Vec<&'static str> {
        vec!["unauthenticated", "too_many_requests", "unavailable", "storage_full"]
    }
}

/// Extractors that ask for a role, whatever the request is about.
macro_rules! holders_of {
    ($($(#[$about:meta])* $name:ident: $permission:ident;)+) => {$(
        $(#[$about])*
        pub struct $name(Caller);

        impl FromRequestParts<AppState> for $name {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
                let caller = Caller::from_request_parts(parts, state).await?;
                permit(caller.principal(), Permission::$permission)?;
                Ok(Self(caller))
            }
        }

        impl $name {
            #[must_use]
            pub fn principal(&self) -> &Principal {
                self.0.principal()
            }

            /// What the request may see, narrowed to projects that it names; everything that the key may see where it names
            /// none. A project that is absent and one that is foreign answer the same.
            pub async fn scope(&self, catalog: &Catalog, named: &[ProjectSlug]) -> Result<Scope, Problem> {
                let scope = catalog.scope(self.principal(), named).await?.ok_or_else(Problem::no_project)?;
                if let Some(watch) = self.0.watch.as_ref().filter(|_| scope.has_shared()) {
                    watch.follow(Rights::of(catalog, self.principal()).to(&scope));
                }
                Ok(scope)
            }
        }

        impl Raises for $name {
            fn codes() -> Vec<&'static str> {
                [Caller::codes(), vec!["forbidden"]].concat()
            }
        }
    )+};
}

holders_of! {
    /// The holder of an administrator's key.
    Admin: RunServer;
    /// Who has an organisation's projects and keys in hand; an administrator has those of all.
    OrganisationManager: Manage;
    /// Who may upload: to which projects, its scope says.
    Uploader: Upload;
    /// Who may see uploads: which, its scope says.
    UploadReader: ReadUploads;
    /// Who may see projects: which, its scope says.
    ProjectReader: ReadProjects;
    /// Who may ask for figures: of what, its scope says.
    MetricReader: ReadMetrics;
    /// Who may ask in SQL: of what, its scope says.
    SqlWriter: WriteSql;
}

/// Whoever may read the operational counters: the holder of an administrator's key, or anybody where `http.metrics_open`
/// says so.
pub struct Monitor;

impl FromRequestParts<AppState> for Monitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        if state.config.http.metrics_open {
            return Ok(Self);
        }
        Admin::from_request_parts(parts, state).await.map(|_| Self)
    }
}

impl Raises for Monitor {
    fn codes() -> Vec<&'static str> {
        Admin::codes()
    }
}

/// Whether a role is enough for what the caller may know of; else the problem that names the roles that are.
pub(super) fn permit(principal: &Principal, permission: Permission) -> Result<(), Problem> {
    if principal.role.may(permission) {
        return Ok(());
    }
    Err(forbidden(principal.role, permission.roles()))
}

/// The role of a key is too small for something that its holder may know of.
pub(super) fn forbidden(role: Role, needed: &[Role]) -> Problem {
    let needed: Vec<&str> = needed.iter().map(|role| role.as_str()).collect();
    let detail = format!("the role of this key is {role}, and this needs {}", needed.join(" or "));
    Problem::new(ErrorKind::Forbidden, "forbidden", detail).with("role", role.as_str()).with("needed", needed)
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

/// One answer for no key, a wrong one, a revoked one and one that expired: which it was is nobody's business who holds none.
pub(super) fn unauthenticated() -> Problem {
    let detail = "send a key that holds as Authorization: Bearer wl_…; `wattlake keys create` makes one";
    Problem::new(ErrorKind::Unauthenticated, "unauthenticated", detail)
}
