//! The Delta log: a folder of entries, one a version, and now and then a checkpoint of all of them.
//!
//! One server writes the table, so a commit is one put-if-absent of the next entry, made from the change alone: its cost
//! does not grow with the table. delta-rs makes the table and writes checkpoints, which keep the start of other readers
//! short; what the entries say is known from the ledger, and the two are compared when the lake is opened.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use deltalake_core::{
    DeltaTable, DeltaTableBuilder, DeltaTableError,
    kernel::{DataType, PrimitiveType, StructField},
    logstore::LogStoreRef,
    operations::create::CreateBuilder,
    protocol::checkpoints,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use super::{LakeError, pass, store::DurableStore};
use crate::{
    catalog::LedgerCheckpoint,
    durable,
    payments::schema::{AMOUNT_PRECISION, AMOUNT_SCALE, FILE_SCHEMA, PARTITION_COLUMNS},
};

/// A checkpoint is written at every so many versions.
pub(super) const CHECKPOINT_INTERVAL: u64 = 20;

/// The file that says which checkpoint is the newest.
pub(super) const POINTER: &str = "_last_checkpoint";

/// The log of one table.
#[derive(Clone)]
pub(super) struct DeltaLog {
    store: LogStoreRef,
    folder: PathBuf,
}

/// A file of the log's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogFile {
    Entry(u64),
    Checkpoint(u64),
    Pointer,
    /// A write that was not ended.
    Unfinished,
    Foreign,
}

impl LogFile {
    fn of(name: &str) -> Self {
        let version = |digits: &str| (digits.len() == 20).then(|| digits.parse().ok()).flatten();
        if name == POINTER {
            return Self::Pointer;
        }
        if name.strip_prefix('.').is_some_and(|rest| rest.strip_suffix(".tmp").is_some()) {
            return Self::Unfinished;
        }
        if let Some(version) = name.strip_suffix(".checkpoint.parquet").and_then(version) {
            return Self::Checkpoint(version);
        }
        name.strip_suffix(".json").and_then(version).map_or(Self::Foreign, Self::Entry)
    }
}

impl DeltaLog {
    /// The log of the table in the folder `root`, whether it is there or not.
    pub(super) fn of(root: &Path) -> Result<Self, LakeError> {
        let url = Url::from_directory_path(root)
            .map_err(|()| LakeError::Layout(format!("{} is not an absolute folder", root.display())))?;
        let builder =
            DeltaTableBuilder::from_url(url.clone())?.with_storage_backend(Arc::new(DurableStore::new()), url);
        Ok(Self { store: builder.build_storage()?, folder: root.join("_delta_log") })
    }

    /// Makes an empty table, which is version 0, and gives its entry.
    pub(super) async fn create(&self) -> Result<Vec<u8>, LakeError> {
        create(self.store.clone()).await?;
        let missing = || LakeError::Layout("the table that was made has no entry".to_owned());
        self.entry(0)?.ok_or_else(missing)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn entry_path(&self, version: u64) -> PathBuf {
        self.folder.join(format!("{version:020}.json"))
    }

    pub(super) fn checkpoint_path(&self, version: u64) -> PathBuf {
        self.folder.join(format!("{version:020}.checkpoint.parquet"))
    }

    /// The bytes of an entry, or `None` where there is no such entry.
    pub(super) fn entry(&self, version: u64) -> Result<Option<Vec<u8>>, LakeError> {
        read(&self.entry_path(version))
    }

    /// The files of the log's folder, by name; none where there is no folder.
    pub(super) fn files(&self) -> Result<Vec<(String, LogFile)>, LakeError> {
        let failed = |source| LakeError::Io { what: format!("listing {}", self.folder.display()), source };
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
            files.push((name.clone(), LogFile::of(&name)));
        }
        files.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(files)
    }

    /// Writes the entry of the next version, on disk when this returns.
    ///
    /// # Errors
    /// [`LakeError::Conflict`] where that version has an entry already.
    pub(super) async fn write(&self, version: u64, entry: Vec<u8>) -> Result<(), LakeError> {
        let path = self.entry_path(version);
        let write = move || durable::write(&path, [entry], false);
        match tokio::task::spawn_blocking(write).await.map_err(|_| LakeError::Stopped)? {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(LakeError::Conflict { version }),
            other => other.map_err(|source| LakeError::Io { what: format!("writing version {version}"), source }),
        }
    }

    /// Writes a checkpoint of `version`, and gives what to know it by.
    pub(super) async fn checkpoint(&self, version: u64) -> Result<LedgerCheckpoint, LakeError> {
        pass("checkpoint::begin")?;
        let mut table = DeltaTable::new(self.store.clone());
        table.load_version(version).await?;
        checkpoints::create_checkpoint(&table, None).await?;
        pass("checkpoint::written")?;
        let log = self.clone();
        let written = move || {
            let missing = || LakeError::Layout(format!("the checkpoint of version {version} is not there"));
            let checkpoint = read(&log.checkpoint_path(version))?.ok_or_else(missing)?;
            let pointer = read(&log.folder.join(POINTER))?.ok_or_else(missing)?;
            Ok(LedgerCheckpoint { version, sha256: Sha256::digest(&checkpoint).into(), pointer })
        };
        tokio::task::spawn_blocking(written).await.map_err(|_| LakeError::Stopped)?
    }
}

/// The bytes of a file, or `None` where it is not there.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, LakeError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(LakeError::Io { what: format!("reading {}", path.display()), source }),
    }
}

/// What a table is with the columns that it lacks, behind those that it has; `None` where it lacks none. `metadata` is the
/// table's `metaData` as the log has it. A column that comes later is null in the files from before.
pub(super) fn completed(metadata: &Value) -> Result<Option<Value>, LakeError> {
    let unreadable = || LakeError::Layout("the log says nothing of the table's columns that can be read".to_owned());
    let mut schema: Value =
        metadata["schemaString"].as_str().and_then(|text| serde_json::from_str(text).ok()).ok_or_else(unreadable)?;
    let fields = schema["fields"].as_array_mut().ok_or_else(unreadable)?;
    let there: Vec<String> = fields.iter().filter_map(|field| field["name"].as_str().map(str::to_owned)).collect();
    let lacking: Vec<_> = FILE_SCHEMA.fields().iter().filter(|field| !there.contains(field.name())).collect();
    if lacking.is_empty() {
        return Ok(None);
    }
    for field in lacking {
        if !field.is_nullable() || field.data_type() != &arrow::datatypes::DataType::Utf8 {
            return Err(LakeError::Layout(format!(
                "the table lacks {}, which is no text that may be null",
                field.name()
            )));
        }
        fields.push(json!({ "name": field.name(), "type": "string", "nullable": true, "metadata": {} }));
    }
    let mut completed = metadata.clone();
    completed["schemaString"] = Value::from(schema.to_string());
    Ok(Some(completed))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_log_are_told_apart_by_name() {
        assert_eq!(LogFile::of("00000000000000000012.json"), LogFile::Entry(12));
        assert_eq!(LogFile::of("00000000000000000020.checkpoint.parquet"), LogFile::Checkpoint(20));
        assert_eq!(LogFile::of("_last_checkpoint"), LogFile::Pointer);
        assert_eq!(LogFile::of(".0192.tmp"), LogFile::Unfinished);
        for foreign in ["12.json", "00000000000000000012.json.bak", "0000000000000000012x.json", "x"] {
            assert_eq!(LogFile::of(foreign), LogFile::Foreign, "{foreign}");
        }
    }
}
