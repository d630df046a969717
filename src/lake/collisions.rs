//! Which payment IDs of an upload the lake has already, and whether with the same content.
//!
//! An ID is unique in its project, whatever the month, so every file of the project is asked. Only its IDs are read, and
//! whole rows only where an ID is known.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use parquet::arrow::arrow_reader::RowSelection;

use super::{
    LakeError, LakeFile,
    file::{self, Part},
    place::StagedFile,
};
use crate::payments::identity::{Identity, identities, payment_ids};

/// IDs that are looked up at a time: what bounds the memory of a look-up.
const IDS_AT_A_TIME: usize = 1_000_000;

/// Rows of a file, by their numbers from 0.
#[derive(Debug, Default)]
pub(super) struct RowSet {
    marks: Vec<bool>,
    rows: u64,
}

impl RowSet {
    fn insert(&mut self, row: usize) {
        if self.marks.len() <= row {
            self.marks.resize(row + 1, false);
        }
        self.rows += u64::from(!std::mem::replace(&mut self.marks[row], true));
    }

    pub(super) fn contains(&self, row: usize) -> bool {
        self.marks.get(row).copied().unwrap_or(false)
    }
}

/// What the rows of an upload meet.
#[derive(Debug, Default)]
pub(super) struct Collisions {
    /// By the index of a staged file: rows that the lake has already, to the letter.
    pub(super) duplicates: HashMap<usize, RowSet>,
    /// By the path of a file of the lake: rows that the upload replaces.
    pub(super) replaced: HashMap<String, RowSet>,
}

/// Identities of rows of an upload, which names them as it likes: by a file's index and the row's number in it.
pub(super) type Rows = Vec<(usize, usize, Identity)>;

/// The rows that are looked up at a time, by ID: their names and contents.
type Known = HashMap<u128, (usize, usize, u128)>;

impl Collisions {
    /// Looks for `staged` in `existing`, the files of their project. No payment ID stands in `staged` twice.
    pub(super) fn of_staged(root: &Path, existing: &[Arc<LakeFile>], staged: &[StagedFile]) -> Result<Self, LakeError> {
        let mut found = Self::default();
        let mut ids = HashSet::new();
        let mut first = 0;
        for (index, next) in staged.iter().enumerate() {
            for_each_id(&next.file.path, |_, id| {
                ids.insert(id);
            })?;
            if ids.len() < IDS_AT_A_TIME && index + 1 < staged.len() {
                continue;
            }
            // Most uploads meet nothing, and then nothing but IDs is read.
            let mut met = HashSet::new();
            for lake_file in existing {
                for_each_id(&root.join(&lake_file.path), |_, id| met.extend(ids.get(&id)))?;
            }
            if !met.is_empty() {
                let rows = (first..=index).map(|index| rows_with(&staged[index], index, &met));
                found.look_up(root, existing, rows)?;
            }
            ids.clear();
            first = index + 1;
        }
        Ok(found)
    }

    /// Looks for `rows` in `existing`, the files of their project. No payment ID stands in `rows` twice.
    pub(super) fn of_rows(
        root: &Path,
        existing: &[Arc<LakeFile>],
        rows: impl Iterator<Item = Result<Rows, LakeError>>,
    ) -> Result<Self, LakeError> {
        let mut found = Self::default();
        found.look_up(root, existing, rows)?;
        Ok(found)
    }

    /// How many rows are there already, and how many replace one that is there.
    pub(super) fn counts(&self) -> (u64, u64) {
        let sum = |sets: &mut dyn Iterator<Item = &RowSet>| sets.map(|set| set.rows).sum();
        (sum(&mut self.duplicates.values()), sum(&mut self.replaced.values()))
    }

    fn look_up(
        &mut self,
        root: &Path,
        existing: &[Arc<LakeFile>],
        rows: impl Iterator<Item = Result<Rows, LakeError>>,
    ) -> Result<(), LakeError> {
        let mut known = Known::new();
        let mut rows = rows.peekable();
        while let Some(next) = rows.next() {
            known.extend(next?.into_iter().map(|(index, row, identity)| (identity.id, (index, row, identity.content))));
            if known.len() >= IDS_AT_A_TIME || rows.peek().is_none() {
                for lake_file in existing {
                    self.compare(root, lake_file, &known)?;
                }
                known.clear();
            }
        }
        Ok(())
    }

    fn compare(&mut self, root: &Path, lake_file: &LakeFile, known: &Known) -> Result<(), LakeError> {
        let path = root.join(&lake_file.path);
        let mut hits = Vec::new();
        let rows = for_each_id(&path, |row, id| {
            if known.contains_key(&id) {
                hits.push(row);
            }
        })?;
        if hits.is_empty() {
            return Ok(());
        }
        let selection = RowSelection::from_consecutive_ranges(hits.iter().map(|row| *row..row + 1), rows);
        let mut numbers = hits.into_iter();
        for batch in file::read(&path, Part { rows: Some(selection), ..Part::default() })? {
            for (there, number) in identities(&batch?)?.into_iter().zip(numbers.by_ref()) {
                match known.get(&there.id) {
                    Some((index, row, content)) if *content == there.content => {
                        self.duplicates.entry(*index).or_default().insert(*row);
                    }
                    Some(_) => self.replaced.entry(lake_file.path.clone()).or_default().insert(number),
                    None => {}
                }
            }
        }
        Ok(())
    }
}

/// Hands over the payment IDs of a file, hashed as `payments::identity` does, with the numbers of their rows; gives the
/// count of its rows.
fn for_each_id(path: &Path, mut each: impl FnMut(usize, u128)) -> Result<usize, LakeError> {
    let mut row = 0;
    for batch in file::read(path, Part { column: Some("payment_id"), ..Part::default() })? {
        for id in payment_ids(&batch?)? {
            each(row, id);
            row += 1;
        }
    }
    Ok(row)
}

/// The rows of a staged file whose IDs are among `wanted`.
fn rows_with(staged: &StagedFile, index: usize, wanted: &HashSet<u128>) -> Result<Rows, LakeError> {
    let mut rows = Rows::new();
    let mut first = 0;
    for batch in file::read(&staged.file.path, Part::default())? {
        let identities = identities(&batch?)?;
        let end = first + identities.len();
        let numbered = (first..end).zip(identities).filter(|(_, identity)| wanted.contains(&identity.id));
        rows.extend(numbered.map(|(row, identity)| (index, row, identity)));
        first = end;
    }
    Ok(rows)
}
