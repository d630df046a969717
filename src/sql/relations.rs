//! The relations of SQL: their columns, types, units and meanings.

use std::sync::LazyLock;

use datafusion::arrow::datatypes::DataType;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    connections,
    payments::{self, file_definition::Format},
    query,
};

/// A relation that SQL can read; it holds what the key may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SqlRelation)]
pub struct Relation {
    pub name: &'static str,
    /// What a row is.
    pub description: &'static str,
    pub columns: Vec<RelationColumn>,
}

/// A column of a relation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SqlColumn)]
pub struct RelationColumn {
    pub name: String,
    /// As in CAST.
    #[serde(rename = "type")]
    pub data_type: String,
    pub nullable: bool,
    /// Of numbers and times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<&'static str>,
    pub description: &'static str,
}

const RELATIONS: [(&str, &str); 5] = [
    ("payments", "A payment."),
    ("projects", "A project that the key may see."),
    ("sites", "A site that has payments."),
    ("uploads", "An upload that has payments."),
    ("connections", "A connection of one's own projects."),
];

/// What the columns beside those of payments mean.
#[rustfmt::skip]
const MEANINGS: [(&str, &str, &str, Option<&str>); 13] = [
    ("projects", "project_id", "The project's slug, as in payments.", None),
    ("projects", "name", "Its name.", None),
    ("projects", "kind", "What it is: mini_grid or shs.", None),
    ("projects", "currency", "The currency of its payments.", Some("ISO 4217")),
    ("projects", "time_zone", "Its time zone, such as Africa/Nairobi.", Some("IANA")),
    ("projects", "country", "Its country.", Some("ISO 3166-1")),
    ("sites", "project_id", "The project's slug, as in payments.", None),
    ("sites", "site", "The site, as in payments.", None),
    ("uploads", "upload_id", "The upload's id, as in payments.", None),
    ("uploads", "project_id", "The project's slug, as in payments.", None),
    ("uploads", "dataset_name", "The name that the upload was given.", None),
    ("connections", "project_id", "The project's slug, as in payments.", None),
    ("uploads", "committed_at", "When its rows became part of the lake, an instant in UTC.", Some("UTC")),
];

/// All of them.
pub static ALL: LazyLock<Vec<Relation>> = LazyLock::new(|| {
    let meaning = |relation: &str, column: &str| {
        let of_payments =
            payments::schema::MEANINGS.iter().map(|(name, meaning, unit)| ("payments", *name, *meaning, *unit));
        let of_connections = connections::CONNECTIONS.columns.iter().map(|column| {
            let degrees = matches!(column.format, Format::Latitude | Format::Longitude);
            ("connections", column.lake_column, column.meaning, degrees.then_some("decimal degrees"))
        });
        let found =
            of_payments.chain(of_connections).chain(MEANINGS).find(|(of, name, ..)| (*of, *name) == (relation, column));
        found.map_or(("", None), |(_, _, meaning, unit)| (meaning, unit))
    };
    let described = |relation: &str| RELATIONS.iter().find(|(name, _)| *name == relation).map_or("", |(_, row)| row);
    query::sql_relations()
        .into_iter()
        .map(|(name, schema)| Relation {
            name,
            description: described(name),
            columns: schema
                .fields()
                .iter()
                .map(|field| {
                    let (description, unit) = meaning(name, field.name());
                    let data_type = type_name(field.data_type());
                    RelationColumn {
                        name: field.name().clone(),
                        data_type,
                        nullable: field.is_nullable(),
                        unit,
                        description,
                    }
                })
                .collect(),
        })
        .collect()
});

/// Their names.
pub fn names() -> impl Iterator<Item = &'static str> {
    RELATIONS.into_iter().map(|(name, _)| name)
}

/// A type as CAST has it.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 | DataType::Dictionary(..) => "text".to_owned(),
        DataType::Decimal128(precision, scale) => format!("decimal({precision},{scale})"),
        DataType::Timestamp(..) => "timestamp with time zone".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_every_relation_is_described_once_and_no_other_is() {
        let mut described = 0;
        assert_eq!(ALL.iter().map(|relation| relation.name).collect::<Vec<_>>(), names().collect::<Vec<_>>());
        for relation in ALL.iter() {
            assert!(!relation.description.is_empty(), "{}", relation.name);
            for column in &relation.columns {
                assert!(!column.description.is_empty(), "{}.{}", relation.name, column.name);
                described += 1;
            }
        }
        assert_eq!(described, MEANINGS.len() + payments::schema::MEANINGS.len() + connections::FIELDS);
    }

    #[test]
    fn a_type_is_told_as_cast_has_it() {
        let payments = &ALL[0];
        let of = |name: &str| payments.columns.iter().find(|column| column.name == name).map(|c| c.data_type.as_str());
        assert_eq!(of("amount"), Some("decimal(18,4)"));
        assert_eq!(of("paid_at"), Some("timestamp with time zone"));
        assert_eq!((of("site"), of("month")), (Some("text"), Some("text")));
    }
}
