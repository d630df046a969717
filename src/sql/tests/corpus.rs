use std::time::Duration;

use super::{Hostile, SECRET, hostile, limits, on_a_stack_of, planned, run, session, timed};
use crate::sql::{Fault, check};

/// A guard that is asked this much of a statement has read it more than a few times.
const MOST_TIME: Duration = Duration::from_secs(5);

#[test]
fn the_corpus_has_what_it_promises() {
    let statements = hostile();
    assert!(statements.len() >= 300, "{}", statements.len());
    for Hostile { at, outcome, .. } in &statements {
        let (what, code) = outcome.split_once(' ').unwrap_or((outcome, ""));
        assert!(["refused", "unplanned", "fails", "runs", "ends"].contains(&what), "{at}: {outcome}");
        assert_eq!(code.is_empty(), ["runs", "ends"].contains(&what), "{at}: {outcome}");
    }
}

#[test]
fn the_guard_answers_each_hostile_statement_as_listed_on_a_small_stack_and_at_once() {
    let wrong = on_a_stack_of(384 << 10, || {
        let limits = limits();
        let mut wrong = Vec::new();
        for Hostile { at, sql, outcome } in hostile() {
            let (answer, time) = timed(|| check(&sql, &limits));
            assert!(time < MOST_TIME, "{at} takes {time:?}");
            let answer = match answer {
                Ok(_) => "passes".to_owned(),
                Err(error) => {
                    told_well(&at, &error);
                    format!("refused {}", error.kind.code())
                }
            };
            let expected = if outcome.starts_with("refused") { outcome.as_str() } else { "passes" };
            if answer != expected {
                wrong.push(format!("{at}: {answer}, not {expected}: {}", sql.chars().take(120).collect::<String>()));
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// An error says something, on one line, of bounded length, and where it is.
fn told_well(at: &str, error: &Fault) {
    let text = error.to_string();
    assert!((10..600).contains(&text.chars().count()), "{at}: {text}");
    assert!(!text.chars().any(char::is_control), "{at}: {text}");
    assert_eq!(error.setting.is_some(), error.kind == crate::sql::FaultKind::TooLarge, "{at}: {text}");
    assert!(error.setting.is_none() || text.contains(error.setting.as_deref().unwrap()), "{at}: {text}");
}

#[test]
fn what_the_guard_lets_pass_is_planned_on_the_stack_of_a_thread_and_tells_no_value() {
    let wrong = on_a_stack_of(2 << 20, || {
        let (limits, context) = (limits(), session());
        let mut wrong = Vec::new();
        for Hostile { at, sql, outcome } in hostile() {
            let Ok(checked) = check(&sql, &limits) else { continue };
            let bound = checked.parameters.is_empty();
            let explain = checked.explain;
            let (plan, _) = timed(|| planned(&context, checked));
            let answer = match plan {
                Err(error) => format!("unplanned {}", told(&at, Fault::of_planning(&error)).kind.code()),
                Ok(_) if outcome == "ends" => outcome.clone(),
                Ok(plan) => match context.state().optimize(&plan) {
                    _ if !bound || explain => "runs".to_owned(),
                    Err(error) => format!("fails {}", told(&at, Fault::of_running(&error)).kind.code()),
                    Ok(_) => match run(&context, plan) {
                        Ok(_) => "runs".to_owned(),
                        Err(error) => format!("fails {}", told(&at, Fault::of_running(&error)).kind.code()),
                    },
                },
            };
            if answer != outcome && !outcome.starts_with("refused") {
                wrong.push(format!("{at}: {answer}, not {outcome}: {}", sql.chars().take(120).collect::<String>()));
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is told of an error has no value of a row in it, and no path.
fn told(at: &str, error: Fault) -> Fault {
    let text = error.to_string();
    for hidden in [SECRET, "Amina", "Kitobo", "Mwangi", "0x", "/root", "/home", "src/", ".rs", "backtrace"] {
        assert!(!text.contains(hidden), "{at}: {text}");
    }
    error
}
