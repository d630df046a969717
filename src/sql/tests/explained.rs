use super::{limits, wait_for};
use crate::sql::{check, explain};

fn steps(sql: &str) -> String {
    let checked = check(sql, &limits()).unwrap();
    assert!(checked.explain, "{sql}");
    wait_for(explain::steps(checked, None, &limits())).unwrap().join("\n")
}

#[test]
fn a_plan_shows_the_steps_of_a_query_and_no_file_setting_or_mask() {
    let plan = steps(
        "EXPLAIN SELECT site, sum(amount) FROM payments WHERE settlement = 'settled' AND month = '2024-05' GROUP BY site",
    );
    for part in ["Aggregate: ", "sum(payments.amount)", "TableScan: payments", "settlement"] {
        assert!(plan.contains(part), "{plan}");
    }
    for query in [
        "EXPLAIN SELECT * FROM payments",
        "EXPLAIN SELECT customer_name FROM payments WHERE customer_name LIKE 'A%'",
        "EXPLAIN SELECT p.name, u.dataset_name FROM payments JOIN projects p USING (project_id) JOIN uploads u USING (upload_id)",
        "EXPLAIN WITH s AS (SELECT site FROM sites) SELECT * FROM s JOIN payments USING (site)",
        "EXPLAIN SELECT count(*) FROM generate_series(1, 10)",
    ] {
        let plan = steps(query);
        for hidden in
            [".parquet", "/", "wattlake:", "file_groups", "datafusion.", "batch_size", "target_partitions", "mask"]
        {
            assert!(!plan.contains(hidden), "{query}: {plan}");
        }
    }
}

#[test]
fn a_plan_of_a_query_with_parameters_keeps_their_names() {
    let plan = steps("EXPLAIN SELECT site FROM payments WHERE site = $site");
    assert!(plan.contains("$site"), "{plan}");
}
