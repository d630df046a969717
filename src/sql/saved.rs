//! The values of a saved query's placeholders: from what a request says, else as they were declared.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json, value::to_raw_value};

use super::{Parameters, WrongParameter};
use crate::catalog::SavedParameter;

/// A declared placeholder that has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is missing: the saved query declares it without a default")]
pub struct MissingParameter(pub String);

/// The values as JSON that [`Parameters::read`] reads: each with the type that was declared. What is `given` under other names is
/// for the caller to refuse.
pub fn declared_values(
    declared: &[SavedParameter],
    given: &BTreeMap<String, String>,
) -> Result<Value, MissingParameter> {
    let value = |parameter: &SavedParameter| {
        let text = given.get(&parameter.name).or(parameter.default.as_ref());
        let text = text.ok_or_else(|| MissingParameter(parameter.name.clone()))?;
        Ok((parameter.name.clone(), json!({ "type": parameter.kind.as_str(), "value": text })))
    };
    declared.iter().map(value).collect::<Result<Map<_, _>, _>>().map(Value::Object)
}

/// Some value for each, as the statement is planned with to see whether it is one.
#[must_use]
pub fn sample_values(declared: &[SavedParameter]) -> Value {
    let value = |parameter: &SavedParameter| {
        let text = parameter.default.as_deref().unwrap_or(parameter.kind.sample());
        (parameter.name.clone(), json!({ "type": parameter.kind.as_str(), "value": text }))
    };
    Value::Object(declared.iter().map(value).collect())
}

/// Values in JSON, as they are bound.
///
/// # Errors
/// The first that is not of its type.
pub fn bound(values: &Value) -> Result<Parameters, WrongParameter> {
    match to_raw_value(values) {
        Ok(raw) => Parameters::read(&raw),
        // A value always is JSON.
        Err(_) => Ok(Parameters::default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ParameterKind;

    fn declared() -> Vec<SavedParameter> {
        let parameter = |name: &str, kind, default: Option<&str>| SavedParameter {
            name: name.to_owned(),
            kind,
            description: String::new(),
            default: default.map(str::to_owned),
        };
        vec![
            parameter("since", ParameterKind::Date, None),
            parameter("at_least", ParameterKind::Decimal, Some("0.50")),
            parameter("site", ParameterKind::Text, Some("12")),
        ]
    }

    #[test]
    fn what_is_given_goes_before_what_was_declared_and_each_has_its_type() {
        let given = BTreeMap::from([("since".to_owned(), "2024-05-01".to_owned())]);
        let values = declared_values(&declared(), &given).unwrap();
        let read = bound(&values).unwrap();
        let expected = json!({"since": {"type": "date", "value": "2024-05-01"},
            "at_least": {"type": "decimal", "value": "0.50"}, "site": {"type": "text", "value": "12"}});
        assert_eq!(values, expected);
        assert_eq!(read, Parameters::read(&to_raw_value(&expected).unwrap()).unwrap());
        assert_eq!(declared_values(&declared(), &BTreeMap::new()), Err(MissingParameter("since".to_owned())));
        assert!(bound(&sample_values(&declared())).is_ok());
        let wrong = BTreeMap::from([("since".to_owned(), "May".to_owned())]);
        assert!(bound(&declared_values(&declared(), &wrong).unwrap()).unwrap_err().to_string().contains("since"));
    }
}
