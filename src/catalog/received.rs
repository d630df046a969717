//! What is shared with an organisation now: what a scope needs to know of its shares.

use super::{Catalog, CatalogError, now, projects::json_array, read, shares::month, sql};
use crate::{
    access::{MaskKey, MonthRange, Principal, Reach, Shared},
    ids::{OrganisationSlug, ProjectSlug},
};

#[derive(sqlx::FromRow)]
struct SharedRow {
    id: String,
    project: String,
    months_from: Option<String>,
    months_to: Option<String>,
    detail: String,
    mask_key: Vec<u8>,
}

impl SharedRow {
    fn shared_with(self, recipient: &OrganisationSlug) -> Result<Shared, CatalogError> {
        let unreadable =
            |key: Vec<u8>| CatalogError::Unreadable { what: "share's secret", value: key.len().to_string() };
        Ok(Shared {
            share: read("share's id", &self.id)?,
            project: read("share's project", &self.project)?,
            recipient: recipient.clone(),
            months: MonthRange { from: month(self.months_from.as_deref())?, to: month(self.months_to.as_deref())? },
            detail: read("share's detail", &self.detail)?,
            mask_key: MaskKey(self.mask_key.try_into().map_err(unreadable)?),
        })
    }
}

impl Catalog {
    /// What is shared now with the organisation of `principal`, of `wanted` projects; of all where it is empty.
    pub(super) async fn shared_with(
        &self,
        principal: &Principal,
        wanted: &[ProjectSlug],
    ) -> Result<Vec<Shared>, CatalogError> {
        let Reach::Organisation(recipient) = principal.reach() else { return Ok(Vec::new()) };
        // Apart, so that the index finds what is wanted among all that an organisation receives.
        let statement = if wanted.is_empty() {
            "SELECT id, project, months_from, months_to, detail, mask_key FROM shares
             WHERE recipient = ?1 AND revoked_at IS NULL AND coalesce(expires_at > ?2, true)"
        } else {
            "SELECT id, project, months_from, months_to, detail, mask_key FROM shares
             WHERE recipient = ?1 AND project IN (SELECT value FROM json_each(?3))
               AND revoked_at IS NULL AND coalesce(expires_at > ?2, true)"
        };
        let mut query = sqlx::query_as(statement).bind(recipient.as_str()).bind(now().timestamp_micros());
        if !wanted.is_empty() {
            query = query.bind(json_array(wanted));
        }
        let rows: Vec<SharedRow> = query.fetch_all(&self.pool).await.map_err(sql("read what is shared"))?;
        rows.into_iter().map(|row| row.shared_with(recipient)).collect()
    }
}
