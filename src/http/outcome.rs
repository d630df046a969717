//! What a file is answered with, once it is checked: that it landed, that it came before, what a dry run found, or all that
//! is wrong with it; and what else an upload can come to.

use std::io;

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    Problem,
    auth::unauthenticated,
    invalid_parameter,
    receive::AfterFile,
    rights::Lost,
    unreadable_body,
    uploads::{rejected_rows_link, upload_json},
    withdraw::no_uploads,
};
use crate::{
    audit::note,
    catalog::{CatalogError, UploadRecord},
    error::ErrorKind,
    ingest::{IngestError, Outcome},
};

/// # Errors
/// The file is refused for its content.
pub(super) fn answer(outcome: Outcome, dry_run: bool) -> Result<Response, Problem> {
    note_upload(&outcome, dry_run);
    match outcome {
        Outcome::Committed(record) => {
            let location = format!("/v1/uploads/{}", record.id);
            Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(upload_json(&record))).into_response())
        }
        Outcome::Repeated(record) => {
            let mut body = upload_json(&record);
            body["already_uploaded"] = json!(true);
            Ok(Json(body).into_response())
        }
        Outcome::Checked(record) => Ok(Json(checked_json(&record)).into_response()),
        Outcome::Rejected(record) => Err(rejected(&record, dry_run)),
        // An answer that is replayed is one of the others.
        Outcome::Replayed(first) => answer(*first, dry_run),
    }
}

/// Notes which upload a file is. A dry run's is none, unless it came before.
fn note_upload(outcome: &Outcome, dry_run: bool) {
    let record = match outcome {
        Outcome::Committed(record) | Outcome::Repeated(record) => record,
        Outcome::Rejected(record) if !dry_run => record,
        Outcome::Rejected(_) | Outcome::Checked(_) | Outcome::Replayed(_) => return,
    };
    note(|learned| {
        learned.object = Some(record.id.to_string());
        learned.lake_version = record.lake_version;
    });
}

/// The report of a dry run, which is no upload and has no id.
fn checked_json(record: &UploadRecord) -> Value {
    let mut body = upload_json(record);
    body["id"] = Value::Null;
    body["status"] = json!("checked");
    body["rejected_rows"] = Value::Null;
    body
}

/// The answer to a file that is refused for its content: what is wrong, where, and where all of it can be fetched.
fn rejected(record: &UploadRecord, dry_run: bool) -> Problem {
    let report = &record.report;
    let count = |name: &str| report["counts"][name].as_u64().unwrap_or_default();
    let first = &report["errors"][0];
    let (line, message) = (&first["line"], first["message"].as_str().unwrap_or_default());
    let detail = match (count("rejected"), count("read")) {
        (0, _) => format!("the file cannot be read; line {line}: {message}"),
        (bad, read) => {
            format!("{bad} of {read} rows are rejected, so nothing of the file was taken; line {line}: {message}")
        }
    };
    let mut problem = Problem::new(ErrorKind::Rejected, "upload_rejected", detail)
        .with("upload_status", if dry_run { "checked" } else { "rejected" })
        .with("counts", report["counts"].clone())
        .with("errors", report["errors"].clone())
        .with("warnings", report["warnings"].clone())
        .with("sha256", record.sha256.clone());
    if !dry_run {
        problem = problem
            .with("upload_id", record.id.as_str())
            .with("upload", format!("/v1/uploads/{}", record.id))
            .with("rejected_rows", rejected_rows_link(record));
    }
    problem
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Self {
        match &error {
            IngestError::TooLarge { .. } | IngestError::UnpacksTooLarge(_) => {
                Self::failure(error.kind(), "file_too_large", &error)
            }
            IngestError::Busy { .. } => Self::failure(error.kind(), "too_many_uploads", &error),
            IngestError::Interrupted(source) => interrupted(source),
            IngestError::CurrencyChanged => Self::failure(error.kind(), "currency_changed", &error),
            IngestError::Catalog(full @ CatalogError::TooMany { .. }) => {
                Self::failure(full.kind(), "limit_reached", full)
            }
            IngestError::Catalog(_) => Self::failure(error.kind(), "catalog", &error),
            IngestError::KeyInFlight => Self::failure(error.kind(), "idempotency_key_in_flight", &error),
            IngestError::KeyReused => Self::failure(error.kind(), "idempotency_key_reused", &error),
            IngestError::NoConnection => Self::not_found(),
            IngestError::NoUploads(ids) => no_uploads(ids.iter().map(ToString::to_string).collect()),
            IngestError::WrongStatus { uploads, .. } => {
                let ids: Vec<&str> = uploads.iter().map(|(id, _)| id.as_str()).collect();
                Self::failure(error.kind(), "upload_status", &error).with("uploads", ids)
            }
            IngestError::NotDeleted { upload, .. } => {
                Self::failure(error.kind(), "upload_status", &error).with("uploads", vec![upload.as_str()])
            }
            _ => Self::failure(error.kind(), "upload", &error),
        }
    }
}

/// Why a body did not come to its end.
fn interrupted(source: &io::Error) -> Problem {
    let inner = source.get_ref();
    match inner.and_then(|inner| inner.downcast_ref()) {
        Some(late @ AfterFile::Part(name)) => return invalid_parameter(name, late.to_string()),
        Some(late @ AfterFile::TooLong) => {
            return Problem::new(ErrorKind::TooLarge, "form_too_large", late.to_string());
        }
        None => {}
    }
    match inner.and_then(|inner| inner.downcast_ref()) {
        Some(Lost::Key | Lost::Share) => unauthenticated(),
        Some(Lost::Unknown(error)) => Problem::failure(error.kind(), "catalog", error),
        None => unreadable_body(source),
    }
}
