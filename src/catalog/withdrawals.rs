//! Uploads that are deleted and that come back: a change of the lake is under way with them, or it ended.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Catalog, CatalogError, UploadRecord, from_micros, now, pass, sql, uploads::Row};
use crate::ids::{ChangeId, ProjectSlug, UploadId};

/// Uploads of a project that its rows may come from.
const MAX_LIVE: u32 = 100_000;

/// How often a checkpoint that readers hold up is tried, and after which pause.
const CHECKPOINT_TRIES: u32 = 50;
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(100);

impl Catalog {
    /// The uploads of these ids, in the order of the ids; those that there are not are left out.
    pub async fn uploads_of(&self, ids: &[UploadId]) -> Result<Vec<UploadRecord>, CatalogError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT uploads.*, (SELECT json_group_array(project ORDER BY project) FROM upload_projects
                 WHERE upload_id = uploads.id) AS projects
             FROM json_each(?) AS wanted JOIN uploads ON uploads.id = wanted.value ORDER BY wanted.key",
        )
        .bind(json_array(ids))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read uploads"))?;
        rows.into_iter().map(UploadRecord::try_from).collect()
    }

    /// Notes that `change` is under way, which takes committed uploads out of the lake. All of them, or none.
    ///
    /// # Errors
    /// [`CatalogError::StatusChanged`] where one of them is not `committed`.
    pub async fn begin_deletion(
        &self,
        ids: &[UploadId],
        change: &ChangeId,
        at: DateTime<Utc>,
    ) -> Result<(), CatalogError> {
        let statement = "UPDATE uploads SET status = 'deleting', change_id = ?1, deleted_at = ?2
                         WHERE status = 'committed' AND id IN (SELECT value FROM json_each(?3))";
        self.begin(statement, ids, change, Some(at)).await
    }

    /// Notes that `change` is under way, which brings deleted uploads back. All of them, or none.
    ///
    /// # Errors
    /// [`CatalogError::StatusChanged`] where one of them is not `deleted`.
    pub async fn begin_restoration(&self, ids: &[UploadId], change: &ChangeId) -> Result<(), CatalogError> {
        let statement = "UPDATE uploads SET status = 'restoring', change_id = ?1, deleted_at = coalesce(?2, deleted_at)
                         WHERE status = 'deleted' AND id IN (SELECT value FROM json_each(?3))";
        self.begin(statement, ids, change, None).await
    }

    async fn begin(
        &self,
        statement: &'static str,
        ids: &[UploadId],
        change: &ChangeId,
        at: Option<DateTime<Utc>>,
    ) -> Result<(), CatalogError> {
        pass("catalog::begin_change", "note a change of uploads")?;
        let failed = || sql("note a change of uploads");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let done = sqlx::query(statement)
            .bind(change.as_str())
            .bind(at.map(|at| at.timestamp_micros()))
            .bind(json_array(ids))
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
        if done.rows_affected() != ids.len() as u64 {
            return Err(CatalogError::StatusChanged);
        }
        tx.commit().await.map_err(failed())
    }

    /// Ends what `change` was to do with its uploads: with `landed`, they are deleted or committed again; without, they
    /// are what they were before.
    pub async fn end_change(&self, change: &ChangeId, landed: bool) -> Result<(), CatalogError> {
        pass("catalog::end_change", "end a change of uploads")?;
        // `deleting` that landed and `restoring` that did not are deleted.
        sqlx::query(
            "UPDATE uploads SET change_id = NULL,
                 status = CASE WHEN (status = 'deleting') = ?2 THEN 'deleted' ELSE 'committed' END,
                 deleted_at = CASE WHEN (status = 'deleting') = ?2 THEN deleted_at END
             WHERE change_id = ?1",
        )
        .bind(change.as_str())
        .bind(landed)
        .execute(&self.pool)
        .await
        .map(drop)
        .map_err(sql("end a change of uploads"))
    }

    /// Notes that an upload is erased, with what its report still says, and forgets its staged files. Gives since when it is
    /// out of the lake. The values that the report had are gone from the file of the catalogue when this returns.
    pub async fn purge_upload(&self, id: &UploadId, report: &Value) -> Result<Option<DateTime<Utc>>, CatalogError> {
        pass("catalog::purge_upload", "note that an upload is erased")?;
        let failed = || sql("note that an upload is erased");
        let at = now();
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        sqlx::query("DELETE FROM staged_files WHERE upload_id = ?")
            .bind(id.as_str())
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
        let (deleted_at,): (Option<i64>,) = sqlx::query_as(
            "UPDATE uploads SET status = 'purged', report = ?, deleted_at = coalesce(deleted_at, ?) WHERE id = ?
             RETURNING deleted_at",
        )
        .bind(report.to_string())
        .bind(at.timestamp_micros())
        .bind(id.as_str())
        .fetch_one(&mut *tx)
        .await
        .map_err(failed())?;
        tx.commit().await.map_err(failed())?;
        self.cut_log_of_writes().await?;
        Ok(deleted_at.map(from_micros))
    }

    /// Pages that change are overwritten (`secure_delete`); this cuts off their older copies in the log of writes.
    async fn cut_log_of_writes(&self) -> Result<(), CatalogError> {
        for _ in 0..CHECKPOINT_TRIES {
            let (busy, _, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
                .fetch_one(&self.pool)
                .await
                .map_err(sql("cut off the log of writes"))?;
            if busy == 0 {
                return Ok(());
            }
            tokio::time::sleep(CHECKPOINT_PAUSE).await;
        }
        Err(CatalogError::LogInUse)
    }

    /// The uploads that a project's rows come from, in the order in which they landed: the committed ones, and those that
    /// `with` is bringing back. Without their reports, which can be long, and there can be many.
    ///
    /// # Errors
    /// [`CatalogError::TooMany`] beyond 100,000, because rows of a list that was cut would be wrong.
    pub async fn live_uploads(
        &self,
        project: &ProjectSlug,
        with: Option<&ChangeId>,
    ) -> Result<Vec<UploadRecord>, CatalogError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, dataset_name, dataset_type, data_provider, file_name, on_error, status, sha256, bytes, received_at,
                 committed_at, lake_version, 'null' AS report, key_prefix, deleted_at, change_id,
                 (SELECT json_group_array(project ORDER BY project) FROM upload_projects
                  WHERE upload_id = uploads.id) AS projects
             FROM upload_projects AS wanted JOIN uploads ON uploads.id = wanted.upload_id
             WHERE wanted.project = ?1 AND (status = 'committed' OR (status = 'restoring' AND change_id = ?2))
             ORDER BY lake_version, id LIMIT ?3",
        )
        .bind(project.as_str())
        .bind(with.map(ChangeId::as_str))
        .bind(MAX_LIVE + 1)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list the uploads of a project"))?;
        if rows.len() > MAX_LIVE as usize {
            return Err(CatalogError::TooMany { what: "uploads in one project", limit: MAX_LIVE });
        }
        rows.into_iter().map(UploadRecord::try_from).collect()
    }
}

fn json_array(ids: &[UploadId]) -> String {
    Value::from(ids.iter().map(UploadId::as_str).collect::<Vec<_>>()).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::{UploadStatus, now, tests::with_projects};

    async fn committed(versions: &[u64]) -> (tempfile::TempDir, Catalog, Vec<UploadId>) {
        let (folder, catalog) = with_projects(&["a"]).await;
        let slug: ProjectSlug = "a".parse().unwrap();
        let mut ids = Vec::new();
        for version in versions {
            let record =
                UploadRecord::starting(vec![slug.clone()], "05_2024_A".into(), "f.csv".into(), "abcdefgh".into());
            catalog.insert_upload(&record).await.unwrap();
            catalog.set_upload_committed(&record.id, *version, now(), &json!({})).await.unwrap();
            ids.push(record.id);
        }
        (folder, catalog, ids)
    }

    #[tokio::test]
    async fn a_change_ends_for_all_its_uploads_as_the_log_says() {
        let (_folder, catalog, ids) = committed(&[1, 2, 3]).await;
        let is = async || -> Vec<(UploadStatus, bool, bool)> {
            let uploads = catalog.uploads_of(&ids).await.unwrap();
            uploads.iter().map(|one| (one.status, one.deleted_at.is_some(), one.change.is_some())).collect()
        };
        let (committed, deleted) = ((UploadStatus::Committed, false, false), (UploadStatus::Deleted, true, false));
        let (at, change) = (now(), ChangeId::new());
        catalog.begin_deletion(&ids[..2], &change, at).await.unwrap();
        assert_eq!(is().await[..2], [(UploadStatus::Deleting, true, true); 2]);
        assert_eq!(catalog.unfinished_uploads().await.unwrap().len(), 2);
        let again = catalog.begin_deletion(&ids[1..], &ChangeId::new(), at).await.unwrap_err();
        assert!(matches!(again, CatalogError::StatusChanged));
        assert_eq!(is().await[2], committed, "all or none");
        catalog.end_change(&change, false).await.unwrap();
        assert_eq!(is().await, [committed; 3]);
        catalog.begin_deletion(&ids[..2], &change, at).await.unwrap();
        catalog.end_change(&change, true).await.unwrap();
        assert_eq!(is().await, [deleted, deleted, committed]);
        let back = ChangeId::new();
        catalog.begin_restoration(&ids[..1], &back).await.unwrap();
        assert_eq!(is().await[0], (UploadStatus::Restoring, true, true));
        catalog.end_change(&back, false).await.unwrap();
        assert_eq!(is().await[0], deleted);
        catalog.begin_restoration(&ids[..1], &back).await.unwrap();
        catalog.end_change(&back, true).await.unwrap();
        assert_eq!(is().await, [committed, deleted, committed]);
    }

    #[tokio::test]
    async fn live_uploads_are_in_the_order_in_which_they_landed_not_in_that_of_their_ids() {
        let (_folder, catalog, ids) = committed(&[7, 3, 5]).await;
        let live = async |with: Option<&ChangeId>| -> Vec<usize> {
            let live = catalog.live_uploads(&"a".parse().unwrap(), with).await.unwrap();
            live.iter().map(|one| ids.iter().position(|id| *id == one.id).unwrap()).collect()
        };
        assert_eq!(live(None).await, [1, 2, 0]);
        let (out, back) = (ChangeId::new(), ChangeId::new());
        catalog.begin_deletion(&ids[1..2], &out, now()).await.unwrap();
        assert_eq!(live(None).await, [2, 0]);
        catalog.end_change(&out, true).await.unwrap();
        catalog.begin_restoration(&ids[1..2], &back).await.unwrap();
        assert_eq!((live(None).await, live(Some(&back)).await), (vec![2, 0], vec![1, 2, 0]));
    }
}
