//! Statements that are made by chance: what the guard lets pass is a query by the engine's own parser too, reads nothing but
//! relations and CTEs, calls what is offered, and is planned without a panic on the stack of a thread.

use std::ops::ControlFlow;

use datafusion::sql::{
    parser::{DFParserBuilder, Statement},
    sqlparser::ast::{Expr, ObjectName, Query, Statement as SqlStatement, Visit, Visitor},
};

use super::{hostile, limits, on_a_stack_of, planned, session};
use crate::{
    fuzz::Chance,
    sql::{check, functions, guard::dialect::QueryDialect, relations},
};

/// How many are made in an ordinary run of the tests.
const MADE: usize = 3000;

fn how_many() -> usize {
    crate::fuzz::asked_for("SQL_STATEMENTS").map_or(MADE, |text| text.parse().expect("SQL_STATEMENTS is a number"))
}

#[test]
fn generated_statements_that_pass_are_queries_of_what_is_offered_and_can_be_planned() {
    let (made, passed, plans) = on_a_stack_of(2 << 20, || {
        let (limits, context) = (limits(), session());
        let corpus: Vec<String> = hostile()
            .into_iter()
            .filter(|hostile| hostile.outcome != "ends")
            .map(|hostile| hostile.sql)
            .filter(|sql| sql.len() < 2000)
            .collect();
        let mut maker = Maker { chance: Chance(20_240_503), corpus };
        let (mut passed, mut plans, made) = (0, 0, how_many());
        for _ in 0..made {
            let sql = maker.statement();
            let Ok(checked) = check(&sql, &limits) else { continue };
            passed += 1;
            holds(&sql);
            let context = &context;
            let planned = planned(context, checked).and_then(|plan| context.state().optimize(&plan));
            plans += usize::from(planned.is_ok());
        }
        (made, passed, plans)
    });
    eprintln!("{made} statements, {passed} pass, {plans} have a plan");
    // Were hardly any let pass, the promise would hold for nothing.
    assert!(passed * 10 > made && plans * 30 > made, "{passed} of {made} pass, {plans} have a plan");
}

/// # Panics
/// Where a statement that passed is no query, or names what is not offered: by another parser and another walk.
fn holds(sql: &str) {
    let dialect = QueryDialect::for_tokens(sql.len());
    let parsed = DFParserBuilder::new(sql).with_dialect(&dialect).with_recursion_limit(200).build();
    let mut statements = parsed.and_then(|mut parser| parser.parse_statements()).unwrap_or_else(|error| {
        panic!("{sql:?} passes and is no SQL: {error}");
    });
    assert_eq!(statements.len(), 1, "{sql:?}");
    let mut statement = statements.pop_front().unwrap();
    if let Statement::Explain(explain) = statement {
        assert!(!explain.options.analyze && !explain.options.verbose, "{sql:?}");
        statement = *explain.statement;
    }
    let Statement::Statement(statement) = statement else { panic!("{sql:?} passes and is {statement:?}") };
    assert!(matches!(*statement, SqlStatement::Query(_)), "{sql:?} passes and is {statement:?}");
    let mut names = Names { ctes: Vec::new(), wrong: Vec::new(), statements: 0 };
    let _ = statement.visit(&mut names);
    assert!(names.wrong.is_empty() && names.statements == 1, "{sql:?} passes and names {:?}", names.wrong);
}

/// Everything that a statement names.
struct Names {
    ctes: Vec<String>,
    wrong: Vec<String>,
    statements: usize,
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        self.ctes.extend(ctes.map(|cte| cte.alias.name.value.to_lowercase()));
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name = relation.to_string().trim_matches('"').to_lowercase();
        let known = self.ctes.contains(&name)
            || relations::names().any(|known| known == name)
            || ["generate_series", "range"].contains(&name.as_str());
        if !known {
            self.wrong.push(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        if let Expr::Function(function) = expression {
            let name = function.name.to_string().trim_matches('"').to_lowercase();
            if functions::offered(&name).is_none() {
                self.wrong.push(name);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, _: &SqlStatement) -> ControlFlow<()> {
        self.statements += 1;
        ControlFlow::Continue(())
    }
}

/// Makes statements: queries by the grammar, some with what does not belong into them, and statements of the corpus that
/// are cut, mixed and repeated.
struct Maker {
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
    fn statement(&mut self) -> String {
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
