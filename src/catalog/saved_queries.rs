//! Saved queries: SQL that an organisation keeps under a name, with declared parameters, version by version.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{Sqlite, Transaction};
use utoipa::ToSchema;

use super::{Catalog, CatalogError, Page, from_micros, now, organisations::owner_of_new, read, sql};
use crate::ids::{OrganisationSlug, QueryName};

/// Versions of one saved query at most.
const MAX_VERSIONS: u32 = 1_000;

/// A placeholder of a saved query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SavedParameter {
    /// As the SQL has it after its `$`, and as requests name it.
    #[schema(pattern = "^[a-z][a-z0-9_]{0,62}$", example = "site")]
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ParameterKind,
    #[serde(default)]
    pub description: String,
    /// What it is where a request does not say; without one, every request must.
    #[serde(default)]
    #[schema(required)]
    pub default: Option<String>,
}

/// The type of a placeholder's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParameterKind {
    Text,
    Integer,
    /// Exact, with at most 38 digits.
    Decimal,
    Float,
    Boolean,
    /// `2026-05-01`
    Date,
    /// An instant with its offset: `2026-05-01T06:00:00Z`
    Timestamp,
}

impl ParameterKind {
    /// Some value of the type, for a query that is to be planned and not to be run.
    #[must_use]
    pub fn sample(self) -> &'static str {
        match self {
            Self::Text => "",
            Self::Integer | Self::Decimal | Self::Float => "1",
            Self::Boolean => "true",
            Self::Date => "2024-01-01",
            Self::Timestamp => "2024-01-01T00:00:00Z",
        }
    }

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Decimal => "decimal",
            Self::Float => "float",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
        }
    }
}

/// What a saved query is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavedText {
    pub description: String,
    pub sql: String,
    pub parameters: Vec<SavedParameter>,
    /// Of its answer.
    pub columns: Value,
}

/// One version of a saved query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SavedQuery {
    pub organisation: OrganisationSlug,
    pub name: QueryName,
    /// From 1.
    pub version: u32,
    pub description: String,
    pub sql: String,
    pub parameters: Vec<SavedParameter>,
    /// Those of its answer, as they were when it was saved: `name`, `type` and `nullable` of each.
    #[schema(value_type = Vec<Value>)]
    pub columns: Value,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: DateTime<Utc>,
    /// The start of the key that saved it.
    pub created_by: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    organisation: String,
    name: String,
    version: u32,
    description: String,
    sql: String,
    parameters: String,
    columns: String,
    created_at: i64,
    created_by: String,
}

impl TryFrom<Row> for SavedQuery {
    type Error = CatalogError;

    fn try_from(row: Row) -> Result<Self, CatalogError> {
        let unreadable = |what, value: String| CatalogError::Unreadable { what, value };
        Ok(Self {
            organisation: read("saved query's organisation", &row.organisation)?,
            name: read("saved query's name", &row.name)?,
            version: row.version,
            description: row.description,
            sql: row.sql,
            parameters: serde_json::from_str(&row.parameters)
                .map_err(|_| unreadable("saved query's parameters", row.parameters))?,
            columns: serde_json::from_str(&row.columns)
                .map_err(|_| unreadable("saved query's columns", row.columns))?,
            created_at: from_micros(row.created_at),
            created_by: row.created_by,
        })
    }
}

impl Catalog {
    /// Saves a query: under a new name, or as the next version of what has that name. Where it is what the newest version is
    /// already, that stays the newest. Says whether the name is new.
    ///
    /// # Errors
    /// [`CatalogError::OrganisationMissing`], [`CatalogError::TooMany`] at `most` names, or at 1,000 versions.
    pub async fn save_query(
        &self,
        organisation: &OrganisationSlug,
        name: &QueryName,
        text: SavedText,
        created_by: &str,
        most: u32,
    ) -> Result<(SavedQuery, bool), CatalogError> {
        let failed = || sql("save a query");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let organisation = owner_of_new(&mut tx, Some(organisation.clone())).await?;
        let newest = newest(&mut tx, &organisation, name).await?;
        if let Some(same) = newest.as_ref().filter(|newest| newest.says(&text)) {
            return Ok((same.clone(), false));
        }
        let is_new = newest.is_none();
        if is_new {
            let names: u32 = sqlx::query_scalar(
                "SELECT count(DISTINCT name) FROM saved_queries WHERE organisation = ? AND deleted_at IS NULL",
            )
            .bind(organisation.as_str())
            .fetch_one(&mut *tx)
            .await
            .map_err(failed())?;
            if names >= most {
                return Err(CatalogError::TooMany { what: "saved queries of the organisation", limit: most });
            }
        }
        let last: Option<u32> =
            sqlx::query_scalar("SELECT max(version) FROM saved_queries WHERE organisation = ? AND name = ?")
                .bind(organisation.as_str())
                .bind(name.as_str())
                .fetch_one(&mut *tx)
                .await
                .map_err(failed())?;
        let version = last.unwrap_or(0) + 1;
        if version > MAX_VERSIONS {
            return Err(CatalogError::TooMany { what: "versions of the saved query", limit: MAX_VERSIONS });
        }
        let SavedText { description, sql: text, parameters, columns } = text;
        let saved = SavedQuery {
            organisation,
            name: name.clone(),
            version,
            description,
            sql: text,
            parameters,
            columns,
            created_at: now(),
            created_by: created_by.to_owned(),
        };
        insert(&mut tx, &saved).await.map_err(failed())?;
        tx.commit().await.map_err(failed())?;
        Ok((saved, is_new))
    }

    /// A version of what an organisation saved under a name; the newest where none is named.
    pub async fn saved_query(
        &self,
        organisation: &OrganisationSlug,
        name: &QueryName,
        version: Option<u32>,
    ) -> Result<Option<SavedQuery>, CatalogError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT * FROM saved_queries
             WHERE organisation = ?1 AND name = ?2 AND (?3 IS NULL OR version = ?3) AND deleted_at IS NULL
             ORDER BY version DESC LIMIT 1",
        )
        .bind(organisation.as_str())
        .bind(name.as_str())
        .bind(version)
        .fetch_optional(&self.pool)
        .await
        .map_err(sql("read a saved query"))?;
        row.map(SavedQuery::try_from).transpose()
    }

    /// The newest versions of an organisation's saved queries, at most `limit` by name, those after `after`.
    pub async fn saved_queries(
        &self,
        organisation: &OrganisationSlug,
        after: Option<&QueryName>,
        limit: u32,
    ) -> Result<Page<SavedQuery>, CatalogError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT * FROM saved_queries AS saved
             WHERE organisation = ?1 AND name > ?2 AND deleted_at IS NULL
               AND version = (SELECT max(version) FROM saved_queries AS other
                              WHERE other.organisation = saved.organisation AND other.name = saved.name)
             ORDER BY name LIMIT ?3",
        )
        .bind(organisation.as_str())
        .bind(after.map_or("", QueryName::as_str))
        .bind(limit.saturating_add(1))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list saved queries"))?;
        let saved = rows.into_iter().map(SavedQuery::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(saved, limit))
    }

    /// At most `limit` versions of one, the newest first, those before `before`.
    pub async fn saved_versions(
        &self,
        organisation: &OrganisationSlug,
        name: &QueryName,
        before: Option<u32>,
        limit: u32,
    ) -> Result<Page<SavedQuery>, CatalogError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT * FROM saved_queries
             WHERE organisation = ?1 AND name = ?2 AND (?3 IS NULL OR version < ?3) AND deleted_at IS NULL
             ORDER BY version DESC LIMIT ?4",
        )
        .bind(organisation.as_str())
        .bind(name.as_str())
        .bind(before)
        .bind(limit.saturating_add(1))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list the versions of a saved query"))?;
        let saved = rows.into_iter().map(SavedQuery::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(saved, limit))
    }

    /// Takes a saved query away, all versions of it. Says whether there was one.
    pub async fn delete_saved_query(
        &self,
        organisation: &OrganisationSlug,
        name: &QueryName,
    ) -> Result<bool, CatalogError> {
        let deleted = sqlx::query(
            "UPDATE saved_queries SET deleted_at = ? WHERE organisation = ? AND name = ? AND deleted_at IS NULL",
        )
        .bind(now().timestamp_micros())
        .bind(organisation.as_str())
        .bind(name.as_str())
        .execute(&self.pool)
        .await
        .map_err(sql("delete a saved query"))?;
        Ok(deleted.rows_affected() > 0)
    }
}

impl SavedQuery {
    fn says(&self, text: &SavedText) -> bool {
        (&self.description, &self.sql, &self.parameters) == (&text.description, &text.sql, &text.parameters)
    }
}

async fn newest(
    tx: &mut Transaction<'_, Sqlite>,
    organisation: &OrganisationSlug,
    name: &QueryName,
) -> Result<Option<SavedQuery>, CatalogError> {
    let row: Option<Row> = sqlx::query_as(
        "SELECT * FROM saved_queries WHERE organisation = ? AND name = ? AND deleted_at IS NULL
         ORDER BY version DESC LIMIT 1",
    )
    .bind(organisation.as_str())
    .bind(name.as_str())
    .fetch_optional(&mut **tx)
    .await
    .map_err(sql("read a saved query"))?;
    row.map(SavedQuery::try_from).transpose()
}

async fn insert(tx: &mut Transaction<'_, Sqlite>, saved: &SavedQuery) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO saved_queries
             (organisation, name, version, description, sql, parameters, columns, created_at, created_by)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(saved.organisation.as_str())
    .bind(saved.name.as_str())
    .bind(saved.version)
    .bind(&saved.description)
    .bind(&saved.sql)
    .bind(serde_json::to_string(&saved.parameters).unwrap_or_default())
    .bind(saved.columns.to_string())
    .bind(saved.created_at.timestamp_micros())
    .bind(&saved.created_by)
    .execute(&mut **tx)
    .await
    .map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::tests::with_projects;

    fn text(sql: &str) -> SavedText {
        SavedText { description: "d".to_owned(), sql: sql.to_owned(), parameters: Vec::new(), columns: json!([]) }
    }

    #[tokio::test]
    async fn a_version_is_never_another_one_also_after_a_deletion() {
        let (_folder, catalog) = with_projects(&[]).await;
        let (main, name): (OrganisationSlug, QueryName) = (OrganisationSlug::main(), "mix".parse().unwrap());
        let save = async |sql: &str| {
            let (saved, is_new) = catalog.save_query(&main, &name, text(sql), "k", 2).await.unwrap();
            (saved.version, is_new)
        };
        assert_eq!([save("SELECT 1").await, save("SELECT 1").await], [(1, true), (1, false)]);
        assert_eq!(save("SELECT 2").await, (2, false));
        let sql = async |version| catalog.saved_query(&main, &name, version).await.unwrap().map(|saved| saved.sql);
        assert_eq!([sql(None).await, sql(Some(1)).await], [Some("SELECT 2".into()), Some("SELECT 1".into())]);
        assert!(catalog.delete_saved_query(&main, &name).await.unwrap());
        assert!(!catalog.delete_saved_query(&main, &name).await.unwrap());
        assert_eq!([sql(None).await, sql(Some(1)).await], [None, None]);
        assert_eq!(save("SELECT 3").await, (3, true));
        let versions = catalog.saved_versions(&main, &name, None, 9).await.unwrap().items;
        assert_eq!(versions.iter().map(|saved| saved.version).collect::<Vec<_>>(), [3]);
    }

    #[tokio::test]
    async fn an_organisation_has_its_own_and_no_more_than_it_may() {
        let (_folder, catalog) = with_projects(&[]).await;
        catalog.create_organisation("fund".parse().unwrap(), "Fund".to_owned()).await.unwrap();
        let (main, fund): (OrganisationSlug, OrganisationSlug) = (OrganisationSlug::main(), "fund".parse().unwrap());
        let name = |text: &str| text.parse::<QueryName>().unwrap();
        for (organisation, saved) in [(&main, "b"), (&main, "a"), (&fund, "c")] {
            catalog.save_query(organisation, &name(saved), text(saved), "k", 2).await.unwrap();
        }
        let full = catalog.save_query(&main, &name("c"), text("c"), "k", 2).await.unwrap_err();
        assert!(matches!(full, CatalogError::TooMany { limit: 2, .. }), "{full:?}");
        let page = catalog.saved_queries(&main, None, 1).await.unwrap();
        assert_eq!((page.items[0].name.as_str(), page.more), ("a", true));
        let page = catalog.saved_queries(&main, Some(&name("a")), 5).await.unwrap();
        assert_eq!((page.items[0].name.as_str(), page.items.len(), page.more), ("b", 1, false));
        assert_eq!(catalog.saved_query(&main, &name("c"), None).await.unwrap(), None);
    }
}
