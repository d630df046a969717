//! `wattlake fsck` and `wattlake rebuild`: the data folder looked at, and the lake made anew, without a server.

use std::{path::Path, sync::Arc};

use serde_json::json;

use super::{
    Failure,
    output::{say, say_json},
};
use crate::{
    audit::note,
    catalog::{AuditCheck, Catalog},
    config::Config,
    error::ErrorKind,
    ids::ProjectSlug,
    ingest::{Ingest, inspect_uploads},
    lake::{Finding, Lake, LakeError},
    server,
    verification::{VerificationError, inspect_verdicts},
};

impl From<LakeError> for Failure {
    fn from(error: LakeError) -> Self {
        Self::of(error.kind(), &error)
    }
}

impl From<VerificationError> for Failure {
    fn from(error: VerificationError) -> Self {
        Self::of(error.kind(), &error)
    }
}

/// Compares everything with what was written: the ledger, the log, the bytes of every file of the lake, what is kept of
/// every upload, verdicts, and the audit log. Changes nothing, and may run beside a server. A finding ends it with exit code 1.
pub(super) async fn fsck(folder: &Path, catalog: &Catalog, as_json: bool) -> Result<(), Failure> {
    let mut findings = Lake::inspect(catalog, folder).await?;
    let mut uploads = 0;
    findings.extend(inspect_uploads(catalog, folder, |read| uploads = read).await?);
    let (verifications, altered) = inspect_verdicts(catalog, folder).await?;
    findings.extend(altered);
    let AuditCheck { entries, last: (last, hash), broken } = catalog.check_audit().await?;
    findings.extend(broken.map(|(entry, how)| Finding::AuditLog { entry, how }));
    if as_json {
        say_json(&json!({ "sound": findings.is_empty(), "uploads": uploads, "verifications": verifications,
            "audit": { "entries": entries, "last": { "seq": last, "hash": hash } },
            "findings": findings.iter().map(finding_json).collect::<Vec<_>>() }))?;
    } else {
        for finding in &findings {
            say(&finding.to_string())?;
        }
    }
    match findings.len() {
        0 if as_json => Ok(()),
        0 => {
            say(&format!(
                "all is as it was written: the ledger, the log, the lake's files, {uploads} uploads, {verifications} verifications \
                 and {entries} entries of the audit log"
            ))?;
            say(&format!(
                "the last entry is {last}, with the hash {hash}; kept elsewhere, they show a log that was made anew"
            ))
        }
        count => {
            let mut failure = Failure::new(ErrorKind::Rejected, &format!("{count} findings"));
            if broken.is_some() {
                failure = failure.with_line("nothing mends the audit log: what it said is in a backup, if anywhere");
            }
            if count > usize::from(broken.is_some()) {
                let advice = "start the server: it mends what it can, and makes damaged projects anew from their uploads; or \
                    run `wattlake rebuild`";
                failure = failure.with_line(advice);
            }
            Err(failure)
        }
    }
}

fn finding_json(finding: &Finding) -> serde_json::Value {
    json!({ "code": finding.code(), "project": finding.project(), "message": finding.to_string() })
}

/// Makes the lake's files of some projects, or of all, anew from the uploads.
pub(super) async fn rebuild(config: Config, projects: Vec<ProjectSlug>, as_json: bool) -> Result<(), Failure> {
    let _lock = server::lock_folder(&config.data_dir)?;
    let catalog = Catalog::open(&config.data_dir).await?;
    let lake = Arc::new(Lake::open(catalog.clone(), &config.data_dir).await?);
    let ingest = Ingest::open(catalog.clone(), lake.clone(), &config.data_dir, config.upload.clone()).await?;
    let known: Vec<ProjectSlug> = catalog.projects().await?.into_iter().map(|project| project.slug).collect();
    if let Some(unknown) = projects.iter().find(|project| !known.contains(project)) {
        return Err(Failure::new(ErrorKind::NotFound, &format!("there is no project {unknown}")));
    }
    let chosen = if projects.is_empty() { known } else { projects };
    note(|learned| learned.projects.clone_from(&chosen));
    let mut done = Vec::new();
    for project in chosen {
        let version = ingest.rebuild(&project).await?;
        let rows: u64 = lake.snapshot().project_files(&project).map(|file| file.rows).sum();
        if !as_json {
            say(&format!("{project}: {rows} rows made anew from its uploads, version {version}"))?;
        }
        done.push(json!({ "project": project, "rows": rows, "lake_version": version }));
    }
    if as_json {
        say_json(&json!({ "projects": done }))?;
    }
    catalog.close().await;
    Ok(())
}
