//! `wattlake projects`.

use clap::Subcommand;

use super::{
    Failure,
    audit::Doing,
    orgs::named_by_flag,
    output::{say, say_json, say_table},
};
use crate::{
    audit::note,
    catalog::{Catalog, Project, ProjectText},
    error::ErrorKind,
};

#[derive(Subcommand)]
pub(super) enum Action {
    /// Make a project.
    Create {
        /// Its id in every URL and query: 1 to 63 of a-z, 0-9 and -. It never changes.
        #[arg(long)]
        slug: String,
        #[arg(long)]
        name: String,
        /// `mini_grid` or `shs`.
        #[arg(long)]
        kind: String,
        /// What its amounts are in: an ISO 4217 code, such as KES.
        #[arg(long)]
        currency: String,
        /// An IANA name, such as Africa/Nairobi.
        #[arg(long)]
        time_zone: String,
        /// An ISO 3166-1 code of two letters, such as KE.
        #[arg(long)]
        country: String,
        /// Whose it is. Needed where there are several organisations.
        #[arg(long, value_name = "SLUG")]
        organisation: Option<String>,
    },
    /// List all projects.
    List,
}

impl Action {
    /// Whether it only looks at what is there, so that a folder that is not there is a mistake.
    pub(super) fn only_reads(&self) -> bool {
        matches!(self, Self::List)
    }

    /// What it changes, for the audit log.
    pub(super) fn doing(&self) -> Option<Doing> {
        match self {
            Self::Create { slug, .. } => Some(Doing("project.create", Some(slug.clone()))),
            Self::List => None,
        }
    }

    pub(super) async fn run(self, catalog: &Catalog, json: bool) -> Result<(), Failure> {
        match self {
            Self::Create { slug, name, kind, currency, time_zone, country, organisation } => {
                let text = ProjectText {
                    slug: Some(slug),
                    name: Some(name),
                    kind: Some(kind),
                    currency: Some(currency),
                    time_zone: Some(time_zone),
                    country: Some(country),
                    organisation,
                };
                let new = text.into_new().map_err(|errors| {
                    let head = Failure::new(ErrorKind::Invalid, "the project cannot be made as described");
                    errors.into_iter().fold(head, |failure, error| {
                        failure.with_line(format!("--{}: {}", error.field.replace('_', "-"), error.message))
                    })
                })?;
                let project = catalog.create_project(new).await.map_err(named_by_flag)?;
                note(|learned| learned.projects = vec![project.slug.clone()]);
                if json { say_json(&project) } else { say(project.slug.as_str()) }
            }
            Self::List => {
                let projects = catalog.projects().await?;
                if json { say_json(&projects) } else { list(&projects) }
            }
        }
    }
}

fn list(projects: &[Project]) -> Result<(), Failure> {
    let rows: Vec<_> = projects
        .iter()
        .map(|project| {
            [
                project.slug.to_string(),
                project.organisation.to_string(),
                project.name.clone(),
                project.kind.to_string(),
                project.currency.to_string(),
                project.time_zone.name().to_owned(),
                project.country.to_string(),
            ]
        })
        .collect();
    say_table(["SLUG", "ORGANISATION", "NAME", "KIND", "CURRENCY", "TIME ZONE", "COUNTRY"], &rows)
}
