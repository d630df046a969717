//! The Arrow columns of a batch, as they grow row by row.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Decimal128Builder, RecordBatch, StringArray, StringBuilder,
        TimestampMicrosecondBuilder, new_null_array,
    },
    datatypes::DataType,
    error::ArrowError,
};

use super::{
    decoder::BATCH_ROWS,
    schema::{AMOUNT, FILE_SCHEMA, instant},
};

/// One accepted row: the values of [`FILE_SCHEMA`] that differ from row to row. Optional text is none where blank.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_field_names, reason = "the names are those of the columns")]
pub(super) struct Payment<'a> {
    pub(super) payment_id: &'a str,
    /// UTC microseconds.
    pub(super) paid_at: i64,
    pub(super) meter_id: &'a str,
    pub(super) utility_id: Option<&'a str>,
    pub(super) customer_id: &'a str,
    pub(super) customer_name: &'a str,
    /// Ten-thousandths.
    pub(super) amount: i64,
    pub(super) transaction_charges: Option<i64>,
    pub(super) payment_source: Option<&'a str>,
    pub(super) source: &'a str,
    pub(super) reference_id: Option<&'a str>,
    pub(super) account_type: Option<&'a str>,
    pub(super) status: Option<&'a str>,
    pub(super) settlement: &'a str,
    pub(super) notes: Option<&'a str>,
    pub(super) location: Option<&'a str>,
    pub(super) serial_number: Option<&'a str>,
}

/// Builders for the columns that differ from row to row; those that do not are made once and shared by all batches.
pub(super) struct ColumnBuilders {
    payment_id: StringBuilder,
    paid_at: TimestampMicrosecondBuilder,
    meter_id: StringBuilder,
    utility_id: StringBuilder,
    customer_id: StringBuilder,
    customer_name: StringBuilder,
    amount: Decimal128Builder,
    transaction_charges: Decimal128Builder,
    payment_source: StringBuilder,
    source: StringBuilder,
    reference_id: StringBuilder,
    account_type: StringBuilder,
    status: StringBuilder,
    settlement: StringBuilder,
    notes: StringBuilder,
    location: StringBuilder,
    serial_number: StringBuilder,
    /// The site of rows without a location.
    default_site: String,
    currency: ArrayRef,
    upload_id: ArrayRef,
}

impl ColumnBuilders {
    pub(super) fn new(default_site: &str, currency: &str, upload_id: &str) -> Self {
        let text = || StringBuilder::new();
        Self {
            payment_id: text(),
            paid_at: TimestampMicrosecondBuilder::new().with_data_type(instant()),
            meter_id: text(),
            utility_id: text(),
            customer_id: text(),
            customer_name: text(),
            amount: Decimal128Builder::new().with_data_type(AMOUNT),
            transaction_charges: Decimal128Builder::new().with_data_type(AMOUNT),
            payment_source: text(),
            source: text(),
            reference_id: text(),
            account_type: text(),
            status: text(),
            settlement: text(),
            notes: text(),
            location: text(),
            serial_number: text(),
            default_site: default_site.to_owned(),
            currency: constant(currency),
            upload_id: constant(upload_id),
        }
    }

    pub(super) fn push(&mut self, row: &Payment<'_>) {
        self.payment_id.append_value(row.payment_id);
        self.paid_at.append_value(row.paid_at);
        self.meter_id.append_value(row.meter_id);
        self.utility_id.append_option(row.utility_id);
        self.customer_id.append_value(row.customer_id);
        self.customer_name.append_value(row.customer_name);
        self.amount.append_value(i128::from(row.amount));
        self.transaction_charges.append_option(row.transaction_charges.map(i128::from));
        self.payment_source.append_option(row.payment_source);
        self.source.append_value(row.source);
        self.reference_id.append_option(row.reference_id);
        self.account_type.append_option(row.account_type);
        self.status.append_option(row.status);
        self.settlement.append_value(row.settlement);
        self.notes.append_option(row.notes);
        self.location.append_option(row.location);
        self.serial_number.append_option(row.serial_number);
    }

    /// The rows since the last call, as a batch of [`FILE_SCHEMA`]. At most [`BATCH_ROWS`].
    pub(super) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let amount = self.amount.finish();
        let rows = amount.len();
        let location = take(&mut self.location);
        let columns: Vec<ArrayRef> = vec![
            self.sites(&location),
            take(&mut self.payment_id),
            Arc::new(self.paid_at.finish()),
            take(&mut self.meter_id),
            take(&mut self.utility_id),
            take(&mut self.customer_id),
            take(&mut self.customer_name),
            Arc::new(amount),
            Arc::new(self.transaction_charges.finish()),
            self.currency.slice(0, rows),
            take(&mut self.payment_source),
            take(&mut self.source),
            take(&mut self.reference_id),
            take(&mut self.account_type),
            take(&mut self.status),
            take(&mut self.settlement),
            take(&mut self.notes),
            location,
            take(&mut self.serial_number),
            self.upload_id.slice(0, rows),
            // The decoder knows nothing of connections.
            new_null_array(&DataType::Utf8, rows),
        ];
        RecordBatch::try_new(FILE_SCHEMA.clone(), columns)
    }

    /// The sites of rows with these locations. Mostly each row has one, and then they are the same column.
    fn sites(&self, locations: &ArrayRef) -> ArrayRef {
        if locations.null_count() == 0 {
            return Arc::clone(locations);
        }
        let sites = locations.as_string::<i32>().iter().map(|location| location.unwrap_or(&self.default_site));
        Arc::new(StringArray::from_iter_values(sites))
    }
}

/// The text so far, and in its place a builder that has room for as much again and a little more, because one that is too
/// small doubles.
fn take(builder: &mut StringBuilder) -> ArrayRef {
    let done = builder.finish();
    let bytes = done.value_data().len();
    *builder = StringBuilder::with_capacity(BATCH_ROWS, bytes + bytes / 16);
    Arc::new(done)
}

fn constant(value: &str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(std::iter::repeat_n(value, BATCH_ROWS)))
}
