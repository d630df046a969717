//! The rule of a programme: which payments count, and how much of them is enough.
//!
//! No look-back is built in. A programme says its window itself. (domain: Remote verification)

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, Datelike, Days, Months, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use iso_currency::Currency;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::verdict::decimal;
use crate::{
    local_day::start_of_day,
    payments::{amount, words::Settlement},
};

/// The most days of a window: ten years, so that its months are a small number.
pub const MAX_DAYS: u32 = 3_660;
/// The most payments that a rule can ask for.
pub const MAX_PAYMENTS: u32 = 1_000_000;
/// The most distinct months that a rule can ask for: those of the longest window.
pub const MAX_MONTHS: u32 = 120;
/// The most currencies of which a rule says a least amount.
const MAX_CURRENCIES: usize = 200;

/// When a connection is verified. A payment counts if it lies in the window, its amount is above zero and its STATUS stands for one
/// of `statuses`. What is below zero is taken off: in the window all of such a STATUS; after it, or with a STATUS that stands for a
/// reversal, what names a payment that counts by its `REFERENCE_ID`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = VerificationRule)]
pub struct Rule {
    pub window: Window,
    /// Payments that must count, at least.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 1_000_000, default = 1)]
    pub min_payments: u32,
    /// Distinct months in which they must lie, at least, as the project's time zone counts months.
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 120, default = 1)]
    pub min_months: u32,
    /// By currency, what they must come to, at least, without what was refunded. A rule that names some currencies verifies nothing in
    /// others; one that names none asks for no amount.
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>, example = json!({"KES": "500.00"}))]
    pub min_amount: BTreeMap<String, MinAmount>,
    /// What STATUS may stand for: `settled`, and perhaps `pending` or `unknown`.
    #[serde(default = "settled")]
    #[schema(value_type = Vec<String>, default = json!(["settled"]))]
    pub statuses: Vec<CountedStatus>,
}

fn one() -> u32 {
    1
}

fn settled() -> Vec<CountedStatus> {
    vec![CountedStatus::Settled]
}

/// When a payment must have been made. Days are those of the project's time zone; nothing after as-of is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[schema(as = VerificationWindow)]
pub enum Window {
    /// From the first instant of a day up to the first instant of another.
    Dates {
        #[schema(value_type = String, format = Date)]
        from: NaiveDate,
        /// Not part of it.
        #[schema(value_type = String, format = Date)]
        to: NaiveDate,
    },
    /// The so many days that begin with the day of `connected_on`.
    AfterConnection {
        #[schema(minimum = 1, maximum = 3660)]
        days: u32,
    },
    /// The so many times 24 hours before as-of.
    BeforeAsOf {
        #[schema(minimum = 1, maximum = 3660)]
        days: u32,
    },
}

/// What a STATUS may stand for whose payment counts. Money that failed or was given back is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CountedStatus {
    Settled,
    Pending,
    Unknown,
}

impl CountedStatus {
    fn settlement(self) -> Settlement {
        match self {
            Self::Settled => Settlement::Settled,
            Self::Pending => Settlement::Pending,
            Self::Unknown => Settlement::Unknown,
        }
    }
}

/// A least amount in ten-thousandths; an exact decimal as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MinAmount(pub i64);

impl TryFrom<String> for MinAmount {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        amount::parse(&text).map(Self).map_err(|fault| fault.message.to_owned())
    }
}

impl From<MinAmount> for String {
    fn from(amount: MinAmount) -> Self {
        amount.to_string()
    }
}

impl fmt::Display for MinAmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&decimal(self.0.into()))
    }
}

impl Rule {
    /// What is wrong with it, if anything is: the field, and what to do.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let wrong = |field: &'static str, message: String| Err((field, message));
        match self.window {
            Window::Dates { from, to } if from >= to => return wrong("window", "from is a day before to".to_owned()),
            Window::Dates { from, to } if (to - from).num_days() > i64::from(MAX_DAYS) => {
                return wrong("window", format!("a window has at most {MAX_DAYS} days"));
            }
            Window::Dates { from, .. } if !(1970..=2199).contains(&from.year()) => {
                return wrong("window", "from is a day of 1970 to 2199".to_owned());
            }
            Window::AfterConnection { days } | Window::BeforeAsOf { days } if !(1..=MAX_DAYS).contains(&days) => {
                return wrong("window", format!("days is from 1 to {MAX_DAYS}"));
            }
            _ => {}
        }
        if !(1..=MAX_PAYMENTS).contains(&self.min_payments) {
            return wrong("min_payments", format!("it is from 1 to {MAX_PAYMENTS}"));
        }
        if !(1..=MAX_MONTHS).contains(&self.min_months) {
            return wrong("min_months", format!("it is from 1 to {MAX_MONTHS}"));
        }
        if self.min_amount.len() > MAX_CURRENCIES {
            return wrong("min_amount", format!("it names at most {MAX_CURRENCIES} currencies"));
        }
        for (code, amount) in &self.min_amount {
            if Currency::from_code(code).is_none() {
                let code: String = code.chars().take(20).collect();
                return wrong("min_amount", format!("{code:?} is no currency's code, such as KES"));
            }
            if amount.0 <= 0 {
                return wrong("min_amount", format!("that of {code} is above zero; leave the currency out for none"));
            }
        }
        if self.statuses.is_empty() || self.statuses.windows(2).any(|pair| pair[0] >= pair[1]) {
            return wrong(
                "statuses",
                "it has each of settled, pending, unknown once at most, in this order".to_owned(),
            );
        }
        Ok(())
    }

    /// Whether a payment of this settlement counts.
    #[must_use]
    pub fn counts(&self, settlement: &str) -> bool {
        self.statuses.iter().any(|status| status.settlement().as_str() == settlement)
    }

    /// Whether a connection without `connected_on` cannot be judged by it.
    #[must_use]
    pub fn needs_connected_on(&self) -> bool {
        matches!(self.window, Window::AfterConnection { .. })
    }

    /// The instants in which the payments of a connection count, up to as-of, which is not among them; none where it takes the
    /// day of the connection and that is not known. It is empty where it has not begun.
    #[must_use]
    pub fn window(&self, connected_on: Option<NaiveDate>, as_of: DateTime<Utc>, zone: Tz) -> Option<Instants> {
        let (from, to) = match self.window {
            Window::Dates { from, to } => (start_of_day(from, zone), start_of_day(to, zone)),
            Window::AfterConnection { days } => {
                let first = connected_on?;
                (start_of_day(first, zone), start_of_day(first.checked_add_days(Days::new(days.into()))?, zone))
            }
            Window::BeforeAsOf { days } => (as_of - TimeDelta::days(days.into()), as_of),
        };
        Some(Instants { from, to: to.min(as_of).max(from) })
    }
}

/// Instants from one on up to another, which is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instants {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
}

/// The first instants of local months: the month that an instant lies in is the last that has begun by then.
#[derive(Clone, Debug)]
pub struct MonthStarts(Vec<i64>);

impl MonthStarts {
    /// Those of all months that have an instant in common with `instants`.
    #[must_use]
    pub fn over(instants: Instants, zone: Tz) -> Self {
        let first = instants.from.with_timezone(&zone).date_naive();
        let mut month = first.with_day(1).unwrap_or(first);
        let mut starts = Vec::new();
        loop {
            let start = start_of_day(month, zone);
            if start >= instants.to && !starts.is_empty() {
                return Self(starts);
            }
            starts.push(start.timestamp_micros());
            let Some(next) = month.checked_add_months(Months::new(1)) else { return Self(starts) };
            month = next;
        }
    }

    /// The number of the month that an instant, in microseconds, lies in.
    #[must_use]
    pub fn month_of(&self, micros: i64) -> usize {
        self.0.partition_point(|start| *start <= micros).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> Result<Rule, String> {
        let rule: Rule = serde_json::from_str(json).map_err(|error| error.to_string())?;
        rule.check().map_err(|(field, message)| format!("{field}: {message}"))?;
        Ok(rule)
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_rule_is_read_back_as_it_was_written_and_what_is_wrong_with_one_is_named() {
        let least = rule(r#"{"window": {"kind": "before_as_of", "days": 90}}"#).unwrap();
        assert_eq!((least.min_payments, least.min_months, &least.statuses), (1, 1, &settled()));
        let full = r#"{"window":{"kind":"dates","from":"2024-01-01","to":"2024-04-01"},"min_payments":3,"min_months":2,
            "min_amount":{"KES":"500.00","NGN":"0.0005"},"statuses":["settled","pending"]}"#;
        let full = rule(full).unwrap();
        assert_eq!(rule(&serde_json::to_string(&full).unwrap()), Ok(full.clone()));
        assert_eq!(full.min_amount["NGN"], MinAmount(5));
        for (json, meant) in [
            (
                r#"{"window": {"kind": "dates", "from": "2024-04-01", "to": "2024-04-01"}}"#,
                "window: from is a day before",
            ),
            (r#"{"window": {"kind": "before_as_of", "days": 0}}"#, "window: days is from 1"),
            (r#"{"window": {"kind": "ninety_days"}}"#, "unknown variant"),
            (r#"{"window": {"kind": "before_as_of", "days": 9, "hours": 1}}"#, "unknown field"),
            (r#"{"window": {"kind": "before_as_of", "days": 9}, "min_payments": 0}"#, "min_payments: it is from 1"),
            (r#"{"window": {"kind": "before_as_of", "days": 9}, "min_months": 121}"#, "min_months: it is from 1"),
            (r#"{"window": {"kind": "before_as_of", "days": 9}, "min_amount": {"Naira": "5"}}"#, "no currency's code"),
            (r#"{"window": {"kind": "before_as_of", "days": 9}, "min_amount": {"KES": "0"}}"#, "above zero"),
            (r#"{"window": {"kind": "before_as_of", "days": 9}, "min_amount": {"KES": "1,5"}}"#, "decimal"),
            (r#"{"window": {"kind": "before_as_of", "days": 9}, "min_amount": {"KES": 5.5}}"#, "string"),
            (r#"{"window": {"kind": "before_as_of", "days": 9}, "statuses": ["reversed"]}"#, "unknown variant"),
            (r#"{"window": {"kind": "before_as_of", "days": 9}, "statuses": []}"#, "statuses"),
            (r#"{"window": {"kind": "before_as_of", "days": 9}, "statuses": ["settled", "settled"]}"#, "statuses"),
        ] {
            let error = rule(json).unwrap_err();
            assert!(error.contains(meant), "{json}: {error}");
        }
    }

    #[test]
    fn windows_begin_and_end_with_local_days_and_never_go_beyond_as_of() {
        let nairobi = chrono_tz::Africa::Nairobi;
        let of =
            |window: Window| Rule { window, ..rule(r#"{"window": {"kind": "before_as_of", "days": 1}}"#).unwrap() };
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let dates = of(Window::Dates { from: day("2024-02-29"), to: day("2024-03-01") });
        let late = at("2030-01-01T00:00:00Z");
        let leap = dates.window(None, late, nairobi).unwrap();
        assert_eq!((leap.from, leap.to), (at("2024-02-28T21:00:00Z"), at("2024-02-29T21:00:00Z")));
        let cut = dates.window(None, at("2024-02-29T12:00:00Z"), nairobi).unwrap();
        assert_eq!(cut.to, at("2024-02-29T12:00:00Z"));
        let before = dates.window(None, at("2024-02-01T00:00:00Z"), nairobi).unwrap();
        assert_eq!(before.from, before.to, "it has not begun");
        let after = of(Window::AfterConnection { days: 1 });
        assert!(after.window(None, late, nairobi).is_none() && after.needs_connected_on());
        assert_eq!(after.window(Some(day("2024-02-29")), late, nairobi), Some(leap));
        let rolling = of(Window::BeforeAsOf { days: 366 }).window(None, at("2025-01-01T06:30:00Z"), nairobi).unwrap();
        assert_eq!((rolling.from, rolling.to), (at("2024-01-01T06:30:00Z"), at("2025-01-01T06:30:00Z")));
    }

    #[test]
    fn a_day_without_midnight_begins_when_its_clocks_do_and_months_are_local() {
        // Clocks in Cairo went from 0:00 to 1:00 on 26 April 2024.
        let cairo = chrono_tz::Africa::Cairo;
        assert_eq!(start_of_day("2024-04-26".parse().unwrap(), cairo), at("2024-04-25T22:00:00Z"));
        let instants = Instants { from: at("2024-01-31T21:59:59Z"), to: at("2024-03-31T22:00:00Z") };
        let months = MonthStarts::over(instants, cairo);
        let month = |text: &str| months.month_of(at(text).timestamp_micros());
        assert_eq!(months.0.len(), 3);
        assert_eq!((month("2024-01-31T21:59:59Z"), month("2024-01-31T22:00:00Z")), (0, 1));
        assert_eq!((month("2024-02-29T21:59:59Z"), month("2024-02-29T22:00:00Z")), (1, 2));
    }
}
