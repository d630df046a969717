//! The parameters of a metric's request: each is checked here, bound as a value later, and never becomes SQL.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use chrono_tz::Tz;
use serde_json::{Map, Value, json};

use super::{
    metrics::{Metric, ParameterInfo, ParameterType as Type},
    own::OwnValue,
    period::{Grain, Moment},
};
use crate::ids::{Month, ProjectSlug};

/// How many rows an answer may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterLimits {
    /// Without `limit`.
    pub default_rows: usize,
    /// The greatest `limit`.
    pub max_rows: usize,
}

impl Default for ParameterLimits {
    fn default() -> Self {
        Self { default_rows: 10_000, max_rows: 1_000_000 }
    }
}

/// How often a repeatable parameter may be given.
pub const MAX_VALUES: usize = 200;
/// How many characters a value may have.
pub const MAX_LENGTH: usize = 200;
/// The years that `from` and `to` may name.
const YEARS: std::ops::RangeInclusive<i32> = 1970..=2199;

/// What is wrong with a parameter, fit for the caller who sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the parameter {parameter:?} {problem}; {allowed}")]
pub struct ParameterError {
    pub parameter: String,
    /// A clause whose subject is the parameter.
    pub problem: String,
    /// What would be right.
    pub allowed: String,
}

impl ParameterError {
    pub(super) fn new(parameter: &str, problem: impl Into<String>, allowed: impl Into<String>) -> Self {
        let parameter = parameter.chars().take(MAX_LENGTH).collect();
        Self { parameter, problem: problem.into(), allowed: allowed.into() }
    }

    /// The period has no instant in it.
    pub(super) fn backwards() -> Self {
        Self::new("to", "is not after from", "from is in the period, to is the end outside it")
    }
}

/// One key of `order`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderKey {
    pub column: String,
    pub descending: bool,
}

/// A common parameter as the catalogue shows it; nothing where there is none of that name.
pub(super) fn common(
    name: &str,
    default_grain: Grain,
    limits: &ParameterLimits,
    columns: &[String],
) -> Option<ParameterInfo> {
    let (kind, repeatable, description) = match name {
        "project" => (Type::Slug, true, "A project's slug; all that the key may see by default."),
        "from" => (Type::Date, false, "The first local day: YYYY-MM-DD, YYYY-MM, or an instant with its offset."),
        "to" => (
            Type::Date,
            false,
            "The local day before which it ends: YYYY-MM-DD, YYYY-MM, or an instant with its offset.",
        ),
        "tz" => (Type::TimeZone, false, "An IANA time zone; the project's own by default."),
        "grain" => (Type::Choice, false, "The width of a period."),
        "site" => (Type::Text, true, "A site, exactly as it is written; all by default."),
        "currency" => (Type::Currency, true, "An ISO 4217 code; all by default."),
        "limit" => (Type::Integer, false, "The most rows of the answer."),
        "order" => {
            (Type::Columns, false, "Columns with a comma between, each with - before it for the greatest first.")
        }
        _ => return None,
    };
    let mut info = ParameterInfo {
        name: name.to_owned(),
        kind,
        repeatable,
        description: description.to_owned(),
        default: None,
        allowed: Vec::new(),
        min: None,
        max: None,
    };
    match name {
        "grain" => {
            info.default = Some(json!(default_grain.as_str()));
            info.allowed = Grain::NAMES.map(str::to_owned).to_vec();
        }
        "limit" => {
            info.default = Some(json!(limits.default_rows));
            info.min = Some(1);
            info.max = i64::try_from(limits.max_rows).ok();
        }
        "order" => info.allowed = columns.to_vec(),
        _ => {}
    }
    Some(info)
}

/// The checked parameters of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricRequest {
    /// Sorted; empty for all that the key may see.
    pub projects: Vec<ProjectSlug>,
    pub from: Option<Moment>,
    pub to: Option<Moment>,
    pub tz: Option<Tz>,
    pub grain: Grain,
    pub sites: Vec<String>,
    pub currencies: Vec<String>,
    pub limit: usize,
    pub order: Vec<OrderKey>,
    /// The period is the last so many local days.
    pub last_days: Option<i64>,
    pub own: BTreeMap<String, OwnValue>,
}

impl MetricRequest {
    /// Reads the pairs of a query string, already percent-decoded. `format` is skipped: it chooses the answer's form and
    /// is not the metric's.
    pub fn parse(
        metric: &Metric,
        pairs: &[(String, String)],
        limits: &ParameterLimits,
    ) -> Result<Self, ParameterError> {
        let given = Given::of(metric, pairs)?;
        let from = given.one("from").map(|text| moment("from", text)).transpose()?;
        let to = given.one("to").map(|text| moment("to", text)).transpose()?;
        let tz = given.one("tz").map(time_zone).transpose()?;
        // A day and an instant are compared later, when the zones of the projects are known.
        let backwards = match (from, to) {
            (Some(Moment::Day(from)), Some(Moment::Day(to))) => from >= to,
            (Some(Moment::Instant(from)), Some(Moment::Instant(to))) => from >= to,
            _ => false,
        };
        if backwards {
            return Err(ParameterError::backwards());
        }
        let grain = match given.one("grain") {
            Some(text) => text.parse().map_err(|allowed| ParameterError::new("grain", "is not a grain", allowed))?,
            None => metric.default_grain,
        };
        let max_rows = i64::try_from(limits.max_rows).unwrap_or(i64::MAX);
        let limit = match given.one("limit") {
            Some(text) => usize::try_from(integer("limit", text, 1, max_rows)?).unwrap_or(limits.max_rows),
            None => limits.default_rows,
        };
        let mut request = Self {
            projects: given.all("project", |text| {
                text.parse()
                    .map_err(|error: crate::ids::InvalidId| ParameterError::new("project", "is not a slug", error.0))
            })?,
            from,
            to,
            tz,
            grain,
            sites: given.all("site", |text| Ok(text.to_owned()))?,
            currencies: given.all("currency", currency)?,
            limit,
            order: given.one("order").map_or(Ok(Vec::new()), |text| order(metric, text))?,
            last_days: None,
            own: BTreeMap::new(),
        };
        request.read_own(metric, &given)?;
        Ok(request)
    }

    fn read_own(&mut self, metric: &Metric, given: &Given<'_>) -> Result<(), ParameterError> {
        let bounded = self.from.is_some() || self.to.is_some();
        for (name, parameter) in &metric.own {
            let text = given.one(name);
            let value = text.map_or_else(|| Ok(parameter.default.clone()), |text| parameter.parse(name, text))?;
            if parameter.last_days {
                if text.is_some() && bounded {
                    return Err(ParameterError::new(
                        name,
                        "is given together with from or to",
                        "give one or the other",
                    ));
                }
                if text.is_none() && (bounded || given.one("grain").is_some()) {
                    continue;
                }
                if let OwnValue::Integer(days) = value {
                    self.last_days = Some(days);
                }
            }
            self.own.insert(name.clone(), value);
        }
        Ok(())
    }

    /// The parameters that took effect, in one order and one spelling: what the answer shows and the `ETag` is made from.
    #[must_use]
    pub fn effective(&self, metric: &Metric) -> Map<String, Value> {
        let mut map = Map::new();
        for parameter in &metric.info.parameters {
            let value = match parameter.name.as_str() {
                "project" => json!(self.projects),
                "from" => json!(self.from.map(|from| from.to_string())),
                "to" => json!(self.to.map(|to| to.to_string())),
                "tz" => json!(self.tz.map(Tz::name)),
                "grain" => json!(self.grain.as_str()),
                "site" => json!(self.sites),
                "currency" => json!(self.currencies),
                "limit" => json!(self.limit),
                "order" => json!(self.order_text(metric)),
                own => json!(self.own.get(own).map(OwnValue::json)),
            };
            map.insert(parameter.name.clone(), value);
        }
        map
    }

    /// The keys of the answer's order: those asked for, then those that make it one order.
    pub(super) fn order_keys(&self, metric: &Metric) -> Vec<OrderKey> {
        let asked = |column: &str| self.order.iter().any(|key| key.column == column);
        let rest = metric.order.iter().filter(|column| !asked(column));
        let rest = rest.map(|column| OrderKey { column: column.clone(), descending: false });
        self.order.iter().cloned().chain(rest).collect()
    }

    fn order_text(&self, metric: &Metric) -> String {
        let text = |key: OrderKey| format!("{}{}", if key.descending { "-" } else { "" }, key.column);
        self.order_keys(metric).into_iter().map(text).collect::<Vec<_>>().join(",")
    }
}

/// The values of a request by parameter, each known to the metric and given as often as it may be.
struct Given<'a>(BTreeMap<&'a str, Vec<&'a str>>);

impl<'a> Given<'a> {
    fn of(metric: &Metric, pairs: &'a [(String, String)]) -> Result<Self, ParameterError> {
        let mut values: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, value) in pairs.iter().filter(|(name, _)| name != "format") {
            let Some(parameter) = metric.info.parameters.iter().find(|known| known.name == *name) else {
                return Err(unknown(metric, name));
            };
            if value.is_empty() {
                return Err(ParameterError::new(name, "is empty", "give it a value or leave it out"));
            }
            if value.chars().count() > MAX_LENGTH {
                let allowed = format!("at most {MAX_LENGTH} characters");
                return Err(ParameterError::new(name, "is too long", allowed));
            }
            let members = values.entry(name).or_default();
            members.push(value);
            if members.len() > 1 && !parameter.repeatable {
                return Err(ParameterError::new(name, "is given more than once", "it takes one value"));
            }
            if members.len() > MAX_VALUES {
                return Err(ParameterError::new(name, "is given too often", format!("at most {MAX_VALUES} times")));
            }
        }
        Ok(Self(values))
    }

    fn one(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).and_then(|values| values.first()).copied()
    }

    /// The values, sorted and each once.
    fn all<T: Ord>(
        &self,
        name: &str,
        read: impl Fn(&str) -> Result<T, ParameterError>,
    ) -> Result<Vec<T>, ParameterError> {
        let values = self.0.get(name).map_or(&[][..], Vec::as_slice);
        let mut read = values.iter().map(|value| read(value)).collect::<Result<Vec<_>, _>>()?;
        read.sort();
        read.dedup();
        Ok(read)
    }
}

fn unknown(metric: &Metric, name: &str) -> ParameterError {
    let names: Vec<&str> = metric.info.parameters.iter().map(|known| known.name.as_str()).chain(["format"]).collect();
    let allowed = format!("{} takes {}", metric.name(), names.join(", "));
    let problem = match nearest(name, names.iter().copied()) {
        Some(near) => format!("is not one of this metric (did you mean {near}?)"),
        None => "is not one of this metric".to_owned(),
    };
    ParameterError::new(name, problem, allowed)
}

/// The candidate that `text` most likely meant.
fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let text: String = text.chars().take(MAX_LENGTH).collect::<String>().to_lowercase();
    candidates
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&text, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

pub(super) fn integer(name: &str, text: &str, min: i64, max: i64) -> Result<i64, ParameterError> {
    let allowed = || format!("it is a whole number from {min} to {max}");
    let value: i64 = text.parse().map_err(|_| ParameterError::new(name, "is not a whole number", allowed()))?;
    if (min..=max).contains(&value) { Ok(value) } else { Err(ParameterError::new(name, "is out of range", allowed())) }
}

/// A local day as `YYYY-MM-DD`, and no other spelling.
pub(super) fn day(text: &str) -> Option<NaiveDate> {
    let day: NaiveDate = text.parse().ok()?;
    (day.to_string() == text && YEARS.contains(&day.year())).then_some(day)
}

fn moment(name: &str, text: &str) -> Result<Moment, ParameterError> {
    let month = || text.parse::<Month>().ok().and_then(|month| day(&format!("{month}-01")));
    if let Some(day) = day(text).or_else(month) {
        return Ok(Moment::Day(day));
    }
    match DateTime::parse_from_rfc3339(text).map(|at| at.with_timezone(&Utc)) {
        // The year in UTC, which is how an answer names the instant: what it says took effect can be asked for again.
        Ok(at) if YEARS.contains(&at.year()) => Ok(Moment::Instant(at)),
        _ => Err(ParameterError::new(
            name,
            "is not a day, a month or an instant",
            "write 2024-05-01, 2024-05 or 2024-05-01T06:00:00+03:00 (in a URL the + is %2B), from 1970 to 2199",
        )),
    }
}

fn time_zone(text: &str) -> Result<Tz, ParameterError> {
    text.parse().map_err(|_| {
        let names = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
        let problem = match nearest(text, names) {
            Some(near) => format!("is not a time zone (did you mean {near}?)"),
            None => "is not a time zone".to_owned(),
        };
        ParameterError::new("tz", problem, "it is an IANA name such as Africa/Nairobi")
    })
}

fn currency(text: &str) -> Result<String, ParameterError> {
    let code = text.to_ascii_uppercase();
    match iso_currency::Currency::from_code(&code) {
        Some(_) => Ok(code),
        None => Err(ParameterError::new("currency", "is not a currency", "it is an ISO 4217 code such as KES")),
    }
}

fn order(metric: &Metric, text: &str) -> Result<Vec<OrderKey>, ParameterError> {
    let columns: Vec<&str> = metric.info.columns.iter().map(|column| column.name.as_str()).collect();
    let mut keys: Vec<OrderKey> = Vec::new();
    for part in text.split(',') {
        let (column, descending) = part.strip_prefix('-').map_or((part, false), |column| (column, true));
        if !columns.contains(&column) {
            let allowed = format!("{} has {}", metric.name(), columns.join(", "));
            return Err(ParameterError::new("order", "names a column that is not in the answer", allowed));
        }
        if keys.iter().any(|key| key.column == column) {
            return Err(ParameterError::new("order", "names a column twice", "name each column once"));
        }
        keys.push(OrderKey { column: column.to_owned(), descending });
    }
    Ok(keys)
}
