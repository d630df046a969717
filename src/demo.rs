//! `wattlake demo`: a fresh data folder with three invented projects, loaded as any upload is, served, and what to try
//! printed. The files are those of `data/demo/`, embedded.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::stream;
use serde::Deserialize;

use crate::{
    access::{Detail, MonthRange, Principal, Role, Scope},
    catalog::{
        AuditActor, AuditEntry, AuditOutcome, Catalog, CatalogError, KeyTerms, NewEnrolment, NewKey, NewProgramme,
        NewShare, OnError, Project, ProjectText,
    },
    config::Config,
    connections::decode_csv,
    error::ErrorKind,
    ids::{InvalidId, Month, OrganisationSlug, ProgrammeSlug, ProjectSlug},
    ingest::{ConnectionImport, IngestError, Outcome, UploadRequest, last_day},
    payments::{decoder::Limits, definition},
    programmes::Rule,
    server::{self, Server, ServerError, StopSignals},
};

/// The projects of the demo and their files.
static PROJECTS: &str = include_str!("../data/demo/projects.toml");
/// Each file's path as `projects.toml` has it, and its bytes.
static FILES: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/demo_files.rs"));
/// Marks a folder as the demo's own, which the next demo may empty.
const MARK: &str = "this-is-a-demo";
/// Who is shown some of the projects.
const INVESTOR: &str = "bahari-capital";
/// What it is shown: a project, its first and last month, and in what detail.
const SHARES: [(&str, &str, &str, Detail); 2] =
    [("kitobo", "2026-06", "2026-08", Detail::Masked), ("gbamu", "2026-05", "2026-10", Detail::Aggregate)];

/// Why the demo did not start.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("{} holds something else; the demo wants a folder of its own: name another with --data-dir", .0.display())]
    FolderTaken(PathBuf),
    #[error("cannot make the folder {}", .folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    #[error("the demo's data are wrong: {0}")]
    Data(String),
    #[error("the catalogue of the demo failed")]
    Catalog(#[from] CatalogError),
    #[error("an upload of the demo failed")]
    Upload(#[from] IngestError),
    #[error(transparent)]
    Server(Box<ServerError>),
    #[error("could not write to stdout")]
    Output(#[from] io::Error),
}

impl From<ServerError> for DemoError {
    fn from(error: ServerError) -> Self {
        Self::Server(Box::new(error))
    }
}

impl DemoError {
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::FolderTaken(_) => ErrorKind::Conflict,
            Self::Data(_) => ErrorKind::Internal,
            Self::Catalog(error) => error.kind(),
            Self::Upload(error) => error.kind(),
            Self::Server(error) => error.kind(),
            Self::Folder { .. } | Self::Output(_) => ErrorKind::Unavailable,
        }
    }
}

#[derive(Deserialize)]
struct DemoData {
    projects: Vec<DemoProject>,
    programme: DemoProgramme,
}

#[derive(Deserialize)]
struct DemoProgramme {
    slug: ProgrammeSlug,
    name: String,
    organisation: OrganisationSlug,
    organisation_name: String,
    projects: Vec<ProjectSlug>,
    rule: Rule,
}

#[derive(Deserialize)]
struct DemoProject {
    slug: String,
    name: String,
    kind: String,
    currency: String,
    time_zone: String,
    country: String,
    connections: Option<String>,
    files: Vec<DemoFile>,
}

#[derive(Deserialize)]
struct DemoFile {
    path: String,
    dataset_name: String,
}

/// Fills a fresh folder, says what to try, and serves until the process is told to stop.
pub async fn run(config: Config) -> Result<(), DemoError> {
    let data: DemoData = toml::from_str(PROJECTS).map_err(|error| DemoError::Data(error.to_string()))?;
    make_fresh(&config.data_dir)?;
    let stop = StopSignals::listen()?;
    let server = Server::start(config).await?;
    for project in data.projects {
        load(&server, project).await?;
    }
    let NewKey { key, secret } = server.state.catalog.create_key(KeyTerms::of_admin("demo")).await?;
    let entry = AuditEntry::new(AuditActor::CommandLine, "key.create", AuditOutcome::Done);
    server.state.catalog.append_audit(&[AuditEntry { object: Some(key.prefix), ..entry }]).await?;
    let investor = share_with_investor(&server.state.catalog).await?;
    let programme = data.programme.slug.clone();
    let fund = make_programme(&server, data.programme).await?;
    say_what_to_try(&server.address, &Keys { admin: secret, investor, fund }, &programme)?;
    server.run_until(stop.received()).await;
    Ok(())
}

/// Empties the folder of an earlier demo; anything else that is there stays, and is an error.
fn make_fresh(folder: &Path) -> Result<(), DemoError> {
    let failed = |source| DemoError::Folder { folder: folder.to_owned(), source };
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
        if !folder.join(MARK).exists() {
            return Err(DemoError::FolderTaken(folder.to_owned()));
        }
        // A demo that still runs there keeps its folder.
        drop(server::lock_folder(folder)?);
        fs::remove_dir_all(folder).map_err(failed)?;
    }
    fs::create_dir_all(folder).and_then(|()| fs::write(folder.join(MARK), "")).map_err(failed)
}

async fn load(server: &Server, demo: DemoProject) -> Result<(), DemoError> {
    let text = ProjectText {
        slug: Some(demo.slug),
        name: Some(demo.name),
        kind: Some(demo.kind),
        currency: Some(demo.currency),
        time_zone: Some(demo.time_zone),
        country: Some(demo.country),
        organisation: None,
    };
    let new = text.into_new().map_err(|errors| {
        DemoError::Data(errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join("; "))
    })?;
    let project = server.state.catalog.create_project(new).await?;
    // First, so that payments show their connections from the start.
    if let Some(path) = demo.connections {
        connect(server, &project, &path).await?;
    }
    for file in demo.files {
        upload(server, &project, file).await?;
    }
    Ok(())
}

/// A file of the demo.
fn embedded(path: &str) -> Result<&'static [u8], DemoError> {
    let found = FILES.iter().find(|(known, _)| *known == path);
    found.map(|(_, bytes)| *bytes).ok_or_else(|| DemoError::Data(format!("{path} is not embedded")))
}

async fn connect(server: &Server, project: &Project, path: &str) -> Result<(), DemoError> {
    let decoded = decode_csv(embedded(path)?, Limits::LARGEST, last_day());
    let decoded = decoded.map_err(|error| DemoError::Data(format!("{path}: {error}")))?;
    let import = ConnectionImport { project: project.clone(), decoded, on_error: OnError::RejectFile, dry_run: false };
    let report = server.state.ingest.import_connections(import).await?;
    if report.refused { Err(DemoError::Data(format!("{path} was not taken: {:?}", report.errors))) } else { Ok(()) }
}

async fn upload(server: &Server, project: &Project, file: DemoFile) -> Result<(), DemoError> {
    let bytes = embedded(&file.path)?;
    let request = UploadRequest {
        projects: vec![project.clone()],
        scope: Scope::of(&Principal::admin("demo"), [project.owner()]),
        dataset_name: file.dataset_name,
        dataset_type: definition::DATASET_TYPE.to_owned(),
        data_provider: "user".to_owned(),
        file_name: definition::FILE_NAME.to_owned(),
        on_error: OnError::RejectFile,
        dry_run: false,
        key_prefix: "demo".to_owned(),
        idempotency_key: None,
    };
    let body = stream::iter([Ok(Bytes::from_static(bytes))]);
    match server.state.ingest.upload(request, body).await? {
        Outcome::Committed(_) => Ok(()),
        other => Err(DemoError::Data(format!("{} was not taken: {other:?}", file.path))),
    }
}

/// Shows an investor some months of two projects, and gives the key of its viewer.
async fn share_with_investor(catalog: &Catalog) -> Result<String, DemoError> {
    let wrong = |error: InvalidId| DemoError::Data(error.to_string());
    let investor: OrganisationSlug = INVESTOR.parse().map_err(wrong)?;
    let month = |text: &str| text.parse::<Month>().map(Some).map_err(wrong);
    catalog.create_organisation(investor.clone(), "Bahari Capital".to_owned()).await?;
    for (project, first, last, detail) in SHARES {
        let share = NewShare {
            project: project.parse().map_err(wrong)?,
            recipient: investor.clone(),
            months: MonthRange { from: month(first)?, to: month(last)? },
            detail,
            note: "For the review of the third quarter".to_owned(),
            expires_at: None,
            created_by: None,
        };
        catalog.create_share(share).await?;
    }
    let terms = KeyTerms { role: Role::Viewer, organisation: Some(investor), ..KeyTerms::of_admin("investor") };
    Ok(catalog.create_key(terms).await?.secret)
}

/// Makes the programme, in which projects take part with all their connections, and gives the key of its manager.
async fn make_programme(server: &Server, demo: DemoProgramme) -> Result<String, DemoError> {
    let catalog = &server.state.catalog;
    catalog.create_organisation(demo.organisation.clone(), demo.organisation_name).await?;
    let new = NewProgramme {
        slug: demo.slug.clone(),
        organisation: Some(demo.organisation.clone()),
        name: demo.name,
        required_columns: Vec::new(),
        rule: demo.rule,
        invited: vec![OrganisationSlug::main()],
        created_by: None,
    };
    let version = catalog.create_programme(new).await?.version;
    let most = server.state.config.verification.max_connections;
    for project in demo.projects {
        let (programme, enrolled_by) = (demo.slug.clone(), None);
        catalog.enrol(NewEnrolment { programme, project: project.clone(), version, enrolled_by }).await?;
        catalog.submit(&demo.slug, &project, None, "demo", most).await?;
    }
    let terms = KeyTerms { role: Role::Manager, organisation: Some(demo.organisation), ..KeyTerms::of_admin("fund") };
    Ok(catalog.create_key(terms).await?.secret)
}

/// The keys that the demo prints.
struct Keys {
    admin: String,
    investor: String,
    fund: String,
}

fn say_what_to_try(address: &str, keys: &Keys, programme: &ProgrammeSlug) -> io::Result<()> {
    let get_as = |key: &str, path: &str| format!("curl -s -H \"Authorization: Bearer ${key}\" '{address}{path}'");
    let get = |path: &str| get_as("KEY", path);
    let verifications = format!("/v1/programmes/{programme}/verifications");
    let begin = format!("{} -H 'Content-Type: application/json' -d '{{}}'", get_as("FUND_KEY", &verifications));
    let tries = [
        ("Revenue per site, in each project's currency", get("/v1/metrics/revenue_per_site")),
        (
            "Revenue by month of one project, as CSV",
            get("/v1/metrics/revenue_over_time?project=kitobo&grain=month&format=csv"),
        ),
        (
            "An investor's view: June to August of kitobo, customers by pseudonyms, and nothing else of it",
            get_as("INVESTOR_KEY", "/v1/metrics/payments_per_customer?project=kitobo&limit=3"),
        ),
        (
            "And gbamu as aggregates: sites and months of enough customers; the answer says how many are withheld",
            get_as("INVESTOR_KEY", "/v1/metrics/revenue_over_time?project=gbamu"),
        ),
        (
            "A fund pays for connections that really pay: verify the 300 that were submitted to it; the answer has the run's id",
            begin,
        ),
        (
            "How that run ended, with the number of connections that came to each outcome",
            get_as("FUND_KEY", &format!("{verifications}?limit=1")),
        ),
        (
            "What was submitted and does not pay enough, with its last verdict",
            get_as("FUND_KEY", &format!("/v1/programmes/{programme}/submissions?outcome=below_threshold&limit=3")),
        ),
        ("Which payment sources people use", get("/v1/metrics/source_mix?project=jua-nyumbani")),
        (
            "Where data is missing (a month without data is not zero revenue)",
            get("/v1/metrics/completeness?project=kitobo"),
        ),
        (
            "Take the template and check it as you would a file of your own; nothing is kept",
            format!(
                "{} -O && {} -T ELECTRICITY_PAYMENT.csv",
                get("/v1/templates/ELECTRICITY_PAYMENT.csv"),
                get("/v1/uploads?project=kitobo&dataset_name=11_2026_Kitobo&dry_run=true")
            ),
        ),
    ];
    let mut out = io::stdout().lock();
    writeln!(out, "Wattlake listens on {address}, with three invented projects. Stop it with Ctrl-C.\n")?;
    let Keys { admin, investor, fund } = keys;
    writeln!(out, "KEY={admin}\nINVESTOR_KEY={investor}\nFUND_KEY={fund}\n")?;
    for (what, command) in tries {
        writeln!(out, "# {what}\n{command}\n")?;
    }
    out.flush()
}
