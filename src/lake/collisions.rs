//! Which payment IDs of an upload the lake has already, and whether with the same content.
//!
//! An ID is unique in its project, whatever the month, so every file of the project is asked. Only its IDs are read, and
//! whole rows only where an ID is known.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
};

use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use super::{
    LakeError, LakeFile, RowSet,
    file::{self, Part},
};
use crate::payments::identity::{Identity, identities, payment_ids};

/// IDs that are looked up at a time: what bounds the memory of a look-up.
pub(super) const IDS_AT_A_TIME: usize = 1_000_000;

/// Whether any payment ID of the files `staged` stands in `existing`, the files of their project. Most uploads meet nothing,
/// and then nothing but IDs is read.
pub(super) fn any_known<'a>(
    root: &Path,
    existing: &[Arc<LakeFile>],
    staged: impl Iterator<Item = &'a Path>,
) -> Result<bool, LakeError> {
    let mut ids: HashSet<u128> = HashSet::new();
    let mut staged = staged.peekable();
    while let Some(path) = staged.next() {
        for batch in read_ids(path)? {
            ids.extend(payment_ids(&batch?)?);
        }
        if ids.len() < IDS_AT_A_TIME && staged.peek().is_some() {
            continue;
        }
        for lake_file in existing {
            for batch in read_ids(&root.join(&lake_file.path))? {
                if payment_ids(&batch?)?.iter().any(|id| ids.contains(id)) {
                    return Ok(true);
                }
            }
        }
        ids.clear();
    }
    Ok(false)
}

fn read_ids(path: &Path) -> Result<ParquetRecordBatchReader, LakeError> {
    file::read(path, Part { columns: Some(&["payment_id"]), ..Part::default() })
}

/// Hands the payment ID of each row of a file on, with the row's number.
pub(super) fn each_id(path: &Path, mut each: impl FnMut(usize, u128)) -> Result<(), LakeError> {
    let mut row = 0;
    for batch in read_ids(path)? {
        for id in payment_ids(&batch?)? {
            each(row, id);
            row += 1;
        }
    }
    Ok(())
}

/// The rows of a file whose payment IDs are `wanted`.
pub(super) fn rows_of(path: &Path, wanted: impl Fn(u128) -> bool) -> Result<RowSet, LakeError> {
    let mut rows = RowSet::default();
    each_id(path, |row, id| {
        if wanted(id) {
            rows.insert(row);
        }
    })?;
    Ok(rows)
}

/// Hands the identities of some rows of a file on, with the rows' numbers.
pub(super) fn each_identity(
    path: &Path,
    rows: &RowSet,
    mut each: impl FnMut(usize, Identity),
) -> Result<(), LakeError> {
    let mut numbers = rows.iter();
    for batch in file::read(path, Part { rows: Some(rows), ..Part::default() })? {
        for (identity, row) in identities(&batch?)?.into_iter().zip(numbers.by_ref()) {
            each(row, identity);
        }
    }
    Ok(())
}

/// Some rows of an upload, one after the other: of which of its files, from which row on, and what they are.
pub(super) struct Rows {
    pub(super) file: usize,
    pub(super) first_row: usize,
    pub(super) identities: Vec<Identity>,
}

/// What the rows of an upload meet.
#[derive(Debug, Default)]
pub(super) struct Collisions {
    /// By the number of the upload's file: rows that the lake has already, to the letter.
    pub(super) duplicates: HashMap<usize, RowSet>,
    /// By the path of a file of the lake: rows that the upload replaces.
    pub(super) replaced: HashMap<String, RowSet>,
}

/// Where an ID stands in the upload, and with which content.
struct Known {
    file: usize,
    row: usize,
    content: u64,
}

impl Collisions {
    /// Looks for `rows` in `existing`, the files of their project. No payment ID stands in `rows` twice.
    pub(super) fn find(
        root: &Path,
        existing: &[Arc<LakeFile>],
        rows: impl Iterator<Item = Result<Rows, LakeError>>,
    ) -> Result<Self, LakeError> {
        let mut found = Self::default();
        let mut known: HashMap<u128, Known> = HashMap::new();
        let mut rows = rows.peekable();
        while let Some(next) = rows.next() {
            let Rows { file, first_row, identities } = next?;
            known.extend(
                (first_row..).zip(identities).map(|(row, Identity { id, content })| (id, Known { file, row, content })),
            );
            if known.len() >= IDS_AT_A_TIME || rows.peek().is_none() {
                for lake_file in existing {
                    found.compare(root, lake_file, &known)?;
                }
                known.clear();
            }
        }
        Ok(found)
    }

    /// How many rows are there already, and how many replace one that is there.
    pub(super) fn counts(&self) -> (u64, u64) {
        let sum = |sets: &mut dyn Iterator<Item = &RowSet>| sets.map(RowSet::count).sum();
        (sum(&mut self.duplicates.values()), sum(&mut self.replaced.values()))
    }

    fn compare(&mut self, root: &Path, lake_file: &LakeFile, known: &HashMap<u128, Known>) -> Result<(), LakeError> {
        let path = root.join(&lake_file.path);
        let hits = rows_of(&path, |id| known.contains_key(&id))?;
        if hits.count() == 0 {
            return Ok(());
        }
        each_identity(&path, &hits, |row, there| match known.get(&there.id) {
            Some(known) if known.content == there.content => {
                self.duplicates.entry(known.file).or_default().insert(known.row);
            }
            _ => self.replaced.entry(lake_file.path.clone()).or_default().insert(row),
        })
    }
}
