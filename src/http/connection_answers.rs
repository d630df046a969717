//! What is answered of connections: each struct is the answer and its description.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Type,
        schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat},
    },
};

use crate::{
    catalog::ConnectionRecord,
    connections::Connection,
    payments::report::{Counts, RowError, Warning},
};

/// What became of connections that were sent.
#[derive(Serialize, ToSchema)]
pub(super) struct ConnectionsReport {
    /// Whether it was only a try, and nothing changed.
    pub(super) dry_run: bool,
    /// The version of the lake from which on payments show what changed; null where none of them shows anything of it.
    #[schema(required)]
    pub(super) lake_version: Option<u64>,
    pub(super) counts: Counts,
    pub(super) warnings: Vec<Warning>,
    /// The first 100. Of JSON, the line is the number of the connection, from 1.
    pub(super) errors: Vec<RowError>,
}

/// A connection, and since when it is so.
#[derive(Serialize)]
pub(super) struct ConnectionAnswer {
    #[serde(flatten)]
    connection: Connection,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<ConnectionRecord> for ConnectionAnswer {
    fn from(record: ConnectionRecord) -> Self {
        let ConnectionRecord { connection, created_at, updated_at } = record;
        Self { connection, created_at, updated_at }
    }
}

impl PartialSchema for ConnectionAnswer {
    fn schema() -> RefOr<Schema> {
        let mut schema = Connection::schema();
        if let RefOr::T(Schema::Object(connection)) = &mut schema {
            for name in ["created_at", "updated_at"] {
                let instant = SchemaFormat::KnownFormat(KnownFormat::DateTime);
                let instant = ObjectBuilder::new().schema_type(Type::String).format(Some(instant));
                connection.properties.insert(name.to_owned(), instant.into());
                connection.required.push(name.to_owned());
            }
        }
        schema
    }
}

impl ToSchema for ConnectionAnswer {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Connection")
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct ConnectionList {
    pub(super) connections: Vec<ConnectionAnswer>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}
