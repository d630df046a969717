//! What the benches share: the generated set, and servers that hold it. Nothing here is measured.

#![allow(unreachable_pub, reason = "`pub` says what it offers to the benches")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::stream;
use wattlake::{
    access::{Principal, Role, Scope},
    catalog::{KeyTerms, NewProject, OnError, Project, ProjectText},
    config::{Config, Sources},
    http::AppState,
    ids::OrganisationSlug,
    ingest::{Outcome, UploadRequest},
    payments::definition,
    server::Server,
};

/// As a connection hands a body on.
const CHUNK: usize = 64 << 10;

/// The set's project files in order. `make bench` makes them.
pub fn files() -> Vec<PathBuf> {
    let set = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-data/1m");
    let entries =
        fs::read_dir(&set).expect("the set is missing: `make bench` makes it, and benches/README.md says how");
    let folders = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut files: Vec<PathBuf> = folders.map(|folder| folder.join(definition::FILE_NAME)).collect();
    files.sort();
    files
}

/// A server's parts on a folder of its own, which goes with it.
pub struct Lake {
    pub state: AppState,
    pub projects: Vec<Project>,
    _folder: tempfile::TempDir,
}

impl Lake {
    /// With as many projects, and no payments.
    pub async fn empty(projects: usize) -> Self {
        let (mut lake, _) = Self::served(|_| {}).await;
        for number in 1..=projects {
            lake.projects.push(lake.state.catalog.create_project(project(number)).await.unwrap());
        }
        lake
    }

    /// Without a project, and the server of it, to be run or not. It lies beside the set: the system's temporary folder may be
    /// memory.
    pub async fn served(change: impl FnOnce(&mut Config)) -> (Self, Server) {
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-data");
        fs::create_dir_all(&beside).unwrap();
        let folder = tempfile::tempdir_in(beside).unwrap();
        let mut config = Sources::default().load().unwrap().config;
        config.data_dir = folder.path().to_owned();
        change(&mut config);
        "127.0.0.1:0".clone_into(&mut config.listen);
        let server = Server::start(config).await.unwrap();
        (Self { state: server.state.clone(), projects: Vec::new(), _folder: folder }, server)
    }

    /// One more project, of an organisation of its own, which is called `o` and the project's slug; and a key of a viewer of it.
    pub async fn add_tenant(&mut self) -> String {
        let organisation: OrganisationSlug = format!("o{}", project(self.projects.len() + 1).slug).parse().unwrap();
        self.state.catalog.create_organisation(organisation.clone(), "Bench".to_owned()).await.unwrap();
        self.add_project_of(organisation.clone()).await;
        self.key_of(organisation).await
    }

    /// One more project of an organisation.
    pub async fn add_project_of(&mut self, organisation: OrganisationSlug) {
        let mut new = project(self.projects.len() + 1);
        new.organisation = Some(organisation);
        self.projects.push(self.state.catalog.create_project(new).await.unwrap());
    }

    /// A key of a viewer.
    pub async fn key_of(&self, organisation: OrganisationSlug) -> String {
        let terms = KeyTerms { role: Role::Viewer, organisation: Some(organisation), ..KeyTerms::of_admin("bench") };
        self.state.catalog.create_key(terms).await.unwrap().secret
    }

    /// With the whole set.
    pub async fn loaded() -> Self {
        let files = files();
        let lake = Self::empty(files.len()).await;
        for (index, file) in files.iter().enumerate() {
            lake.upload(index, fs::read(file).unwrap().into()).await;
        }
        lake
    }

    /// Uploads a file to one of the projects, from the first byte to the commit.
    pub async fn upload(&self, project: usize, file: Bytes) {
        let request = UploadRequest {
            projects: vec![self.projects[project].clone()],
            dataset_name: "01_2026_Bench".to_owned(),
            dataset_type: definition::DATASET_TYPE.to_owned(),
            data_provider: "user".to_owned(),
            file_name: definition::FILE_NAME.to_owned(),
            on_error: OnError::RejectFile,
            dry_run: false,
            scope: Scope::of(&Principal::admin("bench"), [self.projects[project].owner()]),
            key_prefix: "bench".to_owned(),
            idempotency_key: None,
        };
        let chunks = (0..file.len()).step_by(CHUNK).map(|at| Ok(file.slice(at..file.len().min(at + CHUNK))));
        let outcome = self.state.ingest.upload(request, stream::iter(chunks)).await.unwrap();
        assert!(matches!(outcome, Outcome::Committed(_)), "{outcome:?}");
    }
}

fn project(number: usize) -> NewProject {
    let text = |value: &str| Some(value.to_owned());
    let project = ProjectText {
        slug: Some(format!("p{number:02}")),
        name: Some(format!("P{number:02}")),
        kind: text("mini_grid"),
        currency: text("KES"),
        time_zone: text("Africa/Nairobi"),
        country: text("KE"),
        organisation: None,
    };
    project.into_new().unwrap()
}
