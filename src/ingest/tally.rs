//! How an upload's end shows in the operational counters.

use super::{IngestError, Outcome};
use crate::{
    catalog::UploadRecord,
    error::ErrorKind,
    payments::report::Counts,
    telemetry::{RowKind, UploadInCount, UploadOutcome},
};

/// Counts an upload that ended.
pub(super) fn count(upload: &UploadInCount, dry_run: bool, ended: &Result<Outcome, IngestError>) {
    match ended {
        Ok(Outcome::Committed(record)) => upload.ended(UploadOutcome::Committed, record.bytes, &landed(record)),
        Ok(Outcome::Repeated(first)) => upload.ended(UploadOutcome::Repeated, first.bytes, &[]),
        Ok(Outcome::Checked(record)) => upload.ended(UploadOutcome::DryRun, record.bytes, &[]),
        Ok(Outcome::Rejected(record)) if dry_run => upload.ended(UploadOutcome::DryRun, record.bytes, &[]),
        Ok(Outcome::Replayed(_)) => upload.ended(UploadOutcome::Replayed, 0, &[]),
        // Its good rows did not land, whatever they would have been.
        Ok(Outcome::Rejected(record)) => {
            let Counts { read, rejected, .. } = counts(record);
            let rows = [(RowKind::Read, read), (RowKind::Rejected, rejected)];
            upload.ended(UploadOutcome::Rejected, record.bytes, &rows);
        }
        Err(error) => upload.ended(failed(error.kind()), 0, &[]),
    }
}

fn landed(record: &UploadRecord) -> [(RowKind, u64); 5] {
    let Counts { read, new, corrected, duplicate, rejected, accepted: _ } = counts(record);
    [
        (RowKind::Read, read),
        (RowKind::New, new),
        (RowKind::Corrected, corrected),
        (RowKind::Duplicate, duplicate),
        (RowKind::Rejected, rejected),
    ]
}

fn counts(record: &UploadRecord) -> Counts {
    serde_json::from_value(record.report["counts"].clone()).unwrap_or_default()
}

fn failed(kind: ErrorKind) -> UploadOutcome {
    match kind {
        ErrorKind::Busy => UploadOutcome::Busy,
        ErrorKind::TooLarge => UploadOutcome::TooLarge,
        ErrorKind::Conflict | ErrorKind::Rejected => UploadOutcome::Conflict,
        ErrorKind::Invalid => UploadOutcome::Interrupted,
        _ => UploadOutcome::Failed,
    }
}
