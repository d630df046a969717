//! A file over several projects: which of them a row goes to, by its meter. A meter that is connected in none of them, or in
//! two, is a fault of the row; of one that is in none, the connections that were likely meant are told.

use std::{
    collections::{BTreeSet, HashMap},
    sync::OnceLock,
};

use super::report::{clip, code};

/// Connections that a message names at most.
const NAMED: usize = 3;

/// Digits of a number that a spreadsheet may have shortened, at most: those that 128 bits hold.
const MOST_DIGITS: usize = 38;

/// The meters of some projects.
#[derive(Debug)]
pub struct Routing {
    /// As messages name them.
    projects: Vec<String>,
    /// The projects in which a meter is connected, by their numbers.
    meters: HashMap<String, Places>,
    near: OnceLock<Near>,
}

/// The first project in which a meter is connected, and another one if there is.
#[derive(Clone, Copy, Debug)]
struct Places {
    first: usize,
    other: Option<usize>,
}

/// Why a row goes to no project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoRoute {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Routing {
    /// The meters of each of `projects`, which are named as messages are to name them.
    #[must_use]
    pub fn of(projects: Vec<String>, meters: impl IntoIterator<Item = (usize, String)>) -> Self {
        let mut places: HashMap<String, Places> = HashMap::new();
        for (project, meter) in meters {
            let there = places.entry(meter).or_insert(Places { first: project, other: None });
            if there.first != project {
                there.other = Some(project);
            }
        }
        Self { projects, meters: places, near: OnceLock::new() }
    }

    /// The number of the project that a meter's rows go to, where they go to one.
    #[must_use]
    pub fn project_of(&self, meter: &str) -> Option<usize> {
        self.meters.get(meter).filter(|places| places.other.is_none()).map(|places| places.first)
    }

    /// The same, or why they go to none.
    pub(super) fn check(&self, meter: &str) -> Result<usize, NoRoute> {
        match self.meters.get(meter) {
            Some(Places { first, other: None }) => Ok(*first),
            Some(Places { first, other: Some(other) }) => {
                let (first, other) = (&self.projects[*first], &self.projects[*other]);
                let message = format!(
                    "this meter is connected in {first} and in {other}; delete it from one of the two, or upload to one project"
                );
                Err(NoRoute { code: code::AMBIGUOUS_METER, message })
            }
            None => {
                let hint = self.hint(meter).unwrap_or_else(|| "add its connection, or correct the METER_ID".to_owned());
                let message = format!("this meter is connected in none of {}; {hint}", self.projects.join(", "));
                Err(NoRoute { code: code::UNMATCHED_METER, message })
            }
        }
    }

    /// Which connections were likely meant by a meter that is in none of the projects, for a person.
    pub(super) fn hint(&self, meter: &str) -> Option<String> {
        let near = self.near.get_or_init(|| Near::of(self.meters.keys()));
        let (found, count, why) = near.find(meter)?;
        let named: Vec<String> = found
            .iter()
            .map(|id| {
                format!("{} of {}", clip(id), self.meters.get(*id).map_or("", |at| self.projects[at.first].as_str()))
            })
            .collect();
        let more = count.saturating_sub(found.len());
        let more = if more > 0 { format!(", or one of {more} more") } else { String::new() };
        Some(format!("did you mean {}{more}? {why}", named.join(", or ")))
    }
}

/// Ids by what is left of them where a person or a spreadsheet changed them.
#[derive(Debug)]
struct Near {
    /// By the id without case, spaces and leading zeros.
    by_plain: HashMap<String, Vec<String>>,
    /// Ids that are numbers, by their values.
    numbers: Vec<(u128, String)>,
}

impl Near {
    fn of<'a>(ids: impl Iterator<Item = &'a String>) -> Self {
        let mut by_plain: HashMap<String, Vec<String>> = HashMap::new();
        let mut numbers = Vec::new();
        // In their order, so that a message is the same each time.
        for id in ids.collect::<BTreeSet<_>>() {
            by_plain.entry(plain(id)).or_default().push(id.clone());
            if let Some(number) = number(id.trim()) {
                numbers.push((number, id.clone()));
            }
        }
        numbers.sort();
        Self { by_plain, numbers }
    }

    /// The first ids that are near, how many there are, and what happened to them.
    fn find(&self, meter: &str) -> Option<(Vec<&str>, usize, &'static str)> {
        if let Some((least, greatest)) = shortened(meter) {
            let from = self.numbers.partition_point(|(number, _)| *number < least);
            let to = self.numbers.partition_point(|(number, _)| *number <= greatest);
            let found = self.numbers[from..to].iter().take(NAMED).map(|(_, id)| id.as_str()).collect();
            let why = "a spreadsheet has shortened a long number; format the column as text and fill it again";
            return (to > from).then_some((found, to - from, why));
        }
        let ids = self.by_plain.get(&plain(meter)).filter(|_| !plain(meter).is_empty())?;
        let found = ids.iter().take(NAMED).map(String::as_str).collect();
        Some((found, ids.len(), "an id is compared to the letter: its zeros in front, its case and its spaces count"))
    }
}

/// An id without what gets lost or changed on the way: case, spaces, zeros in front.
fn plain(id: &str) -> String {
    let text: String = id.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect();
    text.trim_start_matches('0').to_owned()
}

fn number(digits: &str) -> Option<u128> {
    let fits = !digits.is_empty() && digits.len() <= MOST_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| digits.parse().ok()).flatten()
}

/// The least and the greatest whole number that a spreadsheet shows as this: `4.6E+10` is 45,500,000,000 to 46,500,000,000.
fn shortened(text: &str) -> Option<(u128, u128)> {
    let (mantissa, exponent) = text.trim().split_once(['E', 'e'])?;
    let exponent: usize = exponent.strip_prefix('+').unwrap_or(exponent).parse().ok()?;
    let (whole, decimals) = mantissa.split_once(['.', ',']).unwrap_or((mantissa, ""));
    let digits = number(&format!("{whole}{decimals}"))?;
    let zeros =
        exponent.checked_sub(decimals.len()).filter(|zeros| zeros + whole.len() + decimals.len() <= MOST_DIGITS)?;
    let unit = 10_u128.checked_pow(u32::try_from(zeros).ok()?)?;
    let value = digits.checked_mul(unit)?;
    Some((value.saturating_sub(unit / 2), value.saturating_add(unit / 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing() -> Routing {
        let meters = [
            (0, "00104000123"),
            (0, "AB 12"),
            (1, "46012345678"),
            (1, "46098765432"),
            (0, "both"),
            (1, "both"),
            (1, "x"),
        ];
        let meters = meters.map(|(project, meter)| (project, meter.to_owned()));
        Routing::of(vec!["hill".to_owned(), "lake".to_owned()], meters)
    }

    #[test]
    fn a_meter_goes_to_the_project_in_which_it_is_connected_and_to_no_other() {
        let routing = routing();
        assert_eq!((routing.check("00104000123"), routing.check("x")), (Ok(0), Ok(1)));
        assert_eq!(
            (routing.project_of("x"), routing.project_of("both"), routing.project_of("y")),
            (Some(1), None, None)
        );
        let ambiguous = routing.check("both").unwrap_err();
        assert_eq!(ambiguous.code, "ambiguous_meter");
        assert!(ambiguous.message.contains("in hill and in lake"), "{}", ambiguous.message);
    }

    #[test]
    fn near_misses_are_told_and_nothing_else_is() {
        let routing = routing();
        for (meter, meant) in [
            ("104000123", "did you mean 00104000123 of hill?"),
            ("000104000123", "did you mean 00104000123 of hill?"),
            (" 00104000123 ", "did you mean 00104000123 of hill?"),
            ("ab12", "did you mean AB 12 of hill?"),
            ("4.6E+10", "did you mean 46012345678 of lake, or 46098765432 of lake?"),
            ("4,6099e10", "did you mean 46098765432 of lake?"),
            ("1.04E+8", "did you mean 00104000123 of hill?"),
        ] {
            let fault = routing.check(meter).unwrap_err();
            assert!(fault.message.contains(meant), "{meter}: {}", fault.message);
        }
        for meter in ["y", "0", "4.7E+10", "4.6E+99", "12E", "", "00"] {
            let fault = routing.check(meter).unwrap_err();
            assert_eq!(fault.code, "unmatched_meter");
            assert!(!fault.message.contains("did you mean"), "{meter}: {}", fault.message);
        }
        let many = (0..9).map(|n| (0, format!("46{n}")));
        let many = Routing::of(vec!["hill".to_owned()], many);
        assert!(
            many.check("4.6E+2")
                .unwrap_err()
                .message
                .contains("460 of hill, or 461 of hill, or 462 of hill, or one of 3 more")
        );
    }
}
