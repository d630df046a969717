//! What is asked of one file, restated from a partial aggregate and the filters and projections between it and the scan.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use arrow::datatypes::Schema;
use datafusion::{
    common::{
        Result, ScalarValue,
        tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion},
    },
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource},
        source::DataSourceExec,
    },
    logical_expr::AggregateUDF,
    physical_expr::{
        PhysicalExpr,
        aggregate::AggregateExprBuilder,
        conjunction,
        expressions::{Column, Literal},
        utils::{collect_columns, reassign_expr_columns},
    },
    physical_plan::{
        ExecutionPlan, ReplaceChildrenOptions,
        aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy},
        execution_plan::ChildrenPropertiesMode,
        filter::{FilterExec, FilterExecBuilder},
        projection::ProjectionExec,
        repartition::RepartitionExec,
        union::UnionExec,
    },
};

/// What is asked, in columns of the table, so that two questions are equal if and only if a file answers them alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Asked {
    group: Vec<Arc<dyn PhysicalExpr>>,
    aggregates: Vec<Aggregated>,
    predicates: Vec<Arc<dyn PhysicalExpr>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Aggregated {
    function: AggregateUDF,
    name: String,
    arguments: Vec<Arc<dyn PhysicalExpr>>,
    filter: Option<Arc<dyn PhysicalExpr>>,
    distinct: bool,
    ignore_nulls: bool,
}

impl Asked {
    /// Nothing for an aggregate that depends on an order of its rows or stops early.
    fn of(aggregate: &AggregateExec) -> Option<Self> {
        let grouped = aggregate.group_expr();
        let ordered = |function: &Arc<_>| {
            let function: &datafusion::physical_expr::aggregate::AggregateFunctionExpr = function;
            !function.order_bys().is_empty() || function.is_reversed()
        };
        let plain = *aggregate.mode() == AggregateMode::Partial
            && grouped.is_single()
            && aggregate.limit_options().is_none()
            && !aggregate.aggr_expr().iter().any(ordered);
        let aggregated = |(function, filter): (&Arc<_>, &Option<_>)| {
            let function: &datafusion::physical_expr::aggregate::AggregateFunctionExpr = function;
            Aggregated {
                function: function.fun().clone(),
                name: function.name().to_owned(),
                arguments: function.expressions(),
                filter: filter.clone(),
                distinct: function.is_distinct(),
                ignore_nulls: function.ignore_nulls(),
            }
        };
        plain.then(|| Self {
            group: grouped.input_exprs(),
            aggregates: aggregate.aggr_expr().iter().zip(aggregate.filter_expr()).map(aggregated).collect(),
            predicates: Vec::new(),
        })
    }

    fn expressions_mut(&mut self) -> impl Iterator<Item = &mut Arc<dyn PhysicalExpr>> {
        let aggregates = self.aggregates.iter_mut().flat_map(|one| one.arguments.iter_mut().chain(&mut one.filter));
        self.group.iter_mut().chain(aggregates).chain(&mut self.predicates)
    }

    /// The columns of all that is asked.
    fn columns(&mut self) -> BTreeSet<usize> {
        self.expressions_mut().flat_map(|expression| collect_columns(expression)).map(|column| column.index()).collect()
    }

    /// The same with each column replaced.
    fn with_columns(mut self, column: &dyn Fn(&Column) -> Arc<dyn PhysicalExpr>) -> Result<Self> {
        for expression in self.expressions_mut() {
            let replaced = Arc::clone(expression).transform_down(|part| match part.downcast_ref::<Column>() {
                Some(found) => Ok(Transformed::new(column(found), true, TreeNodeRecursion::Jump)),
                None => Ok(Transformed::no(part)),
            });
            *expression = replaced.data()?;
        }
        Ok(self)
    }

    /// Follows what is asked of a plan down to its scans. False where something stands between that is more than a filter
    /// or a projection.
    fn follow<'a>(self, plan: &'a Arc<dyn ExecutionPlan>, scans: &mut Vec<(&'a DataSourceExec, Self)>) -> Result<bool> {
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

/// What is asked of each of these files, and the plan that answers it.
#[derive(Debug)]
pub(super) struct Question {
    asked: Asked,
    /// Of what is asked.
    hash: u64,
    /// Columns of the groups that are the same in all rows of a file, and are put there afterwards: the column's place, and
    /// the place of its value among the file's.
    constants: Vec<(usize, usize)>,
    files: Vec<PartitionedFile>,
    scan: FileScanConfig,
    filter: Option<Arc<dyn ExecutionPlan>>,
    aggregate: Arc<dyn ExecutionPlan>,
}

impl PartialEq for Question {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.asked == other.asked
    }
}

impl Eq for Question {}

impl Hash for Question {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Question {
    /// What a partial aggregate comes to for the files below it; nothing where it is not one over files alone.
    pub(super) fn of(aggregate: &AggregateExec) -> Result<Option<Vec<Self>>> {
        let (Some(asked), mut scans) = (Asked::of(aggregate), Vec::new()) else {
            return Ok(None);
        };
        if !asked.follow(aggregate.input(), &mut scans)? {
            return Ok(None);
        }
        let names: Vec<&String> = aggregate.group_expr().expr().iter().map(|(_, name)| name).collect();
        let mut questions = Vec::new();
        for (source, asked) in scans {
            let Some((scan, parquet)) = source.downcast_to_file_source::<ParquetSource>() else {
                return Ok(None);
            };
            let (Some(projection), None, None) = (parquet.projection(), parquet.filter(), scan.limit) else {
                return Ok(None);
            };
            let projection: Vec<_> = projection.iter().map(|column| Arc::clone(&column.expr)).collect();
            let asked = asked.with_columns(&|column| Arc::clone(&projection[column.index()]))?;
            questions.extend(Self::of_scan(asked, &names, scan, parquet)?);
        }
        Ok(Some(questions))
    }

    /// Splits the files of a scan into those that have the same constants within what is asked, such as their time zone,
    /// so that these are literals of the plan.
    fn of_scan(
        mut asked: Asked,
        names: &[&String],
        scan: &FileScanConfig,
        source: &ParquetSource,
    ) -> Result<Vec<Self>> {
        let file_columns = source.table_schema().file_schema().fields().len();
        let constant = |expression: &Arc<dyn PhysicalExpr>| {
            expression.downcast_ref::<Column>().and_then(|column| column.index().checked_sub(file_columns))
        };
        let mut constants: Vec<(usize, usize)> =
            asked.group.iter().enumerate().filter_map(|(at, group)| Some((at, constant(group)?))).collect();
        // Rows that are not grouped are one group even where there are none, so one column of the groups is kept.
        if constants.len() == asked.group.len() {
            constants.pop();
        }
        let put_later = |at: usize| constants.iter().any(|(place, _)| *place == at);
        let grouped = (0..).zip(asked.group).filter(|(at, _)| !put_later(*at)).collect::<Vec<_>>();
        let names: Vec<String> = grouped.iter().map(|(at, _)| names[*at].clone()).collect();
        asked.group = grouped.into_iter().map(|(_, group)| group).collect();
        let within: Vec<usize> = asked.columns().iter().filter_map(|index| index.checked_sub(file_columns)).collect();
        let mut alike: BTreeMap<Vec<String>, Vec<PartitionedFile>> = BTreeMap::new();
        for file in scan.file_groups.iter().flat_map(FileGroup::iter) {
            let values = within.iter().map(|index| file.partition_values[*index].to_string()).collect();
            alike.entry(values).or_default().push(file.clone());
        }
        let literal = |files: &[PartitionedFile], column: &Column| -> Arc<dyn PhysicalExpr> {
            match (column.index().checked_sub(file_columns), files.first()) {
                (Some(index), Some(file)) => Arc::new(Literal::new(file.partition_values[index].clone())),
                _ => Arc::new(column.clone()),
            }
        };
        let planned = |files: Vec<PartitionedFile>| {
            let asked = asked.clone().with_columns(&|column| literal(&files, column))?;
            Self::planned(asked, &names, constants.clone(), files, scan, source)
        };
        alike.into_values().map(planned).collect()
    }

    fn planned(
        mut asked: Asked,
        names: &[String],
        constants: Vec<(usize, usize)>,
        files: Vec<PartitionedFile>,
        scan: &FileScanConfig,
        source: &ParquetSource,
    ) -> Result<Self> {
        let read: Vec<usize> = asked.columns().into_iter().collect();
        let mut whole = ParquetSource::new(source.table_schema().clone())
            .with_table_parquet_options(source.table_parquet_options().clone());
        if let Some(readers) = source.parquet_file_reader_factory() {
            whole = whole.with_parquet_file_reader_factory(Arc::clone(readers));
        }
        let scan = FileScanConfigBuilder::new(scan.object_store_url.clone(), Arc::new(whole))
            .with_projection_indices(Some(read))?
            .with_file_groups(vec![FileGroup::new(files.clone())])
            .build();
        let rows: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(scan.clone());
        let filter = asked.filter(&rows)?;
        let aggregate = asked.aggregate(names, filter.clone().unwrap_or(rows))?;
        let mut hasher = DefaultHasher::new();
        asked.hash(&mut hasher);
        Ok(Self { hash: hasher.finish(), asked, constants, files, scan, filter, aggregate: Arc::new(aggregate) })
    }

    /// The files that it is asked of.
    pub(super) fn files(&self) -> &[PartitionedFile] {
        &self.files
    }

    /// The plan over these files alone.
    pub(super) fn plan(&self, files: Vec<PartitionedFile>) -> Result<Arc<dyn ExecutionPlan>> {
        let mut scan = self.scan.clone();
        scan.file_groups = vec![FileGroup::new(files)];
        let over = |node: &Arc<dyn ExecutionPlan>, input| {
            Arc::clone(node).replace_children(vec![input], ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep))
        };
        let mut plan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(scan);
        if let Some(filter) = &self.filter {
            plan = over(filter, plan)?;
        }
        over(&self.aggregate, plan)
    }

    /// Where values of the file belong among the columns, and which: in the order of the columns.
    pub(super) fn constants<'a>(
        &'a self,
        file: &'a PartitionedFile,
    ) -> impl Iterator<Item = (usize, &'a ScalarValue)> + 'a {
        self.constants.iter().map(|(at, value)| (*at, &file.partition_values[*value]))
    }
}

impl Asked {
    /// Passes the rows on that are asked about, without the columns that only this needs.
    fn filter(&mut self, rows: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if self.predicates.is_empty() {
            return Ok(None);
        }
        let schema = rows.schema();
        let predicates = self.predicates.iter().map(|one| reassign_expr_columns(Arc::clone(one), &schema));
        let predicate = conjunction(predicates.collect::<Result<Vec<_>>>()?);
        let mut grouped = Self { predicates: Vec::new(), ..self.clone() };
        let needed: BTreeSet<String> = grouped
            .expressions_mut()
            .flat_map(|expression| collect_columns(expression))
            .map(|column| column.name().to_owned())
            .collect();
        let kept = (0..).zip(schema.fields()).filter(|(_, field)| needed.contains(field.name()));
        let kept = kept.map(|(index, _): (usize, _)| index).collect();
        let filter = FilterExecBuilder::new(predicate, Arc::clone(rows)).apply_projection(Some(kept))?.build()?;
        Ok(Some(Arc::new(filter)))
    }

    fn aggregate(&self, names: &[String], rows: Arc<dyn ExecutionPlan>) -> Result<AggregateExec> {
        let schema = rows.schema();
        let placed = |expression: &Arc<dyn PhysicalExpr>| reassign_expr_columns(Arc::clone(expression), &schema);
        let group = self.group.iter().zip(names).map(|(group, name)| Ok((placed(group)?, name.clone())));
        let group = PhysicalGroupBy::new_single(group.collect::<Result<_>>()?);
        let functions = self.aggregates.iter().map(|one| {
            let arguments = one.arguments.iter().map(placed).collect::<Result<_>>()?;
            let function = AggregateExprBuilder::new(Arc::new(one.function.clone()), arguments)
                .schema(Arc::clone(&schema))
                .alias(&one.name)
                .with_distinct(one.distinct)
                .with_ignore_nulls(one.ignore_nulls)
                .build()?;
            Ok(Arc::new(function))
        });
        let functions = functions.collect::<Result<Vec<_>>>()?;
        let filters = self.aggregates.iter().map(|one| one.filter.as_ref().map(placed).transpose());
        let filters = filters.collect::<Result<Vec<_>>>()?;
        AggregateExec::try_new(AggregateMode::Partial, group, functions, filters, rows, schema)
    }
}
