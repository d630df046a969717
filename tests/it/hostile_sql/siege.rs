//! A server under hostile SQL, and what is watched meanwhile: each answer, the memory of the server and of its processes, and
//! whether a neighbour is answered.

use std::{
    fmt::Write,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{
    canary::world::{Canary, GIVER, RECIPIENT, World, canaries, may_see, place},
    harness::Admin,
    sql::{children_of, comes_true},
};

/// Of one process for SQL, as the server's setting has it.
const WORKER_MEMORY_MIB: u64 = 512;
/// What the server may take more than before, whatever is asked: it holds pieces of answers, and their forms.
const SERVER_GROWTH_MIB: u64 = 192;
/// After its deadline an answer has ended.
const LATE: Duration = Duration::from_secs(1);
/// Between two questions of the neighbour, and the most that it waits for an answer.
const NEIGHBOUR_PAUSE: Duration = Duration::from_millis(100);
const NEIGHBOUR_MOST: Duration = Duration::from_secs(10);
/// Of an answer, what is kept to be looked through for names beside canaries.
const KEPT: usize = 1 << 20;

pub struct Question<'a> {
    pub sql: &'a str,
    pub params: Value,
    pub timeout_s: u64,
}

/// An answer, read to its end.
pub struct Heard {
    pub status: u16,
    /// Of the problem; empty where there is none.
    pub code: String,
    /// Whether it came to its own end.
    pub is_whole: bool,
    took: Duration,
    /// After its deadline and what is let pass.
    is_late: bool,
    /// What it told that it was not to tell.
    wrong: Vec<String>,
    detail: String,
}

impl Heard {
    /// In few words.
    pub fn told(&self) -> String {
        let Self { status, code, is_whole, took, is_late: _, detail, wrong } = self;
        let whole = if *is_whole { "" } else { ", broken off" };
        format!("{status} {code}{whole} in {took:.1?} ({detail}) {}", wrong.join("; "))
    }
}

pub struct Siege {
    // Before the server, whose end others are not to see.
    over: Over,
    world: World,
    client: reqwest::Client,
    folder: tempfile::TempDir,
    began_with_kib: u64,
    slowest: AtomicU64,
    neighbour: JoinHandle<Vec<Duration>>,
    watch: JoinHandle<u64>,
}

/// Tells those beside the siege that it is over, however it ends.
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Siege {
    pub async fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let memory = format!("{WORKER_MEMORY_MIB}MiB");
        let limits = [
            ("--sql-concurrency", "8"),
            ("--sql-organisation-concurrency", "8"),
            ("--sql-worker-memory-bytes", &memory),
            ("--sql-spill-bytes", "64MiB"),
        ];
        let arguments: Vec<&str> = limits.into_iter().flat_map(|(name, value)| [name, value]).collect();
        let world = World::with(folder.path(), &folder.path().join("log"), &arguments).await;
        let over = Over(Arc::new(AtomicBool::new(false)));
        let viewer = world.askers.iter().find(|asker| (asker.owner, asker.role) == (GIVER, "viewer")).unwrap();
        let neighbour = neighbour(world.process.address.clone(), viewer.secret.clone(), Arc::clone(&over.0));
        let (server, ended) = (world.process.id(), Arc::clone(&over.0));
        let watch = tokio::task::spawn_blocking(move || most_of_a_worker(server, &ended));
        let began_with_kib = world.process.peak_memory_kib();
        let (client, slowest) = (reqwest::Client::new(), AtomicU64::new(0));
        Self { over, world, client, folder, began_with_kib, slowest, neighbour: tokio::spawn(neighbour), watch }
    }

    /// The answers to all questions, in their order.
    ///
    /// # Panics
    /// Where one of them tells of others, of files or of settings, or is late.
    pub async fn ask_all(&self, questions: impl Iterator<Item = Question<'_>>, at_once: usize) -> Vec<Heard> {
        let questions: Vec<Question<'_>> = questions.collect();
        let heard = stream::iter(&questions).map(|question| self.ask(question)).buffered(at_once);
        let mut heard: Vec<Heard> = heard.collect().await;
        // Who was late because the machine had other work is not so when asked again, alone.
        for (question, heard) in questions.iter().zip(&mut heard).filter(|(_, heard)| heard.is_late) {
            let again = self.ask(question).await;
            let late = again.is_late.then(|| "it is late".to_owned());
            let told = std::mem::replace(heard, again).wrong;
            heard.wrong.extend(told.into_iter().chain(late));
        }
        let of = |(question, heard): (&Question<'_>, &Heard)| {
            let sql: String = question.sql.chars().take(2000).collect();
            (!heard.wrong.is_empty()).then(|| format!("{}: {sql:?}", heard.told()))
        };
        let wrong: Vec<String> = questions.iter().zip(&heard).filter_map(of).collect();
        assert!(wrong.is_empty(), "{} answers are wrong:\n{}", wrong.len(), wrong.join("\n"));
        heard
    }

    async fn ask(&self, question: &Question<'_>) -> Heard {
        let analyst =
            self.world.askers.iter().find(|asker| (asker.owner, asker.role) == (RECIPIENT, "analyst")).unwrap();
        let body = json!({"sql": question.sql, "params": question.params, "timeout_s": question.timeout_s});
        let began = Instant::now();
        let request = self.client.post(format!("{}/v1/sql", self.world.process.address)).bearer_auth(&analyst.secret);
        let mut answer = request.json(&body).send().await.unwrap();
        let status = answer.status().as_u16();
        let mut wrong = Vec::new();
        let (mut kept, mut last) = (format!("{:?}\n", answer.headers()).into_bytes(), Vec::new());
        let is_whole = loop {
            match answer.chunk().await {
                Ok(Some(piece)) => {
                    kept.extend_from_slice(&piece[..piece.len().min(KEPT.saturating_sub(kept.len()))]);
                    // What stands across two pieces is found with the end of the one before.
                    last.extend_from_slice(&piece);
                    let text = last.to_ascii_lowercase();
                    wrong
                        .extend(canaries(&text).filter(|canary| !may_see(RECIPIENT, canary)).map(|c| format!("{c:?}")));
                    last.drain(..last.len().saturating_sub(100));
                }
                end => break end.is_ok(),
            }
        };
        let took = began.elapsed();
        self.slowest.fetch_max(u64::try_from(took.as_millis()).unwrap(), Ordering::Relaxed);
        let is_late = took > Duration::from_secs(question.timeout_s) + LATE;
        let text = String::from_utf8_lossy(&kept);
        self.look_for_names(&text.to_lowercase(), &question.sql.to_lowercase(), &mut wrong);
        let body = text.split_once('\n').map_or("", |(_, body)| body);
        let read: Result<Value, _> = serde_json::from_str(body);
        if is_whole && kept.len() < KEPT && read.is_err() {
            wrong.push(format!("it is no JSON: {}", body.chars().take(300).collect::<String>()));
        }
        let problem = if status == 200 { Value::Null } else { read.unwrap_or_default() };
        let code = problem["type"].as_str().and_then(|code| code.strip_prefix("/problems/")).unwrap_or_default();
        let detail = problem["detail"].as_str().unwrap_or_default().to_owned();
        Heard { status, code: code.to_owned(), is_whole, took, is_late, wrong, detail }
    }

    /// Names of others, paths and settings, unless the SQL said them itself.
    fn look_for_names(&self, text: &str, words: &str, wrong: &mut Vec<String>) {
        let own = |given: &&crate::canary::world::Given| given.owner == RECIPIENT || given.also.contains(&RECIPIENT);
        let of_others = self.world.given.iter().filter(|given| !own(given)).map(|given| given.text.to_lowercase());
        let folder = self.folder.path().to_str().unwrap().to_lowercase();
        let program = env!("CARGO_BIN_EXE_wattlake").to_lowercase();
        let inside = [
            "/proc/",
            "/tmp/",
            "_delta_log",
            "project_id=",
            ".parquet",
            "wattlake://",
            "catalog.sqlite",
            "datafusion.",
            "target_partitions",
            "batch_size",
            "panicked",
            "backtrace",
            ".rs:",
        ];
        let hidden = of_others.chain([folder, program]).chain(inside.map(str::to_owned));
        wrong.extend(hidden.filter(|name| text.contains(name.as_str()) && !words.contains(name.as_str())));
    }

    /// What was seen of all of it, once it is over.
    ///
    /// # Panics
    /// Where the server or a neighbour was harmed by it.
    pub async fn end(self) -> String {
        let admin = self.world.askers.iter().find(|asker| (asker.owner, asker.role) == (RECIPIENT, "manager")).unwrap();
        let admin = Admin::new(&self.world.process.address, &admin.secret);
        let metric = admin.get("/v1/metrics/revenue_per_site").await;
        assert!(metric.status == 200 && metric.body["rows"].as_array().is_some_and(|rows| !rows.is_empty()));
        // None waits for a question, so that each that is there is one too many.
        let server = self.world.process.id();
        assert!(comes_true(2, || children_of(server).is_empty()).await, "a process for SQL is left");
        self.over.0.store(true, Ordering::Relaxed);
        let mut waits = self.neighbour.await.unwrap();
        waits.sort_unstable();
        let worker_mib = self.watch.await.unwrap() >> 10;
        assert!(worker_mib <= WORKER_MEMORY_MIB, "a process for SQL took {worker_mib} MiB");
        let grown_mib = self.world.process.peak_memory_kib().saturating_sub(self.began_with_kib) >> 10;
        assert!(grown_mib <= SERVER_GROWTH_MIB, "the server took {grown_mib} MiB more");
        let log = fs::read_to_string(self.folder.path().join("log")).unwrap();
        let is_record = |canary: &Canary| [place::ORGANISATION, place::RECORD].contains(&canary.place);
        let in_log = canaries(log.to_lowercase().as_bytes()).find(|canary| !is_record(canary));
        assert!(in_log.is_none(), "the log has {in_log:?}");
        let mut told = format!("slowest answer {} ms; ", self.slowest.load(Ordering::Relaxed));
        write!(told, "server {grown_mib} MiB more than before, a process for SQL {worker_mib} MiB at most; ").unwrap();
        let (count, p99) = (waits.len(), waits[waits.len() - 1 - waits.len() / 100]);
        write!(told, "neighbour: {count} answers, p50 {:.0?}, p99 {p99:.0?}", waits[count / 2]).unwrap();
        told
    }
}

/// Asks for a metric again and again, and is answered each time.
async fn neighbour(address: String, key: String, over: Arc<AtomicBool>) -> Vec<Duration> {
    let (mut waits, holder) = (Vec::new(), Admin::new(&address, &key));
    while waits.is_empty() || !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        let answer = holder.get("/v1/metrics/revenue_per_site").await;
        assert_eq!(answer.status, 200, "the neighbour: {}", answer.text);
        waits.push(began.elapsed());
        assert!(began.elapsed() < NEIGHBOUR_MOST, "the neighbour waited {:?}", began.elapsed());
        tokio::time::sleep(NEIGHBOUR_PAUSE).await;
    }
    waits
}

/// The most memory of its own that a process for SQL was seen with, in KiB, beside what it shares with the program's file.
fn most_of_a_worker(server: u32, over: &AtomicBool) -> u64 {
    let mut most = 0;
    while !over.load(Ordering::Relaxed) {
        for worker in children_of(server) {
            let status = fs::read_to_string(format!("/proc/{worker}/status")).unwrap_or_default();
            let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
            let kib = anonymous.and_then(|text| text.split_whitespace().next()?.parse().ok());
            most = most.max(kib.unwrap_or_default());
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    most
}
