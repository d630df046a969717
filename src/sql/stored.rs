//! A result that is kept: the rows as the process said them, an Arrow IPC stream in one file, and where in it which rows are. It
//! is gone when nobody has it any more.

use std::{
    fs::File,
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::{buffer::Buffer, error::ArrowError, ipc::reader::StreamDecoder};

use super::{
    SqlError,
    frames::{Frame, Whole},
};

/// Bytes of all results together, against their limit.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicU64,
    limit: u64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit })
    }
}

/// What a result takes of the budget, until it is gone.
#[derive(Debug)]
struct Taken {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Taken {
    fn grow(&mut self, more: u64) -> Result<(), SqlError> {
        let limit = self.budget.limit;
        let fits = |used: u64| used.checked_add(more).filter(|sum| *sum <= limit);
        let taken = self.budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map_err(|_| SqlError::ResultsFull { limit })?;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Some bytes of the file, and the rows in them.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    offset: u64,
    bytes: usize,
    first_row: u64,
    rows: u64,
}

/// A result that is written.
pub(super) struct Storing {
    file: File,
    decoder: StreamDecoder,
    chunks: Vec<Chunk>,
    taken: Taken,
    rows: u64,
}

/// A whole result.
#[derive(Debug)]
pub struct Stored {
    /// It has no name any more, so that it goes with its last reader.
    file: File,
    chunks: Vec<Chunk>,
    taken: Taken,
    whole: Whole,
    elapsed_ms: u64,
}

impl Storing {
    /// A file in a folder, which is made if it is not there.
    pub(super) fn begin(folder: &Path, budget: &Arc<Budget>) -> Result<Self, SqlError> {
        let failed = |source| SqlError::Io { what: "making a file for a result", source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let file = tempfile::tempfile_in(folder).map_err(failed)?;
        let taken = Taken { budget: Arc::clone(budget), bytes: 0 };
        Ok(Self { file, decoder: StreamDecoder::new(), chunks: Vec::new(), taken, rows: 0 })
    }

    /// Writes some bytes of the stream. They are read once, so that what is kept is known to be rows. Blocks.
    pub(super) fn write(mut self, bytes: Vec<u8>) -> Result<Self, SqlError> {
        let failed = |source| SqlError::Io { what: "writing a result", source };
        let unread = |error: ArrowError| SqlError::Crashed { how: error.to_string() };
        self.taken.grow(bytes.len() as u64)?;
        self.file.write_all(&bytes).map_err(failed)?;
        let (offset, length) = (self.taken.bytes - bytes.len() as u64, bytes.len());
        let (mut buffer, mut rows) = (Buffer::from_vec(bytes), 0);
        while !buffer.is_empty() {
            let batch = self.decoder.decode(&mut buffer).map_err(unread)?;
            rows += batch.map_or(0, |batch| batch.num_rows() as u64);
        }
        self.chunks.push(Chunk { offset, bytes: length, first_row: self.rows, rows });
        self.rows += rows;
        Ok(self)
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// The result, which is whole where the process said so and as many rows as it said.
    pub(super) fn end(mut self, whole: Whole, elapsed_ms: u64) -> Result<Stored, SqlError> {
        let failed = |how: &str| SqlError::Crashed { how: how.to_owned() };
        self.decoder.finish().map_err(|error| failed(&error.to_string()))?;
        if whole.rows != self.rows || self.chunks.is_empty() {
            return Err(failed("its rows are not as many as it says"));
        }
        Ok(Stored { file: self.file, chunks: self.chunks, taken: self.taken, whole, elapsed_ms })
    }
}

impl Stored {
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.whole.rows
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.taken.bytes
    }

    #[must_use]
    pub fn truncated(&self) -> bool {
        self.whole.truncated
    }

    pub(super) fn elapsed_ms(&self) -> u64 {
        self.elapsed_ms
    }

    fn read(&self, chunk: Chunk) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; chunk.bytes];
        self.file.read_exact_at(&mut bytes, chunk.offset)?;
        Ok(bytes)
    }
}

/// Some rows of a result, read as a process would say them.
#[derive(Debug)]
pub(super) struct Page {
    stored: Arc<Stored>,
    /// What is left to be read: the columns, and the pieces that have the rows.
    chunks: std::vec::IntoIter<Chunk>,
    /// Of its first piece, the rows before the first that is wanted.
    pub(super) skip: u64,
    /// That are wanted, and are there.
    pub(super) rows: u64,
}

impl Page {
    /// At most `limit` rows from `offset` on.
    pub(super) fn of(stored: &Arc<Stored>, offset: u64, limit: u64) -> Self {
        let end = offset.saturating_add(limit).min(stored.rows());
        let rows = end.saturating_sub(offset);
        let columns = stored.chunks.iter().take(1);
        let wanted = stored.chunks.iter().skip(1).filter(|chunk| {
            rows > 0 && chunk.rows > 0 && chunk.first_row < end && chunk.first_row + chunk.rows > offset
        });
        let first = wanted.clone().next().map_or(offset, |chunk| chunk.first_row);
        let chunks: Vec<Chunk> = columns.chain(wanted).copied().collect();
        Self { stored: Arc::clone(stored), chunks: chunks.into_iter(), skip: offset.saturating_sub(first), rows }
    }

    pub(super) async fn next(&mut self) -> Result<Frame, SqlError> {
        let Some(chunk) = self.chunks.next() else {
            return Ok(Frame::Whole(Whole { rows: self.rows, ..self.stored.whole.clone() }));
        };
        let stored = Arc::clone(&self.stored);
        let read = tokio::task::spawn_blocking(move || stored.read(chunk)).await;
        let failed = |source| SqlError::Io { what: "reading a result", source };
        read.map_err(|stopped| failed(io::Error::other(stopped)))?.map(Frame::Rows).map_err(failed)
    }
}
