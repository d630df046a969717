//! The SQL as it was written → a query that was checked, with its values bound. Nothing else of it gets to the engine.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use datafusion::{
    common::{ParamValues, ScalarValue},
    execution::context::SQLOptions,
    prelude::{DataFrame, SessionContext},
};

use super::{Fault, FaultKind, Parameters, check, explain, parameters::Bound};
use crate::config::SqlLimits;

/// Plans it in a session; of EXPLAIN, the rows are the steps.
pub(super) async fn plan(
    context: &SessionContext,
    sql: &str,
    parameters: &Parameters,
    limits: &SqlLimits,
) -> Result<DataFrame, Fault> {
    let checked = check(sql, limits)?;
    let values = values(&checked.parameters, parameters)?;
    let of_planning = |error| Fault::of_planning(&error);
    if checked.explain {
        let steps = explain::steps(checked, values, limits).await?;
        let schema = Arc::new(Schema::new(vec![Field::new("step", DataType::Utf8, false)]));
        let rows = RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(steps))]);
        return context.read_batch(rows.map_err(|error| of_planning(error.into()))?).map_err(of_planning);
    }
    let plan = context.state().statement_to_plan(checked.statement()).await.map_err(of_planning)?;
    let only_queries = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    only_queries.verify_plan(&plan).map_err(of_planning)?;
    let plan = match values {
        Some(values) => plan.with_param_values(values).map_err(of_planning)?,
        None => plan,
    };
    Ok(DataFrame::new(context.state(), plan))
}

/// The values of the placeholders: each has one, and each value a placeholder.
fn values(names: &[String], parameters: &Parameters) -> Result<Option<ParamValues>, Fault> {
    let asked: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let given: BTreeSet<String> = match parameters {
        Parameters::Positional(values) => (1..=values.len()).map(|place| place.to_string()).collect(),
        Parameters::Named(values) => values.keys().cloned().collect(),
    };
    let wrong = |detail: String| Fault::new(FaultKind::Invalid, detail, None);
    if let Some(missing) = asked.iter().find(|name| !given.contains(**name)) {
        return Err(wrong(format!("${missing} has no value; params has the values of placeholders")));
    }
    if let Some(surplus) = given.iter().find(|name| !asked.contains(name.as_str())) {
        return Err(wrong(format!("params has a value for ${surplus}, which the SQL does not name")));
    }
    let bound = |value: &Bound| value.scalar().unwrap_or(ScalarValue::Null);
    Ok(match parameters {
        _ if asked.is_empty() => None,
        Parameters::Positional(values) => Some(values.iter().map(bound).collect::<Vec<_>>().into()),
        Parameters::Named(values) => {
            Some(values.iter().map(|(name, value)| (name.clone(), bound(value))).collect::<Vec<_>>().into())
        }
    })
}
