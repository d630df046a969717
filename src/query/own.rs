//! The parameters that a metric has beside the common ones, as its front matter declares them.

use chrono::NaiveDate;
use datafusion::common::ScalarValue;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    metrics::{ParameterInfo, ParameterType},
    params::{ParameterError, day, integer},
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
        let fits = match (self.kind, &self.default) {
            (OwnKind::Integer, OwnValue::Integer(value)) => self.within(*value),
            (OwnKind::Date, OwnValue::Date(_)) | (OwnKind::Text, OwnValue::Text(_)) => !self.last_days,
            _ => false,
        };
        fits.then_some(()).ok_or_else(|| format!("the default of {name} is not one of its values"))
    }

    fn within(&self, value: i64) -> bool {
        self.min.is_none_or(|min| value >= min) && self.max.is_none_or(|max| value <= max)
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

    pub(super) fn json(&self) -> Value {
        match self {
            Self::Integer(value) => json!(value),
            Self::Date(value) => json!(value.to_string()),
            Self::Text(value) => json!(value),
        }
    }
}
