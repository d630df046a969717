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
    run::Pinned,
};
use crate::{
    catalog::{Project, Reopening, Standing},
    ids::{ProgrammeSlug, ProjectSlug, RunId},
    programmes::{ConnectionName, Outcome, Rule, Subject, Window, duplicates},
};

/// What verdicts were last compared with.
#[derive(Default)]
pub struct Seen {
    /// By programme and project, a mark that changes with whatever its verdicts depend on.
    projects: HashMap<(ProgrammeSlug, ProjectSlug), u64>,
    /// By programme, a mark of everything that was submitted, and what of it is each project's.
    programmes: HashMap<ProgrammeSlug, (String, HashMap<ProjectSlug, u64>)>,
}

/// What was submitted to a programme.
struct Submitted {
    subjects: Vec<Subject>,
    same: HashMap<ConnectionName, ConnectionName>,
}

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
        let (mut changed, mut loaded) = (0, None);
        for (programme, project, runs) in self.catalog.verified_projects().await? {
            let Some(project) = self.catalog.project(&project).await? else { continue };
            let mark = self.catalog.claims_mark(&programme).await?;
            if seen.programmes.get(&programme).is_none_or(|(known, _)| *known != mark) {
                let submitted = self.submitted(&programme, &mut loaded).await?;
                seen.programmes.insert(programme.clone(), (mark, marks_of(submitted)));
            }
            let of_project = seen.programmes.get(&programme).and_then(|(_, marks)| marks.get(&project.slug));
            let mark = self.mark(&project, &runs, of_project.copied());
            let key = (programme, project.slug.clone());
            if seen.projects.get(&key) == Some(&mark) {
                continue;
            }
            let submitted = self.submitted(&key.0, &mut loaded).await?;
            match self.recheck_project(&key.0, &project, submitted).await {
                Ok(reopened) => {
                    changed += reopened;
                    seen.projects.insert(key, mark);
                }
                Err(error) => {
                    self.note_damage(&error);
                    let (programme, slug) = (key.0.as_str(), key.1.as_str());
                    let told = &error as &dyn std::error::Error;
                    tracing::warn!(programme, project = slug, error = told, "verdicts could not be looked at again");
                    // What took too long takes too long again, until something changes.
                    if matches!(error, VerificationError::TooLong { .. }) {
                        seen.projects.insert(key, mark);
                    }
                }
            }
        }
        Ok(changed)
    }

    /// What was submitted to a programme: read once for all projects that follow one another.
    async fn submitted<'a>(
        &self,
        programme: &ProgrammeSlug,
        loaded: &'a mut Option<(ProgrammeSlug, Submitted)>,
    ) -> Result<&'a Submitted, VerificationError> {
        if loaded.as_ref().is_none_or(|(of, _)| of != programme) {
            let subjects = self.catalog.submitted_subjects(programme).await?;
            let sorted = blocking(move || {
                let same = duplicates(subjects.iter());
                Ok(Submitted { subjects, same })
            });
            *loaded = Some((programme.clone(), sorted.await?));
        }
        loaded.as_ref().map(|(_, submitted)| submitted).ok_or(VerificationError::Stopped)
    }

    fn mark(&self, project: &Project, runs: &str, submitted: Option<u64>) -> u64 {
        let mut hash = DefaultHasher::new();
        (runs, submitted, project.time_zone.name(), project.currency.as_str()).hash(&mut hash);
        for file in self.lake.snapshot().project_files(&project.slug) {
            file.path.hash(&mut hash);
        }
        hash.finish()
    }

    async fn recheck_project(
        &self,
        programme: &ProgrammeSlug,
        project: &Project,
        submitted: &Submitted,
    ) -> Result<usize, VerificationError> {
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
            for (name, now) in self.outcomes_now(grounds, project, submitted, &standings).await? {
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
        Grounds { rule, as_of }: Grounds,
        project: &Project,
        submitted: &Submitted,
        standings: &BTreeMap<String, Standing>,
    ) -> Result<Vec<(ConnectionName, Outcome)>, VerificationError> {
        let is_judged = |subject: &&Subject| {
            subject.name.project == project.slug && standings.contains_key(&subject.name.external_id)
        };
        let subjects: Vec<Subject> = submitted.subjects.iter().filter(is_judged).cloned().collect();
        let same = |subject: &Subject| Some((subject.name.clone(), submitted.same.get(&subject.name)?.clone()));
        let duplicates = subjects.iter().filter_map(same).collect();
        let Pinned { projects, .. } = self.pin(vec![project.clone()]).await?;
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

/// By project, a mark of what was submitted of it, and of what is the same.
fn marks_of(Submitted { subjects, same }: &Submitted) -> HashMap<ProjectSlug, u64> {
    let mut marks: HashMap<ProjectSlug, DefaultHasher> = HashMap::new();
    for subject in subjects {
        let hash = marks.entry(subject.name.project.clone()).or_default();
        (&subject.name, &subject.connected_on, subject.is_there, same.get(&subject.name)).hash(hash);
    }
    marks.into_iter().map(|(project, hash)| (project, hash.finish())).collect()
}
