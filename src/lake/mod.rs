//! The lake: one Delta table of payments, partitioned by project and month.

pub mod scan;
pub mod snapshot;

pub use snapshot::{LakeFile, Snapshot};
