//! SQL that a person wrote, run where it can harm nobody: a process of the same program, started ahead, which gets one
//! question, shuts itself in, answers and is gone. The server checks who asks and for what, hands over the files of the
//! scope, and passes the rows on; it plans and runs nothing of the SQL itself.
//!
//! In the server: `engine` (who may run now, and which files) → `workers` (the processes that wait) → `running` (one of
//! them, until it is dead) → `answer` (its rows in the form that was asked for). In the process: `worker` → `confine` →
//! `statement` (by way of `guard`, before anything is planned) → `run`. Between them: `question` in, `frames` out. What is
//! wrong with a statement is a [`Fault`], which tells nothing of files, settings or rows.

mod answer;
mod bounded;
mod confine;
mod engine;
pub mod explain;
mod fault;
mod frames;
pub mod functions;
pub mod guard;
mod parameters;
pub mod queries;
mod query_info;
mod question;
pub mod relations;
mod run;
mod running;
pub mod saved;
pub mod schema;
mod statement;
mod stored;
#[cfg(test)]
mod tests;
mod tracked;
mod warm;
mod worker;
mod workers;

use std::{io, time::Duration};

pub use answer::SqlAnswer;
pub use engine::{SqlEngine, SqlInputs, SqlRequest};
pub use fault::{Fault, FaultKind, Place};
pub use frames::Failure;
pub use guard::{Checked, check};
pub use parameters::{Parameters, WrongParameter};
pub use worker::work;
pub use workers::COMMAND;

use crate::{error::ErrorKind, lake::LakeError, query::QueryError};

/// Why SQL has no answer, or none to its end.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    /// The queue before it, or the form of its answer.
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error("files of the lake")]
    Lake(#[from] LakeError),
    #[error("{what}")]
    Io { what: &'static str, source: io::Error },
    #[error(
        "the query took longer than {} s and was stopped; ask for less, or for more time with timeout_s, up to the server's \
         sql.timeout_s", .0.as_secs()
    )]
    Deadline(Duration),
    #[error(
        "the query took more time on processors than the server's sql.cpu_s, which is {} s, and was stopped; ask for less",
        .0.as_secs()
    )]
    Cpu(Duration),
    #[error(
        "the query needs more memory than the server's sql.worker_memory_bytes, which is {limit}; ask for fewer rows, groups or \
         columns, or for less at once"
    )]
    OutOfMemory { limit: u64 },
    #[error("the query was cancelled")]
    Cancelled,
    #[error(
        "the results that are kept would have more than the server's sql.results_bytes, which is {limit}; ask for less, or delete \
         results that are not needed any more"
    )]
    ResultsFull { limit: u64 },
    #[error("the process of the query ended before its answer did: {how}")]
    Crashed { how: String },
    /// What the process itself says.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl SqlError {
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Query(error) => error.kind(),
            Self::Lake(error) => error.kind(),
            Self::Io { .. } => ErrorKind::Unavailable,
            Self::Deadline(_) | Self::Cpu(_) => ErrorKind::Timeout,
            Self::OutOfMemory { .. } | Self::ResultsFull { .. } => ErrorKind::Rejected,
            Self::Cancelled => ErrorKind::Conflict,
            Self::Crashed { .. } => ErrorKind::Internal,
            Self::Failed(failure) => failure.kind(),
        }
    }
}
