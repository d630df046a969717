//! The lake: one Delta table of payments, partitioned by project and month.

pub mod snapshot;

pub use snapshot::{LakeFile, Snapshot};
