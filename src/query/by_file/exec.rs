//! Partial aggregates of files: known ones, and those of files that have to be read.

use std::{cmp::Reverse, fmt, sync::Arc};

use arrow::{array::RecordBatch, array::RecordBatchOptions, compute::concat_batches, datatypes::SchemaRef};
use datafusion::{
    common::{Result, tree_node::TreeNodeRecursion},
    datasource::listing::PartitionedFile,
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::PhysicalExpr,
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
        aggregates::AggregateExec,
        execution_plan::{Boundedness, EmissionType, SchedulingType},
        stream::RecordBatchStreamAdapter,
    },
};
use futures::{StreamExt, TryStreamExt, stream};

use super::{
    partials::{Partial, Partials},
    question::Question,
};

/// Files of one partition that are read at once: while one waits for its bytes, the other is decoded.
const AT_ONCE: usize = 2;

/// Known rows from which on all cores group them.
const MANY_ROWS: usize = 8192;

/// A file to read, and what to ask it.
#[derive(Clone, Debug)]
struct Unread {
    question: Arc<Question>,
    file: PartitionedFile,
}

/// The partial aggregates of files, as the aggregate that it stands for would give them.
#[derive(Debug)]
pub(super) struct ByFileExec {
    /// By partition, of files that need not be read; and how many files these are.
    known: Vec<RecordBatch>,
    known_files: usize,
    /// By partition.
    unread: Vec<Vec<Unread>>,
    /// What the files that are read are asked, one plan for each question: to be looked at.
    plans: Vec<Arc<dyn ExecutionPlan>>,
    partials: Arc<Partials>,
    era: u64,
    properties: Arc<PlanProperties>,
}

impl ByFileExec {
    /// Stands for `aggregate`, which comes to these questions.
    pub(super) fn new(
        aggregate: &AggregateExec,
        questions: Vec<Question>,
        partials: &Arc<Partials>,
        partitions: usize,
    ) -> Result<Self> {
        let (schema, era) = (aggregate.schema(), partials.era());
        let (mut known, mut unread, mut plans) = (Vec::new(), Vec::new(), Vec::new());
        for question in questions {
            let question = Arc::new(question);
            let before = unread.len();
            for file in question.files() {
                match partials.get(&question, file) {
                    Some(partial) => known.push(whole(&schema, &question, file, &partial)?),
                    None => unread.push(Unread { question: Arc::clone(&question), file: file.clone() }),
                }
            }
            if unread.len() > before {
                plans.push(question.plan(unread[before..].iter().map(|unread| unread.file.clone()).collect())?);
            }
        }
        let known_files = known.len();
        let known = spread(&schema, &known, partitions)?;
        let mut unread = balanced(unread, partitions);
        unread.resize_with(unread.len().max(known.len()), Vec::new);
        // What holds of the rows goes on to hold, as plans above rely on it; their order does not.
        let mut equivalences = aggregate.properties().equivalence_properties().clone();
        equivalences.clear_orderings();
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(unread.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        // It waits for its files at every step, and their plans give way by themselves.
        let properties = Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative));
        Ok(Self { known, known_files, unread, plans, partials: Arc::clone(partials), era, properties })
    }
}

/// Partitions of about equal bytes, at least one: the largest file first, each into the lightest.
fn balanced(mut unread: Vec<Unread>, partitions: usize) -> Vec<Vec<Unread>> {
    unread.sort_by_key(|unread| Reverse(unread.file.object_meta.size));
    let mut loads: Vec<(u64, Vec<Unread>)> = vec![(0, Vec::new()); partitions.clamp(1, unread.len().max(1))];
    for unread in unread {
        if let Some((bytes, members)) = loads.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *bytes += unread.file.object_meta.size;
            members.push(unread);
        }
    }
    loads.into_iter().map(|(_, members)| members).collect()
}

/// What is known, in a batch for each partition; in one where it is little, which to divide costs more than to group.
fn spread(schema: &SchemaRef, known: &[RecordBatch], partitions: usize) -> Result<Vec<RecordBatch>> {
    let rows: usize = known.iter().map(RecordBatch::num_rows).sum();
    let partitions = if rows < MANY_ROWS { 1 } else { partitions };
    let parts = known.chunks(known.len().div_ceil(partitions).max(1));
    parts.map(|part| Ok(concat_batches(schema, part)?)).collect()
}

/// A file's partial aggregates with its constants among the columns.
fn whole(schema: &SchemaRef, question: &Question, file: &PartitionedFile, partial: &Partial) -> Result<RecordBatch> {
    let mut columns = partial.columns.clone();
    for (at, value) in question.constants(file) {
        columns.insert(at, value.to_array_of_size(partial.rows)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(partial.rows));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

/// Asks a file, and keeps what it says.
async fn read(
    unread: Unread,
    schema: SchemaRef,
    partials: Arc<Partials>,
    era: u64,
    context: Arc<TaskContext>,
) -> Result<RecordBatch> {
    let Unread { question, file } = unread;
    let plan = question.plan(vec![file.clone()])?;
    let batches: Vec<RecordBatch> = plan.execute(0, context)?.try_collect().await?;
    let batch = concat_batches(&plan.schema(), &batches)?;
    let partial = Arc::new(Partial::of(&batch));
    partials.keep(&question, &file, &partial, era);
    whole(&schema, &question, &file, &partial)
}

impl DisplayAs for ByFileExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unread: usize = self.unread.iter().map(Vec::len).sum();
        write!(f, "ByFileExec: read={unread}, known={}", self.known_files)
    }
}

impl ExecutionPlan for ByFileExec {
    fn name(&self) -> &'static str {
        "ByFileExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.plans.iter().collect()
    }

    /// What it reads is settled; nothing below it is replaced.
    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let known = self.known.get(partition).cloned().into_iter().map(Ok);
        let (schema, partials, era) = (self.schema(), Arc::clone(&self.partials), self.era);
        let files = stream::iter(self.unread[partition].clone())
            .map(move |unread| read(unread, Arc::clone(&schema), Arc::clone(&partials), era, Arc::clone(&context)))
            .buffer_unordered(AT_ONCE);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), stream::iter(known).chain(files))))
    }
}
