//! What commands write: results on stdout, failures on stderr.

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

use serde::Serialize;

use crate::{catalog::CatalogError, config::ConfigError, demo::DemoError, error::ErrorKind, server::ServerError};

/// Why a command failed: a line that says what, further lines that say more, and the exit code.
#[derive(Debug)]
pub struct Failure {
    kind: ErrorKind,
    lines: Vec<String>,
}

impl Failure {
    #[must_use]
    pub fn new(kind: ErrorKind, message: &str) -> Self {
        Self { kind, lines: message.lines().map(str::to_owned).collect() }
    }

    /// An error on the first line, and each of its sources on a line of its own: who runs the command may see them.
    #[must_use]
    pub fn of(kind: ErrorKind, error: &(dyn Error + 'static)) -> Self {
        let mut failure = Self::new(kind, &error.to_string());
        let mut next = error.source();
        while let Some(source) = next {
            failure.lines.push(format!("because {source}"));
            next = source.source();
        }
        failure
    }

    #[must_use]
    pub fn with_line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Writes it to stderr.
    #[must_use]
    pub fn tell(&self) -> ExitCode {
        let mut err = io::stderr().lock();
        let mut lines = self.lines.iter();
        // Where stderr is closed there is nobody left to tell.
        let _ = writeln!(err, "wattlake: {}", lines.next().map_or("failed", String::as_str));
        for line in lines {
            let _ = writeln!(err, "  {line}");
        }
        ExitCode::from(self.kind.exit_code())
    }
}

impl From<CatalogError> for Failure {
    fn from(error: CatalogError) -> Self {
        Self::of(error.kind(), &error)
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        Self::of(error.kind(), &error)
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        Self::of(error.kind(), &error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::of(ErrorKind::Invalid, &error)
    }
}

/// Writes lines to stdout. A reader that has gone, such as `head`, is no failure.
pub(super) fn say(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::of(ErrorKind::Unavailable, &error)),
        _ => Ok(()),
    }
}

/// Writes a value as JSON to stdout.
pub(super) fn say_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::of(ErrorKind::Internal, &error))?;
    say(&text)
}

/// Writes rows under headers, in columns as wide as they need.
pub(super) fn say_table<const N: usize>(headers: [&str; N], rows: &[[String; N]]) -> Result<(), Failure> {
    let mut widths = headers.map(|header| header.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(headers)];
    lines.extend(rows.iter().map(|row| line(row.each_ref().map(String::as_str))));
    say(&lines.join("\n"))
}
