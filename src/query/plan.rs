//! What a request comes to: its zones, its instants, its files, and the relations that its metric asks for.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use arrow::array::{ArrayRef, Date32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use chrono::{DateTime, Days, Months, NaiveDate, Utc};
use chrono_tz::Tz;
use datafusion::{
    common::ScalarValue,
    logical_expr::{Expr, col, lit},
};
use serde_json::json;

use super::{
    QueryError,
    metrics::Metric,
    params::{MetricRequest, ParameterError},
    period::{Grain, Moment, days_since_epoch},
    session::{Content, Table},
};
use crate::{
    access::Scope,
    catalog::{Project, UploadFacts},
    ids::ProjectSlug,
    lake::{Snapshot, scan::ScanFile},
};

/// What a query needs to know of a project.
#[derive(Clone, Debug)]
pub struct ProjectFacts {
    pub slug: ProjectSlug,
    pub name: String,
    /// `mini_grid` or `shs`.
    pub kind: String,
    /// ISO 4217.
    pub currency: String,
    /// ISO 3166.
    pub country: String,
    pub time_zone: Tz,
}

impl From<&Project> for ProjectFacts {
    fn from(project: &Project) -> Self {
        Self {
            slug: project.slug.clone(),
            name: project.name.clone(),
            kind: project.kind.as_str().to_owned(),
            currency: project.currency.as_str().to_owned(),
            country: project.country.as_str().to_owned(),
            time_zone: project.time_zone,
        }
    }
}

/// What a request is answered from.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    pub snapshot: Arc<Snapshot>,
    pub scope: &'a Scope,
    /// At least the projects of the scope.
    pub projects: &'a [ProjectFacts],
    /// At least the uploads of the scope's projects; others are ignored.
    pub uploads: &'a [UploadFacts],
    pub now: DateTime<Utc>,
}

/// A request over its projects: which zones there are, and which instants.
pub(super) struct Plan<'a> {
    pub(super) projects: Vec<&'a ProjectFacts>,
    tz: Option<Tz>,
    pub(super) zones: Vec<Tz>,
    from: Option<Moment>,
    to: Option<Moment>,
    /// From the first of the last local days to the end of today, by zone.
    last_days: Option<i64>,
    now: DateTime<Utc>,
}

impl<'a> Plan<'a> {
    pub(super) fn of(request: &MetricRequest, inputs: &Inputs<'a>) -> Result<Self, QueryError> {
        let known: HashMap<&ProjectSlug, &ProjectFacts> = inputs.projects.iter().map(|p| (&p.slug, p)).collect();
        let facts = |slug: &ProjectSlug| known.get(slug).copied().ok_or_else(|| QueryError::MissingFacts(slug.clone()));
        let projects = inputs.scope.projects().map(facts).collect::<Result<Vec<_>, _>>()?;
        let zones: BTreeMap<&str, Tz> =
            projects.iter().map(|p| request.tz.unwrap_or(p.time_zone)).map(|zone| (zone.name(), zone)).collect();
        let plan = Self {
            projects,
            tz: request.tz,
            zones: zones.into_values().collect(),
            from: request.from,
            to: request.to,
            last_days: request.last_days,
            now: inputs.now,
        };
        plan.check_period()?;
        Ok(plan)
    }

    /// A day and an instant can be compared once the zones are known. Projects of several zones may disagree: a period
    /// that any of them has is one.
    fn check_period(&self) -> Result<(), ParameterError> {
        let mixed = matches!(
            (self.from, self.to),
            (Some(Moment::Day(_)), Some(Moment::Instant(_))) | (Some(Moment::Instant(_)), Some(Moment::Day(_)))
        );
        let backwards = |zone: &Tz| self.start(*zone) >= self.end(*zone);
        if mixed && !self.zones.is_empty() && self.zones.iter().all(backwards) {
            return Err(ParameterError::backwards());
        }
        Ok(())
    }

    fn zone(&self, project: &ProjectFacts) -> Tz {
        self.tz.unwrap_or(project.time_zone)
    }

    /// The period's first instant in a zone.
    pub(super) fn start(&self, zone: Tz) -> Option<DateTime<Utc>> {
        match self.last_days {
            Some(days) => {
                let today = self.now.with_timezone(&zone).date_naive();
                let first = today.checked_sub_days(Days::new(u64::try_from(days - 1).unwrap_or(0)))?;
                Some(Moment::Day(first).at(zone))
            }
            None => self.from.map(|from| from.at(zone)),
        }
    }

    /// The first instant after the period in a zone.
    pub(super) fn end(&self, zone: Tz) -> Option<DateTime<Utc>> {
        match self.last_days {
            Some(_) => {
                let today = self.now.with_timezone(&zone).date_naive();
                Some(Moment::Day(today.succ_opt()?).at(zone))
            }
            None => self.to.map(|to| to.at(zone)),
        }
    }

    /// The first and the last local month that the request names in a zone.
    fn asked_months(&self, zone: Tz) -> (Option<NaiveDate>, Option<NaiveDate>) {
        let month = |at: DateTime<Utc>| Grain::Month.bucket(at.with_timezone(&zone).date_naive());
        let last_instant = self.end(zone).map(|end| end - chrono::Duration::microseconds(1));
        (self.start(zone).and_then(month), last_instant.and_then(month))
    }

    /// What is to be read of the scope's files for the period.
    pub(super) fn files(&self, inputs: &Inputs<'_>) -> Vec<ScanFile> {
        self.files_of(inputs, |zone| {
            let micros = |at: Option<DateTime<Utc>>| at.map(|at| at.timestamp_micros());
            micros(self.start(zone)).unwrap_or(i64::MIN)..micros(self.end(zone)).unwrap_or(i64::MAX)
        })
    }

    /// The scope's files that are not read whole for the period, whole.
    fn other_files(&self, inputs: &Inputs<'_>) -> Vec<ScanFile> {
        let whole: HashSet<String> = self
            .files(inputs)
            .into_iter()
            .filter(|scan| scan.within.is_none())
            .map(|scan| scan.file.path.clone())
            .collect();
        let mut others = self.files_of(inputs, |_| i64::MIN..i64::MAX);
        others.retain(|scan| !whole.contains(&scan.file.path));
        others
    }

    fn files_of(&self, inputs: &Inputs<'_>, period: impl Fn(Tz) -> Range<i64>) -> Vec<ScanFile> {
        let asked = |project: &&ProjectFacts| (self.zone(project), period(self.zone(project)));
        let projects: HashMap<&ProjectSlug, _> = self.projects.iter().map(|p| (&p.slug, asked(p))).collect();
        let partitions = inputs.snapshot.partitions.iter();
        partitions
            .filter(|((project, month), _)| inputs.scope.contains_month(project, *month))
            .filter_map(|((project, _), files)| projects.get(project).map(|asked| (asked, files)))
            .flat_map(|((zone, period), files)| {
                files.iter().filter_map(|file| ScanFile::of_period(file, *zone, period))
            })
            .collect()
    }

    /// What of the period's rows the request asks for.
    pub(super) fn restriction(request: &MetricRequest) -> Option<Expr> {
        let currencies = one_of("currency", &request.currencies);
        [one_of("site", &request.sites), currencies].into_iter().flatten().reduce(Expr::and)
    }

    pub(super) fn table(
        &self,
        table: Table,
        request: &MetricRequest,
        inputs: &Inputs<'_>,
    ) -> Result<Content, QueryError> {
        let columns = match table {
            Table::Projects => self.project_columns(),
            Table::Uploads => upload_columns(inputs),
            Table::Months => self.month_columns(inputs),
            Table::Sites => {
                return Ok(Content::Sites(self.other_files(inputs), one_of("site", &request.sites)));
            }
        };
        let rows = RecordBatch::try_new(table.schema(), columns);
        rows.map(Content::Rows).map_err(|error| QueryError::Engine(error.into()))
    }

    fn project_columns(&self) -> Vec<ArrayRef> {
        let text = |value: fn(&ProjectFacts) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(self.projects.iter().map(|project| value(project))))
        };
        let zones = self.projects.iter().map(|project| self.zone(project).name());
        vec![
            text(|project| project.slug.as_str()),
            text(|project| &project.name),
            text(|project| &project.kind),
            text(|project| &project.currency),
            Arc::new(StringArray::from_iter_values(zones)),
            text(|project| &project.country),
        ]
    }

    /// The months of each project: those that the request names in its zone. Where it leaves an end open, those of the
    /// scope's partitions and one more, because a local month reaches into the next month of UTC.
    fn month_columns(&self, inputs: &Inputs<'_>) -> Vec<ArrayRef> {
        let held = || {
            let partitions = inputs.snapshot.partitions.keys();
            let within = partitions.filter(|(project, month)| inputs.scope.contains_month(project, *month));
            let starts = within.filter_map(|(_, month)| DateTime::from_timestamp_micros(month.start_micros()));
            starts.map(|start: DateTime<Utc>| start.date_naive())
        };
        let one = Months::new(1);
        let earliest = held().min().and_then(|month| month.checked_sub_months(one));
        let latest = held().max().and_then(|month| month.checked_add_months(one));
        let mut rows = Vec::new();
        for project in &self.projects {
            let (first, last) = self.asked_months(self.zone(project));
            let start = first.or_else(|| [earliest, last].into_iter().flatten().min());
            let end = last.or_else(|| latest.max(first));
            let months = std::iter::successors(start, |month| month.checked_add_months(one));
            let months = months.take_while(|month| Some(*month) <= end).filter_map(days_since_epoch);
            let asked = (first.and_then(days_since_epoch), last.and_then(days_since_epoch));
            rows.extend(months.map(|period| (project.slug.as_str(), period, asked)));
        }
        vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(slug, ..)| slug))),
            Arc::new(Date32Array::from_iter_values(rows.iter().map(|(_, period, _)| *period))),
            Arc::new(rows.iter().map(|(.., asked)| asked.0).collect::<Date32Array>()),
            Arc::new(rows.iter().map(|(.., asked)| asked.1).collect::<Date32Array>()),
        ]
    }

    /// Fills in what the request left to its defaults.
    pub(super) fn show(&self, parameters: &mut serde_json::Map<String, serde_json::Value>, metric: &Metric) {
        let slugs: Vec<&ProjectSlug> = self.projects.iter().map(|project| &project.slug).collect();
        if metric.takes("project") {
            parameters.insert("project".to_owned(), json!(slugs));
        }
        if let (Some(_), [zone]) = (self.last_days, self.zones.as_slice()) {
            let day = |at: Option<DateTime<Utc>>| at.map(|at| at.with_timezone(zone).date_naive().to_string());
            parameters.insert("from".to_owned(), json!(day(self.start(*zone))));
            parameters.insert("to".to_owned(), json!(day(self.end(*zone))));
        }
    }
}

/// The values of the placeholders that a metric may use.
pub(super) fn bound_values(request: &MetricRequest) -> Vec<(String, ScalarValue)> {
    let own = request.own.iter().map(|(name, value)| (name.clone(), value.scalar()));
    own.chain([("grain".to_owned(), ScalarValue::from(request.grain.as_str()))]).collect()
}

/// Whether a column has one of the values; nothing where there are none, which asks for all.
fn one_of(column: &str, values: &[String]) -> Option<Expr> {
    let list = values.iter().map(|value| lit(value.as_str())).collect();
    (!values.is_empty()).then(|| col(column).in_list(list, false))
}

fn upload_columns(inputs: &Inputs<'_>) -> Vec<ArrayRef> {
    let uploads: Vec<&UploadFacts> =
        inputs.uploads.iter().filter(|upload| inputs.scope.contains(&upload.project)).collect();
    let text = |value: fn(&UploadFacts) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(uploads.iter().map(|upload| value(upload))))
    };
    let committed = uploads.iter().map(|upload| upload.committed_at.timestamp_micros());
    vec![
        text(|upload| upload.id.as_str()),
        text(|upload| upload.project.as_str()),
        text(|upload| &upload.dataset_name),
        Arc::new(TimestampMicrosecondArray::from_iter_values(committed).with_timezone("UTC")),
    ]
}
