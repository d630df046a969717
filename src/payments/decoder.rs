//! The decoder: the bytes of a payment file → batches of typed columns and the rows that are refused.
//!
//! Every record of the file comes out exactly once: as a row of a batch's `payments`, or as one of its `rejected`. Where
//! that cannot be promised, because the file cannot be read on, the file as a whole is refused. A record without any value,
//! such as the `,,,,` that a spreadsheet leaves below its last row, says nothing and is passed over as a blank line is;
//! a warning counts them.

use std::{
    io::{self, Read},
    sync::Arc,
};

use arrow::array::RecordBatch;

use super::{
    definition::PAYMENTS,
    header::Layout,
    packing::Packing,
    records::{Record, RecordError, Records},
    report::{RowError, Warning, code},
    required::RequiredColumn,
    routing::Routing,
    row::RowDecoder,
    unpack::UnpackError,
};
use crate::ids::UploadId;

/// Records of a batch at most.
pub(super) const BATCH_ROWS: usize = 8192;

/// Bytes of records after which a batch ends before it has [`BATCH_ROWS`], so that memory stays flat for long rows too.
const BATCH_BYTES: usize = 8 << 20;

/// Fields of a rejected row that are kept at most. A file has at most 16 columns.
const KEPT_FIELDS: usize = 256;

/// What a file may have at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a record, without its line end.
    pub row_bytes: usize,
    /// Bytes of a value.
    pub field_bytes: usize,
    /// Records of a file.
    pub rows: u64,
}

impl Limits {
    /// The most that can be set. For a file that was taken in before: the limits of today may be lower than those of then.
    pub const LARGEST: Self = Self { row_bytes: 64 << 20, field_bytes: 16 << 20, rows: 1_000_000_000 };
}

impl Default for Limits {
    fn default() -> Self {
        Self { row_bytes: 1 << 20, field_bytes: 64 << 10, rows: 50_000_000 }
    }
}

/// What is known of a file before it is read.
#[derive(Clone, Debug)]
pub struct FileContext {
    /// The site of the rows without a LOCATION.
    pub default_site: String,
    /// ISO 4217: the project's.
    pub currency: String,
    pub upload_id: UploadId,
    /// The last instant that a payment may have, in microseconds since the epoch: when the file came, and a day.
    pub not_after_micros: i64,
    /// Of a file over several projects: a row whose meter goes to none of them is rejected. The site and the currency of the
    /// others are those of their projects, which is not done here.
    pub routing: Option<Arc<Routing>>,
    /// What the file must have, with a value in each row, beyond what every file must.
    pub required: Vec<RequiredColumn>,
    pub limits: Limits,
}

/// Why a file cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The input failed (or, a defect of ours, the columns did not fit together).
    #[error("reading the file failed")]
    Io(#[source] io::Error),
    /// The file as a whole is refused, and why: all that is wrong with its header, or what stops the reading.
    #[error("the file is refused: {}", .0.first().map_or("", |error| error.message.as_str()))]
    File(Vec<RowError>),
}

/// A record that is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedRow {
    /// The line on which it starts.
    pub line: u64,
    /// The offset in the file of its first byte.
    pub byte: u64,
    /// As the file had them, in the file's order, lossy only where they are not UTF-8; the first 256 of them.
    pub fields: Vec<String>,
    /// Everything that is wrong with it, never empty.
    pub errors: Vec<RowError>,
}

/// Up to [`BATCH_ROWS`] records.
#[derive(Clone, Debug)]
pub struct DecodedBatch {
    /// The accepted rows, of [`super::schema::FILE_SCHEMA`], in the file's order.
    pub payments: RecordBatch,
    /// The line on which each accepted row starts.
    pub lines: Vec<u64>,
    /// The offset in the file of each accepted row's first byte.
    pub bytes: Vec<u64>,
    pub rejected: Vec<RejectedRow>,
}

/// What a file came to, once it is read to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records, the header and what is blank aside.
    pub read: u64,
    pub rejected: u64,
    /// About accepted rows, and those that are blank.
    pub warnings: Vec<Warning>,
}

/// Decodes one file. Memory is flat: a buffer of 1 MiB and the longest row, and one batch.
pub struct Decoder<R: Read> {
    records: Records<R>,
    rows: RowDecoder,
    limits: Limits,
    read: u64,
    rejected: u64,
    /// The warning about records without any value, once there is one.
    blank: Option<Warning>,
    /// What ended the reading, held back until what came before it is given out.
    ended_by: Option<DecodeError>,
}

impl<R: Read> Decoder<R> {
    /// Reads and checks the header.
    ///
    /// # Errors
    /// [`DecodeError::File`] with everything that is wrong with the header, or with what the file is.
    #[allow(clippy::needless_pass_by_value, reason = "what is known of a file goes with its decoder")]
    pub fn new(input: R, context: FileContext) -> Result<Self, DecodeError> {
        let limits = context.limits;
        let mut records = Records::new(input, limits.row_bytes);
        let start = records.peek()?;
        if let Some((code, message)) = foreign(start) {
            return Err(refused(1, 0, code, message));
        }
        // The byte order mark; offsets count it.
        if start.starts_with(b"\xef\xbb\xbf") {
            records.skip(3);
        }
        let Some(header) = records.next()? else {
            let message = "the file is empty; it starts with a header row, as the template does".to_owned();
            return Err(refused(1, 0, code::EMPTY_FILE, message));
        };
        let layout = Layout::read(&PAYMENTS, &context.required, &header).map_err(DecodeError::File)?;
        let rows = RowDecoder::new(layout, &context);
        Ok(Self { records, rows, limits, read: 0, rejected: 0, blank: None, ended_by: None })
    }

    /// The file's own header row, in order.
    pub fn header(&self) -> &[String] {
        &self.rows.form.layout.names
    }

    /// The next records, at most [`BATCH_ROWS`]; none at the end of the file.
    ///
    /// # Errors
    /// [`DecodeError::File`] where the file cannot be read on, once all before that place is given out. Its good rows are
    /// then void, because the file as a whole is refused; its rejected rows still tell what is wrong with it.
    pub fn next_batch(&mut self) -> Result<Option<DecodedBatch>, DecodeError> {
        if let Some(error) = self.ended_by.take() {
            return Err(error);
        }
        let (mut lines, mut bytes, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        let mut size = 0;
        while lines.len() + rejected.len() < BATCH_ROWS && size < BATCH_BYTES {
            let record = match self.records.next() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => {
                    self.ended_by = Some(error.into());
                    break;
                }
            };
            if is_blank_record(&record) {
                self.blank.get_or_insert_with(|| blank_rows_from(record.line)).count += 1;
                continue;
            }
            if self.read == self.limits.rows {
                let message = format!("the file has more than {} rows (upload.max_rows); split it", self.limits.rows);
                self.ended_by = Some(refused(record.line, record.byte, code::TOO_MANY_ROWS, message));
                break;
            }
            self.read += 1;
            size += record.bytes().len();
            match self.rows.decode(&record) {
                Ok(()) => {
                    lines.push(record.line);
                    bytes.push(record.byte);
                }
                Err(errors) => {
                    self.rejected += 1;
                    rejected.push(reject(&record, errors));
                }
            }
        }
        if lines.is_empty()
            && rejected.is_empty()
            && let Some(error) = self.ended_by.take()
        {
            return Err(error);
        }
        if self.read == 0 {
            let message = "the file has a header and no rows".to_owned();
            return Err(refused(1, 0, code::NO_ROWS, message));
        }
        if lines.is_empty() && rejected.is_empty() {
            return Ok(None);
        }
        let payments = self.rows.columns.finish().map_err(io::Error::other)?;
        Ok(Some(DecodedBatch { payments, lines, bytes, rejected }))
    }

    /// What the file came to, up to where it was read.
    pub fn finish(self) -> Summary {
        let warnings = self.rows.warnings.into_list().into_iter().chain(self.blank).collect();
        Summary { read: self.read, rejected: self.rejected, warnings }
    }
}

impl From<RecordError> for DecodeError {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Io(error) => error.into(),
            RecordError::Malformed(error) => Self::File(vec![*error]),
        }
    }
}

impl From<io::Error> for DecodeError {
    /// What is wrong with a packed file is the file's fault, although it is found while reading.
    fn from(error: io::Error) -> Self {
        match error.downcast::<UnpackError>() {
            Ok(UnpackError::File(error)) => Self::File(vec![*error]),
            Ok(other) => Self::Io(io::Error::other(other)),
            Err(error) => Self::Io(error),
        }
    }
}

/// Whether no field of a record has a value: it is spaces and commas.
pub(crate) fn is_blank_record(record: &Record<'_>) -> bool {
    match record.bytes() {
        // Nearly every record starts with a value, and is told by its first byte.
        [first, ..] if first.is_ascii_graphic() && !matches!(first, b',' | b'"') => false,
        _ if record.has_fault() => false,
        _ => record.text().is_some_and(|text| (0..record.len()).all(|field| text.field(field).trim().is_empty())),
    }
}

pub(crate) fn blank_rows_from(line: u64) -> Warning {
    let message = "this row has no value at all, as rows below the end of a spreadsheet have; it is passed over";
    let (code, message) = (code::BLANK_ROW.to_owned(), message.to_owned());
    Warning { code, column: None, value: None, count: 0, line, message }
}

fn reject(record: &Record<'_>, errors: Vec<RowError>) -> RejectedRow {
    let fields = (0..record.len().min(KEPT_FIELDS))
        .map(|field| String::from_utf8_lossy(record.field(field)).into_owned())
        .collect();
    RejectedRow { line: record.line, byte: record.byte, fields, errors }
}

pub(crate) fn refused(line: u64, byte: u64, code: &str, message: String) -> DecodeError {
    let error = RowError { line, byte, column: None, code: code.to_owned(), value: None, message };
    DecodeError::File(vec![error])
}

/// What a file is that is no UTF-8 text at all, by its first bytes.
pub(crate) fn foreign(start: &[u8]) -> Option<(&'static str, String)> {
    let sample = &start[..start.len().min(64)];
    let nul_at = |parity: usize| sample.iter().skip(parity).step_by(2).all(|byte| *byte == 0);
    let wide = sample.len() >= 4 && (nul_at(0) || nul_at(1));
    if start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff") || wide {
        return Some((code::UTF16, "the file is UTF-16 (\"Unicode text\"); save it as \"CSV UTF-8\"".to_owned()));
    }
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"\xd0\xcf\x11\xe0") {
        let message = "the file is a spreadsheet or a zip archive; save the sheet as \"CSV UTF-8\"";
        return Some((code::NOT_CSV, message.to_owned()));
    }
    let packing = Packing::of_content(start)?;
    let (what, name) = (packing.name(), packing.file_name());
    let message = format!(
        "this is {what} where the CSV should be: a file that is packed with {what} is named {name} (for a plain body: \
         file_name={name} in the URL), and is packed once"
    );
    Some((code::WRONG_PACKING, message))
}
