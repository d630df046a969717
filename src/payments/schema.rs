//! The columns of `payments`: what the decoder makes, what the Parquet files hold, and what a query sees.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Digits of an amount in all, and after the point: DECIMAL(18,4).
pub const AMOUNT_PRECISION: u8 = 18;
/// See [`AMOUNT_PRECISION`].
pub const AMOUNT_SCALE: i8 = 4;

/// The type of an amount.
pub const AMOUNT: DataType = DataType::Decimal128(AMOUNT_PRECISION, AMOUNT_SCALE);

/// The type of an instant: UTC microseconds.
#[must_use]
pub fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The partition columns, in the order of the folders. They are not in the files.
pub const PARTITION_COLUMNS: [&str; 2] = ["project_id", "month"];

/// The columns of every Parquet file of the lake and of the staged files of an upload, in order.
///
/// Text is as the file had it; a blank optional value is null. `paid_at` is UTC microseconds. `amount` and
/// `transaction_charges` are in the project's `currency` (ISO 4217).
pub static FILE_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str, null: bool| Field::new(name, DataType::Utf8, null);
    Arc::new(Schema::new(vec![
        text("site", false),
        text("payment_id", false),
        Field::new("paid_at", instant(), false),
        text("meter_id", false),
        text("utility_id", true),
        text("customer_id", false),
        text("customer_name", false),
        Field::new("amount", AMOUNT, false),
        Field::new("transaction_charges", AMOUNT, true),
        text("currency", false),
        text("payment_source", true),
        text("source", false),
        text("reference_id", true),
        text("account_type", true),
        text("status", true),
        text("settlement", false),
        text("notes", true),
        text("location", true),
        text("serial_number", true),
        text("upload_id", false),
    ]))
});
