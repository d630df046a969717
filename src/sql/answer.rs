//! The answer to SQL on its way: rows from the process → bytes in the form that was asked for, a piece at a time, as fast as
//! they are taken. What was not taken waits in the process.

use std::{
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    time::Duration,
};

use arrow::{
    array::RecordBatch,
    buffer::Buffer,
    datatypes::{Schema, SchemaRef},
    ipc::reader::StreamDecoder,
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::{
    SqlError,
    confine::Confinement,
    frames::{Frame, Whole},
    running::Running,
    stored::{Page, Stored},
    tracked::Watched,
};
use crate::query::{Ending, Format, Streamed};

/// An answer is held back for so long, or for so many bytes, where it may just as well come to its end: then its head can say
/// everything.
const HOLD: Duration = Duration::from_millis(25);
const HOLD_BYTES: usize = 256 << 10;

/// So few bytes of rows are made bytes of the answer where they come: to wake another thread takes longer.
const SMALL_BYTES: usize = 16 << 10;

/// How an answer is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) format: Format,
    pub(super) csv_guard: bool,
}

/// Where rows come from.
enum Source {
    Process { running: Box<Running>, watched: Watched },
    Kept(Page),
}

impl Source {
    async fn next(&mut self) -> Result<Frame, SqlError> {
        match self {
            Self::Process { running, .. } => running.next().await,
            Self::Kept(page) => page.next().await,
        }
    }

    async fn end(&mut self) {
        if let Self::Process { running, .. } = self {
            running.end().await;
        }
    }

    fn let_go(&mut self) {
        if let Self::Process { running, .. } = self {
            running.let_go();
        }
    }

    fn has_rows(&self, rows: u64) {
        if let Self::Process { watched, .. } = self {
            watched.has_rows(rows);
        }
    }
}

/// An answer whose first rows have come, or which has none.
pub struct SqlAnswer {
    source: Source,
    /// None while a piece is made, and after the end.
    making: Option<Making>,
    first: Vec<u8>,
    asked_at: Instant,
    /// How long it took where it is kept, in milliseconds, and the cursor of what comes after it.
    kept: Option<(u64, Option<String>)>,
    lake_version: u64,
    rows: u64,
    end: Option<Whole>,
}

/// What makes bytes of frames.
struct Making {
    decoder: StreamDecoder,
    form: Form,
    streamed: Option<Streamed>,
    /// Rows that are passed over, and those that are wanted after them.
    skip: u64,
    wanted: u64,
}

impl Making {
    fn new(form: Form, skip: u64, wanted: u64) -> Self {
        Self { decoder: StreamDecoder::new(), form, streamed: None, skip, wanted }
    }
}

impl SqlAnswer {
    /// Waits for the first rows, or the end. What the process says of how far it has shut itself in goes to `confined`.
    pub(super) async fn begin(
        running: Running,
        watched: Watched,
        form: Form,
        lake_version: u64,
        asked_at: Instant,
        confined: impl Fn(&Confinement),
    ) -> Result<Self, SqlError> {
        let running = shut_in(running, confined).await?;
        Self {
            source: Source::Process { running: Box::new(running), watched },
            making: Some(Making::new(form, 0, u64::MAX)),
            first: Vec::new(),
            asked_at,
            kept: None,
            lake_version,
            rows: 0,
            end: None,
        }
        .begun()
        .await
    }

    /// Some rows of a result that is kept: at most `limit` from `offset` on, of which `next` is what comes after them.
    pub async fn kept(
        stored: &Arc<Stored>,
        lake_version: u64,
        (format, csv_guard): (Format, bool),
        (offset, limit): (u64, u64),
        next: Option<String>,
    ) -> Result<Self, SqlError> {
        let page = Page::of(stored, offset, limit);
        Self {
            making: Some(Making::new(Form { format, csv_guard }, page.skip, page.rows)),
            source: Source::Kept(page),
            first: Vec::new(),
            asked_at: Instant::now(),
            kept: Some((stored.elapsed_ms(), next)),
            lake_version,
            rows: 0,
            end: None,
        }
        .begun()
        .await
    }

    async fn begun(mut self) -> Result<Self, SqlError> {
        while self.end.is_none() {
            let frame = if self.rows == 0 {
                self.source.next().await?
            } else if self.first.len() >= HOLD_BYTES {
                break;
            } else {
                match timeout(HOLD, self.source.next()).await {
                    Ok(frame) => frame?,
                    Err(_) => break,
                }
            };
            let bytes = self.take_in(frame).await?;
            self.first.extend_from_slice(&bytes);
        }
        Ok(self)
    }

    /// The next bytes; nothing after the last.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SqlError> {
        if !self.first.is_empty() {
            return Ok(Some(std::mem::take(&mut self.first).into()));
        }
        while self.end.is_none() {
            let frame = self.source.next().await?;
            let bytes = self.take_in(frame).await?;
            if !bytes.is_empty() {
                return Ok(Some(bytes.into()));
            }
        }
        Ok(None)
    }

    /// Makes bytes of a frame.
    async fn take_in(&mut self, frame: Frame) -> Result<Vec<u8>, SqlError> {
        let failed = |how: &str| SqlError::Crashed { how: how.to_owned() };
        let making = self.making.take().ok_or_else(|| failed("a piece of its answer could not be made"))?;
        match frame {
            Frame::Rows(bytes) => {
                let is_small = bytes.len() <= SMALL_BYTES && making.is_quick();
                let made = made(is_small, move || making.rows(bytes)).await;
                let (making, bytes) = made.ok_or_else(|| failed("what it said could not be read"))??;
                self.rows = making.streamed.as_ref().map_or(0, Streamed::row_count);
                self.source.has_rows(self.rows);
                self.making = Some(making);
                Ok(bytes)
            }
            Frame::Whole(whole) => {
                // To clear a process away takes as long as many a query; its turn is given up only then.
                self.source.let_go();
                if whole.rows != self.rows {
                    return Err(failed("its rows are not as many as it says"));
                }
                let ending = self.ending(&whole);
                self.end = Some(whole);
                let made = made(making.is_quick(), move || making.end(&ending)).await;
                made.ok_or_else(|| failed("its end could not be written"))?
            }
            Frame::Failed(failure) => {
                self.making = Some(making);
                self.source.end().await;
                Err(SqlError::Failed(failure))
            }
            Frame::Confined(_) | Frame::Progress(_) => Err(failed("it said what it cannot say there")),
        }
    }

    fn ending(&self, whole: &Whole) -> Ending {
        let elapsed = self.kept.as_ref().map_or_else(|| milliseconds(self.asked_at), |(elapsed, _)| *elapsed);
        let mut statistics = json!({
            "elapsed_ms": elapsed,
            "scanned_rows": whole.scanned_rows,
            "scanned_bytes": whole.scanned_bytes,
        });
        if let Some((_, next)) = &self.kept {
            statistics["next_cursor"] = json!(next);
        }
        Ending { lake_version: self.lake_version, truncated: whole.truncated, statistics }
    }

    /// Rows that were made bytes of so far.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        self.rows
    }

    /// Whether rows were left out, once that is known.
    #[must_use]
    pub fn truncated(&self) -> Option<bool> {
        self.end.as_ref().map(|end| end.truncated)
    }

    /// The bytes of an answer whose end has come with its beginning.
    #[must_use]
    pub fn whole(&mut self) -> Option<Bytes> {
        self.end.is_some().then(|| std::mem::take(&mut self.first).into())
    }

    /// What is sent where the answer breaks off, in the one form that has room for it.
    #[must_use]
    pub fn broken_off(&self, problem: &Value) -> Option<Vec<u8>> {
        self.making.as_ref()?.streamed.as_ref()?.broken_off(problem)
    }
}

/// Does some work, here where it is small and on a thread for such work where it is not. A panic of it gives nothing; its text
/// went to the log where it happened.
async fn made<T: Send + 'static>(is_small: bool, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if is_small {
        panic::catch_unwind(AssertUnwindSafe(work)).ok()
    } else {
        tokio::task::spawn_blocking(work).await.ok()
    }
}

impl Making {
    /// Whether it takes no longer than the bytes at hand: Parquet is made of many rows at once.
    fn is_quick(&self) -> bool {
        self.form.format != Format::Parquet
    }

    /// Bytes of the Arrow IPC stream → bytes of the answer.
    fn rows(mut self, bytes: Vec<u8>) -> Result<(Self, Vec<u8>), SqlError> {
        let unread = |error: arrow::error::ArrowError| SqlError::Crashed { how: error.to_string() };
        let (mut buffer, mut out) = (Buffer::from_vec(bytes), Vec::new());
        while !buffer.is_empty() {
            let batch = self.decoder.decode(&mut buffer).map_err(unread)?;
            self.begin(&mut out)?;
            let Some(batch) = batch.map(|batch| self.wanted_of(&batch)) else { continue };
            if let Some(streamed) = self.streamed.as_mut().filter(|_| batch.num_rows() > 0) {
                out.extend_from_slice(&streamed.rows(&of_schema(batch, streamed.schema())?)?);
            }
        }
        Ok((self, out))
    }

    /// Of some rows those that are wanted.
    fn wanted_of(&mut self, batch: &RecordBatch) -> RecordBatch {
        let rows = batch.num_rows();
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rows);
        let taken = usize::try_from(self.wanted).unwrap_or(usize::MAX).min(rows - skipped);
        (self.skip, self.wanted) = (self.skip - skipped as u64, self.wanted - taken as u64);
        batch.slice(skipped, taken)
    }

    /// Writes the answer's head, once its columns are known.
    fn begin(&mut self, out: &mut Vec<u8>) -> Result<(), SqlError> {
        if let (None, Some(schema)) = (&self.streamed, self.decoder.schema()) {
            let schema = Arc::new(Schema::new(schema.fields().clone()));
            let (streamed, head) = Streamed::begin(self.form.format, &schema, self.form.csv_guard)?;
            self.streamed = Some(streamed);
            out.extend_from_slice(&head);
        }
        Ok(())
    }

    fn end(mut self, ending: &Ending) -> Result<Vec<u8>, SqlError> {
        let unread = |error: arrow::error::ArrowError| SqlError::Crashed { how: error.to_string() };
        self.decoder.finish().map_err(unread)?;
        let Some(streamed) = self.streamed else {
            return Err(SqlError::Crashed { how: "it answered without columns".to_owned() });
        };
        Ok(streamed.end(ending)?)
    }
}

/// Waits until a process is shut in, and says how far.
pub(super) async fn shut_in(mut running: Running, confined: impl Fn(&Confinement)) -> Result<Running, SqlError> {
    match running.next().await? {
        Frame::Confined(confinement) => confined(&confinement),
        Frame::Failed(failure) => return Err(SqlError::Failed(failure)),
        Frame::Rows(_) | Frame::Progress(_) | Frame::Whole(_) => {
            return Err(SqlError::Crashed { how: "it answered before it was shut in".to_owned() });
        }
    }
    Ok(running)
}

/// Since an instant.
pub(super) fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// The same rows without what the stream's schema says besides.
fn of_schema(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, SqlError> {
    let (_, columns, _) = batch.into_parts();
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| SqlError::Crashed { how: error.to_string() })
}
