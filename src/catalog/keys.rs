//! API keys: `wl_<prefix>_<secret>`. The prefix is public and names the key in lists and logs; of the rest only a
//! SHA-256 is kept. A plain hash is enough, because a secret of 256 random bits cannot be guessed from it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Catalog, CatalogError, MAX_RECORDS, from_micros, now, read, sql};
use crate::access::{Principal, Role};

const PREFIX_CHARS: usize = 8;
const SECRET_BYTES: usize = 32;
/// RFC 4648's base32 in lower case: 32 letters, so that five random bits are one of them.
const PREFIX_LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// `last_used_at` is written at most so often.
const USE_RESOLUTION_MICROS: i64 = 60 * 1_000_000;
const MAX_NAME_CHARS: usize = 100;

/// One key, without its secret, as the catalogue holds it and the command line shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApiKey {
    pub prefix: String,
    pub name: String,
    pub role: Role,
    pub created_at: DateTime<Utc>,
    /// To the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A key that was just made. `secret` is the whole text to send, and is never to be had again.
pub struct NewKey {
    pub key: ApiKey,
    pub secret: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    prefix: String,
    name: String,
    role: String,
    key_sha256: Vec<u8>,
    created_at: i64,
    last_used_at: Option<i64>,
    revoked_at: Option<i64>,
}

impl TryFrom<Row> for ApiKey {
    type Error = CatalogError;

    fn try_from(row: Row) -> Result<Self, CatalogError> {
        Ok(Self {
            role: read("key's role", &row.role)?,
            prefix: row.prefix,
            name: row.name,
            created_at: from_micros(row.created_at),
            last_used_at: row.last_used_at.map(from_micros),
            revoked_at: row.revoked_at.map(from_micros),
        })
    }
}

impl Catalog {
    /// Makes a key. Any name will do; it is cut at 100 characters.
    pub async fn create_key(&self, name: &str, role: Role) -> Result<NewKey, CatalogError> {
        let failed = || sql("create a key");
        let (prefix, secret) = random_key()?;
        let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
        let at = now();
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let count: u32 =
            sqlx::query_scalar("SELECT count(*) FROM api_keys").fetch_one(&mut *tx).await.map_err(failed())?;
        if count >= MAX_RECORDS {
            return Err(CatalogError::TooMany { what: "keys", limit: MAX_RECORDS });
        }
        sqlx::query("INSERT INTO api_keys (prefix, name, role, key_sha256, created_at) VALUES (?, ?, ?, ?, ?)")
            .bind(&prefix)
            .bind(&name)
            .bind(role.as_str())
            .bind(Sha256::digest(&secret).as_slice())
            .bind(at.timestamp_micros())
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
        tx.commit().await.map_err(failed())?;
        let key = ApiKey { prefix, name, role, created_at: at, last_used_at: None, revoked_at: None };
        Ok(NewKey { key, secret })
    }

    /// Who a presented key is, or `None` where it is malformed, unknown, wrong or revoked: a caller cannot tell which.
    ///
    /// Reads the catalogue every time, so that a key that another process revoked fails from the next request on.
    pub async fn verify_key(&self, presented: &str) -> Result<Option<Principal>, CatalogError> {
        let Some(prefix) = prefix_of(presented) else {
            return Ok(None);
        };
        let row: Option<Row> = sqlx::query_as("SELECT * FROM api_keys WHERE prefix = ?")
            .bind(prefix)
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read a key"))?;
        let Some(row) = row else {
            return Ok(None);
        };
        let right: bool = Sha256::digest(presented).as_slice().ct_eq(&row.key_sha256).into();
        if !right || row.revoked_at.is_some() {
            return Ok(None);
        }
        let stale = now().timestamp_micros() - USE_RESOLUTION_MICROS;
        if row.last_used_at.is_none_or(|used| used < stale) {
            self.note_use(row.prefix.clone(), stale);
        }
        let role = read("key's role", &row.role)?;
        Ok(Some(Principal { key_prefix: row.prefix, role }))
    }

    /// Writes `last_used_at` beside the request. If such a write is under way already, a later request will do it.
    fn note_use(&self, prefix: String, stale: i64) {
        let Ok(permit) = self.key_use.clone().try_acquire_owned() else {
            return;
        };
        let pool = self.pool.clone();
        tokio::spawn(async move {
            let written =
                sqlx::query("UPDATE api_keys SET last_used_at = ? WHERE prefix = ? AND coalesce(last_used_at, 0) < ?")
                    .bind(now().timestamp_micros())
                    .bind(prefix)
                    .bind(stale)
                    .execute(&pool)
                    .await;
            if let Err(error) = written {
                tracing::warn!(%error, "could not note the use of a key");
            }
            drop(permit);
        });
    }

    /// Every key, the newest first, revoked ones too; at most [`MAX_RECORDS`].
    pub async fn keys(&self) -> Result<Vec<ApiKey>, CatalogError> {
        let rows: Vec<Row> = sqlx::query_as("SELECT * FROM api_keys ORDER BY created_at DESC, prefix LIMIT ?")
            .bind(MAX_RECORDS)
            .fetch_all(&self.pool)
            .await
            .map_err(sql("list keys"))?;
        rows.into_iter().map(ApiKey::try_from).collect()
    }

    /// Revokes a key for good. To revoke it again changes nothing.
    ///
    /// # Errors
    /// [`CatalogError::KeyMissing`] if no key has that prefix.
    pub async fn revoke_key(&self, prefix: &str) -> Result<ApiKey, CatalogError> {
        let row: Option<Row> =
            sqlx::query_as("UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?) WHERE prefix = ? RETURNING *")
                .bind(now().timestamp_micros())
                .bind(prefix)
                .fetch_optional(&self.pool)
                .await
                .map_err(sql("revoke a key"))?;
        row.ok_or_else(|| CatalogError::KeyMissing(prefix.to_owned())).and_then(ApiKey::try_from)
    }
}

/// A new prefix, and the whole key that holds it.
fn random_key() -> Result<(String, String), CatalogError> {
    let mut bytes = [0u8; PREFIX_CHARS + SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(CatalogError::NoRandomness)?;
    let (prefix, secret) = bytes.split_at(PREFIX_CHARS);
    let prefix: String = prefix.iter().map(|byte| char::from(PREFIX_LETTERS[usize::from(byte & 31)])).collect();
    let key = format!("wl_{prefix}_{}", hex::encode(secret));
    Ok((prefix, key))
}

/// The prefix of a well-formed key.
fn prefix_of(key: &str) -> Option<&str> {
    let (prefix, secret) = key.strip_prefix("wl_")?.split_once('_')?;
    let letters = prefix.len() == PREFIX_CHARS && prefix.bytes().all(|byte| PREFIX_LETTERS.contains(&byte));
    (letters && secret.len() == 2 * SECRET_BYTES).then_some(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn catalog() -> (tempfile::TempDir, Catalog) {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).await.unwrap();
        (folder, catalog)
    }

    #[tokio::test]
    async fn a_key_proves_its_holder_and_a_changed_one_proves_nobody() {
        let (_folder, catalog) = catalog().await;
        let NewKey { key, secret } = catalog.create_key("ops", Role::Admin).await.unwrap();
        assert_eq!(secret.len(), "wl_".len() + 8 + 1 + 64);
        let principal = catalog.verify_key(&secret).await.unwrap().unwrap();
        assert_eq!((principal.key_prefix, principal.role), (key.prefix.clone(), Role::Admin));

        let other = if secret.ends_with('0') { "1" } else { "0" };
        let changed = format!("{}{other}", &secret[..secret.len() - 1]);
        for wrong in [changed.as_str(), "", "wl_", &secret[..20], "wl_aaaaaaaa_", &format!("{secret}0")] {
            assert_eq!(catalog.verify_key(wrong).await.unwrap(), None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_key_revoked_by_another_process_fails_at_once() {
        let (folder, catalog) = catalog().await;
        let NewKey { key, secret } = catalog.create_key("ops", Role::Admin).await.unwrap();
        assert!(catalog.verify_key(&secret).await.unwrap().is_some());
        let other = Catalog::open(folder.path()).await.unwrap();
        other.revoke_key(&key.prefix).await.unwrap();
        assert_eq!(catalog.verify_key(&secret).await.unwrap(), None);
        let error = catalog.revoke_key("aaaaaaaa").await.unwrap_err();
        assert!(matches!(error, CatalogError::KeyMissing(_)));
    }

    #[tokio::test]
    async fn the_use_of_a_key_is_noted_beside_the_request() {
        let (_folder, catalog) = catalog().await;
        let NewKey { secret, .. } = catalog.create_key("ops", Role::Admin).await.unwrap();
        catalog.verify_key(&secret).await.unwrap();
        for _ in 0..100 {
            if catalog.keys().await.unwrap()[0].last_used_at.is_some() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the use was never noted");
    }

    #[tokio::test]
    async fn the_secret_is_nowhere_in_the_file() {
        let (folder, catalog) = catalog().await;
        let NewKey { key, secret } = catalog.create_key("ops", Role::Admin).await.unwrap();
        catalog.close().await;
        let bytes = std::fs::read(folder.path().join("catalog.sqlite")).unwrap();
        assert!(memchr::memmem::find(&bytes, key.prefix.as_bytes()).is_some());
        assert!(memchr::memmem::find(&bytes, &secret.as_bytes()[12..]).is_none());
    }
}
