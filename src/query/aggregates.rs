//! What may be asked of months that are shared as aggregates: whole months and whole sites, one grouping at a time.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{metrics::Metric, params::MetricRequest, period::Grain};
use crate::ids::{Month, ProjectSlug};

/// Whether a metric is offered over what is shared as aggregates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OverAggregates {
    /// No: it shows single customers, or values of single payments.
    #[default]
    No,
    /// Its figures add up over sites and months, so that nothing comes out of them that is not in those of a cell.
    Sums,
    /// Of one site, month by month: what it counts is counted once in each, and not twice in both.
    OneSite,
}

/// Projects of which a request asks more than what is shared of them; fit for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", asks.told(&named(.projects)))]
pub struct TooDetailed {
    /// The projects that they are of.
    pub projects: Vec<ProjectSlug>,
    asks: Asks,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Asks {
    /// Of months that are shared as aggregates.
    MoreThanAggregates { first: Month, last: Month, reason: &'static str },
    /// Of an earlier version of the lake, which may have what its owner has taken back.
    Earlier,
    /// Of connections, which are not shared.
    Connections,
}

impl Asks {
    fn told(&self, projects: &str) -> String {
        match self {
            Self::MoreThanAggregates { first, last, reason } => {
                format!("payments of {projects} from {first} to {last} are shared as aggregates; {reason}")
            }
            Self::Earlier => {
                format!("{projects} is shared, and shared payments are shown as they are now: leave as_of out")
            }
            Self::Connections => format!(
                "of {projects} payments are shared, and connections are not, which this metric needs: ask with project for those \
                 of your own organisation"
            ),
        }
    }
}

impl TooDetailed {
    /// Another organisation's projects, looked at as they were.
    pub(super) fn earlier(projects: Vec<ProjectSlug>) -> Self {
        Self { projects, asks: Asks::Earlier }
    }

    /// Another organisation's projects, of whose connections something is asked.
    pub(super) fn connections(projects: Vec<ProjectSlug>) -> Self {
        Self { projects, asks: Asks::Connections }
    }

    /// Under which code it is told.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self.asks {
            Asks::MoreThanAggregates { .. } => "shared_as_aggregates",
            Asks::Earlier => "shared_as_it_is",
            Asks::Connections => "connections_not_shared",
        }
    }
}

/// The first of some projects, and how many more there are.
fn named(projects: &[ProjectSlug]) -> String {
    const FIRST: usize = 5;
    let first = projects.iter().take(FIRST).map(ProjectSlug::as_str).collect::<Vec<_>>().join(", ");
    match projects.len().saturating_sub(FIRST) {
        0 => first,
        more => format!("{first} and {more} more projects"),
    }
}

/// Holds a request that reads these months, which are shared as aggregates, to what may be asked of them.
pub(super) fn check(
    metric: &Metric,
    request: &MetricRequest,
    months: &[(ProjectSlug, Month)],
    (start, end): (Option<DateTime<Utc>>, Option<DateTime<Utc>>),
) -> Result<(), TooDetailed> {
    let (Some(first), Some(last)) =
        (months.iter().map(|(_, month)| *month).min(), months.iter().map(|(_, month)| *month).max())
    else {
        return Ok(());
    };
    let Some(reason) = reason(metric, request, start, end) else { return Ok(()) };
    let mut projects: Vec<ProjectSlug> = months.iter().map(|(project, _)| project.clone()).collect();
    projects.dedup();
    Err(TooDetailed { projects, asks: Asks::MoreThanAggregates { first, last, reason } })
}

fn reason(
    metric: &Metric,
    request: &MetricRequest,
    start: Option<DateTime<Utc>>,
    end: Option<DateTime<Utc>>,
) -> Option<&'static str> {
    let offered = metric.info.over_aggregates;
    let monthly = matches!(request.grain, Grain::Month | Grain::Quarter | Grain::Year | Grain::All);
    Some(match offered {
        OverAggregates::No => {
            "this metric shows single customers or payments, and is not offered over them: ask with project, or with from and to, \
             for what is shared in more detail"
        }
        _ if request.tz.is_some_and(|zone| zone != chrono_tz::UTC) => {
            "their days are those of UTC: leave tz out, or ask with tz=UTC"
        }
        _ if !is_month_start(start) || !is_month_start(end) => {
            "they are whole months of UTC: ask with from=YYYY-MM and to=YYYY-MM"
        }
        _ if metric.takes("grain") && !monthly => "they are whole months: ask with grain=month, quarter, year or all",
        OverAggregates::OneSite if request.sites.len() != 1 || request.grain != Grain::Month => {
            "this metric is offered over them by site and month: ask with one site, and with grain=month"
        }
        OverAggregates::Sums | OverAggregates::OneSite => return None,
    })
}

/// Whether an end of a period is one of months of UTC; an open end is.
fn is_month_start(at: Option<DateTime<Utc>>) -> bool {
    at.is_none_or(|at| Month::of_micros(at.timestamp_micros()).start_micros() == at.timestamp_micros())
}
