//! `wattlake demo`: a fresh data folder with three projects and a key, served, and what to try printed.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    access::Role,
    catalog::{Catalog, CatalogError, ProjectText},
    config::Config,
    error::ErrorKind,
    server::{Server, ServerError},
};

/// Slug, name, kind, currency, time zone, country.
const PROJECTS: [[&str; 6]; 3] = [
    ["lake-victoria", "Lake Victoria mini-grids", "mini_grid", "KES", "Africa/Nairobi", "KE"],
    ["niger-delta", "Niger Delta mini-grids", "mini_grid", "NGN", "Africa/Lagos", "NG"],
    ["coast-homes", "Coast home systems", "shs", "TZS", "Africa/Dar_es_Salaam", "TZ"],
];

/// Why the demo did not start.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("{} is not empty; the demo wants a fresh folder: remove it, or name another with --data-dir", .0.display())]
    FolderTaken(PathBuf),
    #[error("a project of the demo is wrong: {0}")]
    Project(String),
    #[error("the catalogue of the demo failed")]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error("could not write to stdout")]
    Output(#[from] io::Error),
}

impl DemoError {
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::FolderTaken(_) => ErrorKind::Conflict,
            Self::Project(_) => ErrorKind::Internal,
            Self::Catalog(error) => error.kind(),
            Self::Server(error) => error.kind(),
            Self::Output(_) => ErrorKind::Unavailable,
        }
    }
}

/// Fills a fresh folder, says what to try, and serves until the process is told to stop.
pub async fn run(config: Config) -> Result<(), DemoError> {
    if !is_fresh(&config.data_dir) {
        return Err(DemoError::FolderTaken(config.data_dir));
    }
    let server = Server::start(config).await?;
    make_projects(&server.state.catalog).await?;
    let key = server.state.catalog.create_key("demo", Role::Admin).await?.secret;
    say_what_to_try(&server.address, &key)?;
    Ok(server.run().await?)
}

fn is_fresh(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

async fn make_projects(catalog: &Catalog) -> Result<(), DemoError> {
    for [slug, name, kind, currency, time_zone, country] in
        PROJECTS.map(|fields| fields.map(|text| Some(text.to_owned())))
    {
        let text = ProjectText { slug, name, kind, currency, time_zone, country };
        let new = text.into_new().map_err(|errors| {
            DemoError::Project(errors.into_iter().map(|error| error.message).collect::<Vec<_>>().join("; "))
        })?;
        catalog.create_project(new).await?;
    }
    Ok(())
}

fn say_what_to_try(address: &str, key: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "wattlake listens on {address}")?;
    writeln!(out, "the key is {key}\n")?;
    writeln!(out, "curl -s -H 'Authorization: Bearer {key}' {address}/v1/projects")?;
    writeln!(out, "curl -s -H 'Authorization: Bearer {key}' {address}/v1/projects/{}", PROJECTS[0][0])?;
    out.flush()
}
