//! Organisations: whom a project and a key belong to.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Sqlite, Transaction};
use utoipa::ToSchema;

use super::{Catalog, CatalogError, MAX_RECORDS, Page, from_micros, now, read, sql};
use crate::{
    access::{Principal, Reach},
    ids::OrganisationSlug,
};

/// Organisations that an error names at most.
const MAX_NAMED: u32 = 100;

/// One organisation, as the catalogue holds it and the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Organisation {
    /// Never changes: projects and keys hold it.
    pub slug: OrganisationSlug,
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: DateTime<Utc>,
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct Row {
    slug: String,
    name: String,
    created_at: i64,
    updated_at: i64,
}

impl TryFrom<Row> for Organisation {
    type Error = CatalogError;

    fn try_from(row: Row) -> Result<Self, CatalogError> {
        Ok(Self {
            slug: read("organisation's slug", &row.slug)?,
            name: row.name,
            created_at: from_micros(row.created_at),
            updated_at: from_micros(row.updated_at),
        })
    }
}

impl Reach<'_> {
    /// As a statement takes it that goes by `?1 IS NULL OR organisation = ?1`. No organisation has an empty slug.
    pub(super) fn bound(&self) -> Option<&str> {
        match self {
            Self::Server => None,
            Self::Organisation(own) => Some(own.as_str()),
            Self::Nothing => Some(""),
        }
    }
}

impl Catalog {
    /// Makes an organisation. `name` is one that [`super::checked_name`] gave.
    ///
    /// # Errors
    /// [`CatalogError::OrganisationExists`], [`CatalogError::TooMany`] at [`MAX_RECORDS`].
    pub async fn create_organisation(
        &self,
        slug: OrganisationSlug,
        name: String,
    ) -> Result<Organisation, CatalogError> {
        let failed = || sql("create an organisation");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let count: u32 =
            sqlx::query_scalar("SELECT count(*) FROM organisations").fetch_one(&mut *tx).await.map_err(failed())?;
        if count >= MAX_RECORDS {
            return Err(CatalogError::TooMany { what: "organisations", limit: MAX_RECORDS });
        }
        let at = now();
        let inserted =
            sqlx::query("INSERT INTO organisations (slug, name, created_at, updated_at) VALUES (?, ?, ?, ?)")
                .bind(slug.as_str())
                .bind(&name)
                .bind(at.timestamp_micros())
                .bind(at.timestamp_micros())
                .execute(&mut *tx)
                .await;
        match inserted {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                return Err(CatalogError::OrganisationExists(slug));
            }
            other => other.map_err(failed())?,
        };
        tx.commit().await.map_err(failed())?;
        Ok(Organisation { slug, name, created_at: at, updated_at: at })
    }

    /// The organisation where `principal` may see it.
    pub async fn organisation(
        &self,
        principal: &Principal,
        slug: &OrganisationSlug,
    ) -> Result<Option<Organisation>, CatalogError> {
        if !principal.reaches(slug) {
            return Ok(None);
        }
        let row: Option<Row> = sqlx::query_as("SELECT * FROM organisations WHERE slug = ?")
            .bind(slug.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read an organisation"))?;
        row.map(Organisation::try_from).transpose()
    }

    /// At most `limit` of the organisations that `principal` may see, by slug, those after `after`.
    pub async fn organisations(
        &self,
        principal: &Principal,
        after: Option<&OrganisationSlug>,
        limit: u32,
    ) -> Result<Page<Organisation>, CatalogError> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT * FROM organisations WHERE (?1 IS NULL OR slug = ?1) AND slug > ?2 ORDER BY slug LIMIT ?3",
        )
        .bind(principal.reach().bound())
        .bind(after.map_or("", OrganisationSlug::as_str))
        .bind(limit.saturating_add(1))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list organisations"))?;
        let organisations = rows.into_iter().map(Organisation::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(organisations, limit))
    }

    /// The organisation that is named, or the only one there is.
    ///
    /// # Errors
    /// [`CatalogError::OrganisationMissing`], [`CatalogError::OrganisationNeeded`].
    pub async fn named_or_only(&self, named: Option<OrganisationSlug>) -> Result<OrganisationSlug, CatalogError> {
        let mut tx = self.pool.begin().await.map_err(sql("find an organisation"))?;
        owner_of_new(&mut tx, named).await
    }

    /// Gives an organisation another name.
    ///
    /// # Errors
    /// [`CatalogError::OrganisationMissing`].
    pub async fn rename_organisation(&self, slug: &OrganisationSlug, name: &str) -> Result<Organisation, CatalogError> {
        let row: Option<Row> =
            sqlx::query_as("UPDATE organisations SET name = ?, updated_at = ? WHERE slug = ? RETURNING *")
                .bind(name)
                .bind(now().timestamp_micros())
                .bind(slug.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(sql("change an organisation"))?;
        row.ok_or_else(|| CatalogError::OrganisationMissing(slug.clone())).and_then(Organisation::try_from)
    }
}

/// The organisation of a new project or key: the one that is named, or the only one that there is.
///
/// # Errors
/// [`CatalogError::OrganisationMissing`]; [`CatalogError::OrganisationNeeded`] where none is named and there are several.
pub(super) async fn owner_of_new(
    tx: &mut Transaction<'_, Sqlite>,
    named: Option<OrganisationSlug>,
) -> Result<OrganisationSlug, CatalogError> {
    let failed = || sql("find an organisation");
    if let Some(named) = named {
        let found: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM organisations WHERE slug = ?)")
            .bind(named.as_str())
            .fetch_one(&mut **tx)
            .await
            .map_err(failed())?;
        return if found { Ok(named) } else { Err(CatalogError::OrganisationMissing(named)) };
    }
    let slugs: Vec<String> = sqlx::query_scalar("SELECT slug FROM organisations ORDER BY slug LIMIT ?")
        .bind(MAX_NAMED)
        .fetch_all(&mut **tx)
        .await
        .map_err(failed())?;
    let slugs = slugs.iter().map(|slug| read("organisation's slug", slug)).collect::<Result<Vec<_>, _>>()?;
    match <[OrganisationSlug; 1]>::try_from(slugs) {
        Ok([only]) => Ok(only),
        Err(several) => Err(CatalogError::OrganisationNeeded(several)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::Role,
        catalog::{KeyTerms, MIGRATOR, ProjectText, tests::with_projects},
    };

    fn slug(text: &str) -> OrganisationSlug {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_catalogue_of_before_organisations_keeps_all_it_had_and_is_of_the_main_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(crate::catalog::FILE_NAME);
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let pool = sqlx::SqlitePool::connect_with(options.foreign_keys(true)).await.unwrap();
        MIGRATOR.run_to(2, &pool).await.unwrap();
        let statements = [
            "INSERT INTO projects VALUES ('a', 'A', 'shs', 'KES', 'Africa/Nairobi', 'KE', 1, 2)",
            "INSERT INTO projects VALUES ('b', 'B', 'shs', 'KES', 'Africa/Nairobi', 'KE', 3, 4)",
            "INSERT INTO api_keys VALUES ('abcdefgh', 'ops', 'admin', zeroblob(32), 5, 6, 7)",
            "INSERT INTO uploads VALUES ('upl_01a20f8900007000a000000000000000', 'd', 't', 'u', 'f', 'reject_file',
                 'committed', '00', 1, 8, 9, 1, '{}', 'abcdefgh', NULL, NULL)",
            "INSERT INTO upload_projects VALUES ('a', 'upl_01a20f8900007000a000000000000000')",
            "INSERT INTO upload_projects VALUES ('b', 'upl_01a20f8900007000a000000000000000')",
        ];
        for statement in statements {
            sqlx::query(statement).execute(&pool).await.unwrap();
        }
        pool.close().await;

        let catalog = Catalog::open(folder.path()).await.unwrap();
        let projects = catalog.projects().await.unwrap();
        assert_eq!(
            projects.iter().map(|p| (p.slug.as_str(), p.name.as_str())).collect::<Vec<_>>(),
            [("a", "A"), ("b", "B")]
        );
        assert!(projects.iter().all(|project| project.organisation == OrganisationSlug::main()));
        assert_eq!((projects[1].created_at, projects[1].updated_at), (from_micros(3), from_micros(4)));
        let key = &catalog.keys().await.unwrap()[0];
        assert_eq!((key.role, &key.organisation, key.expires_at), (Role::Admin, &None, None));
        assert_eq!((key.created_at, key.revoked_at), (from_micros(5), Some(from_micros(7))));
        let upload = catalog.upload(&"upl_01a20f8900007000a000000000000000".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(upload.projects, ["a".parse().unwrap(), "b".parse().unwrap()]);
        let gone = sqlx::query("DELETE FROM projects WHERE slug = 'a'").execute(&catalog.pool).await;
        assert!(gone.is_err(), "an upload still holds on to its project");
    }

    #[tokio::test]
    async fn the_only_organisation_need_not_be_named_and_of_several_one_must() {
        let (_folder, catalog) = with_projects(&["a"]).await;
        assert_eq!(catalog.projects().await.unwrap()[0].organisation, OrganisationSlug::main());
        let viewer = |organisation| KeyTerms { role: Role::Viewer, organisation, ..KeyTerms::of_admin("v") };
        let key = catalog.create_key(viewer(None)).await.unwrap().key;
        assert_eq!(key.organisation, Some(OrganisationSlug::main()));

        catalog.create_organisation(slug("hill"), "Hill Power".to_owned()).await.unwrap();
        let text = |slug: &str| {
            let text = |value: &str| Some(value.to_owned());
            ProjectText {
                slug: text(slug),
                name: text("N"),
                kind: text("shs"),
                currency: text("KES"),
                time_zone: text("Africa/Nairobi"),
                country: text("KE"),
                organisation: None,
            }
        };
        let unnamed = catalog.create_project(text("b").into_new().unwrap()).await.unwrap_err();
        assert!(matches!(&unnamed, CatalogError::OrganisationNeeded(all) if *all == [slug("hill"), slug("main")]));
        let unnamed = catalog.create_key(viewer(None)).await.err().unwrap();
        assert!(matches!(unnamed, CatalogError::OrganisationNeeded(_)));
        let named = ProjectText { organisation: Some("hill".to_owned()), ..text("b") };
        assert_eq!(catalog.create_project(named.into_new().unwrap()).await.unwrap().organisation, slug("hill"));
        let absent = catalog.create_key(viewer(Some(slug("nowhere")))).await.err().unwrap();
        assert!(matches!(absent, CatalogError::OrganisationMissing(_)));
    }

    #[tokio::test]
    async fn an_organisation_is_made_once_renamed_and_seen_by_its_own() {
        let (_folder, catalog) = with_projects(&[]).await;
        let made = catalog.create_organisation(slug("hill"), "Hill".to_owned()).await.unwrap();
        let again = catalog.create_organisation(slug("hill"), "Hill".to_owned()).await.unwrap_err();
        assert!(matches!(again, CatalogError::OrganisationExists(_)));
        let renamed = catalog.rename_organisation(&slug("hill"), "Hill Power").await.unwrap();
        assert_eq!((renamed.name.as_str(), renamed.created_at), ("Hill Power", made.created_at));
        let missing = catalog.rename_organisation(&slug("nowhere"), "x").await.unwrap_err();
        assert!(matches!(missing, CatalogError::OrganisationMissing(_)));

        let seen = async |principal: &Principal| {
            let page = catalog.organisations(principal, None, 10).await.unwrap();
            page.items.iter().map(|organisation| organisation.slug.to_string()).collect::<Vec<_>>()
        };
        let admin = Principal::admin("k");
        assert_eq!(seen(&admin).await, ["hill", "main"]);
        let viewer = Principal { role: Role::Viewer, organisation: Some(slug("hill")), ..admin.clone() };
        assert_eq!(seen(&viewer).await, ["hill"]);
        assert_eq!(catalog.organisation(&viewer, &slug("main")).await.unwrap(), None);
        assert_eq!(catalog.organisation(&viewer, &slug("hill")).await.unwrap(), Some(renamed));
        let nobody = Principal { organisation: None, ..viewer };
        assert_eq!(seen(&nobody).await, [""; 0]);
    }
}
