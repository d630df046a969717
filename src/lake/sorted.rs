//! The rows of several batches in the order of a file: by meter, then time, then payment ID.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array},
    compute::{concat, take},
    datatypes::{DataType, TimestampMicrosecondType},
    error::ArrowError,
};

use crate::payments::schema::FILE_SCHEMA;

/// Rows of [`FILE_SCHEMA`] and their order.
pub(super) struct Sorted {
    columns: Vec<Column>,
    order: UInt32Array,
}

/// A column of all rows, as they came.
struct Column {
    values: ArrayRef,
    /// Whether every row has the same value, so that the rows can be had in any order without moving them.
    constant: bool,
}

impl Sorted {
    /// Takes the rows of `batches`, which have less than 2 GiB of text in a column. There is one more copy of a column at
    /// a time, and none of all rows: what is taken over is given back column by column.
    pub(super) fn of(batches: Vec<RecordBatch>) -> Result<Self, ArrowError> {
        let mut parts: Vec<Vec<ArrayRef>> = vec![Vec::with_capacity(batches.len()); FILE_SCHEMA.fields().len()];
        for batch in batches {
            for (parts, column) in parts.iter_mut().zip(batch.columns()) {
                parts.push(Arc::clone(column));
            }
        }
        let columns = parts.into_iter().map(|parts| Column::of(&parts)).collect::<Result<Vec<_>, _>>()?;
        let column = |name: &str| Ok::<_, ArrowError>(&columns[FILE_SCHEMA.index_of(name)?].values);
        let order = order(
            column("meter_id")?.as_string(),
            column("paid_at")?.as_primitive::<TimestampMicrosecondType>(),
            column("payment_id")?.as_string(),
        );
        Ok(Self { columns, order: UInt32Array::from(order) })
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// The rows in order, so many at a time.
    pub(super) fn batches(&self, rows: usize) -> impl Iterator<Item = Result<RecordBatch, ArrowError>> {
        (0..self.len()).step_by(rows.max(1)).map(move |from| {
            let part = self.order.slice(from, rows.min(self.len() - from));
            let columns = self.columns.iter().map(|column| column.take(from, &part));
            RecordBatch::try_new(FILE_SCHEMA.clone(), columns.collect::<Result<Vec<_>, _>>()?)
        })
    }
}

impl Column {
    fn of(parts: &[ArrayRef]) -> Result<Self, ArrowError> {
        let parts_of: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        let values = concat(&parts_of)?;
        let constant = is_constant(&values);
        Ok(Self { values, constant })
    }

    fn take(&self, from: usize, rows: &UInt32Array) -> Result<ArrayRef, ArrowError> {
        if self.constant { Ok(self.values.slice(from, rows.len())) } else { take(&self.values, rows, None) }
    }
}

/// Whether all values of a column of text are the same, or all are null. It looks no further than the first that differs.
fn is_constant(values: &ArrayRef) -> bool {
    if values.null_count() > 0 || values.data_type() != &DataType::Utf8 {
        return values.null_count() == values.len();
    }
    let values = values.as_string::<i32>();
    values.is_empty() || (1..values.len()).all(|row| values.value(row) == values.value(0))
}

/// The numbers of the rows in order. Payments mostly come in the order of time, so the rows of each meter are gathered as
/// they come, and sorting them is mostly a look; payment IDs only break ties, so that the same rows always give the same file.
fn order(meters: &StringArray, paid_at: &TimestampMicrosecondArray, ids: &StringArray) -> Vec<u32> {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut rows_of: Vec<u32> = Vec::new();
    let meter_of: Vec<usize> = (0..meters.len())
        .map(|row| {
            let next = rows_of.len();
            let number = *numbers.entry(meters.value(row)).or_insert(next);
            if number == next {
                rows_of.push(0);
            }
            rows_of[number] += 1;
            number
        })
        .collect();
    let mut by_name: Vec<(u128, &str, usize)> =
        numbers.into_iter().map(|(name, number)| (prefix(name), name, number)).collect();
    by_name.sort_unstable();
    let mut next_of = vec![0; rows_of.len()];
    let mut ends = Vec::with_capacity(by_name.len());
    let mut end = 0;
    for (_, _, number) in by_name {
        next_of[number] = end;
        end += rows_of[number] as usize;
        ends.push(end);
    }
    let mut order = vec![0_u32; meters.len()];
    for (row, meter) in (0..).zip(meter_of) {
        order[next_of[meter]] = row;
        next_of[meter] += 1;
    }
    let mut start = 0;
    for end in ends {
        order[start..end].sort_unstable_by(|a, b| {
            let (a, b) = (*a as usize, *b as usize);
            paid_at.value(a).cmp(&paid_at.value(b)).then_with(|| ids.value(a).cmp(ids.value(b)))
        });
        start = end;
    }
    order
}

/// The first bytes of a text as a number that sorts as they do.
fn prefix(text: &str) -> u128 {
    let mut bytes = [0; 16];
    let length = text.len().min(16);
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    u128::from_be_bytes(bytes)
}
