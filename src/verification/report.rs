//! The report of a run: one text that says what was verified, by which rule and of which payments, with all verdicts, and is signed.
//! Whoever has the public key can check it without a server.
//!
//! ```text
//! wattlake verification report 1
//! {"run": …, "programme": …, "rule": …, "as_of": …, "lake_version": …, "projects": …, "verdicts_sha256": …}
//! project,external_id,outcome,…            the verdicts as CSV
//! …
//! signature ed25519 <public key> <signature>    of every byte above, both in hexadecimal
//! ```

use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};

use super::{Verification, VerificationError, blocking, verdicts};
use crate::catalog::VerificationRun;

const FIRST_LINE: &str = "wattlake verification report 1";
const SIGNATURE: &str = "signature ed25519";

impl Verification {
    /// The signed report of a run that has ended.
    pub async fn report(self: &std::sync::Arc<Self>, run: &VerificationRun) -> Result<Vec<u8>, VerificationError> {
        let csv = self.kept(run).await?;
        let projects = self.catalog.run_projects(&run.id).await?;
        let projects = projects.into_iter().map(|project| {
            let uploads = project.uploads.into_iter().map(|(id, sha256)| json!({"id": id, "sha256": sha256}));
            json!({
                "project": project.project,
                "time_zone": project.time_zone.name(),
                "uploads": uploads.collect::<Vec<_>>(),
            })
        });
        let head = json!({
            "run": run.id,
            "programme": run.programme,
            "dry_run": run.dry_run,
            "rule_version": run.rule_version,
            "rule": run.rule,
            "other_terms": run.other_terms,
            "as_of": run.as_of,
            "lake_version": run.lake_version,
            "started_at": run.started_at,
            "ended_at": run.ended_at,
            "connections": run.connections,
            "outcomes": run.outcomes,
            "projects": projects.collect::<Vec<_>>(),
            "verdicts_sha256": run.sha256,
        });
        let verification = self.clone();
        blocking(move || {
            let mut text = format!("{FIRST_LINE}\n{head}\n").into_bytes();
            text.extend_from_slice(&csv);
            let (signature, public) = verification.signing.sign(&text)?;
            text.extend_from_slice(format!("{SIGNATURE} {public} {signature}\n").as_bytes());
            Ok(text)
        })
        .await
    }
}

/// A report whose signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedReport {
    /// The key that signed it, in hexadecimal. Whose it is, the report cannot say.
    pub public_key: String,
    /// What it says of the run.
    pub head: Value,
    /// How many verdicts it has.
    pub verdicts: usize,
}

/// What is wrong with a report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportFault {
    #[error("this is no verification report: {0}")]
    Form(&'static str),
    #[error("it is signed with another key, {0}")]
    OtherKey(String),
    #[error("its signature is wrong: it is not as it was signed")]
    Signature,
    #[error("its verdicts are not those that its head says")]
    Verdicts,
}

/// Checks a report: that it is as it was signed, and by the key that is expected, if one is.
pub fn check_report(text: &[u8], expected: Option<&str>) -> Result<CheckedReport, ReportFault> {
    let without_end = text.strip_suffix(b"\n").ok_or(ReportFault::Form("it does not end with a line"))?;
    let split = without_end.iter().rposition(|byte| *byte == b'\n').ok_or(ReportFault::Form("it is one line"))?;
    let (signed, last) = (&text[..=split], &without_end[split + 1..]);
    let last = std::str::from_utf8(last).map_err(|_| ReportFault::Form("its last line is no signature"))?;
    let signature = last.strip_prefix(SIGNATURE).and_then(|rest| rest.strip_prefix(' '));
    let (public_key, signature) =
        signature.and_then(|rest| rest.split_once(' ')).ok_or(ReportFault::Form("its last line is no signature"))?;
    let bytes =
        |hexadecimal: &str| hex::decode(hexadecimal).map_err(|_| ReportFault::Form("its last line is no signature"));
    let (key, signature) = (bytes(public_key)?, bytes(signature)?);
    if expected.is_some_and(|expected| !expected.trim().eq_ignore_ascii_case(public_key)) {
        return Err(ReportFault::OtherKey(public_key.to_owned()));
    }
    UnparsedPublicKey::new(&ED25519, key).verify(signed, &signature).map_err(|_| ReportFault::Signature)?;
    let rest = signed.strip_prefix(FIRST_LINE.as_bytes()).and_then(|rest| rest.strip_prefix(b"\n"));
    let rest = rest.ok_or(ReportFault::Form("its first line is another"))?;
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or(ReportFault::Form("it has no head"))?;
    let head: Value = serde_json::from_slice(&rest[..end]).map_err(|_| ReportFault::Form("its head is no JSON"))?;
    let csv = &rest[end + 1..];
    if head["verdicts_sha256"] != json!(hex::encode(verdicts::fingerprint(csv))) {
        return Err(ReportFault::Verdicts);
    }
    let verdicts = verdicts::from_csv(csv).map_err(|_| ReportFault::Verdicts)?.len();
    Ok(CheckedReport { public_key: public_key.to_owned(), head, verdicts })
}
