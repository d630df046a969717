//! Every metric, from the request to the bytes of its JSON: over all projects, and over one month of one; with all files
//! read, and with what is known of them from the time before.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::set;
use chrono::Utc;
use criterion::{Criterion, criterion_group};
use tokio::runtime::Runtime;
use wattlake::{
    access::{Principal, Scope},
    catalog::{Project, UploadFacts},
    query::{Format, Inputs, Metric, MetricRequest, ParameterLimits, ProjectFacts},
};

/// What is asked for: the name of it, and the parameters, of which a metric gets those that it takes. The period is given
/// because a metric may have one by default, which has no payments in it.
const ASKED: [(&str, &[(&str, &str)]); 2] = [
    ("all", &[("from", "2024-01-01"), ("to", "2026-01-01")]),
    ("one_month", &[("project", "p01"), ("from", "2025-05-01"), ("to", "2025-06-01")]),
];

fn metrics(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let lake = runtime.block_on(set::Lake::loaded());
    let projects: Vec<ProjectFacts> = lake.projects.iter().map(ProjectFacts::from).collect();
    let principal = Principal::admin("bench");
    let slugs = lake.projects.iter().map(|project| project.slug.clone()).collect();
    let uploads = runtime.block_on(lake.state.catalog.upload_facts(&slugs)).unwrap();
    for metric in lake.state.metrics.iter() {
        let mut group = criterion.benchmark_group(metric.name());
        group.sample_size(15).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
        for (name, parameters) in ASKED {
            let request = request(metric, parameters);
            let answer = || answer(&lake, metric, &request, &principal, &projects, &uploads);
            let read = || {
                lake.state.engine.forget();
                answer()
            };
            group.bench_function(format!("{name}/read"), |bencher| bencher.to_async(&runtime).iter(read));
            group.bench_function(format!("{name}/known"), |bencher| bencher.to_async(&runtime).iter(answer));
        }
    }
}

fn request(metric: &Metric, parameters: &[(&str, &str)]) -> MetricRequest {
    let taken = |name: &str| metric.info.parameters.iter().any(|parameter| parameter.name == name);
    let given = parameters.iter().filter(|(name, _)| taken(name));
    let pairs: Vec<_> = given.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    MetricRequest::parse(metric, &pairs, &ParameterLimits::default()).unwrap()
}

async fn answer(
    lake: &set::Lake,
    metric: &Arc<Metric>,
    request: &MetricRequest,
    principal: &Principal,
    projects: &[ProjectFacts],
    uploads: &[UploadFacts],
) -> usize {
    let existing = lake.projects.iter().map(Project::owner);
    let scope = Scope::of(principal, existing).narrowed(&request.projects).unwrap();
    let inputs = Inputs {
        snapshot: lake.state.lake.snapshot(),
        scope: &scope,
        projects,
        uploads,
        connections: &BTreeMap::new(),
        now: Utc::now(),
        is_earlier: false,
    };
    let answer = lake.state.engine.answer(principal, metric, request, inputs, Format::Json).await.unwrap();
    assert!(!answer.truncated);
    answer.bytes.len()
}

criterion_group!(benches, metrics);
