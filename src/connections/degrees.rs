//! Decimal degrees: a text → its one form. Exact to 7 decimals, which is a centimetre; further ones are rounded.

/// Decimals that are kept.
const DECIMALS: usize = 7;

/// Decimals that are read: what programs write who print a binary fraction.
const MOST_DECIMALS: usize = 20;

/// One degree.
const UNIT: i64 = 10_000_000;

/// Why a text is no degrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DegreesFault {
    /// It is not a plain decimal number; and what it looks like.
    Form(&'static str),
    OutOfRange,
}

/// The one form of `text`, which is at most `most` degrees on either side of zero.
pub(super) fn parse(text: &str, most: i64) -> Result<String, DegreesFault> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
    let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !are_digits(whole) || !are_digits(decimals) || decimals.len() > MOST_DECIMALS {
        return Err(DegreesFault::Form(hint(text)));
    }
    let whole = whole.trim_start_matches('0');
    if whole.len() > 3 {
        return Err(DegreesFault::OutOfRange);
    }
    let digit = |at: usize| decimals.as_bytes().get(at).map_or(0, |byte| i64::from(byte - b'0'));
    let fraction = (0..DECIMALS).fold(0, |sum, at| sum * 10 + digit(at)) + i64::from(digit(DECIMALS) >= 5);
    let whole = whole.parse::<i64>().unwrap_or(0);
    if whole > most || (whole == most && decimals.bytes().any(|byte| byte != b'0')) {
        return Err(DegreesFault::OutOfRange);
    }
    let value = whole * UNIT + fraction;
    let sign = if negative && value != 0 { "-" } else { "" };
    let (whole, fraction) = (value / UNIT, value % UNIT);
    let fraction = format!("{fraction:07}");
    Ok(match fraction.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    })
}

/// What a wrong form looks like, and what to do about it.
fn hint(text: &str) -> &'static str {
    if text.contains(',') {
        "the decimal mark is a point, as in -3.3869"
    } else if text.contains(['°', '\'', '"', 'N', 'S', 'E', 'W']) && !text.contains("E+") && !text.contains("E-") {
        "write decimal degrees, as in -3.3869, not minutes and seconds; south and west are negative"
    } else {
        "write digits with a point, as in -3.3869, and nothing else"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degrees_have_one_form() {
        for (text, expected) in [
            ("-3.3869", "-3.3869"),
            ("36.6830", "36.683"),
            ("36", "36"),
            ("036.0", "36"),
            ("-0.0", "0"),
            ("0.00000004", "0"),
            ("-1.29206594999999", "-1.2920659"),
            ("-1.29206595", "-1.292066"),
            ("89.99999999", "90"),
            ("-90.000", "-90"),
        ] {
            assert_eq!(parse(text, 90).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(parse("-180", 180).as_deref(), Ok("-180"));
    }

    #[test]
    fn what_is_no_plain_number_or_lies_nowhere_is_refused() {
        for text in ["-90.00000001", "90.1", "1000", "123456789012345678901"] {
            assert_eq!(parse(text, 90), Err(DegreesFault::OutOfRange), "{text}");
        }
        for text in
            ["-3,3869", "3°23'S", "3.4S", "+3.4", " 3.4", "3.4 ", "1e1", "3.6E+01", ".5", "5.", "-", "", "NaN", "٣"]
        {
            assert!(matches!(parse(text, 90), Err(DegreesFault::Form(_))), "{text}");
        }
        assert_eq!(parse("-3,3869", 90), Err(DegreesFault::Form("the decimal mark is a point, as in -3.3869")));
    }
}
