//! Local days as instants: where a day begins in a time zone, whatever its clocks do.

use chrono::{DateTime, Duration, LocalResult, NaiveDate, NaiveTime, Offset, TimeZone, Utc};
use chrono_tz::Tz;

/// The first instant of a local day. Where midnight falls twice it is the earlier; where the clocks skip it, the instant
/// of the change.
#[must_use]
pub fn start_of_day(day: NaiveDate, zone: Tz) -> DateTime<Utc> {
    let midnight = day.and_time(NaiveTime::MIN);
    match zone.from_local_datetime(&midnight) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => at.to_utc(),
        LocalResult::None => {
            // No offset exceeds a day, so a day earlier on the UTC clock lies before the change whatever its offset.
            let before = zone.offset_from_utc_datetime(&(midnight - Duration::days(1))).fix();
            let mut start = midnight.and_utc() - Duration::seconds(before.local_minus_utc().into());
            // The gap may have begun before midnight: then the day began with the change.
            for step in [Duration::minutes(1), Duration::seconds(1)] {
                while (start - step).with_timezone(&zone).date_naive() >= day {
                    start -= step;
                }
            }
            start
        }
    }
}
