//! Projects: what a payment belongs to, and which of them a caller may see.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::{Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Catalog, CatalogError, CountryCode, CurrencyCode, MAX_RECORDS, Page, enrolments::check_new_currency, from_micros,
    now, organisations::owner_of_new, read, sql,
};
use crate::{
    access::{ProjectOwner, Scope},
    ids::{OrganisationSlug, ProjectSlug},
};

/// One project, as the catalogue holds it and the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Project {
    /// Never changes: it is a partition value of the lake.
    pub slug: ProjectSlug,
    /// Whose it is. Never changes either.
    pub organisation: OrganisationSlug,
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    pub kind: ProjectKind,
    /// What its amounts are in. Fixed from the first upload on.
    pub currency: CurrencyCode,
    /// An IANA time zone: the default of its metrics' `tz`.
    #[serde(serialize_with = "as_name")]
    #[schema(value_type = String, example = "Africa/Nairobi")]
    pub time_zone: Tz,
    pub country: CountryCode,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: DateTime<Utc>,
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: DateTime<Utc>,
}

impl Project {
    #[must_use]
    pub fn owner(&self) -> ProjectOwner {
        ProjectOwner { project: self.slug.clone(), organisation: self.organisation.clone() }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn as_name<S: Serializer>(zone: &Tz, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(zone.name())
}

/// What a project sells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProjectKind {
    /// Electricity from sites with meters.
    MiniGrid,
    /// Solar home systems.
    Shs,
}

impl ProjectKind {
    pub const NAMES: [&'static str; 2] = ["mini_grid", "shs"];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MiniGrid => "mini_grid",
            Self::Shs => "shs",
        }
    }
}

impl FromStr for ProjectKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "mini_grid" => Ok(Self::MiniGrid),
            "shs" => Ok(Self::Shs),
            _ => Err(format!("{text:?} is not a kind of project; the kinds are {}", Self::NAMES.join(", "))),
        }
    }
}

impl fmt::Display for ProjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A project to be made. [`super::ProjectText`] makes one from what a person sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewProject {
    pub slug: ProjectSlug,
    pub name: String,
    pub kind: ProjectKind,
    pub currency: CurrencyCode,
    pub time_zone: Tz,
    pub country: CountryCode,
    /// Where none is named and there is one only, it is that.
    pub organisation: Option<OrganisationSlug>,
}

/// What to change of a project; `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectChange {
    pub name: Option<String>,
    pub kind: Option<ProjectKind>,
    pub currency: Option<CurrencyCode>,
    pub time_zone: Option<Tz>,
    pub country: Option<CountryCode>,
}

const SELECT_ONE: &str = "SELECT * FROM projects WHERE slug = ?";

#[derive(sqlx::FromRow)]
struct Row {
    slug: String,
    organisation: String,
    name: String,
    kind: String,
    currency: String,
    time_zone: String,
    country: String,
    created_at: i64,
    updated_at: i64,
}

impl TryFrom<Row> for Project {
    type Error = CatalogError;

    fn try_from(row: Row) -> Result<Self, CatalogError> {
        Ok(Self {
            slug: read("project's slug", &row.slug)?,
            organisation: read("project's organisation", &row.organisation)?,
            name: row.name,
            kind: read("project's kind", &row.kind)?,
            currency: read("project's currency", &row.currency)?,
            time_zone: read("project's time zone", &row.time_zone)?,
            country: read("project's country", &row.country)?,
            created_at: from_micros(row.created_at),
            updated_at: from_micros(row.updated_at),
        })
    }
}

impl Catalog {
    /// Makes a project.
    ///
    /// # Errors
    /// [`CatalogError::ProjectExists`] if the slug is taken, [`CatalogError::OrganisationMissing`],
    /// [`CatalogError::OrganisationNeeded`]; [`CatalogError::TooMany`] at [`MAX_RECORDS`].
    pub async fn create_project(&self, new: NewProject) -> Result<Project, CatalogError> {
        let failed = || sql("create a project");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let count: u32 =
            sqlx::query_scalar("SELECT count(*) FROM projects").fetch_one(&mut *tx).await.map_err(failed())?;
        if count >= MAX_RECORDS {
            return Err(CatalogError::TooMany { what: "projects", limit: MAX_RECORDS });
        }
        let NewProject { slug, name, kind, currency, time_zone, country, organisation } = new;
        let organisation = owner_of_new(&mut tx, organisation).await?;
        let at = now();
        let inserted = sqlx::query("INSERT INTO projects VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
            .bind(slug.as_str())
            .bind(organisation.as_str())
            .bind(&name)
            .bind(kind.as_str())
            .bind(currency.as_str())
            .bind(time_zone.name())
            .bind(country.as_str())
            .bind(at.timestamp_micros())
            .bind(at.timestamp_micros())
            .execute(&mut *tx)
            .await;
        match inserted {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                return Err(CatalogError::ProjectExists(slug));
            }
            other => other.map_err(failed())?,
        };
        tx.commit().await.map_err(failed())?;
        let (created_at, updated_at) = (at, at);
        Ok(Project { slug, organisation, name, kind, currency, time_zone, country, created_at, updated_at })
    }

    /// The project, whoever asks.
    pub async fn project(&self, slug: &ProjectSlug) -> Result<Option<Project>, CatalogError> {
        let row: Option<Row> = sqlx::query_as(SELECT_ONE)
            .bind(slug.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read a project"))?;
        row.map(Project::try_from).transpose()
    }

    /// Every project, by slug, whoever asks; at most [`MAX_RECORDS`].
    pub async fn projects(&self) -> Result<Vec<Project>, CatalogError> {
        let rows: Vec<Row> = sqlx::query_as("SELECT * FROM projects ORDER BY slug LIMIT ?")
            .bind(MAX_RECORDS)
            .fetch_all(&self.pool)
            .await
            .map_err(sql("list projects"))?;
        rows.into_iter().map(Project::try_from).collect()
    }

    /// At most `limit` of the projects that a caller may know of, by slug, those after `after`.
    pub async fn projects_page(
        &self,
        scope: &Scope,
        after: Option<&ProjectSlug>,
        limit: u32,
    ) -> Result<Page<Project>, CatalogError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT * FROM projects WHERE slug IN (SELECT value FROM json_each(?)) AND slug > ? ORDER BY slug LIMIT ?",
        )
        .bind(json_array(scope.known()))
        .bind(after.map_or("", ProjectSlug::as_str))
        .bind(limit.saturating_add(1))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list projects"))?;
        let projects = rows.into_iter().map(Project::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(projects, limit))
    }

    /// The projects whose payments a caller may ask for, by slug.
    pub async fn projects_in(&self, scope: &Scope) -> Result<Vec<Project>, CatalogError> {
        let rows: Vec<Row> =
            sqlx::query_as("SELECT * FROM projects WHERE slug IN (SELECT value FROM json_each(?)) ORDER BY slug")
                .bind(json_array(scope.projects()))
                .fetch_all(&self.pool)
                .await
                .map_err(sql("read the projects of a scope"))?;
        rows.into_iter().map(Project::try_from).collect()
    }

    /// Changes a project. Its currency can change only while nothing was uploaded to it, because the amounts in the
    /// lake, and of deleted uploads that can come back, are in the old one; the check and the change are one transaction.
    ///
    /// # Errors
    /// [`CatalogError::ProjectMissing`], [`CatalogError::CurrencyFixed`]; [`super::ProgrammeError::Currency`] where it takes part in a
    /// programme by which nothing in that currency could be verified.
    pub async fn update_project(&self, slug: &ProjectSlug, change: ProjectChange) -> Result<Project, CatalogError> {
        let failed = || sql("change a project");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let row: Option<Row> =
            sqlx::query_as(SELECT_ONE).bind(slug.as_str()).fetch_optional(&mut *tx).await.map_err(failed())?;
        let mut project: Project =
            row.ok_or_else(|| CatalogError::ProjectMissing(slug.clone())).and_then(Project::try_from)?;
        if change.currency.is_some_and(|currency| currency != project.currency) {
            let uploads: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM upload_projects JOIN uploads ON id = upload_id
                 WHERE project = ? AND status NOT IN ('rejected', 'failed', 'purged'))",
            )
            .bind(slug.as_str())
            .fetch_one(&mut *tx)
            .await
            .map_err(failed())?;
            if uploads {
                return Err(CatalogError::CurrencyFixed(slug.clone()));
            }
        }
        if let Some(currency) = change.currency.filter(|currency| *currency != project.currency) {
            check_new_currency(&mut tx, slug, currency).await?;
        }
        project.name = change.name.unwrap_or(project.name);
        project.kind = change.kind.unwrap_or(project.kind);
        project.currency = change.currency.unwrap_or(project.currency);
        project.time_zone = change.time_zone.unwrap_or(project.time_zone);
        project.country = change.country.unwrap_or(project.country);
        project.updated_at = now();
        sqlx::query(
            "UPDATE projects SET name = ?, kind = ?, currency = ?, time_zone = ?, country = ?, updated_at = ?
             WHERE slug = ?",
        )
        .bind(&project.name)
        .bind(project.kind.as_str())
        .bind(project.currency.as_str())
        .bind(project.time_zone.name())
        .bind(project.country.as_str())
        .bind(project.updated_at.timestamp_micros())
        .bind(slug.as_str())
        .execute(&mut *tx)
        .await
        .map_err(failed())?;
        tx.commit().await.map_err(failed())?;
        Ok(project)
    }
}

/// Slugs as a statement takes a list, whose length it does not know.
pub(super) fn json_array<'a>(slugs: impl IntoIterator<Item = &'a ProjectSlug>) -> String {
    Value::from(slugs.into_iter().map(ProjectSlug::as_str).collect::<Vec<_>>()).to_string()
}
