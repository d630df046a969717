//! Fuzz targets: the decoder, amounts and timestamps, each held to the plain reader of `reference.rs`.

use chrono::{DateTime, Utc};

use super::{
    reference::{self, Timestamp, assert_adds_up, is_payable},
    *,
};
use crate::{
    fuzz::{Target, fuzz, hash},
    ids::Month,
    payments::{amount, report::code, timestamp},
};

#[test]
fn fuzz_decoder_any_bytes_are_rows_or_are_refused_with_their_place() {
    let target = Target {
        name: "decoder",
        words: &[
            ",",
            "\"",
            "\"\"",
            "\n",
            "\r\n",
            "\r",
            "\n\n",
            "\0",
            "\u{feff}",
            "é",
            "\u{a0}",
            "'",
            ";",
            "\t",
            "=1+1",
            "-",
            "  ",
            "TIMESTAMP",
            "ID",
            "METER_ID",
            "UTILITY_ID",
            "CUSTOMER_ID",
            "CUSTOMER NAME",
            "TRANSACTION CHARGES",
            "PAYMENT_SOURCE",
            "REFERENCE_ID",
            "PAYMENT_AMOUNT",
            "ACCOUNT_TYPE",
            "STATUS",
            "NOTES",
            "LOCATION",
            "Source",
            "external_id",
            "2024-05-03T17:10:28",
            "2024-05-03 17:10:28+03:00",
            "31/12/2024",
            "150.00",
            "-0.0001",
            "1,50",
            "4.6E+10",
            "SUCCESS",
            "M-PESA",
            ",,,,,,,,,,,,,",
            "\"a\nb\"",
        ],
        inputs: 4000,
    };
    fuzz(&target, |bytes| {
        // Both with room for any row and without, so that its end and the limit meet at every place.
        let tight = Limits { row_bytes: 40 + usize::from(hash(&bytes).to_le_bytes()[0]), field_bytes: 24, rows: 5 };
        (assert_adds_up(bytes, Limits::default()), assert_adds_up(bytes, tight))
    });
}

#[test]
fn fuzz_amounts_any_text_is_one_exact_value_or_none() {
    let target = Target {
        name: "amounts",
        words: &[
            "0",
            "9",
            "00",
            "000",
            "0000",
            ".",
            ",",
            "-",
            "+",
            " ",
            "'",
            "e",
            "E+",
            "99999999999999",
            ".9999",
            ".00001",
            "\u{a0}",
            "₦",
            "KES",
            "/=",
            "Ksh.",
            "٥",
            "１",
            "−",
            "(",
            ")",
            "NaN",
            "inf",
            "0x",
            "_",
        ],
        inputs: 150_000,
    };
    fuzz(&target, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return ("no text", 0) };
        let value = amount::parse(text);
        assert_eq!(value.ok().map(i128::from), reference::amount(text), "{text:?}");
        match value {
            Ok(value) => {
                let sign = if value < 0 { "-" } else { "" };
                let (whole, decimals) = (value.unsigned_abs() / 10_000, value.unsigned_abs() % 10_000);
                let printed = format!("{sign}{whole}.{decimals:04}");
                assert_eq!(amount::parse(&printed), Ok(value), "{text:?} is printed as {printed}");
                let two_ways = |c: char| !(c.is_ascii_digit() || c == '.' || c == '-');
                assert!(!text.contains(two_ways) && text.matches('.').count() < 2, "{text:?} can mean two things");
                ("amount", text.len().min(24))
            }
            Err(fault) => {
                let is_number = [code::AMOUNT_DECIMALS, code::AMOUNT_TOO_LARGE].contains(&fault.code);
                let digits = text.strip_prefix('-').unwrap_or(text);
                let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
                let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
                assert_eq!(is_number, all_digits(whole) && all_digits(decimals), "{text:?} is {}", fault.code);
                assert!(fault.message.len() > 15);
                (fault.code, 0)
            }
        }
    });
}

#[test]
fn fuzz_timestamps_any_text_is_the_instant_that_chrono_says_or_none() {
    let target = Target {
        name: "timestamps",
        words: &[
            "2024-02-29",
            "2023-02-29",
            "2000-01-01",
            "1999-12-31",
            "2027-01-01",
            "0000-00-00",
            "9999-12-31",
            "T",
            " ",
            "Z",
            "t",
            "z",
            "00:00:00",
            "23:59:59",
            "23:59:60",
            "24:00:00",
            ".000001",
            ".999999",
            ".1234567",
            "+00:00",
            "-00:00",
            "+14:00",
            "-14:00",
            "+14:01",
            "+05:45",
            "-23:59",
            "+0300",
            "-",
            ":",
            ".",
            "/",
            "0",
            "9",
            "1714756228",
            "\u{a0}",
            "２",
        ],
        inputs: 150_000,
    };
    fuzz(&target, |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return ("no text", String::new()) };
        let found = timestamp::parse(text, NOT_AFTER);
        let expected = match reference::timestamp(text) {
            Timestamp::At(at) if is_payable(at) => Ok(at),
            Timestamp::At(_) => Err(code::TIMESTAMP_OUT_OF_RANGE),
            Timestamp::Impossible => Err(code::IMPOSSIBLE_TIMESTAMP),
            Timestamp::NoForm => Err(code::BAD_TIMESTAMP),
        };
        assert_eq!(found.map_err(|fault| fault.code), expected, "{text:?}");
        match found {
            Ok(micros) => {
                let at = DateTime::<Utc>::from_timestamp_micros(micros).unwrap();
                let month = Month::of_micros(micros);
                assert_eq!(month.to_string(), at.format("%Y-%m").to_string(), "{text:?}");
                assert!((month.start_micros()..month.end_micros()).contains(&micros), "{text:?}");
                let printed = at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
                assert_eq!(timestamp::parse(&printed, NOT_AFTER), Ok(micros), "{text:?} is printed as {printed}");
                ("instant", text[19..].replace(|c: char| c.is_ascii_digit(), "0"))
            }
            Err(fault) => (fault.code, fault.message.to_owned()),
        }
    });
}
