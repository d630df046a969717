//! Names that travel through every layer: each is checked once, where it is made, and trusted afterwards.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A project's slug: its id in every URL, query and lake path. One to 63 of `a-z`, `0-9` and `-`, and no `-` at an end.
///
/// It never changes once given, because it is a partition value of the lake.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", example = "kitobo")]
pub struct ProjectSlug(String);

impl ProjectSlug {
    pub const MAX_LENGTH: usize = 63;

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not one of the names of this module; fit to be shown to the caller who sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(pub &'static str);

impl FromStr for ProjectSlug {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        check_slug(text)?;
        Ok(Self(text.to_owned()))
    }
}

fn check_slug(text: &str) -> Result<(), InvalidId> {
    let allowed = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let length = (1..=ProjectSlug::MAX_LENGTH).contains(&text.len());
    if !allowed || !length || text.starts_with('-') || text.ends_with('-') {
        return Err(InvalidId("a slug is 1 to 63 of a-z, 0-9 and -, without a - at either end"));
    }
    Ok(())
}

/// An organisation's slug: its id in every URL and query, of the same form as a project's. It never changes once given,
/// because keys and projects hold it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", example = "main")]
pub struct OrganisationSlug(String);

impl OrganisationSlug {
    /// The organisation that every server begins with.
    #[must_use]
    pub fn main() -> Self {
        Self("main".to_owned())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OrganisationSlug {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        check_slug(text)?;
        Ok(Self(text.to_owned()))
    }
}

/// An upload's id: `upl_` and a version 7 UUID in hexadecimal, so that ids sort by the time they were given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^upl_[0-9a-f]{32}$")]
pub struct UploadId(String);

/// The id of a share: `shr_` and a version 7 UUID in hexadecimal, so that ids sort by the time they were given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^shr_[0-9a-f]{32}$")]
pub struct ShareId(String);

/// The id of a query in SQL: `qry_` and a version 7 UUID in hexadecimal, so that ids sort by the time they were given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^qry_[0-9a-f]{32}$")]
pub struct QueryId(String);

/// The name of a saved query, of the same form as a slug: what it is fetched by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", example = "revenue-by-site")]
pub struct QueryName(String);

impl QueryName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for QueryName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        check_slug(text)?;
        Ok(Self(text.to_owned()))
    }
}

/// A programme's slug: its id in every URL, of the same form as a project's. It never changes once given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", example = "rural-light-2024")]
pub struct ProgrammeSlug(String);

impl ProgrammeSlug {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ProgrammeSlug {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        check_slug(text)?;
        Ok(Self(text.to_owned()))
    }
}

/// The id of a run of verification: `vrf_` and a version 7 UUID in hexadecimal, so that ids sort by the time they were given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^vrf_[0-9a-f]{32}$")]
pub struct RunId(String);

/// What every id has that is a prefix and a version 7 UUID.
macro_rules! uuid_id {
    ($($id:ident: $prefix:literal),+) => {$(
        impl $id {
            const PREFIX: &'static str = $prefix;

            #[must_use]
            pub fn new() -> Self {
                Self(format!("{}{}", Self::PREFIX, uuid::Uuid::now_v7().simple()))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether a text is one of these ids.
            fn is(text: &str) -> bool {
                text.strip_prefix(Self::PREFIX).is_some_and(is_uuid)
            }
        }

        impl Default for $id {
            fn default() -> Self {
                Self::new()
            }
        }
    )+};
}

uuid_id!(UploadId: "upl_", ShareId: "shr_", QueryId: "qry_", ChangeId: "chg_", RunId: "vrf_");

impl FromStr for UploadId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId("an upload id is upl_ and 32 hexadecimal digits");
        Self::is(text).then(|| Self(text.to_owned())).ok_or(invalid)
    }
}

impl FromStr for ShareId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId("a share id is shr_ and 32 hexadecimal digits");
        Self::is(text).then(|| Self(text.to_owned())).ok_or(invalid)
    }
}

impl FromStr for QueryId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId("a query's id is qry_ and 32 hexadecimal digits");
        Self::is(text).then(|| Self(text.to_owned())).ok_or(invalid)
    }
}

impl FromStr for RunId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId("the id of a verification is vrf_ and 32 hexadecimal digits");
        Self::is(text).then(|| Self(text.to_owned())).ok_or(invalid)
    }
}

/// The id of a change of the lake: that of the upload whose rows it brings, or, for every other change, `chg_` and a
/// version 7 UUID in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChangeId(String);

impl From<&UploadId> for ChangeId {
    fn from(id: &UploadId) -> Self {
        Self(id.0.clone())
    }
}

impl FromStr for ChangeId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = InvalidId("a change id is upl_ or chg_ and 32 hexadecimal digits");
        (Self::is(text) || UploadId::is(text)).then(|| Self(text.to_owned())).ok_or(invalid)
    }
}

/// The key that a sender gives a request, so that the same request again is the same upload: 1 to 255 visible ASCII
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    pub const MAX_LENGTH: usize = 255;

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text.is_empty() || text.len() > Self::MAX_LENGTH || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(InvalidId("an idempotency key is 1 to 255 visible ASCII characters"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// What every id that is a text has: it comes from a text that is checked, and goes back to it.
macro_rules! text_id {
    ($($id:ident),+) => {$(
        impl TryFrom<String> for $id {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$id> for String {
            fn from(id: $id) -> Self {
                id.0
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

text_id!(ProjectSlug, OrganisationSlug, ProgrammeSlug, UploadId, ShareId, QueryId, QueryName, RunId, ChangeId);

/// A UUID as ids have it: 32 hexadecimal digits in lower case.
fn is_uuid(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A calendar month in UTC, `2024-05`: the lake's second partition column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Month {
    year: i32,
    month: u32,
}

impl Month {
    /// Earlier than every month of a payment.
    pub const FIRST: Self = Self { year: 0, month: 1 };
    /// Later than every month of a payment.
    pub const LAST: Self = Self { year: 9999, month: 12 };

    /// The month that holds an instant, given in microseconds since the epoch.
    #[must_use]
    pub fn of_micros(micros: i64) -> Self {
        let at = DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_default();
        Self { year: at.year(), month: at.month() }
    }

    /// The month's first instant, in microseconds since the epoch.
    #[must_use]
    pub fn start_micros(self) -> i64 {
        let first = NaiveDate::from_ymd_opt(self.year, self.month, 1).unwrap_or_default();
        first.and_time(NaiveTime::MIN).and_utc().timestamp_micros()
    }

    /// The first instant after the month, in microseconds since the epoch.
    #[must_use]
    pub fn end_micros(self) -> i64 {
        self.next().start_micros()
    }

    #[must_use]
    pub fn next(self) -> Self {
        if self.month == 12 {
            Self { year: self.year + 1, month: 1 }
        } else {
            Self { year: self.year, month: self.month + 1 }
        }
    }

    #[must_use]
    pub fn previous(self) -> Self {
        if self.month == 1 {
            Self { year: self.year - 1, month: 12 }
        } else {
            Self { year: self.year, month: self.month - 1 }
        }
    }
}

impl FromStr for Month {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let wrong = InvalidId("a month is written YYYY-MM, such as 2024-05");
        let (year, month) = text.split_once('-').ok_or_else(|| wrong.clone())?;
        let digits = |part: &str, n: usize| part.len() == n && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(year, 4) || !digits(month, 2) {
            return Err(wrong);
        }
        let (year, month) = (year.parse().map_err(|_| wrong.clone())?, month.parse().map_err(|_| wrong.clone())?);
        if NaiveDate::from_ymd_opt(year, month, 1).is_none() {
            return Err(wrong);
        }
        Ok(Self { year, month })
    }
}

impl TryFrom<String> for Month {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<Month> for String {
    fn from(month: Month) -> Self {
        month.to_string()
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.year, self.month)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_holds_its_first_instant_and_not_the_next_months() {
        let may: Month = "2024-05".parse().unwrap();
        assert_eq!(Month::of_micros(may.start_micros()), may);
        assert_eq!(Month::of_micros(may.end_micros() - 1), may);
        assert_eq!(Month::of_micros(may.end_micros()).to_string(), "2024-06");
        let january: Month = "2025-01".parse().unwrap();
        assert_eq!(january.previous().to_string(), "2024-12");
        assert_eq!((january.previous().next(), may.next().previous()), (january, may));
    }

    #[test]
    fn a_slug_cannot_leave_its_folder() {
        for bad in ["", "..", "a/b", "A", "a_b", "-a", "a-", "a b", "é", &"a".repeat(64)] {
            assert!(bad.parse::<ProjectSlug>().is_err(), "{bad}");
        }
        assert!("kitobo-2".parse::<ProjectSlug>().is_ok());
    }

    #[test]
    fn an_upload_id_reads_back() {
        let id = UploadId::new();
        assert_eq!(id.as_str().parse::<UploadId>().unwrap(), id);
        assert!("upl_../../../../../../../../../etc/p".parse::<UploadId>().is_err());
        assert_eq!(id.as_str().parse::<ChangeId>().unwrap(), ChangeId::from(&id));
        assert!(ChangeId::new().as_str().parse::<ChangeId>().is_ok());
    }
}
