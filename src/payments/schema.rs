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

/// The category of a payment's connection, which files from before there were connections do not have.
pub const CUSTOMER_CATEGORY: &str = "customer_category";

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
        // Of what came later, because a table gets new columns at its end. Files from before lack it.
        text(CUSTOMER_CATEGORY, true),
    ]))
});

/// What the columns of `payments` mean: in words, and the unit where the type does not say it.
#[rustfmt::skip]
pub const MEANINGS: [(&str, &str, Option<&str>); 24] = [
    ("site", "The site that the payment is counted to: its connection's, else LOCATION, else the site in the dataset's name, else the project's name.", None),
    ("payment_id", "The payment's ID, unique in the project.", None),
    ("paid_at", "When the payment took effect, an instant in UTC.", Some("UTC")),
    ("meter_id", "The meter's ID; for a solar home system, its serial number.", None),
    ("utility_id", "The serial number of the inverter system.", None),
    ("customer_id", "The customer's ID.", None),
    ("customer_name", "The name of the payer.", None),
    ("amount", "What was paid; negative for a refund. Never add up different currencies.", Some("currency")),
    ("transaction_charges", "What the payment provider kept.", Some("currency")),
    ("currency", "The currency of the project, of amount and of transaction_charges.", Some("ISO 4217")),
    ("payment_source", "How it was paid, as the file says it.", None),
    ("source", "How it was paid, known spellings under one name, such as M-PESA.", None),
    ("reference_id", "The payment provider's reference.", None),
    ("account_type", "The kind of customer, as the file says it.", None),
    ("status", "What became of the payment, as the file says it.", None),
    ("settlement", "What became of the payment: settled, pending, failed or reversed. Only what is settled is revenue.", None),
    ("notes", "Anything else.", None),
    ("location", "LOCATION of the file.", None),
    ("serial_number", "The serial number of the device.", None),
    ("upload_id", "The upload that the row came with.", None),
    ("customer_category", "The category of the connection that its meter is, such as Residential.", None),
    ("time_zone", "The time zone of the project, such as Africa/Nairobi.", Some("IANA")),
    ("project_id", "The project's slug.", None),
    ("month", "The month of paid_at in UTC, such as 2024-05. A condition on it leaves out whole files.", None),
];
