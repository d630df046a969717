//! The Delta log: the table's creation, its state when the server starts, and commits.
//!
//! One server writes the table, so a commit is one put-if-absent of the next version, made from the actions alone: its
//! cost does not grow with the table. What a general-purpose commit does besides (carrying a snapshot of all files along)
//! is what our own [`Snapshot`] is for. A checkpoint every [`CHECKPOINT_INTERVAL`] versions keeps the next start short.

use std::{collections::HashMap, path::Path, sync::Arc};

use chrono::Utc;
use deltalake_core::{
    DeltaTable, DeltaTableBuilder, DeltaTableError,
    kernel::{
        Action, Add, DataType, PrimitiveType, Remove, StructField, Transaction,
        transaction::{CommitData, TransactionError},
    },
    logstore::{CommitOrBytes, LogStoreRef},
    operations::create::CreateBuilder,
    protocol::{DeltaOperation, SaveMode, checkpoints},
};
use futures::TryStreamExt;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::{LakeError, LakeFile, Snapshot, Verified, store::DurableStore};
use crate::{
    ids::{ChangeId, Month, ProjectSlug},
    payments::schema::{AMOUNT_PRECISION, AMOUNT_SCALE, FILE_SCHEMA, PARTITION_COLUMNS},
};

/// A checkpoint is written at every so many versions.
const CHECKPOINT_INTERVAL: u64 = 20;

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
}

impl ChangeKind {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Delete => "delete",
            Self::Restore => "restore",
            Self::Rebuild => "rebuild",
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
}

/// The log of one table.
pub(super) struct DeltaLog {
    store: LogStoreRef,
}

impl DeltaLog {
    /// Opens the table in the folder `root`, or makes an empty one, and reads which files are active.
    pub(super) async fn open(root: &Path) -> Result<(Self, Snapshot), LakeError> {
        let url = Url::from_directory_path(root)
            .map_err(|()| LakeError::Layout(format!("{} is not an absolute folder", root.display())))?;
        let builder =
            DeltaTableBuilder::from_url(url.clone())?.with_storage_backend(Arc::new(DurableStore::new()), url);
        let store = builder.build_storage()?;
        let mut table = DeltaTable::new(store.clone());
        if table.verify_deltatable_existence().await? {
            table.load().await?;
        } else {
            table = create(store.clone()).await?;
        }
        let snapshot = read_snapshot(&table).await?;
        Ok((Self { store }, snapshot))
    }

    /// Reads anew which files are active.
    pub(super) async fn read(&self) -> Result<Snapshot, LakeError> {
        let mut table = DeltaTable::new(self.store.clone());
        table.load().await?;
        read_snapshot(&table).await
    }

    /// Writes `change` as version `version`, which must be the next one.
    pub(super) async fn commit(&self, version: u64, change: &Change) -> Result<(), LakeError> {
        let now = Utc::now().timestamp_millis();
        let mut actions: Vec<Action> =
            change.removed.iter().map(|file| Action::Remove(remove_action(file, now))).collect();
        actions.extend(change.added.iter().map(|file| Action::Add(add_action(file, now))));
        let operation = DeltaOperation::Write {
            mode: SaveMode::Append,
            partition_by: Some(PARTITION_COLUMNS.map(str::to_owned).to_vec()),
            predicate: None,
        };
        let facts = [("change", change.id.as_str()), ("kind", change.kind.as_str())];
        let facts = facts.into_iter().chain(change.facts.iter().map(|(name, value)| (*name, value.as_str())));
        let metadata = facts.map(|(name, value)| (format!("wattlake.{name}"), Value::from(value))).collect();
        let number = i64::try_from(version).map_err(|_| LakeError::Layout(format!("version {version}")))?;
        let transaction = Transaction::new_with_last_update(change.id.as_str(), number, Some(now));
        let data = CommitData::new(actions, operation, metadata, vec![transaction]);
        let bytes = data.get_bytes().map_err(DeltaTableError::from)?;
        match self.store.write_commit_entry(version, CommitOrBytes::LogBytes(bytes), Uuid::new_v4()).await {
            Ok(()) => Ok(()),
            Err(TransactionError::VersionAlreadyExists(_)) => Err(LakeError::Conflict { version }),
            Err(error) => Err(DeltaTableError::from(error).into()),
        }
    }

    /// Writes a checkpoint if one is due at `version`. It only shortens the next start, so a failure is logged.
    pub(super) async fn checkpoint_if_due(&self, version: u64) {
        if !version.is_multiple_of(CHECKPOINT_INTERVAL) {
            return;
        }
        let mut table = DeltaTable::new(self.store.clone());
        let written = match table.load_version(version).await {
            Ok(()) => checkpoints::create_checkpoint(&table, None).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(version, %error, "the checkpoint of the lake's log was not written; the next start is slower");
        }
    }

    /// The version that `change` made, by the log itself.
    pub(super) async fn version_of(&self, change: &ChangeId) -> Result<Option<u64>, LakeError> {
        let mut table = DeltaTable::new(self.store.clone());
        table.load().await?;
        let version = table.snapshot()?.transaction_version(self.store.as_ref(), change.as_str()).await?;
        Ok(version.and_then(|version| u64::try_from(version).ok()))
    }
}

async fn create(store: LogStoreRef) -> Result<DeltaTable, LakeError> {
    let text = |name: &str| StructField::new(name, DataType::STRING, false);
    let mut columns: Vec<StructField> = PARTITION_COLUMNS.map(text).to_vec();
    for field in FILE_SCHEMA.fields() {
        use arrow::datatypes::DataType as Arrow;
        let kind = match field.data_type() {
            Arrow::Utf8 => DataType::STRING,
            Arrow::Timestamp(..) => DataType::TIMESTAMP,
            Arrow::Decimal128(..) => {
                let scale = u8::try_from(AMOUNT_SCALE).map_err(|_| LakeError::Layout("a negative scale".to_owned()))?;
                DataType::Primitive(PrimitiveType::decimal(AMOUNT_PRECISION, scale).map_err(DeltaTableError::from)?)
            }
            other => return Err(LakeError::Layout(format!("a column of type {other}"))),
        };
        columns.push(StructField::new(field.name(), kind, field.is_nullable()));
    }
    let table = CreateBuilder::new()
        .with_log_store(store)
        .with_table_name("payments")
        .with_comment("Electricity payments, one row a payment ID of a project")
        .with_columns(columns)
        .with_partition_columns(PARTITION_COLUMNS)
        .await?;
    Ok(table)
}

async fn read_snapshot(table: &DeltaTable) -> Result<Snapshot, LakeError> {
    let state = table.snapshot()?;
    let log = table.log_store();
    let mut files: Vec<(i64, LakeFile)> = state
        .snapshot()
        .file_views(log.as_ref(), None)
        .map_err(LakeError::from)
        .and_then(|view| async move {
            let values = view.partition_values_map();
            let value = |name: &str| values.get(name).cloned().flatten().unwrap_or_default();
            let path = view.object_store_path().to_string();
            let broken = |what: &str| LakeError::Layout(format!("the log's entry for {path} has no valid {what}"));
            let project: ProjectSlug = value("project_id").parse().map_err(|_| broken("project_id"))?;
            let month: Month = value("month").parse().map_err(|_| broken("month"))?;
            let bytes = u64::try_from(view.size()).map_err(|_| broken("size"))?;
            let rows = view.num_records().ok_or_else(|| broken("number of records"))? as u64;
            Ok((
                view.modification_time(),
                LakeFile { path, project, month, bytes, rows, sha256: [0; 32], verified: Verified::default() },
            ))
        })
        .try_collect()
        .await?;
    // The log does not keep an order; the files of a partition are listed as they came.
    files.sort_by(|(a_time, a), (b_time, b)| a_time.cmp(b_time).then_with(|| a.path.cmp(&b.path)));
    let files: Vec<LakeFile> = files.into_iter().map(|(_, file)| file).collect();
    let version = table.version().ok_or_else(|| LakeError::Layout("the table has no version".to_owned()))?;
    Ok(Snapshot::default().after(version, &[], &files))
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
