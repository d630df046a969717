//! RFC 9457 problem details: the one form of every error answer.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};

use super::{
    fields::wrong_fields,
    found_programmes::of_programme,
    problem_types::{self, MEDIA_TYPE},
};
use crate::{
    catalog::{CatalogError, FieldError},
    error::ErrorKind,
    ids::OrganisationSlug,
};

/// An error answer. `code` is stable and becomes the problem's `type`; `detail` is for people, and fit for outsiders.
#[derive(Debug)]
pub struct Problem {
    status: u16,
    code: &'static str,
    detail: String,
    members: Map<String, Value>,
}

impl Problem {
    #[must_use]
    pub fn new(kind: ErrorKind, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status: kind.http_status(), code, detail: detail.into(), members: Map::new() }
    }

    /// The path is there and the method is not. It is not an [`ErrorKind`], because nothing but HTTP has it.
    #[must_use]
    pub fn wrong_method(detail: impl Into<String>) -> Self {
        Self { status: 405, code: "wrong_method", detail: detail.into(), members: Map::new() }
    }

    /// The `Accept` header leaves no form that there is. It is not an [`ErrorKind`], because nothing but HTTP has it.
    #[must_use]
    pub fn not_acceptable(detail: impl Into<String>) -> Self {
        Self { status: 406, code: "not_acceptable", detail: detail.into(), members: Map::new() }
    }

    /// The body of the request stopped coming. It is not an [`ErrorKind`], because nothing but HTTP has it.
    #[must_use]
    pub fn slow_body(detail: impl Into<String>) -> Self {
        Self { status: 408, code: "body_timeout", detail: detail.into(), members: Map::new() }
    }

    /// The last part of its `type`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// What is answered, as JSON.
    #[must_use]
    pub(super) fn to_json(&self) -> Value {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = json!({
            "type": format!("/problems/{}", self.code),
            "title": problem_types::title(status),
            "status": status.as_u16(),
            "detail": self.detail,
        });
        if let Value::Object(object) = &mut body {
            object.extend(self.members.clone());
        }
        body
    }

    /// Adds a member beside the standard ones, such as `errors` or `allowed`.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// A defect of ours: the chain goes to the log, once; the caller gets the request id from the header and no more.
    pub fn internal(error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::error!(error = chain(error), "internal error");
        Self::unexplained()
    }

    /// A defect of ours that was logged where it was found.
    #[must_use]
    pub fn unexplained() -> Self {
        Self::new(
            ErrorKind::Internal,
            "internal",
            "something failed on our side; quote the x-request-id of this answer",
        )
    }

    /// A failure on our side of any kind: the chain goes to the log, once; the caller learns what to do about the kind.
    ///
    /// For an error that is the caller's doing, its own message is the detail.
    pub fn failure(kind: ErrorKind, code: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        match kind {
            ErrorKind::Internal => Self::internal(error),
            ErrorKind::StorageFull => {
                tracing::error!(error = chain(error), "the disk is full");
                Self::new(kind, "storage_full", "the server's disk is full; nothing was changed, try again later")
            }
            ErrorKind::Unavailable => {
                tracing::error!(error = chain(error), "unavailable");
                Self::new(kind, "unavailable", "the server cannot reach its storage now; try again in a moment")
            }
            ErrorKind::NotFound => Self::not_found(),
            _ => Self::new(kind, code, error.to_string()),
        }
    }

    /// What an absent project, upload or metric answers, and a foreign one, byte for byte.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(ErrorKind::NotFound, "not_found", "there is nothing here, or nothing that this key may see")
    }

    /// The same for a project that a parameter names. It quotes nothing, so absent and foreign stay one answer.
    #[must_use]
    pub fn no_project() -> Self {
        let detail =
            "there is no such project, or none that this key may see; GET /v1/projects lists those that it may";
        Self::new(ErrorKind::NotFound, "not_found", detail).with("parameter", "project")
    }

    /// The same for an organisation that a body names.
    #[must_use]
    pub fn no_organisation() -> Self {
        let detail = "there is no such organisation, or none that this key may see; GET /v1/organisations lists those that it may";
        Self::new(ErrorKind::NotFound, "not_found", detail).with("parameter", "organisation")
    }
}

/// An error and its sources, on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// A field of a share that the catalogue does not take.
fn of_field(field: &str, error: &CatalogError) -> Problem {
    wrong_fields("invalid_share", vec![FieldError { field: field.to_owned(), message: error.to_string() }])
}

impl From<CatalogError> for Problem {
    fn from(error: CatalogError) -> Self {
        let code = match &error {
            CatalogError::OrganisationMissing(_) => return Self::no_organisation(),
            CatalogError::OrganisationNeeded(slugs) => {
                let slugs: Vec<&str> = slugs.iter().map(OrganisationSlug::as_str).collect();
                let detail = format!("{error}: organisation is one of {}", slugs.join(", "));
                return Self::new(error.kind(), "organisation_needed", detail).with("allowed", slugs);
            }
            CatalogError::Programme(error) => return of_programme(error),
            CatalogError::RecipientMissing(_) => {
                let detail = "there is no organisation of this name to share with; its own keys, and whoever runs the server, know its slug";
                return Self::new(error.kind(), "not_found", detail).with("parameter", "recipient");
            }
            CatalogError::SharedWithOwner(_) => return of_field("recipient", &error),
            CatalogError::NoMonths => return of_field("months_to", &error),
            CatalogError::ShareRevoked(_) => "share_revoked",
            CatalogError::OrganisationExists(_) => "organisation_exists",
            CatalogError::KeyEnded { .. } => "key_ended",
            CatalogError::AdminOfOrganisation => "invalid_key",
            CatalogError::ProjectExists(_) => "project_exists",
            CatalogError::CurrencyFixed(_) => "currency_fixed",
            CatalogError::ConnectionsMissing(_) => "connections_missing",
            CatalogError::AlreadySubmitted(_) => "already_submitted",
            CatalogError::NotTakingPart => "not_enrolled",
            CatalogError::NotPayable(_) => "not_payable",
            CatalogError::TooMany { .. } => "limit_reached",
            _ => "catalog",
        };
        Self::failure(error.kind(), code, &error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // A problem that callers cannot look up is a defect; a test that meets it says so.
        let described = problem_types::problem(self.code).is_some_and(|described| described.status == self.status);
        debug_assert!(described, "{} with status {} is not in the table of problems", self.code, self.status);
        let mut response = (status, Json(self.to_json())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
