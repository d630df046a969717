//! The settings, typed, checked once at start. The only reader of the environment.
//!
//! Defaults, then the TOML file, then `WATTLAKE_*` variables, then flags: the later wins. Every setting has all of
//! these forms, and one entry in the table of `settings.rs` makes them.

mod client;
mod settings;
mod sources;

use std::{path::PathBuf, time::Duration};

pub use client::ClientConfig;
pub use settings::{SETTINGS, Setting};
pub use sources::{ConfigError, Effective, Sources, environment};

/// Every setting. Values are in range; combinations need no further check.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where the catalogue, the lake and the uploads are.
    pub data_dir: PathBuf,
    /// `host:port`.
    pub listen: String,
    pub http: HttpConfig,
    pub upload: UploadConfig,
    pub query: QueryConfig,
    pub lake: LakeConfig,
    pub audit: AuditConfig,
    pub log: LogConfig,
}

/// The server's limits on connections and requests.
#[derive(Clone, Debug, Default)]
pub struct HttpConfig {
    /// Of a request line and its headers together.
    pub max_header_bytes: usize,
    /// From the opening of a connection, or the end of the request before, to the end of the headers.
    pub header_timeout: Duration,
    /// Between two pieces of a body.
    pub body_idle_timeout: Duration,
    /// On average over the idle timeout, while a piece is waited for; 0 is any.
    pub min_body_bytes_per_s: u64,
    /// Between two pieces of an answer that the client takes.
    pub send_idle_timeout: Duration,
    /// From the end of the headers to the start of the answer; uploads are excepted.
    pub request_timeout: Duration,
    /// What requests under way have to end in, once the server is told to stop.
    pub drain_timeout: Duration,
    pub max_connections: usize,
    /// Origins whose pages may read answers; none by default.
    pub cors_origins: Vec<String>,
    /// Whether the operational counters need no key.
    pub metrics_open: bool,
    /// A header, in lower case, in which a proxy in front says whom it speaks for; the audit log believes its last address.
    pub client_address_header: Option<String>,
    /// Of one key; none is set where it is 0.
    pub key_requests_per_s: u32,
    /// Of one key that was silent, at once.
    pub key_burst: u32,
    /// Of all keys of an organisation together; none is set where it is 0.
    pub organisation_requests_per_s: u32,
    pub organisation_burst: u32,
}

/// The limits of one upload, and of uploads at once.
#[derive(Clone, Debug, Default)]
pub struct UploadConfig {
    /// Of the file as it comes, and of what it unpacks to.
    pub max_bytes: u64,
    /// How many times its own size a packed file may unpack to, once that is a lot.
    pub max_unpack_ratio: u64,
    pub max_rows: u64,
    pub max_row_bytes: usize,
    pub max_field_bytes: usize,
    /// Uploads that are received and checked at once.
    pub concurrency: usize,
    /// Of the checked rows of all uploads together; what goes beyond it waits on disk.
    pub memory_bytes: usize,
}

/// The limits of one query, and of queries at once.
#[derive(Clone, Debug, Default)]
pub struct QueryConfig {
    /// Of all queries together.
    pub memory_bytes: usize,
    /// Of the footers of the lake's files, which queries remember.
    pub footer_cache_bytes: usize,
    /// Of the partial aggregates of the lake's files, which queries remember.
    pub partials_bytes: usize,
    /// What queries may put on disk when memory does not do.
    pub spill_bytes: u64,
    pub timeout: Duration,
    pub concurrency: usize,
    /// Of the queries at once, those of one organisation; 0 is a number by the cores.
    pub organisation_concurrency: usize,
    /// Of the queries at once, those of one key; 0 is a number by the cores.
    pub key_concurrency: usize,
    /// Queries that wait for their turn.
    pub queue: usize,
    /// Of the queries that wait, those of one organisation.
    pub organisation_queue: usize,
    /// Of the queries that wait, those of one key.
    pub key_queue: usize,
    /// The most rows of one answer.
    pub max_rows: usize,
    /// The most bytes of one answer, before it is packed for sending.
    pub max_answer_bytes: usize,
    /// The threads of one query; 0 is one for each core.
    pub target_partitions: usize,
}

#[derive(Clone, Debug, Default)]
pub struct LakeConfig {
    /// How long files stay that the newest version no longer has.
    pub retention: Duration,
}

/// The audit log.
#[derive(Clone, Debug, Default)]
pub struct AuditConfig {
    /// How long entries stay.
    pub retention: Duration,
    /// How long an entry waits for others before they are written together; those of changes of rights and of deletions
    /// do not wait.
    pub flush: Duration,
    /// Entries that wait at most; then requests wait.
    pub buffer_entries: usize,
}

#[derive(Clone, Debug, Default)]
pub struct LogConfig {
    pub format: LogFormat,
    /// `tracing`'s filter: `info`, or `warn,wattlake=debug`.
    pub filter: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}
