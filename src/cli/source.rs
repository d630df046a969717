//! The files that a command is given: opened in one place, whether named or standard input, and read on a thread of their
//! own, because a read may wait for whoever writes.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    thread,
};

use bytes::Bytes;
use tokio::sync::mpsc::{self, Receiver};

use super::Failure;
use crate::{
    error::ErrorKind,
    payments::packing::{MAGIC_BYTES, Packing},
};

/// Bytes that are read at a time.
const CHUNK: usize = 256 << 10;
/// Chunks that wait to be sent at most.
const CHUNKS_WAITING: usize = 4;

/// A file of payments, or standard input.
pub(super) enum Source {
    Stdin,
    File(PathBuf),
}

/// A source that is being read.
pub(super) struct Opened {
    pub(super) reader: Box<dyn Read + Send>,
    /// What its name says it is: `ELECTRICITY_PAYMENT.csv` for a file that is right.
    pub(super) name: String,
    /// Its size, where that is known.
    pub(super) bytes: Option<u64>,
}

impl Source {
    /// `-` is standard input.
    pub(super) fn new(path: &Path) -> Self {
        if path == Path::new("-") { Self::Stdin } else { Self::File(path.to_owned()) }
    }

    pub(super) fn open(&self) -> Result<Opened, Failure> {
        let Self::File(path) = self else { return open_stdin() };
        let failed = |error: io::Error| {
            let kind = match error.kind() {
                io::ErrorKind::NotFound => ErrorKind::NotFound,
                _ => ErrorKind::Invalid,
            };
            Failure::new(kind, &format!("cannot read the file: {error}"))
        };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(Failure::new(ErrorKind::Invalid, "it is a folder; name the file in it"));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // The size of what is no plain file, such as a named pipe, says nothing.
        let bytes = metadata.is_file().then_some(metadata.len());
        Ok(Opened { reader: Box::new(file), name, bytes })
    }

    /// Whether it can be read from its start again.
    pub(super) fn can_open_again(&self) -> bool {
        matches!(self, Self::File(path) if path.is_file())
    }
}

/// Standard input has no name, so it gets the one that fits its first bytes.
fn open_stdin() -> Result<Opened, Failure> {
    let mut start = Vec::new();
    let failed = |error: io::Error| Failure::new(ErrorKind::Invalid, &format!("cannot read standard input: {error}"));
    io::stdin().take(MAGIC_BYTES as u64).read_to_end(&mut start).map_err(failed)?;
    let name = Packing::of_content(&start).unwrap_or_default().file_name().to_owned();
    Ok(Opened { reader: Box::new(io::Cursor::new(start).chain(io::stdin())), name, bytes: None })
}

impl Opened {
    /// Its bytes in pieces. A thread reads them, which no runtime waits for: one that waits for standard input may never end.
    pub(super) fn into_chunks(self) -> Receiver<io::Result<Bytes>> {
        let (chunks, queue) = mpsc::channel(CHUNKS_WAITING);
        let mut reader = self.reader;
        thread::spawn(move || {
            loop {
                let mut chunk = Vec::with_capacity(CHUNK);
                let read = reader.by_ref().take(CHUNK as u64).read_to_end(&mut chunk);
                let chunk = read.map(|_| Bytes::from(chunk));
                let ended = chunk.as_ref().map_or(true, Bytes::is_empty);
                if chunk.as_ref().is_ok_and(Bytes::is_empty) || chunks.blocking_send(chunk).is_err() || ended {
                    return;
                }
            }
        });
        queue
    }
}
