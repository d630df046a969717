//! The values of a query's placeholders, each with its type: what is bound is never read as SQL.

use std::collections::BTreeMap;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, i256};
use chrono::{DateTime, NaiveDate, Utc};
use datafusion::common::ScalarValue;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The most values of one query.
const MAX_VALUES: usize = 1000;

/// Values by the names of placeholders (`$site`), or by their places (`$1`, or `?` one after the other).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Parameters {
    Positional(Vec<Bound>),
    Named(BTreeMap<String, Bound>),
}

impl Default for Parameters {
    fn default() -> Self {
        Self::Positional(Vec::new())
    }
}

/// One value. Numbers are the numerals that were sent, so that none is rounded on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    Null,
    Boolean(bool),
    Text(String),
    Integer(i64),
    /// A numeral without an exponent.
    Decimal(String),
    Float(String),
    Date(NaiveDate),
    Timestamp(DateTime<Utc>),
}

/// A value that cannot be bound; fit for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("params{place}: {message}")]
pub struct WrongParameter {
    place: String,
    message: String,
}

fn wrong(place: &str, message: &str) -> WrongParameter {
    WrongParameter { place: place.chars().take(100).collect(), message: message.to_owned() }
}

/// A value with its type: `{"type": "date", "value": "2026-05-01"}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Typed<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

impl Parameters {
    /// Reads a JSON array or object of values.
    ///
    /// # Errors
    /// The first value that is none, with its place.
    pub fn read(json: &RawValue) -> Result<Self, WrongParameter> {
        let text = json.get().trim_start();
        let too_many = || wrong("", &format!("there are at most {MAX_VALUES} values"));
        if text.starts_with('[') {
            let values: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| wrong("", &error.to_string()))?;
            if values.len() > MAX_VALUES {
                return Err(too_many());
            }
            let bound = values.iter().zip(1..).map(|(value, place)| Bound::read(value, &format!("[{place}]")));
            return bound.collect::<Result<_, _>>().map(Self::Positional);
        }
        if text.starts_with('{') {
            let values: BTreeMap<String, &RawValue> =
                serde_json::from_str(text).map_err(|error| wrong("", &error.to_string()))?;
            if values.len() > MAX_VALUES {
                return Err(too_many());
            }
            let bound = values.into_iter().map(|(name, value)| {
                let bound = Bound::read(value, &format!(".{name}"))?;
                let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                let is_name = plain && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
                let message = "a name has letters, digits and _, and begins with no digit";
                if is_name { Ok((name, bound)) } else { Err(wrong(&format!(".{name}"), message)) }
            });
            return bound.collect::<Result<_, _>>().map(Self::Named);
        }
        if text == "null" {
            return Ok(Self::default());
        }
        Err(wrong("", "a list of values by place, or an object of values by name, is needed"))
    }
}

impl Bound {
    fn read(json: &RawValue, place: &str) -> Result<Self, WrongParameter> {
        let text = json.get();
        match text.as_bytes().first() {
            Some(b'n') => Ok(Self::Null),
            Some(b't') => Ok(Self::Boolean(true)),
            Some(b'f') => Ok(Self::Boolean(false)),
            Some(b'"') => string(text, place).map(Self::Text),
            Some(b'{') => {
                let message = r#"a value with its type is {"type": "date", "value": "2026-05-01"}"#;
                let typed: Typed<'_> = serde_json::from_str(text).map_err(|_| wrong(place, message))?;
                Self::typed(&typed, place)
            }
            Some(b'-' | b'0'..=b'9') => Self::number(text, place),
            _ => Err(wrong(place, "a value is a text, a number, true, false, null, or an object with type and value")),
        }
    }

    fn number(numeral: &str, place: &str) -> Result<Self, WrongParameter> {
        if let Ok(integer) = numeral.parse() {
            return Ok(Self::Integer(integer));
        }
        Self::decimal(numeral, place)
    }

    fn decimal(numeral: &str, place: &str) -> Result<Self, WrongParameter> {
        let bound = Self::Decimal(numeral.to_owned());
        match bound.scalar() {
            Some(_) => Ok(bound),
            None => Err(wrong(
                place,
                "a decimal has at most 38 digits and no exponent; what need not be exact is {\"type\": \"float\", \"value\": 1e300}",
            )),
        }
    }

    fn typed(typed: &Typed<'_>, place: &str) -> Result<Self, WrongParameter> {
        let Some(value) = typed.value.filter(|value| value.get() != "null") else { return Ok(Self::Null) };
        let text = if value.get().starts_with('"') { string(value.get(), place)? } else { value.get().to_owned() };
        let as_a = |what: &str| wrong(place, &format!("the value is to be {what}"));
        match typed.kind.as_str() {
            "text" if value.get().starts_with('"') => Ok(Self::Text(text)),
            "text" => Err(as_a("a text")),
            "integer" => text.parse().map(Self::Integer).map_err(|_| as_a("a whole number of 64 bits")),
            "decimal" => Self::decimal(&text, place),
            "float" => match text.parse::<f64>() {
                Ok(_) => Ok(Self::Float(text)),
                Err(_) => Err(as_a("a number")),
            },
            "boolean" => text.parse().map(Self::Boolean).map_err(|_| as_a("true or false")),
            "date" => text.parse().map(Self::Date).map_err(|_| as_a("a date as 2026-05-01")),
            "timestamp" => DateTime::parse_from_rfc3339(&text)
                .map(|at| Self::Timestamp(at.to_utc()))
                .map_err(|_| as_a("an instant with its offset, as 2026-05-01T06:00:00Z")),
            _ => Err(wrong(place, "a type is text, integer, decimal, float, boolean, date or timestamp")),
        }
    }

    /// The value as the engine has it; nothing for a numeral that is none.
    pub(super) fn scalar(&self) -> Option<ScalarValue> {
        Some(match self {
            Self::Null => ScalarValue::Null,
            Self::Boolean(value) => ScalarValue::from(*value),
            Self::Text(text) => ScalarValue::from(text.as_str()),
            Self::Integer(integer) => ScalarValue::from(*integer),
            Self::Decimal(numeral) => decimal(numeral)?,
            Self::Float(numeral) => ScalarValue::from(numeral.parse::<f64>().ok()?),
            Self::Date(day) => {
                let days = day.signed_duration_since(NaiveDate::default()).num_days();
                ScalarValue::Date32(Some(i32::try_from(days).ok()?))
            }
            Self::Timestamp(at) => ScalarValue::TimestampMicrosecond(Some(at.timestamp_micros()), Some("UTC".into())),
        })
    }
}

fn string(json: &str, place: &str) -> Result<String, WrongParameter> {
    serde_json::from_str(json).map_err(|error| wrong(place, &error.to_string()))
}

/// `-12.50` is the decimal of two places that it says.
fn decimal(numeral: &str) -> Option<ScalarValue> {
    let digits = numeral.strip_prefix('-').unwrap_or(numeral);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || digits.ends_with('.') {
        return None;
    }
    let unscaled: i256 = i256::from_string(&format!("{whole}{fraction}"))?;
    let unscaled = unscaled.to_i128()?;
    let unscaled = if numeral.starts_with('-') { -unscaled } else { unscaled };
    let precision = u8::try_from(whole.trim_start_matches('0').len() + fraction.len()).ok()?.max(1);
    let scale = i8::try_from(fraction.len()).ok()?;
    (precision <= DECIMAL128_MAX_PRECISION).then_some(ScalarValue::Decimal128(Some(unscaled), precision, scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Parameters, String> {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        Parameters::read(raw).map_err(|error| error.to_string())
    }

    fn values(json: &str) -> Vec<ScalarValue> {
        let Ok(Parameters::Positional(values)) = read(json) else { panic!("{json} is a list of values") };
        values.iter().map(|value| value.scalar().unwrap()).collect()
    }

    #[test]
    fn a_value_has_the_type_that_its_json_has_and_numbers_are_exact() {
        let expected = [
            ScalarValue::from("é'; --"),
            ScalarValue::from(7_i64),
            ScalarValue::Decimal128(Some(-1250), 4, 2),
            ScalarValue::Decimal128(Some(12_345_678_901_234_567_890_123_456), 26, 4),
            ScalarValue::Decimal128(Some(9_223_372_036_854_775_808), 19, 0),
            ScalarValue::from(true),
            ScalarValue::Null,
        ];
        let sent = r#"["é'; --", 7, -12.50, 1234567890123456789012.3456, 9223372036854775808, true, null]"#;
        assert_eq!(values(sent), expected);
    }

    #[test]
    fn a_value_may_say_its_type() {
        let sent = r#"[{"type": "date", "value": "1970-01-11"}, {"type": "timestamp", "value": "1970-01-01T03:00:01+03:00"},
            {"type": "decimal", "value": "0.10"}, {"type": "float", "value": 1e300}, {"type": "text", "value": "1"},
            {"type": "integer", "value": "9007199254740993"}, {"type": "date", "value": null}]"#;
        let expected = [
            ScalarValue::Date32(Some(10)),
            ScalarValue::TimestampMicrosecond(Some(1_000_000), Some("UTC".into())),
            ScalarValue::Decimal128(Some(10), 2, 2),
            ScalarValue::from(1e300),
            ScalarValue::from("1"),
            ScalarValue::from(9_007_199_254_740_993_i64),
            ScalarValue::Null,
        ];
        assert_eq!(values(sent), expected);
    }

    #[test]
    fn what_cannot_be_bound_is_refused_with_its_place() {
        for (wrong, place) in [
            (r#"["a", [1]]"#, "params[2]: "),
            (r#"{"a": 1e5}"#, "params.a: "),
            (r#"{"a b": 1}"#, "params.a b: "),
            (r#"{"1": 1}"#, "params.1: "),
            (r#"[{"type": "date", "value": "01/02/2026"}]"#, "params[1]: "),
            (r#"[{"type": "dat", "value": "2026-01-01"}]"#, "params[1]: "),
            (r#"[{"value": 1}]"#, "params[1]: "),
            ("[123456789012345678901234567890123456789]", "params[1]: "),
            ("7", "params: "),
        ] {
            let error = read(wrong).unwrap_err();
            assert!(error.starts_with(place), "{wrong}: {error}");
        }
        let named = read(r#"{"site": "Kitobo"}"#).unwrap();
        assert_eq!(named, Parameters::Named(BTreeMap::from([("site".to_owned(), Bound::Text("Kitobo".to_owned()))])));
    }
}
