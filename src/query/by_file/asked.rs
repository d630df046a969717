//! What is asked of files: the groups and aggregates of a partial aggregate, and what rows it is about, in columns of the table.

use std::{collections::BTreeSet, hash::Hash, sync::Arc};

use arrow::datatypes::Schema;
use datafusion::{
    common::{
        Result,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    },
    datasource::source::DataSourceExec,
    logical_expr::AggregateUDF,
    physical_expr::{PhysicalExpr, aggregate::AggregateFunctionExpr, expressions::Column, utils::collect_columns},
    physical_plan::{
        ExecutionPlan,
        aggregates::{AggregateExec, AggregateMode},
        filter::FilterExec,
        projection::ProjectionExec,
        repartition::RepartitionExec,
        union::UnionExec,
    },
};

/// Two of them are equal if and only if every file answers them alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Asked {
    pub(super) group: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) aggregates: Vec<Aggregated>,
    /// All of them hold for the rows that are asked about.
    pub(super) predicates: Vec<Arc<dyn PhysicalExpr>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Aggregated {
    pub(super) function: AggregateUDF,
    pub(super) name: String,
    pub(super) arguments: Vec<Arc<dyn PhysicalExpr>>,
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
    pub(super) distinct: bool,
    pub(super) ignore_nulls: bool,
}

impl Aggregated {
    fn of(function: &AggregateFunctionExpr, filter: Option<&Arc<dyn PhysicalExpr>>) -> Self {
        Self {
            function: function.fun().clone(),
            name: function.name().to_owned(),
            arguments: function.expressions(),
            filter: filter.cloned(),
            distinct: function.is_distinct(),
            ignore_nulls: function.ignore_nulls(),
        }
    }
}

impl Asked {
    /// Nothing for an aggregate that depends on an order of its rows, or stops early.
    pub(super) fn of(aggregate: &AggregateExec) -> Option<Self> {
        let functions = aggregate.aggr_expr();
        let plain = *aggregate.mode() == AggregateMode::Partial
            && aggregate.group_expr().is_single()
            && aggregate.limit_options().is_none()
            && !functions.iter().any(|function| !function.order_bys().is_empty() || function.is_reversed());
        plain.then(|| Self {
            group: aggregate.group_expr().input_exprs(),
            aggregates: functions
                .iter()
                .zip(aggregate.filter_expr())
                .map(|(function, filter)| Aggregated::of(function, filter.as_ref()))
                .collect(),
            predicates: Vec::new(),
        })
    }

    fn expressions(&self) -> impl Iterator<Item = &Arc<dyn PhysicalExpr>> {
        let aggregates = self.aggregates.iter().flat_map(|one| one.arguments.iter().chain(&one.filter));
        self.group.iter().chain(aggregates).chain(&self.predicates)
    }

    fn expressions_mut(&mut self) -> impl Iterator<Item = &mut Arc<dyn PhysicalExpr>> {
        let aggregates = self.aggregates.iter_mut().flat_map(|one| one.arguments.iter_mut().chain(&mut one.filter));
        self.group.iter_mut().chain(aggregates).chain(&mut self.predicates)
    }

    /// The places in the table of all columns that it names.
    pub(super) fn columns(&self) -> BTreeSet<usize> {
        self.expressions().flat_map(collect_columns).map(|column| column.index()).collect()
    }

    /// The same with each column replaced.
    pub(super) fn with_columns(mut self, column: &dyn Fn(&Column) -> Arc<dyn PhysicalExpr>) -> Result<Self> {
        for expression in self.expressions_mut() {
            let replaced = Arc::clone(expression).transform_down(|part| match part.downcast_ref::<Column>() {
                Some(found) => Ok(Transformed::new(column(found), true, TreeNodeRecursion::Jump)),
                None => Ok(Transformed::no(part)),
            });
            *expression = replaced.data()?;
        }
        Ok(self)
    }

    /// Follows what is asked of a plan down to its scans, in whose columns it is then. False where something stands between
    /// that is more than a filter or a projection.
    pub(super) fn follow<'a>(
        self,
        plan: &'a Arc<dyn ExecutionPlan>,
        scans: &mut Vec<(&'a DataSourceExec, Self)>,
    ) -> Result<bool> {
        if let Some(union) = plan.downcast_ref::<UnionExec>() {
            for input in union.inputs() {
                if !self.clone().follow(input, scans)? {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        if let Some(filter) = plan.downcast_ref::<FilterExec>() {
            let schema = filter.input().schema();
            let mut asked = match filter.projection() {
                Some(kept) => self.with_columns(&|column| column_of(&schema, kept[column.index()]))?,
                None => self,
            };
            asked.predicates.push(Arc::clone(filter.predicate()));
            return Ok(filter.fetch().is_none() && asked.follow(filter.input(), scans)?);
        }
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
            let asked = self.with_columns(&|column| Arc::clone(&projection.expr()[column.index()].expr))?;
            return asked.follow(projection.input(), scans);
        }
        if let Some(repartition) = plan.downcast_ref::<RepartitionExec>() {
            return self.follow(repartition.input(), scans);
        }
        let Some(source) = plan.downcast_ref::<DataSourceExec>() else {
            return Ok(false);
        };
        scans.push((source, self));
        Ok(true)
    }
}

fn column_of(schema: &Schema, index: usize) -> Arc<dyn PhysicalExpr> {
    Arc::new(Column::new(schema.field(index).name(), index))
}
