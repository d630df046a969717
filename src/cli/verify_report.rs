//! `wattlake verify-report`: whether a verification report is as it was signed, without a server.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{
    Failure,
    output::{say, say_json},
    table::clean,
};
use crate::{
    error::ErrorKind,
    verification::{CheckedReport, check_report},
};

#[derive(Args)]
pub(super) struct Flags {
    /// The report, as `GET …/verifications/{run}/report` gave it.
    report: PathBuf,
    /// The public key of the server that it is said to be of, in hexadecimal: `GET /v1/verification-key` of that server tells it.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

impl Flags {
    pub(super) fn run(&self, as_json: bool) -> Result<(), Failure> {
        let text = std::fs::read(&self.report).map_err(|error| {
            Failure::new(ErrorKind::Invalid, &format!("cannot read {}: {error}", self.report.display()))
        })?;
        let checked = check_report(&text, self.key.as_deref())
            .map_err(|fault| Failure::new(ErrorKind::Rejected, &fault.to_string()).about(&self.report))?;
        let known = self.key.is_some();
        if as_json {
            let CheckedReport { public_key, head, verdicts } = checked;
            return say_json(
                &json!({"public_key": public_key, "key_is_the_expected": known, "verdicts": verdicts, "report": head}),
            );
        }
        say(&told(&checked, known))
    }
}

fn told(checked: &CheckedReport, known: bool) -> String {
    let CheckedReport { public_key, head, verdicts } = checked;
    let text = |name: &str| {
        let value = &head[name];
        clean(value.as_str().map_or_else(|| value.to_string(), str::to_owned).as_str()).into_owned()
    };
    let whose = if known {
        "which is the key that was given".to_owned()
    } else {
        "compare it with that of the server it is said to be of: GET /v1/verification-key".to_owned()
    };
    format!(
        "the report is as it was signed\n  signed with {public_key}, {whose}\n  programme {}, run {}, {verdicts} verdicts\n  \
         as of {}, lake version {}, rule {}\n  outcomes {}",
        text("programme"),
        text("run"),
        text("as_of"),
        text("lake_version"),
        text("rule"),
        text("outcomes"),
    )
}
