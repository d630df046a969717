//! One record → one payment, or everything that is wrong with it.

use super::{
    amount,
    columns::{ColumnBuilders, Payment},
    decoder::{FileContext, Limits},
    definition::{COLUMNS, Column, Format},
    header::Layout,
    records::{FieldFault, Record, RecordText},
    report::{RowError, clip, code},
    timestamp,
    warnings::{Concern, Warnings},
    words::{self, Remembered, Settlement},
};

/// Columns in which a spreadsheet's `4.6E+10` has destroyed the value.
const NAMES: [Column; 5] = [Column::Id, Column::MeterId, Column::CustomerId, Column::UtilityId, Column::ExternalId];

/// Columns in which a space at an end is a likely mistake.
const PADDING: [Column; 3] = [Column::Id, Column::MeterId, Column::CustomerId];

/// Checks records against the definition and gathers the good ones in columns.
pub(super) struct RowDecoder {
    pub(super) layout: Layout,
    pub(super) columns: ColumnBuilders,
    pub(super) warnings: Warnings,
    not_after_micros: i64,
    limits: Limits,
    settlements: Remembered<Settlement>,
    sources: Remembered<Option<&'static str>>,
}

/// The values of a row, by the definition's columns; empty where the file has no such column.
type Values<'a> = [&'a str; COLUMNS.len()];

impl RowDecoder {
    pub(super) fn new(layout: Layout, context: &FileContext) -> Self {
        Self {
            layout,
            columns: ColumnBuilders::new(&context.default_site, &context.currency, context.upload_id.as_str()),
            warnings: Warnings::default(),
            not_after_micros: context.not_after_micros,
            limits: context.limits,
            settlements: Remembered::new(words::settlement),
            sources: Remembered::new(words::source),
        }
    }

    /// Takes a record in, or says all that is wrong with it.
    pub(super) fn decode(&mut self, record: &Record<'_>) -> Result<(), Vec<RowError>> {
        let mut errors = Vec::new();
        let text = record.text();
        if text.is_none()
            || record.has_fault()
            || record.bytes().len() > self.limits.field_bytes
            || memchr::memchr(0, record.bytes()).is_some()
        {
            self.check_fields(record, &mut errors);
        }
        if record.len() != self.layout.len() {
            errors.push(self.wrong_length(record));
            return Err(errors);
        }
        let Some(text) = text.filter(|_| errors.is_empty()) else {
            self.check_readable_values(record, &mut errors);
            return Err(errors);
        };
        let values = self.values(text);
        let Some(numbers) = self.check_values(record, &values, &mut errors) else { return Err(errors) };
        self.push(record.line, &values, &numbers);
        Ok(())
    }

    fn values<'a>(&self, text: RecordText<'a>) -> Values<'a> {
        let mut values = [""; COLUMNS.len()];
        for (field, column) in self.layout.columns().iter().enumerate() {
            values[column.index()] = text.field(field);
        }
        values
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

    /// Checks the values of a row of which some cannot be read, so that its other mistakes are told as well.
    fn check_readable_values(&self, record: &Record<'_>, errors: &mut Vec<RowError>) {
        let unreadable: Vec<u64> = errors.iter().map(|error| error.byte).collect();
        let mut values = [""; COLUMNS.len()];
        for (field, column) in self.layout.columns().iter().enumerate() {
            values[column.index()] = std::str::from_utf8(record.field(field)).unwrap_or_default();
        }
        let mut more = Vec::new();
        let _ = self.check_values(record, &values, &mut more);
        errors.extend(more.into_iter().filter(|error| !unreadable.contains(&error.byte)));
    }

    /// The row's instant and amounts where all its values are good; else every mistake is in `errors`.
    fn check_values(&self, record: &Record<'_>, values: &Values<'_>, errors: &mut Vec<RowError>) -> Option<Numbers> {
        let mut numbers = Numbers { paid_at: 0, amount: 0, charges: None };
        let before = errors.len();
        for definition in &COLUMNS {
            let column = definition.column;
            let value = values[column.index()];
            if is_blank(value) {
                if definition.required {
                    let message = format!("{} is blank; every payment needs it", definition.name);
                    self.push_error(record, column, code::MISSING_VALUE, &message, errors);
                }
                continue;
            }
            match definition.format {
                Format::Timestamp => match timestamp::parse(value, self.not_after_micros) {
                    Ok(micros) => numbers.paid_at = micros,
                    Err(fault) => self.push_error(record, column, fault.code, fault.message, errors),
                },
                Format::Amount => match amount::parse(value) {
                    Ok(amount) if column == Column::PaymentAmount => numbers.amount = amount,
                    Ok(amount) => numbers.charges = Some(amount),
                    Err(fault) => self.push_error(record, column, fault.code, fault.message, errors),
                },
                Format::Identifier if is_scientific(value) && NAMES.contains(&column) => self.push_error(
                    record,
                    column,
                    code::SCIENTIFIC_NOTATION,
                    "a spreadsheet has turned this into a number and its last digits are lost; format the column as text \
                     and fill it again from the source",
                    errors,
                ),
                Format::Identifier | Format::Text => {}
            }
        }
        (errors.len() == before).then_some(numbers)
    }

    fn push(&mut self, line: u64, values: &Values<'_>, numbers: &Numbers) {
        let value = |column: Column| values[column.index()];
        let optional = |column: Column| Some(value(column)).filter(|value| !is_blank(value));
        let status = optional(Column::Status);
        let payment_source = optional(Column::PaymentSource).or_else(|| optional(Column::Source));
        let settlement = self.settlements.get(status.unwrap_or_default());
        let source = self.sources.get(payment_source.unwrap_or_default());
        let row = Payment {
            payment_id: value(Column::Id),
            paid_at: numbers.paid_at,
            meter_id: value(Column::MeterId),
            utility_id: optional(Column::UtilityId),
            customer_id: value(Column::CustomerId),
            customer_name: value(Column::CustomerName),
            amount: numbers.amount,
            transaction_charges: numbers.charges,
            payment_source,
            source: source.unwrap_or(words::OTHER_SOURCE),
            reference_id: optional(Column::ReferenceId),
            account_type: optional(Column::AccountType),
            status,
            settlement: settlement.as_str(),
            notes: optional(Column::Notes),
            location: optional(Column::Location),
            serial_number: optional(Column::ExternalId),
        };
        self.columns.push(&row);
        if settlement == Settlement::Unknown {
            self.warnings.count(Concern::UnknownStatus, Column::Status, status.unwrap_or_default(), line);
        }
        if let (None, Some(spelling)) = (source, payment_source) {
            let from = if optional(Column::PaymentSource).is_some() { Column::PaymentSource } else { Column::Source };
            self.warnings.count(Concern::UnknownSource, from, spelling, line);
        }
        self.warn_of_text(line, values);
    }

    /// Counts values that are kept as they are and may not be what was meant.
    fn warn_of_text(&mut self, line: u64, values: &Values<'_>) {
        let ignored = values[Column::Source.index()];
        let payment_source = values[Column::PaymentSource.index()];
        if !is_blank(ignored) && !is_blank(payment_source) && ignored != payment_source {
            self.warnings.count(Concern::SourceIgnored, Column::Source, ignored, line);
        }
        for column in PADDING {
            let value = values[column.index()];
            if value.trim().len() != value.len() {
                self.warnings.count(Concern::PaddedValue, column, value, line);
            }
        }
        for definition in &COLUMNS {
            let value = values[definition.column.index()];
            let is_text = matches!(definition.format, Format::Identifier | Format::Text);
            if is_text && is_formula(value) {
                self.warnings.count(Concern::FormulaText, definition.column, value, line);
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

    fn push_error(&self, record: &Record<'_>, column: Column, code: &str, message: &str, errors: &mut Vec<RowError>) {
        if let Some(field) = self.layout.place(column) {
            errors.push(self.error(record, field, code, message.to_owned()));
        }
    }

    fn error(&self, record: &Record<'_>, field: usize, code: &str, message: String) -> RowError {
        let value = String::from_utf8_lossy(record.field(field));
        RowError {
            line: record.line,
            byte: record.byte_of(field),
            column: self.layout.column(field).map(|column| column.name().to_owned()),
            code: code.to_owned(),
            value: Some(clip(&value).to_owned()),
            message,
        }
    }
}

/// The values of a row that are not text.
struct Numbers {
    paid_at: i64,
    amount: i64,
    charges: Option<i64>,
}

fn is_blank(value: &str) -> bool {
    match value.as_bytes() {
        [] => true,
        [first, ..] if first.is_ascii_graphic() => false,
        _ => value.trim().is_empty(),
    }
}

/// `4.6E+10`, `4,6E+10` or `5E+10`: what a spreadsheet makes of a long number.
fn is_scientific(value: &str) -> bool {
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

/// Text that a spreadsheet would take for a formula. One character alone, such as `-` for nothing, is none.
fn is_formula(value: &str) -> bool {
    matches!(value.as_bytes(), [b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r', _, ..])
}
