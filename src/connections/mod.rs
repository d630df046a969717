//! The connections of a project: their definition, and how what a person wrote becomes one. Pure: values in, records and
//! errors out.

pub mod definition;
mod degrees;
mod file;
mod items;
mod read;
mod repeats;

pub use definition::{CONNECTIONS, FIELDS, Field};
pub use file::decode_csv;
pub use items::{FieldFault, changed, decode_items};
pub use repeats::Decoded;

use serde::{Serialize, Serializer, ser::SerializeMap};
use twox_hash::XxHash3_64;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType, Type},
    },
};

use crate::payments::file_definition::Format;

/// The words of [`Field::Category`].
pub const CATEGORIES: [&str; 5] = ["Residential", "Commercial", "Productive", "Public", "Anchor"];

/// A connection: the value of each field in its one form, so that two connections that say the same are equal. A blank value
/// is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    values: [Option<String>; FIELDS],
}

impl Connection {
    /// A connection of these values, which were checked when they came in.
    #[must_use]
    pub fn of_checked(values: [Option<String>; FIELDS]) -> Self {
        Self { values }
    }

    #[must_use]
    pub fn external_id(&self) -> &str {
        self.get(Field::ExternalId).unwrap_or_default()
    }

    #[must_use]
    pub fn get(&self, field: Field) -> Option<&str> {
        self.values[field.index()].as_deref()
    }

    /// The values by their fields.
    #[must_use]
    pub fn values(&self) -> &[Option<String>; FIELDS] {
        &self.values
    }

    /// A hash of all values, to tell a correction from the same connection again. Not a secret and not a signature.
    #[must_use]
    pub fn content(&self) -> u64 {
        let mut bytes = Vec::with_capacity(256);
        for value in &self.values {
            // A length before each text, which none has where there is none, so that no two connections give the same bytes.
            let length = value.as_ref().map_or(u64::MAX, |value| value.len() as u64);
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(value.as_deref().unwrap_or_default().as_bytes());
        }
        XxHash3_64::oneshot(&bytes)
    }
}

impl Serialize for Connection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(FIELDS))?;
        for field in Field::ALL {
            let value = self.get(field);
            match field.definition().format {
                // At most ten digits, which a double holds as they are.
                Format::Latitude | Format::Longitude => {
                    map.serialize_entry(field.key(), &value.and_then(|text| text.parse::<f64>().ok()))?;
                }
                _ => map.serialize_entry(field.key(), &value)?,
            }
        }
        map.end()
    }
}

/// The schema of a field's value.
fn value_schema(field: Field, nullable: bool) -> Schema {
    let definition = field.definition();
    let kind = match definition.format {
        Format::Latitude | Format::Longitude => Type::Number,
        _ => Type::String,
    };
    let types = if nullable { SchemaType::from_iter([kind, Type::Null]) } else { kind.into() };
    let object = ObjectBuilder::new().schema_type(types).description(Some(definition.meaning));
    let object = match definition.format {
        Format::Latitude => object.minimum(Some(-90)).maximum(Some(90)),
        Format::Longitude => object.minimum(Some(-180)).maximum(Some(180)),
        Format::Date => object.format(Some(SchemaFormat::KnownFormat(KnownFormat::Date))),
        _ => object,
    };
    Schema::Object(object.build())
}

impl PartialSchema for Connection {
    fn schema() -> RefOr<Schema> {
        let about = "An electricity connection of a project: a customer, a device and a place.";
        let fields = Field::ALL.into_iter().fold(ObjectBuilder::new(), |object, field| {
            let required = field.definition().required;
            object.property(field.key(), value_schema(field, !required)).required(field.key())
        });
        fields.description(Some(about)).into()
    }
}

impl ToSchema for Connection {}

/// The fields of a connection as a request has them: to make one, and to change one.
pub struct ConnectionFields;
/// The same without the id, which never changes.
pub struct ConnectionChange;

impl PartialSchema for ConnectionFields {
    fn schema() -> RefOr<Schema> {
        let fields = Field::ALL.into_iter().fold(ObjectBuilder::new(), |object, field| {
            object.property(field.key(), value_schema(field, !field.definition().required))
        });
        fields.required(Field::ExternalId.key()).into()
    }
}

impl PartialSchema for ConnectionChange {
    fn schema() -> RefOr<Schema> {
        let others = Field::ALL.into_iter().filter(|field| *field != Field::ExternalId);
        others
            .fold(ObjectBuilder::new(), |object, field| object.property(field.key(), value_schema(field, true)))
            .into()
    }
}

impl ToSchema for ConnectionFields {}
impl ToSchema for ConnectionChange {}
