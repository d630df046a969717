//! A metric's SELECT. The engine writes a CTE out wherever it is named, and so works it out as often; those that say
//! `AS MATERIALIZED`, as `PostgreSQL` has it, are worked out first, once.

use std::sync::Arc;

use datafusion::{
    catalog::MemTable,
    common::{Result, ScalarValue},
    execution::{context::SQLOptions, memory_pool::MemoryReservation},
    logical_expr::LogicalPlan,
    prelude::{DataFrame, SessionContext},
    sql::{
        parser::{DFParser, Statement},
        sqlparser::{
            ast::{CteAsMaterialized, Query, Statement as SqlStatement, With},
            dialect::PostgreSqlDialect,
        },
    },
};

/// The text of one statement, and what comes before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Select {
    /// Relations that are worked out first, in order: each by its name and SELECT.
    first: Vec<(String, String)>,
    sql: String,
}

impl Select {
    /// Reads the text of a metric. What is no query is left as it is, for its plan to refuse.
    pub(super) fn of(sql: &str) -> Result<Self> {
        let sql = sql.trim();
        let plain = || Self { first: Vec::new(), sql: sql.to_owned() };
        let mut statements = DFParser::parse_sql_with_dialect(sql, &PostgreSqlDialect {})?;
        let (Some(Statement::Statement(statement)), true) = (statements.pop_front(), statements.is_empty()) else {
            return Ok(plain());
        };
        let SqlStatement::Query(mut query) = *statement else { return Ok(plain()) };
        let Some(with) = query.with.take() else { return Ok(plain()) };
        let (mut first, mut inlined) = (Vec::new(), With { cte_tables: Vec::new(), ..with.clone() });
        for cte in with.cte_tables {
            match cte.materialized {
                Some(CteAsMaterialized::Materialized) => {
                    first.push((cte.alias.name.value.clone(), text(&inlined, &cte.query)));
                }
                _ => inlined.cte_tables.push(cte),
            }
        }
        let sql = text(&inlined, &query);
        Ok(if first.is_empty() { plain() } else { Self { first, sql } })
    }

    /// The plan with its placeholders bound, once what comes first is among the relations of `context`; and the memory that
    /// this takes, which is to be kept as long as the plan is.
    pub(super) async fn plan(
        &self,
        context: &SessionContext,
        values: &[(String, ScalarValue)],
        memory: &(dyn Fn() -> MemoryReservation + Sync),
    ) -> Result<(LogicalPlan, Vec<MemoryReservation>)> {
        let mut held = Vec::new();
        for (name, sql) in &self.first {
            let rows = DataFrame::new(context.state(), planned(context, sql, values).await?);
            let (schema, rows) = (Arc::clone(rows.schema().inner()), rows.collect().await?);
            let reserved = memory();
            reserved.try_grow(rows.iter().map(arrow::array::RecordBatch::get_array_memory_size).sum())?;
            held.push(reserved);
            context.register_table(name, Arc::new(MemTable::try_new(schema, vec![rows])?))?;
        }
        Ok((planned(context, &self.sql, values).await?, held))
    }
}

fn text(with: &With, query: &Query) -> String {
    let with = (!with.cte_tables.is_empty()).then(|| with.clone());
    Query { with, ..query.clone() }.to_string()
}

async fn planned(context: &SessionContext, sql: &str, values: &[(String, ScalarValue)]) -> Result<LogicalPlan> {
    let plan = context.state().create_logical_plan(sql).await?;
    let only_queries = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    only_queries.verify_plan(&plan)?;
    plan.with_param_values(values.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_materialized_comes_first_with_what_it_names() {
        let select = Select::of(
            "WITH a AS (SELECT 1 AS x), b AS MATERIALIZED (SELECT x FROM a WHERE x > $n), c AS (SELECT x FROM b) \
             SELECT b.x FROM b JOIN c ON b.x = c.x",
        );
        let (first, sql) = (
            vec![("b".to_owned(), "WITH a AS (SELECT 1 AS x) SELECT x FROM a WHERE x > $n".to_owned())],
            "WITH a AS (SELECT 1 AS x), c AS (SELECT x FROM b) SELECT b.x FROM b JOIN c ON b.x = c.x".to_owned(),
        );
        assert_eq!(select.unwrap(), Select { first, sql });
        for plain in ["SELECT 1", "WITH a AS (SELECT 1 AS x) SELECT x FROM a", "DROP TABLE a", "SELECT 1; SELECT 2"] {
            assert_eq!(Select::of(plain).unwrap(), Select { first: Vec::new(), sql: plain.to_owned() });
        }
        assert!(Select::of("SELEC 1").is_err());
    }
}
