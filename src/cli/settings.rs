//! Flags for settings: one for each entry of the table, so that a setting cannot lack its flag.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, error::ErrorKind as UsageError};

use super::{Failure, output::say};
use crate::config::{Config, Effective, SETTINGS, Sources, environment};

/// The flags of the commands that serve.
#[derive(Args)]
pub(super) struct ServerFlags {
    /// A TOML file of settings; ./wattlake.toml where it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the settings as they are, and where each comes from, and end.
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    settings: SettingFlags,
}

impl ServerFlags {
    /// The settings, or `None` where they were to be printed, and have been.
    pub(super) fn load(self) -> Result<Option<Config>, Failure> {
        self.load_with(BTreeMap::new())
    }

    /// The same, with a folder of its own as the default.
    pub(super) fn load_for_demo(self) -> Result<Option<Config>, Failure> {
        self.load_with(BTreeMap::from([("data_dir", "./wattlake-demo")]))
    }

    fn load_with(self, defaults: BTreeMap<&'static str, &'static str>) -> Result<Option<Config>, Failure> {
        let sources = Sources { variables: environment(), flags: self.settings.given, file: self.config, defaults };
        let effective: Effective = sources.load()?;
        if self.print_config {
            say(effective.to_toml().trim())?;
            return Ok(None);
        }
        Ok(Some(effective.config))
    }
}

/// The flags of the commands that work on the data folder.
#[derive(Args)]
pub(super) struct DataFlags {
    /// The data folder; else `WATTLAKE_DATA_DIR`, else the settings file's, else ./wattlake-data.
    #[arg(long, global = true, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// A TOML file of settings; ./wattlake.toml where it is there.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl DataFlags {
    /// All settings, as a server on this folder would have them.
    pub(super) fn settings(&self) -> Result<Config, Failure> {
        let flags = self.data_dir.iter().map(|folder| ("data_dir", folder.clone())).collect();
        let sources = Sources { variables: environment(), flags, file: self.config.clone(), defaults: BTreeMap::new() };
        Ok(sources.load()?.config)
    }
}

/// The settings that were given as flags, by key.
struct SettingFlags {
    given: BTreeMap<&'static str, String>,
}

impl Args for SettingFlags {
    fn augment_args(command: clap::Command) -> clap::Command {
        SETTINGS.iter().fold(command, |command, setting| {
            let help = match setting.default {
                "" => format!("{} [{}]", setting.doc, setting.variable),
                default => format!("{} [{}; default: {default}]", setting.doc, setting.variable),
            };
            let arg = Arg::new(setting.key).long(setting.flag.as_str()).value_name("VALUE").help(help);
            command.arg(arg.action(ArgAction::Set))
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = BTreeMap::new();
        for setting in SETTINGS.iter() {
            let value = matches
                .try_get_one::<String>(setting.key)
                .map_err(|error| clap::Error::raw(UsageError::InvalidValue, error.to_string()))?;
            if let Some(value) = value {
                given.insert(setting.key, value.clone());
            }
        }
        Ok(Self { given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.given.extend(Self::from_arg_matches(matches)?.given);
        Ok(())
    }
}
