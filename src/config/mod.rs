//! The settings, typed, checked once at start. The only reader of the environment.
//!
//! Defaults, then the TOML file, then `WATTLAKE_*` variables, then flags: the later wins. Every setting has all of
//! these forms, and one entry in the table of `settings.rs` makes them.

mod client;
mod settings;
mod sources;

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

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
    pub sql: SqlConfig,
    pub lake: LakeConfig,
    pub keys: KeyConfig,
    pub shares: ShareConfig,
    pub connections: ConnectionConfig,
    pub verification: VerificationConfig,
    pub programmes: ProgrammeConfig,
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
    /// Of one upload.
    pub max_projects: usize,
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
    /// That one metric reads, of all its projects.
    pub max_connections: usize,
    /// The most bytes of one answer, before it is packed for sending.
    pub max_answer_bytes: usize,
    /// The threads of one query; 0 is one for each core.
    pub target_partitions: usize,
}

/// SQL that people write, and the processes that run it.
#[derive(Clone, Debug, Default)]
pub struct SqlConfig {
    /// Queries at once, each in a process of its own.
    pub concurrency: usize,
    /// Of the queries at once, those of one organisation; 0 is half of them.
    pub organisation_concurrency: usize,
    /// Queries that wait for their turn.
    pub queue: usize,
    /// Of the queries that wait, those of one organisation.
    pub organisation_queue: usize,
    /// Processes that are started ahead.
    pub workers: usize,
    /// Of one process, beyond the program itself.
    pub worker_memory_bytes: u64,
    /// Seconds on a processor, of all threads of one process.
    pub cpu: Duration,
    /// From the request to the last byte of its answer that is taken.
    pub timeout: Duration,
    /// What one query may put on disk when memory does not do.
    pub spill_bytes: u64,
    /// The threads of one query.
    pub target_partitions: usize,
    /// The most rows of one answer.
    pub max_rows: usize,
    /// The most bytes of the rows of one answer, as Arrow holds them.
    pub max_answer_bytes: usize,
    /// Connections that one query may read.
    pub max_connections: usize,
    /// What is kept of queries, and those that nobody waits for.
    pub background: BackgroundConfig,
    /// Names of saved queries of one organisation.
    pub saved: u32,
    /// The program that the processes are, where it is not this one. No setting: tests run the server in a program of their
    /// own.
    pub worker_program: Option<PathBuf>,
    /// Of one statement, before anything is planned.
    pub limits: SqlLimits,
}

/// The limits of SQL queries that are answered later, and of what is kept of all.
#[derive(Clone, Debug, Default)]
pub struct BackgroundConfig {
    /// Queries at once, beside those that are waited for.
    pub concurrency: usize,
    /// Queries that wait for their turn.
    pub queue: usize,
    /// From the start of the query to its last row.
    pub timeout: Duration,
    /// Seconds on a processor, of all threads of one process.
    pub cpu: Duration,
    /// Queries of one organisation that run, wait, or have a result.
    pub results: usize,
    /// Of all results, on disk.
    pub results_bytes: u64,
    /// How long a query that has ended, and its result, are kept.
    pub kept: Duration,
    /// Queries of one organisation that have ended and are listed.
    pub listed: usize,
}

/// What one statement of SQL may be, before anything is planned. Each is a setting: `sql.` and the name of the field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SqlLimits {
    /// Of the text.
    pub max_bytes: usize,
    /// Words, numbers, texts and signs; blanks and comments do not count.
    pub max_tokens: usize,
    /// Brackets in one another.
    pub max_nesting: usize,
    /// Operators in one expression, with those of the expressions that it stands in.
    pub max_chain: usize,
    /// UNION, INTERSECT and EXCEPT in the statement.
    pub max_set_operations: usize,
    /// Of one list of columns or expressions: SELECT, GROUP BY, ORDER BY, arguments of a function.
    pub max_items: usize,
    /// Of one IN list, and the rows of VALUES.
    pub max_in_list: usize,
    /// Subqueries of expressions in one another: the engine's time doubles with each.
    pub max_subqueries: usize,
    /// In the statement, the commas of FROM among them.
    pub max_joins: usize,
    /// How often relations are read, those of a CTE as often as it is named.
    pub max_scans: usize,
    /// Of one GROUP BY, those of CUBE and ROLLUP among them.
    pub max_grouping_sets: usize,
    /// Placeholders with different names.
    pub max_parameters: usize,
    /// Of one pattern: a regular expression.
    pub max_pattern_bytes: usize,
    /// Of one text that a function makes.
    pub max_text_bytes: usize,
}

impl SqlLimits {
    /// Each limit by its setting.
    #[must_use]
    pub fn by_setting(&self) -> [(&'static str, usize); 14] {
        [
            ("sql.max_bytes", self.max_bytes),
            ("sql.max_tokens", self.max_tokens),
            ("sql.max_nesting", self.max_nesting),
            ("sql.max_chain", self.max_chain),
            ("sql.max_set_operations", self.max_set_operations),
            ("sql.max_items", self.max_items),
            ("sql.max_in_list", self.max_in_list),
            ("sql.max_subqueries", self.max_subqueries),
            ("sql.max_joins", self.max_joins),
            ("sql.max_scans", self.max_scans),
            ("sql.max_grouping_sets", self.max_grouping_sets),
            ("sql.max_parameters", self.max_parameters),
            ("sql.max_pattern_bytes", self.max_pattern_bytes),
            ("sql.max_text_bytes", self.max_text_bytes),
        ]
    }
}

#[derive(Clone, Debug, Default)]
pub struct LakeConfig {
    /// How long files stay that the newest version no longer has.
    pub retention: Duration,
}

/// The limits of keys.
#[derive(Clone, Debug, Default)]
pub struct KeyConfig {
    /// For how long both keys of a rotation hold at most.
    pub max_overlap: Duration,
}

/// The limits of shares.
#[derive(Clone, Debug, Default)]
pub struct ShareConfig {
    /// Of one project, those that are not revoked.
    pub per_project: u32,
    /// Of all projects, those that were revoked too.
    pub per_server: u32,
    pub max_note_chars: usize,
}

/// Connections, and the files that bring them.
#[derive(Clone, Debug, Default)]
pub struct ConnectionConfig {
    /// Of one project.
    pub per_project: u32,
    /// Of one file.
    pub max_bytes: usize,
    /// Of JSON, which takes more memory than its bytes.
    pub max_json_bytes: usize,
    /// Of one file, or of JSON.
    pub max_rows: u64,
}

/// Verification of connections.
#[derive(Clone, Debug, Default)]
pub struct VerificationConfig {
    /// Runs at once.
    pub concurrency: usize,
    /// Runs that wait for their turn.
    pub queue: usize,
    /// Of one run, from its turn.
    pub timeout: Duration,
    /// Submitted to one programme, and judged by one run.
    pub max_connections: u32,
    /// Of one organisation in one programme, that are kept: the newest.
    pub dry_runs: u32,
    /// Between two looks at whether verdicts would be others now.
    pub recheck: Duration,
}

/// The limits of programmes.
#[derive(Clone, Debug, Default)]
pub struct ProgrammeConfig {
    /// Of one organisation.
    pub per_organisation: u32,
    /// Organisations that one programme invites.
    pub max_invited: u32,
    /// Projects that take part in one programme.
    pub max_projects: u32,
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
    /// Between two recorded refusals of a key that has ended.
    pub refusal_every: Duration,
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
