//! `/v1/audit`: who did what.

use std::collections::BTreeSet;

use axum::{Json, extract::State};

use super::{
    AppState, OrganisationManager, PageRequest, Parameters, PathName, Problem, answers::AuditList, next_cursor,
    problem_types::Refused, recording::given, uploads::Instant,
};
use crate::{
    access::Reach,
    audit::note,
    catalog::{AuditCursor, AuditFilter, AuditView},
    ids::ProjectSlug,
};

/// List the audit log
///
/// The newest entry first: all of it for an administrator, what concerns its organisation's projects for a manager. Each
/// request of a key that holds is in it, also one that was refused; changes of organisations, keys and projects, and deletions,
/// are in it before they are begun, and again once they are done.
#[utoipa::path(
    get, path = "/v1/audit", tag = "audit",
    params(
        ("key" = Option<String>, Query, description = "Those of the key that starts so: the eight letters after wl_."),
        ("organisation" = Option<String>, Query, description = "Those of keys of this organisation."),
        ("project" = Option<ProjectSlug>, Query, description = "Those that concern this project."),
        ("action" = Option<String>, Query, description = "Those of this action, such as upload.delete."),
        ("from" = Option<String>, Query, format = DateTime, description = "Those at or after this instant."),
        ("to" = Option<String>, Query, format = DateTime, description = "Those before this instant."),
        PageRequest<AuditCursor>
    ),
    responses(
        (status = 200, description = "A page of it.", body = AuditList),
        Refused<(OrganisationManager, Parameters, PathName<ProjectSlug>)>
    )
)]
pub(super) async fn list_audit(
    manager: OrganisationManager,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<AuditList>, Problem> {
    note(|learned| learned.parameters = given(parameters.rest(), &["cursor"]));
    let page = PageRequest::<AuditCursor>::take(&mut parameters)?;
    let project = parameters.take_as::<ProjectSlug>("project")?;
    let filter = AuditFilter {
        key: parameters.take("key")?,
        organisation: parameters.take("organisation")?,
        action: parameters.take("action")?,
        from: parameters.take_as::<Instant>("from")?.map(|from| from.0),
        to: parameters.take_as::<Instant>("to")?.map(|to| to.0),
        ..AuditFilter::default()
    };
    parameters.finish()?;
    let scope = manager.scope(&state.catalog, project.as_slice()).await?;
    // Who asks about a project that is only shared with the caller is its own organisation's business.
    if project.as_ref().is_some_and(|project| !scope.owns(project)) {
        return Err(Problem::no_project());
    }
    let filter = match manager.principal().reach() {
        Reach::Server => AuditFilter { projects: project.map(|project| [project].into()), ..filter },
        Reach::Organisation(organisation) => {
            let projects: BTreeSet<ProjectSlug> = scope.owned().cloned().collect();
            let own = manager.scope(&state.catalog, &[]).await?.owned().cloned().collect();
            let view = AuditView { organisation: organisation.to_string(), projects: own };
            AuditFilter { projects: Some(projects), view: Some(view), ..filter }
        }
        Reach::Nothing => AuditFilter { projects: Some(BTreeSet::new()), ..filter },
    };
    let page = state.catalog.audit(&filter, page.after, page.limit).await?;
    let next = next_cursor(&page, AuditCursor::of);
    Ok(Json(AuditList { entries: page.items, next_cursor: next }))
}
