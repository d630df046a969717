//! Payments as verification reads them: some columns of a project's rows, whole or as a fold over uploads leaves them.

use std::{fs::File, path::PathBuf, sync::Arc};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{DataType, Int32Type, Schema},
    error::ArrowError,
};
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection},
};

use super::{Lake, LakeError, LiveUpload, RowSet, Snapshot, refold, verify};
use crate::ids::ProjectSlug;

/// Rows that are read at a time.
const ROWS_PER_BATCH: usize = 32 * 1024;

/// Text that hardly comes twice: a dictionary of it would only cost.
const PLAIN: [&str; 2] = ["payment_id", "reference_id"];

/// Rows of one file: all of it, but for those that do not count.
#[derive(Clone, Debug)]
pub struct FileRows {
    path: PathBuf,
    rows: u64,
    without: Option<Arc<RowSet>>,
}

impl FileRows {
    pub(super) fn new(path: PathBuf, rows: u64, without: Option<RowSet>) -> Self {
        Self { path, rows, without: without.map(Arc::new) }
    }

    /// How many rows the file has, for an estimate of the work.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Some columns of the rows that count, batch by batch. Text that comes again comes as dictionaries with keys of 32 bits, so that
    /// rows that say the same are compared by a number. Blocks.
    pub fn read(
        &self,
        columns: &[&str],
    ) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>> + use<>, LakeError> {
        self.read_some(columns, None)
    }

    /// The same of some rows alone.
    pub fn read_some(
        &self,
        columns: &[&str],
        only: Option<&RowSet>,
    ) -> Result<impl Iterator<Item = Result<RecordBatch, ArrowError>> + use<>, LakeError> {
        let failed = |source| LakeError::Io { what: format!("opening {}", self.path.display()), source };
        let file = File::open(&self.path).map_err(failed)?;
        let footer = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())?;
        let fields = footer.schema().fields().iter().map(|field| match field.data_type() {
            DataType::Utf8 if !PLAIN.contains(&field.name().as_str()) => {
                let coded = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
                Arc::new(field.as_ref().clone().with_data_type(coded))
            }
            _ => Arc::clone(field),
        });
        let options = ArrowReaderOptions::new().with_schema(Arc::new(Schema::new(fields.collect::<Vec<_>>())));
        let footer = ArrowReaderMetadata::try_new(Arc::clone(footer.metadata()), options)?;
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer);
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        builder = builder.with_projection(mask).with_batch_size(ROWS_PER_BATCH);
        let all = usize::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or_default();
        if only.is_some() || self.without.is_some() {
            let counts = |row: &usize| {
                only.is_none_or(|only| only.contains(*row))
                    && self.without.as_ref().is_none_or(|without| !without.contains(*row))
            };
            let ranges = (0..all).filter(counts).map(|row| row..row + 1);
            builder = builder.with_row_selection(RowSelection::from_consecutive_ranges(ranges, all));
        }
        Ok(builder.build()?)
    }

    /// The rows of some meters, whether they count or not. Blocks.
    pub fn rows_of_meters(&self, wanted: impl Fn(&str) -> bool) -> Result<RowSet, LakeError> {
        let all = Self { without: None, ..self.clone() };
        let (mut rows, mut row) = (RowSet::default(), 0);
        for batch in all.read(&["meter_id"])? {
            let batch = batch?;
            let Some(column) = batch.column(0).as_dictionary_opt::<Int32Type>() else { continue };
            let names = column.values().as_string::<i32>();
            let mut last: Option<(i32, bool)> = None;
            for key in column.keys().values() {
                let is_wanted = match last {
                    Some((before, is_wanted)) if before == *key => is_wanted,
                    _ => wanted(names.value(key.cast_unsigned() as usize)),
                };
                last = Some((*key, is_wanted));
                if is_wanted {
                    rows.insert(row);
                }
                row += 1;
            }
        }
        Ok(rows)
    }
}

impl Lake {
    /// The rows of a project at a version of the lake. Compares each file with the ledger that nobody has read since the start.
    /// Blocks.
    pub fn rows_of(&self, snapshot: &Snapshot, project: &ProjectSlug) -> Result<Vec<FileRows>, LakeError> {
        let files: Vec<_> = snapshot.project_files(project).cloned().collect();
        verify(&self.root, &files)?;
        Ok(files.iter().map(|file| FileRows::new(self.root.join(&file.path), file.rows, None)).collect())
    }
}

/// The rows that the fold over uploads leaves, out of their staged files. The caller has verified these. Blocks.
pub fn folded_rows(live: &[LiveUpload]) -> Result<Vec<FileRows>, LakeError> {
    let rows = refold::rows_left(live)?;
    Ok(rows
        .into_iter()
        .map(|(staged, without)| FileRows::new(staged.file.path.clone(), staged.file.rows, without))
        .collect())
}
