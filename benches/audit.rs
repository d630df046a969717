//! What the audit log costs a request, and what it costs to write: an entry handed to the writer, and groups of entries
//! appended to the chain, on disk.

use std::{path::Path, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use serde_json::json;
use tokio::runtime::Runtime;
use wattlake::{
    audit::Recorder,
    catalog::{AuditActor, AuditEntry, AuditOutcome, Catalog},
    config::Sources,
};

/// As a question about two projects leaves it.
fn entry() -> AuditEntry {
    AuditEntry {
        object: Some("revenue_over_time".to_owned()),
        projects: vec!["p01".parse().unwrap(), "p02".parse().unwrap()],
        parameters: Some(json!({"from": "2025-05-01", "to": "2025-06-01", "grain": "day"})),
        address: Some("203.0.113.7".parse().unwrap()),
        rows: Some(62),
        lake_version: Some(1234),
        request_id: Some("0197a0c0f5d27b00b1e3a1c0ffee0001".to_owned()),
        ..AuditEntry::new(
            AuditActor::Key { prefix: "abcdefgh".to_owned(), organisation: None },
            "metric.read",
            AuditOutcome::Answered(200),
        )
    }
}

fn audit(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    // The system's temporary folder may be memory.
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let folder = tempfile::tempdir_in(target).unwrap();
    let catalog = runtime.block_on(Catalog::open(folder.path())).unwrap();
    let mut config = Sources::default().load().unwrap().config.audit;
    config.buffer_entries = 1_000_000;
    let recorder = runtime.block_on(async { Recorder::start(catalog.clone(), &config, Duration::from_mins(10)) });

    let mut group = criterion.benchmark_group("audit");
    group.sample_size(20).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    group.bench_function("hand_over", |bencher| {
        let hand_over = || async { recorder.room().await.unwrap().fill(entry()) };
        bencher.to_async(&runtime).iter(hand_over);
    });
    runtime.block_on(recorder.flush()).unwrap();
    for entries in [1, 10, 100, 1000] {
        let entries = vec![entry(); entries];
        group.throughput(Throughput::Elements(entries.len() as u64));
        group.bench_with_input(BenchmarkId::new("append", entries.len()), &entries, |bencher, entries| {
            bencher.to_async(&runtime).iter(|| async { catalog.append_audit(entries).await.unwrap() });
        });
    }
    group.finish();
    let check = runtime.block_on(catalog.check_audit()).unwrap();
    assert_eq!(check.broken, None);
}

criterion_group!(benches, audit);
