//! The terms of programmes, version by version: none is ever edited.

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Sqlite, Transaction};
use utoipa::ToSchema;

use super::{Catalog, CatalogError, Page, from_micros, read, sql};
use crate::{ids::ProgrammeSlug, programmes::Rule};

/// Versions of one programme at most.
const MAX_VERSIONS: u32 = 1_000;

/// One version of the terms of a programme.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProgrammeVersion {
    pub programme: ProgrammeSlug,
    /// From 1.
    pub version: u32,
    pub required_columns: Vec<String>,
    pub rule: Rule,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: DateTime<Utc>,
    /// The start of the key that made it. Null to the invited, and where the server's command line made it.
    #[schema(required)]
    pub created_by: Option<String>,
}

#[derive(sqlx::FromRow)]
struct VersionRow {
    programme: String,
    version: u32,
    required_columns: String,
    rule: String,
    created_at: i64,
    created_by: Option<String>,
}

impl TryFrom<VersionRow> for ProgrammeVersion {
    type Error = CatalogError;

    fn try_from(row: VersionRow) -> Result<Self, CatalogError> {
        Ok(Self {
            programme: read("programme's slug", &row.programme)?,
            version: row.version,
            required_columns: json("programme's columns", &row.required_columns)?,
            rule: json("programme's rule", &row.rule)?,
            created_at: from_micros(row.created_at),
            created_by: row.created_by,
        })
    }
}

/// Reads back what was written as JSON.
pub(super) fn json<T: DeserializeOwned>(what: &'static str, text: &str) -> Result<T, CatalogError> {
    serde_json::from_str(text).map_err(|_| CatalogError::Unreadable { what, value: text.to_owned() })
}

impl Catalog {
    /// One version of the terms of a programme, whoever asks.
    pub async fn programme_version(
        &self,
        slug: &ProgrammeSlug,
        version: u32,
    ) -> Result<Option<ProgrammeVersion>, CatalogError> {
        let row: Option<VersionRow> =
            sqlx::query_as("SELECT * FROM programme_versions WHERE programme = ? AND version = ?")
                .bind(slug.as_str())
                .bind(version)
                .fetch_optional(&self.pool)
                .await
                .map_err(sql("read the terms of a programme"))?;
        row.map(ProgrammeVersion::try_from).transpose()
    }

    /// At most `limit` versions of the terms of a programme, the newest first, those before `before`.
    pub async fn programme_versions(
        &self,
        slug: &ProgrammeSlug,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Page<ProgrammeVersion>, CatalogError> {
        let rows: Vec<VersionRow> = sqlx::query_as(
            "SELECT * FROM programme_versions WHERE programme = ?1 AND (?2 IS NULL OR version < ?2)
             ORDER BY version DESC LIMIT ?3",
        )
        .bind(slug.as_str())
        .bind(before)
        .bind(limit.saturating_add(1))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list the terms of a programme"))?;
        let versions = rows.into_iter().map(ProgrammeVersion::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(versions, limit))
    }
}

/// A version that is to be.
pub(super) struct Terms<'a> {
    pub(super) version: u32,
    pub(super) required_columns: &'a Vec<String>,
    pub(super) rule: &'a Rule,
}

impl Terms<'_> {
    pub(super) async fn insert(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        slug: &ProgrammeSlug,
        at: i64,
        by: Option<&str>,
    ) -> Result<(), CatalogError> {
        if self.version > MAX_VERSIONS {
            return Err(CatalogError::TooMany { what: "versions of the programme", limit: MAX_VERSIONS });
        }
        sqlx::query("INSERT INTO programme_versions VALUES (?, ?, ?, ?, ?, ?)")
            .bind(slug.as_str())
            .bind(self.version)
            .bind(serde_json::to_string(self.required_columns).unwrap_or_default())
            .bind(serde_json::to_string(self.rule).unwrap_or_default())
            .bind(at)
            .bind(by)
            .execute(&mut **tx)
            .await
            .map(drop)
            .map_err(sql("keep the terms of a programme"))
    }
}
