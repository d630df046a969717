//! Rewrites rows of a partition as new sorted files: the one function behind a corrected row, a deleted upload and
//! compaction.

use std::path::Path;

use arrow::{
    array::{BooleanArray, RecordBatch},
    compute::filter_record_batch,
};

use super::{
    FileNames, LakeError, LakeFile, Meters, RowSet, Verified,
    file::{self, Part, Waiting},
};
use crate::ids::{Month, ProjectSlug};

/// Which rows of a file are taken.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted<'a> {
    All,
    Except(&'a RowSet),
    Only(&'a RowSet),
}

/// A file to take rows from.
pub(super) struct Input<'a> {
    pub(super) path: &'a Path,
    pub(super) rows: Wanted<'a>,
}

/// Writes the rows of `inputs`, as `meters` has them, to new files of the partition below `root`, none where no row is left. They are on disk when
/// this returns, and not part of the lake until a commit says so.
pub(super) fn materialise(
    root: &Path,
    project: &ProjectSlug,
    month: Month,
    names: &mut FileNames,
    meters: &Meters,
    inputs: &[Input<'_>],
) -> Result<Vec<LakeFile>, LakeError> {
    let mut output = Output { root, project, month, names, meters, files: Vec::new() };
    match output.rewrite(inputs) {
        Ok(()) => Ok(output.files),
        Err(error) => {
            super::discard(root, &output.files);
            Err(error)
        }
    }
}

/// The rows of a batch that begins with the file's row `first_row`, but those of `without`.
fn kept(batch: &RecordBatch, first_row: usize, without: &RowSet) -> Result<RecordBatch, LakeError> {
    let rows = first_row..first_row + batch.num_rows();
    let keep: BooleanArray = rows.map(|row| Some(!without.contains(row))).collect();
    Ok(filter_record_batch(batch, &keep)?)
}

struct Output<'a> {
    root: &'a Path,
    project: &'a ProjectSlug,
    month: Month,
    names: &'a mut FileNames,
    meters: &'a Meters,
    files: Vec<LakeFile>,
}

impl Output<'_> {
    fn rewrite(&mut self, inputs: &[Input<'_>]) -> Result<(), LakeError> {
        let mut waiting = Waiting::default();
        for input in inputs {
            let part = match input.rows {
                Wanted::Only(rows) => Part { rows: Some(rows), ..Part::default() },
                Wanted::All | Wanted::Except(_) => Part::default(),
            };
            let mut next_row = 0;
            for batch in file::read(input.path, part)? {
                let mut batch = batch?;
                let first_row = next_row;
                next_row += batch.num_rows();
                if let Wanted::Except(without) = input.rows {
                    batch = kept(&batch, first_row, without)?;
                }
                batch = self.meters.shown_in(batch)?;
                if !waiting.has_room_for(&batch) {
                    self.write(waiting.take())?;
                }
                waiting.push(batch);
            }
        }
        match waiting.take() {
            rest if rest.is_empty() => Ok(()),
            rest => self.write(rest),
        }
    }

    fn write(&mut self, batches: Vec<RecordBatch>) -> Result<(), LakeError> {
        let path = self.names.next(self.project, self.month);
        let target = self.root.join(&path);
        let written = file::write(&target, batches)?;
        // First, so that it is removed where the rest fails.
        self.files.push(LakeFile {
            path,
            project: self.project.clone(),
            month: self.month,
            bytes: written.bytes,
            rows: written.rows,
            sha256: written.sha256,
            verified: Verified::written_here(),
        });
        super::sync_folder_of(&target)
    }
}
