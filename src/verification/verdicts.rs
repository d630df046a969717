//! Verdicts as CSV: what is kept of a run, byte for byte, and what its SHA-256 and the signature of its report are of. It has all
//! that a replay needs besides payments.

use std::{fs, path::Path};

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use sha2::{Digest, Sha256};

use super::VerificationError;
use crate::{
    durable,
    programmes::{
        ConnectionName, Instants, Outcome, Paid, Subject, Verdict,
        verdict::{decimal, parse_decimal},
    },
};

/// The columns, in their order. They never change; a new one goes to the end.
pub const COLUMNS: [&str; 26] = [
    "project",
    "external_id",
    "outcome",
    "detail",
    "payments",
    "months",
    "currency",
    "amount",
    "refunded",
    "first_paid_at",
    "last_paid_at",
    "reversed_payments",
    "payments_of_meter",
    "window_from",
    "window_to",
    "duplicate_of_project",
    "duplicate_of_external_id",
    "near_misses",
    "uploads",
    "serial_number",
    "submitted_serial_number",
    "site",
    "category",
    "connected_on",
    "is_connected",
    "turn",
];

fn instant(at: Option<DateTime<Utc>>) -> String {
    at.map(|at| at.to_rfc3339_opts(SecondsFormat::AutoSi, true)).unwrap_or_default()
}

fn list<T: serde::Serialize>(items: &[T]) -> String {
    if items.is_empty() { String::new() } else { serde_json::to_string(items).unwrap_or_default() }
}

/// The values of a verdict, by [`COLUMNS`]. A blank one is none.
#[must_use]
pub fn values(verdict: &Verdict) -> [String; COLUMNS.len()] {
    let Verdict { subject, outcome, detail, window, currency, paid, duplicate_of, near_misses } = verdict;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let earlier = duplicate_of.as_ref();
    [
        subject.name.project.to_string(),
        subject.name.external_id.clone(),
        outcome.to_string(),
        detail.clone(),
        paid.counted.to_string(),
        paid.months.to_string(),
        currency.clone(),
        decimal(paid.amount),
        decimal(paid.refunded),
        instant(paid.first_at),
        instant(paid.last_at),
        paid.reversed.to_string(),
        paid.payments.to_string(),
        instant(window.map(|window| window.from)),
        instant(window.map(|window| window.to)),
        earlier.map(|earlier| earlier.project.to_string()).unwrap_or_default(),
        earlier.map(|earlier| earlier.external_id.clone()).unwrap_or_default(),
        list(near_misses),
        list(&paid.uploads),
        text(&subject.serial_number),
        text(&subject.submitted_serial_number),
        text(&subject.site),
        text(&subject.category),
        subject.connected_on.map(|day| day.to_string()).unwrap_or_default(),
        subject.is_there.to_string(),
        Some(subject.turn).filter(|turn| *turn > 0).map(|turn| turn.to_string()).unwrap_or_default(),
    ]
}

/// Verdicts as CSV, with a header.
pub fn to_csv<'a>(verdicts: impl IntoIterator<Item = &'a Verdict>) -> Result<Vec<u8>, VerificationError> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::Any(b'\n')).from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for verdict in verdicts {
        writer.write_record(values(verdict))?;
    }
    writer.into_inner().map_err(|error| VerificationError::io("writing verdicts")(error.into_error()))
}

/// Verdicts out of such CSV.
pub fn from_csv(bytes: &[u8]) -> Result<Vec<Verdict>, VerificationError> {
    some_from_csv(bytes, |_| true, usize::MAX)
}

/// Those of them that match, at most `limit`. Of the others hardly anything is read.
pub(super) fn some_from_csv(
    bytes: &[u8],
    matches: impl Fn(Glance<'_>) -> bool,
    limit: usize,
) -> Result<Vec<Verdict>, VerificationError> {
    let mut reader = csv::Reader::from_reader(bytes);
    let header = reader.headers()?;
    if header.len() < COLUMNS.len() || header.iter().zip(COLUMNS).any(|(name, column)| name != column) {
        return Err(VerificationError::Altered);
    }
    let (mut record, mut found) = (csv::StringRecord::new(), Vec::new());
    while found.len() < limit && reader.read_record(&mut record)? {
        let mut fields = record.iter();
        let mut next = || fields.next().ok_or(VerificationError::Altered);
        if matches(Glance { project: next()?, external_id: next()?, outcome: next()? }) {
            found.push(read_record(&record).ok_or(VerificationError::Altered)?);
        }
    }
    Ok(found)
}

/// What is seen of a verdict before it is read.
#[derive(Clone, Copy, Debug)]
pub struct Glance<'a> {
    pub project: &'a str,
    pub external_id: &'a str,
    pub outcome: &'a str,
}

fn read_record(record: &csv::StringRecord) -> Option<Verdict> {
    let mut fields = record.iter();
    let mut next = || fields.next();
    let optional = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let some_instant = |text: &str| -> Option<Option<DateTime<Utc>>> {
        if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
    };
    let name = ConnectionName { project: next()?.parse().ok()?, external_id: next()?.to_owned() };
    let (outcome, detail): (Outcome, _) = (next()?.parse().ok()?, next()?.to_owned());
    let (counted, months, currency) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.to_owned());
    let (sum, refunded) = (parse_decimal(next()?)?, parse_decimal(next()?)?);
    let (first_at, last_at) = (some_instant(next()?)?, some_instant(next()?)?);
    let (reversed, payments) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let (from, to) = (some_instant(next()?)?, some_instant(next()?)?);
    let (project, external_id) = (optional(next()?), next()?.to_owned());
    let duplicate_of = match project {
        Some(project) => Some(ConnectionName { project: project.parse().ok()?, external_id }),
        None => None,
    };
    let near_misses = match next()? {
        "" => Vec::new(),
        json => serde_json::from_str(json).ok()?,
    };
    let uploads = match next()? {
        "" => Vec::new(),
        json => serde_json::from_str(json).ok()?,
    };
    let serial_number = optional(next()?);
    let submitted_serial_number = optional(next()?);
    let (site, category) = (optional(next()?), optional(next()?));
    let connected_on = match next()? {
        "" => None,
        day => Some(day.parse::<NaiveDate>().ok()?),
    };
    let is_there = next()?.parse().ok()?;
    // It says which of two counts, and that is said already.
    let is_paid = false;
    let turn = match next()? {
        "" => 0,
        turn => turn.parse().ok()?,
    };
    let subject =
        Subject { name, turn, serial_number, submitted_serial_number, site, category, connected_on, is_there, is_paid };
    let paid = Paid { payments, counted, months, amount: sum, refunded, reversed, first_at, last_at, uploads };
    let window = from.zip(to).map(|(from, to)| Instants { from, to });
    Some(Verdict { subject, outcome, detail, window, currency, paid, duplicate_of, near_misses })
}

/// The SHA-256 of verdicts as CSV.
#[must_use]
pub fn fingerprint(csv: &[u8]) -> [u8; 32] {
    Sha256::digest(csv).into()
}

/// Keeps the verdicts of a run. On disk when this returns. Blocks.
pub(super) fn keep(path: &Path, csv: &[u8]) -> Result<(), VerificationError> {
    let folder = path.parent().unwrap_or(path);
    durable::create_dir_all(folder).map_err(VerificationError::io("making the folder of verdicts"))?;
    durable::write(path, [csv], true).map_err(VerificationError::io("keeping verdicts"))
}

/// The verdicts of a run as they were kept, compared with their SHA-256 in the catalogue. Blocks.
pub(super) fn kept(path: &Path, sha256: Option<&str>) -> Result<Vec<u8>, VerificationError> {
    let csv = fs::read(path).map_err(VerificationError::io("reading verdicts"))?;
    if sha256 != Some(hex::encode(fingerprint(&csv)).as_str()) {
        return Err(VerificationError::Altered);
    }
    Ok(csv)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::UploadId;

    fn verdict() -> impl Strategy<Value = Verdict> {
        let text = || prop::option::of("[^\0]{1,12}");
        let at = || {
            prop::option::of(
                (0_i64..4_000_000_000_000_000).prop_map(|micros| DateTime::from_timestamp_micros(micros).unwrap()),
            )
        };
        let subject = ("[^\0]{1,12}", 0_u64..9, text(), text(), text(), text(), any::<bool>()).prop_map(
            |(external_id, turn, serial_number, submitted_serial_number, site, category, is_there)| Subject {
                name: ConnectionName { project: "hill".parse().unwrap(), external_id },
                turn,
                serial_number,
                submitted_serial_number,
                site,
                category,
                connected_on: is_there.then(|| "2024-02-29".parse().unwrap()),
                is_there,
                is_paid: false,
            },
        );
        let paid = (0_u64..99, 0_u64..99, 0_u32..99, -9_999_999_i128..9_999_999, at(), at(), 0_usize..3).prop_map(
            |(payments, counted, months, amount, first_at, last_at, uploads)| Paid {
                payments,
                counted,
                months,
                amount,
                refunded: amount.abs() / 3,
                reversed: counted / 2,
                first_at,
                last_at,
                uploads: std::iter::repeat_with(UploadId::new).take(uploads).collect(),
            },
        );
        let near = prop::collection::vec("[^\0]{1,12}", 0..3);
        (subject, paid, prop::sample::select(Outcome::ALL.to_vec()), "[^\0]{0,30}", at(), near).prop_map(
            |(subject, paid, outcome, detail, at, near_misses)| Verdict {
                duplicate_of: (paid.payments > 50).then(|| subject.name.clone()),
                window: at.map(|at| Instants { from: at, to: at }),
                currency: "KES".to_owned(),
                subject,
                outcome,
                detail,
                paid,
                near_misses,
            },
        )
    }

    proptest! {
        #[test]
        fn verdicts_are_read_back_as_they_were_written_whatever_texts_they_hold(verdicts in prop::collection::vec(verdict(), 0..5)) {
            let csv = to_csv(&verdicts).unwrap();
            let read = from_csv(&csv).unwrap();
            prop_assert_eq!(&read, &verdicts);
            prop_assert_eq!(to_csv(&read).unwrap(), csv);
        }
    }

    #[test]
    fn verdicts_that_were_altered_are_not_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("verdicts/run.csv");
        let csv = to_csv([]).unwrap();
        keep(&path, &csv).unwrap();
        let sha256 = hex::encode(fingerprint(&csv));
        assert_eq!(kept(&path, Some(&sha256)).unwrap(), csv);
        fs::write(&path, [&csv[..], b"x"].concat()).unwrap();
        assert!(matches!(kept(&path, Some(&sha256)), Err(VerificationError::Altered)));
        assert!(matches!(from_csv(b"a,b\n"), Err(VerificationError::Altered)));
    }
}
