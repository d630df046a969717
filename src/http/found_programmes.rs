//! Extractors for the programme that a path names as `{programme}`, and for what belongs to it. As in `found.rs`, what is absent
//! and what is foreign answer the same 404, and a role that is too small is told so only of what its holder may know of.

use std::slice;

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};

use super::{AppState, Caller, Problem, auth::permit, fields::wrong_fields, problem_types::Raises};
use crate::{
    access::{Permission, Principal},
    audit::note,
    catalog::{Enrolment, FieldError, Programme, ProgrammeError, Side},
    ids::{ProgrammeSlug, ProjectSlug},
};

/// A programme that the caller may see: its organisation's own, or one that invites it.
pub(super) struct ProgrammeViewer {
    pub(super) programme: Programme,
    pub(super) side: Side,
    pub(super) principal: Principal,
}

/// A programme that the caller has in hand. One that only invites it is as absent.
pub(super) struct ProgrammeManager {
    pub(super) programme: Programme,
    pub(super) principal: Principal,
}

/// A programme in which the caller may enrol projects: which, its scope says.
pub(super) struct ProgrammeEnroller {
    pub(super) programme: Programme,
    pub(super) principal: Principal,
}

/// The enrolment of a project that the caller has in hand, which a path names as `{project}`.
pub(super) struct EnrolmentManager {
    pub(super) enrolment: Enrolment,
}

/// A name of the path. What is no slug is nothing that there is either.
pub(super) async fn named<T: std::str::FromStr>(parts: &mut Parts, name: &str) -> Result<T, Problem> {
    let names = RawPathParams::from_request_parts(parts, &()).await.map_err(|_| Problem::not_found())?;
    let found = names.iter().find(|(known, _)| *known == name).and_then(|(_, text)| text.parse().ok());
    found.ok_or_else(Problem::not_found)
}

pub(super) async fn seen_programme(parts: &mut Parts, state: &AppState) -> Result<ProgrammeViewer, Problem> {
    let caller = Caller::from_request_parts(parts, state).await?;
    let slug: ProgrammeSlug = named(parts, "programme").await?;
    let programme = state.catalog.programme(&slug).await?.ok_or_else(Problem::not_found)?;
    let principal = caller.principal().clone();
    let side = programme.side_of(&principal).ok_or_else(Problem::not_found)?;
    note(|learned| learned.object = Some(slug.to_string()));
    Ok(ProgrammeViewer { programme, side, principal })
}

/// Whether a project is of the caller's organisation; any is an administrator's of the server.
pub(super) async fn owns_project(
    principal: &Principal,
    project: &ProjectSlug,
    state: &AppState,
) -> Result<bool, Problem> {
    let scope = state.catalog.scope(principal, slice::from_ref(project)).await?;
    Ok(scope.is_some_and(|scope| scope.owns(project)))
}

impl FromRequestParts<AppState> for ProgrammeViewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let found = seen_programme(parts, state).await?;
        permit(&found.principal, Permission::ReadProjects)?;
        Ok(found)
    }
}

impl FromRequestParts<AppState> for ProgrammeManager {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let ProgrammeViewer { programme, side, principal } = seen_programme(parts, state).await?;
        if side != Side::Administrator {
            return Err(Problem::not_found());
        }
        permit(&principal, Permission::Manage)?;
        Ok(Self { programme, principal })
    }
}

impl FromRequestParts<AppState> for ProgrammeEnroller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let ProgrammeViewer { programme, principal, .. } = seen_programme(parts, state).await?;
        permit(&principal, Permission::Manage)?;
        Ok(Self { programme, principal })
    }
}

impl FromRequestParts<AppState> for EnrolmentManager {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let ProgrammeViewer { programme, principal, .. } = seen_programme(parts, state).await?;
        let project: ProjectSlug = named(parts, "project").await?;
        if !owns_project(&principal, &project, state).await? {
            return Err(Problem::not_found());
        }
        note(|learned| learned.projects = vec![project.clone()]);
        permit(&principal, Permission::Manage)?;
        let enrolment = state.catalog.enrolment(&programme.slug, &project).await?.ok_or_else(Problem::not_found)?;
        Ok(Self { enrolment })
    }
}

/// What a look-up can come to.
macro_rules! raises {
    ($($name:ident)+) => {$(
        impl Raises for $name {
            fn codes() -> Vec<&'static str> {
                [Caller::codes(), vec!["not_found", "forbidden"]].concat()
            }
        }
    )+};
}

raises! { ProgrammeViewer ProgrammeManager ProgrammeEnroller EnrolmentManager }

/// What the catalogue does not take of programmes and enrolments.
pub(super) fn of_programme(error: &ProgrammeError) -> Problem {
    let said = |code: &'static str| Problem::new(error.kind(), code, error.to_string());
    match error {
        ProgrammeError::Exists(_) => said("programme_exists"),
        ProgrammeError::InvitedMissing(_) => said("not_found").with("parameter", "invited"),
        ProgrammeError::OwnerInvited(_) => {
            let wrong = FieldError { field: "invited".to_owned(), message: error.to_string() };
            wrong_fields("invalid_programme", vec![wrong])
        }
        ProgrammeError::Changed { newest, .. } => said("programme_changed").with("newest", *newest),
        ProgrammeError::NotInvited { .. } => said("not_invited"),
        ProgrammeError::Currency(_) => said("enrolment_currency"),
        ProgrammeError::Missing(_) | ProgrammeError::NotEnrolled { .. } => Problem::not_found(),
    }
}
