//! What a kind of file may and must have. The header's check, the decoders, the templates and the list of dataset types
//! read one definition each, so that they say the same.

use serde::Serialize;
use utoipa::ToSchema;

/// A kind of file.
#[derive(Debug)]
pub struct FileDefinition {
    /// Its name in the API.
    pub dataset_type: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// The name of its file, and of its template.
    pub file_name: &'static str,
    /// What a row is, in messages, such as `payment`.
    pub row: &'static str,
    /// All columns that a file may have, in any order.
    pub columns: &'static [ColumnDefinition],
    /// The first so many of them make up the template.
    pub template_columns: usize,
    /// Rows of the template that pass the check.
    pub examples: &'static [&'static [&'static str]],
}

/// One column of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnDefinition {
    /// The exact header, with its case and its spaces.
    pub name: &'static str,
    /// Whether the column must be there and every row must have a value in it.
    pub required: bool,
    pub format: Format,
    /// What the values mean.
    pub meaning: &'static str,
    /// The column of the relation, or the field of the record, that holds the value.
    pub lake_column: &'static str,
}

pub(crate) const fn define(
    name: &'static str,
    required: bool,
    format: Format,
    lake_column: &'static str,
    meaning: &'static str,
) -> ColumnDefinition {
    ColumnDefinition { name, required, format, meaning, lake_column }
}

/// What a column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ColumnFormat)]
pub enum Format {
    /// An instant; without an offset it is UTC.
    Timestamp,
    /// An exact decimal number.
    Amount,
    /// A name of something: text that keeps its zeros, its case and its spaces.
    Identifier,
    /// Anything.
    Text,
    /// One of a few words.
    Category,
    /// Decimal degrees north.
    Latitude,
    /// Decimal degrees east.
    Longitude,
    /// A day of the calendar.
    Date,
}

impl Format {
    /// How a value is written, for a person.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Timestamp => {
                "YYYY-MM-DD HH:MM:SS+00:00 or YYYY-MM-DDTHH:MM:SS; without an offset it is UTC; up to 6 decimals of a second"
            }
            Self::Amount => {
                "digits with an optional point and up to 4 decimals, such as 1250.50; at most 14 digits before the point; \
                 no currency, spaces or thousands separators; negative for a refund"
            }
            Self::Identifier => "text, kept exactly as it is: 00123 is not 123",
            Self::Text => "text",
            Self::Category => "Residential, Commercial, Productive, Public or Anchor, in any case",
            Self::Latitude => "decimal degrees from -90 to 90, south is negative, such as -3.3869; kept to 7 decimals",
            Self::Longitude => {
                "decimal degrees from -180 to 180, west is negative, such as 36.6830; kept to 7 decimals"
            }
            Self::Date => "YYYY-MM-DD",
        }
    }
}

impl FileDefinition {
    /// The template: a header, and rows that pass the check.
    #[must_use]
    pub fn template(&self) -> String {
        let names: Vec<&str> = self.columns[..self.template_columns].iter().map(|column| column.name).collect();
        let mut csv = names.join(",");
        for row in self.examples {
            csv.push('\n');
            csv.push_str(&row.join(","));
        }
        csv.push('\n');
        csv
    }
}
