//! The partial aggregates of files, kept from query to query.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, SchemaRef},
};
use datafusion::common::Result;
use hashlink::LruCache;

use super::question::Question;

/// What a file answers to a question: the groups' columns but for its constants, and the aggregates' states.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) columns: Vec<ArrayRef>,
    pub(super) rows: usize,
}

impl Partial {
    /// Without the room that is left in the buffers of text, which may be megabytes for a few words.
    pub(super) fn of(batch: &RecordBatch) -> Self {
        let compact = |column: &ArrayRef| -> ArrayRef {
            match column.data_type() {
                DataType::Utf8View => Arc::new(column.as_string_view().gc()),
                _ => Arc::clone(column),
            }
        };
        Self { columns: batch.columns().iter().map(compact).collect(), rows: batch.num_rows() }
    }

    /// With the names and types of its columns.
    pub(super) fn batch(&self, schema: &SchemaRef) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        Ok(RecordBatch::try_new_with_options(Arc::clone(schema), self.columns.clone(), &options)?)
    }

    fn bytes(&self) -> usize {
        self.columns.iter().map(|column| column.get_array_memory_size()).sum()
    }
}

/// A question and the files that it was asked of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    question: Arc<Question>,
    paths: String,
}

// Two keys that are equal have questions that are equal, whose hash is kept.
#[allow(clippy::derived_hash_with_manual_eq)]
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.question.hash(state);
        self.paths.hash(state);
    }
}

impl Key {
    /// What an entry takes beside its arrays, about.
    const OVERHEAD: usize = 256;
}

/// The partial aggregates that are kept: at most so many bytes of them, and those that were of use last.
#[derive(Debug)]
pub(in crate::query) struct Partials {
    limit: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    entries: LruCache<Key, Arc<Partial>>,
    bytes: usize,
    /// How often all of it was forgotten.
    era: u64,
}

impl Partials {
    /// At most `limit` bytes; with 0 nothing is kept.
    pub(in crate::query) fn new(limit: usize) -> Self {
        Self { limit, kept: Mutex::new(Kept { entries: LruCache::new_unbounded(), bytes: 0, era: 0 }) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Whoever panicked while holding it left an entry more or less, which is no harm.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes that are kept.
    pub(in crate::query) fn bytes(&self) -> usize {
        self.kept().bytes
    }

    /// Forgets everything, also what queries that run now will find out.
    pub(in crate::query) fn forget(&self) {
        let mut kept = self.kept();
        kept.entries.clear();
        kept.bytes = 0;
        kept.era += 1;
    }

    /// What a query that starts now has to give with what it keeps.
    pub(super) fn era(&self) -> u64 {
        self.kept().era
    }

    /// What the files of these paths said to a question.
    pub(super) fn get(&self, question: &Arc<Question>, paths: &str) -> Option<Arc<Partial>> {
        let key = Key { question: Arc::clone(question), paths: paths.to_owned() };
        self.kept().entries.get(&key).cloned()
    }

    pub(super) fn keep(&self, question: &Arc<Question>, paths: String, partial: &Arc<Partial>, era: u64) {
        let key = Key { question: Arc::clone(question), paths };
        let weight = |key: &Key, partial: &Partial| Key::OVERHEAD + key.paths.len() + partial.bytes();
        let bytes = weight(&key, partial);
        let mut kept = self.kept();
        if era != kept.era || bytes > self.limit {
            return;
        }
        let replaced = kept.entries.insert(key.clone(), Arc::clone(partial));
        kept.bytes += bytes;
        kept.bytes -= replaced.map_or(0, |replaced| weight(&key, &replaced));
        while kept.bytes > self.limit
            && let Some((key, partial)) = kept.entries.remove_lru()
        {
            kept.bytes -= weight(&key, &partial);
        }
    }
}
