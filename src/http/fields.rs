//! The fields of a body that is an object of texts and numbers, taken one by one. Every fault is told, one a field, not the
//! first alone.

use std::{fmt::Display, ops::RangeInclusive, str::FromStr};

use serde_json::{Map, Value, json};

use super::Problem;
use crate::{catalog::FieldError, error::ErrorKind, nearest::nearest};

/// The most faults of one body that are listed.
const MAX_FAULTS: usize = 20;

pub(super) struct Fields {
    body: Map<String, Value>,
    known: Vec<&'static str>,
    faults: Vec<FieldError>,
}

impl Fields {
    pub(super) fn of(body: Map<String, Value>) -> Self {
        Self { body, known: Vec::new(), faults: Vec::new() }
    }

    /// A text read by `parse`, if it is there and right. A null is as nothing.
    pub(super) fn text<T>(&mut self, name: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let Value::String(text) = self.take(name)? else {
            self.fault(name, format!("{name} is a text, in quotes"));
            return None;
        };
        parse(&text).map_err(|message| self.fault(name, message)).ok()
    }

    /// The same for what a text stands for.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self, name: &'static str) -> Option<T> {
        self.text(name, |text| text.parse().map_err(|error: T::Err| error.to_string()))
    }

    /// The same as [`Fields::text`] where a null takes away what is there: nothing, a null, or a value.
    #[expect(clippy::option_option, reason = "a change leaves, takes away, or sets")]
    pub(super) fn or_nothing<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        let null = self.body.get(name).is_some_and(Value::is_null);
        let text = self.text(name, parse).map(Some);
        if null { Some(None) } else { text }
    }

    /// A whole number, if it is there and right.
    pub(super) fn number(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let number = self.take(name)?.as_u64().filter(|number| range.contains(number));
        if number.is_none() {
            self.fault(name, format!("{name} is a whole number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// What is no text and no number, such as a list, read by `parse`, if it is there and right.
    pub(super) fn value<T>(&mut self, name: &'static str, parse: impl FnOnce(Value) -> Result<T, String>) -> Option<T> {
        let value = self.take(name)?;
        parse(value).map_err(|message| self.fault(name, message)).ok()
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.body.shift_remove(name).filter(|value| !value.is_null())
    }

    pub(super) fn fault(&mut self, field: &str, message: String) {
        self.faults.push(FieldError { field: field.to_owned(), message });
    }

    /// That a field is needed which is not there.
    pub(super) fn need<T>(&mut self, name: &str, value: Option<&T>) {
        if value.is_none() && self.faults.iter().all(|fault| fault.field != name) {
            self.fault(name, format!("{name} is missing"));
        }
    }

    /// # Errors
    /// The problem `code` with all faults, those of fields that nobody took among them.
    pub(super) fn finish(mut self, code: &'static str) -> Result<(), Problem> {
        for (field, _) in std::mem::take(&mut self.body) {
            let field: String = field.chars().take(100).collect();
            let meant = nearest(&field, self.known.iter().copied());
            let meant = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
            let message = format!("there is no {field:?} here; there is {}{meant}", self.known.join(", "));
            self.faults.push(FieldError { field, message });
        }
        if self.faults.is_empty() { Ok(()) } else { Err(wrong_fields(code, self.faults)) }
    }
}

/// One problem with all faults of a body.
pub(super) fn wrong_fields(code: &'static str, mut faults: Vec<FieldError>) -> Problem {
    faults.truncate(MAX_FAULTS);
    let names: Vec<&str> = faults.iter().map(|fault| fault.field.as_str()).collect();
    let detail = match faults.as_slice() {
        [one] => format!("{}: {}", one.field, one.message),
        _ => format!("{} fields are wrong: {}", faults.len(), names.join(", ")),
    };
    Problem::new(ErrorKind::Invalid, code, detail).with("errors", json!(faults))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_a_body_is_told_once_by_its_field() {
        let Value::Object(body) = json!({"name": 7, "overlap_s": 11, "rol": "admin", "slug": null, "kind": "x", "from": null, "to": "2024-05"})
        else {
            unreachable!()
        };
        let mut fields = Fields::of(body);
        let name = fields.parsed::<String>("name");
        fields.need("name", name.as_ref());
        assert_eq!(fields.number("overlap_s", 0..=10), None);
        let slug = fields.parsed::<String>("slug");
        fields.need("slug", slug.as_ref());
        assert_eq!(fields.parsed::<String>("role"), None);
        assert_eq!(fields.text("kind", |text| Ok(text.len())), Some(1));
        let length = |text: &str| Ok(text.len());
        let cleared = [fields.or_nothing("from", length), fields.or_nothing("to", length)];
        assert_eq!((cleared, fields.or_nothing("note", length)), ([Some(None), Some(Some(7))], None));
        let problem = format!("{:?}", fields.finish("invalid_key").unwrap_err());
        assert!(problem.contains("4 fields are wrong: name, overlap_s, slug, rol"), "{problem}");
        assert!(problem.contains("did you mean role?") && problem.contains("from 0 to 10"), "{problem}");
    }
}
