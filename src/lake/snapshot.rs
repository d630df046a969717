//! The lake at one version: which files make it up. Immutable; a commit makes a new one beside it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

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
    /// Of the file's bytes, taken while they were written.
    pub sha256: [u8; 32],
    pub verified: Verified,
}

/// Whether this process has seen that a file's bytes are those that were written: it wrote them itself, or it has read
/// them and compared their hash. Says nothing about which file it is, so all are equal.
#[derive(Debug, Default)]
pub struct Verified(AtomicBool);

impl Verified {
    /// Of a file that this process wrote.
    #[must_use]
    pub fn written_here() -> Self {
        Self(AtomicBool::new(true))
    }

    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Clone for Verified {
    fn clone(&self) -> Self {
        Self(AtomicBool::new(self.is_set()))
    }
}

impl PartialEq for Verified {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Verified {}

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
    pub fn partition(&self, project: &ProjectSlug, month: Month) -> &[Arc<LakeFile>] {
        self.partitions.get(&(project.clone(), month)).map_or(&[], Vec::as_slice)
    }

    /// The months of a project with their files, in order. It takes as long however many projects there are.
    pub fn project_months<'a>(
        &'a self,
        project: &'a ProjectSlug,
    ) -> impl Iterator<Item = (Month, &'a [Arc<LakeFile>])> + use<'a> {
        let months = self.partitions.range((project.clone(), Month::FIRST)..);
        months.take_while(move |((slug, _), _)| slug == project).map(|((_, month), files)| (*month, files.as_slice()))
    }

    /// The files of all months of a project, in order of the months.
    pub fn project_files<'a>(&'a self, project: &'a ProjectSlug) -> impl Iterator<Item = &'a Arc<LakeFile>> {
        self.project_months(project).flat_map(|(_, files)| files)
    }

    /// All files, by project and month.
    pub fn files(&self) -> impl Iterator<Item = &Arc<LakeFile>> {
        self.partitions.values().flatten()
    }

    /// Takes over which files were seen to be whole from an earlier look at the same lake.
    pub(super) fn keep_verified(&self, earlier: &Self) {
        let seen: HashMap<&str, &Arc<LakeFile>> = earlier.files().map(|file| (file.path.as_str(), file)).collect();
        for file in self.files() {
            if seen.get(file.path.as_str()).is_some_and(|seen| seen.verified.is_set() && seen.sha256 == file.sha256) {
                file.verified.set();
            }
        }
    }

    /// The snapshot after a commit that took `removed` out and put `added` in.
    #[must_use]
    pub fn after(&self, version: u64, removed: &[Arc<LakeFile>], added: &[LakeFile]) -> Self {
        let mut next = Self { version, partitions: self.partitions.clone() };
        for gone in removed {
            let key = (gone.project.clone(), gone.month);
            if let Some(files) = next.partitions.get_mut(&key) {
                files.retain(|file| file.path != gone.path);
                if files.is_empty() {
                    next.partitions.remove(&key);
                }
            }
        }
        for file in added {
            next.partitions.entry((file.project.clone(), file.month)).or_default().push(Arc::new(file.clone()));
        }
        next
    }
}
