//! `/v1/programmes/{programme}/verifications/{run}/verdicts`, and what else can be had of a run that has ended: its evidence, itself
//! again, its report.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use super::{
    AppState, NoParameters, PageRequest, Parameters, Problem,
    extract::invalid_parameter,
    found_verifications::RunViewer,
    next_cursor,
    problem_types::{Raises, Refused},
    verification_answers::{ExplainedVerdict, ReplayAnswer, VerdictAnswer, VerdictList, shown},
};
use crate::{
    access::Scope,
    audit::note,
    catalog::{Page, RunState, Side},
    error::ErrorKind,
    ids::{ProgrammeSlug, ProjectSlug, RunId},
    programmes::{ConnectionName, Outcome, Verdict},
    verification::{Glance, to_parquet, verdicts},
};

/// Which verdicts to tell, and how.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "a description")]
struct VerdictParameters {
    /// Of this project.
    project: Option<ProjectSlug>,
    /// With this outcome.
    #[param(inline)]
    outcome: Option<Outcome>,
    /// `csv` and `parquet` are all that match, as a file, and have no pages.
    #[param(inline, value_type = Option<String>, example = "json")]
    format: Option<String>,
}

/// What reading verdicts can come to.
struct Reading;

impl Raises for Reading {
    fn codes() -> Vec<&'static str> {
        vec!["not_found", "verification_not_done", "verdicts_damaged", "data_damaged"]
    }
}

/// What asking for a report can come to.
struct Reporting;

impl Raises for Reporting {
    fn codes() -> Vec<&'static str> {
        [Reading::codes(), vec!["report_of_others"]].concat()
    }
}

/// What judging again can come to.
struct Replaying;

impl Raises for Replaying {
    fn codes() -> Vec<&'static str> {
        [Reading::codes(), vec!["evidence_gone", "verification_timeout", "too_many_verifications", "replay_of_others"]]
            .concat()
    }
}

/// Get verdicts
///
/// By project and id: as JSON in pages, or all that match as a file. While the verification is under way, all are `in_progress`.
#[utoipa::path(
    get, path = "/v1/programmes/{programme}/verifications/{run}/verdicts", tag = "programmes",
    params(
        ("programme" = ProgrammeSlug, Path), ("run" = RunId, Path), VerdictParameters, PageRequest<String>
    ),
    responses(
        (status = 200, description = "A page of them, or all as a file.",
            content((VerdictList = "application/json"), (String = "text/csv"), ("application/vnd.apache.parquet"))),
        Refused<(RunViewer, Parameters, Reading)>
    )
)]
pub(super) async fn list_verdicts(
    found: RunViewer,
    State(state): State<AppState>,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let project = parameters.take_as::<ProjectSlug>("project")?;
    let outcome = parameters.take_as::<Outcome>("outcome")?;
    let format = parameters.take("format")?;
    let RunViewer { side, run, scope, .. } = found;
    let own = |slug: &ProjectSlug| scope.owns(slug);
    let wanted = Wanted { project, outcome, own: (side == Side::Invited).then(|| Arc::clone(&scope)), after: None };
    let file = match format.as_deref() {
        None | Some("json") => None,
        Some("csv") => Some(("text/csv; charset=utf-8", "csv")),
        Some("parquet") => Some(("application/vnd.apache.parquet", "parquet")),
        Some(_) => {
            let allowed = vec!["json", "csv", "parquet"];
            return Err(invalid_parameter("format", "format is json, csv or parquet").with("allowed", allowed));
        }
    };
    if let Some((media_type, ending)) = file {
        parameters.finish()?;
        let told = state.verification.verdicts(&run, move |verdict| wanted.has(verdict), usize::MAX).await?;
        let told: Vec<Verdict> = told.into_iter().filter_map(|verdict| shown(verdict, side, own)).collect();
        note(|learned| learned.rows = Some(told.len() as u64));
        let write = move || if ending == "csv" { verdicts::to_csv(&told) } else { to_parquet(&told) };
        let bytes = tokio::task::spawn_blocking(write).await.map_err(|_| Problem::unexplained())??;
        let name = format!("attachment; filename=\"verdicts-{}.{ending}\"", run.id);
        let headers = [(header::CONTENT_TYPE, media_type.to_owned()), (header::CONTENT_DISPOSITION, name)];
        return Ok((headers, bytes).into_response());
    }
    let request = PageRequest::<String>::take(&mut parameters)?;
    parameters.finish()?;
    let after = request.after.as_deref().map(name_of).transpose()?;
    let wanted = Wanted { after, ..wanted };
    let limit = request.limit as usize;
    let (items, more) = if run.state == RunState::Running {
        let names = state.verification.names(&run.id);
        let is_wanted = |name: &&ConnectionName| {
            let (project, external_id) = (name.project.as_str(), name.external_id.as_str());
            wanted.has(Glance { project, external_id, outcome: Outcome::InProgress.as_str() })
        };
        let mut told: Vec<_> = names.iter().filter(is_wanted).take(limit + 1).cloned().collect();
        let more = told.len() > limit;
        told.truncate(limit);
        (told.into_iter().map(|name| (name.clone(), VerdictAnswer::in_progress(name))).collect::<Vec<_>>(), more)
    } else {
        let told = state.verification.verdicts(&run, move |verdict| wanted.has(verdict), limit + 1).await?;
        let mut told: Vec<_> = told.into_iter().filter_map(|verdict| shown(verdict, side, own)).collect();
        let more = told.len() > limit;
        told.truncate(limit);
        (told.into_iter().map(|verdict| (verdict.subject.name.clone(), verdict.into())).collect(), more)
    };
    note(|learned| learned.rows = Some(items.len() as u64));
    let page = Page { items, more };
    let next_cursor = next_cursor(&page, |(name, _)| name.to_string());
    let verdicts = page.items.into_iter().map(|(_, verdict)| verdict).collect();
    Ok(Json(VerdictList { verdicts, next_cursor }).into_response())
}

/// Which verdicts are told.
struct Wanted {
    project: Option<ProjectSlug>,
    outcome: Option<Outcome>,
    /// Those of the caller's own projects, where nothing else is told.
    own: Option<Arc<Scope>>,
    /// Those after it, by name.
    after: Option<ConnectionName>,
}

impl Wanted {
    fn has(&self, verdict: Glance<'_>) -> bool {
        let Glance { project, external_id, outcome } = verdict;
        let is_next =
            |after: &ConnectionName| (project, external_id) > (after.project.as_str(), after.external_id.as_str());
        self.project.as_ref().is_none_or(|wanted| wanted.as_str() == project)
            && self.outcome.is_none_or(|wanted| wanted.as_str() == outcome)
            && self.after.as_ref().is_none_or(is_next)
            && self.own.as_ref().is_none_or(|own| project.parse().is_ok_and(|project| own.owns(&project)))
    }
}

/// The connection that a cursor names.
pub(super) fn name_of(cursor: &str) -> Result<ConnectionName, Problem> {
    let split = cursor.split_once('/').and_then(|(project, id)| Some((project.parse().ok()?, id)));
    let (project, id) = split
        .ok_or_else(|| invalid_parameter("cursor", "cursor is the next_cursor of the page before, as it was given"))?;
    Ok(ConnectionName { project, external_id: id.to_owned() })
}

/// What the path of a verdict names.
#[derive(Deserialize)]
pub(super) struct VerdictPath {
    project: String,
    external_id: String,
}

/// Explain a verdict
///
/// With the payments that counted or were taken off, and the uploads that they came with.
#[utoipa::path(
    get, path = "/v1/programmes/{programme}/verifications/{run}/verdicts/{project}/{external_id}", tag = "programmes",
    params(
        ("programme" = ProgrammeSlug, Path), ("run" = RunId, Path), ("project" = ProjectSlug, Path),
        ("external_id" = String, Path)
    ),
    responses(
        (status = 200, description = "The verdict, and what it rests on.", body = ExplainedVerdict),
        Refused<(RunViewer, NoParameters, Reading)>
    )
)]
pub(super) async fn explain_verdict(
    found: RunViewer,
    State(state): State<AppState>,
    Path(VerdictPath { project, external_id }): Path<VerdictPath>,
    _: NoParameters,
) -> Result<Json<ExplainedVerdict>, Problem> {
    let RunViewer { side, run, scope, .. } = found;
    let is_it = move |verdict: Glance<'_>| verdict.project == project && verdict.external_id == external_id;
    let verdict = state.verification.verdicts(&run, is_it, 1).await?.pop();
    let verdict = verdict.and_then(|verdict| shown(verdict, side, |slug| scope.owns(slug)));
    let verdict = verdict.ok_or_else(Problem::not_found)?;
    note(|learned| learned.projects = vec![verdict.subject.name.project.clone()]);
    let evidence = state.verification.evidence(&run, &verdict, side == Side::Administrator).await?;
    Ok(Json(ExplainedVerdict { verdict: verdict.into(), evidence }))
}

/// Replay a verification
///
/// Judges everything again by what the verification went by, and compares the verdicts to the byte. Where the version of the lake is no
/// longer kept, payments are read from the uploads that it names.
#[utoipa::path(
    post, path = "/v1/programmes/{programme}/verifications/{run}/replay", tag = "programmes",
    params(("programme" = ProgrammeSlug, Path), ("run" = RunId, Path)),
    responses(
        (status = 200, description = "What came of it.", body = ReplayAnswer),
        Refused<(RunViewer, NoParameters, Replaying)>
    )
)]
pub(super) async fn replay_verification(
    found: RunViewer,
    State(state): State<AppState>,
    _: NoParameters,
) -> Result<Json<ReplayAnswer>, Problem> {
    // To read uploads of others again, and to be told which are gone, is the programme's.
    if found.side != Side::Administrator && !found.is_own() {
        let detail =
            "this verification judged connections of others too, so the programme's own organisation replays it";
        return Err(Problem::new(ErrorKind::Forbidden, "replay_of_others", detail));
    }
    let replay = state.verification.replay(&found.run).await?;
    note(|learned| learned.parameters = Some(json!({ "same": replay.same })));
    Ok(Json(ReplayAnswer { same: replay.same, sha256: replay.sha256, source: replay.source }))
}

/// Get the signed report of a verification
///
/// One text with what it went by and all verdicts, signed: `wattlake verify-report` checks it without a server. For who may read all
/// of it.
#[utoipa::path(
    get, path = "/v1/programmes/{programme}/verifications/{run}/report", tag = "programmes",
    params(("programme" = ProgrammeSlug, Path), ("run" = RunId, Path)),
    responses(
        (status = 200, description = "The report.", body = String, content_type = "text/plain",
            headers(("Content-Disposition" = String, description = "With the name of the file."))),
        Refused<(RunViewer, NoParameters, Reporting)>
    )
)]
pub(super) async fn get_report(
    found: RunViewer,
    State(state): State<AppState>,
    _: NoParameters,
) -> Result<Response, Problem> {
    // Also of one's own dry run: it says which connections of others are the same.
    if found.side != Side::Administrator {
        return Err(forbidden_report(&found));
    }
    let report = state.verification.report(&found.run).await?;
    let name = format!("attachment; filename=\"verification-{}.txt\"", found.run.id);
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, report).into_response())
}

/// A report has all verdicts, those on others' connections among them.
fn forbidden_report(found: &RunViewer) -> Problem {
    let detail = "the report has verdicts on connections of others; read yours at …/verdicts, or ask who administers the programme for it";
    Problem::new(ErrorKind::Forbidden, "report_of_others", detail).with("run", found.run.id.to_string())
}
