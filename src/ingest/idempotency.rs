//! `Idempotency-Key`: the same request again, with the same key, gets the first answer, and nothing is written.
//!
//! The key is kept with the upload, in the catalogue and in the lake's commit, so whatever becomes of the upload becomes of
//! the key: an upload that failed frees it. While a request is under way, its key is only known here.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use sha2::{Digest, Sha256};

use super::{Ingest, IngestError, Outcome, UploadRequest};
use crate::{
    catalog::{AnsweredKey, RequestKey, UploadStatus},
    ids::IdempotencyKey,
};

/// Keys of requests that are under way, each with the prefix of the API key that sent it.
#[derive(Clone, Debug, Default)]
pub(super) struct KeysInFlight(Arc<Mutex<HashSet<(String, IdempotencyKey)>>>);

impl KeysInFlight {
    /// Takes the key of a request, if it has one that counts, until the guard is dropped.
    pub(super) fn take(&self, request: &UploadRequest) -> Result<Option<KeyInFlight>, IngestError> {
        let Some(key) = request.counting_key() else { return Ok(None) };
        let key = (request.key_prefix.clone(), key.clone());
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            return Err(IngestError::KeyInFlight);
        }
        Ok(Some(KeyInFlight { keys: self.clone(), key }))
    }
}

/// The right to answer a key.
#[derive(Debug)]
pub(super) struct KeyInFlight {
    keys: KeysInFlight,
    key: (String, IdempotencyKey),
}

impl Drop for KeyInFlight {
    fn drop(&mut self) {
        self.keys.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl UploadRequest {
    /// The request's key. A dry run keeps nothing, so it runs again.
    fn counting_key(&self) -> Option<&IdempotencyKey> {
        self.idempotency_key.as_ref().filter(|_| !self.dry_run)
    }

    /// What is kept of the request's key once its file is known.
    pub(super) fn key_with(&self, file_sha256: &str) -> Option<RequestKey> {
        let key = self.counting_key()?;
        Some(RequestKey {
            key_prefix: self.key_prefix.clone(),
            key: key.clone(),
            request_sha256: self.fingerprint(file_sha256),
        })
    }

    /// The SHA-256 of what the request says and of its file: what makes two requests the same.
    fn fingerprint(&self, file_sha256: &str) -> String {
        // Slugs have no comma, so that those of one project are as they were when there could be no more.
        let projects: Vec<&str> = self.projects.iter().map(|project| project.slug.as_str()).collect();
        let projects = projects.join(",");
        let parts = [
            projects.as_str(),
            &self.dataset_name,
            &self.dataset_type,
            &self.data_provider,
            &self.file_name,
            self.on_error.as_str(),
            file_sha256,
        ];
        let mut hash = Sha256::new();
        for part in parts {
            // A length before each part, so that no two requests give the same bytes.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hex::encode(hash.finalize())
    }
}

impl Ingest {
    /// What the request's key was answered with, if it was.
    pub(super) async fn answered_key(&self, request: &UploadRequest) -> Result<Option<AnsweredKey>, IngestError> {
        let Some(key) = request.counting_key() else { return Ok(None) };
        let answered = self.catalog.answered_key(&request.key_prefix, key).await?;
        let under_way = |answered: &AnsweredKey| {
            matches!(answered.upload.status, UploadStatus::Receiving | UploadStatus::Committing)
        };
        match answered {
            // Its request is not under way, or the key would be taken: a failure left it, and it is settled first.
            Some(left) if under_way(&left) => {
                let projects = left.upload.projects.iter().cloned().collect();
                let _turns = self.turns_of(&projects).await;
                self.settle_projects(&projects).await?;
                Ok(self.catalog.answered_key(&request.key_prefix, key).await?)
            }
            other => Ok(other),
        }
    }

    /// Reads the file, to see that the request is the one that the key was given for, and answers as then.
    pub(super) async fn replay(
        &self,
        request: &UploadRequest,
        answered: AnsweredKey,
        body: impl Stream<Item = io::Result<Bytes>>,
    ) -> Result<Outcome, IngestError> {
        let mut body = std::pin::pin!(body);
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(IngestError::Interrupted)?;
            bytes += chunk.len() as u64;
            if bytes > self.config.max_bytes {
                return Err(IngestError::TooLarge { limit: self.config.max_bytes });
            }
            hash.update(&chunk);
        }
        if request.fingerprint(&hex::encode(hash.finalize())) != answered.request_sha256 {
            return Err(IngestError::KeyReused);
        }
        let landed = answered.upload.committed_at.is_some();
        let first = match answered.upload {
            upload if answered.repeated => Outcome::Repeated(upload),
            upload if landed => Outcome::Committed(upload),
            upload => Outcome::Rejected(upload),
        };
        Ok(Outcome::Replayed(Box::new(first)))
    }
}
