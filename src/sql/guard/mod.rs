//! What stands before the engine: whether a text is one query that reads what everybody may name, calls what is offered, and
//! is small enough to be planned. Pure; what is planned is the tree that was checked, never the text once more.

pub(super) mod dialect;
mod expressions;
mod from;
mod tokens;
mod walk;

use datafusion::sql::{
    parser::Statement,
    sqlparser::{
        ast::{Query, Statement as SqlStatement},
        parser::{Parser, ParserError},
        tokenizer::Token,
    },
};

use self::{
    dialect::QueryDialect,
    tokens::{Tokens, place},
    walk::Walker,
};
use super::fault::{Fault, FaultKind, Place, shown};
use crate::config::SqlLimits;

/// A query that may be planned.
#[derive(Clone, Debug)]
pub struct Checked {
    query: Box<Query>,
    /// Whether the plan is asked for, and not the rows.
    pub explain: bool,
    /// The names of its placeholders, without the `$`, in the order in which they first come.
    pub parameters: Vec<String>,
    /// Whether the same over the same rows can answer otherwise at another time.
    pub reads_clock: bool,
}

impl Checked {
    /// What the engine plans.
    #[must_use]
    pub fn statement(self) -> Statement {
        Statement::Statement(Box::new(SqlStatement::Query(self.query)))
    }
}

/// Checks the text of a statement. It neither plans nor reads anything, and takes little stack whatever the text.
///
/// # Errors
/// What is wrong with it, and where.
pub fn check(sql: &str, limits: &SqlLimits) -> Result<Checked, Fault> {
    let Tokens { query: tokens, explain } = Tokens::of(sql, limits)?;
    let end = tokens.last().and_then(|token| place(token.span.end));
    // The parser counts its own calls, which are several a bracket.
    let dialect = QueryDialect::for_tokens(tokens.len());
    let mut parser = Parser::new(&dialect)
        .with_tokens_with_locations(tokens)
        .with_recursion_limit(limits.max_nesting * CALLS_OF_A_BRACKET + SPARE_CALLS);
    let query = parser.parse_query().map_err(|error| of_parser(error, end, limits))?;
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        let detail = format!("the query ends before {}", shown(&rest.token.to_string()));
        return Err(Fault::new(FaultKind::Syntax, detail, place(rest.span.start)));
    }
    let mut walker = Walker::new(limits);
    walker.query(&query)?;
    let Walker { parameters, reads_clock, .. } = walker;
    let numbered = parameters.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).count();
    if numbered != 0 && numbered != parameters.len() {
        let detail = "parameters are numbered or named, not both";
        return Err(Fault::new(FaultKind::Invalid, detail, None));
    }
    Ok(Checked { query, explain, parameters, reads_clock })
}

/// A query in brackets is a relation, a query and an expression.
const CALLS_OF_A_BRACKET: usize = 3;
/// For what calls itself without a bracket: NOT, CASE.
const SPARE_CALLS: usize = 30;

/// The parser puts the place at the end of its words.
fn of_parser(error: ParserError, end: Option<Place>, limits: &SqlLimits) -> Fault {
    let words = match error {
        ParserError::RecursionLimitExceeded => {
            let what = "expressions are in one another too deep";
            return Fault::too_large("sql.max_nesting", what, limits.max_nesting, None);
        }
        ParserError::ParserError(words) | ParserError::TokenizerError(words) => words,
    };
    let parts = words.rsplit_once(" at Line: ").and_then(|(words, numbers)| {
        let (line, column) = numbers.split_once(", Column: ")?;
        Some((words, Place { line: line.parse().ok()?, column: column.parse().ok()? }))
    });
    let (words, place) = match parts {
        Some((words, place)) => (words, (place.line > 0).then_some(place).or(end)),
        None => (words.as_str(), end),
    };
    Fault::new(FaultKind::Syntax, shown_words(words), place)
}

/// The parser's words, which quote what it found: on one line, and not more than a few.
fn shown_words(words: &str) -> String {
    words.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
