//! Good rows → one sorted Parquet file per project and month, written on all cores. Blocks.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver},
    },
    thread,
};

use arrow::{
    array::{AsArray, RecordBatch, UInt32Array},
    compute::take_record_batch,
    datatypes::TimestampMicrosecondType,
};

use super::{IngestError, folder::Folder, routes::Part};
use crate::{
    durable,
    ids::{Month, ProjectSlug},
    lake::{self, StagedFile, Waiting},
    payments::schema::FILE_SCHEMA,
};

/// Bytes of rows that wait at most until their month has enough of them for a file.
const BYTES_WAITING: usize = 96 << 20;

/// Rows of one month of a project that become a file.
struct Job {
    project: usize,
    month: Month,
    number: usize,
    batches: Vec<RecordBatch>,
}

/// The staged files of each project of an upload, also of one that has none, in the order of their months.
pub(super) type Staged = BTreeMap<ProjectSlug, Vec<StagedFile>>;

/// Writes the rows of `parts`, of `projects` by their numbers, below `folder`, all of them on disk when this returns. A month
/// has one file, unless it has more rows than a file may have, or the upload jumps between many large months.
pub(super) fn stage(
    parts: impl Iterator<Item = Result<Part, IngestError>>,
    folder: &Folder,
    projects: &[ProjectSlug],
) -> Result<Staged, IngestError> {
    // One more than there are cores: each waits for the disk whenever a file is done.
    let workers = thread::available_parallelism().map_or(1, usize::from) + 1;
    let (jobs, queue) = mpsc::sync_channel(0);
    let queue = Arc::new(Mutex::new(queue));
    thread::scope(|scope| {
        let work = || {
            // The workers alone hold the queue, so that sending fails, rather than waits, when none of them is left.
            let queue = queue.clone();
            let thread = thread::Builder::new().name("write-files".to_owned());
            thread.spawn_scoped(scope, move || write_jobs(&queue, folder, projects))
        };
        let workers = (0..workers).map(|_| work()).collect::<Result<Vec<_>, _>>();
        let workers = workers.map_err(IngestError::io("starting a thread"))?;
        drop(queue);
        // The queue closes when `split` ends, however it ends, and then the workers do.
        let split = split(parts, |job| jobs.send(job).map_err(|_| IngestError::Stopped));
        drop(jobs);
        let mut staged: Staged = projects.iter().map(|project| (project.clone(), Vec::new())).collect();
        for worker in workers {
            for (project, file) in worker.join().map_err(|_| IngestError::Stopped)?? {
                staged.entry(projects[project].clone()).or_default().push(file);
            }
        }
        split?;
        for files in staged.values_mut() {
            if let Some(folder) = files.first().and_then(|staged: &StagedFile| staged.file.path.parent()) {
                durable::sync_dir(folder).map_err(IngestError::io("staging rows"))?;
            }
            files.sort_by(|a, b| (a.month, &a.file.path).cmp(&(b.month, &b.file.path)));
        }
        Ok(staged)
    })
}

/// A worker: writes files until the queue closes. After a failure it only empties the queue, so that nobody waits for it.
fn write_jobs(
    queue: &Mutex<Receiver<Job>>,
    folder: &Folder,
    projects: &[ProjectSlug],
) -> Result<Vec<(usize, StagedFile)>, IngestError> {
    let mut written = Ok(Vec::new());
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { project, month, number, batches }) = job else { return written };
        if let Ok(files) = &mut written {
            match lake::write(&folder.accepted(&projects[project], month, number), batches) {
                Ok(file) => files.push((project, StagedFile { month, file })),
                Err(error) => written = Err(error.into()),
            }
        }
    }
}

/// Gathers rows by month and sends them on where they are enough for a file, or too many to wait.
fn split(
    parts: impl Iterator<Item = Result<Part, IngestError>>,
    mut send: impl FnMut(Job) -> Result<(), IngestError>,
) -> Result<(), IngestError> {
    let mut waiting: BTreeMap<(usize, Month), Waiting> = BTreeMap::new();
    let mut numbers: BTreeMap<(usize, Month), usize> = BTreeMap::new();
    let mut flush = |(project, month): (usize, Month), rows: &mut Waiting| {
        let number = numbers.entry((project, month)).or_default();
        *number += 1;
        send(Job { project, month, number: *number, batches: rows.take() })
    };
    for part in parts {
        let Part { project, rows: batch } = part?;
        for (month, part) in by_month(&batch)? {
            let rows = waiting.entry((project, month)).or_default();
            if !rows.has_room_for(&part) {
                flush((project, month), rows)?;
            }
            rows.push(part);
        }
        while waiting.values().map(Waiting::bytes).sum::<usize>() > BYTES_WAITING {
            let largest = waiting.iter_mut().max_by_key(|(_, rows)| rows.bytes());
            let Some((place, rows)) = largest else { break };
            flush(*place, rows)?;
        }
    }
    let mut rest = waiting.iter_mut().filter(|(_, rows)| rows.bytes() > 0);
    rest.try_for_each(|(place, rows)| flush(*place, rows))
}

/// The rows of each month of a batch, in their order.
fn by_month(batch: &RecordBatch) -> Result<Vec<(Month, RecordBatch)>, IngestError> {
    let mut months: BTreeMap<Month, Vec<Range<u32>>> = BTreeMap::new();
    let mut rows = (0..).zip(months_of_rows(batch)?).peekable();
    while let Some((first, month)) = rows.next() {
        let mut last = first;
        while let Some((row, _)) = rows.next_if(|(_, next)| *next == month) {
            last = row;
        }
        months.entry(month).or_default().push(first..last + 1);
    }
    let part = |(month, ranges): (Month, Vec<Range<u32>>)| match ranges.as_slice() {
        // Rows that are lent hold on to the whole batch, so that they are copied where they are few of it.
        [rows] if rows.len() * 2 >= batch.num_rows() => Ok((month, batch.slice(rows.start as usize, rows.len()))),
        _ => {
            let rows: UInt32Array = ranges.into_iter().flatten().collect();
            Ok((month, take_record_batch(batch, &rows)?))
        }
    };
    months.into_iter().map(part).collect()
}

/// The month of each row of a batch.
pub(super) fn months_of_rows(batch: &RecordBatch) -> Result<impl Iterator<Item = Month>, IngestError> {
    let at = FILE_SCHEMA.index_of("paid_at")?;
    let paid_at = batch.column(at).as_primitive::<TimestampMicrosecondType>().values();
    // Payments mostly follow one another, so the calendar is asked only where the month changes.
    let mut current: Option<(Month, Range<i64>)> = None;
    Ok(paid_at.iter().map(move |micros| match &current {
        Some((month, instants)) if instants.contains(micros) => *month,
        _ => {
            let month = Month::of_micros(*micros);
            current = Some((month, month.start_micros()..month.end_micros()));
            month
        }
    }))
}
