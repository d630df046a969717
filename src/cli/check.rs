//! `wattlake check`: what an upload of a file would report, without a server and without a data folder.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    thread,
};

use clap::Args;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::{
    Failure,
    output::{Sink, say, say_json},
    progress::Progress,
    report::{ERRORS_SHOWN, Report},
    source::{Opened, Source},
};
use crate::{
    config::{Sources, UploadConfig, environment},
    error::ErrorKind,
    ingest::{FileCheck, IngestError, check_file},
    payments::{packing::Packing, required::RequiredColumn},
    programmes::checked_columns,
};

/// Bytes of rejected rows that are copied at a time.
const CHUNK: usize = 256 << 10;

#[derive(Args)]
pub(super) struct Flags {
    /// A file named `ELECTRICITY_PAYMENT.csv`, or `.csv.gz` or `.csv.zst` of that name; `-` is standard input.
    file: PathBuf,
    /// Write the rejected rows into a file, as CSV with line, column, code and message; an empty one where there are none.
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// A column that a programme asks for, such as STATUS: the file must have it, and a value in each row. May be repeated.
    #[arg(long, value_name = "COLUMN")]
    require: Vec<String>,
    /// How many errors to show, of the first hundred.
    #[arg(long, value_name = "NUMBER")]
    errors: Option<usize>,
    /// A TOML file of settings, for the limits on a file; ./wattlake.toml where it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Flags {
    pub(super) async fn run(self, json: bool) -> Result<(), Failure> {
        self.check(json).await.map_err(|failure| failure.about(&self.file))
    }

    async fn check(&self, json: bool) -> Result<(), Failure> {
        let sources = Sources { variables: environment(), file: self.config.clone(), ..Sources::default() };
        let limits = sources.load()?.config.upload;
        let required = self.required()?;
        let source = Source::new(&self.file);
        if let (Source::File(path), Some(rejected)) = (&source, &self.rejected)
            && is_same(path, rejected)
        {
            return Err(Failure::new(ErrorKind::Invalid, "--rejected would write over the file that is checked"));
        }
        let opened = source.open()?;
        let packing = packing_of(&opened.name)?;
        let scratch = tempfile::tempdir().map_err(|error| Failure::of(ErrorKind::Unavailable, &error))?;
        let progress = Progress::new(!json, &self.file.display().to_string(), opened.bytes);
        let checked = check(opened, packing, (limits, required), scratch.path(), progress.clone()).await;
        progress.clear();
        let checked = checked?;
        if let Some(path) = &self.rejected {
            write_rejected(&checked, path)?;
        }
        self.say(&checked, json)?;
        // The report is on stdout, whatever it says; the failure is for who looks at the exit code.
        if checked.is_good() { Ok(()) } else { Err(Failure::new(ErrorKind::Rejected, &checked.summary())) }
    }

    /// What is asked of the file beyond what every file needs. Who asks is not known here.
    fn required(&self) -> Result<Vec<RequiredColumn>, Failure> {
        let columns = checked_columns(&self.require);
        let columns = columns.map_err(|message| Failure::new(ErrorKind::Invalid, &format!("--require: {message}")))?;
        Ok(columns.into_iter().map(|column| RequiredColumn { column, programmes: Vec::new() }).collect())
    }

    fn say(&self, checked: &FileCheck, json: bool) -> Result<(), Failure> {
        let mut report = checked.to_json();
        if json {
            if let (Some(most), Some(Value::Array(errors))) = (self.errors, report.get_mut("errors")) {
                errors.truncate(most);
            }
            let named = [("file".to_owned(), Value::from(self.file.display().to_string()))];
            return say_json(&named.into_iter().chain(report).collect::<Map<String, Value>>());
        }
        let unreadable = || Failure::new(ErrorKind::Internal, "the report is none");
        let lines = Report::of(&report).ok_or_else(unreadable)?.lines(self.errors.unwrap_or(ERRORS_SHOWN));
        say(&lines.join("\n"))
    }
}

/// On a thread that nothing waits for, so that Ctrl-C ends it; the folder of what it leaves is removed by who made it.
async fn check(
    opened: Opened,
    packing: Packing,
    (limits, required): (UploadConfig, Vec<RequiredColumn>),
    scratch: &Path,
    progress: Progress,
) -> Result<FileCheck, Failure> {
    let (done, checked) = oneshot::channel::<Result<FileCheck, IngestError>>();
    let (scratch, reader) = (scratch.to_owned(), Counted { reader: opened.reader, progress });
    thread::spawn(move || {
        // Who waited for it may have been stopped.
        let _ = done.send(check_file(reader, packing, &limits, required, &scratch));
    });
    tokio::select! {
        checked = checked => Ok(checked.map_err(|error| Failure::of(ErrorKind::Internal, &error))??),
        _ = tokio::signal::ctrl_c() => Err(Failure::new(ErrorKind::Unavailable, "the check was stopped")),
    }
}

/// The rule on names, as a server has it.
fn packing_of(name: &str) -> Result<Packing, Failure> {
    Packing::of_file_name(name).ok_or_else(|| {
        let failure = Failure::new(ErrorKind::Rejected, &Packing::wrong_name(name));
        failure.with_line("to check what is in it all the same: wattlake check - < FILE")
    })
}

fn write_rejected(checked: &FileCheck, path: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::of(ErrorKind::Unavailable, &error);
    let mut sink = Sink::open(Some(path))?;
    if let Some(mut rows) = checked.rejected_rows().map_err(failed)? {
        let mut chunk = Vec::with_capacity(CHUNK);
        while rows.by_ref().take(CHUNK as u64).read_to_end(&mut chunk).map_err(failed)? > 0 {
            sink.write(&chunk)?;
            chunk.clear();
        }
    }
    sink.finish()
}

fn is_same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// A reader whose bytes move a bar.
struct Counted {
    reader: Box<dyn Read + Send>,
    progress: Progress,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.progress.advance(count, "read; its IDs are compared");
        Ok(count)
    }
}
