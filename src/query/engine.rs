//! The engine: a metric, a request and a scope become an answer, within limits on time, memory, rows and concurrency.

use std::{path::Path, sync::Arc};

use arrow::error::ArrowError;
use bytes::Bytes;
use datafusion::{
    execution::memory_pool::MemoryReservation,
    logical_expr::col,
    prelude::{DataFrame, SessionContext},
};
use futures::{TryStreamExt, stream};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    Format, QueryError,
    answer::{Answer, AnswerColumn, AnswerWarning, Rows, plain_schema},
    bounded::Bounded,
    encode::encode,
    fair_queue::{FairQueue, Turn},
    metrics::{self, Metric},
    month_cells::KnownCells,
    params::MetricRequest,
    plan::{Inputs, Plan, bound_values},
    relations::connections_hash,
    session::{Relations, Sessions},
};
use crate::{
    access::Principal,
    catalog::UploadFacts,
    config::QueryConfig,
    ids::{Month, ProjectSlug},
};

/// Runs metrics over one lake.
#[derive(Debug)]
pub struct Engine {
    sessions: Sessions,
    cells: KnownCells,
    limits: QueryConfig,
    queue: FairQueue,
}

/// Into how many parts the engine splits a query.
fn partitions(limits: &QueryConfig) -> usize {
    match limits.target_partitions {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        given => given,
    }
}

/// An answer as it is sent.
#[derive(Debug)]
pub struct Encoded {
    /// They count to the memory of all queries until they are dropped.
    pub bytes: Bytes,
    pub rows: usize,
    /// Whether rows were left out because of the limit.
    pub truncated: bool,
    /// Cells of the period that are not shown; none where nothing of it is shared as aggregates.
    pub withheld_cells: Option<u64>,
    /// Projects of which nothing is in it, because the request asks more of them than is shared.
    pub left_out: usize,
}

impl Engine {
    /// An engine over the lake's table at `lake_root`, which exists.
    pub fn new(lake_root: &Path, limits: QueryConfig) -> Result<Self, QueryError> {
        let sessions = Sessions::new(lake_root, &limits, partitions(&limits)).map_err(QueryError::Setup)?;
        let queue = FairQueue::new(&limits);
        Ok(Self { sessions, cells: KnownCells::new(), limits, queue })
    }

    #[must_use]
    pub fn limits(&self) -> &QueryConfig {
        &self.limits
    }

    /// Answers a request of `asker`. Dropping the future, or the limit on time, stops the query; one that is being encoded
    /// ends on its own, and has its turn until then.
    pub async fn answer(
        &self,
        asker: &Principal,
        metric: &Arc<Metric>,
        request: &MetricRequest,
        inputs: Inputs<'_>,
        format: Format,
    ) -> Result<Encoded, QueryError> {
        let answer = async {
            let turn = self.queue.turn(asker).await?;
            let answer = self.execute(metric, request, inputs, || {}).await?;
            self.encoded(answer, format, turn).await
        };
        self.in_time(answer).await
    }

    /// The rows of an answer, for tests of the figures.
    #[cfg(test)]
    pub(super) async fn run(
        &self,
        metric: &Arc<Metric>,
        request: &MetricRequest,
        inputs: Inputs<'_>,
    ) -> Result<Answer, QueryError> {
        self.in_time(self.execute(metric, request, inputs, || {})).await
    }

    /// The same, where something comes between the plan and its first row.
    #[cfg(test)]
    pub(super) async fn run_interrupted(
        &self,
        metric: &Arc<Metric>,
        request: &MetricRequest,
        inputs: Inputs<'_>,
        between: impl FnOnce(),
    ) -> Result<Answer, QueryError> {
        self.execute(metric, request, inputs, between).await
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, QueryError>>) -> Result<T, QueryError> {
        let timeout = self.limits.timeout;
        tokio::time::timeout(timeout, work).await.unwrap_or(Err(QueryError::Timeout(timeout)))
    }

    async fn encoded(&self, answer: Answer, format: Format, turn: Turn) -> Result<Encoded, QueryError> {
        let mut out = Bounded::new(self.limits.max_answer_bytes, self.sessions.memory("an encoded answer"));
        let sent = Encoded {
            bytes: Bytes::new(),
            rows: answer.rows.num_rows(),
            truncated: answer.truncated,
            withheld_cells: answer.withheld_cells,
            left_out: answer.left_out,
        };
        let write = move || {
            let written = encode(&answer, format, &mut out);
            drop((answer, turn));
            out.finish(written)
        };
        let written = tokio::task::spawn_blocking(write).await;
        // Only a panic ends it early; its text went to the log where it happened.
        let bytes = written.map_err(|error| QueryError::Encode(ArrowError::ExternalError(Box::new(error))))??;
        Ok(Encoded { bytes, ..sent })
    }

    /// A strong validator of the answer in one format, without the quotes: from the lake's version, the scope, what is
    /// known of its projects, uploads and connections, the metric's file and the parameters. Nothing is run.
    pub fn etag(
        &self,
        metric: &Metric,
        request: &MetricRequest,
        inputs: &Inputs<'_>,
        format: Format,
    ) -> Result<String, QueryError> {
        let plan = Plan::of(metric, request, inputs)?;
        let mut uploads: Vec<&UploadFacts> = Vec::new();
        if metric.reads_uploads() {
            uploads.extend(inputs.uploads.iter().filter(|upload| inputs.scope.contains(&upload.project)));
            uploads.sort_by(|a, b| (&a.project, &a.id).cmp(&(&b.project, &b.id)));
        }
        let uploads = uploads.into_iter().map(|upload| json!([upload.project, upload.id, upload.committed_at]));
        let projects = plan.projects.iter().map(|project| {
            let zone = request.tz.unwrap_or(project.time_zone).name();
            let shown = inputs.scope.shown(&project.slug);
            json!([project.slug, project.name, project.kind, project.currency, project.country, zone, shown])
        });
        // The zones' instants are the period in full: they move with the day where the request asks for the last days.
        // So does the day up to which days are counted, where it is today.
        let as_of = |zone| metric.counts_days().then(|| plan.as_of(zone));
        let periods =
            plan.zones.iter().map(|zone| json!([zone.name(), plan.start(*zone), plan.end(*zone), as_of(*zone)]));
        let all = json!([
            env!("CARGO_PKG_VERSION"),
            inputs.snapshot.version,
            metric.name(),
            metric.hash,
            request.effective(metric),
            request.limit.min(self.limits.max_rows),
            format.name(),
            projects.collect::<Vec<_>>(),
            periods.collect::<Vec<_>>(),
            uploads.collect::<Vec<_>>(),
            // Its warning is in the answer.
            plan.left_out.as_ref().map(|refused| (&refused.projects, refused.to_string())),
            metric.reads_connections().then(|| connections_hash(&plan.connections(inputs))),
        ]);
        Ok(hex::encode(&Sha256::digest(all.to_string())[..16]))
    }

    async fn execute(
        &self,
        metric: &Arc<Metric>,
        request: &MetricRequest,
        inputs: Inputs<'_>,
        planned: impl FnOnce(),
    ) -> Result<Answer, QueryError> {
        let plan = self.plan(metric, request, &inputs).await?;
        let limit = request.limit.min(self.limits.max_rows);
        let (frame, _first) = self.frame(metric, request, &inputs, &plan, limit + 1).await?;
        let schema = plain_schema(frame.schema().inner())?;
        let mut stream = frame.execute_stream().await?;
        planned();
        let (mut rows, mut count) = (Rows::new(Arc::clone(&schema), self.sessions.memory("the rows of an answer")), 0);
        while let Some(batch) = stream.try_next().await? {
            count += batch.num_rows();
            let surplus = count.saturating_sub(limit);
            rows.push(&batch.slice(0, batch.num_rows() - surplus.min(batch.num_rows())))?;
        }
        drop(stream);
        let (rows, memory) = rows.whole()?;
        let truncated = count > limit;
        let cut_off = truncated.then(|| AnswerWarning {
            code: "truncated",
            message: format!(
                "there are more than {limit} rows; ask for a higher limit, a shorter period or fewer projects"
            ),
        });
        let withheld_cells = plan.withheld_cells();
        let withheld = withheld_cells.filter(|cells| *cells > 0).map(|cells| AnswerWarning {
            code: "withheld",
            message: format!(
                "of what is shared as aggregates, {cells} cells are withheld, in which a customer could be made out"
            ),
        });
        let left_out = plan.left_out.as_ref().map_or(0, |refused| refused.projects.len());
        let left_out_warning = plan.left_out.as_ref().map(|refused| AnswerWarning {
            code: "left_out",
            message: format!("nothing of these projects is in the answer: {refused}"),
        });
        let column = |column: &metrics::ColumnInfo| AnswerColumn {
            name: column.name.clone(),
            kind: column.kind,
            unit: column.unit.clone(),
        };
        let mut parameters = request.effective(metric);
        plan.show(&mut parameters, metric);
        Ok(Answer {
            metric: Arc::clone(metric),
            lake_version: inputs.snapshot.version,
            parameters,
            columns: metric.info.columns.iter().map(column).collect(),
            schema,
            rows,
            warnings: [cut_off, withheld, left_out_warning].into_iter().flatten().collect(),
            truncated,
            left_out,
            withheld_cells,
            _memory: memory,
        })
    }

    /// What queries, and answers that are not sent yet, have of their memory now; in bytes.
    #[must_use]
    pub fn reserved_memory(&self) -> usize {
        self.sessions.reserved_memory()
    }

    /// What is kept of files from query to query, in bytes.
    #[must_use]
    pub fn partials_bytes(&self) -> usize {
        self.sessions.partials_bytes()
    }

    /// Forgets what is kept of files, also of those that queries read now. Before an upload is erased, this is called: of
    /// rows that are deleted by then nothing comes back.
    pub fn forget(&self) {
        self.sessions.forget();
        self.cells.forget();
    }

    /// The plan that a request runs, for tests that hold which files it opens.
    #[cfg(test)]
    pub(super) async fn physical_plan(
        &self,
        metric: &Metric,
        request: &MetricRequest,
        inputs: &Inputs<'_>,
    ) -> Result<Arc<dyn datafusion::physical_plan::ExecutionPlan>, QueryError> {
        let plan = self.plan(metric, request, inputs).await?;
        let (frame, _first) = self.frame(metric, request, inputs, &plan, request.limit + 1).await?;
        Ok(frame.create_physical_plan().await?)
    }

    /// What a request comes to. Which cells of what is shared as aggregates are shown is settled before anything else is asked
    /// of the files.
    async fn plan<'a>(
        &self,
        metric: &Metric,
        request: &MetricRequest,
        inputs: &Inputs<'a>,
    ) -> Result<Plan<'a>, QueryError> {
        let mut plan = Plan::of(metric, request, inputs)?;
        let months = plan.aggregates.iter_mut().map(Ok).collect::<Vec<_>>();
        let settle = async |(month, cells): (&(ProjectSlug, Month), &mut Option<_>)| {
            let files = inputs.snapshot.partitions.get(month).map(Vec::as_slice).unwrap_or_default();
            *cells = Some(self.cells.of(&self.sessions, files).await?);
            Ok::<_, QueryError>(())
        };
        stream::iter(months).try_for_each_concurrent(partitions(&self.limits), settle).await?;
        Ok(plan)
    }

    /// The plan of a request: the metric's SELECT with its values bound, in order, with one row more than `limit` shows; and
    /// the memory of what is there for it already.
    async fn frame(
        &self,
        metric: &Metric,
        request: &MetricRequest,
        inputs: &Inputs<'_>,
        plan: &Plan<'_>,
        fetch: usize,
    ) -> Result<(DataFrame, Vec<MemoryReservation>), QueryError> {
        let tables = metric.tables.iter().map(|table| Ok((*table, plan.table(*table, request, inputs)?)));
        let tables = tables.collect::<Result<Vec<_>, QueryError>>()?;
        let beside = self.sessions.memory("what a metric reads beside payments");
        beside.try_grow(tables.iter().map(|(_, content)| content.memory()).sum())?;
        let context: SessionContext = self.sessions.open(Relations {
            files: plan.files(inputs),
            restriction: Plan::restriction(request),
            tables,
        })?;
        let memory = || self.sessions.memory("what a metric works out first");
        let (select, mut first) = metric.select.plan(&context, &bound_values(request), &memory).await?;
        first.push(beside);
        let keys = request.order_keys(metric).into_iter();
        let keys = keys.map(|key| col(quoted(&key.column)).sort(!key.descending, false)).collect();
        Ok((DataFrame::new(context.state(), select).sort(keys)?.limit(0, Some(fetch))?, first))
    }
}

/// A column's name as an expression's parser takes it, whatever its case.
fn quoted(column: &str) -> String {
    format!("\"{column}\"")
}
