//! The check of one file: its bytes as they come → good rows, rejected rows, and a report on both. Blocks.

use std::{fs::File, io};

use arrow::{
    array::{BooleanArray, RecordBatch},
    compute::filter_record_batch,
};

use super::{
    IngestError,
    folder::Folder,
    intake::{Intake, Original},
    rejected::RejectedFile,
    repeats::{Conflict, RepeatFinder, RowKey},
    spool::Spool,
};
use crate::payments::{
    decoder::{DecodeError, DecodedBatch, Decoder, FileContext, RejectedRow, Summary},
    identity::identities,
    report::{RowError, Warning},
    reread::records_at,
};

/// Row errors that a report holds; all of them are in the file of rejected rows.
const ERRORS_IN_REPORT: usize = 100;

/// The code of rows that have one ID and say different things. It shows only when the whole file is known.
const CONFLICTING_ID: &str = "conflicting_id";

/// What the check of a file found.
pub(super) struct Checked {
    pub(super) original: Original,
    /// Records of the file.
    pub(super) read: u64,
    /// Of them, those that are at fault.
    pub(super) rejected: u64,
    /// Rows that stand earlier in the file to the letter.
    pub(super) repeated: u64,
    /// The first errors, in the order of the file.
    pub(super) errors: Vec<RowError>,
    pub(super) warnings: Vec<Warning>,
    /// Whether the file as a whole cannot be read, so that not even its good rows can land.
    pub(super) unreadable: bool,
    pub(super) rows: GoodRows,
}

/// The rows that can land, in the order of the file.
pub(super) struct GoodRows {
    spool: Spool,
    /// Numbers of spooled rows to leave out, in order: repeated and conflicting ones.
    without: Vec<u64>,
}

impl GoodRows {
    pub(super) fn into_batches(self) -> Result<impl Iterator<Item = Result<RecordBatch, IngestError>>, IngestError> {
        let Self { spool, without } = self;
        let mut without = without.into_iter().peekable();
        let mut next = 0;
        Ok(spool.into_batches()?.map(move |batch| {
            let batch = batch?;
            let rows = next..next + batch.num_rows() as u64;
            next = rows.end;
            if without.peek().is_none_or(|row| *row >= rows.end) {
                return Ok(batch);
            }
            let keep: BooleanArray = rows.map(|row| Some(without.next_if_eq(&row).is_none())).collect();
            Ok(filter_record_batch(&batch, &keep)?)
        }))
    }
}

/// Reads a file to its end, whatever is wrong with it, so that its original is kept whole.
pub(super) fn check(mut intake: Intake, context: FileContext, folder: &Folder) -> Result<Checked, IngestError> {
    let row_bytes = context.limits.row_bytes;
    let mut reading = Reading {
        summary: Summary::default(),
        header: Vec::new(),
        errors: Vec::new(),
        unreadable: false,
        rows: 0,
        spool: Spool::new(&folder.spool()),
        repeats: RepeatFinder::new(folder.path()),
    };
    let rejected = reading.decode(&mut intake, context, folder)?;
    let original = intake.finish().map_err(IngestError::io("receiving the file"))?;
    reading.finish(original, rejected, row_bytes, folder)
}

struct Reading {
    summary: Summary,
    header: Vec<String>,
    errors: Vec<RowError>,
    unreadable: bool,
    rows: u64,
    spool: Spool,
    repeats: RepeatFinder,
}

impl Reading {
    fn decode(
        &mut self,
        intake: &mut Intake,
        context: FileContext,
        folder: &Folder,
    ) -> Result<RejectedFile, IngestError> {
        let mut decoder = match Decoder::new(intake, context) {
            Ok(decoder) => decoder,
            Err(error) => {
                self.stop(error)?;
                return Ok(RejectedFile::new(&folder.rejected(), &[]));
            }
        };
        self.header = decoder.header().to_vec();
        let mut rejected = RejectedFile::new(&folder.rejected(), &self.header);
        loop {
            match decoder.next_batch() {
                Ok(Some(batch)) => self.take(batch, &mut rejected)?,
                Ok(None) => break,
                Err(error) => {
                    self.stop(error)?;
                    break;
                }
            }
        }
        self.summary = decoder.finish();
        Ok(rejected)
    }

    fn take(&mut self, batch: DecodedBatch, rejected: &mut RejectedFile) -> Result<(), IngestError> {
        for row in &batch.rejected {
            rejected.push(row).map_err(IngestError::io("keeping rejected rows"))?;
            let room = ERRORS_IN_REPORT.saturating_sub(self.errors.len());
            self.errors.extend(row.errors.iter().take(room).cloned());
        }
        let identities = identities(&batch.payments)?;
        for ((identity, line), byte) in identities.into_iter().zip(batch.lines).zip(batch.bytes) {
            self.repeats.push(RowKey::new(identity, self.rows, line, byte))?;
            self.rows += 1;
        }
        self.spool.push(batch.payments)
    }

    /// Notes that the file cannot be read on. What says so stands first, because the rest follows from it.
    fn stop(&mut self, error: DecodeError) -> Result<(), IngestError> {
        match error {
            DecodeError::Io(source) => Err(IngestError::Io { what: "receiving the file", source }),
            DecodeError::File(errors) => {
                self.errors.splice(0..0, errors);
                self.errors.truncate(ERRORS_IN_REPORT);
                self.unreadable = true;
                Ok(())
            }
        }
    }

    fn finish(
        mut self,
        original: Original,
        mut rejected: RejectedFile,
        row_bytes: usize,
        folder: &Folder,
    ) -> Result<Checked, IngestError> {
        let repeats = self.repeats.finish()?;
        if !self.unreadable && !repeats.conflicts.is_empty() {
            let errors = reject_conflicts(&repeats.conflicts, &mut rejected, row_bytes, folder)?;
            self.errors.extend(errors);
            self.errors.sort_by_key(|error| error.byte);
            self.errors.truncate(ERRORS_IN_REPORT);
        }
        rejected.finish().map_err(IngestError::io("keeping rejected rows"))?;
        let repeated = repeats.duplicates.len() as u64;
        let mut without = repeats.duplicates;
        without.extend(repeats.conflicts.iter().map(|conflict| conflict.row));
        without.sort_unstable();
        Ok(Checked {
            original,
            read: self.summary.read,
            rejected: self.summary.rejected + repeats.conflicts.len() as u64,
            repeated,
            errors: self.errors,
            warnings: self.summary.warnings,
            unreadable: self.unreadable,
            rows: GoodRows { spool: self.spool, without },
        })
    }
}

/// Adds the rows that contradict one another to the rejected ones, from the kept original, and gives the first errors.
fn reject_conflicts(
    conflicts: &[Conflict],
    rejected: &mut RejectedFile,
    row_bytes: usize,
    folder: &Folder,
) -> Result<Vec<RowError>, IngestError> {
    let failed = IngestError::io("reading the original again");
    let original = File::open(folder.original()).and_then(zstd::Decoder::new).map_err(&failed)?;
    let wanted: Vec<u64> = conflicts.iter().map(|conflict| conflict.byte).collect();
    let mut errors = Vec::new();
    let each = |index: usize, fields: Vec<String>| {
        let conflict: &Conflict = &conflicts[index];
        let error = RowError {
            line: conflict.line,
            byte: conflict.byte,
            column: Some("ID".to_owned()),
            code: CONFLICTING_ID.to_owned(),
            value: None,
            message: format!(
                "line {} has the same ID and says something else; keep the right one of the two, or give each its own ID",
                conflict.other_line
            ),
        };
        if errors.len() < ERRORS_IN_REPORT {
            errors.push(error.clone());
        }
        let row = RejectedRow { line: conflict.line, byte: conflict.byte, fields, errors: vec![error] };
        rejected.push(&row).map_err(DecodeError::Io)
    };
    records_at(original, row_bytes, &wanted, each).map_err(|error| failed(io::Error::other(error)))?;
    Ok(errors)
}
