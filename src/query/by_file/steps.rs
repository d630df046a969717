//! The plan that asks files: a scan of the columns that are asked about, a filter of the rows, a partial aggregate.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    common::Result,
    datasource::{
        listing::PartitionedFile,
        memory::MemorySourceConfig,
        physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, FileSource, ParquetSource},
        source::DataSourceExec,
    },
    execution::object_store::ObjectStoreUrl,
    physical_expr::{
        PhysicalExpr,
        aggregate::{AggregateExprBuilder, AggregateFunctionExpr},
        conjunction,
        utils::{collect_columns, reassign_expr_columns},
    },
    physical_plan::{
        ExecutionPlan, ReplaceChildrenOptions,
        aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy},
        execution_plan::ChildrenPropertiesMode,
        filter::FilterExecBuilder,
    },
};

use super::asked::Asked;

/// Where files are, and how they are read.
#[derive(Clone, Debug)]
pub(super) struct Source {
    store: ObjectStoreUrl,
    whole: ParquetSource,
}

impl Source {
    /// The source of a scan, without what the scan asked of it.
    pub(super) fn of(scan: &FileScanConfig, source: &ParquetSource) -> Self {
        let mut whole = ParquetSource::new(source.table_schema().clone())
            .with_table_parquet_options(source.table_parquet_options().clone());
        if let Some(readers) = source.parquet_file_reader_factory() {
            whole = whole.with_parquet_file_reader_factory(Arc::clone(readers));
        }
        Self { store: scan.object_store_url.clone(), whole }
    }

    pub(super) fn parquet(&self) -> &ParquetSource {
        &self.whole
    }
}

/// The steps of one question.
#[derive(Debug)]
pub(super) struct Steps {
    scan: FileScanConfig,
    filter: Option<Arc<dyn ExecutionPlan>>,
    aggregate: Arc<AggregateExec>,
}

impl Steps {
    /// The steps from `source` to what is asked, whose groups get these names. `like` is any file of the source.
    pub(super) fn new(asked: &Asked, names: &[String], source: &Source, like: PartitionedFile) -> Result<Self> {
        let read = asked.columns().into_iter().collect();
        let scan = FileScanConfigBuilder::new(source.store.clone(), Arc::new(source.whole.clone()))
            .with_projection_indices(Some(read))?
            .with_file(like)
            .build();
        let rows: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(scan.clone());
        let filter = filter(asked, &rows)?;
        let aggregate = aggregate(asked, names, filter.clone().unwrap_or(rows))?;
        Ok(Self { scan, filter, aggregate: Arc::new(aggregate) })
    }

    /// The plan over these files.
    pub(super) fn over(&self, files: Vec<PartitionedFile>) -> Result<Arc<dyn ExecutionPlan>> {
        let mut scan = self.scan.clone();
        scan.file_groups = vec![FileGroup::new(files)];
        let keep = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep);
        let mut plan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(scan);
        if let Some(filter) = &self.filter {
            plan = Arc::clone(filter).replace_children(vec![plan], keep)?;
        }
        Arc::clone(&self.aggregate).replace_children(vec![plan], keep)
    }

    /// The names and types of the partial aggregates.
    pub(super) fn schema(&self) -> SchemaRef {
        self.aggregate.schema()
    }

    /// The plan that groups partial aggregates once more, into fewer of them.
    pub(super) fn again(&self, batches: Vec<RecordBatch>) -> Result<Arc<dyn ExecutionPlan>> {
        let aggregate = AggregateExec::try_new(
            AggregateMode::PartialReduce,
            self.aggregate.group_expr().as_final(),
            self.aggregate.aggr_expr().to_vec(),
            vec![None; self.aggregate.aggr_expr().len()],
            MemorySourceConfig::try_new_exec(&[batches], self.schema(), None)?,
            self.aggregate.input_schema(),
        )?;
        Ok(Arc::new(aggregate))
    }
}

/// Passes the rows on that are asked about, without the columns that only this needs.
fn filter(asked: &Asked, rows: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if asked.predicates.is_empty() {
        return Ok(None);
    }
    let schema = rows.schema();
    let predicates = asked.predicates.iter().map(|one| reassign_expr_columns(Arc::clone(one), &schema));
    let predicate = conjunction(predicates.collect::<Result<Vec<_>>>()?);
    let arguments = asked.aggregates.iter().flat_map(|one| one.arguments.iter().chain(&one.filter));
    let needed: BTreeSet<String> =
        asked.group.iter().chain(arguments).flat_map(collect_columns).map(|column| column.name().to_owned()).collect();
    let kept = (0..).zip(schema.fields()).filter(|(_, field)| needed.contains(field.name()));
    let kept = kept.map(|(index, _): (usize, _)| index).collect();
    let filter = FilterExecBuilder::new(predicate, Arc::clone(rows)).apply_projection(Some(kept))?.build()?;
    Ok(Some(Arc::new(filter)))
}

fn aggregate(asked: &Asked, names: &[String], rows: Arc<dyn ExecutionPlan>) -> Result<AggregateExec> {
    let schema = rows.schema();
    let placed = |expression: &Arc<dyn PhysicalExpr>| reassign_expr_columns(Arc::clone(expression), &schema);
    let group = asked.group.iter().zip(names).map(|(group, name)| Ok((placed(group)?, name.clone())));
    let group = PhysicalGroupBy::new_single(group.collect::<Result<_>>()?);
    let functions = asked.aggregates.iter().map(|one| -> Result<Arc<AggregateFunctionExpr>> {
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
    let filters = asked.aggregates.iter().map(|one| one.filter.as_ref().map(placed).transpose());
    let filters = filters.collect::<Result<Vec<_>>>()?;
    AggregateExec::try_new(AggregateMode::Partial, group, functions, filters, rows, schema)
}
