//! What is shared of a project: whole months, so that a share is a set of files, each in some detail.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{Month, OrganisationSlug, ProjectSlug, ShareId};

/// How much of a payment a share shows; the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Detail {
    /// Metrics that sum up, by whole months and sites; no group from which a customer could be made out.
    Aggregate,
    /// Every metric, without names, notes and references, and with pseudonyms for customers, meters and payments.
    Masked,
    /// All of it: every metric, with customers' own IDs.
    Full,
}

impl Detail {
    pub const ALL: [Self; 3] = [Self::Aggregate, Self::Masked, Self::Full];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aggregate => "aggregate",
            Self::Masked => "masked",
            Self::Full => "full",
        }
    }
}

impl FromStr for Detail {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|detail| detail.as_str() == text);
        found.ok_or_else(|| format!("it is one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The secret that a share's pseudonyms are made with. Nobody is ever shown it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MaskKey(pub [u8; 32]);

impl fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskKey")
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

    fn contains(self, month: Month) -> bool {
        (self.first()..=self.last()).contains(&month)
    }
}

/// What one share that holds now gives: months of a project, to an organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    pub share: ShareId,
    pub project: ProjectSlug,
    pub recipient: OrganisationSlug,
    pub months: MonthRange,
    pub detail: Detail,
    pub mask_key: MaskKey,
}

/// How the payments of a month are seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sight {
    pub detail: Detail,
    /// By which share; none for what is one's own.
    pub share: Option<ShareId>,
    /// Of that share.
    #[serde(skip)]
    pub mask_key: Option<MaskKey>,
}

impl Sight {
    /// How one's own is seen.
    const OWN: Self = Self { detail: Detail::Full, share: None, mask_key: None };

    fn by(share: &Shared) -> Self {
        Self { detail: share.detail, share: Some(share.share.clone()), mask_key: Some(share.mask_key) }
    }

    /// Whether what was answered by an earlier sight may still be. Pseudonyms are those of one share.
    fn serves(&self, earlier: &Self) -> bool {
        let alike = self.detail != Detail::Masked || self.share == earlier.share;
        self.detail > earlier.detail || (self.detail == earlier.detail && alike)
    }
}

/// Months in UTC one after another, the first and the last among them, which are seen alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Stretch {
    first: Month,
    last: Month,
    sight: Sight,
}

/// The months of a project that are seen, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Shown(
    /// In order; no month is in two of them.
    Vec<Stretch>,
);

impl Shown {
    /// All there are, as one's own.
    #[must_use]
    pub fn own() -> Self {
        Self(vec![Stretch { first: Month::FIRST, last: Month::LAST, sight: Sight::OWN }])
    }

    /// The months that are in any of these shares of one project; each in the greatest detail that any gives, and among
    /// these by the share that was made first.
    #[must_use]
    pub fn by(mut shares: Vec<Shared>) -> Self {
        shares.retain(|share| share.months.holds_any());
        shares.sort_by(|a, b| (b.detail, &a.share).cmp(&(a.detail, &b.share)));
        let ends = shares.iter().flat_map(|share| [share.months.first(), share.months.last().next()]);
        let ends: BTreeSet<Month> = ends.collect();
        let mut stretches: Vec<Stretch> = Vec::new();
        for (first, end) in ends.iter().zip(ends.iter().skip(1)) {
            let Some(share) = shares.iter().find(|share| share.months.contains(*first)) else { continue };
            let (last, sight) = (end.previous(), Sight::by(share));
            match stretches.last_mut() {
                Some(before) if before.last.next() == *first && before.sight == sight => before.last = last,
                _ => stretches.push(Stretch { first: *first, last, sight }),
            }
        }
        Self(stretches)
    }

    /// How a month is seen, if it is.
    #[must_use]
    pub fn sight(&self, month: Month) -> Option<&Sight> {
        self.stretch(month).map(|stretch| &stretch.sight)
    }

    fn stretch(&self, month: Month) -> Option<&Stretch> {
        self.0.iter().find(|stretch| (stretch.first..=stretch.last).contains(&month))
    }

    /// The shares that it rests on.
    pub fn shares(&self) -> impl Iterator<Item = &ShareId> {
        self.0.iter().filter_map(|stretch| stretch.sight.share.as_ref())
    }

    /// Whether what was answered of the earlier may still be.
    #[must_use]
    pub fn serves(&self, earlier: &Self) -> bool {
        let whole = |stretch: &Stretch| {
            let mut month = stretch.first;
            while month <= stretch.last {
                match self.stretch(month) {
                    Some(now) if now.sight.serves(&stretch.sight) => month = now.last.next(),
                    _ => return false,
                }
            }
            true
        };
        earlier.0.iter().all(whole)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn month(number: u32) -> Month {
        format!("{}-{:02}", 2020 + number / 12, number % 12 + 1).parse().unwrap()
    }

    fn any_share() -> impl Strategy<Value = Shared> {
        let end = || prop::option::of((0..40_u32).prop_map(month));
        let detail = prop::sample::select(Detail::ALL.to_vec());
        (end(), end(), detail, 0..4_u8).prop_map(|(from, to, detail, number)| Shared {
            share: format!("shr_{number:032x}").parse().unwrap(),
            project: "hill".parse().unwrap(),
            recipient: "fund".parse().unwrap(),
            months: MonthRange { from, to },
            detail,
            mask_key: MaskKey([number; 32]),
        })
    }

    proptest! {
        #[test]
        fn a_month_is_seen_in_the_greatest_detail_that_any_share_gives_it(
            shares in prop::collection::vec(any_share(), 0..6),
            others in prop::collection::vec(any_share(), 0..3),
        ) {
            let (shown, earlier) = (Shown::by(shares.clone()), Shown::by(others));
            let holds = |range: &MonthRange, at: Month| {
                range.from.is_none_or(|from| from <= at) && range.to.is_none_or(|to| at <= to)
            };
            let mut backwards = shares.clone();
            backwards.reverse();
            prop_assert_eq!(&Shown::by(backwards), &shown);
            // 2015 to 2030, so that open ends are seen too.
            let months = (0..180).map(|at| format!("{}-{:02}", 2015 + at / 12, at % 12 + 1).parse().unwrap());
            let mut serves = true;
            for at in months {
                let given = shares.iter().filter(|share| holds(&share.months, at));
                let best = given.max_by_key(|share| (share.detail, std::cmp::Reverse(&share.share)));
                let sight = shown.sight(at);
                prop_assert_eq!(sight.map(|sight| sight.detail), best.map(|share| share.detail), "{}", at);
                prop_assert_eq!(sight.and_then(|sight| sight.share.as_ref()), best.map(|share| &share.share), "{}", at);
                serves &= match (earlier.sight(at), sight) {
                    (None, _) => true,
                    (Some(_), None) => false,
                    (Some(then), Some(now)) if now.detail == Detail::Masked && then.detail == Detail::Masked => {
                        now.share == then.share
                    }
                    (Some(then), Some(now)) => now.detail >= then.detail,
                };
            }
            prop_assert_eq!(shown.serves(&earlier), serves);
        }
    }

    #[test]
    fn nobody_is_shown_the_secret_of_a_mask() {
        let key = MaskKey([7; 32]);
        let sight = Sight { mask_key: Some(key), ..Sight::OWN };
        assert_eq!(format!("{key:?}"), "MaskKey");
        assert!(!serde_json::to_string(&sight).unwrap().contains('7'));
        assert!("whole".parse::<Detail>().unwrap_err().contains("aggregate, masked, full"));
    }
}
