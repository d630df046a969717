//! What is answered of the kinds of files.

use serde::Serialize;
use utoipa::ToSchema;

use crate::payments::file_definition::{ColumnDefinition, FileDefinition, Format};

#[derive(Serialize, ToSchema)]
pub(super) struct DatasetTypeList {
    pub(super) dataset_types: [DatasetType; 2],
}

/// A kind of file that can be uploaded.
#[derive(Serialize, ToSchema)]
pub(super) struct DatasetType {
    #[schema(value_type = String)]
    name: &'static str,
    #[schema(value_type = String)]
    title: &'static str,
    /// The only name that such a file may have.
    #[schema(value_type = String)]
    file_name: &'static str,
    /// Where a template is.
    template: String,
    columns: Vec<DatasetColumn>,
}

impl DatasetType {
    pub(super) fn of(file: &'static FileDefinition) -> Self {
        Self {
            name: file.dataset_type,
            title: file.title,
            file_name: file.file_name,
            template: format!("/v1/templates/{}", file.file_name),
            columns: file.columns.iter().map(Into::into).collect(),
        }
    }
}

/// A column of a file.
#[derive(Serialize, ToSchema)]
pub(super) struct DatasetColumn {
    /// The exact header, with its case and its spaces.
    #[schema(value_type = String)]
    name: &'static str,
    /// Whether the column must be there and every row must have a value in it.
    required: bool,
    format: Format,
    #[schema(value_type = String)]
    format_description: &'static str,
    #[schema(value_type = String)]
    meaning: &'static str,
    /// The column of `payments`, or the field of a connection, that holds the value.
    #[schema(value_type = String)]
    lake_column: &'static str,
}

impl From<&'static ColumnDefinition> for DatasetColumn {
    fn from(column: &'static ColumnDefinition) -> Self {
        Self {
            name: column.name,
            required: column.required,
            format: column.format,
            format_description: column.format.describe(),
            meaning: column.meaning,
            lake_column: column.lake_column,
        }
    }
}
