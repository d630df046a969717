//! A bar on a terminal that says how far a file is. Nobody sees it where stderr is no terminal.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often the spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// Clones are the same bar. It is cleared when it is dropped.
#[derive(Clone)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// `bytes` of a file of unknown size is `None`.
    pub(super) fn new(wanted: bool, name: &str, bytes: Option<u64>) -> Self {
        if !wanted || !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(bytes, ProgressDrawTarget::stderr());
        bar.set_style(style(match bytes {
            Some(_) => "{prefix} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left {msg}",
            None => "{prefix} {spinner} {bytes}, {bytes_per_sec} {msg}",
        }));
        bar.set_prefix(super::table::clean(name).into_owned());
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    pub(super) fn advance(&self, bytes: usize) {
        self.0.inc(bytes as u64);
    }

    /// All bytes are through, and somebody else is at work now.
    pub(super) fn wait_for(&self, what: &'static str) {
        self.0.set_style(style("{prefix} {spinner} {bytes} {msg}"));
        self.0.set_message(what);
    }

    /// The file is sent from its start again.
    pub(super) fn restart(&self, why: &'static str) {
        self.0.reset();
        self.0.set_message(why);
    }

    pub(super) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
