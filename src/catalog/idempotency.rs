//! Idempotency keys: which upload was the answer to a request that came with one.

use sqlx::{Sqlite, Transaction};

use super::{
    Catalog, CatalogError, UploadRecord, now, sql,
    uploads::{Row, SELECT_ONE},
};
use crate::ids::{IdempotencyKey, UploadId};

/// Keys that found the same upload again, of which the newest are kept: who sends one file for ever with a new key each
/// time fills no disk.
const MOST_REPEATED: u32 = 1000;

/// The key of a request, and what the request was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestKey {
    /// Of the API key: one caller's keys say nothing to another.
    pub key_prefix: String,
    pub key: IdempotencyKey,
    /// Of the file and of what was said about it, in hexadecimal.
    pub request_sha256: String,
}

/// A key that has its answer.
#[derive(Clone, Debug)]
pub struct AnsweredKey {
    pub upload: UploadRecord,
    pub request_sha256: String,
    /// Whether the answer was an upload that had come before.
    pub repeated: bool,
}

impl Catalog {
    /// What a key was answered with.
    pub async fn answered_key(
        &self,
        key_prefix: &str,
        key: &IdempotencyKey,
    ) -> Result<Option<AnsweredKey>, CatalogError> {
        let failed = || sql("look an idempotency key up");
        let found: Option<(String, String, bool)> = sqlx::query_as(
            "SELECT upload_id, request_sha256, repeated FROM idempotency_keys WHERE key_prefix = ? AND key = ?",
        )
        .bind(key_prefix)
        .bind(key.as_str())
        .fetch_optional(&self.pool)
        .await
        .map_err(failed())?;
        let Some((upload, request_sha256, repeated)) = found else { return Ok(None) };
        let row: Row = sqlx::query_as(SELECT_ONE).bind(upload).fetch_one(&self.pool).await.map_err(failed())?;
        Ok(Some(AnsweredKey { upload: row.try_into()?, request_sha256, repeated }))
    }

    /// Notes that a request with a key was answered with an upload that had come before.
    ///
    /// # Errors
    /// [`CatalogError::KeyTaken`] where the key has its answer.
    pub async fn keep_repeated_key(&self, key: &RequestKey, upload: &UploadId) -> Result<(), CatalogError> {
        self.keep_newest_keys(key, upload, MOST_REPEATED).await
    }

    async fn keep_newest_keys(&self, key: &RequestKey, upload: &UploadId, most: u32) -> Result<(), CatalogError> {
        let failed = || sql("keep an idempotency key");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        sqlx::query(
            "DELETE FROM idempotency_keys WHERE (key_prefix, key) IN
                 (SELECT key_prefix, key FROM idempotency_keys WHERE upload_id = ? AND repeated = 1
                  ORDER BY created_at DESC LIMIT -1 OFFSET ?)",
        )
        .bind(upload.as_str())
        .bind(most - 1)
        .execute(&mut *tx)
        .await
        .map_err(failed())?;
        insert_key(&mut tx, key, upload, true).await?;
        tx.commit().await.map_err(failed())
    }
}

pub(super) async fn insert_key(
    tx: &mut Transaction<'_, Sqlite>,
    key: &RequestKey,
    upload: &UploadId,
    repeated: bool,
) -> Result<(), CatalogError> {
    let inserted = sqlx::query("INSERT INTO idempotency_keys VALUES (?, ?, ?, ?, ?, ?)")
        .bind(&key.key_prefix)
        .bind(key.key.as_str())
        .bind(upload.as_str())
        .bind(&key.request_sha256)
        .bind(repeated)
        .bind(now().timestamp_micros())
        .execute(&mut **tx)
        .await;
    match inserted {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Err(CatalogError::KeyTaken),
        other => other.map(drop).map_err(sql("keep an idempotency key")),
    }
}

/// Frees the keys that were answered with an upload, which failed.
pub(super) async fn free_keys(tx: &mut Transaction<'_, Sqlite>, upload: &UploadId) -> Result<(), CatalogError> {
    sqlx::query("DELETE FROM idempotency_keys WHERE upload_id = ?")
        .bind(upload.as_str())
        .execute(&mut **tx)
        .await
        .map(drop)
        .map_err(sql("free an idempotency key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{UploadStatus, tests::with_projects};

    async fn catalog() -> (tempfile::TempDir, Catalog) {
        with_projects(&["a"]).await
    }

    fn upload() -> UploadRecord {
        let projects = vec!["a".parse().unwrap()];
        UploadRecord::starting(projects, "05_2024_A".into(), "f.csv".into(), "abcdefgh".into())
    }

    fn key(text: &str) -> RequestKey {
        RequestKey { key_prefix: "abcdefgh".into(), key: text.parse().unwrap(), request_sha256: "5a".into() }
    }

    #[tokio::test]
    async fn a_key_has_one_answer_for_its_sender_until_that_upload_fails() {
        let (_folder, catalog) = catalog().await;
        let (first, second) = (upload(), upload());
        catalog.insert_upload_with_key(&first, Some(&key("k"))).await.unwrap();
        let taken = catalog.insert_upload_with_key(&second, Some(&key("k"))).await.unwrap_err();
        assert!(matches!(taken, CatalogError::KeyTaken));
        assert_eq!(catalog.upload(&second.id).await.unwrap(), None, "neither the upload nor the key is there");
        let answer = catalog.answered_key("abcdefgh", &key("k").key).await.unwrap().unwrap();
        assert_eq!((answer.upload, answer.request_sha256.as_str(), answer.repeated), (first.clone(), "5a", false));
        assert!(catalog.answered_key("another", &key("k").key).await.unwrap().is_none());
        catalog.set_upload_status(&first.id, UploadStatus::Failed, None).await.unwrap();
        assert!(catalog.answered_key("abcdefgh", &key("k").key).await.unwrap().is_none());
        catalog.insert_upload_with_key(&second, Some(&key("k"))).await.unwrap();
    }

    #[tokio::test]
    async fn of_keys_that_found_an_upload_again_the_newest_are_kept() {
        let (_folder, catalog) = catalog().await;
        let first = upload();
        catalog.insert_upload_with_key(&first, Some(&key("own"))).await.unwrap();
        for name in ["k0", "k1", "k2", "k3", "k4"] {
            catalog.keep_newest_keys(&key(name), &first.id, 3).await.unwrap();
        }
        let known = async |name: &str| catalog.answered_key("abcdefgh", &key(name).key).await.unwrap().is_some();
        for (name, kept) in [("own", true), ("k0", false), ("k1", false), ("k2", true), ("k3", true), ("k4", true)] {
            assert_eq!(known(name).await, kept, "{name}");
        }
    }
}
