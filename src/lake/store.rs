//! The object store that the Delta log is written through: `object_store`'s local one, but durable.

use std::{io, ops::Range, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::{
    CopyMode, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, RenameTargetMode, Result, UploadPart,
    local::LocalFileSystem, path::Path,
};

use crate::durable;

/// Reads as [`LocalFileSystem`] does; every write is on disk before it is answered.
#[derive(Debug, Clone)]
pub(super) struct DurableStore {
    inner: Arc<LocalFileSystem>,
}

impl DurableStore {
    /// A store whose paths begin at the file system's root, as Delta wants it.
    pub(super) fn new() -> Self {
        Self { inner: Arc::new(LocalFileSystem::new()) }
    }

    async fn write(&self, location: &Path, payload: PutPayload, replace: bool) -> Result<PutResult> {
        let path = self.inner.path_to_filesystem(location)?;
        blocking(location, move || durable::write(&path, payload.iter(), replace)).await?;
        Ok(PutResult { e_tag: None, version: None })
    }

    fn paths(&self, from: &Path, to: &Path) -> Result<(PathBuf, PathBuf)> {
        Ok((self.inner.path_to_filesystem(from)?, self.inner.path_to_filesystem(to)?))
    }
}

impl std::fmt::Display for DurableStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DurableStore")
    }
}

#[async_trait]
impl ObjectStore for DurableStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match options.mode {
            PutMode::Create => self.write(location, payload, false).await,
            PutMode::Overwrite => self.write(location, payload, true).await,
            PutMode::Update(_) => {
                Err(Error::NotImplemented { operation: "conditional update".to_owned(), implementer: self.to_string() })
            }
        }
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(Parts { store: self.clone(), location: location.clone(), payloads: Vec::new() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (source, target) = self.paths(from, to)?;
        let replace = matches!(options.mode, CopyMode::Overwrite);
        blocking(to, move || durable::write(&target, [std::fs::read(source)?], replace)).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (source, target) = self.paths(from, to)?;
        match options.target_mode {
            RenameTargetMode::Overwrite => blocking(to, move || durable::rename(&source, &target)).await,
            RenameTargetMode::Create => {
                blocking(to, move || {
                    durable::link(&source, &target)?;
                    std::fs::remove_file(source)
                })
                .await
            }
        }
    }
}

/// A write in parts: kept in memory, because only checkpoints come this way, and written whole at the end.
#[derive(Debug)]
struct Parts {
    store: DurableStore,
    location: Path,
    payloads: Vec<PutPayload>,
}

#[async_trait]
impl MultipartUpload for Parts {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.payloads.push(data);
        Box::pin(std::future::ready(Ok(())))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let payload = self.payloads.drain(..).flat_map(|part| part.iter().cloned().collect::<Vec<_>>()).collect();
        self.store.write(&self.location, payload, true).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.payloads.clear();
        Ok(())
    }
}

async fn blocking(location: &Path, work: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<()> {
    let path = location.to_string();
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::AlreadyExists { path, source: Box::new(error) })
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::NotFound { path, source: Box::new(error) })
        }
        Ok(Err(error)) => Err(Error::Generic { store: "DurableStore", source: Box::new(error) }),
        Err(error) => Err(Error::JoinError { source: error }),
    }
}
