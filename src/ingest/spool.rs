//! Decoded rows between the check of a file and its staging: in memory while there is room for them, on disk beyond.

use std::{
    fs::File,
    io::{BufReader, BufWriter, IntoInnerError, Seek},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::{
    array::{Array, RecordBatch},
    ipc::{reader::FileReader, writer::FileWriter},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{IngestError, folder};
use crate::payments::schema::FILE_SCHEMA;

/// The memory in which the rows of all uploads may wait.
#[derive(Clone, Debug)]
pub(super) struct SpoolMemory(Arc<Semaphore>);

/// What a place in it stands for: a semaphore counts to less than 2^32 at once.
const KIB: usize = 1 << 10;

impl SpoolMemory {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / KIB).min(Semaphore::MAX_PERMITS))))
    }

    /// Room for a batch until it is dropped; none if there is not enough.
    fn take(&self, batch: &RecordBatch) -> Option<OwnedSemaphorePermit> {
        let own = batch.columns().iter().map(Array::get_array_memory_size);
        let places = u32::try_from(own.sum::<usize>().div_ceil(KIB)).ok()?;
        self.0.clone().try_acquire_many_owned(places).ok()
    }
}

/// Batches in the order in which they were pushed.
pub(super) struct Spool {
    memory: SpoolMemory,
    held: Vec<Held>,
    path: PathBuf,
    file: Option<FileWriter<BufWriter<File>>>,
}

/// A batch in memory, and its room.
type Held = (RecordBatch, OwnedSemaphorePermit);

impl Spool {
    /// A spool that goes on in a nameless file in the folder of `path` where `memory` has no more room.
    pub(super) fn new(memory: &SpoolMemory, path: &Path) -> Self {
        Self { memory: memory.clone(), held: Vec::new(), path: path.to_owned(), file: None }
    }

    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<(), IngestError> {
        // What follows a batch on disk is on disk too, because the order counts.
        if self.file.is_none() {
            if let Some(room) = self.memory.take(&batch) {
                self.held.push((batch, room));
                return Ok(());
            }
            let file = folder::scratch_file(&self.path).map_err(IngestError::io("spooling rows"))?;
            self.file = Some(FileWriter::try_new(BufWriter::new(file), &FILE_SCHEMA)?);
        }
        if let Some(file) = &mut self.file {
            file.write(&batch)?;
        }
        Ok(())
    }

    /// Gives the batches back, and the memory and the file with them.
    pub(super) fn into_batches(self) -> Result<Batches, IngestError> {
        let held = self.held.into_iter();
        let Some(mut writer) = self.file else { return Ok(Batches { held, file: None }) };
        let failed = IngestError::io("reading spooled rows");
        writer.finish()?;
        let mut file = writer.into_inner()?.into_inner().map_err(IntoInnerError::into_error).map_err(&failed)?;
        file.rewind().map_err(&failed)?;
        Ok(Batches { held, file: Some(FileReader::try_new(BufReader::new(file), None)?) })
    }
}

pub(super) struct Batches {
    held: std::vec::IntoIter<Held>,
    file: Option<FileReader<BufReader<File>>>,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, IngestError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.held.next() {
            Some((batch, _)) => Some(Ok(batch)),
            None => self.file.as_mut()?.next().map(|batch| batch.map_err(IngestError::from)),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::{ArrayRef, Int64Array, StringArray},
        compute::cast,
        datatypes::DataType,
    };

    use super::*;

    fn batch(rows: usize) -> RecordBatch {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a"; rows]));
        let number: ArrayRef = Arc::new(Int64Array::from(vec![1; rows]));
        let columns = FILE_SCHEMA.fields().iter().map(|field| match field.data_type() {
            DataType::Utf8 => text.clone(),
            other => cast(&number, other).unwrap(),
        });
        RecordBatch::try_new(FILE_SCHEMA.clone(), columns.collect()).unwrap()
    }

    #[test]
    fn rows_come_back_in_order_whether_memory_has_room_for_them_or_not_and_give_their_room_back() {
        let folder = tempfile::tempdir().unwrap();
        let memory = SpoolMemory::new(3 << 20);
        let sizes: Vec<usize> = (0..30).map(|number| 5000 + number).collect();
        for _ in 0..2 {
            let mut spool = Spool::new(&memory, &folder.path().join("spool"));
            for rows in &sizes {
                spool.push(batch(*rows)).unwrap();
            }
            assert!(!spool.held.is_empty() && spool.file.is_some(), "some are here and some there");
            let back: Vec<usize> = spool.into_batches().unwrap().map(|batch| batch.unwrap().num_rows()).collect();
            assert_eq!(back, sizes);
            assert_eq!(memory.0.available_permits(), 3 << 10);
        }
    }
}
