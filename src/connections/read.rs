//! The values of one row or one item → a connection, or all that is wrong with them.

use chrono::NaiveDate;

use super::{
    CATEGORIES, Connection, FIELDS, Field,
    degrees::{self, DegreesFault},
};
use crate::{
    nearest::nearest,
    payments::{
        fields::{SCIENTIFIC, is_blank, is_scientific},
        file_definition::Format,
        report::code as shared,
    },
};

/// Characters of an id at most: it stands in URLs.
const MAX_ID_CHARS: usize = 200;

/// The first day that a connection may have.
const FIRST_DAY: NaiveDate = NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();

/// The codes of what is wrong with connections alone.
mod code {
    pub(super) const UNKNOWN_CATEGORY: &str = "unknown_category";
    pub(super) const BAD_DEGREES: &str = "bad_degrees";
    pub(super) const DEGREES_OUT_OF_RANGE: &str = "degrees_out_of_range";
    pub(super) const INCOMPLETE_PLACE: &str = "incomplete_place";
    pub(super) const BAD_DATE: &str = "bad_date";
    pub(super) const DATE_OUT_OF_RANGE: &str = "date_out_of_range";
    pub(super) const ID_TOO_LONG: &str = "id_too_long";
}

/// What is wrong with the value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) field: Field,
    pub(super) code: &'static str,
    pub(super) message: String,
}

/// The values as they came, by their fields; empty where there is none.
pub(super) type Values<'a> = [&'a str; FIELDS];

/// Checks the values of a connection that came on a day of which `last_day` is the next, because days begin elsewhere first.
pub(super) fn connection(values: &Values<'_>, last_day: NaiveDate) -> Result<Connection, Vec<Fault>> {
    let mut faults = Vec::new();
    let mut read: [Option<String>; FIELDS] = std::array::from_fn(|_| None);
    for field in Field::ALL {
        let (text, definition) = (values[field.index()], field.definition());
        let mut fault = |code, message: String| faults.push(Fault { field, code, message });
        if is_blank(text) {
            if definition.required {
                fault(shared::MISSING_VALUE, format!("{} is blank; every connection needs it", definition.name));
            }
            continue;
        }
        match value(field, text, last_day) {
            Ok(value) => read[field.index()] = Some(value),
            Err((code, message)) => fault(code, message),
        }
    }
    let blank = |field: Field| is_blank(values[field.index()]);
    for (field, other) in [(Field::Latitude, Field::Longitude), (Field::Longitude, Field::Latitude)] {
        if !blank(field) && blank(other) {
            let (there, missing) = (field.definition().name, other.definition().name);
            let message = format!("there is a {there} and no {missing}; a place has both, or leave both blank");
            faults.push(Fault { field, code: code::INCOMPLETE_PLACE, message });
        }
    }
    if faults.is_empty() { Ok(Connection::of_checked(read)) } else { Err(faults) }
}

/// The one form of a value that is not blank.
fn value(field: Field, text: &str, last_day: NaiveDate) -> Result<String, (&'static str, String)> {
    match field.definition().format {
        Format::Identifier if is_scientific(text) => Err((shared::SCIENTIFIC_NOTATION, SCIENTIFIC.to_owned())),
        Format::Identifier if field == Field::ExternalId && text.chars().count() > MAX_ID_CHARS => {
            Err((code::ID_TOO_LONG, format!("an id has at most {MAX_ID_CHARS} characters")))
        }
        Format::Category => category(text),
        Format::Latitude => in_degrees(text, 90),
        Format::Longitude => in_degrees(text, 180),
        Format::Date => day(text, last_day),
        Format::Identifier | Format::Text | Format::Amount | Format::Timestamp => Ok(text.to_owned()),
    }
}

fn category(text: &str) -> Result<String, (&'static str, String)> {
    let word = text.trim();
    let known = CATEGORIES.into_iter().find(|category| category.eq_ignore_ascii_case(word));
    known.map(str::to_owned).ok_or_else(|| {
        let meant = nearest(word, CATEGORIES).map_or(String::new(), |meant| format!("; did you mean {meant}?"));
        (code::UNKNOWN_CATEGORY, format!("the categories are {}{meant}", CATEGORIES.join(", ")))
    })
}

fn in_degrees(text: &str, most: i64) -> Result<String, (&'static str, String)> {
    degrees::parse(text, most).map_err(|fault| match fault {
        DegreesFault::Form(hint) => (code::BAD_DEGREES, format!("this is no number of degrees: {hint}")),
        DegreesFault::OutOfRange => (code::DEGREES_OUT_OF_RANGE, format!("degrees here are from -{most} to {most}")),
    })
}

fn day(text: &str, last_day: NaiveDate) -> Result<String, (&'static str, String)> {
    let in_form = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
    let day = in_form.then(|| text.parse::<NaiveDate>().ok()).flatten();
    match day {
        Some(day) if day < FIRST_DAY => {
            Err((code::DATE_OUT_OF_RANGE, format!("the first day that can be is {FIRST_DAY}")))
        }
        Some(day) if day > last_day => Err((
            code::DATE_OUT_OF_RANGE,
            "this day has not come yet; a connection is there once it is made".to_owned(),
        )),
        Some(_) => Ok(text.to_owned()),
        None if in_form => Err((code::BAD_DATE, "there is no such day in the calendar".to_owned())),
        None => Err((code::BAD_DATE, "write the day as YYYY-MM-DD, such as 2024-05-31".to_owned())),
    }
}

/// Fields in which a space at an end is a likely mistake: their values are compared with others.
pub(super) const PADDING: [Field; 3] = [Field::ExternalId, Field::SerialNumber, Field::Site];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(Field, &str)]) -> Result<Connection, Vec<(Field, &'static str)>> {
        let mut values = [""; FIELDS];
        for (field, text) in [(Field::ExternalId, "00104")].iter().chain(pairs) {
            values[field.index()] = text;
        }
        let last = NaiveDate::from_ymd_opt(2024, 6, 1).unwrap();
        connection(&values, last).map_err(|faults| faults.into_iter().map(|fault| (fault.field, fault.code)).collect())
    }

    #[test]
    fn values_get_their_one_form_and_text_stays_text() {
        let connection = read(&[
            (Field::Category, " PRODUCTIVE "),
            (Field::Latitude, "-3.3869000"),
            (Field::Longitude, "36.6830"),
            (Field::Phone, "0700000123"),
            (Field::CustomerName, " Amina "),
            (Field::Site, "  "),
            (Field::ConnectedOn, "2024-06-01"),
        ])
        .unwrap();
        assert_eq!(connection.external_id(), "00104");
        let of = |field| connection.get(field);
        assert_eq!((of(Field::Category), of(Field::Latitude)), (Some("Productive"), Some("-3.3869")));
        assert_eq!((of(Field::Phone), of(Field::CustomerName)), (Some("0700000123"), Some(" Amina ")));
        assert_eq!((of(Field::Site), of(Field::ConnectedOn)), (None, Some("2024-06-01")));
        let shown = serde_json::to_string(&connection).unwrap();
        assert!(
            shown.contains(r#""latitude":-3.3869,"longitude":36.683,"#) && shown.contains(r#""site":null"#),
            "{shown}"
        );
    }

    #[test]
    fn every_fault_of_a_connection_is_told() {
        let wrong = read(&[
            (Field::ExternalId, "4.6E+10"),
            (Field::SerialNumber, "4,6E+10"),
            (Field::Category, "Household"),
            (Field::Latitude, "91"),
            (Field::Longitude, "36,68"),
            (Field::ConnectedOn, "31.05.2024"),
        ]);
        let expected = [
            (Field::ExternalId, "scientific_notation"),
            (Field::SerialNumber, "scientific_notation"),
            (Field::Category, "unknown_category"),
            (Field::Latitude, "degrees_out_of_range"),
            (Field::Longitude, "bad_degrees"),
            (Field::ConnectedOn, "bad_date"),
        ];
        assert_eq!(wrong, Err(expected.to_vec()));
        for (field, text, code) in [
            (Field::ExternalId, " ", "missing_value"),
            (Field::ConnectedOn, "2024-02-30", "bad_date"),
            (Field::ConnectedOn, "2024-06-02", "date_out_of_range"),
            (Field::ConnectedOn, "1969-12-31", "date_out_of_range"),
            (Field::ConnectedOn, "2024-6-1", "bad_date"),
            (Field::Category, "Residentail", "unknown_category"),
        ] {
            assert_eq!(read(&[(field, text)]), Err(vec![(field, code)]), "{text}");
        }
        assert_eq!(read(&[(Field::ExternalId, &"x".repeat(201))]), Err(vec![(Field::ExternalId, "id_too_long")]));
        assert_eq!(read(&[(Field::Latitude, "1")]), Err(vec![(Field::Latitude, "incomplete_place")]));
    }
}
