//! The lake at one version: which files make it up. Immutable; a commit makes a new one beside it.

use std::{collections::BTreeMap, sync::Arc};

use crate::ids::{Month, ProjectSlug};

/// One Parquet file of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LakeFile {
    /// Relative to the table's root, as the Delta log has it: `project_id=kitobo/month=2024-05/<name>.parquet`.
    pub path: String,
    pub project: ProjectSlug,
    pub month: Month,
    pub bytes: u64,
    pub rows: u64,
}

/// The files of each partition at one version.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Delta's version of the table.
    pub version: u64,
    /// Sorted by project, then month; the files of a partition in the order in which they came.
    pub partitions: BTreeMap<(ProjectSlug, Month), Vec<Arc<LakeFile>>>,
}

impl Snapshot {
    /// The files of one project's month.
    #[must_use]
    pub fn files(&self, project: &ProjectSlug, month: Month) -> &[Arc<LakeFile>] {
        self.partitions.get(&(project.clone(), month)).map_or(&[], Vec::as_slice)
    }
}
