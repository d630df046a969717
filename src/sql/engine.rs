//! Who may run SQL now, over which files, and for how long.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Once},
    time::Duration,
};

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use super::{
    Parameters, SqlAnswer, SqlError,
    answer::Form,
    confine::Confinement,
    functions::READS_CLOCK,
    question::{BUILD, FileToRead, Limits, Question},
    running::Running,
    workers::Workers,
};
use crate::{
    access::{Detail, Principal, Scope},
    catalog::UploadFacts,
    config::SqlConfig,
    lake::{LakeError, Snapshot, verify},
    query::{FairQueue, Format, ProjectFacts},
};

/// Runs SQL that people wrote, each query in a process of its own.
#[derive(Debug)]
pub struct SqlEngine {
    lake_root: PathBuf,
    spill: PathBuf,
    limits: SqlConfig,
    queue: FairQueue,
    workers: Arc<Workers>,
    /// That the kernel does not shut processes in is said once.
    said: Once,
}

/// SQL as a caller asks it.
#[derive(Clone, Debug)]
pub struct SqlRequest {
    pub sql: String,
    pub parameters: Parameters,
    pub format: Format,
    /// Whether texts in CSV are no formulas to a spreadsheet.
    pub csv_guard: bool,
    /// At most the server's own limit.
    pub max_rows: usize,
    pub timeout: Duration,
}

/// What it is answered from.
#[derive(Clone, Debug)]
pub struct SqlInputs<'a> {
    pub snapshot: Arc<Snapshot>,
    pub scope: &'a Scope,
    /// At least the projects of the scope.
    pub projects: &'a [ProjectFacts],
    /// At least the uploads of the scope's own projects.
    pub uploads: &'a [UploadFacts],
}

impl SqlInputs<'_> {
    /// The projects whose payments are among the rows, or might be.
    fn projects(&self) -> impl Iterator<Item = &ProjectFacts> {
        self.projects.iter().filter(|project| self.scope.contains(&project.slug))
    }

    /// Of uploads those to the caller's own projects: what another organisation sends, and when, is not shared.
    fn uploads(&self) -> impl Iterator<Item = &UploadFacts> {
        let own = |upload: &&UploadFacts| self.scope.contains(&upload.project) && self.scope.owns(&upload.project);
        self.uploads.iter().filter(own)
    }
}

impl SqlEngine {
    /// An engine over the lake's table at `lake_root`. What queries put on disk goes to a folder below `data_dir`.
    #[must_use]
    pub fn new(lake_root: &Path, data_dir: &Path, limits: SqlConfig) -> Self {
        Self {
            lake_root: lake_root.to_owned(),
            // The processes are in no folder of the server's.
            spill: data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned()).join("tmp/sql"),
            queue: FairQueue::before_sql(&limits),
            workers: Arc::new(Workers::new(limits.worker_program.clone(), limits.workers)),
            limits,
            said: Once::new(),
        }
    }

    /// Starts processes ahead of any query.
    pub fn start_ahead(&self) {
        self.workers.start_ahead();
    }

    #[must_use]
    pub fn limits(&self) -> &SqlConfig {
        &self.limits
    }

    /// Answers a request of `asker`. Dropping the future, or what it gives, ends the process.
    pub async fn ask(
        &self,
        asker: &Principal,
        request: &SqlRequest,
        inputs: SqlInputs<'_>,
    ) -> Result<SqlAnswer, SqlError> {
        let asked_at = Instant::now();
        let limit = request.timeout.min(self.limits.timeout);
        let deadline = asked_at + limit;
        let late = |_| SqlError::Deadline(limit);
        let turn = timeout_at(deadline, self.queue.turn(asker)).await.map_err(late)??;
        let question = timeout_at(deadline, self.question(request, &inputs)).await.map_err(late)??;
        let io = |what| move |source| SqlError::Io { what, source };
        let framed = question.0.framed().map_err(io("asking a process for SQL"))?;
        let (limits, spill) = (question.0.limits, question.1);
        let waiting = self.workers.take().map_err(io("starting a process for SQL"))?;
        let held = (turn, spill, Arc::clone(&inputs.snapshot));
        let running = Running::ask(waiting, framed, limits, (deadline, limit), held);
        let form = Form { format: request.format, csv_guard: request.csv_guard };
        let confined = |confinement: &Confinement| self.say_what_is_missing(confinement);
        SqlAnswer::begin(running, form, inputs.snapshot.version, asked_at, confined).await
    }

    /// The question to a process, and the folder that is its own.
    async fn question(
        &self,
        request: &SqlRequest,
        inputs: &SqlInputs<'_>,
    ) -> Result<(Question, tempfile::TempDir), SqlError> {
        let zones: HashMap<_, _> = inputs.projects().map(|project| (&project.slug, project.time_zone)).collect();
        let (mut files, mut unseen) = (Vec::new(), Vec::new());
        for ((project, month), partition) in &inputs.snapshot.partitions {
            let (Some(zone), Some(sight)) = (zones.get(project), inputs.scope.sight(project, *month)) else {
                continue;
            };
            let mask_key = match (sight.detail, sight.mask_key) {
                (Detail::Full, _) => None,
                (Detail::Masked, Some(key)) => Some(key),
                // What is shared as aggregates has no rows to show.
                (Detail::Masked | Detail::Aggregate, _) => continue,
            };
            files.extend(partition.iter().map(|file| FileToRead::of(file, *zone, mask_key)));
            unseen.extend(partition.iter().map(Arc::clone));
        }
        let (root, folder) = (self.lake_root.clone(), self.spill.clone());
        let prepared = tokio::task::spawn_blocking(move || {
            verify(&root, &unseen)?;
            let made = std::fs::create_dir_all(&folder).and_then(|()| tempfile::tempdir_in(&folder));
            made.map_err(|source| SqlError::Io { what: "making a folder for a query", source })
        });
        let spill = prepared.await.unwrap_or(Err(SqlError::Lake(LakeError::Stopped)))?;
        let question = Question {
            build: BUILD.to_owned(),
            sql: request.sql.clone(),
            parameters: request.parameters.clone(),
            lake_root: self.lake_root.clone(),
            files,
            projects: inputs.projects().map(Into::into).collect(),
            uploads: inputs.uploads().map(Into::into).collect(),
            spill_folder: spill.path().to_owned(),
            limits: Limits {
                memory_bytes: self.limits.worker_memory_bytes,
                cpu_s: self.limits.cpu.as_secs(),
                spill_bytes: self.limits.spill_bytes,
                target_partitions: self.limits.target_partitions,
                max_rows: request.max_rows.min(self.limits.max_rows),
                max_bytes: self.limits.max_answer_bytes,
                statement: self.limits.limits.clone(),
            },
        };
        Ok((question, spill))
    }

    /// A validator of the answer, without the quotes: from the lake's version, the scope, what is known of its projects and
    /// uploads, and all of the request that counts. It is a weak one: the rows are the same, and their order only where the
    /// SQL says so. Nothing is run.
    #[must_use]
    pub fn etag(&self, request: &SqlRequest, inputs: &SqlInputs<'_>) -> String {
        let projects = inputs.projects().map(|project| {
            let facts = [&project.name, &project.kind, &project.currency, &project.country];
            json!([project.slug, facts, project.time_zone.name(), inputs.scope.shown(&project.slug)])
        });
        let mut uploads: Vec<&UploadFacts> = inputs.uploads().collect();
        uploads.sort_by(|a, b| (&a.project, &a.id).cmp(&(&b.project, &b.id)));
        let uploads = uploads
            .into_iter()
            .map(|upload| json!([upload.project, upload.id, upload.dataset_name, upload.committed_at]));
        let all = json!([
            BUILD,
            inputs.snapshot.version,
            request.sql,
            request.parameters,
            request.max_rows.min(self.limits.max_rows),
            self.limits.max_answer_bytes,
            request.format.name(),
            request.csv_guard,
            projects.collect::<Vec<_>>(),
            uploads.collect::<Vec<_>>(),
        ]);
        hex::encode(&Sha256::digest(all.to_string())[..16])
    }

    /// Whether the answer may be another at another time: whether a function that reads the clock is so much as named. The
    /// server does not parse what a person wrote to find out.
    #[must_use]
    pub fn may_read_clock(&self, request: &SqlRequest) -> bool {
        let text = request.sql.to_ascii_lowercase();
        READS_CLOCK.iter().any(|name| text.contains(name))
    }

    fn say_what_is_missing(&self, confinement: &Confinement) {
        let missing = confinement.missing();
        if !missing.is_empty() {
            self.said.call_once(|| {
                tracing::warn!(
                    missing = missing.join(", "),
                    "this kernel does not shut processes for SQL in as it could; they still get the files of their scope alone, \
                     and limits on memory and time"
                );
            });
        }
    }
}
