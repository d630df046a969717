//! The guard and the planner against hostile SQL: a corpus of it, and statements that are made by chance.

mod answers;
mod corpus;
mod explained;
mod faults;
mod generated;
mod limits;
#[path = "../../../tests/hostile_sql/maker.rs"]
mod made;
#[path = "../../../tests/hostile_sql/corpus.rs"]
mod read;

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use datafusion::{
    arrow::{
        array::{ArrayRef, Decimal128Array, StringArray, TimestampMicrosecondArray, new_null_array},
        record_batch::RecordBatch,
    },
    catalog::MemTable,
    common::DataFusionError,
    logical_expr::LogicalPlan,
    prelude::{DataFrame, SessionContext},
};

use read::{Hostile, hostile};

use super::{Checked, Fault, functions};
use crate::{
    config::{Sources, SqlLimits},
    fuzz::Chance,
    query,
};

/// The defaults of the settings.
fn limits() -> SqlLimits {
    Sources::default().load().unwrap().config.sql.limits
}

/// Runs something on a thread with so much stack. What overflows it ends the process of the tests.
fn on_a_stack_of<T: Send + 'static>(bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
    thread::Builder::new().stack_size(bytes).spawn(work).unwrap().join().unwrap_or_else(|panic| {
        std::panic::resume_unwind(panic);
    })
}

/// Runs a future on this thread.
fn wait_for<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A session with three payments and nothing else.
fn session() -> SessionContext {
    let context = query::sql_without_rows(functions::all(&limits())).unwrap();
    let schema = query::sql_relations()[0].1.clone();
    let texts = |texts: [&str; 3]| -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
    let columns = schema.fields().iter().map(|field| -> ArrayRef {
        match field.name().as_str() {
            "paid_at" => Arc::new(
                TimestampMicrosecondArray::from(vec![
                    1_714_756_228_000_000,
                    1_714_842_628_000_000,
                    1_717_434_628_000_000,
                ])
                .with_timezone("UTC"),
            ),
            "amount" => Arc::new(
                Decimal128Array::from(vec![1_500_000, 12_000_000, -500_000]).with_precision_and_scale(18, 4).unwrap(),
            ),
            "transaction_charges" => new_null_array(field.data_type(), 3),
            "customer_name" => texts([SECRET, "Kitobo Traders", "Joseph Mwangi"]),
            "notes" => texts([SECRET, "paid at the office", ""]),
            "meter_id" => texts(["00104000123", "00104000124", "00104000123"]),
            "time_zone" => texts(["Africa/Nairobi", "Africa/Nairobi", "Africa/Lagos"]),
            name => texts([name, name, "other"]),
        }
    });
    let columns: Vec<ArrayRef> = columns
        .zip(schema.fields())
        .map(|(column, field)| datafusion::arrow::compute::cast(&column, field.data_type()).unwrap())
        .collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    context.deregister_table("payments").unwrap();
    context.register_table("payments", Arc::new(MemTable::try_new(schema, vec![vec![batch]]).unwrap())).unwrap();
    context
}

/// A value of a row, which no error may tell.
const SECRET: &str = "Amina-Otieno-0xC0FFEE";

/// The plan of a statement before anything was made of it.
fn planned(context: &SessionContext, checked: Checked) -> Result<LogicalPlan, DataFusionError> {
    wait_for(context.state().statement_to_plan(checked.statement()))
}

/// The rows of a plan, counted; what fails on the way is as the worker tells it.
fn run(context: &SessionContext, plan: LogicalPlan) -> Result<usize, DataFusionError> {
    let frame = DataFrame::new(context.state(), plan);
    let batches = wait_for(async { tokio::time::timeout(Duration::from_mins(1), frame.collect()).await });
    let batches = batches.expect("it ends in time")?;
    let written = batches.iter().map(|batch| query::written_rows(batch, &query::written_schema(&batch.schema())));
    let written: Vec<RecordBatch> = written.collect::<Result<_, _>>()?;
    Ok(written.iter().map(RecordBatch::num_rows).sum())
}

/// How long something took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    (work(), began.elapsed())
}

fn refusal(sql: &str, limits: &SqlLimits) -> Option<Fault> {
    super::check(sql, limits).err()
}
