//! The bytes of a file of connections → connections, by the rules of files of payments: RFC 4180, exact names in any order,
//! every record accepted, repeated or rejected exactly once.

use std::io::{self, Read};

use chrono::NaiveDate;

use super::{
    CONNECTIONS, Decoded, FIELDS, Field, read,
    repeats::{Place, Rows},
};
use crate::payments::{
    decoder::{DecodeError, Limits, blank_rows_from, foreign, is_blank_record, refused},
    fields::{RowForm, is_formula},
    file_definition::Format,
    header::Layout,
    records::{Record, Records},
    report::{RowError, code},
    warnings::{Concern, Warnings},
};

/// Reads a file to its end. `last_day` is the last day that a connection may have.
///
/// # Errors
/// The input failed. What is wrong with the file is in what is given.
pub fn decode_csv(input: impl Read, limits: Limits, last_day: NaiveDate) -> io::Result<Decoded> {
    let mut rows = Rows::new(Field::ExternalId.definition().name);
    match read_into(&mut rows, input, limits, last_day) {
        Ok(warnings) => Ok(rows.finish(warnings)),
        Err(DecodeError::File(errors)) => Ok(rows.unreadable(errors)),
        Err(DecodeError::Io(error)) => Err(error),
    }
}

fn read_into(
    rows: &mut Rows,
    input: impl Read,
    limits: Limits,
    last_day: NaiveDate,
) -> Result<Vec<crate::payments::report::Warning>, DecodeError> {
    let mut records = Records::new(input, limits.row_bytes);
    let start = records.peek()?;
    if let Some((code, message)) = foreign(start) {
        return Err(refused(1, 0, code, message));
    }
    if start.starts_with(b"\xef\xbb\xbf") {
        records.skip(3);
    }
    let Some(header) = records.next()? else {
        let message = "the file is empty; it starts with a header row, as the template does".to_owned();
        return Err(refused(1, 0, code::EMPTY_FILE, message));
    };
    let layout = Layout::read(&CONNECTIONS, &[], &header).map_err(DecodeError::File)?;
    let form = RowForm { layout, limits };
    let (mut warnings, mut blank) = (Warnings::of(&CONNECTIONS), None);
    while let Some(record) = records.next()? {
        if is_blank_record(&record) {
            blank.get_or_insert_with(|| blank_rows_from(record.line)).count += 1;
            continue;
        }
        if rows.count() == limits.rows {
            let message = format!("the file has more than {} rows (connections.max_rows); split it", limits.rows);
            return Err(refused(record.line, record.byte, code::TOO_MANY_ROWS, message));
        }
        take(rows, &form, &record, last_day, &mut warnings);
    }
    if rows.count() == 0 {
        let message = "the file has a header and no rows".to_owned();
        return Err(refused(1, 0, code::NO_ROWS, message));
    }
    Ok(warnings.into_list().into_iter().chain(blank).collect())
}

fn take(rows: &mut Rows, form: &RowForm, record: &Record<'_>, last_day: NaiveDate, warnings: &mut Warnings) {
    let place = Place { line: record.line, byte: record.byte };
    let text = record.text();
    let mut errors = form.faults(record, text.is_some());
    if record.len() != form.layout.len() {
        return rows.reject(place, None, errors);
    }
    let mut values = [""; FIELDS];
    form.readable_values(record, &mut values);
    let unreadable: Vec<u64> = errors.iter().map(|error| error.byte).collect();
    match read::connection(&values, last_day) {
        Ok(connection) if errors.is_empty() => {
            warn_of_text(record.line, &values, warnings);
            rows.accept(place, connection);
        }
        read => {
            let more = read.err().into_iter().flatten().map(|fault| error_of(form, record, fault));
            errors.extend(more.filter(|error| !unreadable.contains(&error.byte)));
            rows.reject(place, Some(values[Field::ExternalId.index()]), errors);
        }
    }
}

fn error_of(form: &RowForm, record: &Record<'_>, fault: read::Fault) -> RowError {
    let read::Fault { field, code, message } = fault;
    // A fault is told of a field that the file has; were it not, it would be the row's.
    form.error_in(record, field.index(), code, message.clone()).unwrap_or_else(|| RowError {
        line: record.line,
        byte: record.byte,
        column: None,
        code: code.to_owned(),
        value: None,
        message,
    })
}

/// Counts values that are kept as they are and may not be what was meant.
fn warn_of_text(line: u64, values: &read::Values<'_>, warnings: &mut Warnings) {
    for field in Field::ALL {
        let value = values[field.index()];
        if read::PADDING.contains(&field) && value.trim().len() != value.len() {
            warnings.count(Concern::PaddedValue, field.index(), value, line);
        }
        let is_text = matches!(field.definition().format, Format::Identifier | Format::Text);
        // Telephone numbers begin with a plus.
        if is_text && field != Field::Phone && is_formula(value) {
            warnings.count(Concern::FormulaText, field.index(), value, line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(text: &str) -> Decoded {
        let limits = Limits { rows: 6, ..Limits::default() };
        decode_csv(text.as_bytes(), limits, NaiveDate::from_ymd_opt(2024, 6, 1).unwrap()).unwrap()
    }

    fn told(decoded: &Decoded) -> Vec<(u64, &str, &str)> {
        decoded
            .errors
            .iter()
            .map(|error| (error.line, error.column.as_deref().unwrap_or(""), error.code.as_str()))
            .collect()
    }

    #[test]
    fn the_template_is_a_file_of_good_connections() {
        let decoded = decode(&CONNECTIONS.template());
        assert_eq!((decoded.read, decoded.connections.len(), decoded.errors), (2, 2, Vec::new()));
        assert_eq!(decoded.warnings, []);
    }

    #[test]
    fn every_row_counts_repeats_or_is_rejected_and_ids_that_contradict_one_another_are() {
        let decoded = decode(
            "SITE,EXTERNAL_ID,CATEGORY\nHill,1,Public\n\n,2,\nHill,1,PUBLIC\n\"Lake\",2,\n,3,Hut\nHill,3,Public\n,,\n",
        );
        assert_eq!((decoded.read, decoded.repeated, decoded.rejected), (6, 1, 4));
        assert_eq!(decoded.connections.iter().map(super::super::Connection::external_id).collect::<Vec<_>>(), ["1"]);
        let expected = [
            (4, "EXTERNAL_ID", "conflicting_id"),
            (6, "EXTERNAL_ID", "conflicting_id"),
            (7, "CATEGORY", "unknown_category"),
            (8, "EXTERNAL_ID", "conflicting_id"),
        ];
        assert_eq!(told(&decoded), expected);
        assert!(decoded.errors[3].message.contains("line 7"), "{:?}", decoded.errors[3]);
        assert_eq!(decoded.warnings.iter().map(|warning| warning.code.as_str()).collect::<Vec<_>>(), ["blank_row"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_refused_as_a_whole() {
        for (text, code) in [
            ("", "empty_file"),
            ("EXTERNAL_ID\n", "no_rows"),
            ("EXTERNAL_ID;SITE\n1;2\n", "wrong_delimiter"),
            ("external_id\n1\n", "wrong_case_column"),
            ("EXTERNAL_ID,SITES\n1,2\n", "unknown_column"),
            ("SITE\nHill\n", "missing_column"),
            ("EXTERNAL_ID\n1\n\"2\n", "unterminated_quote"),
            ("EXTERNAL_ID\n1\n2\n3\n4\n5\n6\n7\n", "too_many_rows"),
        ] {
            let decoded = decode(text);
            assert!(decoded.unreadable && decoded.connections.is_empty(), "{text}");
            assert_eq!(decoded.errors[0].code, code, "{text}");
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_tells_all_its_faults_once() {
        let decoded = decode("EXTERNAL_ID,CATEGORY,LATITUDE\n\"1\"x,Hut,1\n2,Public\n3,Public,1,\n");
        let expected = [
            (2, "EXTERNAL_ID", "text_after_quote"),
            (2, "CATEGORY", "unknown_category"),
            (2, "LATITUDE", "incomplete_place"),
            (3, "", "short_row"),
            (4, "", "long_row"),
        ];
        assert_eq!(told(&decoded), expected);
        let padded = decode("EXTERNAL_ID,SITE,PHONE\n1 ,=Hill,+254\n");
        let told: Vec<_> = padded.warnings.iter().map(|warning| warning.code.as_str()).collect();
        assert_eq!(told, ["padded_value", "formula_text"]);
        assert_eq!(padded.connections[0].external_id(), "1 ");
    }
}
