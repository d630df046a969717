//! The command line: what to run, and how failures are told. One file a group of commands.

mod audit;
mod check;
mod client;
mod connections;
mod ingest;
mod keys;
mod lake;
mod orgs;
mod output;
mod pages;
mod programmes;
mod progress;
mod projects;
mod purge;
mod query;
mod report;
mod serve;
mod settings;
mod shares;
mod source;
mod table;
mod uploads;
mod verify_report;

use std::{ffi::OsString, process::ExitCode};

use clap::{Parser, Subcommand};

use audit::{Doing, recorded};
use client::ClientFlags;
pub use output::Failure;
use settings::{DataFlags, ServerFlags};

use crate::{
    catalog::{self, Catalog},
    config::Config,
    demo,
    error::ErrorKind,
    failpoints,
    ids::ProjectSlug,
    server::catalog_limits,
    sql, telemetry,
};

/// An analytics query server over the electricity payments of mini-grids and solar home systems.
#[derive(Parser)]
#[command(name = "wattlake", version)]
pub struct Command {
    /// Answer in JSON, for scripts; a failure is one line of JSON on stderr.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Serve the HTTP API until SIGTERM or SIGINT.
    Serve(ServerFlags),
    /// Serve a fresh data folder with sample projects, and say what to try.
    Demo(ServerFlags),
    /// Make, list, rotate and revoke API keys, with or without a running server.
    Keys {
        #[command(flatten)]
        data: DataFlags,
        #[command(subcommand)]
        action: keys::Action,
    },
    /// Make, list and rename organisations, with or without a running server.
    Orgs {
        #[command(flatten)]
        data: DataFlags,
        #[command(subcommand)]
        action: orgs::Action,
    },
    /// Make and list projects, with or without a running server.
    Projects {
        #[command(flatten)]
        data: DataFlags,
        #[command(subcommand)]
        action: projects::Action,
    },
    /// List who did what, from the audit log, with or without a running server.
    Audit {
        #[command(flatten)]
        data: DataFlags,
        #[command(subcommand)]
        action: audit::Action,
    },
    /// Share months of a project with another organisation, list and revoke shares, with or without a running server.
    Shares {
        #[command(flatten)]
        data: DataFlags,
        #[command(subcommand)]
        action: shares::Action,
    },
    /// Make and change programmes, enrol and withdraw projects, with or without a running server.
    Programmes {
        #[command(flatten)]
        data: DataFlags,
        #[command(subcommand)]
        action: programmes::Action,
    },
    /// Send files of payments to a server, and say what became of them.
    Ingest(ingest::Flags),
    /// Check a file as an upload would be, without a server.
    Check(check::Flags),
    /// Ask a server for the figures of a metric, or which metrics there are.
    Query(query::Flags),
    /// List, show, fetch, delete and restore a server's uploads.
    Uploads {
        #[command(flatten)]
        client: ClientFlags,
        #[command(subcommand)]
        action: uploads::Action,
    },
    /// Send, list, show and delete the connections of a project: whom it supplies.
    Connections {
        #[command(flatten)]
        client: ClientFlags,
        #[command(subcommand)]
        action: connections::Action,
    },
    /// Erase deleted uploads for good, as laws on personal data ask for.
    Purge(purge::Flags),
    /// Check that the report of a verification is as it was signed, without a server.
    VerifyReport(verify_report::Flags),
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
    /// Answer one SQL query of a server, which starts this by itself, and end.
    #[command(name = sql::COMMAND, hide = true)]
    SqlWorker,
}

/// Runs the command that the arguments say, the program's name before them, to its end.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = match Command::try_parse_from(&arguments) {
        Ok(command) => command,
        // Help and the version are no failures.
        Err(error) if error.use_stderr() && asks_for_json(&arguments) => return wrong_usage(&error).tell(true),
        Err(error) => error.exit(),
    };
    let json = command.json;
    if matches!(command.action, Action::SqlWorker) {
        // It makes its own runtime, once it has shut itself in.
        return sql::work();
    }
    let _points = failpoints::setup();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::of(ErrorKind::Unavailable, &error).tell(json),
    };
    match runtime.block_on(command.action.run(json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(json),
    }
}

/// Whether `--json` is among arguments that could not be understood.
fn asks_for_json(arguments: &[OsString]) -> bool {
    arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json")
}

fn wrong_usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let lines = text.trim_start_matches("error: ").lines().map(str::trim).filter(|line| !line.is_empty());
    Failure::new(ErrorKind::Invalid, &lines.collect::<Vec<_>>().join("\n"))
}

impl Action {
    async fn run(self, json: bool) -> Result<(), Failure> {
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
                let catalog = open_catalog(&data.settings()?, action.only_reads()).await?;
                recorded(&catalog, action.doing(), action.run(&catalog, json)).await?;
                catalog.close().await;
                Ok(())
            }
            Self::Orgs { data, action } => {
                let catalog = open_catalog(&data.settings()?, action.only_reads()).await?;
                recorded(&catalog, action.doing(), action.run(&catalog, json)).await?;
                catalog.close().await;
                Ok(())
            }
            Self::Projects { data, action } => {
                let catalog = open_catalog(&data.settings()?, action.only_reads()).await?;
                recorded(&catalog, action.doing(), action.run(&catalog, json)).await?;
                catalog.close().await;
                Ok(())
            }
            Self::Audit { data, action } => {
                let catalog = open_catalog(&data.settings()?, true).await?;
                action.run(&catalog, json).await?;
                catalog.close().await;
                Ok(())
            }
            Self::Shares { data, action } => {
                let catalog = open_catalog(&data.settings()?, action.only_reads()).await?;
                recorded(&catalog, action.doing(), action.run(&catalog, json)).await?;
                catalog.close().await;
                Ok(())
            }
            Self::Programmes { data, action } => {
                let catalog = open_catalog(&data.settings()?, action.only_reads()).await?;
                recorded(&catalog, action.doing(), Box::pin(action.run(&catalog, json))).await?;
                catalog.close().await;
                Ok(())
            }
            Self::Ingest(flags) => flags.run(json).await,
            Self::Check(flags) => flags.run(json).await,
            Self::VerifyReport(flags) => flags.run(json),
            Self::Query(flags) => flags.run(json).await,
            Self::Uploads { client, action } => action.run(&client, json).await,
            Self::Connections { client, action } => action.run(&client, json).await,
            Self::Purge(flags) => flags.run(json).await,
            Self::Fsck { data } => {
                let config = data.settings()?;
                let catalog = open_catalog(&config, true).await?;
                let sound = lake::fsck(&config.data_dir, &catalog, json).await;
                catalog.close().await;
                sound
            }
            // It never comes here: see `run`.
            Self::SqlWorker => Ok(()),
            Self::Rebuild { data, projects } => {
                let config = data.settings()?;
                let catalog = open_catalog(&config, true).await?;
                let doing = Some(Doing("lake.rebuild", None));
                let done = recorded(&catalog, doing, Box::pin(lake::rebuild(config, projects, json))).await;
                catalog.close().await;
                done
            }
        }
    }
}

/// Opens the catalogue; a new folder is made only for those who write into it.
async fn open_catalog(config: &Config, only_reads: bool) -> Result<Catalog, Failure> {
    let folder = &config.data_dir;
    if only_reads && !folder.join(catalog::FILE_NAME).exists() {
        return Err(Failure::new(
            ErrorKind::NotFound,
            &format!("{} is no data folder; name the right one with --data-dir", folder.display()),
        ));
    }
    Ok(Catalog::open(folder).await?.within(catalog_limits(config)))
}
