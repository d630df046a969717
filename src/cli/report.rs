//! The report on a file, for people: what an upload, a dry run and a check of a file come to.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::table::{Align, table};
use crate::payments::report::{RowError, Warning};

/// Row errors that are shown unless it is said otherwise. JSON has those that the server gives, which are up to 100.
pub(super) const ERRORS_SHOWN: usize = 20;

/// The parts of an upload's record, or of a problem, that are about its rows.
#[derive(Deserialize)]
pub(super) struct Report {
    pub(super) counts: Counts,
    #[serde(default)]
    months: Vec<String>,
    #[serde(default)]
    warnings: Vec<Warning>,
    #[serde(default)]
    errors: Vec<RowError>,
}

/// How many records there are and what became of them.
#[derive(Deserialize)]
pub(super) struct Counts {
    pub(super) read: u64,
    pub(super) accepted: u64,
    /// Not of a check without a lake, as is `corrected`.
    new: Option<u64>,
    corrected: Option<u64>,
    duplicate: u64,
    pub(super) rejected: u64,
}

impl Report {
    /// The report in what a server answered, if there is one.
    pub(super) fn of(answer: &Map<String, Value>) -> Option<Self> {
        serde_json::from_value(Value::Object(answer.clone())).ok()
    }

    /// Lines of text: counts, months, warnings, and at most so many row errors.
    pub(super) fn lines(&self, most_errors: usize) -> Vec<String> {
        let mut lines = self.counts.lines();
        if !self.months.is_empty() {
            lines.extend([String::new(), format!("Months: {}", self.months.join(", "))]);
        }
        if !self.warnings.is_empty() {
            let columns = [
                ("WARNING", Align::Left),
                ("ROWS", Align::Right),
                ("FIRST LINE", Align::Right),
                ("VALUE", Align::Left),
                ("", Align::Left),
            ];
            let row = |warning: &Warning| {
                let column = warning.column.clone().unwrap_or_default();
                let value = warning.value.clone().unwrap_or_default();
                vec![column, warning.count.to_string(), warning.line.to_string(), value, warning.message.clone()]
            };
            lines.push(String::new());
            lines.extend(table(&columns, &self.warnings.iter().map(row).collect::<Vec<_>>()));
        }
        lines.extend(self.error_lines(most_errors));
        lines
    }

    fn error_lines(&self, most: usize) -> Vec<String> {
        if self.errors.is_empty() {
            return Vec::new();
        }
        let columns = [("LINE", Align::Right), ("COLUMN", Align::Left), ("VALUE", Align::Left), ("", Align::Left)];
        let row = |error: &RowError| {
            let (column, value) = (error.column.clone().unwrap_or_default(), error.value.clone().unwrap_or_default());
            vec![error.line.to_string(), column, value, error.message.clone()]
        };
        let mut lines = Vec::new();
        if most > 0 {
            lines.push(String::new());
            lines.extend(table(&columns, &self.errors.iter().take(most).map(row).collect::<Vec<_>>()));
        }
        match self.errors.len().saturating_sub(most) {
            0 => {}
            more => lines.push(format!("… and {more} more in the report (--json)")),
        }
        lines
    }
}

impl Counts {
    fn lines(&self) -> Vec<String> {
        let counts = [
            ("READ", Some(self.read)),
            ("ACCEPTED", Some(self.accepted)),
            ("NEW", self.new),
            ("CORRECTED", self.corrected),
            ("DUPLICATE", Some(self.duplicate)),
            ("REJECTED", Some(self.rejected)),
        ];
        let known: Vec<(&str, u64)> = counts.iter().filter_map(|(name, count)| Some((*name, (*count)?))).collect();
        let columns: Vec<(&str, Align)> = known.iter().map(|(name, _)| (*name, Align::Right)).collect();
        table(&columns, &[known.iter().map(|(_, count)| count.to_string()).collect()])
    }
}
