//! Bytes → records: RFC 4180, strictly, streaming, without an allocation per record.
//!
//! A record is known by the line and the byte on which it starts, and so is each of its fields, because an error must
//! lead to its place in a file of millions of rows. What the CSV grammar leaves open is refused rather than guessed:
//! after a quote that never closes there is no telling where the next record begins, so the file ends there.

use std::io::{self, Read};

use super::report::{RowError, code};

/// How much is read at a time, beyond the longest record.
const CHUNK: usize = 1 << 20;

/// Bytes beyond the longest record that it takes to see its end: CR, LF, and one more to tell that it has none.
const LOOKAHEAD: usize = 3;

/// Why no further record can be had.
#[derive(Debug)]
pub(crate) enum RecordError {
    Io(io::Error),
    /// The file cannot be read on from here.
    Malformed(Box<RowError>),
}

/// What is wrong with a single field's form; the record around it is still whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FieldFault {
    /// Something stands between a closing quote and the next comma.
    TextAfterQuote,
    /// A carriage return that belongs to no line end, outside quotes.
    LoneCarriageReturn,
}

/// Where a field's text is. Offsets are from the start of the record, or into the unescaped bytes.
#[derive(Clone, Copy, Debug)]
struct Span {
    /// Of the field in the record, its opening quote included.
    raw: usize,
    start: usize,
    end: usize,
    unescaped: bool,
    fault: Option<FieldFault>,
}

/// One record, lent until the next is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    /// The line on which it starts; the first line of the file is 1.
    pub(crate) line: u64,
    /// The offset in the file of its first byte.
    pub(crate) byte: u64,
    /// Whether a line end follows; the last record of a file may have none.
    pub(crate) terminated: bool,
    bytes: &'a [u8],
    unescaped: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Record<'a> {
    /// The number of fields, at least one.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The record as the file has it, without its line end.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A field's value, with its quotes taken off.
    pub(crate) fn field(&self, index: usize) -> &'a [u8] {
        let span = self.spans[index];
        let home = if span.unescaped { self.unescaped } else { self.bytes };
        &home[span.start..span.end]
    }

    /// The offset in the file of a field's first byte.
    pub(crate) fn byte_of(&self, index: usize) -> u64 {
        self.byte + self.spans[index].raw as u64
    }

    pub(crate) fn fault(&self, index: usize) -> Option<FieldFault> {
        self.spans[index].fault
    }

    pub(crate) fn has_fault(&self) -> bool {
        self.spans.iter().any(|span| span.fault.is_some())
    }

    /// The record as text, or none where it is not UTF-8. One check for all fields: they are cut at ASCII bytes.
    pub(crate) fn text(&self) -> Option<RecordText<'a>> {
        let whole = std::str::from_utf8(self.bytes).ok()?;
        let unescaped = std::str::from_utf8(self.unescaped).ok()?;
        Some(RecordText { whole, unescaped, spans: self.spans })
    }
}

/// A record whose fields are known to be UTF-8.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordText<'a> {
    whole: &'a str,
    unescaped: &'a str,
    spans: &'a [Span],
}

impl<'a> RecordText<'a> {
    /// A field's value, with its quotes taken off.
    pub(crate) fn field(&self, index: usize) -> &'a str {
        let span = self.spans[index];
        let home = if span.unescaped { self.unescaped } else { self.whole };
        &home[span.start..span.end]
    }
}

/// Splits a file into records. Memory: one buffer of [`CHUNK`] and the longest record.
pub(crate) struct Records<R> {
    input: R,
    row_bytes: usize,
    buffer: Vec<u8>,
    /// What is not yet given out: `buffer[start..end]`.
    start: usize,
    end: usize,
    /// The offset in the file of `buffer[start]`.
    byte: u64,
    line: u64,
    /// Whether `end` is the end of the file.
    ended: bool,
    spans: Vec<Span>,
    unescaped: Vec<u8>,
}

impl<R: Read> Records<R> {
    /// `row_bytes` is the limit on a record's length.
    pub(crate) fn new(input: R, row_bytes: usize) -> Self {
        Self {
            input,
            row_bytes,
            buffer: vec![0; row_bytes.saturating_add(LOOKAHEAD + CHUNK)],
            start: 0,
            end: 0,
            byte: 0,
            line: 1,
            ended: false,
            spans: Vec::new(),
            unescaped: Vec::new(),
        }
    }

    /// The start of the file, as much of it as fits into the buffer; nothing is consumed.
    pub(crate) fn peek(&mut self) -> io::Result<&[u8]> {
        self.fill()?;
        Ok(&self.buffer[self.start..self.end])
    }

    /// Leaves out `count` bytes, which are on the current line.
    pub(crate) fn skip(&mut self, count: usize) {
        let count = count.min(self.end - self.start);
        self.start += count;
        self.byte += count as u64;
    }

    /// The next record; none at the end of the file. Blank lines are passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Record<'_>>, RecordError> {
        let found = loop {
            let left = self.end - self.start;
            let window = left.min(self.row_bytes + LOOKAHEAD);
            let capped = window == self.row_bytes + LOOKAHEAD;
            let splitter = Splitter {
                bytes: &self.buffer[self.start..self.start + window],
                last: self.ended && !capped,
                spans: &mut self.spans,
                unescaped: &mut self.unescaped,
                breaks: 0,
            };
            match splitter.split() {
                Split::Blank(length) => {
                    self.skip(length);
                    self.line += 1;
                }
                Split::End => return Ok(None),
                Split::More { quote } if capped => return Err(self.too_long(quote)),
                Split::More { .. } => self.fill().map_err(RecordError::Io)?,
                Split::Unterminated { at, breaks } => return Err(self.unterminated(at, breaks)),
                Split::Record(found) => break found,
            }
        };
        if found.length > self.row_bytes {
            return Err(self.too_long(None));
        }
        let (line, byte, start) = (self.line, self.byte, self.start);
        self.skip(found.length + found.line_end);
        self.line += found.breaks + u64::from(found.terminated);
        Ok(Some(Record {
            line,
            byte,
            terminated: found.terminated,
            bytes: &self.buffer[start..start + found.length],
            unescaped: &self.unescaped,
            spans: &self.spans,
        }))
    }

    /// Moves what is left to the front and reads until the buffer is full or the file ends, so that what is found does
    /// not depend on how the input cuts its bytes.
    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while !self.ended && self.end < self.buffer.len() {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn too_long(&self, quote: Option<(usize, u64)>) -> RecordError {
        let hint = quote.map_or_else(String::new, |(_, breaks)| {
            format!("; a quote that opens on line {} is not closed by then", self.line + breaks)
        });
        let message = format!("the row is longer than {} bytes (upload.max_row_bytes){hint}", self.row_bytes);
        malformed(code::ROW_TOO_LONG, self.line, self.byte, message)
    }

    fn unterminated(&self, at: usize, breaks: u64) -> RecordError {
        let message = "a quote opens here and never closes: close it, or double it if it is meant as text. \
                       Nothing after it can be read. If the file was cut off, export it again"
            .to_owned();
        malformed(code::UNTERMINATED_QUOTE, self.line + breaks, self.byte + at as u64, message)
    }
}

fn malformed(code: &str, line: u64, byte: u64, message: String) -> RecordError {
    let error = RowError { line, byte, column: None, code: code.to_owned(), value: None, message };
    RecordError::Malformed(Box::new(error))
}

/// What the start of the unread bytes is.
enum Split {
    Record(Found),
    /// A blank line, of so many bytes with its end.
    Blank(usize),
    /// The end of the file.
    End,
    /// It takes more bytes to tell. `quote` is where a quoted field is open: its offset, and the line breaks before it.
    More {
        quote: Option<(usize, u64)>,
    },
    /// The file ends inside the quoted field that opens `at`, after so many line breaks of this record.
    Unterminated {
        at: usize,
        breaks: u64,
    },
}

struct Found {
    /// Bytes without the line end.
    length: usize,
    /// Bytes of the line end.
    line_end: usize,
    terminated: bool,
    /// Line breaks inside quotes.
    breaks: u64,
}

/// How a field ends.
enum FieldEnd {
    Comma,
    /// With a line end of so many bytes; none of a line feed where the file ends.
    Line {
        bytes: usize,
        terminated: bool,
    },
    More,
}

struct Splitter<'a> {
    bytes: &'a [u8],
    /// Whether the file ends where `bytes` end.
    last: bool,
    spans: &'a mut Vec<Span>,
    unescaped: &'a mut Vec<u8>,
    breaks: u64,
}

impl Splitter<'_> {
    fn split(mut self) -> Split {
        match self.bytes {
            [] if self.last => return Split::End,
            [] => return Split::More { quote: None },
            [b'\n', ..] => return Split::Blank(1),
            [b'\r', b'\n', ..] => return Split::Blank(2),
            [b'\r'] if self.last => return Split::Blank(1),
            _ => {}
        }
        self.spans.clear();
        self.unescaped.clear();
        let mut at = 0;
        loop {
            let breaks_before = self.breaks;
            let quoted = self.bytes.get(at) == Some(&b'"');
            let (end, ending) = if quoted {
                match self.quoted(at) {
                    Some(found) => found,
                    None if self.last => return Split::Unterminated { at, breaks: breaks_before },
                    None => return Split::More { quote: Some((at, breaks_before)) },
                }
            } else {
                let (end, ending, stray) = self.plain(at);
                let fault = stray.then_some(FieldFault::LoneCarriageReturn);
                self.spans.push(Span { raw: at, start: at, end, unescaped: false, fault });
                (end, ending)
            };
            match ending {
                FieldEnd::Comma => at = end + 1,
                FieldEnd::Line { bytes, terminated } => {
                    return Split::Record(Found { length: end, line_end: bytes, terminated, breaks: self.breaks });
                }
                FieldEnd::More => return Split::More { quote: None },
            }
        }
    }

    /// Where the unquoted text from `from` on ends, how, and whether it holds a stray carriage return.
    fn plain(&self, from: usize) -> (usize, FieldEnd, bool) {
        let mut at = from;
        let mut stray = false;
        loop {
            let Some(next) = memchr::memchr3(b',', b'\n', b'\r', &self.bytes[at..]) else {
                let end = self.bytes.len();
                let ending = if self.last { FieldEnd::Line { bytes: 0, terminated: false } } else { FieldEnd::More };
                return (end, ending, stray);
            };
            let end = at + next;
            let ending = match (self.bytes[end], self.bytes.get(end + 1)) {
                (b',', _) => FieldEnd::Comma,
                (b'\n', _) => FieldEnd::Line { bytes: 1, terminated: true },
                (_, Some(b'\n')) => FieldEnd::Line { bytes: 2, terminated: true },
                // A file that was cut between CR and LF has lost nothing.
                (_, None) if self.last => FieldEnd::Line { bytes: 1, terminated: false },
                (_, None) => FieldEnd::More,
                (_, Some(_)) => {
                    stray = true;
                    at = end + 1;
                    continue;
                }
            };
            return (end, ending, stray);
        }
    }

    /// Takes the quoted field that opens at `open`; none where the bytes end before it closes.
    fn quoted(&mut self, open: usize) -> Option<(usize, FieldEnd)> {
        let mut at = open + 1;
        let mut escapes = false;
        let close = loop {
            let found = at + memchr::memchr2(b'"', b'\n', &self.bytes[at..])?;
            if self.bytes[found] == b'\n' {
                self.breaks += 1;
                at = found + 1;
                continue;
            }
            match self.bytes.get(found + 1) {
                Some(b'"') => {
                    escapes = true;
                    at = found + 2;
                }
                None if !self.last => return None,
                _ => break found,
            }
        };
        let (end, ending, stray) = self.plain(close + 1);
        let span = if end > close + 1 {
            // The raw text, quotes and all, so that the report shows what stands there.
            let fault = if stray { FieldFault::LoneCarriageReturn } else { FieldFault::TextAfterQuote };
            Span { raw: open, start: open, end, unescaped: false, fault: Some(fault) }
        } else if escapes {
            let start = self.unescaped.len();
            self.unescape(open + 1, close);
            Span { raw: open, start, end: self.unescaped.len(), unescaped: true, fault: None }
        } else {
            Span { raw: open, start: open + 1, end: close, unescaped: false, fault: None }
        };
        self.spans.push(span);
        Some((end, ending))
    }

    /// Appends `bytes[from..to]` with each doubled quote made one.
    fn unescape(&mut self, from: usize, to: usize) {
        let mut at = from;
        while let Some(quote) = memchr::memchr(b'"', &self.bytes[at..to]) {
            self.unescaped.extend_from_slice(&self.bytes[at..=at + quote]);
            at += quote + 2;
        }
        self.unescaped.extend_from_slice(&self.bytes[at..to]);
    }
}
