//! An answer's bytes while they are written: within the limit on one answer, and within the memory of all queries, to
//! which they belong until they are sent.

use std::io::{self, Write};

use bytes::Bytes;
use datafusion::execution::memory_pool::MemoryReservation;

use super::QueryError;

/// Where an answer is written to. It refuses what goes beyond its limits, and keeps the reason, which writers between
/// here and there would only pass on as text.
pub(super) struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
    memory: MemoryReservation,
    refusal: Option<QueryError>,
}

impl Bounded {
    /// The first buffer; it doubles from there.
    const FIRST: usize = 64 << 10;

    pub(super) fn new(limit: usize, memory: MemoryReservation) -> Self {
        Self { bytes: Vec::new(), limit, memory, refusal: None }
    }

    /// The bytes, once `written` says that they are all there. Their memory is given back when the last of them is gone.
    pub(super) fn finish(self, written: Result<(), QueryError>) -> Result<Bytes, QueryError> {
        if let Some(refusal) = self.refusal {
            return Err(refusal);
        }
        written.map(|()| Bytes::from_owner(Held { bytes: self.bytes, _memory: self.memory }))
    }

    /// Makes room for `more` bytes. While the buffer moves, there are two of them.
    fn reserve(&mut self, more: usize) -> Result<(), QueryError> {
        let (length, capacity) = (self.bytes.len() + more, self.bytes.capacity());
        if length > self.limit {
            return Err(QueryError::AnswerTooLarge { limit: self.limit });
        }
        if length > capacity {
            let wanted = length.max(capacity * 2).max(Self::FIRST).min(self.limit);
            self.memory.try_grow(wanted)?;
            self.bytes.reserve_exact(wanted - self.bytes.len());
            self.memory.shrink(capacity);
        }
        Ok(())
    }
}

impl Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if let Err(refusal) = self.reserve(piece.len()) {
            self.refusal = Some(refusal);
            return Err(io::Error::other("the answer is beyond its limits"));
        }
        self.bytes.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes and the memory that is reserved for them.
struct Held {
    bytes: Vec<u8>,
    _memory: MemoryReservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::execution::memory_pool::{GreedyMemoryPool, MemoryConsumer, MemoryPool};

    use super::*;

    fn bounded(limit: usize, pool: &Arc<dyn MemoryPool>) -> Bounded {
        Bounded::new(limit, MemoryConsumer::new("answer").register(pool))
    }

    #[test]
    fn what_is_sent_belongs_to_the_memory_of_queries_until_it_is_gone() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(1 << 20));
        let mut out = bounded(300_000, &pool);
        for piece in [1, 70_000, 200_000, 29_999] {
            out.write_all(&vec![b'x'; piece]).unwrap();
        }
        let bytes = out.finish(Ok(())).unwrap();
        assert_eq!(bytes.len(), 300_000);
        let part = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(pool.reserved(), 300_000);
        drop(part);
        assert_eq!(pool.reserved(), 0);
    }

    #[test]
    fn the_limit_and_the_memory_of_queries_each_end_an_answer_with_their_own_reason() {
        let pool: Arc<dyn MemoryPool> = Arc::new(GreedyMemoryPool::new(100_000));
        let refused = |limit, pieces: usize| {
            let mut out = bounded(limit, &pool);
            let written = (0..pieces).try_for_each(|_| out.write_all(&[b'x'; 1000]));
            out.finish(written.map_err(|error| QueryError::Encode(error.into()))).unwrap_err()
        };
        assert!(matches!(refused(10_000, 11), QueryError::AnswerTooLarge { limit: 10_000 }));
        assert!(matches!(refused(1 << 20, 90), QueryError::Resources(_)));
        assert_eq!(pool.reserved(), 0);
    }
}
