//! Connections that were submitted to a programme, each once, and what became of them.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::{Sqlite, SqliteExecutor, Transaction};

use super::{
    Catalog, CatalogError, Page, Standing, Submission, SubmissionEvent, SubmissionFilter, SubmissionState, from_micros,
    now, read, sql,
    submission_record::{outcome_of, subject_of, submission_of},
};
use crate::{
    ids::{OrganisationSlug, ProgrammeSlug, ProjectSlug},
    programmes::{ConnectionName, Outcome, Subject},
};

/// Names that an error tells at most.
const NAMED: u32 = 10;

impl Catalog {
    /// Submits connections of a project: all that were not, or those of these ids. Says how many.
    ///
    /// # Errors
    /// [`CatalogError::ConnectionsMissing`], [`CatalogError::AlreadySubmitted`], and nothing is submitted;
    /// [`CatalogError::NotTakingPart`] where the project is not enrolled; [`CatalogError::TooMany`] where the programme would have
    /// more than `most`.
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
        refuse_strangers(&mut tx, programme, project).await?;
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

    /// At most `limit` submissions to a programme, by project and id, those after `after`. Drafts are no submissions: see
    /// [`Self::drafts_page`].
    pub async fn submissions_page(
        &self,
        programme: &ProgrammeSlug,
        filter: &SubmissionFilter,
        after: Option<&ConnectionName>,
        limit: u32,
    ) -> Result<Page<Submission>, CatalogError> {
        let rows = sqlx::query(
            "SELECT submissions.* FROM submissions JOIN projects ON slug = project
             WHERE programme = ?1 AND (project, external_id) > (?2, ?9)
               AND (?3 IS NULL OR project = ?3)
               AND (?4 IS NULL OR organisation = ?4)
               AND (?5 IS NULL OR state = ?5)
               AND (?6 IS NULL OR outcome = ?6)
               AND (?7 IS NULL OR (reopened_at IS NOT NULL) = ?7)
             ORDER BY project, external_id LIMIT ?8",
        )
        .bind(programme.as_str())
        .bind(after.map_or("", |after| after.project.as_str()))
        .bind(filter.project.as_ref().map(ProjectSlug::as_str))
        .bind(filter.organisation.as_ref().map(OrganisationSlug::as_str))
        .bind(filter.state.map(SubmissionState::as_str))
        .bind(filter.outcome.map(Outcome::as_str))
        .bind(filter.reopened)
        .bind(limit.saturating_add(1))
        .bind(after.map_or("", |after| after.external_id.as_str()))
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
            Ok(SubmissionEvent { at: from_micros(at), event, by, outcome: outcome_of(what)?, run })
        };
        rows.into_iter().map(event).collect()
    }

    /// The connections that were submitted to a programme, as they are judged, in their turn: of the projects that take part in it,
    /// and those that it has paid for, wherever they are now.
    pub async fn submitted_subjects(&self, programme: &ProgrammeSlug) -> Result<Vec<Subject>, CatalogError> {
        subjects_in(&self.pool, programme).await
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
                 NULL AS submitted_serial_number, serial_number, site, category, connected_on, 1 AS is_there, 0 AS is_paid
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
            let standing = Standing {
                run: read("run", &run)?,
                outcome: read("outcome", &found)?,
                would_be: outcome_of(would_be)?,
            };
            Ok((id, standing))
        };
        rows.into_iter().map(standing).collect()
    }

    /// The programmes and projects of which there are verdicts that count, each with the ids of the runs that gave them. Of projects that
    /// have left the programme there are none.
    pub async fn verified_projects(&self) -> Result<Vec<(ProgrammeSlug, ProjectSlug, String)>, CatalogError> {
        let rows: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT submissions.programme, submissions.project, group_concat(DISTINCT run)
             FROM submissions JOIN enrolments USING (programme, project)
             WHERE run IS NOT NULL AND withdrawn_at IS NULL GROUP BY 1, 2",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list what was verified"))?;
        let verified = |(programme, project, runs): (String, String, String)| {
            Ok((read("programme", &programme)?, read("project", &project)?, runs))
        };
        rows.into_iter().map(verified).collect()
    }
}

/// What [`Catalog::submitted_subjects`] reads, also in a transaction.
pub(super) async fn subjects_in(
    from: impl SqliteExecutor<'_>,
    programme: &ProgrammeSlug,
) -> Result<Vec<Subject>, CatalogError> {
    let rows = sqlx::query(
            "SELECT s.project, s.external_id, s.number, s.serial_number AS submitted_serial_number, c.serial_number, c.site,
                 c.category, c.connected_on, c.external_id IS NOT NULL AS is_there, s.state = 'paid' AS is_paid
             FROM submissions AS s LEFT JOIN connections AS c ON c.project = s.project AND c.external_id = s.external_id
             WHERE programme = ?1 AND (s.state = 'paid' OR EXISTS
                 (SELECT 1 FROM enrolments AS e WHERE e.programme = ?1 AND e.project = s.project AND withdrawn_at IS NULL))
             ORDER BY number",
        )
        .bind(programme.as_str())
        .fetch_all(from)
        .await
        .map_err(sql("read what is judged"))?;
    rows.iter().map(subject_of).collect()
}

async fn refuse_strangers(
    tx: &mut Transaction<'_, Sqlite>,
    programme: &ProgrammeSlug,
    project: &ProjectSlug,
) -> Result<(), CatalogError> {
    let takes_part: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM enrolments WHERE programme = ? AND project = ? AND withdrawn_at IS NULL)",
    )
    .bind(programme.as_str())
    .bind(project.as_str())
    .fetch_one(&mut **tx)
    .await
    .map_err(sql("look for an enrolment"))?;
    if takes_part { Ok(()) } else { Err(CatalogError::NotTakingPart) }
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
