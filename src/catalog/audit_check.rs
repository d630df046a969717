//! Whether the audit log is as it was written: every entry's hash is made again from its fields and the hash before.

use std::collections::{HashMap, HashSet};

use sha2::{Digest, Sha256};

use super::{Catalog, CatalogError, audit_entry::Row, sealed::to_u64, sql};

/// Entries that are read at a time, so that a long log holds up nobody who writes.
const PAGE: u32 = 2000;
/// Sets of projects whose hashes are remembered.
const MAX_REMEMBERED: usize = 20_000;

/// What a look at the whole log found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditCheck {
    /// How many entries hold.
    pub entries: u64,
    /// The number and the hash of the last of them: kept elsewhere, they would show whether somebody wrote the whole log anew.
    pub last: (u64, String),
    /// The first entry that does not hold, and what is wrong with it.
    pub broken: Option<(u64, &'static str)>,
}

const MISSING: &str = "is missing";
const ALTERED: &str = "is not as it was written, or does not follow the one before it";
const BEYOND: &str = "stands behind the end of the log";
const NOT_INDEXED: &str = "would not be listed for all of its projects";

/// How far the look is.
struct Walk {
    entries: u64,
    seq: i64,
    hash: Vec<u8>,
    scopes: HashMap<i64, Option<Vec<u8>>>,
    /// The hashes of the sets of shares that hold.
    share_sets: HashSet<String>,
}

impl Catalog {
    /// Reads the whole log. Beside a server, entries that it writes meanwhile are read too, and those that age takes away
    /// meanwhile are no fault.
    pub async fn check_audit(&self) -> Result<AuditCheck, CatalogError> {
        let (seq, hash) = self.audit_end("SELECT seq, hash FROM audit_anchor").await?;
        let mut walk = Walk { entries: 0, seq, hash, scopes: HashMap::new(), share_sets: HashSet::new() };
        let broken = loop {
            // Before the entries, because entries may be written between, and no entry is older than the head.
            let (head, head_hash) = self.audit_end("SELECT seq, hash FROM audit_head").await?;
            let rows: Vec<Row> = sqlx::query_as("SELECT * FROM audit_entries WHERE seq > ? ORDER BY seq LIMIT ?")
                .bind(walk.seq)
                .bind(PAGE)
                .fetch_all(&self.pool)
                .await
                .map_err(sql("read the audit log"))?;
            let ended = rows.is_empty();
            let found = match walk.seq {
                seq if ended && seq < head => Some((seq + 1, MISSING)),
                seq if ended && seq == head && walk.hash != head_hash => Some((seq, ALTERED)),
                _ => self.follow(&mut walk, rows).await?,
            };
            match found {
                None if ended => break None,
                None => {}
                Some(found) => {
                    let (anchor, hash) = self.audit_end("SELECT seq, hash FROM audit_anchor").await?;
                    if anchor < found.0 {
                        break Some(found);
                    }
                    // Age took it away while it was looked for.
                    (walk.seq, walk.hash) = (anchor, hash);
                }
            }
        };
        let broken = match broken {
            Some(found) => Some(found),
            None => self.beyond_the_end(walk.seq).await?,
        };
        let broken = match broken {
            Some(found) => Some(found),
            None => self.not_indexed().await?,
        };
        Ok(AuditCheck {
            entries: walk.entries,
            last: (to_u64(walk.seq), hex::encode(&walk.hash)),
            broken: broken.map(|(seq, how)| (to_u64(seq), how)),
        })
    }

    /// Takes some entries in, up to the first that does not hold.
    async fn follow(&self, walk: &mut Walk, rows: Vec<Row>) -> Result<Option<(i64, &'static str)>, CatalogError> {
        for row in rows {
            if row.seq != walk.seq + 1 {
                return Ok(Some((walk.seq + 1, MISSING)));
            }
            let projects = match row.scope {
                None => None,
                Some(scope) => self.scope_sha256(&mut walk.scopes, scope).await?,
            };
            let shares_hold = match &row.share {
                None => true,
                Some(sha256) => self.share_set_holds(&mut walk.share_sets, sha256).await?,
            };
            if !shares_hold || row.hash_after(&walk.hash, projects.as_deref())[..] != row.hash[..] {
                return Ok(Some((row.seq, ALTERED)));
            }
            walk.entries += 1;
            (walk.seq, walk.hash) = (row.seq, row.hash);
        }
        Ok(None)
    }

    /// The SHA-256 of a set of projects, from the set itself; `None` where it is gone.
    async fn scope_sha256(
        &self,
        known: &mut HashMap<i64, Option<Vec<u8>>>,
        scope: i64,
    ) -> Result<Option<Vec<u8>>, CatalogError> {
        if let Some(sha256) = known.get(&scope) {
            return Ok(sha256.clone());
        }
        let text: Option<String> = sqlx::query_scalar("SELECT projects FROM audit_scopes WHERE id = ?")
            .bind(scope)
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read the audit log"))?;
        let sha256 = text.map(|text| Sha256::digest(text).to_vec());
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(scope, sha256.clone());
        Ok(sha256)
    }

    /// Whether a set of shares is there, and has the hash by which entries name it.
    async fn share_set_holds(&self, known: &mut HashSet<String>, sha256: &str) -> Result<bool, CatalogError> {
        if known.contains(sha256) {
            return Ok(true);
        }
        let text: Option<String> = sqlx::query_scalar("SELECT shares FROM audit_share_sets WHERE sha256 = ?")
            .bind(sha256)
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read the audit log"))?;
        let holds = text.is_some_and(|text| hex::encode(Sha256::digest(text)) == sha256);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        if holds {
            known.insert(sha256.to_owned());
        }
        Ok(holds)
    }

    /// An entry behind the end, which nothing was written behind since.
    async fn beyond_the_end(&self, end: i64) -> Result<Option<(i64, &'static str)>, CatalogError> {
        let (head, _) = self.audit_end("SELECT seq, hash FROM audit_head").await?;
        Ok((end > head).then_some((head + 1, BEYOND)))
    }

    /// The first entry whose set of projects is not listed as it is.
    async fn not_indexed(&self) -> Result<Option<(i64, &'static str)>, CatalogError> {
        let seq: Option<i64> = sqlx::query_scalar(
            "SELECT min(seq) FROM audit_entries WHERE scope IN
                 (SELECT id FROM audit_scopes WHERE projects IS NOT
                      (SELECT json_group_array(project ORDER BY project) FROM audit_scope_projects WHERE scope = id))",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(sql("read the audit log"))?;
        Ok(seq.map(|seq| (seq, NOT_INDEXED)))
    }

    async fn audit_end(&self, statement: &'static str) -> Result<(i64, Vec<u8>), CatalogError> {
        sqlx::query_as(statement).fetch_one(&self.pool).await.map_err(sql("read the end of the audit log"))
    }
}
