//! The upload: decoding alone, and from the first byte to the commit.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::set;
use bytes::Bytes;
use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group};
use tokio::runtime::Runtime;
use wattlake::{
    ids::UploadId,
    payments::decoder::{Decoder, FileContext, Limits},
};

/// Rows of the small upload.
const SMALL_ROWS: usize = 20_000;

fn decode(criterion: &mut Criterion) {
    let file = fs::read(&set::files()[0]).unwrap();
    let context = FileContext {
        default_site: "Bench".to_owned(),
        currency: "KES".to_owned(),
        upload_id: UploadId::new(),
        not_after_micros: i64::MAX,
        routing: None,
        required: Vec::new(),
        limits: Limits::default(),
    };
    let mut group = criterion.benchmark_group("ingest");
    group.sample_size(10).throughput(Throughput::Bytes(file.len() as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter_batched(
            || context.clone(),
            |context| {
                let mut decoder = Decoder::new(&file[..], context).unwrap();
                while decoder.next_batch().unwrap().is_some() {}
                decoder.finish()
            },
            BatchSize::PerIteration,
        );
    });
}

fn upload(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let files: Vec<Bytes> = set::files().iter().map(|file| fs::read(file).unwrap().into()).collect();
    let mut group = criterion.benchmark_group("ingest");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);

    group.throughput(Throughput::Elements(rows(&files[0])));
    group.bench_function("upload_to_a_fresh_folder", |bencher| {
        bencher.to_async(&runtime).iter_custom(async |times| {
            let mut total = Duration::ZERO;
            for _ in 0..times {
                let lake = set::Lake::empty(1).await;
                let start = Instant::now();
                lake.upload(0, files[0].clone()).await;
                total += start.elapsed();
            }
            total
        });
    });

    let lake = runtime.block_on(set::Lake::loaded());
    let count = std::cell::Cell::new(0);
    group.throughput(Throughput::Elements(SMALL_ROWS as u64));
    group.bench_function("small_upload_to_a_lake", |bencher| {
        bencher.to_async(&runtime).iter_custom(async |times| {
            let mut total = Duration::ZERO;
            for _ in 0..times {
                let number = count.replace(count.get() + 1);
                // Project by project, so that months do not fill up with files and are compacted.
                let project = number % files.len();
                let file = renamed(&files[project], SMALL_ROWS, number);
                let start = Instant::now();
                lake.upload(project, file).await;
                total += start.elapsed();
            }
            total
        });
    });
}

fn rows(file: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', file).count() as u64 - 1
}

/// The last rows of a file with payment IDs of their own, so that they are new to the lake.
fn renamed(file: &[u8], rows: usize, number: usize) -> Bytes {
    let text = std::str::from_utf8(file).unwrap();
    let (header, body) = text.split_once('\n').unwrap();
    let lines: Vec<&str> = body.lines().collect();
    let renamed = lines[lines.len().saturating_sub(rows)..].iter().map(|line| {
        let (paid_at, rest) = line.split_once(',').unwrap();
        format!("{paid_at},B{number}-{rest}")
    });
    Bytes::from([header.to_owned()].into_iter().chain(renamed).collect::<Vec<_>>().join("\n"))
}

criterion_group!(benches, decode, upload);
