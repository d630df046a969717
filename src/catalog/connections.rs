//! Connections in the catalogue: their SQL. Columns are the fields of the one definition, in its order.

use std::{collections::HashMap, sync::LazyLock};

use chrono::{DateTime, NaiveDate, Utc};
use serde_json::Value;
use sqlx::{QueryBuilder, Row as _, Sqlite, Transaction, sqlite::SqliteRow};

use super::{Catalog, CatalogError, Page, from_micros, now, pass, read, sql, uploads::MAX_PAGE};
use crate::{
    connections::{Connection, FIELDS, Field},
    ids::{ProjectSlug, UploadId},
};

/// Rows of one statement: each has a value for each column, and a statement has 32,766 at most.
const ROWS_PER_STATEMENT: usize = 1000;

/// Connections that are read at a time where all are.
const ROWS_PER_PAGE: u32 = 5000;

/// A connection as the catalogue has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRecord {
    pub connection: Connection,
    pub created_at: DateTime<Utc>,
    /// When it was last corrected or changed.
    pub updated_at: DateTime<Utc>,
}

/// Which connections of a project to list; `None` is any.
#[derive(Clone, Debug, Default)]
pub struct ConnectionFilter {
    pub site: Option<String>,
    pub category: Option<String>,
    pub milestone: Option<String>,
    /// Connected on or after.
    pub from: Option<NaiveDate>,
    /// Connected before.
    pub to: Option<NaiveDate>,
}

/// What payments show of the connection of their meter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    pub site: Option<String>,
    pub category: Option<String>,
}

/// What metrics need to know of a connection: its meter, and since when it is in service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// Unique in its project.
    pub external_id: String,
    pub connected_on: Option<NaiveDate>,
}

/// What the payments of a project show of its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectedMeters {
    /// How many changes of connections there were; none, and the project never had any.
    pub changes: u64,
    /// By the id of the connection, which is the meter's.
    pub meters: HashMap<String, Connected>,
}

/// What is to change of the connections of a project.
#[derive(Debug, Default)]
pub struct ConnectionsChange {
    /// New ones, and those that take the place of the one with the same id.
    pub put: Vec<Connection>,
    pub removed: Vec<String>,
    /// Whether payments show it: a site or a category changed, or a connection came or went.
    pub shown: bool,
}

static COLUMNS: LazyLock<String> = LazyLock::new(|| Field::ALL.map(Field::key).join(", "));

fn record_of(row: &SqliteRow) -> Result<ConnectionRecord, sqlx::Error> {
    let mut values: [Option<String>; FIELDS] = std::array::from_fn(|_| None);
    for field in Field::ALL {
        values[field.index()] = row.try_get(field.key())?;
    }
    Ok(ConnectionRecord {
        connection: Connection::of_checked(values),
        created_at: from_micros(row.try_get("created_at")?),
        updated_at: from_micros(row.try_get("updated_at")?),
    })
}

impl Catalog {
    /// One connection of a project.
    pub async fn connection(&self, project: &ProjectSlug, id: &str) -> Result<Option<ConnectionRecord>, CatalogError> {
        let row = sqlx::query("SELECT * FROM connections WHERE project = ? AND external_id = ?")
            .bind(project.as_str())
            .bind(id)
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read a connection"))?;
        row.as_ref().map(record_of).transpose().map_err(sql("read a connection"))
    }

    /// At most `limit` (capped at [`MAX_PAGE`]) of a project's connections that match, by id, those after `after`.
    pub async fn connections_page(
        &self,
        project: &ProjectSlug,
        filter: &ConnectionFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ConnectionRecord>, CatalogError> {
        self.page(project, filter, after, limit.min(MAX_PAGE)).await
    }

    /// The same for those who read all of them, piece by piece.
    pub async fn connections_piece(
        &self,
        project: &ProjectSlug,
        filter: &ConnectionFilter,
        after: Option<&str>,
    ) -> Result<Page<ConnectionRecord>, CatalogError> {
        self.page(project, filter, after, ROWS_PER_PAGE).await
    }

    async fn page(
        &self,
        project: &ProjectSlug,
        filter: &ConnectionFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<ConnectionRecord>, CatalogError> {
        let rows = sqlx::query(
            "SELECT * FROM connections WHERE project = ?1 AND external_id > ?2
               AND (?3 IS NULL OR site = ?3)
               AND (?4 IS NULL OR category = ?4)
               AND (?5 IS NULL OR milestone = ?5)
               AND (?6 IS NULL OR connected_on >= ?6)
               AND (?7 IS NULL OR connected_on < ?7)
             ORDER BY external_id LIMIT ?8",
        )
        .bind(project.as_str())
        .bind(after.unwrap_or_default())
        .bind(filter.site.as_deref())
        .bind(filter.category.as_deref())
        .bind(filter.milestone.as_deref())
        .bind(filter.from.map(|day| day.to_string()))
        .bind(filter.to.map(|day| day.to_string()))
        .bind(limit.saturating_add(1))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list connections"))?;
        let records = rows.iter().map(record_of).collect::<Result<Vec<_>, _>>().map_err(sql("list connections"))?;
        Ok(Page::of(records, limit))
    }

    /// What each connection of a project says, as a hash: see [`Connection::content`].
    pub async fn connection_contents(&self, project: &ProjectSlug) -> Result<HashMap<String, u64>, CatalogError> {
        let rows: Vec<(String, i64)> = sqlx::query_as("SELECT external_id, content FROM connections WHERE project = ?")
            .bind(project.as_str())
            .fetch_all(&self.pool)
            .await
            .map_err(sql("compare connections"))?;
        Ok(rows.into_iter().map(|(id, content)| (id, content.cast_unsigned())).collect())
    }

    /// The ids of a project's connections.
    pub async fn connection_ids(&self, project: &ProjectSlug) -> Result<Vec<String>, CatalogError> {
        sqlx::query_scalar("SELECT external_id FROM connections WHERE project = ?")
            .bind(project.as_str())
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read the ids of connections"))
    }

    /// What metrics need to know of a project's connections, by id, all of one moment; at most `limit` and one more, by which
    /// who asks sees that there are too many.
    pub async fn connection_facts(
        &self,
        project: &ProjectSlug,
        limit: usize,
    ) -> Result<Vec<ConnectionFacts>, CatalogError> {
        // As one text, because the driver takes many times as long to hand over rows one by one.
        let text: String = sqlx::query_scalar(
            "SELECT json_group_array(json_array(external_id, connected_on)) FROM
               (SELECT external_id, connected_on FROM connections WHERE project = ? ORDER BY external_id LIMIT ?)",
        )
        .bind(project.as_str())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1))
        .fetch_one(&self.pool)
        .await
        .map_err(sql("read since when meters are connected"))?;
        let unreadable =
            |error: serde_json::Error| CatalogError::Unreadable { what: "connections", value: error.to_string() };
        let rows: Vec<(String, Option<NaiveDate>)> = serde_json::from_str(&text).map_err(unreadable)?;
        let facts = rows.into_iter().map(|(external_id, connected_on)| ConnectionFacts { external_id, connected_on });
        let mut facts: Vec<ConnectionFacts> = facts.collect();
        // An aggregate promises no order.
        facts.sort_unstable_by(|a, b| a.external_id.cmp(&b.external_id));
        Ok(facts)
    }

    /// What the payments of a project show of its connections.
    pub async fn connected_meters(&self, project: &ProjectSlug) -> Result<ConnectedMeters, CatalogError> {
        let failed = || sql("read what meters are connected");
        let mut tx = self.pool.begin().await.map_err(failed())?;
        let changes: Option<i64> = sqlx::query_scalar("SELECT made FROM connection_changes WHERE project = ?")
            .bind(project.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed())?;
        let Some(changes) = changes else { return Ok(ConnectedMeters::default()) };
        let rows: Vec<(String, Option<String>, Option<String>)> =
            sqlx::query_as("SELECT external_id, site, category FROM connections WHERE project = ?")
                .bind(project.as_str())
                .fetch_all(&mut *tx)
                .await
                .map_err(failed())?;
        let meters = rows.into_iter().map(|(id, site, category)| (id, Connected { site, category })).collect();
        Ok(ConnectedMeters { changes: changes.cast_unsigned(), meters })
    }

    /// Changes connections of a project, all of them or none, and gives the number of the change, where payments show it.
    ///
    /// # Errors
    /// [`CatalogError::TooMany`] where there would be more than `connections.per_project`.
    pub async fn change_connections(
        &self,
        project: &ProjectSlug,
        change: &ConnectionsChange,
    ) -> Result<Option<u64>, CatalogError> {
        pass("catalog::change_connections", "change connections")?;
        let failed = || sql("change connections");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        for id in &change.removed {
            sqlx::query("DELETE FROM connections WHERE project = ? AND external_id = ?")
                .bind(project.as_str())
                .bind(id)
                .execute(&mut *tx)
                .await
                .map_err(failed())?;
        }
        let at = now().timestamp_micros();
        for rows in change.put.chunks(ROWS_PER_STATEMENT) {
            put(&mut tx, project, rows, at).await?;
        }
        let count: u32 = sqlx::query_scalar("SELECT count(*) FROM connections WHERE project = ?")
            .bind(project.as_str())
            .fetch_one(&mut *tx)
            .await
            .map_err(failed())?;
        let limit = self.limits.connections_of_project;
        if count > limit && !change.put.is_empty() {
            return Err(CatalogError::TooMany { what: "connections of a project (connections.per_project)", limit });
        }
        let made: Option<i64> = if change.shown {
            sqlx::query_scalar(
                "INSERT INTO connection_changes VALUES (?, 1, 0)
                 ON CONFLICT (project) DO UPDATE SET made = made + 1 RETURNING made",
            )
            .bind(project.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed())?
        } else {
            None
        };
        tx.commit().await.map_err(failed())?;
        Ok(made.map(i64::cast_unsigned))
    }

    /// Notes that the payments in the lake show all changes up to this one.
    pub async fn set_connections_shown(&self, project: &ProjectSlug, change: u64) -> Result<(), CatalogError> {
        pass("catalog::set_connections_shown", "note what payments show of connections")?;
        sqlx::query("UPDATE connection_changes SET shown = max(shown, ?) WHERE project = ?")
            .bind(change.cast_signed())
            .bind(project.as_str())
            .execute(&self.pool)
            .await
            .map(drop)
            .map_err(sql("note what payments show of connections"))
    }

    /// Projects whose payments do not show all changes of their connections: a failure came between.
    pub async fn projects_behind_connections(&self) -> Result<Vec<ProjectSlug>, CatalogError> {
        let slugs: Vec<String> =
            sqlx::query_scalar("SELECT project FROM connection_changes WHERE shown < made ORDER BY project")
                .fetch_all(&self.pool)
                .await
                .map_err(sql("compare connections and payments"))?;
        slugs.iter().map(|slug| read("project's slug", slug)).collect()
    }

    /// Notes the site of an upload's rows that name none, of each project.
    pub async fn record_upload_sites(
        &self,
        upload: &UploadId,
        sites: &[(ProjectSlug, String)],
    ) -> Result<(), CatalogError> {
        let failed = || sql("note the site of an upload");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        for (project, site) in sites {
            sqlx::query("INSERT OR REPLACE INTO upload_sites VALUES (?, ?, ?)")
                .bind(project.as_str())
                .bind(upload.as_str())
                .bind(site)
                .execute(&mut *tx)
                .await
                .map_err(failed())?;
        }
        tx.commit().await.map_err(failed())
    }

    /// The site of rows that name none, by upload to the project.
    pub async fn upload_sites(&self, project: &ProjectSlug) -> Result<HashMap<String, String>, CatalogError> {
        let rows: Vec<(String, String)> = sqlx::query_as("SELECT upload_id, site FROM upload_sites WHERE project = ?")
            .bind(project.as_str())
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read the sites of uploads"))?;
        Ok(rows.into_iter().collect())
    }

    /// Uploads whose rows count or may count again, and of which no such site is noted.
    pub async fn uploads_without_site(&self) -> Result<Vec<(UploadId, ProjectSlug)>, CatalogError> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT id, project FROM uploads JOIN upload_projects ON upload_id = id
             WHERE status NOT IN ('receiving', 'rejected', 'failed', 'purged')
               AND NOT EXISTS (SELECT 1 FROM upload_sites AS noted
                               WHERE noted.upload_id = id AND noted.project = upload_projects.project)",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(sql("look for uploads without a site"))?;
        rows.into_iter()
            .map(|(id, project)| Ok((read("upload's id", &id)?, read("upload's project", &project)?)))
            .collect()
    }
}

/// Writes connections; one that is there keeps when it was made.
async fn put(
    tx: &mut Transaction<'_, Sqlite>,
    project: &ProjectSlug,
    rows: &[Connection],
    at: i64,
) -> Result<(), CatalogError> {
    let mut statement = QueryBuilder::<Sqlite>::new(format!(
        "INSERT INTO connections (project, {}, content, created_at, updated_at) ",
        *COLUMNS
    ));
    statement.push_values(rows, |mut row, connection| {
        row.push_bind(project.as_str());
        for value in connection.values() {
            row.push_bind(value.as_deref());
        }
        row.push_bind(connection.content().cast_signed()).push_bind(at).push_bind(at);
    });
    let others = Field::ALL.into_iter().map(Field::key).chain(["content", "updated_at"]);
    let others: Vec<String> = others
        .filter(|name| *name != Field::ExternalId.key())
        .map(|name| format!("{name} = excluded.{name}"))
        .collect();
    statement.push(format!(" ON CONFLICT (project, external_id) DO UPDATE SET {}", others.join(", ")));
    statement.build().execute(&mut **tx).await.map(drop).map_err(sql("write connections"))
}

/// What a filter says, for the audit log.
impl ConnectionFilter {
    #[must_use]
    pub fn to_json(&self) -> Value {
        serde_json::json!({
            "site": self.site, "category": self.category, "milestone": self.milestone,
            "from": self.from.map(|day| day.to_string()), "to": self.to.map(|day| day.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::{CatalogLimits, tests::with_projects},
        connections::decode_items,
    };

    fn connections(items: &Value) -> Vec<Connection> {
        let items = items.as_array().unwrap().iter().map(|item| item.as_object().unwrap().clone()).collect();
        let decoded = decode_items(items, 1000, NaiveDate::from_ymd_opt(2024, 6, 1).unwrap());
        assert_eq!(decoded.errors, []);
        decoded.connections
    }

    async fn ids(catalog: &Catalog, filter: &ConnectionFilter) -> Vec<String> {
        let page = catalog.connections_page(&"a".parse().unwrap(), filter, None, 100).await.unwrap();
        page.items.iter().map(|record| record.connection.external_id().to_owned()).collect()
    }

    #[tokio::test]
    async fn what_metrics_need_of_connections_is_read_whatever_their_ids_and_up_to_a_limit() {
        let (_folder, catalog) = with_projects(&["a", "b"]).await;
        let items = serde_json::json!([
            {"external_id": "\"7\", é\\", "connected_on": "2024-02-29"}, {"external_id": "07"}, {"external_id": "7"},
        ]);
        let put = connections(&items);
        let change = ConnectionsChange { put, ..ConnectionsChange::default() };
        catalog.change_connections(&"a".parse().unwrap(), &change).await.unwrap();
        let read = async |project: &str, limit: usize| -> Vec<(String, Option<String>)> {
            let facts = catalog.connection_facts(&project.parse().unwrap(), limit).await.unwrap();
            facts.into_iter().map(|one| (one.external_id, one.connected_on.map(|day| day.to_string()))).collect()
        };
        let [quoted, zero, plain] =
            [("\"7\", é\\".to_owned(), Some("2024-02-29".to_owned())), ("07".to_owned(), None), ("7".to_owned(), None)];
        assert_eq!(read("a", 10).await, [quoted.clone(), zero.clone(), plain]);
        assert_eq!(read("a", 1).await, [quoted, zero], "one more than the limit says that there are more");
        assert_eq!(read("b", 10).await, []);
    }

    #[tokio::test]
    async fn connections_come_back_as_they_were_and_a_correction_keeps_when_it_was_made() {
        let (_folder, catalog) = with_projects(&["a", "b"]).await;
        let (a, b) = ("a".parse().unwrap(), "b".parse().unwrap());
        let put = connections(&serde_json::json!([
            {"external_id": "1", "site": "Hill", "category": "Public", "latitude": -1.5, "longitude": 30},
            {"external_id": "2", "site": "Lake", "connected_on": "2024-05-01"},
        ]));
        let change = ConnectionsChange { put: put.clone(), removed: Vec::new(), shown: true };
        assert_eq!(catalog.change_connections(&a, &change).await.unwrap(), Some(1));
        let first = catalog.connection(&a, "1").await.unwrap().unwrap();
        assert_eq!(first.connection, put[0]);
        assert_eq!(catalog.connection(&b, "1").await.unwrap(), None);
        let filter = |site: &str| ConnectionFilter { site: Some(site.to_owned()), ..ConnectionFilter::default() };
        assert_eq!(
            (ids(&catalog, &filter("Lake")).await, ids(&catalog, &filter("x")).await),
            (vec!["2".to_owned()], vec![])
        );
        let from = ConnectionFilter { from: NaiveDate::from_ymd_opt(2024, 5, 1), ..ConnectionFilter::default() };
        assert_eq!(ids(&catalog, &from).await, ["2"]);

        let put = connections(&serde_json::json!([{"external_id": "1", "site": "Hill"}]));
        let change = ConnectionsChange { put, removed: vec!["2".to_owned()], shown: true };
        assert_eq!(catalog.change_connections(&a, &change).await.unwrap(), Some(2));
        let again = catalog.connection(&a, "1").await.unwrap().unwrap();
        assert_eq!((again.created_at, again.connection.get(Field::Category)), (first.created_at, None));
        assert!(again.updated_at > first.updated_at);
        assert_eq!(ids(&catalog, &ConnectionFilter::default()).await, ["1"]);
        let shown = catalog.connected_meters(&a).await.unwrap();
        let hill = Connected { site: Some("Hill".to_owned()), category: None };
        assert_eq!((shown.changes, shown.meters), (2, HashMap::from([("1".to_owned(), hill)])));
        assert_eq!(catalog.connected_meters(&b).await.unwrap(), ConnectedMeters::default());
    }

    #[tokio::test]
    async fn a_project_has_so_many_connections_and_what_is_not_shown_is_known() {
        let (_folder, catalog) = with_projects(&["a"]).await;
        let catalog = catalog.within(CatalogLimits { connections_of_project: 2, ..CatalogLimits::default() });
        let a = "a".parse().unwrap();
        let of = |ids: &[&str]| {
            let items: Vec<_> = ids.iter().map(|id| serde_json::json!({ "external_id": id })).collect();
            ConnectionsChange { put: connections(&items.into()), removed: Vec::new(), shown: true }
        };
        catalog.change_connections(&a, &of(&["1", "2"])).await.unwrap();
        let error = catalog.change_connections(&a, &of(&["2", "3"])).await.unwrap_err();
        assert!(error.to_string().contains("connections.per_project"), "{error}");
        assert_eq!(ids(&catalog, &ConnectionFilter::default()).await, ["1", "2"], "all or none");
        assert_eq!(catalog.projects_behind_connections().await.unwrap(), std::slice::from_ref(&a));
        catalog.set_connections_shown(&a, 1).await.unwrap();
        assert_eq!(catalog.projects_behind_connections().await.unwrap(), []);
    }
}
