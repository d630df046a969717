//! The one definition of the dataset type `electricity_payments`. The decoder, the template and the list of dataset
//! types all read it from here. (seed: Electricity Payments File Definition; File formatting, 2 to 5)

use serde::Serialize;
use utoipa::ToSchema;

/// The dataset type's name in the API.
pub const DATASET_TYPE: &str = "electricity_payments";

/// The dataset type's name for people.
pub const TITLE: &str = "Electricity Payments";

/// The only name that a payment file may have. (seed: File formatting, 1)
pub const FILE_NAME: &str = "ELECTRICITY_PAYMENT.csv";

/// Columns of the seed's table, which come first in [`COLUMNS`] and make up the template.
pub const TEMPLATE_COLUMNS: usize = 14;

/// A column of the file; its number is its place in [`COLUMNS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    Timestamp,
    Id,
    MeterId,
    UtilityId,
    CustomerId,
    CustomerName,
    TransactionCharges,
    PaymentSource,
    ReferenceId,
    PaymentAmount,
    AccountType,
    Status,
    Notes,
    Location,
    Source,
    ExternalId,
}

impl Column {
    /// The column's place in [`COLUMNS`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    #[must_use]
    pub fn definition(self) -> &'static ColumnDefinition {
        &COLUMNS[self.index()]
    }

    /// The column's exact header.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.definition().name
    }
}

/// What a column's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ColumnFormat)]
pub enum Format {
    /// An instant; without an offset it is UTC.
    Timestamp,
    /// An exact decimal number.
    Amount,
    /// A name of something: text that keeps its zeros, its case and its spaces.
    Identifier,
    /// Anything.
    Text,
}

impl Format {
    /// How a value is written, for a person.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Timestamp => {
                "YYYY-MM-DD HH:MM:SS+00:00 or YYYY-MM-DDTHH:MM:SS; without an offset it is UTC; up to 6 decimals of a second"
            }
            Self::Amount => {
                "digits with an optional point and up to 4 decimals, such as 1250.50; at most 14 digits before the point; \
                 no currency, spaces or thousands separators; negative for a refund"
            }
            Self::Identifier => "text, kept exactly as it is: 00123 is not 123",
            Self::Text => "text",
        }
    }
}

/// One column of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ColumnDefinition {
    #[serde(skip)]
    pub column: Column,
    /// The exact header, with its case and its spaces.
    pub name: &'static str,
    /// Whether the column must be there and every row must have a value in it.
    pub required: bool,
    pub format: Format,
    /// What the values mean.
    pub meaning: &'static str,
    /// The column of `payments` that holds the value.
    pub lake_column: &'static str,
}

const fn define(
    column: Column,
    name: &'static str,
    required: bool,
    format: Format,
    lake_column: &'static str,
    meaning: &'static str,
) -> ColumnDefinition {
    ColumnDefinition { column, name, required, format, meaning, lake_column }
}

/// All columns that a file may have: the seed's fourteen in its order, then its two "other fields". A file may have them
/// in any order.
#[rustfmt::skip]
pub static COLUMNS: [ColumnDefinition; 16] = {
    use Column as C;
    use Format::{Amount, Identifier, Text, Timestamp};
    [
        define(C::Timestamp, "TIMESTAMP", true, Timestamp, "paid_at", "When the payment took effect."),
        define(C::Id, "ID", true, Identifier, "payment_id", "The payment's ID, unique in the project."),
        define(C::MeterId, "METER_ID", true, Identifier, "meter_id",
            "The meter's ID; for remote verification it equals the external_id of a connection. \
             For a solar home system, its serial number."),
        define(C::UtilityId, "UTILITY_ID", false, Identifier, "utility_id", "The serial number of the inverter system."),
        define(C::CustomerId, "CUSTOMER_ID", true, Identifier, "customer_id", "The customer's ID."),
        define(C::CustomerName, "CUSTOMER NAME", true, Text, "customer_name", "The name of the payer."),
        define(C::TransactionCharges, "TRANSACTION CHARGES", false, Amount, "transaction_charges",
            "What the payment provider kept, in the project's currency."),
        define(C::PaymentSource, "PAYMENT_SOURCE", false, Text, "payment_source",
            "How it was paid, such as M-PESA or CASH; known spellings are also kept under one name, in source."),
        define(C::ReferenceId, "REFERENCE_ID", false, Identifier, "reference_id", "The payment provider's reference."),
        define(C::PaymentAmount, "PAYMENT_AMOUNT", true, Amount, "amount",
            "What was paid, in the project's currency; negative for a refund."),
        define(C::AccountType, "ACCOUNT_TYPE", false, Text, "account_type", "The kind of customer, such as RESIDENTIAL."),
        define(C::Status, "STATUS", false, Text, "status",
            "What became of the payment; known words become settled, pending, failed or reversed, in settlement. \
             Blank is settled."),
        define(C::Notes, "NOTES", false, Text, "notes", "Anything else."),
        define(C::Location, "LOCATION", false, Text, "location", "The site of the meter, where it has no connection."),
        define(C::Source, "Source", false, Text, "payment_source", "The payment type, where PAYMENT_SOURCE is blank."),
        define(C::ExternalId, "external_id", false, Identifier, "serial_number", "The serial number of the device."),
    ]
};

const EXAMPLE_ROWS: [[&str; TEMPLATE_COLUMNS]; 2] = [
    [
        "2024-05-03 17:10:28+00:00",
        "TX000001",
        "00104000123",
        "INV-00104",
        "C0000123",
        "Amina Otieno",
        "1.50",
        "M-PESA",
        "SE30A1B2C3",
        "150.00",
        "RESIDENTIAL",
        "SUCCESS",
        "",
        "Kitobo",
    ],
    [
        "2024-05-03T18:42:05",
        "TX000002",
        "00104000124",
        "",
        "C0000124",
        "Kitobo Traders Ltd.",
        "",
        "CASH",
        "",
        "1200.00",
        "COMMERCIAL",
        "",
        "paid at the office",
        "Kitobo",
    ],
];

/// The template: the header of the seed's fourteen columns and two example rows that pass the check.
#[must_use]
pub fn template() -> String {
    let names: Vec<&str> = COLUMNS[..TEMPLATE_COLUMNS].iter().map(|column| column.name).collect();
    let mut csv = names.join(",");
    for row in EXAMPLE_ROWS {
        csv.push('\n');
        csv.push_str(&row.join(","));
    }
    csv.push('\n');
    csv
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payments::schema::FILE_SCHEMA;

    #[test]
    fn each_column_stands_at_its_number_and_goes_to_a_column_of_the_lake() {
        for (index, definition) in COLUMNS.iter().enumerate() {
            assert_eq!(definition.column.index(), index, "{}", definition.name);
            let lake = FILE_SCHEMA.field_with_name(definition.lake_column).unwrap();
            assert_eq!(!lake.is_nullable(), definition.required, "{}", definition.name);
        }
    }

    #[test]
    fn the_required_columns_are_the_seeds_and_the_plans() {
        let required: Vec<_> = COLUMNS.iter().filter(|c| c.required).map(|c| c.name).collect();
        assert_eq!(required, ["TIMESTAMP", "ID", "METER_ID", "CUSTOMER_ID", "CUSTOMER NAME", "PAYMENT_AMOUNT"]);
    }

    #[test]
    fn the_template_has_the_seeds_header() {
        assert!(template().starts_with(
            "TIMESTAMP,ID,METER_ID,UTILITY_ID,CUSTOMER_ID,CUSTOMER NAME,TRANSACTION CHARGES,PAYMENT_SOURCE,REFERENCE_ID,\
             PAYMENT_AMOUNT,ACCOUNT_TYPE,STATUS,NOTES,LOCATION\n"
        ));
    }
}
