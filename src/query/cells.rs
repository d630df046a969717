//! The values of an answer as text: JSON, and the cells of CSV. Exact in both: a decimal is a numeral, an integer that most
//! readers would round is a text.

use std::io::Write;

use arrow::{
    array::{
        Array, AsArray, BooleanArray, Date32Array, Decimal128Array, Decimal256Array, Float64Array, Int64Array,
        RecordBatch, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
    },
    datatypes::{
        DataType, Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int64Type, Schema, Time64MicrosecondType,
        TimeUnit, TimestampMicrosecondType,
    },
    error::ArrowError,
};
use chrono::{DateTime, SecondsFormat};
use serde::Serialize;

/// A column whose values are written as text.
pub(super) enum Cells<'a> {
    Text(&'a StringArray),
    Integer(&'a Int64Array),
    Decimal(&'a Decimal128Array),
    WideDecimal(&'a Decimal256Array),
    Float(&'a Float64Array),
    Date(&'a Date32Array),
    Time(&'a Time64MicrosecondArray),
    Instant(&'a TimestampMicrosecondArray),
    /// A date and a time of no zone.
    Local(&'a TimestampMicrosecondArray),
    Boolean(&'a BooleanArray),
}

impl<'a> Cells<'a> {
    fn of(column: &'a dyn Array) -> Result<Self, ArrowError> {
        Ok(match column.data_type() {
            DataType::Utf8 => Self::Text(column.as_string()),
            DataType::Int64 => Self::Integer(column.as_primitive::<Int64Type>()),
            DataType::Decimal128(..) => Self::Decimal(column.as_primitive::<Decimal128Type>()),
            DataType::Decimal256(..) => Self::WideDecimal(column.as_primitive::<Decimal256Type>()),
            DataType::Float64 => Self::Float(column.as_primitive::<Float64Type>()),
            DataType::Date32 => Self::Date(column.as_primitive::<Date32Type>()),
            DataType::Time64(TimeUnit::Microsecond) => Self::Time(column.as_primitive::<Time64MicrosecondType>()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => {
                let instants = column.as_primitive::<TimestampMicrosecondType>();
                if zone.is_some() { Self::Instant(instants) } else { Self::Local(instants) }
            }
            DataType::Boolean => Self::Boolean(column.as_boolean()),
            other => return Err(ArrowError::NotYetImplemented(format!("a column of type {other}"))),
        })
    }

    pub(super) fn all(batch: &'a RecordBatch) -> Result<Vec<Self>, ArrowError> {
        batch.columns().iter().map(|column| Self::of(column.as_ref())).collect()
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Text(array) => array.is_null(row),
            Self::Integer(array) => array.is_null(row),
            Self::Decimal(array) => array.is_null(row),
            Self::WideDecimal(array) => array.is_null(row),
            Self::Float(array) => array.is_null(row),
            Self::Date(array) => array.is_null(row),
            Self::Time(array) => array.is_null(row),
            Self::Instant(array) | Self::Local(array) => array.is_null(row),
            Self::Boolean(array) => array.is_null(row),
        }
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// A value that is not null, as text: dates as `YYYY-MM-DD`, instants in RFC 3339 with `Z`, what has no zone without it.
    pub(super) fn text(&self, row: usize) -> String {
        match self {
            Self::Text(array) => array.value(row).to_owned(),
            Self::Integer(array) => array.value(row).to_string(),
            Self::Decimal(array) => array.value_as_string(row),
            Self::WideDecimal(array) => array.value_as_string(row),
            Self::Float(array) => float_text(array.value(row)),
            Self::Date(array) => array.value_as_date(row).map(|day| day.to_string()).unwrap_or_default(),
            Self::Time(array) => array.value_as_time(row).map(|time| time.to_string()).unwrap_or_default(),
            Self::Instant(array) => DateTime::from_timestamp_micros(array.value(row))
                .map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
                .unwrap_or_default(),
            Self::Local(array) => DateTime::from_timestamp_micros(array.value(row))
                .map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true).trim_end_matches('Z').to_owned())
                .unwrap_or_default(),
            Self::Boolean(array) => array.value(row).to_string(),
        }
    }

    /// A value as JSON. An integer beyond 2^53, which most readers would round, is a string; so is what is no number.
    pub(super) fn write_json(&self, row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        const EXACT: u64 = 1 << 53;
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match self {
            Self::Decimal(_) | Self::WideDecimal(_) | Self::Boolean(_) => {
                out.extend_from_slice(self.text(row).as_bytes());
            }
            Self::Integer(array) if array.value(row).unsigned_abs() <= EXACT => write!(out, "{}", array.value(row))?,
            Self::Float(array) if array.value(row).is_finite() => write_value(out, &array.value(row))?,
            Self::Text(array) => write_value(out, array.value(row))?,
            _ => write_value(out, &self.text(row))?,
        }
        Ok(())
    }
}

/// The shortest numeral that is read as the same number; what is no number by its name.
fn float_text(value: f64) -> String {
    match serde_json::to_string(&value) {
        Ok(numeral) if value.is_finite() => numeral,
        _ if value.is_nan() => "NaN".to_owned(),
        _ if value > 0.0 => "Infinity".to_owned(),
        _ => "-Infinity".to_owned(),
    }
}

pub(super) fn write_value(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) -> Result<(), ArrowError> {
    serde_json::to_writer(out, value).map_err(|error| ArrowError::ExternalError(Box::new(error)))
}

/// One row as a JSON object; `keys` are the columns' names in JSON, each with its colon.
pub(super) fn write_object(
    out: &mut Vec<u8>,
    keys: &[Vec<u8>],
    cells: &[Cells<'_>],
    row: usize,
) -> Result<(), ArrowError> {
    out.push(b'{');
    for (index, (key, column)) in keys.iter().zip(cells).enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key);
        column.write_json(row, out)?;
    }
    out.push(b'}');
    Ok(())
}

/// One row as a JSON array.
pub(super) fn write_array(out: &mut Vec<u8>, cells: &[Cells<'_>], row: usize) -> Result<(), ArrowError> {
    out.push(b'[');
    for (index, column) in cells.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        column.write_json(row, out)?;
    }
    out.push(b']');
    Ok(())
}

/// The names of columns in JSON, each with its colon.
pub(super) fn json_keys(schema: &Schema) -> Result<Vec<Vec<u8>>, ArrowError> {
    let names = schema.fields().iter().map(|field| {
        let mut key = Vec::new();
        write_value(&mut key, field.name())?;
        key.push(b':');
        Ok(key)
    });
    names.collect()
}
