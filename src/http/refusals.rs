//! Keys that have ended and are still used, by whoever has them: of each, one refusal in a while is recorded, with how many there
//! were since the one before, so that a flood of them is seen and fills no log. Who proves no key at all could fill any: that is
//! counted alone (`telemetry/counters.rs`).

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The refusals since the server started, by the prefix of the key. A catalogue has a bounded number of keys.
#[derive(Debug)]
pub struct Refusals {
    every: Duration,
    by_key: Mutex<HashMap<String, Refused>>,
}

#[derive(Debug)]
struct Refused {
    recorded_at: Instant,
    since: u64,
}

impl Refusals {
    /// With so long between two entries of one key.
    #[must_use]
    pub fn new(every: Duration) -> Self {
        Self { every, by_key: Mutex::default() }
    }

    /// How many refusals of a key went unrecorded before this one, where this one is to be recorded.
    pub(super) fn to_record(&self, prefix: &str, now: Instant) -> Option<u64> {
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        match by_key.get_mut(prefix) {
            Some(refused) if now.duration_since(refused.recorded_at) < self.every => {
                refused.since += 1;
                None
            }
            Some(refused) => {
                refused.recorded_at = now;
                Some(std::mem::take(&mut refused.since))
            }
            None => {
                by_key.insert(prefix.to_owned(), Refused { recorded_at: now, since: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_one_refusal_in_a_while_is_recorded_and_the_others_are_counted() {
        let refusals = Refusals::new(Duration::from_mins(1));
        let began = Instant::now();
        let at = |key: &str, seconds: u64| refusals.to_record(key, began + Duration::from_secs(seconds));
        assert_eq!(at("a", 0), Some(0));
        for second in 1..60 {
            assert_eq!(at("a", second), None);
        }
        assert_eq!(at("b", 30), Some(0), "another key is another matter");
        assert_eq!((at("a", 60), at("a", 61), at("a", 200)), (Some(59), None, Some(1)));
    }
}
