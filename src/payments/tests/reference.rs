//! A second reader of payment files, slow and plain, that shares no code with the first, and what holds for every file:
//! that the two agree.

use std::collections::BTreeSet;

use chrono::{DateTime, FixedOffset, NaiveDate};

use super::{pieces::Pieces, *};
use crate::payments::{
    definition::COLUMNS,
    file_definition::Format,
    report::{clip, code},
};

/// A value between two commas.
struct Field {
    byte: usize,
    /// With its quotes taken off; as it stands where it is at fault.
    value: Vec<u8>,
    fault: bool,
}

struct Row {
    line: u64,
    byte: usize,
    /// Where its line end begins.
    end: usize,
    fields: Vec<Field>,
}

/// The rows of a file, its header the first, and whether the last is whole: after a quote that never closes it is not.
struct Rows {
    rows: Vec<Row>,
    whole: bool,
}

/// The length of the line end that stands at an offset.
fn line_end(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes[at..] {
        [b'\n', ..] | [b'\r'] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => None,
    }
}

impl Rows {
    fn of(bytes: &[u8]) -> Self {
        let mut found = Self { rows: Vec::new(), whole: true };
        let (mut at, mut line) = (if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 }, 1);
        while at < bytes.len() && found.whole {
            if let Some(length) = line_end(bytes, at) {
                (at, line) = (at + length, line + 1);
                continue;
            }
            let (row, whole) = Row::at(bytes, at, line);
            line += 1 + row.line_breaks(bytes);
            at = row.end + line_end(bytes, row.end).unwrap_or(0);
            found.rows.push(row);
            found.whole = whole;
        }
        found
    }
}

impl Row {
    /// The row at an offset, and whether its last quote closes.
    fn at(bytes: &[u8], byte: usize, line: u64) -> (Self, bool) {
        let mut row = Self { line, byte, end: byte, fields: Vec::new() };
        loop {
            let (field, end) = Field::at(bytes, row.end);
            row.fields.extend(field);
            match (end, end.and_then(|end| bytes.get(end))) {
                (Some(end), Some(b',')) => row.end = end + 1,
                (Some(end), _) => {
                    row.end = end;
                    return (row, true);
                }
                (None, _) => {
                    row.end = bytes.len();
                    return (row, false);
                }
            }
        }
    }

    /// Whether no field has a value, as in what a spreadsheet leaves below its last row.
    fn is_blank(&self) -> bool {
        self.fields
            .iter()
            .all(|field| !field.fault && std::str::from_utf8(&field.value).is_ok_and(|text| text.trim().is_empty()))
    }

    fn line_breaks(&self, bytes: &[u8]) -> u64 {
        bytes[self.byte..self.end].iter().map(|byte| u64::from(*byte == b'\n')).sum()
    }
}

impl Field {
    /// The field at an offset and where it ends; neither where its quote never closes.
    fn at(bytes: &[u8], byte: usize) -> (Option<Self>, Option<usize>) {
        let (mut at, mut value, quoted) = (byte, Vec::new(), bytes.get(byte) == Some(&b'"'));
        if quoted {
            at += 1;
            loop {
                match bytes[at..] {
                    [] => return (None, None),
                    [b'"', b'"', ..] => at += 1,
                    [b'"', ..] => break,
                    _ => {}
                }
                value.push(bytes[at]);
                at += 1;
            }
            at += 1;
        }
        let rest = at;
        while at < bytes.len() && bytes[at] != b',' && line_end(bytes, at).is_none() {
            at += 1;
        }
        let fault = if quoted { at > rest } else { bytes[rest..at].contains(&b'\r') };
        if fault || !quoted {
            value = bytes[byte..at].to_vec();
        }
        (Some(Self { byte, value, fault }), Some(at))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.value).into_owned()
    }
}

/// An amount in ten-thousandths, where a text is one.
pub(super) fn amount(text: &str) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let (whole_digits, decimal_digits) = (whole.trim_start_matches('0'), decimals.trim_end_matches('0'));
    let fits = is_number(whole) && is_number(decimals) && whole_digits.len() <= 14 && decimal_digits.len() <= 4;
    fits.then(|| sign * format!("{whole_digits}{decimal_digits:0<4}").parse::<i128>().unwrap())
}

/// What a text is as a timestamp, its range aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timestamp {
    /// UTC microseconds.
    At(i64),
    /// It has the form, and there is no such date, time or offset.
    Impossible,
    NoForm,
}

pub(super) fn timestamp(text: &str) -> Timestamp {
    let form: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let is_clock = |form: &str| ["0000-00-00 00:00:00", "0000-00-00T00:00:00"].contains(&form);
    if !form.get(..19).is_some_and(is_clock) {
        return Timestamp::NoForm;
    }
    let zone = text[19..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let decimals = &text[19..text.len() - zone.len()];
    let is_fraction = form[19..].starts_with('.') && (2..=7).contains(&decimals.len()) && !decimals[1..].contains('.');
    let is_zone = ["", "Z", "+00:00", "-00:00"].contains(&&form[text.len() - zone.len()..]);
    if !(decimals.is_empty() || is_fraction) || !is_zone {
        return Timestamp::NoForm;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<u32>().unwrap();
    let micros = format!("{:0<6}", decimals.trim_start_matches('.')).parse().unwrap();
    let offset = match zone.split_once(':') {
        Some((_, minutes)) if minutes > "59" => None,
        Some((hours, minutes)) => {
            let minutes = hours[1..].parse::<i32>().unwrap() * 60 + minutes.parse::<i32>().unwrap();
            Some(if hours.starts_with('-') { -minutes } else { minutes }).filter(|_| minutes <= 14 * 60)
        }
        None => Some(0),
    };
    let year = i32::try_from(number(0, 4)).unwrap();
    NaiveDate::from_ymd_opt(year, number(5, 7), number(8, 10))
        .and_then(|day| day.and_hms_micro_opt(number(11, 13), number(14, 16), number(17, 19), micros))
        .zip(offset.and_then(|minutes| FixedOffset::east_opt(minutes * 60)))
        .and_then(|(local, offset)| local.and_local_timezone(offset).single())
        .map_or(Timestamp::Impossible, |at| Timestamp::At(at.timestamp_micros()))
}

/// `4.6E+10`, in any spelling that is no serial number.
fn is_scientific(text: &str) -> bool {
    let form: String = text.trim().chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let form = form.replace(',', ".").replace('e', "E").replace('-', "+");
    let Some((mantissa, exponent)) = form.strip_prefix('+').unwrap_or(&form).split_once('E') else { return false };
    let zeros = |text: &str| !text.is_empty() && text.chars().all(|c| c == '0');
    let decimals = mantissa.strip_prefix("0.").is_some_and(zeros);
    let signed = exponent.strip_prefix('+').is_some_and(zeros);
    (decimals && (signed || zeros(exponent))) || (mantissa == "0" && signed)
}

/// The values of a row by the names of their columns, where it is a payment.
fn payment<'a>(row: &'a Row, header: &'a [String], limits: Limits) -> Option<Vec<(&'a str, &'a str)>> {
    let readable = |field: &Field| !field.fault && !field.value.contains(&0) && field.value.len() <= limits.field_bytes;
    if row.fields.len() != header.len() || !row.fields.iter().all(readable) {
        return None;
    }
    let values = row.fields.iter().map(|field| std::str::from_utf8(&field.value));
    let values: Vec<&str> = values.collect::<Result<_, _>>().ok()?;
    let pairs: Vec<(&str, &str)> = header.iter().map(String::as_str).zip(values).collect();
    let names = ["ID", "METER_ID", "UTILITY_ID", "CUSTOMER_ID", "external_id"];
    let is_good = |(name, value): &(&str, &str)| {
        let column = COLUMNS.iter().find(|column| column.name == *name).unwrap();
        match column.format {
            _ if value.trim().is_empty() => !column.required,
            Format::Amount => amount(value).is_some(),
            Format::Timestamp => matches!(timestamp(value), Timestamp::At(at) if is_payable(at)),
            _ => !(names.contains(name) && is_scientific(value)),
        }
    };
    pairs.iter().all(is_good).then_some(pairs)
}

/// Whether a payment may have that instant: from the year 2000 to what the tests call tomorrow.
pub(super) fn is_payable(micros: i64) -> bool {
    let year_2000 = DateTime::parse_from_rfc3339("2000-01-01T00:00:00Z").unwrap().timestamp_micros();
    (year_2000..=NOT_AFTER).contains(&micros)
}

/// All that a decoder gives of a file, up to where it ends or is refused.
#[derive(Debug, PartialEq)]
struct Taken {
    header: Vec<String>,
    /// Line and byte of each accepted row.
    places: Vec<(u64, u64)>,
    batches: Vec<RecordBatch>,
    rejected: Vec<RejectedRow>,
    refusal: Option<Vec<RowError>>,
    summary: Summary,
}

/// None where the header is refused, with why.
fn take(input: impl Read, limits: Limits) -> Result<Taken, Vec<RowError>> {
    let why = |error| match error {
        DecodeError::File(errors) => errors,
        DecodeError::Io(error) => panic!("{error}"),
    };
    let mut decoder = Decoder::new(input, context(limits)).map_err(why)?;
    let header = decoder.header().to_vec();
    let (mut places, mut batches, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
    let refusal = loop {
        match decoder.next_batch() {
            Ok(None) => break None,
            Ok(Some(batch)) => {
                places.extend(batch.lines.into_iter().zip(batch.bytes));
                batches.push(batch.payments);
                rejected.extend(batch.rejected);
            }
            Err(error) => break Some(why(error)),
        }
    };
    Ok(Taken { header, places, batches, rejected, refusal, summary: decoder.finish() })
}

/// Asserts what holds for any bytes. Gives the codes of all that was said about them.
///
/// How the bytes arrive makes no difference. Accepted and rejected rows together are the rows of the file, each at its
/// line and byte, those aside that have no value. An accepted row means what its bytes say, a rejected one is wrong, and each error leads to its place.
pub(super) fn assert_adds_up(bytes: &[u8], limits: Limits) -> BTreeSet<String> {
    let taken = take(bytes, limits);
    assert_eq!(take(Pieces::by_chance(bytes), limits), taken, "it matters how the bytes arrive");
    let Rows { rows, whole } = Rows::of(bytes);
    let taken = match taken {
        Ok(taken) => taken,
        Err(errors) => {
            assert_header_is_wrong(bytes, rows.first().filter(|_| whole || rows.len() > 1), &errors, limits);
            return errors.into_iter().map(|error| error.code).collect();
        }
    };
    let names: Vec<String> = rows[0].fields.iter().map(Field::text).collect();
    assert_eq!(taken.header, names);
    let stop = stop(&rows, whole, limits);
    let end = stop.as_ref().map_or(rows.len(), |(row, _)| *row);
    let (blank, read): (Vec<&Row>, Vec<&Row>) = rows[1..end].iter().partition(|row| row.is_blank());
    let passed_over = taken.summary.warnings.iter().find(|warning| warning.code == code::BLANK_ROW);
    assert_eq!(
        passed_over.map(|warning| (warning.count, warning.line)),
        blank.first().map(|row| (blank.len() as u64, row.line))
    );
    assert_eq!(taken.refusal.as_ref().map(|errors| errors[0].code.as_str()), stop.map(|(_, code)| code));
    assert_eq!(taken.summary.read, read.len() as u64);
    assert_eq!(taken.summary.rejected, taken.rejected.len() as u64);

    let texts = |name: &str| -> Vec<Option<String>> {
        let text = |batch: &RecordBatch| cast(batch.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
        let owned = |value: Option<&str>| value.map(str::to_owned);
        taken
            .batches
            .iter()
            .flat_map(|batch| text(batch).as_string::<i32>().iter().map(owned).collect::<Vec<_>>())
            .collect()
    };
    let lake: Vec<(&str, Vec<Option<String>>)> =
        FILE_SCHEMA.fields().iter().map(|field| (field.name().as_str(), texts(field.name()))).collect();
    let (mut accepted, mut rejected) = (taken.places.iter().enumerate(), taken.rejected.iter());
    for row in read {
        let place = (row.line, row.byte as u64);
        match payment(row, &names, limits) {
            Some(values) => {
                let (at, found) = accepted.next().expect("a row that is right is accepted");
                assert_eq!(*found, place);
                let kept: Vec<(&str, Option<&str>)> =
                    lake.iter().map(|(name, column)| (*name, column[at].as_deref())).collect();
                assert_means(&kept, &values);
            }
            None => assert_rejected(rejected.next().expect("a row that is wrong is rejected"), row, &names),
        }
    }
    assert!(accepted.next().is_none() && rejected.next().is_none(), "there are more rows than the file has");
    let errors = taken.rejected.into_iter().flat_map(|row| row.errors).chain(taken.refusal.into_iter().flatten());
    let said = errors.map(|error| error.code).chain(taken.summary.warnings.into_iter().map(|warning| warning.code));
    said.collect()
}

/// The row before which reading ends, and the code that says why; none where it ends with the file.
fn stop(rows: &[Row], whole: bool, limits: Limits) -> Option<(usize, &'static str)> {
    let mut read = 0;
    for (number, row) in rows.iter().enumerate().skip(1) {
        if !whole && number + 1 == rows.len() {
            // The end of such a row is that of the file, and its quote is looked for within the limit and a line end.
            let too_long = row.end - row.byte >= limits.row_bytes + 3;
            return Some((number, if too_long { code::ROW_TOO_LONG } else { code::UNTERMINATED_QUOTE }));
        }
        if row.end - row.byte > limits.row_bytes {
            return Some((number, code::ROW_TOO_LONG));
        }
        read += u64::from(!row.is_blank());
        if read > limits.rows {
            return Some((number, code::TOO_MANY_ROWS));
        }
    }
    (read == 0).then_some((rows.len(), code::NO_ROWS))
}

/// Asserts that a file whose header was refused has a header that is wrong, and that the errors lead into it.
fn assert_header_is_wrong(bytes: &[u8], header: Option<&Row>, errors: &[RowError], limits: Limits) {
    assert!(!errors.is_empty());
    for error in errors {
        let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
        assert!(error.byte <= bytes.len() as u64 && (1..=lines).contains(&error.line), "{error:?}");
    }
    let Some(header) = header else { return };
    let names: Vec<String> = header.fields.iter().map(Field::text).collect();
    let once: BTreeSet<&String> = names.iter().collect();
    let known = names.iter().all(|name| COLUMNS.iter().any(|column| column.name == name));
    let complete = COLUMNS.iter().all(|column| !column.required || names.iter().any(|name| name == column.name));
    let plain = once.len() == names.len() && header.fields.iter().all(|field| !field.fault);
    let fits = header.end - header.byte <= limits.row_bytes;
    assert!(!(known && complete && plain && fits), "the header is right: {errors:?}");
}

/// Asserts that the columns of a payment hold what its row says.
fn assert_means(kept: &[(&str, Option<&str>)], values: &[(&str, &str)]) {
    let value = |name: &str| values.iter().find(|(known, value)| *known == name && !value.trim().is_empty());
    let value = |name: &str| value(name).map(|(_, value)| *value);
    for (name, found) in kept {
        let source = value("PAYMENT_SOURCE").or(value("Source"));
        match (*name, COLUMNS.iter().find(|column| column.lake_column == *name)) {
            ("site", _) => assert_eq!(*found, value("LOCATION").or(Some("Default Site"))),
            ("payment_source", _) => assert_eq!(*found, source),
            ("source", _) if source.is_none() => assert_eq!(*found, Some("unknown")),
            ("currency", _) => assert_eq!(*found, Some("KES")),
            ("customer_category", _) => assert_eq!(*found, None),
            (_, Some(column)) => {
                let said = value(column.name);
                match column.format {
                    Format::Amount => assert_eq!(found.map(|text| amount(text).unwrap()), said.and_then(amount)),
                    Format::Timestamp => assert_eq!(timestamp(found.unwrap()), timestamp(said.unwrap())),
                    _ => assert_eq!(*found, said, "{name}"),
                }
            }
            (_, None) => assert!(found.is_some(), "{name}"),
        }
    }
}

/// Asserts that a rejected row is the one that stands there, and that each of its errors leads to a field of it.
fn assert_rejected(found: &RejectedRow, row: &Row, header: &[String]) {
    assert_eq!((found.line, found.byte), (row.line, row.byte as u64));
    let fields: Vec<String> = row.fields.iter().map(Field::text).take(256).collect();
    assert_eq!(found.fields, fields);
    assert!(!found.errors.is_empty());
    for error in &found.errors {
        assert_eq!(error.line, row.line);
        let Some(value) = &error.value else {
            assert_eq!((error.byte, &error.column), (row.byte as u64, &None));
            continue;
        };
        let place = row.fields.iter().position(|field| field.byte as u64 == error.byte).expect("it is that of a field");
        assert_eq!(value, clip(&row.fields[place].text()));
        assert_eq!(error.column.as_ref(), header.get(place));
    }
}
