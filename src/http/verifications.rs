//! `/v1/programmes/{programme}/verifications`: whether what was submitted really pays.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::State,
    http::{HeaderName, StatusCode, header},
};
use chrono::{DateTime, Datelike, Utc};
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{
    AppState, Caller, JsonObject, MAX_NAMES_BYTES, NoParameters, PageRequest, Parameters, Problem,
    fields::{Fields, wrong_fields},
    found_programmes::ProgrammeEnroller,
    found_verifications::{RunViewer, SubmissionReader},
    metrics::damaged,
    next_cursor,
    problem_types::{Raises, Refused},
    programmes::take_rule,
    submissions::take_names,
    verification_answers::{KeyAnswer, RunAnswer, RunList, shown_run},
};
use crate::{
    audit::note,
    catalog::{FieldError, Programme, Project, RunState, RunsOf, Side, VerificationRun},
    error::ErrorKind,
    ids::{ProgrammeSlug, ProjectSlug, RunId},
    lake::LakeError,
    programmes::{ConnectionName, Rule, Selection},
    verification::{Enrolled, RunRequest, VerificationError},
};

/// Projects that one request names at most.
const MAX_PROJECTS: usize = 10_000;

/// The body that begins a verification. An empty object verifies all that was submitted by the newest rule.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the description of what `start_verification` reads")]
struct VerificationFields {
    /// Whole projects; with `connections`, these too.
    #[schema(max_items = 10_000)]
    projects: Option<Vec<ProjectSlug>>,
    /// Single connections.
    #[schema(max_items = 10_000)]
    connections: Option<Vec<ConnectionName>>,
    /// The version of the programme's terms whose rule it goes by: the newest, if nothing else is said. Projects that consented to
    /// another one are left out, but of a dry run, and are named in `other_terms`.
    #[schema(minimum = 1)]
    rule_version: Option<u32>,
    /// Another rule, to be tried out: with `dry_run`.
    rule: Option<Rule>,
    /// Only payments before it count; now, if nothing else is said.
    #[schema(value_type = Option<String>, format = DateTime)]
    as_of: Option<DateTime<Utc>>,
    /// Shows what would be, and settles nothing. Who takes part in a programme tries out its own connections so, also those that it
    /// has not submitted.
    #[schema(default = false)]
    dry_run: Option<bool>,
}

/// What beginning one can come to.
struct Beginning;

impl Raises for Beginning {
    fn codes() -> Vec<&'static str> {
        let request = [
            "invalid_verification",
            "not_found",
            "nothing_to_verify",
            "not_submitted",
            "too_many_to_verify",
            "dry_run_only",
            "other_terms",
        ];
        [&request[..], &["too_many_verifications", "data_damaged", "storage_full"]].concat()
    }
}

impl From<VerificationError> for Problem {
    fn from(error: VerificationError) -> Self {
        let said = |code: &'static str| Self::new(error.kind(), code, error.to_string());
        match error {
            VerificationError::Busy { .. } => said("too_many_verifications"),
            VerificationError::Nothing { .. } => said("nothing_to_verify"),
            VerificationError::TooMany { .. } => said("too_many_to_verify"),
            VerificationError::NotThere(_) => said("not_submitted"),
            VerificationError::NotDone | VerificationError::Failed => said("verification_not_done"),
            VerificationError::EvidenceGone(ref gone) => {
                said("evidence_gone").with("uploads", gone.iter().map(ToString::to_string).collect::<Vec<_>>())
            }
            VerificationError::TooLong { .. } => said("verification_timeout"),
            VerificationError::Altered => said("verdicts_damaged"),
            VerificationError::Catalog(error) => error.into(),
            VerificationError::Ingest(error) => error.into(),
            VerificationError::Lake(LakeError::Damaged(findings)) => damaged(&findings),
            error => Self::failure(error.kind(), "verification", &error),
        }
    }
}

/// Begin a verification
///
/// Of what was submitted to the programme: in the background, by one version of the lake. Its verdicts settle the submissions, unless it
/// is a dry run. For the programme's own organisation; who takes part may try out its own connections, with `dry_run`.
#[utoipa::path(
    post, path = "/v1/programmes/{programme}/verifications", tag = "programmes",
    params(("programme" = ProgrammeSlug, Path)),
    request_body = VerificationFields,
    responses(
        (status = 202, description = "It has begun.", body = VerificationRun,
            headers(("Location" = String, description = "Where to see how far it is."))),
        Refused<(ProgrammeEnroller, NoParameters, JsonObject<MAX_NAMES_BYTES>, Beginning)>
    )
)]
pub(super) async fn start_verification(
    found: ProgrammeEnroller,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject<MAX_NAMES_BYTES>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<VerificationRun>), Problem> {
    let ProgrammeEnroller { programme, principal } = found;
    let side = programme.side_of(&principal).ok_or_else(Problem::not_found)?;
    let Wanted { projects, connections, rule_version, rule, as_of, dry_run } = read_wanted(body)?;
    if side == Side::Invited && !dry_run {
        let detail = "the programme's own organisation verifies; with \"dry_run\": true you see what it would find of your connections";
        return Err(Problem::new(ErrorKind::Forbidden, "dry_run_only", detail));
    }
    let of = principal.organisation.as_ref().filter(|_| side == Side::Invited);
    let enrolled = state.verification.enrolled(&programme.slug, of).await?;
    refuse_others(&projects, &connections, &enrolled)?;
    let (rule_version, rule) = match rule {
        Some(rule) => (None, rule),
        None => rule_of(&state, &programme, rule_version).await?,
    };
    // What counts is the rule that was consented to. Another one can be tried out of all.
    let (enrolled, others): (Vec<_>, Vec<_>) =
        enrolled.into_iter().partition(|enrolled| dry_run || Some(enrolled.version) == rule_version);
    refuse_other_terms(&projects, &connections, &others, rule_version)?;
    let enrolled: Vec<Project> = enrolled.into_iter().map(|enrolled| enrolled.project).collect();
    note(|learned| learned.projects = asked_for(&projects, &connections, &enrolled));
    let is_all = projects.is_empty() && connections.is_empty();
    let selection = (!projects.is_empty() || !connections.is_empty()).then_some(Selection { projects, connections });
    let request = RunRequest {
        programme: programme.slug,
        rule,
        rule_version,
        dry_run,
        with_drafts: side == Side::Invited,
        projects: enrolled,
        other_terms: if is_all { others.into_iter().map(|other| other.project.slug).collect() } else { Vec::new() },
        selection,
        as_of: as_of.unwrap_or_else(Utc::now),
        started_by: principal.key_prefix.clone(),
        organisation: principal.organisation.clone(),
    };
    let run = state.verification.start(request).await?;
    note(|learned| {
        learned.object = Some(run.id.to_string());
        learned.lake_version = Some(run.lake_version);
        learned.parameters =
            Some(json!({ "dry_run": run.dry_run, "rule_version": run.rule_version, "as_of": run.as_of }));
    });
    let location = format!("/v1/programmes/{}/verifications/{}", run.programme, run.id);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(run)))
}

/// What a body asks for.
struct Wanted {
    projects: Vec<ProjectSlug>,
    connections: Vec<ConnectionName>,
    rule_version: Option<u32>,
    rule: Option<Rule>,
    as_of: Option<DateTime<Utc>>,
    dry_run: bool,
}

fn read_wanted(body: Map<String, Value>) -> Result<Wanted, Problem> {
    let mut fields = Fields::of(body);
    let projects = fields.value("projects", |value| {
        let mut slugs: Vec<ProjectSlug> =
            serde_json::from_value(value).map_err(|error| format!("it is a list of slugs: {error}"))?;
        slugs.sort();
        if slugs.len() > MAX_PROJECTS { Err(format!("it names at most {MAX_PROJECTS} projects")) } else { Ok(slugs) }
    });
    let connections = take_names(&mut fields, "connections");
    let rule_version = fields.number("rule_version", 1..=u64::from(u32::MAX));
    let rule = take_rule(&mut fields);
    let as_of = fields.text("as_of", |text| {
        let at = text
            .parse::<DateTime<Utc>>()
            .map_err(|_| "it is an instant with its offset, such as 2026-05-01T00:00:00Z".to_owned())?;
        if at > Utc::now() {
            return Err("it is still to come".to_owned());
        }
        if at.year() < 1970 { Err("it is an instant of 1970 or later".to_owned()) } else { Ok(at) }
    });
    let dry_run = fields.value("dry_run", |value| value.as_bool().ok_or_else(|| "it is true or false".to_owned()));
    let dry_run = dry_run.unwrap_or_default();
    if rule.is_some() && !dry_run {
        fields.fault(
            "rule",
            "another rule is tried out with \"dry_run\": true; for good it is the programme's".to_owned(),
        );
    }
    if rule.is_some() && rule_version.is_some() {
        fields.fault("rule_version", "it is the rule of a version, or another one".to_owned());
    }
    fields.finish("invalid_verification")?;
    Ok(Wanted {
        projects: projects.unwrap_or_default(),
        connections: connections.unwrap_or_default(),
        rule_version: rule_version.and_then(|version| u32::try_from(version).ok()),
        rule,
        as_of,
        dry_run,
    })
}

/// # Errors
/// A project that is named is none that is enrolled, or none of the caller's.
fn refuse_others(
    projects: &[ProjectSlug],
    connections: &[ConnectionName],
    enrolled: &[Enrolled],
) -> Result<(), Problem> {
    let is_enrolled = |slug: &ProjectSlug| enrolled.iter().any(|enrolled| enrolled.project.slug == *slug);
    if named(projects, connections).all(is_enrolled) { Ok(()) } else { Err(Problem::no_project()) }
}

/// # Errors
/// A project that is named consented to terms of another version.
fn refuse_other_terms(
    projects: &[ProjectSlug],
    connections: &[ConnectionName],
    others: &[Enrolled],
    rule_version: Option<u32>,
) -> Result<(), Problem> {
    let other = named(projects, connections).find_map(|slug| others.iter().find(|other| other.project.slug == *slug));
    let Some(Enrolled { project, version }) = other else { return Ok(()) };
    let asked = rule_version.unwrap_or_default();
    let detail = format!(
        "{} consented to version {version} of the terms, and this is a verification by version {asked}: say \"rule_version\": {version} for \
         it, or try version {asked} out with \"dry_run\": true",
        project.slug
    );
    Err(Problem::new(ErrorKind::Conflict, "other_terms", detail).with("rule_version", *version))
}

fn named<'a>(projects: &'a [ProjectSlug], connections: &'a [ConnectionName]) -> impl Iterator<Item = &'a ProjectSlug> {
    projects.iter().chain(connections.iter().map(|name| &name.project))
}

/// The projects of which something is asked for: all that may be looked at, where none is named.
fn asked_for(projects: &[ProjectSlug], connections: &[ConnectionName], enrolled: &[Project]) -> Vec<ProjectSlug> {
    let asked: BTreeSet<ProjectSlug> = named(projects, connections).cloned().collect();
    if asked.is_empty() {
        enrolled.iter().map(|project| project.slug.clone()).collect()
    } else {
        asked.into_iter().collect()
    }
}

async fn rule_of(
    state: &AppState,
    programme: &Programme,
    version: Option<u32>,
) -> Result<(Option<u32>, Rule), Problem> {
    let Some(version) = version else { return Ok((Some(programme.version), programme.rule.clone())) };
    let terms = state.catalog.programme_version(&programme.slug, version).await?;
    let missing = || {
        let message = format!("the programme's terms have no version {version}; the newest is {}", programme.version);
        wrong_fields("invalid_verification", vec![FieldError { field: "rule_version".to_owned(), message }])
    };
    Ok((Some(version), terms.ok_or_else(missing)?.rule))
}

/// List verifications
///
/// The newest first: those of the programme's own organisation; for who takes part, its own dry runs, and those that settled
/// something of its projects.
#[utoipa::path(
    get, path = "/v1/programmes/{programme}/verifications", tag = "programmes",
    params(("programme" = ProgrammeSlug, Path), PageRequest<RunId>),
    responses(
        (status = 200, description = "A page of them.", body = RunList),
        Refused<(SubmissionReader, Parameters)>
    )
)]
pub(super) async fn list_verifications(
    found: SubmissionReader,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<RunList>, Problem> {
    let request = PageRequest::<RunId>::take(&mut parameters)?;
    parameters.finish()?;
    let SubmissionReader { programme, side, principal } = found;
    let of = match (side, principal.organisation.clone()) {
        (_, None) => RunsOf::Server,
        (Side::Administrator, Some(_)) => RunsOf::Administrator(programme.organisation),
        (Side::Invited, Some(own)) => RunsOf::Developer(own),
    };
    let page = state.catalog.verification_runs(&programme.slug, &of, request.after.as_ref(), request.limit).await?;
    let next_cursor = next_cursor(&page, |run| run.id.clone());
    let verifications = page.items.into_iter().map(|run| shown_run(run, side, &principal)).collect();
    Ok(Json(RunList { verifications, next_cursor }))
}

/// Get a verification
///
/// How far it is, and what it went by.
#[utoipa::path(
    get, path = "/v1/programmes/{programme}/verifications/{run}", tag = "programmes",
    params(("programme" = ProgrammeSlug, Path), ("run" = RunId, Path)),
    responses(
        (status = 200, description = "The verification.", body = RunAnswer),
        Refused<(RunViewer, NoParameters)>
    )
)]
pub(super) async fn get_verification(
    found: RunViewer,
    State(state): State<AppState>,
    _: NoParameters,
) -> Result<Json<RunAnswer>, Problem> {
    let RunViewer { side, principal, run, scope } = found;
    let projects = state.catalog.run_projects(&run.id).await?;
    let projects = projects.into_iter().filter(|project| side == Side::Administrator || scope.owns(&project.project));
    let progress = match run.state {
        RunState::Done => 1.0,
        RunState::Running | RunState::Failed => state.verification.progress(&run.id).unwrap_or_default(),
    };
    let projects = projects.map(Into::into).collect();
    Ok(Json(RunAnswer { verification: shown_run(run, side, &principal), progress, projects }))
}

/// Get the key that reports are signed with
#[utoipa::path(
    get, path = "/v1/verification-key", tag = "programmes",
    responses((status = 200, description = "The public key.", body = KeyAnswer), Refused<(Caller, NoParameters)>)
)]
pub(super) async fn get_verification_key(
    _: Caller,
    State(state): State<AppState>,
    _: NoParameters,
) -> Result<Json<KeyAnswer>, Problem> {
    let read = move || state.verification.signing_key().public();
    let public_key = tokio::task::spawn_blocking(read).await.map_err(|_| Problem::unexplained())??;
    Ok(Json(KeyAnswer { algorithm: "Ed25519", public_key }))
}
