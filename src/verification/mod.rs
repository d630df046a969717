//! Remote verification: whether connections really pay, by a programme's rule. Each run goes by one version of the lake, in the
//! background; its verdicts are kept as they are, can be explained payment by payment, and come out the same when it is replayed.
//!
//! ```text
//! POST …/verifications ─ what is submitted ─ version of the lake, its uploads ─ catalogue row ─ 202
//!                        └ judge (one pass over payments) ─ verdicts on disk ─ submissions and run in one transaction
//! ```

mod case;
mod columns;
mod error;
mod evidence;
mod export;
mod judge;
mod key;
mod progress;
mod refunds;
mod reopen;
mod replay;
mod report;
mod run;
pub mod verdicts;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use self::progress::Progress;
pub use self::{
    error::VerificationError,
    evidence::{Evidence, EvidencePayment, EvidenceSource, EvidenceUpload, Withheld},
    export::to_parquet,
    key::SigningKey,
    reopen::Seen,
    replay::Replay,
    report::{CheckedReport, ReportFault, check_report},
    run::{Enrolled, RunRequest},
    verdicts::Glance,
};
use crate::{
    catalog::{Catalog, RunState, VerificationRun},
    config::VerificationConfig,
    ids::RunId,
    ingest::Ingest,
    lake::{Finding, Lake, LakeError},
    programmes::{ConnectionName, Verdict},
};

/// Where verdicts are kept, below the data folder.
const FOLDER: &str = "verifications";

/// The verification use case.
pub struct Verification {
    catalog: Catalog,
    lake: Arc<Lake>,
    ingest: Arc<Ingest>,
    folder: PathBuf,
    config: VerificationConfig,
    /// Those that run at once.
    turns: Arc<Semaphore>,
    /// Verdicts that are read or explained at once, which takes moments: a run does not hold them up.
    looks: Arc<Semaphore>,
    /// Those that run or wait.
    under_way: Mutex<HashMap<RunId, Arc<Progress>>>,
    tasks: TaskTracker,
    /// Whether the server stops.
    stop: Arc<AtomicBool>,
    signing: SigningKey,
}

impl Verification {
    /// Ends what an earlier process left.
    pub async fn open(
        catalog: Catalog,
        lake: Arc<Lake>,
        ingest: Arc<Ingest>,
        data_dir: &Path,
        config: VerificationConfig,
    ) -> Result<Self, VerificationError> {
        let (folder, signing) = (data_dir.join(FOLDER), SigningKey::at(data_dir));
        for run in catalog.runs_under_way().await? {
            // It may have kept verdicts that nobody will ask for.
            let _ = fs::remove_file(path_in(&folder, &run.id));
            catalog.fail_run(&run.id, &VerificationError::Stopped.to_string()).await?;
        }
        let turns = Arc::new(Semaphore::new(config.concurrency));
        let looks = Arc::new(Semaphore::new(config.concurrency));
        let (under_way, tasks, stop) = (Mutex::default(), TaskTracker::new(), Arc::default());
        Ok(Self { catalog, lake, ingest, folder, config, turns, looks, under_way, tasks, stop, signing })
    }

    #[must_use]
    pub fn signing_key(&self) -> &SigningKey {
        &self.signing
    }

    #[must_use]
    pub fn limits(&self) -> &VerificationConfig {
        &self.config
    }

    fn progress_of_one(&self) -> Arc<Progress> {
        Arc::new(Progress::new(self.config.timeout, Arc::clone(&self.stop)))
    }

    /// A place among those that run or wait.
    fn place(
        self: &Arc<Self>,
        id: &RunId,
        progress: &Arc<Progress>,
        is_trial: bool,
    ) -> Result<Place, VerificationError> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = self.config.concurrency + self.config.queue;
        // What settles nothing leaves half of the places to what does.
        if under_way.len() >= limit || is_trial && under_way.len() >= limit.div_ceil(2) {
            return Err(VerificationError::Busy { limit });
        }
        under_way.insert(id.clone(), Arc::clone(progress));
        Ok(Place { of: Arc::clone(self), id: id.clone() })
    }

    /// A turn to read payments; others wait for as long as it is held.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, VerificationError> {
        self.turns.clone().acquire_owned().await.map_err(|_| VerificationError::Stopped)
    }

    /// The same for what takes moments, beside runs.
    async fn look(&self) -> Result<OwnedSemaphorePermit, VerificationError> {
        self.looks.clone().acquire_owned().await.map_err(|_| VerificationError::Stopped)
    }

    /// Removes what was kept of runs that nobody can ask for any more.
    async fn remove_kept(&self, runs: Vec<RunId>) {
        let paths: Vec<PathBuf> = runs.iter().map(|run| self.path(run)).collect();
        let remove = move || {
            for path in paths {
                let _ = fs::remove_file(path);
            }
            Ok(())
        };
        let _ = blocking(remove).await;
    }

    /// What was found wrong with files that the lake has now is everybody's business.
    fn note_damage(&self, error: &VerificationError) {
        let VerificationError::Lake(LakeError::Damaged(findings)) = error else { return };
        let snapshot = self.lake.snapshot();
        let is_now = |finding: &&Finding| {
            let of_project = finding.project().map(|project| snapshot.project_files(project)).into_iter().flatten();
            finding.path().is_none_or(|path| of_project.into_iter().any(|file| file.path == path))
        };
        self.lake.found(&findings.iter().filter(is_now).cloned().collect::<Vec<_>>());
    }

    /// How much of a run's payments was looked at, from 0 to 1; none of one that is not under way.
    #[must_use]
    pub fn progress(&self, id: &RunId) -> Option<f64> {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.get(id).map(|progress| progress.share())
    }

    /// What a run that is under way judges, in the order of names.
    #[must_use]
    pub fn names(&self, id: &RunId) -> Vec<ConnectionName> {
        let under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.get(id).map(|progress| progress.names().to_vec()).unwrap_or_default()
    }

    /// Stops runs under way and waits for their end, for a server that stops: they can be begun again.
    pub async fn drain(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn path(&self, id: &RunId) -> PathBuf {
        path_in(&self.folder, id)
    }

    /// The verdicts of a run that has ended, as CSV, byte for byte.
    pub async fn kept(&self, run: &VerificationRun) -> Result<Vec<u8>, VerificationError> {
        match run.state {
            RunState::Done => {}
            RunState::Running => return Err(VerificationError::NotDone),
            RunState::Failed => return Err(VerificationError::Failed),
        }
        let (path, sha256) = (self.path(&run.id), run.sha256.clone());
        let turn = self.look().await?;
        let read = move || {
            let csv = verdicts::kept(&path, sha256.as_deref());
            drop(turn);
            csv
        };
        blocking(read).await
    }

    /// The same, read: those that match, at most `limit`.
    pub async fn verdicts(
        &self,
        run: &VerificationRun,
        matches: impl Fn(Glance<'_>) -> bool + Send + 'static,
        limit: usize,
    ) -> Result<Vec<Verdict>, VerificationError> {
        let csv = self.kept(run).await?;
        blocking(move || verdicts::some_from_csv(&csv, matches, limit)).await
    }
}

/// Compares the verdicts of all runs with what was kept, for `wattlake fsck`; says how many runs there are, and those whose
/// verdicts are others.
pub async fn inspect_verdicts(catalog: &Catalog, data_dir: &Path) -> Result<(usize, Vec<Finding>), VerificationError> {
    let (runs, folder) = (catalog.kept_verdicts().await?, data_dir.join(FOLDER));
    blocking(move || {
        let altered = runs.iter().filter(|(run, sha256)| verdicts::kept(&path_in(&folder, run), Some(sha256)).is_err());
        Ok((runs.len(), altered.map(|(run, _)| Finding::Verdicts { run: run.clone() }).collect()))
    })
    .await
}

/// A place among the runs under way, until it is dropped.
struct Place {
    of: Arc<Verification>,
    id: RunId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

fn path_in(folder: &Path, id: &RunId) -> PathBuf {
    folder.join(format!("{}.csv", id.as_str()))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VerificationError> + Send + 'static,
) -> Result<T, VerificationError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| VerificationError::Stopped)?
}
