//! `wattlake audit`, which reads the audit log of a data folder, and the entries of commands that change what is in one.

use chrono::{DateTime, SecondsFormat, Utc};
use clap::Subcommand;

use super::{
    Failure,
    output::{note as tell, say, say_json},
    table::{Align, table},
};
use crate::{
    audit::{Learned, Trail},
    catalog::{AuditActor, AuditCursor, AuditEntry, AuditFilter, AuditOutcome, AuditRecord, Catalog, MAX_PAGE},
    ids::{ProjectSlug, ShareId},
};

/// Entries that a list has, unless it is said otherwise.
const DEFAULT_LIMIT: usize = 50;

#[derive(Subcommand)]
pub(super) enum Action {
    /// List entries, the newest first.
    List {
        /// Of one key alone: the eight letters after wl_.
        #[arg(long, value_name = "PREFIX")]
        key: Option<String>,
        /// Of the keys of one organisation alone.
        #[arg(long, value_name = "SLUG")]
        organisation: Option<String>,
        /// Of one project alone.
        #[arg(long, value_name = "SLUG")]
        project: Option<ProjectSlug>,
        /// Of one action alone, such as upload.delete.
        #[arg(long)]
        action: Option<String>,
        /// At or after an instant, such as 2024-05-01T00:00:00Z.
        #[arg(long, value_name = "INSTANT")]
        from: Option<DateTime<Utc>>,
        /// Before an instant.
        #[arg(long, value_name = "INSTANT")]
        to: Option<DateTime<Utc>>,
        /// How many at most.
        #[arg(long, default_value_t = DEFAULT_LIMIT, value_name = "NUMBER")]
        limit: usize,
    },
}

impl Action {
    pub(super) async fn run(self, catalog: &Catalog, json: bool) -> Result<(), Failure> {
        let Self::List { key, organisation, project, action, from, to, limit } = self;
        let projects = project.map(|project| [project].into());
        let filter = AuditFilter { key, organisation, projects, action, from, to, view: None };
        let (mut entries, mut more) = (Vec::<AuditRecord>::new(), true);
        while more && entries.len() < limit {
            let wanted = u32::try_from(limit - entries.len()).unwrap_or(MAX_PAGE).min(MAX_PAGE);
            let page = catalog.audit(&filter, entries.last().map(AuditCursor::of), wanted).await?;
            more = page.more;
            entries.extend(page.items);
        }
        if json {
            return say_json(&serde_json::json!({ "entries": entries, "more": more }));
        }
        let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
        say(&table(&COLUMNS, &rows).join("\n"))?;
        if more {
            tell("there are older entries; --limit shows more");
        }
        Ok(())
    }
}

const COLUMNS: [(&str, Align); 9] = [
    ("SEQ", Align::Right),
    ("AT (UTC)", Align::Left),
    ("WHO", Align::Left),
    ("ACTION", Align::Left),
    ("OBJECT", Align::Left),
    ("PROJECTS", Align::Left),
    ("SHARES", Align::Left),
    ("OUTCOME", Align::Left),
    ("ROWS", Align::Right),
];

/// An entry under [`COLUMNS`].
fn row(entry: &AuditRecord) -> Vec<String> {
    vec![
        entry.seq.to_string(),
        entry.at.to_rfc3339_opts(SecondsFormat::Millis, true),
        entry.key.clone().unwrap_or_else(|| entry.actor.clone()),
        entry.action.clone(),
        entry.object.clone().unwrap_or_else(|| "-".to_owned()),
        first(entry.projects.iter().take(3).map(ProjectSlug::as_str), entry.project_count),
        first(entry.shares.iter().take(1).map(ShareId::as_str), entry.share_count),
        entry.status.map_or_else(|| entry.outcome.clone(), |status| status.to_string()),
        entry.rows.map_or_else(|| "-".to_owned(), |rows| rows.to_string()),
    ]
}

/// The first of so many, and how many more there are.
fn first<'a>(shown: impl Iterator<Item = &'a str>, count: usize) -> String {
    let shown: Vec<&str> = shown.collect();
    match (shown.len(), count - shown.len()) {
        (0, _) => "-".to_owned(),
        (_, 0) => shown.join(","),
        (_, further) => format!("{} and {further} more", shown.join(",")),
    }
}

/// What a command is about to do: the action, and what it does it to where that is known.
pub(super) struct Doing(pub(super) &'static str, pub(super) Option<String>);

/// Does the work of a command. Where it changes something, the log says so before it is begun, and what came of it afterwards.
pub(super) async fn recorded<T>(
    catalog: &Catalog,
    doing: Option<Doing>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let Some(Doing(action, object)) = doing else { return work.await };
    let trail = Trail::of(Learned { object, ..Learned::default() });
    let entry = |outcome| {
        let Learned { object, projects, parameters, lake_version, .. } = trail.learned();
        let entry = AuditEntry::new(AuditActor::CommandLine, action, outcome);
        AuditEntry { object, projects, parameters, lake_version, ..entry }
    };
    catalog.append_audit(&[entry(AuditOutcome::Begun)]).await?;
    let done = trail.follow(work).await;
    let outcome = if done.is_ok() { AuditOutcome::Done } else { AuditOutcome::Failed };
    catalog.append_audit(&[entry(outcome)]).await?;
    done
}
