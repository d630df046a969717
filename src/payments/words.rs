//! The words of `STATUS` and `PAYMENT_SOURCE`, and what they stand for. The lists are files in `data/`, so that a word of
//! another payment provider or language is one line and no code.

use std::{collections::HashMap, sync::LazyLock};

/// What a payment's STATUS says has become of the money. Only `Settled` is revenue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    Settled,
    Pending,
    Failed,
    Reversed,
    /// The word is not in `data/status_words.csv`.
    Unknown,
}

impl Settlement {
    pub const ALL: [Self; 5] = [Self::Settled, Self::Pending, Self::Failed, Self::Reversed, Self::Unknown];

    /// As the lake has it, in `settlement`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Reversed => "reversed",
            Self::Unknown => "unknown",
        }
    }
}

/// The source of a payment that names none.
pub const UNKNOWN_SOURCE: &str = "unknown";
/// The source of a payment whose spelling is not in `data/payment_sources.csv`.
pub const OTHER_SOURCE: &str = "other";

static STATUS_WORDS: LazyLock<HashMap<String, Settlement>> = LazyLock::new(|| {
    let settlement = |name: &str| Settlement::ALL.into_iter().find(|settlement| settlement.as_str() == name);
    pairs(include_str!("../../data/status_words.csv"))
        .filter_map(|(word, name)| Some((key(word), settlement(name)?)))
        .collect()
});

static SOURCES: LazyLock<HashMap<String, &'static str>> = LazyLock::new(|| {
    pairs(include_str!("../../data/payment_sources.csv")).map(|(spelling, source)| (key(spelling), source)).collect()
});

/// What a STATUS stands for. Any case; blank is settled, because the column is optional.
#[must_use]
pub fn settlement(status: &str) -> Settlement {
    if status.trim().is_empty() {
        return Settlement::Settled;
    }
    STATUS_WORDS.get(&key(status)).copied().unwrap_or(Settlement::Unknown)
}

/// The one name of a payment source, such as `mtn_momo` for `MTN MoMo`; [`UNKNOWN_SOURCE`] for blank, and none for a
/// spelling that is not listed, which is kept as [`OTHER_SOURCE`].
#[must_use]
pub fn source(spelling: &str) -> Option<&'static str> {
    if spelling.trim().is_empty() {
        return Some(UNKNOWN_SOURCE);
    }
    SOURCES.get(&key(spelling)).copied()
}

/// The form in which spellings are compared: upper case, letters and digits only. `M-Pesa` and `mpesa` are the same.
fn key(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).collect()
}

/// The two columns of a list, without its header, blank lines and `#` comments.
fn pairs(csv: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = csv.lines().filter(|line| !line.starts_with('#')).skip(1);
    lines.filter_map(|line| line.split_once(',')).map(|(word, name)| (word.trim(), name.trim()))
}

/// Remembers the answers for the spellings that a file repeats, by their bytes, so that a row costs a comparison or two.
#[derive(Debug)]
pub(super) struct Remembered<T> {
    answer: fn(&str) -> T,
    seen: Vec<(Box<str>, T)>,
}

impl<T: Copy> Remembered<T> {
    /// A file has a handful of spellings; what is beyond this many is looked up each time.
    const CAPACITY: usize = 24;

    pub(super) fn new(answer: fn(&str) -> T) -> Self {
        Self { answer, seen: Vec::new() }
    }

    pub(super) fn get(&mut self, text: &str) -> T {
        if let Some((_, known)) = self.seen.iter().find(|(seen, _)| **seen == *text) {
            return *known;
        }
        let answer = (self.answer)(text);
        if self.seen.len() < Self::CAPACITY {
            self.seen.push((text.into(), answer));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_words_of_any_case_and_language_are_known() {
        for (word, expected) in [
            ("", Settlement::Settled),
            ("  ", Settlement::Settled),
            ("SUCCESS", Settlement::Settled),
            (" Completed ", Settlement::Settled),
            ("Réussi", Settlement::Settled),
            ("imefanikiwa", Settlement::Settled),
            ("in progress", Settlement::Pending),
            ("EN_ATTENTE", Settlement::Pending),
            ("Falhou", Settlement::Failed),
            ("échoué", Settlement::Failed),
            ("reversed", Settlement::Reversed),
            ("Remboursé", Settlement::Reversed),
            ("MAYBE", Settlement::Unknown),
            ("?", Settlement::Unknown),
        ] {
            assert_eq!(settlement(word), expected, "{word}");
        }
    }

    #[test]
    fn spellings_of_one_source_get_one_name() {
        for (spelling, expected) in [
            ("M-PESA", "mpesa"),
            ("Mpesa", "mpesa"),
            ("MTN MOMO", "mtn_momo"),
            ("mtn_mobile_money", "mtn_momo"),
            ("AIRTEL MONEY", "airtel_money"),
            ("Orange Money", "orange_money"),
            ("TigoPesa", "tigo_pesa"),
            ("CASH", "cash"),
            ("AGENT", "agent"),
            ("BANK TRANSFER", "bank_transfer"),
            ("CARD", "card"),
            ("VOUCHER", "voucher"),
            ("", "unknown"),
            (" ", "unknown"),
            ("Other", "other"),
        ] {
            assert_eq!(source(spelling), Some(expected), "{spelling}");
        }
        assert_eq!((source("barter"), source("--")), (None, None));
    }

    #[test]
    fn no_line_of_the_lists_is_lost_or_contradicts_another() {
        for csv in [include_str!("../../data/status_words.csv"), include_str!("../../data/payment_sources.csv")] {
            let mut seen = HashMap::new();
            for line in csv.lines().filter(|line| !line.starts_with('#')).skip(1) {
                let (word, name) = line.split_once(',').unwrap();
                assert!(!key(word).is_empty() && !name.contains(','), "{line}");
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{line}");
                assert_eq!(*seen.entry(key(word)).or_insert(name), name, "{line}");
            }
            assert!(seen.len() > 40);
        }
        assert!(
            pairs(include_str!("../../data/status_words.csv")).all(|(word, _)| settlement(word) != Settlement::Unknown)
        );
    }

    #[test]
    fn what_is_remembered_is_what_would_be_looked_up() {
        let mut remembered = Remembered::new(source);
        for round in 0..3 {
            for n in 0..100 {
                assert_eq!(remembered.get(&format!("voucher{}", "-".repeat(n))), Some("voucher"), "{round}");
            }
        }
        assert!(remembered.seen.len() <= Remembered::<Option<&str>>::CAPACITY);
    }
}
