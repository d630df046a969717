//! Statements that are made by chance.

use super::{Chance, hostile};

/// Of a statement of the corpus that others are made of.
const MOST_BYTES: usize = 2000;

/// Makes statements: queries by the grammar, some with what does not belong into them, and statements of the corpus that
/// are cut, mixed and repeated.
pub(crate) struct Maker {
    chance: Chance,
    corpus: Vec<String>,
}

const COLUMNS: [&str; 8] = ["site", "amount", "paid_at", "customer_name", "p.site", "\"site\"", "month", "settlement"];
const LITERALS: [&str; 12] = [
    "1",
    "0",
    "-1",
    "1.5",
    "'a'",
    "''",
    "NULL",
    "true",
    "DATE '2024-05-01'",
    "INTERVAL '1 day'",
    "$1",
    "99999999999999999999",
];
const OPERATORS: [&str; 16] =
    ["+", "-", "*", "/", "%", "||", "=", "<>", "<", ">=", "AND", "OR", "IS DISTINCT FROM", "LIKE", "~", "&"];
const CALLS: [&str; 22] = [
    "sum",
    "count",
    "min",
    "avg",
    "abs",
    "coalesce",
    "concat",
    "upper",
    "date_trunc",
    "round",
    "nullif",
    "replace",
    "repeat",
    "array_agg",
    "string_agg",
    "exact_median",
    "version",
    "random",
    "pg_sleep",
    "public.sum",
    "regexp_like",
    "to_char",
];
const RELATIONS: [&str; 12] = [
    "payments",
    "payments p",
    "projects",
    "sites",
    "uploads",
    "c",
    "generate_series(1, 3) p",
    "api_keys",
    "\"/etc/passwd\"",
    "information_schema.tables",
    "unnest([1, 2]) p",
    "PAYMENTS",
];
const SPLICED: [&str; 24] = [
    ";",
    "; DROP TABLE payments",
    " UNION ALL SELECT 1",
    " INTO t",
    "(",
    ")",
    "'",
    "\"",
    "--",
    "/*",
    "*/",
    "$$",
    " FOR UPDATE",
    " RECURSIVE ",
    "INSERT INTO payments ",
    "EXPLAIN ",
    "\u{202e}",
    "\u{0}",
    " LIMIT 1 OFFSET -1",
    ",",
    "[",
    "]",
    "::",
    " AS ",
];

impl Maker {
    /// Begins anew, from the statements of the corpus that are not made to go on for ever.
    pub(crate) fn new(seed: u64) -> Self {
        let ends = hostile().into_iter().filter(|hostile| hostile.outcome != "ends").map(|hostile| hostile.sql);
        Self { chance: Chance(seed), corpus: ends.filter(|sql| sql.len() < MOST_BYTES).collect() }
    }

    pub(crate) fn statement(&mut self) -> String {
        let mut sql = match self.chance.below(4) {
            0 => self.chance.of::<str>(&self.corpus.clone()).to_owned(),
            _ => self.query(3),
        };
        if self.chance.below(12) == 0 {
            sql = format!("EXPLAIN {sql}");
        }
        for _ in 0..self.chance.below(5).saturating_sub(2) {
            self.change(&mut sql);
        }
        sql
    }

    /// Cuts, repeats or puts in something, between two characters.
    fn change(&mut self, sql: &mut String) {
        let places: Vec<usize> = sql.char_indices().map(|(place, _)| place).chain([sql.len()]).collect();
        let here = self.chance.stretch(places.len() - 1);
        let (start, end) = (places[here.start], places[here.end.max(here.start)]);
        match self.chance.below(5) {
            0 => sql.insert_str(start, self.chance.of::<str>(&SPLICED)),
            1 => drop(sql.drain(start..end)),
            2 => {
                let again = sql[start..end].repeat(1 + self.chance.below(300));
                sql.insert_str(end, &again);
            }
            3 => {
                let other = self.query(1);
                sql.insert_str(start, &format!("({other})"));
            }
            _ => sql.truncate(start),
        }
    }

    #[allow(clippy::format_push_string, reason = "a statement grows clause by clause")]
    fn query(&mut self, depth: usize) -> String {
        let with = match self.chance.below(5) {
            0 if depth > 0 => format!("WITH c AS ({}) ", self.query(depth - 1)),
            _ => String::new(),
        };
        let items: Vec<String> = (0..=self.chance.below(3)).map(|item| self.item(depth, item)).collect();
        let mut sql = format!("{with}SELECT {}", items.join(", "));
        if self.chance.below(8) != 0 {
            sql += &format!(" FROM {}", self.relation(depth));
            for _ in 0..self.chance.below(3) / 2 {
                let on = self.expression(depth.min(1));
                sql += &format!(" JOIN {} ON {on}", self.relation(depth));
            }
        }
        if self.chance.below(3) == 0 {
            sql += &format!(" WHERE {}", self.expression(depth));
        }
        if self.chance.below(4) == 0 {
            sql += &format!(" GROUP BY {}", self.chance.of::<str>(&["1", "site", "ROLLUP(site)", "CUBE(1, 2)", "ALL"]));
        }
        if self.chance.below(4) == 0 {
            sql += " ORDER BY 1";
        }
        if self.chance.below(4) == 0 {
            sql += " LIMIT 10";
        }
        if depth > 0 && self.chance.below(6) == 0 {
            let operation = self.chance.of::<str>(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]).to_owned();
            sql = format!("({sql}) {operation} ({})", self.query(depth - 1));
        }
        sql
    }

    fn item(&mut self, depth: usize, number: usize) -> String {
        match self.chance.below(6) {
            0 => "*".to_owned(),
            _ => format!("{} AS a{number}", self.expression(depth)),
        }
    }

    fn relation(&mut self, depth: usize) -> String {
        match self.chance.below(4) {
            0 if depth > 0 => format!("({}) p", self.query(depth - 1)),
            // The right ones more often than not.
            1 | 2 => self.chance.of::<str>(&RELATIONS[..4]).to_owned(),
            _ => self.chance.of::<str>(&RELATIONS).to_owned(),
        }
    }

    fn expression(&mut self, depth: usize) -> String {
        let leaf = |chance: &mut Chance| match chance.below(2) {
            0 => chance.of::<str>(&COLUMNS).to_owned(),
            _ => chance.of::<str>(&LITERALS).to_owned(),
        };
        if depth == 0 {
            return leaf(&mut self.chance);
        }
        let inner = |maker: &mut Self| maker.expression(depth - 1);
        match self.chance.below(11) {
            0 | 1 => {
                let operator = self.chance.of::<str>(&OPERATORS).to_owned();
                format!("{} {operator} {}", inner(self), inner(self))
            }
            2 => format!("({})", inner(self)),
            3 => format!("NOT {}", inner(self)),
            4 => format!("CASE WHEN {} THEN {} ELSE {} END", inner(self), inner(self), inner(self)),
            5 => format!("CAST({} AS {})", inner(self), self.chance.of::<str>(&["TEXT", "INT", "DATE", "regclass"])),
            6 => {
                // What may be called more often than not.
                let count = if self.chance.below(4) == 0 { CALLS.len() } else { 16 };
                let call = self.chance.of::<str>(&CALLS[..count]).to_owned();
                let arguments: Vec<String> = (0..=self.chance.below(2)).map(|_| inner(self)).collect();
                let over =
                    self.chance.of::<str>(&["", "", "", " OVER (PARTITION BY site ORDER BY paid_at)"]).to_owned();
                format!("{call}({}){over}", arguments.join(", "))
            }
            7 => format!("{} IN ({}, {})", inner(self), inner(self), inner(self)),
            8 => format!("EXISTS ({})", self.query(depth - 1)),
            9 => format!("({})", self.query(depth - 1)),
            _ => leaf(&mut self.chance),
        }
    }
}
