//! Where the rows of an upload go: which of its staged files become files of the lake as they are, and which partitions
//! are materialised because of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use arrow::{array::RecordBatch, error::ArrowError};

use super::{
    FileNames, LakeError, LakeFile, Snapshot, Verified,
    collisions::{self, Collisions, Rows},
    discard,
    file::{self, Part, ROWS_PER_FILE, Written},
    materialise::{Input, materialise},
    verify,
};
use crate::{
    durable,
    ids::{ChangeId, Month, ProjectSlug},
    payments::identity::identities,
};

/// Files of a partition above which its small ones are made into one.
const FILES_PER_PARTITION: usize = 8;

/// An upload's rows of one project and month: a sorted Parquet file of its own, on disk.
#[derive(Clone, Debug)]
pub struct StagedFile {
    pub month: Month,
    pub file: Written,
}

/// What became of an upload's rows, and the files that say so. Nothing of it is visible before it is committed.
#[derive(Debug, Default)]
pub struct Placement {
    pub removed: Vec<Arc<LakeFile>>,
    pub added: Vec<LakeFile>,
    /// Rows whose payment ID the project did not have.
    pub new: u64,
    /// Rows that take the place of an earlier one with the same payment ID.
    pub corrected: u64,
    /// Rows that the project has already.
    pub duplicate: u64,
}

/// Places the staged files of an upload, which is the change `change`, into `project`, as `snapshot` has it. The caller holds the project's lock.
///
/// An upload's row that is there already to the letter is left out; one with a known ID and other content takes the place
/// of the earlier one, whichever month that is in.
pub fn place(
    root: &Path,
    snapshot: &Snapshot,
    project: &ProjectSlug,
    change: &ChangeId,
    staged: &[StagedFile],
) -> Result<Placement, LakeError> {
    let existing: Vec<Arc<LakeFile>> = snapshot.project_files(project).cloned().collect();
    verify(root, &existing)?;
    // The first upload of a project meets nothing, and need not be read again.
    let paths = staged.iter().map(|staged| staged.file.path.as_path());
    let collisions = if existing.is_empty() || !collisions::any_known(root, &existing, paths)? {
        Collisions::default()
    } else {
        Collisions::find(root, &existing, staged_rows(staged))?
    };
    let rows: u64 = staged.iter().map(|staged| staged.file.rows).sum();
    let (duplicate, corrected) = collisions.counts();
    let mut placement = Placement { new: rows - duplicate - corrected, corrected, duplicate, ..Placement::default() };

    let mut coming: BTreeMap<Month, Vec<usize>> = BTreeMap::new();
    for (index, file) in staged.iter().enumerate() {
        coming.entry(file.month).or_default().push(index);
    }
    let losing = existing.iter().filter(|file| collisions.replaced.contains_key(&file.path)).map(|file| file.month);
    let mut names = FileNames::of(change.clone());
    let months: BTreeSet<Month> = coming.keys().copied().chain(losing).collect();
    for month in months {
        let coming = coming.get(&month).map_or(&[][..], Vec::as_slice);
        let partition = Partition { root, project, month, staged, collisions: &collisions };
        if let Err(error) = partition.place(coming, snapshot.partition(project, month), &mut names, &mut placement) {
            discard(root, &placement.added);
            return Err(error);
        }
    }
    Ok(placement)
}

/// What [`place`] would make of rows that are not staged, in numbers; nothing is written.
pub fn count(
    root: &Path,
    snapshot: &Snapshot,
    project: &ProjectSlug,
    batches: impl Iterator<Item = Result<RecordBatch, LakeError>>,
) -> Result<Placement, LakeError> {
    let existing: Vec<Arc<LakeFile>> = snapshot.project_files(project).cloned().collect();
    verify(root, &existing)?;
    let mut rows = 0;
    let identified = batches.enumerate().map(|(file, batch)| {
        let identities = identities(&batch?)?;
        rows += identities.len() as u64;
        Ok(Rows { file, first_row: 0, identities })
    });
    let collisions = Collisions::find(root, &existing, identified)?;
    let (duplicate, corrected) = collisions.counts();
    Ok(Placement { new: rows - duplicate - corrected, corrected, duplicate, ..Placement::default() })
}

/// The identities of staged rows, batch by batch.
fn staged_rows(staged: &[StagedFile]) -> impl Iterator<Item = Result<Rows, LakeError>> {
    staged.iter().enumerate().flat_map(|(index, staged)| {
        let (batches, failed) = match file::read(&staged.file.path, Part::default()) {
            Ok(batches) => (Some(batches), None),
            Err(error) => (None, Some(Err(error))),
        };
        let mut next_row = 0;
        let rows = move |batch: Result<RecordBatch, ArrowError>| {
            let identities = identities(&batch?)?;
            let first_row = next_row;
            next_row += identities.len();
            Ok(Rows { file: index, first_row, identities })
        };
        batches.into_iter().flatten().map(rows).chain(failed)
    })
}

struct Partition<'a> {
    root: &'a Path,
    project: &'a ProjectSlug,
    month: Month,
    staged: &'a [StagedFile],
    collisions: &'a Collisions,
}

impl Partition<'_> {
    fn place(
        &self,
        coming: &[usize],
        there: &[Arc<LakeFile>],
        names: &mut FileNames,
        placement: &mut Placement,
    ) -> Result<(), LakeError> {
        let loses = |file: &LakeFile| self.collisions.replaced.contains_key(&file.path);
        let crowded = there.len() + coming.len() > FILES_PER_PARTITION;
        if crowded || there.iter().any(|file| loses(file)) {
            let small = |file: &LakeFile| file.rows < ROWS_PER_FILE as u64 / 2;
            let rewritten: Vec<&Arc<LakeFile>> = there.iter().filter(|file| loses(file) || small(file)).collect();
            let paths: Vec<_> = rewritten.iter().map(|file| self.root.join(&file.path)).collect();
            let mut inputs: Vec<Input<'_>> = rewritten
                .iter()
                .zip(&paths)
                .map(|(file, path)| Input { path, without: self.collisions.replaced.get(&file.path) })
                .collect();
            inputs.extend(coming.iter().map(|index| self.input(*index)));
            placement.added.extend(materialise(self.root, self.project, self.month, names, &inputs)?);
            placement.removed.extend(rewritten.into_iter().cloned());
            return Ok(());
        }
        for index in coming {
            if self.collisions.duplicates.contains_key(index) {
                let inputs = [self.input(*index)];
                placement.added.extend(materialise(self.root, self.project, self.month, names, &inputs)?);
            } else {
                placement.added.push(self.link(*index, names)?);
            }
        }
        Ok(())
    }

    fn input(&self, index: usize) -> Input<'_> {
        Input { path: &self.staged[index].file.path, without: self.collisions.duplicates.get(&index) }
    }

    /// Gives a staged file its name in the lake: each row is encoded once.
    fn link(&self, index: usize, names: &mut FileNames) -> Result<LakeFile, LakeError> {
        let Written { path: from, rows, bytes, sha256 } = &self.staged[index].file;
        let path = names.next(self.project, self.month);
        let target = self.root.join(&path);
        durable::link(from, &target)
            .map_err(|source| LakeError::Io { what: format!("placing {}", target.display()), source })?;
        Ok(LakeFile {
            path,
            project: self.project.clone(),
            month: self.month,
            bytes: *bytes,
            rows: *rows,
            sha256: *sha256,
            verified: Verified::written_here(),
        })
    }
}
