//! `/v1/programmes/{programme}/enrolments`: the projects that take part, each with the consent of its organisation.

use axum::{Json, extract::State, http::StatusCode};
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{
    AppState, JsonObject, NoParameters, PageRequest, Parameters, Problem,
    fields::Fields,
    found_programmes::{EnrolmentManager, ProgrammeEnroller, ProgrammeViewer, owns_project},
    next_cursor,
    problem_types::{Raises, Refused},
};
use crate::{
    audit::note,
    catalog::{Enrolment, NewEnrolment, Side},
    error::ErrorKind,
    ids::{ProgrammeSlug, ProjectSlug},
    programmes::DISCLOSES,
};

#[derive(Serialize, ToSchema)]
pub(super) struct EnrolmentList {
    enrolments: Vec<Enrolment>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// The body that enrols a project.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the description of what `create_enrolment` reads")]
struct EnrolmentFields {
    project: ProjectSlug,
    /// Of the terms, as they were read: the newest.
    #[schema(minimum = 1)]
    version: u32,
    /// That the project shares what the programme `discloses`: true.
    consent: bool,
}

/// What enrolling a project can come to.
struct Enrolling;

impl Raises for Enrolling {
    fn codes() -> Vec<&'static str> {
        let terms = ["consent_needed", "programme_changed", "not_invited", "enrolment_currency"];
        [&["invalid_enrolment"][..], &terms, &["limit_reached", "storage_full"]].concat()
    }
}

/// What withdrawing one can come to.
struct Withdrawing;

impl Raises for Withdrawing {
    fn codes() -> Vec<&'static str> {
        vec!["storage_full"]
    }
}

/// Enrol a project
///
/// One of the caller's own, in a programme that invites its organisation. That is the consent that the organisation which administers
/// the programme is shown what the programme `discloses`, and that files of the project must have the columns which the terms ask for.
/// With a newer version of the terms, or after a withdrawal, it renews the enrolment; the same again changes nothing.
#[utoipa::path(
    post, path = "/v1/programmes/{programme}/enrolments", tag = "programmes",
    params(("programme" = ProgrammeSlug, Path)),
    request_body = EnrolmentFields,
    responses(
        (status = 201, description = "It takes part now, by these terms.", body = Enrolment),
        (status = 200, description = "It did already.", body = Enrolment),
        Refused<(ProgrammeEnroller, NoParameters, JsonObject, Enrolling)>
    )
)]
pub(super) async fn create_enrolment(
    enroller: ProgrammeEnroller,
    State(state): State<AppState>,
    _: NoParameters,
    JsonObject(body): JsonObject,
) -> Result<(StatusCode, Json<Enrolment>), Problem> {
    let ProgrammeEnroller { programme, principal } = enroller;
    let Asked { project, version, consent } = read_asked(body)?;
    if !owns_project(&principal, &project, &state).await? {
        return Err(Problem::no_project());
    }
    note(|learned| {
        learned.projects = vec![project.clone()];
        learned.parameters = Some(json!({ "version": version }));
    });
    if !consent {
        let detail =
            "to enrol a project is to consent that it shares what `discloses` lists; say \"consent\": true if it is to";
        return Err(Problem::new(ErrorKind::Rejected, "consent_needed", detail).with("discloses", json!(DISCLOSES)));
    }
    let enrolled_by = Some(principal.key_prefix.clone());
    let new = NewEnrolment { programme: programme.slug, project, version, enrolled_by };
    let (enrolment, is_new) = state.catalog.enrol(new).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(enrolment)))
}

/// What a body asks for.
struct Asked {
    project: ProjectSlug,
    version: u32,
    consent: bool,
}

fn read_asked(body: Map<String, Value>) -> Result<Asked, Problem> {
    let mut fields = Fields::of(body);
    let project = fields.parsed::<ProjectSlug>("project");
    fields.need("project", project.as_ref());
    let version = fields.number("version", 1..=u64::from(u32::MAX)).and_then(|version| u32::try_from(version).ok());
    fields.need("version", version.as_ref());
    let consent = fields.value("consent", |value| value.as_bool().ok_or_else(|| "consent is true or false".to_owned()));
    fields.finish("invalid_enrolment")?;
    let (Some(project), Some(version)) = (project, version) else { return Err(Problem::unexplained()) };
    Ok(Asked { project, version, consent: consent.unwrap_or_default() })
}

/// List the enrolments of a programme
///
/// By project, those that are withdrawn too: all of them for who administers it, for others those of their own projects.
#[utoipa::path(
    get, path = "/v1/programmes/{programme}/enrolments", tag = "programmes",
    params(("programme" = ProgrammeSlug, Path), PageRequest<ProjectSlug>),
    responses(
        (status = 200, description = "A page of them.", body = EnrolmentList),
        Refused<(ProgrammeViewer, Parameters)>
    )
)]
pub(super) async fn list_enrolments(
    found: ProgrammeViewer,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Json<EnrolmentList>, Problem> {
    let request = PageRequest::<ProjectSlug>::take(&mut parameters)?;
    parameters.finish()?;
    let ProgrammeViewer { programme, side, principal } = found;
    let own = principal.organisation.as_ref().filter(|_| side == Side::Invited);
    let page = state.catalog.enrolments_page(&programme.slug, own, request.after.as_ref(), request.limit).await?;
    let next_cursor = next_cursor(&page, |enrolment| enrolment.project.clone());
    let shown = page.items.into_iter().map(|enrolment| {
        // Which key of the other side consented is that side's business.
        let enrolled_by = enrolment.enrolled_by.filter(|_| principal.reaches(&enrolment.organisation));
        Enrolment { enrolled_by, ..enrolment }
    });
    let enrolments: Vec<Enrolment> = shown.collect();
    // Whose project it is sees who read that it takes part.
    note(|learned| learned.projects = enrolments.iter().map(|enrolment| enrolment.project.clone()).collect());
    Ok(Json(EnrolmentList { enrolments, next_cursor }))
}

/// Withdraw a project
///
/// From then on the programme is shown nothing more of it, and its files need no more than others; what was verified stays. One that
/// is withdrawn already stays so.
#[utoipa::path(
    delete, path = "/v1/programmes/{programme}/enrolments/{project}", tag = "programmes",
    params(("programme" = ProgrammeSlug, Path), ("project" = ProjectSlug, Path)),
    responses(
        (status = 200, description = "The enrolment as it is now.", body = Enrolment),
        Refused<(EnrolmentManager, NoParameters, Withdrawing)>
    )
)]
pub(super) async fn withdraw_enrolment(
    found: EnrolmentManager,
    State(state): State<AppState>,
    _: NoParameters,
) -> Result<Json<Enrolment>, Problem> {
    let Enrolment { programme, project, .. } = found.enrolment;
    Ok(Json(state.catalog.withdraw_enrolment(&programme, &project).await?))
}
