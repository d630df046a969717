//! `wattlake query`: asks a server for the figures of a metric.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    Failure,
    client::{Client, ClientFlags},
    output::{Sink, note, say_json, say_table},
    table::{Align, table},
};
use crate::error::ErrorKind;

#[derive(Args)]
pub(super) struct Flags {
    /// The metric; without one, all metrics are listed.
    metric: Option<String>,
    /// Any other parameter of the metric, such as `order=-revenue`, `limit=10` or `tz=Africa/Lagos`.
    #[arg(value_name = "KEY=VALUE", value_parser = pair)]
    parameters: Vec<(String, String)>,
    /// A project's slug; repeat it for several. All that the key may see by default.
    #[arg(long, value_name = "SLUG")]
    project: Vec<String>,
    /// The start of the period: `2026-05-01`, `2026-05`, or an instant with its offset.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Its end, which is not in it.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// The width of a row's period: `day`, `week`, `month`, `quarter`, `year` or `all`.
    #[arg(long)]
    grain: Option<String>,
    /// A site; repeat it for several.
    #[arg(long, value_name = "NAME")]
    site: Vec<String>,
    /// The form of the answer. By default what the name of --output ends in, else a table on a terminal, and csv in a pipe.
    #[arg(long, value_name = "FORM")]
    format: Option<Form>,
    /// Write the answer into a file, which is there once it is whole.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    client: ClientFlags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people.
    Table,
    Json,
    Csv,
    Ndjson,
    /// Arrow's IPC stream.
    Arrow,
    Parquet,
}

/// What the headers of an answer say that is not all of it.
const NOT_WHOLE: [(&str, &str); 3] = [
    ("x-wattlake-truncated", "the limit left rows out; limit=… takes more"),
    (
        "x-wattlake-withheld-cells",
        "some of it is shared as aggregates, without the cells in which a customer could be made out; --json says how many",
    ),
    (
        "x-wattlake-left-out",
        "projects that are shared are left out, because this asks more of them than is shared; --json says which",
    ),
];

impl Flags {
    pub(super) async fn run(self, json: bool) -> Result<(), Failure> {
        let client = self.client.client()?;
        let Some(metric) = &self.metric else { return list(&client, json).await };
        if metric.contains('=') {
            let message = format!("{metric} is a parameter; the metric comes before it");
            return Err(Failure::new(ErrorKind::Invalid, &message));
        }
        let form = self.form(json)?;
        let mut query = self.query()?;
        let asked = if form == Form::Table { "json" } else { form.name() };
        query.push(("format".to_owned(), asked.to_owned()));
        // Before the question, so that nothing is computed for a place that is none.
        let mut sink = Sink::open(self.output.as_deref())?;
        let response = client.get(&["metrics", metric], &query).await?;
        let not_whole = NOT_WHOLE.into_iter().filter(|(header, _)| response.headers().contains_key(*header));
        let not_whole: Vec<&str> = not_whole.map(|(_, told)| told).collect();
        if form != Form::Table {
            client.save(response, sink).await?;
            // JSON says so itself.
            if form != Form::Json {
                not_whole.into_iter().for_each(note);
            }
            return Ok(());
        }
        let bytes = client.read_bytes(response).await?;
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|_| client.not_understood())?;
        let text = answer.to_table().ok_or_else(|| client.not_understood())?;
        if sink.write(text.as_bytes())? {
            sink.finish()?;
        }
        answer.warnings.iter().for_each(|warning| note(&warning.message));
        Ok(())
    }

    fn form(&self, json: bool) -> Result<Form, Failure> {
        let to_terminal = self.output.is_none() && io::stdout().is_terminal();
        let form = match self.format {
            Some(form) => form,
            None if json => Form::Json,
            None => match &self.output {
                Some(output) => Form::of_name(output).unwrap_or(Form::Csv),
                None if to_terminal => Form::Table,
                None => Form::Csv,
            },
        };
        if to_terminal && matches!(form, Form::Arrow | Form::Parquet) {
            let message = format!("{} is no text for a terminal; --output FILE keeps it", form.name());
            return Err(Failure::new(ErrorKind::Invalid, &message));
        }
        Ok(form)
    }

    fn query(&self) -> Result<Vec<(String, String)>, Failure> {
        let all = |name: &str, values: &[String]| -> Vec<(String, String)> {
            values.iter().map(|value| (name.to_owned(), value.clone())).collect()
        };
        let one =
            |name: &str, value: &Option<String>| value.iter().map(|value| (name.to_owned(), value.clone())).collect();
        if self.parameters.iter().any(|(name, _)| name == "format") {
            return Err(Failure::new(ErrorKind::Invalid, "the form of the answer is a flag: --format"));
        }
        Ok([
            all("project", &self.project),
            one("from", &self.from),
            one("to", &self.to),
            one("grain", &self.grain),
            all("site", &self.site),
            self.parameters.clone(),
        ]
        .concat())
    }
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Arrow => "arrow",
            Self::Parquet => "parquet",
        }
    }

    /// The form that a file's name ends in.
    fn of_name(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?;
        Self::value_variants().iter().copied().find(|form| *form != Self::Table && form.name() == ending)
    }
}

/// `KEY=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("a parameter is KEY=VALUE, such as order=-revenue".to_owned()),
    }
}

/// An answer in JSON, whose numerals stay as they came: money is exact.
#[derive(Deserialize)]
struct Answer<'a> {
    columns: Vec<Column>,
    #[serde(borrow)]
    rows: Vec<BTreeMap<String, &'a RawValue>>,
    #[serde(default)]
    warnings: Vec<Warning>,
}

#[derive(Deserialize)]
struct Warning {
    message: String,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Answer<'_> {
    /// The answer as a table. `None` where a row lacks a column.
    fn to_table(&self) -> Option<String> {
        let align = |kind: &str| if matches!(kind, "integer" | "decimal") { Align::Right } else { Align::Left };
        let columns: Vec<(&str, Align)> =
            self.columns.iter().map(|column| (column.name.as_str(), align(&column.kind))).collect();
        let cells = |row: &BTreeMap<String, &RawValue>| -> Option<Vec<String>> {
            self.columns.iter().map(|column| row.get(&column.name).map(|value| cell(value))).collect()
        };
        let rows = self.rows.iter().map(cells).collect::<Option<Vec<_>>>()?;
        Some(table(&columns, &rows).join("\n") + "\n")
    }
}

/// A text without its quotes; anything else as it came. What is not there is a dash.
fn cell(value: &RawValue) -> String {
    match value.get() {
        "null" => "-".to_owned(),
        text => serde_json::from_str(text).unwrap_or_else(|_| text.to_owned()),
    }
}

#[derive(Deserialize)]
struct Metric {
    name: String,
    title: String,
}

async fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let catalogue: Value = client.get_json(&["metrics"], &[]).await?;
    if json {
        return say_json(&catalogue);
    }
    let metrics: Vec<Metric> =
        serde_json::from_value(catalogue["metrics"].clone()).map_err(|_| client.not_understood())?;
    let rows: Vec<_> = metrics.into_iter().map(|metric| [metric.name, metric.title]).collect();
    say_table(["METRIC", "TITLE"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_decimals_as_they_came_and_a_dash_for_what_is_not_there() {
        let json = r#"{"columns": [{"name": "site", "type": "text"}, {"name": "revenue", "type": "decimal"}],
            "rows": [{"site": "A\u001b", "revenue": 12345678901234567.8900}, {"site": null, "revenue": null}]}"#;
        let answer: Answer = serde_json::from_str(json).unwrap();
        let expected =
            "site                    revenue\nA\\u{1b}  12345678901234567.8900\n-                             -\n";
        assert_eq!(answer.to_table().unwrap(), expected);
    }

    #[test]
    fn a_files_ending_is_its_form() {
        assert_eq!(Form::of_name(Path::new("a/b.parquet")), Some(Form::Parquet));
        assert_eq!(Form::of_name(Path::new("a.table")), None);
        assert_eq!(Form::of_name(Path::new("csv")), None);
    }
}
