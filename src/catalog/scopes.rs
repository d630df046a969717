//! What a principal may see: the projects of its reach and what is shared with it, in one look at the catalogue, which
//! every request takes.

use rusqlite::types::Value;

use super::{Catalog, CatalogError, now, projects::json_array, read, shares::month};
use crate::{
    access::{MaskKey, MonthRange, Principal, ProjectOwner, Reach, Scope, Shared},
    ids::{OrganisationSlug, ProjectSlug},
};

/// A project with its organisation, or a share with its months, detail and secret: the columns of each query here.
struct Seen {
    project: String,
    organisation: Option<String>,
    id: Option<String>,
    months_from: Option<String>,
    months_to: Option<String>,
    detail: Option<String>,
    mask_key: Option<Vec<u8>>,
}

/// Projects where a condition holds.
macro_rules! projects {
    ($($condition:literal)?) => {
        concat!(
            "SELECT slug AS project, organisation, NULL AS id, NULL AS months_from, NULL AS months_to, NULL AS detail,
                NULL AS mask_key FROM projects ", $($condition)?
        )
    };
}

/// What is shared with an organisation now, where a condition holds.
macro_rules! shares {
    ($($condition:literal)?) => {
        concat!(
            " UNION ALL SELECT project, NULL, id, months_from, months_to, detail, mask_key FROM shares
              WHERE recipient = ?1 AND revoked_at IS NULL AND coalesce(expires_at > ?2, true) ", $($condition)?
        )
    };
}

// What is wanted is asked apart, so that the indices find it among all that there is.
const ALL: &str = projects!();
const WANTED: &str = projects!("WHERE slug IN (SELECT value FROM json_each(?1))");
const ALL_OF_ONE: &str = concat!(projects!("WHERE organisation = ?1"), shares!());
const WANTED_OF_ONE: &str = concat!(
    projects!("WHERE slug IN (SELECT value FROM json_each(?3))"),
    shares!("AND project IN (SELECT value FROM json_each(?3))")
);

impl Catalog {
    /// What `principal` may see, narrowed to `wanted` (everything where it is empty). `None` where one of `wanted` is absent,
    /// or foreign.
    pub async fn scope(&self, principal: &Principal, wanted: &[ProjectSlug]) -> Result<Option<Scope>, CatalogError> {
        // Only as much is read as can be in it; what is in it is decided by `Scope` alone.
        let at = now().timestamp_micros();
        let text = |text: &str| Value::from(text.to_owned());
        let (query, values) = match (principal.reach(), wanted) {
            (Reach::Nothing, _) => return Ok(Scope::of(principal, []).narrowed(wanted).ok()),
            (Reach::Server, []) => (ALL, Vec::new()),
            (Reach::Server, wanted) => (WANTED, vec![json_array(wanted).into()]),
            (Reach::Organisation(own), []) => (ALL_OF_ONE, vec![text(own.as_str()), at.into()]),
            (Reach::Organisation(own), wanted) => {
                (WANTED_OF_ONE, vec![text(own.as_str()), at.into(), json_array(wanted).into()])
            }
        };
        let rows = self.readers.all("read a scope", query, &values, Seen::of).await?;
        let (mut existing, mut shared) = (Vec::new(), Vec::new());
        for row in rows {
            match (row.organisation.as_deref(), principal.reach()) {
                (Some(owner), _) => existing.push(row.owned_by(owner)?),
                (None, Reach::Organisation(recipient)) => shared.push(row.shared_with(recipient)?),
                (None, Reach::Server | Reach::Nothing) => {}
            }
        }
        Ok(Scope::of(principal, existing).and_shared(principal, shared).narrowed(wanted).ok())
    }
}

impl Seen {
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            project: row.get(0)?,
            organisation: row.get(1)?,
            id: row.get(2)?,
            months_from: row.get(3)?,
            months_to: row.get(4)?,
            detail: row.get(5)?,
            mask_key: row.get(6)?,
        })
    }

    fn owned_by(&self, organisation: &str) -> Result<ProjectOwner, CatalogError> {
        let organisation = read("project's organisation", organisation)?;
        Ok(ProjectOwner { project: read("project's slug", &self.project)?, organisation })
    }

    fn shared_with(self, recipient: &OrganisationSlug) -> Result<Shared, CatalogError> {
        let unreadable =
            |key: Vec<u8>| CatalogError::Unreadable { what: "share's secret", value: key.len().to_string() };
        let mask_key = self.mask_key.unwrap_or_default().try_into().map_err(unreadable)?;
        Ok(Shared {
            share: read("share's id", &self.id.unwrap_or_default())?,
            project: read("share's project", &self.project)?,
            recipient: recipient.clone(),
            months: MonthRange { from: month(self.months_from.as_deref())?, to: month(self.months_to.as_deref())? },
            detail: read("share's detail", &self.detail.unwrap_or_default())?,
            mask_key: MaskKey(mask_key),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::Role, catalog::tests::with_projects};

    fn slugs<const N: usize>(names: [&str; N]) -> Vec<ProjectSlug> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_scope_holds_what_is_within_reach_and_foreign_is_as_absent() {
        let (_folder, catalog) = with_projects(&["a", "b", "c"]).await;
        catalog.create_organisation("hill".parse().unwrap(), "Hill".to_owned()).await.unwrap();
        sqlx::query("UPDATE projects SET organisation = 'hill' WHERE slug = 'b'").execute(&catalog.pool).await.unwrap();
        let admin = Principal::admin("k");
        let viewer = Principal { role: Role::Viewer, organisation: Some(OrganisationSlug::main()), ..admin.clone() };
        let projects = async |principal: &Principal, wanted: &[ProjectSlug]| {
            let scope = catalog.scope(principal, wanted).await.unwrap()?;
            let listed = catalog.projects_page(&scope, None, 10).await.unwrap().items;
            assert_eq!(catalog.projects_in(&scope).await.unwrap(), listed);
            Some(listed.into_iter().map(|project| project.slug).collect::<Vec<_>>())
        };
        assert_eq!(projects(&admin, &[]).await, Some(slugs(["a", "b", "c"])));
        assert_eq!(projects(&viewer, &[]).await, Some(slugs(["a", "c"])));
        assert_eq!(projects(&viewer, &slugs(["c"])).await, Some(slugs(["c"])));
        assert_eq!(projects(&viewer, &slugs(["a", "b"])).await, None);
        assert_eq!(projects(&viewer, &slugs(["a", "nowhere"])).await, None);
        assert_eq!(projects(&Principal { organisation: None, ..viewer }, &[]).await, Some(slugs([])));
    }
}
