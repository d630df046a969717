//! Extractors for the one thing that a path names: it is looked up in the caller's scope, and the caller's role is enough
//! for what the handler does with it. What is absent and what is foreign answer the same 404; a role that is too small is
//! told so only of what its holder may know of.

use std::{slice, str::FromStr, sync::Arc};

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};

use super::{AppState, Caller, PathName, Problem, auth::permit, problem_types::Raises};
use crate::{
    access::{Permission, Principal, Role, Scope},
    audit::note,
    catalog::{ApiKey, ConnectionRecord, Organisation, Project, Share, UploadRecord},
    ids::{OrganisationSlug, ProjectSlug, QueryId, ShareId, UploadId},
    sql::queries::Query,
};

/// A project that the caller may see: its own, or one that is shared with it.
pub(super) struct ProjectViewer {
    pub(super) project: Project,
}

/// A project that the caller has in hand.
pub(super) struct ProjectManager {
    pub(super) project: Project,
    pub(super) principal: Principal,
}

/// A project whose connections the caller may read.
pub(super) struct ConnectionsReader {
    pub(super) project: Project,
}

/// A project to which the caller may send connections.
pub(super) struct ConnectionsImporter {
    pub(super) project: Project,
    pub(super) principal: Principal,
}

/// A connection that the caller may read.
pub(super) struct ConnectionViewer {
    pub(super) record: ConnectionRecord,
}

/// A connection of a project that the caller has in hand.
pub(super) struct ConnectionManager {
    pub(super) project: Project,
    pub(super) record: ConnectionRecord,
}

/// A share of a project that the caller has in hand.
pub(super) struct ShareManager {
    pub(super) share: Share,
}

/// An upload that the caller may see, with its files.
pub(super) struct UploadViewer {
    pub(super) upload: UploadRecord,
}

/// An upload to a project that the caller has in hand.
pub(super) struct UploadManager {
    pub(super) upload: UploadRecord,
    /// What the caller may see, as far as this upload goes.
    pub(super) scope: Scope,
}

/// An upload of whoever runs the server, to be erased for good.
pub(super) struct UploadEraser {
    pub(super) upload: UploadRecord,
    pub(super) scope: Scope,
}

/// An organisation that the caller may see: its own.
pub(super) struct OrganisationViewer {
    pub(super) organisation: Organisation,
}

/// An organisation, for whoever runs the server.
pub(super) struct OrganisationEditor {
    pub(super) organisation: Organisation,
}

/// A key that the caller has in hand.
pub(super) struct KeyManager {
    pub(super) key: ApiKey,
}

/// A query that the caller may follow: of its organisation.
pub(super) struct QueryViewer {
    pub(super) query: Arc<Query>,
    pub(super) principal: Principal,
}

/// A query that the caller may cancel: its own, or one of an organisation that it has in hand.
pub(super) struct QueryCanceller {
    pub(super) query: Arc<Query>,
}

async fn caller_and_name<T: FromStr>(parts: &mut Parts, state: &AppState) -> Result<(Principal, T), Problem> {
    let caller = Caller::from_request_parts(parts, state).await?;
    let PathName(name) = PathName::<T>::from_request_parts(parts, state).await?;
    Ok((caller.principal().clone(), name))
}

/// The project and its scope, where the caller may know of it.
async fn known_project(
    principal: &Principal,
    slug: &ProjectSlug,
    state: &AppState,
) -> Result<(Scope, Project), Problem> {
    let scope = state.catalog.scope(principal, slice::from_ref(slug)).await?.ok_or_else(Problem::not_found)?;
    let project = state.catalog.project(slug).await?.ok_or_else(Problem::not_found)?;
    note(|learned| {
        learned.projects = vec![slug.clone()];
        learned.shares = scope.shares();
    });
    Ok((scope, project))
}

/// The project, where the caller has it in hand. One that is only shared with the caller is as absent, whatever its role: a role
/// counts in its own organisation alone.
async fn managed_project(principal: &Principal, slug: &ProjectSlug, state: &AppState) -> Result<Project, Problem> {
    own_project(principal, slug, state, Permission::Manage).await
}

/// The same for whoever may do something less with it.
async fn own_project(
    principal: &Principal,
    slug: &ProjectSlug,
    state: &AppState,
    permission: Permission,
) -> Result<Project, Problem> {
    let (scope, project) = known_project(principal, slug, state).await?;
    if !scope.owns(&project.slug) {
        return Err(Problem::not_found());
    }
    permit(principal, permission)?;
    Ok(project)
}

/// The connection that a path names, and its project.
async fn own_connection(
    parts: &mut Parts,
    state: &AppState,
    permission: Permission,
) -> Result<(Project, ConnectionRecord), Problem> {
    let caller = Caller::from_request_parts(parts, state).await?;
    let path = Path::<(String, String)>::from_request_parts(parts, state).await;
    let Path((slug, id)) = path.map_err(|_| Problem::not_found())?;
    let slug = slug.parse::<ProjectSlug>().map_err(|_| Problem::not_found())?;
    let project = own_project(caller.principal(), &slug, state, permission).await?;
    let record = state.catalog.connection(&project.slug, &id).await?.ok_or_else(Problem::not_found)?;
    Ok((project, record))
}

impl FromRequestParts<AppState> for ConnectionsReader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let (principal, slug) = caller_and_name::<ProjectSlug>(parts, state).await?;
        Ok(Self { project: own_project(&principal, &slug, state, Permission::ReadConnections).await? })
    }
}

impl FromRequestParts<AppState> for ConnectionsImporter {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let (principal, slug) = caller_and_name::<ProjectSlug>(parts, state).await?;
        let project = own_project(&principal, &slug, state, Permission::Upload).await?;
        Ok(Self { project, principal })
    }
}

impl FromRequestParts<AppState> for ConnectionViewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let (_, record) = own_connection(parts, state, Permission::ReadConnections).await?;
        Ok(Self { record })
    }
}

impl FromRequestParts<AppState> for ConnectionManager {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let (project, record) = own_connection(parts, state, Permission::Manage).await?;
        Ok(Self { project, record })
    }
}

impl FromRequestParts<AppState> for ProjectViewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let (principal, slug) = caller_and_name::<ProjectSlug>(parts, state).await?;
        let (_, project) = known_project(&principal, &slug, state).await?;
        permit(&principal, Permission::ReadProjects)?;
        Ok(Self { project })
    }
}

impl FromRequestParts<AppState> for ProjectManager {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let (principal, slug) = caller_and_name::<ProjectSlug>(parts, state).await?;
        let project = managed_project(&principal, &slug, state).await?;
        Ok(Self { project, principal })
    }
}

impl FromRequestParts<AppState> for ShareManager {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let caller = Caller::from_request_parts(parts, state).await?;
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((slug, id)) = path.map_err(|_| Problem::not_found())?;
        let slug = slug.parse::<ProjectSlug>().map_err(|_| Problem::not_found())?;
        let project = managed_project(caller.principal(), &slug, state).await?;
        let id = id.parse::<ShareId>().map_err(|_| Problem::not_found())?;
        let share = state.catalog.share(&id).await?.filter(|share| share.project == project.slug);
        Ok(Self { share: share.ok_or_else(Problem::not_found)? })
    }
}

/// The upload, what is seen of its projects, and whether the caller's role is enough.
async fn seen_upload(
    parts: &mut Parts,
    state: &AppState,
    permission: Permission,
) -> Result<(UploadRecord, Scope), Problem> {
    let (principal, id) = caller_and_name::<UploadId>(parts, state).await?;
    let upload = state.catalog.upload(&id).await?.ok_or_else(Problem::not_found)?;
    let scope = state.catalog.scope(&principal, &upload.projects).await?.ok_or_else(Problem::not_found)?;
    if !scope.has_upload(&upload.projects, &upload.key_prefix) {
        return Err(Problem::not_found());
    }
    note(|learned| learned.projects.clone_from(&upload.projects));
    permit(&principal, permission)?;
    Ok((upload, scope))
}

impl FromRequestParts<AppState> for UploadViewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let (upload, _) = seen_upload(parts, state, Permission::ReadUploads).await?;
        Ok(Self { upload })
    }
}

impl FromRequestParts<AppState> for UploadManager {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let (upload, scope) = seen_upload(parts, state, Permission::Manage).await?;
        Ok(Self { upload, scope })
    }
}

impl FromRequestParts<AppState> for UploadEraser {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let (upload, scope) = seen_upload(parts, state, Permission::RunServer).await?;
        Ok(Self { upload, scope })
    }
}

async fn own_organisation(parts: &mut Parts, state: &AppState) -> Result<(Principal, Organisation), Problem> {
    let (principal, slug) = caller_and_name::<OrganisationSlug>(parts, state).await?;
    let found = state.catalog.organisation(&principal, &slug).await?;
    Ok((principal, found.ok_or_else(Problem::not_found)?))
}

impl FromRequestParts<AppState> for OrganisationViewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let (_, organisation) = own_organisation(parts, state).await?;
        Ok(Self { organisation })
    }
}

impl FromRequestParts<AppState> for OrganisationEditor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let (principal, organisation) = own_organisation(parts, state).await?;
        permit(&principal, Permission::RunServer)?;
        Ok(Self { organisation })
    }
}

impl FromRequestParts<AppState> for KeyManager {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let (principal, prefix) = caller_and_name::<String>(parts, state).await?;
        let key = state.catalog.key(&prefix).await?.filter(|key| knows_key(&principal, key));
        let key = key.ok_or_else(Problem::not_found)?;
        permit(&principal, Permission::Manage)?;
        Ok(Self { key })
    }
}

/// Whether the caller may know that a key is there: an administrator of all, a manager of its organisation's, and everybody
/// of its own.
fn knows_key(principal: &Principal, key: &ApiKey) -> bool {
    let in_hand = principal.role.may(Permission::Manage)
        && match &key.organisation {
            Some(organisation) => principal.reaches(organisation),
            None => principal.role == Role::Admin,
        };
    in_hand || principal.key_prefix == key.prefix
}

async fn seen_query(parts: &mut Parts, state: &AppState) -> Result<(Principal, Arc<Query>), Problem> {
    let (principal, id) = caller_and_name::<QueryId>(parts, state).await?;
    let query = state.sql.queries().find(&principal, &id).ok_or_else(Problem::not_found)?;
    Ok((principal, query))
}

impl FromRequestParts<AppState> for QueryViewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let (principal, query) = seen_query(parts, state).await?;
        permit(&principal, Permission::WriteSql)?;
        Ok(Self { query, principal })
    }
}

impl FromRequestParts<AppState> for QueryCanceller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let (principal, query) = seen_query(parts, state).await?;
        let own = query.facts().asker.key_prefix == principal.key_prefix;
        permit(&principal, if own { Permission::WriteSql } else { Permission::Manage })?;
        Ok(Self { query })
    }
}

/// What a look-up can come to.
macro_rules! raises {
    ($($name:ident: $codes:expr;)+) => {$(
        impl Raises for $name {
            fn codes() -> Vec<&'static str> {
                [Caller::codes(), $codes.to_vec()].concat()
            }
        }
    )+};
}

raises! {
    ProjectViewer: ["not_found", "forbidden"];
    ProjectManager: ["not_found", "forbidden"];
    ShareManager: ["not_found", "forbidden"];
    ConnectionsReader: ["not_found", "forbidden"];
    ConnectionsImporter: ["not_found", "forbidden"];
    ConnectionViewer: ["not_found", "forbidden"];
    ConnectionManager: ["not_found", "forbidden"];
    UploadViewer: ["not_found", "forbidden"];
    UploadManager: ["not_found", "forbidden"];
    UploadEraser: ["not_found", "forbidden"];
    // Every role may see its own.
    OrganisationViewer: ["not_found"];
    OrganisationEditor: ["not_found", "forbidden"];
    KeyManager: ["not_found", "forbidden"];
    QueryViewer: ["not_found", "forbidden"];
    QueryCanceller: ["not_found", "forbidden"];
}
