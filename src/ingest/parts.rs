//! The rows of an upload project by project: staged, counted and placed. An upload to one project has one part.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Ingest, IngestError, UploadRequest, Work, blocking,
    check::Checked,
    manifest::Told,
    report::Report,
    routes::{Divider, Part},
    stage::{self, Staged},
};
use crate::{
    catalog::UploadRecord,
    ids::{ChangeId, ProjectSlug},
    lake::{self, LakeFile, StagedFile},
};

impl Ingest {
    /// Divides the good rows among the projects, and stages those of each. They show connections as these are now, so that most
    /// staged files can be linked; what changes until they are is made up for then.
    pub(super) async fn stage_parts(
        &self,
        request: &UploadRequest,
        record: &UploadRecord,
        checked: Checked,
        work: &Work,
    ) -> Result<Staged, IngestError> {
        let told = Told::of(request);
        let mut meters = Vec::with_capacity(told.len());
        for Told { project, default_site, .. } in &told {
            meters.push(self.meters(project).await?.with_upload(&record.id, default_site));
        }
        let folder = work.folder.clone();
        blocking(move || {
            let routing = checked.routing;
            let mut divider = Divider::new(&told, routing.as_deref());
            let projects: Vec<ProjectSlug> = told.iter().map(|told| told.project.clone()).collect();
            let shown = divider.parts(checked.rows.into_batches()?).map(|part| {
                let Part { project, rows } = part?;
                Ok(Part { project, rows: meters[project].shown_in(rows)? })
            });
            let staged = stage::stage(shown, &folder, &projects)?;
            if routing.is_some() {
                divider.into_routes().write(&folder).map_err(IngestError::io("keeping where rows went"))?;
            }
            Ok(staged)
        })
        .await
    }

    /// Counts what the rows of an upload over several projects would have been. They are staged for that, and not kept.
    pub(super) async fn count_parts(
        &self,
        request: &UploadRequest,
        record: &UploadRecord,
        checked: Checked,
        report: &mut Report,
        work: &Work,
    ) -> Result<(), IngestError> {
        let staged = self.stage_parts(request, record, checked, work).await?;
        report.months = months_of(&staged);
        let (lake, snapshot, folder) = (self.lake.clone(), self.lake.snapshot(), work.folder.clone());
        let counted = blocking(move || {
            let count = |(project, staged): (&ProjectSlug, &Vec<StagedFile>)| {
                Ok(lake::count_staged(lake.root(), &snapshot, project, staged)?)
            };
            let counted = staged.iter().map(count).collect::<Result<Vec<_>, IngestError>>();
            folder.discard_accepted().map_err(IngestError::io("removing rows that are not kept"))?;
            counted
        });
        for placement in counted.await.map_err(|error| self.noted(error))? {
            report.place(&placement);
        }
        Ok(())
    }

    /// Places the rows of each project, for one change. Where that fails, what was placed is removed.
    pub(super) async fn place_parts(
        &self,
        change: &ChangeId,
        staged: Staged,
        report: &mut Report,
    ) -> Result<(Vec<Arc<LakeFile>>, Vec<LakeFile>), IngestError> {
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        for (project, files) in staged {
            let (lake, snapshot, change) = (self.lake.clone(), self.lake.snapshot(), change.clone());
            let meters = self.meters(&project).await;
            let placed = match meters {
                Ok(meters) => {
                    let place = move || Ok(lake::place(lake.root(), &snapshot, &project, &change, &files, &meters)?);
                    blocking(place).await
                }
                Err(error) => Err(error),
            };
            match placed {
                Ok(placement) => {
                    report.place(&placement);
                    removed.extend(placement.removed);
                    added.extend(placement.added);
                }
                Err(error) => {
                    self.lake.discard(&added);
                    return Err(self.noted(error));
                }
            }
        }
        Ok((removed, added))
    }
}

/// The months in which staged rows are.
pub(super) fn months_of(staged: &Staged) -> Vec<String> {
    let months: BTreeSet<_> = staged.values().flatten().map(|staged| staged.month).collect();
    months.iter().map(ToString::to_string).collect()
}
