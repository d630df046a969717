//! The payment file: its definition, its decoder and its rules. Pure: bytes in, columns and row errors out.

pub mod amount;
mod columns;
pub mod dataset_name;
pub mod decoder;
pub mod definition;
pub(crate) mod fields;
pub mod file_definition;
pub(crate) mod header;
pub mod identity;
pub mod near_meters;
pub mod packing;
pub(crate) mod records;
pub mod report;
pub mod required;
pub mod reread;
pub mod routing;
mod row;
pub mod schema;
pub mod timestamp;
pub mod unpack;
pub(crate) mod warnings;
pub mod words;

#[cfg(test)]
mod tests;
