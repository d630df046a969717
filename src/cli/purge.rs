//! `wattlake purge`: erases deleted uploads for good, over HTTP.

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    Failure,
    client::{Client, ClientFlags},
    output::{say, say_json},
    uploads::confirmed,
};
use crate::{error::ErrorKind, ids::UploadId};

#[derive(Args)]
pub(super) struct Flags {
    #[command(flatten)]
    client: ClientFlags,
    /// Deleted or rejected uploads.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<UploadId>,
    /// Erase also what verdicts of verifications rest on, which can then no longer be shown to be right.
    #[arg(long)]
    with_evidence: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Flags {
    /// One after the other, because what is erased stays so; a failure ends it, and says which were erased before.
    pub(super) async fn run(self, as_json: bool) -> Result<(), Failure> {
        let client = self.client.client()?;
        if !self.yes && !confirmed("Erase", "upload", &self.ids, "Nobody can bring them back.")? {
            return Err(Failure::new(ErrorKind::Invalid, "nothing was erased"));
        }
        let mut erased = Vec::new();
        for id in &self.ids {
            let answer = purge(&client, id, self.with_evidence).await.map_err(|failure| {
                failure.with_line(format!("{} of {} uploads were erased before it", erased.len(), self.ids.len()))
            })?;
            if !as_json {
                say(&told(id, &answer))?;
            }
            erased.push(answer);
        }
        if as_json { say_json(&json!({ "purged": erased })) } else { Ok(()) }
    }
}

async fn purge(client: &Client, id: &UploadId, with_evidence: bool) -> Result<Value, Failure> {
    let parameters = [("with_evidence".to_owned(), "true".to_owned())];
    let parameters = if with_evidence { &parameters[..] } else { &[] };
    let request = client.request(Method::POST, &["uploads", id.as_str(), "purge"], parameters)?;
    client.read_json(client.send(request).await?).await
}

fn told(id: &UploadId, answer: &Value) -> String {
    let count = |name: &str| answer[name].as_u64().unwrap_or_default();
    let erased = format!("{id} is erased, with {} files of earlier versions of the lake", count("lake_files_removed"));
    match count("files_set_aside") {
        0 => erased,
        unread => {
            format!("{erased}\n  {unread} files lie in lake/set-aside, unread: look whether they hold rows of it")
        }
    }
}
