//! The partial aggregates of files, kept from query to query.

use std::{
    hash::{Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions},
    datatypes::{DataType, SchemaRef},
};
use datafusion::common::{Result, ScalarValue};
use hashlink::LruCache;

use super::question::Question;

/// What a file answers to a question: the groups' columns but for its constants, and the aggregates' states.
#[derive(Debug)]
pub(super) struct Partial {
    columns: Vec<ArrayRef>,
    /// Columns of the groups that are the same in all rows and not among `columns`, each with its place: in that order.
    same: Vec<(usize, ScalarValue)>,
    pub(super) rows: usize,
}

impl Partial {
    /// Without the room that is left in the buffers of text, which may be megabytes for a few words.
    pub(super) fn new(batch: &RecordBatch, same: Vec<(usize, ScalarValue)>) -> Self {
        let compact = |column: &ArrayRef| -> ArrayRef {
            match column.data_type() {
                DataType::Utf8View => Arc::new(column.as_string_view().gc()),
                _ => Arc::clone(column),
            }
        };
        Self { columns: batch.columns().iter().map(compact).collect(), same, rows: batch.num_rows() }
    }

    /// The columns that are not the same in all rows, under their names.
    pub(super) fn differing(&self, schema: &SchemaRef) -> Result<RecordBatch> {
        named(schema, self.columns.clone(), self.rows)
    }

    /// All columns under their names, and among them constants of the file, each at its place: in that order.
    pub(super) fn whole<'a>(
        &'a self,
        schema: &SchemaRef,
        constants: impl Iterator<Item = (usize, &'a ScalarValue)>,
    ) -> Result<RecordBatch> {
        let mut columns = self.columns.clone();
        for (at, value) in self.same.iter().map(|(at, value)| (*at, value)).chain(constants) {
            columns.insert(at, value.to_array_of_size(self.rows)?);
        }
        named(schema, columns, self.rows)
    }

    pub(super) fn same(&self) -> &[(usize, ScalarValue)] {
        &self.same
    }

    /// What its columns take.
    pub(super) fn bytes(&self) -> usize {
        self.columns.iter().map(Array::get_array_memory_size).sum()
    }
}

fn named(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
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
