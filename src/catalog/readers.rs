//! The looks that every request takes: at its key, and at what it may see.
//!
//! sqlx gives each connection a thread of its own. To wake that and to be woken by it takes some 100 µs, and the look itself 5
//! to 10. So these looks have a few connections beside the pool, through rusqlite, which share the pool's copy of `SQLite`, and
//! are called where the request is, without a change of thread: a reader waits for no writer, as long as the log of writes is
//! in use, and what is read is in memory. Nothing is kept from look to look but prepared statements, so that what another
//! process has committed counts from the next look on.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params_from_iter, types::Value};

use super::{BUSY_TIMEOUT, CatalogError};

/// More would wait for the same processors.
const READERS: usize = 4;
/// Where the catalogue is locked as a whole, as it is for a moment when another process opens it first after a crash or
/// closes it last, the thread does other things for so long.
const BUSY_PAUSE: Duration = Duration::from_millis(2);

#[derive(Clone, Debug)]
pub(super) struct Readers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: PathBuf,
    /// Each empty until it is needed, and after a failure.
    places: [Mutex<Option<Connection>>; READERS],
    next: AtomicUsize,
}

impl Readers {
    pub(super) fn new(file: PathBuf) -> Self {
        Self(Arc::new(Inner { file, places: Default::default(), next: AtomicUsize::new(0) }))
    }

    /// All rows of a query that changes nothing.
    pub(super) async fn all<T>(
        &self,
        operation: &'static str,
        sql: &str,
        values: &[Value],
        row: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, CatalogError> {
        let began = Instant::now();
        loop {
            match self.look(sql, values, &row) {
                Ok(rows) => return Ok(rows),
                Err(error) if is_busy(&error) && began.elapsed() < BUSY_TIMEOUT => {
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                Err(source) => return Err(CatalogError::Look { operation, source }),
            }
        }
    }

    fn look<T>(
        &self,
        sql: &str,
        values: &[Value],
        row: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let mut place = self.place();
        let connection = match place.take() {
            Some(connection) => connection,
            None => self.open()?,
        };
        // The statement ends with its rows: an open one would keep the log of writes from being emptied.
        let rows =
            connection.prepare_cached(sql)?.query_map(params_from_iter(values), row)?.collect::<Result<_, _>>()?;
        *place = Some(connection);
        Ok(rows)
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.0.file, flags)?;
        connection.busy_timeout(Duration::ZERO)?;
        Ok(connection)
    }

    /// A place that is free, or the next that will be, which is soon: nobody holds one while it waits for anything else.
    fn place(&self) -> MutexGuard<'_, Option<Connection>> {
        let free = self.0.places.iter().find_map(|place| place.try_lock().ok());
        free.unwrap_or_else(|| {
            let next = self.0.next.fetch_add(1, Ordering::Relaxed) % READERS;
            self.0.places[next].lock().unwrap_or_else(PoisonError::into_inner)
        })
    }

    /// Closes those that are open, after the looks under way.
    pub(super) fn close(&self) {
        for place in &self.0.places {
            let open = place.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some((_, error)) = open.and_then(|connection| connection.close().err()) {
                tracing::debug!(%error, "a connection to the catalogue did not close well");
            }
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::{Catalog, FILE_NAME, KeyTerms, NewKey},
        error::ErrorKind,
    };

    #[tokio::test]
    async fn a_look_waits_while_the_catalogue_is_locked_as_a_whole_and_the_thread_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("locked.sqlite");
        let other = Connection::open(&file).unwrap();
        other.execute_batch("CREATE TABLE one (a); INSERT INTO one VALUES (7); BEGIN EXCLUSIVE").unwrap();
        let readers = Readers::new(file);
        // Both on one thread: the second can only come to its end if the first waits without holding it.
        let (found, ()) =
            tokio::join!(readers.all("look", "SELECT a FROM one", &[], |row| row.get::<_, i64>(0)), async {
                other.execute_batch("COMMIT").unwrap();
            });
        assert_eq!(found.unwrap(), [7]);
    }

    #[tokio::test]
    async fn a_look_that_fails_says_so_by_its_kind_and_the_next_opens_the_catalogue_anew() {
        let folder = tempfile::tempdir().unwrap();
        let readers = Readers::new(folder.path().join("missing.sqlite"));
        let look = || readers.all("look", "SELECT a FROM one", &[], |row| row.get::<_, i64>(0));
        assert_eq!(look().await.unwrap_err().kind(), ErrorKind::Unavailable, "it cannot be opened");
        Connection::open(folder.path().join("missing.sqlite")).unwrap().execute_batch("CREATE TABLE one (a)").unwrap();
        assert_eq!(look().await.unwrap(), [0; 0]);
        std::fs::write(folder.path().join("missing.sqlite"), [b'x'; 8192]).unwrap();
        assert_eq!(look().await.unwrap_err().kind(), ErrorKind::Internal, "it is no database");
    }

    #[tokio::test]
    async fn looks_hold_up_no_write_and_leave_the_log_of_writes_free_to_be_emptied() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).await.unwrap();
        let NewKey { key, secret } = catalog.create_key(KeyTerms::of_admin("ops")).await.unwrap();
        let mut other = Connection::open(folder.path().join(FILE_NAME)).unwrap();
        let write = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
        write.execute("UPDATE api_keys SET name = 'x'", ()).unwrap();
        assert!(catalog.verify_key(&secret).await.unwrap().principal().is_some(), "beside a write");
        assert_eq!(catalog.key(&key.prefix).await.unwrap().unwrap().name, "ops", "as it was before");
        write.commit().unwrap();
        assert_eq!(catalog.key(&key.prefix).await.unwrap().unwrap().name, "x");
        let emptied = other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!(emptied, 0, "readers hold it up");
    }
}
