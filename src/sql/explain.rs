//! EXPLAIN: the steps in which a query is answered. They are planned over relations that are empty, in a session that has no
//! file, no scope and no mask, so that none can be in them; the real plan is never shown.

use datafusion::common::ParamValues;

use super::{Checked, Fault, functions};
use crate::{config::SqlLimits, query};

/// The steps, one a line, what stands further in first. Parameters keep their names where they are not bound.
///
/// # Errors
/// What is wrong with the query.
pub async fn steps(checked: Checked, bound: Option<ParamValues>, limits: &SqlLimits) -> Result<Vec<String>, Fault> {
    let of_planning = |error| Fault::of_planning(&error);
    let session = query::sql_without_rows(functions::all(limits)).map_err(of_planning)?;
    let state = session.state();
    let plan = state.statement_to_plan(checked.statement()).await.map_err(of_planning)?;
    let plan = match bound {
        Some(values) => plan.with_param_values(values).map_err(of_planning)?,
        None => plan,
    };
    let plan = state.optimize(&plan).map_err(of_planning)?;
    Ok(plan.display_indent().to_string().lines().map(str::to_owned).collect())
}
