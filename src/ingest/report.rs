//! The report of an upload: what its owner reads, and what the catalogue keeps.

use std::collections::BTreeSet;

use serde_json::json;

use super::check::Checked;
use crate::{lake::Placement, payments::report::Counts};

/// The report of an upload, as the API answers it and the catalogue keeps it.
pub(super) struct Report {
    pub(super) counts: Counts,
    /// In which the file has rows, or had one until it was corrected.
    pub(super) months: Vec<String>,
    warnings: serde_json::Value,
    errors: serde_json::Value,
    /// Whether there is a file of rejected rows.
    rejected_rows: bool,
}

impl Report {
    pub(super) fn of(checked: &Checked) -> Self {
        let counts =
            Counts { read: checked.read, duplicate: checked.repeated, rejected: checked.rejected, ..Counts::default() };
        Self {
            counts,
            months: Vec::new(),
            warnings: json!(checked.warnings),
            errors: json!(checked.errors),
            rejected_rows: checked.rejected_file,
        }
    }

    /// Adds what became of the rows of one project.
    pub(super) fn place(&mut self, placement: &Placement) {
        self.counts.new += placement.new;
        self.counts.corrected += placement.corrected;
        self.counts.accepted += placement.new + placement.corrected;
        self.counts.duplicate += placement.duplicate;
        let left = placement.left.iter().map(ToString::to_string);
        let months: BTreeSet<String> = self.months.drain(..).chain(left).collect();
        self.months = months.into_iter().collect();
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        json!({ "counts": self.counts, "months": self.months, "warnings": self.warnings, "errors": self.errors, "rejected_rows": self.rejected_rows })
    }
}
