//! One change of the lake, and the entry of the Delta log that says it: written from the change alone, and read back where
//! the ledger is to be mended.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use deltalake_core::{
    DeltaTableError,
    kernel::{Action, Add, Remove, Transaction, transaction::CommitData},
    protocol::{DeltaOperation, SaveMode},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{LakeError, LakeFile};
use crate::{catalog::LedgerFile, ids::ChangeId, payments::schema::PARTITION_COLUMNS};

/// The tag of an `add` action that holds the file's SHA-256 in hexadecimal.
const SHA256_TAG: &str = "wattlake.sha256";

/// Why the lake changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// The rows of an upload come in.
    Upload,
    /// Uploads are deleted: their rows go, and what they had corrected comes back.
    Delete,
    /// A deleted upload comes back.
    Restore,
    /// A project's files are made anew from its uploads, with the same rows.
    Rebuild,
    /// Connections changed, and payments show it.
    Connections,
    /// The table gets columns that it lacks.
    Schema,
}

impl ChangeKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Delete => "delete",
            Self::Restore => "restore",
            Self::Rebuild => "rebuild",
            Self::Connections => "connections",
            Self::Schema => "schema",
        }
    }
}

/// What one commit changes: all of it becomes visible, or none.
#[derive(Debug, Clone)]
pub struct Change {
    /// Kept in the commit itself, so that the log alone says what it was for.
    pub id: ChangeId,
    pub kind: ChangeKind,
    /// What else the log is to say of it, such as the SHA-256 of an upload's original.
    pub facts: Vec<(&'static str, String)>,
    pub removed: Vec<Arc<LakeFile>>,
    pub added: Vec<LakeFile>,
    /// What the table is from now on, where that changes: a `metaData` action.
    pub metadata: Option<Value>,
}

impl Change {
    /// The bytes of the entry that makes this change version `version`.
    pub(super) fn entry(&self, version: u64, at: DateTime<Utc>) -> Result<Vec<u8>, LakeError> {
        let now = at.timestamp_millis();
        let mut actions: Vec<Action> =
            self.removed.iter().map(|file| Action::Remove(remove_action(file, now))).collect();
        actions.extend(self.added.iter().map(|file| Action::Add(add_action(file, now))));
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(PARTITION_COLUMNS.map(str::to_owned).to_vec()),
            predicate: None,
        };
        let facts = [("change", self.id.as_str()), ("kind", self.kind.as_str())];
        let facts = facts.into_iter().chain(self.facts.iter().map(|(name, value)| (*name, value.as_str())));
        let metadata = facts.map(|(name, value)| (format!("wattlake.{name}"), Value::from(value))).collect();
        let number = i64::try_from(version).map_err(|_| LakeError::Layout(format!("version {version}")))?;
        let transaction = Transaction::new_with_last_update(self.id.as_str(), number, Some(now));
        let data = CommitData::new(actions, operation, metadata, vec![transaction]);
        let mut bytes = data.get_bytes().map_err(DeltaTableError::from)?.to_vec();
        if let Some(metadata) = &self.metadata {
            bytes.push(b'\n');
            bytes.extend_from_slice(json!({ "metaData": metadata }).to_string().as_bytes());
        }
        Ok(bytes)
    }
}

fn partition_values(file: &LakeFile) -> HashMap<String, Option<String>> {
    HashMap::from([
        ("project_id".to_owned(), Some(file.project.to_string())),
        ("month".to_owned(), Some(file.month.to_string())),
    ])
}

fn add_action(file: &LakeFile, now: i64) -> Add {
    Add {
        path: file.path.clone(),
        partition_values: partition_values(file),
        size: i64::try_from(file.bytes).unwrap_or(i64::MAX),
        modification_time: now,
        data_change: true,
        stats: Some(json!({ "numRecords": file.rows }).to_string()),
        tags: Some(HashMap::from([(SHA256_TAG.to_owned(), Some(hex::encode(file.sha256)))])),
        ..Add::default()
    }
}

fn remove_action(file: &LakeFile, now: i64) -> Remove {
    Remove {
        path: file.path.clone(),
        data_change: true,
        deletion_timestamp: Some(now),
        extended_file_metadata: Some(true),
        partition_values: Some(partition_values(file)),
        size: i64::try_from(file.bytes).ok(),
        ..Remove::default()
    }
}

/// What an entry says that the table is from then on, if it says that.
pub(super) fn metadata(bytes: &[u8]) -> Option<Value> {
    let mut lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.find_map(|line| serde_json::from_slice::<Value>(line).ok()?.get("metaData").cloned())
}

/// What an entry of the log says, as far as the ledger says it too.
#[derive(Debug, Default)]
pub(super) struct ReadEntry {
    /// None of the first entry, which makes the table.
    pub(super) change: Option<ChangeId>,
    pub(super) added: Vec<LedgerFile>,
    pub(super) removed: Vec<String>,
}

/// One line of an entry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    commit_info: Option<Value>,
    add: Option<AddLine>,
    remove: Option<RemoveLine>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AddLine {
    path: String,
    partition_values: HashMap<String, String>,
    size: u64,
    stats: String,
    tags: HashMap<String, String>,
}

#[derive(Deserialize)]
struct RemoveLine {
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    num_records: u64,
}

/// Reads an entry that we wrote; `None` where it is not such a one.
pub(super) fn read(version: u64, bytes: &[u8]) -> Option<ReadEntry> {
    let mut entry = ReadEntry::default();
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line: Line = serde_json::from_slice(line).ok()?;
        if let Some(info) = line.commit_info {
            entry.change = info["wattlake.change"].as_str().map(str::parse).transpose().ok()?;
        }
        if let Some(remove) = line.remove {
            entry.removed.push(remove.path);
        }
        if let Some(add) = line.add {
            let mut sha256 = [0; 32];
            hex::decode_to_slice(add.tags.get(SHA256_TAG)?, &mut sha256).ok()?;
            entry.added.push(LedgerFile {
                project: add.partition_values.get("project_id")?.parse().ok()?,
                month: add.partition_values.get("month")?.parse().ok()?,
                path: add.path,
                bytes: add.size,
                rows: serde_json::from_str::<Stats>(&add.stats).ok()?.num_records,
                sha256,
                added_in: version,
                removed: None,
            });
        }
    }
    (entry.change.is_some() || version == 0).then_some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::Verified;

    #[test]
    fn an_entry_reads_back_as_the_change_that_it_says() {
        let file = LakeFile {
            path: "project_id=a/month=2024-05/chg_x-0.parquet".to_owned(),
            project: "a".parse().unwrap(),
            month: "2024-05".parse().unwrap(),
            bytes: 1234,
            rows: 7,
            sha256: [0xab; 32],
            verified: Verified::default(),
        };
        let gone = LakeFile { path: "project_id=a/month=2024-05/old.parquet".to_owned(), ..file.clone() };
        let change = Change {
            id: ChangeId::new(),
            kind: ChangeKind::Upload,
            facts: vec![("sha256", "00".to_owned())],
            removed: vec![Arc::new(gone.clone())],
            added: vec![file.clone()],
            metadata: Some(json!({ "id": "x" })),
        };
        let bytes = change.entry(3, Utc::now()).unwrap();
        let entry = read(3, &bytes).unwrap();
        assert_eq!(entry.change, Some(change.id));
        assert_eq!(metadata(&bytes), change.metadata);
        assert_eq!(entry.removed, [gone.path]);
        let LedgerFile { path, bytes: size, rows, sha256, added_in, .. } = &entry.added[0];
        assert_eq!((path, *size, *rows, *sha256, *added_in), (&file.path, 1234, 7, file.sha256, 3));
        for cut in [1, bytes.len() / 2, bytes.len() - 2] {
            assert!(read(3, &bytes[..cut]).is_none(), "cut at {cut}");
        }
        assert!(read(3, b"").is_none());
    }
}
