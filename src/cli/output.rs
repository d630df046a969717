//! What commands write: results on stdout or into a file, failures on stderr.

use std::{
    error::Error,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::Serialize;
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use super::table::{Align, clean, table};
use crate::{
    catalog::CatalogError, config::ConfigError, demo::DemoError, error::ErrorKind, ingest::IngestError,
    server::ServerError,
};

/// Why a command failed: a line that says what, further lines that say more, and the exit code.
#[derive(Debug)]
pub struct Failure {
    kind: ErrorKind,
    lines: Vec<String>,
    /// What a server answered, where it is a server's refusal.
    problem: Option<Box<Map<String, Value>>>,
    /// The file that it is about, of a command that takes several.
    file: Option<String>,
    /// Whether a server may have done what it was asked to, and could not say so.
    is_open: bool,
    /// Whether it has been told already.
    told: bool,
}

impl Failure {
    #[must_use]
    pub fn new(kind: ErrorKind, message: &str) -> Self {
        let lines = message.lines().map(str::to_owned).collect();
        Self { kind, lines, problem: None, file: None, is_open: false, told: false }
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

    /// What is left to do for several failures that were told one by one: the exit code of the worst.
    #[must_use]
    pub(super) fn told(kind: ErrorKind) -> Self {
        Self { told: true, ..Self::new(kind, "") }
    }

    #[must_use]
    pub fn with_line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    #[must_use]
    pub(super) fn with_problem(mut self, problem: Map<String, Value>) -> Self {
        self.problem = Some(Box::new(problem));
        self
    }

    #[must_use]
    pub(super) fn about(mut self, file: &Path) -> Self {
        self.file = Some(file.display().to_string());
        self
    }

    pub(super) fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// A failure that says nothing of what a server did.
    #[must_use]
    pub(super) fn leaving_open(self) -> Self {
        Self { is_open: true, ..self }
    }

    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// Writes it to stderr: lines for people, or one line of JSON.
    #[must_use]
    pub fn tell(&self, json: bool) -> ExitCode {
        if !self.told {
            let text = if json { format!("{}\n", self.to_json()) } else { self.to_text() };
            // Where stderr is closed there is nobody left to tell.
            let _ = io::stderr().lock().write_all(text.as_bytes());
        }
        ExitCode::from(self.kind.exit_code())
    }

    fn message(&self) -> &str {
        self.lines.first().map_or("failed", String::as_str)
    }

    fn to_text(&self) -> String {
        let file = self.file.as_ref().map(|file| format!("{}: ", clean(file))).unwrap_or_default();
        let mut text = format!("wattlake: {file}{}\n", clean(self.message()));
        for line in self.lines.iter().skip(1) {
            text.push_str(format!("  {}", clean(line)).trim_end());
            text.push('\n');
        }
        text
    }

    fn to_json(&self) -> Value {
        let mut error = Map::new();
        if let Some(file) = &self.file {
            error.insert("file".to_owned(), json!(file));
        }
        error.insert("kind".to_owned(), json!(self.kind));
        error.insert("exit_code".to_owned(), json!(self.kind.exit_code()));
        error.insert("message".to_owned(), json!(self.message()));
        match &self.problem {
            // The lines say the same for people.
            Some(problem) => error.insert("problem".to_owned(), json!(problem)),
            None => error.insert("details".to_owned(), json!(self.lines.get(1..).unwrap_or_default())),
        };
        json!({ "error": error })
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

impl From<IngestError> for Failure {
    fn from(error: IngestError) -> Self {
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

/// Writes rows of texts under headers, in columns as wide as they need.
pub(super) fn say_table<const N: usize>(headers: [&str; N], rows: &[[String; N]]) -> Result<(), Failure> {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.to_vec()).collect();
    say(&table(&headers.map(|header| (header, Align::Left)), &rows).join("\n"))
}

/// Writes a line to stderr that is no failure, for people.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "wattlake: {}", clean(text));
}

/// Where the bytes of a result go.
pub(super) enum Sink {
    Stdout,
    /// It gets its name when it is whole, so that a result that broke off replaces nothing.
    File {
        file: NamedTempFile,
        path: PathBuf,
    },
    /// What is there and is no file, such as a named pipe, is written to as it is.
    Device {
        device: std::fs::File,
        path: PathBuf,
    },
}

impl Sink {
    /// Stdout where no path is given, and for `-`.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path.filter(|path| *path != Path::new("-")) else { return Ok(Self::Stdout) };
        let opened = match std::fs::metadata(path) {
            Ok(found) if !found.is_file() => {
                let device = std::fs::File::options().write(true).open(path);
                device.map(|device| Self::Device { device, path: path.to_owned() })
            }
            _ => temporary_beside(path).map(|file| Self::File { file, path: path.to_owned() }),
        };
        opened.map_err(|error| cannot_write(path, &error))
    }

    /// Writes a piece. False once nobody reads what goes to stdout any more.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<bool, Failure> {
        match self {
            Self::Stdout => match io::stdout().lock().write_all(bytes) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
                other => other.map(|()| true).map_err(|error| cannot_write(Path::new("stdout"), &error)),
            },
            Self::File { file, path } => {
                file.write_all(bytes).map(|()| true).map_err(|error| cannot_write(path, &error))
            }
            Self::Device { device, path } => {
                device.write_all(bytes).map(|()| true).map_err(|error| cannot_write(path, &error))
            }
        }
    }

    /// Writes what is left, and gives a file its name.
    pub(super) fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Stdout => match io::stdout().lock().flush() {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    Err(cannot_write(Path::new("stdout"), &error))
                }
                _ => Ok(()),
            },
            Self::File { file, path } => {
                file.persist(&path).map(drop).map_err(|error| cannot_write(&path, &error.error))
            }
            Self::Device { .. } => Ok(()),
        }
    }
}

/// In the same folder, with the rights of any new file.
fn temporary_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".wattlake-");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    use io::ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
    let kind = match error.kind() {
        // Another path would do.
        NotFound | PermissionDenied | IsADirectory | NotADirectory => ErrorKind::Invalid,
        io::ErrorKind::StorageFull => ErrorKind::StorageFull,
        _ => ErrorKind::Unavailable,
    };
    // A temporary file's own name is nobody's business.
    let cause = error.get_ref().and_then(|error| error.source()).map_or_else(|| error.to_string(), ToString::to_string);
    Failure::new(kind, &format!("cannot write to {}: {cause}", path.display()))
}
