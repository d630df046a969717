//! What the payments of a project's meters come to: one pass over its rows, on some threads.
//!
//! Rows of a file are sorted by meter, and text comes as numbers of a dictionary, so a row costs a comparison or two; a meter is
//! looked up once in each file.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow::array::{Array, RecordBatch};
use chrono::DateTime;
use chrono_tz::Tz;

use super::{
    VerificationError,
    columns::{COLUMNS, Columns, Kind, text},
    judge::Inputs,
    progress::Progress,
};
use crate::{
    ids::UploadId,
    lake::FileRows,
    programmes::{Instants, MonthStarts, Paid, Rule, Subject},
};

/// Meters without a connection that are kept, to tell which were likely meant: the first of them in the order of their ids.
const UNMATCHED: usize = 100_000;

/// The connections of a project, and the rule that they are judged by.
pub(super) struct Case<'a> {
    rule: &'a Rule,
    /// Payments from then on are not looked at.
    until: i64,
    slots: HashMap<&'a str, usize>,
    windows: Vec<Option<Instants>>,
    /// The same in microseconds, each with the number of its first month.
    bounds: Vec<Option<(i64, i64, usize)>>,
    months: Option<MonthStarts>,
}

/// What a project's payments say.
pub(super) struct Found {
    /// Of each connection, in the order in which they were given.
    pub(super) paid: Vec<Paid>,
    /// Meters that have payments and no connection among them.
    pub(super) unmatched: BTreeSet<String>,
}

/// What one meter's payments come to, while they are read.
#[derive(Clone, Default)]
struct Tally {
    payments: u64,
    counted: u64,
    /// A bit for each month from that on in which the window begins: windows have 122 of them at most.
    months: u128,
    amount: i128,
    refunded: i128,
    reversed: u64,
    first: Option<i64>,
    last: i64,
    /// Numbers of uploads; a few.
    uploads: Vec<u32>,
    /// Whether something was given back by a row that counts for this connection only if it names a payment that counts.
    named_refunds: bool,
}

impl Tally {
    fn note_upload(&mut self, upload: u32) {
        if self.uploads.last() != Some(&upload) && !self.uploads.contains(&upload) {
            self.uploads.push(upload);
        }
    }

    fn add(&mut self, other: &Self) {
        self.payments += other.payments;
        self.counted += other.counted;
        self.months |= other.months;
        self.amount += other.amount;
        self.refunded += other.refunded;
        self.reversed += other.reversed;
        if let Some(first) = other.first {
            self.last = if self.first.is_some() { self.last.max(other.last) } else { other.last };
            self.first = Some(self.first.map_or(first, |known| known.min(first)));
        }
        other.uploads.iter().for_each(|upload| self.note_upload(*upload));
        self.named_refunds |= other.named_refunds;
    }
}

/// What one thread has read.
struct Tallies {
    by_slot: Vec<Tally>,
    unmatched: BTreeSet<String>,
}

impl<'a> Case<'a> {
    pub(super) fn new(inputs: &'a Inputs, zone: Tz, subjects: &[&'a Subject]) -> Self {
        let Inputs { rule, as_of, until, .. } = inputs;
        let windows: Vec<_> = subjects.iter().map(|subject| rule.window(subject.connected_on, *as_of, zone)).collect();
        let begun = || windows.iter().flatten().filter(|window| window.from < window.to);
        let first = begun().map(|window| window.from).min();
        let months = first.zip(begun().map(|window| window.to).max());
        let months = months.map(|(from, to)| MonthStarts::over(Instants { from, to }, zone));
        let bound = |window: &Option<Instants>| {
            let (from, to) = window.map(|window| (window.from.timestamp_micros(), window.to.timestamp_micros()))?;
            Some((from, to, months.as_ref().map_or(0, |months| months.month_of(from))))
        };
        let bounds = windows.iter().map(bound).collect();
        let slots =
            subjects.iter().enumerate().map(|(slot, subject)| (subject.name.external_id.as_str(), slot)).collect();
        Self { rule, until: until.timestamp_micros(), slots, windows, bounds, months }
    }

    /// The instants in which the payments of a connection count.
    pub(super) fn window(&self, slot: usize) -> Option<Instants> {
        self.windows[slot]
    }

    /// Reads `files` on as many threads as there are. Blocks.
    pub(super) fn read(
        &self,
        files: &[FileRows],
        uploads: &[UploadId],
        progress: &Progress,
    ) -> Result<Found, VerificationError> {
        let numbers: HashMap<&str, u32> = uploads.iter().map(UploadId::as_str).zip(0..).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from).clamp(1, files.len().max(1));
        // The longest first, so that no thread is left alone with one at the end.
        let mut order: Vec<&FileRows> = files.iter().collect();
        order.sort_by_key(|file| std::cmp::Reverse(file.rows()));
        let next = AtomicUsize::new(0);
        let all = Mutex::new(Ok(self.no_tallies()));
        let work = || {
            let mut own = self.no_tallies();
            let read = loop {
                let Some(file) = order.get(next.fetch_add(1, Ordering::Relaxed)) else { break Ok(()) };
                if let Err(error) = self.read_file(file, &numbers, &mut own, progress) {
                    break Err(error);
                }
                progress.step(file.rows());
            };
            let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
            match (read, all.as_mut()) {
                (Ok(()), Ok(all)) => all.add(own),
                (Err(error), Ok(_)) => *all = Err(error),
                (_, Err(_)) => {}
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
        let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner)?;
        self.take_named_refunds(files, &numbers, &mut all, progress)?;
        let paid = all.by_slot.iter().map(|tally| paid(tally, uploads)).collect();
        Ok(Found { paid, unmatched: all.unmatched })
    }

    fn no_tallies(&self) -> Tallies {
        Tallies { by_slot: vec![Tally::default(); self.windows.len()], unmatched: BTreeSet::new() }
    }

    fn read_file(
        &self,
        file: &FileRows,
        uploads: &HashMap<&str, u32>,
        tallies: &mut Tallies,
        progress: &Progress,
    ) -> Result<(), VerificationError> {
        for batch in file.read(&COLUMNS)? {
            progress.check()?;
            self.take(&batch?, uploads, tallies)?;
        }
        Ok(())
    }

    fn take(
        &self,
        batch: &RecordBatch,
        uploads: &HashMap<&str, u32>,
        tallies: &mut Tallies,
    ) -> Result<(), VerificationError> {
        let columns = Columns::of(batch, self.rule, uploads)?;
        let mut of_meter: Option<(i32, Option<usize>)> = None;
        let mut known_unmatched = false;
        for row in 0..batch.num_rows() {
            let at = columns.paid_at[row];
            if at >= self.until {
                continue;
            }
            let key = columns.meters[row];
            let slot = match of_meter {
                Some((before, slot)) if before == key => slot,
                _ => {
                    known_unmatched = false;
                    self.slots.get(columns.meter_of(key)).copied()
                }
            };
            of_meter = Some((key, slot));
            match slot {
                Some(slot) => {
                    let tally = &mut tallies.by_slot[slot];
                    tally.payments += 1;
                    if let Some(bounds) = self.bounds[slot] {
                        self.count(tally, bounds, &columns, row);
                    }
                }
                None if !known_unmatched => {
                    known_unmatched = true;
                    note_unmatched(&mut tallies.unmatched, columns.meter_of(key));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn count(&self, tally: &mut Tally, (from, to, first_month): (i64, i64, usize), columns: &Columns<'_>, row: usize) {
        let (at, amount) = (columns.paid_at[row], columns.amounts[row]);
        let kind = columns.kinds[columns.settlements[row].cast_unsigned() as usize];
        if at < from {
            return;
        }
        tally.named_refunds |= amount < 0 && is_named_refund(kind, at >= to);
        if at >= to {
            return;
        }
        match kind {
            Kind::Counts if amount > 0 => {
                tally.counted += 1;
                tally.amount += amount;
                let month = self.months.as_ref().map_or(0, |months| months.month_of(at)) - first_month;
                tally.months |= 1 << month.min(127);
                tally.last = if tally.first.is_some() { tally.last.max(at) } else { at };
                tally.first = Some(tally.first.map_or(at, |first| first.min(at)));
            }
            Kind::Counts if amount < 0 => tally.refunded -= amount,
            // Of one below zero that names what it reverses, that is taken off below.
            Kind::Reversed => tally.reversed += 1,
            Kind::Counts | Kind::Neither => return,
        }
        tally.note_upload(columns.uploads[columns.upload_keys[row].cast_unsigned() as usize]);
    }

    /// Takes off what was given back by rows that name it: those whose `REFERENCE_ID` is the ID or the `REFERENCE_ID` of a payment that
    /// counts. They are rare, so these columns, which are random text, are read of such meters alone.
    fn take_named_refunds(
        &self,
        files: &[FileRows],
        uploads: &HashMap<&str, u32>,
        all: &mut Tallies,
        progress: &Progress,
    ) -> Result<(), VerificationError> {
        let concerned = |meter: &str| self.slots.get(meter).copied().filter(|slot| all.by_slot[*slot].named_refunds);
        if !all.by_slot.iter().any(|tally| tally.named_refunds) {
            return Ok(());
        }
        let mut names: HashSet<(usize, String)> = HashSet::new();
        let mut refunds: Vec<(usize, String, Refund)> = Vec::new();
        for file in files {
            progress.check()?;
            let rows = file.rows_of_meters(|meter| concerned(meter).is_some())?;
            if rows.count() == 0 {
                continue;
            }
            for batch in file.read_some(&[&COLUMNS[..], &["payment_id", "reference_id"]].concat(), Some(&rows))? {
                let batch = batch?;
                let columns = Columns::of(&batch, self.rule, uploads)?;
                let (ids, references) = (text(&batch, "payment_id")?, text(&batch, "reference_id")?);
                for row in 0..batch.num_rows() {
                    let (at, amount) = (columns.paid_at[row], columns.amounts[row]);
                    let kind = columns.kinds[columns.settlements[row].cast_unsigned() as usize];
                    let Some(slot) = concerned(columns.meter_of(columns.meters[row])) else { continue };
                    let Some((from, to, _)) = self.bounds[slot].filter(|_| at < self.until) else { continue };
                    let reference = references.is_valid(row).then(|| references.value(row).to_owned());
                    let inside = (from..to).contains(&at);
                    if inside && amount > 0 && kind == Kind::Counts {
                        names.insert((slot, ids.value(row).to_owned()));
                        names.extend(reference.map(|reference| (slot, reference)));
                    } else if at >= from && amount < 0 && is_named_refund(kind, !inside) {
                        let upload = columns.uploads[columns.upload_keys[row].cast_unsigned() as usize];
                        let refund = Refund { amount: -amount, upload, was_reversed: inside };
                        refunds.extend(reference.map(|reference| (slot, reference, refund)));
                    }
                }
            }
        }
        for (slot, reference, Refund { amount, upload, was_reversed }) in refunds {
            if names.contains(&(slot, reference)) {
                let tally = &mut all.by_slot[slot];
                tally.refunded += amount;
                tally.reversed -= u64::from(was_reversed);
                tally.note_upload(upload);
            }
        }
        Ok(())
    }
}

/// What was given back of a payment that it names.
struct Refund {
    amount: i128,
    upload: u32,
    /// Whether it was taken for a payment in the window that was reversed, before it was known what it names.
    was_reversed: bool,
}

/// Whether a row below zero has to name a payment that counts: one that settles what was paid before the window ended, and one whose
/// STATUS says itself that it is a reversal.
fn is_named_refund(kind: Kind, after_window: bool) -> bool {
    match kind {
        Kind::Counts => after_window,
        Kind::Reversed => true,
        Kind::Neither => false,
    }
}

impl Tallies {
    fn add(&mut self, other: Self) {
        for (own, other) in self.by_slot.iter_mut().zip(&other.by_slot) {
            own.add(other);
        }
        for meter in other.unmatched {
            note_unmatched(&mut self.unmatched, &meter);
        }
    }
}

fn note_unmatched(unmatched: &mut BTreeSet<String>, meter: &str) {
    if !unmatched.contains(meter) {
        unmatched.insert(meter.to_owned());
        // Always the same ones, whatever the order in which they come.
        if unmatched.len() > UNMATCHED {
            unmatched.pop_last();
        }
    }
}

fn paid(tally: &Tally, uploads: &[UploadId]) -> Paid {
    let at = |micros: i64| DateTime::from_timestamp_micros(micros);
    let mut of: Vec<UploadId> =
        tally.uploads.iter().filter_map(|number| uploads.get(*number as usize).cloned()).collect();
    of.sort();
    Paid {
        payments: tally.payments,
        counted: tally.counted,
        months: tally.months.count_ones(),
        amount: tally.amount,
        refunded: tally.refunded,
        reversed: tally.reversed,
        first_at: tally.first.and_then(at),
        last_at: tally.first.and_then(|_| at(tally.last)),
        uploads: of,
    }
}
