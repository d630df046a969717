//! Answers to SQL that a person wrote: columns of some plain types, whatever the engine computed with, and the forms in which
//! they are sent while they come.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder},
    compute::{CastOptions, cast_with_options},
    datatypes::{
        DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Decimal128Type, Decimal256Type, Field, Schema,
        SchemaRef, TimeUnit,
    },
    error::ArrowError,
    ipc::writer::StreamWriter,
    util::display::{ArrayFormatter, FormatOptions},
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{
    ColumnType, Format, QueryError,
    answer::without_values_under_nulls,
    cells::{Cells, json_keys, write_array, write_object, write_value},
};
use crate::payments::schema::instant;

/// Rows of a row group of Parquet at most, and about as many bytes: what is written of it waits in memory.
const GROUP_ROWS: usize = 128 << 10;
const GROUP_BYTES: usize = 16 << 20;

/// A column of an answer to SQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WrittenColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnType,
    pub nullable: bool,
}

/// The type of a column in an answer to SQL. What has no plain type, such as a list or an interval, is text.
fn written_type(engine: &DataType) -> DataType {
    match engine {
        DataType::Dictionary(_, values) => written_type(values),
        DataType::Decimal32(digits, scale)
        | DataType::Decimal64(digits, scale)
        | DataType::Decimal128(digits, scale)
        | DataType::Decimal256(digits, scale)
            if *scale < 0 =>
        {
            whole_number(*digits, *scale)
        }
        DataType::UInt64 => DataType::Decimal128(20, 0),
        integer if integer.is_integer() => DataType::Int64,
        DataType::Decimal32(digits, scale) | DataType::Decimal64(digits, scale) => {
            DataType::Decimal128(*digits, *scale)
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => DataType::Float64,
        DataType::Date32 | DataType::Date64 => DataType::Date32,
        DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
        DataType::Timestamp(_, Some(_)) => instant(),
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        DataType::Decimal128(..) | DataType::Decimal256(..) | DataType::Boolean => engine.clone(),
        _ => DataType::Utf8,
    }
}

/// A decimal of a negative scale, such as that of 1e10, with all its digits: Parquet has no such scale, and a zero of it is written 000.
fn whole_number(digits: u8, scale: i8) -> DataType {
    match digits.saturating_add(scale.unsigned_abs()) {
        digits @ ..=DECIMAL128_MAX_PRECISION => DataType::Decimal128(digits, 0),
        digits @ ..=DECIMAL256_MAX_PRECISION => DataType::Decimal256(digits, 0),
        _ => DataType::Utf8,
    }
}

fn column_type(written: &DataType) -> ColumnType {
    match written {
        DataType::Int64 => ColumnType::Integer,
        DataType::Decimal128(..) | DataType::Decimal256(..) => ColumnType::Decimal,
        DataType::Float64 => ColumnType::Float,
        DataType::Date32 => ColumnType::Date,
        DataType::Time64(_) => ColumnType::Time,
        DataType::Timestamp(_, Some(_)) => ColumnType::Timestamp,
        DataType::Timestamp(_, None) => ColumnType::LocalTimestamp,
        DataType::Boolean => ColumnType::Boolean,
        _ => ColumnType::Text,
    }
}

/// The engine's columns in the plain types. A name that is there already gets a number: two columns of a join may share one.
#[must_use]
pub fn written_schema(engine: &Schema) -> SchemaRef {
    let mut taken: HashSet<String> = HashSet::new();
    let mut field = |field: &Arc<Field>| {
        let mut name = field.name().clone();
        let mut number = 1;
        while !taken.insert(name.clone()) {
            number += 1;
            name = format!("{}_{number}", field.name());
        }
        Field::new(name, written_type(field.data_type()), field.is_nullable())
    };
    Arc::new(Schema::new(engine.fields().iter().map(&mut field).collect::<Vec<_>>()))
}

/// Rows of the engine's as an answer has them, with nothing under their nulls.
pub fn written_rows(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| without_values_under_nulls(&plain(column, field.data_type())?));
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}

/// The engine lets a sum or a product have more digits than its type, and whoever writes them leaves out the last of them.
fn has_no_more_digits_than_its_type(column: &ArrayRef) -> Result<(), ArrowError> {
    let checked = match column.data_type() {
        DataType::Decimal128(digits, 0..) => {
            column.as_primitive::<Decimal128Type>().validate_decimal_precision(*digits)
        }
        DataType::Decimal256(digits, 0..) => {
            column.as_primitive::<Decimal256Type>().validate_decimal_precision(*digits)
        }
        _ => Ok(()),
    };
    checked.map_err(|_| ArrowError::ArithmeticOverflow("a decimal has more digits than its type".to_owned()))
}

fn plain(column: &ArrayRef, written: &DataType) -> Result<ArrayRef, ArrowError> {
    has_no_more_digits_than_its_type(column)?;
    let engine = match column.data_type() {
        DataType::Dictionary(_, values) => values.as_ref(),
        other => other,
    };
    let is_text = matches!(engine, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null);
    if written != &DataType::Utf8 || is_text {
        // What does not fit is an error, and no null.
        return cast_with_options(column, written, &CastOptions { safe: false, ..CastOptions::default() });
    }
    // In a list, so that [NULL] is not taken for [].
    let options = FormatOptions::default().with_null("NULL");
    let formatter = ArrayFormatter::try_new(column, &options)?;
    let mut texts = StringBuilder::new();
    for row in 0..column.len() {
        if column.is_null(row) {
            texts.append_null();
        } else {
            texts.append_value(formatter.value(row).try_to_string()?);
        }
    }
    Ok(Arc::new(texts.finish()))
}

/// What is said of an answer when its last row has come.
#[derive(Clone, Debug)]
pub struct Ending {
    pub lake_version: u64,
    pub truncated: bool,
    pub statistics: Value,
}

/// An answer as it is sent while its rows come.
pub struct Streamed {
    schema: SchemaRef,
    keys: Vec<Vec<u8>>,
    form: Form,
    rows: u64,
}

enum Form {
    Json,
    Ndjson,
    Csv { guarded: bool },
    Arrow(Box<StreamWriter<Vec<u8>>>),
    Parquet(Box<ArrowWriter<Vec<u8>>>),
}

impl Streamed {
    /// An answer with these columns, and its first bytes. `guarded` is for CSV, whose texts then are no formulas to a
    /// spreadsheet.
    pub fn begin(format: Format, schema: &SchemaRef, guarded: bool) -> Result<(Self, Vec<u8>), QueryError> {
        let begun = || {
            let keys = json_keys(schema)?;
            let (form, head) = match format {
                Format::Json => (Form::Json, json_head(schema)?),
                Format::Ndjson => (Form::Ndjson, Vec::new()),
                Format::Csv => {
                    let names = schema.fields().iter().map(|field| guard(field.name().clone(), guarded));
                    (Form::Csv { guarded }, csv_lines([names])?)
                }
                Format::Arrow => {
                    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
                    let head = std::mem::take(writer.get_mut());
                    (Form::Arrow(Box::new(writer)), head)
                }
                Format::Parquet => {
                    let packed = Compression::ZSTD(ZstdLevel::default());
                    let properties = WriterProperties::builder()
                        .set_compression(packed)
                        .set_max_row_group_row_count(Some(GROUP_ROWS))
                        .build();
                    let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties))?;
                    (Form::Parquet(Box::new(writer)), Vec::new())
                }
            };
            Ok((Self { schema: Arc::clone(schema), keys, form, rows: 0 }, head))
        };
        begun().map_err(QueryError::Encode)
    }

    /// So many rows are written.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        self.rows
    }

    /// The bytes of some more rows.
    pub fn rows(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        let bytes = self.write(rows).map_err(QueryError::Encode)?;
        self.rows += rows.num_rows() as u64;
        Ok(bytes)
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let mut out = Vec::new();
        match &mut self.form {
            Form::Json => {
                let cells = Cells::all(rows)?;
                for row in 0..rows.num_rows() {
                    out.extend_from_slice(if self.rows == 0 && row == 0 { b"\n" } else { b",\n" });
                    write_array(&mut out, &cells, row)?;
                }
            }
            Form::Ndjson => {
                let cells = Cells::all(rows)?;
                for row in 0..rows.num_rows() {
                    write_object(&mut out, &self.keys, &cells, row)?;
                    out.push(b'\n');
                }
            }
            Form::Csv { guarded } => {
                let (cells, guarded) = (Cells::all(rows)?, *guarded);
                let cell = |column: &Cells<'_>, row| {
                    if column.is_null(row) {
                        String::new()
                    } else {
                        guard(column.text(row), guarded && column.is_text())
                    }
                };
                out = csv_lines((0..rows.num_rows()).map(|row| cells.iter().map(move |column| cell(column, row))))?;
            }
            Form::Arrow(writer) => {
                writer.write(rows)?;
                out = std::mem::take(writer.get_mut());
            }
            Form::Parquet(writer) => {
                writer.write(rows)?;
                if writer.in_progress_size() > GROUP_BYTES {
                    writer.flush()?;
                }
                out = std::mem::take(writer.inner_mut());
            }
        }
        Ok(out)
    }

    /// The last bytes, once all rows have come.
    pub fn end(self, ending: &Ending) -> Result<Vec<u8>, QueryError> {
        let (rows, truncated) = (self.rows, ending.truncated);
        let ended = || match self.form {
            Form::Json => {
                let tail = format!(
                    "],\"row_count\":{rows},\"truncated\":{truncated},\"lake_version\":{},\"statistics\":{}}}\n",
                    ending.lake_version, ending.statistics
                );
                Ok(tail.into_bytes())
            }
            Form::Ndjson => Ok(status_line(&json!({
                "status": "complete",
                "row_count": rows,
                "truncated": truncated,
                "lake_version": ending.lake_version,
                "statistics": ending.statistics,
            }))),
            Form::Csv { .. } => Ok(Vec::new()),
            Form::Arrow(mut writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()))
            }
            Form::Parquet(mut writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.inner_mut()))
            }
        };
        ended().map_err(QueryError::Encode)
    }

    /// What is sent where an answer breaks off, in the one form that has room for it. What follows is no end all the same.
    #[must_use]
    pub fn broken_off(&self, problem: &Value) -> Option<Vec<u8>> {
        let said = json!({ "status": "failed", "row_count": self.rows, "problem": problem });
        matches!(self.form, Form::Ndjson).then(|| status_line(&said))
    }

    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

/// The last line of NDJSON, whose one key no answer needs to have: what stands last is the status.
fn status_line(status: &Value) -> Vec<u8> {
    let mut line = json!({ "wattlake": status }).to_string().into_bytes();
    line.push(b'\n');
    line
}

fn json_head(schema: &Schema) -> Result<Vec<u8>, ArrowError> {
    let column = |field: &Arc<Field>| WrittenColumn {
        name: field.name().clone(),
        kind: column_type(field.data_type()),
        nullable: field.is_nullable(),
    };
    let columns: Vec<WrittenColumn> = schema.fields().iter().map(column).collect();
    let mut head = b"{\"columns\":".to_vec();
    write_value(&mut head, &columns)?;
    head.extend_from_slice(b",\"rows\":[");
    Ok(head)
}

fn csv_lines<L: IntoIterator<Item = String>>(lines: impl IntoIterator<Item = L>) -> Result<Vec<u8>, ArrowError> {
    let failed = |error: csv::Error| ArrowError::CsvError(error.to_string());
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    for line in lines {
        writer.write_record(line).map_err(failed)?;
    }
    writer.into_inner().map_err(|error| ArrowError::CsvError(error.to_string()))
}

/// A text that a spreadsheet takes for text: one that begins as a formula does gets an apostrophe before it (OWASP, CSV
/// injection).
fn guard(text: String, guarded: bool) -> String {
    if guarded && text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{Decimal128Array, Int32Array, IntervalYearMonthArray, ListArray, NullArray, StringArray, UInt64Array},
        datatypes::{Int32Type, IntervalUnit},
    };
    use bytes::Bytes;

    use super::*;

    #[test]
    fn columns_of_one_name_are_told_apart_and_what_has_no_plain_type_is_text() {
        let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(vec![u64::MAX, 1])),
            Arc::new(Int32Array::from(vec![Some(-7), None])),
            Arc::new(list),
            Arc::new(IntervalYearMonthArray::from(vec![14, 0])),
            Arc::new(NullArray::new(2)),
            Arc::new(StringArray::from(vec!["a", "b"])),
        ];
        let names = ["n", "n", "list", "interval", "nothing", "n"];
        let fields =
            names.iter().zip(&columns).map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
        let engine = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        assert_eq!(engine.field(3).data_type(), &DataType::Interval(IntervalUnit::YearMonth));
        let schema = written_schema(&engine);
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, ["n", "n_2", "list", "interval", "nothing", "n_3"]);
        let rows = written_rows(&RecordBatch::try_new(engine, columns).unwrap(), &schema).unwrap();
        let (mut json, _) = Streamed::begin(Format::Json, &schema, false).unwrap();
        let text = String::from_utf8(json.rows(&rows).unwrap()).unwrap();
        let expected = "\n[18446744073709551615,-7,\"[1, NULL]\",\"1 years 2 mons\",null,\"a\"],\n[1,null,null,\"0 years 0 mons\",null,\"b\"]";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_decimal_of_more_digits_than_its_type_is_never_cut() {
        let of = |value: i128| {
            let column: ArrayRef =
                Arc::new(Decimal128Array::from(vec![value]).with_data_type(DataType::Decimal128(38, 0)));
            let rows = RecordBatch::try_from_iter([("n", column)]).unwrap();
            written_rows(&rows, &written_schema(&rows.schema()))
        };
        assert!(of(10_i128.pow(38) - 1).is_ok());
        assert!(matches!(of(10_i128.pow(38)), Err(ArrowError::ArithmeticOverflow(_))));
    }

    #[test]
    fn a_decimal_of_a_negative_scale_is_a_whole_number() {
        for (digits, scale, value, expected) in
            [(10, -2, 0, "0"), (10, -2, 123, "12300"), (38, -4, -7, "-70000"), (38, -100, 0, "\"000")]
        {
            let column = Decimal128Array::from(vec![value]).with_data_type(DataType::Decimal128(digits, scale));
            let rows = RecordBatch::try_from_iter([("n", Arc::new(column) as ArrayRef)]).unwrap();
            let schema = written_schema(&rows.schema());
            let rows = written_rows(&rows, &schema).unwrap();
            let (mut json, _) = Streamed::begin(Format::Json, &schema, false).unwrap();
            let text = String::from_utf8(json.rows(&rows).unwrap()).unwrap();
            assert!(text.starts_with(&format!("\n[{expected}")), "{text}");
            let (mut parquet, _) = Streamed::begin(Format::Parquet, &schema, false).unwrap();
            assert!(parquet.rows(&rows).is_ok(), "{schema:?}");
        }
    }

    #[test]
    fn an_answer_without_rows_is_whole_in_every_form() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let ending = Ending { lake_version: 7, truncated: false, statistics: json!({}) };
        for format in Format::ALL {
            let (streamed, head) = Streamed::begin(format, &schema, false).unwrap();
            let bytes = [head, streamed.end(&ending).unwrap()].concat();
            match format {
                Format::Json => {
                    let body: Value = serde_json::from_slice(&bytes).unwrap();
                    assert_eq!((&body["rows"], &body["row_count"]), (&json!([]), &json!(0)));
                }
                Format::Ndjson => assert!(bytes.starts_with(b"{\"wattlake\":{\"status\":\"complete\"")),
                Format::Csv => assert_eq!(bytes, b"n\r\n"),
                Format::Arrow => {
                    let reader = arrow::ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap();
                    assert_eq!((reader.schema(), reader.count()), (schema.clone(), 0));
                }
                Format::Parquet => {
                    let reader =
                        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes))
                            .unwrap();
                    assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
                }
            }
        }
    }
}
