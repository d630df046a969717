//! The catalogue: organisations, projects, shares, keys, uploads and the audit log, in one `SQLite` file. The only user of sqlx, and of
//! rusqlite beside it.
//!
//! Several processes may have it open at once: a server, and the commands that an operator runs beside it.

mod audit;
mod audit_check;
mod audit_entry;
mod codes;
mod connections;
mod enrolments;
mod history;
mod idempotency;
mod keys;
mod ledger;
mod organisations;
mod programme_error;
mod programme_terms;
mod programmes;
mod project_text;
mod projects;
mod readers;
mod rotation;
mod saved_queries;
mod scopes;
mod sealed;
mod shares;
mod submission_changes;
mod submission_record;
mod submissions;
mod upload_record;
mod uploads;
mod verification;
mod verification_run;
mod withdrawals;

use std::{fs, io, path::Path, time::Duration};

use chrono::{DateTime, Utc};
use sqlx::{
    Connection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub use audit::{AuditCursor, AuditFilter, AuditView};
pub use audit_check::AuditCheck;
pub use audit_entry::{AuditActor, AuditEntry, AuditOutcome, AuditRecord};
pub use codes::{CountryCode, CurrencyCode, InvalidCode};
pub use connections::{
    Connected, ConnectedMeters, ConnectionFacts, ConnectionFilter, ConnectionRecord, ConnectionsChange,
};
pub use enrolments::{Enrolment, NewEnrolment};
pub use idempotency::{AnsweredKey, RequestKey};
pub use keys::{ApiKey, KeyTerms, NewKey, Proof};
pub use organisations::Organisation;
pub use programme_error::{ProgrammeError, WrongCurrency};
pub use programme_terms::ProgrammeVersion;
pub use programmes::{NewProgramme, Programme, ProgrammeChange, Side};
pub use project_text::{FieldError, MAX_NAME_CHARS, ProjectText, checked_name};
pub use projects::{NewProject, Project, ProjectChange, ProjectKind};
pub use rotation::Rotation;
pub use saved_queries::{ParameterKind, SavedParameter, SavedQuery, SavedText};
pub use sealed::{LedgerCheckpoint, LedgerFile, LedgerStaged, LedgerVersion, Sealed};
pub use shares::{Direction, NewShare, Share, ShareChange};
pub use submission_record::{Reopening, Standing, Submission, SubmissionEvent, SubmissionFilter, SubmissionState};
pub use upload_record::{OnError, UploadFacts, UploadFilter, UploadRecord, UploadStatus};
pub use uploads::MAX_PAGE;
pub use verification_run::{RunEnd, RunProject, RunState, RunsOf, VerificationRun};

use crate::{
    durable,
    error::ErrorKind,
    failpoints,
    ids::{OrganisationSlug, ProjectSlug, ShareId, UploadId},
};

/// How long a statement waits for another process's write before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Readers beside one writer; `SQLite` has one writer whatever this is.
const MAX_CONNECTIONS: u32 = 8;
/// A catalogue holds at most so many organisations, projects and keys each, so that a list of all has a bound.
pub const MAX_RECORDS: u32 = 10_000;

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("src/catalog/migrations");

/// The catalogue's file, below the data folder.
pub const FILE_NAME: &str = "catalog.sqlite";

/// What a catalogue takes in at most, by the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatalogLimits {
    /// For how long both keys of a rotation hold: `keys.max_overlap_days`.
    pub overlap: Duration,
    /// Of one project, those that are not revoked; those that expired among them, because they can be prolonged:
    /// `shares.per_project`.
    pub shares_of_project: u32,
    /// Of all projects, those that were revoked too: `shares.per_server`.
    pub shares: u32,
    /// Characters: `shares.max_note_chars`.
    pub note: usize,
    /// Of one project: `connections.per_project`.
    pub connections_of_project: u32,
    /// Of one organisation: `programmes.per_organisation`.
    pub programmes_of_organisation: u32,
    /// Organisations that one programme invites: `programmes.max_invited`.
    pub invited: u32,
    /// Projects that take part in one programme: `programmes.max_projects`.
    pub enrolled: u32,
}

impl Default for CatalogLimits {
    /// As the settings are by default.
    fn default() -> Self {
        Self {
            overlap: Duration::from_hours(30 * 24),
            shares_of_project: 100,
            shares: 10_000,
            note: 500,
            connections_of_project: 250_000,
            programmes_of_organisation: 100,
            invited: 1_000,
            enrolled: 10_000,
        }
    }
}

/// The open catalogue; clones share its connections.
#[derive(Clone, Debug)]
pub struct Catalog {
    pool: SqlitePool,
    readers: readers::Readers,
    limits: CatalogLimits,
    /// One permit: at most one write of `last_used_at` is under way, and no request waits for it.
    key_use: std::sync::Arc<tokio::sync::Semaphore>,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Whether there is at least one more item after the last of these.
    pub more: bool,
}

impl<T> Page<T> {
    /// Makes a page of at most `limit` from rows that were read with a limit of one more.
    fn of(mut items: Vec<T>, limit: u32) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        Self { items, more }
    }
}

impl Catalog {
    /// Opens `<data_dir>/catalog.sqlite`, making the folder and the tables where they are missing.
    pub async fn open(data_dir: &Path) -> Result<Self, CatalogError> {
        let folder = data_dir.to_path_buf();
        let lock = tokio::task::spawn_blocking(move || lock_folder(&folder))
            .await
            .map_err(|panic| CatalogError::Folder(io::Error::other(panic)))?
            .map_err(CatalogError::Folder)?;
        let file = data_dir.join(FILE_NAME);
        let options = SqliteConnectOptions::new()
            .filename(&file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // What is deleted is overwritten, so that what is erased is gone.
            .pragma("secure_delete", "ON")
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(BUSY_TIMEOUT)
            // To ask a connection to a local file whether it lives takes as long as a query does.
            .test_before_acquire(false)
            // Where SQLite itself ends a transaction, as on a full disk, sqlx takes the connection to be in one for ever.
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_with(options)
            .await
            .map_err(sql("open the catalogue"))?;
        MIGRATOR.run(&pool).await.map_err(CatalogError::Migrate)?;
        drop(lock);
        let limits = CatalogLimits::default();
        let readers = readers::Readers::new(file);
        Ok(Self { pool, readers, limits, key_use: std::sync::Arc::new(tokio::sync::Semaphore::new(1)) })
    }

    /// With other limits than the default ones.
    #[must_use]
    pub fn within(self, limits: CatalogLimits) -> Self {
        Self { limits, ..self }
    }

    #[must_use]
    pub fn limits(&self) -> &CatalogLimits {
        &self.limits
    }

    /// Whether the catalogue answers: `/readyz` asks.
    pub async fn ping(&self) -> Result<(), CatalogError> {
        sqlx::query("SELECT 1 FROM projects LIMIT 1")
            .fetch_optional(&self.pool)
            .await
            .map(drop)
            .map_err(sql("read the catalogue"))
    }

    /// Closes every connection, after the statements under way.
    pub async fn close(&self) {
        // The last to be closed empties the log of writes, which one that only reads cannot.
        self.readers.close();
        self.pool.close().await;
    }
}

/// Makes the folder, and holds a lock while the tables are made: two processes that open a fresh folder at the same
/// moment would otherwise both run the migrations. The lock ends with the file.
fn lock_folder(data_dir: &Path) -> io::Result<fs::File> {
    durable::create_dir_all(data_dir)?;
    let file = fs::OpenOptions::new().create(true).append(true).open(data_dir.join("catalog.lock"))?;
    file.lock()?;
    Ok(file)
}

/// What went wrong in the catalogue. The messages without a source are fit for outsiders.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    #[error("there is a project {0} already")]
    ProjectExists(ProjectSlug),
    #[error("there is no project {0}")]
    ProjectMissing(ProjectSlug),
    #[error("the currency of {0} is fixed: it has uploads, whose amounts are in that currency")]
    CurrencyFixed(ProjectSlug),
    #[error("there is no key with the prefix {0}")]
    KeyMissing(String),
    #[error("the key {prefix} is {how}; only a key that holds can be rotated, and once")]
    KeyEnded { prefix: String, how: &'static str },
    #[error("an administrator's key is of no organisation")]
    AdminOfOrganisation,
    #[error("there is an organisation {0} already")]
    OrganisationExists(OrganisationSlug),
    #[error("there is no organisation {0}")]
    OrganisationMissing(OrganisationSlug),
    #[error("there are several organisations; name the one that it is for")]
    OrganisationNeeded(Vec<OrganisationSlug>),
    #[error("there is no organisation {0} to share with")]
    RecipientMissing(OrganisationSlug),
    #[error("the project is {0}'s own, and is shared with others alone")]
    SharedWithOwner(OrganisationSlug),
    #[error("the first month of the share is after its last")]
    NoMonths,
    #[error("there is no share {0}")]
    ShareMissing(ShareId),
    #[error("the share {0} is revoked for good; make another")]
    ShareRevoked(ShareId),
    #[error("the project has no connection {}", .0.join(", "))]
    ConnectionsMissing(Vec<String>),
    #[error("submitted before, and a connection is submitted once: {}", .0.join(", "))]
    AlreadySubmitted(Vec<String>),
    #[error("the project is not enrolled in the programme; consent to its terms at …/enrolments first")]
    NotTakingPart,
    #[error("only what is verified is paid for: {}", .0.join(", "))]
    NotPayable(Vec<String>),
    #[error("there is no upload {0}")]
    UploadMissing(UploadId),
    #[error("the idempotency key has its answer")]
    KeyTaken,
    #[error(transparent)]
    Programme(#[from] ProgrammeError),
    #[error("an upload's status changed meanwhile")]
    StatusChanged,
    #[error("the limit of {limit} {what} is reached")]
    TooMany { what: &'static str, limit: u32 },
    #[error("could not open the data folder")]
    Folder(#[source] io::Error),
    #[error("could not prepare the catalogue's tables")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    #[error("could not {operation}")]
    Sql {
        operation: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("could not {operation}")]
    Look {
        operation: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the catalogue holds a {what} that this version cannot read: {value:?}")]
    Unreadable { what: &'static str, value: String },
    #[error("readers hold up the log of writes; ask again")]
    LogInUse,
    #[error("the system gave no random bytes: {0}")]
    NoRandomness(getrandom::Error),
}

impl CatalogError {
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::ProjectExists(_)
            | Self::OrganisationExists(_)
            | Self::CurrencyFixed(_)
            | Self::KeyEnded { .. }
            | Self::KeyTaken
            | Self::ShareRevoked(_)
            | Self::AlreadySubmitted(_)
            | Self::NotTakingPart
            | Self::NotPayable(_)
            | Self::StatusChanged
            | Self::TooMany { .. } => ErrorKind::Conflict,
            Self::ProjectMissing(_)
            | Self::OrganisationMissing(_)
            | Self::RecipientMissing(_)
            | Self::KeyMissing(_)
            | Self::ShareMissing(_)
            | Self::UploadMissing(_) => ErrorKind::NotFound,
            Self::AdminOfOrganisation | Self::SharedWithOwner(_) | Self::NoMonths => ErrorKind::Invalid,
            Self::OrganisationNeeded(_) | Self::ConnectionsMissing(_) => ErrorKind::Rejected,
            Self::Programme(error) => error.kind(),
            Self::Folder(error) if error.kind() == io::ErrorKind::StorageFull => ErrorKind::StorageFull,
            Self::Folder(_) | Self::NoRandomness(_) | Self::LogInUse => ErrorKind::Unavailable,
            Self::Migrate(sqlx::migrate::MigrateError::Execute(source)) | Self::Sql { source, .. } => sql_kind(source),
            Self::Look { source, .. } => source
                .sqlite_error()
                .map_or(ErrorKind::Internal, |error| code_kind(error.extended_code.cast_unsigned())),
            Self::Migrate(_) | Self::Unreadable { .. } => ErrorKind::Internal,
        }
    }
}

/// The kind of a database error.
fn sql_kind(error: &sqlx::Error) -> ErrorKind {
    match error {
        sqlx::Error::Database(database) => code_kind(database.code().and_then(|code| code.parse().ok()).unwrap_or(0)),
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => ErrorKind::StorageFull,
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::Internal,
    }
}

/// By `SQLite`'s primary result code (<https://www.sqlite.org/rescode.html>).
fn code_kind(extended: u32) -> ErrorKind {
    match extended & 0xff {
        13 => ErrorKind::StorageFull,
        // BUSY, LOCKED, READONLY, IOERR, CANTOPEN, PROTOCOL.
        5 | 6 | 8 | 10 | 14 | 15 => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

/// Names the operation that a database error ended.
fn sql(operation: &'static str) -> impl FnOnce(sqlx::Error) -> CatalogError {
    move |source| CatalogError::Sql { operation, source }
}

/// Passes a failpoint before a statement; an error is as one of the system's under `SQLite`.
fn pass(point: &'static str, operation: &'static str) -> Result<(), CatalogError> {
    failpoints::pass(point).map_err(sqlx::Error::Io).map_err(sql(operation))
}

/// Now, to the microsecond that the catalogue keeps, so that a record read back equals the one written.
fn now() -> DateTime<Utc> {
    from_micros(Utc::now().timestamp_micros())
}

fn from_micros(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

/// Why what was revoked or expires, a key or a share, does not hold at an instant, if it does not.
fn ended(
    revoked_at: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    at: DateTime<Utc>,
) -> Option<&'static str> {
    match (revoked_at, expires_at) {
        (Some(_), _) => Some("revoked"),
        (None, Some(expires_at)) if expires_at <= at => Some("expired"),
        _ => None,
    }
}

/// Reads back a text that was valid when it was written.
fn read<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, CatalogError> {
    text.parse().map_err(|_| CatalogError::Unreadable { what, value: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programmes::Rule;

    /// A fresh catalogue with projects of these names.
    pub(super) async fn with_projects(names: &[&str]) -> (tempfile::TempDir, Catalog) {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).await.unwrap();
        for name in names {
            let project = NewProject {
                slug: name.parse().unwrap(),
                name: (*name).to_owned(),
                kind: ProjectKind::MiniGrid,
                currency: "KES".parse().unwrap(),
                time_zone: chrono_tz::Africa::Nairobi,
                country: "KE".parse().unwrap(),
                organisation: None,
            };
            catalog.create_project(project).await.unwrap();
        }
        (folder, catalog)
    }

    pub(super) fn rule(days: u32) -> Rule {
        serde_json::from_value(serde_json::json!({ "window": { "kind": "before_as_of", "days": days } })).unwrap()
    }

    pub(super) fn programme(slug: &str, invited: &[&str]) -> NewProgramme {
        NewProgramme {
            slug: slug.parse().unwrap(),
            organisation: Some("fund".parse().unwrap()),
            name: slug.to_uppercase(),
            required_columns: vec!["STATUS".to_owned()],
            rule: rule(90),
            invited: invited.iter().map(|organisation| organisation.parse().unwrap()).collect(),
            created_by: Some("maker".to_owned()),
        }
    }

    /// A catalogue with the projects `a` and `b` of the organisation `main`, and organisations beside it.
    pub(super) async fn of_main() -> (tempfile::TempDir, Catalog) {
        let (folder, catalog) = with_projects(&["a", "b"]).await;
        for slug in ["fund", "bank"] {
            catalog.create_organisation(slug.parse().unwrap(), slug.to_owned()).await.unwrap();
        }
        (folder, catalog)
    }

    #[tokio::test]
    async fn two_that_open_a_fresh_folder_at_once_both_succeed() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = tokio::join!(Catalog::open(folder.path()), Catalog::open(folder.path()));
        a.unwrap().ping().await.unwrap();
        b.unwrap().ping().await.unwrap();
    }

    #[tokio::test]
    async fn a_full_catalogue_is_storage_full_and_not_a_defect() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).await.unwrap();
        // SQLite answers SQLITE_FULL at its page limit as it does at the disk's end. The pragma is a connection's own.
        let mut connection = catalog.pool.acquire().await.unwrap();
        sqlx::query("PRAGMA max_page_count = 1").execute(&mut *connection).await.unwrap();
        let error = sqlx::query("CREATE TABLE filler AS SELECT zeroblob(1000000) AS x")
            .execute(&mut *connection)
            .await
            .map_err(sql("fill"))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}");
    }

    #[tokio::test]
    async fn a_folder_that_is_a_file_is_unavailable() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(Catalog::open(file.path()).await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
