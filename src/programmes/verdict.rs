//! What a connection comes to by a rule, and why.

use std::{fmt, str::FromStr};

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rule::{Instants, MinAmount, Rule};
use crate::ids::{ProjectSlug, UploadId};

/// What a connection comes to. (domain: Remote verification, Outcomes)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = VerificationOutcome)]
pub enum Outcome {
    /// The run has not come to an end.
    InProgress,
    /// It pays as the rule asks.
    Verified,
    /// No payment has its id as `METER_ID`.
    MeterNotFound,
    /// There are payments, but none in the window that counts.
    NoPaymentInWindow,
    /// Payments count, but not enough of them.
    BelowThreshold,
    /// What was paid in the window was given back.
    ReversedOnly,
    /// The same connection goes before it: one that is paid for, or was submitted first.
    DuplicateConnection,
    /// The connection lacks what the rule goes by.
    MissingData,
}

impl Outcome {
    pub const ALL: [Self; 8] = [
        Self::InProgress,
        Self::Verified,
        Self::MeterNotFound,
        Self::NoPaymentInWindow,
        Self::BelowThreshold,
        Self::ReversedOnly,
        Self::DuplicateConnection,
        Self::MissingData,
    ];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Verified => "verified",
            Self::MeterNotFound => "meter_not_found",
            Self::NoPaymentInWindow => "no_payment_in_window",
            Self::BelowThreshold => "below_threshold",
            Self::ReversedOnly => "reversed_only",
            Self::DuplicateConnection => "duplicate_connection",
            Self::MissingData => "missing_data",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|outcome| outcome.as_str() == text);
        found.ok_or_else(|| format!("it is one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// A connection by its project and its id there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionName {
    pub project: ProjectSlug,
    pub external_id: String,
}

impl fmt::Display for ConnectionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.external_id)
    }
}

/// What a verification is asked for: whole projects, connections of them, or both; each sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = VerificationSelection)]
pub struct Selection {
    pub projects: Vec<ProjectSlug>,
    pub connections: Vec<ConnectionName>,
}

impl Selection {
    /// Whether a connection is asked for.
    #[must_use]
    pub fn has(&self, name: &ConnectionName) -> bool {
        self.projects.binary_search(&name.project).is_ok() || self.connections.binary_search(name).is_ok()
    }
}

/// A connection as it is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub name: ConnectionName,
    /// Its turn: of two that are the same connection, the one with the smaller counts.
    pub turn: u64,
    pub serial_number: Option<String>,
    /// The device that was submitted, where the connection has another one since.
    pub submitted_serial_number: Option<String>,
    pub site: Option<String>,
    pub category: Option<String>,
    pub connected_on: Option<NaiveDate>,
    /// Whether its project still has it.
    pub is_there: bool,
    /// Whether the programme has paid for it.
    pub is_paid: bool,
}

/// What the payments of a connection's meter come to, before as-of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paid {
    /// Payments of the meter in all.
    pub payments: u64,
    /// Of those in the window: payments that count, without those that were given back in full.
    pub counted: u64,
    /// Distinct local months of those.
    pub months: u32,
    /// What was paid in the window, in ten-thousandths, before refunds.
    pub amount: i128,
    /// What was refunded of them, in ten-thousandths, above zero.
    pub refunded: i128,
    /// Payments in the window whose STATUS says that they were reversed.
    pub reversed: u64,
    pub first_at: Option<DateTime<Utc>>,
    pub last_at: Option<DateTime<Utc>>,
    /// The uploads that what counts, and what was reversed or refunded, came with; sorted.
    pub uploads: Vec<UploadId>,
}

/// What a connection came to, and what it was judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub subject: Subject,
    pub outcome: Outcome,
    /// Why, in words.
    pub detail: String,
    /// The instants in which payments count; none where they cannot be known.
    pub window: Option<Instants>,
    /// ISO 4217; of the project.
    pub currency: String,
    pub paid: Paid,
    pub duplicate_of: Option<ConnectionName>,
    /// Meters that have payments and no connection, and were likely meant.
    pub near_misses: Vec<String>,
}

/// What is known of a connection when it is judged.
pub struct Facts<'a> {
    pub subject: &'a Subject,
    pub currency: &'a str,
    pub window: Option<Instants>,
    pub paid: &'a Paid,
    pub duplicate_of: Option<&'a ConnectionName>,
    pub near_misses: &'a [String],
}

/// What a connection comes to, and why: the first of these that holds.
#[must_use]
pub fn decide(rule: &Rule, facts: &Facts<'_>) -> (Outcome, String) {
    let Facts { subject, currency, window, paid, .. } = *facts;
    if let Some(earlier) = facts.duplicate_of {
        return (Outcome::DuplicateConnection, format!("the same connection as {earlier}, which goes before it"));
    }
    if !subject.is_there {
        return (Outcome::MissingData, "the project has no such connection any more".to_owned());
    }
    let Some(window) = window else {
        return (Outcome::MissingData, "the rule counts days from connected_on, which is blank".to_owned());
    };
    let least = rule.min_amount.get(currency);
    if least.is_none() && !rule.min_amount.is_empty() {
        return (Outcome::MissingData, format!("the rule says no least amount in {currency}"));
    }
    if paid.payments == 0 {
        return (Outcome::MeterNotFound, not_found(facts.near_misses));
    }
    if paid.amount == 0 {
        if paid.reversed > 0 {
            return (Outcome::ReversedOnly, format!("{} in the window, all reversed", payments(paid.reversed)));
        }
        let detail = format!(
            "{}, none that counts from {} to {}",
            payments(paid.payments),
            shown(window.from),
            shown(window.to)
        );
        return (Outcome::NoPaymentInWindow, detail);
    }
    let left = paid.amount - paid.refunded;
    if left <= 0 {
        return (Outcome::ReversedOnly, format!("{currency} {}, all refunded", decimal(paid.amount)));
    }
    let shortfalls = shortfalls(rule, paid, left, currency, least);
    if !shortfalls.is_empty() {
        return (Outcome::BelowThreshold, shortfalls.join("; "));
    }
    let months = if paid.months == 1 { "1 month".to_owned() } else { format!("{} months", paid.months) };
    (Outcome::Verified, format!("{} in {months}, {currency} {}", payments(paid.counted), decimal(left)))
}

fn not_found(near_misses: &[String]) -> String {
    if near_misses.is_empty() {
        return "no payment has this METER_ID".to_owned();
    }
    format!("no payment has this METER_ID; did payments say {}?", near_misses.join(" or "))
}

fn shortfalls(rule: &Rule, paid: &Paid, left: i128, currency: &str, least: Option<&MinAmount>) -> Vec<String> {
    let mut found = Vec::new();
    if paid.counted < u64::from(rule.min_payments) {
        found.push(format!("{} of {} payments", paid.counted, rule.min_payments));
    }
    if paid.months < rule.min_months {
        found.push(format!("{} of {} months", paid.months, rule.min_months));
    }
    if let Some(least) = least.filter(|least| left < i128::from(least.0)) {
        found.push(format!("{currency} {} of {least}", decimal(left)));
    }
    found
}

fn payments(count: u64) -> String {
    if count == 1 { "1 payment".to_owned() } else { format!("{count} payments") }
}

fn shown(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// An amount in ten-thousandths as text, with two decimals at least: `-12.50`.
#[must_use]
pub fn decimal(amount: i128) -> String {
    let (sign, size) = (if amount < 0 { "-" } else { "" }, amount.unsigned_abs());
    let (whole, rest) = (size / 10_000, size % 10_000);
    if rest % 100 == 0 { format!("{sign}{whole}.{:02}", rest / 100) } else { format!("{sign}{whole}.{rest:04}") }
}

/// Such an amount out of its text.
#[must_use]
pub fn parse_decimal(text: &str) -> Option<i128> {
    let (whole, decimals) = text.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(decimals) || !digits(whole.strip_prefix('-').unwrap_or(whole)) || ![2, 4].contains(&decimals.len()) {
        return None;
    }
    let value: i128 = format!("{whole}{decimals}").parse().ok()?;
    Some(if decimals.len() == 2 { value * 100 } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject {
            name: ConnectionName { project: "a".parse().unwrap(), external_id: "1".to_owned() },
            turn: 1,
            serial_number: None,
            submitted_serial_number: None,
            site: None,
            category: None,
            connected_on: None,
            is_there: true,
            is_paid: false,
        }
    }

    fn rule(more: &str) -> Rule {
        let json = format!(r#"{{"window": {{"kind": "before_as_of", "days": 30}}{more}}}"#);
        serde_json::from_str(&json).unwrap()
    }

    fn outcome(rule: &Rule, paid: &Paid) -> (Outcome, String) {
        let instants = Instants { from: DateTime::default(), to: DateTime::default() };
        let subject = subject();
        let facts = Facts {
            subject: &subject,
            currency: "KES",
            window: Some(instants),
            paid,
            duplicate_of: None,
            near_misses: &[],
        };
        decide(rule, &facts)
    }

    #[test]
    fn each_threshold_is_reached_exactly_and_missed_by_the_least_there_is() {
        let rule = rule(r#", "min_payments": 3, "min_months": 2, "min_amount": {"KES": "10"}"#);
        let enough = Paid { payments: 9, counted: 3, months: 2, amount: 110_001, refunded: 10_001, ..Paid::default() };
        assert_eq!(outcome(&rule, &enough), (Outcome::Verified, "3 payments in 2 months, KES 10.00".to_owned()));
        for (paid, detail) in [
            (Paid { counted: 2, ..enough.clone() }, "2 of 3 payments"),
            (Paid { months: 1, ..enough.clone() }, "1 of 2 months"),
            (Paid { refunded: 10_002, ..enough.clone() }, "KES 9.9999 of 10.00"),
            (Paid { counted: 1, months: 1, ..enough.clone() }, "1 of 3 payments; 1 of 2 months"),
        ] {
            assert_eq!(outcome(&rule, &paid), (Outcome::BelowThreshold, detail.to_owned()));
        }
        assert_eq!(outcome(&rule, &Paid { refunded: 110_001, ..enough.clone() }).0, Outcome::ReversedOnly);
        let nothing = Paid { counted: 0, amount: 0, refunded: 0, ..enough };
        assert_eq!(outcome(&rule, &Paid { reversed: 1, ..nothing.clone() }).0, Outcome::ReversedOnly);
        assert_eq!(outcome(&rule, &nothing).0, Outcome::NoPaymentInWindow);
        assert_eq!(outcome(&rule, &Paid::default()).0, Outcome::MeterNotFound);
    }

    #[test]
    fn a_rule_that_names_other_currencies_verifies_nothing() {
        let paid = Paid { payments: 1, counted: 1, months: 1, amount: 1, ..Paid::default() };
        assert_eq!(outcome(&rule(r#", "min_amount": {"NGN": "10"}"#), &paid).0, Outcome::MissingData);
        assert_eq!(outcome(&rule(""), &paid).0, Outcome::Verified);
    }

    #[test]
    fn amounts_are_written_out_exactly() {
        for (amount, text) in
            [(0, "0.00"), (5, "0.0005"), (-125_000, "-12.50"), (10_010_000, "1001.00"), (-1, "-0.0001")]
        {
            assert_eq!((decimal(amount).as_str(), parse_decimal(text)), (text, Some(amount)));
        }
        assert!(
            ["", "1", "1.5", "1.", "1.00000", "+1.00", "1.-5", "--1.00"]
                .iter()
                .all(|text| parse_decimal(text).is_none())
        );
    }
}
