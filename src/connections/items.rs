//! Connections that come as JSON: several, which are checked as the rows of a file are, and changes of one.

use chrono::NaiveDate;
use serde_json::{Map, Value};

use super::{
    Connection, Decoded, FIELDS, Field, read,
    repeats::{Place, Rows},
};
use crate::{
    nearest::nearest,
    payments::{
        file_definition::Format,
        report::{RowError, clip, code},
    },
};

const UNKNOWN_FIELD: &str = "unknown_field";
const WRONG_TYPE: &str = "wrong_type";

/// What is wrong with a field of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFault {
    pub field: String,
    code: &'static str,
    value: Option<String>,
    pub message: String,
}

/// Reads items of a list; the line of an error is the number of its item, from 1.
#[must_use]
pub fn decode_items(items: Vec<Map<String, Value>>, max_rows: u64, last_day: NaiveDate) -> Decoded {
    let mut rows = Rows::new(Field::ExternalId.key());
    let error = |line, column, code: &str, value, message| RowError {
        line,
        byte: 0,
        column,
        code: code.to_owned(),
        value,
        message,
    };
    let refused = |code, message| vec![error(1, None, code, None, message)];
    if items.len() as u64 > max_rows {
        let message = format!("there are more than {max_rows} connections (connections.max_rows); split them");
        return rows.unreadable(refused(code::TOO_MANY_ROWS, message));
    }
    if items.is_empty() {
        return rows.unreadable(refused(code::NO_ROWS, "there are no connections".to_owned()));
    }
    for (line, item) in (1..).zip(items) {
        let place = Place { line, byte: 0 };
        let Texts { values, faults } = Texts::of(item);
        match checked(&values, faults, last_day) {
            Ok(connection) => rows.accept(place, connection),
            Err(faults) => {
                let errors = faults
                    .into_iter()
                    .map(|fault| error(line, Some(fault.field), fault.code, fault.value, fault.message));
                rows.reject(place, values[Field::ExternalId.index()].as_deref(), errors.collect());
            }
        }
    }
    rows.finish(Vec::new())
}

/// The connection `before` with the fields that `change` has; a null takes a value away.
///
/// # Errors
/// Every field that is wrong, the id among them, which never changes.
pub fn changed(
    before: &Connection,
    change: Map<String, Value>,
    last_day: NaiveDate,
) -> Result<Connection, Vec<FieldFault>> {
    let touched: Vec<Field> = change.keys().filter_map(|name| Field::named(name)).collect();
    let Texts { mut values, mut faults } = Texts::of(change);
    for field in Field::ALL {
        if !touched.contains(&field) {
            values[field.index()] = before.get(field).map(str::to_owned);
        }
    }
    if touched.contains(&Field::ExternalId)
        && values[Field::ExternalId.index()].as_deref() != Some(before.external_id())
    {
        let (field, value) = (Field::ExternalId.key().to_owned(), None);
        let message = "it never changes: delete this connection and make another".to_owned();
        faults.retain(|fault| fault.field != field);
        faults.push(FieldFault { field, code: "id_stays", value, message });
        values[Field::ExternalId.index()] = Some(before.external_id().to_owned());
    }
    checked(&values, faults, last_day)
}

/// The values of an item as texts, and what is wrong with their names and types.
struct Texts {
    values: [Option<String>; FIELDS],
    faults: Vec<FieldFault>,
}

impl Texts {
    fn of(item: Map<String, Value>) -> Self {
        let (mut values, mut faults) = (std::array::from_fn(|_| None), Vec::new());
        for (name, value) in item {
            let mut fault = |code, value: Option<String>, message| {
                let field = clip(&name).to_owned();
                faults.push(FieldFault { field, code, value, message });
            };
            let Some(field) = Field::named(&name) else {
                let meant = nearest(clip(&name), Field::ALL.map(Field::key));
                let meant = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
                fault(UNKNOWN_FIELD, None, format!("a connection has no such field{meant}"));
                continue;
            };
            let is_number = matches!(field.definition().format, Format::Latitude | Format::Longitude);
            values[field.index()] = match value {
                Value::Null => None,
                Value::String(text) => Some(text),
                Value::Number(number) if is_number => Some(number.to_string()),
                other => {
                    let form = if is_number { "a number" } else { "a text, in quotes" };
                    let shown = clip(&other.to_string()).to_owned();
                    fault(WRONG_TYPE, Some(shown), format!("{name} is {form}"));
                    None
                }
            };
        }
        Self { values, faults }
    }
}

/// The connection of these values; else its faults, of each field those that come first.
fn checked(
    values: &[Option<String>; FIELDS],
    mut faults: Vec<FieldFault>,
    last_day: NaiveDate,
) -> Result<Connection, Vec<FieldFault>> {
    let texts: read::Values<'_> = std::array::from_fn(|at| values[at].as_deref().unwrap_or_default());
    match read::connection(&texts, last_day) {
        Ok(connection) if faults.is_empty() => return Ok(connection),
        Ok(_) => {}
        Err(more) => {
            for read::Fault { field, code, message } in more {
                if faults.iter().all(|fault| fault.field != field.key()) {
                    let value = values[field.index()].as_deref().map(|value| clip(value).to_owned());
                    faults.push(FieldFault { field: field.key().to_owned(), code, value, message });
                }
            }
        }
    }
    Err(faults)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn day() -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 6, 1).unwrap()
    }

    fn items(value: &Value) -> Vec<Map<String, Value>> {
        value.as_array().unwrap().iter().map(|item| item.as_object().unwrap().clone()).collect()
    }

    #[test]
    fn items_are_checked_as_rows_are() {
        let sent = json!([
            {"external_id": "1", "latitude": -3.3869, "longitude": "36.6830", "site": null},
            {"external_id": "1", "latitude": "-3.38690", "longitude": 36.683},
            {"external_id": 2, "sit": "Hill"},
            {"external_id": "3", "latitude": true, "category": "Hut"},
        ]);
        let decoded = decode_items(items(&sent), 10, day());
        assert_eq!((decoded.read, decoded.repeated, decoded.rejected, decoded.connections.len()), (4, 1, 2, 1));
        let told: Vec<_> = decoded
            .errors
            .iter()
            .map(|error| (error.line, error.column.as_deref().unwrap_or(""), error.code.as_str()))
            .collect();
        let expected = [
            (3, "external_id", "wrong_type"),
            (3, "sit", "unknown_field"),
            (4, "latitude", "wrong_type"),
            (4, "category", "unknown_category"),
        ];
        assert_eq!(told, expected);
        assert!(decoded.errors[1].message.contains("did you mean site?"));
        assert_eq!(decode_items(items(&sent), 3, day()).errors[0].code, "too_many_rows");
        assert_eq!(decode_items(Vec::new(), 3, day()).errors[0].code, "no_rows");
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name_and_takes_away_what_is_null() {
        let decoded = decode_items(items(&json!([{"external_id": "1", "site": "Hill", "phone": "07"}])), 1, day());
        let before = &decoded.connections[0];
        let change = |value: Value| changed(before, value.as_object().unwrap().clone(), day());
        let after = change(json!({"external_id": "1", "site": null, "category": "anchor"})).unwrap();
        let of = |field| after.get(field);
        assert_eq!((of(Field::Site), of(Field::Category), of(Field::Phone)), (None, Some("Anchor"), Some("07")));
        assert_eq!(change(json!({})).unwrap(), *before);
        let wrong = change(json!({"external_id": "2", "latitude": 1, "colour": "red"})).unwrap_err();
        assert_eq!(
            wrong.iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(),
            ["colour", "external_id", "latitude"]
        );
    }
}
