//! Which cells of a project and month are shown where it is shared as aggregates: settled once for its files, before anything
//! is computed of them.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{
    array::{AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Decimal128Type},
    error::ArrowError,
};
use futures::TryStreamExt;
use hashlink::LruCache;

use super::{QueryError, session::Sessions};
use crate::lake::{
    LakeFile,
    masking::{Cells, Group},
};

/// Projects and months whose cells are kept.
const MOST_KEPT: usize = 20_000;

/// The cells of one project and month.
#[derive(Debug)]
pub(super) struct MonthCells {
    pub(super) shown: Arc<Cells>,
    pub(super) withheld: u64,
}

/// What was settled already, by the paths of the files of a project and month, none of which is ever that of another file.
pub(super) struct KnownCells(Mutex<LruCache<String, Arc<MonthCells>>>);

impl KnownCells {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(MOST_KEPT)))
    }

    /// The cells of the project and month that has these files and no others.
    pub(super) async fn of(&self, sessions: &Sessions, files: &[Arc<LakeFile>]) -> Result<Arc<MonthCells>, QueryError> {
        let key: String = files.iter().flat_map(|file| [file.path.as_str(), "\n"]).collect();
        if let Some(known) = self.lock().get(&key) {
            return Ok(Arc::clone(known));
        }
        let memory = sessions.memory("the customers of a month");
        let mut rows = sessions.settled_by_customer(files)?.execute_stream().await?;
        let mut groups = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            // Once as the engine has them, and once by themselves.
            memory.try_grow(2 * batch.get_array_memory_size())?;
            groups_of(&batch, &mut groups).map_err(|error| QueryError::Engine(error.into()))?;
        }
        let (shown, withheld) = Cells::of(groups);
        let settled = Arc::new(MonthCells { shown: Arc::new(shown), withheld });
        self.lock().insert(key, Arc::clone(&settled));
        Ok(settled)
    }

    /// Forgets all of it.
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<String, Arc<MonthCells>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for KnownCells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownCells").finish_non_exhaustive()
    }
}

/// The rows of [`Sessions::settled_by_customer`].
fn groups_of(batch: &RecordBatch, groups: &mut Vec<Group>) -> Result<(), ArrowError> {
    let texts = (0..4).map(|at| cast(batch.column(at), &DataType::Utf8)).collect::<Result<Vec<_>, _>>()?;
    let text = |at: usize, row: usize| texts[at].as_string::<i32>().value(row).to_owned();
    let sum = |at: usize, row: usize| batch.column(at).as_primitive::<Decimal128Type>().value(row);
    groups.extend((0..batch.num_rows()).map(|row| Group {
        site: text(0, row),
        currency: text(1, row),
        source: text(2, row),
        customer: text(3, row),
        amount: sum(4, row),
        turnover: sum(5, row),
    }));
    Ok(())
}
