//! What a request comes to: its zones, its instants, its files, and the relations that its metric asks for.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use arrow::array::{ArrayRef, Date32Array, RecordBatch, StringArray};
use chrono::{DateTime, Days, Months, NaiveDate, Utc};
use chrono_tz::Tz;
use datafusion::{
    common::ScalarValue,
    logical_expr::{Expr, col, lit},
};
use serde_json::json;

use super::{
    QueryError,
    aggregates::{self, TooDetailed},
    metrics::Metric,
    month_cells::MonthCells,
    params::{MetricRequest, ParameterError},
    period::{Grain, Moment, days_since_epoch},
    relations::{connection_columns, project_columns, upload_columns},
    session::{Content, Table},
};
use crate::{
    access::{Detail, Scope, Sight},
    catalog::{ConnectionFacts, Project, UploadFacts},
    ids::{Month, ProjectSlug},
    lake::{LakeFile, Snapshot, masking::Masking, scan::ScanFile},
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
    /// The connections of the scope's own projects, where the metric reads them; others are ignored.
    pub connections: &'a BTreeMap<ProjectSlug, Vec<ConnectionFacts>>,
    /// What days are counted back from.
    pub now: DateTime<Utc>,
    /// Whether the lake is looked at as it was.
    pub is_earlier: bool,
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
    /// The months of projects that it reads and that are shared as aggregates, each with its cells, once they are known.
    pub(super) aggregates: BTreeMap<(ProjectSlug, Month), Option<Arc<MonthCells>>>,
    /// Projects that are not in it, because it asks more of them than what is shared of them.
    pub(super) left_out: Option<TooDetailed>,
}

impl<'a> Plan<'a> {
    pub(super) fn of(metric: &Metric, request: &MetricRequest, inputs: &Inputs<'a>) -> Result<Self, QueryError> {
        let known: HashMap<&ProjectSlug, &ProjectFacts> = inputs.projects.iter().map(|p| (&p.slug, p)).collect();
        let facts = |slug: &ProjectSlug| known.get(slug).copied().ok_or_else(|| QueryError::MissingFacts(slug.clone()));
        let mut plan = Self {
            projects: inputs.scope.projects().map(facts).collect::<Result<_, _>>()?,
            tz: request.tz,
            zones: Vec::new(),
            from: request.from,
            to: request.to,
            last_days: request.last_days,
            now: inputs.now,
            aggregates: BTreeMap::new(),
            left_out: None,
        };
        plan.hold_to_details(metric, request, inputs)?;
        let zones: BTreeMap<&str, Tz> =
            plan.projects.iter().map(|project| plan.zone(project)).map(|zone| (zone.name(), zone)).collect();
        plan.zones = zones.into_values().collect();
        plan.check_period()?;
        Ok(plan)
    }

    /// Where it asks more of projects than what is shared of them: refused if it names projects, else they are
    /// left out of it. What somebody shares does not keep others from asking for all that they see.
    fn hold_to_details(
        &mut self,
        metric: &Metric,
        request: &MetricRequest,
        inputs: &Inputs<'_>,
    ) -> Result<(), TooDetailed> {
        let months = self.months_of_aggregates(inputs);
        let shared = self.projects.iter().filter(|project| !inputs.scope.owns(&project.slug));
        let shared: Vec<ProjectSlug> = shared.map(|project| project.slug.clone()).collect();
        let asked = if metric.reads_connections() && !shared.is_empty() {
            Err(TooDetailed::connections(shared))
        } else if inputs.is_earlier && !shared.is_empty() {
            Err(TooDetailed::earlier(shared))
        } else {
            aggregates::check(metric, request, &months, (self.start(Tz::UTC), self.end(Tz::UTC)))
        };
        match asked {
            Err(refused) if !request.projects.is_empty() => return Err(refused),
            Err(refused) => {
                self.projects.retain(|project| !refused.projects.contains(&project.slug));
                self.left_out = Some(refused);
            }
            Ok(()) => self.aggregates = months.into_iter().map(|month| (month, None)).collect(),
        }
        Ok(())
    }

    /// The months of projects with payments that the request asks of and that are shared as aggregates. Their days are those
    /// of UTC, as months of files are.
    fn months_of_aggregates(&self, inputs: &Inputs<'_>) -> Vec<(ProjectSlug, Month)> {
        let micros = |at: Option<DateTime<Utc>>| at.map(|at| at.timestamp_micros());
        let (start, end) = (micros(self.start(Tz::UTC)), micros(self.end(Tz::UTC)));
        let asked = |month: &Month| {
            start.is_none_or(|start| month.end_micros() > start) && end.is_none_or(|end| month.start_micros() < end)
        };
        let of_project = |project: &&ProjectFacts| {
            let held = held_months(inputs, &project.slug);
            let wanted = held.filter(|(month, sight, _)| sight.detail == Detail::Aggregate && asked(month));
            wanted.map(|(month, ..)| (project.slug.clone(), month)).collect::<Vec<_>>()
        };
        self.projects.iter().flat_map(of_project).collect()
    }

    /// How many cells of the period are not shown, where some of it is shared as aggregates.
    pub(super) fn withheld_cells(&self) -> Option<u64> {
        let known = self.aggregates.values().flatten().map(|cells| cells.withheld);
        (!self.aggregates.is_empty()).then(|| known.sum())
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
        // What is shared as aggregates beyond the period has cells that nobody asked for.
        others.retain(|scan| !whole.contains(&scan.file.path) && !matches!(scan.masking, Masking::Cells(..)));
        others
    }

    fn files_of(&self, inputs: &Inputs<'_>, period: impl Fn(Tz) -> Range<i64>) -> Vec<ScanFile> {
        let utc = period(Tz::UTC);
        let mut scans = Vec::new();
        for project in &self.projects {
            let zone = self.zone(project);
            let own = period(zone);
            for (month, sight, files) in held_months(inputs, &project.slug) {
                let Some(masking) = self.masking(&project.slug, month, sight) else { continue };
                let (zone, period) = if masking.is_of_whole_months() { (Tz::UTC, &utc) } else { (zone, &own) };
                scans.extend(files.iter().filter_map(|file| ScanFile::of_period(file, zone, period, masking.clone())));
            }
        }
        scans
    }

    /// How the payments of a month are seen; nothing where none of them are.
    fn masking(&self, project: &ProjectSlug, month: Month, sight: &Sight) -> Option<Masking> {
        Some(match (sight.detail, sight.mask_key) {
            (Detail::Full, _) => Masking::None,
            (Detail::Masked, key) => Masking::Pseudonyms(key?),
            (Detail::Aggregate, key) => {
                let cells = self.aggregates.get(&(project.clone(), month))?.as_ref()?;
                (!cells.shown.is_empty()).then_some(Masking::Cells(Arc::clone(&cells.shown), key?))?
            }
        })
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
            Table::Projects => {
                let zones = self.projects.iter().map(|project| self.zone(project).name());
                project_columns(&self.projects, zones)
            }
            Table::Uploads => {
                let uploads = inputs.uploads.iter().filter(|upload| inputs.scope.contains(&upload.project));
                upload_columns(&uploads.collect::<Vec<_>>())
            }
            Table::Months => self.month_columns(inputs),
            Table::AsOf => self.as_of_columns(),
            Table::Connections => connection_columns(&self.connections(inputs)),
            Table::Sites => {
                return Ok(Content::Sites(self.other_files(inputs), one_of("site", &request.sites)));
            }
        };
        let rows = RecordBatch::try_new(table.schema(), columns);
        rows.map(Content::Rows).map_err(|error| QueryError::Engine(error.into()))
    }

    /// The months of each project: those that the request names in its zone. Where it leaves an end open, those of the
    /// scope's partitions and one more, because a local month reaches into the next month of UTC.
    fn month_columns(&self, inputs: &Inputs<'_>) -> Vec<ArrayRef> {
        let held = || {
            let within = self.projects.iter().flat_map(|project| held_months(inputs, &project.slug));
            let starts = within.filter_map(|(month, ..)| DateTime::from_timestamp_micros(month.start_micros()));
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

    /// The local day in a zone up to which days are counted: the last before the end, and no later than today.
    pub(super) fn as_of(&self, zone: Tz) -> NaiveDate {
        let last = self.end(zone).map(|end| end - chrono::Duration::microseconds(1));
        last.map_or(self.now, |last| last.min(self.now)).with_timezone(&zone).date_naive()
    }

    fn as_of_columns(&self) -> Vec<ArrayRef> {
        let slugs = self.projects.iter().map(|project| project.slug.as_str());
        let days =
            self.projects.iter().map(|project| days_since_epoch(self.as_of(self.zone(project))).unwrap_or(i32::MAX));
        vec![Arc::new(StringArray::from_iter_values(slugs)), Arc::new(Date32Array::from_iter_values(days))]
    }

    /// The connections of its projects, each project's together. None are another organisation's: whoever is shared a project
    /// is not answered of it, and were it, it would have none.
    pub(super) fn connections<'i>(&self, inputs: &'i Inputs<'_>) -> Vec<(&'i ProjectSlug, &'i ConnectionFacts)> {
        let own = self.projects.iter().filter(|project| inputs.scope.owns(&project.slug));
        let of_own = own.filter_map(|project| inputs.connections.get_key_value(&project.slug));
        of_own.flat_map(|(slug, connections)| connections.iter().map(move |one| (slug, one))).collect()
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

/// What the lake holds of a project's months that are in the scope, and how each is seen.
fn held_months<'a>(
    inputs: &'a Inputs<'_>,
    project: &'a ProjectSlug,
) -> impl Iterator<Item = (Month, &'a Sight, &'a [Arc<LakeFile>])> {
    let seen = |(month, files)| Some((month, inputs.scope.sight(project, month)?, files));
    inputs.snapshot.project_months(project).filter_map(seen)
}

/// Whether a column has one of the values; nothing where there are none, which asks for all.
fn one_of(column: &str, values: &[String]) -> Option<Expr> {
    let list = values.iter().map(|value| lit(value.as_str())).collect();
    (!values.is_empty()).then(|| col(column).in_list(list, false))
}
