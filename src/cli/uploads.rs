//! `wattlake uploads`: what came in, over HTTP: lists, downloads, deletes and restores.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    path::PathBuf,
};

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    Failure,
    client::{Client, ClientFlags},
    output::{Sink, note, say, say_json},
    pages::{Listed, listed},
    report::{ERRORS_SHOWN, Report},
    table::{Align, clean, table},
};
use crate::{error::ErrorKind, ids::UploadId};

/// Uploads that a list has, unless it is said otherwise.
const DEFAULT_LIMIT: usize = 50;

#[derive(Subcommand)]
pub(super) enum Action {
    /// List uploads, the newest first.
    List {
        /// Of one project alone.
        #[arg(long, value_name = "SLUG")]
        project: Option<String>,
        /// With one status alone, such as committed or rejected.
        #[arg(long)]
        status: Option<String>,
        /// Of one dataset name alone.
        #[arg(long, value_name = "NAME")]
        dataset_name: Option<String>,
        /// How many at most.
        #[arg(long, default_value_t = DEFAULT_LIMIT, value_name = "NUMBER")]
        limit: usize,
    },
    /// Show an upload with its report.
    Show { id: UploadId },
    /// Fetch the original, byte for byte.
    File {
        id: UploadId,
        /// Where to; stdout by default.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Fetch the rejected rows as CSV, with line, column, code and message.
    Rejected {
        id: UploadId,
        /// Where to; stdout by default.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Take the rows of uploads out of the figures, as if they had never come; the originals stay.
    Delete {
        #[arg(required = true, value_name = "ID")]
        ids: Vec<UploadId>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// Bring a deleted upload back.
    Restore { id: UploadId },
}

impl Action {
    pub(super) async fn run(self, flags: &ClientFlags, json: bool) -> Result<(), Failure> {
        let client = flags.client()?;
        match self {
            Self::List { project, status, dataset_name, limit } => {
                let filters = [("project", project), ("status", status), ("dataset_name", dataset_name)];
                let given = filters.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
                list(&client, &given.collect::<Vec<_>>(), limit, json).await
            }
            Self::Show { id } => {
                let upload: Map<String, Value> = client.get_json(&["uploads", id.as_str()], &[]).await?;
                if json { say_json(&upload) } else { show(&client, &upload) }
            }
            Self::File { id, output } => {
                let sink = Sink::open(output.as_deref())?;
                client.save(client.get(&["uploads", id.as_str(), "file"], &[]).await?, sink).await
            }
            Self::Rejected { id, output } => {
                let sink = Sink::open(output.as_deref())?;
                client.save(client.get(&["uploads", id.as_str(), "rejected.csv"], &[]).await?, sink).await
            }
            Self::Delete { ids, yes } => {
                if yes || confirmed("Delete", "upload", &ids, "Their rows leave the figures.")? {
                    delete(&client, &ids, json).await
                } else {
                    Err(Failure::new(ErrorKind::Invalid, "nothing was deleted"))
                }
            }
            Self::Restore { id } => {
                let request = client.request(Method::POST, &["uploads", id.as_str(), "restore"], &[])?;
                let answer: Value = client.read_json(client.send(request).await?).await?;
                if json { say_json(&answer) } else { say(&format!("{id} is restored")) }
            }
        }
    }
}

async fn list(client: &Client, filters: &[(String, String)], limit: usize, json: bool) -> Result<(), Failure> {
    let Listed { items: uploads, next_cursor: cursor } =
        listed(client, &["uploads"], "uploads", filters, limit).await?;
    if json {
        return say_json(&json!({ "uploads": uploads, "next_cursor": cursor }));
    }
    let rows: Vec<Vec<String>> = uploads.iter().map(row).collect();
    say(&table(&COLUMNS, &rows).join("\n"))?;
    if !cursor.is_null() {
        note("there are older uploads; --limit shows more");
    }
    Ok(())
}

const COLUMNS: [(&str, Align); 8] = [
    ("ID", Align::Left),
    ("STATUS", Align::Left),
    ("PROJECT", Align::Left),
    ("DATASET", Align::Left),
    ("RECEIVED (UTC)", Align::Left),
    ("ACCEPTED", Align::Right),
    ("DUPLICATE", Align::Right),
    ("REJECTED", Align::Right),
];

/// An upload under [`COLUMNS`].
fn row(upload: &Value) -> Vec<String> {
    let text = |name: &str| upload[name].as_str().unwrap_or("-").to_owned();
    let count = |name: &str| upload["counts"][name].as_u64().map_or("-".to_owned(), |count| count.to_string());
    // The counts of a refused file say what its rows would have been.
    let landed = |name: &str| if upload["status"] == "rejected" { "-".to_owned() } else { count(name) };
    let projects = upload["projects"].as_array().map_or(&[][..], Vec::as_slice);
    vec![
        text("id"),
        text("status"),
        projects.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        text("dataset_name"),
        text("received_at").chars().take("2024-05-01T10:00".len()).collect::<String>().replace('T', " "),
        landed("accepted"),
        landed("duplicate"),
        count("rejected"),
    ]
}

fn show(client: &Client, upload: &Map<String, Value>) -> Result<(), Failure> {
    let report = Report::of(upload).ok_or_else(|| client.not_understood())?;
    let shown = [
        "id",
        "status",
        "projects",
        "dataset_name",
        "file_name",
        "on_error",
        "bytes",
        "sha256",
        "received_at",
        "committed_at",
        "lake_version",
        "key_prefix",
    ];
    let value = |name: &str| match upload.get(name) {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Array(list)) => Some(list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")),
        Some(other) => Some(other.to_string()),
    };
    let facts = shown.iter().filter_map(|name| Some(format!("{name:<14}{}", clean(&value(name)?))));
    let lines: Vec<String> = facts.chain([String::new()]).chain(report.lines(ERRORS_SHOWN)).collect();
    say(&lines.join("\n"))
}

async fn delete(client: &Client, ids: &[UploadId], json: bool) -> Result<(), Failure> {
    let request = match ids {
        [id] => client.request(Method::DELETE, &["uploads", id.as_str()], &[])?,
        // One request, so that all are deleted or none.
        ids => client.request(Method::POST, &["uploads", "delete"], &[])?.json(&json!({ "uploads": ids })),
    };
    let answer: Value = client.read_json(client.send(request).await?).await?;
    if json {
        return say_json(&answer);
    }
    let lines: Vec<String> = ids.iter().map(|id| format!("{id} is deleted")).collect();
    say(&lines.join("\n"))
}

/// Asks whoever sits at the terminal whether to do something, such as `Delete`, with things of a kind, such as `upload`.
pub(super) fn confirmed<T: Display>(verb: &str, kind: &str, ids: &[T], warning: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        let message = "nobody is there to be asked whether to go on; --yes says so";
        return Err(Failure::new(ErrorKind::Invalid, message));
    }
    let what = match ids {
        [id] => format!("{kind} {}", clean(&id.to_string())),
        ids => format!("{} {kind}s", ids.len()),
    };
    let mut answer = String::new();
    let asked = write!(io::stderr().lock(), "{verb} {what}? {warning} [y/N] ")
        .and_then(|()| io::stdin().read_line(&mut answer));
    asked.map_err(|error| Failure::of(ErrorKind::Unavailable, &error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
