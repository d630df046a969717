//! The payment file: its definition, its decoder and its rules. Pure: bytes in, columns and row errors out.

pub mod amount;
mod columns;
pub mod dataset_name;
pub mod decoder;
pub mod definition;
mod header;
pub mod identity;
pub mod packing;
mod records;
pub mod report;
pub mod reread;
mod row;
pub mod schema;
pub mod timestamp;
pub mod unpack;
mod warnings;
pub mod words;

#[cfg(test)]
mod tests;
