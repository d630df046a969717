//! `wattlake programmes`.

use std::{fs, path::Path, str::FromStr};

use chrono::{DateTime, Utc};
use clap::Subcommand;

use super::{
    Failure,
    audit::Doing,
    orgs::named_by_flag,
    output::{say, say_json, say_table},
};
use crate::{
    access::Principal,
    audit::note,
    catalog::{
        Catalog, CatalogError, Enrolment, MAX_RECORDS, NewEnrolment, NewProgramme, Programme, ProgrammeChange,
        ProgrammeError, ProgrammeVersion, checked_name,
    },
    error::ErrorKind,
    ids::{OrganisationSlug, ProgrammeSlug, ProjectSlug},
    programmes::{DISCLOSES, Rule, checked_columns},
};

#[derive(Subcommand)]
pub(super) enum Action {
    /// Make a programme.
    Create {
        /// Its id in every URL: 1 to 63 of a-z, 0-9 and -. It never changes.
        #[arg(long)]
        slug: ProgrammeSlug,
        #[arg(long)]
        name: String,
        /// Who administers it. Needed where there are several organisations.
        #[arg(long, value_name = "SLUG")]
        organisation: Option<OrganisationSlug>,
        /// The rule of verification: JSON, or @ and the name of a file with it.
        #[arg(long, value_name = "JSON|@FILE")]
        rule: RuleText,
        /// A column that files of the projects which take part must have, such as STATUS. May be repeated.
        #[arg(long, value_name = "COLUMN")]
        require: Vec<String>,
        /// An organisation that may see it and enrol projects. May be repeated.
        #[arg(long, value_name = "SLUG")]
        invite: Vec<OrganisationSlug>,
    },
    /// List programmes.
    List,
    /// Show a programme with its newest terms, or others.
    Get {
        programme: ProgrammeSlug,
        #[arg(long, value_name = "NUMBER")]
        version: Option<u32>,
    },
    /// Change a programme: what is not said stays. Another rule, or other columns, are the next version of its terms.
    Update {
        programme: ProgrammeSlug,
        #[arg(long)]
        name: Option<String>,
        #[arg(long, value_name = "JSON|@FILE")]
        rule: Option<RuleText>,
        /// All columns that it asks for. May be repeated.
        #[arg(long, value_name = "COLUMN")]
        require: Vec<String>,
        /// It asks for no columns any more.
        #[arg(long, conflicts_with = "require")]
        require_nothing: bool,
        /// All organisations that it invites. May be repeated.
        #[arg(long, value_name = "SLUG")]
        invite: Vec<OrganisationSlug>,
        /// It invites nobody any more.
        #[arg(long, conflicts_with = "invite")]
        invite_nobody: bool,
    },
    /// List the versions of a programme's terms, the newest first.
    Versions { programme: ProgrammeSlug },
    /// List the projects that take part in a programme, those that were withdrawn too.
    Enrolments { programme: ProgrammeSlug },
    /// Enrol a project, which its organisation has consented to.
    Enrol {
        programme: ProgrammeSlug,
        #[arg(long, value_name = "SLUG")]
        project: ProjectSlug,
        /// Of the terms, as they were read.
        #[arg(long, value_name = "NUMBER")]
        version: u32,
        /// That its organisation consents to what the project then shares. Without it, that is shown and nothing is done.
        #[arg(long)]
        consent: bool,
    },
    /// Withdraw a project: the programme is shown nothing more of it.
    Withdraw {
        programme: ProgrammeSlug,
        #[arg(long, value_name = "SLUG")]
        project: ProjectSlug,
    },
}

/// A rule as it is written, or where it is.
#[derive(Clone, Debug)]
pub(super) struct RuleText(Rule);

impl FromStr for RuleText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = match text.strip_prefix('@') {
            Some(path) => &fs::read_to_string(Path::new(path)).map_err(|error| format!("{path}: {error}"))?,
            None => text,
        };
        let rule: Rule = serde_json::from_str(read).map_err(|error| format!("it is no rule: {error}"))?;
        rule.check().map_err(|(field, message)| format!("{field}: {message}"))?;
        Ok(Self(rule))
    }
}

impl Action {
    /// Whether it only looks at what is there, so that a folder that is not there is a mistake.
    pub(super) fn only_reads(&self) -> bool {
        !matches!(self, Self::Create { .. })
    }

    /// What it changes, for the audit log.
    pub(super) fn doing(&self) -> Option<Doing> {
        let doing = |action, programme: &ProgrammeSlug| Some(Doing(action, Some(programme.to_string())));
        match self {
            Self::Create { slug, .. } => doing("programme.create", slug),
            Self::Update { programme, .. } => doing("programme.update", programme),
            Self::Enrol { programme, consent: true, .. } => doing("enrolment.create", programme),
            Self::Withdraw { programme, .. } => doing("enrolment.withdraw", programme),
            Self::Enrol { .. } | Self::List | Self::Get { .. } | Self::Versions { .. } | Self::Enrolments { .. } => {
                None
            }
        }
    }

    pub(super) async fn run(self, catalog: &Catalog, json: bool) -> Result<(), Failure> {
        match self {
            Self::Create { slug, name, organisation, rule, require, invite } => {
                let new = NewProgramme {
                    slug,
                    organisation,
                    name: named(&name)?,
                    required_columns: columns(&require)?,
                    rule: rule.0,
                    invited: invite,
                    created_by: None,
                };
                let made = catalog.create_programme(new).await.map_err(named_by_flag)?;
                if json { say_json(&made) } else { say(made.slug.as_str()) }
            }
            Self::List => {
                let all = catalog.programmes_page(&Principal::admin(""), None, MAX_RECORDS).await?.items;
                if json { say_json(&all) } else { list(&all) }
            }
            Self::Get { programme: slug, version } => show(&found(catalog, slug, version).await?, json),
            Self::Update { programme, name, rule, require, require_nothing, invite, invite_nobody } => {
                let change = ProgrammeChange {
                    name: name.as_deref().map(named).transpose()?,
                    required_columns: (require_nothing || !require.is_empty())
                        .then(|| columns(&require))
                        .transpose()?,
                    rule: rule.map(|rule| rule.0),
                    invited: (invite_nobody || !invite.is_empty()).then_some(invite),
                    changed_by: None,
                };
                show(&catalog.update_programme(&programme, change).await?, json)
            }
            Self::Versions { programme } => {
                let slug = found(catalog, programme, None).await?.slug;
                let versions = catalog.programme_versions(&slug, None, MAX_RECORDS).await?.items;
                if json {
                    return say_json(&versions);
                }
                let row = |terms: &ProgrammeVersion| {
                    let columns = terms.required_columns.join(", ");
                    [terms.version.to_string(), minute(terms.created_at), columns, text_of(&terms.rule)]
                };
                let rows: Vec<_> = versions.iter().map(row).collect();
                say_table(["VERSION", "MADE (UTC)", "COLUMNS", "RULE"], &rows)
            }
            Self::Enrolments { programme } => {
                let slug = found(catalog, programme, None).await?.slug;
                let all = catalog.enrolments_page(&slug, None, None, MAX_RECORDS).await?.items;
                if json { say_json(&all) } else { list_enrolments(&all) }
            }
            Self::Enrol { consent: false, .. } => Err(no_consent()),
            Self::Enrol { programme, project, version, .. } => {
                note(|learned| learned.projects = vec![project.clone()]);
                let new = NewEnrolment { programme, project, version, enrolled_by: None };
                let (enrolment, _) = catalog.enrol(new).await?;
                let Enrolment { programme, project, version, .. } = &enrolment;
                let told = || format!("{project} takes part in {programme}, by version {version} of its terms");
                if json { say_json(&enrolment) } else { say(&told()) }
            }
            Self::Withdraw { programme, project } => {
                note(|learned| learned.projects = vec![project.clone()]);
                let enrolment = catalog.withdraw_enrolment(&programme, &project).await?;
                let told = || format!("{programme} is shown nothing more of {project}; what it verified stays");
                if json { say_json(&enrolment) } else { say(&told()) }
            }
        }
    }
}

fn named(name: &str) -> Result<String, Failure> {
    checked_name(name).map_err(|told| Failure::new(ErrorKind::Invalid, &format!("--name: {told}")))
}

fn columns(names: &[String]) -> Result<Vec<String>, Failure> {
    checked_columns(names).map_err(|told| Failure::new(ErrorKind::Invalid, &format!("--require: {told}")))
}

/// The programme with its newest terms, or those of a version.
async fn found(catalog: &Catalog, slug: ProgrammeSlug, version: Option<u32>) -> Result<Programme, Failure> {
    let programme = catalog.programme(&slug).await?;
    let programme = programme.ok_or_else(|| CatalogError::from(ProgrammeError::Missing(slug)))?;
    let Some(version) = version else { return Ok(programme) };
    let terms = catalog.programme_version(&programme.slug, version).await?;
    let missing = || {
        let told = format!("{} has no version {version}; {} is the newest", programme.slug, programme.version);
        Failure::new(ErrorKind::NotFound, &told)
    };
    let terms = terms.ok_or_else(missing)?;
    Ok(programme.with_terms(terms))
}

/// What a project would share, for who has not consented to it.
fn no_consent() -> Failure {
    let head = Failure::new(ErrorKind::Rejected, "to enrol a project is to consent, with --consent, that it shares");
    DISCLOSES.iter().fold(head, |failure, disclosed| {
        failure.with_line(format!("{}: {}. {}", disclosed.of, disclosed.fields.join(", "), disclosed.about))
    })
}

fn show(programme: &Programme, json: bool) -> Result<(), Failure> {
    if json {
        return say_json(programme);
    }
    let none_or = |texts: Vec<String>| if texts.is_empty() { "-".to_owned() } else { texts.join(", ") };
    let invited = programme.invited.iter().map(ToString::to_string).collect();
    let lines = [
        format!("{}: {}", programme.slug, programme.name),
        format!("organisation: {}", programme.organisation),
        format!("version: {}, of {} UTC", programme.version, minute(programme.version_created_at)),
        format!("required columns: {}", none_or(programme.required_columns.clone())),
        format!("rule: {}", text_of(&programme.rule)),
        format!("invited: {}", none_or(invited)),
    ];
    say(&lines.join("\n"))
}

fn text_of(rule: &Rule) -> String {
    serde_json::to_string(rule).unwrap_or_default()
}

fn minute(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M").to_string()
}

fn list(programmes: &[Programme]) -> Result<(), Failure> {
    let row = |programme: &Programme| {
        [
            programme.slug.to_string(),
            programme.organisation.to_string(),
            programme.version.to_string(),
            programme.invited.len().to_string(),
            programme.name.clone(),
        ]
    };
    let rows: Vec<_> = programmes.iter().map(row).collect();
    say_table(["PROGRAMME", "ORGANISATION", "VERSION", "INVITED", "NAME"], &rows)
}

fn list_enrolments(enrolments: &[Enrolment]) -> Result<(), Failure> {
    let row = |enrolment: &Enrolment| {
        [
            enrolment.project.to_string(),
            enrolment.organisation.to_string(),
            enrolment.version.to_string(),
            minute(enrolment.enrolled_at),
            enrolment.withdrawn_at.map_or("-".to_owned(), minute),
        ]
    };
    let rows: Vec<_> = enrolments.iter().map(row).collect();
    say_table(["PROJECT", "ORGANISATION", "VERSION", "ENROLLED (UTC)", "WITHDRAWN"], &rows)
}
