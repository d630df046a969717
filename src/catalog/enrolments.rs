//! Enrolments: the projects that take part in programmes, and the terms that their organisations consented to.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Sqlite, Transaction};
use utoipa::ToSchema;

use super::{
    Catalog, CatalogError, CurrencyCode, Page, ProgrammeError, WrongCurrency, from_micros, now, programme_terms::json,
    programmes::programme_in, projects::json_array, read, sql,
};
use crate::{
    ids::{OrganisationSlug, ProgrammeSlug, ProjectSlug},
    payments::required::RequiredColumn,
    programmes::Rule,
};

/// The consent of an organisation that one of its projects takes part in a programme, as the catalogue holds it and as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Enrolment {
    pub programme: ProgrammeSlug,
    pub project: ProjectSlug,
    /// The project's name; null once it is withdrawn.
    #[schema(required)]
    pub project_name: Option<String>,
    /// Whose the project is.
    pub organisation: OrganisationSlug,
    /// Of the programme's terms: the one that was consented to.
    pub version: u32,
    /// When that was.
    #[schema(value_type = String, format = DateTime)]
    pub enrolled_at: DateTime<Utc>,
    /// The start of the key that consented. Null to who administers the programme.
    #[schema(required)]
    pub enrolled_by: Option<String>,
    /// From then on the programme is shown nothing more of the project; what it verified before stays.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub withdrawn_at: Option<DateTime<Utc>>,
}

/// A project to be enrolled.
#[derive(Clone, Debug)]
pub struct NewEnrolment {
    pub programme: ProgrammeSlug,
    pub project: ProjectSlug,
    /// Of the terms, as they were read.
    pub version: u32,
    pub enrolled_by: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Row {
    programme: String,
    project: String,
    project_name: Option<String>,
    organisation: String,
    version: u32,
    enrolled_at: i64,
    enrolled_by: Option<String>,
    withdrawn_at: Option<i64>,
}

impl TryFrom<Row> for Enrolment {
    type Error = CatalogError;

    fn try_from(row: Row) -> Result<Self, CatalogError> {
        Ok(Self {
            programme: read("enrolment's programme", &row.programme)?,
            project: read("enrolment's project", &row.project)?,
            project_name: row.project_name,
            organisation: read("project's organisation", &row.organisation)?,
            version: row.version,
            enrolled_at: from_micros(row.enrolled_at),
            enrolled_by: row.enrolled_by,
            withdrawn_at: row.withdrawn_at.map(from_micros),
        })
    }
}

/// A statement that reads enrolments, from its condition on.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT enrolments.*, projects.organisation, iif(withdrawn_at IS NULL, projects.name, NULL) AS project_name
             FROM enrolments JOIN projects ON projects.slug = project ",
            $rest
        )
    };
}

impl Catalog {
    /// Enrols a project: consents to the programme's newest terms, and also again after a withdrawal. Where it is enrolled with
    /// these terms already, that changes nothing. Says whether anything is new.
    ///
    /// # Errors
    /// [`ProgrammeError::Missing`], [`CatalogError::ProjectMissing`]; [`ProgrammeError::NotInvited`], [`ProgrammeError::Changed`],
    /// [`ProgrammeError::Currency`]; [`CatalogError::TooMany`] at `programmes.max_projects`.
    pub async fn enrol(&self, new: NewEnrolment) -> Result<(Enrolment, bool), CatalogError> {
        let failed = || sql("enrol a project");
        let NewEnrolment { programme: slug, project, version, enrolled_by } = new;
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let programme = programme_in(&mut tx, &slug).await?;
        let of_project: Option<(String, String)> =
            sqlx::query_as("SELECT organisation, currency FROM projects WHERE slug = ?")
                .bind(project.as_str())
                .fetch_optional(&mut *tx)
                .await
                .map_err(failed())?;
        let (organisation, currency) = of_project.ok_or_else(|| CatalogError::ProjectMissing(project.clone()))?;
        let organisation = read("project's organisation", &organisation)?;
        if !programme.invites(&organisation) {
            return Err(ProgrammeError::NotInvited { programme: slug, organisation }.into());
        }
        if version != programme.version {
            return Err(ProgrammeError::Changed { programme: slug, newest: programme.version }.into());
        }
        check_currency(&slug, &programme.rule, &project, &currency)?;
        let others: u32 = sqlx::query_scalar(
            "SELECT count(*) FROM enrolments WHERE programme = ? AND project != ? AND withdrawn_at IS NULL",
        )
        .bind(slug.as_str())
        .bind(project.as_str())
        .fetch_one(&mut *tx)
        .await
        .map_err(failed())?;
        if others >= self.limits.enrolled {
            let what = "projects of a programme (programmes.max_projects)";
            return Err(CatalogError::TooMany { what, limit: self.limits.enrolled });
        }
        let changed = sqlx::query(
            "INSERT INTO enrolments VALUES (?, ?, ?, ?, ?, NULL)
             ON CONFLICT (programme, project) DO UPDATE
             SET version = excluded.version, enrolled_at = excluded.enrolled_at, enrolled_by = excluded.enrolled_by,
                 withdrawn_at = NULL
             WHERE version != excluded.version OR withdrawn_at IS NOT NULL",
        )
        .bind(slug.as_str())
        .bind(project.as_str())
        .bind(version)
        .bind(now().timestamp_micros())
        .bind(&enrolled_by)
        .execute(&mut *tx)
        .await
        .map_err(failed())?;
        let row: Row = sqlx::query_as(select!("WHERE programme = ? AND project = ?"))
            .bind(slug.as_str())
            .bind(project.as_str())
            .fetch_one(&mut *tx)
            .await
            .map_err(failed())?;
        tx.commit().await.map_err(failed())?;
        Ok((row.try_into()?, changed.rows_affected() > 0))
    }

    /// Ends what a programme is shown of a project. To withdraw it again changes nothing.
    ///
    /// # Errors
    /// [`ProgrammeError::NotEnrolled`] where it never was.
    pub async fn withdraw_enrolment(
        &self,
        programme: &ProgrammeSlug,
        project: &ProjectSlug,
    ) -> Result<Enrolment, CatalogError> {
        sqlx::query(
            "UPDATE enrolments SET withdrawn_at = ? WHERE programme = ? AND project = ? AND withdrawn_at IS NULL",
        )
        .bind(now().timestamp_micros())
        .bind(programme.as_str())
        .bind(project.as_str())
        .execute(&self.pool)
        .await
        .map_err(sql("withdraw a project"))?;
        let enrolment = self.enrolment(programme, project).await?;
        let (programme, project) = (programme.clone(), project.clone());
        enrolment.ok_or_else(|| ProgrammeError::NotEnrolled { programme, project }.into())
    }

    /// The enrolment of a project in a programme, also one that is withdrawn; whoever asks.
    pub async fn enrolment(
        &self,
        programme: &ProgrammeSlug,
        project: &ProjectSlug,
    ) -> Result<Option<Enrolment>, CatalogError> {
        let row: Option<Row> = sqlx::query_as(select!("WHERE programme = ? AND project = ?"))
            .bind(programme.as_str())
            .bind(project.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read an enrolment"))?;
        row.map(Enrolment::try_from).transpose()
    }

    /// At most `limit` of the enrolments in a programme, by project, those after `after`, of one organisation or of all. Those
    /// that are withdrawn are among them.
    pub async fn enrolments_page(
        &self,
        programme: &ProgrammeSlug,
        of_organisation: Option<&OrganisationSlug>,
        after: Option<&ProjectSlug>,
        limit: u32,
    ) -> Result<Page<Enrolment>, CatalogError> {
        let rows: Vec<Row> = sqlx::query_as(select!(
            "WHERE programme = ?1 AND (?2 IS NULL OR projects.organisation = ?2) AND project > ?3 ORDER BY project LIMIT ?4"
        ))
        .bind(programme.as_str())
        .bind(of_organisation.map(OrganisationSlug::as_str))
        .bind(after.map_or("", ProjectSlug::as_str))
        .bind(limit.saturating_add(1))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list enrolments"))?;
        let enrolments = rows.into_iter().map(Enrolment::try_from).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(enrolments, limit))
    }

    /// The projects that take part in a programme now, by slug; at most `programmes.max_projects`.
    pub async fn enrolled_projects(&self, programme: &ProgrammeSlug) -> Result<Vec<Enrolment>, CatalogError> {
        let rows: Vec<Row> = sqlx::query_as(select!("WHERE programme = ? AND withdrawn_at IS NULL ORDER BY project"))
            .bind(programme.as_str())
            .fetch_all(&self.pool)
            .await
            .map_err(sql("list the projects of a programme"))?;
        rows.into_iter().map(Enrolment::try_from).collect()
    }

    /// What a file of these projects must have beyond what every file must, by column: what the terms ask for that were consented
    /// to, of every programme in which one of the projects takes part.
    pub async fn required_columns(&self, projects: &[ProjectSlug]) -> Result<Vec<RequiredColumn>, CatalogError> {
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT DISTINCT required.value, enrolments.programme
             FROM enrolments
             JOIN programme_versions AS terms
               ON terms.programme = enrolments.programme AND terms.version = enrolments.version
             JOIN json_each(terms.required_columns) AS required
             WHERE project IN (SELECT value FROM json_each(?)) AND withdrawn_at IS NULL
             ORDER BY 1, 2",
        )
        .bind(json_array(projects))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read what programmes ask of a file"))?;
        let mut required: Vec<RequiredColumn> = Vec::new();
        for (column, programme) in rows {
            let programme = read("enrolment's programme", &programme)?;
            match required.last_mut().filter(|last| last.column == column) {
                Some(last) => last.programmes.push(programme),
                None => required.push(RequiredColumn { column, programmes: vec![programme] }),
            }
        }
        Ok(required)
    }
}

/// Whether anything of a project in that currency could ever be verified by the rule.
fn check_currency(
    programme: &ProgrammeSlug,
    rule: &Rule,
    project: &ProjectSlug,
    currency: &str,
) -> Result<(), ProgrammeError> {
    let least = &rule.min_amount;
    if least.is_empty() || least.contains_key(currency) {
        return Ok(());
    }
    let (programme, project, currency) = (programme.clone(), project.clone(), currency.to_owned());
    let named = least.keys().cloned().collect();
    Err(ProgrammeError::Currency(Box::new(WrongCurrency { programme, project, currency, named })))
}

/// The same of a currency that a project is to have, and of all the terms that were consented to for it.
pub(super) async fn check_new_currency(
    tx: &mut Transaction<'_, Sqlite>,
    project: &ProjectSlug,
    currency: CurrencyCode,
) -> Result<(), CatalogError> {
    let rows: Vec<(String, String)> = sqlx::query_as(
        "SELECT enrolments.programme, rule FROM enrolments
         JOIN programme_versions AS terms
           ON terms.programme = enrolments.programme AND terms.version = enrolments.version
         WHERE project = ? AND withdrawn_at IS NULL",
    )
    .bind(project.as_str())
    .fetch_all(&mut **tx)
    .await
    .map_err(sql("read the rules for a project"))?;
    for (programme, rule) in rows {
        let programme = read("enrolment's programme", &programme)?;
        check_currency(&programme, &json("programme's rule", &rule)?, project, currency.as_str())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        catalog::{
            CatalogLimits, NewProgramme, ProgrammeChange,
            tests::{of_main, programme, rule},
        },
        programmes::MinAmount,
    };

    fn new(programme: &str, project: &str, version: u32) -> NewEnrolment {
        NewEnrolment {
            programme: programme.parse().unwrap(),
            project: project.parse().unwrap(),
            version,
            enrolled_by: Some("k".to_owned()),
        }
    }

    fn refused(result: Result<(Enrolment, bool), CatalogError>) -> ProgrammeError {
        match result {
            Err(CatalogError::Programme(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_project_is_enrolled_with_the_newest_terms_withdrawn_and_enrolled_again() {
        let (_folder, catalog) = of_main().await;
        catalog.create_programme(programme("p", &["main"])).await.unwrap();
        let (p, a) = ("p".parse().unwrap(), "a".parse().unwrap());
        assert!(matches!(refused(catalog.enrol(new("p", "a", 2)).await), ProgrammeError::Changed { newest: 1, .. }));
        assert!(matches!(refused(catalog.enrol(new("q", "a", 1)).await), ProgrammeError::Missing(_)));
        assert!(matches!(catalog.enrol(new("p", "c", 1)).await, Err(CatalogError::ProjectMissing(_))));
        let (first, is_new) = catalog.enrol(new("p", "a", 1)).await.unwrap();
        assert_eq!(
            (first.version, first.organisation.as_str(), first.project_name.as_deref(), is_new),
            (1, "main", Some("a"), true)
        );
        assert_eq!(catalog.enrol(new("p", "a", 1)).await.unwrap(), (first.clone(), false));
        let change = ProgrammeChange { rule: Some(rule(30)), ..ProgrammeChange::default() };
        catalog.update_programme(&p, change).await.unwrap();
        assert_eq!(catalog.enrolment(&p, &a).await.unwrap(), Some(first), "it stays with what was consented to");
        assert!(matches!(refused(catalog.enrol(new("p", "a", 1)).await), ProgrammeError::Changed { newest: 2, .. }));
        let (second, is_new) = catalog.enrol(new("p", "a", 2)).await.unwrap();
        assert_eq!((second.version, is_new), (2, true));

        let withdrawn = catalog.withdraw_enrolment(&p, &a).await.unwrap();
        assert!(withdrawn.withdrawn_at.is_some() && withdrawn.project_name.is_none());
        assert_eq!(catalog.withdraw_enrolment(&p, &a).await.unwrap(), withdrawn);
        assert_eq!(catalog.enrolled_projects(&p).await.unwrap(), []);
        let never = catalog.withdraw_enrolment(&p, &"b".parse().unwrap()).await.unwrap_err();
        assert!(matches!(never, CatalogError::Programme(ProgrammeError::NotEnrolled { .. })));
        let (again, is_new) = catalog.enrol(new("p", "a", 2)).await.unwrap();
        assert!(is_new && again.withdrawn_at.is_none() && again.enrolled_at > second.enrolled_at);
        assert_eq!(catalog.enrolled_projects(&p).await.unwrap(), [again]);
    }

    #[tokio::test]
    async fn a_programme_takes_projects_of_the_invited_and_its_own_in_a_currency_that_its_rule_knows() {
        let (_folder, catalog) = of_main().await;
        let mut ngn = programme("p", &[]);
        ngn.rule.min_amount.insert("NGN".to_owned(), MinAmount(5));
        catalog.create_programme(ngn.clone()).await.unwrap();
        assert!(matches!(refused(catalog.enrol(new("p", "a", 1)).await), ProgrammeError::NotInvited { .. }));
        let own = NewProgramme { organisation: Some("main".parse().unwrap()), slug: "q".parse().unwrap(), ..ngn };
        catalog.create_programme(own).await.unwrap();
        let currency = refused(catalog.enrol(new("q", "a", 1)).await);
        assert!(currency.to_string().contains("least amounts in NGN, and a is paid in KES"), "{currency}");
        let mut both = rule(90);
        both.min_amount.extend([("NGN".to_owned(), MinAmount(5)), ("KES".to_owned(), MinAmount(5))]);
        let change = ProgrammeChange { rule: Some(both), ..ProgrammeChange::default() };
        catalog.update_programme(&"q".parse().unwrap(), change).await.unwrap();
        let catalog = catalog.within(CatalogLimits { enrolled: 1, ..CatalogLimits::default() });
        catalog.enrol(new("q", "a", 2)).await.unwrap();
        let full = catalog.enrol(new("q", "b", 2)).await.unwrap_err();
        assert_eq!(full.to_string(), "the limit of 1 projects of a programme (programmes.max_projects) is reached");
        catalog.withdraw_enrolment(&"q".parse().unwrap(), &"a".parse().unwrap()).await.unwrap();
        catalog.enrol(new("q", "b", 2)).await.unwrap();
    }

    #[tokio::test]
    async fn files_need_what_the_terms_ask_for_that_their_projects_consented_to() {
        let (_folder, catalog) = of_main().await;
        for (slug, columns) in [("p", vec!["STATUS", "NOTES"]), ("q", vec!["STATUS"]), ("r", vec!["LOCATION"])] {
            let mut new = programme(slug, &["main"]);
            new.required_columns = columns.into_iter().map(str::to_owned).collect();
            catalog.create_programme(new).await.unwrap();
        }
        for (programme, project) in [("p", "a"), ("q", "b"), ("r", "b")] {
            catalog.enrol(new(programme, project, 1)).await.unwrap();
        }
        let change =
            ProgrammeChange { required_columns: Some(vec!["Source".to_owned()]), ..ProgrammeChange::default() };
        catalog.update_programme(&"p".parse().unwrap(), change).await.unwrap();
        let required = async |projects: &[&str]| {
            let projects: Vec<ProjectSlug> = projects.iter().map(|slug| slug.parse().unwrap()).collect();
            let required = catalog.required_columns(&projects).await.unwrap();
            let said = |required: RequiredColumn| {
                let programmes: Vec<String> = required.programmes.into_iter().map(String::from).collect();
                format!("{}: {}", required.column, programmes.join(" "))
            };
            required.into_iter().map(said).collect::<Vec<_>>()
        };
        assert_eq!(required(&["a"]).await, ["NOTES: p", "STATUS: p"]);
        assert_eq!(required(&["a", "b"]).await, ["LOCATION: r", "NOTES: p", "STATUS: p q"]);
        catalog.withdraw_enrolment(&"p".parse().unwrap(), &"a".parse().unwrap()).await.unwrap();
        assert_eq!(required(&["a"]).await, [""; 0]);
    }

    #[tokio::test]
    async fn lists_of_enrolments_are_of_one_organisation_or_of_all() {
        let (_folder, catalog) = of_main().await;
        catalog.create_programme(programme("p", &["main", "bank"])).await.unwrap();
        sqlx::query("UPDATE projects SET organisation = 'bank' WHERE slug = 'b'").execute(&catalog.pool).await.unwrap();
        for project in ["a", "b"] {
            catalog.enrol(new("p", project, 1)).await.unwrap();
        }
        let p = "p".parse().unwrap();
        let list = async |of: Option<&str>, after: Option<&str>, limit| {
            let (of, after) = (of.map(|of| of.parse().unwrap()), after.map(|after| after.parse().unwrap()));
            let page = catalog.enrolments_page(&p, of.as_ref(), after.as_ref(), limit).await.unwrap();
            (page.items.iter().map(|enrolment| enrolment.project.to_string()).collect::<Vec<_>>(), page.more)
        };
        assert_eq!(list(None, None, 1).await, (vec!["a".to_owned()], true));
        assert_eq!(list(None, Some("a"), 1).await, (vec!["b".to_owned()], false));
        assert_eq!(list(Some("bank"), None, 9).await, (vec!["b".to_owned()], false));
        assert_eq!(list(Some("fund"), None, 9).await, (Vec::new(), false));
    }
}
