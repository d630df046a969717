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
};
use crate::payments::identity::{Identity, identities, payment_ids};

/// IDs of staged rows that are looked up at a time: what bounds the memory of a look-up.
const IDS_AT_A_TIME: usize = 1_000_000;

/// Payment IDs, hashed as `payments::identity` does.
pub(super) type Ids = HashSet<u128>;

/// What the staged rows of an upload meet.
#[derive(Debug, Default)]
pub(super) struct Collisions {
    /// By the index of a staged file: rows that the lake has already, to the letter.
    pub(super) duplicates: HashMap<usize, Ids>,
    /// By the path of a file of the lake: rows that the upload replaces.
    pub(super) replaced: HashMap<String, Ids>,
}

/// Identities of rows of one staged file, named by its index.
pub(super) type Rows = (usize, Vec<Identity>);

impl Collisions {
    /// Looks for `rows` in `existing`, the files of their project. No payment ID stands in `rows` twice.
    pub(super) fn find(
        root: &Path,
        existing: &[Arc<LakeFile>],
        rows: impl Iterator<Item = Result<Rows, LakeError>>,
    ) -> Result<Self, LakeError> {
        let mut found = Self::default();
        let mut known: HashMap<u128, (usize, u128)> = HashMap::new();
        let mut rows = rows.peekable();
        while let Some(next) = rows.next() {
            let (index, identities) = next?;
            known.extend(identities.into_iter().map(|row| (row.id, (index, row.content))));
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
        let sum = |sets: &mut dyn Iterator<Item = &Ids>| sets.map(|ids| ids.len() as u64).sum();
        (sum(&mut self.duplicates.values()), sum(&mut self.replaced.values()))
    }

    fn compare(
        &mut self,
        root: &Path,
        lake_file: &LakeFile,
        known: &HashMap<u128, (usize, u128)>,
    ) -> Result<(), LakeError> {
        let path = root.join(&lake_file.path);
        let mut hits = Vec::new();
        let mut row = 0;
        for batch in file::read(&path, Part { column: Some("payment_id"), ..Part::default() })? {
            for id in payment_ids(&batch?)? {
                if known.contains_key(&id) {
                    hits.push(row..row + 1);
                }
                row += 1;
            }
        }
        if hits.is_empty() {
            return Ok(());
        }
        let rows = Some(RowSelection::from_consecutive_ranges(hits.into_iter(), row));
        for batch in file::read(&path, Part { rows, ..Part::default() })? {
            for there in identities(&batch?)? {
                match known.get(&there.id) {
                    Some((staged, content)) if *content == there.content => {
                        self.duplicates.entry(*staged).or_default().insert(there.id);
                    }
                    Some(_) => {
                        self.replaced.entry(lake_file.path.clone()).or_default().insert(there.id);
                    }
                    None => {}
                }
            }
        }
        Ok(())
    }
}
