//! The payment file: its definition, its decoder and its rules. Pure: bytes in, columns and row errors out.

pub mod report;
pub mod schema;
