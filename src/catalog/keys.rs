//! API keys: `wl_<prefix>_<secret>`. The prefix is public and names the key in lists and logs; of the rest only a
//! SHA-256 is kept. A plain hash is enough, because a secret of 256 random bits cannot be guessed from it.

use chrono::{DateTime, Utc};
use rusqlite::types::Value;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::{Sqlite, Transaction};
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use super::{
    Catalog, CatalogError, MAX_RECORDS, Page, ended, from_micros, now, organisations::owner_of_new, read, sql,
};
use crate::{
    access::{Principal, Role},
    ids::OrganisationSlug,
};

const PREFIX_CHARS: usize = 8;
const SECRET_BYTES: usize = 32;
/// RFC 4648's base32 in lower case: 32 letters, so that five random bits are one of them.
const PREFIX_LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// `last_used_at` is written at most so often.
const USE_RESOLUTION_MICROS: i64 = 60 * 1_000_000;
const MAX_NAME_CHARS: usize = 100;

/// One key, without its secret, as the catalogue holds it and as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ApiKey {
    /// The eight letters after `wl_`.
    pub prefix: String,
    pub name: String,
    pub role: Role,
    /// Null for an administrator's key, and for no other.
    #[schema(required)]
    pub organisation: Option<OrganisationSlug>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: DateTime<Utc>,
    /// From then on it does not hold; null where it holds until it is revoked.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub expires_at: Option<DateTime<Utc>>,
    /// To the minute.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub last_used_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub revoked_at: Option<DateTime<Utc>>,
    /// The key that this one took the place of.
    #[schema(required)]
    pub rotated_from: Option<String>,
    /// The key that took the place of this one.
    #[schema(required)]
    pub replaced_by: Option<String>,
}

/// What a presented key proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Who calls.
    Holds(Principal),
    /// That its holder had a key, which was revoked or has expired.
    Ended { prefix: String, organisation: Option<OrganisationSlug>, how: &'static str },
    /// Nothing: it is malformed, unknown or wrong.
    Nothing,
}

impl Proof {
    /// Who calls, where that is proved.
    #[must_use]
    pub fn principal(self) -> Option<Principal> {
        match self {
            Self::Holds(principal) => Some(principal),
            Self::Ended { .. } | Self::Nothing => None,
        }
    }
}

/// A key that was just made. `secret` is the whole text to send, and is never to be had again.
pub struct NewKey {
    pub key: ApiKey,
    pub secret: String,
}

/// What a key is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTerms {
    /// Any will do; it is cut at 100 characters.
    pub name: String,
    pub role: Role,
    /// Of every role but `admin`. Where none is named and there is one only, it is that.
    pub organisation: Option<OrganisationSlug>,
    pub expires_at: Option<DateTime<Utc>>,
}

impl KeyTerms {
    /// An administrator's, until it is revoked.
    #[must_use]
    pub fn of_admin(name: &str) -> Self {
        Self { name: name.to_owned(), role: Role::Admin, organisation: None, expires_at: None }
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    prefix: String,
    name: String,
    role: String,
    organisation: Option<String>,
    key_sha256: Vec<u8>,
    created_at: i64,
    expires_at: Option<i64>,
    last_used_at: Option<i64>,
    revoked_at: Option<i64>,
    rotated_from: Option<String>,
    replaced_by: Option<String>,
}

impl Row {
    /// As a look reads it, which is not sqlx's.
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            prefix: row.get("prefix")?,
            name: row.get("name")?,
            role: row.get("role")?,
            organisation: row.get("organisation")?,
            key_sha256: row.get("key_sha256")?,
            created_at: row.get("created_at")?,
            expires_at: row.get("expires_at")?,
            last_used_at: row.get("last_used_at")?,
            revoked_at: row.get("revoked_at")?,
            rotated_from: row.get("rotated_from")?,
            replaced_by: row.get("replaced_by")?,
        })
    }
}

impl TryFrom<Row> for ApiKey {
    type Error = CatalogError;

    fn try_from(row: Row) -> Result<Self, CatalogError> {
        Ok(Self {
            role: read("key's role", &row.role)?,
            organisation: row.organisation.map(|slug| read("key's organisation", &slug)).transpose()?,
            prefix: row.prefix,
            name: row.name,
            created_at: from_micros(row.created_at),
            expires_at: row.expires_at.map(from_micros),
            last_used_at: row.last_used_at.map(from_micros),
            revoked_at: row.revoked_at.map(from_micros),
            rotated_from: row.rotated_from,
            replaced_by: row.replaced_by,
        })
    }
}

impl ApiKey {
    /// Why the key does not hold at an instant, if it does not.
    #[must_use]
    pub fn ended(&self, at: DateTime<Utc>) -> Option<&'static str> {
        ended(self.revoked_at, self.expires_at, at)
    }
}

pub(super) const SELECT_ONE: &str = "SELECT *, (SELECT prefix FROM api_keys AS next
    WHERE next.rotated_from = api_keys.prefix) AS replaced_by FROM api_keys WHERE prefix = ?";

impl Catalog {
    /// Makes a key.
    ///
    /// # Errors
    /// [`CatalogError::OrganisationMissing`], [`CatalogError::OrganisationNeeded`],
    /// [`CatalogError::AdminOfOrganisation`]; [`CatalogError::TooMany`] at [`MAX_RECORDS`].
    pub async fn create_key(&self, terms: KeyTerms) -> Result<NewKey, CatalogError> {
        let failed = || sql("create a key");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let organisation = match (terms.role, terms.organisation) {
            (Role::Admin, None) => None,
            (Role::Admin, Some(_)) => return Err(CatalogError::AdminOfOrganisation),
            (_, named) => Some(owner_of_new(&mut tx, named).await?),
        };
        let made = insert_key(&mut tx, KeyTerms { organisation, ..terms }, None).await?;
        tx.commit().await.map_err(failed())?;
        Ok(made)
    }

    /// What a presented key proves. A caller that is refused is not to learn why.
    ///
    /// Reads the catalogue every time, so that a key that another process revoked fails from the next request on.
    pub async fn verify_key(&self, presented: &str) -> Result<Proof, CatalogError> {
        let Some(prefix) = prefix_of(presented) else {
            return Ok(Proof::Nothing);
        };
        let Some(row) = self.key_row(prefix).await? else {
            return Ok(Proof::Nothing);
        };
        let right: bool = Sha256::digest(presented).as_slice().ct_eq(&row.key_sha256).into();
        let key = ApiKey::try_from(row)?;
        let now = now();
        if !right {
            return Ok(Proof::Nothing);
        }
        if let Some(how) = key.ended(now) {
            return Ok(Proof::Ended { prefix: key.prefix, organisation: key.organisation, how });
        }
        let stale = now.timestamp_micros() - USE_RESOLUTION_MICROS;
        if key.last_used_at.is_none_or(|used| used.timestamp_micros() < stale) {
            self.note_use(key.prefix.clone(), stale);
        }
        let earlier_keys = match key.role {
            Role::Uploader if key.rotated_from.is_some() => self.earlier_keys(&key.prefix).await?,
            _ => Vec::new(),
        };
        let ApiKey { prefix: key_prefix, role, organisation, .. } = key;
        Ok(Proof::Holds(Principal { key_prefix, role, organisation, earlier_keys }))
    }

    /// Whether a key that held when a request began still does.
    pub async fn key_holds(&self, prefix: &str) -> Result<bool, CatalogError> {
        let key = self.key_row(prefix).await?.map(ApiKey::try_from).transpose()?;
        Ok(key.is_some_and(|key| key.ended(now()).is_none()))
    }

    async fn key_row(&self, prefix: &str) -> Result<Option<Row>, CatalogError> {
        let values = [Value::from(prefix.to_owned())];
        let found = self.readers.all("read a key", SELECT_ONE, &values, Row::of).await?;
        Ok(found.into_iter().next())
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
        Ok(self.keys_page(&Principal::admin(""), None, MAX_RECORDS).await?.items)
    }

    /// At most `limit` of the keys that are within the reach of `principal`, the newest first, those made before `after`.
    pub async fn keys_page(
        &self,
        principal: &Principal,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ApiKey>, CatalogError> {
        // A key out of reach as `after` leaves nothing, as one that is not there does.
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT *, (SELECT prefix FROM api_keys AS next WHERE next.rotated_from = api_keys.prefix) AS replaced_by
             FROM api_keys
             WHERE (?1 IS NULL OR organisation = ?1)
               AND (?2 IS NULL OR (created_at, prefix) < (SELECT created_at, prefix FROM api_keys
                                                          WHERE prefix = ?2 AND (?1 IS NULL OR organisation = ?1)))
             ORDER BY created_at DESC, prefix DESC LIMIT ?3",
        )
        .bind(principal.reach().bound())
        .bind(after)
        .bind(limit.saturating_add(1))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list keys"))?;
        let keys = rows.into_iter().map(ApiKey::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(keys, limit))
    }

    /// The key with a prefix, whoever asks.
    pub async fn key(&self, prefix: &str) -> Result<Option<ApiKey>, CatalogError> {
        self.key_row(prefix).await?.map(ApiKey::try_from).transpose()
    }

    /// Revokes a key for good. To revoke it again changes nothing.
    ///
    /// # Errors
    /// [`CatalogError::KeyMissing`] if no key has that prefix.
    pub async fn revoke_key(&self, prefix: &str) -> Result<ApiKey, CatalogError> {
        sqlx::query("UPDATE api_keys SET revoked_at = coalesce(revoked_at, ?) WHERE prefix = ?")
            .bind(now().timestamp_micros())
            .bind(prefix)
            .execute(&self.pool)
            .await
            .map_err(sql("revoke a key"))?;
        self.key(prefix).await?.ok_or_else(|| CatalogError::KeyMissing(prefix.to_owned()))
    }
}

/// Writes a key whose organisation is settled.
pub(super) async fn insert_key(
    tx: &mut Transaction<'_, Sqlite>,
    terms: KeyTerms,
    rotated_from: Option<&str>,
) -> Result<NewKey, CatalogError> {
    let failed = || sql("create a key");
    let count: u32 = sqlx::query_scalar("SELECT count(*) FROM api_keys").fetch_one(&mut **tx).await.map_err(failed())?;
    if count >= MAX_RECORDS {
        return Err(CatalogError::TooMany { what: "keys", limit: MAX_RECORDS });
    }
    let (prefix, secret) = random_key()?;
    let KeyTerms { name, role, organisation, expires_at } = terms;
    let name: String = name.chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect();
    let created_at = now();
    sqlx::query(
        "INSERT INTO api_keys (prefix, name, role, organisation, key_sha256, created_at, expires_at, rotated_from)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&prefix)
    .bind(&name)
    .bind(role.as_str())
    .bind(organisation.as_ref().map(OrganisationSlug::as_str))
    .bind(Sha256::digest(&secret).as_slice())
    .bind(created_at.timestamp_micros())
    .bind(expires_at.map(|at| at.timestamp_micros()))
    .bind(rotated_from)
    .execute(&mut **tx)
    .await
    .map_err(failed())?;
    let key = ApiKey {
        prefix,
        name,
        role,
        organisation,
        created_at,
        // As it is kept.
        expires_at: expires_at.map(|at| from_micros(at.timestamp_micros())),
        last_used_at: None,
        revoked_at: None,
        rotated_from: rotated_from.map(str::to_owned),
        replaced_by: None,
    };
    Ok(NewKey { key, secret })
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
    use chrono::TimeDelta;

    use super::*;

    async fn catalog() -> (tempfile::TempDir, Catalog) {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).await.unwrap();
        (folder, catalog)
    }

    #[tokio::test]
    async fn a_key_proves_its_holder_and_a_changed_one_proves_nobody() {
        let (_folder, catalog) = catalog().await;
        let NewKey { key, secret } = catalog.create_key(KeyTerms::of_admin("ops")).await.unwrap();
        assert_eq!(secret.len(), "wl_".len() + 8 + 1 + 64);
        assert_eq!(catalog.verify_key(&secret).await.unwrap(), Proof::Holds(Principal::admin(&key.prefix)));

        let other = if secret.ends_with('0') { "1" } else { "0" };
        let changed = format!("{}{other}", &secret[..secret.len() - 1]);
        for wrong in [changed.as_str(), "", "wl_", &secret[..20], "wl_aaaaaaaa_", &format!("{secret}0")] {
            assert_eq!(catalog.verify_key(wrong).await.unwrap(), Proof::Nothing, "{wrong}");
        }
    }

    #[tokio::test]
    async fn a_key_revoked_by_another_process_fails_at_once() {
        let (folder, catalog) = catalog().await;
        let NewKey { key, secret } = catalog.create_key(KeyTerms::of_admin("ops")).await.unwrap();
        assert!(catalog.verify_key(&secret).await.unwrap().principal().is_some());
        let other = Catalog::open(folder.path()).await.unwrap();
        other.revoke_key(&key.prefix).await.unwrap();
        let proved = |how| Proof::Ended { prefix: key.prefix.clone(), organisation: None, how };
        assert_eq!(catalog.verify_key(&secret).await.unwrap(), proved("revoked"));
        assert_eq!(
            catalog.verify_key(&secret.replace(['0', '1'], "2")).await.unwrap(),
            Proof::Nothing,
            "who only knows the prefix"
        );
        assert!(!catalog.key_holds(&key.prefix).await.unwrap());
        let error = catalog.revoke_key("aaaaaaaa").await.unwrap_err();
        assert!(matches!(error, CatalogError::KeyMissing(_)));
    }

    #[tokio::test]
    async fn a_key_ends_at_its_expiry() {
        let (_folder, catalog) = catalog().await;
        let made = async |expires_at| {
            let terms = KeyTerms { role: Role::Viewer, expires_at: Some(expires_at), ..KeyTerms::of_admin("v") };
            catalog.create_key(terms).await.unwrap()
        };
        let later = made(now() + TimeDelta::hours(1)).await;
        let viewer = catalog.verify_key(&later.secret).await.unwrap().principal().unwrap();
        assert_eq!((viewer.role, viewer.organisation), (Role::Viewer, Some(OrganisationSlug::main())));
        let ended = made(now() - TimeDelta::microseconds(1)).await;
        assert!(matches!(catalog.verify_key(&ended.secret).await.unwrap(), Proof::Ended { how: "expired", .. }));
        assert!(!catalog.key_holds(&ended.key.prefix).await.unwrap());
        let admin = KeyTerms { organisation: Some(OrganisationSlug::main()), ..KeyTerms::of_admin("a") };
        assert!(matches!(catalog.create_key(admin).await, Err(CatalogError::AdminOfOrganisation)));
    }

    #[tokio::test]
    async fn pages_of_keys_are_the_newest_first_and_hold_those_within_reach() {
        let (_folder, catalog) = catalog().await;
        catalog.create_organisation("hill".parse().unwrap(), "Hill".to_owned()).await.unwrap();
        let mut made = Vec::new();
        for organisation in ["main", "hill", "hill", "hill"] {
            let organisation = Some(organisation.parse().unwrap());
            let terms = KeyTerms { role: Role::Manager, organisation, ..KeyTerms::of_admin("m") };
            made.push(catalog.create_key(terms).await.unwrap());
        }
        let manager = catalog.verify_key(&made[1].secret).await.unwrap().principal().unwrap();
        let prefixes = |page: &Page<ApiKey>| page.items.iter().map(|key| key.prefix.clone()).collect::<Vec<_>>();
        let first = catalog.keys_page(&manager, None, 2).await.unwrap();
        let rest = catalog.keys_page(&manager, first.items.last().map(|key| key.prefix.as_str()), 2).await.unwrap();
        let mut own: Vec<_> = made[1..].iter().map(|new| (new.key.created_at, new.key.prefix.clone())).collect();
        own.sort_by(|a, b| b.cmp(a));
        let own: Vec<_> = own.into_iter().map(|(_, prefix)| prefix).collect();
        assert_eq!([prefixes(&first), prefixes(&rest)].concat(), own);
        assert_eq!((first.more, rest.more), (true, false));
        for unseen in [made[0].key.prefix.as_str(), "aaaaaaaa"] {
            assert!(catalog.keys_page(&manager, Some(unseen), 9).await.unwrap().items.is_empty(), "{unseen}");
        }
        assert_eq!(catalog.keys().await.unwrap().len(), 4);
    }

    #[tokio::test]
    async fn the_use_of_a_key_is_noted_beside_the_request() {
        let (_folder, catalog) = catalog().await;
        let NewKey { secret, .. } = catalog.create_key(KeyTerms::of_admin("ops")).await.unwrap();
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
        let NewKey { key, secret } = catalog.create_key(KeyTerms::of_admin("ops")).await.unwrap();
        catalog.close().await;
        let bytes = std::fs::read(folder.path().join("catalog.sqlite")).unwrap();
        assert!(memchr::memmem::find(&bytes, key.prefix.as_bytes()).is_some());
        assert!(memchr::memmem::find(&bytes, &secret.as_bytes()[12..]).is_none());
    }
}
