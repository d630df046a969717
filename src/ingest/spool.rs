//! Decoded rows between the check of a file and its staging: in memory while they are few, on disk beyond.

use std::{
    fs::File,
    io::{BufReader, BufWriter, IntoInnerError, Seek},
    path::{Path, PathBuf},
};

use arrow::{
    array::RecordBatch,
    ipc::{reader::FileReader, writer::FileWriter},
};

use super::{IngestError, folder};
use crate::payments::schema::FILE_SCHEMA;

/// What is kept in memory at most, in bytes of Arrow arrays.
const MEMORY_BYTES: usize = 96 << 20;

/// Batches in the order in which they were pushed.
pub(super) struct Spool {
    memory: Vec<RecordBatch>,
    bytes: usize,
    path: PathBuf,
    file: Option<FileWriter<BufWriter<File>>>,
}

impl Spool {
    /// A spool that, once it is large, goes to a nameless file in the folder of `path`.
    pub(super) fn new(path: &Path) -> Self {
        Self { memory: Vec::new(), bytes: 0, path: path.to_owned(), file: None }
    }

    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<(), IngestError> {
        if let Some(file) = &mut self.file {
            file.write(&batch)?;
            return Ok(());
        }
        self.bytes += batch.get_array_memory_size();
        self.memory.push(batch);
        if self.bytes > MEMORY_BYTES {
            let file = folder::scratch_file(&self.path).map_err(IngestError::io("spooling rows"))?;
            let mut writer = FileWriter::try_new(BufWriter::new(file), &FILE_SCHEMA)?;
            for batch in self.memory.drain(..) {
                writer.write(&batch)?;
            }
            self.file = Some(writer);
        }
        Ok(())
    }

    /// Gives the batches back, and the memory or the file with them.
    pub(super) fn into_batches(self) -> Result<Batches, IngestError> {
        let Some(mut writer) = self.file else { return Ok(Batches::Memory(self.memory.into_iter())) };
        let failed = IngestError::io("reading spooled rows");
        writer.finish()?;
        let mut file = writer.into_inner()?.into_inner().map_err(IntoInnerError::into_error).map_err(&failed)?;
        file.rewind().map_err(&failed)?;
        Ok(Batches::File(Box::new(FileReader::try_new(BufReader::new(file), None)?)))
    }
}

pub(super) enum Batches {
    Memory(std::vec::IntoIter<RecordBatch>),
    File(Box<FileReader<BufReader<File>>>),
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, IngestError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Memory(batches) => batches.next().map(Ok),
            Self::File(reader) => reader.next().map(|batch| batch.map_err(IngestError::from)),
        }
    }
}
