//! `wattlake ingest`: sends files to a server, and says what became of them.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode, header};
use serde_json::{Map, Value};

use super::{
    Failure,
    client::{Client, ClientFlags},
    output::say,
    progress::Progress,
    report::{ERRORS_SHOWN, Report},
    source::{Opened, Source},
};
use crate::{catalog::OnError, error::ErrorKind, ids::IdempotencyKey};

/// What a file waits for once it is sent.
const CHECKING: &str = "sent; the server checks it";

#[derive(Args)]
pub(super) struct Flags {
    /// Files named `ELECTRICITY_PAYMENT.csv`, or `.csv.gz` or `.csv.zst` of that name; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The slug of the project that the payments belong to. Several, and each row goes to the one whose connections hold its
    /// meter.
    #[arg(long, value_name = "SLUG", required = true)]
    project: Vec<String>,
    /// A name for the upload; `MM_YYYY_Site Name` also gives the site of rows without LOCATION.
    #[arg(long, value_name = "NAME")]
    dataset_name: String,
    /// What to do about bad rows: `reject_file`, which is the default, or `skip_rows`.
    #[arg(long, value_name = "CHOICE")]
    on_error: Option<OnError>,
    /// Only report what is in the file; nothing is kept.
    #[arg(long)]
    dry_run: bool,
    /// A name for this upload that the server knows again, so that it lands once however often it is sent. A new one is made
    /// for each file unless it is given.
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<IdempotencyKey>,
    /// Say nothing of what went well.
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    client: ClientFlags,
}

impl Flags {
    /// Sends one file after the other. The first failure that the next file would meet as well ends it; the exit code is that
    /// of the worst.
    pub(super) async fn run(self, json: bool) -> Result<(), Failure> {
        let wrong = |message| Err(Failure::new(ErrorKind::Invalid, message));
        if self.files.iter().filter(|file| file.as_path() == Path::new("-")).count() > 1 {
            return wrong("standard input is there once; name it once");
        }
        if self.files.len() > 1 && self.idempotency_key.is_some() {
            return wrong("an idempotency key is for one file; send each with its own, or leave it out");
        }
        let client = self.client.client()?;
        let mut worst: Option<ErrorKind> = None;
        for (at, file) in self.files.iter().enumerate() {
            let Err(failure) = self.ingest(&client, file, json).await else { continue };
            let (kind, failure) = (failure.kind(), failure.about(file));
            if self.files.len() == 1 {
                return Err(failure);
            }
            let left = self.files.len() - at - 1;
            let failure = match left {
                1.. if concerns_all(kind) => failure.with_line(format!("{left} more files were not sent")),
                _ => failure,
            };
            let _ = failure.tell(json);
            worst = worst.into_iter().chain([kind]).max_by_key(|kind| kind.exit_code());
            if concerns_all(kind) {
                break;
            }
        }
        worst.map_or(Ok(()), |kind| Err(Failure::told(kind)))
    }

    async fn ingest(&self, client: &Client, file: &Path, json: bool) -> Result<(), Failure> {
        let response = self.send(client, file, json).await?;
        let created = response.status() == StatusCode::CREATED;
        let answer: Map<String, Value> = client.read_json(response).await?;
        if self.quiet {
            return Ok(());
        }
        if json {
            // A line for each file, so that several can be told apart.
            let named = [("file".to_owned(), Value::from(file.display().to_string()))];
            let line: Map<String, Value> = named.into_iter().chain(answer).collect();
            return say(&Value::Object(line).to_string());
        }
        let report = Report::of(&answer).ok_or_else(|| client.not_understood())?;
        let mut lines = vec![format!("{}: {}", file.display(), what_became(&answer, &report, created))];
        lines.extend(report.lines(ERRORS_SHOWN).iter().map(|line| format!("  {line}").trim_end().to_owned()));
        if report.counts.rejected > 0
            && let Some(id) = answer.get("id").and_then(Value::as_str)
        {
            lines.push(format!("  All of its rejected rows: wattlake uploads rejected {id}"));
        }
        say(&lines.join("\n"))
    }

    /// Sends a file, from its start again where the server was not there or asks for it later.
    async fn send(&self, client: &Client, file: &Path, json: bool) -> Result<Response, Failure> {
        let source = Source::new(file);
        // Opened before the server is asked, so that a file that is not there is told at once.
        let mut opened = Some(source.open()?);
        let bytes = opened.as_ref().and_then(|opened| opened.bytes);
        let progress = Progress::new(!json && !self.quiet, &file.display().to_string(), bytes);
        let key = self.key_of_upload();
        let request = |tries| {
            let opened = match opened.take() {
                Some(opened) => opened,
                None => source.open()?,
            };
            if tries > 1 {
                progress.restart("once more");
            }
            self.request(client, opened, key.as_deref(), &progress)
        };
        let answered = client.send_patiently(source.can_open_again(), request).await;
        progress.clear();
        let advice = "send it again: a file that has landed is known again, and does not land twice";
        answered.map_err(|failure| if failure.is_open() { failure.with_line(advice) } else { failure })
    }

    fn request(
        &self,
        client: &Client,
        opened: Opened,
        key: Option<&str>,
        progress: &Progress,
    ) -> Result<RequestBuilder, Failure> {
        let mut query: Vec<_> = self.project.iter().map(|project| ("project".to_owned(), project.clone())).collect();
        query.extend([
            ("dataset_name".to_owned(), self.dataset_name.clone()),
            ("file_name".to_owned(), opened.name.clone()),
        ]);
        if let Some(on_error) = self.on_error {
            query.push(("on_error".to_owned(), on_error.as_str().to_owned()));
        }
        if self.dry_run {
            query.push(("dry_run".to_owned(), "true".to_owned()));
        }
        let mut request = client.request(Method::POST, &["uploads"], &query)?;
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(bytes) = opened.bytes {
            // So that a file that is too large is refused before it is sent.
            request = request.header(header::CONTENT_LENGTH, bytes);
        }
        Ok(request.body(body(opened, progress.clone())))
    }

    /// The key that makes one of several tries; a dry run needs none, because it leaves nothing.
    fn key_of_upload(&self) -> Option<String> {
        let given = self.idempotency_key.as_ref().map(|key| key.as_str().to_owned());
        given.or_else(|| (!self.dry_run).then(|| uuid::Uuid::now_v7().to_string()))
    }
}

/// The bytes of a file as they are read.
pub(super) fn body(opened: Opened, progress: Progress) -> Body {
    let mut queue = opened.into_chunks();
    let sent = progress.clone();
    let chunks = stream::poll_fn(move |context| queue.poll_recv(context));
    let chunks = chunks.inspect_ok(move |chunk: &Bytes| sent.advance(chunk.len(), CHECKING));
    let at_the_end = stream::once(async move {
        progress.wait_for(CHECKING);
        None
    });
    Body::wrap_stream(chunks.map(Some).chain(at_the_end).filter_map(std::future::ready))
}

fn what_became(answer: &Map<String, Value>, report: &Report, created: bool) -> String {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
    let id = text("id");
    if answer.get("already_uploaded").is_some_and(|already| *already == Value::Bool(true)) {
        return format!("this file came before, as {id}; nothing was written");
    }
    if text("status") == "checked" {
        let accepted = report.counts.accepted;
        return match report.counts.rejected {
            0 => "all rows are good; this was a dry run, and nothing is kept".to_owned(),
            _ => format!("{accepted} rows would be taken; this was a dry run, and nothing is kept"),
        };
    }
    let version = answer.get("lake_version").filter(|version| !version.is_null());
    match version {
        Some(version) if created => format!("landed as {id}, in version {version} of the lake"),
        // The answer to a try before this one.
        _ => format!("{} as {id}", text("status")),
    }
}

/// Whether every other file would fail the same way.
fn concerns_all(kind: ErrorKind) -> bool {
    use ErrorKind::{Forbidden, StorageFull, Unauthenticated, Unavailable};
    matches!(kind, Unauthenticated | Forbidden | StorageFull | Unavailable)
}
