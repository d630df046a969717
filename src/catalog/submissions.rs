//! Connections that were submitted to a programme, each once, and what became of them.

use std::{collections::BTreeMap, fmt, str::FromStr};

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{Row as _, Sqlite, Transaction, sqlite::SqliteRow};
use utoipa::ToSchema;

use super::{Catalog, CatalogError, Page, from_micros, now, read, sql};
use crate::{
    ids::{OrganisationSlug, ProgrammeSlug, ProjectSlug, RunId},
    programmes::{ConnectionName, Outcome, Subject},
};

/// Rows of one statement.
const ROWS_PER_STATEMENT: usize = 5_000;
/// Names that an error tells at most.
const NAMED: u32 = 10;

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
    /// Its turn: of two that are the same connection, the one with the smaller number counts. Null of a draft.
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
    /// changed since would give another verdict; `settled`: it would not any more.
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
    pub would_be: Option<Outcome>,
}

/// The last verdict of a submission, and what is known of it since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub run: RunId,
    pub outcome: Outcome,
    pub would_be: Option<Outcome>,
}

fn outcome(what: Option<String>) -> Result<Option<Outcome>, CatalogError> {
    what.map(|text| read("outcome", &text)).transpose()
}

fn submission_of(row: &SqliteRow) -> Result<Submission, CatalogError> {
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
        outcome: outcome(optional("outcome")?)?,
        run: optional("run")?.map(|id| read("submission's run", &id)).transpose()?,
        would_be: outcome(optional("would_be")?)?,
        reopened_at: instant("reopened_at")?,
    })
}

/// What a connection is judged by, from a row of a submission and its connection.
fn subject_of(row: &SqliteRow) -> Result<Subject, CatalogError> {
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
    })
}

impl Catalog {
    /// Submits connections of a project: all that were not, or those of these ids. Says how many.
    ///
    /// # Errors
    /// [`CatalogError::ConnectionsMissing`], [`CatalogError::AlreadySubmitted`], and nothing is submitted;
    /// [`CatalogError::TooMany`] where the programme would have more than `most`.
    pub async fn submit(
        &self,
        programme: &ProgrammeSlug,
        project: &ProjectSlug,
        ids: Option<&[String]>,
        by: &str,
        most: u32,
    ) -> Result<u64, CatalogError> {
        let failed = || sql("submit connections");
        let wanted = ids.map(|ids| json!(ids).to_string());
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        if let Some(wanted) = &wanted {
            refuse_missing(&mut tx, project, wanted).await?;
            refuse_submitted(&mut tx, programme, project, wanted).await?;
        }
        let at = now().timestamp_micros();
        let submitted = sqlx::query(
            "INSERT INTO submissions
                 (programme, project, external_id, number, serial_number, state, submitted_at, submitted_by, state_at, state_by)
             SELECT ?1, ?2, external_id,
                    (SELECT coalesce(max(number), 0) FROM submissions WHERE programme = ?1)
                        + row_number() OVER (ORDER BY external_id),
                    serial_number, 'submitted', ?3, ?4, ?3, ?4
             FROM connections
             WHERE project = ?2 AND (?5 IS NULL OR external_id IN (SELECT value FROM json_each(?5)))
               AND NOT EXISTS (SELECT 1 FROM submissions AS known WHERE known.programme = ?1 AND known.project = ?2
                               AND known.external_id = connections.external_id)",
        )
        .bind(programme.as_str())
        .bind(project.as_str())
        .bind(at)
        .bind(by)
        .bind(&wanted)
        .execute(&mut *tx)
        .await
        .map_err(failed())?
        .rows_affected();
        sqlx::query(
            "INSERT INTO submission_events
             SELECT programme, project, external_id, submitted_at, 1, 'submitted', submitted_by, NULL, NULL
             FROM submissions WHERE programme = ?1 AND project = ?2 AND submitted_at = ?3
               AND NOT EXISTS (SELECT 1 FROM submission_events AS known WHERE known.programme = ?1 AND known.project = ?2
                               AND known.external_id = submissions.external_id)",
        )
        .bind(programme.as_str())
        .bind(project.as_str())
        .bind(at)
        .execute(&mut *tx)
        .await
        .map_err(failed())?;
        let count: u32 = sqlx::query_scalar("SELECT count(*) FROM submissions WHERE programme = ?")
            .bind(programme.as_str())
            .fetch_one(&mut *tx)
            .await
            .map_err(failed())?;
        if count > most {
            return Err(CatalogError::TooMany {
                what: "submissions to a programme (verification.max_connections)",
                limit: most,
            });
        }
        tx.commit().await.map_err(failed())?;
        Ok(submitted)
    }

    /// At most `limit` submissions to a programme, in their turn, those after the number `after`. Drafts are no submissions:
    /// see [`Self::drafts_page`].
    pub async fn submissions_page(
        &self,
        programme: &ProgrammeSlug,
        filter: &SubmissionFilter,
        after: Option<u64>,
        limit: u32,
    ) -> Result<Page<Submission>, CatalogError> {
        let rows = sqlx::query(
            "SELECT submissions.* FROM submissions JOIN projects ON slug = project
             WHERE programme = ?1 AND number > ?2
               AND (?3 IS NULL OR project = ?3)
               AND (?4 IS NULL OR organisation = ?4)
               AND (?5 IS NULL OR state = ?5)
               AND (?6 IS NULL OR outcome = ?6)
               AND (?7 IS NULL OR (reopened_at IS NOT NULL) = ?7)
             ORDER BY number LIMIT ?8",
        )
        .bind(programme.as_str())
        .bind(after.unwrap_or_default().cast_signed())
        .bind(filter.project.as_ref().map(ProjectSlug::as_str))
        .bind(filter.organisation.as_ref().map(OrganisationSlug::as_str))
        .bind(filter.state.map(SubmissionState::as_str))
        .bind(filter.outcome.map(Outcome::as_str))
        .bind(filter.reopened)
        .bind(limit.saturating_add(1))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list submissions"))?;
        Ok(Page::of(rows.iter().map(submission_of).collect::<Result<_, _>>()?, limit))
    }

    /// At most `limit` connections of a project that were not submitted, by id, those after `after`.
    pub async fn drafts_page(
        &self,
        programme: &ProgrammeSlug,
        project: &ProjectSlug,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Submission>, CatalogError> {
        let rows = sqlx::query(
            "SELECT ?1 AS programme, project, external_id, NULL AS number, 'draft' AS state, NULL AS submitted_at,
                 NULL AS submitted_by, NULL AS state_at, NULL AS outcome, NULL AS run, NULL AS would_be, NULL AS reopened_at
             FROM connections WHERE project = ?2 AND external_id > ?3
               AND NOT EXISTS (SELECT 1 FROM submissions AS known WHERE known.programme = ?1 AND known.project = ?2
                               AND known.external_id = connections.external_id)
             ORDER BY external_id LIMIT ?4",
        )
        .bind(programme.as_str())
        .bind(project.as_str())
        .bind(after.unwrap_or_default())
        .bind(limit.saturating_add(1))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list drafts"))?;
        Ok(Page::of(rows.iter().map(submission_of).collect::<Result<_, _>>()?, limit))
    }

    /// One submission.
    pub async fn submission(
        &self,
        programme: &ProgrammeSlug,
        name: &ConnectionName,
    ) -> Result<Option<Submission>, CatalogError> {
        let row = sqlx::query("SELECT * FROM submissions WHERE programme = ? AND project = ? AND external_id = ?")
            .bind(programme.as_str())
            .bind(name.project.as_str())
            .bind(&name.external_id)
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read a submission"))?;
        row.as_ref().map(submission_of).transpose()
    }

    /// All that became of a submission, the oldest first.
    pub async fn submission_events(
        &self,
        programme: &ProgrammeSlug,
        name: &ConnectionName,
    ) -> Result<Vec<SubmissionEvent>, CatalogError> {
        type Event = (i64, String, Option<String>, Option<String>, Option<String>);
        let rows: Vec<Event> = sqlx::query_as(
            "SELECT at, event, by, outcome, run FROM submission_events
             WHERE programme = ? AND project = ? AND external_id = ? ORDER BY number",
        )
        .bind(programme.as_str())
        .bind(name.project.as_str())
        .bind(&name.external_id)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read what became of a submission"))?;
        let event = |(at, event, by, what, run): Event| {
            let run = run.map(|id| read("event's run", &id)).transpose()?;
            Ok(SubmissionEvent { at: from_micros(at), event, by, outcome: outcome(what)?, run })
        };
        rows.into_iter().map(event).collect()
    }

    /// All connections that were submitted to a programme, as they are judged, in their turn.
    pub async fn submitted_subjects(&self, programme: &ProgrammeSlug) -> Result<Vec<Subject>, CatalogError> {
        let rows = sqlx::query(
            "SELECT s.project, s.external_id, s.number, s.serial_number AS submitted_serial_number, c.serial_number, c.site,
                 c.category, c.connected_on, c.external_id IS NOT NULL AS is_there
             FROM submissions AS s LEFT JOIN connections AS c ON c.project = s.project AND c.external_id = s.external_id
             WHERE programme = ? ORDER BY number",
        )
        .bind(programme.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read what is judged"))?;
        rows.iter().map(subject_of).collect()
    }

    /// All connections of a project that were not submitted, as they are judged, in the order of their ids; their turns begin after
    /// `turn`.
    pub async fn draft_subjects(
        &self,
        programme: &ProgrammeSlug,
        project: &ProjectSlug,
        turn: u64,
    ) -> Result<Vec<Subject>, CatalogError> {
        let rows = sqlx::query(
            "SELECT project, external_id, ?3 + row_number() OVER (ORDER BY external_id) AS number,
                 NULL AS submitted_serial_number, serial_number, site, category, connected_on, 1 AS is_there
             FROM connections WHERE project = ?2
               AND NOT EXISTS (SELECT 1 FROM submissions AS known WHERE known.programme = ?1 AND known.project = ?2
                               AND known.external_id = connections.external_id)
             ORDER BY external_id",
        )
        .bind(programme.as_str())
        .bind(project.as_str())
        .bind(turn.cast_signed())
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read what is judged"))?;
        rows.iter().map(subject_of).collect()
    }

    /// Of each submission of a project that has a verdict, the last one.
    pub async fn standings(
        &self,
        programme: &ProgrammeSlug,
        project: &ProjectSlug,
    ) -> Result<BTreeMap<String, Standing>, CatalogError> {
        let rows: Vec<(String, String, String, Option<String>)> = sqlx::query_as(
            "SELECT external_id, run, outcome, would_be FROM submissions
             WHERE programme = ? AND project = ? AND run IS NOT NULL",
        )
        .bind(programme.as_str())
        .bind(project.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read verdicts"))?;
        let standing = |(id, run, found, would_be): (String, String, String, Option<String>)| {
            let standing =
                Standing { run: read("run", &run)?, outcome: read("outcome", &found)?, would_be: outcome(would_be)? };
            Ok((id, standing))
        };
        rows.into_iter().map(standing).collect()
    }

    /// The programmes and projects of which there are verdicts that count, each with the newest run of them. Of projects that have
    /// left the programme there are none.
    pub async fn verified_projects(&self) -> Result<Vec<(ProgrammeSlug, ProjectSlug, RunId)>, CatalogError> {
        let rows: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT submissions.programme, submissions.project, max(run)
             FROM submissions JOIN enrolments USING (programme, project)
             WHERE run IS NOT NULL AND withdrawn_at IS NULL GROUP BY 1, 2",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list what was verified"))?;
        let verified = |(programme, project, run): &(String, String, String)| {
            Ok((read("programme", programme)?, read("project", project)?, read("run", run)?))
        };
        rows.iter().map(verified).collect()
    }

    /// Marks verified submissions as paid, all of them or none.
    ///
    /// # Errors
    /// [`CatalogError::NotPayable`] where one was not submitted, is not verified, is open again, or is paid already.
    pub async fn mark_paid(
        &self,
        programme: &ProgrammeSlug,
        names: &[ConnectionName],
        by: &str,
    ) -> Result<u64, CatalogError> {
        let failed = || sql("mark submissions as paid");
        let given = given(names.iter().map(|name| (name, None)));
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let wrong: Vec<(String, String, Option<String>, Option<bool>)> = sqlx::query_as(
            "SELECT given.value ->> 0, given.value ->> 1, state, reopened_at IS NOT NULL
             FROM json_each(?2) AS given
             LEFT JOIN submissions ON programme = ?1 AND project = given.value ->> 0 AND external_id = given.value ->> 1
             WHERE state IS NULL OR state <> 'verified' OR reopened_at IS NOT NULL LIMIT ?3",
        )
        .bind(programme.as_str())
        .bind(&given)
        .bind(NAMED)
        .fetch_all(&mut *tx)
        .await
        .map_err(failed())?;
        if !wrong.is_empty() {
            let told = wrong.into_iter().map(|(project, id, state, reopened)| {
                let why = match (state, reopened) {
                    (None, _) => "not submitted".to_owned(),
                    (Some(state), Some(true)) if state == "verified" => "open again".to_owned(),
                    (Some(state), _) => state,
                };
                format!("{project}/{id} ({why})")
            });
            return Err(CatalogError::NotPayable(told.collect()));
        }
        let at = now().timestamp_micros();
        let paid = sqlx::query(
            "WITH given AS (SELECT value ->> 0 AS project, value ->> 1 AS external_id FROM json_each(?2))
             UPDATE submissions SET state = 'paid', state_at = ?3, state_by = ?4 FROM given
             WHERE programme = ?1 AND submissions.project = given.project AND submissions.external_id = given.external_id",
        )
        .bind(programme.as_str())
        .bind(&given)
        .bind(at)
        .bind(by)
        .execute(&mut *tx)
        .await
        .map_err(failed())?
        .rows_affected();
        add_events(&mut tx, programme, &given, Event { at, by: Some(by), event: Some("paid"), run: None }).await?;
        tx.commit().await.map_err(failed())?;
        Ok(paid)
    }

    /// Notes which verdicts would be others now, and which would not any more.
    pub async fn note_reopened(&self, programme: &ProgrammeSlug, changes: &[Reopening]) -> Result<(), CatalogError> {
        let failed = || sql("note what is open again");
        let at = now().timestamp_micros();
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        for changes in changes.chunks(ROWS_PER_STATEMENT) {
            let given = given(changes.iter().map(|change| (&change.name, change.would_be)));
            sqlx::query(
                "WITH given AS (SELECT value ->> 0 AS project, value ->> 1 AS external_id, value ->> 2 AS outcome
                                FROM json_each(?2))
                 UPDATE submissions SET would_be = given.outcome, reopened_at = iif(given.outcome IS NULL, NULL, ?3) FROM given
                 WHERE programme = ?1 AND submissions.project = given.project AND submissions.external_id = given.external_id",
            )
            .bind(programme.as_str())
            .bind(&given)
            .bind(at)
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
            add_events(&mut tx, programme, &given, Event { at, by: None, event: None, run: None }).await?;
        }
        tx.commit().await.map_err(failed())
    }
}

/// Names, each with an outcome perhaps, for a statement.
pub(super) fn given<'a>(names: impl Iterator<Item = (&'a ConnectionName, Option<Outcome>)>) -> String {
    let row = |(name, outcome): (&ConnectionName, Option<Outcome>)| {
        json!([name.project, name.external_id, outcome.map(Outcome::as_str)])
    };
    Value::from_iter(names.map(row)).to_string()
}

/// What is noted of submissions.
pub(super) struct Event<'a> {
    pub(super) at: i64,
    pub(super) by: Option<&'a str>,
    /// Where none is named: `reopened` where there is an outcome, `settled` where there is none.
    pub(super) event: Option<&'a str>,
    pub(super) run: Option<&'a RunId>,
}

/// Notes the same of each of the given submissions.
pub(super) async fn add_events(
    tx: &mut Transaction<'_, Sqlite>,
    programme: &ProgrammeSlug,
    given: &str,
    event: Event<'_>,
) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO submission_events
         SELECT ?1, given.value ->> 0, given.value ->> 1, ?3,
                (SELECT coalesce(max(number), 0) + 1 FROM submission_events AS known
                 WHERE known.programme = ?1 AND known.project = given.value ->> 0
                   AND known.external_id = given.value ->> 1),
                coalesce(?4, iif(given.value ->> 2 IS NULL, 'settled', 'reopened')), ?5, given.value ->> 2, ?6
         FROM json_each(?2) AS given",
    )
    .bind(programme.as_str())
    .bind(given)
    .bind(event.at)
    .bind(event.event)
    .bind(event.by)
    .bind(event.run.map(RunId::as_str))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(sql("note what became of submissions"))
}

async fn refuse_missing(
    tx: &mut Transaction<'_, Sqlite>,
    project: &ProjectSlug,
    wanted: &str,
) -> Result<(), CatalogError> {
    let missing: Vec<String> = sqlx::query_scalar(
        "SELECT value FROM json_each(?2) WHERE NOT EXISTS
             (SELECT 1 FROM connections WHERE project = ?1 AND external_id = value) LIMIT ?3",
    )
    .bind(project.as_str())
    .bind(wanted)
    .bind(NAMED)
    .fetch_all(&mut **tx)
    .await
    .map_err(sql("look for connections"))?;
    if missing.is_empty() { Ok(()) } else { Err(CatalogError::ConnectionsMissing(missing)) }
}

async fn refuse_submitted(
    tx: &mut Transaction<'_, Sqlite>,
    programme: &ProgrammeSlug,
    project: &ProjectSlug,
    wanted: &str,
) -> Result<(), CatalogError> {
    let known: Vec<String> = sqlx::query_scalar(
        "SELECT external_id FROM submissions WHERE programme = ?1 AND project = ?2
           AND external_id IN (SELECT value FROM json_each(?3)) LIMIT ?4",
    )
    .bind(programme.as_str())
    .bind(project.as_str())
    .bind(wanted)
    .bind(NAMED)
    .fetch_all(&mut **tx)
    .await
    .map_err(sql("look for submissions"))?;
    if known.is_empty() { Ok(()) } else { Err(CatalogError::AlreadySubmitted(known)) }
}
