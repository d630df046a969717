//! Shares: which months of a project its organisation shows to another.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Sqlite, Transaction};
use utoipa::ToSchema;

use super::{Catalog, CatalogError, Page, ended, from_micros, now, read, sql};
use crate::{
    access::{Detail, MonthRange, Permission, Principal},
    ids::{Month, OrganisationSlug, ProjectSlug, ShareId},
};

/// One share, as the catalogue holds it and as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Share {
    pub id: ShareId,
    pub project: ProjectSlug,
    /// Whose the project is: who gives.
    pub organisation: OrganisationSlug,
    /// Who is shown it.
    pub recipient: OrganisationSlug,
    /// The first month that is shown, in UTC; null where all before `months_to` are.
    #[schema(value_type = Option<String>, pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$", example = "2024-05", required)]
    pub months_from: Option<Month>,
    /// The last month that is shown, in UTC; null where all after `months_from` are, those to come too.
    #[schema(value_type = Option<String>, pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$", example = "2024-05", required)]
    pub months_to: Option<Month>,
    pub detail: Detail,
    /// What both sides read.
    pub note: String,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: DateTime<Utc>,
    /// The start of the key that made it. Null to the recipient, and where the server's command line made it.
    #[schema(required)]
    pub created_by: Option<String>,
    /// From then on nothing is shown by it; null where it holds until it is revoked.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub expires_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A share to be made. Its months leave at least one, and its note has few enough characters.
#[derive(Clone, Debug)]
pub struct NewShare {
    pub project: ProjectSlug,
    pub recipient: OrganisationSlug,
    pub months: MonthRange,
    pub detail: Detail,
    pub note: String,
    pub expires_at: Option<DateTime<Utc>>,
    pub created_by: Option<String>,
}

/// What to change of a share: `None` leaves it, `Some(None)` opens an end.
#[derive(Clone, Debug, Default)]
pub struct ShareChange {
    pub months_from: Option<Option<Month>>,
    pub months_to: Option<Option<Month>>,
    pub detail: Option<Detail>,
    pub note: Option<String>,
    pub expires_at: Option<Option<DateTime<Utc>>>,
}

/// Which side of a share an organisation is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// It is its project's.
    Given,
    /// It is shown another's project.
    Received,
}

impl Direction {
    pub const NAMES: [&'static str; 2] = ["given", "received"];
}

impl std::str::FromStr for Direction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "given" => Ok(Self::Given),
            "received" => Ok(Self::Received),
            _ => Err(format!("{text:?} is neither of {}", Self::NAMES.join(", "))),
        }
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    project: String,
    organisation: String,
    recipient: String,
    months_from: Option<String>,
    months_to: Option<String>,
    detail: String,
    note: String,
    created_at: i64,
    created_by: Option<String>,
    expires_at: Option<i64>,
    revoked_at: Option<i64>,
}

impl TryFrom<Row> for Share {
    type Error = CatalogError;

    fn try_from(row: Row) -> Result<Self, CatalogError> {
        Ok(Self {
            id: read("share's id", &row.id)?,
            project: read("share's project", &row.project)?,
            organisation: read("project's organisation", &row.organisation)?,
            recipient: read("share's recipient", &row.recipient)?,
            months_from: month(row.months_from.as_deref())?,
            months_to: month(row.months_to.as_deref())?,
            detail: read("share's detail", &row.detail)?,
            note: row.note,
            created_at: from_micros(row.created_at),
            created_by: row.created_by,
            expires_at: row.expires_at.map(from_micros),
            revoked_at: row.revoked_at.map(from_micros),
        })
    }
}

pub(super) fn month(text: Option<&str>) -> Result<Option<Month>, CatalogError> {
    text.map(|text| read("share's month", text)).transpose()
}

impl Share {
    #[must_use]
    pub fn months(&self) -> MonthRange {
        MonthRange { from: self.months_from, to: self.months_to }
    }

    /// Why nothing is shown by it at an instant, if nothing is.
    #[must_use]
    pub fn ended(&self, at: DateTime<Utc>) -> Option<&'static str> {
        ended(self.revoked_at, self.expires_at, at)
    }
}

/// A statement that reads shares, from its condition on.
macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT shares.*, projects.organisation FROM shares JOIN projects ON slug = project ", $rest)
    };
}

const SELECT_ONE: &str = select!("WHERE id = ?");

impl Catalog {
    /// The note of a share as it is kept.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn checked_note(&self, text: &str) -> Result<String, String> {
        let (text, limit) = (text.trim(), self.limits.note);
        if text.chars().count() > limit {
            return Err(format!("a note is at most {limit} characters, which shares.max_note_chars says"));
        }
        if text.chars().any(|c| c.is_control() && c != '\n') {
            return Err("a note has no character that commands a terminal".to_owned());
        }
        Ok(text.to_owned())
    }

    /// Makes a share.
    ///
    /// # Errors
    /// [`CatalogError::ProjectMissing`], [`CatalogError::RecipientMissing`], [`CatalogError::SharedWithOwner`];
    /// [`CatalogError::NoMonths`]; [`CatalogError::TooMany`] at the limit of the project, and at that of all.
    pub async fn create_share(&self, new: NewShare) -> Result<Share, CatalogError> {
        let failed = || sql("make a share");
        if !new.months.holds_any() {
            return Err(CatalogError::NoMonths);
        }
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let owner: Option<String> = sqlx::query_scalar("SELECT organisation FROM projects WHERE slug = ?")
            .bind(new.project.as_str())
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed())?;
        let owner = owner.ok_or_else(|| CatalogError::ProjectMissing(new.project.clone()))?;
        if owner == new.recipient.as_str() {
            return Err(CatalogError::SharedWithOwner(new.recipient));
        }
        let (of_project, of_all): (u32, u32) =
            sqlx::query_as("SELECT count(*) FILTER (WHERE project = ? AND revoked_at IS NULL), count(*) FROM shares")
                .bind(new.project.as_str())
                .fetch_one(&mut *tx)
                .await
                .map_err(failed())?;
        let limits = self.limits;
        if of_project >= limits.shares_of_project {
            let what = "shares of a project (shares.per_project)";
            return Err(CatalogError::TooMany { what, limit: limits.shares_of_project });
        }
        if of_all >= limits.shares {
            return Err(CatalogError::TooMany { what: "shares (shares.per_server)", limit: limits.shares });
        }
        let (id, mut mask_key) = (ShareId::new(), [0; 32]);
        getrandom::fill(&mut mask_key).map_err(CatalogError::NoRandomness)?;
        let inserted = sqlx::query(
            "INSERT INTO shares (id, project, recipient, months_from, months_to, detail, note, created_at, created_by, expires_at,
                 mask_key)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(id.as_str())
        .bind(new.project.as_str())
        .bind(new.recipient.as_str())
        .bind(new.months.from.map(String::from))
        .bind(new.months.to.map(String::from))
        .bind(new.detail.as_str())
        .bind(&new.note)
        .bind(now().timestamp_micros())
        .bind(&new.created_by)
        .bind(new.expires_at.map(|at| at.timestamp_micros()))
        .bind(&mask_key[..])
        .execute(&mut *tx)
        .await;
        match inserted {
            Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => {
                return Err(CatalogError::RecipientMissing(new.recipient));
            }
            other => other.map_err(failed())?,
        };
        let made = share_in(&mut tx, &id).await?;
        tx.commit().await.map_err(failed())?;
        Ok(made)
    }

    /// The share, whoever asks.
    pub async fn share(&self, id: &ShareId) -> Result<Option<Share>, CatalogError> {
        let row: Option<Row> = sqlx::query_as(SELECT_ONE)
            .bind(id.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(sql("read a share"))?;
        row.map(Share::try_from).transpose()
    }

    /// At most `limit` of the shares of a project, whoever asks, the newest first, those made before `after`; of all projects
    /// where none is named. Those that ended are among them.
    pub async fn shares_of(
        &self,
        project: Option<&ProjectSlug>,
        after: Option<&ShareId>,
        limit: u32,
    ) -> Result<Page<Share>, CatalogError> {
        let rows: Vec<Row> = sqlx::query_as(select!(
            "WHERE (?1 IS NULL OR project = ?1) AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3"
        ))
        .bind(project.map(ProjectSlug::as_str))
        .bind(after.map(ShareId::as_str))
        .bind(limit.saturating_add(1))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list shares"))?;
        page(rows, limit)
    }

    /// At most `limit` of the shares on whose one side `principal` is, the newest first, those made before `after`. Of those
    /// that it gives, all are there, for who has them in hand; of those that it receives, those that hold. To an administrator,
    /// who is above all organisations, each is given.
    pub async fn shares_page(
        &self,
        principal: &Principal,
        direction: Option<Direction>,
        after: Option<&ShareId>,
        limit: u32,
    ) -> Result<Page<Share>, CatalogError> {
        let given = principal.role.may(Permission::Manage) && direction != Some(Direction::Received);
        let received = principal.role.may(Permission::ReadMetrics) && direction != Some(Direction::Given);
        let rows: Vec<Row> = sqlx::query_as(select!(
            "WHERE (?1 IS NULL OR id < ?1)
               AND ((?2 AND (?3 IS NULL OR organisation = ?3))
                    OR (?4 AND recipient = ?3 AND revoked_at IS NULL AND coalesce(expires_at > ?5, true)))
             ORDER BY id DESC LIMIT ?6"
        ))
        .bind(after.map(ShareId::as_str))
        .bind(given)
        .bind(principal.reach().bound())
        .bind(received)
        .bind(now().timestamp_micros())
        .bind(limit.saturating_add(1))
        .fetch_all(&self.pool)
        .await
        .map_err(sql("list shares"))?;
        page(rows, limit)
    }

    /// Changes a share, also one that expired.
    ///
    /// # Errors
    /// [`CatalogError::ShareMissing`], [`CatalogError::ShareRevoked`], [`CatalogError::NoMonths`].
    pub async fn update_share(&self, id: &ShareId, change: ShareChange) -> Result<Share, CatalogError> {
        let failed = || sql("change a share");
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let mut share = share_in(&mut tx, id).await?;
        if share.revoked_at.is_some() {
            return Err(CatalogError::ShareRevoked(id.clone()));
        }
        share.months_from = change.months_from.unwrap_or(share.months_from);
        share.months_to = change.months_to.unwrap_or(share.months_to);
        share.detail = change.detail.unwrap_or(share.detail);
        share.note = change.note.unwrap_or(share.note);
        share.expires_at = change.expires_at.unwrap_or(share.expires_at);
        if !share.months().holds_any() {
            return Err(CatalogError::NoMonths);
        }
        sqlx::query(
            "UPDATE shares SET months_from = ?, months_to = ?, detail = ?, note = ?, expires_at = ? WHERE id = ?",
        )
        .bind(share.months_from.map(String::from))
        .bind(share.months_to.map(String::from))
        .bind(share.detail.as_str())
        .bind(&share.note)
        .bind(share.expires_at.map(|at| at.timestamp_micros()))
        .bind(id.as_str())
        .execute(&mut *tx)
        .await
        .map_err(failed())?;
        let changed = share_in(&mut tx, id).await?;
        tx.commit().await.map_err(failed())?;
        Ok(changed)
    }

    /// Revokes a share for good. To revoke it again changes nothing.
    ///
    /// # Errors
    /// [`CatalogError::ShareMissing`].
    pub async fn revoke_share(&self, id: &ShareId) -> Result<Share, CatalogError> {
        sqlx::query("UPDATE shares SET revoked_at = coalesce(revoked_at, ?) WHERE id = ?")
            .bind(now().timestamp_micros())
            .bind(id.as_str())
            .execute(&self.pool)
            .await
            .map_err(sql("revoke a share"))?;
        self.share(id).await?.ok_or_else(|| CatalogError::ShareMissing(id.clone()))
    }
}

async fn share_in(tx: &mut Transaction<'_, Sqlite>, id: &ShareId) -> Result<Share, CatalogError> {
    let row: Option<Row> =
        sqlx::query_as(SELECT_ONE).bind(id.as_str()).fetch_optional(&mut **tx).await.map_err(sql("read a share"))?;
    row.ok_or_else(|| CatalogError::ShareMissing(id.clone())).and_then(Share::try_from)
}

fn page(rows: Vec<Row>, limit: u32) -> Result<Page<Share>, CatalogError> {
    let shares = rows.into_iter().map(Share::try_from).collect::<Result<Vec<_>, _>>()?;
    Ok(Page::of(shares, limit))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::{
        access::{Role, Scope},
        catalog::{CatalogLimits, tests::with_projects},
    };

    fn share(project: &str, recipient: &str) -> NewShare {
        NewShare {
            project: project.parse().unwrap(),
            recipient: recipient.parse().unwrap(),
            months: MonthRange { from: "2024-05".parse().ok(), to: "2024-06".parse().ok() },
            detail: Detail::Full,
            note: String::new(),
            expires_at: None,
            created_by: Some("k".to_owned()),
        }
    }

    fn viewer(organisation: &str) -> Principal {
        Principal { role: Role::Viewer, organisation: organisation.parse().ok(), ..Principal::admin("k") }
    }

    async fn catalog() -> (tempfile::TempDir, Catalog) {
        let (folder, catalog) = with_projects(&["a", "b"]).await;
        for slug in ["fund", "bank"] {
            catalog.create_organisation(slug.parse().unwrap(), slug.to_owned()).await.unwrap();
        }
        (folder, catalog)
    }

    /// The project and month pairs of May to July that a scope has.
    fn seen(scope: &Scope) -> Vec<String> {
        let months = ["2024-05", "2024-06", "2024-07"];
        let pairs = scope.projects().flat_map(|project| months.map(|month| (project.clone(), month)));
        pairs
            .filter(|(project, month)| scope.sight(project, month.parse().unwrap()).is_some())
            .map(|(project, month)| format!("{project} {month}"))
            .collect()
    }

    #[tokio::test]
    async fn a_scope_has_what_is_shared_now_and_no_more_once_it_is_revoked_or_expired() {
        let (_folder, catalog) = catalog().await;
        let fund = viewer("fund");
        let scope = async |wanted: &[&str]| {
            let wanted: Vec<ProjectSlug> = wanted.iter().map(|slug| slug.parse().unwrap()).collect();
            catalog.scope(&fund, &wanted).await.unwrap().map(|scope| seen(&scope))
        };
        assert_eq!((scope(&[]).await, scope(&["a"]).await), (Some(Vec::new()), None));
        let first = catalog.create_share(share("a", "fund")).await.unwrap();
        let expires_at = Some(now() + TimeDelta::hours(1));
        let july = MonthRange { from: "2024-07".parse().ok(), to: None };
        let second = catalog.create_share(NewShare { months: july, expires_at, ..share("a", "fund") }).await.unwrap();
        catalog.create_share(share("b", "bank")).await.unwrap();
        assert_eq!(scope(&[]).await.unwrap(), ["a 2024-05", "a 2024-06", "a 2024-07"]);
        assert_eq!(scope(&["a"]).await, scope(&[]).await);
        assert_eq!((scope(&["b"]).await, scope(&["a", "b"]).await), (None, None));
        let ended = ShareChange { expires_at: Some(Some(now())), ..ShareChange::default() };
        catalog.update_share(&second.id, ended).await.unwrap();
        assert_eq!(scope(&["a"]).await.unwrap(), ["a 2024-05", "a 2024-06"]);
        let open = ShareChange { expires_at: Some(None), months_from: Some(None), ..ShareChange::default() };
        assert_eq!(catalog.update_share(&second.id, open).await.unwrap().expires_at, None);
        let revoked = catalog.revoke_share(&first.id).await.unwrap();
        assert_eq!(revoked.ended(now()), Some("revoked"));
        assert_eq!(catalog.revoke_share(&first.id).await.unwrap(), revoked, "it stays as it was");
        assert_eq!(scope(&["a"]).await.unwrap(), ["a 2024-05", "a 2024-06", "a 2024-07"], "the other is open now");
        catalog.revoke_share(&second.id).await.unwrap();
        assert_eq!((scope(&[]).await, scope(&["a"]).await), (Some(Vec::new()), None));
        let late = catalog.update_share(&first.id, ShareChange::default()).await;
        assert!(matches!(late, Err(CatalogError::ShareRevoked(_))));
    }

    #[tokio::test]
    async fn a_share_that_shows_nobody_anything_is_not_made() {
        let (_folder, catalog) = catalog().await;
        let made = async |new: NewShare| catalog.create_share(new).await.map(|share| share.id);
        assert!(matches!(made(share("a", "main")).await, Err(CatalogError::SharedWithOwner(_))));
        assert!(matches!(made(share("a", "nobody")).await, Err(CatalogError::RecipientMissing(_))));
        assert!(matches!(made(share("c", "fund")).await, Err(CatalogError::ProjectMissing(_))));
        let backwards = MonthRange { from: "2024-06".parse().ok(), to: "2024-05".parse().ok() };
        assert!(matches!(
            made(NewShare { months: backwards, ..share("a", "fund") }).await,
            Err(CatalogError::NoMonths)
        ));
        let id = made(share("a", "fund")).await.unwrap();
        let april = ShareChange { months_to: Some("2024-04".parse().ok()), ..ShareChange::default() };
        assert!(matches!(catalog.update_share(&id, april).await, Err(CatalogError::NoMonths)));
        assert!(matches!(catalog.revoke_share(&ShareId::new()).await, Err(CatalogError::ShareMissing(_))));
    }

    #[tokio::test]
    async fn a_project_and_a_server_have_so_many_shares_as_the_settings_say_and_a_revoked_one_makes_room_in_its_project()
     {
        let (_folder, catalog) = catalog().await;
        let catalog = catalog.within(CatalogLimits { shares_of_project: 3, shares: 5, ..CatalogLimits::default() });
        let first = catalog.create_share(share("a", "fund")).await.unwrap();
        for _ in 1..3 {
            catalog.create_share(share("a", "bank")).await.unwrap();
        }
        let full = catalog.create_share(share("a", "bank")).await.unwrap_err();
        assert_eq!(full.to_string(), "the limit of 3 shares of a project (shares.per_project) is reached");
        catalog.create_share(share("b", "bank")).await.unwrap();
        catalog.revoke_share(&first.id).await.unwrap();
        catalog.create_share(share("a", "bank")).await.unwrap();
        let full = catalog.create_share(share("b", "bank")).await.unwrap_err();
        assert_eq!(full.to_string(), "the limit of 5 shares (shares.per_server) is reached");
    }

    #[tokio::test]
    async fn lists_have_what_is_given_for_who_has_it_in_hand_and_what_is_received_while_it_holds() {
        let (_folder, catalog) = catalog().await;
        let to_fund = catalog.create_share(share("a", "fund")).await.unwrap().id;
        let to_bank = catalog.create_share(share("a", "bank")).await.unwrap().id;
        let list = async |principal: &Principal, direction| {
            let page = catalog.shares_page(principal, direction, None, 9).await.unwrap();
            page.items.into_iter().map(|share| share.id).collect::<Vec<_>>()
        };
        let both = vec![to_bank.clone(), to_fund.clone()];
        let manager = Principal { role: Role::Manager, ..viewer("main") };
        assert_eq!(list(&manager, None).await, both);
        assert_eq!(list(&manager, Some(Direction::Received)).await, []);
        assert_eq!(list(&viewer("main"), None).await, []);
        assert_eq!(list(&viewer("fund"), None).await, std::slice::from_ref(&to_fund));
        assert_eq!(list(&viewer("fund"), Some(Direction::Given)).await, []);
        assert_eq!(list(&Principal::admin("k"), None).await, both);
        assert_eq!(list(&Principal::admin("k"), Some(Direction::Received)).await, []);
        let nobody = Principal { organisation: None, ..manager.clone() };
        assert_eq!(list(&nobody, None).await, []);
        catalog.revoke_share(&to_fund).await.unwrap();
        assert_eq!(list(&viewer("fund"), None).await, []);
        assert_eq!(list(&manager, None).await, both, "what ended is still to be looked up by who gave it");
        let first = catalog.shares_of(Some(&"a".parse().unwrap()), None, 1).await.unwrap();
        assert_eq!((first.items[0].id.clone(), first.more), (to_bank.clone(), true));
        let rest = catalog.shares_of(None, Some(&to_bank), 1).await.unwrap();
        assert_eq!((rest.items[0].id.clone(), rest.more), (to_fund, false));
    }
}
