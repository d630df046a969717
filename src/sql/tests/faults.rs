use super::{limits, planned, refusal, session};
use crate::sql::{Fault, FaultKind, Place, check};

fn refused(sql: &str) -> Fault {
    refusal(sql, &limits()).unwrap_or_else(|| panic!("{sql} passes"))
}

/// What planning says of a statement that the guard lets pass.
fn unplanned(sql: &str) -> Fault {
    let checked = check(sql, &limits()).unwrap();
    Fault::of_planning(&planned(&session(), checked).unwrap_err())
}

#[test]
fn an_error_has_the_line_and_column_of_what_is_wrong() {
    for (sql, line, column) in [
        ("SELECT site\nFROM paymets", 2, 6),
        ("SELECT summ(amount) FROM payments", 1, 8),
        ("SELECT site,\n  FROM FROM payments", 2, 8),
        ("SELECT 1;\n\n SELECT 2", 3, 2),
        ("SELECT 'a", 1, 8),
        ("INSERT INTO payments VALUES (1)", 1, 1),
        ("SELECT 1 +", 1, 11),
    ] {
        let error = refused(sql);
        assert_eq!(error.place, Some(Place { line, column }), "{sql}: {error}");
    }
    let error = unplanned("SELECT site,\n       amonut\nFROM payments");
    assert_eq!((error.place, error.kind), (Some(Place { line: 2, column: 8 }), FaultKind::UnknownName), "{error}");
}

#[test]
fn an_unknown_name_comes_with_the_nearest_right_one() {
    for (sql, meant) in [
        ("SELECT * FROM paymets", "payments"),
        ("SELECT * FROM Payment", "payments"),
        ("WITH monthly AS (SELECT 1) SELECT * FROM montly", "monthly"),
        ("SELECT summ(amount) FROM payments", "sum"),
        ("SELECT date_trunk('month', paid_at) FROM payments", "date_trunc"),
        ("SELCT 1", "SELECT"),
    ] {
        let error = refused(sql);
        assert_eq!(error.meant.as_deref(), Some(meant), "{error}");
        assert!(error.detail.contains(meant), "{error}");
    }
    let error = unplanned("SELECT amonut FROM payments");
    assert_eq!(error.meant.as_deref(), Some("amount"), "{error}");
    let error = unplanned("SELECT p.customer_nam FROM payments p");
    assert_eq!(error.meant.as_deref(), Some("customer_name"), "{error}");
}

#[test]
fn what_is_too_large_names_its_setting() {
    for (sql, setting) in [
        (format!("SELECT '{}'", "a".repeat(70_000)), "sql.max_bytes"),
        (format!("SELECT {}1", "1,".repeat(6000)), "sql.max_tokens"),
        (format!("SELECT {}1{}", "(".repeat(30), ")".repeat(30)), "sql.max_nesting"),
        (format!("SELECT 1{}", "+1".repeat(300)), "sql.max_chain"),
        (format!("SELECT 1{}", " UNION SELECT 1".repeat(20)), "sql.max_set_operations"),
        (format!("SELECT 1{}", ",1".repeat(300)), "sql.max_items"),
        (format!("SELECT 1 IN (1{})", ",1".repeat(1500)), "sql.max_in_list"),
        (format!("SELECT 1 FROM payments{}", ",payments".repeat(20)), "sql.max_joins"),
        ("SELECT 1 GROUP BY CUBE(1,2,3,4,5,6,7)".to_owned(), "sql.max_grouping_sets"),
        (format!("SELECT 'a' ~ '{}'", "a".repeat(600)), "sql.max_pattern_bytes"),
    ] {
        let error = refused(&sql);
        assert_eq!(error.setting.as_deref(), Some(setting), "{error}");
        assert!(error.detail.contains(setting), "{error}");
    }
    let names: Vec<String> = (0..101).map(|number| format!("$p{number}")).collect();
    assert_eq!(refused(&format!("SELECT {}", names.join(","))).setting.as_deref(), Some("sql.max_parameters"));
    let laughs: Vec<String> = (1..8).map(|n| format!(", c{n} AS (SELECT a.* FROM c{0} a, c{0} b)", n - 1)).collect();
    let laughs = laughs.concat();
    let error = refused(&format!("WITH c0 AS (SELECT * FROM payments){laughs} SELECT * FROM c7"));
    assert_eq!(error.setting.as_deref(), Some("sql.max_scans"));
}

#[test]
fn a_function_that_is_left_out_says_why() {
    assert!(refused("SELECT random()").detail.contains("same answer"));
    assert!(refused("SELECT VERSION()").detail.contains("settings"));
}

#[test]
fn parameters_are_listed_once_each_in_order_and_the_clock_is_noticed() {
    let checked = check("SELECT $b, $a, $b FROM payments WHERE paid_at > now()", &limits()).unwrap();
    assert_eq!((checked.parameters, checked.reads_clock, checked.explain), (vec!["b".into(), "a".into()], true, false));
    let checked = check("EXPLAIN SELECT $2, $1", &limits()).unwrap();
    assert_eq!((checked.parameters, checked.reads_clock, checked.explain), (vec!["2".into(), "1".into()], false, true));
    assert_eq!(refused("SELECT $1, $a").kind, FaultKind::Invalid);
}

#[test]
fn an_error_goes_to_the_server_and_comes_out_the_same() {
    let error = refused("SELECT * FROM paymets");
    let json = serde_json::to_string(&error).unwrap();
    assert_eq!(serde_json::from_str::<Fault>(&json).unwrap(), error);
    for fault in FaultKind::ALL {
        assert_eq!(serde_json::to_value(fault).unwrap(), fault.code());
    }
}
