//! The one definition of the dataset type `electricity_payments`. The decoder, the template and the list of dataset
//! types all read it from here. (seed: Electricity Payments File Definition; File formatting, 2 to 5)

use super::file_definition::{ColumnDefinition, FileDefinition, Format, define};

/// The dataset type's name in the API.
pub const DATASET_TYPE: &str = "electricity_payments";

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
    /// In the order of [`COLUMNS`].
    #[rustfmt::skip]
    pub const ALL: [Self; 16] = [
        Self::Timestamp, Self::Id, Self::MeterId, Self::UtilityId, Self::CustomerId, Self::CustomerName,
        Self::TransactionCharges, Self::PaymentSource, Self::ReferenceId, Self::PaymentAmount, Self::AccountType,
        Self::Status, Self::Notes, Self::Location, Self::Source, Self::ExternalId,
    ];

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

/// All columns that a file may have: the seed's fourteen in its order, then its two "other fields". A file may have them
/// in any order.
#[rustfmt::skip]
pub static COLUMNS: [ColumnDefinition; 16] = {
    use Format::{Amount, Identifier, Text, Timestamp};
    [
        define("TIMESTAMP", true, Timestamp, "paid_at", "When the payment took effect."),
        define("ID", true, Identifier, "payment_id", "The payment's ID, unique in the project."),
        define("METER_ID", true, Identifier, "meter_id",
            "The meter's ID; for remote verification it equals the external_id of a connection. \
             For a solar home system, its serial number."),
        define("UTILITY_ID", false, Identifier, "utility_id", "The serial number of the inverter system."),
        define("CUSTOMER_ID", true, Identifier, "customer_id", "The customer's ID."),
        define("CUSTOMER NAME", true, Text, "customer_name", "The name of the payer."),
        define("TRANSACTION CHARGES", false, Amount, "transaction_charges",
            "What the payment provider kept, in the project's currency."),
        define("PAYMENT_SOURCE", false, Text, "payment_source",
            "How it was paid, such as M-PESA or CASH; known spellings are also kept under one name, in source."),
        define("REFERENCE_ID", false, Identifier, "reference_id", "The payment provider's reference."),
        define("PAYMENT_AMOUNT", true, Amount, "amount",
            "What was paid, in the project's currency; negative for a refund."),
        define("ACCOUNT_TYPE", false, Text, "account_type", "The kind of customer, such as RESIDENTIAL."),
        define("STATUS", false, Text, "status",
            "What became of the payment; known words become settled, pending, failed or reversed, in settlement. \
             Blank is settled."),
        define("NOTES", false, Text, "notes", "Anything else."),
        define("LOCATION", false, Text, "location", "The site of the meter, where it has no connection."),
        define("Source", false, Text, "payment_source", "The payment type, where PAYMENT_SOURCE is blank."),
        define("external_id", false, Identifier, "serial_number", "The serial number of the device."),
    ]
};

const EXAMPLE_ROWS: &[&[&str]] = &[
    &[
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
    &[
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

/// The definition of a file of payments.
pub static PAYMENTS: FileDefinition = FileDefinition {
    dataset_type: DATASET_TYPE,
    title: "Electricity payments",
    file_name: FILE_NAME,
    row: "payment",
    columns: &COLUMNS,
    template_columns: TEMPLATE_COLUMNS,
    examples: EXAMPLE_ROWS,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payments::schema::FILE_SCHEMA;

    #[test]
    fn each_column_stands_at_its_number_and_goes_to_a_column_of_the_lake() {
        assert!(Column::ALL.iter().enumerate().all(|(index, column)| column.index() == index));
        for definition in &COLUMNS {
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
        assert!(PAYMENTS.template().starts_with(
            "TIMESTAMP,ID,METER_ID,UTILITY_ID,CUSTOMER_ID,CUSTOMER NAME,TRANSACTION CHARGES,PAYMENT_SOURCE,REFERENCE_ID,\
             PAYMENT_AMOUNT,ACCOUNT_TYPE,STATUS,NOTES,LOCATION\n"
        ));
    }
}
