//! Partial aggregates of files: known ones, and those of files that have to be read.

use std::{cmp::Reverse, collections::BTreeMap, fmt, sync::Arc};

use arrow::{array::RecordBatch, compute::concat_batches, datatypes::SchemaRef};
use datafusion::{
    common::{Result, tree_node::TreeNodeRecursion},
    datasource::listing::PartitionedFile,
    execution::{
        SendableRecordBatchStream, TaskContext,
        memory_pool::{MemoryConsumer, MemoryReservation},
    },
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

/// Rows of what files of one project said from which on they are grouped once more, without the project, before they are
/// passed on: what comes of it is kept too.
const MANY_ROWS: usize = 8192;

/// Files that are asked the same and have the same constants, and what is known of them.
#[derive(Clone, Debug)]
struct Unit {
    question: Arc<Question>,
    files: Arc<[(PartitionedFile, Option<Arc<Partial>>)]>,
    /// Of all files together.
    together: Option<Arc<Partial>>,
}

impl Unit {
    fn new(question: &Arc<Question>, files: Vec<PartitionedFile>, partials: &Partials) -> Self {
        let together = partials.get(question, &paths(files.iter()));
        let known = |file: PartitionedFile| {
            let known = together.is_none().then(|| partials.get(question, &paths([&file]))).flatten();
            (file, known)
        };
        let files = files.into_iter().map(known).collect();
        Self { question: Arc::clone(question), files, together }
    }

    /// The files that have to be read.
    fn unread(&self) -> impl Iterator<Item = &PartitionedFile> {
        let files = self.files.iter().filter(|(_, known)| self.together.is_none() && known.is_none());
        files.map(|(file, _)| file)
    }
}

/// What partial aggregates are kept under: the paths of their files, none of which is ever that of another file.
fn paths<'a>(files: impl IntoIterator<Item = &'a PartitionedFile>) -> String {
    files.into_iter().flat_map(|file| [file.path().as_ref(), "\n"]).collect()
}

/// The partial aggregates of files, as the aggregate that it stands for would give them.
#[derive(Debug)]
pub(super) struct ByFileExec {
    /// By partition.
    units: Vec<Vec<Unit>>,
    /// What the files that are read are asked, to be looked at: one plan for each unit.
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
        let era = partials.era();
        let units = units(questions, partials, partitions);
        let unread = |unit: &Unit| {
            let files: Vec<PartitionedFile> = unit.unread().cloned().collect();
            (!files.is_empty()).then(|| unit.question.plan(files))
        };
        let plans = units.iter().flatten().filter_map(unread).collect::<Result<_>>()?;
        // What holds of the rows goes on to hold, as plans above rely on it; their order does not.
        let mut equivalences = aggregate.properties().equivalence_properties().clone();
        equivalences.clear_orderings();
        let properties = PlanProperties::new(
            equivalences,
            Partitioning::UnknownPartitioning(units.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        // It waits for its files at every step, and their plans give way by themselves.
        let properties = Arc::new(properties.with_scheduling_type(SchedulingType::Cooperative));
        Ok(Self { units, plans, partials: Arc::clone(partials), era, properties })
    }
}

/// Partitions of about equal bytes, at least one: the largest file first, each into the lightest. Which it is hangs on the files
/// alone, so that those of a project are found together again.
fn units(questions: Vec<Question>, partials: &Partials, partitions: usize) -> Vec<Vec<Unit>> {
    let questions: Vec<Arc<Question>> = questions.into_iter().map(Arc::new).collect();
    let mut files: Vec<(usize, &PartitionedFile)> =
        (0..).zip(&questions).flat_map(|(of, question)| question.files().iter().map(move |file| (of, file))).collect();
    files.sort_by_key(|(_, file)| (Reverse(file.object_meta.size), file.path().as_ref().to_owned()));
    let mut loads = vec![(0, BTreeMap::<_, Vec<PartitionedFile>>::new()); partitions.clamp(1, files.len().max(1))];
    for (of, file) in files {
        if let Some((bytes, members)) = loads.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *bytes += file.object_meta.size;
            let constants: Vec<String> = questions[of].constants(file).map(|(_, value)| value.to_string()).collect();
            members.entry((of, constants)).or_default().push(file.clone());
        }
    }
    let unit = |((of, _), files): ((usize, _), _)| Unit::new(&questions[of], files, partials);
    loads.into_iter().map(|(_, members)| members.into_iter().map(unit).collect()).collect()
}

/// What answers the units of one partition.
#[derive(Clone)]
struct Reader {
    schema: SchemaRef,
    partials: Arc<Partials>,
    era: u64,
    context: Arc<TaskContext>,
}

impl Reader {
    /// What all files of a unit said, with their constants among the columns.
    async fn answer(self, unit: Unit) -> Result<RecordBatch> {
        // What files say counts to the memory of all queries until it is passed on, whether it is kept or not.
        let memory = MemoryConsumer::new("what files say").register(self.context.memory_pool());
        let together = match &unit.together {
            Some(together) => vec![Arc::clone(together)],
            None => self.of_files(&unit, &memory).await?,
        };
        let Some((like, _)) = unit.files.first() else {
            return Ok(RecordBatch::new_empty(self.schema));
        };
        let whole = |partial: &Arc<Partial>| partial.whole(&self.schema, unit.question.constants(like));
        let batches = together.iter().map(whole).collect::<Result<Vec<_>>>()?;
        Ok(concat_batches(&self.schema, &batches)?)
    }

    async fn of_file(&self, unit: &Unit, at: usize, memory: &MemoryReservation) -> Result<Arc<Partial>> {
        let (file, known) = &unit.files[at];
        if let Some(known) = known {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(unit.question.read(file, &self.context).await?);
        memory.try_grow(read.bytes())?;
        self.partials.keep(&unit.question, paths([file]), &read, self.era);
        Ok(read)
    }

    async fn of_files(&self, unit: &Unit, memory: &MemoryReservation) -> Result<Vec<Arc<Partial>>> {
        let files = stream::iter(0..unit.files.len()).map(|at| self.of_file(unit, at, memory)).buffered(AT_ONCE);
        let partials: Vec<Arc<Partial>> = files.try_collect().await?;
        let rows: usize = partials.iter().map(|partial| partial.rows).sum();
        if partials.len() == 1 || rows < MANY_ROWS {
            return Ok(partials);
        }
        let together = Arc::new(unit.question.again(&partials, &self.context).await?);
        let all = paths(unit.files.iter().map(|(file, _)| file));
        self.partials.keep(&unit.question, all, &together, self.era);
        Ok(vec![together])
    }
}

impl DisplayAs for ByFileExec {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = || self.units.iter().flatten();
        let (files, unread) = (units().map(|unit| unit.files.len()), units().map(|unit| unit.unread().count()));
        write!(f, "ByFileExec: files={}, read={}", files.sum::<usize>(), unread.sum::<usize>())
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
        let reader = Reader { schema: self.schema(), partials: Arc::clone(&self.partials), era: self.era, context };
        let units = self.units[partition].clone();
        let batches = stream::iter(units).then(move |unit| reader.clone().answer(unit));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), batches)))
    }
}
