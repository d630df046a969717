//! Payment IDs that stand more than once in one file. The same row again is a duplicate, of which the first counts; two
//! different rows with one ID are both rejected, because nothing says which of them is right.
//!
//! The whole file must be known for that, so each row leaves a small record here; sorted runs of them go to disk when they
//! are many, and are merged at the end. Memory stays flat, however many rows there are and however often they repeat.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, IntoInnerError, Read, Seek, Write},
    path::{Path, PathBuf},
};

use super::{IngestError, folder};
use crate::{lake::RowSet, payments::identity::Identity};

/// Records in memory at most: 48 MiB of them.
const ROWS_IN_MEMORY: usize = 1 << 20;

/// Conflicting rows that are told one by one; a file with more of them is not a file of payments.
const MOST_CONFLICTS: usize = 1 << 19;

/// A row of the file: its identity, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowKey {
    id: u128,
    /// Rows of one ID come in the order of the file.
    line: u64,
    content: u64,
    byte: u64,
    /// The row's number among the accepted rows, from 0; [`NO_ROW`] for a row that is rejected for another fault.
    row: u64,
}

const KEY_BYTES: usize = 48;
const NO_ROW: u64 = u64::MAX;

impl RowKey {
    /// A row that is good in itself.
    pub(super) fn accepted(identity: Identity, row: u64, line: u64, byte: u64) -> Self {
        Self { id: identity.id, content: identity.content, line, byte, row }
    }

    /// A row that is at fault, but says its ID: another row of that ID contradicts it.
    pub(super) fn rejected(id: u128, line: u64, byte: u64) -> Self {
        // No row has the content of another's line.
        Self { id, content: u64::MAX - line, line, byte, row: NO_ROW }
    }

    fn to_bytes(self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        bytes[..16].copy_from_slice(&self.id.to_le_bytes());
        for (at, part) in (16..).step_by(8).zip([self.content, self.row, self.line, self.byte]) {
            bytes[at..at + 8].copy_from_slice(&part.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let id = u128::from_le_bytes(std::array::from_fn(|i| bytes[i]));
        Self { id, content: long(16), row: long(24), line: long(32), byte: long(40) }
    }

    /// The row's number, where it is an accepted one.
    fn accepted_row(&self) -> Option<u64> {
        (self.row != NO_ROW).then_some(self.row)
    }
}

/// A row that says something else than another row of its ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) row: u64,
    pub(super) line: u64,
    pub(super) byte: u64,
    /// The line of such another row.
    pub(super) other_line: u64,
}

/// What the rows of a file are among themselves.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Repeats {
    /// Rows that stand earlier in the file to the letter.
    pub(super) duplicates: RowSet,
    /// In the order of the file; good rows only, because the others are rejected already.
    pub(super) conflicts: Vec<Conflict>,
    /// There are more conflicts than a report holds, and those above are not all of them.
    pub(super) too_many: bool,
}

/// Collects the rows of one file.
pub(super) struct RepeatFinder {
    memory: Vec<RowKey>,
    capacity: usize,
    most_conflicts: usize,
    scratch: PathBuf,
    runs: Vec<File>,
}

impl RepeatFinder {
    /// A finder whose runs are nameless files in the folder `folder`.
    pub(super) fn new(folder: &Path) -> Self {
        Self::with_limits(folder, ROWS_IN_MEMORY, MOST_CONFLICTS)
    }

    fn with_limits(folder: &Path, capacity: usize, most_conflicts: usize) -> Self {
        Self { memory: Vec::new(), capacity, most_conflicts, scratch: folder.join("ids"), runs: Vec::new() }
    }

    pub(super) fn push(&mut self, key: RowKey) -> Result<(), IngestError> {
        self.memory.push(key);
        if self.memory.len() == self.capacity { self.spill().map_err(IngestError::io("sorting IDs")) } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        self.memory.sort_unstable();
        let mut file = BufWriter::new(folder::scratch_file(&self.scratch)?);
        for key in self.memory.drain(..) {
            file.write_all(&key.to_bytes())?;
        }
        let mut file = file.into_inner().map_err(IntoInnerError::into_error)?;
        file.rewind()?;
        self.runs.push(file);
        Ok(())
    }

    /// Looks at all rows, grouped by ID.
    pub(super) fn finish(mut self) -> Result<Repeats, IngestError> {
        let failed = IngestError::io("sorting IDs");
        if self.runs.is_empty() {
            self.memory = perhaps_repeated(&self.memory);
        }
        self.memory.sort_unstable();
        let mut repeats = Repeats::default();
        let mut group: Option<Group> = None;
        let mut merge = Merge::new(&self.memory, self.runs).map_err(&failed)?;
        while let Some(key) = merge.next().map_err(&failed)? {
            match &mut group {
                Some(group) if group.first.id == key.id => group.push(key, self.most_conflicts),
                _ => {
                    let ended = group.replace(Group::new(key));
                    repeats.add(ended, self.most_conflicts);
                }
            }
        }
        repeats.add(group, self.most_conflicts);
        repeats.conflicts.sort_unstable_by_key(|conflict| conflict.row);
        Ok(repeats)
    }
}

/// The rows whose ID another may have. Half of its hash tells nearly all others apart, and sorts in a fifth of the time
/// that whole rows take.
fn perhaps_repeated(keys: &[RowKey]) -> Vec<RowKey> {
    let half = |id: u128| u64::try_from(id >> 64).unwrap_or_default();
    let mut halves: Vec<(u64, usize)> = keys.iter().enumerate().map(|(at, key)| (half(key.id), at)).collect();
    halves.sort_unstable();
    let alike = halves.chunk_by(|a, b| a.0 == b.0).filter(|alike| alike.len() > 1);
    alike.flatten().map(|(_, at)| keys[*at]).collect()
}

/// The rows of one ID, in the order of the file.
struct Group {
    first: RowKey,
    /// The first row that says something else than the first.
    different: Option<RowKey>,
    rest: Vec<RowKey>,
    /// More rows than are kept, all of them like the first.
    more: RowSet,
    /// More rows than are kept, and not all alike.
    too_many: bool,
}

impl Group {
    fn new(first: RowKey) -> Self {
        Self { first, different: None, rest: Vec::new(), more: RowSet::default(), too_many: false }
    }

    fn push(&mut self, key: RowKey, most: usize) {
        if self.different.is_none() && key.content != self.first.content {
            self.different = Some(key);
        }
        if self.rest.len() < most {
            self.rest.push(key);
        } else if self.different.is_some() {
            self.too_many = true;
        } else if let Some(row) = key.accepted_row() {
            self.more.insert(as_index(row));
        }
        self.too_many |= self.different.is_some() && self.more.count() > 0;
    }
}

impl Repeats {
    fn add(&mut self, group: Option<Group>, most: usize) {
        let Some(Group { first, different, rest, more, too_many }) = group else { return };
        let Some(different) = different else {
            for row in rest.iter().filter_map(RowKey::accepted_row) {
                self.duplicates.insert(as_index(row));
            }
            self.duplicates.extend(&more);
            return;
        };
        let conflicts = std::iter::once(&first).chain(&rest).filter_map(|key| {
            let other_line = if key.content == first.content { different.line } else { first.line };
            Some(Conflict { row: key.accepted_row()?, line: key.line, byte: key.byte, other_line })
        });
        self.conflicts.extend(conflicts);
        self.too_many |= too_many || self.conflicts.len() > most;
        self.conflicts.truncate(most);
    }
}

/// Rows are counted in memory sizes wherever they are looked up.
fn as_index(row: u64) -> usize {
    usize::try_from(row).unwrap_or(usize::MAX)
}

/// Sorted runs as one sorted sequence.
struct Merge<'a> {
    memory: std::slice::Iter<'a, RowKey>,
    files: Vec<BufReader<File>>,
    /// The next key of each run; run `files.len()` is the one in memory.
    heads: BinaryHeap<Reverse<(RowKey, usize)>>,
}

impl<'a> Merge<'a> {
    fn new(memory: &'a [RowKey], runs: Vec<File>) -> io::Result<Self> {
        let files: Vec<_> = runs.into_iter().map(BufReader::new).collect();
        let mut merge = Self { memory: memory.iter(), files, heads: BinaryHeap::new() };
        for run in 0..=merge.files.len() {
            merge.refill(run)?;
        }
        Ok(merge)
    }

    fn next(&mut self) -> io::Result<Option<RowKey>> {
        let Some(Reverse((key, run))) = self.heads.pop() else { return Ok(None) };
        self.refill(run)?;
        Ok(Some(key))
    }

    fn refill(&mut self, run: usize) -> io::Result<()> {
        let next = match self.files.get_mut(run) {
            None => self.memory.next().copied(),
            Some(file) => {
                let mut bytes = [0; KEY_BYTES];
                match file.read_exact(&mut bytes) {
                    Ok(()) => Some(RowKey::from_bytes(&bytes)),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                    Err(error) => return Err(error),
                }
            }
        };
        self.heads.extend(next.map(|key| Reverse((key, run))));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Finds the repeats of rows given as (ID, content), or (ID, nothing) for a row at fault.
    fn find(rows: &[(u8, Option<u8>)], capacity: usize, most: usize) -> Repeats {
        let folder = tempfile::tempdir().unwrap();
        let mut finder = RepeatFinder::with_limits(folder.path(), capacity, most);
        let mut accepted = 0;
        for (line, (id, content)) in (2..).zip(rows) {
            let key = match content {
                None => RowKey::rejected(u128::from(*id), line, line * 100),
                Some(content) => {
                    let identity = Identity { id: u128::from(*id), content: u64::from(*content) };
                    accepted += 1;
                    RowKey::accepted(identity, accepted - 1, line, line * 100)
                }
            };
            finder.push(key).unwrap();
        }
        finder.finish().unwrap()
    }

    fn lines(found: &Repeats) -> Vec<(u64, u64)> {
        found.conflicts.iter().map(|conflict| (conflict.line, conflict.other_line)).collect()
    }

    #[test]
    fn the_same_row_again_is_a_duplicate_and_different_rows_of_one_id_conflict() {
        let rows = [(1, 1), (2, 1), (1, 1), (2, 2), (2, 1), (3, 1)].map(|(id, content)| (id, Some(content)));
        let found = find(&rows, 100, 100);
        assert!(found.duplicates.contains(2) && found.duplicates.count() == 1);
        assert_eq!(lines(&found), [(3, 5), (5, 3), (6, 5)]);
    }

    #[test]
    fn a_good_row_conflicts_with_a_row_at_fault_that_has_its_id() {
        let found = find(&[(1, Some(1)), (2, None), (1, None), (2, None)], 100, 100);
        assert_eq!(lines(&found), [(2, 4)]);
        assert_eq!(found.duplicates.count(), 0);
    }

    #[test]
    fn many_rows_of_one_id_are_counted_without_being_kept() {
        let same = vec![(1, Some(1)); 50];
        let found = find(&same, 1000, 5);
        assert_eq!((found.duplicates.count(), found.conflicts.len(), found.too_many), (49, 0, false));
        let last_differs: Vec<_> = same.into_iter().chain([(1, Some(2))]).collect();
        assert!(find(&last_differs, 1000, 5).too_many);
        assert!(!find(&last_differs, 1000, 51).too_many);
    }

    proptest! {
        #[test]
        fn runs_on_disk_find_what_memory_finds(
            rows in prop::collection::vec((0..20u8, prop::option::of(0..3u8)), 0..200),
            capacity in 1..50usize,
        ) {
            prop_assert_eq!(find(&rows, capacity, 1000), find(&rows, 1000, 1000));
        }
    }
}
