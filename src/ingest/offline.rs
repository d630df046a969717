//! The check of a file without a server: the rules and the report of a dry run, from the same code. What is not known here
//! is what the lake holds: whether a good row is new, corrects another, or came before.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    path::Path,
    thread,
};

use bytes::Bytes;
use chrono::Utc;
use futures::{executor, stream};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::{
    CHUNKS_WAITING, IngestError,
    check::{self, Checked},
    folder::Folder,
    form,
    intake::Intake,
    limits,
    manifest::not_after_micros,
    send,
    spool::SpoolMemory,
    stage,
};
use crate::{
    config::UploadConfig,
    ids::{Month, UploadId},
    payments::{
        decoder::FileContext,
        packing::Packing,
        report::{RowError, Warning},
        required::RequiredColumn,
    },
};

/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;

/// What is in a file.
pub struct FileCheck {
    pub read: u64,
    /// Rows that could land.
    pub accepted: u64,
    /// Rows that stand earlier in the file to the letter.
    pub duplicate: u64,
    pub rejected: u64,
    pub months: BTreeSet<Month>,
    pub warnings: Vec<Warning>,
    /// The first errors, in the order of the file.
    pub errors: Vec<RowError>,
    /// Of the bytes as they came, in hexadecimal.
    pub sha256: String,
    pub bytes: u64,
    unreadable: bool,
    folder: Folder,
    has_rejected_rows: bool,
}

/// Reads a file, packed as `packing` says, to its end; it must have the columns `required` as well as those that every file must.
/// `scratch` is an empty folder for what does not fit in memory; it
/// stays needed for [`FileCheck::rejected_rows`], and is the caller's to remove. Blocks.
///
/// # Errors
/// The file cannot be read, or has more bytes than it may have; or the folder fails. What is wrong in the file is no error.
pub fn check_file(
    input: impl Read + Send + 'static,
    packing: Packing,
    config: &UploadConfig,
    required: Vec<RequiredColumn>,
    scratch: &Path,
) -> Result<FileCheck, IngestError> {
    let context = FileContext {
        // Neither has a part in what is right, and nothing of the rows is kept.
        default_site: String::new(),
        currency: String::new(),
        upload_id: UploadId::new(),
        not_after_micros: not_after_micros(Utc::now()),
        routing: None,
        required,
        limits: limits(config),
    };
    let folder = Folder::at(scratch);
    let (chunks, queue) = mpsc::channel(CHUNKS_WAITING);
    let intake = Intake::new(queue, &folder.original()).map_err(IngestError::io("keeping the original"))?;
    let max_bytes = config.max_bytes;
    let reading = move || executor::block_on(send(stream::iter(pieces(input)), chunks, max_bytes));
    let reader = thread::Builder::new().name("read-file".to_owned()).spawn(reading);
    let reader = reader.map_err(IngestError::io("reading the file"))?;
    let checked = check::check(intake, form(config, packing), context, &SpoolMemory::new(config.memory_bytes), &folder);
    // As with an upload, what stopped the reading explains more than what became of it.
    reader.join().map_err(|_| IngestError::Stopped)?.and(checked).and_then(|checked| FileCheck::of(checked, folder))
}

fn pieces(mut input: impl Read) -> impl Iterator<Item = io::Result<Bytes>> {
    std::iter::from_fn(move || {
        let mut piece = Vec::with_capacity(CHUNK);
        match input.by_ref().take(CHUNK as u64).read_to_end(&mut piece) {
            Ok(0) => None,
            Ok(_) => Some(Ok(Bytes::from(piece))),
            Err(error) => Some(Err(error)),
        }
    })
}

impl FileCheck {
    fn of(checked: Checked, folder: Folder) -> Result<Self, IngestError> {
        let (mut accepted, mut months) = (0, BTreeSet::new());
        // Of a file that is void as a whole, no row is.
        if !checked.unreadable {
            for batch in checked.rows.into_batches()? {
                let batch = batch?;
                accepted += batch.num_rows() as u64;
                months.extend(stage::months_of_rows(&batch)?);
            }
        }
        Ok(Self {
            read: checked.read,
            accepted,
            duplicate: if checked.unreadable { 0 } else { checked.repeated },
            rejected: if checked.unreadable { checked.read } else { checked.rejected },
            months,
            warnings: checked.warnings,
            errors: checked.errors,
            sha256: checked.original.sha256,
            bytes: checked.original.bytes,
            unreadable: checked.unreadable,
            folder,
            has_rejected_rows: checked.rejected_file,
        })
    }

    /// Whether an upload of the file would be taken as a whole.
    #[must_use]
    pub fn is_good(&self) -> bool {
        !self.unreadable && self.rejected == 0
    }

    /// What is wrong, in a line.
    #[must_use]
    pub fn summary(&self) -> String {
        let first = self.errors.first();
        let first = first.map(|first| format!("; line {}: {}", first.line, first.message)).unwrap_or_default();
        if self.unreadable {
            return format!("the file cannot be read{first}");
        }
        format!("{} of {} rows are rejected{first}", self.rejected, self.read)
    }

    /// The report, with the members that the API gives it.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let counts = json!({"read": self.read, "accepted": self.accepted, "duplicate": self.duplicate,
            "rejected": self.rejected});
        let months: Vec<String> = self.months.iter().map(ToString::to_string).collect();
        let members = [
            ("status", json!("checked")),
            ("counts", counts),
            ("months", json!(months)),
            ("warnings", json!(self.warnings)),
            ("errors", json!(self.errors)),
            ("sha256", json!(self.sha256)),
            ("bytes", json!(self.bytes)),
        ];
        members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The rejected rows as CSV, or `None` where there are none. Blocks while it is read.
    pub fn rejected_rows(&self) -> io::Result<Option<impl Read + use<>>> {
        if !self.has_rejected_rows {
            return Ok(None);
        }
        zstd::Decoder::new(File::open(self.folder.rejected())?).map(Some)
    }
}
