//! A key that takes the place of another: both hold for a while, so that whoever holds the old one has time to change.

use std::time::Duration;

use chrono::TimeDelta;

use super::{
    ApiKey, Catalog, CatalogError, KeyTerms, NewKey,
    keys::{Row, SELECT_ONE, insert_key},
    now, sql,
};

/// A key that was rotated.
pub struct Rotation {
    pub new: NewKey,
    /// As it is now.
    pub old: ApiKey,
}

impl Catalog {
    /// Makes a key that is as an earlier one in all but its secret, and lets that one end after `overlap`, which is cut at
    /// [`CatalogLimits::overlap`](super::CatalogLimits::overlap), or when it would have ended anyway. The new one lives as long from now as the old one from
    /// when it was made.
    ///
    /// # Errors
    /// [`CatalogError::KeyMissing`]; [`CatalogError::KeyEnded`] for a key that no longer holds or was rotated before.
    pub async fn rotate_key(&self, prefix: &str, overlap: Duration) -> Result<Rotation, CatalogError> {
        let failed = || sql("rotate a key");
        let overlap = TimeDelta::from_std(overlap.min(self.limits.overlap)).unwrap_or_default();
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
        let row: Option<Row> =
            sqlx::query_as(SELECT_ONE).bind(prefix).fetch_optional(&mut *tx).await.map_err(failed())?;
        let missing = || CatalogError::KeyMissing(prefix.to_owned());
        let mut old = row.ok_or_else(missing).and_then(ApiKey::try_from)?;
        let at = now();
        let ended = old.ended(at).or_else(|| old.replaced_by.as_ref().map(|_| "rotated already"));
        if let Some(how) = ended {
            return Err(CatalogError::KeyEnded { prefix: old.prefix, how });
        }
        let terms = KeyTerms {
            name: old.name.clone(),
            role: old.role,
            organisation: old.organisation.clone(),
            expires_at: old.expires_at.map(|ends| at + (ends - old.created_at)),
        };
        let new = insert_key(&mut tx, terms, Some(&old.prefix)).await?;
        let ends = old.expires_at.map_or(at + overlap, |ends| ends.min(at + overlap));
        sqlx::query("UPDATE api_keys SET expires_at = ? WHERE prefix = ?")
            .bind(ends.timestamp_micros())
            .bind(prefix)
            .execute(&mut *tx)
            .await
            .map_err(failed())?;
        tx.commit().await.map_err(failed())?;
        old.expires_at = Some(ends);
        old.replaced_by = Some(new.key.prefix.clone());
        Ok(Rotation { new, old })
    }

    /// The keys that one took the place of, and those that these did.
    pub(super) async fn earlier_keys(&self, prefix: &str) -> Result<Vec<String>, CatalogError> {
        sqlx::query_scalar(
            "WITH RECURSIVE earlier (prefix) AS (
                 SELECT rotated_from FROM api_keys WHERE prefix = ?
                 UNION SELECT rotated_from FROM api_keys JOIN earlier USING (prefix)
             )
             SELECT prefix FROM earlier WHERE prefix IS NOT NULL",
        )
        .bind(prefix)
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read the keys before a key"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::Role, catalog::tests::with_projects};

    #[tokio::test]
    async fn both_keys_hold_until_the_overlap_ends_and_the_new_one_goes_on() {
        let (_folder, catalog) = with_projects(&[]).await;
        let expires_at = Some(now() + TimeDelta::days(90));
        let terms = KeyTerms { role: Role::Analyst, expires_at, ..KeyTerms::of_admin("laptop") };
        let first = catalog.create_key(terms).await.unwrap();
        let Rotation { new, old } = catalog.rotate_key(&first.key.prefix, Duration::from_hours(1)).await.unwrap();
        assert_eq!((&new.key.name, new.key.role), (&first.key.name, Role::Analyst));
        assert_eq!(new.key.organisation, first.key.organisation);
        assert_eq!(new.key.rotated_from.as_ref(), Some(&first.key.prefix));
        assert!(new.key.expires_at > expires_at, "it lives as long as the first was to");
        assert_eq!(catalog.key(&first.key.prefix).await.unwrap().unwrap(), old);
        assert!(old.expires_at < expires_at && old.replaced_by == Some(new.key.prefix.clone()));
        for secret in [&first.secret, &new.secret] {
            assert!(catalog.verify_key(secret).await.unwrap().principal().is_some());
        }

        let last = catalog.rotate_key(&new.key.prefix, Duration::ZERO).await.unwrap().new;
        assert!(
            catalog.verify_key(&new.secret).await.unwrap().principal().is_none(),
            "an overlap of nothing ends it at once"
        );
        assert!(catalog.verify_key(&last.secret).await.unwrap().principal().is_some());
        for (prefix, told) in [(&first.key.prefix, "rotated already"), (&new.key.prefix, "expired")] {
            let error = catalog.rotate_key(prefix, Duration::ZERO).await.err().unwrap();
            assert!(matches!(error, CatalogError::KeyEnded { how, .. } if how == told), "{error}");
        }
        assert!(matches!(catalog.rotate_key("aaaaaaaa", Duration::ZERO).await, Err(CatalogError::KeyMissing(_))));
    }

    #[tokio::test]
    async fn an_uploaders_key_has_all_keys_before_it_and_none_after_it() {
        let (_folder, catalog) = with_projects(&[]).await;
        let terms = KeyTerms { role: Role::Uploader, ..KeyTerms::of_admin("meter gateway") };
        let first = catalog.create_key(terms.clone()).await.unwrap();
        let another = catalog.create_key(terms).await.unwrap();
        let second = catalog.rotate_key(&first.key.prefix, catalog.limits.overlap).await.unwrap().new;
        let third = catalog.rotate_key(&second.key.prefix, catalog.limits.overlap).await.unwrap().new;
        let before = async |secret: &str| {
            let mut keys = catalog.verify_key(secret).await.unwrap().principal().unwrap().earlier_keys;
            keys.sort();
            keys
        };
        let mut both = vec![first.key.prefix.clone(), second.key.prefix.clone()];
        both.sort();
        assert_eq!(before(&third.secret).await, both);
        assert_eq!(before(&second.secret).await, std::slice::from_ref(&first.key.prefix));
        assert_eq!(before(&first.secret).await, [""; 0]);
        assert_eq!(before(&another.secret).await, [""; 0]);
    }
}
