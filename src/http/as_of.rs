//! `as_of`: the lake as it was, for metrics and SQL alike.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use utoipa::{
    IntoParams,
    openapi::{
        Object, Required, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};

use super::{AppState, Problem, invalid_parameter, metrics::damaged, problem_types::Raises};
use crate::{
    access::Scope,
    catalog::UploadFacts,
    lake::{AsOf, AsOfError, Earlier, Finding, Snapshot},
};

/// The lake that a request is answered from: as it is, or as it was.
pub(super) struct LakeAt {
    pub(super) snapshot: std::sync::Arc<Snapshot>,
    /// Where it is as it was: when.
    earlier: Option<DateTime<Utc>>,
}

impl LakeAt {
    /// The lake as a request asks for it, for what is in its scope.
    pub(super) async fn of(state: &AppState, as_of: Option<AsOf>, scope: &Scope) -> Result<Self, Problem> {
        let Some(as_of) = as_of else { return Ok(Self { snapshot: state.lake.snapshot(), earlier: None }) };
        let Earlier { snapshot, at } = state.lake.as_of(as_of, scope.projects()).await?;
        Ok(Self { snapshot, earlier: Some(at) })
    }

    pub(super) fn is_earlier(&self) -> bool {
        self.earlier.is_some()
    }

    /// What days are counted back from.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.earlier.unwrap_or_else(Utc::now)
    }

    /// The uploads of the scope's projects.
    pub(super) async fn uploads(&self, state: &AppState, scope: &Scope) -> Result<Vec<UploadFacts>, Problem> {
        let projects: BTreeSet<_> = scope.projects().cloned().collect();
        Ok(match self.earlier {
            None => state.catalog.upload_facts(&projects).await?,
            Some(at) => state.catalog.upload_facts_of(&projects, self.snapshot.version, at).await?,
        })
    }

    /// Files that this needs are not as they were written. Those of the lake as it is are repaired; of earlier versions there is
    /// nothing to repair from.
    pub(super) fn found(&self, state: &AppState, findings: &[Finding]) -> Problem {
        if !self.is_earlier() {
            state.lake.found(findings);
            return damaged(findings);
        }
        let newest = state.lake.snapshot();
        let current: BTreeSet<&str> = newest.files().map(|file| file.path.as_str()).collect();
        if findings.iter().all(|finding| finding.path().is_some_and(|path| !current.contains(path))) {
            for finding in findings {
                tracing::error!(%finding, "a file of an earlier version of the lake");
            }
            let detail = format!("files of version {} of the lake are lost or damaged", self.snapshot.version);
            return Problem::new(crate::error::ErrorKind::Gone, "version_not_kept", detail);
        }
        state.lake.found(findings);
        damaged(findings)
    }
}

impl From<AsOfError> for Problem {
    fn from(error: AsOfError) -> Self {
        match error {
            AsOfError::NoSuchVersion { .. } | AsOfError::Future | AsOfError::BeforeAll => {
                invalid_parameter("as_of", format!("as_of: {error}"))
            }
            AsOfError::NotKept { .. } => Self::new(error.kind(), "version_not_kept", error.to_string()),
            AsOfError::Lake(error) => Self::failure(error.kind(), "unavailable", &error),
        }
    }
}

/// What a question about the lake as it was can come to.
pub(super) struct OfEarlier;

impl Raises for OfEarlier {
    fn codes() -> Vec<&'static str> {
        vec!["version_not_kept", "shared_as_it_is", "data_damaged"]
    }
}

/// The `as_of` of an operation.
pub(super) struct AsOfParameter;

impl IntoParams for AsOfParameter {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let about = "The lake as it was: in a version, by its number, or at an instant with its offset. Versions are kept for \
                     `lake.retention_days`; of shared projects there is nothing, because their owner may have taken back what was there. Names of projects, and connections, are those of \
                     today, and the scope is that of the key now.";
        let parameter = ParameterBuilder::new()
            .name("as_of")
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(about))
            .schema(Some(Object::with_type(Type::String)));
        vec![parameter.build()]
    }
}
