//! A run: what is asked for, what of it is judged and by what, and its way to verdicts on disk.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, SubsecRound, Utc};
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::{
    Verification, VerificationError, blocking,
    judge::{Hints, Inputs, ProjectInputs, Rows, judge},
    progress::Progress,
    verdicts,
};
use crate::{
    catalog::{Project, RunEnd, RunProject, RunState, VerificationRun},
    ids::{OrganisationSlug, ProgrammeSlug, ProjectSlug, RunId},
    lake::LakeError,
    programmes::{ConnectionName, Outcome, Rule, Selection, Subject, Verdict, duplicates},
};

/// A project that takes part in a programme.
#[derive(Clone, Debug)]
pub struct Enrolled {
    pub project: Project,
    /// Of the terms that were consented to.
    pub version: u32,
}

/// A verification that is asked for.
#[derive(Clone, Debug)]
pub struct RunRequest {
    pub programme: ProgrammeSlug,
    pub rule: Rule,
    /// The version of the programme's terms that has the rule; none where another one is tried out.
    pub rule_version: Option<u32>,
    pub dry_run: bool,
    /// Whether connections are looked at that were not submitted; a dry run of their own organisation alone does.
    pub with_drafts: bool,
    /// The enrolled projects that may be looked at.
    pub projects: Vec<Project>,
    /// Those that may not, because they consented to terms with another rule.
    pub other_terms: Vec<ProjectSlug>,
    /// What of them; all where there is none.
    pub selection: Option<Selection>,
    pub as_of: DateTime<Utc>,
    /// The start of the key that asks.
    pub started_by: String,
    pub organisation: Option<OrganisationSlug>,
}

/// Projects at one version of the lake.
pub(super) struct Pinned {
    pub(super) lake_version: u64,
    pub(super) projects: Vec<ProjectInputs>,
    /// What the catalogue is told of them.
    told: Vec<RunProject>,
    /// As long as they are held, nothing of the projects changes.
    locks: Vec<OwnedMutexGuard<()>>,
}

impl Verification {
    /// The projects that are enrolled in a programme: all, or those of one organisation.
    pub async fn enrolled(
        &self,
        programme: &ProgrammeSlug,
        of: Option<&OrganisationSlug>,
    ) -> Result<Vec<Enrolled>, VerificationError> {
        let mut enrolled = Vec::new();
        for enrolment in self.catalog.enrolled_projects(programme).await? {
            if of.is_none_or(|of| *of == enrolment.organisation) {
                let project = self.catalog.project(&enrolment.project).await?;
                enrolled.extend(project.map(|project| Enrolled { project, version: enrolment.version }));
            }
        }
        Ok(enrolled)
    }

    /// Begins a run, which goes on when nobody waits for it.
    ///
    /// # Errors
    /// [`VerificationError::Busy`], [`VerificationError::Nothing`], [`VerificationError::NotThere`],
    /// [`VerificationError::TooMany`].
    pub async fn start(self: &Arc<Self>, request: RunRequest) -> Result<VerificationRun, VerificationError> {
        let progress = self.progress_of_one();
        let id = RunId::new();
        let place = self.place(&id, &progress, request.dry_run)?;
        let (subjects, same) = self.subjects(&request).await?;
        progress.tell(subjects.iter().map(|subject| subject.name.clone()).collect());
        // As they are kept, so that a replay goes by the same.
        let (as_of, started_at) = (request.as_of.trunc_subsecs(6), Utc::now().trunc_subsecs(6));
        let of = subjects.iter().map(|subject| &subject.name.project).collect::<BTreeSet<_>>();
        let projects: Vec<Project> =
            request.projects.iter().filter(|project| of.contains(&project.slug)).cloned().collect();
        let Pinned { lake_version, projects, told, locks } = self.pin(projects).await?;
        let run = VerificationRun {
            id,
            programme: request.programme,
            state: RunState::Running,
            dry_run: request.dry_run,
            rule_version: request.rule_version,
            rule: request.rule.clone(),
            other_terms: request.other_terms,
            as_of,
            lake_version,
            selection: request.selection,
            started_by: Some(request.started_by),
            organisation: request.organisation,
            started_at,
            ended_at: None,
            connections: None,
            outcomes: None,
            sha256: None,
            failure: None,
        };
        let inputs = Inputs { rule: request.rule, as_of, until: started_at, subjects, duplicates: same, projects };
        let (verification, started) = (self.clone(), run.clone());
        // What the catalogue knows of is executed, also where nobody waits for the answer any more.
        let (begun, is_begun) = oneshot::channel();
        self.tasks.spawn(async move {
            let result = verification.catalog.begin_run(&started, &told).await;
            // From here on, an upload that it rests on is not erased unasked.
            drop(locks);
            let goes_on = result.is_ok();
            let _ = begun.send(result);
            if goes_on {
                verification.execute(started, inputs, progress).await;
            }
            drop(place);
        });
        is_begun.await.map_err(|_| VerificationError::Stopped)??;
        Ok(run)
    }

    /// What is judged of a request, in the order of names, and what is the same as another one that counts.
    async fn subjects(
        &self,
        request: &RunRequest,
    ) -> Result<(Vec<Subject>, HashMap<ConnectionName, ConnectionName>), VerificationError> {
        let all = self.catalog.submitted_subjects(&request.programme).await?;
        let mut drafts: Vec<Subject> = Vec::new();
        if request.with_drafts {
            let last = all.iter().map(|subject| subject.turn).max().unwrap_or_default();
            for project in &request.projects {
                let turn = last + drafts.len() as u64;
                drafts.extend(self.catalog.draft_subjects(&request.programme, &project.slug, turn).await?);
            }
        }
        let enrolled: HashSet<ProjectSlug> = request.projects.iter().map(|project| project.slug.clone()).collect();
        let sorted = blocking(move || {
            let is_enrolled = |subject: &&Subject| enrolled.contains(&subject.name.project);
            let mut same = duplicates(all.iter());
            if !drafts.is_empty() {
                // What was not submitted is compared with what is the caller's own: it is not told who else has the same device.
                let own = duplicates(all.iter().filter(is_enrolled).chain(&drafts));
                let of_draft = |draft: &Subject| Some((draft.name.clone(), own.get(&draft.name)?.clone()));
                same.extend(drafts.iter().filter_map(of_draft));
            }
            let mut subjects: Vec<Subject> =
                all.into_iter().chain(drafts).filter(|subject| is_enrolled(&subject)).collect();
            subjects.sort_by(|a, b| a.name.cmp(&b.name));
            Ok((subjects, same))
        });
        let (mut subjects, same) = sorted.await?;
        if let Some(selection) = &request.selection {
            let there = |name: &ConnectionName| subjects.binary_search_by(|subject| subject.name.cmp(name)).is_ok();
            let missing: Vec<_> = selection.connections.iter().filter(|name| !there(name)).cloned().collect();
            if !missing.is_empty() {
                return Err(VerificationError::NotThere(missing));
            }
            subjects.retain(|subject| selection.has(&subject.name));
        }
        if subjects.is_empty() {
            let what = if request.with_drafts { "is in an enrolled project" } else { "was submitted" };
            return Err(VerificationError::Nothing { what, other_terms: request.other_terms.clone() });
        }
        if subjects.len() > self.config.max_connections as usize {
            let (count, limit) = (subjects.len(), self.config.max_connections as usize);
            return Err(VerificationError::TooMany { count, limit });
        }
        Ok((subjects, same))
    }

    /// The projects at one version of the lake, with the uploads that make them up at that version.
    pub(super) async fn pin(&self, mut projects: Vec<Project>) -> Result<Pinned, VerificationError> {
        projects.sort_by(|a, b| a.slug.cmp(&b.slug));
        let mut locks = Vec::new();
        for project in &projects {
            // Who changes a project holds its lock from the catalogue's row to the lake's commit.
            locks.push(self.lake.lock(&project.slug).await);
        }
        self.ingest.settle_projects(&projects.iter().map(|project| project.slug.clone()).collect()).await?;
        let incomplete = self.lake.incomplete(projects.iter().map(|project| &project.slug));
        if !incomplete.is_empty() {
            return Err(LakeError::Damaged(incomplete).into());
        }
        let snapshot = self.lake.snapshot();
        let (mut inputs, mut told) = (Vec::new(), Vec::new());
        for project in projects {
            let live = self.catalog.live_uploads(&project.slug, None).await?;
            told.push(RunProject {
                project: project.slug.clone(),
                time_zone: project.time_zone,
                uploads: live.iter().map(|upload| (upload.id.clone(), upload.sha256.clone())).collect(),
            });
            inputs.push(ProjectInputs {
                project: project.slug,
                time_zone: project.time_zone,
                currency: project.currency.as_str().to_owned(),
                uploads: live.into_iter().map(|upload| upload.id).collect(),
                rows: Rows::Version(Arc::clone(&snapshot)),
                hints: Hints::None,
            });
        }
        Ok(Pinned { lake_version: snapshot.version, projects: inputs, told, locks })
    }

    async fn execute(self: &Arc<Self>, run: VerificationRun, inputs: Inputs, progress: Arc<Progress>) {
        if let Err(error) = self.try_execute(&run, inputs, progress).await {
            self.note_damage(&error);
            let told = error.told();
            tracing::warn!(run = run.id.as_str(), error = &error as &dyn std::error::Error, "a verification failed");
            match self.catalog.fail_run(&run.id, &told).await {
                Ok(true) => self.remove_kept(vec![run.id.clone()]).await,
                // It has ended after all.
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(run = run.id.as_str(), %error, "the catalogue does not know that a verification failed");
                }
            }
        }
        if run.dry_run {
            let keep = self.config.dry_runs;
            match self.catalog.forget_dry_runs(&run.programme, run.organisation.as_ref(), keep).await {
                Ok(forgotten) => self.remove_kept(forgotten).await,
                Err(error) => tracing::warn!(%error, "dry runs stay that could be forgotten"),
            }
        }
    }

    async fn try_execute(
        self: &Arc<Self>,
        run: &VerificationRun,
        mut inputs: Inputs,
        progress: Arc<Progress>,
    ) -> Result<(), VerificationError> {
        let turn = self.turn().await?;
        let enrolled = self.catalog.enrolled_projects(&run.programme).await?;
        let enrolled: HashSet<ProjectSlug> = enrolled.into_iter().map(|enrolment| enrolment.project).collect();
        // Who left while it waited is left out.
        inputs.projects.retain(|project| enrolled.contains(&project.project));
        inputs.subjects.retain(|subject| enrolled.contains(&subject.name.project));
        if inputs.projects.is_empty() {
            return Err(VerificationError::Left);
        }
        for project in &mut inputs.projects {
            let connected = self.catalog.connection_ids(&project.project).await?;
            project.hints = Hints::Without(connected.into_iter().collect());
        }
        let (lake, path) = (self.lake.clone(), self.path(&run.id));
        let judged = blocking(move || {
            let verdicts = judge(&lake, &inputs, &progress)?;
            let csv = verdicts::to_csv(&verdicts)?;
            verdicts::keep(&path, &csv)?;
            Ok((verdicts, verdicts::fingerprint(&csv)))
        });
        let (verdicts, sha256) = judged.await?;
        let mut outcomes: BTreeMap<Outcome, u64> = BTreeMap::new();
        for verdict in &verdicts {
            *outcomes.entry(verdict.outcome).or_default() += 1;
        }
        let settled = |verdict: Verdict| (verdict.subject.name, verdict.outcome);
        let connections = verdicts.len() as u64;
        let settled: Vec<_> = if run.dry_run { Vec::new() } else { verdicts.into_iter().map(settled).collect() };
        self.catalog.end_run(run, &RunEnd { connections, outcomes, sha256 }, &settled).await?;
        drop(turn);
        Ok(())
    }
}
