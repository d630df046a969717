//! The check of one file: its bytes as they come → good rows, rejected rows, and a report on both. Blocks.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    sync::{
        Arc,
        mpsc::{self, SyncSender},
    },
    thread,
};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
};

use super::{
    IngestError,
    folder::Folder,
    intake::{Intake, Original},
    rejected::RejectedFile,
    repeats::{Conflict, RepeatFinder, Repeats, RowKey},
    spool::{Spool, SpoolMemory},
};
use crate::{
    lake::RowSet,
    payments::{
        decoder::{DecodeError, DecodedBatch, Decoder, FileContext, RejectedRow, Summary},
        definition::Column,
        identity::{identities, payment_id},
        packing::Packing,
        report::{RowError, Warning},
        reread::records_at,
        routing::Routing,
        schema::FILE_SCHEMA,
        unpack::{UnpackLimits, unpack},
    },
};

/// Row errors that a report holds; all of them are in the file of rejected rows.
const ERRORS_IN_REPORT: usize = 100;

/// Decoded batches that wait at most to be looked at.
const BATCHES_WAITING: usize = 4;

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
    /// Whether there is a file of rejected rows.
    pub(super) rejected_file: bool,
    /// Of an upload over several projects, by which its rows are divided among them.
    pub(super) routing: Option<Arc<Routing>>,
    pub(super) rows: GoodRows,
}

/// The rows that can land, in the order of the file.
pub(super) struct GoodRows {
    spool: Spool,
    /// Spooled rows to leave out: repeated and conflicting ones.
    without: RowSet,
}

impl GoodRows {
    pub(super) fn into_batches(self) -> Result<impl Iterator<Item = Result<RecordBatch, IngestError>>, IngestError> {
        let Self { spool, without } = self;
        let mut next = 0;
        Ok(spool.into_batches()?.map(move |batch| {
            let batch = batch?;
            let rows = next..next + batch.num_rows();
            next = rows.end;
            if without.count() == 0 {
                return Ok(batch);
            }
            let keep: BooleanArray = rows.map(|row| Some(!without.contains(row))).collect();
            Ok(filter_record_batch(&batch, &keep)?)
        }))
    }
}

/// How a file comes: packed or not, and what it may unpack to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) packing: Packing,
    pub(super) unpacked: UnpackLimits,
}

/// Reads a file to its end, whatever is wrong with it, so that its original is kept whole.
pub(super) fn check(
    mut intake: Intake,
    form: Form,
    context: FileContext,
    memory: &SpoolMemory,
    folder: &Folder,
) -> Result<Checked, IngestError> {
    let routing = context.routing.clone();
    let original = OriginalFile { folder, packing: form.packing, row_bytes: context.limits.row_bytes };
    let mut reading = Reading {
        summary: Summary::default(),
        header: Vec::new(),
        errors: Vec::new(),
        unreadable: false,
        rows: 0,
        spool: Spool::new(memory, &folder.spool()),
        repeats: RepeatFinder::new(folder.path()),
        routing,
    };
    let rejected = reading.decode(unpack(&mut intake, form.packing, form.unpacked), context, folder)?;
    let received = intake.finish().map_err(IngestError::receiving)?;
    reading.finish(received, rejected, &original)
}

struct Reading {
    summary: Summary,
    header: Vec<String>,
    errors: Vec<RowError>,
    unreadable: bool,
    rows: u64,
    spool: Spool,
    repeats: RepeatFinder,
    routing: Option<Arc<Routing>>,
}

impl Reading {
    fn decode(
        &mut self,
        input: impl Read + Send,
        context: FileContext,
        folder: &Folder,
    ) -> Result<RejectedFile, IngestError> {
        let decoder = match Decoder::new(input, context) {
            Ok(decoder) => decoder,
            Err(error) => {
                self.stop(error)?;
                return Ok(RejectedFile::new(&folder.rejected(), &[]));
            }
        };
        self.header = decoder.header().to_vec();
        let mut rejected = RejectedFile::new(&folder.rejected(), &self.header);
        // Decoding takes longest, so it has a thread of its own.
        thread::scope(|scope| {
            let (send, batches) = mpsc::sync_channel(BATCHES_WAITING);
            let decoding = thread::Builder::new()
                .name("decode-rows".to_owned())
                .spawn_scoped(scope, || decode_into(decoder, send))
                .map_err(IngestError::io("starting a thread"))?;
            for batch in batches {
                match batch {
                    Ok(batch) => self.take(batch, &mut rejected)?,
                    Err(error) => self.stop(error)?,
                }
            }
            self.summary = decoding.join().map_err(|_| IngestError::Stopped)?;
            Ok(rejected)
        })
    }

    fn take(&mut self, batch: DecodedBatch, rejected: &mut RejectedFile) -> Result<(), IngestError> {
        for row in &batch.rejected {
            rejected.push(row).map_err(IngestError::io("keeping rejected rows"))?;
            let room = ERRORS_IN_REPORT.saturating_sub(self.errors.len());
            self.errors.extend(row.errors.iter().take(room).cloned());
            if let Some(id) = self.id_of(row) {
                self.repeats.push(RowKey::rejected(id, row.line, row.byte))?;
            }
        }
        let mut identities = identities(&batch.payments)?;
        if let Some(routing) = &self.routing {
            let meters = batch.payments.column(FILE_SCHEMA.index_of("meter_id")?).as_string::<i32>();
            for (identity, meter) in identities.iter_mut().zip(meters) {
                identity.id = id_in(identity.id, routing.project_of(meter.unwrap_or_default()).unwrap_or_default());
            }
        }
        for ((identity, line), byte) in identities.into_iter().zip(batch.lines).zip(batch.bytes) {
            self.repeats.push(RowKey::accepted(identity, self.rows, line, byte))?;
            self.rows += 1;
        }
        self.spool.push(batch.payments)
    }

    /// The payment ID of a rejected row, where its fields stand in their columns and it is known which project it is of.
    fn id_of(&self, row: &RejectedRow) -> Option<u128> {
        let id = payment_id(self.value_of(row, Column::Id).filter(|id| !id.trim().is_empty())?);
        match &self.routing {
            None => Some(id),
            Some(routing) => Some(id_in(id, routing.project_of(self.value_of(row, Column::MeterId)?)?)),
        }
    }

    fn value_of<'a>(&self, row: &'a RejectedRow, column: Column) -> Option<&'a str> {
        let at = self.header.iter().position(|name| name == column.name())?;
        row.fields.get(at).filter(|_| row.fields.len() == self.header.len()).map(String::as_str)
    }

    /// Notes that the file cannot be read on. What says so stands first, because the rest follows from it.
    fn stop(&mut self, error: DecodeError) -> Result<(), IngestError> {
        match error {
            DecodeError::Io(source) => Err(IngestError::receiving(source)),
            DecodeError::File(errors) => {
                self.errors.splice(0..0, errors);
                self.errors.truncate(ERRORS_IN_REPORT);
                self.unreadable = true;
                Ok(())
            }
        }
    }

    fn finish(
        self,
        received: Original,
        mut rejected: RejectedFile,
        original: &OriginalFile<'_>,
    ) -> Result<Checked, IngestError> {
        let Self { summary, mut errors, mut unreadable, spool, repeats, routing, .. } = self;
        let Repeats { mut duplicates, conflicts, too_many } = repeats.finish()?;
        let repeated = duplicates.count();
        let mut rejected_rows = summary.rejected;
        if unreadable {
            // Rows of a file that ends where nobody knows are not compared.
        } else if too_many {
            errors.insert(0, too_many_conflicts(&conflicts));
            unreadable = true;
        } else if !conflicts.is_empty() {
            errors.extend(reject_conflicts(&conflicts, &mut rejected, original)?);
            errors.sort_by_key(|error| error.byte);
            rejected_rows += conflicts.len() as u64;
        }
        errors.truncate(ERRORS_IN_REPORT);
        for row in conflicts.iter().filter_map(|conflict| usize::try_from(conflict.row).ok()) {
            duplicates.insert(row);
        }
        Ok(Checked {
            original: received,
            read: summary.read,
            rejected: rejected_rows,
            repeated,
            errors,
            warnings: summary.warnings,
            unreadable,
            rejected_file: rejected.finish().map_err(IngestError::io("keeping rejected rows"))?,
            routing,
            rows: GoodRows { spool, without: duplicates },
        })
    }
}

/// The hash of a payment ID in one of the projects of a file, so that the same ID in two of them is not one payment.
fn id_in(id: u128, project: usize) -> u128 {
    // An odd factor, so that the halves of the hash stay as good as they are.
    id ^ (project as u128).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

/// Decodes to the end, to what cannot be read, or until nobody takes the batches any more.
#[allow(clippy::needless_pass_by_value, reason = "the batches end when this does")]
fn decode_into(mut decoder: Decoder<impl Read>, send: SyncSender<Result<DecodedBatch, DecodeError>>) -> Summary {
    while let Some(batch) = decoder.next_batch().transpose() {
        let ends = batch.is_err();
        if send.send(batch).is_err() || ends {
            break;
        }
    }
    decoder.finish()
}

/// The original as it was kept, to be read again.
struct OriginalFile<'a> {
    folder: &'a Folder,
    packing: Packing,
    row_bytes: usize,
}

fn too_many_conflicts(conflicts: &[Conflict]) -> RowError {
    let (line, byte) = conflicts.first().map_or((1, 0), |first| (first.line, first.byte));
    RowError {
        line,
        byte,
        column: Some(Column::Id.name().to_owned()),
        code: "too_many_conflicts".to_owned(),
        value: None,
        message: format!(
            "more than {} rows share their ID with a row that says something else; give each payment its own ID",
            conflicts.len()
        ),
    }
}

/// Adds the rows that contradict one another to the rejected ones, from the kept original, and gives the first errors.
fn reject_conflicts(
    conflicts: &[Conflict],
    rejected: &mut RejectedFile,
    original: &OriginalFile<'_>,
) -> Result<Vec<RowError>, IngestError> {
    let failed = IngestError::io("reading the original again");
    let kept = File::open(original.folder.original()).and_then(zstd::Decoder::new).map_err(&failed)?;
    let text = unpack(BufReader::new(kept), original.packing, UnpackLimits::NONE);
    let wanted: Vec<u64> = conflicts.iter().map(|conflict| conflict.byte).collect();
    let mut errors = Vec::new();
    let each = |index: usize, fields: Vec<String>| {
        let conflict: &Conflict = &conflicts[index];
        let error = RowError {
            line: conflict.line,
            byte: conflict.byte,
            column: Some(Column::Id.name().to_owned()),
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
        rejected.push(&row).map_err(DecodeError::from)
    };
    records_at(text, original.row_bytes, &wanted, each).map_err(|error| failed(io::Error::other(error)))?;
    Ok(errors)
}
