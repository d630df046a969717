//! How many requests a key may make, and all keys of an organisation together: so many a second on average, and some at once
//! after a silence.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::Problem;
use crate::{access::Principal, config::HttpConfig, error::ErrorKind, ids::OrganisationSlug};

/// Those that are remembered before it is looked who may be forgotten.
const FIRST_LOOK: usize = 1024;

/// The requests of all keys since the server started.
#[derive(Debug)]
pub struct Allowance {
    keys: Rates,
    organisations: Rates,
    since: Instant,
}

/// A request came too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooEarly {
    /// The setting that it is too early for.
    setting: &'static str,
    requests_per_s: u32,
    /// A second at most.
    after: Duration,
    /// Whether the request before it was let in: a flood of refusals is not to become a flood of entries.
    pub(super) is_first: bool,
}

/// A rate, and how far each who is held to it is ahead of it (the generic cell rate algorithm, ITU-T I.371).
#[derive(Debug)]
struct Rates {
    setting: &'static str,
    requests_per_s: u32,
    /// How far one may be ahead.
    tolerance: Duration,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    by_name: HashMap<Arc<str>, Bucket>,
    look_at: usize,
}

/// Who was silent until `even_at` is as if it had never been there, and is forgotten.
#[derive(Debug, Default)]
struct Bucket {
    even_at: Duration,
    refused: bool,
}

impl Allowance {
    #[must_use]
    pub fn new(config: &HttpConfig) -> Self {
        let HttpConfig { key_requests_per_s, key_burst, organisation_requests_per_s, organisation_burst, .. } = config;
        Self {
            keys: Rates::new("http.key_requests_per_s", *key_requests_per_s, *key_burst),
            organisations: Rates::new(
                "http.organisation_requests_per_s",
                *organisation_requests_per_s,
                *organisation_burst,
            ),
            since: Instant::now(),
        }
    }

    /// Lets a request in, or says when to come again.
    pub(super) fn take(&self, principal: &Principal) -> Result<(), TooEarly> {
        let organisation = principal.organisation.as_ref().map(OrganisationSlug::as_str);
        self.take_at(&principal.key_prefix, organisation, self.since.elapsed())
    }

    /// `now` is since the start. A request that its organisation has no room for does not count against its key.
    fn take_at(&self, key: &str, organisation: Option<&str>, now: Duration) -> Result<(), TooEarly> {
        if let Some(organisation) = organisation {
            self.keys.look(key, now)?;
            self.organisations.take(organisation, now)?;
        }
        self.keys.take(key, now)
    }
}

impl Rates {
    fn new(setting: &'static str, requests_per_s: u32, burst: u32) -> Self {
        let buckets = Mutex::new(Buckets { by_name: HashMap::new(), look_at: FIRST_LOOK });
        let mut rates = Self { setting, requests_per_s, tolerance: Duration::ZERO, buckets };
        rates.tolerance = rates.interval() * burst.saturating_sub(1);
        rates
    }

    /// Between two requests at the rate.
    fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.requests_per_s.max(1)
    }

    /// Whether a request may come now, of which nothing is noted where it may.
    fn look(&self, name: &str, now: Duration) -> Result<(), TooEarly> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        match buckets.by_name.get_mut(name) {
            Some(bucket) if self.requests_per_s > 0 => self.wait_of(bucket, now),
            _ => Ok(()),
        }
    }

    fn take(&self, name: &str, now: Duration) -> Result<(), TooEarly> {
        if self.requests_per_s == 0 {
            return Ok(());
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.by_name.get_mut(name) {
            self.wait_of(bucket, now)?;
            *bucket = Bucket { even_at: bucket.even_at.max(now) + self.interval(), refused: false };
            return Ok(());
        }
        if buckets.by_name.len() >= buckets.look_at {
            buckets.by_name.retain(|_, bucket| bucket.even_at > now);
            buckets.look_at = FIRST_LOOK.max(2 * buckets.by_name.len());
        }
        buckets.by_name.insert(name.into(), Bucket { even_at: now + self.interval(), refused: false });
        Ok(())
    }

    fn wait_of(&self, bucket: &mut Bucket, now: Duration) -> Result<(), TooEarly> {
        let after = bucket.even_at.saturating_sub(now + self.tolerance);
        if after.is_zero() {
            return Ok(());
        }
        let is_first = !std::mem::replace(&mut bucket.refused, true);
        Err(TooEarly { setting: self.setting, requests_per_s: self.requests_per_s, after, is_first })
    }
}

impl From<TooEarly> for Problem {
    fn from(early: TooEarly) -> Self {
        let TooEarly { setting, requests_per_s, .. } = early;
        // A rate is one a second at least, so that the one second of every Retry-After is enough.
        let detail = format!(
            "that are more requests than {setting} allows, which is {requests_per_s} a second; try again in a second"
        );
        Self::new(ErrorKind::Busy, "too_many_requests", detail)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn allowance(requests_per_s: u32, burst: u32) -> Allowance {
        Allowance::new(&HttpConfig {
            key_requests_per_s: requests_per_s,
            key_burst: burst,
            organisation_requests_per_s: 3 * requests_per_s,
            organisation_burst: 3 * burst,
            ..HttpConfig::default()
        })
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_key_makes_its_burst_at_once_and_then_its_rate_and_is_told_when_to_come_again() {
        let allowance = allowance(10, 5);
        let take = |at| allowance.take_at("a", None, ms(at));
        for _ in 0..5 {
            take(0).unwrap();
        }
        let early = take(0).unwrap_err();
        assert_eq!((early.after, early.setting, early.is_first), (ms(100), "http.key_requests_per_s", true));
        assert!(!take(50).unwrap_err().is_first, "the second of a flood");
        take(100).unwrap();
        assert!(take(100).unwrap_err().is_first);
        for _ in 0..5 {
            take(700).unwrap();
        }
        take(700).unwrap_err();
        allowance.take_at("b", None, ms(700)).unwrap();
    }

    #[test]
    fn keys_of_an_organisation_share_its_rate_and_what_it_refuses_does_not_count_against_the_key() {
        let allowance = allowance(1, 2);
        let take = |key: &str, at| allowance.take_at(key, Some("org"), ms(at));
        for key in ["a", "b", "c"] {
            take(key, 0).unwrap();
            take(key, 0).unwrap();
        }
        assert_eq!(take("d", 0).unwrap_err().setting, "http.organisation_requests_per_s");
        assert_eq!(take("a", 0).unwrap_err().setting, "http.key_requests_per_s");
        allowance.take_at("d", Some("other"), ms(0)).unwrap();
        allowance.take_at("d", Some("other"), ms(0)).unwrap();
    }

    #[test]
    fn no_limit_is_no_limit() {
        let allowance = allowance(0, 1);
        for _ in 0..10_000 {
            allowance.take_at("a", Some("org"), Duration::ZERO).unwrap();
        }
        assert!(allowance.keys.buckets.lock().unwrap().by_name.is_empty());
    }

    #[test]
    fn who_is_silent_is_forgotten() {
        let allowance = allowance(10, 5);
        for number in 0..100_000_u64 {
            allowance.take_at(&number.to_string(), None, ms(number)).unwrap();
        }
        // Each is even again after 100 ms, in which 100 others come.
        let remembered = allowance.keys.buckets.lock().unwrap().by_name.len();
        assert!(remembered <= FIRST_LOOK, "{remembered}");
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_than_the_burst_and_the_rate_get_in(
            pauses in proptest::collection::vec(0u64..400, 1..200), rate in 1u32..20, burst in 1u32..10,
        ) {
            let allowance = allowance(rate, burst);
            let (mut now, mut let_in) = (0, Vec::new());
            for pause in pauses {
                now += pause;
                match allowance.take_at("a", None, ms(now)) {
                    Ok(()) => let_in.push(now),
                    Err(early) => {
                        // Who comes when it was told to is let in.
                        prop_assert!(early.after <= Duration::from_secs(1));
                        now += u64::try_from(early.after.as_millis()).unwrap() + 1;
                        prop_assert_eq!(allowance.take_at("a", None, ms(now)), Ok(()));
                        let_in.push(now);
                    }
                }
            }
            for (first, from) in let_in.iter().enumerate() {
                for (last, to) in let_in.iter().enumerate().skip(first) {
                    let most = u64::from(burst) + (to - from) * u64::from(rate) / 1000 + 1;
                    prop_assert!((last - first + 1) as u64 <= most, "{} in {} ms", last - first + 1, to - from);
                }
            }
        }
    }
}
