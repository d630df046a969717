//! Amounts: text → DECIMAL(18,4), exact. Each form that is not one has its own answer, because nothing is guessed:
//! `1,250` is a thousand in one country and one and a quarter in another.

use super::report::code;

/// Digits before the point at most: DECIMAL(18,4).
pub const INTEGER_DIGITS: usize = 14;

/// Digits after the point at most, trailing zeros aside.
pub const DECIMALS: usize = 4;

/// Why a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AmountFault {
    /// One of [`code`].
    pub code: &'static str,
    /// What is wrong and what to do.
    pub message: &'static str,
}

/// Reads an amount as a number of ten-thousandths: `-12.5` is -125000.
pub fn parse(text: &str) -> Result<i64, AmountFault> {
    let bytes = text.as_bytes();
    let (negative, digits) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, bytes),
    };
    let mut value: i64 = 0;
    let mut at = 0;
    while let Some(digit) = digits.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
        // Saturation stands for "too large" and is told from a true value by the check below.
        value = value.saturating_mul(10).saturating_add(i64::from(digit));
        at += 1;
    }
    let whole = at;
    let mut decimals = 0;
    let mut excess = false;
    if digits.get(at) == Some(&b'.') {
        at += 1;
        while let Some(digit) = digits.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10) {
            if decimals < DECIMALS {
                value = value.saturating_mul(10).saturating_add(i64::from(digit));
            } else {
                excess |= digit != 0;
            }
            decimals += 1;
            at += 1;
        }
        if decimals == 0 {
            return Err(explain(text));
        }
    }
    if whole == 0 || at != digits.len() {
        return Err(explain(text));
    }
    if excess {
        return Err(TOO_MANY_DECIMALS);
    }
    for _ in decimals..DECIMALS {
        value = value.saturating_mul(10);
    }
    if value >= LIMIT {
        return Err(TOO_LARGE);
    }
    Ok(if negative { -value } else { value })
}

/// The first amount that is too large, in ten-thousandths: 10^18.
const LIMIT: i64 = 1_000_000_000_000_000_000;

const TOO_MANY_DECIMALS: AmountFault = AmountFault {
    code: code::AMOUNT_DECIMALS,
    message: "an amount has at most 4 decimals, because it is kept exactly; round it where it comes from",
};

const TOO_LARGE: AmountFault =
    AmountFault { code: code::AMOUNT_TOO_LARGE, message: "an amount has at most 14 digits before the point" };

/// What kind of mistake a text is that is not an amount.
fn explain(text: &str) -> AmountFault {
    let fault = |code, message| AmountFault { code, message };
    let trimmed = text.trim();
    let unsigned = trimmed.strip_prefix(['-', '+']).unwrap_or(trimmed);
    let has_digit = text.contains(|c: char| c.is_ascii_digit());
    if !has_digit {
        return fault(code::BAD_AMOUNT, "this is not a number; write digits with an optional point, such as 1250.50");
    }
    if is_currency(unsigned) {
        return fault(code::AMOUNT_CURRENCY, "leave the currency out: it is the project's; write 500 or 500.00");
    }
    if text.contains(char::is_whitespace) {
        return fault(code::AMOUNT_SPACES, "an amount has no spaces, neither around it nor between its digits");
    }
    if text.starts_with('+') {
        return fault(code::AMOUNT_PLUS, "leave the leading + out");
    }
    if is_exponent(unsigned) {
        return fault(
            code::AMOUNT_EXPONENT,
            "write the amount out, without an exponent; a spreadsheet shows it so when the column is formatted as a number",
        );
    }
    if unsigned.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b',' | b'.' | b'\'')) {
        return separators(unsigned);
    }
    fault(code::BAD_AMOUNT, "this is not a number; write digits with an optional point, such as 1250.50 or -1250.50")
}

/// What is wrong with digits that have commas, points or apostrophes among them.
fn separators(text: &str) -> AmountFault {
    let fault = |code, message| AmountFault { code, message };
    let marks = text.bytes().filter(|byte| !byte.is_ascii_digit()).count();
    if marks == 1 && (text.starts_with('.') || text.ends_with('.')) {
        return fault(code::AMOUNT_POINT, "a point has digits on both sides: write 0.5 for .5, and 5 for 5.");
    }
    match text.split_once(',') {
        Some((_, after)) if marks == 1 && after.len() != 3 => fault(
            code::AMOUNT_DECIMAL_COMMA,
            "the decimal mark is a point: write 1.50 for 1,50 (set the export's number format to English)",
        ),
        _ => fault(
            code::AMOUNT_THOUSANDS,
            "leave thousands separators out and use a point for decimals: write 1250.00 for 1,250.00 and for 1.250,00",
        ),
    }
}

/// `500` with a currency's sign or letters around it: `₦500`, `KES 500`, `500 TZS`, `Ksh.500`, `500/=`.
fn is_currency(text: &str) -> bool {
    let sign = |c: char| matches!(c, '$' | '\u{a2}'..='\u{a5}' | '\u{20a0}'..='\u{20cf}');
    if text.contains(sign) || text.ends_with("/=") {
        return true;
    }
    let letters = |part: &str| part.chars().all(char::is_alphabetic).then(|| part.chars().count());
    let body = text.trim_start_matches(char::is_alphabetic);
    let before = &text[..text.len() - body.len()];
    let core = body.trim_end_matches(char::is_alphabetic);
    let after = &body[core.len()..];
    let amount = core.trim_start_matches('.').trim();
    if !amount.starts_with(|c: char| c.is_ascii_digit()) || amount.contains(char::is_alphabetic) {
        return false;
    }
    // One letter in front is a currency where it is used as one; one letter behind is more likely a slip: 12.5O.
    letters(before).is_some_and(|n| (2..=5).contains(&n))
        || letters(after).is_some_and(|n| (2..=5).contains(&n))
        || matches!(before, "N" | "K" | "R" | "L")
}

fn is_exponent(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.split_once(['e', 'E']) else { return false };
    let exponent = exponent.trim_start_matches(['+', '-']);
    !exponent.is_empty()
        && exponent.bytes().all(|byte| byte.is_ascii_digit())
        && mantissa.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b','))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_amount_is_exact_to_the_last_decimal() {
        for (text, value) in [
            ("0", 0),
            ("-0.0", 0),
            ("1", 10_000),
            ("10.005", 100_050),
            ("-250.00", -2_500_000),
            ("0.0001", 1),
            ("1.50000000", 15_000),
            ("00012.5", 125_000),
            ("99999999999999.9999", 999_999_999_999_999_999),
            ("-99999999999999.9999", -999_999_999_999_999_999),
            ("000000000000000000000000000001", 10_000),
        ] {
            assert_eq!(parse(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn each_wrong_form_has_its_own_answer() {
        for (text, code) in [
            ("1,50", code::AMOUNT_DECIMAL_COMMA),
            ("-1,5", code::AMOUNT_DECIMAL_COMMA),
            ("1.000,00", code::AMOUNT_THOUSANDS),
            ("1,250.00", code::AMOUNT_THOUSANDS),
            ("1,250", code::AMOUNT_THOUSANDS),
            ("1.000.000", code::AMOUNT_THOUSANDS),
            ("1'000", code::AMOUNT_THOUSANDS),
            ("₦500", code::AMOUNT_CURRENCY),
            ("-₦500", code::AMOUNT_CURRENCY),
            ("KES 500", code::AMOUNT_CURRENCY),
            ("Ksh.500", code::AMOUNT_CURRENCY),
            ("500TZS", code::AMOUNT_CURRENCY),
            ("500/=", code::AMOUNT_CURRENCY),
            ("N500", code::AMOUNT_CURRENCY),
            ("1 000", code::AMOUNT_SPACES),
            (" 5", code::AMOUNT_SPACES),
            ("1\u{a0}000", code::AMOUNT_SPACES),
            ("1.5e3", code::AMOUNT_EXPONENT),
            ("4.6E+10", code::AMOUNT_EXPONENT),
            ("+5", code::AMOUNT_PLUS),
            (".5", code::AMOUNT_POINT),
            ("5.", code::AMOUNT_POINT),
            ("1.23456", code::AMOUNT_DECIMALS),
            ("100000000000000", code::AMOUNT_TOO_LARGE),
            ("99999999999999999999.00", code::AMOUNT_TOO_LARGE),
            ("12.5O", code::BAD_AMOUNT),
            ("n/a", code::BAD_AMOUNT),
            ("-", code::BAD_AMOUNT),
            (".", code::BAD_AMOUNT),
            ("--5", code::BAD_AMOUNT),
            ("NaN", code::BAD_AMOUNT),
            ("0x1F", code::BAD_AMOUNT),
            ("1.2.", code::AMOUNT_THOUSANDS),
            ("٥٠", code::BAD_AMOUNT),
            ("(500)", code::BAD_AMOUNT),
        ] {
            assert_eq!(parse(text).map_err(|fault| fault.code), Err(code), "{text}");
        }
    }

    proptest! {
        #[test]
        fn an_amount_reads_back_as_it_was_written(value in -999_999_999_999_999_999_i64..=999_999_999_999_999_999) {
            let sign = if value < 0 { "-" } else { "" };
            let (whole, rest) = (value.unsigned_abs() / 10_000, value.unsigned_abs() % 10_000);
            let text = format!("{sign}{whole}.{rest:04}");
            prop_assert_eq!(parse(&text), Ok(value));
            prop_assert_eq!(parse(text.trim_end_matches('0').trim_end_matches('.')), Ok(value));
        }

        #[test]
        fn any_text_is_an_amount_or_a_named_mistake(text in "\\PC{0,24}|[-+.,0-9eE ]{0,24}") {
            let grammar = |text: &str| {
                let digits = text.strip_prefix('-').unwrap_or(text);
                let (whole, rest) = digits.split_once('.').unwrap_or((digits, "0"));
                let all = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
                all(whole) && all(rest)
            };
            match parse(&text) {
                Ok(_) => prop_assert!(grammar(&text)),
                Err(fault) if [code::AMOUNT_DECIMALS, code::AMOUNT_TOO_LARGE].contains(&fault.code) => {
                    prop_assert!(grammar(&text));
                }
                Err(_) => prop_assert!(!grammar(&text)),
            }
        }
    }
}
