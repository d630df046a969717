//! `wattlake orgs`.

use clap::Subcommand;

use super::{
    Failure,
    audit::Doing,
    output::{say, say_json, say_table},
};
use crate::{
    access::Principal,
    catalog::{Catalog, CatalogError, MAX_RECORDS, Organisation, checked_name},
    error::ErrorKind,
    ids::OrganisationSlug,
};

#[derive(Subcommand)]
pub(super) enum Action {
    /// Make an organisation.
    Create {
        /// Its id in every URL and query: 1 to 63 of a-z, 0-9 and -. It never changes.
        #[arg(long)]
        slug: OrganisationSlug,
        #[arg(long, value_parser = checked_name)]
        name: String,
    },
    /// List all organisations.
    List,
    /// Give an organisation another name.
    Rename {
        slug: OrganisationSlug,
        #[arg(long, value_parser = checked_name)]
        name: String,
    },
}

impl Action {
    /// Whether it only looks at what is there, so that a folder that is not there is a mistake.
    pub(super) fn only_reads(&self) -> bool {
        !matches!(self, Self::Create { .. })
    }

    /// What it changes, for the audit log.
    pub(super) fn doing(&self) -> Option<Doing> {
        match self {
            Self::Create { slug, .. } => Some(Doing("organisation.create", Some(slug.to_string()))),
            Self::Rename { slug, .. } => Some(Doing("organisation.update", Some(slug.to_string()))),
            Self::List => None,
        }
    }

    pub(super) async fn run(self, catalog: &Catalog, json: bool) -> Result<(), Failure> {
        match self {
            Self::Create { slug, name } => {
                let made = catalog.create_organisation(slug, name).await?;
                if json { say_json(&made) } else { say(made.slug.as_str()) }
            }
            Self::List => {
                // Whoever has the data folder runs the server.
                let all = catalog.organisations(&Principal::admin(""), None, MAX_RECORDS).await?.items;
                if json { say_json(&all) } else { list(&all) }
            }
            Self::Rename { slug, name } => {
                let renamed = catalog.rename_organisation(&slug, &name).await?;
                if json { say_json(&renamed) } else { say(&format!("{slug} is {} now", renamed.name)) }
            }
        }
    }
}

fn list(organisations: &[Organisation]) -> Result<(), Failure> {
    let rows: Vec<_> = organisations
        .iter()
        .map(|organisation| {
            let made = organisation.created_at.format("%Y-%m-%d %H:%M").to_string();
            [organisation.slug.to_string(), organisation.name.clone(), made]
        })
        .collect();
    say_table(["SLUG", "NAME", "CREATED (UTC)"], &rows)
}

/// A failure to make something for which an organisation had to be named, in the words of the flags.
pub(super) fn named_by_flag(error: CatalogError) -> Failure {
    let CatalogError::OrganisationNeeded(slugs) = &error else { return error.into() };
    let slugs: Vec<&str> = slugs.iter().map(OrganisationSlug::as_str).collect();
    let failure = Failure::new(ErrorKind::Invalid, &error.to_string());
    failure.with_line(format!("--organisation is one of {}", slugs.join(", ")))
}
