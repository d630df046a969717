//! Payment IDs that stand more than once in one file. The same row again is a duplicate, of which the first counts; two
//! different rows with one ID are both rejected, because nothing says which of them is right.
//!
//! The whole file must be known for that, so each row leaves a small record here; sorted runs of them go to disk when they
//! are many, and are merged at the end. Memory stays flat.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use super::IngestError;
use crate::payments::identity::Identity;

/// Records in memory at most: 64 MiB of them.
const ROWS_IN_MEMORY: usize = 1 << 20;

/// A row of the file: its identity, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RowKey {
    pub(super) id: u128,
    /// The row's number among the accepted rows, from 0.
    pub(super) row: u64,
    pub(super) content: u128,
    pub(super) line: u64,
    pub(super) byte: u64,
}

const KEY_BYTES: usize = 56;

impl RowKey {
    pub(super) fn new(identity: Identity, row: u64, line: u64, byte: u64) -> Self {
        Self { id: identity.id, row, content: identity.content, line, byte }
    }

    fn to_bytes(self) -> [u8; KEY_BYTES] {
        let mut bytes = [0; KEY_BYTES];
        bytes[..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.content.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.row.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.line.to_le_bytes());
        bytes[48..].copy_from_slice(&self.byte.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        let wide = |at: usize| u128::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Self { id: wide(0), content: wide(16), row: long(32), line: long(40), byte: long(48) }
    }
}

/// Rows of one ID that say different things.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Conflict {
    pub(super) row: u64,
    pub(super) line: u64,
    pub(super) byte: u64,
    /// The line of another of them: the first, or the second for the first.
    pub(super) other_line: u64,
}

/// What the rows of a file are among themselves.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Repeats {
    /// Rows that stand earlier in the file to the letter; in order.
    pub(super) duplicates: Vec<u64>,
    /// In the order of the file.
    pub(super) conflicts: Vec<Conflict>,
}

/// Collects the rows of one file.
pub(super) struct RepeatFinder {
    memory: Vec<RowKey>,
    capacity: usize,
    folder: PathBuf,
    runs: Vec<PathBuf>,
}

impl RepeatFinder {
    /// A finder whose runs go to the folder `folder`.
    pub(super) fn new(folder: &Path) -> Self {
        Self::with_capacity(folder, ROWS_IN_MEMORY)
    }

    fn with_capacity(folder: &Path, capacity: usize) -> Self {
        Self { memory: Vec::new(), capacity, folder: folder.to_owned(), runs: Vec::new() }
    }

    pub(super) fn push(&mut self, key: RowKey) -> Result<(), IngestError> {
        self.memory.push(key);
        if self.memory.len() == self.capacity { self.spill().map_err(IngestError::io("sorting IDs")) } else { Ok(()) }
    }

    fn spill(&mut self) -> io::Result<()> {
        self.memory.sort_unstable();
        let path = self.folder.join(format!("ids-{}", self.runs.len()));
        let mut file = BufWriter::new(File::create_new(&path)?);
        self.runs.push(path);
        for key in self.memory.drain(..) {
            file.write_all(&key.to_bytes())?;
        }
        file.flush()
    }

    /// Looks at all rows, grouped by ID.
    pub(super) fn finish(mut self) -> Result<Repeats, IngestError> {
        let failed = IngestError::io("sorting IDs");
        self.memory.sort_unstable();
        let mut repeats = Repeats::default();
        let mut group: Vec<RowKey> = Vec::new();
        let mut merge = Merge::new(&self.memory, &self.runs).map_err(&failed)?;
        while let Some(key) = merge.next().map_err(&failed)? {
            if group.first().is_some_and(|first| first.id != key.id) {
                repeats.add(&group);
                group.clear();
            }
            group.push(key);
        }
        repeats.add(&group);
        repeats.duplicates.sort_unstable();
        repeats.conflicts.sort_unstable_by_key(|conflict| conflict.row);
        for run in &self.runs {
            std::fs::remove_file(run).map_err(&failed)?;
        }
        Ok(repeats)
    }
}

impl Repeats {
    /// Adds the rows of one ID, in the file's order.
    fn add(&mut self, group: &[RowKey]) {
        let Some((first, rest)) = group.split_first() else { return };
        match rest.iter().find(|key| key.content != first.content) {
            None => self.duplicates.extend(rest.iter().map(|key| key.row)),
            Some(different) => self.conflicts.extend(group.iter().map(|key| {
                let other_line = if key.content == first.content { different.line } else { first.line };
                Conflict { row: key.row, line: key.line, byte: key.byte, other_line }
            })),
        }
    }
}

/// Sorted runs as one sorted sequence.
struct Merge<'a> {
    memory: std::slice::Iter<'a, RowKey>,
    files: Vec<BufReader<File>>,
    /// The next key of each run; run `files.len()` is the one in memory.
    heads: BinaryHeap<Reverse<(RowKey, usize)>>,
}

impl<'a> Merge<'a> {
    fn new(memory: &'a [RowKey], runs: &[PathBuf]) -> io::Result<Self> {
        let files = runs.iter().map(|run| File::open(run).map(BufReader::new)).collect::<io::Result<Vec<_>>>()?;
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

    fn find(rows: &[(u8, u8)], capacity: usize) -> Repeats {
        let folder = tempfile::tempdir().unwrap();
        let mut finder = RepeatFinder::with_capacity(folder.path(), capacity);
        for (row, (id, content)) in (0..).zip(rows) {
            let identity = Identity { id: u128::from(*id), content: u128::from(*content) };
            finder.push(RowKey::new(identity, row, row + 2, row * 100)).unwrap();
        }
        finder.finish().unwrap()
    }

    #[test]
    fn the_same_row_again_is_a_duplicate_and_different_rows_of_one_id_conflict() {
        let found = find(&[(1, 1), (2, 1), (1, 1), (2, 2), (2, 1), (3, 1)], 100);
        assert_eq!(found.duplicates, [2]);
        let lines: Vec<_> = found.conflicts.iter().map(|conflict| (conflict.line, conflict.other_line)).collect();
        assert_eq!(lines, [(3, 5), (5, 3), (6, 5)]);
    }

    proptest! {
        #[test]
        fn runs_on_disk_find_what_memory_finds(rows in prop::collection::vec((0..20u8, 0..3u8), 0..200), capacity in 1..50usize) {
            prop_assert_eq!(find(&rows, capacity), find(&rows, 1000));
        }
    }
}
