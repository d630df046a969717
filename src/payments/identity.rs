//! What makes two payments the same: the ID, and the content. The same ID with the same content is a duplicate; with
//! another content it is a correction.

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Decimal128Type, TimestampMicrosecondType},
    error::ArrowError,
};
use twox_hash::XxHash3_64;

use super::schema::{CUSTOMER_CATEGORY, FILE_SCHEMA};

/// Columns that say nothing of the payment itself: where it went to, by which upload, and what the rules and
/// the connections of the day make of it. A row that comes again by another upload is the same row.
const LEFT_OUT: [&str; 6] = ["site", "currency", "source", "settlement", "upload_id", CUSTOMER_CATEGORY];

/// A payment's hashes. Not a secret and not a signature: made to tell apart what is different by chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Of the payment ID: 128 bits, because each is compared with all others of its project.
    pub id: u128,
    /// Of the decoded values, so that the two timestamp forms of one instant, or `5` and `5.00`, are the same. 64 bits are enough: it is compared
    /// with that of the same ID only.
    pub content: u64,
}

/// The identity of each row of a batch that has the columns of [`FILE_SCHEMA`], in any order and in any Arrow encoding of
/// their types, such as Parquet readers give (`Utf8View`, dictionaries).
///
/// # Errors
/// A column is missing, or of a type that cannot be cast.
pub fn identities(batch: &RecordBatch) -> Result<Vec<Identity>, ArrowError> {
    let mut columns = Vec::with_capacity(FILE_SCHEMA.fields().len());
    let mut id_at = 0;
    for field in FILE_SCHEMA.fields() {
        if LEFT_OUT.contains(&field.name().as_str()) {
            continue;
        }
        if field.name() == "payment_id" {
            id_at = columns.len();
        }
        let column = batch
            .column_by_name(field.name())
            .ok_or_else(|| ArrowError::SchemaError(format!("payments have no column {}", field.name())))?;
        columns.push(Values::of(&cast(column, field.data_type())?)?);
    }
    let mut row = Vec::with_capacity(512);
    let mut identities = Vec::with_capacity(batch.num_rows());
    for index in 0..batch.num_rows() {
        row.clear();
        for column in &columns {
            column.write(index, &mut row);
        }
        identities.push(Identity { id: hash(columns[id_at].text(index)), content: XxHash3_64::oneshot(&row) });
    }
    Ok(identities)
}

/// The first half of [`identities`]: the hash of each row's payment ID, of a batch that needs no other column.
///
/// # Errors
/// There is no column `payment_id`, or it is not text.
pub fn payment_ids(batch: &RecordBatch) -> Result<Vec<u128>, ArrowError> {
    let column = batch
        .column_by_name("payment_id")
        .ok_or_else(|| ArrowError::SchemaError("payments have no column payment_id".to_owned()))?;
    let ids = cast(column, &DataType::Utf8)?;
    Ok(ids.as_string::<i32>().iter().map(|id| hash(id.unwrap_or_default().as_bytes())).collect())
}

/// The hash of one payment ID, as [`identities`] gives it.
#[must_use]
pub fn payment_id(id: &str) -> u128 {
    hash(id.as_bytes())
}

/// A column, downcast once.
enum Values {
    Text(arrow::array::StringArray),
    Instant(arrow::array::TimestampMicrosecondArray),
    Amount(arrow::array::Decimal128Array),
}

impl Values {
    fn of(column: &ArrayRef) -> Result<Self, ArrowError> {
        match column.data_type() {
            DataType::Utf8 => Ok(Self::Text(column.as_string::<i32>().clone())),
            DataType::Timestamp(..) => Ok(Self::Instant(column.as_primitive::<TimestampMicrosecondType>().clone())),
            DataType::Decimal128(..) => Ok(Self::Amount(column.as_primitive::<Decimal128Type>().clone())),
            other => Err(ArrowError::SchemaError(format!("a payment has no values of type {other}"))),
        }
    }

    /// Appends a value so that no two rows of different values give the same bytes: the length of a text before it, which
    /// no text has where it is null, and a mark before a number.
    fn write(&self, index: usize, row: &mut Vec<u8>) {
        match self {
            Self::Instant(array) if array.is_null(index) => row.push(0),
            Self::Amount(array) if array.is_null(index) => row.push(0),
            Self::Text(array) if array.is_null(index) => row.extend_from_slice(&u32::MAX.to_le_bytes()),
            Self::Text(array) => {
                // The offsets of an array are of 31 bits.
                let text = array.value(index).as_bytes();
                row.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                row.extend_from_slice(text);
            }
            Self::Instant(array) => {
                row.push(1);
                row.extend_from_slice(&array.value(index).to_le_bytes());
            }
            Self::Amount(array) => {
                row.push(1);
                row.extend_from_slice(&array.value(index).to_le_bytes());
            }
        }
    }

    fn text(&self, index: usize) -> &[u8] {
        match self {
            Self::Text(array) if !array.is_null(index) => array.value(index).as_bytes(),
            _ => &[],
        }
    }
}

/// 128 bits of XXH3: its 64-bit form under two seeds. The seeds are fixed, because hashes are compared across uploads.
fn hash(bytes: &[u8]) -> u128 {
    let half = |seed| u128::from(XxHash3_64::oneshot_with_seed(seed, bytes));
    half(0) << 64 | half(0x9e37_79b9_7f4a_7c15)
}
