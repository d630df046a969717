//! Logs: structured, on stderr, with the request's id on every line that a request causes. Beside them the operational
//! counters.

mod counters;
mod readings;

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

pub use counters::{AskedMetric, Counters, RowKind, UnderWay, UploadInCount, UploadOutcome};
pub use readings::{LakeReading, Readings};

use crate::config::{LogConfig, LogFormat};

/// Starts logging for the whole process. A second call changes nothing.
pub fn start(config: &LogConfig) {
    let filter = EnvFilter::new(&config.filter);
    let lines = tracing_subscriber::registry().with(filter);
    // An error here says that logging has been started already, by a test in the same process.
    let _ = match config.format {
        LogFormat::Text => {
            let layer = fmt::layer().with_writer(io::stderr).with_target(false).with_ansi(io::stderr().is_terminal());
            lines.with(layer).try_init()
        }
        LogFormat::Json => {
            lines.with(fmt::layer().json().with_writer(io::stderr).flatten_event(true).with_span_list(false)).try_init()
        }
    };
}
