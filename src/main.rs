//! The `wattlake` command.

use std::process::ExitCode;

use clap::Parser;
use wattlake::cli::{Command, run};

fn main() -> ExitCode {
    run(Command::parse())
}
