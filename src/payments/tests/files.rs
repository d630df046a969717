//! Files as a whole: encodings, headers, line ends, limits.

use super::*;
use crate::payments::{definition, report::code};

#[test]
fn the_template_passes_the_check() {
    let decoded = decode(definition::PAYMENTS.template());
    assert_eq!((decoded.summary.read, decoded.summary.rejected), (2, 0));
    assert!(decoded.summary.warnings.is_empty());
}

#[test]
fn a_good_row_becomes_typed_columns() {
    let decoded = decode(file(&[GOOD]));
    for (name, value) in [
        ("site", "Kitobo"),
        ("payment_id", "TX1"),
        ("paid_at", "2024-05-03T17:10:28Z"),
        ("meter_id", "00123"),
        ("amount", "150.0000"),
        ("transaction_charges", "1.5000"),
        ("currency", "KES"),
        ("payment_source", "M-PESA"),
        ("source", "mpesa"),
        ("settlement", "settled"),
        ("notes", "token resent"),
        ("upload_id", "upl_0190b3a0c1d27e4f8a5b6c7d8e9f0a1b"),
    ] {
        assert_eq!(decoded.only(name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(decoded.only("serial_number"), None);
    assert_eq!((decoded.lines[0], decoded.bytes[0]), (2, HEADER.len() as u64 + 1));
}

#[test]
fn a_byte_order_mark_is_skipped_and_offsets_count_it() {
    let decoded = decode(format!("\u{feff}{}", file(&[GOOD])));
    assert_eq!(decoded.bytes[0], HEADER.len() as u64 + 4);
}

#[test]
fn crlf_and_lf_give_the_same_rows() {
    let plain = file(&[GOOD, &with("ID", "TX2")]);
    let windows = decode(plain.replace('\n', "\r\n"));
    assert_eq!(windows.payments, decode(plain).payments);
    assert_eq!(windows.lines, [2, 3]);
}

#[test]
fn columns_may_come_in_any_order_and_optional_ones_may_be_absent() {
    let text = "PAYMENT_AMOUNT,external_id,CUSTOMER NAME,ID,Source,CUSTOMER_ID,METER_ID,TIMESTAMP\n\
                5,SN-9,Rosa,TX1,Airtel Money,C1,00123,2024-05-03T17:10:28\n";
    let decoded = decode(text);
    assert_eq!(decoded.only("amount").as_deref(), Some("5.0000"));
    assert_eq!(decoded.only("serial_number").as_deref(), Some("SN-9"));
    assert_eq!(decoded.only("payment_source").as_deref(), Some("Airtel Money"));
    assert_eq!(decoded.only("source").as_deref(), Some("airtel_money"));
    assert_eq!(decoded.only("site").as_deref(), Some("Default Site"));
    assert_eq!(decoded.only("settlement").as_deref(), Some("settled"));
    assert_eq!(decoded.only("status"), None);
}

#[test]
fn the_header_is_given_in_the_files_order() {
    let text = file(&[GOOD]);
    let decoder = Decoder::new(text.as_bytes(), context(Limits::default())).unwrap();
    assert_eq!(decoder.header().join(","), HEADER);
}

#[test]
fn a_missing_last_newline_and_blank_lines_are_fine() {
    let decoded = decode(format!("\n{HEADER}\n\n\r\n{GOOD}\n\n{}", with("ID", "TX2")));
    assert_eq!(decoded.summary, Summary { read: 2, rejected: 0, warnings: Vec::new() });
    assert_eq!(decoded.lines, [5, 7]);
}

#[test]
fn a_quoted_line_break_is_part_of_the_value_and_counts_as_a_line() {
    let decoded = decode(file(&[&with("NOTES", "\"first\nsecond \"\"line\"\"\""), GOOD]));
    assert_eq!(decoded.lines, [2, 4]);
    assert_eq!(decoded.column("notes")[0].as_deref(), Some("first\nsecond \"line\""));
}

#[test]
fn a_row_without_any_value_is_passed_over_with_a_warning() {
    let blank = ["   ", ",,,,,,,,,,,,,", ",,,", " , \u{a0},\t", "\"\",\"  \",,", "\" \n \",", ","];
    let decoded = decode(file(&[&[GOOD], &blank[..], &[&with("ID", "TX2")]].concat()));
    assert_eq!((decoded.summary.read, decoded.summary.rejected, decoded.lines), (2, 0, vec![2, 11]));
    let [warning] = decoded.summary.warnings.as_slice() else { panic!("{:?}", decoded.summary.warnings) };
    assert_eq!((warning.code.as_str(), warning.count, warning.line), (code::BLANK_ROW, 7, 3));
    for value in [",,,,,,0", " \"", ",-", "\"\"\"\"", "\"\" ,", " \r ,"] {
        let read = match decode_from(file(&[GOOD, value]).as_bytes(), Limits::default()) {
            Ok(decoded) => decoded.summary.rejected,
            Err(_) => 1,
        };
        assert_eq!(read, 1, "{value:?} says something");
    }
    assert_eq!(codes(&refusal(format!("{HEADER}\n,,,,\n  \n"))), [code::NO_ROWS]);
    let limits = Limits { rows: 1, ..Limits::default() };
    assert_eq!(decode_from(file(&[",,", GOOD, ",,"]).as_bytes(), limits).unwrap().summary.read, 1);
}

#[test]
fn utf16_is_refused_with_or_without_its_mark() {
    let wide = |start: &[u8], order: fn(u16) -> [u8; 2]| {
        let mut bytes = start.to_vec();
        bytes.extend(file(&[GOOD]).encode_utf16().flat_map(order));
        refusal(bytes)
    };
    for errors in [
        wide(b"\xff\xfe", u16::to_le_bytes),
        wide(b"\xfe\xff", u16::to_be_bytes),
        wide(b"", u16::to_le_bytes),
        wide(b"", u16::to_be_bytes),
    ] {
        assert_eq!(codes(&errors), [code::UTF16]);
        assert!(errors[0].message.contains("CSV UTF-8"));
    }
}

#[test]
fn a_spreadsheet_under_the_name_of_a_csv_is_refused() {
    assert_eq!(codes(&refusal(b"PK\x03\x04\x14\x00\x06\x00")), [code::NOT_CSV]);
    assert_eq!(codes(&refusal(b"\xd0\xcf\x11\xe0")), [code::NOT_CSV]);
}

#[test]
fn other_delimiters_are_refused() {
    for delimiter in [";", "\t", "|"] {
        let errors = refusal(file(&[GOOD]).replace(',', delimiter));
        assert_eq!(codes(&errors), [code::WRONG_DELIMITER], "{delimiter}");
    }
}

#[test]
fn an_empty_file_and_a_header_alone_are_refused() {
    for empty in ["", "\u{feff}", "\n\r\n\n"] {
        assert_eq!(codes(&refusal(empty)), [code::EMPTY_FILE]);
    }
    for alone in [HEADER.to_owned(), format!("{HEADER}\r\n"), format!("{HEADER}\n\n\n")] {
        assert_eq!(codes(&refusal(alone)), [code::NO_ROWS]);
    }
}

#[test]
fn lone_carriage_returns_as_line_ends_are_refused() {
    assert_eq!(codes(&refusal(file(&[GOOD]).replace('\n', "\r"))), [code::CR_LINE_ENDS]);
}

#[test]
fn all_that_is_wrong_with_a_header_is_said_at_once_with_the_fix() {
    let header = HEADER
        .replace("CUSTOMER NAME", "CUSTOMER_NAME")
        .replace("STATUS", " STATUS")
        .replace("NOTES", "Notes")
        .replace("METER_ID", "METERID")
        .replace("UTILITY_ID", "ID")
        .replace("LOCATION", "WEATHER")
        .replace("TIMESTAMP,", "");
    let errors = refusal(format!("{header}\n{GOOD}\n"));
    let said: Vec<_> = errors.iter().map(|error| (error.code.as_str(), error.value.as_deref())).collect();
    assert_eq!(
        said,
        [
            (code::UNKNOWN_COLUMN, Some("METERID")),
            (code::REPEATED_COLUMN, Some("ID")),
            (code::UNKNOWN_COLUMN, Some("CUSTOMER_NAME")),
            (code::PADDED_COLUMN, Some(" STATUS")),
            (code::WRONG_CASE_COLUMN, Some("Notes")),
            (code::UNKNOWN_COLUMN, Some("WEATHER")),
            (code::MISSING_COLUMN, None),
        ]
    );
    assert!(errors[0].message.contains("\"METER_ID\"") && errors[0].message.contains("column 2"));
    assert!(errors[2].message.contains("did you mean \"CUSTOMER NAME\""));
    assert!(errors[5].message.contains("TRANSACTION CHARGES"));
    assert_eq!(errors[6].column.as_deref(), Some("TIMESTAMP"));
    assert!(errors.iter().all(|error| error.line == 1));
    assert_eq!(errors[2].byte, header.find("CUSTOMER_NAME").unwrap() as u64);
}

#[test]
fn a_header_with_text_after_a_quote_or_a_column_without_a_name_is_refused() {
    assert_eq!(codes(&refusal(format!("\"TIMESTAMP\"x{HEADER}\n"))), [code::TEXT_AFTER_QUOTE]);
    assert_eq!(codes(&refusal(format!("{HEADER},\n{GOOD},\n"))), [code::UNKNOWN_COLUMN]);
    assert_eq!(codes(&refusal(format!("{HEADER}{}\n", ",x".repeat(300)))), [code::TOO_MANY_COLUMNS]);
    assert_eq!(codes(&refusal(b"TIMESTAMP,Montant pay\xe9\n")), [code::NOT_UTF8]);
}

#[test]
fn an_unterminated_quote_ends_the_file_and_is_named_where_it_opens() {
    let text = file(&[GOOD, &with("NOTES", "\"never closed"), GOOD]);
    let errors = refusal(&text);
    assert_eq!(codes(&errors), [code::UNTERMINATED_QUOTE]);
    assert_eq!((errors[0].line, errors[0].byte), (3, text.find('"').unwrap() as u64));
    let later = file(&[&with("NOTES", "\"a\nb\",\"open")]);
    assert_eq!(refusal(&later)[0].line, 3);
}

#[test]
fn a_row_over_the_limit_ends_the_file() {
    let limits = Limits { row_bytes: 300, ..Limits::default() };
    let longest = with("NOTES", &"x".repeat(300 - with("NOTES", "").len()));
    assert_eq!(decode_from(file(&[&longest, GOOD]).replace('\n', "\r\n").as_bytes(), limits).unwrap().lines, [2, 3]);
    let errors = refusal_within(file(&[GOOD, &format!("{longest}x")]), limits);
    assert_eq!((codes(&errors), errors[0].line), (vec![code::ROW_TOO_LONG], 3));
    assert!(errors[0].message.contains("upload.max_row_bytes"), "{}", errors[0].message);
    let open = with("NOTES", "\"open");
    let errors = refusal_within(file(&[GOOD, &open, GOOD, GOOD, GOOD, GOOD]), limits);
    assert!(codes(&errors) == [code::ROW_TOO_LONG] && errors[0].message.contains("line 3"), "{errors:?}");
}

#[test]
fn a_value_over_the_limit_refuses_its_row_alone() {
    let limits = Limits { field_bytes: 200, ..Limits::default() };
    let fits = with("NOTES", &"é".repeat(100));
    let decoded =
        decode_from(file(&[&with("NOTES", &format!("{}x", "é".repeat(100))), &fits]).as_bytes(), limits).unwrap();
    let error = &decoded.rejected[0].errors[0];
    assert_eq!((error.code.as_str(), error.column.as_deref()), (code::FIELD_TOO_LONG, Some("NOTES")));
    assert_eq!(error.value.as_ref().unwrap().chars().count(), 100);
    assert!(error.message.contains("upload.max_field_bytes"), "{}", error.message);
    assert_eq!(decoded.lines, [3]);
}

#[test]
fn a_file_over_the_limit_of_rows_is_refused() {
    let limits = Limits { rows: 2, ..Limits::default() };
    assert!(decode_from(file(&[GOOD, GOOD]).as_bytes(), limits).is_ok());
    let errors = refusal_within(file(&[GOOD, GOOD, GOOD]), limits);
    assert_eq!((codes(&errors), errors[0].line), (vec![code::TOO_MANY_ROWS], 4));
    assert!(errors[0].message.contains("more than 2 rows (upload.max_rows)"));
}

#[test]
fn batches_of_a_large_file_hold_every_row_in_order() {
    let rows: Vec<String> = (0..20_000).map(|n| with("ID", &format!("TX{n}"))).collect();
    let decoded = decode(file(&rows.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!(decoded.summary.read, 20_000);
    assert_eq!(decoded.column("payment_id")[12_345].as_deref(), Some("TX12345"));
    assert_eq!(decoded.column("currency")[19_999].as_deref(), Some("KES"));
    assert_eq!(decoded.lines, (2..20_002).collect::<Vec<_>>());
}

#[test]
fn a_failing_input_is_not_the_files_fault() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the disk is gone"))
        }
    }
    assert!(matches!(decode_from(Broken, Limits::default()), Err(DecodeError::Io(_))));
}
