//! A packed file → the bytes of its CSV, as they are asked for.
//!
//! A file that does not unpack to its end is refused as a whole, because nothing says what is missing. A file that
//! unpacks to more than it may is given up there, and no more of it is unpacked.

use std::io::{self, BufRead, Read};

use async_compression::{
    codecs::{DecodeV2, GzipDecoder, ZstdDecoder, zstd::params::DParameter},
    core::util::{PartialBuffer, WriteBuffer},
};

use super::{
    packing::{MAGIC_BYTES, Packing},
    report::{RowError, code},
};

/// The logarithm of the most that a zstd frame may look back, in bytes, and with it of the memory that it takes: 128 MiB,
/// which is what `zstd --long` and `zstd --ultra -22` write.
const WINDOW_LOG: u32 = 27;

/// What a file may unpack to, whatever its size: small files pack well by chance.
pub const UNPACKED_FREELY: u64 = 64 << 20;

/// What a packed file may come to at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Bytes of the CSV.
    pub bytes: u64,
    /// Bytes of the CSV for each byte of the packed file, beyond the first [`UNPACKED_FREELY`].
    pub ratio: u64,
}

impl UnpackLimits {
    /// For a file that was unpacked before.
    pub const NONE: Self = Self { bytes: u64::MAX, ratio: u64::MAX };
}

/// Why a file cannot be unpacked on. It comes inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The file as a whole is refused. The place is that in the CSV up to which it was unpacked.
    #[error("{}", .0.message)]
    File(Box<RowError>),
    #[error("the file unpacks to more than {limit} bytes (upload.max_bytes); split it, by month for example")]
    TooLarge { limit: u64 },
    #[error(
        "the file unpacks to more than {ratio} times its own size (upload.max_unpack_ratio), which no file of payments \
         does, each with its own ID"
    )]
    TooDense { ratio: u64 },
}

/// The bytes of the CSV in `input`, which is packed as `packing` says. Memory: 128 MiB at most for zstd, 64 KiB for gzip.
pub fn unpack<'a>(
    input: impl BufRead + Send + 'a,
    packing: Packing,
    limits: UnpackLimits,
) -> Box<dyn Read + Send + 'a> {
    let decoder: Box<dyn DecodeV2 + Send> = match packing {
        Packing::Plain => return Box::new(input),
        Packing::Gzip => Box::new(GzipDecoder::new()),
        Packing::Zstd => Box::new(ZstdDecoder::new_with_params(&[DParameter::window_log_max(WINDOW_LOG)])),
    };
    let (head, inside) = (Vec::with_capacity(MAGIC_BYTES), false);
    Box::new(Unpacked {
        packed: input,
        packing,
        decoder,
        limits,
        head,
        inside,
        members: 0,
        taken: 0,
        given: 0,
        breaks: 0,
    })
}

struct Unpacked<R> {
    packed: R,
    packing: Packing,
    decoder: Box<dyn DecodeV2 + Send>,
    limits: UnpackLimits,
    /// The start of a member (a frame, in zstd), which was looked at and not yet unpacked.
    head: Vec<u8>,
    /// Whether a member has begun and not ended.
    inside: bool,
    /// Members that have begun.
    members: u64,
    /// Bytes of the packed file that were unpacked.
    taken: u64,
    /// Bytes of the CSV, and the line breaks among them.
    given: u64,
    breaks: u64,
}

impl<R: BufRead> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if !self.inside && !self.begin_member()? {
                return Ok(0);
            }
            let count = self.step(buffer)?;
            if count > 0 {
                self.count(&buffer[..count])?;
                return Ok(count);
            }
        }
    }
}

impl<R: BufRead> Unpacked<R> {
    /// Looks at what follows; says whether it is a member, and not the end of the file.
    fn begin_member(&mut self) -> io::Result<bool> {
        while self.head.len() < MAGIC_BYTES {
            let Some(byte) = self.packed.fill_buf()?.first().copied() else { break };
            self.packed.consume(1);
            self.head.push(byte);
        }
        if self.head.is_empty() {
            return Ok(false);
        }
        if !self.packing.begins(&self.head) {
            return Err(if self.members == 0 { self.not_packed() } else { self.trailing() });
        }
        if self.members > 0 {
            self.decoder.reinit()?;
        }
        self.members += 1;
        self.inside = true;
        Ok(true)
    }

    /// Unpacks some bytes, perhaps none yet.
    fn step(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let from_head = !self.head.is_empty();
        let bytes = if from_head { self.head.as_slice() } else { self.packed.fill_buf()? };
        let ended = bytes.is_empty();
        let (mut input, mut output) = (PartialBuffer::new(bytes), WriteBuffer::new_initialized(buffer));
        let result = self.decoder.decode(&mut input, &mut output);
        let (taken, given) = (input.written_len(), output.written_len());
        if from_head {
            self.head.drain(..taken);
        } else {
            self.packed.consume(taken);
        }
        self.taken += taken as u64;
        match result {
            Ok(done) => self.inside = !done,
            // Without input, that it cannot go on is all that the error can mean.
            Err(_) if ended => return Err(self.cut_off()),
            Err(error) => return Err(self.damaged(&error)),
        }
        if ended && self.inside && given == 0 { Err(self.cut_off()) } else { Ok(given) }
    }

    fn count(&mut self, unpacked: &[u8]) -> io::Result<()> {
        self.given += unpacked.len() as u64;
        self.breaks += memchr::memchr_iter(b'\n', unpacked).count() as u64;
        let UnpackLimits { bytes: limit, ratio } = self.limits;
        if self.given > limit {
            return Err(io::Error::other(UnpackError::TooLarge { limit }));
        }
        if self.given > UNPACKED_FREELY && self.given > self.taken.saturating_mul(ratio) {
            return Err(io::Error::other(UnpackError::TooDense { ratio }));
        }
        Ok(())
    }

    fn not_packed(&self) -> io::Error {
        let (packing, file_name) = (self.packing.name(), self.packing.file_name());
        let fix = match Packing::of_content(&self.head) {
            Some(other) => format!("it is {}: name it {}", other.name(), other.file_name()),
            None => {
                format!("if it is the CSV itself, name it {}; else pack it with {packing}", Packing::Plain.file_name())
            }
        };
        let message = format!(
            "the file is to be {packing}, as its name {file_name} or its Content-Encoding says, and does not begin as \
             {packing} does; {fix}"
        );
        self.refused(code::WRONG_PACKING, message)
    }

    fn trailing(&self) -> io::Error {
        let message = format!(
            "something other than {} follows at byte {} of the packed file; pack the file again",
            self.packing.name(),
            self.taken
        );
        self.refused(code::PACKED_TRAILING, message)
    }

    fn cut_off(&self) -> io::Error {
        let message = format!(
            "the {} data breaks off after {} bytes, before its end; send the whole file, or pack it again",
            self.packing.name(),
            self.taken
        );
        self.refused(code::PACKED_CUT_OFF, message)
    }

    fn damaged(&self, error: &io::Error) -> io::Error {
        let packing = self.packing.name();
        // zstd has no other way to tell it from damage than its words.
        if error.to_string().contains("too much memory") {
            let message = format!(
                "unpacking takes a window of more than {} MiB; pack the file with zstd --long={WINDOW_LOG} or less",
                (1_u64 << WINDOW_LOG) >> 20
            );
            return self.refused(code::PACKED_WINDOW, message);
        }
        let message =
            format!("the {packing} data is damaged near byte {} of the packed file; pack the file again", self.taken);
        self.refused(code::PACKED_DAMAGED, message)
    }

    fn refused(&self, code: &str, message: String) -> io::Error {
        let (line, byte) = (self.breaks + 1, self.given);
        let error = RowError { line, byte, column: None, code: code.to_owned(), value: None, message };
        io::Error::other(UnpackError::File(Box::new(error)))
    }
}
