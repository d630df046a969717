//! Promises for files that are written well, of any size.

use proptest::prelude::*;

use super::{pieces::Pieces, *};
use crate::payments::definition::COLUMNS;

proptest! {
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
    let pieces = Pieces::new(text.as_bytes(), &[1 << 16, 1, 4097]);
    assert_eq!(decode_from(pieces, limits).unwrap(), whole);
    assert_eq!(whole.summary.read, 30_000);
}
