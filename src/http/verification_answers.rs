//! What is answered of submissions, verifications and verdicts, with their schemas.

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::{
    access::Principal,
    catalog::{RunProject, Side, Submission, SubmissionEvent, VerificationRun},
    ids::{ProgrammeSlug, ProjectSlug, UploadId},
    programmes::{ConnectionName, Outcome, Verdict, verdict::decimal},
    verification::{Evidence, EvidenceSource},
};

/// How many were submitted.
#[derive(Serialize, ToSchema)]
#[schema(as = Submitted)]
pub(super) struct SubmittedAnswer {
    pub(super) programme: ProgrammeSlug,
    pub(super) project: ProjectSlug,
    pub(super) submitted: u64,
}

/// How many are paid for now.
#[derive(Serialize, ToSchema)]
pub(super) struct PaidFor {
    pub(super) programme: ProgrammeSlug,
    pub(super) paid: u64,
}

#[derive(Serialize, ToSchema)]
pub(super) struct SubmissionList {
    pub(super) submissions: Vec<Submission>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

/// A submission with all that became of it.
#[derive(Serialize, ToSchema)]
pub(super) struct SubmissionHistory {
    pub(super) submission: Submission,
    /// The oldest first.
    pub(super) history: Vec<SubmissionEvent>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct RunList {
    pub(super) verifications: Vec<VerificationRun>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

/// A run, with what it went by.
#[derive(Serialize, ToSchema)]
pub(super) struct RunAnswer {
    pub(super) verification: VerificationRun,
    /// How much was looked at, from 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    pub(super) progress: f64,
    pub(super) projects: Vec<RunProjectAnswer>,
}

/// A project of a run.
#[derive(Serialize, ToSchema)]
pub(super) struct RunProjectAnswer {
    project: ProjectSlug,
    /// In which its days and months are counted.
    #[schema(example = "Africa/Nairobi")]
    time_zone: &'static str,
    /// The uploads that its payments came with, in the order in which they landed.
    uploads: Vec<RunUpload>,
}

/// An upload that verdicts rest on.
#[derive(Serialize, ToSchema)]
struct RunUpload {
    id: UploadId,
    /// Of its file, in hexadecimal.
    sha256: String,
}

impl From<RunProject> for RunProjectAnswer {
    fn from(project: RunProject) -> Self {
        let RunProject { project, time_zone, uploads } = project;
        let uploads = uploads.into_iter().map(|(id, sha256)| RunUpload { id, sha256 }).collect();
        Self { project, time_zone: time_zone.name(), uploads }
    }
}

/// A sum of money in ten-thousandths: in JSON an exact decimal numeral.
#[derive(ToSchema)]
#[schema(value_type = f64)]
pub(super) struct Sum(i128);

impl Serialize for Sum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let numeral = RawValue::from_string(decimal(self.0)).map_err(serde::ser::Error::custom)?;
        numeral.serialize(serializer)
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct VerdictList {
    pub(super) verdicts: Vec<VerdictAnswer>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

/// What a connection came to. While the run is under way, there is nothing but its name and `in_progress`.
#[derive(Serialize, ToSchema)]
pub(super) struct VerdictAnswer {
    project: ProjectSlug,
    external_id: String,
    outcome: Outcome,
    /// Why, in words.
    detail: String,
    /// Payments that count.
    #[schema(required)]
    payments: Option<u64>,
    /// Distinct months of these.
    #[schema(required)]
    months: Option<u32>,
    /// ISO 4217.
    #[schema(required)]
    currency: Option<String>,
    /// What these come to.
    #[schema(required)]
    amount: Option<Sum>,
    /// What of it was given back.
    #[schema(required)]
    refunded: Option<Sum>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    first_paid_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_paid_at: Option<DateTime<Utc>>,
    /// Payments in the window that were reversed.
    #[schema(required)]
    reversed_payments: Option<u64>,
    /// Payments of the meter in all, before as-of.
    #[schema(required)]
    payments_of_meter: Option<u64>,
    /// From when on payments count; null where that cannot be known.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    window_from: Option<DateTime<Utc>>,
    /// From when on they no longer do.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    window_to: Option<DateTime<Utc>>,
    /// The same connection, submitted before; null where it is another organisation's.
    #[schema(required)]
    duplicate_of: Option<ConnectionName>,
    /// Meters that have payments and no connection, and were likely meant.
    near_misses: Vec<String>,
    /// That what counts came with.
    uploads: Vec<UploadId>,
    #[schema(required)]
    serial_number: Option<String>,
    #[schema(required)]
    site: Option<String>,
    #[schema(required)]
    category: Option<String>,
    #[schema(value_type = Option<String>, format = Date, required)]
    connected_on: Option<NaiveDate>,
    /// Its turn among the submitted; null to who takes part: it says how many others there are.
    #[schema(required)]
    turn: Option<u64>,
}

impl VerdictAnswer {
    pub(super) fn in_progress(connection: ConnectionName) -> Self {
        Self {
            project: connection.project,
            external_id: connection.external_id,
            outcome: Outcome::InProgress,
            detail: "the verification is under way".to_owned(),
            payments: None,
            months: None,
            currency: None,
            amount: None,
            refunded: None,
            first_paid_at: None,
            last_paid_at: None,
            reversed_payments: None,
            payments_of_meter: None,
            window_from: None,
            window_to: None,
            duplicate_of: None,
            near_misses: Vec::new(),
            uploads: Vec::new(),
            serial_number: None,
            site: None,
            category: None,
            connected_on: None,
            turn: None,
        }
    }
}

impl From<Verdict> for VerdictAnswer {
    fn from(verdict: Verdict) -> Self {
        let Verdict { subject, outcome, detail, window, currency, paid, duplicate_of, near_misses } = verdict;
        Self {
            project: subject.name.project,
            external_id: subject.name.external_id,
            outcome,
            detail,
            payments: Some(paid.counted),
            months: Some(paid.months),
            currency: Some(currency),
            amount: Some(Sum(paid.amount)),
            refunded: Some(Sum(paid.refunded)),
            first_paid_at: paid.first_at,
            last_paid_at: paid.last_at,
            reversed_payments: Some(paid.reversed),
            payments_of_meter: Some(paid.payments),
            window_from: window.map(|window| window.from),
            window_to: window.map(|window| window.to),
            duplicate_of,
            near_misses,
            uploads: paid.uploads,
            serial_number: subject.serial_number,
            site: subject.site,
            category: subject.category,
            connected_on: subject.connected_on,
            turn: Some(subject.turn).filter(|turn| *turn > 0),
        }
    }
}

/// A verdict with what it rests on.
#[derive(Serialize, ToSchema)]
pub(super) struct ExplainedVerdict {
    pub(super) verdict: VerdictAnswer,
    pub(super) evidence: Evidence,
}

/// A run that was judged again.
#[derive(Serialize, ToSchema)]
pub(super) struct ReplayAnswer {
    /// Whether its verdicts are the same, to the byte.
    pub(super) same: bool,
    /// Of its verdicts as CSV, in hexadecimal.
    pub(super) sha256: String,
    pub(super) source: EvidenceSource,
}

/// The key that reports are signed with.
#[derive(Serialize, ToSchema)]
pub(super) struct KeyAnswer {
    #[schema(value_type = String, example = "Ed25519")]
    pub(super) algorithm: &'static str,
    /// In hexadecimal: what `wattlake verify-report --key` takes.
    pub(super) public_key: String,
}

/// A verdict as a side may see it: which connection of another organisation is the same is that organisation's business.
pub(super) fn shown(mut verdict: Verdict, side: Side, is_own: impl Fn(&ProjectSlug) -> bool) -> Option<Verdict> {
    if side == Side::Administrator {
        return Some(verdict);
    }
    if !is_own(&verdict.subject.name.project) {
        return None;
    }
    if verdict.duplicate_of.as_ref().is_some_and(|earlier| !is_own(&earlier.project)) {
        verdict.duplicate_of = None;
        verdict.detail = "the same connection as one of another organisation, which goes before it".into();
    }
    verdict.subject.turn = 0;
    Some(verdict)
}

/// A submission as a side may see it: which key did something is that key's organisation's business, and how many there are of others
/// the programme's.
pub(super) fn shown_submission(submission: Submission, side: Side) -> Submission {
    let submitted_by = submission.submitted_by.filter(|_| side == Side::Invited);
    let number = submission.number.filter(|_| side == Side::Administrator);
    Submission { number, submitted_by, ..submission }
}

/// What became of a submission, as a side may see it.
pub(super) fn shown_events(events: Vec<SubmissionEvent>, side: Side) -> Vec<SubmissionEvent> {
    let own = |event: &SubmissionEvent| (event.event == "submitted") == (side == Side::Invited);
    events.into_iter().map(|event| SubmissionEvent { by: event.by.clone().filter(|_| own(&event)), ..event }).collect()
}

/// A run as the caller may see it. How many connections there are of others, which were asked for, and what became of them, is theirs.
pub(super) fn shown_run(mut run: VerificationRun, side: Side, principal: &Principal) -> VerificationRun {
    let own = run.organisation.as_ref().is_some_and(|organisation| principal.reaches(organisation));
    run.started_by = run.started_by.filter(|_| own || principal.organisation.is_none());
    if side == Side::Invited && !own {
        (run.connections, run.outcomes, run.selection) = (None, None, None);
        run.other_terms = Vec::new();
    }
    run
}
