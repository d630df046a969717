//! The processes for SQL that wait for their question, some of them started ahead, because starting one takes longer than many
//! a query does.

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// The hidden command that a process for SQL is started with.
pub const COMMAND: &str = "sql-worker";

/// This program, whatever became of its file since it was started.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// A process that waits. It is killed when it is dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) child: Child,
    pub(super) question: ChildStdin,
    pub(super) frames: ChildStdout,
    pub(super) log: ChildStderr,
}

#[derive(Debug)]
pub(super) struct Workers {
    program: PathBuf,
    ahead: usize,
    waiting: Mutex<VecDeque<Waiting>>,
    /// Held by the one that starts processes ahead.
    starting: Mutex<()>,
}

impl Workers {
    /// Keeps `ahead` processes of `program`, or of this program where none is named.
    pub(super) fn new(program: Option<PathBuf>, ahead: usize) -> Self {
        let this = || match Path::new(THIS_PROGRAM) {
            link if link.exists() => link.to_owned(),
            _ => std::env::current_exe().unwrap_or_default(),
        };
        Self { program: program.unwrap_or_else(this), ahead, waiting: Mutex::default(), starting: Mutex::default() }
    }

    /// A process that waits for a question. Whoever takes it has [`Self::start_ahead`] start another one in its place, when that
    /// is in nobody's way.
    pub(super) fn take(&self) -> io::Result<Waiting> {
        let mut ready = None;
        while let Some(mut waiting) = self.lock().pop_front() {
            // One that ended meanwhile, by whatever hand, is no use.
            if matches!(waiting.child.try_wait(), Ok(None)) {
                ready = Some(waiting);
                break;
            }
        }
        match ready {
            Some(waiting) => Ok(waiting),
            None => self.start(),
        }
    }

    /// Starts as many as are to wait, beside whatever else is done. Where that fails, the next query tells.
    pub(super) fn start_ahead(self: &Arc<Self>) {
        if self.lock().len() >= self.ahead {
            return;
        }
        let workers = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let _turn = workers.starting.lock().unwrap_or_else(PoisonError::into_inner);
            while workers.lock().len() < workers.ahead {
                match workers.start() {
                    Ok(waiting) => workers.lock().push_back(waiting),
                    Err(error) => {
                        tracing::warn!(%error, "a process for SQL could not be started ahead");
                        return;
                    }
                }
            }
        });
    }

    fn start(&self) -> io::Result<Waiting> {
        let mut child = Command::new(&self.program)
            .arg0("wattlake")
            .arg(COMMAND)
            .env_clear()
            // Each arena of the C library takes 64 MiB of the address space, which is limited.
            .env("MALLOC_ARENA_MAX", "2")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let parts = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(question), Some(frames), Some(log)) = parts else {
            return Err(io::Error::other("a process without its pipes"));
        };
        Ok(Waiting { child, question, frames, log })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
