//! What a file of connections comes to as a whole: each id once, and rows that contradict one another rejected, because
//! nothing says which of them is right.

use std::collections::HashMap;

use super::{Connection, Field};
use crate::payments::report::{RowError, Warning, clip};

/// Row errors that a report holds.
const ERRORS_IN_REPORT: usize = 100;

/// The code of rows that have one id and say different things.
const CONFLICTING_ID: &str = "conflicting_id";

/// The connections of a file or of a JSON body, and what is wrong with the others: `read = connections + repeated + rejected`.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Rows in all.
    pub read: u64,
    pub rejected: u64,
    /// Rows that stand earlier and say the same.
    pub repeated: u64,
    /// Each id once.
    pub connections: Vec<Connection>,
    /// The first errors, in the order of the file.
    pub errors: Vec<RowError>,
    pub warnings: Vec<Warning>,
    /// Whether the file as a whole cannot be read, so that not even its good rows count.
    pub unreadable: bool,
}

/// Where a row is: the line on which it starts, and its first byte.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) byte: u64,
}

/// Gathers rows as they are read.
pub(super) struct Rows {
    /// What the id is called in what is read.
    id_name: &'static str,
    good: Vec<(Place, Connection)>,
    /// Ids of rows that are at fault, and the line of the first: another row of such an id contradicts it.
    bad_ids: HashMap<String, u64>,
    errors: Vec<RowError>,
    rejected: u64,
}

impl Rows {
    pub(super) fn new(id_name: &'static str) -> Self {
        Self { id_name, good: Vec::new(), bad_ids: HashMap::new(), errors: Vec::new(), rejected: 0 }
    }

    pub(super) fn accept(&mut self, place: Place, connection: Connection) {
        self.good.push((place, connection));
    }

    /// Takes a row that is at fault, with its id where that can be read.
    pub(super) fn reject(&mut self, place: Place, id: Option<&str>, errors: Vec<RowError>) {
        self.rejected += 1;
        let room = ERRORS_IN_REPORT.saturating_sub(self.errors.len());
        self.errors.extend(errors.into_iter().take(room));
        if let Some(id) = id.filter(|id| !id.trim().is_empty()) {
            self.bad_ids.entry(id.to_owned()).or_insert(place.line);
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.good.len() as u64 + self.rejected
    }

    /// A file that cannot be read, and why; no row of it counts.
    pub(super) fn unreadable(self, why: Vec<RowError>) -> Decoded {
        let read = self.count();
        let mut errors = why;
        errors.extend(self.errors);
        errors.truncate(ERRORS_IN_REPORT);
        Decoded { read, rejected: read, errors, unreadable: true, ..Decoded::default() }
    }

    pub(super) fn finish(mut self, warnings: Vec<Warning>) -> Decoded {
        let read = self.count();
        let fates = self.fates();
        let (mut repeated, mut connections) = (0, Vec::with_capacity(self.good.len()));
        for ((place, connection), fate) in self.good.into_iter().zip(fates) {
            match fate {
                Fate::Counts => connections.push(connection),
                Fate::Repeats => repeated += 1,
                Fate::Contradicts { other_line } => {
                    self.rejected += 1;
                    self.errors.push(RowError {
                        line: place.line,
                        byte: place.byte,
                        column: Some(self.id_name.to_owned()),
                        code: CONFLICTING_ID.to_owned(),
                        value: connection.get(Field::ExternalId).map(|id| clip(id).to_owned()),
                        message: format!(
                            "line {other_line} has the same id and says something else; keep the right one of the two, or \
                             give each its own id"
                        ),
                    });
                }
            }
        }
        self.errors.sort_by_key(|error| (error.line, error.byte));
        self.errors.truncate(ERRORS_IN_REPORT);
        let rejected = self.rejected;
        Decoded { read, rejected, repeated, connections, errors: self.errors, warnings, unreadable: false }
    }

    /// What becomes of each good row.
    fn fates(&self) -> Vec<Fate> {
        let mut by_id: HashMap<&str, Vec<usize>> = HashMap::with_capacity(self.good.len());
        for (row, (_, connection)) in self.good.iter().enumerate() {
            by_id.entry(connection.external_id()).or_default().push(row);
        }
        let mut fates = vec![Fate::Counts; self.good.len()];
        for (id, rows) in by_id {
            let (first, rest) = (rows[0], &rows[1..]);
            let (first_place, first_says) = &self.good[first];
            let different = rest.iter().find(|row| self.good[**row].1 != *first_says);
            let other = different.map(|row| self.good[*row].0.line).or(self.bad_ids.get(id).copied());
            let Some(other_line) = other else {
                for row in rest {
                    fates[*row] = Fate::Repeats;
                }
                continue;
            };
            for row in &rows {
                let is_as_first = self.good[*row].1 == *first_says;
                let other_line = if is_as_first { other_line } else { first_place.line };
                fates[*row] = Fate::Contradicts { other_line };
            }
        }
        fates
    }
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Counts,
    Repeats,
    Contradicts { other_line: u64 },
}
