use std::time::Duration;

use super::{limits, on_a_stack_of, planned, refusal, session, timed};
use crate::{
    config::{SETTINGS, SqlLimits},
    sql::check,
};

/// For a check, on a machine that does other work as well.
const MOST_TIME: Duration = Duration::from_secs(10);
/// What takes longer to be planned, in a process that its deadline ends, is not made any larger here.
const LONG: Duration = Duration::from_secs(1);

/// The largest values that the settings take.
fn largest() -> SqlLimits {
    SqlLimits {
        max_bytes: 1 << 20,
        max_tokens: 100_000,
        max_nesting: 32,
        max_chain: 500,
        max_set_operations: 100,
        max_items: 2000,
        max_in_list: 20_000,
        max_subqueries: 8,
        max_joins: 64,
        max_scans: 1000,
        max_grouping_sets: 1024,
        max_parameters: 1000,
        max_pattern_bytes: 10_000,
        max_text_bytes: 64 << 20,
    }
}

/// Statements that grow with a number, in what makes a tree deep or wide.
const GROWING: &[(&str, &str, &str, &str)] = &[
    ("SELECT ", "(", "1", ")"),
    ("SELECT ", "abs(", "1", ")"),
    ("SELECT ", "coalesce(NULL, ", "1", ")"),
    ("SELECT ", "(SELECT ", "1", ")"),
    ("SELECT ", "CASE WHEN true THEN ", "1", " END"),
    ("SELECT ", "CASE WHEN true THEN (", "1", ") END"),
    ("SELECT ", "CAST(", "1", " AS INT)"),
    ("SELECT ", "NOT ", "true", ""),
    ("SELECT ", "(NOT ", "true", ")"),
    ("SELECT ", "- ", "1", ""),
    ("SELECT ", "[", "1", "]"),
    ("SELECT ", "ARRAY[", "1", "]"),
    ("SELECT ", "(1, ", "1", ")"),
    ("SELECT ", "1 IN (SELECT ", "1", ")"),
    ("SELECT ", "EXISTS (SELECT ", "1", ")"),
    ("SELECT ", "INTERVAL (", "'1 day'", ")"),
    ("SELECT ", "EXTRACT(DAY FROM ", "DATE '2024-01-01'", ")"),
    ("SELECT ", "SUBSTRING(", "'a'", " FROM 1)"),
    ("SELECT ", "TRIM(", "'a'", ")"),
    ("SELECT ", "POSITION(", "'a'", " IN 'a')"),
    ("SELECT ", "sum(1) OVER (ORDER BY ", "1", ")"),
    ("SELECT * FROM ", "(", "payments", ")"),
    ("SELECT * FROM ", "(", "(SELECT 1) a", ")"),
    ("SELECT * FROM ", "(SELECT * FROM ", "payments", ") a"),
    ("SELECT * FROM ", "(payments JOIN ", "payments", " ON true)"),
    ("", "(", "SELECT 1", ")"),
    ("", "(SELECT 1 UNION ", "SELECT 1", ")"),
    ("", "WITH a AS (", "SELECT 1", ") SELECT * FROM a"),
    ("SELECT 1", " + 1", "", ""),
    ("SELECT true", " OR true", "", ""),
    ("SELECT site = 'a'", " OR site = 'a'", " FROM payments", ""),
    ("SELECT amount", " + amount", " FROM payments", ""),
    ("SELECT site", " || site", " FROM payments", ""),
    ("SELECT 1 FROM payments WHERE site = 'a'", " AND amount > 1", "", ""),
    ("SELECT 1", " = 1", "", ""),
    ("SELECT 1", "::INT", "", ""),
    ("SELECT 1", " IS NULL", "", ""),
    ("SELECT 'a'", " LIKE 'a'", "", ""),
    ("SELECT NULL::INT", "[]", "", ""),
    ("SELECT ([1])", "[1]", "", ""),
    ("SELECT 1", " UNION SELECT 1", "", ""),
    ("SELECT 1", " UNION ALL SELECT 1", "", ""),
    ("SELECT 1", " EXCEPT SELECT 1", "", ""),
    ("SELECT 1 FROM payments", " CROSS JOIN payments", "", ""),
    ("SELECT 1 FROM payments", " NATURAL JOIN payments", "", ""),
    ("SELECT 1", ", 1", "", ""),
    ("SELECT 1 IN (1", ", 1", ")", ""),
    ("SELECT site IN ('a'", ", 'b'", ") FROM payments", ""),
    ("VALUES (1)", ", (1)", "", ""),
    ("SELECT CASE", " WHEN site = 'a' THEN 1", " END FROM payments", ""),
    // A column that is made of two of the one below it, and they of four.
    ("SELECT * FROM ", "(SELECT x + x AS x FROM ", "(SELECT amount AS x FROM payments) s", ") s WHERE x > 1"),
];

#[test]
fn the_largest_statement_that_the_guard_lets_pass_fits_the_stack_of_a_thread_whatever_it_grows_in() {
    on_a_stack_of(2 << 20, || {
        let (limits, context) = (largest(), session());
        for (before, opening, inner, closing) in GROWING {
            let statement = |times: usize| format!("{before}{}{inner}{}", opening.repeat(times), closing.repeat(times));
            // The most that passes.
            let (mut passes, mut refused) = (0, 40_000);
            while refused - passes > 1 {
                let middle = usize::midpoint(passes, refused);
                let (answer, time) = timed(|| check(&statement(middle), &limits).is_ok());
                assert!(time < MOST_TIME, "{opening:?} × {middle} takes {time:?} to be checked");
                *if answer { &mut passes } else { &mut refused } = middle;
            }
            // What is not offered at all cannot be too large.
            if passes == 0 {
                continue;
            }
            // Towards it, so that what takes a time that doubles is found before it takes all of it.
            let sizes = (1..16).chain((4..).map(|half| half * half)).take_while(|size| *size < passes).chain([passes]);
            for size in sizes {
                let checked = check(&statement(size), &limits).unwrap();
                let (plan, time) =
                    timed(|| planned(&context, checked).and_then(|plan| context.state().optimize(&plan)));
                if size == passes {
                    eprintln!(
                        "{opening:?} × {size}: {} in {time:.1?}",
                        if plan.is_ok() { "planned" } else { "refused" }
                    );
                }
                if time > LONG {
                    eprintln!("{opening:?} × {size} of {passes} takes {time:.1?} to be planned");
                    break;
                }
            }
        }
    });
}

#[test]
fn every_limit_is_a_setting_of_its_name() {
    // Every field has its setting, of its name, and its value.
    let fields: Vec<String> =
        limits().by_setting().iter().map(|(name, value)| format!("{}: {value}", &name[4..])).collect();
    assert_eq!(format!("{:?}", limits()), format!("SqlLimits {{ {} }}", fields.join(", ")));
    for (name, _) in limits().by_setting() {
        assert!(SETTINGS.iter().any(|setting| setting.key == name), "{name}");
    }
}

#[test]
fn a_limit_holds_at_its_number_and_not_one_further() {
    let limits = limits();
    let statements = |items: usize| format!("SELECT 1{}", ", 1".repeat(items - 1));
    assert_eq!(refusal(&statements(limits.max_items), &limits), None);
    assert!(refusal(&statements(limits.max_items + 1), &limits).is_some());
    let nested = |depth: usize| format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(refusal(&nested(limits.max_nesting), &limits), None);
    assert!(refusal(&nested(limits.max_nesting + 1), &limits).is_some());
}
