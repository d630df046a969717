//! One Parquet file of a partition: how it is written, sorted and on disk, and how it is read back.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::DataType,
};
use parquet::{
    arrow::{
        ArrowWriter, ProjectionMask,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder, RowSelection},
    },
    basic::{Compression, Encoding, ZstdLevel},
    file::{
        metadata::SortingColumn,
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};
use sha2::{Digest, Sha256};

use super::{LakeError, RowSet, sorted::Sorted};
use crate::{
    durable,
    ids::UploadId,
    payments::schema::{CUSTOMER_CATEGORY, FILE_SCHEMA},
};

/// Rows of a file at most, so that memory stays flat however large a month is; a larger month has several files.
pub(super) const ROWS_PER_FILE: usize = 256 * 1024;

/// Rows of a row group at most: what one core reads at a time.
const ROWS_PER_GROUP: usize = 128 * 1024;

/// Rows of a page at most. A month of a project of average size is one page a column.
const ROWS_PER_PAGE: usize = 32 * 1024;

/// Rows that a column's encoder takes at a time, between two looks at the size of its page.
const ROWS_PER_ENCODER_STEP: usize = 4096;

/// Bytes of a file's rows in memory at most, for rows that are long.
const BYTES_PER_FILE: usize = 128 << 20;

/// Rows that are read, or gathered and handed to the encoder, at a time; fewer where they are long.
const ROWS_PER_STEP: usize = 16 * 1024;

/// Bytes of such rows, about.
const BYTES_PER_STEP: usize = 16 << 20;

/// Random by nature: a dictionary of them is larger than they are. Their lengths stand apart from their text, which is
/// then nothing but characters and compresses faster and better.
const RANDOM_COLUMNS: [&str; 2] = ["payment_id", "reference_id"];

/// Numbers that hardly come twice.
const DISTINCT_COLUMNS: [&str; 2] = ["paid_at", "amount"];

/// A few words over and over: their codes are small as they are. Metrics read them from many files, and each compressed
/// column of a file costs a new decompressor, which takes longer than the values of a small file.
const WORD_COLUMNS: [&str; 6] = ["site", "currency", "source", "settlement", "upload_id", CUSTOMER_CATEGORY];

/// The columns of which a file says the least and the greatest value. Of the others nobody asks: they are random, or stand in
/// every file, and comparing each text to find out takes a tenth of the time that encoding takes. Pages are told apart where
/// the order of the rows makes them differ. Currency and upload are mostly one, and need not be read then.
const STATISTICS: [(&str, EnabledStatistics); 6] = [
    ("meter_id", EnabledStatistics::Page),
    ("paid_at", EnabledStatistics::Page),
    ("amount", EnabledStatistics::Chunk),
    ("transaction_charges", EnabledStatistics::Chunk),
    ("currency", EnabledStatistics::Chunk),
    ("upload_id", EnabledStatistics::Chunk),
];

static PROPERTIES: LazyLock<WriterProperties> = LazyLock::new(|| {
    let sorted_by = ["meter_id", "paid_at"].map(|name| SortingColumn {
        column_idx: FILE_SCHEMA.index_of(name).ok().and_then(|index| i32::try_from(index).ok()).unwrap_or_default(),
        descending: false,
        nulls_first: false,
    });
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .set_max_row_group_bytes(Some(BYTES_PER_FILE))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_data_page_row_count_limit(ROWS_PER_PAGE)
        .set_write_batch_size(ROWS_PER_ENCODER_STEP)
        .set_sorting_columns(Some(sorted_by.to_vec()))
        .set_created_by(concat!("wattlake ", env!("CARGO_PKG_VERSION")).to_owned());
    for (name, statistics) in STATISTICS {
        builder = builder.set_column_statistics_enabled(ColumnPath::from(name), statistics);
    }
    for name in RANDOM_COLUMNS {
        builder = builder
            .set_column_dictionary_enabled(ColumnPath::from(name), false)
            .set_column_encoding(ColumnPath::from(name), Encoding::DELTA_LENGTH_BYTE_ARRAY);
    }
    for name in DISTINCT_COLUMNS {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(name), false);
    }
    for name in WORD_COLUMNS {
        builder = builder.set_column_compression(ColumnPath::from(name), Compression::UNCOMPRESSED);
    }
    builder.build()
});

/// Rows that wait until they are enough for a file: bounded in number and in bytes.
#[derive(Default)]
pub struct Waiting {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Waiting {
    /// Whether `batch` still goes into the same file.
    #[must_use]
    pub fn has_room_for(&self, batch: &RecordBatch) -> bool {
        self.rows == 0
            || (self.rows + batch.num_rows() <= ROWS_PER_FILE && self.bytes + bytes_of(batch) <= BYTES_PER_FILE)
    }

    pub fn push(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.rows += batch.num_rows();
            self.bytes += bytes_of(&batch);
            self.batches.push(batch);
        }
    }

    /// The bytes that wait.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives the rows that wait, and waits for others.
    pub fn take(&mut self) -> Vec<RecordBatch> {
        std::mem::take(self).batches
    }
}

/// The bytes of a batch's own rows. Its arrays may share one buffer, as they do after they were read from a file, and each
/// of them would count all of it.
fn bytes_of(batch: &RecordBatch) -> usize {
    let own = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(column.get_array_memory_size());
    batch.columns().iter().map(own).sum()
}

/// How many rows to take at a time, of so many rows with so many bytes.
fn rows_per_step(rows: usize, bytes: usize) -> usize {
    let row_bytes = bytes / rows.max(1) + 1;
    (BYTES_PER_STEP / row_bytes).clamp(1, ROWS_PER_STEP)
}

/// A file that was written and is on disk.
#[derive(Clone, Debug)]
pub struct Written {
    pub path: PathBuf,
    pub rows: u64,
    pub bytes: u64,
    /// Of the file's bytes, taken on their way to the disk: what the disk gives back later is compared with it.
    pub sha256: [u8; 32],
}

/// Writes `batches`, of [`FILE_SCHEMA`], as a new file at `path`, sorted by meter, then time, then payment ID. The file is
/// on disk when this returns; its folder is not synced.
pub fn write(path: &Path, batches: Vec<RecordBatch>) -> Result<Written, LakeError> {
    let written = write_new(path, batches);
    if written.is_err() {
        // Half a file is of no use, and on a full disk it is in the way.
        let _ = std::fs::remove_file(path);
    }
    written
}

fn write_new(path: &Path, batches: Vec<RecordBatch>) -> Result<Written, LakeError> {
    let io = |source| LakeError::Io { what: format!("writing {}", path.display()), source };
    if let Some(parent) = path.parent() {
        durable::create_dir_all(parent).map_err(io)?;
    }
    let file = File::create_new(path).map_err(io)?;
    let mut hashing = Hashing { file: &file, hash: Sha256::new(), bytes: 0 };
    let mut writer = ArrowWriter::try_new(&mut hashing, FILE_SCHEMA.clone(), Some(PROPERTIES.clone()))?;
    let row_bytes = batches.iter().map(bytes_of).sum();
    let rows = Sorted::of(batches)?;
    for batch in rows.batches(rows_per_step(rows.len(), row_bytes)) {
        writer.write(&batch?)?;
    }
    // Not `into_inner`, which keeps only the text of the system's error.
    writer.finish()?;
    drop(writer);
    let Hashing { hash, bytes, .. } = hashing;
    durable::sync(&file).map_err(io)?;
    Ok(Written { path: path.to_owned(), rows: rows.len() as u64, bytes, sha256: hash.finalize().into() })
}

/// Counts and hashes what goes to a file.
struct Hashing<'a> {
    file: &'a File,
    hash: Sha256,
    bytes: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What to read of a file; by default all of it.
#[derive(Clone, Copy, Default)]
pub(super) struct Part<'a> {
    /// Some columns only.
    pub(super) columns: Option<&'a [&'a str]>,
    /// Some rows only.
    pub(super) rows: Option<&'a RowSet>,
}

/// Opens a file of the lake, or a staged one, for reading batch by batch.
pub(super) fn read(path: &Path, part: Part<'_>) -> Result<ParquetRecordBatchReader, LakeError> {
    let file =
        File::open(path).map_err(|source| LakeError::Io { what: format!("opening {}", path.display()), source })?;
    let mut builder = ParquetRecordBatchReaderBuilder::try_new(file)?;
    let (rows, bytes) = builder.metadata().row_groups().iter().fold((0, 0), |(rows, bytes), group| {
        (rows + to_usize(group.num_rows()), bytes + to_usize(group.total_byte_size()))
    });
    builder = builder.with_batch_size(rows_per_step(rows, bytes));
    if let Some(columns) = part.columns {
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        builder = builder.with_projection(mask);
    }
    if let Some(wanted) = part.rows {
        let ranges = wanted.iter().map(|row| row..row + 1);
        builder = builder.with_row_selection(RowSelection::from_consecutive_ranges(ranges, rows));
    }
    Ok(builder.build()?)
}

/// Whether a file has rows of `upload`.
pub(super) fn holds_upload(path: &Path, upload: &UploadId) -> Result<bool, LakeError> {
    for batch in read(path, Part { columns: Some(&["upload_id"]), rows: None })? {
        let uploads = cast(batch?.column(0), &DataType::Utf8)?;
        if uploads.as_string::<i32>().iter().any(|of| of == Some(upload.as_str())) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn to_usize(count: i64) -> usize {
    usize::try_from(count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{io::Cursor, sync::Arc};

    use arrow::{
        array::{ArrayRef, StringArray},
        ipc::{reader::FileReader, writer::FileWriter},
    };

    use super::*;

    #[test]
    fn rows_that_were_read_from_a_file_count_once_though_their_columns_share_its_buffer() {
        let text = Arc::new(StringArray::from(vec!["a meter's payment"; 1000])) as ArrayRef;
        let columns = (0..20).map(|column| (format!("c{column}"), text.clone()));
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut file = FileWriter::try_new(Cursor::new(Vec::new()), &batch.schema()).unwrap();
        file.write(&batch).unwrap();
        let file = file.into_inner().unwrap().into_inner();
        let read = FileReader::try_new(Cursor::new(file), None).unwrap().next().unwrap().unwrap();
        assert!(
            read.get_array_memory_size() > 10 * bytes_of(&batch),
            "the library counts as it did when this was written"
        );
        assert_eq!(bytes_of(&read), bytes_of(&batch));
    }
}
