//! The table of settings: the key in TOML, the default, what it is, and how its text becomes a value. The variable and
//! the flag are made from the key: `http.header_timeout_s`, `WATTLAKE_HTTP_HEADER_TIMEOUT_S`, `--http-header-timeout-s`.

use std::{fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr, sync::LazyLock, time::Duration};

use super::{Config, LogFormat};

/// One setting.
pub struct Setting {
    /// Its place in TOML.
    pub key: &'static str,
    pub variable: String,
    /// Without the two dashes.
    pub flag: String,
    pub default: &'static str,
    /// One sentence for `--help` and `--print-config`.
    pub doc: &'static str,
    /// A secret is never printed.
    pub secret: bool,
    /// How its value is written in TOML.
    pub form: Form,
    pub(super) apply: Apply,
}

/// How a value is written in TOML, and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    Number,
    /// Bytes: a number, or a text such as `2GiB`.
    Size,
    /// `true` or `false`.
    Flag,
    /// A list of texts; with commas in a variable and a flag.
    List,
}

type Apply = fn(&mut Config, &str) -> Result<(), String>;

pub static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(|| {
    TABLE
        .iter()
        .map(|&(key, form, default, doc, apply)| Setting {
            key,
            variable: format!("WATTLAKE_{}", key.replace('.', "_").to_uppercase()),
            flag: key.replace(['.', '_'], "-"),
            default,
            doc,
            secret: SECRETS.contains(&key),
            form,
            apply,
        })
        .collect()
});

/// The keys whose values are secrets: none today.
const SECRETS: [&str; 0] = [];

const GIB: u64 = 1 << 30;
const MAX_ORIGINS: usize = 64;

#[rustfmt::skip]
const TABLE: &[(&str, Form, &str, &str, Apply)] = &[
    ("data_dir", Form::Text, "./wattlake-data", "The folder of the catalogue, the lake and the uploads.",
        |c, t| set(&mut c.data_dir, folder(t))),
    ("listen", Form::Text, "127.0.0.1:8080", "The host and port to listen on; port 0 takes a free one.",
        |c, t| set(&mut c.listen, address(t))),
    ("http.max_header_bytes", Form::Size, "32KiB", "The most bytes of a request line and its headers.",
        |c, t| set(&mut c.http.max_header_bytes, size(t, 8 << 10..=1 << 20))),
    ("http.header_timeout_s", Form::Number, "10", "Seconds in which the headers of a request must come.",
        |c, t| set(&mut c.http.header_timeout, seconds(t, 1..=600))),
    ("http.body_idle_timeout_s", Form::Number, "30", "Seconds after which a body that stops coming is given up.",
        |c, t| set(&mut c.http.body_idle_timeout, seconds(t, 1..=3600))),
    ("http.min_body_bytes_per_s", Form::Number, "128", "The fewest bytes a second at which a body may come, on average over http.body_idle_timeout_s; 0 is any.",
        |c, t| set(&mut c.http.min_body_bytes_per_s, number(t, 0..=1 << 20))),
    ("http.send_idle_timeout_s", Form::Number, "60", "Seconds after which a client that takes no byte of its answer is given up.",
        |c, t| set(&mut c.http.send_idle_timeout, seconds(t, 1..=3600))),
    ("http.request_timeout_s", Form::Number, "60", "Seconds to the start of an answer; uploads are excepted.",
        |c, t| set(&mut c.http.request_timeout, seconds(t, 1..=3600))),
    ("http.drain_timeout_s", Form::Number, "30", "Seconds that requests under way have to end in at a stop.",
        |c, t| set(&mut c.http.drain_timeout, seconds(t, 0..=3600))),
    ("http.max_connections", Form::Number, "1024", "The most connections at once; more wait to be accepted.",
        |c, t| set(&mut c.http.max_connections, number(t, 1..=100_000))),
    ("http.cors_origins", Form::List, "", "Origins whose pages may read answers, such as https://example.org.",
        |c, t| set(&mut c.http.cors_origins, origins(t))),
    ("http.metrics_open", Form::Flag, "false", "Whether /metrics answers without an administrator's key.",
        |c, t| set(&mut c.http.metrics_open, flag(t))),
    ("http.client_address_header", Form::Text, "", "A header, such as x-forwarded-for, in which a proxy in front says whom it speaks for; none is believed by default.",
        |c, t| set(&mut c.http.client_address_header, header_name(t))),
    ("http.key_requests_per_s", Form::Number, "50", "Requests of one key a second, on average; 0 is any.",
        |c, t| set(&mut c.http.key_requests_per_s, number(t, 0..=1_000_000))),
    ("http.key_burst", Form::Number, "200", "Requests of one key at once, after it was silent.",
        |c, t| set(&mut c.http.key_burst, number(t, 1..=1_000_000))),
    ("http.organisation_requests_per_s", Form::Number, "200", "Requests of all keys of an organisation a second, on average; 0 is any.",
        |c, t| set(&mut c.http.organisation_requests_per_s, number(t, 0..=1_000_000))),
    ("http.organisation_burst", Form::Number, "800", "Requests of all keys of an organisation at once, after it was silent.",
        |c, t| set(&mut c.http.organisation_burst, number(t, 1..=1_000_000))),
    ("upload.max_bytes", Form::Size, "2GiB", "The most bytes of an uploaded file, packed or unpacked.",
        |c, t| set(&mut c.upload.max_bytes, size(t, 1 << 10..=1 << 40))),
    ("upload.max_unpack_ratio", Form::Number, "200", "How many times its size a packed file may unpack to, beyond 64 MiB.",
        |c, t| set(&mut c.upload.max_unpack_ratio, number(t, 1..=1_000_000))),
    ("upload.max_rows", Form::Number, "50000000", "The most rows of an uploaded file.",
        |c, t| set(&mut c.upload.max_rows, number(t, 1..=1_000_000_000))),
    ("upload.max_row_bytes", Form::Size, "1MiB", "The most bytes of one row.",
        |c, t| set(&mut c.upload.max_row_bytes, size(t, 1 << 10..=64 << 20))),
    ("upload.max_field_bytes", Form::Size, "64KiB", "The most bytes of one value.",
        |c, t| set(&mut c.upload.max_field_bytes, size(t, 256..=16 << 20))),
    ("upload.concurrency", Form::Number, "4", "The most uploads at once; more are told to come again.",
        |c, t| set(&mut c.upload.concurrency, number(t, 1..=256))),
    ("upload.max_projects", Form::Number, "20", "The most projects of one upload.",
        |c, t| set(&mut c.upload.max_projects, number(t, 1..=50))),
    ("upload.memory_bytes", Form::Size, "384MiB", "The memory of the checked rows of all uploads; more wait on disk.",
        |c, t| set(&mut c.upload.memory_bytes, size(t, 0..=1 << 40))),
    ("query.memory_bytes", Form::Size, "1GiB", "The memory of all queries together.",
        |c, t| set(&mut c.query.memory_bytes, size(t, 16 << 20..=1 << 42))),
    ("query.footer_cache_bytes", Form::Size, "128MiB", "The memory of the footers of files, kept from query to query.",
        |c, t| set(&mut c.query.footer_cache_bytes, size(t, 0..=1 << 40))),
    ("query.partials_bytes", Form::Size, "256MiB", "The memory of partial aggregates of files, kept from query to query.",
        |c, t| set(&mut c.query.partials_bytes, size(t, 0..=1 << 40))),
    ("query.spill_bytes", Form::Size, "8GiB", "What queries may put on disk when memory does not do.",
        |c, t| set(&mut c.query.spill_bytes, size(t, 0..=1 << 44))),
    ("query.timeout_s", Form::Number, "30", "Seconds that one query may take.",
        |c, t| set(&mut c.query.timeout, seconds(t, 1..=3600))),
    ("query.concurrency", Form::Number, "8", "The most queries at once; more wait.",
        |c, t| set(&mut c.query.concurrency, number(t, 1..=1024))),
    ("query.organisation_concurrency", Form::Number, "0", "Of the queries at once, the most of one organisation; 0 is half as many as cores, from 2 to three quarters of query.concurrency.",
        |c, t| set(&mut c.query.organisation_concurrency, number(t, 0..=1024))),
    ("query.key_concurrency", Form::Number, "0", "Of the queries at once, the most of one key; 0 is half as many as cores, from 1 to half of query.concurrency.",
        |c, t| set(&mut c.query.key_concurrency, number(t, 0..=1024))),
    ("query.queue", Form::Number, "256", "The most queries that wait for their turn.",
        |c, t| set(&mut c.query.queue, number(t, 0..=100_000))),
    ("query.organisation_queue", Form::Number, "128", "Of the queries that wait, the most of one organisation.",
        |c, t| set(&mut c.query.organisation_queue, number(t, 0..=100_000))),
    ("query.key_queue", Form::Number, "64", "Of the queries that wait, the most of one key.",
        |c, t| set(&mut c.query.key_queue, number(t, 0..=100_000))),
    ("query.max_rows", Form::Number, "1000000", "The most rows of one answer.",
        |c, t| set(&mut c.query.max_rows, number(t, 1..=100_000_000))),
    ("query.max_connections", Form::Number, "500000", "The most connections that one metric reads, those of all its projects.",
        |c, t| set(&mut c.query.max_connections, number(t, 0..=5_000_000))),
    ("query.max_answer_bytes", Form::Size, "256MiB", "The most bytes of one answer, before it is packed for sending.",
        |c, t| set(&mut c.query.max_answer_bytes, size(t, 64 << 10..=1 << 36))),
    ("query.target_partitions", Form::Number, "0", "The threads of one query; 0 is one for each core.",
        |c, t| set(&mut c.query.target_partitions, number(t, 0..=1024))),
    ("sql.concurrency", Form::Number, "4", "The most SQL queries at once, each in a process of its own; more wait.",
        |c, t| set(&mut c.sql.concurrency, number(t, 1..=256))),
    ("sql.organisation_concurrency", Form::Number, "0", "Of the SQL queries at once, the most of one organisation; 0 is half of sql.concurrency, at least 1.",
        |c, t| set(&mut c.sql.organisation_concurrency, number(t, 0..=256))),
    ("sql.queue", Form::Number, "64", "The most SQL queries that wait for their turn.",
        |c, t| set(&mut c.sql.queue, number(t, 0..=10_000))),
    ("sql.organisation_queue", Form::Number, "16", "Of the SQL queries that wait, the most of one organisation.",
        |c, t| set(&mut c.sql.organisation_queue, number(t, 0..=10_000))),
    ("sql.workers", Form::Number, "2", "Processes for SQL that are started ahead of any query.",
        |c, t| set(&mut c.sql.workers, number(t, 0..=256))),
    ("sql.worker_memory_bytes", Form::Size, "1GiB", "The memory of one SQL query, as address space beyond the program itself; sql.concurrency of them may run.",
        |c, t| set(&mut c.sql.worker_memory_bytes, size(t, 256 << 20..=1 << 42))),
    ("sql.cpu_s", Form::Number, "120", "Seconds on a processor that one SQL query may take, all its threads together.",
        |c, t| set(&mut c.sql.cpu, seconds(t, 1..=86_400))),
    ("sql.timeout_s", Form::Number, "60", "Seconds that one SQL query may take, its turn waited for and its answer sent.",
        |c, t| set(&mut c.sql.timeout, seconds(t, 1..=3600))),
    ("sql.spill_bytes", Form::Size, "2GiB", "What one SQL query may put on disk when memory does not do.",
        |c, t| set(&mut c.sql.spill_bytes, size(t, 0..=1 << 44))),
    ("sql.target_partitions", Form::Number, "2", "The threads of one SQL query.",
        |c, t| set(&mut c.sql.target_partitions, number(t, 1..=64))),
    ("sql.max_rows", Form::Number, "10000000", "The most rows of one answer to SQL.",
        |c, t| set(&mut c.sql.max_rows, number(t, 1..=1_000_000_000))),
    ("sql.max_answer_bytes", Form::Size, "4GiB", "The most bytes of the rows of one answer to SQL, as Arrow holds them.",
        |c, t| set(&mut c.sql.max_answer_bytes, size(t, 64 << 10..=1 << 40))),
    ("sql.max_connections", Form::Number, "500000", "The most connections that one SQL query reads, those of all its projects.",
        |c, t| set(&mut c.sql.max_connections, number(t, 0..=5_000_000))),
    ("sql.background_concurrency", Form::Number, "2", "The most SQL queries at once that are answered later (Prefer: respond-async), beside those of sql.concurrency; more wait.",
        |c, t| set(&mut c.sql.background.concurrency, number(t, 1..=256))),
    ("sql.background_queue", Form::Number, "64", "The most SQL queries that are answered later and wait for their turn.",
        |c, t| set(&mut c.sql.background.queue, number(t, 0..=10_000))),
    ("sql.background_timeout_s", Form::Number, "1800", "Seconds that one SQL query may take that is answered later, from its start.",
        |c, t| set(&mut c.sql.background.timeout, seconds(t, 1..=86_400))),
    ("sql.background_cpu_s", Form::Number, "3600", "Seconds on a processor that one SQL query may take that is answered later, all its threads together.",
        |c, t| set(&mut c.sql.background.cpu, seconds(t, 1..=604_800))),
    ("sql.organisation_results", Form::Number, "20", "The most SQL queries of one organisation that run in the background, wait, or have their result kept; the oldest result gives way.",
        |c, t| set(&mut c.sql.background.results, number(t, 1..=10_000))),
    ("sql.results_bytes", Form::Size, "16GiB", "The most bytes of all kept results on disk.",
        |c, t| set(&mut c.sql.background.results_bytes, size(t, 1 << 20..=1 << 50))),
    ("sql.kept_s", Form::Number, "3600", "Seconds for which an SQL query that has ended is listed, and its result kept; both go when the server stops.",
        |c, t| set(&mut c.sql.background.kept, seconds(t, 1..=2_592_000))),
    ("sql.organisation_listed", Form::Number, "200", "The most SQL queries of one organisation that have ended and are listed.",
        |c, t| set(&mut c.sql.background.listed, number(t, 1..=100_000))),
    ("sql.organisation_saved", Form::Number, "500", "The most saved SQL queries of one organisation.",
        |c, t| set(&mut c.sql.saved, number(t, 0..=100_000))),
    ("sql.max_bytes", Form::Size, "64KiB", "The most bytes of one statement of SQL.",
        |c, t| set(&mut c.sql.limits.max_bytes, size(t, 256..=1 << 20))),
    ("sql.max_tokens", Form::Number, "10000", "The most words, numbers, texts and signs of one statement of SQL.",
        |c, t| set(&mut c.sql.limits.max_tokens, number(t, 50..=100_000))),
    ("sql.max_nesting", Form::Number, "24", "The most brackets in one another in SQL.",
        |c, t| set(&mut c.sql.limits.max_nesting, number(t, 4..=32))),
    ("sql.max_chain", Form::Number, "250", "The most operators of one expression in SQL, with those of the expressions around it.",
        |c, t| set(&mut c.sql.limits.max_chain, number(t, 16..=500))),
    ("sql.max_set_operations", Form::Number, "16", "The most UNION, INTERSECT and EXCEPT of one statement of SQL.",
        |c, t| set(&mut c.sql.limits.max_set_operations, number(t, 0..=100))),
    ("sql.max_items", Form::Number, "250", "The most items of one SELECT, GROUP BY, ORDER BY or function in SQL.",
        |c, t| set(&mut c.sql.limits.max_items, number(t, 16..=2000))),
    ("sql.max_in_list", Form::Number, "1000", "The most values of one IN list in SQL, and the most rows of VALUES.",
        |c, t| set(&mut c.sql.limits.max_in_list, number(t, 1..=20_000))),
    ("sql.max_subqueries", Form::Number, "6", "The most subqueries of expressions in one another in SQL.",
        |c, t| set(&mut c.sql.limits.max_subqueries, number(t, 0..=8))),
    ("sql.max_joins", Form::Number, "16", "The most joins of one statement of SQL; a comma in FROM is one.",
        |c, t| set(&mut c.sql.limits.max_joins, number(t, 0..=64))),
    ("sql.max_scans", Form::Number, "64", "How often one statement of SQL may read relations; those of a CTE count as often as it is named.",
        |c, t| set(&mut c.sql.limits.max_scans, number(t, 1..=1000))),
    ("sql.max_grouping_sets", Form::Number, "64", "The most grouping sets of one GROUP BY in SQL, those of CUBE and ROLLUP among them.",
        |c, t| set(&mut c.sql.limits.max_grouping_sets, number(t, 1..=1024))),
    ("sql.max_parameters", Form::Number, "100", "The most different parameters of one statement of SQL.",
        |c, t| set(&mut c.sql.limits.max_parameters, number(t, 0..=1000))),
    ("sql.max_pattern_bytes", Form::Size, "500", "The most bytes of a regular expression in SQL.",
        |c, t| set(&mut c.sql.limits.max_pattern_bytes, size(t, 1..=10_000))),
    ("sql.max_text_bytes", Form::Size, "1MiB", "The most bytes of one text that a function of SQL makes.",
        |c, t| set(&mut c.sql.limits.max_text_bytes, size(t, 1 << 10..=64 << 20))),
    ("lake.retention_days", Form::Number, "7", "Days for which earlier versions of the lake stay readable; then their files go.",
        |c, t| set(&mut c.lake.retention, days(t, 0..=3650))),
    ("keys.max_overlap_days", Form::Number, "30", "The most days for which both keys of a rotation hold.",
        |c, t| set(&mut c.keys.max_overlap, days(t, 0..=3650))),
    ("shares.per_project", Form::Number, "100", "The most shares of one project that are not revoked.",
        |c, t| set(&mut c.shares.per_project, number(t, 0..=10_000))),
    ("shares.per_server", Form::Number, "10000", "The most shares of all projects, those that were revoked too.",
        |c, t| set(&mut c.shares.per_server, number(t, 0..=1_000_000))),
    ("shares.max_note_chars", Form::Number, "500", "The most characters of the note of a share.",
        |c, t| set(&mut c.shares.max_note_chars, number(t, 0..=10_000))),
    ("connections.per_project", Form::Number, "250000", "The most connections of one project.",
        |c, t| set(&mut c.connections.per_project, number(t, 1..=10_000_000))),
    ("connections.max_bytes", Form::Size, "64MiB", "The most bytes of a file of connections.",
        |c, t| set(&mut c.connections.max_bytes, size(t, 1 << 10..=1 << 30))),
    ("connections.max_json_bytes", Form::Size, "8MiB", "The most bytes of JSON with connections.",
        |c, t| set(&mut c.connections.max_json_bytes, size(t, 1 << 10..=1 << 28))),
    ("connections.max_rows", Form::Number, "250000", "The most rows of a file of connections, or of JSON with them.",
        |c, t| set(&mut c.connections.max_rows, number(t, 1..=10_000_000))),
    ("verification.concurrency", Form::Number, "1", "The most verifications at once; more wait.",
        |c, t| set(&mut c.verification.concurrency, number(t, 1..=64))),
    ("verification.queue", Form::Number, "32", "The most verifications that wait for their turn.",
        |c, t| set(&mut c.verification.queue, number(t, 0..=10_000))),
    ("verification.timeout_s", Form::Number, "600", "Seconds that one verification may take, from when its turn came.",
        |c, t| set(&mut c.verification.timeout, seconds(t, 1..=86_400))),
    ("verification.max_connections", Form::Number, "250000", "The most connections that are submitted to one programme, or verified at once.",
        |c, t| set(&mut c.verification.max_connections, number(t, 1..=10_000_000))),
    ("verification.max_dry_runs", Form::Number, "100", "The dry runs of one organisation that a programme keeps; older ones are forgotten.",
        |c, t| set(&mut c.verification.dry_runs, number(t, 1..=10_000))),
    ("verification.recheck_s", Form::Number, "10", "Seconds between two looks at whether verdicts would be others now, by what came in since.",
        |c, t| set(&mut c.verification.recheck, seconds(t, 1..=86_400))),
    ("programmes.per_organisation", Form::Number, "100", "The most programmes of one organisation.",
        |c, t| set(&mut c.programmes.per_organisation, number(t, 0..=10_000))),
    ("programmes.max_invited", Form::Number, "1000", "The most organisations that one programme invites.",
        |c, t| set(&mut c.programmes.max_invited, number(t, 0..=3_000))),
    ("programmes.max_projects", Form::Number, "10000", "The most projects that take part in one programme.",
        |c, t| set(&mut c.programmes.max_projects, number(t, 1..=10_000))),
    ("audit.retention_days", Form::Number, "400", "Days for which entries of the audit log stay.",
        |c, t| set(&mut c.audit.retention, days(t, 1..=36_500))),
    ("audit.flush_ms", Form::Number, "200", "Milliseconds in which entries of reads are written together; others are written at once.",
        |c, t| set(&mut c.audit.flush, number(t, 1..=10_000).map(Duration::from_millis))),
    ("audit.buffer_entries", Form::Number, "4096", "The most entries of the audit log that wait to be written; then requests wait.",
        |c, t| set(&mut c.audit.buffer_entries, number(t, 16..=1_000_000))),
    ("audit.refusal_every_s", Form::Number, "60", "Seconds between two entries of the audit log that say that a key which has ended was refused.",
        |c, t| set(&mut c.audit.refusal_every, seconds(t, 1..=86_400))),
    ("log.format", Form::Text, "text", "text for people, json for machines.",
        |c, t| set(&mut c.log.format, log_format(t))),
    ("log.filter", Form::Text, "warn,wattlake=info", "What to log: levels and targets, as here.",
        |c, t| set(&mut c.log.filter, filter(t))),
];

fn set<T>(place: &mut T, value: Result<T, String>) -> Result<(), String> {
    *place = value?;
    Ok(())
}

fn folder(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("a folder is needed".to_owned()) } else { Ok(PathBuf::from(text)) }
}

fn address(text: &str) -> Result<String, String> {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err("an address is host:port, such as 127.0.0.1:8080".to_owned()),
    }
}

fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "true or false is needed".to_owned())
}

fn number<T: FromStr + PartialOrd + Display>(text: &str, range: RangeInclusive<T>) -> Result<T, String> {
    text.parse()
        .ok()
        .filter(|value| range.contains(value))
        .ok_or_else(|| format!("a whole number from {} to {} is needed", range.start(), range.end()))
}

fn days(text: &str, range: RangeInclusive<u64>) -> Result<Duration, String> {
    let days = number(text, range).map_err(|message: String| message.replace("number", "number of days"))?;
    Ok(Duration::from_secs(days * 24 * 60 * 60))
}

fn seconds(text: &str, range: RangeInclusive<u64>) -> Result<Duration, String> {
    number(text, range).map(Duration::from_secs).map_err(|message| message.replace("number", "number of seconds"))
}

fn size<T: TryFrom<u64>>(text: &str, range: RangeInclusive<u64>) -> Result<T, String> {
    bytes(text).filter(|value| range.contains(value)).and_then(|value| T::try_from(value).ok()).ok_or_else(|| {
        format!("bytes from {} to {} are needed, plain or as in 2GiB", shown(*range.start()), shown(*range.end()))
    })
}

/// A number of bytes, plain or with a unit of 1024: `65536`, `64KiB`, `2GiB`.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn shown(bytes: u64) -> String {
    match bytes {
        GIB.. if bytes.is_multiple_of(GIB) => format!("{}GiB", bytes / GIB),
        0x0010_0000.. if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        1024.. if bytes.is_multiple_of(1024) => format!("{}KiB", bytes >> 10),
        _ => bytes.to_string(),
    }
}

/// A header's name (RFC 9110, 5.1) in lower case; none where the text is empty.
fn header_name(text: &str) -> Result<Option<String>, String> {
    let letters = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    match text.len() {
        0 => Ok(None),
        1..=100 if letters => Ok(Some(text.to_ascii_lowercase())),
        _ => Err("the name of a header is needed, such as x-forwarded-for".to_owned()),
    }
}

fn origins(text: &str) -> Result<Vec<String>, String> {
    let origins: Vec<String> =
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
    if origins.len() > MAX_ORIGINS {
        return Err(format!("at most {MAX_ORIGINS} origins"));
    }
    match origins.iter().find(|origin| !is_origin(origin)) {
        Some(wrong) => Err(format!("{wrong:?} is not an origin: scheme, host and port, as in https://example.org")),
        None => Ok(origins),
    }
}

fn is_origin(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == text)
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("text or json is needed".to_owned()),
    }
}

fn filter(text: &str) -> Result<String, String> {
    match text.parse::<tracing_subscriber::filter::Targets>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("a filter is levels and targets, such as info, or warn,wattlake=debug".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_in_its_own_range_and_every_setting_has_its_own_names() {
        let mut config = Config::default();
        let mut names = std::collections::BTreeSet::new();
        for setting in SETTINGS.iter() {
            (setting.apply)(&mut config, setting.default).unwrap_or_else(|error| panic!("{}: {error}", setting.key));
            assert!(names.insert(&setting.variable) && names.insert(&setting.flag), "{}", setting.key);
        }
        assert_eq!(config.upload.max_bytes, 2 << 30);
        assert_eq!(config.http.header_timeout, Duration::from_secs(10));
    }

    #[test]
    fn a_size_is_plain_or_has_a_unit_of_1024() {
        assert_eq!(bytes("65536"), Some(65536));
        assert_eq!(bytes("2GiB"), Some(2 << 30));
        assert_eq!(bytes("2 MiB"), Some(2 << 20));
        for wrong in ["", "GiB", "2GB", "2g", "-1", "1.5GiB", "99999999999TiB"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_origin_has_no_path() {
        assert!(origins("https://example.org, http://localhost:3000").is_ok());
        for wrong in ["https://example.org/", "example.org", "*", "https://example.org/app"] {
            assert!(origins(wrong).is_err(), "{wrong}");
        }
    }
}
