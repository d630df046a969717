//! What a check of a file reports: counts that add up, row errors that lead to the fix, warnings.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many records a file had and what became of them: `read = accepted + duplicate + rejected` and
/// `accepted = new + corrected`, to the row. The header is not a record, nor is a line without a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    pub read: u64,
    pub accepted: u64,
    pub new: u64,
    pub corrected: u64,
    pub duplicate: u64,
    pub rejected: u64,
}

/// Why a record was not accepted, or a whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RowError {
    /// The line of the file, unpacked, on which the record starts; the header is line 1.
    pub line: u64,
    /// The offset in the file, unpacked, in bytes from 0, of the value, or of the record where no single value is at fault.
    pub byte: u64,
    /// The header of the column at fault, where one is.
    #[schema(required)]
    pub column: Option<String>,
    /// Stable, in `snake_case`.
    #[schema(example = "bad_timestamp")]
    pub code: String,
    /// The value as the file had it, at most 100 characters.
    #[schema(required)]
    pub value: Option<String>,
    /// What is wrong and what to do, for a person.
    pub message: String,
}

/// Something that was accepted and that its owner should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Warning {
    #[schema(example = "unknown_status")]
    pub code: String,
    #[schema(required)]
    pub column: Option<String>,
    /// A value that it is about, such as an unknown STATUS word. None for all the values beyond the first twenty.
    #[schema(required)]
    pub value: Option<String>,
    /// How many records it is about.
    pub count: u64,
    /// The line of the first of them.
    pub line: u64,
    pub message: String,
}

/// Characters of a value that a report quotes.
pub const VALUE_CHARACTERS: usize = 100;

/// The start of `value` that a report may quote: at most [`VALUE_CHARACTERS`] characters.
#[must_use]
pub fn clip(value: &str) -> &str {
    if value.len() <= VALUE_CHARACTERS {
        return value;
    }
    value.char_indices().nth(VALUE_CHARACTERS).map_or(value, |(end, _)| &value[..end])
}

/// The codes that the decoder gives to what is wrong with a file or a row, and to its warnings.
pub mod code {
    // The whole file is refused.
    pub const EMPTY_FILE: &str = "empty_file";
    pub const NO_ROWS: &str = "no_rows";
    pub const UTF16: &str = "utf16";
    pub const NOT_CSV: &str = "not_csv";
    pub const WRONG_PACKING: &str = "wrong_packing";
    pub const PACKED_CUT_OFF: &str = "packed_cut_off";
    pub const PACKED_DAMAGED: &str = "packed_damaged";
    pub const PACKED_TRAILING: &str = "packed_trailing";
    pub const PACKED_WINDOW: &str = "packed_window";
    pub const WRONG_DELIMITER: &str = "wrong_delimiter";
    pub const CR_LINE_ENDS: &str = "cr_line_ends";
    pub const UNTERMINATED_QUOTE: &str = "unterminated_quote";
    pub const ROW_TOO_LONG: &str = "row_too_long";
    pub const TOO_MANY_ROWS: &str = "too_many_rows";
    pub const TOO_MANY_COLUMNS: &str = "too_many_columns";
    pub const UNKNOWN_COLUMN: &str = "unknown_column";
    pub const PADDED_COLUMN: &str = "padded_column";
    pub const WRONG_CASE_COLUMN: &str = "wrong_case_column";
    pub const REPEATED_COLUMN: &str = "repeated_column";
    pub const MISSING_COLUMN: &str = "missing_column";

    // One row is refused; the last five can be in the header too.
    pub const MISSING_VALUE: &str = "missing_value";
    pub const SHORT_ROW: &str = "short_row";
    pub const LONG_ROW: &str = "long_row";
    pub const SCIENTIFIC_NOTATION: &str = "scientific_notation";
    pub const FIELD_TOO_LONG: &str = "field_too_long";
    pub const NOT_UTF8: &str = "not_utf8";
    pub const NUL_BYTE: &str = "nul_byte";
    pub const TEXT_AFTER_QUOTE: &str = "text_after_quote";
    pub const LONE_CARRIAGE_RETURN: &str = "lone_carriage_return";

    // The meter of a row of a file over several projects.
    pub const UNMATCHED_METER: &str = "unmatched_meter";
    pub const AMBIGUOUS_METER: &str = "ambiguous_meter";

    // An amount.
    pub const BAD_AMOUNT: &str = "bad_amount";
    pub const AMOUNT_DECIMAL_COMMA: &str = "amount_decimal_comma";
    pub const AMOUNT_THOUSANDS: &str = "amount_thousands";
    pub const AMOUNT_CURRENCY: &str = "amount_currency";
    pub const AMOUNT_SPACES: &str = "amount_spaces";
    pub const AMOUNT_EXPONENT: &str = "amount_exponent";
    pub const AMOUNT_PLUS: &str = "amount_plus";
    pub const AMOUNT_POINT: &str = "amount_point";
    pub const AMOUNT_DECIMALS: &str = "amount_decimals";
    pub const AMOUNT_TOO_LARGE: &str = "amount_too_large";

    // A timestamp.
    pub const BAD_TIMESTAMP: &str = "bad_timestamp";
    pub const IMPOSSIBLE_TIMESTAMP: &str = "impossible_timestamp";
    pub const TIMESTAMP_OUT_OF_RANGE: &str = "timestamp_out_of_range";

    // Warnings: the row is accepted.
    pub const UNKNOWN_STATUS: &str = "unknown_status";
    pub const UNKNOWN_SOURCE: &str = "unknown_source";
    pub const PADDED_VALUE: &str = "padded_value";
    pub const FORMULA_TEXT: &str = "formula_text";
    pub const SOURCE_IGNORED: &str = "source_ignored";
    // A warning about what is no row.
    pub const BLANK_ROW: &str = "blank_row";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_quotes_at_most_100_characters_and_never_half_a_one() {
        assert_eq!(clip("short"), "short");
        assert_eq!(clip(&"é".repeat(90)).chars().count(), 90);
        assert_eq!(clip(&"é".repeat(400)), "é".repeat(100));
    }
}
