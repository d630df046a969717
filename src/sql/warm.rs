//! What a first query costs any program, paid by a process for SQL before it has its question: pages of the program that are
//! read in and relocated, tables of functions that are made, and the memory that all of it takes from the system.

use std::io;

use super::{
    Parameters, functions,
    run::{self, Stop},
    statement,
};
use crate::{config::SqlLimits, query};

/// A query that takes the ways that most do: filters, a join, groups, an order and a limit.
const QUERY: &str = "SELECT p.site, p.month, projects.currency, sum(p.amount) AS amount, count(*) AS payments
    FROM payments AS p JOIN projects USING (project_id)
    WHERE p.settlement = 'settled' AND p.paid_at >= TIMESTAMP '2024-01-01' AND p.meter_id <> ''
    GROUP BY 1, 2, 3 ORDER BY amount DESC LIMIT 10";

/// Plans a query of its own and runs it over relations that are empty, and everything of it on this thread. So this thread has
/// also asked where its stack ends by the time that it is shut in: the C library reads that from a file, and a thread that does
/// not know it takes a new stack for every step into a tree. Where it fails, nothing is lost but time.
pub(super) fn warm_up() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else { return };
    drop(runtime.block_on(answer_nothing(&mut io::sink())));
}

/// For [`QUERY`], and no setting: the process has none before it has its question.
fn enough() -> SqlLimits {
    const ENOUGH: usize = 1000;
    SqlLimits {
        max_bytes: ENOUGH,
        max_tokens: ENOUGH,
        max_nesting: 10,
        max_chain: 10,
        max_set_operations: 10,
        max_items: 10,
        max_in_list: 10,
        max_subqueries: 10,
        max_joins: 10,
        max_scans: 10,
        max_grouping_sets: 10,
        max_parameters: 10,
        max_pattern_bytes: ENOUGH,
        max_text_bytes: ENOUGH,
    }
}

async fn answer_nothing(out: &mut impl io::Write) -> Result<(), Stop> {
    let limits = enough();
    let context = query::sql_without_rows(functions::all(&limits)).map_err(|error| run::failed(&error))?;
    let frame = statement::plan(&context, QUERY, &Parameters::default(), &limits).await?;
    run::pass_on_all(&context, frame, (100, 1 << 20), false, out).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::run::tests::whole_of;

    #[test]
    fn what_a_process_warms_up_with_is_answered_on_one_thread() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
        let mut out = Vec::new();
        let answered = runtime.block_on(answer_nothing(&mut out));
        assert!(answered.is_ok());
        let whole = whole_of(&out);
        assert_eq!((whole.rows, whole.truncated), (0, false));
    }
}
