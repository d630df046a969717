//! What the server has done since it started, for those who watch it. Counted in memory alone.
//!
//! No label holds what a tenant chose: no project, no site, no name of a file, no path of a request. Each has few values,
//! all of them known when the program starts: routes, methods, statuses, metrics, and the words below.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// The upper ends of the buckets of durations.
const SECONDS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u64,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct QueryLabels {
    metric: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MetricLabel {
    metric: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KeyLabel {
    key: &'static str,
}

/// Of keys that do not hold: there is none, it proves nothing, or it did hold.
const ENDED_KEYS: [&str; 4] = ["none", "unknown", "revoked", "expired"];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadOutcome {
    Committed,
    /// The same bytes came before.
    Repeated,
    /// The same request came before.
    Replayed,
    /// Refused for its content.
    Rejected,
    /// Whatever it found.
    DryRun,
    TooLarge,
    /// As many as there may be were under way.
    Busy,
    /// It clashed with another request, or with a change of its project.
    Conflict,
    /// Its sender stopped, or went away.
    Interrupted,
    /// Not its sender's doing.
    Failed,
}

impl UploadOutcome {
    const ALL: [Self; 10] = [
        Self::Committed,
        Self::Repeated,
        Self::Replayed,
        Self::Rejected,
        Self::DryRun,
        Self::TooLarge,
        Self::Busy,
        Self::Conflict,
        Self::Interrupted,
        Self::Failed,
    ];

    fn label(self) -> OutcomeLabel {
        let outcome = match self {
            Self::Committed => "committed",
            Self::Repeated => "repeated",
            Self::Replayed => "replayed",
            Self::Rejected => "rejected",
            Self::DryRun => "dry_run",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
            Self::Conflict => "conflict",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        };
        OutcomeLabel { outcome }
    }
}

/// What became of a row of a file. Rows of dry runs are not counted, and of a rejected file those alone that were at fault,
/// beside all that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    Read,
    New,
    Corrected,
    Duplicate,
    Rejected,
}

impl RowKind {
    const ALL: [Self; 5] = [Self::Read, Self::New, Self::Corrected, Self::Duplicate, Self::Rejected];

    fn label(self) -> KindLabel {
        let kind = match self {
            Self::Read => "read",
            Self::New => "new",
            Self::Corrected => "corrected",
            Self::Duplicate => "duplicate",
            Self::Rejected => "rejected",
        };
        KindLabel { kind }
    }
}

/// The counters of one server.
#[derive(Debug)]
pub struct Counters {
    pub(super) registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_duration: Family<RouteLabels, Histogram>,
    requests_under_way: Gauge,
    unauthenticated: Family<KeyLabel, Counter>,
    connections: Gauge,
    queries: Family<QueryLabels, Counter>,
    query_duration: Family<MetricLabel, Histogram>,
    query_rows: Family<MetricLabel, Counter>,
    query_answer_bytes: Family<MetricLabel, Counter>,
    uploads: Family<OutcomeLabel, Counter>,
    upload_duration: Histogram,
    upload_rows: Family<KindLabel, Counter>,
    upload_bytes: Counter,
    uploads_under_way: Gauge,
}

fn durations() -> Histogram {
    Histogram::new(SECONDS)
}

impl Default for Counters {
    fn default() -> Self {
        let mut counters = Self {
            registry: Registry::with_prefix("wattlake"),
            requests: Family::default(),
            request_duration: Family::new_with_constructor(durations),
            requests_under_way: Gauge::default(),
            unauthenticated: Family::default(),
            connections: Gauge::default(),
            queries: Family::default(),
            query_duration: Family::new_with_constructor(durations),
            query_rows: Family::default(),
            query_answer_bytes: Family::default(),
            uploads: Family::default(),
            upload_duration: durations(),
            upload_rows: Family::default(),
            upload_bytes: Counter::default(),
            uploads_under_way: Gauge::default(),
        };
        // A count that is there from the start at 0 is one whose first step shows.
        for outcome in UploadOutcome::ALL {
            drop(counters.uploads.get_or_create(&outcome.label()));
        }
        for key in ENDED_KEYS {
            drop(counters.unauthenticated.get_or_create(&KeyLabel { key }));
        }
        for kind in RowKind::ALL {
            drop(counters.upload_rows.get_or_create(&kind.label()));
        }
        counters.register();
        counters
    }
}

impl Counters {
    fn register(&mut self) {
        let all = &mut self.registry;
        all.register("http_requests", "Answered requests by route, method and status", self.requests.clone());
        all.register_with_unit(
            "http_request_duration",
            "From the end of a request's headers to the end of its answer",
            Unit::Seconds,
            self.request_duration.clone(),
        );
        all.register("http_requests_under_way", "Requests whose answer has not ended", self.requests_under_way.clone());
        all.register(
            "http_unauthenticated",
            "Requests without a key that holds: none, unknown or wrong, revoked, expired",
            self.unauthenticated.clone(),
        );
        all.register("http_connections", "Open connections", self.connections.clone());
        all.register(
            "queries",
            "Questions to a metric: answered, not_modified, given_up by the caller, or the problem's type",
            self.queries.clone(),
        );
        all.register_with_unit(
            "query_duration",
            "Time that the engine took, its refusals among it",
            Unit::Seconds,
            self.query_duration.clone(),
        );
        all.register("query_rows", "Rows of answers", self.query_rows.clone());
        all.register_with_unit(
            "query_answer",
            "Bytes of answers, before they are packed for sending",
            Unit::Bytes,
            self.query_answer_bytes.clone(),
        );
        all.register("uploads", "Uploads that came as far as their file, by how they ended", self.uploads.clone());
        all.register_with_unit(
            "upload_duration",
            "From the first byte of a file to the upload's end",
            Unit::Seconds,
            self.upload_duration.clone(),
        );
        all.register("upload_rows", "Rows of files by what became of them", self.upload_rows.clone());
        all.register_with_unit("upload", "Bytes of files that came whole", Unit::Bytes, self.upload_bytes.clone());
        all.register("uploads_under_way", "Uploads that have not ended", self.uploads_under_way.clone());
    }

    /// A request was answered. `method` is one of few words; `route` is its pattern, never its path.
    pub fn answered(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let labels = RequestLabels { method, route: route.to_owned(), status: status.into() };
        self.requests.get_or_create(&labels).inc();
        let labels = RouteLabels { method, route: route.to_owned() };
        self.request_duration.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A request came without a key that holds; `key` is one of few words.
    pub fn unauthenticated(&self, key: &'static str) {
        self.unauthenticated.get_or_create(&KeyLabel { key }).inc();
    }

    #[must_use]
    pub fn request(&self) -> UnderWay {
        UnderWay::begin(&self.requests_under_way)
    }

    #[must_use]
    pub fn connection(&self) -> UnderWay {
        UnderWay::begin(&self.connections)
    }

    /// A question to a metric, which counts as given up where nobody says how it ended.
    #[must_use]
    pub fn question(self: &Arc<Self>, metric: &str) -> AskedMetric {
        AskedMetric { counters: self.clone(), metric: metric.to_owned(), outcome: "given_up" }
    }

    /// An upload, which counts as interrupted where nobody says how it ended.
    #[must_use]
    pub fn upload(self: &Arc<Self>) -> UploadInCount {
        UploadInCount {
            counters: self.clone(),
            ended: AtomicBool::new(false),
            began: Instant::now(),
            _under_way: UnderWay::begin(&self.uploads_under_way),
        }
    }
}

/// Something that is under way until it is dropped.
#[derive(Debug)]
pub struct UnderWay(Gauge);

impl UnderWay {
    fn begin(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A question to a metric. It is counted when it is dropped.
#[derive(Debug)]
pub struct AskedMetric {
    counters: Arc<Counters>,
    metric: String,
    outcome: &'static str,
}

impl AskedMetric {
    /// The engine ran for so long.
    pub fn ran(&self, took: Duration) {
        self.counters.query_duration.get_or_create(&self.label()).observe(took.as_secs_f64());
    }

    /// It gave so much.
    pub fn gave(&self, rows: usize, bytes: usize) {
        self.counters.query_rows.get_or_create(&self.label()).inc_by(rows as u64);
        self.counters.query_answer_bytes.get_or_create(&self.label()).inc_by(bytes as u64);
    }

    /// How it ended: `answered`, `not_modified`, or the code of a problem.
    pub fn ended(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }

    fn label(&self) -> MetricLabel {
        MetricLabel { metric: self.metric.clone() }
    }
}

impl Drop for AskedMetric {
    fn drop(&mut self) {
        let labels = QueryLabels { metric: std::mem::take(&mut self.metric), outcome: self.outcome };
        self.counters.queries.get_or_create(&labels).inc();
    }
}

/// An upload under way. Whoever says first how it ended is believed.
#[derive(Debug)]
pub struct UploadInCount {
    counters: Arc<Counters>,
    ended: AtomicBool,
    began: Instant,
    _under_way: UnderWay,
}

impl UploadInCount {
    /// It ended, with so many bytes of its file and so many rows of each kind.
    pub fn ended(&self, outcome: UploadOutcome, bytes: u64, rows: &[(RowKind, u64)]) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        self.counters.uploads.get_or_create(&outcome.label()).inc();
        self.counters.upload_duration.observe(self.began.elapsed().as_secs_f64());
        self.counters.upload_bytes.inc_by(bytes);
        for (kind, count) in rows {
            self.counters.upload_rows.get_or_create(&kind.label()).inc_by(*count);
        }
    }
}

impl Drop for UploadInCount {
    fn drop(&mut self) {
        self.ended(UploadOutcome::Interrupted, 0, &[]);
    }
}
