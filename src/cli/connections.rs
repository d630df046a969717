//! `wattlake connections`: whom a project supplies, over HTTP: sends files of them, lists, shows and deletes them.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand, ValueEnum};
use reqwest::{Method, RequestBuilder, Response, header};
use serde_json::{Map, Value, json};

use super::{
    Failure,
    client::{Client, ClientFlags},
    ingest::body,
    output::{Sink, note, say, say_json},
    pages::{Listed, listed},
    progress::Progress,
    report::{ERRORS_SHOWN, Report},
    source::{Opened, Source},
    table::{Align, clean, table},
    uploads::confirmed,
};
use crate::{catalog::OnError, error::ErrorKind};

/// Connections that a list has, unless it is said otherwise.
const DEFAULT_LIMIT: usize = 50;

#[derive(Subcommand)]
pub(super) enum Action {
    /// Send a file of connections, and say what became of them.
    Import(Import),
    /// List connections of a project, by id.
    List(List),
    /// Show a connection.
    Get {
        /// Its `external_id`, which is the meter's ID.
        id: String,
        #[arg(long, value_name = "SLUG")]
        project: String,
    },
    /// Take connections away; their payments stay, and are counted to the site that they name themselves.
    Delete {
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        #[arg(long, value_name = "SLUG")]
        project: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Fetch a template of a file of connections.
    Template {
        /// Where to; stdout by default.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Args)]
pub(super) struct Import {
    /// A CSV with the header of the template; `-` is standard input.
    file: PathBuf,
    /// The slug of the project that the connections belong to.
    #[arg(long, value_name = "SLUG")]
    project: String,
    /// What to do about bad rows: `reject_file`, which is the default, or `skip_rows`.
    #[arg(long, value_name = "CHOICE")]
    on_error: Option<OnError>,
    /// Only report what is in the file; nothing changes.
    #[arg(long)]
    dry_run: bool,
    /// Say nothing of what went well.
    #[arg(long)]
    quiet: bool,
}

#[derive(Args)]
pub(super) struct List {
    #[arg(long, value_name = "SLUG")]
    project: String,
    /// Of one site alone.
    #[arg(long, value_name = "NAME")]
    site: Option<String>,
    /// Of one category alone, such as Residential.
    #[arg(long)]
    category: Option<String>,
    /// Of one milestone alone.
    #[arg(long)]
    milestone: Option<String>,
    /// Connected on this day or later: `2026-05-01`.
    #[arg(long, value_name = "DAY")]
    connected_from: Option<String>,
    /// Connected before this day.
    #[arg(long, value_name = "DAY")]
    connected_to: Option<String>,
    /// How many at most, 50 by default; csv has all.
    #[arg(long, value_name = "NUMBER")]
    limit: Option<usize>,
    /// The form of the list. By default what the name of --output ends in, else a table on a terminal, and csv in a pipe.
    #[arg(long, value_name = "FORM")]
    format: Option<Form>,
    /// Write the list into a file, which is there once it is whole.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people.
    Table,
    Json,
    /// All that match, as a file that can be sent again.
    Csv,
}

impl Action {
    pub(super) async fn run(self, flags: &ClientFlags, json: bool) -> Result<(), Failure> {
        let client = flags.client()?;
        match self {
            Self::Import(import) => import.run(&client, json).await.map_err(|failure| failure.about(&import.file)),
            Self::List(list) => list.run(&client, json).await,
            Self::Get { id, project } => {
                let connection: Map<String, Value> = client.get_json(&one(&project, &id), &[]).await?;
                if json { say_json(&connection) } else { show(&connection) }
            }
            Self::Delete { ids, project, yes } => {
                let warning = "Their payments stay.";
                if yes || confirmed("Delete", "connection", &ids, warning)? {
                    delete(&client, &project, &ids, json).await
                } else {
                    Err(Failure::new(ErrorKind::Invalid, "nothing was deleted"))
                }
            }
            Self::Template { output } => {
                let sink = Sink::open(output.as_deref())?;
                client.save(client.get(&["templates", "CONNECTIONS.csv"], &[]).await?, sink).await
            }
        }
    }
}

fn all(project: &str) -> [&str; 3] {
    ["projects", project, "connections"]
}

fn one<'a>(project: &'a str, id: &'a str) -> [&'a str; 4] {
    ["projects", project, "connections", id]
}

impl Import {
    async fn run(&self, client: &Client, json: bool) -> Result<(), Failure> {
        let answer: Map<String, Value> = client.read_json(self.send(client, json).await?).await?;
        if self.quiet {
            return Ok(());
        }
        if json {
            let named = [("file".to_owned(), Value::from(self.file.display().to_string()))];
            let line: Map<String, Value> = named.into_iter().chain(answer).collect();
            return say(&Value::Object(line).to_string());
        }
        let report = Report::of(&answer).ok_or_else(|| client.not_understood())?;
        let mut lines = vec![format!("{}: {}", self.file.display(), self.what_became(&answer, &report))];
        lines.extend(report.lines(ERRORS_SHOWN).iter().map(|line| format!("  {line}").trim_end().to_owned()));
        say(&lines.join("\n"))
    }

    /// Sends the file, from its start again where the server was not there or asks for it later: connections that came
    /// once change nothing when they come again.
    async fn send(&self, client: &Client, json: bool) -> Result<Response, Failure> {
        let source = Source::new(&self.file);
        // Opened before the server is asked, so that a file that is not there is told at once.
        let mut opened = Some(source.open()?);
        let bytes = opened.as_ref().and_then(|opened| opened.bytes);
        let progress = Progress::new(!json && !self.quiet, &self.file.display().to_string(), bytes);
        let request = |tries| {
            let opened = match opened.take() {
                Some(opened) => opened,
                None => source.open()?,
            };
            if tries > 1 {
                progress.restart("once more");
            }
            self.request(client, opened, &progress)
        };
        let answered = client.send_patiently(source.can_open_again(), request).await;
        progress.clear();
        let advice = "send it again: connections that were taken change nothing when they come again";
        answered.map_err(|failure| if failure.is_open() { failure.with_line(advice) } else { failure })
    }

    fn request(&self, client: &Client, opened: Opened, progress: &Progress) -> Result<RequestBuilder, Failure> {
        let mut query = Vec::new();
        if let Some(on_error) = self.on_error {
            query.push(("on_error".to_owned(), on_error.as_str().to_owned()));
        }
        if self.dry_run {
            query.push(("dry_run".to_owned(), "true".to_owned()));
        }
        let request = client.request(Method::POST, &all(&self.project), &query)?;
        let mut request = request.header(header::CONTENT_TYPE, "text/csv");
        if let Some(bytes) = opened.bytes {
            // So that a file that is too large is refused before it is sent.
            request = request.header(header::CONTENT_LENGTH, bytes);
        }
        Ok(request.body(body(opened, progress.clone())))
    }

    fn what_became(&self, answer: &Map<String, Value>, report: &Report) -> String {
        let accepted = report.counts.accepted;
        if self.dry_run {
            return match report.counts.rejected {
                0 => "all rows are good; this was a dry run, and nothing changed".to_owned(),
                _ => format!("{accepted} rows would be taken; this was a dry run, and nothing changed"),
            };
        }
        if accepted == 0 {
            return "nothing in it is new, and nothing changed".to_owned();
        }
        match answer.get("lake_version").filter(|version| !version.is_null()) {
            Some(version) => {
                format!("{accepted} rows taken; payments show what changed from version {version} of the lake on")
            }
            None => format!("{accepted} rows taken; no payment shows anything of what changed"),
        }
    }
}

impl List {
    async fn run(&self, client: &Client, json: bool) -> Result<(), Failure> {
        let form = self.form(json);
        if form == Form::Csv && self.limit.is_some() {
            let message = "csv has all connections that match; leave --limit out, or take --format table or json";
            return Err(Failure::new(ErrorKind::Invalid, message));
        }
        let mut filters = self.filters();
        let mut sink = Sink::open(self.output.as_deref())?;
        let path = all(&self.project);
        if form == Form::Csv {
            filters.push(("format".to_owned(), "csv".to_owned()));
            return client.save(client.get(&path, &filters).await?, sink).await;
        }
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT);
        let Listed { items, next_cursor } = listed(client, &path, "connections", &filters, limit).await?;
        let text = if form == Form::Json {
            let all = json!({ "connections": items, "next_cursor": next_cursor });
            serde_json::to_string_pretty(&all).map_err(|error| Failure::of(ErrorKind::Internal, &error))?
        } else {
            table(&COLUMNS, &items.iter().map(row).collect::<Vec<_>>()).join("\n")
        };
        if sink.write(format!("{text}\n").as_bytes())? {
            sink.finish()?;
        }
        if form == Form::Table && !next_cursor.is_null() {
            note("there are more connections; --limit shows more, and --format csv all");
        }
        Ok(())
    }

    fn form(&self, json: bool) -> Form {
        let of_name = |path: &Path| match path.extension()?.to_str()? {
            "json" => Some(Form::Json),
            "csv" => Some(Form::Csv),
            _ => None,
        };
        match (self.format, &self.output) {
            (Some(form), _) => form,
            (None, _) if json => Form::Json,
            (None, Some(output)) => of_name(output).unwrap_or(Form::Csv),
            (None, None) if io::stdout().is_terminal() => Form::Table,
            (None, None) => Form::Csv,
        }
    }

    fn filters(&self) -> Vec<(String, String)> {
        let filters = [
            ("site", &self.site),
            ("category", &self.category),
            ("milestone", &self.milestone),
            ("connected_from", &self.connected_from),
            ("connected_to", &self.connected_to),
        ];
        filters.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
    }
}

const COLUMNS: [(&str, Align); 6] = [
    ("ID", Align::Left),
    ("CUSTOMER", Align::Left),
    ("CATEGORY", Align::Left),
    ("SITE", Align::Left),
    ("CONNECTED ON", Align::Left),
    ("MILESTONE", Align::Left),
];

/// A connection under [`COLUMNS`].
fn row(connection: &Value) -> Vec<String> {
    let shown = ["external_id", "customer_name", "category", "site", "connected_on", "milestone"];
    shown.map(|name| connection[name].as_str().unwrap_or("-").to_owned()).to_vec()
}

/// Every field that has a value, on a line of its own.
fn show(connection: &Map<String, Value>) -> Result<(), Failure> {
    let width = connection.keys().map(String::len).max().unwrap_or_default() + 2;
    let line = |(name, value): (&String, &Value)| match value {
        Value::Null => None,
        Value::String(text) => Some(format!("{name:<width$}{}", clean(text))),
        other => Some(format!("{name:<width$}{other}")),
    };
    say(&connection.iter().filter_map(line).collect::<Vec<_>>().join("\n"))
}

/// One after the other; a failure ends it, and says how many were deleted before.
async fn delete(client: &Client, project: &str, ids: &[String], json: bool) -> Result<(), Failure> {
    let mut deleted: Vec<Value> = Vec::new();
    for id in ids {
        let answer = async {
            let request = client.request(Method::DELETE, &one(project, id), &[])?;
            client.read_json(client.send(request).await?).await
        };
        let answer: Value = answer.await.map_err(|failure: Failure| match ids.len() {
            1 => failure,
            all => failure.with_line(format!("{id}: {} of {all} connections were deleted before it", deleted.len())),
        })?;
        if !json {
            say(&format!("{} is deleted", clean(id)))?;
        }
        deleted.push(answer);
    }
    if json { say_json(&json!({ "deleted": deleted })) } else { Ok(()) }
}
