//! The metrics: one file each in `queries/`, a block comment of front matter in TOML and one SELECT. They are embedded
//! when Wattlake is built, and read and planned once when it starts.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use datafusion::{common::ScalarValue, execution::memory_pool::MemoryConsumer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{
    QueryError,
    aggregates::OverAggregates,
    answer::{ColumnType, column_type},
    own::OwnParameter,
    params,
    period::Grain,
    select::Select,
    session::{self, Table},
};

/// Name and text of each file of `queries/`.
static FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/metric_files.rs"));

/// What the catalogue of metrics says of one.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Metric)]
pub struct MetricInfo {
    pub name: String,
    pub title: String,
    pub definition: String,
    /// The kind of chart that suits it.
    pub chart: Chart,
    /// Whether it is offered over what is shared as aggregates.
    pub over_aggregates: OverAggregates,
    /// Whether it reads connections, which are not shared: of projects of other organisations it is not offered.
    pub needs_connections: bool,
    pub parameters: Vec<ParameterInfo>,
    pub columns: Vec<ColumnInfo>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Chart {
    Bar,
    Line,
    Share,
    Heatmap,
    Table,
}

/// A parameter as the catalogue shows it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = MetricParameter)]
pub struct ParameterInfo {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ParameterType,
    pub repeatable: bool,
    pub description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
    /// The values that there are; of `columns`, the columns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
}

/// What the values of a parameter are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParameterType {
    /// A project's slug.
    Slug,
    /// A local day; `from` and `to` take a month and an instant too.
    Date,
    /// An IANA time zone.
    TimeZone,
    /// One of a few words.
    Choice,
    Text,
    /// An ISO 4217 code.
    Currency,
    Integer,
    /// Columns of the answer, with a comma between.
    Columns,
}

/// A column of a metric's answer.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = MetricColumn)]
pub struct ColumnInfo {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// What a number counts; `currency` is the currency of the row.
    #[schema(required)]
    pub unit: Option<String>,
    pub description: String,
    /// Whether its values may be null, by the plan of the SELECT.
    #[serde(skip)]
    pub nullable: bool,
}

/// A metric, checked.
#[derive(Clone, Debug)]
pub struct Metric {
    pub info: MetricInfo,
    pub(super) select: Select,
    pub(super) tables: Vec<Table>,
    /// The columns that put any answer into one order.
    pub(super) order: Vec<String>,
    pub(super) own: BTreeMap<String, OwnParameter>,
    pub(super) default_grain: Grain,
    /// SHA-256 of the file: a changed metric is another answer.
    pub(super) hash: String,
}

impl Metric {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.info.name
    }

    /// Whether its answer depends on what is known of uploads.
    #[must_use]
    pub fn reads_uploads(&self) -> bool {
        self.tables.contains(&Table::Uploads)
    }

    /// Whether its answer depends on connections.
    #[must_use]
    pub fn reads_connections(&self) -> bool {
        self.info.needs_connections
    }

    /// Whether its answer counts days up to the end of the request's period, or to today.
    pub(super) fn counts_days(&self) -> bool {
        self.tables.contains(&Table::AsOf)
    }

    /// Whether the period of a request may be the last so many local days, which its answer then shows as `from` and `to`.
    #[must_use]
    pub fn counts_back(&self) -> bool {
        self.own.values().any(|own| own.last_days)
    }

    pub(super) fn takes(&self, parameter: &str) -> bool {
        self.info.parameters.iter().any(|known| known.name == parameter)
    }
}

/// All metrics, by name.
#[derive(Clone, Debug)]
pub struct Metrics {
    by_name: BTreeMap<String, Arc<Metric>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FrontMatter {
    title: String,
    definition: String,
    parameters: Vec<String>,
    #[serde(default)]
    tables: Vec<Table>,
    chart: Chart,
    #[serde(default)]
    over_aggregates: OverAggregates,
    order: Vec<String>,
    columns: Vec<ColumnMatter>,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    own: BTreeMap<String, OwnParameter>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Defaults {
    grain: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnMatter {
    name: String,
    unit: Option<String>,
    description: String,
}

impl Metrics {
    /// Reads, plans and checks every metric.
    ///
    /// # Errors
    /// The first file that does not hold, and why.
    pub async fn load(limits: &params::ParameterLimits) -> Result<Self, QueryError> {
        let mut by_name = BTreeMap::new();
        for (name, text) in FILES {
            let metric = read(name, text, limits)
                .await
                .map_err(|reason| QueryError::MetricFile { name: (*name).to_owned(), reason })?;
            by_name.insert((*name).to_owned(), Arc::new(metric));
        }
        Ok(Self { by_name })
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Metric>> {
        self.by_name.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Metric>> {
        self.by_name.values()
    }
}

async fn read(name: &str, text: &str, limits: &params::ParameterLimits) -> Result<Metric, String> {
    let (mut metric, described) = parse(name, text, limits)?;
    metric.info.columns = columns(&metric, described).await?;
    Ok(metric)
}

/// A metric whose columns are not yet known, and what its front matter says about them.
fn parse(name: &str, text: &str, limits: &params::ParameterLimits) -> Result<(Metric, Vec<ColumnMatter>), String> {
    let rest = text.trim_start().strip_prefix("/*").ok_or("it does not begin with a block comment")?;
    let (matter, sql) = rest.split_once("*/").ok_or("its block comment does not end")?;
    let matter: FrontMatter = toml::from_str(matter).map_err(|error| error.to_string())?;
    let default_grain = matter.defaults.grain.as_deref().unwrap_or("month").parse::<Grain>()?;
    let column_names: Vec<String> = matter.columns.iter().map(|column| column.name.clone()).collect();
    if let Some(absent) = matter.order.iter().find(|column| !column_names.contains(column)) {
        return Err(format!("it is ordered by {absent}, which is not one of its columns"));
    }
    let mut listed = HashSet::new();
    if let Some(repeated) = matter.parameters.iter().find(|parameter| !listed.insert(parameter.as_str())) {
        return Err(format!("it lists {repeated} twice"));
    }
    let parameters = matter
        .parameters
        .iter()
        .map(|parameter| {
            let common = params::common(parameter, default_grain, limits, &column_names);
            match (matter.own.get(parameter), common) {
                (Some(own), None) if parameter != "format" => own.check(parameter).map(|()| own.info(parameter)),
                (Some(_), _) => Err(format!("it declares {parameter}, which is a parameter of every request")),
                (None, Some(common)) => Ok(common),
                (None, None) => Err(format!("there is no common parameter {parameter}, and it declares none")),
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(unlisted) = matter.own.keys().find(|own| !matter.parameters.contains(own)) {
        return Err(format!("it declares {unlisted} and does not list it"));
    }
    let metric = Metric {
        info: MetricInfo {
            name: name.to_owned(),
            title: matter.title,
            definition: matter.definition,
            chart: matter.chart,
            over_aggregates: matter.over_aggregates,
            needs_connections: matter.tables.contains(&Table::Connections),
            parameters,
            columns: Vec::new(),
        },
        select: Select::of(sql).map_err(|error| error.to_string())?,
        tables: matter.tables,
        order: matter.order,
        own: matter.own,
        default_grain,
        hash: hex::encode(Sha256::digest(text)),
    };
    Ok((metric, matter.columns))
}

/// Plans a metric over empty relations and compares its columns with those that its front matter describes.
async fn columns(metric: &Metric, described: Vec<ColumnMatter>) -> Result<Vec<ColumnInfo>, String> {
    let context = session::without_data(&metric.tables).map_err(|error| error.to_string())?;
    let memory = || MemoryConsumer::new(metric.name()).register(&context.runtime_env().memory_pool);
    let bound = metric.select.plan(&context, &sample_values(metric), &memory).await;
    let (bound, _memory) = bound.map_err(|error| error.to_string())?;
    let bound = context.state().optimize(&bound).map_err(|error| error.to_string())?;
    let fields = bound.schema().fields();
    let (planned, written): (Vec<&str>, Vec<&str>) = (
        fields.iter().map(|field| field.name().as_str()).collect(),
        described.iter().map(|c| c.name.as_str()).collect(),
    );
    if planned != written {
        return Err(format!("its columns are {planned:?}, its front matter describes {written:?}"));
    }
    let info = |(field, matter): (&Arc<arrow::datatypes::Field>, ColumnMatter)| {
        let kind = column_type(field.data_type()).ok_or_else(|| {
            format!("its column {} is {}, which is no type of an answer", matter.name, field.data_type())
        })?;
        let ColumnMatter { name, unit, description } = matter;
        Ok(ColumnInfo { name, kind, unit, description, nullable: field.is_nullable() })
    };
    fields.iter().zip(described).map(info).collect()
}

fn sample_values(metric: &Metric) -> Vec<(String, ScalarValue)> {
    let own = metric.own.iter().map(|(name, parameter)| (name.clone(), parameter.sample()));
    let grain = ("grain".to_owned(), ScalarValue::from(Grain::Month.as_str()));
    own.chain([grain]).collect()
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::{
        fuzz::{Target, fuzz, hash},
        query::MetricRequest,
    };

    #[test]
    fn fuzz_front_matter_any_text_is_a_metric_that_holds_together_or_says_why_not() {
        let target = Target {
            name: "front_matter",
            words: &[
                "/*",
                "*/",
                "\n",
                "=",
                "\"",
                "[",
                "]",
                "{",
                "}",
                ",",
                "#",
                "\"\"\"",
                "-1",
                "0",
                "9223372036854775807",
                "1.5",
                "true",
                "title = \"T\"",
                "parameters = []",
                "tables = [\"months\"]",
                "chart = \"line\"",
                "order = []",
                "columns = []",
                "[own.days]",
                "[defaults]",
                "grain = \"all\"",
                "type = \"integer\"",
                "type = \"date\"",
                "type = \"text\"",
                "default = 30",
                "min = 1",
                "max = 3660",
                "last_days = true",
                "default = 2024-05-01",
                "default = \"2024-05-01\"",
                "description = \"\"",
                "\"project\"",
                "\"from\"",
                "\"to\"",
                "\"grain\"",
                "\"limit\"",
                "\"order\"",
                "\"days\"",
                "payments",
                "uploads",
                "$days",
                "$grain",
                "SELECT",
                "count(*)",
                "CAST(1 AS DOUBLE)",
                "local_period(paid_at, time_zone, $grain)",
                ";",
                "now()",
                "GROUP BY ALL",
                "(((((",
                "WITH RECURSIVE",
            ],
            inputs: 12_000,
        };
        let limits = params::ParameterLimits::default();
        fuzz(&target, |bytes| {
            let Ok(text) = std::str::from_utf8(bytes) else { return "no text".to_owned() };
            match parse("fuzzed", text, &limits) {
                Ok((metric, described)) => {
                    assert_holds_together(&metric, &limits);
                    // To plan takes many times as long as to parse.
                    let planned = (hash(&text) % 4 == 0).then(|| block_on(columns(&metric, described)));
                    planned.map_or_else(String::new, |planned| {
                        planned.err().map_or("planned".to_owned(), |why| kind(&why))
                    })
                }
                Err(why) => kind(&why),
            }
        });
    }

    /// Asserts that what the catalogue says of a metric can be asked of it.
    fn assert_holds_together(metric: &Metric, limits: &params::ParameterLimits) {
        let ask = |pairs: &[(&str, String)]| {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            MetricRequest::parse(metric, &pairs, limits)
        };
        let plain = ask(&[]).expect("a request without parameters is right");
        assert!(plain.last_days.is_none_or(|days| days > 0), "the last days are some");
        let names: Vec<&str> = metric.info.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        for (at, parameter) in metric.info.parameters.iter().enumerate() {
            assert!(!names[..at].contains(&parameter.name.as_str()), "{} is there twice", parameter.name);
            let value = match &parameter.default {
                Some(serde_json::Value::String(text)) => text.clone(),
                Some(value) => value.to_string(),
                None => continue,
            };
            let again = ask(&[(&parameter.name, value)]);
            assert!(again.is_ok() || parameter.default == Some("".into()), "{again:?}");
        }
        for bad in ["-9223372036854775808", "9223372036854775807", "0"] {
            for name in metric.own.keys() {
                if let Ok(request) = ask(&[(name, bad.to_owned())]) {
                    assert!(request.last_days.is_none_or(|days| days > 0), "{name}={bad} are the last days");
                }
            }
        }
        assert!(metric.own.keys().all(|own| names.contains(&own.as_str())));
    }

    /// The first word of a reason, which is never blank: the others may be quoted from the input.
    fn kind(why: &str) -> String {
        let last = why.trim().lines().last().expect("a reason is said");
        last.split_whitespace().next().unwrap_or_default().to_owned()
    }

    async fn refused(matter: &str, sql: &str) -> String {
        let columns = "columns = [{ name = \"project\", description = \"d\" }, { name = \"n\", description = \"d\" }]";
        let text = format!(
            "/*\ntitle = \"T\"\ndefinition = \"D\"\nchart = \"bar\"\norder = [\"project\"]\n{columns}\n{matter}\n*/\n{sql}"
        );
        read("t", &text, &params::ParameterLimits::default()).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_metric_that_does_not_hold_is_refused_at_the_start() {
        let good = "SELECT project_id AS project, count(*) AS n FROM payments GROUP BY project_id";
        let plain = "parameters = [\"from\"]";
        for (matter, sql, reason) in [
            ("parameters = [\"until\"]", good, "no common parameter until"),
            ("parameters = []\ngrain = 1", good, "unknown field"),
            (plain, "SELECT project_id AS project, count(*) AS m FROM payments GROUP BY project_id", "describes"),
            (
                plain,
                "SELECT project_id AS project, 1e0 / 3e0 * CAST(1 AS DOUBLE) AS n FROM payments",
                "no type of an answer",
            ),
            (plain, "SELECT project_id AS project, count(*) AS n FROM uploads GROUP BY project_id", "uploads"),
            (plain, "SELECT project_id AS project, now() AS n FROM payments", "now"),
            (plain, "SELECT project, n FROM 'data.parquet'", "data.parquet"),
            (plain, "CREATE TABLE t AS SELECT 1 AS project, 2 AS n", "DDL"),
            (plain, "SELECT 1 AS project, 2 AS n; SELECT 1 AS project, 2 AS n", "statement"),
            ("parameters = []\norder_by = 1", good, "unknown field"),
            ("parameters = [\"tz\", \"from\", \"tz\"]", good, "lists tz twice"),
            (
                "parameters = [\"to\"]\n[own.to]\ntype = \"integer\"\ndefault = 3\ndescription = \"d\"",
                good,
                "declares to",
            ),
            (
                "parameters = [\"since\"]\n[own.since]\ntype = \"date\"\ndefault = \"4202-05-01\"\ndescription = \"d\"",
                good,
                "the default of since",
            ),
            (
                "parameters = [\"days\"]\n[own.days]\ntype = \"integer\"\ndefault = 3\nlast_days = true\ndescription = \"d\"",
                good,
                "a min of 1 or more",
            ),
        ] {
            let error = refused(matter, sql).await;
            assert!(error.contains(reason), "{sql}: {error}");
        }
    }
}
