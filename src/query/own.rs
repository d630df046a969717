//! The parameters that a metric has beside the common ones, as its front matter declares them.

use chrono::NaiveDate;
use datafusion::common::ScalarValue;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    metrics::{ParameterInfo, ParameterType},
    params::{MAX_LENGTH, ParameterError, day, integer},
    period::days_since_epoch,
};

/// A parameter that a metric's front matter declares for itself.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnParameter {
    #[serde(rename = "type")]
    kind: OwnKind,
    pub(super) default: OwnValue,
    min: Option<i64>,
    max: Option<i64>,
    /// Its value is a number of days, and the period of the request is the last so many local days.
    #[serde(default)]
    pub(super) last_days: bool,
    description: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OwnKind {
    Integer,
    Date,
    Text,
}

/// A value of an own parameter.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum OwnValue {
    Integer(i64),
    Date(NaiveDate),
    Text(String),
}

impl OwnParameter {
    /// Why a declaration does not hold together.
    pub(super) fn check(&self, name: &str) -> Result<(), String> {
        if self.last_days && (self.kind != OwnKind::Integer || self.min.is_none_or(|min| min < 1)) {
            return Err(format!("{name} is how many days: an integer with a min of 1 or more"));
        }
        // What the catalogue shows as the default can be asked for.
        let default = self.default.text();
        let asked_for = self.parse(name, &default).is_ok_and(|value| value == self.default);
        if asked_for && default.chars().count() <= MAX_LENGTH {
            Ok(())
        } else {
            Err(format!("the default of {name} is not one of its values"))
        }
    }

    pub(super) fn info(&self, name: &str) -> ParameterInfo {
        let kind = match self.kind {
            OwnKind::Integer => ParameterType::Integer,
            OwnKind::Date => ParameterType::Date,
            OwnKind::Text => ParameterType::Text,
        };
        ParameterInfo {
            name: name.to_owned(),
            kind,
            repeatable: false,
            description: self.description.clone(),
            default: Some(self.default.json()),
            allowed: Vec::new(),
            min: self.min,
            max: self.max,
        }
    }

    /// A value to plan with.
    pub(super) fn sample(&self) -> ScalarValue {
        self.default.scalar()
    }

    pub(super) fn parse(&self, name: &str, text: &str) -> Result<OwnValue, ParameterError> {
        match self.kind {
            OwnKind::Text => Ok(OwnValue::Text(text.to_owned())),
            OwnKind::Date => day(text)
                .map(OwnValue::Date)
                .ok_or_else(|| ParameterError::new(name, "is not a date", "it is written YYYY-MM-DD")),
            OwnKind::Integer => {
                let (min, max) = (self.min.unwrap_or(i64::MIN), self.max.unwrap_or(i64::MAX));
                integer(name, text, min, max).map(OwnValue::Integer)
            }
        }
    }
}

impl OwnValue {
    pub(super) fn scalar(&self) -> ScalarValue {
        match self {
            Self::Integer(value) => ScalarValue::from(*value),
            Self::Date(value) => ScalarValue::Date32(days_since_epoch(*value)),
            Self::Text(value) => ScalarValue::from(value.as_str()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Integer(value) => value.to_string(),
            Self::Date(value) => value.to_string(),
            Self::Text(value) => value.clone(),
        }
    }

    pub(super) fn json(&self) -> Value {
        match self {
            Self::Integer(value) => json!(value),
            Self::Date(value) => json!(value.to_string()),
            Self::Text(value) => json!(value),
        }
    }
}
