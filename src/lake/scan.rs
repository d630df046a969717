//! The scan: a plain Parquet scan of the engine's over an explicit list of files. Nothing is ever listed, so a query can open
//! what its caller's scope put into the list, and nothing else.

use std::{
    any::Any,
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
    ops::Range,
    path::Path,
    sync::{Arc, LazyLock},
};

use arrow::{
    array::{ArrayRef, BooleanArray, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
};
use async_trait::async_trait;
use datafusion::{
    catalog::Session,
    common::{Column, DFSchema, Result, ScalarValue, config::TableParquetOptions, pruning::PruningStatistics},
    datasource::{
        TableProvider,
        listing::PartitionedFile,
        physical_plan::{
            FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource, parquet::CachedParquetFileReaderFactory,
        },
        source::DataSourceExec,
        table_schema::TableSchema,
    },
    error::DataFusionError,
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType, utils::conjunction},
    physical_expr::{
        PhysicalExpr,
        expressions::{BinaryExpr, Column as PhysicalColumn, lit},
    },
    physical_optimizer::pruning::PruningPredicateBuilder,
    physical_plan::{ExecutionPlan, empty::EmptyExec, filter::FilterExecBuilder, union::UnionExec},
};

use super::{LakeError, LakeFile, masking::Masking, verify};
use crate::payments::schema::{FILE_SCHEMA, PARTITION_COLUMNS};

/// The column of the instants that periods are made of.
pub(super) const PAID_AT: &str = "paid_at";

/// The column that the scan adds: the IANA time zone in which the row's local days are counted.
pub const TIME_ZONE_COLUMN: &str = "time_zone";

/// The columns that every file has and that a masking may leave out.
const MASKED: [&str; 4] = ["payment_id", "meter_id", "customer_name", "upload_id"];

/// The columns of the files as the scan decodes them. Text comes as string views, which filters and groups compare
/// without copying.
static DECODED_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let decoded = |field: &FieldRef| {
        let nullable = field.is_nullable() || MASKED.contains(&field.name().as_str());
        let field = field.as_ref().clone().with_nullable(nullable);
        match field.data_type() {
            DataType::Utf8 => field.with_data_type(DataType::Utf8View),
            _ => field,
        }
    };
    Arc::new(Schema::new(FILE_SCHEMA.fields().iter().map(decoded).collect::<Vec<_>>()))
});

/// The values that are the same in all rows of a file, in the order in which a [`PartitionedFile`] gets them.
fn constant_columns() -> Vec<FieldRef> {
    let text = |name: &str| Arc::new(Field::new(name, DataType::Utf8, false));
    PARTITION_COLUMNS.into_iter().chain([TIME_ZONE_COLUMN]).map(text).collect()
}

/// What a query sees: `project_id`, `month`, the columns of the files, `time_zone`.
static TABLE_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let constants = constant_columns();
    let (partition, zone) = constants.split_at(PARTITION_COLUMNS.len());
    let fields = partition.iter().chain(DECODED_SCHEMA.fields()).chain(zone).cloned().collect::<Vec<_>>();
    Arc::new(Schema::new(fields))
});

/// Where a column of [`TABLE_SCHEMA`] is in the schema of a file source, which has the constant columns at its end.
fn source_index(table_index: usize) -> usize {
    let (partitions, files) = (PARTITION_COLUMNS.len(), DECODED_SCHEMA.fields().len());
    if table_index < partitions {
        files + table_index
    } else if table_index < partitions + files {
        table_index - partitions
    } else {
        table_index
    }
}

/// One file to read, and the zone in which its rows' local days are counted.
#[derive(Clone, Debug)]
pub struct ScanFile {
    pub file: Arc<LakeFile>,
    pub time_zone: chrono_tz::Tz,
    /// Of its rows those that were paid in these microseconds, where that is not all of them.
    pub within: Option<Range<i64>>,
    pub masking: Masking,
}

impl ScanFile {
    /// What is to be read of a file for a period, in microseconds; nothing where the file has nothing of it. A file inside
    /// the period is read whole, so that its rows need no look at when they were paid.
    #[must_use]
    pub fn of_period(
        file: &Arc<LakeFile>,
        time_zone: chrono_tz::Tz,
        period: &Range<i64>,
        masking: Masking,
    ) -> Option<Self> {
        let month = file.month.start_micros()..file.month.end_micros();
        let within = period.start.max(month.start)..period.end.min(month.end);
        let within = (!within.is_empty()).then_some(within)?;
        Some(Self { file: Arc::clone(file), time_zone, within: (within != month).then_some(within), masking })
    }
}

/// The relation of payments over exactly these files.
#[derive(Debug)]
pub struct PaymentsTable {
    root: Arc<Path>,
    store: ObjectStoreUrl,
    files: Vec<ScanFile>,
}

impl PaymentsTable {
    /// A table over `files`, whose paths are relative to the folder `root`, which is registered as the object store `store`.
    #[must_use]
    pub fn new(root: Arc<Path>, store: ObjectStoreUrl, files: Vec<ScanFile>) -> Self {
        Self { root, store, files }
    }

    /// Compares files that nobody has read since the start with what was written, before anything is read of them.
    async fn verify(&self, files: &[ScanFile]) -> Result<()> {
        let unseen = files.iter().filter(|scan| !scan.file.verified.is_set()).map(|scan| Arc::clone(&scan.file));
        let (root, unseen) = (Arc::clone(&self.root), unseen.collect::<Vec<_>>());
        if unseen.is_empty() {
            return Ok(());
        }
        let verified = tokio::task::spawn_blocking(move || verify(&root, &unseen)).await;
        verified.unwrap_or(Err(LakeError::Stopped)).map_err(|error| DataFusionError::External(Box::new(error)))
    }

    /// The scan of whole files.
    fn source(
        &self,
        state: &dyn Session,
        files: &[ScanFile],
        projection: &[usize],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let runtime = state.runtime_env();
        let readers = CachedParquetFileReaderFactory::new(
            runtime.object_store(&self.store)?,
            runtime.cache_manager.get_file_metadata_cache(),
        );
        let table_schema =
            TableSchema::builder(Arc::clone(&DECODED_SCHEMA)).with_table_partition_cols(constant_columns()).build();
        let mut options = TableParquetOptions::new();
        options.global = state.config_options().execution.parquet.clone();
        let source = ParquetSource::new(table_schema)
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(readers));
        let scan = FileScanConfigBuilder::new(self.store.clone(), Arc::new(source))
            .with_file_groups(balanced(files, state.config().target_partitions()))
            .with_projection_indices(Some(projection.iter().copied().map(source_index).collect()))?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }

    /// The scan of files that a period cuts through.
    fn cut(
        &self,
        state: &dyn Session,
        files: &[ScanFile],
        projection: &[usize],
        (from, to): (i64, i64),
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let paid_at = TABLE_SCHEMA.index_of(PAID_AT)?;
        let mut read = projection.to_vec();
        let at = projection.iter().position(|column| *column == paid_at).unwrap_or(projection.len());
        if at == projection.len() {
            read.push(paid_at);
        }
        let bound = |operator, micros| -> Arc<dyn PhysicalExpr> {
            let instant = ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()));
            Arc::new(BinaryExpr::new(Arc::new(PhysicalColumn::new(PAID_AT, at)), operator, lit(instant)))
        };
        let within = BinaryExpr::new(bound(Operator::GtEq, from), Operator::And, bound(Operator::Lt, to));
        let filter = FilterExecBuilder::new(Arc::new(within), self.source(state, files, &read, None)?);
        Ok(Arc::new(filter.apply_projection(Some((0..projection.len()).collect()))?.build()?))
    }

    /// The columns of every such table.
    #[must_use]
    pub fn table_schema() -> SchemaRef {
        Arc::clone(&TABLE_SCHEMA)
    }

    /// The files that `filters` do not rule out by project, month or the month's bounds of `paid_at`.
    fn prune(&self, state: &dyn Session, filters: &[Expr]) -> Result<Vec<ScanFile>> {
        let Some(filter) = conjunction(filters.iter().cloned()) else {
            return Ok(self.files.clone());
        };
        let schema = DFSchema::try_from(Self::table_schema())?;
        let predicate = state.create_physical_expr(filter, &schema)?;
        let predicate = PruningPredicateBuilder::new().with_file_schema(Self::table_schema()).try_build(predicate)?;
        let kept = predicate.prune(&FileBounds(&self.files))?;
        Ok(self.files.iter().zip(kept).filter(|(_, kept)| *kept).map(|(file, _)| file.clone()).collect())
    }
}

#[async_trait]
impl TableProvider for PaymentsTable {
    fn schema(&self) -> SchemaRef {
        Self::table_schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let files = self.prune(state, filters)?;
        let every = || (0..TABLE_SCHEMA.fields().len()).collect::<Vec<_>>();
        let projection = projection.cloned().unwrap_or_else(every);
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(TABLE_SCHEMA.project(&projection)?))));
        }
        self.verify(&files).await?;
        // A limit below filters that the scan applies inexactly would cut off rows that pass them.
        let limit = limit.filter(|_| filters.is_empty());
        let mut parts: BTreeMap<(Option<(i64, i64)>, Masking), Vec<ScanFile>> = BTreeMap::new();
        for scan in files {
            let within = scan.within.as_ref().map(|within| (within.start, within.end));
            parts.entry((within, scan.masking.clone())).or_default().push(scan);
        }
        let part = |((within, masking), files): ((_, Masking), Vec<ScanFile>)| {
            let reads = masking.reads(&projection)?;
            let limit = limit.filter(|_| !masking.is_of_whole_months());
            let rows = match within {
                None => self.source(state, &files, &reads, limit),
                Some(within) => self.cut(state, &files, &reads, within),
            };
            masking.over(rows?, &projection, state.config().options())
        };
        UnionExec::try_new(parts.into_iter().map(part).collect::<Result<_>>()?)
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

/// Groups of about equal bytes, at most `groups` of them: the largest file first, each into the lightest group.
fn balanced(files: &[ScanFile], groups: usize) -> Vec<FileGroup> {
    let mut by_size: Vec<&ScanFile> = files.iter().collect();
    by_size.sort_by_key(|scan| Reverse(scan.file.bytes));
    let mut loads: Vec<(u64, Vec<PartitionedFile>)> = vec![(0, Vec::new()); groups.clamp(1, files.len().max(1))];
    for scan in by_size {
        if let Some((bytes, members)) = loads.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *bytes += scan.file.bytes;
            members.push(partitioned(scan));
        }
    }
    loads.into_iter().map(|(_, members)| FileGroup::new(members)).collect()
}

fn partitioned(scan: &ScanFile) -> PartitionedFile {
    let file = &scan.file;
    PartitionedFile::new(file.path.clone(), file.bytes).with_partition_values(vec![
        ScalarValue::from(file.project.as_str()),
        ScalarValue::from(file.month.to_string()),
        ScalarValue::from(scan.time_zone.name()),
    ])
}

/// What is known of files without opening them: one project, one month, hence bounds of `paid_at`.
struct FileBounds<'a>(&'a [ScanFile]);

impl FileBounds<'_> {
    fn constants(&self, column: &str) -> Option<Vec<String>> {
        let value: fn(&ScanFile) -> String = match column {
            "project_id" => |scan| scan.file.project.to_string(),
            "month" => |scan| scan.file.month.to_string(),
            TIME_ZONE_COLUMN => |scan| scan.time_zone.name().to_owned(),
            _ => return None,
        };
        Some(self.0.iter().map(value).collect())
    }

    fn bound(&self, column: &str, instant: fn(&LakeFile) -> i64) -> Option<ArrayRef> {
        if column == PAID_AT {
            let values = self.0.iter().map(|scan| instant(&scan.file));
            return Some(Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC")));
        }
        self.constants(column).map(|values| Arc::new(StringArray::from(values)) as ArrayRef)
    }
}

impl PruningStatistics for FileBounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(&column.name, |file| file.month.start_micros())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bound(&column.name, |file| file.month.end_micros() - 1)
    }

    fn num_containers(&self) -> usize {
        self.0.len()
    }

    fn null_counts(&self, _column: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    // The set's elements have interior mutability in DataFusion's type alone; nothing here mutates them.
    #[allow(clippy::mutable_key_type)]
    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let constants = self.constants(&column.name)?;
        let within = |value: String| {
            values.iter().any(|wanted| wanted.try_as_str().flatten().is_some_and(|wanted| wanted == value))
        };
        Some(constants.into_iter().map(|value| Some(within(value))).collect())
    }
}

/// The paths of the files that a physical plan opens, sorted: for tests that hold what a query may touch.
#[must_use]
pub fn files_of(plan: &Arc<dyn ExecutionPlan>) -> Vec<String> {
    let mut paths = Vec::new();
    let mut pending = vec![Arc::clone(plan)];
    while let Some(node) = pending.pop() {
        let any: &dyn Any = node.as_ref();
        if let Some(scan) = any.downcast_ref::<DataSourceExec>() {
            let source: &dyn Any = scan.data_source().as_ref();
            if let Some(files) = source.downcast_ref::<FileScanConfig>() {
                let members = files.file_groups.iter().flat_map(FileGroup::iter);
                paths.extend(members.map(|file| file.path().to_string()));
            }
        }
        pending.extend(node.children().into_iter().cloned());
    }
    paths.sort();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use datafusion::{
        logical_expr::{col, lit},
        prelude::SessionContext,
    };

    use super::*;
    use crate::lake::Verified;

    fn table() -> PaymentsTable {
        let file = |project: &str, month: &str, bytes: u64| ScanFile {
            file: Arc::new(LakeFile {
                path: format!("{project}/{month}"),
                project: project.parse().unwrap(),
                month: month.parse().unwrap(),
                bytes,
                rows: 1,
                sha256: [0; 32],
                verified: Verified::written_here(),
            }),
            time_zone: chrono_tz::UTC,
            within: None,
            masking: Masking::None,
        };
        let files =
            vec![file("a", "2024-04", 10), file("a", "2024-05", 40), file("b", "2024-05", 25), file("c", "2024-06", 5)];
        PaymentsTable::new(Path::new("/").into(), ObjectStoreUrl::local_filesystem(), files)
    }

    fn kept(filters: &[Expr]) -> Vec<String> {
        // The test needs a planner of expressions and runs no query.
        #[allow(clippy::disallowed_methods)]
        let state = SessionContext::new().state();
        let files = table().prune(&state, filters).unwrap();
        files.into_iter().map(|scan| scan.file.path.clone()).collect()
    }

    #[test]
    fn filters_on_project_month_and_time_drop_files_unopened() {
        assert_eq!(kept(&[]).len(), 4);
        assert_eq!(kept(&[col("month").eq(lit("2024-05"))]), ["a/2024-05", "b/2024-05"]);
        assert_eq!(kept(&[col("project_id").eq(lit("a")), col("month").gt(lit("2024-04"))]), ["a/2024-05"]);
        let at = |text: &str| {
            let at: chrono::DateTime<chrono::Utc> = text.parse().unwrap();
            lit(ScalarValue::TimestampMicrosecond(Some(at.timestamp_micros()), Some("UTC".into())))
        };
        assert_eq!(kept(&[col("paid_at").lt(at("2024-05-01T00:00:00Z"))]), ["a/2024-04"]);
        assert_eq!(kept(&[col("paid_at").gt_eq(at("2024-05-31T23:59:59.999999Z"))]).len(), 3);
        assert_eq!(kept(&[col("paid_at").gt_eq(at("2024-06-01T00:00:00Z"))]), ["c/2024-06"]);
        // Longer lists than the pruning rewrites are compared value by value.
        let many = (0..40).map(|n| lit(format!("p{n}"))).chain([lit("b")]).collect();
        assert_eq!(kept(&[col("project_id").in_list(many, false)]), ["b/2024-05"]);
        assert_eq!(kept(&[col("site").eq(lit("Hill"))]).len(), 4, "nothing is known of a site");
    }

    #[test]
    fn the_groups_of_a_scan_have_about_the_same_bytes() {
        let bytes = |group: &FileGroup| group.iter().map(|file| file.object_meta.size).sum::<u64>();
        let groups = balanced(&table().files, 2);
        assert_eq!(groups.iter().map(bytes).collect::<Vec<_>>(), [40, 40]);
        assert_eq!(balanced(&table().files, 9).len(), 4, "no group is empty");
    }

    #[test]
    fn every_column_of_the_table_is_found_in_the_source() {
        let source =
            TableSchema::builder(Arc::clone(&DECODED_SCHEMA)).with_table_partition_cols(constant_columns()).build();
        for (index, field) in TABLE_SCHEMA.fields().iter().enumerate() {
            assert_eq!(field, &source.table_schema().fields()[source_index(index)]);
        }
    }
}
