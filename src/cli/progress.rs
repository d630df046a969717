//! A bar on a terminal that says how far a file is. Nobody sees it where stderr is no terminal.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::table::clean;

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(120);

const OF_KNOWN_SIZE: &str = "{prefix} {wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left {msg}";
const OF_ANY_SIZE: &str = "{prefix} {spinner} {bytes}, {bytes_per_sec} {msg}";
const WAITING: &str = "{prefix} {spinner} {bytes} {msg}";

/// Clones are the same bar.
#[derive(Clone)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// `bytes` of a file of unknown size is `None`.
    pub(super) fn new(wanted: bool, name: &str, bytes: Option<u64>) -> Self {
        if !wanted || !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let progress = Self(ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr()));
        progress.show_bytes();
        progress.0.set_prefix(clean(name).into_owned());
        progress.0.enable_steady_tick(TICK);
        progress
    }

    /// Bytes that went on to whoever `then` says is at work once they were the last.
    pub(super) fn advance(&self, bytes: usize, then: &'static str) {
        self.0.inc(bytes as u64);
        if self.0.length().is_some_and(|all| self.0.position() >= all) {
            self.wait_for(then);
        }
    }

    /// All bytes are through, which only the end tells of a file of unknown size.
    pub(super) fn wait_for(&self, what: &'static str) {
        self.0.set_style(style(WAITING));
        self.0.set_message(what);
    }

    /// The file is sent from its start again.
    pub(super) fn restart(&self, why: &'static str) {
        self.0.reset();
        self.show_bytes();
        self.0.set_message(why);
    }

    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }

    fn show_bytes(&self) {
        self.0.set_style(style(if self.0.length().is_some() { OF_KNOWN_SIZE } else { OF_ANY_SIZE }));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
