//! Local time: the ends of a request's period as instants, and the buckets into which payments are counted.

use std::{fmt, str::FromStr, sync::Arc};

use arrow::{
    array::{ArrayRef, Date32Array, Date32Builder, StringArray, TimestampMicrosecondArray, new_null_array},
    datatypes::{DataType, TimestampMicrosecondType},
};
use chrono::{DateTime, Datelike, Days, NaiveDate, Offset, TimeZone, Utc};
use chrono_tz::Tz;
use datafusion::{
    common::{Result, ScalarValue, cast::as_primitive_array, cast::as_string_array, exec_err},
    logical_expr::{
        ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
        simplify::{ExprSimplifyResult, SimplifyContext},
    },
};

use crate::{local_day::start_of_day, payments::schema::instant};

const DAY_MICROS: i64 = 86_400_000_000;

/// The width of a bucket of time, in local days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grain {
    Day,
    /// From Monday, as ISO 8601 has it.
    Week,
    Month,
    Quarter,
    Year,
    /// One bucket for everything; its period is null.
    All,
}

impl Grain {
    pub const NAMES: [&'static str; 6] = ["day", "week", "month", "quarter", "year", "all"];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The first local day of the bucket that holds `day`; nothing for [`Grain::All`].
    #[must_use]
    pub fn bucket(self, day: NaiveDate) -> Option<NaiveDate> {
        let month = |month| NaiveDate::from_ymd_opt(day.year(), month, 1);
        match self {
            Self::Day => Some(day),
            Self::Week => day.checked_sub_days(Days::new(day.weekday().num_days_from_monday().into())),
            Self::Month => month(day.month()),
            Self::Quarter => month((day.month() - 1) / 3 * 3 + 1),
            Self::Year => month(1),
            Self::All => None,
        }
    }
}

impl FromStr for Grain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let grains = [Self::Day, Self::Week, Self::Month, Self::Quarter, Self::Year, Self::All];
        grains
            .into_iter()
            .find(|grain| grain.as_str() == text)
            .ok_or_else(|| format!("it is one of {}", Self::NAMES.join(", ")))
    }
}

impl fmt::Display for Grain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An end of a period: the first instant of a local day, wherever that is, or one instant for all zones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Day(NaiveDate),
    Instant(DateTime<Utc>),
}

impl Moment {
    /// The instant in `zone`.
    #[must_use]
    pub fn at(self, zone: Tz) -> DateTime<Utc> {
        match self {
            Self::Day(day) => start_of_day(day, zone),
            Self::Instant(instant) => instant,
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Day(day) => write!(f, "{day}"),
            Self::Instant(instant) => f.write_str(&instant.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)),
        }
    }
}

/// The local day of an instant in microseconds.
fn local_day(micros: i64, zone: Tz) -> Option<NaiveDate> {
    Some(DateTime::<Utc>::from_timestamp_micros(micros)?.with_timezone(&zone).date_naive())
}

fn offset_micros(micros: i64, zone: Tz) -> Option<i64> {
    let at = DateTime::<Utc>::from_timestamp_micros(micros)?;
    Some(i64::from(zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc()) * 1_000_000)
}

/// The buckets of a zone for a range of UTC days. A UTC day without a change of the clocks spans at most two local days,
/// so two numbers and the instant between them answer for all of its rows; a day with a change is answered row by row.
struct Buckets {
    zone: Tz,
    grain: Grain,
    first_day: i64,
    days: Vec<Option<SteadyDay>>,
}

/// A UTC day in which the zone's offset does not change.
struct SteadyDay {
    local_midnight: i64,
    before: i32,
    after: i32,
}

impl Buckets {
    /// More days than a century are not tabled.
    const MAX_DAYS: i64 = 36_600;

    fn new(zone: Tz, grain: Grain, min: i64, max: i64) -> Self {
        let (first_day, last_day) = (min.div_euclid(DAY_MICROS), max.div_euclid(DAY_MICROS));
        let tabled = if last_day - first_day < Self::MAX_DAYS { first_day..last_day + 1 } else { 0..0 };
        let days = tabled.map(|day| Self::steady(zone, grain, day * DAY_MICROS)).collect();
        Self { zone, grain, first_day, days }
    }

    fn steady(zone: Tz, grain: Grain, start: i64) -> Option<SteadyDay> {
        let offset = offset_micros(start, zone)?;
        if offset_micros(start + DAY_MICROS, zone)? != offset {
            return None;
        }
        let day_of = |micros: i64| local_day(micros, zone).and_then(|day| days_since_epoch(grain.bucket(day)?));
        let local_midnight = start + (-offset).rem_euclid(DAY_MICROS);
        Some(SteadyDay { local_midnight, before: day_of(start)?, after: day_of(start + DAY_MICROS - 1)? })
    }

    fn of(&self, micros: i64) -> Option<i32> {
        let index = usize::try_from(micros.div_euclid(DAY_MICROS) - self.first_day).ok();
        match index.and_then(|index| self.days.get(index)) {
            Some(Some(day)) => Some(if micros < day.local_midnight { day.before } else { day.after }),
            _ => days_since_epoch(self.grain.bucket(local_day(micros, self.zone)?)?),
        }
    }
}

/// What Arrow's Date32 holds.
#[must_use]
pub(super) fn days_since_epoch(day: NaiveDate) -> Option<i32> {
    i32::try_from(day.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

/// `local_period(paid_at, time_zone, grain)`: the first local day of the bucket that holds an instant, a date. The grain
/// is a literal; `all` gives null.
#[derive(Debug, PartialEq, Eq, Hash)]
struct LocalPeriod {
    signature: Signature,
}

/// The function for a session's registry.
#[must_use]
pub fn local_period() -> Arc<ScalarUDF> {
    let signature = Signature::exact(vec![instant(), DataType::Utf8, DataType::Utf8], Volatility::Immutable);
    Arc::new(ScalarUDF::from(LocalPeriod { signature }))
}

impl ScalarUDFImpl for LocalPeriod {
    fn name(&self) -> &'static str {
        "local_period"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Date32)
    }

    /// One bucket for everything is known without the rows, which then need not be read for it.
    fn simplify(&self, arguments: Vec<Expr>, _context: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let all = matches!(
            arguments.last(),
            Some(Expr::Literal(ScalarValue::Utf8(Some(grain)), _)) if grain == Grain::All.as_str()
        );
        if all {
            return Ok(ExprSimplifyResult::Simplified(Expr::Literal(ScalarValue::Date32(None), None)));
        }
        Ok(ExprSimplifyResult::Original(arguments))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let [instants, zones, grain] = arguments.args.as_slice() else {
            return exec_err!("local_period takes an instant, a time zone and a grain");
        };
        let ColumnarValue::Scalar(ScalarValue::Utf8(Some(grain))) = grain else {
            return exec_err!("the grain of local_period is a literal");
        };
        let Ok(grain) = grain.parse::<Grain>() else {
            return exec_err!("the grain of local_period is not one that there is");
        };
        if grain == Grain::All {
            return Ok(ColumnarValue::Array(new_null_array(&DataType::Date32, rows)));
        }
        let instants = instants.to_array(rows)?;
        let instants = as_primitive_array::<TimestampMicrosecondType>(&instants)?;
        let periods: ArrayRef = match zones {
            ColumnarValue::Scalar(ScalarValue::Utf8(Some(zone))) => Arc::new(one_zone(instants, zone, grain)?),
            ColumnarValue::Scalar(_) => new_null_array(&DataType::Date32, rows),
            ColumnarValue::Array(zones) => Arc::new(zone_by_row(instants, as_string_array(zones)?, grain)?),
        };
        Ok(ColumnarValue::Array(periods))
    }
}

fn bounds(instants: &TimestampMicrosecondArray) -> (i64, i64) {
    (arrow::compute::min(instants).unwrap_or(0), arrow::compute::max(instants).unwrap_or(0))
}

fn zone_named(name: &str) -> Result<Tz> {
    name.parse().or_else(|_| exec_err!("a project has a time zone that is not known"))
}

fn one_zone(instants: &TimestampMicrosecondArray, zone: &str, grain: Grain) -> Result<Date32Array> {
    let (min, max) = bounds(instants);
    let buckets = Buckets::new(zone_named(zone)?, grain, min, max);
    Ok(instants.iter().map(|at| buckets.of(at?)).collect())
}

/// Zones are few and come in runs, one for each file, so the last one is tried first.
fn zone_by_row(instants: &TimestampMicrosecondArray, zones: &StringArray, grain: Grain) -> Result<Date32Array> {
    let (min, max) = bounds(instants);
    let mut known: Vec<(&str, Buckets)> = Vec::new();
    let mut last = 0;
    let mut periods = Date32Builder::with_capacity(instants.len());
    for (at, zone) in instants.iter().zip(zones) {
        let (Some(at), Some(zone)) = (at, zone) else {
            periods.append_null();
            continue;
        };
        if known.get(last).is_none_or(|(name, _)| *name != zone) {
            last = known.iter().position(|(name, _)| *name == zone).unwrap_or(known.len());
            if last == known.len() {
                known.push((zone, Buckets::new(zone_named(zone)?, grain, min, max)));
            }
        }
        periods.append_option(known.get(last).and_then(|(_, buckets)| buckets.of(at)));
    }
    Ok(periods.finish())
}

#[cfg(test)]
mod tests {
    use chrono::Duration;
    use proptest::prelude::*;

    use super::*;

    /// What chrono-tz says, row by row.
    fn plainly(micros: i64, zone: Tz, grain: Grain) -> Option<i32> {
        days_since_epoch(grain.bucket(local_day(micros, zone)?)?)
    }

    proptest! {
        #[test]
        fn the_tabled_buckets_are_those_of_the_time_zone_database(
            zone in prop::sample::select(chrono_tz::TZ_VARIANTS.to_vec()),
            start in 0_i64..4_000_000_000,
            steps in prop::collection::vec(0_i64..40 * DAY_MICROS, 1..60),
            grain in prop::sample::select(vec![Grain::Day, Grain::Week, Grain::Month, Grain::Quarter, Grain::Year]),
        ) {
            let instants: TimestampMicrosecondArray = steps.iter().map(|step| Some(start * 1_000_000 + step)).collect();
            let tabled = one_zone(&instants, zone.name(), grain).unwrap();
            let zones: StringArray = instants.iter().map(|_| Some(zone.name())).collect();
            prop_assert_eq!(&tabled, &zone_by_row(&instants, &zones, grain).unwrap());
            for (at, bucket) in instants.iter().zip(&tabled) {
                prop_assert_eq!(bucket, plainly(at.unwrap(), zone, grain));
            }
        }

        #[test]
        fn a_day_starts_with_its_first_instant(
            zone in prop::sample::select(chrono_tz::TZ_VARIANTS.to_vec()),
            day in 0_u64..25_000,
        ) {
            let day = NaiveDate::default() + Days::new(day);
            let start = start_of_day(day, zone);
            prop_assert!(start.with_timezone(&zone).date_naive() >= day);
            prop_assert!((start - Duration::seconds(1)).with_timezone(&zone).date_naive() < day);
        }
    }

    #[test]
    fn the_hour_of_a_change_of_the_clocks_is_counted_in_its_own_day() {
        let cairo = Tz::Africa__Cairo;
        // In 2024 Egypt's clocks skipped from midnight of 26 April to one o'clock: the day began at 22:00 UTC.
        let day = NaiveDate::from_ymd_opt(2024, 4, 26).unwrap();
        assert_eq!(start_of_day(day, cairo).to_rfc3339(), "2024-04-25T22:00:00+00:00");
        let edge = start_of_day(day, cairo).timestamp_micros();
        let instants: TimestampMicrosecondArray = [edge - 1, edge].into_iter().map(Some).collect();
        let days = one_zone(&instants, cairo.name(), Grain::Day).unwrap();
        assert_eq!(days.value(0) + 1, days.value(1));
    }

    #[test]
    fn rows_of_several_zones_are_each_counted_in_their_own() {
        let at = "2024-05-31T21:30:00Z".parse::<DateTime<Utc>>().unwrap().timestamp_micros();
        let names = ["Africa/Nairobi", "UTC", "Africa/Nairobi"];
        let instants = TimestampMicrosecondArray::from(vec![at; 3]);
        let months = zone_by_row(&instants, &StringArray::from(names.to_vec()), Grain::Month).unwrap();
        let month = |row| months.value_as_date(row).unwrap().to_string();
        assert_eq!([month(0), month(1), month(2)], ["2024-06-01", "2024-05-01", "2024-06-01"]);
    }

    #[test]
    fn buckets_begin_where_the_calendar_says() {
        let day = NaiveDate::from_ymd_opt(2024, 5, 19).unwrap();
        let bucket = |grain: Grain| grain.bucket(day).map(|day| day.to_string());
        assert_eq!(bucket(Grain::Week).as_deref(), Some("2024-05-13"));
        assert_eq!(bucket(Grain::Quarter).as_deref(), Some("2024-04-01"));
        assert_eq!(bucket(Grain::Year).as_deref(), Some("2024-01-01"));
        assert_eq!(bucket(Grain::All), None);
    }
}
