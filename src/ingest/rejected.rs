//! The rejected rows of an upload as a CSV file: the original columns, then where and why.

use std::{
    fs::File,
    io::{self, BufWriter},
    path::{Path, PathBuf},
};

use crate::{
    durable,
    payments::{decoder::RejectedRow, report::RowError},
};

/// The columns after the file's own.
const REASON_COLUMNS: [&str; 4] = ["line", "column", "code", "message"];

/// Writes `rejected.csv.zst`, which is made with the first row.
pub(super) struct RejectedFile {
    path: PathBuf,
    header: Vec<String>,
    writer: Option<csv::Writer<zstd::Encoder<'static, BufWriter<File>>>>,
}

impl RejectedFile {
    /// `header` is the header row of the upload's file.
    pub(super) fn new(path: &Path, header: &[String]) -> Self {
        Self { path: path.to_owned(), header: header.to_vec(), writer: None }
    }

    /// Appends a row. A short row is filled up with blanks; of a long one the surplus is only in the original, because a CSV
    /// reader needs the same columns in every row. Several errors of a row stand together, `; ` between them.
    pub(super) fn push(&mut self, row: &RejectedRow) -> io::Result<()> {
        if self.writer.is_none() {
            let file = BufWriter::new(File::create_new(&self.path)?);
            let mut writer = csv::Writer::from_writer(zstd::Encoder::new(file, 1)?);
            writer.write_record(self.header.iter().map(String::as_str).chain(REASON_COLUMNS))?;
            self.writer = Some(writer);
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let all = |part: fn(&RowError) -> &str| row.errors.iter().map(part).collect::<Vec<_>>().join("; ");
        let fields = row.fields.iter().map(String::as_str).chain(std::iter::repeat(""));
        let reasons = [
            row.line.to_string(),
            all(|error| error.column.as_deref().unwrap_or_default()),
            all(|error| &error.code),
            all(|error| &error.message),
        ];
        writer.write_record(fields.take(self.header.len()).chain(reasons.iter().map(String::as_str)))?;
        Ok(())
    }

    /// Puts the file on disk. Says whether there is one.
    pub(super) fn finish(self) -> io::Result<bool> {
        let Some(writer) = self.writer else { return Ok(false) };
        let encoder = writer.into_inner().map_err(|error| io::Error::other(error.to_string()))?;
        durable::sync(&encoder.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?)?;
        Ok(true)
    }
}
