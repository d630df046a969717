//! A process with its question, seen from the server, until it is dead. Whatever happens to whoever waits for its answer, a
//! keeper kills it at its deadline or when nobody waits any more, and gives its place up only then.

use std::{any::Any, io, os::unix::process::ExitStatusExt, pin::pin, process::ExitStatus, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use super::{
    SqlError,
    frames::Frame,
    question::Limits,
    tracked::Watched,
    workers::{Waiting, Workers},
};

/// The process that takes the place of another starts when that has ended, so that it takes no processor from the query, or
/// after so long where that lasts.
const REPLACED_AFTER: Duration = Duration::from_millis(500);
/// Of what a process says for the log, so much is kept.
const MAX_LOG: u64 = 16 << 10;
/// `SIGABRT`, with which a process ends that is out of memory or finds a defect of its own; `SIGKILL`, which is the system's
/// where it was not ours; `SIGXCPU`.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGXCPU: i32 = 24;
/// The exit code of a panic.
const PANICKED: i32 = 101;

/// A process that answers. Dropped, it is killed at once.
#[derive(Debug)]
pub(super) struct Running {
    frames: ChildStdout,
    came: BytesMut,
    keeper: Option<(oneshot::Sender<()>, JoinHandle<Ended>)>,
    timeout: Duration,
    limits: Limits,
    watched: Watched,
}

/// How a process ended.
#[derive(Debug)]
struct Ended {
    status: io::Result<ExitStatus>,
    overdue: bool,
    cancelled: bool,
    log: String,
}

impl Running {
    /// Puts a question to a process. `held` is what is given up once it is dead.
    pub(super) fn ask(
        waiting: Waiting,
        question: Vec<u8>,
        limits: Limits,
        (deadline, timeout): (Instant, Duration),
        watched: Watched,
        held: impl Any + Send,
        workers: Arc<Workers>,
    ) -> Self {
        let Waiting { child, question: mut input, frames, log } = waiting;
        let (release, released) = oneshot::channel();
        let log = tokio::spawn(read_log(log));
        let cancelled = watched.cancelled();
        // The question is written beside the keeper's waiting: who does not take it is killed as well.
        let keeper = tokio::spawn(async move {
            let written = async {
                // Where it does not take all, its end is what is told.
                drop(input.write_all(&question).await);
                drop(question);
                input
            };
            let mut kept = pin!(keep(child, written, log, deadline, (released, cancelled)));
            let in_time = tokio::time::timeout(REPLACED_AFTER, &mut kept).await;
            if in_time.is_err() {
                workers.start_ahead();
            }
            let ended = match in_time {
                Ok(ended) => ended,
                Err(_) => kept.await,
            };
            drop(held);
            workers.start_ahead();
            ended
        });
        Self { frames, came: BytesMut::new(), keeper: Some((release, keeper)), timeout, limits, watched }
    }

    /// The next frame. Cancelled, it loses nothing.
    ///
    /// # Errors
    /// Why the process ended without its last frame.
    pub(super) async fn next(&mut self) -> Result<Frame, SqlError> {
        loop {
            match Frame::take(&mut self.came) {
                Ok(Some(Frame::Progress(progress))) => {
                    self.watched.came_to(progress);
                    continue;
                }
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(error) => return Err(self.ended_early(Some(error)).await),
            }
            match self.frames.read_buf(&mut self.came).await {
                Ok(0) => return Err(self.ended_early(None).await),
                Ok(_) => {}
                Err(error) => return Err(self.ended_early(Some(error)).await),
            }
        }
    }

    /// Ends the process, and waits until it is dead.
    pub(super) async fn end(&mut self) {
        if let Some((release, keeper)) = self.keeper.take() {
            drop(release);
            // A keeper ends with its process, or with the server.
            drop(keeper.await);
        }
    }

    /// Ends the process, which has said all that it was asked for; its keeper waits until it is dead.
    pub(super) fn let_go(&mut self) {
        self.keeper = None;
    }

    async fn ended_early(&mut self, error: Option<io::Error>) -> SqlError {
        let Some((release, keeper)) = self.keeper.take() else {
            return SqlError::Crashed { how: "it was asked on after its end".to_owned() };
        };
        drop(release);
        let Ok(ended) = keeper.await else {
            return SqlError::Crashed { how: "nobody kept it".to_owned() };
        };
        if let Some(error) = error {
            return SqlError::Crashed { how: format!("what it said could not be read: {error}") };
        }
        ended.why(self.timeout, &self.limits)
    }
}

impl Ended {
    fn why(self, timeout: Duration, limits: &Limits) -> SqlError {
        if self.cancelled {
            return SqlError::Cancelled;
        }
        if self.overdue {
            return SqlError::Deadline(timeout);
        }
        let signal = self.status.as_ref().ok().and_then(ExitStatus::signal);
        // What Rust says before it aborts for want of memory. The text decides nothing else.
        let aborted = signal == Some(SIGABRT) && self.log.contains("memory allocation of");
        // What Arrow says where a column has more than the 2 GiB that its offsets reach.
        let code = self.status.as_ref().ok().and_then(ExitStatus::code);
        let out_of_memory = aborted || code == Some(PANICKED) && self.log.contains("offset overflow");
        match signal {
            Some(SIGXCPU) => SqlError::Cpu(Duration::from_secs(limits.cpu_s)),
            _ if out_of_memory || signal == Some(SIGKILL) => SqlError::OutOfMemory { limit: limits.memory_bytes },
            _ => SqlError::Crashed {
                how: self.status.map_or_else(|error| error.to_string(), |status| status.to_string()),
            },
        }
    }
}

/// Waits until the deadline, until it is cancelled, or until nobody waits for the answer; then the process is killed, whatever it is at.
async fn keep(
    mut child: Child,
    written: impl Future<Output = ChildStdin>,
    log: JoinHandle<String>,
    deadline: Instant,
    (released, cancelled): (oneshot::Receiver<()>, impl Future<Output = ()>),
) -> Ended {
    let watch = async {
        // Its input stays open: the end of it is the end of the server.
        let _input = written.await;
        std::future::pending::<()>().await;
    };
    let (overdue, cancelled) = tokio::select! {
        () = sleep_until(deadline) => (true, false),
        () = cancelled => (false, true),
        _ = released => (false, false),
        () = watch => (false, false),
    };
    if let Err(error) = child.start_kill() {
        // It is dead already, or is nobody's to kill.
        tracing::debug!(%error, "a process for SQL was not killed");
    }
    let status = child.wait().await;
    let log = log.await.unwrap_or_default();
    if !log.is_empty() {
        tracing::warn!(log, "a process for SQL said");
    }
    Ended { status, overdue, cancelled, log }
}

/// The beginning of what a process says for the log; the rest is read and forgotten, so that it never waits for that.
async fn read_log(mut from: ChildStderr) -> String {
    let mut text = Vec::new();
    let read = (&mut from).take(MAX_LOG).read_to_end(&mut text).await;
    if read.is_ok() {
        drop(tokio::io::copy(&mut from, &mut tokio::io::sink()).await);
    }
    String::from_utf8_lossy(&text).trim_end().to_owned()
}
