//! `/v1/programmes/{programme}/submissions`: connections that are to be verified and paid for, each once.

use axum::{Json, extract::State, http::StatusCode};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{
    AppState, JsonObject, MAX_NAMES_BYTES, NoParameters, PageRequest, Parameters, Problem,
    extract::Flag,
    fields::Fields,
    found_programmes::{ProgrammeEnroller, ProgrammeManager, owns_project},
    found_verifications::{SubmissionReader, SubmissionViewer},
    invalid_parameter, next_cursor,
    problem_types::{Raises, Refused},
    verdicts::name_of,
    verification_answers::{
        PaidFor, SubmissionHistory, SubmissionList, SubmittedAnswer, shown_events, shown_submission,
    },
};
use crate::{
    audit::note,
    catalog::{Page, Side, Submission, SubmissionFilter, SubmissionState},
    ids::{ProgrammeSlug, ProjectSlug},
    programmes::{ConnectionName, Outcome},
};

/// Ids that one request names at most.
const MAX_NAMED: usize = 10_000;

/// The body that submits connections.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the description of what `submit_connections` reads")]
struct SubmissionFields {
    project: ProjectSlug,
    /// Their ids; all that the project has and were not submitted, where there are none.
    #[schema(min_items = 1, max_items = 10_000)]
    connections: Option<Vec<String>>,
}

/// The body that says what is paid.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the description of what `pay_submissions` reads")]
struct PaymentFields {
    #[schema(min_items = 1, max_items = 10_000)]
    connections: Vec<ConnectionName>,
}

/// Which submissions to list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "a description")]
struct SubmissionParameters {
    /// Of this project.
    project: Option<ProjectSlug>,
    /// In this state. `draft`, with a project of one's own: what was not submitted.
    #[param(inline)]
    state: Option<SubmissionState>,
    /// With this last verdict.
    #[param(inline)]
    outcome: Option<Outcome>,
    /// Whether the verdict is open again.
    reopened: Option<bool>,
}

/// What submitting can come to.
struct Submitting;

impl Raises for Submitting {
    fn codes() -> Vec<&'static str> {
        let wrong = ["invalid_submission", "not_found", "connections_missing"];
        [&wrong[..], &["not_enrolled", "already_submitted", "limit_reached", "storage_full"]].concat()
    }
}

/// What paying can come to.
struct Paying;

impl Raises for Paying {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_submission", "not_payable", "storage_full"]
    }
}

/// What listing can come to.
struct Listing;

impl Raises for Listing {
    fn codes() -> Vec<&'static str> {
        vec!["not_found"]
    }
}

/// Submit connections
///
/// Of an enrolled project of one's own, to be verified and paid for: those that are named, or all that were not submitted. A
/// connection is submitted once: where one of those that are named was, nothing is.
#[utoipa::path(
    post, path = "/v1/programmes/{programme}/submissions", tag = "programmes",
    params(("programme" = ProgrammeSlug, Path)),
    request_body = SubmissionFields,
    responses(
        (status = 201, description = "How many were submitted.", body = SubmittedAnswer),
        Refused<(ProgrammeEnroller, NoParameters, JsonObject<MAX_NAMES_BYTES>, Submitting)>
    )
)]
pub(super) async fn submit_connections(
    found: ProgrammeEnroller,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject<MAX_NAMES_BYTES>,
) -> Result<(StatusCode, Json<SubmittedAnswer>), Problem> {
    let ProgrammeEnroller { programme, principal } = found;
    let mut fields = Fields::of(body);
    let project = fields.parsed::<ProjectSlug>("project");
    fields.need("project", project.as_ref());
    let ids = fields.value("connections", |value| {
        let ids: Vec<String> =
            serde_json::from_value(value).map_err(|error| format!("it is a list of ids: {error}"))?;
        named_within(ids)
    });
    fields.finish("invalid_submission")?;
    let project = project.ok_or_else(Problem::unexplained)?;
    if !owns_project(&principal, &project, &state).await? {
        return Err(Problem::no_project());
    }
    note(|learned| learned.projects = vec![project.clone()]);
    let most = state.config.verification.max_connections;
    let (key, ids) = (&principal.key_prefix, ids.as_deref());
    let submitted = state.catalog.submit(&programme.slug, &project, ids, key, most).await?;
    note(|learned| {
        learned.object = Some(programme.slug.to_string());
        learned.rows = Some(submitted);
    });
    Ok((StatusCode::CREATED, Json(SubmittedAnswer { programme: programme.slug, project, submitted })))
}

fn named_within<T: Ord>(mut names: Vec<T>) -> Result<Vec<T>, String> {
    if names.is_empty() || names.len() > MAX_NAMED {
        return Err(format!("it has from 1 to {MAX_NAMED} of them"));
    }
    names.sort();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("one is there twice".to_owned());
    }
    Ok(names)
}

/// Reads names of connections out of a field.
pub(super) fn take_names(fields: &mut Fields, name: &'static str) -> Option<Vec<ConnectionName>> {
    fields.value(name, |value| {
        let names = serde_json::from_value(value);
        named_within(names.map_err(|error| format!("it is a list of objects with project and external_id: {error}"))?)
    })
}

/// List submissions
///
/// By project and id: all of the programme, for its own organisation; those of one's own projects, for who takes part.
#[utoipa::path(
    get, path = "/v1/programmes/{programme}/submissions", tag = "programmes",
    params(("programme" = ProgrammeSlug, Path), SubmissionParameters, PageRequest<String>),
    responses(
        (status = 200, description = "A page of them.", body = SubmissionList),
        Refused<(SubmissionReader, Parameters, Listing)>
    )
)]
pub(super) async fn list_submissions(
    found: SubmissionReader,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<SubmissionList>, Problem> {
    let SubmissionReader { programme, side, principal } = found;
    let project = parameters.take_as::<ProjectSlug>("project")?;
    let wanted = parameters.take_as::<SubmissionState>("state")?;
    let outcome = parameters.take_as::<Outcome>("outcome")?;
    let reopened = parameters.take_as::<Flag>("reopened")?.map(|flag| flag.0);
    let request = PageRequest::<String>::take(&mut parameters)?;
    parameters.finish()?;
    if wanted == Some(SubmissionState::Draft) {
        let project = project
            .ok_or_else(|| invalid_parameter("project", "drafts are listed of one project: name it with project="))?;
        if !owns_project(&principal, &project, &state).await? {
            return Err(Problem::no_project());
        }
        let page =
            state.catalog.drafts_page(&programme.slug, &project, request.after.as_deref(), request.limit).await?;
        return Ok(listed(page, side, |draft| draft.external_id.clone()));
    }
    let after = request.after.as_deref().map(name_of).transpose()?;
    let organisation = principal.organisation.clone().filter(|_| side == Side::Invited);
    let filter = SubmissionFilter { project, organisation, state: wanted, outcome, reopened };
    let page = state.catalog.submissions_page(&programme.slug, &filter, after.as_ref(), request.limit).await?;
    Ok(listed(page, side, |submission| name_in(submission).to_string()))
}

fn listed(page: Page<Submission>, side: Side, key: impl FnOnce(&Submission) -> String) -> Json<SubmissionList> {
    note(|learned| {
        learned.rows = Some(page.items.len() as u64);
        learned.projects = page.items.iter().map(|submission| submission.project.clone()).collect();
        learned.projects.dedup();
    });
    let next_cursor = next_cursor(&page, key);
    let submissions = page.items.into_iter().map(|submission| shown_submission(submission, side)).collect();
    Json(SubmissionList { submissions, next_cursor })
}

fn name_in(submission: &Submission) -> ConnectionName {
    ConnectionName { project: submission.project.clone(), external_id: submission.external_id.clone() }
}

/// Get a submission
///
/// With all that became of it, by whom and when.
#[utoipa::path(
    get, path = "/v1/programmes/{programme}/submissions/{project}/{external_id}", tag = "programmes",
    params(
        ("programme" = ProgrammeSlug, Path), ("project" = ProjectSlug, Path), ("external_id" = String, Path)
    ),
    responses(
        (status = 200, description = "The submission.", body = SubmissionHistory),
        Refused<(SubmissionViewer, NoParameters)>
    )
)]
pub(super) async fn get_submission(
    found: SubmissionViewer,
    State(state): State<AppState>,
    _: NoParameters,
) -> Result<Json<SubmissionHistory>, Problem> {
    let SubmissionViewer { programme, side, submission } = found;
    let history = state.catalog.submission_events(&programme.slug, &name_in(&submission)).await?;
    let (submission, history) = (shown_submission(submission, side), shown_events(history, side));
    Ok(Json(SubmissionHistory { submission, history }))
}

/// Mark submissions as paid
///
/// Those that are verified and not open again, all that are named or none. It is for good.
#[utoipa::path(
    post, path = "/v1/programmes/{programme}/submissions/paid", tag = "programmes",
    params(("programme" = ProgrammeSlug, Path)),
    request_body = PaymentFields,
    responses(
        (status = 200, description = "How many are paid now.", body = PaidFor),
        Refused<(ProgrammeManager, NoParameters, JsonObject<MAX_NAMES_BYTES>, Paying)>
    )
)]
pub(super) async fn pay_submissions(
    found: ProgrammeManager,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject<MAX_NAMES_BYTES>,
) -> Result<Json<PaidFor>, Problem> {
    let ProgrammeManager { programme, principal } = found;
    let mut fields = Fields::of(body);
    let names = take_names(&mut fields, "connections");
    fields.need("connections", names.as_ref());
    fields.finish("invalid_submission")?;
    let names = names.ok_or_else(Problem::unexplained)?;
    let paid = state.catalog.mark_paid(&programme.slug, &names, &principal.key_prefix).await?;
    note(|learned| {
        // By now it is known that they are projects of the programme.
        learned.projects = names.iter().map(|name| name.project.clone()).collect();
        learned.projects.dedup();
        learned.object = Some(programme.slug.to_string());
        learned.rows = Some(paid);
        learned.parameters = Some(json!({ "connections": names.len() }));
    });
    Ok(Json(PaidFor { programme: programme.slug, paid }))
}
