//! Which meter was likely meant by an id that is not quite its: without its zeros in front, in another case, with spaces, or as a
//! spreadsheet shortens a long number. (domain: Real-world defects)

use std::collections::{BTreeSet, HashMap};

/// Ids that are named at most.
const NAMED: usize = 3;

/// Digits of a number that a spreadsheet may have shortened, at most: those that 128 bits hold.
const MOST_DIGITS: usize = 38;

/// Ids of meters, by what is left of them where a person or a spreadsheet changed them.
#[derive(Debug)]
pub struct NearMeters {
    /// By the id without case, spaces and leading zeros.
    by_plain: HashMap<String, Vec<String>>,
    /// Ids that are numbers, by their values.
    numbers: Vec<(u128, String)>,
}

impl NearMeters {
    #[must_use]
    pub fn of<'a>(ids: impl Iterator<Item = &'a String>) -> Self {
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
    #[must_use]
    pub fn find(&self, meter: &str) -> Option<(Vec<&str>, usize, &'static str)> {
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
