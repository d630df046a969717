//! What SQL costs: a process of its own beside the same query in this process; the first byte and the last of a million rows in
//! each form; as many clients as 1, 8 and 32; and a metric of a neighbour beside SQL without a pause.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use serde_json::json;
use tokio::{
    runtime::Runtime,
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use wattlake::{
    access::{Principal, Role, Scope},
    catalog::{KeyTerms, Project, UploadFacts},
    lake::{masking::Masking, scan::ScanFile},
    query::{Ending, Format, ProjectFacts, SqlSession, Streamed, written_rows, written_schema},
    sql::{Parameters, SqlInputs, SqlRequest, functions, queries::QueryFacts},
};

use crate::{
    set,
    turns::{is_named, median, only_tries, say},
};

/// Of each side.
const ROUNDS: usize = 100;
/// Beside which the overhead of the process is small, and beside which it is all there is.
const QUERIES: [(&str, &str); 4] = [
    ("nothing", "SELECT 1"),
    ("a_meter", "SELECT paid_at, amount FROM payments WHERE meter_id = '01001000001' ORDER BY paid_at"),
    ("a_month", "SELECT site, sum(amount) FROM payments WHERE month = '2024-05' AND project_id = 'p01' GROUP BY site"),
    (
        "all",
        "SELECT site, currency, sum(amount), count(*) FROM payments WHERE settlement = 'settled' GROUP BY site, currency",
    ),
];
const ROWS: &str =
    "SELECT payment_id, paid_at, project_id, site, meter_id, customer_id, customer_name, amount, status FROM payments";
const MILLION: usize = 1_000_000;
const FORMS: [&str; 5] = ["json", "ndjson", "csv", "arrow", "parquet"];
const CLIENTS: [usize; 3] = [1, 8, 32];
/// What is asked beside a neighbour: something that takes processors, and something that takes the line.
const NEIGHBOURS: [(&str, &str); 2] = [("sql/neighbour/aggregates", QUERIES[3].1), ("sql/neighbour/rows", ROWS)];

fn rounds(most: usize) -> usize {
    if only_tries() { 1 } else { most }
}

/// A lake that is served, with the set in it, and whoever asks it for SQL and for metrics.
struct Served {
    lake: set::Lake,
    address: String,
    analyst: String,
    viewer: String,
    serving: JoinHandle<()>,
}

impl Served {
    async fn new() -> Self {
        let (mut lake, server) = set::Lake::served(|config| {
            config.sql.worker_program = Some(env!("CARGO_BIN_EXE_wattlake").into());
            config.sql.queue = 1000;
            config.sql.organisation_queue = 1000;
            (config.http.key_requests_per_s, config.http.organisation_requests_per_s) = (0, 0);
        })
        .await;
        let files = set::files();
        // The first is the neighbour's.
        let viewer = lake.add_tenant().await;
        lake.upload(0, std::fs::read(&files[0]).unwrap().into()).await;
        let catalog = lake.state.catalog.clone();
        let other: wattlake::ids::OrganisationSlug = "other".parse().unwrap();
        catalog.create_organisation(other.clone(), "Other".to_owned()).await.unwrap();
        for (number, file) in files.iter().enumerate().skip(1).take(if only_tries() { 1 } else { files.len() }) {
            lake.add_project_of(other.clone()).await;
            lake.upload(number, std::fs::read(file).unwrap().into()).await;
        }
        let terms = KeyTerms { role: Role::Analyst, organisation: Some(other), ..KeyTerms::of_admin("bench") };
        let analyst = catalog.create_key(terms).await.unwrap().secret;
        lake.state.sql.start_ahead();
        let address = server.address.clone();
        let serving = tokio::spawn(server.run_until(std::future::pending()));
        Self { lake, address, analyst, viewer, serving }
    }

    /// First byte, last byte and how many bytes, of SQL by HTTP.
    async fn ask(&self, client: &reqwest::Client, sql: &str, format: &str) -> (Duration, Duration, usize) {
        let began = Instant::now();
        let request = client.post(format!("{}/v1/sql", self.address)).bearer_auth(&self.analyst);
        let mut answer = request.json(&json!({"sql": sql, "format": format})).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        let (mut first, mut bytes) = (None, 0);
        while let Some(piece) = answer.chunk().await.unwrap() {
            first.get_or_insert_with(|| began.elapsed());
            bytes += piece.len();
        }
        (first.unwrap(), began.elapsed(), bytes)
    }

    async fn metric(&self, client: &reqwest::Client) -> Duration {
        let url = format!("{}/v1/metrics/revenue_per_site?from=2024-01&to=2026-01", self.address);
        let began = Instant::now();
        let answer = client.get(url).bearer_auth(&self.viewer).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200);
        answer.bytes().await.unwrap();
        began.elapsed()
    }
}

/// What a question is answered from: everything that is there.
struct Everything {
    projects: Vec<ProjectFacts>,
    uploads: Vec<UploadFacts>,
    scope: Scope,
    principal: Principal,
}

impl Everything {
    async fn of(lake: &set::Lake) -> Self {
        let projects: Vec<ProjectFacts> = lake.projects.iter().map(ProjectFacts::from).collect();
        let slugs = lake.projects.iter().map(|project| project.slug.clone()).collect();
        let uploads = lake.state.catalog.upload_facts(&slugs).await.unwrap();
        let principal = Principal::admin("bench");
        let scope = Scope::of(&principal, lake.projects.iter().map(Project::owner));
        Self { projects, uploads, scope, principal }
    }

    /// By a process of its own, up to the last byte.
    async fn in_a_process(&self, lake: &set::Lake, sql: &str) -> usize {
        let limits = lake.state.sql.limits();
        let request = SqlRequest {
            sql: sql.to_owned(),
            parameters: Parameters::default(),
            format: Format::Json,
            csv_guard: false,
            max_rows: limits.max_rows,
            timeout: limits.timeout,
            only_plan: false,
        };
        let (projects, uploads) = (&self.projects[..], &self.uploads[..]);
        let inputs = SqlInputs {
            snapshot: lake.state.lake.snapshot(),
            scope: &self.scope,
            projects,
            uploads,
            connections: &[],
            is_earlier: false,
        };
        let facts = QueryFacts {
            sql: sql.to_owned(),
            parameters: json!([]),
            saved: None,
            asker: self.principal.clone(),
            lake_version: inputs.snapshot.version,
            later: None,
        };
        let query = lake.state.sql.queries().begin(facts).unwrap();
        let mut answer = lake.state.sql.ask(&request, inputs, &query).await.unwrap();
        let mut bytes = 0;
        while let Some(piece) = answer.next().await.unwrap() {
            bytes += piece.len();
        }
        bytes
    }

    /// In this process, by the same session.
    async fn in_this_process(&self, lake: &set::Lake, sql: &str) -> usize {
        let (snapshot, limits) = (lake.state.lake.snapshot(), lake.state.sql.limits());
        let zone = self.projects[0].time_zone;
        let files = snapshot.partitions.values().flatten();
        let files = files.map(|file| ScanFile {
            file: Arc::clone(file),
            time_zone: zone,
            within: None,
            masking: Masking::None,
        });
        let spill = tempfile::tempdir().unwrap();
        let session = SqlSession {
            lake_root: lake.state.lake.root().to_owned(),
            files: files.collect(),
            projects: self.projects.clone(),
            uploads: self.uploads.clone(),
            connections: Vec::new(),
            memory_bytes: 512 << 20,
            spill_bytes: 1 << 30,
            spill_folder: spill.path().to_owned(),
            target_partitions: limits.target_partitions,
        };
        let context = session.open(functions::all(&limits.limits)).unwrap();
        let frame = context.sql(sql).await.unwrap();
        let plan = frame.create_physical_plan().await.unwrap();
        let schema = written_schema(&plan.schema());
        let mut rows = execute_stream(plan, context.task_ctx()).unwrap();
        let (mut streamed, head) = Streamed::begin(Format::Json, &schema, false).unwrap();
        let mut bytes = head.len();
        while let Some(batch) = rows.next().await {
            bytes += streamed.rows(&written_rows(&batch.unwrap(), &schema).unwrap()).unwrap().len();
        }
        let ending = Ending { lake_version: snapshot.version, truncated: false, statistics: json!({}) };
        bytes + streamed.end(&ending).unwrap().len()
    }
}

#[expect(clippy::print_stdout, reason = "it is what this program is for")]
async fn overhead(served: &Served) {
    let everything = Everything::of(&served.lake).await;
    for (name, sql) in QUERIES {
        let label = format!("sql/overhead/{name}");
        if !is_named(&label) {
            continue;
        }
        let (mut apart, mut here) = (Vec::new(), Vec::new());
        for _ in 0..rounds(ROUNDS) {
            let began = Instant::now();
            assert!(everything.in_a_process(&served.lake, sql).await > 0);
            apart.push(began.elapsed());
            let began = Instant::now();
            assert!(everything.in_this_process(&served.lake, sql).await > 0);
            here.push(began.elapsed());
            // So that the process that takes the place of this one is there, as it is where nobody asks without a pause.
            sleep(Duration::from_millis(50)).await;
        }
        let (apart, here) = (median(&mut apart), median(&mut here));
        say(&label, ("a process of its own", apart), ("in this one", here));
        println!("{:<44} {:.1} ms more", "", (apart.as_secs_f64() - here.as_secs_f64()) * 1e3);
    }
}

#[expect(clippy::print_stdout, reason = "it is what this program is for")]
async fn forms(served: &Served) {
    let client = reqwest::Client::new();
    for format in FORMS {
        let label = format!("sql/rows/{format}");
        if !is_named(&label) {
            continue;
        }
        let sql = format!("{ROWS} LIMIT {MILLION}");
        let (mut first, mut last, mut bytes) = (Vec::new(), Vec::new(), 0);
        for _ in 0..rounds(5) {
            let (begun, ended, size) = served.ask(&client, &sql, format).await;
            first.push(begun);
            last.push(ended);
            bytes = size;
        }
        let (first, last) = (median(&mut first), median(&mut last));
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = bytes as f64 / last.as_secs_f64() / f64::from(1 << 20);
        println!("{label:<44} first byte {first:.0?}, last {last:.0?}, {bytes} bytes, {rate:.0} MiB/s");
    }
}

#[expect(clippy::print_stdout, reason = "it is what this program is for")]
async fn clients(served: &Arc<Served>) {
    for count in CLIENTS {
        let label = format!("sql/clients/{count}");
        if !is_named(&label) {
            continue;
        }
        let (mut asking, began, each) = (JoinSet::new(), Instant::now(), rounds(200 / count + 5));
        for _ in 0..count {
            let served = Arc::clone(served);
            asking.spawn(async move {
                let (client, mut times) = (reqwest::Client::new(), Vec::new());
                for _ in 0..each {
                    times.push(served.ask(&client, QUERIES[2].1, "json").await.1);
                }
                times
            });
        }
        let mut times = asking.join_all().await.concat();
        let took = began.elapsed().as_secs_f64();
        let (p50, count) = (median(&mut times), times.len());
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = count as f64 / took;
        let p99 = times[count - 1 - count / 100];
        println!("{label:<44} {rate:.1} answers a second, p50 {p50:.0?}, p99 {p99:.0?}");
    }
}

/// A neighbour's p99 of a metric beside eight clients that ask for SQL without a pause, over its p99 beside nobody.
async fn neighbour(served: &Arc<Served>) {
    for (name, sql) in NEIGHBOURS {
        if !is_named(name) {
            continue;
        }
        let client = reqwest::Client::new();
        let calmly = async |times: &mut Vec<Duration>| {
            for _ in 0..rounds(100) {
                sleep(Duration::from_millis(30)).await;
                times.push(served.metric(&client).await);
            }
        };
        let (mut idle, mut beside) = (Vec::new(), Vec::new());
        calmly(&mut Vec::new()).await;
        for _ in 0..rounds(5) {
            calmly(&mut idle).await;
            let mut load = JoinSet::new();
            for _ in 0..8 {
                let served = Arc::clone(served);
                load.spawn(async move {
                    let client = reqwest::Client::new();
                    loop {
                        served.ask(&client, sql, "arrow").await;
                    }
                });
            }
            sleep(Duration::from_millis(500)).await;
            calmly(&mut beside).await;
            load.shutdown().await;
            sleep(Duration::from_secs(1)).await;
        }
        for (what, part) in [("p50", 2), ("p99", 100)] {
            let at = |times: &mut Vec<Duration>| {
                times.sort_unstable();
                times[times.len() - 1 - times.len() / part]
            };
            say(&format!("{name}/{what}"), ("beside SQL", at(&mut beside)), ("idle", at(&mut idle)));
        }
    }
}

fn sql(_: &mut Criterion) {
    let overhead_of = QUERIES.iter().map(|(name, _)| format!("sql/overhead/{name}"));
    let forms_of = FORMS.iter().map(|form| format!("sql/rows/{form}"));
    let clients_of = CLIENTS.iter().map(|count| format!("sql/clients/{count}"));
    let neighbours = NEIGHBOURS.iter().map(|(name, _)| (*name).to_owned());
    if !overhead_of.chain(forms_of).chain(clients_of).chain(neighbours).any(|name| is_named(&name)) {
        return;
    }
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let served = Arc::new(Served::new().await);
        overhead(&served).await;
        forms(&served).await;
        clients(&served).await;
        neighbour(&served).await;
        served.serving.abort();
    });
}

criterion_group!(benches, sql);
