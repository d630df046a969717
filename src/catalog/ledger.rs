//! The ledger: for each version of the lake the entry of its log, and for each file its size, rows and SHA-256.
//!
//! It is written before the lake's log, and is what a start goes by: a log that says something else is made to say the same.
//! A file stands here twice, in its own row and in the entry that added it, so that one can be told from the other.

use sqlx::{Sqlite, Transaction};

use super::{
    Catalog, CatalogError,
    history::{note_all_gone, note_gone},
    pass,
    sealed::{
        FileRow, LedgerCheckpoint, LedgerFile, LedgerStaged, LedgerVersion, Sealed, StagedRow, VersionRow, file_of,
        file_seal, sealed_files, staged_of, staged_seal, to_i64, to_u64, version_of, version_seal,
    },
    sql,
};
use crate::ids::{ChangeId, UploadId};

/// zstd's level for entries: they are JSON that repeats itself.
const LEVEL: i32 = 3;
impl Catalog {
    /// Writes a version, its new files and the removal of others, in one transaction. The version becomes
    /// the newest. `removed` are paths.
    pub async fn record_version(
        &self,
        version: &LedgerVersion,
        added: &[LedgerFile],
        removed: &[&str],
    ) -> Result<(), CatalogError> {
        pass("catalog::record_version", "write the ledger")?;
        let failed = || sql("write the ledger");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        insert_version(&mut tx, version).await?;
        for file in added {
            put_file(&mut tx, file).await?;
        }
        for path in removed {
            let row: FileRow = sqlx::query_as("SELECT * FROM lake_files WHERE path = ?")
                .bind(path)
                .fetch_one(&mut *tx)
                .await
                .map_err(failed())?;
            let removed = Some((version.version, version.written_at));
            put_file(&mut tx, &LedgerFile { removed, ..file_of(row)?.0 }).await?;
        }
        tx.commit().await.map_err(failed())
    }

    /// Takes the newest version back, which the lake's log does not have.
    pub async fn forget_version(&self, version: u64) -> Result<(), CatalogError> {
        pass("catalog::forget_version", "take a version back from the ledger")?;
        let failed = || sql("take a version back from the ledger");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let version = to_i64(version);
        sqlx::query("DELETE FROM lake_versions WHERE version = ?")
            .bind(version)
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
        sqlx::query("DELETE FROM lake_files WHERE added_in = ?")
            .bind(version)
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
        let rows: Vec<FileRow> = sqlx::query_as("SELECT * FROM lake_files WHERE removed_in = ?")
            .bind(version)
            .fetch_all(&mut *tx)
            .await
            .map_err(failed())?;
        for row in rows {
            put_file(&mut tx, &LedgerFile { removed: None, ..file_of(row)?.0 }).await?;
        }
        tx.commit().await.map_err(failed())
    }

    /// The newest version.
    pub async fn ledger_head(&self) -> Result<Option<u64>, CatalogError> {
        let (head,): (Option<i64>,) = sqlx::query_as("SELECT max(version) FROM lake_versions")
            .fetch_one(&self.pool)
            .await
            .map_err(sql("read the ledger"))?;
        Ok(head.map(to_u64))
    }

    /// The version that a change made.
    pub async fn version_of_change(&self, change: &ChangeId) -> Result<Option<u64>, CatalogError> {
        let row: Option<(i64,)> = sqlx::query_as("SELECT version FROM lake_versions WHERE change_id = ?")
            .bind(change.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("look a change up in the ledger"))?;
        Ok(row.map(|(version,)| to_u64(version)))
    }

    /// Versions from `first` on, at most `limit`, in their order. A version whose row is broken is named `version N`.
    pub async fn ledger_versions(&self, first: u64, limit: u32) -> Result<Sealed<LedgerVersion>, CatalogError> {
        let rows: Vec<VersionRow> = sqlx::query_as(
            "SELECT version, change_id, entry, entry_sha256, files, rows, written_at, seal FROM lake_versions
             WHERE version >= ? ORDER BY version LIMIT ?",
        )
        .bind(to_i64(first))
        .bind(limit)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read the ledger's versions"))?;
        let mut sealed = Sealed::default();
        for row in rows {
            let name = format!("version {}", row.0);
            match version_of(row) {
                Some(version) => sealed.whole.push(version),
                None => sealed.broken.push(name),
            }
        }
        Ok(sealed)
    }

    /// Replaces a version's row, which was broken.
    pub async fn mend_version(&self, version: &LedgerVersion) -> Result<(), CatalogError> {
        let failed = || sql("mend the ledger");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        sqlx::query("DELETE FROM lake_versions WHERE version = ? OR change_id = ?")
            .bind(to_i64(version.version))
            .bind(version.change.as_str())
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
        insert_version(&mut tx, version).await?;
        tx.commit().await.map_err(failed())
    }

    /// The files of the newest version, in the order of project, month, and as they came.
    pub async fn active_files(&self) -> Result<Sealed<LedgerFile>, CatalogError> {
        let rows: Vec<FileRow> =
            sqlx::query_as("SELECT * FROM lake_files WHERE removed_in IS NULL ORDER BY project, month, added_in, path")
                .fetch_all(&self.pool)
                .await
                .map_err(sql("read the ledger's files"))?;
        sealed_files(rows)
    }

    /// Files that were removed from the newest version and are still to be on the disk.
    pub async fn removed_files(&self) -> Result<Sealed<LedgerFile>, CatalogError> {
        let rows: Vec<FileRow> =
            sqlx::query_as("SELECT * FROM lake_files WHERE removed_in IS NOT NULL ORDER BY removed_at, path")
                .fetch_all(&self.pool)
                .await
                .map_err(sql("read the ledger's removed files"))?;
        sealed_files(rows)
    }

    /// Makes the ledger's files exactly these: for rows that were broken, from the entries.
    pub async fn mend_files(&self, files: &[LedgerFile]) -> Result<(), CatalogError> {
        let failed = || sql("mend the ledger");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        sqlx::query("DELETE FROM lake_files").execute(&mut *tx).await.map_err(failed())?;
        note_all_gone(&mut tx).await.map_err(failed())?;
        for file in files {
            put_file(&mut tx, file).await?;
        }
        tx.commit().await.map_err(failed())
    }

    /// Forgets files that are no longer on the disk, none of them of the newest version.
    pub async fn forget_files(&self, paths: &[String]) -> Result<(), CatalogError> {
        let failed = || sql("forget removed files");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        for path in paths {
            note_gone(&mut tx, path).await.map_err(failed())?;
            sqlx::query("DELETE FROM lake_files WHERE path = ? AND removed_in IS NOT NULL")
                .bind(path)
                .execute(&mut *tx)
                .await
                .map_err(failed())?;
        }
        tx.commit().await.map_err(failed())
    }

    /// Empties the ledger, for a lake that is made anew.
    pub async fn clear_ledger(&self) -> Result<(), CatalogError> {
        let failed = || sql("empty the ledger");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        for table in [
            "DELETE FROM lake_versions",
            "DELETE FROM lake_files",
            "DELETE FROM lake_checkpoint",
            "DELETE FROM lake_history",
        ] {
            sqlx::query(table).execute(&mut *tx).await.map_err(failed())?;
        }
        tx.commit().await.map_err(failed())
    }

    pub async fn record_checkpoint(&self, checkpoint: &LedgerCheckpoint) -> Result<(), CatalogError> {
        pass("catalog::record_checkpoint", "note a checkpoint")?;
        sqlx::query("INSERT OR REPLACE INTO lake_checkpoint VALUES (1, ?, ?, ?)")
            .bind(to_i64(checkpoint.version))
            .bind(&checkpoint.sha256[..])
            .bind(&checkpoint.pointer)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(sql("note a checkpoint"))
    }

    pub async fn forget_checkpoint(&self) -> Result<(), CatalogError> {
        sqlx::query("DELETE FROM lake_checkpoint")
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(sql("forget a checkpoint"))
    }

    /// A checkpoint is checked against this; a broken row only means that it is written again.
    pub async fn ledger_checkpoint(&self) -> Result<Option<LedgerCheckpoint>, CatalogError> {
        let row: Option<(i64, Vec<u8>, Vec<u8>)> =
            sqlx::query_as("SELECT version, sha256, pointer FROM lake_checkpoint")
                .fetch_optional(&self.pool)
                .await
                .map_err(sql("read the ledger's checkpoint"))?;
        Ok(row.and_then(|(version, sha256, pointer)| {
            Some(LedgerCheckpoint { version: to_u64(version), sha256: sha256.try_into().ok()?, pointer })
        }))
    }

    /// The columns that the lake's table was last seen to have; none where nobody has looked yet.
    pub async fn lake_columns(&self) -> Result<Option<String>, CatalogError> {
        sqlx::query_scalar("SELECT columns FROM lake_schema")
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read the columns of the lake"))
    }

    /// Notes the columns of the lake's table.
    pub async fn set_lake_columns(&self, columns: &str) -> Result<(), CatalogError> {
        sqlx::query("INSERT OR REPLACE INTO lake_schema VALUES (1, ?)")
            .bind(columns)
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(sql("note the columns of the lake"))
    }

    /// Notes the staged files of an upload, replacing what was noted before.
    pub async fn record_staged(&self, upload: &UploadId, files: &[LedgerStaged]) -> Result<(), CatalogError> {
        pass("catalog::record_staged", "note staged files")?;
        let failed = || sql("note staged files");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        sqlx::query("DELETE FROM staged_files WHERE upload_id = ?")
            .bind(upload.as_str())
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
        for file in files {
            sqlx::query("INSERT INTO staged_files VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
                .bind(upload.as_str())
                .bind(file.project.as_str())
                .bind(file.month.to_string())
                .bind(&file.path)
                .bind(to_i64(file.bytes))
                .bind(to_i64(file.rows))
                .bind(&file.sha256[..])
                .bind(staged_seal(file))
                .execute(&mut *tx)
                .await
                .map_err(failed())?;
        }
        tx.commit().await.map_err(failed())
    }

    /// The staged files of an upload, by path.
    pub async fn staged_files(&self, upload: &UploadId) -> Result<Sealed<LedgerStaged>, CatalogError> {
        let rows: Vec<StagedRow> = sqlx::query_as(
            "SELECT project, month, path, bytes, rows, sha256, seal FROM staged_files WHERE upload_id = ? ORDER BY path",
        )
        .bind(upload.as_str())
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read staged files"))?;
        let mut sealed = Sealed::default();
        for row in rows {
            let path = row.2.clone();
            match staged_of(row) {
                Some(staged) => sealed.whole.push(staged),
                None => sealed.broken.push(path),
            }
        }
        Ok(sealed)
    }
}

async fn insert_version(tx: &mut Transaction<'_, Sqlite>, version: &LedgerVersion) -> Result<(), CatalogError> {
    let entry = zstd::bulk::compress(&version.entry, LEVEL).map_err(CatalogError::Folder)?;
    sqlx::query(
        "INSERT INTO lake_versions (version, change_id, entry, entry_sha256, files, rows, written_at, seal)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(to_i64(version.version))
    .bind(version.change.as_str())
    .bind(entry)
    .bind(&version.entry_sha256[..])
    .bind(to_i64(version.files))
    .bind(to_i64(version.rows))
    .bind(version.written_at.timestamp_micros())
    .bind(version_seal(version))
    .execute(&mut **tx)
    .await
    .map(drop)
    .map_err(sql("write the ledger"))
}

async fn put_file(tx: &mut Transaction<'_, Sqlite>, file: &LedgerFile) -> Result<(), CatalogError> {
    sqlx::query("INSERT OR REPLACE INTO lake_files VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(&file.path)
        .bind(file.project.as_str())
        .bind(file.month.to_string())
        .bind(to_i64(file.bytes))
        .bind(to_i64(file.rows))
        .bind(&file.sha256[..])
        .bind(to_i64(file.added_in))
        .bind(file.removed.map(|(version, _)| to_i64(version)))
        .bind(file.removed.map(|(_, at)| at.timestamp_micros()))
        .bind(file_seal(file))
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(sql("write the ledger"))
}
