//! Programmes: their terms, version by version, and the organisations that they invite. A version is never edited.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Sqlite, Transaction};
use utoipa::ToSchema;

use super::{
    Catalog, CatalogError, Page, ProgrammeError, from_micros, now,
    organisations::owner_of_new,
    programme_terms::{ProgrammeVersion, Terms, json},
    read, sql,
};
use crate::{
    access::{Principal, Reach},
    ids::{OrganisationSlug, ProgrammeSlug},
    programmes::Rule,
};

/// A programme with its newest terms, as the catalogue holds it and as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Programme {
    /// Never changes: submissions and verdicts hold it.
    pub slug: ProgrammeSlug,
    /// Who administers it. Never changes either.
    pub organisation: OrganisationSlug,
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// Of its terms, from 1: the newest, unless another was asked for.
    pub version: u32,
    /// Columns that files of the projects that take part must have, with a value in each row, beyond those that every file must.
    #[schema(example = json!(["ACCOUNT_TYPE"]))]
    pub required_columns: Vec<String>,
    pub rule: Rule,
    /// Who may see it and enrol projects, by slug. An invited organisation finds itself alone here.
    pub invited: Vec<OrganisationSlug>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: DateTime<Utc>,
    /// The start of the key that made it. Null to the invited, and where the server's command line made it.
    #[schema(required)]
    pub created_by: Option<String>,
    /// When these terms were made.
    #[schema(value_type = String, format = DateTime)]
    pub version_created_at: DateTime<Utc>,
    /// Whose projects are enrolled, or were: they see what became of them, also where they are invited no longer.
    #[serde(skip)]
    taking_part: Vec<OrganisationSlug>,
}

/// How an organisation that may see a programme stands to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ProgrammeSide)]
pub enum Side {
    /// It is the organisation's own; and whoever runs the server.
    Administrator,
    /// The organisation is invited, or has enrolled projects when it was.
    Invited,
}

/// A programme to be made. Its name, columns and rule are checked.
#[derive(Clone, Debug)]
pub struct NewProgramme {
    pub slug: ProgrammeSlug,
    /// Where none is named and there is one only, it is that.
    pub organisation: Option<OrganisationSlug>,
    pub name: String,
    pub required_columns: Vec<String>,
    pub rule: Rule,
    pub invited: Vec<OrganisationSlug>,
    pub created_by: Option<String>,
}

/// What to change of a programme; `None` leaves it as it is. Other columns or another rule make the next version of its terms.
#[derive(Clone, Debug, Default)]
pub struct ProgrammeChange {
    pub name: Option<String>,
    pub required_columns: Option<Vec<String>>,
    pub rule: Option<Rule>,
    pub invited: Option<Vec<OrganisationSlug>>,
    pub changed_by: Option<String>,
}

impl Programme {
    /// How the caller stands to it; `None` where it may not know that it is there. Nothing else decides that.
    #[must_use]
    pub fn side_of(&self, principal: &Principal) -> Option<Side> {
        match principal.reach() {
            Reach::Server => Some(Side::Administrator),
            Reach::Organisation(own) if *own == self.organisation => Some(Side::Administrator),
            Reach::Organisation(own) if self.invited.contains(own) || self.taking_part.contains(own) => {
                Some(Side::Invited)
            }
            Reach::Organisation(_) | Reach::Nothing => None,
        }
    }

    /// Whether projects of the organisation can be enrolled now.
    #[must_use]
    pub fn invites(&self, organisation: &OrganisationSlug) -> bool {
        self.organisation == *organisation || self.invited.contains(organisation)
    }

    /// As the caller is shown it: who is invited learns neither who else is, nor which key made it.
    #[must_use]
    pub fn shown_to(mut self, principal: &Principal) -> Option<Self> {
        if self.side_of(principal)? == Side::Invited {
            self.invited.retain(|invited| principal.reaches(invited));
            self.created_by = None;
        }
        Some(self)
    }

    /// With the terms of another version.
    #[must_use]
    pub fn with_terms(self, version: ProgrammeVersion) -> Self {
        let ProgrammeVersion { version, required_columns, rule, created_at, .. } = version;
        Self { version, required_columns, rule, version_created_at: created_at, ..self }
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    slug: String,
    organisation: String,
    name: String,
    created_at: i64,
    created_by: Option<String>,
    version: u32,
    required_columns: String,
    rule: String,
    version_created_at: i64,
    invited: String,
    taking_part: String,
}

impl TryFrom<Row> for Programme {
    type Error = CatalogError;

    fn try_from(row: Row) -> Result<Self, CatalogError> {
        Ok(Self {
            slug: read("programme's slug", &row.slug)?,
            organisation: read("programme's organisation", &row.organisation)?,
            name: row.name,
            version: row.version,
            required_columns: json("programme's columns", &row.required_columns)?,
            rule: json("programme's rule", &row.rule)?,
            invited: json("programme's invitations", &row.invited)?,
            created_at: from_micros(row.created_at),
            created_by: row.created_by,
            version_created_at: from_micros(row.version_created_at),
            taking_part: json("programme's organisations", &row.taking_part)?,
        })
    }
}

/// A statement that reads programmes with their newest terms: of the organisations that take part those where a condition holds, and
/// from its own condition on.
macro_rules! select {
    ($taking_part:literal, $rest:literal) => {
        concat!(
            "SELECT slug, organisation, name, programmes.created_at, programmes.created_by,
                 version, required_columns, rule, terms.created_at AS version_created_at,
                 (SELECT json_group_array(invited.organisation ORDER BY invited.organisation)
                  FROM programme_invitations AS invited WHERE invited.programme = slug) AS invited,
                 (SELECT json_group_array(DISTINCT projects.organisation)
                  FROM enrolments JOIN projects ON projects.slug = project
                  WHERE enrolments.programme = programmes.slug",
            $taking_part,
            ") AS taking_part
             FROM programmes JOIN programme_versions AS terms ON terms.programme = slug
             WHERE version = (SELECT max(version) FROM programme_versions WHERE programme = slug) ",
            $rest
        )
    };
}

const SELECT_ONE: &str = select!("", "AND slug = ?");

impl Catalog {
    /// Makes a programme, with the first version of its terms.
    ///
    /// # Errors
    /// [`CatalogError::OrganisationMissing`], [`CatalogError::OrganisationNeeded`]; [`ProgrammeError::Exists`],
    /// [`ProgrammeError::InvitedMissing`], [`ProgrammeError::OwnerInvited`]; [`CatalogError::TooMany`] at
    /// `programmes.per_organisation`, and above `programmes.max_invited`.
    pub async fn create_programme(&self, new: NewProgramme) -> Result<Programme, CatalogError> {
        let failed = || sql("make a programme");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let organisation = owner_of_new(&mut tx, new.organisation).await?;
        let count: u32 = sqlx::query_scalar("SELECT count(*) FROM programmes WHERE organisation = ?")
            .bind(organisation.as_str())
            .fetch_one(&mut *tx)
            .await
            .map_err(failed())?;
        let limit = self.limits.programmes_of_organisation;
        if count >= limit {
            let what = "programmes of an organisation (programmes.per_organisation)";
            return Err(CatalogError::TooMany { what, limit });
        }
        let at = now().timestamp_micros();
        let inserted = sqlx::query("INSERT INTO programmes VALUES (?, ?, ?, ?, ?)")
            .bind(new.slug.as_str())
            .bind(organisation.as_str())
            .bind(&new.name)
            .bind(at)
            .bind(&new.created_by)
            .execute(&mut *tx)
            .await;
        match inserted {
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                return Err(ProgrammeError::Exists(new.slug).into());
            }
            other => other.map_err(failed())?,
        };
        let terms = Terms { version: 1, required_columns: &new.required_columns, rule: &new.rule };
        terms.insert(&mut tx, &new.slug, at, new.created_by.as_deref()).await?;
        self.invite(&mut tx, &new.slug, &organisation, &new.invited).await?;
        let made = programme_in(&mut tx, &new.slug).await?;
        tx.commit().await.map_err(failed())?;
        Ok(made)
    }

    /// Changes a programme. Terms that differ from the newest are the next version; the same ones change nothing.
    ///
    /// # Errors
    /// [`ProgrammeError::Missing`], [`ProgrammeError::InvitedMissing`], [`ProgrammeError::OwnerInvited`];
    /// [`CatalogError::TooMany`] at 1,000 versions, and above `programmes.max_invited`.
    pub async fn update_programme(
        &self,
        slug: &ProgrammeSlug,
        change: ProgrammeChange,
    ) -> Result<Programme, CatalogError> {
        let failed = || sql("change a programme");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let programme = programme_in(&mut tx, slug).await?;
        if let Some(name) = change.name.filter(|name| *name != programme.name) {
            sqlx::query("UPDATE programmes SET name = ? WHERE slug = ?")
                .bind(name)
                .bind(slug.as_str())
                .execute(&mut *tx)
                .await
                .map_err(failed())?;
        }
        let terms = Terms {
            version: programme.version + 1,
            required_columns: change.required_columns.as_ref().unwrap_or(&programme.required_columns),
            rule: change.rule.as_ref().unwrap_or(&programme.rule),
        };
        if (terms.required_columns, terms.rule) != (&programme.required_columns, &programme.rule) {
            terms.insert(&mut tx, slug, now().timestamp_micros(), change.changed_by.as_deref()).await?;
        }
        if let Some(invited) = change.invited {
            self.invite(&mut tx, slug, &programme.organisation, &invited).await?;
        }
        let changed = programme_in(&mut tx, slug).await?;
        tx.commit().await.map_err(failed())?;
        Ok(changed)
    }

    /// Makes these the invited organisations, and no others.
    async fn invite(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        slug: &ProgrammeSlug,
        owner: &OrganisationSlug,
        invited: &[OrganisationSlug],
    ) -> Result<(), CatalogError> {
        let failed = || sql("invite organisations");
        let limit = self.limits.invited;
        if invited.len() > usize::try_from(limit).unwrap_or(usize::MAX) {
            return Err(CatalogError::TooMany { what: "invited organisations (programmes.max_invited)", limit });
        }
        sqlx::query("DELETE FROM programme_invitations WHERE programme = ?")
            .bind(slug.as_str())
            .execute(&mut **tx)
            .await
            .map_err(failed())?;
        for organisation in invited {
            if organisation == owner {
                return Err(ProgrammeError::OwnerInvited(organisation.clone()).into());
            }
            let inserted = sqlx::query("INSERT OR IGNORE INTO programme_invitations VALUES (?, ?)")
                .bind(slug.as_str())
                .bind(organisation.as_str())
                .execute(&mut **tx)
                .await;
            match inserted {
                Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => {
                    return Err(ProgrammeError::InvitedMissing(organisation.clone()).into());
                }
                other => other.map_err(failed())?,
            };
        }
        Ok(())
    }

    /// The programme with its newest terms, whoever asks.
    pub async fn programme(&self, slug: &ProgrammeSlug) -> Result<Option<Programme>, CatalogError> {
        let row: Option<Row> = sqlx::query_as(SELECT_ONE)
            .bind(slug.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read a programme"))?;
        row.map(Programme::try_from).transpose()
    }

    /// At most `limit` of the programmes that `principal` may see, by slug, those after `after`, each as it is shown to it.
    pub async fn programmes_page(
        &self,
        principal: &Principal,
        after: Option<&ProgrammeSlug>,
        limit: u32,
    ) -> Result<Page<Programme>, CatalogError> {
        // Only as much is read as can be seen; what is seen is decided by `Programme::side_of` alone.
        let rows: Vec<Row> = sqlx::query_as(select!(
            " AND projects.organisation = ?1",
            "AND slug > ?2 AND (?1 IS NULL OR slug IN (
                 SELECT own.slug FROM programmes AS own WHERE own.organisation = ?1
                 UNION SELECT programme FROM programme_invitations WHERE organisation = ?1
                 UNION SELECT programme FROM enrolments JOIN projects ON projects.slug = project
                       WHERE projects.organisation = ?1))
             ORDER BY slug LIMIT ?3"
        ))
        .bind(principal.reach().bound())
        .bind(after.map_or("", ProgrammeSlug::as_str))
        .bind(limit.saturating_add(1))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list programmes"))?;
        let programmes = rows.into_iter().map(Programme::try_from).collect::<Result<Vec<_>, _>>()?;
        let Page { items, more } = Page::of(programmes, limit);
        Ok(Page { items: items.into_iter().filter_map(|programme| programme.shown_to(principal)).collect(), more })
    }
}

pub(super) async fn programme_in(
    tx: &mut Transaction<'_, Sqlite>,
    slug: &ProgrammeSlug,
) -> Result<Programme, CatalogError> {
    let row: Option<Row> = sqlx::query_as(SELECT_ONE)
        .bind(slug.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(sql("read a programme"))?;
    row.ok_or_else(|| ProgrammeError::Missing(slug.clone()).into()).and_then(Programme::try_from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        access::Role,
        catalog::{
            CatalogLimits, NewEnrolment,
            tests::{of_main, programme, rule},
        },
    };

    fn of(organisation: &str) -> Principal {
        Principal { role: Role::Viewer, organisation: organisation.parse().ok(), ..Principal::admin("k") }
    }

    fn slug(text: &str) -> ProgrammeSlug {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn terms_are_never_edited_and_the_same_again_change_nothing() {
        let (_folder, catalog) = of_main().await;
        let made = catalog.create_programme(programme("p", &["main"])).await.unwrap();
        assert_eq!((made.version, made.organisation.as_str(), made.created_at), (1, "fund", made.version_created_at));
        let again = catalog.create_programme(programme("p", &[])).await.unwrap_err();
        assert!(matches!(again, CatalogError::Programme(ProgrammeError::Exists(_))), "{again:?}");
        let update = async |change| catalog.update_programme(&slug("p"), change).await.unwrap();
        let same = ProgrammeChange { rule: Some(rule(90)), ..ProgrammeChange::default() };
        assert_eq!(update(same).await, made);
        let named = ProgrammeChange { name: Some("P 2".to_owned()), ..ProgrammeChange::default() };
        assert_eq!(update(named).await, Programme { name: "P 2".to_owned(), ..made.clone() });
        let other =
            ProgrammeChange { rule: Some(rule(30)), changed_by: Some("c".into()), ..ProgrammeChange::default() };
        let second = update(other).await;
        assert_eq!((second.version, &second.rule, &second.required_columns), (2, &rule(30), &made.required_columns));
        let columns = ProgrammeChange { required_columns: Some(Vec::new()), ..ProgrammeChange::default() };
        assert_eq!(update(columns).await.version, 3);
        let versions = catalog.programme_versions(&slug("p"), None, 2).await.unwrap();
        assert_eq!((versions.items[0].version, versions.items[1].version, versions.more), (3, 2, true));
        assert_eq!(versions.items[1].created_by.as_deref(), Some("c"));
        let first = catalog.programme_version(&slug("p"), 1).await.unwrap().unwrap();
        assert_eq!((&first.rule, first.created_at), (&rule(90), made.created_at));
        assert_eq!(catalog.programme(&slug("p")).await.unwrap().unwrap().with_terms(first).rule, rule(90));
        assert_eq!(catalog.programme_version(&slug("p"), 4).await.unwrap(), None);
        for statement in ["UPDATE programme_versions SET rule = '{}'", "DELETE FROM programme_versions"] {
            assert!(sqlx::query(statement).execute(&catalog.pool).await.is_err(), "{statement}");
        }
        let absent = catalog.update_programme(&slug("q"), ProgrammeChange::default()).await.unwrap_err();
        assert!(matches!(absent, CatalogError::Programme(ProgrammeError::Missing(_))));
    }

    #[tokio::test]
    async fn a_programme_is_seen_by_its_own_and_the_invited_who_learn_nothing_of_each_other() {
        let (_folder, catalog) = of_main().await;
        catalog.create_programme(programme("p", &["main", "bank"])).await.unwrap();
        catalog.create_programme(programme("q", &["bank"])).await.unwrap();
        let seen = async |principal: &Principal| {
            let page = catalog.programmes_page(principal, None, 9).await.unwrap().items;
            page.into_iter().map(|programme| (programme.slug.to_string(), programme.invited.len())).collect::<Vec<_>>()
        };
        let both = vec![("p".to_owned(), 2), ("q".to_owned(), 1)];
        assert_eq!((seen(&Principal::admin("k")).await, seen(&of("fund")).await), (both.clone(), both));
        assert_eq!(seen(&of("main")).await, [("p".to_owned(), 1)]);
        assert_eq!(seen(&of("bank")).await, [("p".to_owned(), 1), ("q".to_owned(), 1)]);
        assert_eq!(seen(&Principal { organisation: None, ..of("main") }).await, []);
        let p = catalog.programme(&slug("p")).await.unwrap().unwrap();
        let sides = ["fund", "main", "other"].map(|organisation| p.side_of(&of(organisation)));
        assert_eq!(sides, [Some(Side::Administrator), Some(Side::Invited), None]);
        let shown = p.shown_to(&of("main")).unwrap();
        assert_eq!((shown.created_by, shown.invited), (None, vec!["main".parse().unwrap()]));
        let first = catalog.programmes_page(&of("bank"), None, 1).await.unwrap();
        assert_eq!((first.items[0].slug.as_str(), first.more), ("p", true));
        let rest = catalog.programmes_page(&of("bank"), Some(&slug("p")), 1).await.unwrap();
        assert_eq!((rest.items[0].slug.as_str(), rest.more), ("q", false));
    }

    #[tokio::test]
    async fn who_takes_part_still_sees_a_programme_that_invites_it_no_longer_and_enrols_nothing_more() {
        let (_folder, catalog) = of_main().await;
        catalog.create_programme(programme("p", &["main", "bank"])).await.unwrap();
        let enrolment = |project: &str| NewEnrolment {
            programme: slug("p"),
            project: project.parse().unwrap(),
            version: 1,
            enrolled_by: None,
        };
        catalog.enrol(enrolment("a")).await.unwrap();
        let nobody = ProgrammeChange { invited: Some(Vec::new()), ..ProgrammeChange::default() };
        let programme = catalog.update_programme(&slug("p"), nobody).await.unwrap();
        assert_eq!((programme.side_of(&of("main")), programme.side_of(&of("bank"))), (Some(Side::Invited), None));
        assert_eq!(catalog.programmes_page(&of("main"), None, 9).await.unwrap().items.len(), 1);
        let refused = catalog.enrol(enrolment("b")).await.unwrap_err();
        assert!(matches!(refused, CatalogError::Programme(ProgrammeError::NotInvited { .. })), "{refused:?}");
    }

    #[tokio::test]
    async fn a_programme_invites_organisations_that_are_there_and_are_others_and_no_more_than_it_may() {
        let (_folder, catalog) = of_main().await;
        let made = async |invited: &[&str]| catalog.create_programme(programme("p", invited)).await;
        let absent = made(&["bank", "nobody"]).await.unwrap_err();
        assert!(matches!(absent, CatalogError::Programme(ProgrammeError::InvitedMissing(_))), "{absent:?}");
        let own = made(&["fund"]).await.unwrap_err();
        assert!(matches!(own, CatalogError::Programme(ProgrammeError::OwnerInvited(_))), "{own:?}");
        assert_eq!(catalog.programme(&slug("p")).await.unwrap(), None, "nothing is left of what was refused");
        let limits = CatalogLimits { programmes_of_organisation: 1, invited: 1, ..CatalogLimits::default() };
        let catalog = catalog.clone().within(limits);
        let many = catalog.create_programme(programme("p", &["main", "bank"])).await.unwrap_err();
        assert_eq!(many.to_string(), "the limit of 1 invited organisations (programmes.max_invited) is reached");
        catalog.create_programme(programme("p", &["main"])).await.unwrap();
        let full = catalog.create_programme(programme("q", &[])).await.unwrap_err();
        assert!(full.to_string().contains("programmes.per_organisation"), "{full}");
        let other = NewProgramme { organisation: Some("bank".parse().unwrap()), ..programme("q", &[]) };
        catalog.create_programme(other).await.unwrap();
    }
}
