//! `upload.json`: what an upload was told about its file. With the original beside it, its rows can be made again, whatever
//! has become of the catalogue and of the project's settings since.

use std::{fs, io, sync::Arc};

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{IngestError, UploadRequest, folder::Folder};
use crate::{
    catalog::{Project, UploadRecord},
    durable,
    ids::{ProjectSlug, UploadId},
    payments::{
        dataset_name,
        decoder::{FileContext, Limits},
        packing::Packing,
        required::RequiredColumn,
        routing::Routing,
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
    /// Of an upload over several projects, the others. Left out where there are none, as it was before there could be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) others: Vec<Told>,
    /// What programmes asked of its file when it came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) required: Vec<RequiredColumn>,
}

/// What an upload was told of one of its projects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    pub(super) project: ProjectSlug,
    /// The project's currency when the file came.
    pub(super) currency: String,
    /// The site of its rows that name none.
    pub(super) default_site: String,
}

impl Told {
    /// What a request says of each of its projects, in the order of their slugs.
    pub(super) fn of(request: &UploadRequest) -> Vec<Self> {
        let site = dataset_name::site(&request.dataset_name);
        let told = |project: &Project| Self {
            project: project.slug.clone(),
            currency: project.currency.to_string(),
            default_site: site.unwrap_or(&project.name).to_owned(),
        };
        request.projects.iter().map(told).collect()
    }
}

impl Manifest {
    /// # Errors
    /// The request names no project.
    pub(super) fn of(
        request: &UploadRequest,
        record: &UploadRecord,
        required: Vec<RequiredColumn>,
    ) -> Result<Self, IngestError> {
        let mut told = Told::of(request).into_iter();
        let Told { project, currency, default_site } = told.next().ok_or(IngestError::Stopped)?;
        Ok(Self {
            upload: record.id.clone(),
            project,
            dataset_name: request.dataset_name.clone(),
            file_name: request.file_name.clone(),
            received_at: record.received_at,
            currency,
            default_site,
            others: told.collect(),
            required,
        })
    }

    /// What it was told of each of its projects.
    pub(super) fn projects(&self) -> Vec<Told> {
        let Self { project, currency, default_site, .. } = self;
        let (project, currency, default_site) = (project.clone(), currency.clone(), default_site.clone());
        [Told { project, currency, default_site }].into_iter().chain(self.others.iter().cloned()).collect()
    }

    /// The site of the rows of a project that name none.
    pub(super) fn default_site_of(&self, project: &ProjectSlug) -> String {
        let told = self.others.iter().find(|told| told.project == *project);
        told.map_or(&self.default_site, |told| &told.default_site).clone()
    }

    /// What the decoder needs to know. `routing` divides the rows of a file over several projects.
    pub(super) fn context(&self, limits: Limits, routing: Option<Arc<Routing>>) -> FileContext {
        FileContext {
            default_site: self.default_site.clone(),
            currency: self.currency.clone(),
            upload_id: self.upload.clone(),
            not_after_micros: not_after_micros(self.received_at),
            routing,
            required: self.required.clone(),
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
            others: Vec::new(),
            required: Vec::new(),
        };
        manifest.write(&folder).unwrap();
        assert_eq!(Manifest::read(&folder).unwrap(), manifest);
        let text = fs::read_to_string(folder.manifest()).unwrap();
        let later = ["others", "required"];
        assert!(later.iter().all(|member| !text.contains(member)), "as it was before there could be any: {text}");
        let asks = RequiredColumn { column: "STATUS".to_owned(), programmes: vec!["rural-light".parse().unwrap()] };
        let other = Folder::begin(data.path(), &UploadId::new()).unwrap();
        let asked = Manifest { required: vec![asks], ..manifest };
        asked.write(&other).unwrap();
        assert_eq!(Manifest::read(&other).unwrap(), asked);
        fs::write(folder.manifest(), text.replacen("KES", "KFS", 1)).unwrap();
        assert_eq!(Manifest::read(&folder).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
