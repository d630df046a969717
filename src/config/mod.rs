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
