//! A question: what is asked of each of some files, restated from a partial aggregate over their scan.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, PoisonError},
};

use arrow::{array::RecordBatch, compute::concat_batches};
use datafusion::{
    common::{Result, ScalarValue},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfig, FileSource, ParquetSource},
    },
    execution::TaskContext,
    physical_expr::{
        PhysicalExpr,
        expressions::{Column, Literal},
    },
    physical_plan::{ExecutionPlan, aggregates::AggregateExec, metrics::ExecutionPlanMetricsSet},
};
use futures::TryStreamExt;
use parquet::file::{metadata::ParquetMetaData, statistics::Statistics};

use super::{
    asked::Asked,
    partials::Partial,
    steps::{Source, Steps},
};

/// What is asked of each of these files, and the steps that answer it.
#[derive(Debug)]
pub(super) struct Question {
    asked: Asked,
    /// Of what is asked.
    hash: u64,
    names: Vec<String>,
    /// Columns of the groups that are the same in all rows of a file by its place, and are put there afterwards: the
    /// column's place, and the place of its value among the file's.
    constants: Vec<(usize, usize)>,
    files: Vec<PartitionedFile>,
    source: Source,
    steps: Arc<Steps>,
    /// The steps without columns of the groups, at these places, that happen to be the same in all rows of a file.
    without: Mutex<HashMap<Vec<usize>, Arc<Steps>>>,
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
            questions.extend(Self::of_scan(asked, &names, scan, &Source::of(scan, parquet))?);
        }
        Ok(Some(questions))
    }

    /// Splits the files of a scan into those that have the same constants within what is asked, such as their time zone,
    /// so that these are literals of the plan.
    fn of_scan(mut asked: Asked, names: &[&String], scan: &FileScanConfig, source: &Source) -> Result<Vec<Self>> {
        let file_columns = source.parquet().table_schema().file_schema().fields().len();
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
        let literal = |like: &PartitionedFile, column: &Column| -> Arc<dyn PhysicalExpr> {
            match column.index().checked_sub(file_columns) {
                Some(index) => Arc::new(Literal::new(like.partition_values[index].clone())),
                None => Arc::new(column.clone()),
            }
        };
        let mut questions = Vec::new();
        for files in alike.into_values() {
            let Some(like) = files.first() else { continue };
            let asked = asked.clone().with_columns(&|column| literal(like, column))?;
            let steps = Arc::new(Steps::new(&asked, &names, source, like.clone())?);
            let mut hasher = DefaultHasher::new();
            asked.hash(&mut hasher);
            questions.push(Self {
                hash: hasher.finish(),
                asked,
                names: names.clone(),
                constants: constants.clone(),
                files,
                source: source.clone(),
                steps,
                without: Mutex::default(),
            });
        }
        Ok(questions)
    }

    /// The files that it is asked of.
    pub(super) fn files(&self) -> &[PartitionedFile] {
        &self.files
    }

    /// Where values of the file belong among the columns, and which: in the order of the columns.
    pub(super) fn constants<'a>(
        &'a self,
        file: &'a PartitionedFile,
    ) -> impl Iterator<Item = (usize, &'a ScalarValue)> + 'a {
        self.constants.iter().map(|(at, value)| (*at, &file.partition_values[*value]))
    }

    /// The plan over these files.
    pub(super) fn plan(&self, files: Vec<PartitionedFile>) -> Result<Arc<dyn ExecutionPlan>> {
        self.steps.over(files)
    }

    /// Asks a file.
    pub(super) async fn read(&self, file: &PartitionedFile, context: &Arc<TaskContext>) -> Result<Partial> {
        let same = self.same_in(file).await?;
        let plan = self.without(&same)?.over(vec![file.clone()])?;
        Ok(Partial::new(&collected(&plan, context).await?, same))
    }

    /// Groups what files said once more; without the columns that are the same in all of it.
    pub(super) async fn again(&self, partials: &[Arc<Partial>], context: &Arc<TaskContext>) -> Result<Partial> {
        let same = partials.first().map_or(&[][..], |first| first.same());
        let same = if partials.iter().all(|partial| partial.same() == same) { same.to_vec() } else { Vec::new() };
        let steps = self.without(&same)?;
        let batch = |partial: &Arc<Partial>| {
            let schema = steps.schema();
            if same.is_empty() { partial.whole(&schema, std::iter::empty()) } else { partial.differing(&schema) }
        };
        let batches = partials.iter().map(batch).collect::<Result<_>>()?;
        Ok(Partial::new(&collected(&steps.again(batches)?, context).await?, same))
    }

    /// The columns of the groups that have one value in all rows of a file, by its statistics; but one of the groups at most.
    async fn same_in(&self, file: &PartitionedFile) -> Result<Vec<(usize, ScalarValue)>> {
        let (Some(readers), true) = (self.source.parquet().parquet_file_reader_factory(), self.asked.group.len() > 1)
        else {
            return Ok(Vec::new());
        };
        let metrics = ExecutionPlanMetricsSet::new();
        let footer = readers.create_reader(0, file.clone(), None, &metrics)?.get_metadata(None).await?;
        let same = |(at, group): (usize, &Arc<dyn PhysicalExpr>)| {
            let column = group.downcast_ref::<Column>()?;
            Some((at, ScalarValue::Utf8View(Some(one_text(&footer, column.name())?))))
        };
        let mut same: Vec<_> = self.asked.group.iter().enumerate().filter_map(same).collect();
        if same.len() == self.asked.group.len() {
            same.pop();
        }
        Ok(same)
    }

    fn without(&self, same: &[(usize, ScalarValue)]) -> Result<Arc<Steps>> {
        let places: Vec<usize> = same.iter().map(|(at, _)| *at).collect();
        let (false, Some(like)) = (places.is_empty(), self.files.first()) else {
            return Ok(Arc::clone(&self.steps));
        };
        let mut known = self.without.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(steps) = known.get(&places) {
            return Ok(Arc::clone(steps));
        }
        let (mut asked, mut names) = (self.asked.clone(), self.names.clone());
        for at in places.iter().rev() {
            asked.group.remove(*at);
            names.remove(*at);
        }
        let steps = Arc::new(Steps::new(&asked, &names, &self.source, like.clone())?);
        known.insert(places, Arc::clone(&steps));
        Ok(steps)
    }
}

async fn collected(plan: &Arc<dyn ExecutionPlan>, context: &Arc<TaskContext>) -> Result<RecordBatch> {
    let batches: Vec<RecordBatch> = plan.execute(0, Arc::clone(context))?.try_collect().await?;
    Ok(concat_batches(&plan.schema(), &batches)?)
}

/// The text that a column has in all rows of a file.
fn one_text(footer: &ParquetMetaData, column: &str) -> Option<String> {
    let mut found: Option<&[u8]> = None;
    for group in footer.row_groups() {
        let chunk = group.columns().iter().find(|chunk| chunk.column_path().string() == column)?;
        let Some(Statistics::ByteArray(values)) = chunk.statistics() else { return None };
        let (least, most) = (values.min_bytes_opt()?, values.max_bytes_opt()?);
        let exact = values.min_is_exact() && values.max_is_exact() && values.null_count_opt() == Some(0);
        if !exact || least != most || found.is_some_and(|found| found != least) {
            return None;
        }
        found = Some(least);
    }
    String::from_utf8(found?.to_vec()).ok()
}
