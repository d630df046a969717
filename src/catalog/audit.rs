//! The audit log: entries are appended, each chained to the one before, read by time, and go with age alone. Their rows refuse
//! to be changed (`migrations/0004_audit.sql`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::{QueryBuilder, Sqlite, Transaction};

use super::{AuditEntry, AuditRecord, Catalog, CatalogError, MAX_PAGE, Page, audit_entry::Row, sealed::to_i64, sql};
use crate::ids::ProjectSlug;

/// Entries that one transaction removes: others write between.
const REMOVED_AT_ONCE: u32 = 2000;

/// Which entries to list; `None` is any.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// The prefix of a key.
    pub key: Option<String>,
    pub organisation: Option<String>,
    /// Those that concern at least one of these.
    pub projects: Option<BTreeSet<ProjectSlug>>,
    pub action: Option<String>,
    /// At or after.
    pub from: Option<DateTime<Utc>>,
    /// Before.
    pub to: Option<DateTime<Utc>>,
    /// Whose view of them; everything is seen where it is nobody's.
    pub view: Option<AuditView>,
}

/// What an organisation sees of entries that concern its projects: who did what with these, and nothing of what else the same
/// request did.
#[derive(Clone, Debug)]
pub struct AuditView {
    pub organisation: String,
    pub projects: BTreeSet<ProjectSlug>,
}

/// The place of an entry in a list: its time, and its number among those of that time. As text, `1716710400000000.17`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditCursor {
    at: i64,
    seq: i64,
}

impl AuditCursor {
    #[must_use]
    pub fn of(record: &AuditRecord) -> Self {
        Self { at: record.at.timestamp_micros(), seq: to_i64(record.seq) }
    }
}

impl fmt::Display for AuditCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at, self.seq)
    }
}

impl FromStr for AuditCursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pair = text.split_once('.').and_then(|(at, seq)| Some((at.parse().ok()?, seq.parse().ok()?)));
        pair.map(|(at, seq)| Self { at, seq }).ok_or("a time and a number, with a point between")
    }
}

/// An entry, and the texts of its sets of projects and of shares.
#[derive(sqlx::FromRow)]
struct Listed {
    #[sqlx(flatten)]
    row: Row,
    projects: Option<String>,
    shares: Option<String>,
}

impl Catalog {
    /// Appends entries in their order, all or none. They are on disk when this returns. Several processes may do so at once.
    pub async fn append_audit(&self, entries: &[AuditEntry]) -> Result<(), CatalogError> {
        let failed = || sql("write the audit log");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let (mut seq, mut hash): (i64, Vec<u8>) =
            sqlx::query_as("SELECT seq, hash FROM audit_head").fetch_one(&mut *tx).await.map_err(failed())?;
        let mut scopes: BTreeMap<String, (i64, Vec<u8>)> = BTreeMap::new();
        let mut rows = Vec::with_capacity(entries.len());
        let mut shares = BTreeMap::new();
        for entry in entries {
            let scope = match entry.projects_text() {
                None => None,
                Some(text) if scopes.contains_key(&text) => scopes.get(&text).cloned(),
                Some(text) => {
                    let scope = scope_of(&mut tx, &text).await?;
                    scopes.insert(text, scope.clone());
                    Some(scope)
                }
            };
            seq += 1;
            let mut row = Row::of(entry, seq, scope.as_ref().map(|(id, _)| *id));
            hash = row.hash_after(&hash, scope.as_ref().map(|(_, sha256)| sha256.as_slice())).to_vec();
            row.hash.clone_from(&hash);
            if let (Some(sha256), Some(text)) = (&row.share, entry.shares_text()) {
                shares.insert(sha256.clone(), text);
            }
            rows.push(row.to_json());
        }
        if !shares.is_empty() {
            sqlx::query("INSERT OR IGNORE INTO audit_share_sets SELECT key, value FROM json_each(?)")
                .bind(json!(shares).to_string())
                .execute(&mut *tx)
                .await
                .map_err(failed())?;
        }
        sqlx::query(
            "INSERT INTO audit_entries (seq, at, actor, key_prefix, organisation, action, object, share, scope, parameters,
                 outcome, status, address, rows, lake_version, request_id, hash)
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6, value ->> 7,
                 value ->> 8, value ->> 9, value ->> 10, value ->> 11, value ->> 12, value ->> 13, value ->> 14,
                 value ->> 15, unhex(value ->> 16)
             FROM json_each(?)",
        )
        .bind(Value::from(rows).to_string())
        .execute(&mut *tx)
        .await
        .map_err(failed())?;
        sqlx::query("UPDATE audit_head SET seq = ?, hash = ?")
            .bind(seq)
            .bind(hash)
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
        tx.commit().await.map_err(failed())
    }

    /// Entries that match, the newest first, at most `limit` (capped at [`MAX_PAGE`]), older than `after`.
    pub async fn audit(
        &self,
        filter: &AuditFilter,
        after: Option<AuditCursor>,
        limit: u32,
    ) -> Result<Page<AuditRecord>, CatalogError> {
        let limit = limit.min(MAX_PAGE);
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT entry.*, (SELECT projects FROM audit_scopes WHERE id = entry.scope) AS projects,
                 (SELECT shares FROM audit_share_sets WHERE sha256 = entry.share) AS shares FROM ",
        );
        match &filter.projects {
            None => {
                query.push("audit_entries AS entry WHERE TRUE");
                narrow(&mut query, filter, after);
            }
            // The newest of each set of projects that has one of them: the newest of all are among these, and no set is read
            // further than a page, however long the log is.
            Some(projects) => {
                let slugs: Vec<&str> = projects.iter().map(ProjectSlug::as_str).collect();
                query.push(
                    "(SELECT DISTINCT scope FROM audit_scope_projects WHERE project IN (SELECT value FROM json_each(",
                );
                query.push_bind(Value::from(slugs).to_string());
                query.push(
                    "))) AS wanted CROSS JOIN audit_entries AS entry WHERE entry.seq IN
                     (SELECT seq FROM audit_entries WHERE scope = wanted.scope",
                );
                narrow(&mut query, filter, after);
                query.push(" ORDER BY at DESC, seq DESC LIMIT ").push_bind(limit.saturating_add(1)).push(")");
            }
        }
        query.push(" ORDER BY entry.at DESC, entry.seq DESC LIMIT ").push_bind(limit.saturating_add(1));
        let rows: Vec<Listed> =
            query.build_query_as().fetch_all(&self.pool).await.map_err(sql("read the audit log"))?;
        let view = filter.view.as_ref();
        let record =
            |Listed { row, projects, shares }| AuditRecord::of(row, projects.as_deref(), shares.as_deref(), view);
        let records = rows.into_iter().map(record);
        Ok(Page::of(records.collect::<Result<Vec<_>, _>>()?, limit))
    }

    /// Removes the entries from the beginning of the log on that are of before `day`, and keeps the hash from which the rest
    /// follows. Gives how many went.
    pub async fn cut_audit(&self, day: DateTime<Utc>) -> Result<u64, CatalogError> {
        let failed = || sql("cut the audit log");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        // In the order of the log, because an entry is to stay with all that stand behind it, whatever a clock said.
        let first_kept: Option<i64> =
            sqlx::query_scalar("SELECT seq FROM audit_entries NOT INDEXED WHERE at >= ? ORDER BY seq LIMIT 1")
                .bind(day.timestamp_micros())
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed())?;
        let last: Option<(i64, Vec<u8>)> =
            sqlx::query_as("SELECT seq, hash FROM audit_entries WHERE seq < ? ORDER BY seq DESC LIMIT 1")
                .bind(first_kept.unwrap_or(i64::MAX))
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed())?;
        if let Some((seq, hash)) = last {
            sqlx::query("UPDATE audit_anchor SET seq = ?1, hash = ?2 WHERE seq < ?1")
                .bind(seq)
                .bind(hash)
                .execute(&mut *tx)
                .await
                .map_err(failed())?;
        }
        tx.commit().await.map_err(failed())?;
        let mut removed = 0;
        loop {
            let done = sqlx::query(
                "DELETE FROM audit_entries WHERE seq IN
                     (SELECT seq FROM audit_entries WHERE seq <= (SELECT seq FROM audit_anchor) ORDER BY seq LIMIT ?)",
            )
            .bind(REMOVED_AT_ONCE)
            .execute(&self.pool)
            .await
            .map_err(failed())?;
            removed += done.rows_affected();
            if done.rows_affected() < u64::from(REMOVED_AT_ONCE) {
                break;
            }
        }
        if removed > 0 {
            self.forget_audit_scopes().await?;
        }
        Ok(removed)
    }

    /// Removes sets of projects and of shares that no entry has any more.
    async fn forget_audit_scopes(&self) -> Result<(), CatalogError> {
        let failed = || sql("cut the audit log");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        for statement in [
            "DELETE FROM audit_scope_projects WHERE NOT EXISTS
                 (SELECT 1 FROM audit_entries AS entry WHERE entry.scope = audit_scope_projects.scope)",
            "DELETE FROM audit_scopes WHERE NOT EXISTS
                 (SELECT 1 FROM audit_entries AS entry WHERE entry.scope = audit_scopes.id)",
            "DELETE FROM audit_share_sets WHERE NOT EXISTS
                 (SELECT 1 FROM audit_entries AS entry WHERE entry.share = audit_share_sets.sha256)",
        ] {
            sqlx::query(statement).execute(&mut *tx).await.map_err(failed())?;
        }
        tx.commit().await.map_err(failed())
    }

    /// Lets no entry be written, or entries again, for tests of who writes them.
    #[cfg(test)]
    pub(crate) async fn break_audit(&self, broken: bool) {
        let rename = if broken {
            "ALTER TABLE audit_head RENAME TO audit_head_gone"
        } else {
            "ALTER TABLE audit_head_gone RENAME TO audit_head"
        };
        sqlx::query(rename).execute(&self.pool).await.unwrap();
    }
}

/// Adds a filter's conditions, and those of the page.
fn narrow(query: &mut QueryBuilder<Sqlite>, filter: &AuditFilter, after: Option<AuditCursor>) {
    let AuditFilter { key, organisation, projects: _, action, from, to, view: _ } = filter;
    // What age has taken away, and is not removed yet.
    query.push(" AND seq > (SELECT seq FROM audit_anchor)");
    for (condition, text) in
        [(" AND key_prefix = ", key), (" AND organisation = ", organisation), (" AND action = ", action)]
    {
        if let Some(text) = text {
            query.push(condition).push_bind(text.clone());
        }
    }
    for (condition, at) in [(" AND at >= ", from), (" AND at < ", to)] {
        if let Some(at) = at {
            query.push(condition).push_bind(at.timestamp_micros());
        }
    }
    if let Some(AuditCursor { at, seq }) = after {
        query.push(" AND (at, seq) < (").push_bind(at).push(", ").push_bind(seq).push(")");
    }
}

/// The row of a set of projects, which is made where it is missing, and its SHA-256.
async fn scope_of(tx: &mut Transaction<'_, Sqlite>, text: &str) -> Result<(i64, Vec<u8>), CatalogError> {
    let failed = || sql("write the audit log");
    let sha256 = Sha256::digest(text).to_vec();
    let known: Option<i64> = sqlx::query_scalar("SELECT id FROM audit_scopes WHERE sha256 = ?")
        .bind(&sha256)
        .fetch_optional(&mut **tx)
        .await
        .map_err(failed())?;
    if let Some(id) = known {
        return Ok((id, sha256));
    }
    let id: i64 = sqlx::query_scalar("INSERT INTO audit_scopes (sha256, projects) VALUES (?, ?) RETURNING id")
        .bind(&sha256)
        .bind(text)
        .fetch_one(&mut **tx)
        .await
        .map_err(failed())?;
    sqlx::query("INSERT INTO audit_scope_projects (project, scope) SELECT value, ?1 FROM json_each(?2)")
        .bind(id)
        .bind(text)
        .execute(&mut **tx)
        .await
        .map_err(failed())?;
    Ok((id, sha256))
}

#[cfg(test)]
mod tests {
    use sqlx::AssertSqlSafe;

    use super::*;
    use crate::{
        catalog::{AuditActor, AuditOutcome, from_micros},
        ids::ShareId,
    };

    const HOUR: i64 = 3_600_000_000;

    async fn catalog() -> (tempfile::TempDir, Catalog) {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).await.unwrap();
        (folder, catalog)
    }

    fn key(prefix: &str) -> AuditActor {
        AuditActor::Key { prefix: prefix.to_owned(), organisation: None }
    }

    /// An entry of an hour, counted from the epoch, about some projects.
    fn entry(hour: i64, prefix: &str, action: &'static str, projects: &[&str]) -> AuditEntry {
        AuditEntry {
            at: from_micros(hour * HOUR),
            projects: projects.iter().map(|slug| slug.parse().unwrap()).collect(),
            ..AuditEntry::new(key(prefix), action, AuditOutcome::Answered(200))
        }
    }

    fn share(digit: &str) -> ShareId {
        format!("shr_{}", digit.repeat(32)).parse().unwrap()
    }

    /// An entry in which nothing is missing.
    fn full() -> AuditEntry {
        AuditEntry {
            at: from_micros(1_716_710_400_000_001),
            actor: AuditActor::Key { prefix: "22222222".to_owned(), organisation: Some("acme".to_owned()) },
            object: Some("revenue_per_site".to_owned()),
            shares: BTreeMap::from([(share("1"), "a".parse().unwrap()), (share("2"), "b".parse().unwrap())]),
            parameters: Some(json!({"site": ["Café", "it's \"B\"\\"], "limit": "5"})),
            address: Some("2001:db8::1".parse().unwrap()),
            rows: Some(7),
            lake_version: Some(9),
            request_id: Some("abc".to_owned()),
            ..entry(0, "", "metric.read", &["b", "a", "b"])
        }
    }

    async fn all(catalog: &Catalog, filter: &AuditFilter) -> Vec<u64> {
        let page = catalog.audit(filter, None, 200).await.unwrap();
        page.items.iter().map(|record| record.seq).collect()
    }

    async fn run(catalog: &Catalog, statement: &str) -> Result<(), sqlx::Error> {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&catalog.pool).await.map(drop)
    }

    async fn without_triggers(catalog: &Catalog) {
        let names: Vec<String> =
            sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'audit%'")
                .fetch_all(&catalog.pool)
                .await
                .unwrap();
        assert!(!names.is_empty());
        for name in names {
            run(catalog, &format!("DROP TRIGGER {name}")).await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_entry_reads_back_as_it_was_written() {
        let (_folder, catalog) = catalog().await;
        catalog.append_audit(&[full(), entry(1, "bbbbbbbb", "upload.delete", &[])]).await.unwrap();
        let page = catalog.audit(&AuditFilter::default(), None, 10).await.unwrap();
        let record = &page.items[0];
        assert_eq!(
            (record.seq, record.key.as_deref(), record.organisation.as_deref()),
            (1, Some("22222222"), Some("acme"))
        );
        assert_eq!((record.at, record.parameters.clone()), (full().at, full().parameters));
        assert_eq!(record.projects.iter().map(ProjectSlug::as_str).collect::<Vec<_>>(), ["a", "b"]);
        let shown =
            (record.outcome.as_str(), record.status, record.rows, record.lake_version, record.address.as_deref());
        assert_eq!(shown, ("answered", Some(200), Some(7), Some(9), Some("2001:db8::1")));
        assert_eq!(
            (record.object.as_deref(), &record.shares),
            (Some("revenue_per_site"), &vec![share("1"), share("2")])
        );
        let bare = &page.items[1];
        assert_eq!((bare.seq, bare.projects.len(), &bare.parameters, bare.rows), (2, 0, &None, None));
    }

    #[tokio::test]
    async fn a_hash_is_that_of_the_documented_text_and_as_before_where_nothing_is_shared() {
        let shares = format!(r#"{{"shr_{}":"a","shr_{}":"b"}}"#, "1".repeat(32), "2".repeat(32));
        let shares = format!("\"{}\"", hex::encode(Sha256::digest(shares)));
        let own = AuditEntry { shares: BTreeMap::new(), ..full() };
        for (entry, shares) in [(full(), shares.as_str()), (own, "null")] {
            let (_folder, catalog) = catalog().await;
            catalog.append_audit(&[entry]).await.unwrap();
            let projects = hex::encode(Sha256::digest(r#"["a","b"]"#));
            let parameters = r#"{\"site\":[\"Café\",\"it's \\\"B\\\"\\\\\"],\"limit\":\"5\"}"#;
            let text = format!(
                r#"["{}",1,1716710400000001,"key","22222222","acme","metric.read","revenue_per_site",{shares},"{projects}","{parameters}","answered",200,"2001:db8::1",7,9,"abc"]"#,
                "0".repeat(64),
            );
            let check = catalog.check_audit().await.unwrap();
            assert_eq!((check.entries, check.last, check.broken), (1, (1, hex::encode(Sha256::digest(text))), None));
        }
    }

    #[tokio::test]
    async fn a_text_that_is_long_or_commands_a_terminal_is_cut_or_cleaned() {
        let (_folder, catalog) = catalog().await;
        let long = AuditEntry {
            object: Some("\u{1b}[2J\0".to_owned() + &"é".repeat(500)),
            parameters: Some(json!({"site": "x".repeat(100_000)})),
            ..full()
        };
        catalog.append_audit(&[long]).await.unwrap();
        let page = catalog.audit(&AuditFilter::default(), None, 10).await.unwrap();
        let object = page.items[0].object.clone().unwrap();
        assert_eq!((object.chars().count(), object.starts_with("\u{fffd}[2J\u{fffd}é")), (200, true));
        let parameters = page.items[0].parameters.clone().unwrap();
        assert!(parameters["bytes"].as_u64() > Some(100_000) && parameters["begins"].is_string());
        assert_eq!(catalog.check_audit().await.unwrap().broken, None);
    }

    #[tokio::test]
    async fn entries_are_listed_by_what_they_are_of_the_newest_first_in_pages_without_gap_or_overlap() {
        let (_folder, catalog) = catalog().await;
        let entries = [
            entry(1, "aaaaaaaa", "metric.read", &["a", "b"]),
            entry(3, "bbbbbbbb", "metric.read", &["b"]),
            // A clock that was put back.
            entry(2, "aaaaaaaa", "upload.delete", &["a"]),
            entry(4, "aaaaaaaa", "metric.read", &["a", "b"]),
            entry(4, "bbbbbbbb", "project.list", &[]),
        ];
        catalog.append_audit(&entries).await.unwrap();
        let by = |change: fn(&mut AuditFilter)| {
            let mut filter = AuditFilter::default();
            change(&mut filter);
            filter
        };
        let of = |names: &[&str]| Some(names.iter().map(|name| name.parse().unwrap()).collect());
        let list = async |filter: AuditFilter| all(&catalog, &filter).await;
        assert_eq!(list(AuditFilter::default()).await, [5, 4, 2, 3, 1]);
        assert_eq!(list(by(|filter| filter.key = Some("aaaaaaaa".to_owned()))).await, [4, 3, 1]);
        assert_eq!(list(by(|filter| filter.action = Some("metric.read".to_owned()))).await, [4, 2, 1]);
        assert_eq!(list(by(|filter| filter.from = Some(from_micros(3 * HOUR)))).await, [5, 4, 2]);
        assert_eq!(list(by(|filter| filter.to = Some(from_micros(3 * HOUR)))).await, [3, 1]);
        assert_eq!(list(by(|filter| filter.organisation = Some("acme".to_owned()))).await, [0; 0]);
        assert_eq!(list(AuditFilter { projects: of(&["a"]), ..AuditFilter::default() }).await, [4, 3, 1]);
        assert_eq!(list(AuditFilter { projects: of(&["a", "b"]), ..AuditFilter::default() }).await, [4, 2, 3, 1]);
        assert_eq!(list(AuditFilter { projects: of(&["c"]), ..AuditFilter::default() }).await, [0; 0]);
        let both = AuditFilter { projects: of(&["b"]), ..by(|filter| filter.key = Some("bbbbbbbb".to_owned())) };
        assert_eq!(list(both).await, [2]);
        for filter in [AuditFilter::default(), AuditFilter { projects: of(&["a", "b"]), ..AuditFilter::default() }] {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = catalog.audit(&filter, after, 2).await.unwrap();
                seen.extend(page.items.iter().map(|record| record.seq));
                after = page.items.last().map(AuditCursor::of);
                if !page.more {
                    break;
                }
            }
            assert_eq!(seen, all(&catalog, &filter).await);
        }
    }

    #[tokio::test]
    async fn an_organisation_sees_of_an_entry_what_is_about_its_own_projects() {
        let (_folder, catalog) = catalog().await;
        let own = AuditEntry { projects: vec!["a".parse().unwrap()], ..full() };
        catalog.append_audit(&[own, full(), entry(1, "bbbbbbbb", "metric.read", &["b"])]).await.unwrap();
        let seen_by = async |organisation: &str| {
            let projects = BTreeSet::from(["a".parse().unwrap()]);
            let view = Some(AuditView { organisation: organisation.to_owned(), projects: projects.clone() });
            let filter = AuditFilter { projects: Some(projects), view, ..AuditFilter::default() };
            catalog.audit(&filter, None, 10).await.unwrap().items
        };
        let [mixed, own] = &seen_by("other").await[..] else { panic!("the entry about b alone is not seen") };
        assert_eq!((own.parameters.clone(), own.rows, own.project_count), (full().parameters, Some(7), 1));
        assert_eq!((own.key.as_deref(), own.organisation.as_deref()), (Some("22222222"), Some("acme")));
        assert_eq!(mixed.projects.iter().map(ProjectSlug::as_str).collect::<Vec<_>>(), ["a"]);
        assert_eq!((mixed.project_count, &mixed.parameters, mixed.rows), (1, &None, None));
        assert_eq!((&mixed.shares, mixed.share_count), (&vec![share("1")], 1), "by which others see others is theirs");
        assert_eq!((&own.address, &mixed.address), (&None, &None), "where others sit is theirs");
        assert!(seen_by("acme").await[0].address.is_some());
        let of_acme = AuditFilter { organisation: Some("acme".to_owned()), ..AuditFilter::default() };
        assert_eq!(all(&catalog, &of_acme).await, [2, 1]);
    }

    #[tokio::test]
    async fn entries_refuse_to_be_changed_removed_replaced_and_inserted() {
        let (_folder, catalog) = catalog().await;
        catalog.append_audit(&[full(), full(), full()]).await.unwrap();
        for statement in [
            "UPDATE audit_entries SET rows = 0 WHERE seq = 2",
            "DELETE FROM audit_entries WHERE seq = 3",
            "INSERT OR REPLACE INTO audit_entries SELECT * FROM audit_entries WHERE seq = 2",
            "INSERT INTO audit_entries SELECT -1, at, actor, key_prefix, organisation, action, object, share, scope, parameters,
                 outcome, status, address, rows, lake_version, request_id, hash FROM audit_entries WHERE seq = 2",
            "UPDATE audit_head SET seq = 2",
            "DELETE FROM audit_head",
            "UPDATE audit_anchor SET seq = 3, hash = zeroblob(32)",
            "DELETE FROM audit_anchor",
            "UPDATE audit_scopes SET projects = '[]'",
            "DELETE FROM audit_scopes",
            "UPDATE audit_share_sets SET shares = '{}'",
            "DELETE FROM audit_share_sets",
        ] {
            assert!(run(&catalog, statement).await.is_err(), "{statement}");
        }
        let check = catalog.check_audit().await.unwrap();
        assert_eq!((check.entries, check.broken), (3, None));
    }

    #[tokio::test]
    async fn the_first_entry_that_was_altered_removed_moved_inserted_or_cut_off_is_named() {
        let columns = [
            "at = at + 1",
            "actor = 'server', key_prefix = NULL",
            "key_prefix = 'zzzzzzzz'",
            "organisation = NULL",
            "action = 'project.list'",
            "object = NULL",
            "share = NULL",
            "scope = NULL",
            "parameters = '{}'",
            "outcome = 'abandoned', status = NULL",
            "status = 403",
            "address = NULL",
            "rows = 8",
            "lake_version = NULL",
            "request_id = 'abd'",
            "hash = zeroblob(32)",
        ];
        let altered = columns.map(|set| (format!("UPDATE audit_entries SET {set} WHERE seq = 3"), 3));
        let others = [
            ("DELETE FROM audit_entries WHERE seq = 4", 4),
            ("DELETE FROM audit_entries WHERE seq = 1", 1),
            ("DELETE FROM audit_entries WHERE seq >= 5", 5),
            ("DELETE FROM audit_entries", 1),
            (
                "UPDATE audit_entries SET seq = -2 WHERE seq = 2; UPDATE audit_entries SET seq = 2 WHERE seq = 3;
                 UPDATE audit_entries SET seq = 3 WHERE seq = -2",
                2,
            ),
            (
                "INSERT INTO audit_entries SELECT 7, at, actor, key_prefix, organisation, action, object, share, scope,
                     parameters, outcome, status, address, rows, lake_version, request_id, hash
                 FROM audit_entries WHERE seq = 6",
                7,
            ),
            (
                "UPDATE audit_entries SET seq = -seq WHERE seq >= 4; UPDATE audit_entries SET seq = 1 - seq WHERE seq < 0;
                 INSERT INTO audit_entries SELECT 4, at, actor, key_prefix, organisation, action, object, share, scope,
                     parameters, outcome, status, address, rows, lake_version, request_id, hash
                 FROM audit_entries WHERE seq = 3",
                4,
            ),
            ("UPDATE audit_scopes SET projects = '[\"a\"]'", 1),
            ("DELETE FROM audit_scope_projects WHERE project = 'b'", 1),
            ("UPDATE audit_share_sets SET shares = '{}'", 1),
            ("DELETE FROM audit_share_sets", 1),
            ("UPDATE audit_head SET hash = zeroblob(32)", 6),
            ("UPDATE audit_head SET seq = 5, hash = (SELECT hash FROM audit_entries WHERE seq = 5)", 6),
            ("UPDATE audit_anchor SET hash = randomblob(32)", 1),
        ];
        let others = others.map(|(statement, seq)| (statement.to_owned(), seq));
        for (statement, seq) in altered.into_iter().chain(others) {
            let (_folder, catalog) = catalog().await;
            catalog.append_audit(&[full(), full(), full()]).await.unwrap();
            catalog.append_audit(&[entry(1, "a", "x", &[]), full(), entry(2, "b", "y", &[])]).await.unwrap();
            assert_eq!(catalog.check_audit().await.unwrap().broken, None);
            without_triggers(&catalog).await;
            run(&catalog, &format!("PRAGMA foreign_keys = OFF; {statement}")).await.unwrap();
            let broken = catalog.check_audit().await.unwrap().broken;
            assert_eq!(broken.map(|(seq, _)| seq), Some(seq), "{statement}: {broken:?}");
        }
    }

    #[tokio::test]
    async fn what_is_older_than_a_day_goes_the_rest_still_follows_and_the_log_goes_on() {
        let (_folder, catalog) = catalog().await;
        let entries: Vec<AuditEntry> = (0..50).map(|hour| entry(hour, "aaaaaaaa", "metric.read", &["old"])).collect();
        catalog.append_audit(&entries).await.unwrap();
        // A clock that was put back: it stays with what stands before it.
        let shares = full().shares;
        catalog.append_audit(&[AuditEntry { shares, ..entry(3, "aaaaaaaa", "metric.read", &["new"]) }]).await.unwrap();
        assert_eq!(catalog.cut_audit(from_micros(0)).await.unwrap(), 0);
        assert_eq!(catalog.cut_audit(from_micros(24 * HOUR)).await.unwrap(), 24);
        let check = catalog.check_audit().await.unwrap();
        assert_eq!((check.entries, check.broken), (27, None));
        assert_eq!(all(&catalog, &AuditFilter::default()).await.len(), 27);
        assert_eq!(catalog.cut_audit(from_micros(24 * HOUR)).await.unwrap(), 0);
        assert_eq!(catalog.cut_audit(from_micros(100 * HOUR)).await.unwrap(), 27);
        let sets = "SELECT (SELECT count(*) FROM audit_scopes) + (SELECT count(*) FROM audit_share_sets)";
        let sets: i64 = sqlx::query_scalar(sets).fetch_one(&catalog.pool).await.unwrap();
        assert_eq!(sets, 0, "sets of projects and of shares that nobody needs are gone");
        catalog.append_audit(&[full()]).await.unwrap();
        let check = catalog.check_audit().await.unwrap();
        assert_eq!((check.entries, check.last.0, check.broken), (1, 52, None));
        without_triggers(&catalog).await;
        run(&catalog, "DELETE FROM audit_entries").await.unwrap();
        assert_eq!(catalog.check_audit().await.unwrap().broken.map(|(seq, _)| seq), Some(52));
    }

    #[tokio::test]
    async fn two_processes_append_to_one_chain_and_it_can_be_checked_meanwhile() {
        let (folder, catalog) = catalog().await;
        let other = Catalog::open(folder.path()).await.unwrap();
        let write = async |catalog: &Catalog| {
            for _ in 0..20 {
                catalog.append_audit(&[full(), entry(1, "a", "x", &["c"])]).await.unwrap();
            }
        };
        let check = async {
            for _ in 0..20 {
                assert_eq!(catalog.check_audit().await.unwrap().broken, None);
            }
        };
        tokio::join!(write(&catalog), write(&other), check);
        let check = catalog.check_audit().await.unwrap();
        assert_eq!((check.entries, check.broken), (80, None));
    }
}
