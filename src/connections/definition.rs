//! The one definition of a connection: the columns of its file, the fields of its JSON and the columns of its table.
//! (domain: Remote verification)

use crate::payments::file_definition::{ColumnDefinition, FileDefinition, Format, define};

/// The fields of a connection.
pub const FIELDS: usize = 17;

/// A field of a connection; its number is its place in [`COLUMNS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    ExternalId,
    SerialNumber,
    CustomerName,
    Category,
    CustomerType,
    Gender,
    Phone,
    Country,
    Address,
    Latitude,
    Longitude,
    ProductName,
    Milestone,
    InverterSerialNumber,
    Capacity,
    Site,
    ConnectedOn,
}

impl Field {
    /// In the order of [`COLUMNS`].
    #[rustfmt::skip]
    pub const ALL: [Self; FIELDS] = [
        Self::ExternalId, Self::SerialNumber, Self::CustomerName, Self::Category, Self::CustomerType, Self::Gender,
        Self::Phone, Self::Country, Self::Address, Self::Latitude, Self::Longitude, Self::ProductName, Self::Milestone,
        Self::InverterSerialNumber, Self::Capacity, Self::Site, Self::ConnectedOn,
    ];

    /// The field's place in [`COLUMNS`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    #[must_use]
    pub fn definition(self) -> &'static ColumnDefinition {
        &COLUMNS[self.index()]
    }

    /// Its name in JSON and in the table.
    #[must_use]
    pub fn key(self) -> &'static str {
        self.definition().lake_column
    }

    /// The field of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.key() == name)
    }
}

/// All columns of the file. None but the id is required: what a programme needs, it asks for itself. (seed: File
/// formatting, 3)
#[rustfmt::skip]
pub static COLUMNS: [ColumnDefinition; FIELDS] = {
    use Format::{Category, Date, Identifier, Latitude, Longitude, Text};
    [
        define("EXTERNAL_ID", true, Identifier, "external_id",
            "The connection's ID, unique in the project; the METER_ID of its payments equals it."),
        define("SERIAL_NUMBER", false, Identifier, "serial_number", "The serial number of the device."),
        define("CUSTOMER_NAME", false, Text, "customer_name", "The name of the customer."),
        define("CATEGORY", false, Category, "category", "What kind of customer it is."),
        define("CUSTOMER_TYPE", false, Text, "customer_type", "The kind of customer in the developer's own words."),
        define("GENDER", false, Text, "gender", "The gender of the customer."),
        define("PHONE", false, Identifier, "phone", "The telephone number of the customer."),
        define("COUNTRY", false, Text, "country", "The country in which it is."),
        define("ADDRESS", false, Text, "address", "The address at which it is."),
        define("LATITUDE", false, Latitude, "latitude", "How far north it is; together with LONGITUDE or not at all."),
        define("LONGITUDE", false, Longitude, "longitude", "How far east it is; together with LATITUDE or not at all."),
        define("PRODUCT_NAME", false, Text, "product_name", "What was sold."),
        define("MILESTONE", false, Text, "milestone", "The milestone of a financing programme that it is counted to."),
        define("INVERTER_SERIAL_NUMBER", false, Identifier, "inverter_serial_number",
            "The serial number of the inverter system that feeds it."),
        define("CAPACITY", false, Text, "capacity", "What it can draw or generate, with its unit."),
        define("SITE", false, Text, "site", "The site on which it is; its payments are counted to it."),
        define("CONNECTED_ON", false, Date, "connected_on", "The day on which it was connected."),
    ]
};

/// The definition of a file of connections.
pub static CONNECTIONS: FileDefinition = FileDefinition {
    dataset_type: "connections",
    title: "Connections",
    file_name: "CONNECTIONS.csv",
    row: "connection",
    columns: &COLUMNS,
    template_columns: FIELDS,
    examples: &[
        &[
            "00104000123",
            "SN-00104000123",
            "Amina Otieno",
            "Residential",
            "Household",
            "Female",
            "+254700000123",
            "Kenya",
            "Plot 12 Kitobo",
            "-3.3869",
            "36.6830",
            "SM60R",
            "Milestone 1",
            "INV-00104",
            "60 A",
            "Kitobo",
            "2024-05-01",
        ],
        &[
            "00104000124",
            "",
            "Kitobo Traders Ltd.",
            "Commercial",
            "",
            "",
            "",
            "Kenya",
            "",
            "",
            "",
            "",
            "",
            "",
            "",
            "Kitobo",
            "2024-05-02",
        ],
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_stands_at_its_number_under_a_name_of_its_own() {
        assert!(Field::ALL.iter().enumerate().all(|(index, field)| field.index() == index));
        for field in Field::ALL {
            assert_eq!(Field::named(field.key()), Some(field));
            assert_eq!(field.definition().name, field.key().to_uppercase(), "one name, in its two spellings");
        }
        let required: Vec<_> = COLUMNS.iter().filter(|column| column.required).map(|column| column.name).collect();
        assert_eq!(required, ["EXTERNAL_ID"]);
    }
}
