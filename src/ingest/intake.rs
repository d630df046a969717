//! The bytes of an upload on their way in: counted, hashed and kept compressed while the decoder reads them.

use std::{
    fs::File,
    io::{self, BufWriter, Read, Write},
    path::Path,
};

use bytes::{Buf, Bytes};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Receiver;

/// zstd's fastest level: the original is kept, seldom read.
const LEVEL: i32 = 1;

/// Reads the chunks that the connection sends, and writes each one to the kept original as it passes. Blocks; it belongs on
/// a thread of its own. An `Err` chunk ends the upload: the sender went away, or went over a limit.
pub(super) struct Intake {
    chunks: Receiver<io::Result<Bytes>>,
    current: Bytes,
    hash: Sha256,
    bytes: u64,
    original: zstd::Encoder<'static, BufWriter<File>>,
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
        Ok(Self { chunks, current: Bytes::new(), hash: Sha256::new(), bytes: 0, original })
    }

    /// Takes in what the decoder left unread, and puts the original on disk.
    pub(super) fn finish(mut self) -> io::Result<Original> {
        io::copy(&mut self, &mut io::sink())?;
        let file = self.original.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(Original { sha256: hex::encode(self.hash.finalize()), bytes: self.bytes })
    }
}

impl Read for Intake {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                None => return Ok(0),
                Some(chunk) => self.current = chunk?,
            }
            self.hash.update(&self.current);
            self.bytes += self.current.len() as u64;
            self.original.write_all(&self.current)?;
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}
