//! What a process for SQL is asked. It learns nothing else, neither before nor after: no setting, no variable, no catalogue.

use std::{
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::parameters::Parameters;
use crate::{
    access::MaskKey,
    catalog::UploadFacts,
    config::SqlLimits,
    connections::{Connection, FIELDS},
    ids::{Month, ProjectSlug, UploadId},
    lake::{LakeFile, Verified, masking::Masking, scan::ScanFile},
    query::{ProjectConnection, ProjectFacts, SqlSession},
};

/// The build that writes and reads it: a program that was replaced while the server runs is told apart. The number goes up
/// with the form of questions and answers.
pub(super) const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "+3");

/// The most bytes of a question. Its files are most of it, some 200 bytes each.
const MAX_BYTES: u32 = 256 << 20;

#[derive(Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) build: String,
    pub(super) sql: String,
    pub(super) parameters: Parameters,
    /// Whether the columns of the answer are all that is wanted.
    pub(super) only_plan: bool,
    pub(super) lake_root: PathBuf,
    pub(super) files: Vec<FileToRead>,
    pub(super) projects: Vec<ProjectRow>,
    pub(super) uploads: Vec<UploadRow>,
    pub(super) connections: Vec<ConnectionRow>,
    /// For this process alone.
    pub(super) spill_folder: PathBuf,
    pub(super) limits: Limits,
}

/// Of one process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Limits {
    /// Beyond the program itself.
    pub(super) memory_bytes: u64,
    pub(super) cpu_s: u64,
    pub(super) spill_bytes: u64,
    pub(super) target_partitions: usize,
    pub(super) max_rows: usize,
    pub(super) max_bytes: usize,
    /// Of the statement.
    pub(super) statement: SqlLimits,
}

/// One file of the caller's scope.
#[derive(Serialize, Deserialize)]
pub(super) struct FileToRead {
    path: String,
    project: ProjectSlug,
    month: Month,
    bytes: u64,
    rows: u64,
    time_zone: String,
    /// What its pseudonyms are made with, where it shows these in the place of whom and what payments are of.
    mask_key: Option<[u8; 32]>,
}

impl FileToRead {
    pub(super) fn of(file: &LakeFile, time_zone: chrono_tz::Tz, mask_key: Option<MaskKey>) -> Self {
        Self {
            path: file.path.clone(),
            project: file.project.clone(),
            month: file.month,
            bytes: file.bytes,
            rows: file.rows,
            time_zone: time_zone.name().to_owned(),
            mask_key: mask_key.map(|key| key.0),
        }
    }

    /// Relative to the lake's root.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    fn into_scan(self) -> Result<ScanFile, chrono_tz::ParseError> {
        let file = LakeFile {
            path: self.path,
            project: self.project,
            month: self.month,
            bytes: self.bytes,
            rows: self.rows,
            sha256: [0; 32],
            // The server compared it before it asked.
            verified: Verified::written_here(),
        };
        let masking = self.mask_key.map_or(Masking::None, |key| Masking::Pseudonyms(MaskKey(key)));
        Ok(ScanFile { file: Arc::new(file), time_zone: self.time_zone.parse()?, within: None, masking })
    }
}

/// A row of `projects`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProjectRow {
    slug: ProjectSlug,
    name: String,
    kind: String,
    currency: String,
    country: String,
    time_zone: String,
}

impl From<&ProjectFacts> for ProjectRow {
    fn from(project: &ProjectFacts) -> Self {
        Self {
            slug: project.slug.clone(),
            name: project.name.clone(),
            kind: project.kind.clone(),
            currency: project.currency.clone(),
            country: project.country.clone(),
            time_zone: project.time_zone.name().to_owned(),
        }
    }
}

impl ProjectRow {
    fn into_facts(self) -> Result<ProjectFacts, chrono_tz::ParseError> {
        let time_zone = self.time_zone.parse()?;
        let Self { slug, name, kind, currency, country, .. } = self;
        Ok(ProjectFacts { slug, name, kind, currency, country, time_zone })
    }
}

/// A row of `uploads`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct UploadRow {
    id: UploadId,
    project: ProjectSlug,
    dataset_name: String,
    committed_at: DateTime<Utc>,
}

impl From<&UploadFacts> for UploadRow {
    fn from(upload: &UploadFacts) -> Self {
        Self {
            id: upload.id.clone(),
            project: upload.project.clone(),
            dataset_name: upload.dataset_name.clone(),
            committed_at: upload.committed_at,
        }
    }
}

/// A row of `connections`: its project, and the values in the order of the definition.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ConnectionRow(ProjectSlug, [Option<String>; FIELDS]);

impl From<&ProjectConnection> for ConnectionRow {
    fn from(one: &ProjectConnection) -> Self {
        Self(one.project.clone(), one.connection.values().clone())
    }
}

impl From<ConnectionRow> for ProjectConnection {
    fn from(ConnectionRow(project, values): ConnectionRow) -> Self {
        Self { project, connection: Connection::of_checked(values) }
    }
}

impl Question {
    /// As it is written to the process: its length, then itself.
    pub(super) fn framed(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; 4];
        serde_json::to_writer(&mut bytes, self)?;
        let length = u32::try_from(bytes.len() - 4).ok().filter(|length| *length <= MAX_BYTES);
        let length = length.ok_or_else(|| io::Error::other("the question has too many files for one process"))?;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        Ok(bytes)
    }

    /// Reads it; nothing where the server went away without asking.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut length = [0; 4];
        match from.read(&mut length[..1])? {
            0 => return Ok(None),
            _ => from.read_exact(&mut length[1..])?,
        }
        let length = u32::from_le_bytes(length);
        if length > MAX_BYTES {
            return Err(io::Error::other("a question of too many bytes"));
        }
        let mut bytes = Vec::new();
        from.take(u64::from(length)).read_to_end(&mut bytes)?;
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    /// The session that it is answered in, the SQL and the parameters.
    pub(super) fn into_session(self) -> Result<(SqlSession, String, Parameters), chrono_tz::ParseError> {
        let uploads = self.uploads.into_iter().map(|upload| {
            let UploadRow { id, project, dataset_name, committed_at } = upload;
            UploadFacts { id, project, dataset_name, committed_at }
        });
        let session = SqlSession {
            lake_root: self.lake_root,
            files: self.files.into_iter().map(FileToRead::into_scan).collect::<Result<_, _>>()?,
            projects: self.projects.into_iter().map(ProjectRow::into_facts).collect::<Result<_, _>>()?,
            uploads: uploads.collect(),
            connections: self.connections.into_iter().map(Into::into).collect(),
            memory_bytes: self.limits.pool_bytes(),
            spill_bytes: self.limits.spill_bytes,
            spill_folder: self.spill_folder,
            target_partitions: self.limits.target_partitions,
        };
        Ok((session, self.sql, self.parameters))
    }
}

impl Limits {
    /// What the engine may reserve. The rest is for what it does not count: stacks, footers, what is decoded, the answer.
    fn pool_bytes(&self) -> usize {
        const UNCOUNTED: u64 = 128 << 20;
        usize::try_from(self.memory_bytes.saturating_sub(UNCOUNTED) / 8 * 5).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        let limits = Limits { memory_bytes: 1 << 30, ..Limits::default() };
        Question {
            build: BUILD.to_owned(),
            sql: "SELECT 'é'".to_owned(),
            parameters: Parameters::default(),
            only_plan: false,
            lake_root: PathBuf::from("/lake"),
            files: Vec::new(),
            projects: Vec::new(),
            uploads: Vec::new(),
            connections: Vec::new(),
            spill_folder: PathBuf::from("/spill"),
            limits,
        }
    }

    #[test]
    fn a_question_comes_whole_or_not_at_all() {
        let framed = question().framed().unwrap();
        let read = Question::read(&mut framed.as_slice()).unwrap().unwrap();
        assert_eq!((read.sql.as_str(), read.build.as_str()), ("SELECT 'é'", BUILD));
        assert!(Question::read(&mut [].as_slice()).unwrap().is_none(), "the server went away");
        for cut in 1..framed.len() {
            assert!(Question::read(&mut &framed[..cut]).is_err(), "{cut}");
        }
        assert!(Question::read(&mut u32::MAX.to_le_bytes().as_slice()).is_err());
    }

    #[test]
    fn the_engine_may_reserve_less_than_the_process_may_take() {
        assert_eq!(question().limits.pool_bytes(), 560 << 20);
        let none = Limits { memory_bytes: 1 << 20, ..question().limits };
        assert_eq!(none.pool_bytes(), 0);
    }
}
