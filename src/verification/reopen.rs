//! Verdicts that would be others now: a file that came late, a correction, a deletion, or a connection that changed. They are opened
//! again and listed; a new run settles them. What was found before stays.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use chrono::{DateTime, Utc};

use super::{
    Verification, VerificationError, blocking,
    judge::{Inputs, judge},
    run::claims_of,
};
use crate::{
    catalog::{Project, Reopening, Standing},
    ids::{ProgrammeSlug, ProjectSlug, RunId},
    programmes::{ConnectionName, Outcome, Rule, Subject, Window},
};

/// What verdicts were last compared with: by programme and project, a mark that changes with whatever they depend on.
#[derive(Default)]
pub struct Seen(HashMap<(ProgrammeSlug, ProjectSlug), u64>);

/// What verdicts of several runs may have in common.
#[derive(PartialEq)]
struct Grounds {
    rule: Rule,
    /// Of a window that moves with as-of, which stays where it was.
    as_of: Option<DateTime<Utc>>,
}

impl Verification {
    /// Looks again and again, for as long as the server runs.
    pub async fn recheck_for_ever(&self) {
        let mut seen = Seen::default();
        loop {
            match self.recheck(&mut seen).await {
                Ok(0) => {}
                Ok(changed) => tracing::info!(changed, "verdicts are open again, or no longer"),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "verdicts could not be looked at again");
                }
            }
            tokio::time::sleep(self.config.recheck).await;
        }
    }

    /// Judges again what may have changed since it was seen, and notes what would be another verdict. Says of how many. A project that
    /// cannot be looked at holds up no other.
    pub async fn recheck(&self, seen: &mut Seen) -> Result<usize, VerificationError> {
        let (mut changed, mut claims) = (0, HashMap::new());
        for (programme, project, newest) in self.catalog.verified_projects().await? {
            if !claims.contains_key(&programme) {
                claims.insert(programme.clone(), self.catalog.claims_mark(&programme).await?);
            }
            let Some(project) = self.catalog.project(&project).await? else { continue };
            let mark = self.mark(&project, &newest, &claims[&programme]);
            let key = (programme, project.slug.clone());
            if seen.0.get(&key) == Some(&mark) {
                continue;
            }
            match self.recheck_project(&key.0, &project).await {
                Ok(reopened) => {
                    changed += reopened;
                    seen.0.insert(key, mark);
                }
                Err(error) => {
                    self.note_damage(&error);
                    let (programme, project) = (key.0.as_str(), key.1.as_str());
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(programme, project, error, "verdicts could not be looked at again");
                }
            }
        }
        Ok(changed)
    }

    fn mark(&self, project: &Project, newest: &RunId, claims: &str) -> u64 {
        let mut hash = DefaultHasher::new();
        (newest, claims, project.time_zone.name(), project.currency.as_str()).hash(&mut hash);
        for file in self.lake.snapshot().project_files(&project.slug) {
            file.path.hash(&mut hash);
        }
        hash.finish()
    }

    async fn recheck_project(&self, programme: &ProgrammeSlug, project: &Project) -> Result<usize, VerificationError> {
        let mut by_run: BTreeMap<RunId, BTreeMap<String, Standing>> = BTreeMap::new();
        for (id, standing) in self.catalog.standings(programme, &project.slug).await? {
            by_run.entry(standing.run.clone()).or_default().insert(id, standing);
        }
        let mut alike: Vec<(Grounds, BTreeMap<String, Standing>)> = Vec::new();
        for (id, standings) in by_run {
            let Some(run) = self.catalog.verification_run(programme, &id).await? else { continue };
            let as_of = matches!(run.rule.window, Window::BeforeAsOf { .. }).then_some(run.as_of);
            let grounds = Grounds { rule: run.rule, as_of };
            match alike.iter_mut().find(|(known, _)| *known == grounds) {
                Some((_, known)) => known.extend(standings),
                None => alike.push((grounds, standings)),
            }
        }
        let mut changes = Vec::new();
        for (grounds, standings) in alike {
            for (name, now) in self.outcomes_now(programme, grounds, project, &standings).await? {
                let Some(standing) = standings.get(&name.external_id) else { continue };
                let would_be = (now != standing.outcome).then_some(now);
                if would_be != standing.would_be {
                    changes.push(Reopening { name, run: standing.run.clone(), would_be });
                }
            }
        }
        if !changes.is_empty() {
            self.catalog.note_reopened(programme, &changes).await?;
        }
        Ok(changes.len())
    }

    /// What a run would find now of those that have verdicts.
    async fn outcomes_now(
        &self,
        programme: &ProgrammeSlug,
        Grounds { rule, as_of }: Grounds,
        project: &Project,
        standings: &BTreeMap<String, Standing>,
    ) -> Result<Vec<(ConnectionName, Outcome)>, VerificationError> {
        let all = self.catalog.submitted_subjects(programme).await?;
        let claims = claims_of(all.iter());
        let is_judged =
            |name: &ConnectionName| name.project == project.slug && standings.contains_key(&name.external_id);
        let subjects: Vec<_> = all.into_iter().filter(|subject| is_judged(&subject.name)).collect();
        let earlier = |subject: &Subject| Some((subject.name.clone(), claims.earlier(subject)?.clone()));
        let duplicates = subjects.iter().filter_map(earlier).collect();
        let (_, projects, _) = self.pin(vec![project.clone()]).await?;
        let until = Utc::now();
        let inputs = Inputs { rule, as_of: as_of.unwrap_or(until), until, subjects, duplicates, projects };
        let turn = self.turn().await?;
        let (lake, progress) = (Arc::clone(&self.lake), self.progress_of_one());
        let judged = blocking(move || {
            let verdicts = judge(&lake, &inputs, &progress);
            drop(turn);
            verdicts
        });
        Ok(judged.await?.into_iter().map(|verdict| (verdict.subject.name, verdict.outcome)).collect())
    }
}
