//! What becomes of submissions: paid for, open again, or no longer; and the history of that.

use serde_json::{Value, json};
use sqlx::{Sqlite, Transaction};

use super::{Catalog, CatalogError, Reopening, now, sql};
use crate::{
    ids::{ProgrammeSlug, RunId},
    programmes::{ConnectionName, Outcome},
};

/// Rows of one statement.
const ROWS_PER_STATEMENT: usize = 5_000;
/// Names that an error tells at most.
const NAMED: u32 = 10;

impl Catalog {
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
            let row = |change: &Reopening| {
                let Reopening { name, run, would_be } = change;
                json!([name.project, name.external_id, would_be.map(Outcome::as_str), run])
            };
            // A verification that ended meanwhile knows better.
            let given: String = sqlx::query_scalar(
                "SELECT json_group_array(json(given.value)) FROM json_each(?2) AS given
                 JOIN submissions ON programme = ?1 AND project = given.value ->> 0 AND external_id = given.value ->> 1
                 WHERE run = given.value ->> 3",
            )
            .bind(programme.as_str())
            .bind(Value::from_iter(changes.iter().map(row)).to_string())
            .fetch_one(&mut *tx)
            .await
            .map_err(failed())?;
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
