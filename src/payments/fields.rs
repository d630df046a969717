//! What is wrong with the form of a record or of one of its fields, whatever the file; and where an error is.

use super::{
    decoder::Limits,
    header::Layout,
    records::{FieldFault, Record},
    report::{RowError, clip, code},
};

/// The form of the records of a file: its columns, and what a record may have at most.
pub(crate) struct RowForm {
    pub(crate) layout: Layout,
    pub(crate) limits: Limits,
}

impl RowForm {
    /// Says all that is wrong with the form of a record, which is text or not; nothing where every field can be read and
    /// stands in its column.
    pub(crate) fn faults(&self, record: &Record<'_>, is_text: bool) -> Vec<RowError> {
        let mut errors = Vec::new();
        if !is_text
            || record.has_fault()
            || record.bytes().len() > self.limits.field_bytes
            || memchr::memchr(0, record.bytes()).is_some()
        {
            self.check_fields(record, &mut errors);
        }
        if record.len() != self.layout.len() {
            errors.push(self.wrong_length(record));
        }
        errors
    }

    /// The values of a record by the places of the columns in the definition; empty where the file has no such column, and
    /// where a field is no text.
    pub(crate) fn readable_values<'a>(&self, record: &Record<'a>, values: &mut [&'a str]) {
        for (field, column) in self.layout.columns().iter().enumerate() {
            values[*column] = std::str::from_utf8(record.field(field)).unwrap_or_default();
        }
    }

    /// The forms that make a field's value unusable, whatever its column.
    fn check_fields(&self, record: &Record<'_>, errors: &mut Vec<RowError>) {
        for field in 0..record.len() {
            let bytes = record.field(field);
            let mut push = |code, message: &str| errors.push(self.error(record, field, code, message.to_owned()));
            match record.fault(field) {
                Some(FieldFault::TextAfterQuote) => push(
                    code::TEXT_AFTER_QUOTE,
                    "there is text after the closing quote; a quote inside a quoted value is written twice",
                ),
                Some(FieldFault::LoneCarriageReturn) => push(
                    code::LONE_CARRIAGE_RETURN,
                    "there is a carriage return that is no line end; put the value in quotes, or take it out",
                ),
                None => {}
            }
            if memchr::memchr(0, bytes).is_some() {
                push(code::NUL_BYTE, "there is a NUL byte in the value; export the file again, or take it out");
            }
            if std::str::from_utf8(bytes).is_err() {
                push(
                    code::NOT_UTF8,
                    "the value is not UTF-8; it looks like Latin-1 or Windows-1252: save the file as \"CSV UTF-8\"",
                );
            }
            if bytes.len() > self.limits.field_bytes {
                let message =
                    format!("the value is longer than {} bytes (upload.max_field_bytes)", self.limits.field_bytes);
                push(code::FIELD_TOO_LONG, &message);
            }
        }
    }

    fn wrong_length(&self, record: &Record<'_>) -> RowError {
        let (found, expected) = (record.len(), self.layout.len());
        let (code, hint) = if found > expected {
            (
                code::LONG_ROW,
                "a value that holds a comma is put in quotes, and the decimal mark of an amount is a point",
            )
        } else if record.terminated {
            (code::SHORT_ROW, "an empty value keeps its comma; a line break inside a value is put in quotes")
        } else {
            (code::SHORT_ROW, "it is the last row and has no line end: the file looks cut off, export or send it again")
        };
        let message = format!("the row has {found} fields where the header has {expected}; {hint}");
        RowError { line: record.line, byte: record.byte, column: None, code: code.to_owned(), value: None, message }
    }

    /// An error about the value of a column, by its place in the definition; none where the file has no such column.
    pub(crate) fn error_in(
        &self,
        record: &Record<'_>,
        column: usize,
        code: &str,
        message: impl Into<String>,
    ) -> Option<RowError> {
        self.layout.place(column).map(|field| self.error(record, field, code, message.into()))
    }

    fn error(&self, record: &Record<'_>, field: usize, code: &str, message: String) -> RowError {
        let value = String::from_utf8_lossy(record.field(field));
        RowError {
            line: record.line,
            byte: record.byte_of(field),
            column: self.layout.column(field).map(|column| column.name.to_owned()),
            code: code.to_owned(),
            value: Some(clip(&value).to_owned()),
            message,
        }
    }
}

/// Whether a value is nothing but spaces.
pub(crate) fn is_blank(value: &str) -> bool {
    match value.as_bytes() {
        [] => true,
        [first, ..] if first.is_ascii_graphic() => false,
        _ => value.trim().is_empty(),
    }
}

/// `4.6E+10`, `4,6E+10` or `5E+10`: what a spreadsheet makes of a long number.
pub(crate) fn is_scientific(value: &str) -> bool {
    let value = value.trim();
    let value = value.strip_prefix(['+', '-']).unwrap_or(value);
    let [first, b'.' | b',' | b'E' | b'e', ..] = value.as_bytes() else { return false };
    let Some((mantissa, exponent)) = value.split_once(['E', 'e']) else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let decimals = mantissa.split_once(['.', ',']);
    // Without a decimal mark and a sign, as in 4E10, it can be a serial number in hexadecimal.
    let signed = exponent.strip_prefix(['+', '-']);
    first.is_ascii_digit()
        && decimals.is_none_or(|(_, decimals)| digits(decimals))
        && (signed.is_some() || decimals.is_some())
        && digits(signed.unwrap_or(exponent))
}

/// What is said of such a value where its digits count.
pub(crate) const SCIENTIFIC: &str = "a spreadsheet has turned this into a number and its last digits are lost; format the \
                                     column as text and fill it again from the source";

/// Text that a spreadsheet would take for a formula. One character alone, such as `-` for nothing, is none.
pub(crate) fn is_formula(value: &str) -> bool {
    matches!(value.as_bytes(), [b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r', _, ..])
}
