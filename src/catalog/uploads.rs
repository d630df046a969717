//! Uploads in the catalogue: their SQL.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{Sqlite, Transaction};

use super::{
    Catalog, CatalogError, Page, RequestKey, UploadFacts, UploadFilter, UploadRecord, UploadStatus, from_micros,
    idempotency::{free_keys, insert_key},
    pass,
    projects::json_array,
    read, sql,
};
use crate::{
    access::Scope,
    ids::{ChangeId, ProjectSlug, UploadId},
};

/// The most uploads on one page of a list.
pub const MAX_PAGE: u32 = 200;
/// The most uploads that a query's facts may come from.
pub(super) const MAX_FACTS: u32 = 100_000;
/// More than a server can have under way at once.
pub(super) const MAX_UNFINISHED: u32 = 10_000;

/// `projects` comes as a JSON array in the order of the slugs, because a row holds one value a column.
pub(super) const SELECT_ONE: &str = "SELECT *, (SELECT json_group_array(project ORDER BY project) FROM upload_projects
    WHERE upload_id = id) AS projects FROM uploads WHERE id = ?";

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    id: String,
    projects: String,
    dataset_name: String,
    dataset_type: String,
    data_provider: String,
    file_name: String,
    on_error: String,
    status: String,
    sha256: String,
    bytes: i64,
    received_at: i64,
    committed_at: Option<i64>,
    lake_version: Option<i64>,
    report: String,
    key_prefix: String,
    deleted_at: Option<i64>,
    change_id: Option<String>,
}

impl TryFrom<Row> for UploadRecord {
    type Error = CatalogError;

    fn try_from(row: Row) -> Result<Self, CatalogError> {
        let unreadable = |what, value: String| CatalogError::Unreadable { what, value };
        let lake_version = row.lake_version.map(u64::try_from).transpose();
        Ok(Self {
            id: read("upload's id", &row.id)?,
            projects: serde_json::from_str(&row.projects)
                .map_err(|_| unreadable("upload's projects", row.projects.clone()))?,
            dataset_name: row.dataset_name,
            dataset_type: row.dataset_type,
            data_provider: row.data_provider,
            file_name: row.file_name,
            on_error: read("upload's on_error", &row.on_error)?,
            status: read("upload's status", &row.status)?,
            sha256: row.sha256,
            bytes: u64::try_from(row.bytes).map_err(|_| unreadable("upload's size", row.bytes.to_string()))?,
            received_at: from_micros(row.received_at),
            committed_at: row.committed_at.map(from_micros),
            lake_version: lake_version.map_err(|error| unreadable("lake version", error.to_string()))?,
            report: serde_json::from_str(&row.report).map_err(|_| unreadable("upload's report", row.id.clone()))?,
            key_prefix: row.key_prefix,
            deleted_at: row.deleted_at.map(from_micros),
            change: row.change_id.map(|id| read("upload's change", &id)).transpose()?,
        })
    }
}

impl Catalog {
    /// Writes a new upload. Its times are kept to the microsecond.
    ///
    /// # Errors
    /// [`CatalogError::ProjectMissing`] if one of its projects is not there.
    pub async fn insert_upload(&self, upload: &UploadRecord) -> Result<(), CatalogError> {
        self.insert_upload_with_key(upload, None).await
    }

    /// The same for a request that came with an idempotency key, which is kept in the same transaction.
    ///
    /// # Errors
    /// Besides, [`CatalogError::KeyTaken`] where another upload is the answer to that key.
    pub async fn insert_upload_with_key(
        &self,
        upload: &UploadRecord,
        key: Option<&RequestKey>,
    ) -> Result<(), CatalogError> {
        pass("catalog::insert_upload", "record an upload")?;
        let failed = || sql("record an upload");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        sqlx::query("INSERT INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
            .bind(upload.id.as_str())
            .bind(&upload.dataset_name)
            .bind(&upload.dataset_type)
            .bind(&upload.data_provider)
            .bind(&upload.file_name)
            .bind(upload.on_error.as_str())
            .bind(upload.status.as_str())
            .bind(&upload.sha256)
            .bind(to_i64(upload.bytes))
            .bind(upload.received_at.timestamp_micros())
            .bind(upload.committed_at.map(|at| at.timestamp_micros()))
            .bind(upload.lake_version.map(to_i64))
            .bind(upload.report.to_string())
            .bind(&upload.key_prefix)
            .bind(upload.deleted_at.map(|at| at.timestamp_micros()))
            .bind(upload.change.as_ref().map(ChangeId::as_str))
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
        for project in &upload.projects {
            link(&mut tx, &upload.id, project).await?;
        }
        if let Some(key) = key {
            insert_key(&mut tx, key, &upload.id, false).await?;
        }
        tx.commit().await.map_err(failed())
    }

    /// The upload, whoever asks.
    pub async fn upload(&self, id: &UploadId) -> Result<Option<UploadRecord>, CatalogError> {
        let row: Option<Row> = sqlx::query_as(SELECT_ONE)
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read an upload"))?;
        row.map(UploadRecord::try_from).transpose()
    }

    /// Moves an upload to a status other than `committed`, with the report that goes with it. `None` keeps the report.
    /// An upload that failed frees the idempotency key that it came with.
    ///
    /// # Errors
    /// [`CatalogError::UploadMissing`].
    pub async fn set_upload_status(
        &self,
        id: &UploadId,
        status: UploadStatus,
        report: Option<&Value>,
    ) -> Result<(), CatalogError> {
        pass("catalog::set_upload_status", "change an upload's status")?;
        let failed = || sql("change an upload's status");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let done = sqlx::query("UPDATE uploads SET status = ?, report = coalesce(?, report) WHERE id = ?")
            .bind(status.as_str())
            .bind(report.map(Value::to_string))
            .bind(id.as_str())
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
        if done.rows_affected() == 0 {
            return Err(CatalogError::UploadMissing(id.clone()));
        }
        if status == UploadStatus::Failed {
            free_keys(&mut tx, id).await?;
        }
        tx.commit().await.map_err(failed())
    }

    /// Records that an upload is in the lake from `lake_version` on.
    ///
    /// # Errors
    /// [`CatalogError::UploadMissing`].
    pub async fn set_upload_committed(
        &self,
        id: &UploadId,
        lake_version: u64,
        at: DateTime<Utc>,
        report: &Value,
    ) -> Result<(), CatalogError> {
        pass("catalog::set_upload_committed", "record a commit")?;
        let done = sqlx::query(
            "UPDATE uploads SET status = 'committed', lake_version = ?, committed_at = ?, report = ? WHERE id = ?",
        )
        .bind(to_i64(lake_version))
        .bind(at.timestamp_micros())
        .bind(report.to_string())
        .bind(id.as_str())
        .execute(&self.pool)
        .await
        .map_err(sql("record a commit"))?;
        if done.rows_affected() == 0 { Err(CatalogError::UploadMissing(id.clone())) } else { Ok(()) }
    }

    /// The first committed upload of exactly these bytes to exactly these projects that the caller may see.
    pub async fn committed_upload_of(
        &self,
        scope: &Scope,
        projects: &[ProjectSlug],
        sha256: &str,
    ) -> Result<Option<UploadRecord>, CatalogError> {
        let row: Option<Row> = sqlx::query_as(
            "SELECT * FROM (SELECT *, (SELECT json_group_array(project ORDER BY project) FROM upload_projects
                 WHERE upload_id = id) AS projects FROM uploads WHERE sha256 = ?1 AND status = 'committed'
                 AND (?3 IS NULL OR key_prefix IN (SELECT value FROM json_each(?3))))
             WHERE projects = ?2 ORDER BY id LIMIT 1",
        )
        .bind(sha256)
        .bind(json_set(projects))
        .bind(senders(scope))
        .fetch_optional(&self.pool)
        .await
        .map_err(sql("look an upload up by its bytes"))?;
        let found = row.map(UploadRecord::try_from).transpose()?;
        Ok(found.filter(|upload| scope.has_upload(&upload.projects, &upload.key_prefix)))
    }

    /// Every upload, whoever asks, the newest first, at most `limit` (capped at [`MAX_PAGE`]), older than `before`.
    pub async fn all_uploads(&self, before: Option<&UploadId>, limit: u32) -> Result<Page<UploadRecord>, CatalogError> {
        let limit = limit.min(MAX_PAGE);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT *, (SELECT json_group_array(project ORDER BY project) FROM upload_projects
                 WHERE upload_id = id) AS projects
             FROM uploads WHERE (?1 IS NULL OR id < ?1) ORDER BY id DESC LIMIT ?2",
        )
        .bind(before.map(UploadId::as_str))
        .bind(limit.saturating_add(1))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list uploads"))?;
        let uploads = rows.into_iter().map(UploadRecord::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(uploads, limit))
    }

    /// Uploads of the scope that match, the newest first, at most `limit` (capped at [`MAX_PAGE`]), older than `before`.
    pub async fn uploads(
        &self,
        scope: &Scope,
        filter: &UploadFilter,
        before: Option<&UploadId>,
        limit: u32,
    ) -> Result<Page<UploadRecord>, CatalogError> {
        let limit = limit.min(MAX_PAGE);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT *, (SELECT json_group_array(project ORDER BY project) FROM upload_projects
                 WHERE upload_id = id) AS projects
             FROM uploads
             WHERE (?1 IS NULL OR id < ?1)
               AND (?2 IS NULL OR EXISTS (SELECT 1 FROM upload_projects WHERE project = ?2 AND upload_id = id))
               AND (?3 IS NULL OR status = ?3)
               AND (?4 IS NULL OR dataset_name = ?4)
               AND (?5 IS NULL OR received_at >= ?5)
               AND (?6 IS NULL OR received_at < ?6)
               AND NOT EXISTS (SELECT 1 FROM upload_projects WHERE upload_id = id
                               AND project NOT IN (SELECT value FROM json_each(?8)))
               AND (?9 IS NULL OR key_prefix IN (SELECT value FROM json_each(?9)))
             ORDER BY id DESC LIMIT ?7",
        )
        .bind(before.map(UploadId::as_str))
        .bind(filter.project.as_ref().map(ProjectSlug::as_str))
        .bind(filter.status.map(UploadStatus::as_str))
        .bind(filter.dataset_name.as_deref())
        .bind(filter.from.map(|at| at.timestamp_micros()))
        .bind(filter.to.map(|at| at.timestamp_micros()))
        .bind(limit.saturating_add(1))
        .bind(json_array(scope.owned()))
        .bind(senders(scope))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list uploads"))?;
        let uploads = rows.into_iter().map(UploadRecord::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(uploads, limit))
    }

    /// Uploads that a process left behind when it ended, the oldest first: `receiving`, of which nothing was promised, and
    /// `committing`, `deleting` and `restoring`, of which the lake's log says whether they got there. Asked at start,
    /// before any upload.
    pub async fn unfinished_uploads(&self) -> Result<Vec<UploadRecord>, CatalogError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT *, (SELECT json_group_array(project ORDER BY project) FROM upload_projects
                 WHERE upload_id = id) AS projects
             FROM uploads WHERE status IN ('receiving', 'committing', 'deleting', 'restoring')
             ORDER BY id LIMIT ?",
        )
        .bind(MAX_UNFINISHED)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list unfinished uploads"))?;
        rows.into_iter().map(UploadRecord::try_from).collect()
    }

    /// Committed uploads, and their projects, which the ledger does not know.
    pub async fn uploads_without_version(&self) -> Result<Vec<(UploadId, ProjectSlug)>, CatalogError> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT id, project FROM uploads JOIN upload_projects ON upload_id = id
             WHERE status = 'committed' AND NOT EXISTS (SELECT 1 FROM lake_versions WHERE change_id = id)
               AND NOT EXISTS (SELECT 1 FROM lake_recovered WHERE lake_recovered.upload_id = id)",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(sql("compare uploads and the ledger"))?;
        rows.into_iter()
            .map(|(id, project)| Ok((read("upload's id", &id)?, read("upload's project", &project)?)))
            .collect()
    }

    /// Notes that a version has the rows of all live uploads of a project, also of those that no version names.
    pub async fn note_recovered(&self, project: &ProjectSlug, version: u64) -> Result<(), CatalogError> {
        for (upload, of) in self.uploads_without_version().await? {
            if of == *project {
                sqlx::query("INSERT OR REPLACE INTO lake_recovered VALUES (?, ?)")
                    .bind(upload.as_str())
                    .bind(to_i64(version))
                    .execute(&self.pool)
                    .await
                    .map_err(sql("note recovered uploads"))?;
            }
        }
        Ok(())
    }

    /// The uploads of some projects that the lake has, the oldest first; those that are on their way out or back too,
    /// because only the lake says since when.
    ///
    /// # Errors
    /// [`CatalogError::TooMany`] beyond 100,000, because a list that was cut would be a wrong answer.
    pub async fn upload_facts(&self, projects: &BTreeSet<ProjectSlug>) -> Result<Vec<UploadFacts>, CatalogError> {
        let wanted: Vec<&str> = projects.iter().map(ProjectSlug::as_str).collect();
        let rows: Vec<FactsRow> = sqlx::query_as(
            "SELECT id, project, dataset_name, committed_at FROM upload_projects JOIN uploads ON id = upload_id
             WHERE project IN (SELECT value FROM json_each(?)) AND status IN ('committed', 'deleting', 'restoring')
             ORDER BY id, project LIMIT ?",
        )
        .bind(Value::from(wanted).to_string())
        .bind(MAX_FACTS + 1)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read the facts of uploads"))?;
        facts_of(rows)
    }
}

/// Id, project, dataset name, and when it was committed.
pub(super) type FactsRow = (String, String, String, i64);

/// What some rows say, where they are not too many.
pub(super) fn facts_of(rows: Vec<FactsRow>) -> Result<Vec<UploadFacts>, CatalogError> {
    if rows.len() > MAX_FACTS as usize {
        return Err(CatalogError::TooMany { what: "uploads in one query", limit: MAX_FACTS });
    }
    rows.into_iter()
        .map(|(id, project, dataset_name, at)| {
            Ok(UploadFacts {
                id: read("upload's id", &id)?,
                project: read("upload's project", &project)?,
                dataset_name,
                committed_at: from_micros(at),
            })
        })
        .collect()
}

async fn link(tx: &mut Transaction<'_, Sqlite>, id: &UploadId, project: &ProjectSlug) -> Result<(), CatalogError> {
    let linked = sqlx::query("INSERT INTO upload_projects (project, upload_id) VALUES (?, ?)")
        .bind(project.as_str())
        .bind(id.as_str())
        .execute(&mut **tx)
        .await;
    match linked {
        Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => {
            Err(CatalogError::ProjectMissing(project.clone()))
        }
        other => other.map(drop).map_err(sql("record an upload's project")),
    }
}

/// The text that `json_group_array(project ORDER BY project)` gives for a set of slugs.
fn json_set(projects: &[ProjectSlug]) -> String {
    let set: BTreeSet<&str> = projects.iter().map(ProjectSlug::as_str).collect();
    Value::from(set.into_iter().collect::<Vec<_>>()).to_string()
}

/// The keys whose uploads alone a caller may see, as a statement takes a list.
fn senders(scope: &Scope) -> Option<String> {
    scope.senders().map(|senders| Value::from(senders.iter().map(String::as_str).collect::<Vec<_>>()).to_string())
}

/// `SQLite`'s integers are signed; sizes and versions stay far below the difference.
fn to_i64(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        access::{Principal, Role},
        catalog::{ProjectChange, now, tests::with_projects},
        ids::OrganisationSlug,
    };

    fn slug(text: &str) -> ProjectSlug {
        text.parse().unwrap()
    }

    async fn catalog() -> (tempfile::TempDir, Catalog) {
        with_projects(&["a", "b"]).await
    }

    fn upload(projects: &[&str], sha256: &str) -> UploadRecord {
        let projects = projects.iter().map(|name| slug(name)).collect();
        let mut record = UploadRecord::starting(projects, "05_2024_A".into(), "f.csv".into(), "abcdefgh".into());
        record.sha256 = sha256.to_owned();
        record.report = json!({"counts": {"read": 2}});
        record
    }

    /// An administrator's.
    async fn scope(catalog: &Catalog) -> Scope {
        catalog.scope(&Principal::admin("k"), &[]).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn uploads_are_listed_and_repeated_within_the_scope_alone() {
        let (_folder, catalog) = catalog().await;
        catalog.create_organisation("hill".parse().unwrap(), "Hill".to_owned()).await.unwrap();
        sqlx::query("UPDATE projects SET organisation = 'hill' WHERE slug = 'b'").execute(&catalog.pool).await.unwrap();
        let mut ids = Vec::new();
        for (projects, key) in [(&["a"][..], "old"), (&["a"], "another"), (&["b"], "old"), (&["a", "b"], "old")] {
            let record = UploadRecord { key_prefix: key.to_owned(), ..upload(projects, "5a") };
            catalog.insert_upload(&record).await.unwrap();
            catalog.set_upload_committed(&record.id, ids.len() as u64, now(), &json!({})).await.unwrap();
            ids.insert(0, record.id);
        }
        let of_main = |role| Principal {
            role,
            organisation: Some(OrganisationSlug::main()),
            earlier_keys: vec!["old".to_owned()],
            ..Principal::admin("new")
        };
        let seen = async |principal: &Principal| {
            let scope = catalog.scope(principal, &[]).await.unwrap().unwrap();
            let uploads = catalog.uploads(&scope, &UploadFilter::default(), None, 10).await.unwrap().items;
            let again = catalog.committed_upload_of(&scope, &[slug("a")], "5a").await.unwrap().map(|upload| upload.id);
            let foreign = catalog.committed_upload_of(&scope, &[slug("b")], "5a").await.unwrap();
            (uploads.into_iter().map(|upload| upload.id).collect::<Vec<_>>(), again, foreign.map(|upload| upload.id))
        };
        let first = Some(ids[3].clone());
        assert_eq!(seen(&Principal::admin("k")).await, (ids.clone(), first.clone(), Some(ids[1].clone())));
        assert_eq!(seen(&of_main(Role::Manager)).await, (ids[2..].to_vec(), first.clone(), None));
        assert_eq!(seen(&of_main(Role::Uploader)).await, (vec![ids[3].clone()], first, None));
        let another = Principal { earlier_keys: Vec::new(), ..of_main(Role::Uploader) };
        assert_eq!(seen(&another).await, (Vec::new(), None, None));
    }

    #[tokio::test]
    async fn an_upload_reads_back_as_it_was_written() {
        let (_folder, catalog) = catalog().await;
        let mut record = upload(&["b", "a"], "00");
        catalog.insert_upload(&record).await.unwrap();
        assert_eq!(catalog.upload(&record.id).await.unwrap().unwrap(), record);

        let at = now();
        catalog.set_upload_committed(&record.id, 7, at, &json!({"x": 1})).await.unwrap();
        record.status = UploadStatus::Committed;
        (record.lake_version, record.committed_at, record.report) = (Some(7), Some(at), json!({"x": 1}));
        assert_eq!(catalog.upload(&record.id).await.unwrap().unwrap(), record);
        let missing = catalog.set_upload_status(&UploadId::new(), UploadStatus::Failed, None).await.unwrap_err();
        assert!(matches!(missing, CatalogError::UploadMissing(_)));
    }

    #[tokio::test]
    async fn the_same_bytes_are_found_for_the_same_projects_only_once_committed() {
        let (_folder, catalog) = catalog().await;
        let record = upload(&["a"], "5a");
        catalog.insert_upload(&record).await.unwrap();
        let scope = scope(&catalog).await;
        let find = async |projects: &[&str]| {
            let projects: Vec<_> = projects.iter().map(|name| slug(name)).collect();
            catalog.committed_upload_of(&scope, &projects, "5a").await.unwrap().map(|found| found.id)
        };
        assert_eq!(find(&["a"]).await, None);
        catalog.set_upload_committed(&record.id, 1, now(), &json!({})).await.unwrap();
        assert_eq!(find(&["a"]).await, Some(record.id));
        assert_eq!(find(&["b"]).await, None);
        assert_eq!(find(&["a", "b"]).await, None);
    }

    #[tokio::test]
    async fn pages_are_newest_first_and_meet_without_gap_or_overlap() {
        let (_folder, catalog) = catalog().await;
        let mut ids = Vec::new();
        for n in 0..5 {
            let record = upload(if n == 2 { &["b"] } else { &["a"] }, "00");
            catalog.insert_upload(&record).await.unwrap();
            ids.push(record.id);
        }
        ids.reverse();
        let (filter, scope) = (UploadFilter::default(), scope(&catalog).await);
        let first = catalog.uploads(&scope, &filter, None, 3).await.unwrap();
        assert!(first.more);
        let second = catalog.uploads(&scope, &filter, first.items.last().map(|last| &last.id), 3).await.unwrap();
        assert!(!second.more);
        assert_eq!(catalog.all_uploads(None, 3).await.unwrap(), first);
        let seen: Vec<_> = first.items.into_iter().chain(second.items).map(|record| record.id).collect();
        assert_eq!(seen, ids);

        let of_b = UploadFilter { project: Some(slug("b")), ..UploadFilter::default() };
        assert_eq!(catalog.uploads(&scope, &of_b, None, 10).await.unwrap().items.len(), 1);
        let committed = UploadFilter { status: Some(UploadStatus::Committed), ..UploadFilter::default() };
        assert!(catalog.uploads(&scope, &committed, None, 10).await.unwrap().items.is_empty());
        let later = UploadFilter { from: Some(now()), ..UploadFilter::default() };
        assert!(catalog.uploads(&scope, &later, None, 10).await.unwrap().items.is_empty());
        assert_eq!(catalog.unfinished_uploads().await.unwrap().len(), 5);
    }

    #[tokio::test]
    async fn facts_are_of_committed_uploads_of_the_wanted_projects() {
        let (_folder, catalog) = catalog().await;
        let (both, pending) = (upload(&["a", "b"], "00"), upload(&["a"], "01"));
        catalog.insert_upload(&both).await.unwrap();
        catalog.insert_upload(&pending).await.unwrap();
        catalog.set_upload_committed(&both.id, 1, now(), &json!({})).await.unwrap();
        let facts = catalog.upload_facts(&BTreeSet::from([slug("a")])).await.unwrap();
        assert_eq!(facts.iter().map(|f| (&f.id, f.project.as_str())).collect::<Vec<_>>(), [(&both.id, "a")]);
    }

    #[tokio::test]
    async fn a_currency_is_fixed_from_the_first_upload_on() {
        let (_folder, catalog) = catalog().await;
        let to = |code: &str| ProjectChange { currency: Some(code.parse().unwrap()), ..ProjectChange::default() };
        catalog.update_project(&slug("a"), to("NGN")).await.unwrap();
        let record = upload(&["a"], "00");
        catalog.insert_upload(&record).await.unwrap();
        let error = catalog.update_project(&slug("a"), to("KES")).await.unwrap_err();
        assert!(matches!(error, CatalogError::CurrencyFixed(_)));
        catalog.update_project(&slug("a"), to("NGN")).await.unwrap();
        catalog.set_upload_status(&record.id, UploadStatus::Rejected, None).await.unwrap();
        catalog.update_project(&slug("a"), to("KES")).await.unwrap();
    }

    #[tokio::test]
    async fn an_upload_to_a_project_that_is_not_there_leaves_nothing() {
        let (_folder, catalog) = catalog().await;
        let record = upload(&["a", "nowhere"], "00");
        let error = catalog.insert_upload(&record).await.unwrap_err();
        assert!(matches!(error, CatalogError::ProjectMissing(_)));
        assert_eq!(catalog.upload(&record.id).await.unwrap(), None);
    }
}
