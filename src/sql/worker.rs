//! A process for SQL, from its start to its end: warms up, waits for a question, shuts itself in, answers, and is gone. Until
//! it is shut in, it has read nothing that a person wrote.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Read, Write},
    os::fd::AsFd,
    process::ExitCode,
};

use super::{
    Failure,
    confine::confine,
    frames::Frame,
    question::{BUILD, Question},
    run::{self, Stop},
    warm::warm_up,
};

/// How much the process stands back where processors are short (0 to 19): behind the server, which answers metrics itself. With one
/// that wants all of a processor, it has a quarter of it.
const NICENESS: i32 = 5;

/// Threads that read files.
const READERS: usize = 16;

/// What the process says by its exit code, which the log has.
const NOT_SHUT_IN: u8 = 3;
const NOT_UNDERSTOOD: u8 = 4;
const UNHEARD: u8 = 5;

/// Runs the process: a question from standard input, frames to standard output.
#[must_use]
pub fn work() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => {
            say(&error);
            ExitCode::from(code)
        }
    }
}

#[allow(clippy::print_stderr, reason = "what this process has for a log is read by the server")]
fn say(error: &io::Error) {
    eprintln!("{error}");
}

fn serve() -> Result<(), (u8, io::Error)> {
    let not_understood = |error| (NOT_UNDERSTOOD, error);
    // Where the system does not let it, it is only less polite.
    let _ = rustix::process::nice(NICENESS);
    warm_up();
    let Some(question) = Question::read(&mut io::stdin().lock()).map_err(not_understood)? else { return Ok(()) };
    // Without the buffer of lines that standard output has.
    let out = io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(not_understood)?;
    // What is small goes out with what comes after it, because each piece wakes the server.
    let mut out = BufWriter::new(out);
    let unheard = |error| (UNHEARD, error);
    if question.build != BUILD {
        let said = Frame::Failed(Failure::OtherBuild).write(&mut out).and_then(|()| out.flush());
        return said.map_err(unheard);
    }
    is_one_thread().map_err(|error| (NOT_SHUT_IN, error))?;
    let confinement = confine(&question).map_err(|error| (NOT_SHUT_IN, error))?;
    Frame::Confined(confinement).write(&mut out).map_err(unheard)?;
    end_with_the_server().map_err(|error| (NOT_SHUT_IN, error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(question.limits.target_partitions)
        // Each takes its stack of the address space; they read files, a few at a time.
        .max_blocking_threads(READERS)
        .enable_time()
        .build()
        .map_err(|error| (NOT_SHUT_IN, error))?;
    match runtime.block_on(run::answer(question, &mut out)) {
        Ok(()) => {}
        Err(Stop::Failed(failure)) => {
            Frame::Failed(failure).write(&mut out).and_then(|()| out.flush()).map_err(unheard)?;
        }
        Err(Stop::Unheard(error)) => return Err(unheard(error)),
    }
    // What still runs of the query ends with the process.
    runtime.shutdown_background();
    Ok(())
}

/// The kernel shuts in the thread that asks for it, and those that it starts from then on: another one would be left out.
fn is_one_thread() -> io::Result<()> {
    // Where the system does not tell, there is what the code says: nothing starts a thread until here.
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads > 1 {
        return Err(io::Error::other("there is a second thread before the first is shut in"));
    }
    Ok(())
}

/// Ends the process when the server does, however it does: its end of standard input goes with it.
fn end_with_the_server() -> io::Result<()> {
    let watch = || {
        let mut rest = [0; 64];
        let mut input = io::stdin().lock();
        while !matches!(input.read(&mut rest), Ok(0) | Err(_)) {}
        std::process::exit(i32::from(UNHEARD));
    };
    std::thread::Builder::new().stack_size(64 << 10).spawn(watch).map(drop)
}
