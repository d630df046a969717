//! The decoder as a whole: what it takes, what it refuses, and that it loses nothing.

mod files;
mod fuzz;
mod identities;
mod mutations;
mod packed;
mod pieces;
mod properties;
mod reference;
mod rows;

use std::io::Read;

use arrow::{
    array::{AsArray, RecordBatch},
    compute::{cast, concat_batches},
    datatypes::DataType,
};

use super::{
    decoder::{DecodeError, Decoder, FileContext, Limits, RejectedRow, Summary},
    report::{RowError, Warning},
    schema::FILE_SCHEMA,
};
use crate::ids::UploadId;

/// 2027-01-01, in microseconds.
const NOT_AFTER: i64 = 1_798_761_600_000_000;

const HEADER: &str = "TIMESTAMP,ID,METER_ID,UTILITY_ID,CUSTOMER_ID,CUSTOMER NAME,TRANSACTION CHARGES,PAYMENT_SOURCE,\
                      REFERENCE_ID,PAYMENT_AMOUNT,ACCOUNT_TYPE,STATUS,NOTES,LOCATION";

const GOOD: &str = "2024-05-03 17:10:28+00:00,TX1,00123,INV-1,C1,Amina Otieno,1.50,M-PESA,REF1,150.00,RESIDENTIAL,SUCCESS,\
                    token resent,Kitobo";

/// All that a file gives, put together.
#[derive(Debug, PartialEq)]
struct Decoded {
    payments: RecordBatch,
    lines: Vec<u64>,
    bytes: Vec<u64>,
    rejected: Vec<RejectedRow>,
    summary: Summary,
}

impl Decoded {
    /// A column of the accepted rows as text; null is `None`.
    fn column(&self, name: &str) -> Vec<Option<String>> {
        let text = cast(self.payments.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
        text.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect()
    }

    /// The value of a column of the only row.
    fn only(&self, name: &str) -> Option<String> {
        assert_eq!((self.payments.num_rows(), self.rejected.len()), (1, 0), "{:?}", self.rejected);
        self.column(name).remove(0)
    }

    fn warning(&self, code: &str) -> &Warning {
        self.summary.warnings.iter().find(|warning| warning.code == code).unwrap()
    }
}

fn context(limits: Limits) -> FileContext {
    FileContext {
        default_site: "Default Site".to_owned(),
        currency: "KES".to_owned(),
        upload_id: "upl_0190b3a0c1d27e4f8a5b6c7d8e9f0a1b".parse::<UploadId>().unwrap(),
        not_after_micros: NOT_AFTER,
        routing: None,
        required: Vec::new(),
        limits,
    }
}

fn decode_from(input: impl Read, limits: Limits) -> Result<Decoded, DecodeError> {
    decode_as(input, context(limits))
}

fn decode_as(input: impl Read, context: FileContext) -> Result<Decoded, DecodeError> {
    let mut decoder = Decoder::new(input, context)?;
    let (mut batches, mut lines, mut bytes, mut rejected) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    while let Some(batch) = decoder.next_batch()? {
        assert_eq!(batch.payments.num_rows(), batch.lines.len());
        assert_eq!(batch.payments.num_rows(), batch.bytes.len());
        batches.push(batch.payments);
        lines.extend(batch.lines);
        bytes.extend(batch.bytes);
        rejected.extend(batch.rejected);
    }
    let summary = decoder.finish();
    let payments = concat_batches(&FILE_SCHEMA, &batches).unwrap();
    assert_eq!(summary.read, payments.num_rows() as u64 + summary.rejected);
    assert_eq!(summary.rejected, rejected.len() as u64);
    assert!(rejected.iter().all(|row| !row.errors.is_empty()));
    Ok(Decoded { payments, lines, bytes, rejected, summary })
}

/// Decodes a file that is not refused as a whole.
fn decode(file: impl AsRef<[u8]>) -> Decoded {
    decode_from(file.as_ref(), Limits::default()).unwrap()
}

/// Why a file is refused as a whole.
fn refusal(file: impl AsRef<[u8]>) -> Vec<RowError> {
    refusal_within(file, Limits::default())
}

fn refusal_within(file: impl AsRef<[u8]>, limits: Limits) -> Vec<RowError> {
    match decode_from(file.as_ref(), limits) {
        Err(DecodeError::File(errors)) => errors,
        other => panic!("not refused: {other:?}"),
    }
}

/// A file of the template's header and these rows, each with a line feed.
fn file(rows: &[&str]) -> String {
    let mut text = format!("{HEADER}\n");
    for row in rows {
        text.push_str(row);
        text.push('\n');
    }
    text
}

/// The good row with one value replaced.
fn with(column: &str, value: &str) -> String {
    let mut fields: Vec<&str> = GOOD.split(',').collect();
    fields[HEADER.split(',').position(|name| name == column).unwrap()] = value;
    fields.join(",")
}

/// The code of the only error of a file of a good row and `row`, which is on line 3.
fn row_code(row: &str) -> String {
    let decoded = decode(file(&[GOOD, row]));
    assert_eq!(decoded.rejected.len(), 1, "{row}");
    let errors = &decoded.rejected[0].errors;
    assert_eq!((errors.len(), errors[0].line), (1, 3), "{errors:?}");
    errors[0].code.clone()
}

fn codes(errors: &[RowError]) -> Vec<&str> {
    errors.iter().map(|error| error.code.as_str()).collect()
}
