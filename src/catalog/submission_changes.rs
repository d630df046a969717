//! What becomes of submissions: paid for, open again, or no longer; and the history of that.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use sqlx::{Sqlite, Transaction};

use super::{Catalog, CatalogError, Reopening, VerificationRun, now, sql, submissions::subjects_in};
use crate::{
    ids::{ProgrammeSlug, RunId},
    programmes::{ConnectionName, Outcome, duplicates},
};

/// Rows of one statement. Its JSON comes first in every join, as `CROSS JOIN` makes sure: the other way round, each submission of the
/// programme would be looked for in it.
pub(super) const ROWS_PER_STATEMENT: usize = 5_000;
/// Names that an error tells at most.
const NAMED: u32 = 10;

impl Catalog {
    /// Marks verified submissions as paid, all of them or none.
    ///
    /// # Errors
    /// [`CatalogError::NotPayable`] where one was not submitted, is not verified, is open again, or is paid already; where its project
    /// has left the programme; or where another one that is paid for, or is named too, is the same connection.
    pub async fn mark_paid(
        &self,
        programme: &ProgrammeSlug,
        names: &[ConnectionName],
        by: &str,
    ) -> Result<u64, CatalogError> {
        let failed = || sql("mark submissions as paid");
        let given = given(names.iter().map(|name| (name, None)));
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let wrong: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT given.value ->> 0, given.value ->> 1,
                 CASE WHEN state IS NULL THEN 'not submitted' WHEN state <> 'verified' THEN state
                      WHEN reopened_at IS NOT NULL THEN 'open again' ELSE 'its project has left' END
             FROM json_each(?2) AS given
             LEFT JOIN submissions AS s ON s.programme = ?1 AND s.project = given.value ->> 0 AND external_id = given.value ->> 1
             LEFT JOIN enrolments AS e ON e.programme = ?1 AND e.project = s.project AND withdrawn_at IS NULL
             WHERE state IS NULL OR state <> 'verified' OR reopened_at IS NOT NULL OR e.project IS NULL LIMIT ?3",
        )
        .bind(programme.as_str())
        .bind(&given)
        .bind(NAMED)
        .fetch_all(&mut *tx)
        .await
        .map_err(failed())?;
        if !wrong.is_empty() {
            let told = wrong.into_iter().map(|(project, id, why)| format!("{project}/{id} ({why})"));
            return Err(CatalogError::NotPayable(told.collect()));
        }
        refuse_same(&mut tx, programme, names).await?;
        let at = now().timestamp_micros();
        let paid = sqlx::query(
            "UPDATE submissions SET state = 'paid', state_at = ?3, state_by = ?4
             WHERE programme = ?1 AND (project, external_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?2))",
        )
        .bind(programme.as_str())
        .bind(&given)
        .bind(at)
        .bind(by)
        .execute(&mut *tx)
        .await
        .map_err(failed())?
        .rows_affected();
        add_events(&mut tx, programme, &given, Event { at, by: Some(by), what: Some("paid"), run: None }).await?;
        tx.commit().await.map_err(failed())?;
        Ok(paid)
    }

    /// Notes which verdicts would be others now, and which would not any more.
    pub async fn note_reopened(&self, programme: &ProgrammeSlug, changes: &[Reopening]) -> Result<(), CatalogError> {
        let failed = || sql("note what is open again");
        let at = now().timestamp_micros();
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let mut by_outcome: BTreeMap<Option<Outcome>, Vec<&Reopening>> = BTreeMap::new();
        for change in changes {
            by_outcome.entry(change.would_be).or_default().push(change);
        }
        let row = |change: &&Reopening| {
            json!([change.name.project, change.name.external_id, change.would_be.map(Outcome::as_str), change.run])
        };
        let mut chunks = Vec::new();
        for (would_be, all) in by_outcome {
            let rows = all.chunks(ROWS_PER_STATEMENT).map(|some| some.iter().map(row).collect::<Value>().to_string());
            chunks.extend(rows.map(|rows| (would_be, rows)));
        }
        for (would_be, rows) in chunks {
            // A verification that ended meanwhile knows better.
            let given: String = sqlx::query_scalar(
                "SELECT json_group_array(json(given.value)) FROM json_each(?2) AS given
                 CROSS JOIN submissions ON programme = ?1 AND project = given.value ->> 0 AND external_id = given.value ->> 1
                 WHERE run = given.value ->> 3",
            )
            .bind(programme.as_str())
            .bind(rows)
            .fetch_one(&mut *tx)
            .await
            .map_err(failed())?;
            sqlx::query(
                "UPDATE submissions SET would_be = ?3, reopened_at = iif(?3 IS NULL, NULL, ?4)
                 WHERE programme = ?1 AND (project, external_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?2))",
            )
            .bind(programme.as_str())
            .bind(&given)
            .bind(would_be.map(Outcome::as_str))
            .bind(at)
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
            add_events(&mut tx, programme, &given, Event { at, by: None, what: None, run: None }).await?;
        }
        tx.commit().await.map_err(failed())
    }
}

/// What is settled of some submissions, and by whom.
#[derive(Clone, Copy)]
pub(super) struct Settled<'a> {
    pub(super) outcome: Outcome,
    pub(super) at: i64,
    pub(super) by: &'a str,
}

/// Settles the named submissions, but for those that a run which began later has settled before, and those of projects that have left, or
/// have consented to other terms since. What was opened again while the run was under way stays open: it may not have seen why.
pub(super) async fn settle(
    tx: &mut Transaction<'_, Sqlite>,
    run: &VerificationRun,
    Settled { outcome, at, by }: Settled<'_>,
    names: &[&ConnectionName],
) -> Result<(), CatalogError> {
    let state = if outcome == Outcome::Verified { "verified" } else { "failed" };
    let failed = || sql("settle submissions");
    let given: String = sqlx::query_scalar(
        "SELECT json_group_array(json(given.value)) FROM json_each(?2) AS given
         CROSS JOIN submissions AS s ON s.programme = ?1 AND s.project = given.value ->> 0 AND external_id = given.value ->> 1
         CROSS JOIN enrolments AS e ON e.programme = ?1 AND e.project = s.project AND withdrawn_at IS NULL AND e.version = ?4
         WHERE run IS NULL OR run <= ?3",
    )
    .bind(run.programme.as_str())
    .bind(given(names.iter().map(|name| (*name, Some(outcome)))))
    .bind(run.id.as_str())
    .bind(run.rule_version)
    .fetch_one(&mut **tx)
    .await
    .map_err(failed())?;
    // What says the same as before is no news, but where it was open again.
    for event in [state, "settled"] {
        let changed: String = sqlx::query_scalar(
            "SELECT json_group_array(json(given.value)) FROM json_each(?2) AS given
             CROSS JOIN submissions ON programme = ?1 AND project = given.value ->> 0 AND external_id = given.value ->> 1
             WHERE iif(?3 = 'settled', outcome IS given.value ->> 2 AND reopened_at <= ?4, outcome IS NOT given.value ->> 2)",
        )
        .bind(run.programme.as_str())
        .bind(&given)
        .bind(event)
        .bind(run.started_at.timestamp_micros())
        .fetch_one(&mut **tx)
        .await
        .map_err(failed())?;
        add_events(tx, &run.programme, &changed, Event { at, by: Some(by), what: Some(event), run: Some(&run.id) })
            .await?;
    }
    sqlx::query(
        "UPDATE submissions SET outcome = ?8, run = ?3,
             would_be = iif(reopened_at > ?7 AND would_be <> ?8, would_be, NULL),
             reopened_at = iif(reopened_at > ?7 AND would_be <> ?8, reopened_at, NULL),
             state_at = iif(state IN (?4, 'paid'), state_at, ?5), state_by = iif(state IN (?4, 'paid'), state_by, ?6),
             state = iif(state = 'paid', state, ?4)
         WHERE programme = ?1 AND (project, external_id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?2))",
    )
    .bind(run.programme.as_str())
    .bind(&given)
    .bind(run.id.as_str())
    .bind(state)
    .bind(at)
    .bind(by)
    .bind(run.started_at.timestamp_micros())
    .bind(outcome.as_str())
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(failed())
}

/// Refuses names of which another one that is named, or that is paid for, is the same connection.
async fn refuse_same(
    tx: &mut Transaction<'_, Sqlite>,
    programme: &ProgrammeSlug,
    names: &[ConnectionName],
) -> Result<(), CatalogError> {
    let names: BTreeSet<&ConnectionName> = names.iter().collect();
    let subjects = subjects_in(&mut **tx, programme).await?;
    let same = duplicates(subjects.iter().filter(|subject| subject.is_paid || names.contains(&subject.name)));
    let told = same.iter().filter(|(name, _)| names.contains(name));
    let told: Vec<String> =
        told.map(|(name, first)| format!("{name} (the same as {first})")).take(NAMED as usize).collect();
    if told.is_empty() { Ok(()) } else { Err(CatalogError::NotPayable(told)) }
}

/// Names, each with an outcome perhaps, for a statement.
fn given<'a>(names: impl Iterator<Item = (&'a ConnectionName, Option<Outcome>)>) -> String {
    let row = |(name, outcome): (&ConnectionName, Option<Outcome>)| {
        json!([name.project, name.external_id, outcome.map(Outcome::as_str)])
    };
    names.map(row).collect::<Value>().to_string()
}

/// What is noted of submissions.
struct Event<'a> {
    at: i64,
    by: Option<&'a str>,
    /// Where none is named: `reopened` where there is an outcome, `settled` where there is none.
    what: Option<&'a str>,
    run: Option<&'a RunId>,
}

/// Notes the same of each of the given submissions.
async fn add_events(
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
    .bind(event.what)
    .bind(event.by)
    .bind(event.run.map(RunId::as_str))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(sql("note what became of submissions"))
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::{
        catalog::{
            NewEnrolment, RunEnd, RunState,
            tests::{of_main, programme, rule},
        },
        ids::ProjectSlug,
    };

    fn run() -> VerificationRun {
        VerificationRun {
            id: RunId::new(),
            programme: "p".parse().unwrap(),
            state: RunState::Running,
            dry_run: false,
            rule_version: Some(1),
            rule: rule(90),
            other_terms: Vec::new(),
            as_of: Utc::now(),
            lake_version: 0,
            selection: None,
            started_by: Some("k".to_owned()),
            organisation: None,
            started_at: Utc::now(),
            ended_at: None,
            connections: None,
            outcomes: None,
            sha256: None,
            failure: None,
        }
    }

    #[tokio::test]
    async fn a_run_that_began_before_another_settles_nothing_after_it_and_neither_does_an_older_look() {
        let (_folder, catalog) = of_main().await;
        catalog.create_programme(programme("p", &["main"])).await.unwrap();
        let (p, a): (ProgrammeSlug, ProjectSlug) = ("p".parse().unwrap(), "a".parse().unwrap());
        let new = NewEnrolment { programme: p.clone(), project: a.clone(), version: 1, enrolled_by: None };
        let stranger = catalog.submit(&p, &a, None, "k", 9).await;
        assert!(matches!(stranger, Err(CatalogError::NotTakingPart)));
        catalog.enrol(new).await.unwrap();
        sqlx::query("INSERT INTO connections (project, external_id, content, created_at, updated_at) VALUES ('a', 'x', 1, 1, 1)")
            .execute(&catalog.pool)
            .await
            .unwrap();
        assert_eq!(catalog.submit(&p, &a, None, "k", 9).await.unwrap(), 1);
        let name = ConnectionName { project: a, external_id: "x".to_owned() };
        let (first, second) = (run(), run());
        for run in [&first, &second] {
            catalog.begin_run(run, &[]).await.unwrap();
        }
        let end = RunEnd { connections: 1, outcomes: BTreeMap::new(), sha256: [0; 32] };
        catalog.end_run(&second, &end, &[(name.clone(), Outcome::Verified)]).await.unwrap();
        catalog.end_run(&first, &end, &[(name.clone(), Outcome::MeterNotFound)]).await.unwrap();
        let stands = catalog.submission(&p, &name).await.unwrap().unwrap();
        assert_eq!((stands.outcome, stands.run.as_ref()), (Some(Outcome::Verified), Some(&second.id)));
        // What was looked at before the second run ended is about another verdict.
        let reopening = |run: &VerificationRun| Reopening {
            name: name.clone(),
            run: run.id.clone(),
            would_be: Some(Outcome::ReversedOnly),
        };
        catalog.note_reopened(&p, &[reopening(&first)]).await.unwrap();
        assert_eq!(catalog.submission(&p, &name).await.unwrap().unwrap(), stands);
        catalog.note_reopened(&p, &[reopening(&second)]).await.unwrap();
        let events = catalog.submission_events(&p, &name).await.unwrap();
        let events: Vec<_> = events.iter().map(|event| event.event.as_str()).collect();
        assert_eq!(events, ["submitted", "verified", "reopened"]);
        // A run that began before that may not have seen why; one that began after it has.
        let (third, fourth) = (VerificationRun { started_at: second.started_at, ..run() }, run());
        for (run, is_open) in [(&third, true), (&fourth, false)] {
            catalog.begin_run(run, &[]).await.unwrap();
            catalog.end_run(run, &end, &[(name.clone(), Outcome::Verified)]).await.unwrap();
            let stands = catalog.submission(&p, &name).await.unwrap().unwrap();
            assert_eq!(
                (stands.run.as_ref(), stands.would_be.is_some(), stands.reopened_at.is_some()),
                (Some(&run.id), is_open, is_open)
            );
        }
        let last = catalog.submission_events(&p, &name).await.unwrap().pop().unwrap();
        assert_eq!((last.event.as_str(), last.run), ("settled", Some(fourth.id)));
    }
}
