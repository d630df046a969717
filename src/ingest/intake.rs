//! The bytes of an upload on their way in: counted, hashed and kept as they come, while the decoder reads them.

use std::{
    fs::File,
    io::{self, BufRead, BufWriter, Read, Write},
    path::Path,
    sync::mpsc::{self, SyncSender},
    thread::{self, JoinHandle},
};

use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Receiver;

use crate::durable;

/// zstd's fastest level: the original is kept, seldom read.
const LEVEL: i32 = 1;

/// Chunks that wait at most to be hashed and compressed.
const CHUNKS_WAITING: usize = 16;

/// Reads the chunks that the connection sends. Blocks; it belongs on a thread of its own. Each chunk goes to a second
/// thread as well, which hashes and keeps it, because that takes about as long as decoding. An `Err` chunk ends the upload:
/// the sender went away, or went over a limit.
pub(super) struct Intake {
    chunks: Receiver<io::Result<Bytes>>,
    current: Bytes,
    keep: SyncSender<Bytes>,
    /// None once it has ended.
    keeper: Option<JoinHandle<io::Result<Kept>>>,
}

/// What passed through an [`Intake`], whole and on disk.
#[derive(Debug, Clone)]
pub(super) struct Original {
    /// Of the bytes as they came, in lower-case hexadecimal.
    pub(super) sha256: String,
    pub(super) bytes: u64,
}

impl Intake {
    pub(super) fn new(chunks: Receiver<io::Result<Bytes>>, keep_at: &Path) -> io::Result<Self> {
        let original = zstd::Encoder::new(BufWriter::new(File::create_new(keep_at)?), LEVEL)?;
        let (keep, waiting) = mpsc::sync_channel(CHUNKS_WAITING);
        let kept = Kept { hash: Sha256::new(), bytes: 0, original };
        let keeper = thread::Builder::new().name("keep-original".to_owned()).spawn(move || kept.with(&waiting))?;
        Ok(Self { chunks, current: Bytes::new(), keep, keeper: Some(keeper) })
    }

    /// Takes in what the decoder left unread, and puts the original on disk.
    pub(super) fn finish(mut self) -> io::Result<Original> {
        io::copy(&mut self, &mut io::sink())?;
        drop(self.keep);
        join(self.keeper)?.finish()
    }
}

impl BufRead for Intake {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                None => break,
                Some(chunk) => self.current = chunk?,
            }
            if self.keep.send(self.current.clone()).is_err() {
                // It only ends before us where it fails.
                join(self.keeper.take())?;
            }
        }
        Ok(&self.current)
    }

    fn consume(&mut self, count: usize) {
        self.current.advance(count);
    }
}

impl Read for Intake {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let waiting = self.fill_buf()?;
        let count = buffer.len().min(waiting.len());
        buffer[..count].copy_from_slice(&waiting[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// The original so far.
struct Kept {
    hash: Sha256,
    bytes: u64,
    original: zstd::Encoder<'static, BufWriter<File>>,
}

impl Kept {
    fn with(mut self, chunks: &mpsc::Receiver<Bytes>) -> io::Result<Self> {
        for chunk in chunks {
            self.hash.update(&chunk);
            self.bytes += chunk.len() as u64;
            self.original.write_all(&chunk)?;
        }
        Ok(self)
    }

    fn finish(self) -> io::Result<Original> {
        let file = self.original.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        durable::sync(&file)?;
        Ok(Original { sha256: hex::encode(self.hash.finalize()), bytes: self.bytes })
    }
}

fn join(keeper: Option<JoinHandle<io::Result<Kept>>>) -> io::Result<Kept> {
    let ended = || io::Error::other("the thread that keeps the original ended");
    keeper.ok_or_else(ended)?.join().map_err(|_| ended())?
}
