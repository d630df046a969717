//! Runs a fuzz target: the inputs of its corpus, then inputs that are made from them by chance, so many of them or for so
//! long.
//!
//! A target's check panics where a promise is broken, and says how the input was taken. An input that was taken in a new way
//! is one of those that the next ones are made from. bolero catches the panic and makes the input small. Its own engine is
//! not used: under `cargo test` it takes its seeds from the system, so that no run is like another, and makes bytes by
//! chance alone, of which none gets past the header of a CSV file.

mod chance;

use std::{
    collections::HashSet,
    fmt::Debug,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Deref,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bolero::{
    Engine, Test, TestTarget,
    bolero_engine::{driver::Options, panic},
};

pub(crate) use chance::Chance;

/// Bytes of an input at most.
const MAX_BYTES: usize = 16 << 10;
/// Inputs at most that others are made from.
const MAX_BASES: usize = 4096;
/// Changes that make a new input of an old one, at most.
const MAX_CHANGES: usize = 5;
/// How long a failing input is made smaller.
const SHRINK_TIME: Duration = Duration::from_secs(10);

/// A fuzz target, its check aside.
pub(crate) struct Target {
    /// The folder of its corpus in `tests/fuzz/`.
    pub(crate) name: &'static str,
    /// Pieces on which the meaning of an input turns.
    pub(crate) words: &'static [&'static str],
    /// How many inputs an ordinary run of the tests makes. With `FUZZ_SECONDS` set, it goes on for that long.
    pub(crate) inputs: usize,
}

/// Runs a target. `check` gives how it took an input, in few words.
///
/// # Panics
/// Where the check did; the input, made small, is then a file of the corpus, so that the next run begins with it.
pub(crate) fn fuzz<B: Hash>(target: &Target, check: impl Fn(&[u8]) -> B) {
    let (check, last) = (AssertUnwindSafe(check), Last::default());
    TestTarget::new(Runner { target, last: &last }).for_each(|input: &[u8]| {
        input.clone_into(&mut last.input.lock().unwrap());
        let behaviour = check.deref()(input);
        last.behaviour.store(hash(&behaviour), Ordering::Relaxed);
    });
}

/// A number that depends on a value alone.
pub(crate) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// What a check left behind; bolero says only whether it held.
#[derive(Default)]
struct Last {
    input: Mutex<Vec<u8>>,
    behaviour: AtomicU64,
}

struct Runner<'a> {
    target: &'a Target,
    last: &'a Last,
}

impl<T: Test<Value: Debug>> Engine<T> for Runner<'_> {
    type Output = ();

    fn run(self, mut test: T, options: Options) {
        let options = options.with_shrink_time(SHRINK_TIME);
        panic::set_hook();
        let told = panic::forward_panic(false);
        let failed = self.first_failure(|input| test.test(&mut &*input).err().map(|error| error.to_string()));
        let report = failed.map(|(input, file, error)| {
            if let Some(shrunken) = test.shrink(input.clone(), None, &options) {
                return self.report(file, &shrunken.error.to_string());
            }
            *self.last.input.lock().unwrap() = input;
            self.report(file, &error)
        });
        panic::forward_panic(told);
        if let Some(report) = report {
            panic!("{report}");
        }
    }
}

impl Runner<'_> {
    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz").join(self.target.name)
    }

    /// The files of the corpus, in one order everywhere.
    fn corpus(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = fs::read_dir(self.folder()).expect("the target has a corpus");
        let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "the corpus of {} is empty", self.target.name);
        paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// The first input that fails, the file of the corpus that it is, and why. `test` gives the reason of a failure.
    fn first_failure(
        &self,
        mut test: impl FnMut(&[u8]) -> Option<String>,
    ) -> Option<(Vec<u8>, Option<PathBuf>, String)> {
        let (mut bases, mut behaviours) = (Vec::new(), HashSet::new());
        for (path, input) in self.corpus() {
            if let Some(error) = test(&input) {
                return Some((input, Some(path), error));
            }
            behaviours.insert(self.last.behaviour.load(Ordering::Relaxed));
            bases.push(input);
        }
        let (seed, end) = self.plan();
        let (mut chance, started, mut made) = (Chance(seed), Instant::now(), 0);
        while end.map_or(made < self.target.inputs, |end| started.elapsed() < end) {
            made += 1;
            let input = chance.input(&bases, self.target.words);
            if let Some(error) = test(&input) {
                return Some((input, None, error));
            }
            if bases.len() < MAX_BASES && behaviours.insert(self.last.behaviour.load(Ordering::Relaxed)) {
                bases.push(input);
            }
        }
        eprintln!("{}: {made} inputs in {:.0?}, {} behaviours", self.target.name, started.elapsed(), behaviours.len());
        None
    }

    /// A seed, and how long to go on, where the environment says so: then no run is to be like another.
    #[allow(
        clippy::disallowed_methods,
        reason = "the variable is make's word to this test, and no setting of Wattlake"
    )]
    fn plan(&self) -> (u64, Option<Duration>) {
        match std::env::var("FUZZ_SECONDS") {
            Ok(text) => {
                let seconds = text.parse().expect("FUZZ_SECONDS is a number of seconds");
                (hash(&(self.target.name, SystemTime::now())), Some(Duration::from_secs(seconds)))
            }
            Err(_) => (0, None),
        }
    }

    /// What is said of a failure, whose input is put into the corpus where it is a new one.
    fn report(&self, file: Option<PathBuf>, error: &str) -> String {
        let input = self.last.input.lock().unwrap();
        let path = file.unwrap_or_else(|| {
            let path = self.folder().join(format!("found-{:016x}", hash(&*input)));
            fs::write(&path, &*input).unwrap();
            path
        });
        let (name, shown) = (self.target.name, String::from_utf8_lossy(&input));
        format!("{name} fails for an input such as\n{shown:?}\nwhich comes from {}\n{error}", path.display())
    }
}

impl Chance {
    /// A new input, made from old ones.
    fn input(&mut self, bases: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
        let mut input = self.of::<[u8]>(bases).to_vec();
        for _ in 0..=self.below(MAX_CHANGES) {
            self.change(&mut input, bases, words);
        }
        input.truncate(MAX_BYTES);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, bases: &[Vec<u8>], words: &[&str]) {
        let here = self.stretch(input.len());
        match self.below(9) {
            0 => drop(input.splice(here.start..here.start, [self.number().to_le_bytes()[0]])),
            1 => drop(input.splice(here.start..here.start, self.of::<str>(words).bytes())),
            2 => drop(input.splice(here, self.of::<str>(words).bytes())),
            3 => drop(input.drain(here)),
            4 => {
                let again = input[here.clone()].to_vec();
                drop(input.splice(here.end..here.end, again));
            }
            5 => {
                let other = self.of::<[u8]>(bases);
                let there = self.stretch(other.len());
                drop(input.splice(here, other[there].iter().copied()));
            }
            6 => input.truncate(here.start),
            7 => input[here].reverse(),
            _ => {
                for byte in &mut input[here] {
                    *byte = byte.wrapping_add(self.number().to_le_bytes()[0] % 3).wrapping_sub(1);
                }
            }
        }
    }
}

/// What a person asks of a test by a variable.
#[allow(clippy::disallowed_methods, reason = "the variable is a person's word to a test, and no setting of Wattlake")]
pub(crate) fn asked_for(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}
