//! The answer of a metric: columns of a few plain types, whatever the engine computed with.

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    compute::{cast, concat_batches},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{QueryError, metrics::Metric};
use crate::payments::schema::instant;

/// A metric's answer at one version of the lake.
#[derive(Clone, Debug)]
pub struct Answer {
    pub metric: Arc<Metric>,
    pub lake_version: u64,
    /// The parameters that took effect.
    pub parameters: Map<String, Value>,
    pub columns: Vec<AnswerColumn>,
    /// The columns' Arrow types are those of [`column_type`].
    pub schema: SchemaRef,
    pub batches: Vec<RecordBatch>,
    pub warnings: Vec<AnswerWarning>,
    /// Whether rows were left out because of the limit.
    pub truncated: bool,
}

impl Answer {
    #[must_use]
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// A column's name, type (`text`, `integer`, `decimal`, `date`, `timestamp`, `boolean`) and unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnswerColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub unit: Option<String>,
}

/// Something that whoever reads the figures should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnswerWarning {
    pub code: &'static str,
    pub message: String,
}

/// The name of a type of an answer; nothing for a type that answers do not have, such as a float.
#[must_use]
pub(super) fn column_type(engine: &DataType) -> Option<&'static str> {
    Some(match plain_type(engine)? {
        DataType::Utf8 => "text",
        DataType::Int64 => "integer",
        DataType::Decimal128(..) => "decimal",
        DataType::Date32 => "date",
        DataType::Timestamp(..) => "timestamp",
        _ => "boolean",
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

/// Casts the engine's batches to the plain types, in one batch.
pub(super) fn plain(engine: &Schema, batches: &[RecordBatch]) -> Result<(SchemaRef, Vec<RecordBatch>), QueryError> {
    let field = |field: &Arc<Field>| {
        let kind = plain_type(field.data_type()).ok_or(QueryError::ColumnType)?;
        Ok(Field::new(field.name(), kind, true))
    };
    let schema = Arc::new(Schema::new(engine.fields().iter().map(field).collect::<Result<Vec<_>, QueryError>>()?));
    let convert = |batch: &RecordBatch| {
        let columns = batch.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type())).collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::clone(&schema), columns)
    };
    let batches = batches.iter().map(convert).collect::<Result<Vec<_>, _>>().map_err(QueryError::Encode)?;
    // One batch, because where the engine cuts its batches is chance, and the same answer has the same bytes.
    let whole = concat_batches(&schema, &batches).map_err(QueryError::Encode)?;
    Ok((schema, vec![whole]))
}
