//! The `wattlake` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    wattlake::cli::run(std::env::args_os())
}
