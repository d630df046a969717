//! The relation `connections` of SQL that a person wrote: those of the caller's own projects, as the catalogue has them.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    compute::cast,
    datatypes::{DataType, Field as Column, Schema, SchemaRef},
    error::ArrowError,
};

use crate::{
    connections::{Connection, Field},
    ids::ProjectSlug,
    payments::file_definition::Format,
};

/// A connection, and the project that it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectConnection {
    pub project: ProjectSlug,
    pub connection: Connection,
}

/// Its columns: `project_id`, and the fields of a connection. Degrees are exact decimals.
pub(super) fn schema() -> SchemaRef {
    let of_field = |field: Field| {
        let data_type = match field.definition().format {
            Format::Latitude | Format::Longitude => DataType::Decimal128(10, 7),
            Format::Date => DataType::Date32,
            _ => DataType::Utf8,
        };
        Column::new(field.key(), data_type, !field.definition().required)
    };
    let project = Column::new("project_id", DataType::Utf8, false);
    Arc::new(Schema::new([vec![project], Field::ALL.map(of_field).into()].concat()))
}

pub(super) fn rows(connections: &[ProjectConnection]) -> Result<RecordBatch, ArrowError> {
    let schema = schema();
    let projects = StringArray::from_iter_values(connections.iter().map(|one| one.project.as_str()));
    let mut columns: Vec<ArrayRef> = vec![Arc::new(projects)];
    for (field, column) in Field::ALL.into_iter().zip(schema.fields().iter().skip(1)) {
        let texts: StringArray = connections.iter().map(|one| one.connection.get(field)).collect();
        columns.push(cast(&texts, column.data_type())?);
    }
    RecordBatch::try_new(schema, columns)
}
