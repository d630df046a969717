//! What the payments of a project's meters come to: one pass over its rows, on some threads.
//!
//! Rows of a file are sorted by meter, and text comes as numbers of a dictionary, so a row costs a comparison or two; a meter is
//! looked up once in each file.

use std::{
    collections::{BTreeSet, HashMap},
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
    columns::{COLUMNS, Columns, Part, When, part, text},
    judge::Inputs,
    progress::Progress,
    refunds::{Counted, Refund, give_back},
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
    as_of: i64,
    /// Rows from then on are not looked at.
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
    /// Whether something was given back, perhaps of a payment that counts.
    below_zero: bool,
}

impl Tally {
    fn note_upload(&mut self, upload: u32) {
        if self.uploads.last() != Some(&upload) && !self.uploads.contains(&upload) {
            self.uploads.push(upload);
        }
    }

    fn note_counted(&mut self, at: i64, month: usize) {
        self.counted += 1;
        self.months |= 1 << month.min(127);
        self.last = if self.first.is_some() { self.last.max(at) } else { at };
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
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
        self.below_zero |= other.below_zero;
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
        let (as_of, until) = (as_of.timestamp_micros(), until.timestamp_micros());
        Self { rule, as_of, until, slots, windows, bounds, months }
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
                    tally.payments += u64::from(at < self.as_of);
                    self.count(tally, slot, &columns, row);
                }
                None if !known_unmatched && at < self.as_of => {
                    known_unmatched = true;
                    note_unmatched(&mut tallies.unmatched, columns.meter_of(key));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn count(&self, tally: &mut Tally, slot: usize, columns: &Columns<'_>, row: usize) {
        let Some(part) = self.part(slot, columns, row) else { return };
        let (at, amount) = (columns.paid_at[row], columns.amounts[row]);
        tally.below_zero |= matches!(part, Part::GivenBack(_));
        match part {
            Part::Counts => {
                tally.amount += amount;
                let first_month = self.bounds[slot].map_or(0, |(.., first_month)| first_month);
                tally.note_counted(at, self.month_of(at, first_month));
            }
            Part::GivenBack(When::Inside) => tally.refunded -= amount,
            Part::GivenBack(When::InsideReversed) | Part::Reversed => tally.reversed += 1,
            // It has to name what it gives back: see below.
            Part::GivenBack(When::After) => return,
        }
        tally.note_upload(columns.uploads[columns.upload_keys[row].cast_unsigned() as usize]);
    }

    fn month_of(&self, at: i64, first_month: usize) -> usize {
        self.months.as_ref().map_or(0, |months| months.month_of(at)) - first_month
    }

    /// Takes off what was given back by rows that name it, and what of it is given back in full does not count. Such rows are rare, so
    /// these columns, which are random text, are read of their meters alone.
    fn take_named_refunds(
        &self,
        files: &[FileRows],
        uploads: &HashMap<&str, u32>,
        all: &mut Tallies,
        progress: &Progress,
    ) -> Result<(), VerificationError> {
        let mut named: HashMap<usize, Named> = HashMap::new();
        let below_zero = all.by_slot.iter().enumerate().filter(|(_, tally)| tally.below_zero);
        named.extend(below_zero.map(|(slot, _)| (slot, Named::default())));
        if named.is_empty() {
            return Ok(());
        }
        for file in files {
            progress.check()?;
            let slot_of = |meter: &str| self.slots.get(meter).copied().filter(|slot| named.contains_key(slot));
            let rows = file.rows_of_meters(|meter| slot_of(meter).is_some())?;
            if rows.count() == 0 {
                continue;
            }
            for batch in file.read_some(&[&COLUMNS[..], &["payment_id", "reference_id"]].concat(), Some(&rows))? {
                let batch = batch?;
                let columns = Columns::of(&batch, self.rule, uploads)?;
                let (ids, references) = (text(&batch, "payment_id")?, text(&batch, "reference_id")?);
                for row in 0..batch.num_rows() {
                    let slot = self.slots.get(columns.meter_of(columns.meters[row]));
                    let Some((slot, named)) = slot.and_then(|slot| Some((*slot, named.get_mut(slot)?))) else {
                        continue;
                    };
                    let Some(part) = self.part(slot, &columns, row) else { continue };
                    let (at, id) = (columns.paid_at[row], ids.value(row).to_owned());
                    let reference = references.is_valid(row).then(|| references.value(row).to_owned());
                    let amount = columns.amounts[row];
                    match part {
                        Part::Counts => named.counted.push(Counted { at, id, reference, left: amount }),
                        Part::GivenBack(when) => {
                            let upload = columns.uploads[columns.upload_keys[row].cast_unsigned() as usize];
                            if let Some(reference) = reference {
                                named.refunds.push(Refund { at, id, reference, amount: -amount });
                                named.when.push((when, upload));
                            }
                        }
                        Part::Reversed => {}
                    }
                }
            }
        }
        for (slot, named) in named {
            self.give_back(&mut all.by_slot[slot], slot, named);
        }
        Ok(())
    }

    fn give_back(&self, tally: &mut Tally, slot: usize, Named { mut counted, refunds, when }: Named) {
        let is_named = give_back(&mut counted, &refunds);
        for ((refund, (when, upload)), _) in refunds.iter().zip(when).zip(is_named).filter(|(_, is_named)| *is_named) {
            // One that was taken off already is only known by now to give back a certain payment.
            if when != When::Inside {
                tally.refunded += refund.amount;
                tally.note_upload(upload);
            }
            tally.reversed -= u64::from(when == When::InsideReversed);
        }
        let first_month = self.bounds[slot].map_or(0, |(.., first_month)| first_month);
        (tally.counted, tally.months, tally.first) = (0, 0, None);
        for payment in counted.iter().filter(|payment| payment.left > 0) {
            tally.note_counted(payment.at, self.month_of(payment.at, first_month));
        }
    }

    /// What a row is to its connection; none where it is nothing.
    fn part(&self, slot: usize, columns: &Columns<'_>, row: usize) -> Option<Part> {
        let (at, amount) = (columns.paid_at[row], columns.amounts[row]);
        let kind = columns.kinds[columns.settlements[row].cast_unsigned() as usize];
        let (from, to, _) = self.bounds[slot]?;
        part(kind, amount, at >= from && at < self.until, at < to)
    }
}

/// Of one meter, what names and what can be named.
#[derive(Default)]
struct Named {
    counted: Vec<Counted>,
    refunds: Vec<Refund>,
    /// Of each refund, when it was, and the upload that it came with.
    when: Vec<(When, u32)>,
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
