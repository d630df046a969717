//! One record → one payment, or everything that is wrong with it.

use std::sync::Arc;

use super::{
    amount,
    columns::{ColumnBuilders, Payment},
    decoder::FileContext,
    definition::{COLUMNS, Column, PAYMENTS},
    fields::{RowForm, SCIENTIFIC, is_blank, is_formula, is_scientific},
    file_definition::Format,
    header::Layout,
    records::{Record, RecordText},
    report::{RowError, code},
    required::RequiredColumn,
    routing::Routing,
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
    pub(super) form: RowForm,
    pub(super) columns: ColumnBuilders,
    pub(super) warnings: Warnings,
    not_after_micros: i64,
    routing: Option<Arc<Routing>>,
    /// What is said of a blank value, by column, where a programme needs one.
    asked: [Option<String>; COLUMNS.len()],
    settlements: Remembered<Settlement>,
    sources: Remembered<Option<&'static str>>,
}

/// The values of a row, by the definition's columns; empty where the file has no such column.
type Values<'a> = [&'a str; COLUMNS.len()];

impl RowDecoder {
    pub(super) fn new(layout: Layout, context: &FileContext) -> Self {
        Self {
            form: RowForm { layout, limits: context.limits },
            columns: ColumnBuilders::new(&context.default_site, &context.currency, context.upload_id.as_str()),
            warnings: Warnings::of(&PAYMENTS),
            not_after_micros: context.not_after_micros,
            routing: context.routing.clone(),
            asked: asked(&context.required),
            settlements: Remembered::new(words::settlement),
            sources: Remembered::new(words::source),
        }
    }

    /// Takes a record in, or says all that is wrong with it.
    pub(super) fn decode(&mut self, record: &Record<'_>) -> Result<(), Vec<RowError>> {
        let text = record.text();
        let mut errors = self.form.faults(record, text.is_some());
        if record.len() != self.form.layout.len() {
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
        for (field, column) in self.form.layout.columns().iter().enumerate() {
            values[*column] = text.field(field);
        }
        values
    }

    /// Checks the values of a row of which some cannot be read, so that its other mistakes are told as well.
    fn check_readable_values(&self, record: &Record<'_>, errors: &mut Vec<RowError>) {
        let unreadable: Vec<u64> = errors.iter().map(|error| error.byte).collect();
        let mut values = [""; COLUMNS.len()];
        self.form.readable_values(record, &mut values);
        let mut more = Vec::new();
        let _ = self.check_values(record, &values, &mut more);
        errors.extend(more.into_iter().filter(|error| !unreadable.contains(&error.byte)));
    }

    /// The row's instant and amounts where all its values are good; else every mistake is in `errors`.
    fn check_values(&self, record: &Record<'_>, values: &Values<'_>, errors: &mut Vec<RowError>) -> Option<Numbers> {
        let mut numbers = Numbers { paid_at: 0, amount: 0, charges: None };
        let before = errors.len();
        for column in Column::ALL {
            let definition = column.definition();
            let value = values[column.index()];
            if is_blank(value) {
                if definition.required {
                    let message = format!("{} is blank; every payment needs it", definition.name);
                    self.push_error(record, column, code::MISSING_VALUE, &message, errors);
                } else if let Some(message) = &self.asked[column.index()] {
                    self.push_error(record, column, code::MISSING_VALUE, message, errors);
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
                Format::Identifier if is_scientific(value) && NAMES.contains(&column) => {
                    let routing = self.routing.as_ref().filter(|_| column == Column::MeterId);
                    let meant = routing.and_then(|routing| routing.hint(value));
                    let message = meant.map_or_else(|| SCIENTIFIC.to_owned(), |meant| format!("{SCIENTIFIC}; {meant}"));
                    self.push_error(record, column, code::SCIENTIFIC_NOTATION, &message, errors);
                }
                Format::Identifier if column == Column::MeterId => {
                    if let Some(Err(fault)) = self.routing.as_ref().map(|routing| routing.check(value)) {
                        self.push_error(record, column, fault.code, &fault.message, errors);
                    }
                }
                _ => {}
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
            self.warnings.count(Concern::UnknownStatus, Column::Status.index(), status.unwrap_or_default(), line);
        }
        if let (None, Some(spelling)) = (source, payment_source) {
            let from = if optional(Column::PaymentSource).is_some() { Column::PaymentSource } else { Column::Source };
            self.warnings.count(Concern::UnknownSource, from.index(), spelling, line);
        }
        self.warn_of_text(line, values);
    }

    /// Counts values that are kept as they are and may not be what was meant.
    fn warn_of_text(&mut self, line: u64, values: &Values<'_>) {
        let ignored = values[Column::Source.index()];
        let payment_source = values[Column::PaymentSource.index()];
        if !is_blank(ignored) && !is_blank(payment_source) && ignored != payment_source {
            self.warnings.count(Concern::SourceIgnored, Column::Source.index(), ignored, line);
        }
        for column in PADDING {
            let value = values[column.index()];
            if value.trim().len() != value.len() {
                self.warnings.count(Concern::PaddedValue, column.index(), value, line);
            }
        }
        for column in Column::ALL {
            let value = values[column.index()];
            let is_text = matches!(column.definition().format, Format::Identifier | Format::Text);
            if is_text && is_formula(value) {
                self.warnings.count(Concern::FormulaText, column.index(), value, line);
            }
        }
    }

    fn push_error(&self, record: &Record<'_>, column: Column, code: &str, message: &str, errors: &mut Vec<RowError>) {
        errors.extend(self.form.error_in(record, column.index(), code, message));
    }
}

/// What is said of a blank value of each column that is asked for. One that the definition no longer has is asked for in vain.
fn asked(required: &[RequiredColumn]) -> [Option<String>; COLUMNS.len()] {
    let mut asked = [const { None }; COLUMNS.len()];
    for column in Column::ALL {
        let required = required.iter().find(|required| required.column == column.name());
        asked[column.index()] = required.map(|required| format!("{} is blank; {}", column.name(), required.who()));
    }
    asked
}

/// The values of a row that are not text.
struct Numbers {
    paid_at: i64,
    amount: i64,
    charges: Option<i64>,
}
