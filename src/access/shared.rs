//! What is shared of a project: whole months, so that a share is a set of files.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{Month, OrganisationSlug, ProjectSlug};

/// How much of a payment a share shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// All of it: every metric, with customers' own IDs.
    Full,
}

impl Detail {
    pub const ALL: [Self; 1] = [Self::Full];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
        }
    }
}

impl FromStr for Detail {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|detail| detail.as_str() == text);
        found.ok_or_else(|| {
            let offered = Self::ALL.map(Self::as_str).join(", ");
            format!("a share with the detail {text:?} is not offered; what is offered is {offered}")
        })
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Months one after another in UTC, the first and the last among them; an end may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonthRange {
    pub from: Option<Month>,
    pub to: Option<Month>,
}

impl MonthRange {
    /// All there are.
    pub const ALL: Self = Self { from: None, to: None };

    /// Whether its ends leave a month between them.
    #[must_use]
    pub fn holds_any(self) -> bool {
        self.first() <= self.last()
    }

    fn first(self) -> Month {
        self.from.unwrap_or(Month::FIRST)
    }

    fn last(self) -> Month {
        self.to.unwrap_or(Month::LAST)
    }
}

/// A set of months in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Months(
    /// First and last month of each stretch, in order, with at least a month between two: a set has one form only.
    Vec<(Month, Month)>,
);

impl Months {
    #[must_use]
    pub fn all() -> Self {
        Self::union([MonthRange::ALL])
    }

    /// The months that are in any of the ranges.
    #[must_use]
    pub fn union(ranges: impl IntoIterator<Item = MonthRange>) -> Self {
        let ranges = ranges.into_iter().filter(|range| range.holds_any());
        let mut stretches: Vec<(Month, Month)> = ranges.map(|range| (range.first(), range.last())).collect();
        stretches.sort_unstable();
        let mut joined: Vec<(Month, Month)> = Vec::with_capacity(stretches.len());
        for (first, last) in stretches {
            match joined.last_mut() {
                Some((_, end)) if first <= end.next() => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    #[must_use]
    pub fn contains(&self, month: Month) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&month))
    }

    /// Whether every month of the other is in it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let within = |(first, last): &(Month, Month)| self.0.iter().any(|(from, to)| from <= first && last <= to);
        other.0.iter().all(within)
    }
}

/// What one share that holds now gives: months of a project, to an organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    pub project: ProjectSlug,
    pub recipient: OrganisationSlug,
    pub months: MonthRange,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn month(number: u32) -> Month {
        format!("{}-{:02}", 2020 + number / 12, number % 12 + 1).parse().unwrap()
    }

    fn any_range() -> impl Strategy<Value = MonthRange> {
        let end = || prop::option::of((0..40_u32).prop_map(month));
        (end(), end()).prop_map(|(from, to)| MonthRange { from, to })
    }

    proptest! {
        #[test]
        fn a_union_holds_what_any_of_its_ranges_holds_in_one_form(
            ranges in prop::collection::vec(any_range(), 0..6),
            others in prop::collection::vec(any_range(), 0..3),
        ) {
            let union = Months::union(ranges.clone());
            let holds = |range: &MonthRange, at: Month| {
                range.from.is_none_or(|from| from <= at) && range.to.is_none_or(|to| at <= to)
            };
            let mut backwards = ranges.clone();
            backwards.reverse();
            prop_assert_eq!(&Months::union(backwards), &union);
            let other = Months::union(others);
            // 2015 to 2030, so that open ends are seen too.
            let months: Vec<Month> = (0..180).map(|at| format!("{}-{:02}", 2015 + at / 12, at % 12 + 1).parse().unwrap()).collect();
            for at in &months {
                prop_assert_eq!(union.contains(*at), ranges.iter().any(|range| holds(range, *at)), "{}", at);
            }
            prop_assert_eq!(union.covers(&other), months.iter().all(|at| union.contains(*at) || !other.contains(*at)));
        }
    }

    #[test]
    fn a_detail_that_is_not_offered_is_told_what_is() {
        assert_eq!("full".parse(), Ok(Detail::Full));
        assert!("masked".parse::<Detail>().unwrap_err().contains("what is offered is full"));
    }
}
