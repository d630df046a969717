//! Single rows: each defect with its code, and what is kept as it is.

use super::*;
use crate::payments::{report::code, required::RequiredColumn};

#[test]
fn a_blank_value_in_a_required_column_is_refused() {
    for column in ["TIMESTAMP", "ID", "METER_ID", "CUSTOMER_ID", "CUSTOMER NAME", "PAYMENT_AMOUNT"] {
        for blank in ["", "   ", "\"\"", "\u{a0}"] {
            assert_eq!(row_code(&with(column, blank)), code::MISSING_VALUE, "{column}");
        }
    }
}

#[test]
fn all_errors_of_a_row_are_reported_each_at_its_place() {
    let row = ["31/12/2024", "", "4.6E+10", "", "C1", "Rosa", "n/a", "", "", "\"1,50\"", "", "", "", ""].join(",");
    let text = file(&[GOOD, &row]);
    let decoded = decode(&text);
    let rejected = &decoded.rejected[0];
    let said: Vec<_> = rejected.errors.iter().map(|e| (e.code.as_str(), e.column.as_deref().unwrap())).collect();
    assert_eq!(
        said,
        [
            (code::BAD_TIMESTAMP, "TIMESTAMP"),
            (code::MISSING_VALUE, "ID"),
            (code::SCIENTIFIC_NOTATION, "METER_ID"),
            (code::BAD_AMOUNT, "TRANSACTION CHARGES"),
            (code::AMOUNT_DECIMAL_COMMA, "PAYMENT_AMOUNT"),
        ]
    );
    assert_eq!((rejected.line, rejected.byte), (3, text.find("31/12").unwrap() as u64));
    assert_eq!(rejected.errors[2].byte, text.find("4.6E").unwrap() as u64);
    assert_eq!(rejected.errors[4].value.as_deref(), Some("1,50"));
    assert_eq!(rejected.fields[9], "1,50");
}

#[test]
fn amounts_of_other_forms_are_refused() {
    for (value, expected) in [
        ("\"1,50\"", code::AMOUNT_DECIMAL_COMMA),
        ("\"1.000,00\"", code::AMOUNT_THOUSANDS),
        ("₦500", code::AMOUNT_CURRENCY),
        ("KES 500", code::AMOUNT_CURRENCY),
        ("12.5O", code::BAD_AMOUNT),
        ("1.5e3", code::AMOUNT_EXPONENT),
    ] {
        assert_eq!(row_code(&with("PAYMENT_AMOUNT", value)), expected);
        assert_eq!(row_code(&with("TRANSACTION CHARGES", value)), expected);
    }
    assert_eq!(row_code(&with("PAYMENT_AMOUNT", "1,50")), code::LONG_ROW);
}

#[test]
fn a_refund_is_negative_and_fine() {
    assert_eq!(decode(file(&[&with("PAYMENT_AMOUNT", "-250.00")])).only("amount").as_deref(), Some("-250.0000"));
}

#[test]
fn timestamps_that_cannot_be_are_refused() {
    for (value, expected) in [
        ("31/12/2024", code::BAD_TIMESTAMP),
        ("2024-02-30 10:00:00+00:00", code::IMPOSSIBLE_TIMESTAMP),
        ("0024-05-03 17:10:28", code::TIMESTAMP_OUT_OF_RANGE),
        ("2124-05-03 17:10:28", code::TIMESTAMP_OUT_OF_RANGE),
    ] {
        assert_eq!(row_code(&with("TIMESTAMP", value)), expected);
    }
}

#[test]
fn names_that_a_spreadsheet_made_numbers_of_are_refused() {
    for column in ["ID", "METER_ID", "CUSTOMER_ID", "UTILITY_ID"] {
        for value in ["4.6E+10", "4.60123E+10", "5e+9", "\"4,6E+10\"", " 4.6E+10", "-4.6E+10 ", "4.6E10", "4.6E-05"] {
            assert_eq!(row_code(&with(column, value)), code::SCIENTIFIC_NOTATION, "{column} {value}");
        }
    }
    for name in ["1E10", "12E+3", "4.E+10", "1.2", "E+10", "4.6E+", "1E+1A", "1-2"] {
        assert_eq!(decode(file(&[&with("METER_ID", name)])).only("meter_id").as_deref(), Some(name));
    }
}

#[test]
fn text_stays_text() {
    for name in ["00123", "TRUE", "1.0", "0x1f", " padded ", "five\"inch", "NULL", "አበበ"] {
        for column in [("METER_ID", "meter_id"), ("CUSTOMER NAME", "customer_name"), ("NOTES", "notes")] {
            assert_eq!(decode(file(&[&with(column.0, name)])).only(column.1).as_deref(), Some(name));
        }
    }
}

#[test]
fn an_optional_blank_is_null() {
    let row = "2024-05-03T17:10:28,TX1,00123,,C1,Rosa,, ,,5,\"\",,,  ";
    let decoded = decode(file(&[row]));
    for name in
        ["utility_id", "transaction_charges", "payment_source", "reference_id", "account_type", "status", "location"]
    {
        assert_eq!(decoded.only(name), None, "{name}");
    }
    assert_eq!(decoded.only("source").as_deref(), Some("unknown"));
    assert_eq!(decoded.only("site").as_deref(), Some("Default Site"));
}

#[test]
fn latin_1_is_refused_and_said_to_look_like_it() {
    let mut bytes = file(&[GOOD]).into_bytes();
    bytes.extend(b"2024-05-03 17:10:28,TX2,00124,,C1,Jos\xe9,n/a,,,5,,,,\n");
    let decoded = decode(bytes);
    assert_eq!(codes(&decoded.rejected[0].errors), [code::NOT_UTF8, code::BAD_AMOUNT]);
    let error = &decoded.rejected[0].errors[0];
    assert_eq!((error.column.as_deref(), error.value.as_deref()), (Some("CUSTOMER NAME"), Some("Jos\u{fffd}")));
    assert!(error.message.contains("Latin-1"));
}

#[test]
fn a_nul_byte_is_refused() {
    assert_eq!(row_code(&with("CUSTOMER NAME", "Nul\0Name")), code::NUL_BYTE);
    assert_eq!(row_code(&with("NOTES", "\"a\0b\"")), code::NUL_BYTE);
}

#[test]
fn a_short_or_long_row_is_refused_with_both_numbers() {
    let short = GOOD.rsplitn(6, ',').last().unwrap();
    let decoded = decode(file(&[short, &format!("{GOOD},extra,extra"), GOOD]));
    assert_eq!(codes(&decoded.rejected[0].errors), [code::SHORT_ROW]);
    assert!(decoded.rejected[0].errors[0].message.contains("9 fields where the header has 14"));
    assert_eq!(codes(&decoded.rejected[1].errors), [code::LONG_ROW]);
    assert_eq!(decoded.rejected[1].fields.len(), 16);
    assert_eq!(decoded.lines, [4]);
}

#[test]
fn a_file_cut_in_a_row_is_said_to_look_cut_off() {
    let text = file(&[GOOD, GOOD]);
    let decoded = decode(&text[..text.len() - 30]);
    let error = &decoded.rejected[0].errors[0];
    assert_eq!((error.code.as_str(), error.line), (code::SHORT_ROW, 3));
    assert!(error.message.contains("cut off"));
}

#[test]
fn text_after_a_closing_quote_is_refused() {
    assert_eq!(row_code(&with("NOTES", "\"five\"inch")), code::TEXT_AFTER_QUOTE);
    assert_eq!(row_code(&with("NOTES", "\"five\" ")), code::TEXT_AFTER_QUOTE);
}

#[test]
fn a_carriage_return_inside_a_value_needs_quotes() {
    assert_eq!(row_code(&with("NOTES", "a\rb")), code::LONE_CARRIAGE_RETURN);
    assert_eq!(decode(file(&[&with("NOTES", "\"a\rb\"")])).only("notes").as_deref(), Some("a\rb"));
}

#[test]
fn an_unknown_status_is_accepted_and_counted() {
    let decoded = decode(file(&[GOOD, &with("STATUS", "MAYBE"), &with("STATUS", "MAYBE"), &with("STATUS", "échoué")]));
    let settlements: Vec<_> = decoded.column("settlement").into_iter().flatten().collect();
    assert_eq!(settlements, ["settled", "unknown", "unknown", "failed"]);
    let warning = decoded.warning(code::UNKNOWN_STATUS);
    assert_eq!((warning.count, warning.line, warning.value.as_deref()), (2, 3, Some("MAYBE")));
}

#[test]
fn an_unlisted_source_is_other_and_its_spelling_stays() {
    let decoded = decode(file(&[&with("PAYMENT_SOURCE", "Barter")]));
    assert_eq!(decoded.only("source").as_deref(), Some("other"));
    assert_eq!(decoded.only("payment_source").as_deref(), Some("Barter"));
    assert_eq!(decoded.warning(code::UNKNOWN_SOURCE).value.as_deref(), Some("Barter"));
    let listed = decode(file(&[&with("PAYMENT_SOURCE", "Other")]));
    assert_eq!(listed.only("source").as_deref(), Some("other"));
    assert!(listed.summary.warnings.is_empty(), "{:?}", listed.summary.warnings);
}

#[test]
fn a_second_source_that_differs_is_left_out_with_a_warning() {
    let text = format!("{HEADER},Source\n{GOOD},M-PESA\n{GOOD},Airtel\n{},Airtel\n", with("PAYMENT_SOURCE", ""));
    let decoded = decode(text);
    let sources: Vec<_> = decoded.column("source").into_iter().flatten().collect();
    assert_eq!(sources, ["mpesa", "mpesa", "airtel_money"]);
    let warning = decoded.warning(code::SOURCE_IGNORED);
    assert_eq!((warning.count, warning.line, warning.value.as_deref()), (1, 3, Some("Airtel")));
}

#[test]
fn a_padded_name_and_a_formula_are_kept_with_a_warning() {
    let decoded =
        decode(file(&[&with("METER_ID", " 00123"), &with("CUSTOMER NAME", "=cmd|'/c calc'!A1"), &with("NOTES", "-")]));
    assert_eq!(decoded.column("meter_id")[0].as_deref(), Some(" 00123"));
    assert_eq!(decoded.warning(code::PADDED_VALUE).column.as_deref(), Some("METER_ID"));
    assert_eq!(decoded.warning(code::FORMULA_TEXT).column.as_deref(), Some("CUSTOMER NAME"));
    assert_eq!(decoded.summary.warnings.len(), 2);
}

#[test]
fn a_rejected_row_gives_no_warning() {
    let row = "nonsense,TX1,00123,,C1,=Rosa,,Barter,,5,,MAYBE,,";
    assert!(decode(file(&[row])).summary.warnings.is_empty());
}

/// Decodes a file of which a programme asks for these columns.
fn decode_asked(file: impl AsRef<[u8]>, columns: &[&str]) -> Result<Decoded, DecodeError> {
    let asked = |column: &&str| RequiredColumn {
        column: (*column).to_owned(),
        programmes: vec!["rural-light".parse().unwrap()],
    };
    let required = columns.iter().map(asked).collect();
    decode_as(file.as_ref(), FileContext { required, ..context(Limits::default()) })
}

#[test]
fn a_blank_value_in_a_column_that_a_programme_asks_for_is_refused_and_says_who_asks() {
    let text = file(&[&with("STATUS", "SUCCESS"), &with("STATUS", " "), &with("NOTES", "")]);
    let decoded = decode_asked(&text, &["STATUS", "of another time"]).unwrap();
    assert_eq!((decoded.payments.num_rows(), decoded.rejected.len()), (2, 1), "{:?}", decoded.rejected);
    let error = &decoded.rejected[0].errors[0];
    assert_eq!((error.line, error.column.as_deref(), error.code.as_str()), (3, Some("STATUS"), code::MISSING_VALUE));
    assert_eq!(error.message, "STATUS is blank; the programme rural-light needs it");
    // One that every file needs says so, whoever asks besides.
    let decoded = decode_asked(file(&[&with("METER_ID", "")]), &["METER_ID"]).unwrap();
    assert_eq!(decoded.rejected[0].errors[0].message, "METER_ID is blank; every payment needs it");
}

#[test]
fn a_header_without_a_column_that_a_programme_asks_for_is_refused_unless_it_is_there_misspelt() {
    let refused = |header: &str| {
        let text = file(&[GOOD]).replacen("STATUS", header, 1);
        match decode_asked(text, &["STATUS", "external_id"]) {
            Err(DecodeError::File(errors)) => errors,
            other => panic!("not refused: {other:?}"),
        }
    };
    let told: Vec<_> = refused("Source").into_iter().map(|error| (error.code, error.message)).collect();
    let missing = |column: &str| {
        let message = format!("the column {column:?} is missing; the programme rural-light needs it");
        (code::MISSING_COLUMN.to_owned(), message)
    };
    assert_eq!(told, [missing("STATUS"), missing("external_id")]);
    let codes: Vec<_> = refused("status").into_iter().map(|error| error.code).collect();
    assert_eq!(codes, [code::WRONG_CASE_COLUMN, code::MISSING_COLUMN], "the slip is told once");
}
