//! A run of verification as the catalogue holds it: what was asked, by which rule, of which lake, and how it ended.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::Serialize;
use utoipa::ToSchema;

use super::{CatalogError, from_micros, read};
use crate::{
    ids::{OrganisationSlug, ProgrammeSlug, ProjectSlug, RunId, UploadId},
    programmes::{Outcome, Rule, Selection},
};

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    Running,
    Done,
    Failed,
}

impl RunState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

impl std::str::FromStr for RunState {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Running, Self::Done, Self::Failed].into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

/// A run of verification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct VerificationRun {
    pub id: RunId,
    pub programme: ProgrammeSlug,
    pub state: RunState,
    /// Whether it only shows what would be, and settles nothing.
    pub dry_run: bool,
    /// The version of the programme's terms; null where another rule is tried out.
    #[schema(required)]
    pub rule_version: Option<u32>,
    pub rule: Rule,
    /// Enrolled projects that it leaves out, because they consented to other terms: each is verified by its own.
    pub other_terms: Vec<ProjectSlug>,
    /// Only payments before it count.
    #[schema(value_type = String, format = DateTime)]
    pub as_of: DateTime<Utc>,
    /// The version of the lake whose payments were looked at.
    pub lake_version: u64,
    /// What was asked for; null is everything.
    #[schema(required)]
    pub selection: Option<Selection>,
    /// The start of the key that began it; null where that is another organisation's.
    #[schema(required)]
    pub started_by: Option<String>,
    #[serde(skip)]
    pub organisation: Option<OrganisationSlug>,
    #[schema(value_type = String, format = DateTime)]
    pub started_at: DateTime<Utc>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub ended_at: Option<DateTime<Utc>>,
    /// How many were judged.
    #[schema(required)]
    pub connections: Option<u64>,
    /// How many came to each outcome.
    #[schema(value_type = Option<BTreeMap<String, u64>>, required)]
    pub outcomes: Option<BTreeMap<Outcome, u64>>,
    /// The SHA-256 of its verdicts as CSV, in hexadecimal: the same run again gives the same.
    #[schema(required)]
    pub sha256: Option<String>,
    /// Why it failed.
    #[schema(required)]
    pub failure: Option<String>,
}

/// A project that a run looked at, and the uploads that made it up then, in the order in which they landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunProject {
    pub project: ProjectSlug,
    pub time_zone: Tz,
    /// Each with the SHA-256 of its file.
    pub uploads: Vec<(UploadId, String)>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunEnd {
    pub connections: u64,
    pub outcomes: BTreeMap<Outcome, u64>,
    pub sha256: [u8; 32],
}

/// Whose runs are seen of a programme.
#[derive(Clone, Debug)]
pub enum RunsOf {
    /// Those of the programme's own organisation, and of whoever runs the server.
    Administrator(OrganisationSlug),
    /// Those that an organisation began itself, and those that settled something of its projects.
    Developer(OrganisationSlug),
    /// All.
    Server,
}

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    id: String,
    programme: String,
    dry_run: bool,
    rule_version: Option<u32>,
    rule: String,
    other_terms: String,
    as_of: i64,
    lake_version: i64,
    selection: Option<String>,
    state: String,
    started_by: String,
    organisation: Option<String>,
    started_at: i64,
    ended_at: Option<i64>,
    connections: Option<i64>,
    outcomes: Option<String>,
    sha256: Option<Vec<u8>>,
    failure: Option<String>,
}

impl TryFrom<Row> for VerificationRun {
    type Error = CatalogError;

    fn try_from(row: Row) -> Result<Self, CatalogError> {
        fn json<T: serde::de::DeserializeOwned>(what: &'static str, text: String) -> Result<T, CatalogError> {
            serde_json::from_str(&text).map_err(|_| CatalogError::Unreadable { what, value: text })
        }
        Ok(Self {
            id: read("run's id", &row.id)?,
            programme: read("run's programme", &row.programme)?,
            state: read("run's state", &row.state)?,
            dry_run: row.dry_run,
            rule_version: row.rule_version,
            rule: json("run's rule", row.rule)?,
            other_terms: json("run's projects with other terms", row.other_terms)?,
            as_of: from_micros(row.as_of),
            lake_version: row.lake_version.cast_unsigned(),
            selection: row.selection.map(|text| json("run's selection", text)).transpose()?,
            started_by: Some(row.started_by),
            organisation: row.organisation.map(|slug| read("run's organisation", &slug)).transpose()?,
            started_at: from_micros(row.started_at),
            ended_at: row.ended_at.map(from_micros),
            connections: row.connections.map(i64::cast_unsigned),
            outcomes: row.outcomes.map(|text| json("run's outcomes", text)).transpose()?,
            sha256: row.sha256.map(hex::encode),
            failure: row.failure,
        })
    }
}
