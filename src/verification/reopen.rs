//! Verdicts that would be others now: a file that came late, a correction, a deletion, or a connection that changed. They are opened
//! again and listed; a new run settles them. What was found before stays.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use chrono::Utc;

use super::{Inputs, Progress, Verification, VerificationError, blocking, judge};
use crate::{
    catalog::{Project, Reopening, Standing, VerificationRun},
    ids::{ProgrammeSlug, ProjectSlug, RunId},
    programmes::{Claims, ConnectionName, Outcome, Subject, Window},
};

/// What verdicts were last compared with: by programme and project, a mark that changes with whatever they depend on.
#[derive(Default)]
pub struct Seen(HashMap<(ProgrammeSlug, ProjectSlug), u64>);

impl Verification {
    /// Looks again and again, for as long as the server runs.
    pub async fn recheck_for_ever(&self) {
        let mut seen = Seen::default();
        loop {
            match self.recheck(&mut seen).await {
                Ok(0) => {}
                Ok(changed) => tracing::info!(changed, "verdicts are open again, or no longer"),
                Err(error) => {
                    self.note_damage(&error);
                    tracing::warn!(error = &error as &dyn std::error::Error, "verdicts could not be looked at again");
                }
            }
            tokio::time::sleep(self.config.recheck).await;
        }
    }

    /// Judges again what may have changed since it was seen, and notes what would be another verdict. Says of how many.
    pub async fn recheck(&self, seen: &mut Seen) -> Result<usize, VerificationError> {
        let mut changed = 0;
        for (programme, project, newest) in self.catalog.verified_projects().await? {
            let mark = self.mark(&project, &newest).await?;
            let key = (programme, project);
            if seen.0.get(&key) == Some(&mark) {
                continue;
            }
            changed += self.recheck_project(&key.0, &key.1).await?;
            seen.0.insert(key, mark);
        }
        Ok(changed)
    }

    async fn mark(&self, project: &ProjectSlug, newest: &RunId) -> Result<u64, VerificationError> {
        let mut hash = DefaultHasher::new();
        newest.hash(&mut hash);
        self.catalog.connections_mark(project).await?.hash(&mut hash);
        for file in self.lake.snapshot().project_files(project) {
            file.path.hash(&mut hash);
        }
        Ok(hash.finish())
    }

    async fn recheck_project(&self, programme: &ProgrammeSlug, slug: &ProjectSlug) -> Result<usize, VerificationError> {
        let Some(project) = self.catalog.project(slug).await? else { return Ok(0) };
        let mut by_run: BTreeMap<RunId, BTreeMap<String, Standing>> = BTreeMap::new();
        for (id, standing) in self.catalog.standings(programme, slug).await? {
            by_run.entry(standing.run.clone()).or_default().insert(id, standing);
        }
        let mut changes = Vec::new();
        for (id, standings) in by_run {
            let Some(run) = self.catalog.verification_run(programme, &id).await? else { continue };
            let outcomes = self.outcomes_now(&run, &project, &standings).await?;
            for (name, now) in outcomes {
                let Some(standing) = standings.get(&name.external_id) else { continue };
                let would_be = (now != standing.outcome).then_some(now);
                if would_be != standing.would_be {
                    changes.push(Reopening { name, would_be });
                }
            }
        }
        if !changes.is_empty() {
            self.catalog.note_reopened(programme, &changes).await?;
        }
        Ok(changes.len())
    }

    /// What a run would find now of those whose verdicts it gave.
    async fn outcomes_now(
        &self,
        run: &VerificationRun,
        project: &Project,
        standings: &BTreeMap<String, Standing>,
    ) -> Result<Vec<(ConnectionName, Outcome)>, VerificationError> {
        let all = self.catalog.submitted_subjects(&run.programme).await?;
        let mut claims = Claims::default();
        all.iter().for_each(|subject| claims.add(subject));
        let of_run = |name: &ConnectionName| name.project == project.slug && standings.contains_key(&name.external_id);
        let subjects: Vec<_> = all.into_iter().filter(|subject| of_run(&subject.name)).collect();
        let earlier = |subject: &Subject| Some((subject.name.clone(), claims.earlier(subject)?.clone()));
        let duplicates = subjects.iter().filter_map(earlier).collect();
        // A window that moves with as-of stays where it was; else what was paid or given back since counts too.
        let as_of = if matches!(run.rule.window, Window::BeforeAsOf { .. }) { run.as_of } else { Utc::now() };
        let (_, projects, _) = self.pin(vec![project.clone()]).await?;
        let inputs = Inputs { rule: run.rule.clone(), as_of, subjects, duplicates, projects };
        let turn = self.turns.acquire().await.map_err(|_| VerificationError::Stopped)?;
        let (lake, progress) = (Arc::clone(&self.lake), Progress::new(self.config.timeout, Vec::new()));
        let verdicts = blocking(move || judge(&lake, &inputs, &progress)).await?;
        drop(turn);
        Ok(verdicts.into_iter().map(|verdict| (verdict.subject.name, verdict.outcome)).collect())
    }
}
