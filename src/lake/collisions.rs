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
    file::{self, Part, Written},
};
use crate::payments::identity::{identities, payment_ids};

/// IDs of staged rows that are looked up at a time: what bounds the memory of a look-up.
const IDS_AT_A_TIME: u64 = 1_000_000;

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

impl Collisions {
    /// Looks for the rows of `staged` in `existing`, the files of their project.
    pub(super) fn find(root: &Path, existing: &[Arc<LakeFile>], staged: &[Written]) -> Result<Self, LakeError> {
        let mut found = Self::default();
        if existing.is_empty() {
            return Ok(found);
        }
        let mut known: HashMap<u128, (usize, u128)> = HashMap::new();
        let mut rows = 0;
        for (index, file) in staged.iter().enumerate() {
            for batch in file::read(&file.path, Part::default())? {
                known.extend(identities(&batch?)?.into_iter().map(|row| (row.id, (index, row.content))));
            }
            rows += file.rows;
            let last = index + 1 == staged.len();
            if last || rows + staged[index + 1].rows > IDS_AT_A_TIME {
                for lake_file in existing {
                    found.compare(root, lake_file, &known)?;
                }
                known.clear();
                rows = 0;
            }
        }
        Ok(found)
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
