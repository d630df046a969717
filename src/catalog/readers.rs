//! Connections for the looks that every request takes: at its key, and at what it may see. The pool asks its connections whether
//! they live, before and after each use, which takes as long as such a look; these are lent as they are, and one that failed, or
//! whose borrower went away, is opened anew.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use sqlx::{
    ConnectOptions, Connection, FromRow, Sqlite, SqliteConnection,
    query::QueryAs,
    sqlite::{SqliteArguments, SqliteConnectOptions, SqliteRow},
};
use tokio::sync::{Mutex, MutexGuard};

/// More would wait for the same processors.
const READERS: usize = 4;

#[derive(Clone, Debug)]
pub(super) struct Readers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: SqliteConnectOptions,
    /// Each empty until it is needed, and while it is lent.
    places: [Mutex<Option<SqliteConnection>>; READERS],
    next: AtomicUsize,
}

impl Readers {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self(Arc::new(Inner { options, places: Default::default(), next: AtomicUsize::new(0) }))
    }

    /// All rows of a query that changes nothing.
    pub(super) async fn fetch_all<O>(
        &self,
        query: QueryAs<'_, Sqlite, O, SqliteArguments>,
    ) -> Result<Vec<O>, sqlx::Error>
    where
        O: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        let mut place = self.place().await;
        let mut connection = match place.take() {
            Some(connection) => connection,
            None => self.0.options.connect().await?,
        };
        let rows = query.fetch_all(&mut connection).await?;
        *place = Some(connection);
        Ok(rows)
    }

    /// A place that is free, or the next that will be.
    async fn place(&self) -> MutexGuard<'_, Option<SqliteConnection>> {
        let free = self.0.places.iter().find_map(|place| place.try_lock().ok());
        match free {
            Some(place) => place,
            None => self.0.places[self.0.next.fetch_add(1, Ordering::Relaxed) % READERS].lock().await,
        }
    }

    /// Closes those that are open, after the looks under way.
    pub(super) async fn close(&self) {
        for place in &self.0.places {
            if let Some(connection) = place.lock().await.take()
                && let Err(error) = connection.close().await
            {
                tracing::debug!(%error, "a connection to the catalogue did not close well");
            }
        }
    }
}
