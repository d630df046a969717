//! Sessions: beside `sql_session.rs` the only place that makes one. A session has the files of one request and the relations that
//! its metric asks for, and nothing of any other request.

use std::{num::NonZeroUsize, path::Path, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use datafusion::{
    catalog::MemTable,
    common::Result,
    datasource::TableProvider,
    execution::{
        SessionStateBuilder, SessionStateDefaults,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{FairSpillPool, MemoryConsumer, MemoryReservation, TrackConsumersPool},
        object_store::ObjectStoreUrl,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    functions, functions_aggregate, functions_window,
    logical_expr::{AggregateUDF, Expr, ScalarUDF, WindowUDF, col, lit},
    physical_optimizer::optimizer::PhysicalOptimizer,
    prelude::{DataFrame, SessionConfig, SessionContext},
};
use object_store::local::LocalFileSystem;
use serde::Deserialize;

use super::{
    by_file::{FileByFile, Partials},
    period, ranks,
};
use crate::{
    config::QueryConfig,
    lake::{
        LakeFile,
        masking::Masking,
        scan::{PaymentsTable, ScanFile},
    },
    payments::{schema::instant, words::Settlement},
};

/// Under this address sessions find the lake's files; their paths are relative to the table's root.
pub(super) const LAKE_URL: &str = "wattlake://lake/";

/// How many holders of memory an error names.
pub(super) const NAMED: NonZeroUsize = NonZeroUsize::MIN;

/// A relation beside `payments` that a metric may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Table {
    /// The uploads of the scope's projects: `upload_id`, `project_id`, `dataset_name`, `committed_at`. To be joined with
    /// `payments` by `upload_id`, and never listed: those whose payments are all of months beyond the scope are among them.
    Uploads,
    /// The projects of the scope: `project_id`, `name`, `kind`, `currency`, `time_zone`, `country`.
    Projects,
    /// By project, `period`: the first day of each local month that the request or the scope's data may cover; and
    /// `first_asked`, `last_asked`: those that the request names, null where it leaves that end open.
    Months,
    /// `project_id`, `site`: of the scope's payments that the request's period leaves out, and perhaps of others; whatever
    /// their currency. With those of `payments` these are all sites that have ever paid.
    Sites,
    /// By project, `day`: the last local day before the request's end, or today.
    AsOf,
    /// The connections of the scope's projects, as they are now: `project_id`, `external_id`, which is the `meter_id` of their
    /// payments, and `connected_on`. Of projects that are only shared there are none, so a metric that names them is not
    /// answered of such projects.
    Connections,
}

impl Table {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Uploads => "uploads",
            Self::Projects => "projects",
            Self::Months => "months",
            Self::Sites => "sites",
            Self::AsOf => "as_of",
            Self::Connections => "connections",
        }
    }

    /// The relation's columns.
    pub(super) fn schema(self) -> SchemaRef {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        Arc::new(Schema::new(match self {
            Self::Uploads => vec![
                text("upload_id"),
                text("project_id"),
                text("dataset_name"),
                Field::new("committed_at", instant(), false),
            ],
            Self::Projects => {
                ["project_id", "name", "kind", "currency", "time_zone", "country"].into_iter().map(text).collect()
            }
            Self::Months => vec![
                text("project_id"),
                Field::new("period", DataType::Date32, false),
                Field::new("first_asked", DataType::Date32, true),
                Field::new("last_asked", DataType::Date32, true),
            ],
            Self::Sites => vec![text("project_id"), Field::new("site", DataType::Utf8View, false)],
            Self::AsOf => vec![text("project_id"), Field::new("day", DataType::Date32, false)],
            Self::Connections => {
                vec![text("project_id"), text("external_id"), Field::new("connected_on", DataType::Date32, true)]
            }
        }))
    }
}

/// What a relation beside `payments` holds.
pub(super) enum Content {
    Rows(RecordBatch),
    /// The distinct sites of the payments of these files, restricted to this and to nothing else.
    Sites(Vec<ScanFile>, Option<Expr>),
}

impl Content {
    /// What it takes before anything is asked of it; in bytes.
    pub(super) fn memory(&self) -> usize {
        match self {
            Self::Rows(batch) => batch.get_array_memory_size(),
            Self::Sites(..) => 0,
        }
    }
}

/// What a session's relations hold.
pub(super) struct Relations {
    pub(super) files: Vec<ScanFile>,
    /// What `payments` is restricted to.
    pub(super) restriction: Option<Expr>,
    pub(super) tables: Vec<(Table, Content)>,
}

/// Makes sessions over one lake, which share its memory, its spill space, its cache of Parquet footers and what is known of
/// its files.
#[derive(Debug)]
pub(super) struct Sessions {
    runtime: Arc<RuntimeEnv>,
    partials: Arc<Partials>,
    /// None where nothing is kept.
    by_file: Option<Arc<FileByFile>>,
    root: Arc<Path>,
    store: ObjectStoreUrl,
    target_partitions: usize,
}

impl Sessions {
    pub(super) fn new(lake_root: &Path, limits: &QueryConfig, target_partitions: usize) -> Result<Self> {
        let spill = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::OsTmpDirectory)
            .with_max_temp_directory_size(limits.spill_bytes);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(TrackConsumersPool::new(FairSpillPool::new(limits.memory_bytes), NAMED)))
            .with_disk_manager_builder(spill)
            .with_metadata_cache_limit(limits.footer_cache_bytes)
            .build_arc()?;
        let store = ObjectStoreUrl::parse(LAKE_URL)?;
        runtime.register_object_store(store.as_ref(), Arc::new(LocalFileSystem::new_with_prefix(lake_root)?));
        let partials = Arc::new(Partials::new(limits.partials_bytes));
        let by_file = (limits.partials_bytes > 0).then(|| Arc::new(FileByFile::new(&partials)));
        Ok(Self { runtime, partials, by_file, root: lake_root.into(), store, target_partitions })
    }

    /// A place in the memory of all queries; it holds nothing yet.
    pub(super) fn memory(&self, holder: &str) -> MemoryReservation {
        MemoryConsumer::new(holder).register(&self.runtime.memory_pool)
    }

    pub(super) fn reserved_memory(&self) -> usize {
        self.runtime.memory_pool.reserved()
    }

    fn payments(&self, files: Vec<ScanFile>) -> Arc<PaymentsTable> {
        Arc::new(PaymentsTable::new(Arc::clone(&self.root), self.store.clone(), files))
    }

    /// The settled payments of these files by `site`, `currency`, `source` and `customer_id`, with the sum of their amounts as
    /// they are, and as if refunds were payments. For what is shared as aggregates alone, and nothing of it is kept.
    pub(super) fn settled_by_customer(&self, files: &[Arc<LakeFile>]) -> Result<DataFrame> {
        let whole = |file: &Arc<LakeFile>| ScanFile {
            file: Arc::clone(file),
            time_zone: chrono_tz::UTC,
            within: None,
            masking: Masking::None,
        };
        let context = context(Arc::clone(&self.runtime), self.target_partitions, None);
        let settled = col("settlement").eq(lit(Settlement::Settled.as_str()));
        let amount = || col("amount");
        context.read_table(self.payments(files.iter().map(whole).collect()))?.filter(settled)?.aggregate(
            ["site", "currency", "source", "customer_id"].map(col).to_vec(),
            vec![
                functions_aggregate::expr_fn::sum(amount()),
                functions_aggregate::expr_fn::sum(functions::expr_fn::abs(amount())),
            ],
        )
    }

    pub(super) fn open(&self, relations: Relations) -> Result<SessionContext> {
        let context = context(Arc::clone(&self.runtime), self.target_partitions, self.by_file.clone());
        for (table, content) in relations.tables {
            let relation: Arc<dyn TableProvider> = match content {
                Content::Rows(batch) => rows(batch)?,
                Content::Sites(files, restriction) => {
                    let sites = restricted(&context, self.payments(files), restriction)?;
                    sites.select_columns(&["project_id", "site"])?.distinct()?.into_view()
                }
            };
            context.register_table(table.name(), relation)?;
        }
        let payments: Arc<dyn TableProvider> = self.payments(relations.files);
        let payments = match relations.restriction {
            Some(_) => restricted(&context, payments, relations.restriction)?.into_view(),
            None => payments,
        };
        context.register_table("payments", payments)?;
        Ok(context)
    }

    /// Forgets what is known of files: what of them was erased is not to stay in memory.
    pub(super) fn forget(&self) {
        self.partials.forget();
    }

    /// The memory of what is known of files; in bytes.
    pub(super) fn partials_bytes(&self) -> usize {
        self.partials.bytes()
    }
}

/// A session over empty relations, to plan a metric with.
pub(super) fn without_data(tables: &[Table]) -> Result<SessionContext> {
    let context = context(Arc::new(RuntimeEnv::default()), 1, None);
    for table in tables {
        context.register_table(table.name(), rows(RecordBatch::new_empty(table.schema()))?)?;
    }
    context.register_table("payments", rows(RecordBatch::new_empty(PaymentsTable::table_schema()))?)?;
    Ok(context)
}

pub(super) fn rows(batch: RecordBatch) -> Result<Arc<MemTable>> {
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}

fn restricted(context: &SessionContext, payments: Arc<dyn TableProvider>, to: Option<Expr>) -> Result<DataFrame> {
    let frame = context.read_table(payments)?;
    match to {
        Some(restriction) => frame.filter(restriction),
        None => Ok(frame),
    }
}

// The one home of sessions: the lint keeps the rest of the code from opening any.
#[allow(clippy::disallowed_methods)]
fn context(runtime: Arc<RuntimeEnv>, target_partitions: usize, by_file: Option<Arc<FileByFile>>) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(target_partitions).with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.parse_float_as_decimal = true;
    // The metrics' filters let nearly every row pass, so that evaluating them while decoding costs more than it saves.
    options.execution.parquet.pushdown_filters = false;
    // Nor do they skip pages: files are sorted by meter, and a period's payments are on all of them. Reading the index
    // of each file costs 5 to 20 % of a metric's processor time; a session for look-ups by meter wants it on.
    options.execution.parquet.enable_page_index = false;
    options.execution.parquet.bloom_filter_on_read = false;
    // For the same reason the scan gets no filters to try on the statistics of row groups: to prepare them takes a third
    // of the processor time over many small files. Which files are opened at all is settled before, by `PaymentsTable`.
    let mut rules = PhysicalOptimizer::new().rules;
    rules.retain(|rule| !rule.name().starts_with("FilterPushdown"));
    if let Some(by_file) = by_file {
        // What is grouped file by file is two steps, also where there is one file.
        rules.retain(|rule| rule.name() != "CombinePartialFinalAggregate");
        rules.push(by_file);
    }
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_physical_optimizer_rules(rules)
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(scalar_functions())
        .with_aggregate_functions(aggregate_functions())
        .with_window_functions(window_functions())
        .build();
    SessionContext::new_with_state(state)
}

/// What a metric may call; a function that reads files, the clock or chance is not among them.
fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        functions::core::coalesce(),
        functions::core::nullif(),
        functions::datetime::date_part(),
        functions::math::round(),
        functions::string::lower(),
        functions::string::upper(),
        period::local_period(),
    ]
}

fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    vec![
        functions_aggregate::count::count_udaf(),
        functions_aggregate::sum::sum_udaf(),
        functions_aggregate::min_max::min_udaf(),
        functions_aggregate::min_max::max_udaf(),
        functions_aggregate::string_agg::string_agg_udaf(),
        ranks::exact_median(),
        ranks::nearest_rank(),
    ]
}

fn window_functions() -> Vec<Arc<WindowUDF>> {
    vec![
        functions_window::row_number::row_number_udwf(),
        functions_window::lead_lag::lag_udwf(),
        functions_window::lead_lag::lead_udwf(),
    ]
}
