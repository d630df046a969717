//! `upload.json`: what an upload was told about its file. With the original beside it, its rows can be made again, whatever
//! has become of the catalogue and of the project's settings since.

use std::{fs, io};

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{UploadRequest, folder::Folder};
use crate::{
    catalog::UploadRecord,
    durable,
    ids::{ProjectSlug, UploadId},
    payments::{
        dataset_name,
        decoder::{FileContext, Limits},
        packing::Packing,
    },
};

/// How far a payment may lie ahead of the server's clock: clocks differ, and files are made ahead of midnight elsewhere.
const CLOCK_TOLERANCE: Duration = Duration::hours(24);

/// What the rows of an upload depend on besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) upload: UploadId,
    pub(super) project: ProjectSlug,
    pub(super) dataset_name: String,
    pub(super) file_name: String,
    pub(super) received_at: DateTime<Utc>,
    /// The project's currency when the file came.
    pub(super) currency: String,
    /// The site of rows that name none.
    pub(super) default_site: String,
}

impl Manifest {
    pub(super) fn of(request: &UploadRequest, record: &UploadRecord) -> Self {
        Self {
            upload: record.id.clone(),
            project: request.project.slug.clone(),
            dataset_name: request.dataset_name.clone(),
            file_name: request.file_name.clone(),
            received_at: record.received_at,
            currency: request.project.currency.to_string(),
            default_site: dataset_name::site(&request.dataset_name).unwrap_or(&request.project.name).to_owned(),
        }
    }

    /// What the decoder needs to know.
    pub(super) fn context(&self, limits: Limits) -> FileContext {
        FileContext {
            default_site: self.default_site.clone(),
            currency: self.currency.clone(),
            upload_id: self.upload.clone(),
            not_after_micros: not_after_micros(self.received_at),
            limits,
        }
    }

    /// How the file is packed.
    pub(super) fn packing(&self) -> Packing {
        Packing::of_file_name(&self.file_name).unwrap_or_default()
    }

    pub(super) fn write(&self, folder: &Folder) -> io::Result<()> {
        let sealed = Sealed { sha256: self.sha256()?, manifest: self.clone() };
        durable::write(&folder.manifest(), [serde_json::to_vec_pretty(&sealed)?], false)
    }

    /// # Errors
    /// `InvalidData` where it is not as it was written.
    pub(super) fn read(folder: &Folder) -> io::Result<Self> {
        let Sealed { sha256, manifest } = serde_json::from_slice(&fs::read(folder.manifest())?)?;
        let altered = || io::Error::new(io::ErrorKind::InvalidData, "upload.json is not as it was written");
        if manifest.sha256()? == sha256 { Ok(manifest) } else { Err(altered()) }
    }

    fn sha256(&self) -> io::Result<String> {
        Ok(hex::encode(Sha256::digest(serde_json::to_vec(self)?)))
    }
}

/// The last instant that a payment of a file may have that came at `received_at`.
pub(super) fn not_after_micros(received_at: DateTime<Utc>) -> i64 {
    (received_at + CLOCK_TOLERANCE).timestamp_micros()
}

/// A manifest and the hash of its own JSON.
#[derive(Serialize, Deserialize)]
struct Sealed {
    #[serde(flatten)]
    manifest: Manifest,
    sha256: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_was_altered_is_not_read() {
        let data = tempfile::tempdir().unwrap();
        let folder = Folder::begin(data.path(), &UploadId::new()).unwrap();
        let manifest = Manifest {
            upload: UploadId::new(),
            project: "kitobo".parse().unwrap(),
            dataset_name: "05_2024_Hill".to_owned(),
            file_name: "ELECTRICITY_PAYMENT.csv".to_owned(),
            received_at: Utc::now(),
            currency: "KES".to_owned(),
            default_site: "Hill".to_owned(),
        };
        manifest.write(&folder).unwrap();
        assert_eq!(Manifest::read(&folder).unwrap(), manifest);
        let text = fs::read_to_string(folder.manifest()).unwrap();
        fs::write(folder.manifest(), text.replacen("KES", "KFS", 1)).unwrap();
        assert_eq!(Manifest::read(&folder).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
