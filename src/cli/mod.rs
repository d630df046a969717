//! The command line: what to run, and how failures are told. One file a group of commands.

mod keys;
mod lake;
mod output;
mod projects;
mod serve;
mod settings;

use std::{path::Path, process::ExitCode};

use clap::{Parser, Subcommand};

pub use output::Failure;
use settings::{DataFlags, ServerFlags};

use crate::{
    catalog::{self, Catalog},
    demo,
    error::ErrorKind,
    ids::ProjectSlug,
    telemetry,
};

/// An analytics query server over the electricity payments of mini-grids and solar home systems.
#[derive(Parser)]
#[command(name = "wattlake", version)]
pub struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Serve the HTTP API until SIGTERM or SIGINT.
    Serve(ServerFlags),
    /// Serve a fresh data folder with sample projects, and say what to try.
    Demo(ServerFlags),
    /// Make, list and revoke API keys, with or without a running server.
    Keys {
        #[command(flatten)]
        data: DataFlags,
        #[command(subcommand)]
        action: keys::Action,
    },
    /// Make and list projects, with or without a running server.
    Projects {
        #[command(flatten)]
        data: DataFlags,
        #[command(subcommand)]
        action: projects::Action,
    },
    /// Compare everything that is stored with what was written, and change nothing; exit code 1 where something is wrong.
    Fsck {
        #[command(flatten)]
        data: DataFlags,
    },
    /// Make the lake anew from the uploads, with the same rows; without a running server.
    Rebuild {
        #[command(flatten)]
        data: DataFlags,
        /// A project to make anew; all of them where none is named.
        #[arg(long = "project", value_name = "SLUG")]
        projects: Vec<ProjectSlug>,
    },
}

/// Runs a command to its end.
#[must_use]
pub fn run(command: Command) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::of(ErrorKind::Unavailable, &error).tell(),
    };
    match runtime.block_on(command.action.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

impl Action {
    async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Serve(flags) => serve::run(flags).await,
            Self::Demo(flags) => match flags.load_for_demo()? {
                Some(config) => {
                    telemetry::start(&config.log);
                    Ok(demo::run(config).await?)
                }
                None => Ok(()),
            },
            Self::Keys { data, action } => {
                let catalog = open_catalog(&data.data_dir()?, action.only_reads()).await?;
                action.run(&catalog, data.json).await?;
                catalog.close().await;
                Ok(())
            }
            Self::Projects { data, action } => {
                let catalog = open_catalog(&data.data_dir()?, action.only_reads()).await?;
                action.run(&catalog, data.json).await?;
                catalog.close().await;
                Ok(())
            }
            Self::Fsck { data } => {
                let folder = data.data_dir()?;
                let catalog = open_catalog(&folder, true).await?;
                let sound = lake::fsck(&folder, &catalog, data.json).await;
                catalog.close().await;
                sound
            }
            Self::Rebuild { data, projects } => {
                let config = data.settings()?;
                open_catalog(&config.data_dir, true).await?.close().await;
                lake::rebuild(config, projects, data.json).await
            }
        }
    }
}

/// Opens the catalogue; a new folder is made only for those who write into it.
async fn open_catalog(folder: &Path, only_reads: bool) -> Result<Catalog, Failure> {
    if only_reads && !folder.join(catalog::FILE_NAME).exists() {
        return Err(Failure::new(
            ErrorKind::NotFound,
            &format!("{} is no data folder; name the right one with --data-dir", folder.display()),
        ));
    }
    Ok(Catalog::open(folder).await?)
}
