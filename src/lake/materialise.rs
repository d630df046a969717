//! Rewrites rows of a partition as new sorted files: the one function behind a corrected row and compaction, and later
//! a deleted upload.

use std::{ops::Range, path::Path};

use arrow::{
    array::{BooleanArray, RecordBatch},
    compute::filter_record_batch,
};

use super::{
    LakeError, LakeFile,
    collisions::RowSet,
    file::{self, Part, ROWS_PER_FILE},
};
use crate::ids::{Month, ProjectSlug};

/// A file to take rows from.
pub(super) struct Input<'a> {
    pub(super) path: &'a Path,
    /// Rows to leave out.
    pub(super) without: Option<&'a RowSet>,
}

/// Writes the rows of `inputs` to new files of the partition below `root`, none where no row is left. They are on disk when
/// this returns, and not part of the lake until a commit says so.
pub(super) fn materialise(
    root: &Path,
    project: &ProjectSlug,
    month: Month,
    inputs: &[Input<'_>],
) -> Result<Vec<LakeFile>, LakeError> {
    let mut output = Output { root, project, month, files: Vec::new() };
    let mut waiting = Vec::new();
    let mut rows = 0;
    for input in inputs {
        let mut first = 0;
        for batch in file::read(input.path, Part::default())? {
            let batch = batch?;
            let numbers = first..first + batch.num_rows();
            first = numbers.end;
            let batch = kept(batch, numbers, input.without)?;
            rows += batch.num_rows();
            if rows > ROWS_PER_FILE && !waiting.is_empty() {
                output.write(&std::mem::take(&mut waiting))?;
                rows = batch.num_rows();
            }
            waiting.push(batch);
        }
    }
    if rows > 0 {
        output.write(&waiting)?;
    }
    Ok(output.files)
}

/// The rows of a batch, which have the numbers `numbers` in their file, but for some.
fn kept(batch: RecordBatch, numbers: Range<usize>, without: Option<&RowSet>) -> Result<RecordBatch, LakeError> {
    let Some(without) = without else { return Ok(batch) };
    let keep: BooleanArray = numbers.map(|row| Some(!without.contains(row))).collect();
    Ok(filter_record_batch(&batch, &keep)?)
}

struct Output<'a> {
    root: &'a Path,
    project: &'a ProjectSlug,
    month: Month,
    files: Vec<LakeFile>,
}

impl Output<'_> {
    fn write(&mut self, batches: &[RecordBatch]) -> Result<(), LakeError> {
        let name = uuid::Uuid::now_v7().simple().to_string();
        let path = super::partition_path(self.project, self.month, &name);
        let target = self.root.join(&path);
        let written = file::write(&target, batches)?;
        super::sync_folder_of(&target)?;
        self.files.push(LakeFile {
            path,
            project: self.project.clone(),
            month: self.month,
            bytes: written.bytes,
            rows: written.rows,
        });
        Ok(())
    }
}
