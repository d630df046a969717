//! Inputs that arrive in pieces.

use std::io::{self, Read};

use crate::fuzz::hash;

/// Gives its bytes in pieces of the given lengths, over and over.
pub(super) struct Pieces<'a> {
    bytes: &'a [u8],
    lengths: Vec<usize>,
    turn: usize,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(bytes: &'a [u8], lengths: &[usize]) -> Self {
        Self { bytes, lengths: lengths.to_vec(), turn: 0 }
    }

    /// In pieces of lengths that the bytes themselves settle.
    pub(super) fn by_chance(bytes: &'a [u8]) -> Self {
        let most = [2, 16, 128, 1024][usize::from(hash(&bytes).to_le_bytes()[0] % 4)];
        let length = |turn: usize| 1 + usize::from(hash(&(turn, bytes)).to_le_bytes()[0]) * most / 256;
        Self { bytes, lengths: (0..7).map(length).collect(), turn: 0 }
    }
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.lengths[self.turn % self.lengths.len()].min(buffer.len()).min(self.bytes.len());
        self.turn += 1;
        buffer[..length].copy_from_slice(&self.bytes[..length]);
        self.bytes = &self.bytes[length..];
        Ok(length)
    }
}
