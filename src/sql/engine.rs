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
    answer::{Form, milliseconds, shut_in},
    confine::Confinement,
    frames::Frame,
    functions::READS_CLOCK,
    queries::{Queries, Tracked},
    question::{BUILD, FileToRead, Limits, Question},
    running::Running,
    stored::{Budget, Stored, Storing},
    tracked::Watched,
    workers::Workers,
};
use crate::{
    access::{Detail, Scope},
    catalog::UploadFacts,
    config::SqlConfig,
    lake::{LakeError, Snapshot, verify},
    query::{FairQueue, Format, ProjectConnection, ProjectFacts, Turn},
};

/// Runs SQL that people wrote, each query in a process of its own.
#[derive(Debug)]
pub struct SqlEngine {
    lake_root: PathBuf,
    spill: PathBuf,
    results: PathBuf,
    limits: SqlConfig,
    queue: FairQueue,
    background: FairQueue,
    queries: Queries,
    budget: Arc<Budget>,
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
    /// Whether the columns of the answer are all that is wanted.
    pub only_plan: bool,
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
    /// The connections of the scope's own projects, where the SQL names them: see [`SqlEngine::names_connections`].
    pub connections: &'a [ProjectConnection],
    /// Whether the lake is looked at as it was: then one's own projects alone are there, because of others the owner may have taken
    /// back what was there.
    pub is_earlier: bool,
}

impl SqlInputs<'_> {
    /// The projects whose payments are among the rows, or might be.
    fn projects(&self) -> impl Iterator<Item = &ProjectFacts> {
        let is_shown = |slug| self.scope.contains(slug) && (!self.is_earlier || self.scope.owns(slug));
        self.projects.iter().filter(move |project| is_shown(&project.slug))
    }

    /// Of uploads those to the caller's own projects: what another organisation sends, and when, is not shared.
    fn uploads(&self) -> impl Iterator<Item = &UploadFacts> {
        let own = |upload: &&UploadFacts| self.scope.contains(&upload.project) && self.scope.owns(&upload.project);
        self.uploads.iter().filter(own)
    }

    /// Nor are connections, which are customers by name.
    fn connections(&self) -> impl Iterator<Item = &ProjectConnection> {
        let own = |one: &&ProjectConnection| self.scope.contains(&one.project) && self.scope.owns(&one.project);
        self.connections.iter().filter(own)
    }
}

impl SqlEngine {
    /// An engine over the lake's table at `lake_root`. What queries put on disk goes to a folder below `data_dir`.
    #[must_use]
    pub fn new(lake_root: &Path, data_dir: &Path, limits: SqlConfig) -> Self {
        // The processes are in no folder of the server's.
        let tmp = data_dir.canonicalize().unwrap_or_else(|_| data_dir.to_owned()).join("tmp");
        Self {
            lake_root: lake_root.to_owned(),
            spill: tmp.join("sql"),
            results: tmp.join("results"),
            queue: FairQueue::before_sql(&limits),
            background: FairQueue::before_background_sql(&limits),
            queries: Queries::new(limits.background.clone()),
            budget: Budget::new(limits.background.results_bytes),
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

    /// The queries that run, wait, or have ended not long ago.
    #[must_use]
    pub fn queries(&self) -> &Queries {
        &self.queries
    }

    /// Answers a request, which is `query`. Dropping the future, or what it gives, ends the process.
    pub async fn ask(
        &self,
        request: &SqlRequest,
        inputs: SqlInputs<'_>,
        query: &Tracked,
    ) -> Result<SqlAnswer, SqlError> {
        let asked_at = Instant::now();
        let limit = request.timeout.min(self.limits.timeout);
        let (deadline, watched) = (asked_at + limit, query.watched());
        let version = inputs.snapshot.version;
        let asker = &query.query().facts().asker;
        let begun = async {
            let late = |_| SqlError::Deadline(limit);
            let turn = timeout_at(deadline, self.queue.turn(asker)).await.map_err(late)??;
            let running = self.run(request, inputs, &watched, (deadline, limit), self.limits.cpu, turn);
            timeout_at(deadline, running).await.map_err(late)?
        };
        let running = until_cancelled(&watched, begun).await?;
        let form = Form { format: request.format, csv_guard: request.csv_guard };
        let confined = |confinement: &Confinement| self.say_what_is_missing(confinement);
        SqlAnswer::begin(running, watched, form, version, asked_at, confined).await
    }

    /// Answers a request, which is `query`, into a file. Its time begins with its turn. Dropping the future ends the process.
    pub async fn store(
        &self,
        request: &SqlRequest,
        inputs: SqlInputs<'_>,
        query: &Tracked,
    ) -> Result<Stored, SqlError> {
        let watched = query.watched();
        let asker = &query.query().facts().asker;
        let turned = async {
            let turn = self.background.turn(asker).await?;
            let limit = request.timeout.min(self.limits.background.timeout);
            let cpu = self.limits.background.cpu;
            self.run(request, inputs, &watched, (Instant::now() + limit, limit), cpu, turn).await
        };
        let process = until_cancelled(&watched, turned).await?;
        let started = Instant::now();
        let mut running = shut_in(process, |confinement| self.say_what_is_missing(confinement)).await?;
        let unwritten = |_| SqlError::Crashed { how: "its rows could not be written".to_owned() };
        let mut storing = Storing::begin(&self.results, &self.budget)?;
        loop {
            match running.next().await? {
                Frame::Rows(bytes) => {
                    storing = tokio::task::spawn_blocking(move || storing.write(bytes)).await.map_err(unwritten)??;
                    watched.has_rows(storing.rows());
                }
                Frame::Whole(whole) => {
                    running.end().await;
                    return storing.end(whole, milliseconds(started));
                }
                Frame::Failed(failure) => {
                    running.end().await;
                    return Err(SqlError::Failed(failure));
                }
                Frame::Confined(_) | Frame::Progress(_) => {
                    return Err(SqlError::Crashed { how: "it said what it cannot say there".to_owned() });
                }
            }
        }
    }

    /// Puts a request to a process, which holds `turn` until it is dead.
    async fn run(
        &self,
        request: &SqlRequest,
        inputs: SqlInputs<'_>,
        watched: &Watched,
        time: (Instant, Duration),
        cpu: Duration,
        turn: Turn,
    ) -> Result<Running, SqlError> {
        watched.starts();
        let (question, spill) = self.question(request, &inputs, cpu).await?;
        let io = |what| move |source| SqlError::Io { what, source };
        let framed = question.framed().map_err(io("asking a process for SQL"))?;
        let waiting = self.workers.take().map_err(io("starting a process for SQL"))?;
        let held = (turn, spill, Arc::clone(&inputs.snapshot));
        let workers = Arc::clone(&self.workers);
        Ok(Running::ask(waiting, framed, question.limits, time, watched.clone(), held, workers))
    }

    /// The question to a process, and the folder that is its own.
    async fn question(
        &self,
        request: &SqlRequest,
        inputs: &SqlInputs<'_>,
        cpu: Duration,
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
            only_plan: request.only_plan,
            lake_root: self.lake_root.clone(),
            files,
            projects: inputs.projects().map(Into::into).collect(),
            uploads: inputs.uploads().map(Into::into).collect(),
            connections: inputs.connections().map(Into::into).collect(),
            spill_folder: spill.path().to_owned(),
            limits: Limits {
                memory_bytes: self.limits.worker_memory_bytes,
                cpu_s: cpu.as_secs(),
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
            inputs.connections().map(|one| json!([one.project, one.connection.content()])).collect::<Vec<_>>(),
        ]);
        hex::encode(&Sha256::digest(all.to_string())[..16])
    }

    /// Whether connections are so much as named, which are many to hand to a process that does not ask for them.
    #[must_use]
    pub fn names_connections(&self, sql: &str) -> bool {
        sql.to_ascii_lowercase().contains("connections")
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

/// What work comes to, unless it is cancelled before.
async fn until_cancelled<T>(watched: &Watched, work: impl Future<Output = Result<T, SqlError>>) -> Result<T, SqlError> {
    tokio::select! {
        () = watched.cancelled() => Err(SqlError::Cancelled),
        done = work => done,
    }
}
