//! The sessions of SQL that a person wrote, each in a process of its own, and over the files of one scope.

use std::{path::PathBuf, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use datafusion::{
    catalog::TableFunction,
    common::Result,
    datasource::TableProvider,
    execution::{
        SessionStateBuilder, SessionStateDefaults,
        disk_manager::{DiskManagerBuilder, DiskManagerMode},
        memory_pool::{FairSpillPool, TrackConsumersPool},
        object_store::ObjectStoreUrl,
        runtime_env::{RuntimeEnv, RuntimeEnvBuilder},
    },
    logical_expr::{AggregateUDF, ScalarUDF, WindowUDF},
    optimizer::Optimizer,
    prelude::{SessionConfig, SessionContext},
};
use object_store::local::LocalFileSystem;

use super::{
    ProjectFacts,
    connection_rows::{self, ProjectConnection},
    relations::{project_columns, upload_columns},
    session::{LAKE_URL, NAMED, Table, rows},
};
use crate::{
    catalog::UploadFacts,
    lake::scan::{PaymentsTable, ScanFile},
};

/// The relation of connections.
const CONNECTIONS: &str = "connections";

/// What SQL that a person wrote is answered from, and within which limits. It has a process of its own, and so a session, a
/// memory and a folder of its own.
#[derive(Debug)]
pub struct SqlSession {
    /// The table's root, and of its files those that the caller may see, whose bytes were compared with what was written.
    pub lake_root: PathBuf,
    pub files: Vec<ScanFile>,
    /// The rows of `projects` and of `uploads`.
    pub projects: Vec<ProjectFacts>,
    pub uploads: Vec<UploadFacts>,
    /// The rows of `connections`.
    pub connections: Vec<ProjectConnection>,
    pub memory_bytes: usize,
    pub spill_bytes: u64,
    /// Of nobody else.
    pub spill_folder: PathBuf,
    pub target_partitions: usize,
}

impl SqlSession {
    /// Opens it: the relations `payments`, `projects`, `sites`, `uploads` and `connections`, and nothing else that can be named.
    pub fn open(self, callable: Callable) -> Result<SessionContext> {
        let spill = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![self.spill_folder]))
            .with_max_temp_directory_size(self.spill_bytes);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(TrackConsumersPool::new(FairSpillPool::new(self.memory_bytes), NAMED)))
            .with_disk_manager_builder(spill)
            .build_arc()?;
        let store = ObjectStoreUrl::parse(LAKE_URL)?;
        runtime.register_object_store(store.as_ref(), Arc::new(LocalFileSystem::new_with_prefix(&self.lake_root)?));
        let context = sql_context(runtime, self.target_partitions, callable);
        // Whatever a caller is not to see of a row is taken away here, below everything that a person wrote.
        let payments: Arc<dyn TableProvider> = Arc::new(PaymentsTable::new(self.lake_root.into(), store, self.files));
        let sites = context.read_table(Arc::clone(&payments))?.select_columns(&["project_id", "site"])?.distinct()?;
        context.register_table(Table::Sites.name(), sites.into_view())?;
        context.register_table("payments", payments)?;
        let projects: Vec<&ProjectFacts> = self.projects.iter().collect();
        let columns = project_columns(&projects, projects.iter().map(|project| project.time_zone.name()));
        context
            .register_table(Table::Projects.name(), rows(RecordBatch::try_new(Table::Projects.schema(), columns)?)?)?;
        let columns = upload_columns(&self.uploads.iter().collect::<Vec<_>>());
        context
            .register_table(Table::Uploads.name(), rows(RecordBatch::try_new(Table::Uploads.schema(), columns)?)?)?;
        context.register_table(CONNECTIONS, rows(connection_rows::rows(&self.connections)?)?)?;
        Ok(context)
    }
}

/// A rule of the engine's that groups by what `count(DISTINCT …)` counts, and then sums up sums. Those of decimals have more
/// digits than what stands around them was planned for, so that `HAVING sum(amount) > 1` beside a `count(DISTINCT …)` fails.
const LEFT_OUT: &str = "single_distinct_aggregation_to_group_by";

/// A session for SQL that a person wrote: look-ups by meter or customer among it, so files are read by their indexes.
#[allow(clippy::disallowed_methods, reason = "a home of sessions")]
fn sql_context(runtime: Arc<RuntimeEnv>, target_partitions: usize, callable: Callable) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(target_partitions).with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.collect_spans = true;
    // Of groups by the greatest or the least it loses those whose value is null, and it makes room for as many groups as a limit has.
    options.optimizer.enable_topk_aggregation = false;
    // Statistics and page indexes rule out what a predicate cannot meet. Row by row it is evaluated above the scan, because what
    // goes wrong with it there says what it is, and nothing of a row is looked at before the scan has given it.
    options.execution.parquet.pushdown_filters = false;
    options.execution.parquet.enable_page_index = true;
    options.execution.parquet.bloom_filter_on_read = false;
    let rules = Optimizer::new().rules.into_iter().filter(|rule| rule.name() != LEFT_OUT);
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_optimizer_rules(rules.collect())
        .with_runtime_env(runtime)
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(callable.scalar)
        .with_aggregate_functions(callable.aggregate)
        .with_window_functions(callable.window)
        .with_table_functions(
            callable.table.into_iter().map(|function| (function.name().to_owned(), function)).collect(),
        )
        .build();
    SessionContext::new_with_state(state)
}

/// What SQL that a person wrote may call.
pub struct Callable {
    pub scalar: Vec<Arc<ScalarUDF>>,
    pub aggregate: Vec<Arc<AggregateUDF>>,
    pub window: Vec<Arc<WindowUDF>>,
    pub table: Vec<Arc<TableFunction>>,
}

/// The relations of SQL that a person wrote, by name, with their columns.
#[must_use]
pub fn sql_relations() -> Vec<(&'static str, SchemaRef)> {
    let beside = [Table::Projects, Table::Sites, Table::Uploads].map(|table| (table.name(), table.schema()));
    let connections = [(CONNECTIONS, connection_rows::schema())];
    [("payments", PaymentsTable::table_schema())].into_iter().chain(beside).chain(connections).collect()
}

/// A session for SQL that a person wrote over relations that are empty: to plan with, and to show plans of, which hold no
/// file, no setting and nothing of a scope because the session has none.
///
/// # Errors
/// Where the engine does not take the relations.
pub fn sql_without_rows(callable: Callable) -> Result<SessionContext> {
    let context = sql_context(Arc::new(RuntimeEnv::default()), 1, callable);
    for (name, schema) in sql_relations() {
        context.register_table(name, rows(RecordBatch::new_empty(schema))?)?;
    }
    Ok(context)
}
