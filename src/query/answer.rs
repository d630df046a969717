//! The answer of a metric: columns of a few plain types, whatever the engine computed with.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, RecordBatch, Scalar, new_null_array},
    compute::{cast, concat_batches, is_not_null, kernels::zip::zip},
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};
use datafusion::execution::memory_pool::MemoryReservation;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{QueryError, metrics::Metric};
use crate::payments::schema::instant;

/// A metric's answer at one version of the lake.
#[derive(Debug)]
pub(super) struct Answer {
    pub metric: Arc<Metric>,
    pub lake_version: u64,
    /// The parameters that took effect.
    pub parameters: Map<String, Value>,
    pub columns: Vec<AnswerColumn>,
    /// The columns' Arrow types are those of [`column_type`].
    pub schema: SchemaRef,
    pub rows: RecordBatch,
    pub warnings: Vec<AnswerWarning>,
    /// Whether rows were left out because of the limit.
    pub truncated: bool,
    /// Cells of the period that are not shown; none where nothing of it is shared as aggregates.
    pub withheld_cells: Option<u64>,
    /// Projects of which nothing is in it, because the request asks more of them than is shared.
    pub left_out: usize,
    /// What its rows take of the memory of all queries, as long as they are there.
    pub _memory: MemoryReservation,
}

/// What the values of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    Text,
    /// In JSON a number, and a text beyond 2^53, which most readers would round.
    Integer,
    /// Exact: a numeral with its four decimals, never a float.
    Decimal,
    /// A local day.
    Date,
    /// An instant in UTC.
    Timestamp,
    Boolean,
    /// In answers to SQL alone: a number that need not be exact. In JSON a number, and a text where it is none.
    Float,
    /// In answers to SQL alone: a date and a time of no zone.
    LocalTimestamp,
    /// In answers to SQL alone: a time of day.
    Time,
}

/// A column of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AnswerColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// What a number counts; `currency` is the currency of the row.
    #[schema(required)]
    pub unit: Option<String>,
}

/// Something that whoever reads the figures should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct AnswerWarning {
    #[schema(value_type = String, example = "truncated")]
    pub code: &'static str,
    pub message: String,
}

/// The type of an answer's column; nothing for a type that answers do not have, such as a float.
#[must_use]
pub(super) fn column_type(engine: &DataType) -> Option<ColumnType> {
    Some(match plain_type(engine)? {
        DataType::Utf8 => ColumnType::Text,
        DataType::Int64 => ColumnType::Integer,
        DataType::Decimal128(..) => ColumnType::Decimal,
        DataType::Date32 => ColumnType::Date,
        DataType::Timestamp(..) => ColumnType::Timestamp,
        _ => ColumnType::Boolean,
    })
}

/// The Arrow type in which an answer has a column of the engine.
fn plain_type(engine: &DataType) -> Option<DataType> {
    match engine {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(DataType::Utf8),
        integer if integer.is_integer() => Some(DataType::Int64),
        DataType::Decimal128(..) | DataType::Date32 | DataType::Boolean => Some(engine.clone()),
        DataType::Timestamp(_, Some(_)) => Some(instant()),
        _ => None,
    }
}

/// The engine's columns in the plain types.
pub(super) fn plain_schema(engine: &Schema) -> Result<SchemaRef, QueryError> {
    let field = |field: &Arc<Field>| {
        let kind = plain_type(field.data_type()).ok_or(QueryError::ColumnType)?;
        Ok(Field::new(field.name(), kind, true))
    };
    Ok(Arc::new(Schema::new(engine.fields().iter().map(field).collect::<Result<Vec<_>, QueryError>>()?)))
}

/// The same without what lies under its nulls, which a join leaves there from other rows: in Arrow it would travel with the
/// answer, and differ from one time to the next.
pub(super) fn without_values_under_nulls(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    if column.null_count() == 0 {
        return Ok(Arc::clone(column));
    }
    let null = Scalar::new(new_null_array(column.data_type(), 1));
    zip(&is_not_null(column)?, column, &null)
}

/// The rows of an answer as they come from the engine, within the memory of all queries.
pub(super) struct Rows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    memory: MemoryReservation,
}

impl Rows {
    pub(super) fn new(schema: SchemaRef, memory: MemoryReservation) -> Self {
        Self { schema, batches: Vec::new(), memory }
    }

    /// Casts a batch of the engine's to the plain types, and keeps it.
    pub(super) fn push(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let columns = batch.columns().iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| without_values_under_nulls(&cast(column, field.data_type())?));
        let columns = columns.collect::<Result<Vec<_>, _>>();
        let columns = columns.map_err(QueryError::Encode)?;
        let bytes = columns.iter().map(|column| column.to_data().get_slice_memory_size()).sum::<Result<usize, _>>();
        self.memory.try_grow(bytes.map_err(QueryError::Encode)?)?;
        self.batches.push(RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(QueryError::Encode)?);
        Ok(())
    }

    /// One batch, because where the engine cuts its batches is chance, and the same answer has the same bytes; and the
    /// memory that it holds.
    pub(super) fn whole(self) -> Result<(RecordBatch, MemoryReservation), QueryError> {
        let copied = self.memory.size();
        self.memory.try_grow(copied)?;
        let whole = concat_batches(&self.schema, &self.batches).map_err(QueryError::Encode)?;
        drop(self.batches);
        self.memory.shrink(copied);
        Ok((whole, self.memory))
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{AsArray, Int64Array, StringArray},
        buffer::{NullBuffer, OffsetBuffer},
        datatypes::Int64Type,
    };

    use super::*;

    #[test]
    fn under_a_null_of_an_answer_there_is_nothing() {
        let nulls = || Some(NullBuffer::from(vec![true, false, true]));
        let numbers: ArrayRef = Arc::new(Int64Array::new(vec![1, 666, 3].into(), nulls()));
        let clean = without_values_under_nulls(&numbers).unwrap();
        assert_eq!(&clean, &numbers);
        assert_eq!(clean.as_primitive::<Int64Type>().values().as_ref(), [1, 0, 3]);
        let texts = StringArray::new(OffsetBuffer::from_lengths([1, 6, 1]), b"asecretb".as_slice().into(), nulls());
        let texts: ArrayRef = Arc::new(texts);
        let clean = without_values_under_nulls(&texts).unwrap();
        assert_eq!(&clean, &texts);
        assert_eq!(clean.as_string::<i32>().values().as_slice(), b"ab");
    }
}
