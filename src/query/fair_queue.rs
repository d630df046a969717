//! Whose query runs next. Organisations take turns, whatever each of them has waiting, so that a flood of one is a flood in its
//! own lines and nobody else's; and so do the keys of one.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::QueryError;
use crate::{
    access::Principal,
    config::{QueryConfig, SqlConfig},
};

/// A queue before a number of places.
#[derive(Clone, Debug)]
pub struct FairQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    state: Mutex<State>,
}

/// How many queries may run and wait.
#[derive(Clone, Copy, Debug)]
struct Limits {
    running: usize,
    organisation_running: usize,
    key_running: usize,
    waiting: Waiting,
    organisation_waiting: Waiting,
    key_waiting: Waiting,
}

/// How many may wait, and the setting that says so.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    setting: &'static str,
    limit: usize,
}

impl Waiting {
    fn busy(self) -> QueryError {
        QueryError::Busy { setting: self.setting, limit: self.limit }
    }
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    waiting: usize,
    /// Those of whom something runs or waits, and no others.
    parties: HashMap<Arc<str>, Party>,
    /// Those of whom something waits, in the order of their turns.
    ring: VecDeque<Arc<str>>,
    tickets: u64,
}

/// An organisation, or a key that belongs to none.
#[derive(Debug, Default)]
struct Party {
    running: usize,
    /// By key, where there are any.
    running_of: HashMap<Arc<str>, usize>,
    waiting: usize,
    /// Of the keys of which something waits, in the order of their turns.
    lines: VecDeque<Line>,
}

/// What waits of one key.
#[derive(Debug)]
struct Line {
    key: Arc<str>,
    waiters: VecDeque<Waiter>,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    go: oneshot::Sender<Result<Turn, QueryError>>,
}

/// A query's place among those that run, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    /// Taken out where it never became one.
    of: Option<(Arc<Shared>, Arc<str>, Arc<str>)>,
}

/// A place in a line, which is given up when it is dropped.
struct Place {
    shared: Arc<Shared>,
    party: Arc<str>,
    ticket: u64,
}

impl FairQueue {
    /// Before the metrics.
    pub(super) fn new(limits: &QueryConfig) -> Self {
        let running = limits.concurrency.max(1);
        // A query takes all cores that it can have. More at once of the same asker end no sooner together, and leave less of the
        // cores to each query of another.
        let half_of_the_cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() / 2);
        let or = |given: usize, default: usize| if given == 0 { default } else { given }.clamp(1, running);
        let limits = Limits {
            running,
            organisation_running: or(limits.organisation_concurrency, half_of_the_cores.max(2).min(running * 3 / 4)),
            key_running: or(limits.key_concurrency, half_of_the_cores.min(running / 2)),
            waiting: Waiting { setting: "query.queue", limit: limits.queue },
            organisation_waiting: Waiting { setting: "query.organisation_queue", limit: limits.organisation_queue },
            key_waiting: Waiting { setting: "query.key_queue", limit: limits.key_queue },
        };
        Self(Arc::new(Shared { limits, state: Mutex::default() }))
    }

    /// Before the processes that run SQL which people wrote. The keys of an organisation have limits together alone.
    #[must_use]
    pub fn before_sql(limits: &SqlConfig) -> Self {
        let running = limits.concurrency.max(1);
        let of_one = match limits.organisation_concurrency {
            0 => running / 2,
            given => given,
        };
        let (of_one, waiting) = (of_one.clamp(1, running), limits.organisation_queue);
        let of_one_waiting = Waiting { setting: "sql.organisation_queue", limit: waiting };
        let limits = Limits {
            running,
            organisation_running: of_one,
            key_running: of_one,
            waiting: Waiting { setting: "sql.queue", limit: limits.queue },
            organisation_waiting: of_one_waiting,
            key_waiting: of_one_waiting,
        };
        Self(Arc::new(Shared { limits, state: Mutex::default() }))
    }

    /// Before those of them that nobody waits for, of which an organisation may have half at once.
    #[must_use]
    pub fn before_background_sql(limits: &SqlConfig) -> Self {
        let background = &limits.background;
        let running = background.concurrency.max(1);
        let of_one = (running / 2).max(1);
        let waiting = Waiting { setting: "sql.background_queue", limit: background.queue };
        let limits = Limits {
            running,
            organisation_running: of_one,
            key_running: of_one,
            waiting,
            organisation_waiting: waiting,
            key_waiting: waiting,
        };
        Self(Arc::new(Shared { limits, state: Mutex::default() }))
    }

    /// Waits for the turn of one of the asker's queries. Whoever stops waiting is out of the line.
    ///
    /// # Errors
    /// [`QueryError::Busy`] where too many wait: of the key, of its organisation, or of all.
    pub async fn turn(&self, asker: &Principal) -> Result<Turn, QueryError> {
        let key: Arc<str> = asker.key_prefix.as_str().into();
        let party = party_of(asker);
        let (place, go) = match self.0.enter(&party, &key)? {
            Entered::Running(turn) => return Ok(turn),
            Entered::Waiting(ticket, go) => (Place { shared: Arc::clone(&self.0), party, ticket }, go),
        };
        let turn = go.await;
        drop(place);
        // A sender goes with its waiter, which goes only when it was told something, or gave up.
        turn.unwrap_or_else(|_| Err(self.0.limits.waiting.busy()))
    }
}

/// Who takes turns: an organisation, or a key that belongs to none.
fn party_of(asker: &Principal) -> Arc<str> {
    match &asker.organisation {
        Some(organisation) => format!("organisation {organisation}").into(),
        None => format!("key {}", asker.key_prefix).into(),
    }
}

enum Entered {
    Running(Turn),
    Waiting(u64, oneshot::Receiver<Result<Turn, QueryError>>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs at once where there is room, which nobody waits for who might have it; else stands in line.
    fn enter(self: &Arc<Self>, name: &Arc<str>, key: &Arc<str>) -> Result<Entered, QueryError> {
        let mut state = self.lock();
        let room = state.running < self.limits.running;
        let party = state.parties.entry(Arc::clone(name)).or_default();
        if room && party.may_run(key, &self.limits) {
            party.started(key);
            state.running += 1;
            return Ok(Entered::Running(self.turn_of(name, key)));
        }
        let of_key = party.lines.iter().find(|line| line.key == *key).map_or(0, |line| line.waiters.len());
        let waiting = party.waiting;
        let refused = if of_key >= self.limits.key_waiting.limit {
            Some(self.limits.key_waiting.busy())
        } else if waiting >= self.limits.organisation_waiting.limit {
            Some(self.limits.organisation_waiting.busy())
        } else if state.waiting >= self.limits.waiting.limit && !state.displace(waiting + 1, &self.limits) {
            Some(self.limits.waiting.busy())
        } else {
            None
        };
        if let Some(refused) = refused {
            state.forget(name);
            return Err(refused);
        }
        let (go, told) = oneshot::channel();
        state.tickets += 1;
        let ticket = state.tickets;
        let party = state.parties.entry(Arc::clone(name)).or_default();
        party.stand_in_line(key, Waiter { ticket, go });
        state.waiting += 1;
        if waiting == 0 {
            state.ring.push_back(Arc::clone(name));
        }
        Ok(Entered::Waiting(ticket, told))
    }

    fn turn_of(self: &Arc<Self>, party: &Arc<str>, key: &Arc<str>) -> Turn {
        Turn { of: Some((Arc::clone(self), Arc::clone(party), Arc::clone(key))) }
    }

    /// Gives free places to those whose turn it is.
    fn dispatch(self: &Arc<Self>, state: &mut State) {
        while state.running < self.limits.running {
            let Some((name, key, waiter)) = state.next(&self.limits) else { return };
            if let Some(party) = state.parties.get_mut(&name) {
                party.started(&key);
            }
            state.running += 1;
            if let Err(Ok(mut unheard)) = waiter.go.send(Ok(self.turn_of(&name, &key))) {
                // It gave up a moment ago. Dropped as it is, the turn would wait for the lock that is held here.
                unheard.of = None;
                state.ended(&name, &key);
            }
        }
    }
}

impl State {
    /// The next whose turn it is, taken out of the line. A party that has as much running as it may is passed over, and keeps
    /// its place.
    fn next(&mut self, limits: &Limits) -> Option<(Arc<str>, Arc<str>, Waiter)> {
        for place in 0..self.ring.len() {
            let party = self.parties.get_mut(self.ring.get(place)?)?;
            let Some((key, waiter)) = party.take_next(limits) else { continue };
            let is_left = party.waiting > 0;
            let name = self.ring.remove(place)?;
            if is_left {
                self.ring.push_back(Arc::clone(&name));
            }
            self.waiting -= 1;
            return Some((name, key, waiter));
        }
        None
    }

    /// Makes room for one more who waits: of the party that has most waiting, the last of its longest line goes, where these
    /// are more than `waiting`, what waits of who comes.
    fn displace(&mut self, waiting: usize, limits: &Limits) -> bool {
        let most = self.parties.values_mut().max_by_key(|party| party.waiting);
        let Some(party) = most.filter(|party| party.waiting > waiting) else { return false };
        let longest = party.lines.iter_mut().max_by_key(|line| line.waiters.len());
        let Some(last) = longest.and_then(|line| line.waiters.pop_back()) else { return false };
        party.waiting -= 1;
        party.lines.retain(|line| !line.waiters.is_empty());
        self.waiting -= 1;
        // Who gave up meanwhile does not hear it.
        let _ = last.go.send(Err(limits.waiting.busy()));
        true
    }

    fn ended(&mut self, name: &Arc<str>, key: &Arc<str>) {
        self.running -= 1;
        if let Some(party) = self.parties.get_mut(name) {
            party.running -= 1;
            if let Some(running) = party.running_of.get_mut(key) {
                *running -= 1;
                if *running == 0 {
                    party.running_of.remove(key);
                }
            }
        }
        self.forget(name);
    }

    /// Forgets a party of whom nothing runs or waits.
    fn forget(&mut self, name: &Arc<str>) {
        if self.parties.get(name).is_some_and(|party| party.running == 0 && party.waiting == 0) {
            self.parties.remove(name);
        }
    }
}

impl Party {
    fn may_run(&self, key: &Arc<str>, limits: &Limits) -> bool {
        self.running < limits.organisation_running && self.of_key(key) < limits.key_running
    }

    fn of_key(&self, key: &Arc<str>) -> usize {
        self.running_of.get(key).copied().unwrap_or_default()
    }

    fn started(&mut self, key: &Arc<str>) {
        self.running += 1;
        *self.running_of.entry(Arc::clone(key)).or_default() += 1;
    }

    fn stand_in_line(&mut self, key: &Arc<str>, waiter: Waiter) {
        self.waiting += 1;
        match self.lines.iter_mut().find(|line| line.key == *key) {
            Some(line) => line.waiters.push_back(waiter),
            None => self.lines.push_back(Line { key: Arc::clone(key), waiters: VecDeque::from([waiter]) }),
        }
    }

    /// The first in the line of the key whose turn it is. One that has as much running as it may is passed over.
    fn take_next(&mut self, limits: &Limits) -> Option<(Arc<str>, Waiter)> {
        let place = (0..self.lines.len()).find(|place| self.may_run(&self.lines[*place].key, limits))?;
        let mut line = self.lines.remove(place)?;
        let waiter = line.waiters.pop_front()?;
        self.waiting -= 1;
        let key = Arc::clone(&line.key);
        if !line.waiters.is_empty() {
            self.lines.push_back(line);
        }
        Some((key, waiter))
    }

    /// Whether the ticket was still waiting.
    fn give_up(&mut self, ticket: u64) -> bool {
        for line in &mut self.lines {
            let Some(place) = line.waiters.iter().position(|waiter| waiter.ticket == ticket) else { continue };
            line.waiters.remove(place);
            self.waiting -= 1;
            self.lines.retain(|line| !line.waiters.is_empty());
            return true;
        }
        false
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some((shared, party, key)) = self.of.take() else { return };
        let mut state = shared.lock();
        state.ended(&party, &key);
        shared.dispatch(&mut state);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        let Some(party) = state.parties.get_mut(&self.party) else { return };
        if !party.give_up(self.ticket) {
            return;
        }
        let was_last = party.waiting == 0;
        state.waiting -= 1;
        if was_last {
            let name = &self.party;
            state.ring.retain(|other| other != name);
            state.forget(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        pin::Pin,
        task::{Context, Poll},
    };

    use futures::task::noop_waker;
    use proptest::prelude::*;

    use super::*;
    use crate::config::Sources;

    type Asked = Pin<Box<dyn Future<Output = Result<Turn, QueryError>>>>;

    /// A key of an organisation of its own.
    fn key(name: &str) -> Principal {
        Principal { organisation: Some(name.parse().unwrap()), ..Principal::admin(name) }
    }

    /// Askers, those that wait and the turns that they have, in the order in which they got them.
    struct Hall {
        queue: FairQueue,
        waiting: Vec<(usize, Asked)>,
        turns: Vec<(usize, Turn)>,
        got: Vec<usize>,
        refused: usize,
    }

    impl Hall {
        fn new(limits: &QueryConfig) -> Self {
            Self { queue: FairQueue::new(limits), waiting: Vec::new(), turns: Vec::new(), got: Vec::new(), refused: 0 }
        }

        fn ask(&mut self, who: usize) {
            self.ask_as(who, key(&who.to_string()));
        }

        fn ask_as(&mut self, who: usize, asker: Principal) {
            let queue = self.queue.clone();
            self.waiting.push((who, Box::pin(async move { queue.turn(&asker).await })));
            self.look();
        }

        fn end(&mut self, place: usize) {
            if !self.turns.is_empty() {
                drop(self.turns.remove(place % self.turns.len()));
                self.look();
            }
        }

        fn give_up(&mut self, place: usize) {
            if !self.waiting.is_empty() {
                drop(self.waiting.remove(place % self.waiting.len()));
                self.look();
            }
        }

        /// Lets each see whether its turn has come, and again, because who comes last may send another away.
        fn look(&mut self) {
            let waker = noop_waker();
            for _ in 0..2 {
                for (who, mut asked) in std::mem::take(&mut self.waiting) {
                    match asked.as_mut().poll(&mut Context::from_waker(&waker)) {
                        Poll::Ready(Ok(turn)) => {
                            self.turns.push((who, turn));
                            self.got.push(who);
                        }
                        Poll::Ready(Err(_)) => self.refused += 1,
                        Poll::Pending => self.waiting.push((who, asked)),
                    }
                }
            }
        }

        fn waits(&self, who: usize) -> bool {
            self.waiting.iter().any(|(waiter, _)| *waiter == who)
        }

        fn assert_counts(&self) {
            let state = self.queue.0.lock();
            assert_eq!((state.running, state.waiting), (self.turns.len(), self.waiting.len()));
            let known: usize = state.parties.values().map(|party| party.waiting + party.running).sum();
            assert_eq!(known, state.running + state.waiting);
            for party in state.parties.values() {
                let in_lines: usize = party.lines.iter().map(|line| line.waiters.len()).sum();
                assert_eq!((in_lines, party.running_of.values().sum::<usize>()), (party.waiting, party.running));
                assert!(party.lines.iter().all(|line| !line.waiters.is_empty()));
            }
            let with_lines = state.parties.values().filter(|party| party.waiting > 0).count();
            assert_eq!(state.ring.len(), with_lines);
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ask(usize),
        End(usize),
        GiveUp(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            // One asks more than all others together.
            4 => Just(Step::Ask(0)),
            3 => (0usize..6).prop_map(Step::Ask),
            5 => any::<usize>().prop_map(Step::End),
            1 => any::<usize>().prop_map(Step::GiveUp),
        ];
        proptest::collection::vec(step, 1..300)
    }

    fn limits(concurrency: usize, of_one: usize, queue: usize) -> QueryConfig {
        QueryConfig {
            concurrency,
            organisation_concurrency: of_one,
            key_concurrency: of_one,
            queue,
            organisation_queue: queue,
            key_queue: queue,
            ..Sources::default().load().unwrap().config.query
        }
    }

    proptest! {
        #[test]
        fn nobody_waits_for_more_than_one_turn_of_each_other(steps in steps(), places in 1usize..4) {
            let mut hall = Hall::new(&limits(places, places, 1000));
            // For each who waits: the turns that others got since it waits, or since its own last one.
            let mut passed: BTreeMap<usize, BTreeMap<usize, usize>> = BTreeMap::new();
            for step in steps {
                let before = hall.got.len();
                match step {
                    Step::Ask(who) => hall.ask(who),
                    Step::End(place) => hall.end(place),
                    Step::GiveUp(place) => hall.give_up(place),
                }
                for who in hall.got[before..].iter().copied() {
                    passed.remove(&who);
                    for (waiter, of) in &mut passed {
                        let turns = of.entry(who).or_default();
                        *turns += 1;
                        prop_assert!(*turns <= 1, "{waiter} was passed by {who} twice");
                    }
                }
                passed.retain(|who, _| hall.waits(*who));
                for who in 0..6 {
                    if hall.waits(who) {
                        passed.entry(who).or_default();
                    }
                }
                hall.assert_counts();
                prop_assert!(hall.turns.len() == places || hall.waiting.is_empty(), "a place is free, and somebody waits");
            }
        }

        #[test]
        fn nobody_runs_more_than_it_may_all_get_their_turn_and_nothing_is_kept_of_who_is_gone(
            steps in steps(), of_one in 1usize..4, queue in 0usize..12,
        ) {
            let mut hall = Hall::new(&limits(4, of_one, queue));
            for step in steps {
                match step {
                    Step::Ask(who) => hall.ask(who),
                    Step::End(place) => hall.end(place),
                    Step::GiveUp(place) => hall.give_up(place),
                }
                for who in 0..6 {
                    prop_assert!(hall.turns.iter().filter(|(runner, _)| *runner == who).count() <= of_one);
                }
                prop_assert!(hall.turns.len() <= 4 && hall.waiting.len() <= queue);
                hall.assert_counts();
            }
            while !hall.turns.is_empty() {
                hall.end(0);
            }
            prop_assert!(hall.waiting.is_empty());
            let state = hall.queue.0.lock();
            prop_assert!(state.parties.is_empty() && state.ring.is_empty() && state.running == 0 && state.waiting == 0);
        }
    }

    #[test]
    fn a_full_queue_takes_in_who_has_fewer_waiting_and_sends_the_last_of_the_longest_line_away() {
        let mut hall = Hall::new(&limits(1, 1, 4));
        for _ in 0..5 {
            hall.ask(0);
        }
        assert_eq!((hall.turns.len(), hall.waiting.len(), hall.refused), (1, 4, 0));
        hall.ask(0);
        assert_eq!(hall.refused, 1);
        for _ in 0..2 {
            hall.ask(1);
        }
        assert_eq!(hall.refused, 3);
        let waiting = |who| hall.waiting.iter().filter(|(waiter, _)| *waiter == who).count();
        assert_eq!((waiting(0), waiting(1)), (2, 2));
        hall.ask(1);
        assert_eq!(hall.refused, 4, "its line is as long as any now");
    }

    #[test]
    fn keys_of_an_organisation_take_turns_too() {
        let mut hall = Hall::new(&limits(1, 1, 100));
        let of_one = |who: usize| Principal { key_prefix: who.to_string(), ..key("org") };
        for who in [0, 0, 0, 0, 1, 2, 1] {
            hall.ask_as(who, of_one(who));
        }
        hall.ask(7);
        while !hall.turns.is_empty() {
            hall.end(0);
        }
        assert_eq!(hall.got, [0, 0, 7, 1, 2, 0, 1, 0]);
    }

    #[test]
    fn one_key_and_one_organisation_leave_places_to_others_by_default() {
        let limits = |concurrency| QueryConfig { concurrency, ..Sources::default().load().unwrap().config.query };
        for concurrency in [2, 4, 8, 64] {
            let Limits { running, organisation_running, key_running, .. } =
                FairQueue::new(&limits(concurrency)).0.limits;
            assert!((1..running).contains(&organisation_running), "{organisation_running} of {running}");
            assert!((1..=organisation_running).contains(&key_running), "{key_running} of {organisation_running}");
        }
        assert_eq!(FairQueue::new(&limits(1)).0.limits.organisation_running, 1);
    }

    #[test]
    fn each_limit_is_named_where_it_is_met() {
        let asked = |change: fn(&mut QueryConfig)| {
            let mut limits = limits(1, 1, 5);
            change(&mut limits);
            let mut hall = Hall::new(&limits);
            hall.ask(0);
            hall.ask(0);
            let queue = hall.queue.clone();
            let refused = futures::executor::block_on(async move { queue.turn(&key("0")).await });
            refused.unwrap_err().to_string()
        };
        for (change, setting) in [
            ((|limits| limits.key_queue = 1) as fn(&mut QueryConfig), "query.key_queue"),
            (|limits| limits.organisation_queue = 1, "query.organisation_queue"),
            (|limits| limits.queue = 1, "query.queue"),
        ] {
            let message = asked(change);
            assert!(message.contains(setting), "{message}");
        }
    }
}
