//! `wattlake shares`.

use chrono::{DateTime, Utc};
use clap::Subcommand;

use super::{
    Failure,
    audit::Doing,
    keys::Span,
    output::{say, say_json, say_table},
};
use crate::{
    access::{Detail, MonthRange},
    audit::note,
    catalog::{Catalog, NewShare, Share},
    error::ErrorKind,
    ids::{Month, OrganisationSlug, ProjectSlug, ShareId},
};

#[derive(Subcommand)]
pub(super) enum Action {
    /// Share whole months of a project with another organisation.
    Create {
        #[arg(long, value_name = "SLUG")]
        project: ProjectSlug,
        /// The organisation that is shown it.
        #[arg(long, value_name = "SLUG")]
        recipient: OrganisationSlug,
        /// The first month in UTC, such as 2026-05; without it, all before are shown too.
        #[arg(long, value_name = "MONTH")]
        from: Option<Month>,
        /// The last month in UTC; without it, those to come are shown too.
        #[arg(long, value_name = "MONTH")]
        to: Option<Month>,
        /// How much is shown of a payment: full.
        #[arg(long)]
        detail: Detail,
        /// What both sides read.
        #[arg(long, default_value = "")]
        note: String,
        /// How long it holds, such as 90d or 12h; until it is revoked where it is not said.
        #[arg(long, value_name = "TIME")]
        expires_in: Option<Span>,
    },
    /// List shares, the newest first; those that ended too.
    List {
        /// Those of one project.
        #[arg(long, value_name = "SLUG")]
        project: Option<ProjectSlug>,
    },
    /// Revoke a share: the recipient's next question does not find it.
    Revoke { id: ShareId },
}

impl Action {
    /// Whether it only looks at what is there, so that a folder that is not there is a mistake.
    pub(super) fn only_reads(&self) -> bool {
        !matches!(self, Self::Create { .. })
    }

    /// What it changes, for the audit log.
    pub(super) fn doing(&self) -> Option<Doing> {
        match self {
            Self::Create { .. } => Some(Doing("share.create", None)),
            Self::Revoke { id } => Some(Doing("share.revoke", Some(id.to_string()))),
            Self::List { .. } => None,
        }
    }

    pub(super) async fn run(self, catalog: &Catalog, json: bool) -> Result<(), Failure> {
        match self {
            Self::Create { project, recipient, from, to, detail, note, expires_in } => {
                let wrong = |told: String| Failure::new(ErrorKind::Invalid, &format!("--note: {told}"));
                let note = catalog.checked_note(&note).map_err(wrong)?;
                let months = MonthRange { from, to };
                let expires_at = expires_in.map(Span::ends_at);
                let new = NewShare { project, recipient, months, detail, note, expires_at, created_by: None };
                let share = catalog.create_share(new).await?;
                learn(&share);
                if json { say_json(&share) } else { say(share.id.as_str()) }
            }
            Self::List { project } => {
                let shares = catalog.shares_of(project.as_ref(), None, catalog.limits().shares).await?.items;
                if json { say_json(&shares) } else { list(&shares) }
            }
            Self::Revoke { id } => {
                let share = catalog.revoke_share(&id).await?;
                learn(&share);
                let told = || format!("{} no longer shows {} to {}", share.id, share.project, share.recipient);
                if json { say_json(&share) } else { say(&told()) }
            }
        }
    }
}

/// Whose project it is about, for the audit log.
fn learn(share: &Share) {
    note(|learned| {
        learned.object = Some(share.id.to_string());
        learned.projects = vec![share.project.clone()];
    });
}

fn list(shares: &[Share]) -> Result<(), Failure> {
    let or_none = |at: Option<DateTime<Utc>>| at.map_or("-".to_owned(), |at| at.format("%Y-%m-%d %H:%M").to_string());
    let or_open = |month: Option<Month>| month.map_or("open".to_owned(), |month| month.to_string());
    let rows: Vec<_> = shares
        .iter()
        .map(|share| {
            [
                share.id.to_string(),
                share.project.to_string(),
                share.recipient.to_string(),
                or_open(share.months_from),
                or_open(share.months_to),
                share.detail.to_string(),
                or_none(share.expires_at),
                or_none(share.revoked_at),
            ]
        })
        .collect();
    say_table(["SHARE", "PROJECT", "RECIPIENT", "FROM", "TO", "DETAIL", "EXPIRES (UTC)", "REVOKED"], &rows)
}
