//! The one writer of the audit log in a server. Entries wait in memory for a moment, so that one transaction takes many; their
//! number is bounded, and where there is no room for one more, its request waits: none is dropped.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    catalog::{AuditEntry, Catalog, CatalogError},
    config::AuditConfig,
    error::ErrorKind,
};

/// Entries of one transaction at most.
const MAX_GROUP: usize = 1000;
/// The pause after a group that could not be written.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Takes entries. Clones are of the same log.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Item>,
    /// How long a request waits for room, or for its entry to be on disk.
    patience: Duration,
    /// Ends the writer with the last of the clones.
    _writer: Arc<Writer>,
}

#[derive(Debug)]
struct Writer(AbortHandle);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why an entry is not in the log, or not yet.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    #[error("the audit log took no entry for {} seconds; audit.buffer_entries of them wait to be written", .0.as_secs())]
    NoRoom(Duration),
    #[error("the audit log was not written for {} seconds", .0.as_secs())]
    Slow(Duration),
    #[error("the audit log could not be written")]
    Write(#[source] Arc<CatalogError>),
    #[error("the audit log is closed")]
    Closed,
}

impl RecorderError {
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Write(source) => source.kind(),
            Self::NoRoom(_) | Self::Slow(_) | Self::Closed => ErrorKind::Unavailable,
        }
    }
}

/// What the writer is told.
#[derive(Debug)]
struct Item {
    /// None where only what came before is waited for.
    entry: Option<AuditEntry>,
    /// Told once it is on disk, or could not be written; then it is tried again all the same.
    written: Option<oneshot::Sender<Result<(), Arc<CatalogError>>>>,
}

/// A place for one entry, which is certain to be taken.
#[derive(Debug)]
pub struct Room {
    permit: mpsc::OwnedPermit<Item>,
    patience: Duration,
}

impl Recorder {
    /// Starts the writer, in the runtime that this is called in.
    #[must_use]
    pub fn start(catalog: Catalog, config: &AuditConfig, patience: Duration) -> Self {
        let (queue, items) = mpsc::channel(config.buffer_entries.max(1));
        let writer = tokio::spawn(write_for_ever(catalog, items, config.flush));
        Self { queue, patience, _writer: Arc::new(Writer(writer.abort_handle())) }
    }

    /// Waits for a place, so that what is done afterwards is certain to be recorded.
    pub async fn room(&self) -> Result<Room, RecorderError> {
        match timeout(self.patience, self.queue.clone().reserve_owned()).await {
            Ok(Ok(permit)) => Ok(Room { permit, patience: self.patience }),
            Ok(Err(_)) => Err(RecorderError::Closed),
            Err(_) => Err(RecorderError::NoRoom(self.patience)),
        }
    }

    /// Writes an entry, and waits until it is on disk.
    pub async fn record_durably(&self, entry: AuditEntry) -> Result<(), RecorderError> {
        self.room().await?.fill_durably(entry).await
    }

    /// Waits until all that was taken so far is on disk.
    pub async fn flush(&self) -> Result<(), RecorderError> {
        self.room().await?.wait_for(None).await
    }
}

impl Room {
    /// Leaves an entry to the writer.
    pub fn fill(self, entry: AuditEntry) {
        self.permit.send(Item { entry: Some(entry), written: None });
    }

    /// The same, and waits until it is on disk.
    pub async fn fill_durably(self, entry: AuditEntry) -> Result<(), RecorderError> {
        self.wait_for(Some(entry)).await
    }

    async fn wait_for(self, entry: Option<AuditEntry>) -> Result<(), RecorderError> {
        let (tell, told) = oneshot::channel();
        self.permit.send(Item { entry, written: Some(tell) });
        match timeout(self.patience, told).await {
            Ok(Ok(written)) => written.map_err(RecorderError::Write),
            Ok(Err(_)) => Err(RecorderError::Closed),
            Err(_) => Err(RecorderError::Slow(self.patience)),
        }
    }
}

/// Writes what comes, in groups, until nobody can send any more. A group that could not be written is kept and tried again.
async fn write_for_ever(catalog: Catalog, mut items: mpsc::Receiver<Item>, flush: Duration) {
    let (mut entries, mut waiting) = (Vec::new(), Vec::new());
    let mut failing = false;
    loop {
        if entries.is_empty() && waiting.is_empty() {
            let Some(first) = items.recv().await else { return };
            take(first, &mut entries, &mut waiting);
        }
        // Where somebody waits, only what is there already goes with it.
        let deadline = Instant::now() + flush;
        while waiting.is_empty() && entries.len() < MAX_GROUP {
            match timeout_at(deadline, items.recv()).await {
                Ok(Some(item)) => take(item, &mut entries, &mut waiting),
                Ok(None) | Err(_) => break,
            }
        }
        while entries.len() < MAX_GROUP
            && let Ok(item) = items.try_recv()
        {
            take(item, &mut entries, &mut waiting);
        }
        let written = if entries.is_empty() { Ok(()) } else { catalog.append_audit(&entries).await.map_err(Arc::new) };
        for waiter in waiting.drain(..) {
            // It may have run out of patience.
            let _ = waiter.send(written.clone());
        }
        match written {
            Ok(()) => {
                entries.clear();
                if std::mem::take(&mut failing) {
                    tracing::info!("the audit log is written again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, source = ?error.as_ref(), "the audit log could not be written; its entries are kept");
                }
                sleep(AGAIN_AFTER).await;
            }
        }
    }
}

fn take(item: Item, entries: &mut Vec<AuditEntry>, waiting: &mut Vec<oneshot::Sender<Result<(), Arc<CatalogError>>>>) {
    entries.extend(item.entry);
    waiting.extend(item.written);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{AuditActor, AuditFilter, AuditOutcome};

    const PATIENCE: Duration = Duration::from_millis(300);

    async fn catalog() -> (tempfile::TempDir, Catalog) {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).await.unwrap();
        (folder, catalog)
    }

    fn config(buffer_entries: usize) -> AuditConfig {
        AuditConfig { flush: Duration::from_millis(10), buffer_entries, ..AuditConfig::default() }
    }

    fn entry(action: String) -> AuditEntry {
        AuditEntry::new(AuditActor::Server, action, AuditOutcome::Done)
    }

    async fn actions(catalog: &Catalog) -> Vec<String> {
        let page = catalog.audit(&AuditFilter::default(), None, 200).await.unwrap();
        page.items.into_iter().map(|record| record.action).rev().collect()
    }

    #[tokio::test]
    async fn an_entry_that_was_recorded_durably_is_there_with_all_before_it_and_others_are_after_a_moment() {
        let (_folder, catalog) = catalog().await;
        let patient = AuditConfig { flush: Duration::from_mins(1), ..config(100) };
        let recorder = Recorder::start(catalog.clone(), &patient, Duration::from_mins(1));
        for number in 0..5 {
            recorder.room().await.unwrap().fill(entry(number.to_string()));
        }
        assert_eq!(actions(&catalog).await, [""; 0], "a group waits for others");
        recorder.record_durably(entry("5".to_owned())).await.unwrap();
        assert_eq!(actions(&catalog).await, ["0", "1", "2", "3", "4", "5"]);
        recorder.room().await.unwrap().fill(entry("6".to_owned()));
        recorder.flush().await.unwrap();
        assert_eq!(actions(&catalog).await.len(), 7);

        let quick = Recorder::start(catalog.clone(), &config(100), PATIENCE);
        quick.room().await.unwrap().fill(entry("7".to_owned()));
        for _ in 0..1000 {
            if actions(&catalog).await.len() == 8 {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("it was never written");
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_written_makes_who_comes_wait_tells_who_must_know_and_loses_nothing() {
        let (folder, catalog) = catalog().await;
        let recorder = Recorder::start(catalog.clone(), &config(20), PATIENCE);
        let other = Catalog::open(folder.path()).await.unwrap();
        other.break_audit(true).await;
        let refused = recorder.record_durably(entry("0".to_owned())).await.unwrap_err();
        assert!(matches!(refused, RecorderError::Write(_)), "{refused:?}");
        let mut taken = 1;
        // What waits in the queue, and what the writer has taken out of it to try again.
        let error = loop {
            match recorder.room().await {
                Ok(room) => room.fill(entry(taken.to_string())),
                Err(error) => break error,
            }
            taken += 1;
            assert!(taken <= 20 + 1 + MAX_GROUP, "no end to it");
        };
        assert!(matches!(error, RecorderError::NoRoom(_)), "{error:?}");
        other.break_audit(false).await;
        for _ in 0..1000 {
            if recorder.flush().await.is_ok() {
                break;
            }
        }
        let check = catalog.check_audit().await.unwrap();
        assert_eq!((check.entries, check.broken), (taken as u64, None));
    }

    #[tokio::test]
    async fn a_place_that_was_given_is_there_however_full_it_is_and_one_that_is_given_up_is_free() {
        let (_folder, catalog) = catalog().await;
        let recorder = Recorder::start(catalog.clone(), &config(2), PATIENCE);
        let (first, second) = (recorder.room().await.unwrap(), recorder.room().await.unwrap());
        assert!(matches!(recorder.room().await, Err(RecorderError::NoRoom(_))));
        drop(second);
        recorder.record_durably(entry("b".to_owned())).await.unwrap();
        first.fill(entry("a".to_owned()));
        recorder.flush().await.unwrap();
        assert_eq!(actions(&catalog).await, ["b", "a"]);
    }
}
