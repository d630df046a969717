//! A statement as tokens: whether it is one query, and how deep a tree it makes, before anything that calls itself reads it.
//!
//! Brackets make a tree deep, and so do operators in a row: `a + b + c` is a sum in a sum. A bracket may stand below every operator
//! of its row, and these below those of the bracket around it, so what counts is the sum along the way: `max_chain`.

use datafusion::sql::sqlparser::{
    keywords::Keyword,
    tokenizer::{Location, Token, TokenWithSpan, Tokenizer, Word},
};

use super::dialect::QueryDialect;
use crate::{
    config::SqlLimits,
    sql::fault::{Fault, FaultKind, Place, shown},
};

/// The tokens of one query.
#[derive(Debug)]
pub(super) struct Tokens {
    /// Without those of EXPLAIN.
    pub(super) query: Vec<TokenWithSpan>,
    /// Whether EXPLAIN stands before it.
    pub(super) explain: bool,
}

pub(super) fn place(location: Location) -> Option<Place> {
    (location.line > 0).then_some(Place { line: location.line, column: location.column })
}

impl Tokens {
    pub(super) fn of(sql: &str, limits: &SqlLimits) -> Result<Self, Fault> {
        if sql.len() > limits.max_bytes {
            let what = format!("the statement has {} bytes", sql.len());
            return Err(Fault::too_large("sql.max_bytes", &what, limits.max_bytes, None));
        }
        let tokens = Tokenizer::new(&QueryDialect::for_tokens(0), sql).tokenize_with_location();
        let tokens =
            tokens.map_err(|error| Fault::new(FaultKind::Syntax, shown(&error.message), place(error.location)))?;
        let mut query: Vec<_> =
            tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)).collect();
        if let Some(first_too_many) = query.get(limits.max_tokens) {
            let what = format!("the statement has {} tokens", query.len());
            let place = place(first_too_many.span.start);
            return Err(Fault::too_large("sql.max_tokens", &what, limits.max_tokens, place));
        }
        only_statement(&mut query)?;
        number_places(&mut query);
        let explain = is_explain(&mut query)?;
        starts_query(query.first())?;
        measure(&query, limits)?;
        Ok(Self { query, explain })
    }
}

/// A `?` is the next place: `$1`, `$2`, and so on.
fn number_places(tokens: &mut [TokenWithSpan]) {
    let is_question = |token: &Token| match token {
        Token::Question => true,
        Token::Placeholder(name) => name == "?",
        _ => false,
    };
    let questions = tokens.iter_mut().filter(|token| is_question(&token.token));
    for (place, token) in (1..).zip(questions) {
        token.token = Token::Placeholder(format!("${place}"));
    }
}

/// Takes off what ends the statement; nothing may follow.
fn only_statement(tokens: &mut Vec<TokenWithSpan>) -> Result<(), Fault> {
    let Some(end) = tokens.iter().position(|token| token.token == Token::SemiColon) else { return Ok(()) };
    match tokens[end..].iter().find(|token| token.token != Token::SemiColon) {
        None => {
            tokens.truncate(end);
            Ok(())
        }
        Some(second) => {
            let detail = "one statement at a time: something follows the semicolon";
            Err(Fault::new(FaultKind::NotAllowed, detail, place(second.span.start)))
        }
    }
}

fn keyword(token: &TokenWithSpan) -> Option<Keyword> {
    match &token.token {
        Token::Word(Word { quote_style: None, keyword, .. }) => Some(*keyword),
        _ => None,
    }
}

/// Takes off EXPLAIN, which has no options here: what they show is the engine's.
fn is_explain(tokens: &mut Vec<TokenWithSpan>) -> Result<bool, Fault> {
    if tokens.first().and_then(keyword) != Some(Keyword::EXPLAIN) {
        return Ok(false);
    }
    tokens.remove(0);
    let option = [Keyword::ANALYZE, Keyword::VERBOSE, Keyword::FORMAT, Keyword::EXPLAIN];
    let Some(next) = tokens.first() else { return Ok(true) };
    let second = tokens.get(1).and_then(keyword);
    let listed = next.token == Token::LParen && second.is_some_and(|keyword| !STARTS.contains(&keyword));
    if listed || keyword(next).is_some_and(|keyword| option.contains(&keyword)) {
        let detail = "EXPLAIN takes a query and no options";
        return Err(Fault::new(FaultKind::NotAllowed, detail, place(next.span.start)));
    }
    Ok(true)
}

/// What a query begins with.
const STARTS: [Keyword; 3] = [Keyword::SELECT, Keyword::WITH, Keyword::VALUES];

fn starts_query(first: Option<&TokenWithSpan>) -> Result<(), Fault> {
    let queries = "a statement is SELECT, WITH, VALUES, or EXPLAIN before one of them";
    let Some(first) = first else {
        return Err(Fault::new(FaultKind::Syntax, format!("there is none: {queries}"), None));
    };
    let place = place(first.span.start);
    match &first.token {
        Token::LParen => Ok(()),
        Token::Word(word) if word.quote_style.is_none() && STARTS.contains(&word.keyword) => Ok(()),
        Token::Word(word) if word.quote_style.is_none() && word.keyword != Keyword::NoKeyword => {
            let detail = format!("{queries}; {} is not offered", shown(&word.value.to_uppercase()));
            Err(Fault::new(FaultKind::NotAllowed, detail, place))
        }
        Token::Word(word) => {
            let meant =
                crate::nearest::nearest(&word.value, ["SELECT", "WITH", "VALUES", "EXPLAIN"]).map(str::to_owned);
            let hint = meant.as_ref().map_or(String::new(), |meant| format!("; did you mean {meant}?"));
            let detail = format!("{queries}, and not {:?}{hint}", shown(&word.value));
            Err(Fault { meant, ..Fault::new(FaultKind::Syntax, detail, place) })
        }
        other => Err(Fault::new(FaultKind::Syntax, format!("{queries}, and not {}", shown(&other.to_string())), place)),
    }
}

/// What stands between two brackets of the same pair, as far as it was read.
#[derive(Clone, Copy, Default)]
struct Group {
    /// Operators since the last comma.
    chain: usize,
    /// The deepest of the brackets in it since the last comma.
    below: usize,
    /// The deepest of what stood before the last comma.
    deepest: usize,
    /// UNION and its like, which commas do not divide.
    set_operations: usize,
}

impl Group {
    fn depth(self) -> usize {
        self.deepest.max(self.chain + self.below) + self.set_operations + 1
    }
}

/// # Errors
/// Where the tree of the statement would be too deep, or has too many arms.
fn measure(tokens: &[TokenWithSpan], limits: &SqlLimits) -> Result<(), Fault> {
    let mut open: Vec<Group> = Vec::new();
    let mut group = Group::default();
    let mut set_operations = 0;
    // The engine calls itself for an interval of an interval, however many there are.
    let is_interval = |token: &TokenWithSpan| keyword(token) == Some(Keyword::INTERVAL);
    if let Some(twice) = tokens.windows(2).find(|pair| pair.iter().all(is_interval)) {
        return Err(Fault::new(FaultKind::NotAllowed, "INTERVAL INTERVAL is not offered", place(twice[1].span.start)));
    }
    for token in tokens {
        let place = place(token.span.start);
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => {
                // `INT[][]` is a list of lists, so that these count in a row too.
                group.chain += usize::from(token.token != Token::LParen);
                open.push(std::mem::take(&mut group));
                if open.len() > limits.max_nesting {
                    let what = format!("{} brackets are in one another", open.len());
                    return Err(Fault::too_large("sql.max_nesting", &what, limits.max_nesting, place));
                }
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                let Some(outer) = open.pop() else {
                    let detail = format!("a {} that nothing opened", token.token);
                    return Err(Fault::new(FaultKind::Syntax, detail, place));
                };
                let depth = group.depth();
                group = Group { below: outer.below.max(depth), ..outer };
            }
            Token::Comma => {
                group = Group { deepest: group.deepest.max(group.chain + group.below), chain: 0, below: 0, ..group };
            }
            _ if keyword(token).is_some_and(|keyword| SET_OPERATIONS.contains(&keyword)) => {
                set_operations += 1;
                group.set_operations += 1;
                if set_operations > limits.max_set_operations {
                    let what = format!("{set_operations} of UNION, INTERSECT and EXCEPT");
                    return Err(Fault::too_large("sql.max_set_operations", &what, limits.max_set_operations, place));
                }
            }
            _ if deepens(token) => group.chain += 1,
            _ => {}
        }
        // Those of the brackets around it come on top of it.
        if open.iter().map(|group| group.chain).sum::<usize>() + group.depth() > limits.max_chain {
            let what = "an expression has too many operators";
            return Err(Fault::too_large("sql.max_chain", what, limits.max_chain, place));
        }
    }
    Ok(())
}

const SET_OPERATIONS: [Keyword; 4] = [Keyword::UNION, Keyword::INTERSECT, Keyword::EXCEPT, Keyword::MINUS];

/// Words that make a tree deeper, however they are used.
const DEEPENING: [Keyword; 33] = [
    Keyword::AND,
    Keyword::OR,
    Keyword::XOR,
    Keyword::NOT,
    Keyword::IS,
    Keyword::NOTNULL,
    Keyword::IN,
    Keyword::BETWEEN,
    Keyword::LIKE,
    Keyword::ILIKE,
    Keyword::SIMILAR,
    Keyword::RLIKE,
    Keyword::REGEXP,
    Keyword::MATCH,
    Keyword::MEMBER,
    Keyword::OVERLAPS,
    Keyword::OPERATOR,
    Keyword::COLLATE,
    Keyword::AT,
    Keyword::DIV,
    Keyword::CASE,
    Keyword::INTERVAL,
    Keyword::EXISTS,
    Keyword::PRIOR,
    Keyword::CONNECT_BY_ROOT,
    Keyword::LAMBDA,
    Keyword::ARRAY,
    Keyword::JOIN,
    Keyword::APPLY,
    Keyword::PIVOT,
    Keyword::UNPIVOT,
    Keyword::MATCH_RECOGNIZE,
    Keyword::LATERAL,
];

/// Whether a token can put what stands beside it one level down: every operator, and the words that are like one.
fn deepens(token: &TokenWithSpan) -> bool {
    match &token.token {
        Token::Word(_) => keyword(token).is_some_and(|keyword| DEEPENING.contains(&keyword)),
        Token::Number(..)
        | Token::Char(_)
        | Token::SingleQuotedString(_)
        | Token::DoubleQuotedString(_)
        | Token::TripleSingleQuotedString(_)
        | Token::TripleDoubleQuotedString(_)
        | Token::DollarQuotedString(_)
        | Token::SingleQuotedByteStringLiteral(_)
        | Token::DoubleQuotedByteStringLiteral(_)
        | Token::TripleSingleQuotedByteStringLiteral(_)
        | Token::TripleDoubleQuotedByteStringLiteral(_)
        | Token::SingleQuotedRawStringLiteral(_)
        | Token::DoubleQuotedRawStringLiteral(_)
        | Token::TripleSingleQuotedRawStringLiteral(_)
        | Token::TripleDoubleQuotedRawStringLiteral(_)
        | Token::NationalStringLiteral(_)
        | Token::QuoteDelimitedStringLiteral(_)
        | Token::NationalQuoteDelimitedStringLiteral(_)
        | Token::EscapedStringLiteral(_)
        | Token::UnicodeStringLiteral(_)
        | Token::HexStringLiteral(_)
        | Token::Placeholder(_)
        | Token::Period
        | Token::Whitespace(_)
        | Token::EOF => false,
        _ => true,
    }
}
