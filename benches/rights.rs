//! What rights cost: to authorise a request, and a scope of one project among few and among many; and what a neighbour costs who
//! floods the server. The last two are ratios of two sides that are measured in turns, and printed as such.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chrono::Utc;
use criterion::{Criterion, criterion_group};
use tokio::{runtime::Runtime, task::JoinSet, time::sleep};
use wattlake::{
    access::{Detail, MonthRange},
    catalog::{NewShare, UploadFacts},
    ids::ProjectSlug,
    query::{Format, Inputs, Metric, MetricRequest, ParameterLimits, ProjectFacts},
};

use crate::{
    set,
    turns::{is_asked_for, median, say},
};

const FEW: usize = 10;
const MANY: usize = 1000;
/// Of each side.
const ROUNDS: usize = 500;
const METRICS: [&str; 3] = ["revenue_per_site", "completeness", "payments_per_customer"];

/// A lake with as many projects, each of an organisation of its own, and the key of the first one's viewer.
struct Tenants {
    lake: set::Lake,
    key: String,
    first: ProjectSlug,
}

impl Tenants {
    async fn new(projects: usize) -> Self {
        let (mut lake, _) = set::Lake::served(|_| {}).await;
        let key = lake.add_tenant().await;
        lake.upload(0, half_a_year(0)).await;
        for number in 1..projects {
            lake.add_tenant().await;
            lake.upload(number, half_a_year(number)).await;
        }
        let first = lake.projects[0].slug.clone();
        Self { lake, key, first }
    }

    /// A question about the one project that is seen, from the key to the bytes of the answer.
    async fn ask(&self, metric: &Arc<Metric>) -> usize {
        let state = &self.lake.state;
        let principal = state.catalog.verify_key(&self.key).await.unwrap().principal().unwrap();
        let request = MetricRequest::parse(metric, &[], &ParameterLimits::default()).unwrap();
        let scope = state.catalog.scope(&principal, &request.projects).await.unwrap().unwrap();
        let projects: Vec<ProjectFacts> =
            state.catalog.projects_in(&scope).await.unwrap().iter().map(ProjectFacts::from).collect();
        let uploads: Vec<UploadFacts> = if metric.reads_uploads() {
            state.catalog.upload_facts(&scope.projects().cloned().collect()).await.unwrap()
        } else {
            Vec::new()
        };
        let snapshot = state.lake.snapshot();
        let inputs = Inputs {
            snapshot,
            scope: &scope,
            projects: &projects,
            uploads: &uploads,
            connections: &BTreeMap::new(),
            now: Utc::now(),
            is_earlier: false,
        };
        state.engine.etag(metric, &request, &inputs, Format::Json).unwrap();
        state.engine.answer(&principal, metric, &request, inputs, Format::Json).await.unwrap().bytes.len()
    }
}

/// A small file of a project: 30 payments in each of 6 months.
fn half_a_year(project: usize) -> Bytes {
    let mut file = "TIMESTAMP,ID,METER_ID,CUSTOMER_ID,CUSTOMER NAME,PAYMENT_AMOUNT\n".to_owned();
    for month in 1..=6 {
        for number in 0..30 {
            let day = 1 + number % 28;
            let row = format!(
                "2024-{month:02}-{day:02}T10:00:00,P{project}-{month}-{number},M{number},C{number},N,{number}\n"
            );
            file.push_str(&row);
        }
    }
    file.into()
}

/// A scope of one project costs the same among a thousand as among ten.
fn scope_among(runtime: &Runtime, few: &Tenants, many: &Tenants) {
    for name in METRICS {
        for known in [false, true] {
            let label = format!("rights/one_among_{MANY}/{name}/{}", if known { "known" } else { "read" });
            if !is_asked_for(&label) {
                continue;
            }
            let mut times = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                for (side, times) in [few, many].into_iter().zip(&mut times) {
                    let metric = side.lake.state.metrics.get(name).unwrap();
                    if !known {
                        side.lake.state.engine.forget();
                    }
                    let began = Instant::now();
                    assert!(runtime.block_on(side.ask(metric)) > 0);
                    times.push(began.elapsed());
                }
            }
            let [few, many] = times.each_mut().map(|times| median(times));
            say(&label, ("1000", many), ("10", few));
        }
    }
}

/// The key is proved, and what it may see is looked up.
fn authorise(criterion: &mut Criterion) {
    if !["rights/authorise", "rights/one_among"].into_iter().any(is_asked_for) {
        return;
    }
    let runtime = Runtime::new().unwrap();
    let (few, many) = runtime.block_on(async { (Tenants::new(FEW).await, Tenants::new(MANY).await) });
    scope_among(&runtime, &few, &many);
    let catalog = &many.lake.state.catalog;
    let investor = runtime.block_on(async {
        let fund: wattlake::ids::OrganisationSlug = "fund".parse().unwrap();
        catalog.create_organisation(fund.clone(), "Fund".to_owned()).await.unwrap();
        for project in &many.lake.projects {
            let share = NewShare {
                project: project.slug.clone(),
                recipient: fund.clone(),
                months: MonthRange::ALL,
                detail: Detail::Full,
                note: String::new(),
                expires_at: None,
                created_by: None,
            };
            catalog.create_share(share).await.unwrap();
        }
        many.lake.key_of(fund).await
    });
    let mut group = criterion.benchmark_group("rights");
    group.sample_size(50).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    let one = std::slice::from_ref(&many.first);
    let asked: [(&str, &str, &[ProjectSlug]); 4] = [
        ("authorise/all_of_its_own", &many.key, &[]),
        ("authorise/one_of_its_own", &many.key, one),
        ("authorise/one_that_is_shared_among_1000", &investor, one),
        ("authorise/all_1000_that_are_shared", &investor, &[]),
    ];
    for (name, key, projects) in asked {
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(|| async {
                let principal = catalog.verify_key(key).await.unwrap().principal().unwrap();
                catalog.scope(&principal, projects).await.unwrap().unwrap()
            });
        });
    }
    group.finish();
}

/// Connections of who floods, by so many keys.
const FLOOD: (usize, usize) = (32, 4);
/// Between two questions of the neighbour, which is below its own rate.
const PAUSE: Duration = Duration::from_millis(30);
const TURNS: usize = 5;
const QUESTIONS: usize = 100;

/// A neighbour's p99 while another organisation asks as fast as it can, over its p99 while nobody does.
fn neighbour(_: &mut Criterion) {
    for (name, rates) in [("rights/neighbour/as_it_comes", true), ("rights/neighbour/without_rates", false)] {
        if is_asked_for(name) {
            Runtime::new().unwrap().block_on(flooded(name, rates));
        }
    }
}

async fn flooded(name: &str, rates: bool) {
    let (mut lake, server) = set::Lake::served(|config| {
        if !rates {
            (config.http.key_requests_per_s, config.http.organisation_requests_per_s) = (0, 0);
        }
    })
    .await;
    let calm = lake.add_tenant().await;
    lake.add_tenant().await;
    for (number, file) in set::files().iter().take(2).enumerate() {
        lake.upload(number, std::fs::read(file).unwrap().into()).await;
    }
    let mut keys = Vec::new();
    for _ in 0..FLOOD.1 {
        keys.push(lake.key_of(lake.projects[1].organisation.clone()).await);
    }
    let address = server.address.clone();
    let serving = tokio::spawn(server.run_until(std::future::pending()));
    let client = reqwest::Client::new();
    let ask = async |key: &str, path: &str| {
        let answer = client.get(format!("{address}{path}")).bearer_auth(key).send().await.unwrap();
        let status = answer.status().as_u16();
        answer.bytes().await.unwrap();
        status
    };
    let calmly = async |times: &mut Vec<Duration>| {
        for _ in 0..QUESTIONS {
            sleep(PAUSE).await;
            let began = Instant::now();
            assert_eq!(ask(&calm, "/v1/metrics/revenue_per_site?from=2024-01&to=2026-01").await, 200);
            times.push(began.elapsed());
        }
    };
    let (mut idle, mut beside, mut warm) = (Vec::new(), Vec::new(), Vec::new());
    calmly(&mut warm).await;
    for _ in 0..TURNS {
        calmly(&mut idle).await;
        let mut flood = JoinSet::new();
        for number in 0..FLOOD.0 {
            let (client, address, key) = (client.clone(), address.clone(), keys[number % keys.len()].clone());
            flood.spawn(async move {
                for day in (1..=28).cycle() {
                    let metric = if day % 2 == 0 { "ticket_size" } else { "payments_per_customer" };
                    let url = format!("{address}/v1/metrics/{metric}?from=2024-01-{day:02}&to=2026-01");
                    let answer = client.get(url).bearer_auth(&key).send().await.unwrap();
                    answer.bytes().await.unwrap();
                }
            });
        }
        sleep(Duration::from_millis(500)).await;
        calmly(&mut beside).await;
        flood.shutdown().await;
        sleep(Duration::from_secs(1)).await;
    }
    serving.abort();
    for (what, part) in [("p50", 2), ("p99", 100)] {
        let at = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            times[times.len() - 1 - times.len() / part]
        };
        say(&format!("{name}/{what}"), ("flooded", at(&mut beside)), ("idle", at(&mut idle)));
    }
}

criterion_group!(benches, authorise, neighbour);
