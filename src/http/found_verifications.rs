//! Extractors for submissions and verifications of the programme that a path names. As in `found.rs`, what is absent and what is
//! foreign answer the same 404.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};

use super::{
    AppState, Caller, Problem,
    auth::permit,
    found_programmes::{ProgrammeViewer, named, owns_project, seen_programme},
    problem_types::Raises,
};
use crate::{
    access::{Permission, Principal, Scope},
    audit::note,
    catalog::{Programme, Side, Submission, VerificationRun},
    ids::{ProjectSlug, RunId},
    programmes::ConnectionName,
};

/// A programme of which the caller may read what was submitted and found: all of it, or of its own projects.
pub(super) struct SubmissionReader {
    pub(super) programme: Programme,
    pub(super) side: Side,
    pub(super) principal: Principal,
}

/// A submission that the caller may read.
pub(super) struct SubmissionViewer {
    pub(super) programme: Programme,
    pub(super) side: Side,
    pub(super) submission: Submission,
}

/// A run that the caller may read: of the programme's own organisation, or one that the caller's began, or that settled something of
/// its projects.
pub(super) struct RunViewer {
    pub(super) side: Side,
    pub(super) principal: Principal,
    pub(super) run: VerificationRun,
    /// What of it is the caller's own.
    pub(super) scope: Arc<Scope>,
}

impl FromRequestParts<AppState> for SubmissionReader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let ProgrammeViewer { programme, side, principal } = seen_programme(parts, state).await?;
        permit(&principal, Permission::ReadConnections)?;
        Ok(Self { programme, side, principal })
    }
}

impl FromRequestParts<AppState> for SubmissionViewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let ProgrammeViewer { programme, side, principal } = seen_programme(parts, state).await?;
        let project: ProjectSlug = named(parts, "project").await?;
        let external_id: String = named(parts, "external_id").await?;
        if side != Side::Administrator && !owns_project(&principal, &project, state).await? {
            return Err(Problem::not_found());
        }
        permit(&principal, Permission::ReadConnections)?;
        let name = ConnectionName { project, external_id };
        let submission = state.catalog.submission(&programme.slug, &name).await?.ok_or_else(Problem::not_found)?;
        note(|learned| learned.projects = vec![name.project]);
        Ok(Self { programme, side, submission })
    }
}

impl FromRequestParts<AppState> for RunViewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let ProgrammeViewer { programme, side, principal } = seen_programme(parts, state).await?;
        let id: RunId = named(parts, "run").await?;
        let run = state.catalog.verification_run(&programme.slug, &id).await?.ok_or_else(Problem::not_found)?;
        let scope = state.catalog.scope(&principal, &[]).await?.ok_or_else(Problem::not_found)?;
        let projects = state.catalog.run_projects(&id).await?;
        let of_administrator = run.organisation.as_ref().is_none_or(|began| *began == programme.organisation);
        let sees = match side {
            Side::Administrator => of_administrator || principal.organisation.is_none(),
            Side::Invited => {
                let began = run.organisation.as_ref().is_some_and(|began| principal.reaches(began));
                began || (!run.dry_run && projects.iter().any(|project| scope.owns(&project.project)))
            }
        };
        if !sees {
            return Err(Problem::not_found());
        }
        permit(&principal, Permission::ReadConnections)?;
        note(|learned| {
            learned.object = Some(id.to_string());
            // Whose projects there are besides is nobody's business.
            let looked_at = projects.into_iter().map(|project| project.project);
            learned.projects = looked_at.filter(|project| side == Side::Administrator || scope.owns(project)).collect();
            learned.lake_version = Some(run.lake_version);
        });
        Ok(Self { side, principal, run, scope: Arc::new(scope) })
    }
}

impl RunViewer {
    /// Whether the caller's own organisation began it.
    pub(super) fn is_own(&self) -> bool {
        self.run.organisation.as_ref().is_some_and(|organisation| self.principal.reaches(organisation))
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

raises! { SubmissionReader SubmissionViewer RunViewer }
