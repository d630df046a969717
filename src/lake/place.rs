//! Where the rows of an upload go: which of its staged files become files of the lake as they are, and which partitions
//! are materialised because of them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
};

use arrow::{array::RecordBatch, error::ArrowError};

use super::{
    FileNames, LakeError, LakeFile, Meters, RowSet, Snapshot, Verified,
    collisions::{self, Collisions, Rows},
    discard,
    file::{self, Part, ROWS_PER_FILE, Written},
    materialise::{Input, Wanted, materialise},
    pass, verify,
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

/// What becomes of a project's rows, and the files that say so. Nothing of it is visible before it is committed.
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
    /// Rows that go, with none of their payment ID in their place.
    pub withdrawn: u64,
    /// Months in which an earlier row stood that is corrected, whichever month the later one is in.
    pub left: BTreeSet<Month>,
}

/// Places the staged files of an upload, which is the change `change`, into `project`, as `snapshot` has it. The caller holds the project's lock.
///
/// An upload's row that is there already to the letter is left out; one with a known ID and other content takes the place
/// of the earlier one, whichever month that is in. Rows show their connections as `meters` has them.
pub fn place(
    root: &Path,
    snapshot: &Snapshot,
    project: &ProjectSlug,
    change: &ChangeId,
    staged: &[StagedFile],
    meters: &Meters,
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

    placement.left = months_left(&existing, &collisions);
    let coming = staged.iter().enumerate().map(|(index, file)| {
        let rows = collisions.duplicates.get(&index).map_or(Wanted::All, Wanted::Except);
        Coming { file, rows }
    });
    let moves = Moves { root, snapshot, project, meters, leaving: &collisions.replaced };
    moves.write(change, coming, &mut placement)?;
    Ok(placement)
}

/// What [`place`] would make of rows that are not staged, in numbers; nothing is written.
pub fn count(
    root: &Path,
    snapshot: &Snapshot,
    project: &ProjectSlug,
    batches: impl Iterator<Item = Result<RecordBatch, LakeError>>,
) -> Result<Placement, LakeError> {
    let rows = batches.enumerate().map(|(file, batch)| {
        let identities = identities(&batch?)?;
        Ok(Rows { file, first_row: 0, identities })
    });
    count_rows(root, snapshot, project, rows)
}

/// What [`place`] would make of staged rows, in numbers; nothing is written.
pub fn count_staged(
    root: &Path,
    snapshot: &Snapshot,
    project: &ProjectSlug,
    staged: &[StagedFile],
) -> Result<Placement, LakeError> {
    count_rows(root, snapshot, project, staged_rows(staged))
}

fn count_rows(
    root: &Path,
    snapshot: &Snapshot,
    project: &ProjectSlug,
    identified: impl Iterator<Item = Result<Rows, LakeError>>,
) -> Result<Placement, LakeError> {
    let existing: Vec<Arc<LakeFile>> = snapshot.project_files(project).cloned().collect();
    verify(root, &existing)?;
    let mut rows = 0;
    let identified =
        identified.inspect(|found| rows += found.as_ref().map_or(0, |found| found.identities.len() as u64));
    let collisions = Collisions::find(root, &existing, identified)?;
    let (duplicate, corrected) = collisions.counts();
    let left = months_left(&existing, &collisions);
    Ok(Placement { new: rows - duplicate - corrected, corrected, duplicate, left, ..Placement::default() })
}

/// The months of the files of which a row is replaced.
fn months_left(existing: &[Arc<LakeFile>], collisions: &Collisions) -> BTreeSet<Month> {
    existing.iter().filter(|file| collisions.replaced.contains_key(&file.path)).map(|file| file.month).collect()
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

/// A staged file of which rows come into the lake.
pub(super) struct Coming<'a> {
    pub(super) file: &'a StagedFile,
    pub(super) rows: Wanted<'a>,
}

/// Rows of a project that leave the lake as `snapshot` has it.
pub(super) struct Moves<'a> {
    pub(super) root: &'a Path,
    pub(super) snapshot: &'a Snapshot,
    pub(super) project: &'a ProjectSlug,
    /// What rows that are written show of their connections.
    pub(super) meters: &'a Meters,
    /// By the path of a file of the lake.
    pub(super) leaving: &'a HashMap<String, RowSet>,
}

impl Moves<'_> {
    /// Writes the files of every month that rows leave or come into, for the change `change`. Where that fails, what was
    /// written is removed.
    pub(super) fn write<'a>(
        &self,
        change: &ChangeId,
        coming: impl Iterator<Item = Coming<'a>>,
        placement: &mut Placement,
    ) -> Result<(), LakeError> {
        let mut months: BTreeMap<Month, Vec<Coming<'a>>> = BTreeMap::new();
        for coming in coming {
            months.entry(coming.file.month).or_default().push(coming);
        }
        for file in self.snapshot.project_files(self.project).filter(|file| self.leaves(file) > 0) {
            months.entry(file.month).or_default();
        }
        let mut names = FileNames::of(change.clone());
        let written = months.into_iter().try_for_each(|(month, coming)| {
            self.write_month(month, coming, &mut names, placement)?;
            pass("commit::month_placed")
        });
        written.and_then(|()| pass("commit::placed")).inspect_err(|_| discard(self.root, &placement.added))
    }

    /// A file that loses all its rows only goes. One that loses some is made anew, together with the small ones beside it;
    /// so are the small ones of a month that would have too many. Else what comes whole is linked.
    fn write_month(
        &self,
        month: Month,
        coming: Vec<Coming<'_>>,
        names: &mut FileNames,
        placement: &mut Placement,
    ) -> Result<(), LakeError> {
        let there = self.snapshot.partition(self.project, month);
        let (gone, there): (Vec<_>, Vec<_>) = there.iter().partition(|file| self.leaves(file) == file.rows);
        placement.removed.extend(gone.into_iter().cloned());
        let packs = there.len() + coming.len() > FILES_PER_PARTITION || there.iter().any(|file| self.leaves(file) > 0);
        let small = |rows: u64| packs && rows < ROWS_PER_FILE as u64 / 2;
        let rewritten: Vec<&Arc<LakeFile>> =
            there.into_iter().filter(|file| self.leaves(file) > 0 || small(file.rows)).collect();
        let (mut linked, mut packed) = (Vec::new(), Vec::new());
        for coming in coming {
            let whole = matches!(coming.rows, Wanted::All) && !small(coming.file.file.rows);
            // What was staged before connections changed shows what they were then.
            let links = whole && self.meters.agree_with(&coming.file.file.path)?;
            if links { linked.push(coming) } else { packed.push(coming) }
        }
        let paths: Vec<_> = rewritten.iter().map(|file| self.root.join(&file.path)).collect();
        let mut inputs: Vec<Input<'_>> = rewritten
            .iter()
            .zip(&paths)
            .map(|(file, path)| Input { path, rows: self.leaving.get(&file.path).map_or(Wanted::All, Wanted::Except) })
            .collect();
        inputs.extend(packed.iter().map(|coming| Input { path: &coming.file.file.path, rows: coming.rows }));
        placement.removed.extend(rewritten.into_iter().cloned());
        placement.added.extend(materialise(self.root, self.project, month, names, self.meters, &inputs)?);
        for coming in linked {
            placement.added.push(self.link(coming.file, names)?);
        }
        Ok(())
    }

    /// How many rows leave a file.
    fn leaves(&self, file: &LakeFile) -> u64 {
        self.leaving.get(&file.path).map_or(0, RowSet::count)
    }

    /// Gives a staged file its name in the lake: each row is encoded once.
    fn link(&self, staged: &StagedFile, names: &mut FileNames) -> Result<LakeFile, LakeError> {
        let Written { path: from, rows, bytes, sha256 } = &staged.file;
        let path = names.next(self.project, staged.month);
        let target = self.root.join(&path);
        durable::link(from, &target)
            .map_err(|source| LakeError::Io { what: format!("placing {}", target.display()), source })?;
        Ok(LakeFile {
            path,
            project: self.project.clone(),
            month: staged.month,
            bytes: *bytes,
            rows: *rows,
            sha256: *sha256,
            verified: Verified::written_here(),
        })
    }
}
