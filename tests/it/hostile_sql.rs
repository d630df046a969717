//! Hostile SQL through HTTP: the corpus of `tests/hostile_sql/`, and statements that are made by chance, as an analyst whose
//! organisation is shown a part of what another has, whose every text is a canary. Whatever is asked is answered in time, tells
//! nothing that is not the asker's, and leaves the server and its neighbours as they were.
//! `make hostile STATEMENTS=100000` makes that many; by itself it is some hundreds.

#[path = "../fuzz/chance.rs"]
#[allow(dead_code, reason = "fuzz targets use the rest")]
mod chance;
#[path = "../hostile_sql/corpus.rs"]
mod corpus;
#[path = "../hostile_sql/maker.rs"]
mod maker;
mod siege;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::binary::{rounds, say_aloud};
use chance::Chance;
use corpus::{Hostile, hostile};
use maker::Maker;
use siege::{Heard, Question, Siege};

/// Statements that are made in an ordinary run of the tests.
const MADE: u64 = 300;
/// For a statement that ends on its own: its deadline is not what is tried.
const PATIENT_S: u64 = 20;
/// For one that does not.
const SHORT_S: u64 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_hostile_statement_is_answered_as_listed_in_time_and_tells_nothing_of_others() {
    let siege = Siege::begin().await;
    let statements = hostile();
    assert!(statements.len() > 700, "{}", statements.len());
    let (endless, others): (Vec<_>, Vec<_>) = statements.into_iter().partition(|hostile| hostile.outcome == "ends");
    let mut wrong = Vec::new();
    // Those that take all that they get come last, so that the others are not late because of them.
    for (statements, timeout_s, at_once) in [(others, PATIENT_S, 3), (endless, SHORT_S, 4)] {
        let questions = statements.iter().map(|Hostile { sql, .. }| Question { sql, params: params(sql), timeout_s });
        let heard = siege.ask_all(questions, at_once).await;
        for (Hostile { at, sql, outcome }, heard) in statements.iter().zip(heard) {
            if !is_listed(outcome, &heard) {
                let sql: String = sql.chars().take(120).collect();
                wrong.push(format!("{at}: {}, not {outcome}: {sql}", heard.told()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} end otherwise:\n{}", wrong.len(), wrong.join("\n"));
    say_aloud(&siege.end().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_statement_is_made_by_chance_its_answer_is_in_time_and_tells_nothing_of_others() {
    let made = rounds("SQL_STATEMENTS", MADE);
    let by_chance = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // The same each time, unless it is more than usual.
    let seed = rounds("SQL_SEED", if made == MADE { 1 } else { by_chance() });
    let siege = Siege::begin().await;
    let mut maker = Maker::new(seed);
    let (mut wrong, mut answered) = (Vec::new(), 0);
    for begun in (0..made).step_by(1000) {
        let statements: Vec<String> = (begun..made.min(begun + 1000)).map(|_| maker.statement()).collect();
        let questions = statements.iter().map(|sql| Question { sql, params: params(sql), timeout_s: SHORT_S });
        for (sql, heard) in statements.iter().zip(siege.ask_all(questions, 3).await) {
            answered += u64::from(heard.status == 200);
            if !is_an_end(&heard) {
                wrong.push(format!("{}: {:?}", heard.told(), sql.chars().take(2000).collect::<String>()));
            }
        }
    }
    assert!(wrong.is_empty(), "SQL_SEED={seed}: {} end otherwise:\n{}", wrong.len(), wrong.join("\n"));
    // Were none answered, it would be a test of the guard alone.
    assert!(answered * 50 > made, "{answered} of {made} are answered");
    say_aloud(&format!("{made} statements made with SQL_SEED={seed}, {answered} answered\n{}", siege.end().await));
}

/// Values for the placeholders of those statements of the corpus that have some, and for those that are made.
fn params(sql: &str) -> Value {
    match sql {
        sql if sql.contains("$from") => {
            let at = |at: &str| json!({"type": "timestamp", "value": at});
            json!({"from": at("2024-01-01T00:00:00Z"), "to": at("2025-01-01T00:00:00Z"), "site": "a"})
        }
        sql if sql.contains("> ? AND site = ?") => json!([1, "a"]),
        sql if sql.contains("$1") => json!([1]),
        _ => Value::Null,
    }
}

/// Whether an answer is what the corpus says.
fn is_listed(outcome: &str, heard: &Heard) -> bool {
    let (what, code) = outcome.split_once(' ').unwrap_or((outcome, ""));
    match what {
        "runs" => (heard.status, heard.is_whole) == (200, true),
        "ends" => is_an_end(heard),
        // More than the body of a request may have never comes to be parsed.
        "refused" if code == "sql_too_large" && heard.code == "body_too_large" => heard.status == 413,
        _ => heard.code == code && heard.status == status_of(code),
    }
}

/// Whether an answer is any that SQL can come to, and no failure of the server.
fn is_an_end(heard: &Heard) -> bool {
    match (heard.status, heard.code.as_str()) {
        (200, "") | (413, "body_too_large") | (504, "deadline") | (422, "row_too_large") => true,
        (status, code) => (code.starts_with("sql_") || code == "out_of_memory") && status == status_of(code),
    }
}

/// The status of a fault of a statement.
fn status_of(code: &str) -> u16 {
    match code {
        "sql_syntax" | "sql_not_allowed" | "sql_unknown_name" | "sql_type" | "sql_invalid" => 400,
        "sql_too_large" | "sql_execution" | "out_of_memory" => 422,
        _ => panic!("{code} is no fault of a statement"),
    }
}
