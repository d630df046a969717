//! A run judged again, by what it went by: the version of the lake, where that is kept whole, else the uploads that made it up.

use std::sync::Arc;

use super::{
    EvidenceSource, Verification, VerificationError, blocking,
    judge::{Hints, Inputs, ProjectInputs, Rows, judge},
    progress::Progress,
    verdicts,
};
use crate::{
    catalog::{RunProject, VerificationRun},
    ids::{ProjectSlug, RunId, UploadId},
    lake::{AsOf, AsOfError, LakeError, LiveUpload},
    programmes::Verdict,
};

/// A run that was judged again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    pub same: bool,
    /// Of the verdicts as CSV, in hexadecimal.
    pub sha256: String,
    pub source: EvidenceSource,
}

impl Verification {
    /// Judges everything that a run judged again, by what it went by: says whether the verdicts are the same to the byte, and
    /// whether they were read from the lake as it was or from the uploads.
    ///
    /// # Errors
    /// [`VerificationError::EvidenceGone`] where uploads are erased that it takes; [`VerificationError::Busy`].
    pub async fn replay(self: &Arc<Self>, run: &VerificationRun) -> Result<Replay, VerificationError> {
        let progress = self.progress_of_one();
        let _place = self.place(&RunId::new(), &progress, true)?;
        let before = self.verdicts(run, |_| true, usize::MAX).await?;
        match self.replay_from(run, &before, EvidenceSource::Lake, &progress).await {
            // A file that an earlier version alone has may be lost; the uploads still have its rows.
            Err(VerificationError::Lake(LakeError::Damaged(_))) => {
                self.replay_from(run, &before, EvidenceSource::Uploads, &progress).await
            }
            other => other,
        }
    }

    async fn replay_from(
        &self,
        run: &VerificationRun,
        before: &[Verdict],
        from: EvidenceSource,
        progress: &Arc<Progress>,
    ) -> Result<Replay, VerificationError> {
        let (projects, source) = self.rows_then(run, before, None, from).await?;
        let duplicates =
            before.iter().filter_map(|verdict| Some((verdict.subject.name.clone(), verdict.duplicate_of.clone()?)));
        let inputs = Inputs {
            rule: run.rule.clone(),
            as_of: run.as_of,
            until: run.started_at,
            duplicates: duplicates.collect(),
            subjects: before.iter().map(|verdict| verdict.subject.clone()).collect(),
            projects,
        };
        let turn = self.turn().await?;
        let (lake, progress) = (self.lake.clone(), Arc::clone(progress));
        let judged = blocking(move || {
            let csv = verdicts::to_csv(&judge(&lake, &inputs, &progress)?)?;
            drop(turn);
            Ok(hex::encode(verdicts::fingerprint(&csv)))
        });
        let sha256 = judged.await?;
        Ok(Replay { same: run.sha256.as_ref() == Some(&sha256), sha256, source })
    }

    /// The rows that a run looked at, of one project or all: of the version of the lake, where that is kept whole, else of the uploads.
    pub(super) async fn rows_then(
        &self,
        run: &VerificationRun,
        before: &[Verdict],
        only: Option<&ProjectSlug>,
        from: EvidenceSource,
    ) -> Result<(Vec<ProjectInputs>, EvidenceSource), VerificationError> {
        let mut projects = self.catalog.run_projects(&run.id).await?;
        projects.retain(|project| only.is_none_or(|only| project.project == *only));
        let slugs = projects.iter().map(|project| &project.project);
        let version = match from {
            EvidenceSource::Uploads => None,
            EvidenceSource::Lake => match self.lake.as_of(AsOf::Version(run.lake_version), slugs).await {
                Ok(earlier) => Some(earlier.snapshot),
                Err(
                    AsOfError::NotKept { .. }
                    | AsOfError::NoSuchVersion { .. }
                    | AsOfError::Lake(LakeError::Damaged(_)),
                ) => None,
                Err(error) => return Err(error.into()),
            },
        };
        let source = if version.is_some() { EvidenceSource::Lake } else { EvidenceSource::Uploads };
        let mut inputs = Vec::new();
        for RunProject { project, time_zone, uploads } in projects {
            let uploads: Vec<UploadId> = uploads.into_iter().map(|(upload, _)| upload).collect();
            let rows = match &version {
                Some(snapshot) => Rows::Version(Arc::clone(snapshot)),
                None => Rows::Uploads(self.live_then(&project, &uploads).await?),
            };
            let of_project = before.iter().filter(|verdict| verdict.subject.name.project == project);
            let currency = of_project.clone().next().map(|verdict| verdict.currency.clone()).unwrap_or_default();
            let kept =
                of_project.map(|verdict| (verdict.subject.name.external_id.clone(), verdict.near_misses.clone()));
            let hints = Hints::Kept(kept.filter(|(_, meters)| !meters.is_empty()).collect());
            inputs.push(ProjectInputs { project, time_zone, currency, uploads, rows, hints });
        }
        Ok((inputs, source))
    }

    /// The staged rows of uploads that made up a project.
    async fn live_then(
        &self,
        project: &ProjectSlug,
        uploads: &[UploadId],
    ) -> Result<Vec<LiveUpload>, VerificationError> {
        let gone = self.ingest.erased(uploads).await?;
        if !gone.is_empty() {
            return Err(VerificationError::EvidenceGone(gone));
        }
        Ok(self.ingest.uploads_of(project, uploads).await?)
    }
}
