//! The header row: every name exact, in any order. All that is wrong with it is said at once, each with the fix.

use super::{
    file_definition::{ColumnDefinition, FileDefinition},
    records::{FieldFault, Record},
    report::{RowError, clip, code},
    required::RequiredColumn,
};

/// Columns at most that a header is checked for; no definition has as many.
const MAX_COLUMNS: usize = 256;

/// How near a header must be to a right name to be taken for a slip of it (Jaro-Winkler, 0 to 1).
const NEAR: f64 = 0.85;

/// Where the columns of the definition are in a file.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// What the file is to be.
    pub(crate) file: &'static FileDefinition,
    /// The file's own header row, in order.
    pub(crate) names: Vec<String>,
    /// The place in the definition of each field's column.
    columns: Vec<usize>,
    /// The field of each column of the definition.
    places: Vec<Option<usize>>,
}

impl Layout {
    /// The fields of a row.
    pub(crate) fn len(&self) -> usize {
        self.columns.len()
    }

    /// The place in the definition of each field's column, in order.
    pub(crate) fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The column of a field that is not beyond the header.
    pub(crate) fn column(&self, field: usize) -> Option<&'static ColumnDefinition> {
        self.columns.get(field).map(|column| &self.file.columns[*column])
    }

    /// The field of a column, by its place in the definition; none where the file leaves it out.
    pub(crate) fn place(&self, column: usize) -> Option<usize> {
        self.places[column]
    }

    /// Reads the header row of a file that is to be as `file` says, and to have the columns that are `asked` for as well.
    pub(crate) fn read(
        file: &'static FileDefinition,
        asked: &[RequiredColumn],
        record: &Record<'_>,
    ) -> Result<Self, Vec<RowError>> {
        if let Some(error) = unreadable(file, record) {
            return Err(vec![error]);
        }
        let names: Vec<String> =
            (0..record.len()).map(|field| String::from_utf8_lossy(record.field(field)).into_owned()).collect();
        if let [only] = names.as_slice()
            && let Some(error) = wrong_delimiter(record, only)
        {
            return Err(vec![error]);
        }
        let count = file.columns.len();
        let mut check =
            Check { file, record, places: vec![None; count], meant: vec![false; count], errors: Vec::new() };
        let columns: Vec<usize> =
            names.iter().enumerate().filter_map(|(field, name)| check.name(field, name)).collect();
        check.missing(asked);
        if !check.errors.is_empty() {
            return Err(check.errors);
        }
        Ok(Self { file, places: check.places, columns, names })
    }
}

/// What makes a header row no list of names at all.
fn unreadable(file: &FileDefinition, record: &Record<'_>) -> Option<RowError> {
    let at_start = |code, message: &str| Some(error(record.line, record.byte, None, code, None, message.to_owned()));
    let faults = || (0..record.len()).filter_map(|field| record.fault(field));
    if faults().any(|fault| fault == FieldFault::LoneCarriageReturn) {
        return at_start(
            code::CR_LINE_ENDS,
            "the lines end with a carriage return alone, as on old Macs; save the file with LF or CR LF line ends \
             (\"CSV UTF-8\", not \"CSV (Macintosh)\")",
        );
    }
    if faults().any(|fault| fault == FieldFault::TextAfterQuote) {
        return at_start(code::TEXT_AFTER_QUOTE, "a name in the header row has text after its closing quote");
    }
    if memchr::memchr(0, record.bytes()).is_some() {
        return at_start(code::NUL_BYTE, "the header row holds a NUL byte; export the file again as CSV UTF-8");
    }
    if std::str::from_utf8(record.bytes()).is_err() {
        return at_start(code::NOT_UTF8, "the header row is not UTF-8; save the file as \"CSV UTF-8\"");
    }
    if record.len() > MAX_COLUMNS {
        let (there, most, row) = (record.len(), file.columns.len(), file.row);
        let message = format!("the header row has {there} columns; a {row} file has at most {most}");
        return at_start(code::TOO_MANY_COLUMNS, &message);
    }
    None
}

fn wrong_delimiter(record: &Record<'_>, header: &str) -> Option<RowError> {
    let named = [(';', "semicolons"), ('\t', "tabs"), ('|', "vertical bars")];
    let (delimiter, plural) = named.into_iter().find(|(delimiter, _)| header.contains(*delimiter))?;
    let message = format!(
        "the columns are divided by {plural}; save the file with commas (in a spreadsheet: as \"CSV UTF-8\", with English \
         number formats, or else amounts get decimal commas as well)"
    );
    let byte = record.byte_of(0) + header.find(delimiter).unwrap_or(0) as u64;
    Some(error(record.line, byte, None, code::WRONG_DELIMITER, Some(header), message))
}

struct Check<'a> {
    file: &'static FileDefinition,
    record: &'a Record<'a>,
    places: Vec<Option<usize>>,
    /// Columns that a misspelt header certainly means, so that they are not called missing as well.
    meant: Vec<bool>,
    errors: Vec<RowError>,
}

impl Check<'_> {
    /// The place in the definition of the column that a field's header names; an error is noted where it names none, or one
    /// that was before.
    fn name(&mut self, field: usize, name: &str) -> Option<usize> {
        let Some(column) = self.file.columns.iter().position(|definition| definition.name == name) else {
            self.misspelt(field, name);
            return None;
        };
        if let Some(first) = self.places[column] {
            let message = format!(
                "column {} repeats {name:?}, which is column {} already; take one of the two out",
                field + 1,
                first + 1
            );
            self.push(field, name, code::REPEATED_COLUMN, message);
            return None;
        }
        self.places[column] = Some(field);
        Some(column)
    }

    fn misspelt(&mut self, field: usize, name: &str) {
        let columns = self.file.columns;
        let number = field + 1;
        let trimmed = name.trim();
        if trimmed.is_empty() {
            let message =
                format!("column {number} has no name; take the empty column out, or the comma at the end of the line");
            return self.push(field, name, code::UNKNOWN_COLUMN, message);
        }
        if let Some(right) = columns.iter().position(|definition| definition.name == trimmed) {
            self.meant[right] = true;
            let right = columns[right].name;
            let message = format!("column {number} has a space before or after its name: write {right:?}");
            return self.push(field, name, code::PADDED_COLUMN, message);
        }
        // Exact names differ from each other in more than case, so this finds the only one.
        if let Some(right) = columns.iter().position(|definition| definition.name.eq_ignore_ascii_case(trimmed)) {
            self.meant[right] = true;
            let right = columns[right].name;
            let message = format!("column {number} has the wrong case: write {right:?} for {name:?}");
            return self.push(field, name, code::WRONG_CASE_COLUMN, message);
        }
        let spelling = plain(trimmed);
        let nearest = columns
            .iter()
            .enumerate()
            .map(|(column, definition)| (strsim::jaro_winkler(&spelling, &plain(definition.name)), column))
            .max_by(|(one, _), (other, _)| one.total_cmp(other))
            .filter(|(nearness, _)| *nearness >= NEAR);
        let message = match nearest {
            Some((nearness, right)) => {
                self.meant[right] |= nearness >= 1.0;
                let right = columns[right].name;
                format!("column {number} is {name:?}, which is not a name of this file: did you mean {right:?}?")
            }
            None => format!(
                "column {number} is {name:?}, which is not a name of this file: take the column out. The names are {}",
                columns.iter().map(|definition| definition.name).collect::<Vec<_>>().join(", ")
            ),
        };
        self.push(field, name, code::UNKNOWN_COLUMN, message);
    }

    fn missing(&mut self, asked: &[RequiredColumn]) {
        for (index, definition) in self.file.columns.iter().enumerate() {
            let needs = match asked.iter().find(|asked| asked.column == definition.name) {
                _ if definition.required => format!("every {} needs it", self.file.row),
                Some(asked) => asked.who(),
                None => continue,
            };
            if self.places[index].is_none() && !self.meant[index] {
                let message = format!("the column {:?} is missing; {needs}", definition.name);
                let (line, byte) = (self.record.line, self.record.byte);
                self.errors.push(error(line, byte, Some(definition.name), code::MISSING_COLUMN, None, message));
            }
        }
    }

    fn push(&mut self, field: usize, name: &str, code: &str, message: String) {
        self.errors.push(error(self.record.line, self.record.byte_of(field), Some(name), code, Some(name), message));
    }
}

fn error(line: u64, byte: u64, column: Option<&str>, code: &str, value: Option<&str>, message: String) -> RowError {
    let clipped = |text: Option<&str>| text.map(|text| clip(text).to_owned());
    RowError { line, byte, column: clipped(column), code: code.to_owned(), value: clipped(value), message }
}

/// A name without case and without what divides its words.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_uppercase).take(64).collect()
}
