//! What is wrong with a statement of SQL, as its author is told: what, where, and what to do. The engine's own words never
//! get out where rows, files or settings could be in them.

use std::{borrow::Cow, fmt};

use datafusion::{
    arrow::error::ArrowError,
    common::{Column, DataFusionError, SchemaError},
};
use serde::{Deserialize, Serialize};

use crate::{error::ErrorKind, nearest::nearest};

/// What kind of fault it is; stable, and the code of the problem that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FaultKind {
    /// It is no SQL.
    #[serde(rename = "sql_syntax")]
    Syntax,
    /// It is SQL that is not offered here.
    #[serde(rename = "sql_not_allowed")]
    NotAllowed,
    /// A limit of the statement's size; the setting is named.
    #[serde(rename = "sql_too_large")]
    TooLarge,
    /// There is no relation, column or function of that name.
    #[serde(rename = "sql_unknown_name")]
    UnknownName,
    /// The types do not fit.
    #[serde(rename = "sql_type")]
    Type,
    /// Every part is right and the whole means nothing: a column that is neither grouped nor aggregated.
    #[serde(rename = "sql_invalid")]
    Invalid,
    /// It failed over the rows: a division by zero, a cast that does not go.
    #[serde(rename = "sql_execution")]
    Execution,
    /// More memory than there is for one query.
    #[serde(rename = "out_of_memory")]
    Memory,
    /// A defect of ours.
    #[serde(rename = "sql_internal")]
    Internal,
}

impl FaultKind {
    pub const ALL: [Self; 9] = [
        Self::Syntax,
        Self::NotAllowed,
        Self::TooLarge,
        Self::UnknownName,
        Self::Type,
        Self::Invalid,
        Self::Execution,
        Self::Memory,
        Self::Internal,
    ];

    /// The code in answers.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Syntax => "sql_syntax",
            Self::NotAllowed => "sql_not_allowed",
            Self::TooLarge => "sql_too_large",
            Self::UnknownName => "sql_unknown_name",
            Self::Type => "sql_type",
            Self::Invalid => "sql_invalid",
            Self::Execution => "sql_execution",
            Self::Memory => "out_of_memory",
            Self::Internal => "sql_internal",
        }
    }

    #[must_use]
    pub fn error_kind(self) -> ErrorKind {
        match self {
            Self::Syntax | Self::NotAllowed | Self::UnknownName | Self::Type | Self::Invalid => ErrorKind::Invalid,
            Self::TooLarge | Self::Execution | Self::Memory => ErrorKind::Rejected,
            Self::Internal => ErrorKind::Internal,
        }
    }
}

/// A place in the text: both from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub line: u64,
    pub column: u64,
}

/// What is wrong with a statement. It goes from the worker to the server as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Fault {
    pub kind: FaultKind,
    /// For people.
    pub detail: String,
    pub place: Option<Place>,
    /// The nearest right name.
    pub meant: Option<String>,
    /// The setting whose limit was passed.
    pub setting: Option<Cow<'static, str>>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { line, column }) = self.place {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.detail)
    }
}

/// The most characters of a name that are told again.
const SHOWN: usize = 60;

/// A name as it is told again: short, on one line.
pub(super) fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if name.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

impl Fault {
    pub(super) fn new(kind: FaultKind, detail: impl Into<String>, place: Option<Place>) -> Self {
        Self { kind, detail: detail.into(), place, meant: None, setting: None }
    }

    pub(super) fn too_large(setting: &'static str, what: &str, limit: usize, place: Option<Place>) -> Self {
        let detail = format!("{what}: more than {setting}, which is {limit}");
        Self { setting: Some(Cow::Borrowed(setting)), ..Self::new(FaultKind::TooLarge, detail, place) }
    }

    /// A name that is not there, with the nearest of those that are.
    pub(super) fn unknown<'a>(
        what: &str,
        name: &str,
        there: impl IntoIterator<Item = &'a str>,
        place: Option<Place>,
    ) -> Self {
        let meant = nearest(name, there).map(str::to_owned);
        let hint = meant.as_ref().map_or(String::new(), |meant| format!("; did you mean {meant}?"));
        let detail = format!("there is no {what} {:?}{hint}", shown(name));
        Self { meant, ..Self::new(FaultKind::UnknownName, detail, place) }
    }

    /// What the engine says of a statement while it plans it. No row and no file has been touched yet, so that its words on
    /// types and names are about the statement and the columns that its author sees.
    #[must_use]
    pub fn of_planning(error: &DataFusionError) -> Self {
        let place = place_of(error);
        match error.find_root() {
            DataFusionError::SchemaError(error, _) => of_schema(error, place),
            DataFusionError::SQL(error, _) => Self::new(FaultKind::Syntax, engine_words(&error.to_string()), place),
            DataFusionError::NotImplemented(words) => {
                let detail = format!("this is not offered: {}", engine_words(words));
                Self::new(FaultKind::NotAllowed, detail, place)
            }
            DataFusionError::Plan(words) => Self::new(fault_of(words), engine_words(words), place),
            _ => Self { place, ..Self::of_running(error) },
        }
    }

    /// What the engine says while it runs a statement. Its words hold values of rows and paths of files, so that only the kind
    /// of failure is told.
    #[must_use]
    pub fn of_running(error: &DataFusionError) -> Self {
        let (fault, detail) = match error.find_root() {
            DataFusionError::ArrowError(error, _) => of_values(error),
            DataFusionError::ResourcesExhausted(_) => {
                (FaultKind::Memory, "the statement needs more memory than it has")
            }
            DataFusionError::Execution(words) => of_words(words),
            DataFusionError::NotImplemented(_) => (FaultKind::NotAllowed, "a part of the statement is not offered"),
            DataFusionError::Plan(_) | DataFusionError::SchemaError(..) | DataFusionError::SQL(..) => {
                (FaultKind::Invalid, "the statement cannot be planned")
            }
            _ => (FaultKind::Internal, "the statement failed on the server's side"),
        };
        // The library of regular expressions has an error of its own, which the engine wraps in several ways.
        let is_pattern = fault == FaultKind::Internal && error.to_string().to_ascii_lowercase().contains("regex");
        let (fault, detail) = if is_pattern { of_words("regex") } else { (fault, detail) };
        Self::new(fault, detail, None)
    }
}

/// Where the engine says that it is, if it does.
fn place_of(error: &DataFusionError) -> Option<Place> {
    let span = error.diagnostic()?.span?;
    Some(Place { line: span.start.line, column: span.start.column })
}

fn of_schema(error: &SchemaError, place: Option<Place>) -> Fault {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let there = valid_fields.iter().map(|Column { name, .. }| name.as_str());
            Fault::unknown("column", &field.name, there, place)
        }
        SchemaError::AmbiguousReference { field } => {
            let detail =
                format!("the column {:?} is of more than one relation; name it with its relation", shown(&field.name));
            Fault::new(FaultKind::Invalid, detail, place)
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            let detail = format!("there are two columns named {:?}; give one of them another name", shown(name));
            Fault::new(FaultKind::Invalid, detail, place)
        }
    }
}

/// What a fault of the plan is about. The engine has one kind for all of them, and says in words which it is.
fn fault_of(words: &str) -> FaultKind {
    const OF_TYPES: [&str; 8] = ["coerce", "type", "signature", "cast", "argument", "Interval", "interval", "numeric"];
    const OF_NAMES: [&str; 3] = ["not found", "Invalid function", "No field named"];
    if OF_NAMES.iter().any(|part| words.contains(part)) {
        FaultKind::UnknownName
    } else if OF_TYPES.iter().any(|part| words.contains(part)) {
        FaultKind::Type
    } else {
        FaultKind::Invalid
    }
}

/// The most characters of the engine's words.
const MOST_WORDS: usize = 400;

/// The engine's words on a statement: the first of them, on one line.
fn engine_words(words: &str) -> String {
    let words = words.split("\n\nbacktrace").next().unwrap_or(words);
    let words: String = words.chars().take(MOST_WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    words.trim().to_owned()
}

fn of_values(error: &ArrowError) -> (FaultKind, &'static str) {
    let detail = match error {
        ArrowError::DivideByZero => "a division by zero; NULLIF(divisor, 0) gives null instead",
        ArrowError::ArithmeticOverflow(_) => "a figure is too large for its type",
        ArrowError::CastError(_) | ArrowError::ParseError(_) => {
            "a value cannot be cast to the type that is asked for; TRY_CAST gives null instead"
        }
        ArrowError::MemoryError(_) | ArrowError::OffsetOverflowError(_) => {
            return (FaultKind::Memory, "the statement needs more memory than it has");
        }
        ArrowError::ExternalError(error) => {
            return match error.downcast_ref::<DataFusionError>().map(DataFusionError::find_root) {
                Some(DataFusionError::ArrowError(error, _)) => of_values(error),
                Some(DataFusionError::Execution(words)) => of_words(words),
                Some(DataFusionError::ResourcesExhausted(_)) => {
                    (FaultKind::Memory, "the statement needs more memory than it has")
                }
                // Of a library that a function uses, such as that of regular expressions.
                Some(_) => (FaultKind::Internal, "the statement failed on the server's side"),
                None => of_words(&error.to_string()),
            };
        }
        _ => "a function does not take one of the values that it is given",
    };
    (FaultKind::Execution, detail)
}

/// Failures that have no kind of their own.
fn of_words(words: &str) -> (FaultKind, &'static str) {
    if words.starts_with(super::bounded::TOO_LONG) {
        return (FaultKind::TooLarge, "a function makes a text of more bytes than sql.max_text_bytes");
    }
    let lower = words.to_ascii_lowercase();
    let detail = if lower.contains("regular expression") || lower.contains("regex") {
        "a regular expression is wrong or too large"
    } else if lower.contains("overflow") || lower.contains("out of range") {
        "a figure or a time is too large for its type"
    } else if lower.contains("parsing") || lower.contains("parse") {
        "a text is not a time or a number of the form that is asked for"
    } else {
        "a function does not take one of the values that it is given"
    };
    (FaultKind::Execution, detail)
}
