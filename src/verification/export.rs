//! Verdicts as Parquet, typed, for whoever loads them elsewhere.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Date32Array, Decimal128Array, RecordBatch, StringArray, TimestampMicrosecondArray,
        UInt64Array,
    },
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use chrono::{DateTime, NaiveDate, Utc};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};

use super::{
    VerificationError,
    verdicts::{COLUMNS, values},
};
use crate::{payments::schema::instant, programmes::Verdict};

/// Digits of a sum of amounts.
const SUM: DataType = DataType::Decimal128(38, 4);

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let field = |name: &str| {
        let of = match name {
            "payments" | "months" | "reversed_payments" | "payments_of_meter" | "turn" => DataType::UInt64,
            "amount" | "refunded" => SUM,
            "first_paid_at" | "last_paid_at" | "window_from" | "window_to" => instant(),
            "connected_on" => DataType::Date32,
            "is_connected" => DataType::Boolean,
            _ => DataType::Utf8,
        };
        Field::new(name, of, true)
    };
    Arc::new(Schema::new(COLUMNS.map(field).to_vec()))
});

/// Verdicts as Parquet, with the columns of the CSV in types of their own; lists stay JSON.
pub fn to_parquet<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> Result<Vec<u8>, VerificationError> {
    let verdicts: Vec<&Verdict> = verdicts.into_iter().collect();
    let columns = SCHEMA.fields().iter().enumerate().map(|(at, field)| column(&verdicts, at, field.name()));
    let batch = RecordBatch::try_new(SCHEMA.clone(), columns.collect())?;
    let compression = Compression::ZSTD(ZstdLevel::default());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), SCHEMA.clone(), Some(properties))?;
    writer.write(&batch)?;
    Ok(writer.into_inner()?)
}

fn column(verdicts: &[&Verdict], at: usize, name: &str) -> ArrayRef {
    let numbers = |of: fn(&Verdict) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(verdicts.iter().map(|verdict| of(verdict))))
    };
    let sums = |of: fn(&Verdict) -> i128| -> ArrayRef {
        let sums = Decimal128Array::from_iter_values(verdicts.iter().map(|verdict| of(verdict)));
        Arc::new(sums.with_data_type(SUM))
    };
    let instants = |of: fn(&Verdict) -> Option<DateTime<Utc>>| -> ArrayRef {
        let micros = verdicts.iter().map(|verdict| of(verdict).map(|at| at.timestamp_micros()));
        Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    };
    match name {
        "payments" => numbers(|verdict| verdict.paid.counted),
        "months" => numbers(|verdict| verdict.paid.months.into()),
        "reversed_payments" => numbers(|verdict| verdict.paid.reversed),
        "payments_of_meter" => numbers(|verdict| verdict.paid.payments),
        "turn" => {
            let turns = verdicts.iter().map(|verdict| Some(verdict.subject.turn).filter(|turn| *turn > 0));
            Arc::new(turns.collect::<UInt64Array>())
        }
        "amount" => sums(|verdict| verdict.paid.amount),
        "refunded" => sums(|verdict| verdict.paid.refunded),
        "first_paid_at" => instants(|verdict| verdict.paid.first_at),
        "last_paid_at" => instants(|verdict| verdict.paid.last_at),
        "window_from" => instants(|verdict| verdict.window.map(|window| window.from)),
        "window_to" => instants(|verdict| verdict.window.map(|window| window.to)),
        "connected_on" => {
            let day = |day: NaiveDate| i32::try_from((day - NaiveDate::default()).num_days()).ok();
            let days = verdicts.iter().map(|verdict| verdict.subject.connected_on.and_then(day));
            Arc::new(days.collect::<Date32Array>())
        }
        "is_connected" => {
            Arc::new(verdicts.iter().map(|verdict| Some(verdict.subject.is_there)).collect::<BooleanArray>())
        }
        _ => {
            let text = |verdict: &&Verdict| Some(values(verdict)[at].clone()).filter(|text| !text.is_empty());
            Arc::new(verdicts.iter().map(text).collect::<StringArray>())
        }
    }
}
