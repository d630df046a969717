//! The columns of a batch of payments that connections are judged by.

use std::collections::HashMap;

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray},
    datatypes::{Decimal128Type, Int32Type, TimestampMicrosecondType},
};

use super::VerificationError;
use crate::{payments::words::Settlement, programmes::Rule};

/// The columns that every row is judged by.
pub(super) const COLUMNS: [&str; 5] = ["meter_id", "paid_at", "amount", "settlement", "upload_id"];

/// What a settlement is to a rule.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counts,
    Reversed,
    Neither,
}

impl Kind {
    pub(super) fn of(rule: &Rule, settlement: &str) -> Self {
        if rule.counts(settlement) {
            Self::Counts
        } else if settlement == Settlement::Reversed.as_str() {
            Self::Reversed
        } else {
            Self::Neither
        }
    }
}

/// What a row is to the connection that is its meter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// It counts, unless it is given back.
    Counts,
    /// It counts for nothing: its STATUS says that it was reversed.
    Reversed,
    /// It gives back.
    GivenBack(When),
}

/// When something was given back: how it is known of what.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// In the window: it is taken off what is paid there.
    Inside,
    /// The same with a STATUS that stands for a reversal: where it names nothing that counts, it is a payment that was reversed.
    InsideReversed,
    /// After the window: it is taken off if it names what counts.
    After,
}

/// What a row is, by what its settlement is to the rule; none where it is nothing. `is_seen`: from the beginning of the window on, and
/// looked at; `is_inside`: before its end.
pub(super) fn part(kind: Kind, amount: i128, is_seen: bool, is_inside: bool) -> Option<Part> {
    if !is_seen {
        return None;
    }
    match (kind, amount, is_inside) {
        (Kind::Counts, 1.., true) => Some(Part::Counts),
        (Kind::Counts, ..=-1, true) => Some(Part::GivenBack(When::Inside)),
        (Kind::Reversed, ..=-1, true) => Some(Part::GivenBack(When::InsideReversed)),
        (Kind::Reversed, _, true) => Some(Part::Reversed),
        (Kind::Counts | Kind::Reversed, ..=-1, false) => Some(Part::GivenBack(When::After)),
        _ => None,
    }
}

/// The columns of a batch as slices.
pub(super) struct Columns<'a> {
    pub(super) meters: &'a [i32],
    meter_names: &'a StringArray,
    pub(super) paid_at: &'a [i64],
    pub(super) amounts: &'a [i128],
    pub(super) settlements: &'a [i32],
    /// By the number of a settlement.
    pub(super) kinds: Vec<Kind>,
    pub(super) upload_keys: &'a [i32],
    /// By the number of an upload in the batch, its number in the run.
    pub(super) uploads: Vec<u32>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(
        batch: &'a RecordBatch,
        rule: &Rule,
        uploads: &HashMap<&str, u32>,
    ) -> Result<Self, VerificationError> {
        let (meters, meter_names) = coded(batch, "meter_id")?;
        let (settlements, words) = coded(batch, "settlement")?;
        let (upload_keys, ids) = coded(batch, "upload_id")?;
        let kind = |word: Option<&str>| word.map_or(Kind::Neither, |word| Kind::of(rule, word));
        let number = |id: Option<&str>| id.and_then(|id| uploads.get(id)).copied().unwrap_or(u32::MAX);
        Ok(Self {
            meters,
            meter_names,
            paid_at: column(batch, "paid_at")?
                .as_primitive_opt::<TimestampMicrosecondType>()
                .ok_or(VerificationError::Columns)?
                .values(),
            amounts: column(batch, "amount")?
                .as_primitive_opt::<Decimal128Type>()
                .ok_or(VerificationError::Columns)?
                .values(),
            settlements,
            kinds: words.iter().map(kind).collect(),
            upload_keys,
            uploads: ids.iter().map(number).collect(),
        })
    }

    pub(super) fn meter_of(&self, key: i32) -> &'a str {
        self.meter_names.value(key.cast_unsigned() as usize)
    }
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a dyn Array, VerificationError> {
    batch.column_by_name(name).map(AsRef::as_ref).ok_or(VerificationError::Columns)
}

fn coded<'a>(batch: &'a RecordBatch, name: &str) -> Result<(&'a [i32], &'a StringArray), VerificationError> {
    let column = column(batch, name)?.as_dictionary_opt::<Int32Type>().ok_or(VerificationError::Columns)?;
    let values = column.values().as_string_opt::<i32>().ok_or(VerificationError::Columns)?;
    Ok((column.keys().values(), values))
}

pub(super) fn text<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray, VerificationError> {
    column(batch, name)?.as_string_opt::<i32>().ok_or(VerificationError::Columns)
}
