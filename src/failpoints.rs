//! Places where a test can make Wattlake fail, or end, as a disk and a power cut would. Only builds for tests have them: without
//! the feature `failpoints` of the crate `fail`, the macro is nothing, and so is this module.
//!
//! `FAILPOINTS="commit::kept=return(abort)" wattlake serve` ends where an upload's folder has just been kept;
//! `durable::sync=3*off->1*return(EIO)` lets three fsyncs pass and fails the fourth, once. What `return` may say is in
//! [`outcome`]; the rest of the syntax is that of the crate.

use std::io;

use fail::{FailScenario, fail_point};

/// Every point, in about the order in which an upload passes them. `tests/it/failpoints.rs` ends the process at each, and
/// fails each that can fail.
pub const POINTS: &[&str] = &[
    "durable::create_dir",
    "durable::sync",
    "durable::sync_dir",
    "commit::staged",
    "catalog::insert_upload",
    "commit::receiving",
    "durable::rename",
    "commit::kept",
    "catalog::record_staged",
    "durable::link",
    "commit::month_placed",
    "commit::placed",
    "catalog::set_upload_status",
    "catalog::begin_change",
    "commit::committing",
    "catalog::record_version",
    "commit::recorded",
    "durable::write",
    "durable::write::written",
    "durable::write::named",
    "catalog::forget_version",
    "commit::logged",
    "catalog::set_upload_committed",
    "catalog::end_change",
    "commit::committed",
    "catalog::change_connections",
    "connections::changed",
    "catalog::set_connections_shown",
    "catalog::end_run",
    "purge::history",
    "purge::folder",
    "catalog::purge_upload",
    "checkpoint::begin",
    "checkpoint::written",
    "catalog::record_checkpoint",
];

/// Turns on what the variable `FAILPOINTS` asks for, for as long as what this gives is held. `None` in builds without points.
#[must_use]
pub fn setup() -> Option<FailScenario<'static>> {
    fail::has_failpoints().then(FailScenario::setup)
}

/// Passes a point. An error is what a test asked for.
#[allow(unused_variables, reason = "without points, the macro is nothing")]
pub fn pass(point: &'static str) -> io::Result<()> {
    fail_point!(point, outcome);
    Ok(())
}

/// What a test asks for at a point, and what a function that gives this at once returns: `abort` ends the process there,
/// `skip` leaves the rest of the function undone as if it were done, and `EIO`, `ENOSPC` and `EROFS` are the system's errors.
pub fn outcome(asked: Option<String>) -> io::Result<()> {
    let asked = asked.unwrap_or_default();
    tracing::warn!(asked, "a failpoint fires");
    match asked.as_str() {
        // Nothing is unwound or flushed, which a panic would do.
        "abort" => std::process::abort(),
        "skip" => Ok(()),
        "EIO" => Err(io::Error::from_raw_os_error(5)),
        "ENOSPC" => Err(io::Error::from_raw_os_error(28)),
        "EROFS" => Err(io::Error::from_raw_os_error(30)),
        other => Err(io::Error::other(format!("a failpoint says {other:?}"))),
    }
}
