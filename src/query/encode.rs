//! An answer as bytes: JSON, NDJSON, CSV, Arrow or Parquet. Money is exact in each of them: a decimal is a numeral with
//! its four places, never a float.

use std::{fmt, io::Write, str::FromStr};

use arrow::{error::ArrowError, ipc::writer::StreamWriter};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use serde_json::json;

use super::{
    QueryError,
    answer::Answer,
    cells::{Cells, json_keys, write_object},
};

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Ndjson,
    Csv,
    /// Arrow's IPC stream.
    Arrow,
    Parquet,
}

/// A format that there is not; fit for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no such format; the formats are json, ndjson, csv, arrow and parquet, in Accept: application/json, \
         application/x-ndjson, text/csv, application/vnd.apache.arrow.stream and application/vnd.apache.parquet"
)]
pub struct UnknownFormat;

impl Format {
    pub const ALL: [Self; 5] = [Self::Json, Self::Ndjson, Self::Csv, Self::Arrow, Self::Parquet];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
        }
    }

    /// The media type, as registered where it is.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Csv => "text/csv",
            Self::Arrow => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }

    /// The value of a Content-Type header.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8; header=present",
            other => other.media_type(),
        }
    }

    /// The form that a request asks for: `?format=` first, then its Accept header, else JSON.
    pub fn choose(format: Option<&str>, accept: Option<&str>) -> Result<Self, UnknownFormat> {
        match (format, accept) {
            (Some(format), _) => format.parse(),
            (None, Some(accept)) => Self::from_accept(accept),
            (None, None) => Ok(Self::Json),
        }
    }

    /// The best of an Accept header: the greatest `q`, then the first (RFC 9110, 12.5.1).
    pub fn from_accept(accept: &str) -> Result<Self, UnknownFormat> {
        let mut best: Option<(f32, Self)> = None;
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0_f32);
            let found = match media.as_str() {
                "*/*" | "application/*" | "" => Some(Self::Json),
                "text/*" => Some(Self::Csv),
                "application/ndjson" => Some(Self::Ndjson),
                media => Self::ALL.into_iter().find(|format| format.media_type() == media),
            };
            if let Some(format) = found
                && quality > 0.0
                && best.is_none_or(|(so_far, _)| quality > so_far)
            {
                best = Some((quality, format));
            }
        }
        best.map(|(_, format)| format).ok_or(UnknownFormat)
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.name() == text).ok_or(UnknownFormat)
    }
}

/// Writes an answer to `out`.
pub(super) fn encode(answer: &Answer, format: Format, out: &mut (impl Write + Send)) -> Result<(), QueryError> {
    let written = match format {
        Format::Json => json(answer, out),
        Format::Ndjson => ndjson(answer, out),
        Format::Csv => csv(answer, out),
        Format::Arrow => arrow_stream(answer, out),
        Format::Parquet => parquet(answer, out),
    };
    written.map_err(QueryError::Encode)
}

fn json(answer: &Answer, out: &mut impl Write) -> Result<(), ArrowError> {
    let info = &answer.metric.info;
    let head = [
        ("metric", json!(info.name)),
        ("title", json!(info.title)),
        ("definition", json!(info.definition)),
        ("lake_version", json!(answer.lake_version)),
        ("parameters", json!(answer.parameters)),
        ("columns", json!(answer.columns)),
    ];
    for (index, (name, value)) in head.iter().enumerate() {
        write!(out, "{}\"{name}\":{value}", if index == 0 { "{" } else { "," })?;
    }
    out.write_all(b",\"rows\":[")?;
    let (keys, cells) = (json_keys(&answer.schema)?, Cells::all(&answer.rows)?);
    let mut line = Vec::new();
    for row in 0..answer.rows.num_rows() {
        line.extend_from_slice(if row == 0 { b"\n" } else { b",\n" });
        write_object(&mut line, &keys, &cells, row)?;
        out.write_all(&line)?;
        line.clear();
    }
    writeln!(out, "],\"withheld_cells\":{},\"warnings\":{}}}", json!(answer.withheld_cells), json!(answer.warnings))?;
    Ok(())
}

fn ndjson(answer: &Answer, out: &mut impl Write) -> Result<(), ArrowError> {
    let (keys, cells) = (json_keys(&answer.schema)?, Cells::all(&answer.rows)?);
    let mut line = Vec::new();
    for row in 0..answer.rows.num_rows() {
        write_object(&mut line, &keys, &cells, row)?;
        line.push(b'\n');
        out.write_all(&line)?;
        line.clear();
    }
    Ok(())
}

fn csv(answer: &Answer, out: &mut impl Write) -> Result<(), ArrowError> {
    let failed = |error: csv::Error| ArrowError::CsvError(error.to_string());
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(out);
    writer.write_record(answer.schema.fields().iter().map(|field| field.name())).map_err(failed)?;
    let cells = Cells::all(&answer.rows)?;
    for row in 0..answer.rows.num_rows() {
        let texts = cells.iter().map(|column| if column.is_null(row) { String::new() } else { column.text(row) });
        writer.write_record(texts).map_err(failed)?;
    }
    Ok(writer.flush()?)
}

fn arrow_stream(answer: &Answer, out: &mut impl Write) -> Result<(), ArrowError> {
    let mut writer = StreamWriter::try_new(out, &answer.schema)?;
    writer.write(&answer.rows)?;
    writer.finish()
}

fn parquet(answer: &Answer, out: &mut (impl Write + Send)) -> Result<(), ArrowError> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(out, answer.schema.clone(), Some(properties))?;
    writer.write(&answer.rows)?;
    writer.close()?;
    Ok(())
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
