//! The key that reports are signed with: made on first use, kept in the data folder, readable by its owner alone.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ring::signature::{Ed25519KeyPair, KeyPair};

use super::VerificationError;
use crate::durable;

/// Bytes of an Ed25519 seed (RFC 8032, 5.1.5).
const SEED_BYTES: usize = 32;

/// The key's file, below the data folder: the seed in hexadecimal.
const FILE_NAME: &str = "verification.key";

/// The key of a data folder.
pub struct SigningKey {
    path: PathBuf,
    pair: Mutex<Option<Arc<Ed25519KeyPair>>>,
}

impl SigningKey {
    pub(super) fn at(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE_NAME), pair: Mutex::default() }
    }

    /// The key, which is made where there is none yet. Blocks.
    fn pair(&self) -> Result<Arc<Ed25519KeyPair>, VerificationError> {
        // Held while it is made, so that there is one.
        let mut known = self.pair.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pair) = known.as_ref() {
            return Ok(pair.clone());
        }
        let seed = match fs::read_to_string(&self.path) {
            Ok(text) => hex::decode(text.trim()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make(),
            Err(error) => Err(error),
        };
        let seed = seed.map_err(VerificationError::io("reading the key that reports are signed with"))?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| io::Error::from(io::ErrorKind::InvalidData));
        let pair = pair.map_err(VerificationError::io("reading the key that reports are signed with"))?;
        let pair = Arc::new(pair);
        *known = Some(pair.clone());
        Ok(pair)
    }

    fn make(&self) -> io::Result<Vec<u8>> {
        let mut seed = [0; SEED_BYTES];
        getrandom::fill(&mut seed).map_err(|error| io::Error::other(error.to_string()))?;
        durable::write_secret(&self.path, hex::encode(seed))?;
        Ok(seed.to_vec())
    }

    /// The public key in hexadecimal. Blocks.
    pub fn public(&self) -> Result<String, VerificationError> {
        Ok(hex::encode(self.pair()?.public_key().as_ref()))
    }

    /// The signature of a text in hexadecimal, and the public key. Blocks.
    pub(super) fn sign(&self, text: &[u8]) -> Result<(String, String), VerificationError> {
        let pair = self.pair()?;
        Ok((hex::encode(pair.sign(text).as_ref()), hex::encode(pair.public_key().as_ref())))
    }
}
