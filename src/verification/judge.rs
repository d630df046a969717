//! The verdicts on some connections: by the rows of a version of the lake, or by those of the uploads that made it up.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::{VerificationError, case::Case, progress::Progress};
use crate::{
    ids::{ProjectSlug, UploadId},
    lake::{FileRows, Lake, LiveUpload, Snapshot, folded_rows},
    payments::near_meters::NearMeters,
    programmes::{ConnectionName, Facts, Paid, Rule, Subject, Verdict, decide},
};

/// Meters that a verdict names as likely meant, at most.
const NEAR_MISSES: usize = 3;

/// All that verdicts depend on.
pub(super) struct Inputs {
    pub(super) rule: Rule,
    /// Windows end with it.
    pub(super) as_of: DateTime<Utc>,
    /// What was given back before it is taken off; payments after as-of count for nothing else.
    pub(super) until: DateTime<Utc>,
    /// What is judged.
    pub(super) subjects: Vec<Subject>,
    /// Those of them that are the same as others which count before them, each with that one.
    pub(super) duplicates: HashMap<ConnectionName, ConnectionName>,
    pub(super) projects: Vec<ProjectInputs>,
}

/// A project of which connections are judged.
pub(super) struct ProjectInputs {
    pub(super) project: ProjectSlug,
    pub(super) time_zone: Tz,
    pub(super) currency: String,
    /// Those that make up its rows.
    pub(super) uploads: Vec<UploadId>,
    pub(super) rows: Rows,
    pub(super) hints: Hints,
}

/// Where rows are read.
pub(super) enum Rows {
    Version(Arc<Snapshot>),
    Uploads(Vec<LiveUpload>),
}

/// From where it is known which meters were likely meant.
pub(super) enum Hints {
    /// It is not known.
    None,
    /// Of the meters of payments, those that are none of these connections.
    Without(HashSet<String>),
    /// As it was when the verdicts were given: connections have no history, and a hint is no evidence.
    Kept(HashMap<String, Vec<String>>),
}

/// The verdicts, in the order of projects and ids. Blocks.
pub(super) fn judge(lake: &Lake, inputs: &Inputs, progress: &Progress) -> Result<Vec<Verdict>, VerificationError> {
    let mut rows = Vec::new();
    let mut of_project: HashMap<&ProjectSlug, Vec<&Subject>> = HashMap::new();
    for subject in &inputs.subjects {
        of_project.entry(&subject.name.project).or_default().push(subject);
    }
    for project in &inputs.projects {
        progress.check()?;
        let files = files_of(lake, project)?;
        progress.expect(files.iter().map(FileRows::rows).sum());
        rows.push(files);
    }
    let mut verdicts = Vec::with_capacity(inputs.subjects.len());
    for (project, files) in inputs.projects.iter().zip(rows) {
        let subjects = of_project.remove(&project.project).unwrap_or_default();
        verdicts.extend(judge_project(inputs, project, &subjects, &files, progress)?);
    }
    verdicts.sort_by(|a, b| a.subject.name.cmp(&b.subject.name));
    Ok(verdicts)
}

/// The files with the rows of a project.
pub(super) fn files_of(lake: &Lake, project: &ProjectInputs) -> Result<Vec<FileRows>, VerificationError> {
    Ok(match &project.rows {
        Rows::Version(snapshot) => lake.rows_of(snapshot, &project.project)?,
        Rows::Uploads(live) => folded_rows(live)?,
    })
}

fn judge_project(
    inputs: &Inputs,
    project: &ProjectInputs,
    subjects: &[&Subject],
    files: &[FileRows],
    progress: &Progress,
) -> Result<Vec<Verdict>, VerificationError> {
    let case = Case::new(inputs, project.time_zone, subjects);
    let found = case.read(files, &project.uploads, progress)?;
    let hints = hints(project, subjects, &found.paid, found.unmatched);
    let verdict = |(slot, (subject, paid)): (usize, (&&Subject, Paid))| {
        let subject = *subject;
        let window = case.window(slot);
        let duplicate_of = inputs.duplicates.get(&subject.name).cloned();
        let near_misses = hints.get(&subject.name.external_id).cloned().unwrap_or_default();
        let facts = Facts {
            subject,
            currency: &project.currency,
            window,
            paid: &paid,
            duplicate_of: duplicate_of.as_ref(),
            near_misses: &near_misses,
        };
        let (outcome, detail) = decide(&inputs.rule, &facts);
        let (subject, currency) = (subject.clone(), project.currency.clone());
        Verdict { subject, outcome, detail, window, currency, paid, duplicate_of, near_misses }
    };
    Ok(subjects.iter().zip(found.paid).enumerate().map(verdict).collect())
}

/// By the ids of connections that no payment names, the meters that were likely meant.
fn hints(
    project: &ProjectInputs,
    subjects: &[&Subject],
    paid: &[Paid],
    unmatched: BTreeSet<String>,
) -> BTreeMap<String, Vec<String>> {
    let silent = subjects.iter().zip(paid).filter(|(subject, paid)| paid.payments == 0 && subject.is_there);
    let silent: Vec<&String> = silent.map(|(subject, _)| &subject.name.external_id).collect();
    let connected = match &project.hints {
        Hints::None => return BTreeMap::new(),
        Hints::Without(connected) => connected,
        Hints::Kept(kept) => {
            return silent.into_iter().filter_map(|id| Some((id.clone(), kept.get(id)?.clone()))).collect();
        }
    };
    let meters: Vec<String> = unmatched.into_iter().filter(|meter| !connected.contains(meter)).collect();
    if silent.is_empty() || meters.is_empty() {
        return BTreeMap::new();
    }
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    // Either side may be the one that a spreadsheet has changed.
    let near_meters = NearMeters::of(meters.iter());
    for id in &silent {
        for meter in near_meters.find(id).map_or(Vec::new(), |(meters, ..)| meters) {
            found.entry((*id).clone()).or_default().insert(meter.to_owned());
        }
    }
    let near_ids = NearMeters::of(silent.into_iter());
    for meter in &meters {
        for id in near_ids.find(meter).map_or(Vec::new(), |(ids, ..)| ids) {
            found.entry(id.to_owned()).or_default().insert(meter.clone());
        }
    }
    found.into_iter().map(|(id, meters)| (id, meters.into_iter().take(NEAR_MISSES).collect())).collect()
}
