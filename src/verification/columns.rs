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
        let kind = |word: Option<&str>| match word {
            Some(word) if rule.counts(word) => Kind::Counts,
            Some(word) if word == Settlement::Reversed.as_str() => Kind::Reversed,
            _ => Kind::Neither,
        };
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
