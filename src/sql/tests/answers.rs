//! Answers that the engine or its parser would have wrong, or not at all.

use datafusion::arrow::util::display::array_value_to_string;

use super::{limits, planned, session, wait_for};
use crate::sql::check;

/// The rows of a statement over the three payments of the session, columns with a blank between.
fn rows(sql: &str) -> Vec<String> {
    let context = session();
    let plan = planned(&context, check(sql, &limits()).unwrap()).unwrap();
    let batches = wait_for(datafusion::prelude::DataFrame::new(context.state(), plan).collect());
    let batches = batches.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
    let text = |(batch, row): (&datafusion::arrow::array::RecordBatch, usize)| {
        let cells = batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap());
        cells.collect::<Vec<_>>().join(" ")
    };
    rows.map(text).collect()
}

#[test]
fn what_stands_behind_is_distinct_from_goes_as_far_as_its_precedence() {
    for (sql, expected) in [
        ("SELECT true IS DISTINCT FROM false OR true", "true"),
        ("SELECT true IS NOT DISTINCT FROM false OR true", "true"),
        ("SELECT true IS DISTINCT FROM true AND false", "false"),
        ("SELECT 1 IS DISTINCT FROM 1 + 1", "true"),
        ("SELECT NOT 1 IS DISTINCT FROM 1 AND true", "true"),
        ("SELECT NULL IS DISTINCT FROM NULL IS DISTINCT FROM false", "false"),
        ("SELECT count(*) FROM payments WHERE site IS DISTINCT FROM 'other' OR amount < 0", "3"),
    ] {
        assert_eq!(rows(sql), [expected], "{sql}");
    }
}

#[test]
fn a_sum_beside_a_count_of_distinct_values_is_a_figure_like_any_other() {
    let sql = "SELECT count(DISTINCT meter_id), sum(amount) AS total FROM payments HAVING sum(amount) > 1300";
    assert_eq!(rows(sql), ["2 1300.0000"][..0]);
    let sql =
        "SELECT currency, count(DISTINCT meter_id) FROM payments GROUP BY currency HAVING sum(amount) > 1 ORDER BY 1";
    assert_eq!(rows(sql), ["currency 2"]);
}
