//! What a check of a file reports: counts that add up, row errors that lead to the fix, warnings.

use serde::{Deserialize, Serialize};

/// How many records a file had and what became of them: `read = accepted + duplicate + rejected` and
/// `accepted = new + corrected`, to the row. The header and blank lines are not records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub read: u64,
    pub accepted: u64,
    pub new: u64,
    pub corrected: u64,
    pub duplicate: u64,
    pub rejected: u64,
}

/// Why a record was not accepted, or a whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowError {
    /// The line of the file on which the record starts; the header is line 1.
    pub line: u64,
    /// The offset in the file, in bytes from 0, of the value, or of the record where no single value is at fault.
    pub byte: u64,
    /// The header of the column at fault, where one is.
    pub column: Option<String>,
    /// Stable, in `snake_case`; the list is in `payments/report.rs` and in the documentation.
    pub code: String,
    /// The value as the file had it, at most 100 characters.
    pub value: Option<String>,
    /// What is wrong and what to do, for a person.
    pub message: String,
}

/// Something that was accepted and that its owner should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    pub code: String,
    pub column: Option<String>,
    /// A value that it is about, such as an unknown STATUS word.
    pub value: Option<String>,
    /// How many records it is about.
    pub count: u64,
    /// The line of the first of them.
    pub line: u64,
    pub message: String,
}
