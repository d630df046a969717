//! A submission as the catalogue holds it: its states, what became of it, and what its connection is judged by.

use std::{fmt, str::FromStr};

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{Row as _, sqlite::SqliteRow};
use utoipa::ToSchema;

use super::{CatalogError, from_micros, read, sql};
use crate::{
    ids::{OrganisationSlug, ProgrammeSlug, ProjectSlug, RunId},
    programmes::{ConnectionName, Outcome, Subject},
};

/// How far a submission is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubmissionState {
    /// A connection that its project has and has not submitted. Its own organisation alone sees it.
    Draft,
    Submitted,
    /// The last verification found that it pays.
    Verified,
    /// The last verification found that it does not.
    Failed,
    /// The programme has paid for it.
    Paid,
}

impl SubmissionState {
    pub const ALL: [Self; 5] = [Self::Draft, Self::Submitted, Self::Verified, Self::Failed, Self::Paid];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Submitted => "submitted",
            Self::Verified => "verified",
            Self::Failed => "failed",
            Self::Paid => "paid",
        }
    }
}

impl fmt::Display for SubmissionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SubmissionState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| format!("it is one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// A connection in a programme.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Submission {
    pub programme: ProgrammeSlug,
    pub project: ProjectSlug,
    pub external_id: String,
    /// Its turn: of two that are the same connection, the one with the smaller number counts. Null of a draft, and to who takes
    /// part.
    #[schema(required)]
    pub number: Option<u64>,
    pub state: SubmissionState,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub submitted_at: Option<DateTime<Utc>>,
    /// The start of the key that submitted it; null to the programme's side.
    #[schema(required)]
    pub submitted_by: Option<String>,
    /// Since when it is in its state.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub state_at: Option<DateTime<Utc>>,
    /// What the last verification found; null where there was none.
    #[schema(required)]
    pub outcome: Option<Outcome>,
    /// That verification.
    #[schema(required)]
    pub run: Option<RunId>,
    /// What it would find now, where that is something else: the verdict is open again, and a new verification settles it.
    #[schema(required)]
    pub would_be: Option<Outcome>,
    /// Since when that is known.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub reopened_at: Option<DateTime<Utc>>,
}

/// Something that became of a submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SubmissionEvent {
    #[schema(value_type = String, format = DateTime)]
    pub at: DateTime<Utc>,
    /// `submitted`; `verified`, `failed`: a verification came to another verdict than the one before; `paid`; `reopened`: what
    /// changed since would give another verdict; `settled`: it would not any more, or a verification came to the same verdict.
    pub event: String,
    /// The start of the key; null where it is another organisation's, and for the server itself.
    #[schema(required)]
    pub by: Option<String>,
    #[schema(required)]
    pub outcome: Option<Outcome>,
    #[schema(required)]
    pub run: Option<RunId>,
}

/// Which submissions to list; `None` is any.
#[derive(Clone, Debug, Default)]
pub struct SubmissionFilter {
    pub project: Option<ProjectSlug>,
    /// Those of projects of this organisation alone.
    pub organisation: Option<OrganisationSlug>,
    pub state: Option<SubmissionState>,
    pub outcome: Option<Outcome>,
    pub reopened: Option<bool>,
}

/// A verdict that would be another one now, or no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reopening {
    pub name: ConnectionName,
    /// That gave the verdict: where another one has given one since, nothing is noted.
    pub run: RunId,
    pub would_be: Option<Outcome>,
}

/// The last verdict of a submission, and what is known of it since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub run: RunId,
    pub outcome: Outcome,
    pub would_be: Option<Outcome>,
}

pub(super) fn outcome_of(what: Option<String>) -> Result<Option<Outcome>, CatalogError> {
    what.map(|text| read("outcome", &text)).transpose()
}

pub(super) fn submission_of(row: &SqliteRow) -> Result<Submission, CatalogError> {
    let failed = || sql("read a submission");
    let text = |name: &str| row.try_get::<String, _>(name).map_err(failed());
    let optional = |name: &str| row.try_get::<Option<String>, _>(name).map_err(failed());
    let instant = |name: &str| row.try_get::<Option<i64>, _>(name).map(|at| at.map(from_micros)).map_err(failed());
    Ok(Submission {
        programme: read("submission's programme", &text("programme")?)?,
        project: read("submission's project", &text("project")?)?,
        external_id: text("external_id")?,
        number: row.try_get::<Option<i64>, _>("number").map_err(failed())?.map(i64::cast_unsigned),
        state: read("submission's state", &text("state")?)?,
        submitted_at: instant("submitted_at")?,
        submitted_by: optional("submitted_by")?,
        state_at: instant("state_at")?,
        outcome: outcome_of(optional("outcome")?)?,
        run: optional("run")?.map(|id| read("submission's run", &id)).transpose()?,
        would_be: outcome_of(optional("would_be")?)?,
        reopened_at: instant("reopened_at")?,
    })
}

/// What a connection is judged by, from a row of a submission and its connection.
pub(super) fn subject_of(row: &SqliteRow) -> Result<Subject, CatalogError> {
    let failed = || sql("read what is judged");
    let optional = |name: &str| row.try_get::<Option<String>, _>(name).map_err(failed());
    let project: String = row.try_get("project").map_err(failed())?;
    let connected_on = optional("connected_on")?;
    Ok(Subject {
        name: ConnectionName {
            project: read("submission's project", &project)?,
            external_id: row.try_get("external_id").map_err(failed())?,
        },
        turn: row.try_get::<i64, _>("number").map_err(failed())?.cast_unsigned(),
        serial_number: optional("serial_number")?,
        submitted_serial_number: optional("submitted_serial_number")?,
        site: optional("site")?,
        category: optional("category")?,
        connected_on: connected_on.map(|day| read::<NaiveDate>("day of a connection", &day)).transpose()?,
        is_there: row.try_get::<i64, _>("is_there").map_err(failed())? == 1,
        is_paid: row.try_get::<i64, _>("is_paid").map_err(failed())? == 1,
    })
}
