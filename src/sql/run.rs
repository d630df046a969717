//! In the process: a question → its rows, as they come, within the limits on rows and bytes.

use std::{
    any::Any,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError, ipc::writer::StreamWriter};
use datafusion::{
    datasource::source::DataSourceExec,
    error::DataFusionError,
    physical_plan::{
        ExecutionPlan, execute_stream,
        statistics::{StatisticsArgs, StatisticsContext},
    },
    prelude::{DataFrame, SessionContext},
};
use futures::StreamExt;

use super::{
    Failure, Fault, FaultKind,
    frames::{self, Frame, Progress, Whole},
    functions,
    question::Question,
    statement,
};
use crate::query::{written_rows, written_schema};

/// How often it is said how far the query has come, while there are no rows to pass on.
const SAID_EVERY: Duration = Duration::from_millis(500);
/// Rows of an answer are passed on in pieces of about so many bytes.
const PIECE_BYTES: usize = 1 << 20;

/// A limit of more rows is not told to the engine, which would sort so many in memory alone: they are counted as they come.
const TOLD_ROWS: usize = 100_000;

/// Why the answer goes no further.
pub(super) enum Stop {
    Failed(Failure),
    /// Nobody listens any more.
    Unheard(io::Error),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Failed(Failure::Fault(fault))
    }
}

/// What an error of the engine means while it runs.
pub(super) fn failed(error: &DataFusionError) -> Stop {
    if let DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) | DataFusionError::ParquetError(_) =
        error.find_root()
    {
        log(error);
        return Stop::Failed(Failure::Storage);
    }
    told(Fault::of_running(error), error)
}

/// The same while it plans.
fn not_planned(error: &DataFusionError) -> Stop {
    told(Fault::of_planning(error), error)
}

fn told(fault: Fault, error: &DataFusionError) -> Stop {
    if fault.kind == FaultKind::Internal {
        // Its own words are for the log, which is where this goes.
        log(error);
    }
    fault.into()
}

fn not_encoded(error: ArrowError) -> Stop {
    failed(&DataFusionError::from(error))
}

#[allow(clippy::print_stderr, reason = "what this process has for a log is read by the server")]
fn log(error: &DataFusionError) {
    eprintln!("{error}");
}

/// Answers: frames of rows, and the last, which says that they are whole.
pub(super) async fn answer(question: Question, out: &mut impl Write) -> Result<(), Stop> {
    let (max_rows, max_bytes, only_plan) = (question.limits.max_rows, question.limits.max_bytes, question.only_plan);
    let statement = question.limits.statement.clone();
    let internal = |error| failed(&DataFusionError::External(Box::new(error)));
    let (session, sql, parameters) = question.into_session().map_err(internal)?;
    let context = session.open(functions::all(&statement)).map_err(|error| failed(&error))?;
    let frame = statement::plan(&context, &sql, &parameters, &statement).await?;
    pass_on_all(&context, frame, (max_rows, max_bytes), only_plan, out).await
}

/// Passes on the rows of a query that was planned, and the last frame.
pub(super) async fn pass_on_all(
    context: &SessionContext,
    frame: DataFrame,
    (max_rows, max_bytes): (usize, usize),
    only_plan: bool,
    out: &mut impl Write,
) -> Result<(), Stop> {
    let frame = if max_rows <= TOLD_ROWS {
        frame.limit(0, Some(max_rows.saturating_add(1))).map_err(|error| not_planned(&error))?
    } else {
        frame
    };
    let plan = frame.create_physical_plan().await.map_err(|error| not_planned(&error))?;
    let schema = written_schema(&plan.schema());
    if only_plan {
        return Rows::begin(&schema, max_rows, max_bytes, out)?.end(&Progress::default());
    }
    let mut stream = execute_stream(Arc::clone(&plan), context.task_ctx()).map_err(|error| failed(&error))?;
    let mut rows = Rows::begin(&schema, max_rows, max_bytes, out)?;
    let mut said = tokio::time::interval_at(tokio::time::Instant::now() + SAID_EVERY, SAID_EVERY);
    loop {
        let batch = tokio::select! {
            biased;
            batch = stream.next() => batch,
            _ = said.tick() => {
                let said = Frame::Progress(progress(&plan)).write(rows.out).and_then(|()| rows.out.flush());
                said.map_err(Stop::Unheard)?;
                continue;
            }
        };
        let Some(batch) = batch else { break };
        let batch = batch.map_err(|error| failed(&error))?;
        rows.pass_on(&written_rows(&batch, &schema).map_err(not_encoded)?)?;
        if rows.whole.truncated {
            break;
        }
    }
    // Nobody waits until what was read is cleared away: of many files that takes as long as a small query.
    rows.end(&progress(&plan))
}

/// The rows that were passed on so far.
struct Rows<'a, W: Write> {
    writer: StreamWriter<Vec<u8>>,
    out: &'a mut W,
    limit: usize,
    limit_bytes: usize,
    whole: Whole,
}

impl<'a, W: Write> Rows<'a, W> {
    fn begin(schema: &SchemaRef, max_rows: usize, max_bytes: usize, out: &'a mut W) -> Result<Self, Stop> {
        let writer = StreamWriter::try_new(Vec::new(), schema).map_err(not_encoded)?;
        let mut rows = Self { writer, out, limit: max_rows, limit_bytes: max_bytes, whole: Whole::default() };
        rows.send()?;
        Ok(rows)
    }

    /// Passes rows on, as far as the limits let it.
    fn pass_on(&mut self, batch: &RecordBatch) -> Result<(), Stop> {
        let room = self.limit.saturating_sub(self.rows());
        let batch = if batch.num_rows() > room {
            self.whole.truncated = true;
            batch.slice(0, room)
        } else {
            batch.clone()
        };
        for piece in pieces(batch).map_err(not_encoded)? {
            let room = self.limit_bytes.saturating_sub(usize::try_from(self.whole.bytes).unwrap_or(usize::MAX));
            let fits = rows_within(&piece, room).map_err(not_encoded)?;
            let is_cut = fits < piece.num_rows();
            self.pass_on_piece(&piece.slice(0, fits))?;
            if is_cut {
                self.whole.truncated = true;
                break;
            }
        }
        Ok(())
    }

    fn rows(&self) -> usize {
        usize::try_from(self.whole.rows).unwrap_or(usize::MAX)
    }

    fn pass_on_piece(&mut self, piece: &RecordBatch) -> Result<(), Stop> {
        if piece.num_rows() == 0 {
            return Ok(());
        }
        self.whole.rows += piece.num_rows() as u64;
        self.whole.bytes += bytes_of(piece).map_err(not_encoded)? as u64;
        self.writer.write(piece).map_err(not_encoded)?;
        self.send()?;
        // What is said before the first rows and after the last can wait for these, and for the end.
        self.out.flush().map_err(Stop::Unheard)
    }

    fn send(&mut self) -> Result<(), Stop> {
        let bytes = std::mem::take(self.writer.get_mut());
        if bytes.len() > frames::MAX_BYTES {
            return Err(Stop::Failed(Failure::RowTooLarge));
        }
        Frame::Rows(bytes).write(self.out).map_err(Stop::Unheard)
    }

    /// Says that it is whole, and how far it has come.
    fn end(mut self, came_to: &Progress) -> Result<(), Stop> {
        self.writer.finish().map_err(not_encoded)?;
        self.send()?;
        let &Progress { scanned_rows, scanned_bytes, .. } = came_to;
        let whole = Whole { scanned_rows, scanned_bytes, ..self.whole };
        let said = Frame::Progress(*came_to).write(self.out).and_then(|()| Frame::Whole(whole).write(self.out));
        said.and_then(|()| self.out.flush()).map_err(Stop::Unheard)
    }
}

fn bytes_of(batch: &RecordBatch) -> Result<usize, ArrowError> {
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size()).sum()
}

/// Rows in pieces of about [`PIECE_BYTES`], or of one row where that has more.
fn pieces(batch: RecordBatch) -> Result<Vec<RecordBatch>, ArrowError> {
    let (mut pending, mut pieces) = (vec![batch], Vec::new());
    while let Some(batch) = pending.pop() {
        let rows = batch.num_rows();
        if rows <= 1 || bytes_of(&batch)? <= PIECE_BYTES {
            pieces.push(batch);
        } else {
            pending.push(batch.slice(rows / 2, rows - rows / 2));
            pending.push(batch.slice(0, rows / 2));
        }
    }
    Ok(pieces)
}

/// How many rows from the first on have at most so many bytes.
fn rows_within(batch: &RecordBatch, room: usize) -> Result<usize, ArrowError> {
    let (mut fits, mut beyond) = (0, batch.num_rows() + 1);
    if bytes_of(batch)? <= room {
        return Ok(batch.num_rows());
    }
    while beyond - fits > 1 {
        let middle = fits.midpoint(beyond);
        if bytes_of(&batch.slice(0, middle))? <= room { fits = middle } else { beyond = middle }
    }
    Ok(fits)
}

/// What was read of files so far, and how much there is to read.
fn progress(plan: &Arc<dyn ExecutionPlan>) -> Progress {
    let mut progress = Progress { rows_to_scan: Some(0), ..Progress::default() };
    let mut pending = vec![Arc::clone(plan)];
    while let Some(node) = pending.pop() {
        let any: &dyn Any = node.as_ref();
        if let Some(source) = any.downcast_ref::<DataSourceExec>() {
            if let Some(metrics) = source.metrics() {
                progress.scanned_rows += metrics.output_rows().unwrap_or(0) as u64;
                progress.scanned_bytes += metrics.sum_by_name("bytes_scanned").map_or(0, |sum| sum.as_usize()) as u64;
            }
            let known = StatisticsContext::new().compute(source, &StatisticsArgs::new()).ok();
            let rows = known.and_then(|known| known.num_rows.get_value().copied());
            progress.rows_to_scan = progress.rows_to_scan.zip(rows).map(|(sum, rows)| sum + rows as u64);
        }
        pending.extend(node.children().into_iter().cloned());
    }
    progress
}

#[cfg(test)]
pub(super) mod tests {
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use bytes::BytesMut;

    use super::*;

    fn batch(texts: &[usize]) -> RecordBatch {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts.iter().map(|length| "x".repeat(*length))));
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..).take(texts.len())));
        RecordBatch::try_from_iter([("text", texts), ("number", numbers)]).unwrap()
    }

    /// The last frame of what a process said.
    pub(in crate::sql) fn whole_of(said: &[u8]) -> Whole {
        let (mut said, mut last) = (BytesMut::from(said), None);
        while let Some(frame) = Frame::take(&mut said).unwrap() {
            last = Some(frame);
        }
        let Some(Frame::Whole(whole)) = last else { panic!("the last frame is {last:?}") };
        whole
    }

    fn passed_on(batches: &[RecordBatch], max_rows: usize, max_bytes: usize) -> Whole {
        let mut out = Vec::new();
        let mut rows = Rows::begin(&batches[0].schema(), max_rows, max_bytes, &mut out).ok().unwrap();
        for batch in batches {
            rows.pass_on(batch).ok().unwrap();
        }
        rows.end(&Progress::default()).ok().unwrap();
        whole_of(&out)
    }

    #[test]
    fn an_answer_is_cut_at_its_limits_and_says_so() {
        let rows = [batch(&[10; 100]), batch(&[10; 100])];
        let all = passed_on(&rows, 1000, 1 << 20);
        assert_eq!((all.rows, all.truncated), (200, false));
        let exact = passed_on(&rows, 200, usize::try_from(all.bytes).unwrap());
        assert_eq!((exact.rows, exact.truncated), (200, false), "what just fits is whole");
        let cut = passed_on(&rows, 150, 1 << 20);
        assert_eq!((cut.rows, cut.truncated), (150, true));
        let cut = passed_on(&rows[..1], 1000, 1000);
        assert!(cut.truncated && cut.rows > 0 && cut.bytes <= 1000, "{cut:?}");
    }

    #[test]
    fn large_rows_are_passed_on_one_by_one() {
        let pieces = pieces(batch(&[PIECE_BYTES, 10, 3 * PIECE_BYTES, 10])).unwrap();
        assert_eq!(pieces.iter().map(RecordBatch::num_rows).sum::<usize>(), 4);
        assert!(pieces.iter().all(|piece| piece.num_rows() == 1 || bytes_of(piece).unwrap() <= PIECE_BYTES));
    }
}
