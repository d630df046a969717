//! Extractors that are the permission: a handler that takes `Admin` cannot be reached without an administrator's key. Those
//! that are about one thing that the path names are in `found.rs`.

use std::{
    io,
    pin::pin,
    time::{Duration, Instant},
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use bytes::Bytes;
use futures::{Stream, StreamExt, stream};

use super::{AppState, Problem, middleware::KeyOfRequest, problem_types::Raises, recording};
use crate::{
    access::{Permission, Principal, Role, Scope},
    catalog::{Catalog, CatalogError},
    error::ErrorKind,
    ids::ProjectSlug,
};

/// How long a body may go on coming under a key that was revoked.
const KEY_CHECK_EVERY: Duration = Duration::from_secs(1);
/// How long a question may go on running over what is no longer shared.
const SHARE_CHECK_EVERY: Duration = Duration::from_secs(1);

/// Anybody with a key that holds.
pub struct Caller(Principal);

impl FromRequestParts<AppState> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let presented = bearer(&parts.headers).ok_or_else(unauthenticated)?;
        let principal = state.catalog.verify_key(presented).await?.ok_or_else(unauthenticated)?;
        if let Some(key) = parts.extensions.get::<KeyOfRequest>() {
            key.set(&principal.key_prefix);
        }
        recording::admit(parts, state, &principal).await?;
        Ok(Self(principal))
    }
}

impl Caller {
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.0
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
        pub struct $name(Principal);

        impl FromRequestParts<AppState> for $name {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
                let Caller(principal) = Caller::from_request_parts(parts, state).await?;
                permit(&principal, Permission::$permission)?;
                Ok(Self(principal))
            }
        }

        impl $name {
            #[must_use]
            pub fn principal(&self) -> &Principal {
                &self.0
            }

            /// What the request may see, narrowed to projects that it names; everything that the key may see where it names
            /// none. A project that is absent and one that is foreign answer the same.
            pub async fn scope(&self, catalog: &Catalog, named: &[ProjectSlug]) -> Result<Scope, Problem> {
                catalog.scope(&self.0, named).await?.ok_or_else(Problem::no_project)
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

/// Why a body is not taken to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyInterrupts {
    #[error("the key of the request was revoked, or expired, while its body came")]
    Ended,
    #[error("whether the key still holds")]
    Unknown(#[source] CatalogError),
}

/// The bytes of a body, as long as the key of its request holds. It is asked for again at the end, so that nothing lands
/// under a key that was revoked meanwhile, and every second before.
pub(super) fn while_key_holds(
    catalog: &Catalog,
    key_prefix: &str,
    body: impl Stream<Item = io::Result<Bytes>>,
) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((Box::pin(body), Instant::now()), move |(mut body, mut asked_at)| async move {
        let chunk = body.next().await.transpose()?;
        if chunk.is_none() || asked_at.elapsed() >= KEY_CHECK_EVERY {
            let holds = catalog.key_holds(key_prefix).await;
            if !holds.map_err(|error| io::Error::other(KeyInterrupts::Unknown(error)))? {
                return Err(io::Error::other(KeyInterrupts::Ended));
            }
            asked_at = Instant::now();
        }
        Ok(chunk.map(|chunk| (chunk, (body, asked_at))))
    })
}

/// What work on a scope comes to, as long as what is shared of it still is. It is asked for again at the end, so that nothing
/// is answered of what was revoked meanwhile, and every second before. What is the caller's own is not asked for.
pub(super) async fn while_shared<T>(
    catalog: &Catalog,
    principal: &Principal,
    scope: &Scope,
    work: impl Future<Output = T>,
) -> Result<T, Problem> {
    if !scope.has_shared() {
        return Ok(work.await);
    }
    let projects: Vec<ProjectSlug> = scope.projects().cloned().collect();
    let mut work = pin!(work);
    loop {
        let done = tokio::time::timeout(SHARE_CHECK_EVERY, &mut work).await;
        let now = catalog.scope(principal, &projects).await?;
        if !now.is_some_and(|now| now.still_has(scope)) {
            let detail = "what was shared changed while this was answered; ask again, for what still is";
            return Err(Problem::new(ErrorKind::Conflict, "share_ended", detail));
        }
        if let Ok(done) = done {
            return Ok(done);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;
    use crate::{
        access::{Detail, MonthRange},
        catalog::{KeyTerms, NewShare, ProjectText},
    };

    #[tokio::test]
    async fn work_on_what_is_shared_ends_with_its_share_and_work_on_ones_own_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).await.unwrap();
        let text = |value: &str| Some(value.to_owned());
        let project = ProjectText {
            slug: text("hill"),
            name: text("Hill"),
            kind: text("shs"),
            currency: text("KES"),
            time_zone: text("Africa/Nairobi"),
            country: text("KE"),
            organisation: None,
        };
        let project = catalog.create_project(project.into_new().unwrap()).await.unwrap();
        catalog.create_organisation("fund".parse().unwrap(), "Fund".to_owned()).await.unwrap();
        let share = NewShare {
            project: project.slug,
            recipient: "fund".parse().unwrap(),
            months: MonthRange::ALL,
            detail: Detail::Full,
            note: String::new(),
            expires_at: None,
            created_by: None,
        };
        let share = catalog.create_share(share).await.unwrap();
        let of = |organisation: &str| {
            let organisation = Some(organisation.parse().unwrap());
            Principal { role: Role::Viewer, organisation, ..Principal::admin("k") }
        };
        let (fund, owner) = (of("fund"), of("main"));
        let scope = catalog.scope(&fund, &[]).await.unwrap().unwrap();
        let own = catalog.scope(&owner, &[]).await.unwrap().unwrap();
        assert_eq!(while_shared(&catalog, &fund, &scope, async { 1 }).await.ok(), Some(1));
        let running = while_shared(&catalog, &fund, &scope, std::future::pending::<()>());
        let (ended, _) = tokio::join!(running, catalog.revoke_share(&share.id));
        assert_eq!(ended.unwrap_err().code(), "share_ended");
        let late = while_shared(&catalog, &fund, &scope, async { 1 }).await;
        assert_eq!(late.unwrap_err().code(), "share_ended", "what was done by then is not answered");
        assert_eq!(while_shared(&catalog, &owner, &own, async { 1 }).await.ok(), Some(1));
    }

    #[tokio::test]
    async fn a_body_ends_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).await.unwrap();
        let key = catalog.create_key(KeyTerms::of_admin("k")).await.unwrap().key;
        let body = || stream::iter([Ok(Bytes::from_static(b"a")), Ok(Bytes::from_static(b"b"))]);
        let whole: Vec<Bytes> = while_key_holds(&catalog, &key.prefix, body()).try_collect().await.unwrap();
        assert_eq!(whole.concat(), b"ab");
        catalog.revoke_key(&key.prefix).await.unwrap();
        let read = while_key_holds(&catalog, &key.prefix, body()).collect::<Vec<_>>().await;
        assert!(read[..2].iter().all(Result::is_ok) && read.len() == 3, "{read:?}");
        let error = read[2].as_ref().unwrap_err().get_ref().and_then(|error| error.downcast_ref());
        assert!(matches!(error, Some(KeyInterrupts::Ended)));
    }
}
