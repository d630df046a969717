//! What the ledger knows of earlier versions of the lake: when they were written, of which files they were, and from which version
//! on all files of a project are kept.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::{Sqlite, Transaction};

use super::{
    Catalog, CatalogError, LedgerFile, Sealed, UploadFacts, from_micros,
    projects::json_array,
    sealed::{FileRow, sealed_files, to_i64, to_u64},
    sql,
    uploads::{FactsRow, facts_of},
};
use crate::ids::ProjectSlug;

impl Catalog {
    /// When a version was written, if there is one of that number.
    pub async fn version_written(&self, version: u64) -> Result<Option<DateTime<Utc>>, CatalogError> {
        let row: Option<(i64,)> = sqlx::query_as("SELECT written_at FROM lake_versions WHERE version = ?")
            .bind(to_i64(version))
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("look a version up in the ledger"))?;
        Ok(row.map(|(at,)| from_micros(at)))
    }

    /// The newest version that was written by then.
    pub async fn version_by(&self, at: DateTime<Utc>) -> Result<Option<u64>, CatalogError> {
        let statement = "SELECT version FROM lake_versions WHERE written_at <= ? ORDER BY version DESC LIMIT 1";
        let row: Option<(i64,)> = sqlx::query_as(statement)
            .bind(at.timestamp_micros())
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("look an instant up in the ledger"))?;
        Ok(row.map(|(version,)| to_u64(version)))
    }

    /// The files of a version that are still kept, in the order of project, month, and as they came. Whether these are all is
    /// for [`Self::whole_from`] to say, asked afterwards.
    pub async fn files_of_version(&self, version: u64) -> Result<Sealed<LedgerFile>, CatalogError> {
        let rows: Vec<FileRow> = sqlx::query_as(
            "SELECT * FROM lake_files WHERE added_in <= ?1 AND (removed_in IS NULL OR removed_in > ?1)
             ORDER BY project, month, added_in, path",
        )
        .bind(to_i64(version))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read the files of an earlier version"))?;
        sealed_files(rows)
    }

    /// The version from which on all files of all of these projects are kept.
    pub async fn whole_from(&self, projects: impl Iterator<Item = &ProjectSlug>) -> Result<u64, CatalogError> {
        let statement = "SELECT max(whole_from) FROM lake_history WHERE project IN (SELECT value FROM json_each(?))";
        let (version,): (Option<i64>,) = sqlx::query_as(statement)
            .bind(json_array(projects))
            .fetch_one(&self.pool)
            .await
            .map_err(sql("read which versions are kept"))?;
        Ok(version.map_or(0, to_u64))
    }

    /// The uploads of some projects as they were at a version, which was the newest at `at`: without those that came later, and
    /// with those that were deleted later. One that was deleted then and was restored since is among them.
    pub async fn upload_facts_of(
        &self,
        projects: &BTreeSet<ProjectSlug>,
        version: u64,
        at: DateTime<Utc>,
    ) -> Result<Vec<UploadFacts>, CatalogError> {
        let rows: Vec<FactsRow> = sqlx::query_as(
            "SELECT id, project, dataset_name, committed_at FROM upload_projects JOIN uploads ON id = upload_id
             WHERE project IN (SELECT value FROM json_each(?1)) AND lake_version <= ?2
               AND (status IN ('committed', 'restoring') OR status IN ('deleting', 'deleted') AND deleted_at > ?3)
             ORDER BY id, project LIMIT ?4",
        )
        .bind(json_array(projects))
        .bind(to_i64(version))
        .bind(at.timestamp_micros())
        .bind(super::uploads::MAX_FACTS + 1)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read the facts of uploads"))?;
        facts_of(rows)
    }
}

/// Notes that files which left the lake in these versions are kept no longer: what was before is not whole any more.
pub(super) async fn note_gone(tx: &mut Transaction<'_, Sqlite>, path: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO lake_history SELECT project, removed_in FROM lake_files WHERE path = ? AND removed_in IS NOT NULL
         ON CONFLICT (project) DO UPDATE SET whole_from = max(whole_from, excluded.whole_from)",
    )
    .bind(path)
    .execute(&mut **tx)
    .await
    .map(drop)
}

/// Notes that nothing is known of what was before the newest version, of any project.
pub(super) async fn note_all_gone(tx: &mut Transaction<'_, Sqlite>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT OR REPLACE INTO lake_history
         SELECT slug, version FROM projects, (SELECT max(version) AS version FROM lake_versions) WHERE version IS NOT NULL",
    )
    .execute(&mut **tx)
    .await
    .map(drop)
}
