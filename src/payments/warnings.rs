//! Warnings, counted: a word that a million rows repeat is one line of the report.

use std::collections::BTreeMap;

use super::{
    file_definition::FileDefinition,
    report::{Warning, clip, code},
};

/// Distinct values that are told apart, per code and column; the rest share one warning without a value.
const DISTINCT_VALUES: usize = 20;

/// What the owner of a file should look at, although it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Concern {
    UnknownStatus,
    UnknownSource,
    SourceIgnored,
    PaddedValue,
    FormulaText,
}

impl Concern {
    fn code(self) -> &'static str {
        match self {
            Self::UnknownStatus => code::UNKNOWN_STATUS,
            Self::UnknownSource => code::UNKNOWN_SOURCE,
            Self::SourceIgnored => code::SOURCE_IGNORED,
            Self::PaddedValue => code::PADDED_VALUE,
            Self::FormulaText => code::FORMULA_TEXT,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::UnknownStatus => {
                "this STATUS is not a known word: the payments are kept with settlement unknown and are not counted as revenue"
            }
            Self::UnknownSource => {
                "this payment source is not a known spelling: the payments are kept under the source other"
            }
            Self::SourceIgnored => {
                "PAYMENT_SOURCE and Source differ: PAYMENT_SOURCE is kept and this Source is left out"
            }
            Self::PaddedValue => {
                "there is a space before or after the value; it is kept, so it does not match the same value without it"
            }
            Self::FormulaText => {
                "a spreadsheet would run this text as a formula; it is kept as it is: take care when you open an export"
            }
        }
    }
}

#[derive(Debug)]
pub(crate) struct Warnings {
    file: &'static FileDefinition,
    /// By what they are about, and the place of the column in the definition.
    groups: BTreeMap<(Concern, usize), Vec<Warning>>,
}

impl Warnings {
    /// None yet about a file of that kind.
    pub(crate) fn of(file: &'static FileDefinition) -> Self {
        Self { file, groups: BTreeMap::new() }
    }

    /// Counts one row.
    pub(crate) fn count(&mut self, concern: Concern, column: usize, value: &str, line: u64) {
        let group = self.groups.entry((concern, column)).or_default();
        let value = clip(value);
        // The warning for the rest, once there is one, is behind the twenty.
        let known = group.iter().position(|warning| warning.value.as_deref().is_none_or(|seen| seen == value));
        if let Some(index) = known {
            group[index].count += 1;
            return;
        }
        let value = (group.len() < DISTINCT_VALUES).then(|| value.to_owned());
        group.push(Warning {
            code: concern.code().to_owned(),
            column: Some(self.file.columns[column].name.to_owned()),
            value,
            count: 1,
            line,
            message: concern.message().to_owned(),
        });
    }

    /// All warnings, by what they are about, then by column, then by their first row.
    pub(crate) fn into_list(self) -> Vec<Warning> {
        self.groups.into_values().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payments::definition::{Column, PAYMENTS};

    #[test]
    fn every_row_is_counted_and_twenty_values_are_named() {
        let mut warnings = Warnings::of(&PAYMENTS);
        for line in 0..100 {
            warnings.count(Concern::UnknownStatus, Column::Status.index(), &format!("WORD{}", line % 50), line);
        }
        let list = warnings.into_list();
        assert_eq!(list.len(), 21);
        assert_eq!(list.iter().map(|warning| warning.count).sum::<u64>(), 100);
        assert_eq!((list[3].value.as_deref(), list[3].count, list[3].line), (Some("WORD3"), 2, 3));
        assert_eq!((list[20].value.as_deref(), list[20].count, list[20].line), (None, 60, 20));
    }
}
