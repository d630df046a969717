//! Promises for any file: nothing is lost, and nothing depends on how the bytes arrive.

use proptest::prelude::*;

use super::*;
use crate::payments::{definition::COLUMNS, report::code};

/// Gives its bytes in pieces of the given lengths, over and over.
struct Pieces<'a> {
    bytes: &'a [u8],
    lengths: &'a [usize],
    turn: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.lengths[self.turn % self.lengths.len()].min(buffer.len()).min(self.bytes.len());
        self.turn += 1;
        buffer[..length].copy_from_slice(&self.bytes[..length]);
        self.bytes = &self.bytes[length..];
        Ok(length)
    }
}

fn good_file() -> Vec<u8> {
    let quoted = with("NOTES", "\"a, \"\"b\"\"\nc\"");
    let shop = with("CUSTOMER NAME", "\"Traders, Ltd.\"");
    let rows = [GOOD, &quoted, &shop, &with("NOTES", "règlement tardif"), &with("NOTES", "five\"inch"), "", GOOD];
    file(&rows).into_bytes()
}

/// One thing that goes wrong with a file.
#[derive(Clone, Debug)]
enum Mutation {
    Flip(prop::sample::Index, u8),
    Insert(prop::sample::Index, u8),
    Delete(prop::sample::Index),
    Cut(prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let byte = || prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), Just(b'\r'), Just(0_u8), any::<u8>()];
    let place = any::<prop::sample::Index>;
    prop_oneof![
        4 => (place(), byte()).prop_map(|(at, byte)| Mutation::Flip(at, byte)),
        4 => (place(), byte()).prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        2 => place().prop_map(Mutation::Delete),
        1 => place().prop_map(Mutation::Cut),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutations: &[Mutation]) {
    for mutation in mutations {
        let length = bytes.len();
        match mutation {
            _ if length == 0 => {}
            Mutation::Flip(at, byte) => bytes[at.index(length)] = *byte,
            Mutation::Insert(at, byte) => bytes.insert(at.index(length), *byte),
            Mutation::Delete(at) => {
                bytes.remove(at.index(length));
            }
            Mutation::Cut(at) => bytes.truncate(at.index(length)),
        }
    }
}

/// The records of a file that can be read to its end, counted in another way: a byte at a time.
fn count_records(bytes: &[u8]) -> u64 {
    let (mut records, mut at) = (0, 0);
    while at < bytes.len() {
        let (mut quoted, mut field_start, mut length) = (false, true, 0);
        while at < bytes.len() {
            let byte = bytes[at];
            if quoted {
                if byte == b'"' {
                    if bytes.get(at + 1) == Some(&b'"') {
                        at += 1;
                    } else {
                        quoted = false;
                    }
                }
            } else if byte == b'\n' || (byte == b'\r' && bytes.get(at + 1).is_none_or(|next| *next == b'\n')) {
                break;
            } else if byte == b'"' && field_start {
                quoted = true;
            }
            field_start = !quoted && byte == b',';
            length += 1;
            at += 1;
        }
        at += if bytes[at..].starts_with(b"\r\n") { 2 } else { 1 };
        records += u64::from(length > 0);
    }
    records
}

fn outcome(result: Result<Decoded, DecodeError>) -> Result<Decoded, Vec<RowError>> {
    result.map_err(|error| match error {
        DecodeError::File(errors) => errors,
        DecodeError::Io(error) => panic!("{error}"),
    })
}

proptest! {
    #[test]
    fn every_record_of_a_damaged_file_is_accepted_or_rejected(mutations in prop::collection::vec(mutation(), 1..6)) {
        let mut bytes = good_file();
        mutate(&mut bytes, &mutations);
        match outcome(decode_from(bytes.as_slice(), Limits::default())) {
            Ok(Decoded { summary, .. }) => {
                let blank = summary.warnings.iter().filter(|warning| warning.code == code::BLANK_ROW);
                prop_assert_eq!(summary.read + blank.map(|warning| warning.count).sum::<u64>(), count_records(&bytes) - 1);
            }
            Err(errors) => prop_assert!(!errors.is_empty()),
        }
    }

    #[test]
    fn places_of_rows_and_errors_are_the_files(mutations in prop::collection::vec(mutation(), 0..6)) {
        let mut bytes = good_file();
        let head = HEADER.len() + 1;
        let mut tail = bytes.split_off(head);
        mutate(&mut tail, &mutations);
        bytes.extend(tail);
        let Ok(decoded) = outcome(decode_from(bytes.as_slice(), Limits::default())) else { return Ok(()) };
        let accepted = decoded.lines.iter().copied().zip(decoded.bytes.iter().copied());
        let rejected = decoded.rejected.iter().map(|row| (row.line, row.byte));
        for (line, byte) in accepted.chain(rejected) {
            let before = &bytes[..usize::try_from(byte).unwrap()];
            prop_assert_eq!(memchr::memchr_iter(b'\n', before).count() as u64 + 1, line);
            prop_assert_eq!(before.last(), Some(&b'\n'));
        }
        for error in decoded.rejected.iter().flat_map(|row| &row.errors) {
            prop_assert!(usize::try_from(error.byte).unwrap() <= bytes.len());
        }
    }

    #[test]
    fn how_the_bytes_arrive_does_not_matter(
        mutations in prop::collection::vec(mutation(), 0..4),
        lengths in prop::collection::vec(1_usize..40, 1..5),
        row_bytes in 120_usize..400,
    ) {
        let mut bytes = good_file();
        mutate(&mut bytes, &mutations);
        let limits = Limits { row_bytes, ..Limits::default() };
        let pieces = Pieces { bytes: &bytes, lengths: &lengths, turn: 0 };
        prop_assert_eq!(outcome(decode_from(pieces, limits)), outcome(decode_from(bytes.as_slice(), limits)));
    }

    #[test]
    fn what_a_csv_writer_writes_reads_back(
        texts in prop::collection::vec(prop::collection::vec("[a-zé,\"\n\r' ]{0,12}", 5), 1..20),
        crlf in any::<bool>(),
    ) {
        let mut writer = csv::WriterBuilder::new()
            .terminator(if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') })
            .from_writer(Vec::new());
        writer.write_record(COLUMNS.iter().map(|column| column.name)).unwrap();
        for row in &texts {
            let [note, account, utility, reference, location] = row.as_slice() else { unreachable!() };
            let mut fields = ["2024-05-03T17:10:28", "TX1", "00123", "", "C1", "Rosa", "", "", "", "5", "", "", "", "", "", ""];
            for (at, text) in [(12, note), (10, account), (3, utility), (8, reference), (13, location)] {
                fields[at] = text;
            }
            writer.write_record(fields).unwrap();
        }
        let decoded = decode(writer.into_inner().unwrap());
        for (at, name) in ["notes", "account_type", "utility_id", "reference_id", "location"].into_iter().enumerate() {
            let kept = |text: &String| Some(text.clone()).filter(|text| !text.trim().is_empty());
            let expected: Vec<_> = texts.iter().map(|row| kept(&row[at])).collect();
            prop_assert_eq!(decoded.column(name), expected, "{}", name);
        }
    }
}

#[test]
fn a_file_longer_than_the_buffer_reads_as_one() {
    let mut text = format!("{HEADER}\n");
    for n in 0..30_000 {
        text.push_str(&with("ID", &format!("TX{n}")));
        text.push_str(if n % 3 == 0 { "\r\n" } else { "\n" });
    }
    let whole = decode(&text);
    let limits = Limits { row_bytes: 500, ..Limits::default() };
    let pieces = Pieces { bytes: text.as_bytes(), lengths: &[1 << 16, 1, 4097], turn: 0 };
    assert_eq!(decode_from(pieces, limits).unwrap(), whole);
    assert_eq!(whole.summary.read, 30_000);
}
