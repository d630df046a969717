//! Runs of verification: what was asked, by which rule, of which lake; and what came of it for submissions.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Catalog, CatalogError, Page, RunEnd, RunProject, RunsOf, VerificationRun, now, pass, read, sql,
    submission_changes::{ROWS_PER_STATEMENT, Settled, settle},
    verification_run::Row,
};
use crate::{
    ids::{OrganisationSlug, ProgrammeSlug, RunId, UploadId},
    programmes::{ConnectionName, Outcome},
};

impl Catalog {
    /// Notes a run that begins, with all that it goes by.
    pub async fn begin_run(&self, run: &VerificationRun, projects: &[RunProject]) -> Result<(), CatalogError> {
        let failed = || sql("begin a verification");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        sqlx::query(
            "INSERT INTO verification_runs
                 (id, programme, dry_run, rule_version, rule, other_terms, as_of, lake_version, selection, state, started_by,
                  organisation, started_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'running', ?, ?, ?)",
        )
        .bind(run.id.as_str())
        .bind(run.programme.as_str())
        .bind(run.dry_run)
        .bind(run.rule_version)
        .bind(json_of(&run.rule))
        .bind(json_of(&run.other_terms))
        .bind(run.as_of.timestamp_micros())
        .bind(run.lake_version.cast_signed())
        .bind(run.selection.as_ref().map(json_of))
        .bind(run.started_by.as_deref().unwrap_or_default())
        .bind(run.organisation.as_ref().map(OrganisationSlug::as_str))
        .bind(run.started_at.timestamp_micros())
        .execute(&mut *tx)
        .await
        .map_err(failed())?;
        for project in projects {
            sqlx::query("INSERT INTO verification_projects VALUES (?, ?, ?)")
                .bind(run.id.as_str())
                .bind(project.project.as_str())
                .bind(project.time_zone.name())
                .execute(&mut *tx)
                .await
                .map_err(failed())?;
            sqlx::query(
                "INSERT INTO verification_uploads
                 SELECT ?1, ?2, key, value ->> 0, value ->> 1 FROM json_each(?3)",
            )
            .bind(run.id.as_str())
            .bind(project.project.as_str())
            .bind(json_of(&project.uploads))
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
        }
        tx.commit().await.map_err(failed())
    }

    /// Ends a run, and settles with it the submissions whose verdicts are given: none of a dry run.
    pub async fn end_run(
        &self,
        run: &VerificationRun,
        end: &RunEnd,
        verdicts: &[(ConnectionName, Outcome)],
    ) -> Result<(), CatalogError> {
        pass("catalog::end_run", "end a verification")?;
        let failed = || sql("end a verification");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let at = now().timestamp_micros();
        let by = run.started_by.as_deref().unwrap_or_default();
        for outcome in Outcome::ALL {
            let names = verdicts.iter().filter(|(_, found)| *found == outcome).map(|(name, _)| name);
            for some in names.collect::<Vec<_>>().chunks(ROWS_PER_STATEMENT) {
                settle(&mut tx, run, Settled { outcome, at, by }, some).await?;
            }
        }
        sqlx::query(
            "UPDATE verification_runs SET state = 'done', ended_at = ?, connections = ?, outcomes = ?, sha256 = ?
             WHERE id = ? AND state = 'running'",
        )
        .bind(at)
        .bind(end.connections.cast_signed())
        .bind(json_of(&end.outcomes))
        .bind(end.sha256.as_slice())
        .bind(run.id.as_str())
        .execute(&mut *tx)
        .await
        .map_err(failed())?;
        tx.commit().await.map_err(failed())
    }

    /// Notes that a run came to nothing, and why, in words that are fit for its caller. Says whether it was under way.
    pub async fn fail_run(&self, id: &RunId, failure: &str) -> Result<bool, CatalogError> {
        sqlx::query(
            "UPDATE verification_runs SET state = 'failed', ended_at = ?, failure = ? WHERE id = ? AND state = 'running'",
        )
        .bind(now().timestamp_micros())
        .bind(failure)
        .bind(id.as_str())
        .execute(&self.pool)
        .await
        .map(|changed| changed.rows_affected() > 0)
        .map_err(sql("end a verification"))
    }

    /// One run of a programme.
    pub async fn verification_run(
        &self,
        programme: &ProgrammeSlug,
        id: &RunId,
    ) -> Result<Option<VerificationRun>, CatalogError> {
        let row: Option<Row> = sqlx::query_as("SELECT * FROM verification_runs WHERE id = ? AND programme = ?")
            .bind(id.as_str())
            .bind(programme.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read a verification"))?;
        row.map(VerificationRun::try_from).transpose()
    }

    /// At most `limit` runs of a programme, the newest first, those before `before`.
    pub async fn verification_runs(
        &self,
        programme: &ProgrammeSlug,
        of: &RunsOf,
        before: Option<&RunId>,
        limit: u32,
    ) -> Result<Page<VerificationRun>, CatalogError> {
        let (side, organisation) = match of {
            RunsOf::Server => ("server", None),
            RunsOf::Administrator(own) => ("administrator", Some(own.as_str())),
            RunsOf::Developer(own) => ("developer", Some(own.as_str())),
        };
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT * FROM verification_runs WHERE programme = ?1 AND (?2 IS NULL OR id < ?2)
               AND CASE ?3 WHEN 'server' THEN true
                   WHEN 'administrator' THEN organisation IS NULL OR organisation = ?4
                   ELSE coalesce(organisation = ?4, false) OR (NOT dry_run AND EXISTS
                       (SELECT 1 FROM verification_projects JOIN projects ON slug = project
                        WHERE run = id AND projects.organisation = ?4)) END
             ORDER BY id DESC LIMIT ?5",
        )
        .bind(programme.as_str())
        .bind(before.map(RunId::as_str))
        .bind(side)
        .bind(organisation)
        .bind(limit.saturating_add(1))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list verifications"))?;
        Ok(Page::of(rows.into_iter().map(VerificationRun::try_from).collect::<Result<_, _>>()?, limit))
    }

    /// The runs that have ended well, each with the SHA-256 of its verdicts in hexadecimal.
    pub async fn kept_verdicts(&self) -> Result<Vec<(RunId, String)>, CatalogError> {
        let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(
            "SELECT id, sha256 FROM verification_runs WHERE state = 'done' AND sha256 IS NOT NULL ORDER BY id",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list verifications"))?;
        rows.into_iter().map(|(id, sha256)| Ok((read("run's id", &id)?, hex::encode(sha256)))).collect()
    }

    /// Runs that a process left under way.
    pub async fn runs_under_way(&self) -> Result<Vec<VerificationRun>, CatalogError> {
        let rows: Vec<Row> = sqlx::query_as("SELECT * FROM verification_runs WHERE state = 'running' ORDER BY id")
            .fetch_all(&self.pool)
            .await
            .map_err(sql("look for verifications under way"))?;
        rows.into_iter().map(VerificationRun::try_from).collect()
    }

    /// The projects that a run looked at, with their uploads.
    pub async fn run_projects(&self, id: &RunId) -> Result<Vec<RunProject>, CatalogError> {
        let failed = || sql("read what a verification went by");
        let projects: Vec<(String, String)> =
            sqlx::query_as("SELECT project, time_zone FROM verification_projects WHERE run = ? ORDER BY project")
                .bind(id.as_str())
                .fetch_all(&self.pool)
                .await
                .map_err(failed())?;
        let uploads: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT project, upload_id, sha256 FROM verification_uploads WHERE run = ? ORDER BY project, position",
        )
        .bind(id.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(failed())?;
        let mut of_project: BTreeMap<String, Vec<(UploadId, String)>> = BTreeMap::new();
        for (project, upload, sha256) in uploads {
            of_project.entry(project).or_default().push((read("upload's id", &upload)?, sha256));
        }
        let project = |(slug, zone): (String, String)| {
            Ok(RunProject {
                project: read("project's slug", &slug)?,
                time_zone: read("time zone", &zone)?,
                uploads: of_project.remove(&slug).unwrap_or_default(),
            })
        };
        projects.into_iter().map(project).collect()
    }

    /// The runs whose verdicts count, or are about to, and rest on an upload; at most `limit` of them, the newest first.
    pub async fn runs_resting_on(&self, upload: &UploadId, limit: u32) -> Result<Vec<RunId>, CatalogError> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT id FROM verification_uploads JOIN verification_runs ON id = run
             WHERE upload_id = ? AND NOT dry_run AND state <> 'failed' ORDER BY id DESC LIMIT ?",
        )
        .bind(upload.as_str())
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("look for verdicts that rest on an upload"))?;
        ids.iter().map(|id| read("run's id", id)).collect()
    }

    /// Something that changes whenever a programme's connections or what was submitted of them do, and which of them are the same.
    pub async fn claims_mark(&self, programme: &ProgrammeSlug) -> Result<String, CatalogError> {
        sqlx::query_scalar(
            "SELECT (SELECT concat_ws(' ', count(*), max(enrolled_at), max(withdrawn_at)) FROM enrolments WHERE programme = ?1)
                 || ', ' || (SELECT concat_ws(' ', count(*), max(updated_at)) FROM connections WHERE project IN
                             (SELECT project FROM enrolments WHERE programme = ?1))
                 || ', ' || (SELECT concat_ws(' ', count(*), max(state_at)) FROM submissions WHERE programme = ?1)",
        )
        .bind(programme.as_str())
        .fetch_one(&self.pool)
        .await
        .map_err(sql("look at connections"))
    }

    /// Forgets dry runs of a programme that one organisation began, but the newest `keep` of those that have ended. Says which: they had
    /// verdicts.
    pub async fn forget_dry_runs(
        &self,
        programme: &ProgrammeSlug,
        organisation: Option<&OrganisationSlug>,
        keep: u32,
    ) -> Result<Vec<RunId>, CatalogError> {
        let failed = || sql("forget dry runs");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM verification_runs
             WHERE programme = ? AND organisation IS ? AND dry_run AND state <> 'running' ORDER BY id DESC LIMIT -1 OFFSET ?",
        )
        .bind(programme.as_str())
        .bind(organisation.map(OrganisationSlug::as_str))
        .bind(keep)
        .fetch_all(&mut *tx)
        .await
        .map_err(failed())?;
        for of_run in [
            "DELETE FROM verification_uploads WHERE run IN (SELECT value FROM json_each(?))",
            "DELETE FROM verification_projects WHERE run IN (SELECT value FROM json_each(?))",
            "DELETE FROM verification_runs WHERE id IN (SELECT value FROM json_each(?))",
        ] {
            sqlx::query(of_run).bind(json_of(&ids)).execute(&mut *tx).await.map_err(failed())?;
        }
        tx.commit().await.map_err(failed())?;
        ids.iter().map(|id| read("run's id", id)).collect()
    }
}

fn json_of<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
