//! Timestamps: text → UTC microseconds. `YYYY-MM-DD HH:MM:SS` with a space or a `T` between, up to six decimals of a
//! second, and `Z` or an offset behind; without one it is UTC. (seed: File formatting, 5; File Definition, TIMESTAMP)

use super::report::code;

/// The first instant that a payment may have, 2000-01-01T00:00:00Z: before it there were no such meters, and a two-digit
/// year or an empty clock gives such dates.
pub const NOT_BEFORE_MICROS: i64 = 946_684_800_000_000;

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The largest offset in use on Earth, in minutes.
const MAX_OFFSET: i64 = 14 * 60;

/// Why a text is not a timestamp that a payment may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampFault {
    /// One of [`code`].
    pub code: &'static str,
    /// What is wrong and what to do.
    pub message: &'static str,
}

/// Reads a timestamp as UTC microseconds since the epoch, from [`NOT_BEFORE_MICROS`] to `not_after_micros`.
pub fn parse(text: &str, not_after_micros: i64) -> Result<i64, TimestampFault> {
    let bytes = text.as_bytes();
    let Some(form) = Form::read(bytes) else { return Err(explain(text)) };
    let micros = form.instant()?;
    if micros < NOT_BEFORE_MICROS {
        return Err(TimestampFault {
            code: code::TIMESTAMP_OUT_OF_RANGE,
            message: "this is before the year 2000; check the year, which has four digits",
        });
    }
    if micros > not_after_micros {
        return Err(TimestampFault {
            code: code::TIMESTAMP_OUT_OF_RANGE,
            message: "this is more than a day in the future; check the year and the offset",
        });
    }
    Ok(micros)
}

/// The numbers of a timestamp that has the right form, whatever they are.
struct Form {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    micros: i64,
    /// The offset from UTC: its sign, hours and minutes.
    offset: (i64, i64, i64),
}

impl Form {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_at_checked(19)?;
        let marks = [head[4], head[7], head[13], head[16]] == *b"--::" && matches!(head[10], b' ' | b'T');
        if !marks {
            return None;
        }
        let mut micros = 0;
        if let [b'.', decimals @ ..] = rest {
            let count = decimals.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if !(1..=6).contains(&count) {
                return None;
            }
            micros = (0..6).try_fold(0, |sum, place| {
                let digit = if place < count { decimals[place] } else { b'0' };
                Some(sum * 10 + i64::from(digit - b'0'))
            })?;
            rest = &decimals[count..];
        }
        let offset = match rest {
            [] | [b'Z'] => (1, 0, 0),
            [sign @ (b'+' | b'-'), hours @ .., b':', m1, m2] if hours.len() == 2 => {
                (if *sign == b'-' { -1 } else { 1 }, number(hours)?, number(&[*m1, *m2])?)
            }
            _ => return None,
        };
        Some(Self {
            year: number(&head[..4])?,
            month: number(&head[5..7])?,
            day: number(&head[8..10])?,
            hour: number(&head[11..13])?,
            minute: number(&head[14..16])?,
            second: number(&head[17..19])?,
            micros,
            offset,
        })
    }

    /// The instant, where there is such a date, time and offset.
    fn instant(&self) -> Result<i64, TimestampFault> {
        let impossible = |message| Err(TimestampFault { code: code::IMPOSSIBLE_TIMESTAMP, message });
        if !(1..=12).contains(&self.month) {
            return impossible("there is no such month; the order is year, month, day");
        }
        if self.day < 1 || self.day > days_in_month(self.year, self.month) {
            return impossible("this month has no such day");
        }
        if self.hour > 23 {
            return impossible("hours go from 00 to 23; midnight is 00:00:00 of the next day");
        }
        if self.minute > 59 || self.second > 59 {
            return impossible("minutes and seconds go from 00 to 59");
        }
        let (sign, hours, minutes) = self.offset;
        if minutes > 59 || hours * 60 + minutes > MAX_OFFSET {
            return impossible("an offset goes from -14:00 to +14:00");
        }
        let local = days_since_epoch(self.year, self.month, self.day) * DAY
            + self.hour * HOUR
            + self.minute * MINUTE
            + self.second * SECOND
            + self.micros;
        Ok(local - sign * (hours * HOUR + minutes * MINUTE))
    }
}

/// A number of ASCII digits alone.
fn number(digits: &[u8]) -> Option<i64> {
    let mut value = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(value)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar. Years are counted from March, so that the leap day is the
/// last of its year. (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`)
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// What kind of mistake a text is that does not have the form.
fn explain(text: &str) -> TimestampFault {
    let fault = |message| TimestampFault { code: code::BAD_TIMESTAMP, message };
    let bytes = text.as_bytes();
    if text.trim().len() != text.len() {
        return fault("leave out the spaces around the timestamp");
    }
    if text.contains('/') || is_day_first(bytes) {
        return fault(
            "write year, month, day: 2024-12-31 17:10:28+00:00 or 2024-12-31T17:10:28; other orders are not read, because \
             03/05 may be March or May",
        );
    }
    if bytes.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') {
        return fault(
            "this is a bare number, as a spreadsheet or a computer counts time; write 2024-12-31 17:10:28+00:00",
        );
    }
    if bytes.len() == 10 {
        return fault("the time of day is missing: write 2024-12-31 17:10:28+00:00 or 2024-12-31T17:10:28");
    }
    fault(
        "write 2024-12-31 17:10:28+00:00 or 2024-12-31T17:10:28: every number with its leading zero, seconds included, at \
         most 6 decimals, and Z or an offset such as +03:00 straight behind",
    )
}

/// `31-12-2024 …` or `31.12.2024 …`.
fn is_day_first(bytes: &[u8]) -> bool {
    let date: Vec<&[u8]> = bytes
        .split(|byte| matches!(byte, b' ' | b'T'))
        .next()
        .unwrap_or_default()
        .split(|b| b"-.".contains(b))
        .collect();
    matches!(date[..], [day, month, year] if day.len() <= 2 && month.len() <= 2 && (year.len() == 4 || year.len() == 2))
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Duration, FixedOffset, TimeZone, Utc};
    use proptest::prelude::*;

    use super::*;

    const NOT_AFTER: i64 = 1_798_761_600_000_000; // 2027-01-01

    fn micros(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_micros()
    }

    #[test]
    fn both_forms_are_read_and_no_offset_is_utc() {
        for (text, same) in [
            ("2024-05-03 17:10:28+00:00", "2024-05-03T17:10:28Z"),
            ("2024-05-03T17:10:28", "2024-05-03T17:10:28Z"),
            ("2024-05-03 17:10:28", "2024-05-03T17:10:28Z"),
            ("2024-05-03T17:10:28Z", "2024-05-03T17:10:28Z"),
            ("2024-05-03T17:10:28.5Z", "2024-05-03T17:10:28.5Z"),
            ("2024-05-03T17:10:28.123456+03:00", "2024-05-03T14:10:28.123456Z"),
            ("2024-02-29 23:59:59-05:30", "2024-03-01T05:29:59Z"),
            ("2000-01-01T00:00:00", "2000-01-01T00:00:00Z"),
            ("2000-01-01T14:00:00+14:00", "2000-01-01T00:00:00Z"),
        ] {
            assert_eq!(parse(text, NOT_AFTER), Ok(micros(same)), "{text}");
        }
    }

    #[test]
    fn an_offset_can_move_a_payment_into_another_month() {
        assert_eq!(parse("2024-05-01 01:30:00+03:00", NOT_AFTER), Ok(micros("2024-04-30T22:30:00Z")));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for text in [
            "2024-02-30 10:00:00",
            "2023-02-29 10:00:00",
            "2024-13-01 10:00:00",
            "2024-00-01 10:00:00",
            "2024-01-00 10:00:00",
            "2024-01-01 24:00:00",
            "2024-01-01 10:60:00",
            "2024-01-01 10:00:60",
            "2024-01-01 10:00:00+14:01",
            "2024-01-01 10:00:00-23:00",
            "2024-01-01 10:00:00+01:75",
        ] {
            assert_eq!(parse(text, NOT_AFTER).map_err(|fault| fault.code), Err(code::IMPOSSIBLE_TIMESTAMP), "{text}");
        }
    }

    #[test]
    fn a_slip_of_the_year_is_refused() {
        for text in ["0024-05-03 17:10:28", "2124-05-03 17:10:28", "1999-12-31 23:59:59", "2000-01-01 00:00:00+00:01"] {
            assert_eq!(parse(text, NOT_AFTER).map_err(|fault| fault.code), Err(code::TIMESTAMP_OUT_OF_RANGE), "{text}");
        }
        assert!(parse("2027-01-01 00:00:00", NOT_AFTER).is_ok());
        assert!(parse("2027-01-01 00:00:00.000001", NOT_AFTER).is_err());
    }

    #[test]
    fn other_forms_are_refused_with_the_right_one_in_the_message() {
        for text in [
            "31/12/2024",
            "03/05/2024 17:10",
            "31-12-2024 17:10:28",
            "31.12.2024",
            "2024-12-31",
            "2024-12-31 17:10",
            "2024-12-31 7:10:28",
            "2024-12-31 17:10:28 +00:00",
            "2024-12-31 17:10:28+0000",
            "2024-12-31T17:10:28.",
            "2024-12-31T17:10:28.1234567",
            "2024-12-31T17:10:28ZZ",
            "45657.7",
            "1714756228",
            " 2024-12-31 17:10:28",
            "yesterday",
            "２０２４-12-31 17:10:28",
            "",
        ] {
            let fault = parse(text, NOT_AFTER).unwrap_err();
            assert_eq!(fault.code, code::BAD_TIMESTAMP, "{text}");
            assert!(fault.message.contains("2024-12-31") || text.starts_with(' '), "{text}");
        }
        assert!(parse("31-12-2024 17:10:28", NOT_AFTER).unwrap_err().message.contains("year, month, day"));
    }

    proptest! {
        #[test]
        fn an_instant_reads_back_at_any_offset(instant in NOT_BEFORE_MICROS..=NOT_AFTER, offset in -840_i32..=840) {
            let at = Utc.timestamp_micros(instant).unwrap();
            let local = at.with_timezone(&FixedOffset::east_opt(offset * 60).unwrap());
            prop_assert_eq!(parse(&local.format("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string(), NOT_AFTER), Ok(instant));
            let whole = at - Duration::microseconds(i64::from(at.timestamp_subsec_micros()));
            let text = whole.format("%Y-%m-%d %H:%M:%S").to_string();
            prop_assert_eq!(parse(&text, NOT_AFTER), Ok(whole.timestamp_micros()));
        }

        #[test]
        fn any_numbers_are_a_date_exactly_when_chrono_says_so(
            (year, month, day) in (2000_i32..2027, 0_u32..14, 0_u32..33), (hour, minute, second) in (0_u32..26, 0_u32..62, 0_u32..62)
        ) {
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
            let expected = chrono::NaiveDate::from_ymd_opt(year, month, day)
                .and_then(|date| date.and_hms_opt(hour, minute, second))
                .map(|at| at.and_utc().timestamp_micros());
            prop_assert_eq!(parse(&text, NOT_AFTER).ok(), expected);
        }

        #[test]
        fn no_text_breaks_the_reader(text in "\\PC{0,40}|[-0-9T:.+Z ]{10,32}") {
            let _ = parse(&text, NOT_AFTER);
        }
    }
}
