//! The rights that a request rests on: that its key holds, and that what it asks for of other organisations is still shared. They
//! are asked for again and again while its body comes, while it is worked on and while its answer is sent (`watch.rs`), so that
//! all of these end within a second of what was revoked or expired.

use std::{io, pin::pin, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Problem, auth::unauthenticated};
use crate::{
    access::{Principal, Scope},
    catalog::{Catalog, CatalogError},
    error::ErrorKind,
    ids::ProjectSlug,
};

/// How often rights are asked for again. What is revoked ends within a second: the rest of it is for asking and ending.
pub(super) const ASKED_EVERY: Duration = Duration::from_millis(500);

/// Of one request.
#[derive(Clone)]
pub(super) struct Rights {
    catalog: Catalog,
    principal: Principal,
    /// What is seen, where some of it is another organisation's. What is the caller's own is not asked for.
    shared: Option<Scope>,
}

/// Why a request is not taken to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    #[error("the key of the request was revoked, or expired, meanwhile")]
    Key,
    #[error("what was shared changed while this was answered; ask again, for what still is")]
    Share,
    #[error("whether the request still has its rights")]
    Unknown(#[from] CatalogError),
}

impl From<Lost> for Problem {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Key => unauthenticated(),
            Lost::Share => Self::new(ErrorKind::Conflict, "share_ended", lost.to_string()),
            Lost::Unknown(error) => error.into(),
        }
    }
}

impl Rights {
    /// Those of a key.
    pub(super) fn of(catalog: &Catalog, principal: &Principal) -> Self {
        Self { catalog: catalog.clone(), principal: principal.clone(), shared: None }
    }

    /// Besides, to what is shared of a scope.
    pub(super) fn to(mut self, scope: &Scope) -> Self {
        self.shared = scope.has_shared().then(|| scope.clone());
        self
    }

    /// Whether these are those of the other, so that one look is enough for both.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.principal == other.principal && self.shared == other.shared
    }

    /// Whether they are still there.
    pub(super) async fn ask(&self) -> Result<(), Lost> {
        if !self.catalog.key_holds(&self.principal.key_prefix).await? {
            return Err(Lost::Key);
        }
        let Some(scope) = &self.shared else { return Ok(()) };
        let projects: Vec<ProjectSlug> = scope.projects().cloned().collect();
        let now = self.catalog.scope(&self.principal, &projects).await?;
        if now.is_some_and(|now| now.still_has(scope)) { Ok(()) } else { Err(Lost::Share) }
    }

    /// What work comes to. Where the rights end before it does, it is dropped; they are asked for once more at its end, so that
    /// nothing is answered by rights that ended meanwhile.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> Result<T, Lost> {
        let mut work = pin!(work);
        loop {
            let done = timeout(ASKED_EVERY, &mut work).await;
            self.ask().await?;
            if let Ok(done) = done {
                return Ok(done);
            }
        }
    }

    /// The bytes of a request's body, also of one that does not come. The rights are asked for once more at its end, so that
    /// nothing lands by rights that ended meanwhile. An error holds [`Lost`].
    pub(super) fn body(&self, body: impl Stream<Item = io::Result<Bytes>>) -> impl Stream<Item = io::Result<Bytes>> {
        let next_look = || Instant::now() + ASKED_EVERY;
        stream::try_unfold((Box::pin(body), next_look()), move |(mut body, mut look_at)| async move {
            loop {
                let came = timeout_at(look_at, body.next()).await;
                if !matches!(came, Ok(Some(_))) || look_at <= Instant::now() {
                    self.ask().await.map_err(io::Error::other)?;
                    look_at = next_look();
                }
                if let Ok(chunk) = came {
                    return Ok(chunk.transpose()?.map(|chunk| (chunk, (body, look_at))));
                }
            }
        })
    }
}

/// The rights that an answer goes on by which is sent while it is made.
pub(super) struct Standing {
    rights: Rights,
    look_at: Instant,
}

impl Standing {
    pub(super) fn new(catalog: &Catalog, principal: &Principal, scope: &Scope) -> Self {
        Self { rights: Rights::of(catalog, principal).to(scope), look_at: Instant::now() + ASKED_EVERY }
    }

    /// What work comes to. The rights are asked for when it is time, and before anything that comes later is given out.
    pub(super) async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Problem> {
        let mut work = pin!(work);
        loop {
            if self.look_at <= Instant::now() {
                self.check().await?;
            } else if let Ok(done) = timeout_at(self.look_at, &mut work).await {
                return Ok(done);
            }
        }
    }

    /// Asks now: what was revoked by now is given out no further.
    pub(super) async fn check(&mut self) -> Result<(), Problem> {
        self.look_at = Instant::now() + ASKED_EVERY;
        Ok(self.rights.ask().await?)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use futures::TryStreamExt;

    use super::*;
    use crate::{
        access::{Detail, MonthRange, Role},
        catalog::{KeyTerms, NewKey, NewShare, ProjectText, Share},
    };

    /// A catalogue with a project of `main` that is shared with `fund`, and a viewer of each.
    pub(in crate::http) struct World {
        pub(in crate::http) catalog: Catalog,
        pub(in crate::http) owner: NewKey,
        pub(in crate::http) fund: NewKey,
        pub(in crate::http) share: Share,
        _folder: tempfile::TempDir,
    }

    impl World {
        pub(in crate::http) async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let catalog = Catalog::open(folder.path()).await.unwrap();
            let text = |value: &str| Some(value.to_owned());
            let project = ProjectText {
                slug: text("hill"),
                name: text("Hill"),
                kind: text("shs"),
                currency: text("KES"),
                time_zone: text("Africa/Nairobi"),
                country: text("KE"),
                organisation: None,
            };
            let project = catalog.create_project(project.into_new().unwrap()).await.unwrap();
            catalog.create_organisation("fund".parse().unwrap(), "Fund".to_owned()).await.unwrap();
            let share = NewShare {
                project: project.slug,
                recipient: "fund".parse().unwrap(),
                months: MonthRange::ALL,
                detail: Detail::Full,
                note: String::new(),
                expires_at: None,
                created_by: None,
            };
            let share = catalog.create_share(share).await.unwrap();
            let viewer = async |organisation: &str| {
                let organisation = Some(organisation.parse().unwrap());
                let terms = KeyTerms { role: Role::Viewer, organisation, ..KeyTerms::of_admin("v") };
                catalog.create_key(terms).await.unwrap()
            };
            let (owner, fund) = (viewer("main").await, viewer("fund").await);
            Self { catalog, owner, fund, share, _folder: folder }
        }

        /// What a key has to all that it sees.
        pub(in crate::http) async fn rights(&self, key: &NewKey) -> Rights {
            let principal = self.catalog.verify_key(&key.secret).await.unwrap().principal().unwrap();
            let scope = self.catalog.scope(&principal, &[]).await.unwrap().unwrap();
            Rights::of(&self.catalog, &principal).to(&scope)
        }

        pub(in crate::http) async fn revoke(&self, key: &NewKey) {
            self.catalog.revoke_key(&key.key.prefix).await.unwrap();
        }
    }

    #[tokio::test]
    async fn work_on_what_is_shared_ends_with_its_share_and_work_on_ones_own_goes_on() {
        let world = World::new().await;
        let (fund, owner) = (world.rights(&world.fund).await, world.rights(&world.owner).await);
        assert_eq!(fund.during(async { 1 }).await.ok(), Some(1));
        let running = fund.during(std::future::pending::<()>());
        let (ended, _) = tokio::join!(running, world.catalog.revoke_share(&world.share.id));
        assert!(matches!(ended, Err(Lost::Share)), "{ended:?}");
        let late = fund.during(async { 1 }).await;
        assert!(matches!(late, Err(Lost::Share)), "what was done by then is not answered");
        assert_eq!(owner.during(async { 1 }).await.ok(), Some(1));
    }

    #[tokio::test]
    async fn work_ends_with_its_key_within_a_second_whosever_it_is_about() {
        let world = World::new().await;
        for key in [&world.owner, &world.fund] {
            let rights = world.rights(key).await;
            let running = timeout(Duration::from_secs(20), rights.during(std::future::pending::<()>()));
            let (ended, ()) = tokio::join!(running, world.revoke(key));
            assert!(matches!(ended, Ok(Err(Lost::Key))), "{ended:?}");
            assert!(
                matches!(rights.during(async { 1 }).await, Err(Lost::Key)),
                "what was done by then is not answered"
            );
        }
    }

    fn lost(read: &io::Result<Bytes>) -> Option<&Lost> {
        read.as_ref().err()?.get_ref()?.downcast_ref()
    }

    #[tokio::test]
    async fn a_body_ends_with_its_key() {
        let world = World::new().await;
        let rights = world.rights(&world.owner).await;
        let body = || stream::iter([Ok(Bytes::from_static(b"a")), Ok(Bytes::from_static(b"b"))]);
        let whole: Vec<Bytes> = rights.body(body()).try_collect().await.unwrap();
        assert_eq!(whole.concat(), b"ab");
        world.revoke(&world.owner).await;
        let read = rights.body(body()).collect::<Vec<_>>().await;
        assert!(read[..2].iter().all(Result::is_ok) && read.len() == 3, "{read:?}");
        assert!(matches!(lost(&read[2]), Some(Lost::Key)), "{read:?}");
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_ends_with_its_key_too() {
        let world = World::new().await;
        let rights = world.rights(&world.owner).await;
        let reading = rights.body(stream::pending());
        let mut reading = pin!(reading);
        let (read, ()) = tokio::join!(timeout(Duration::from_secs(20), reading.next()), world.revoke(&world.owner));
        let read = read.expect("it ends").unwrap();
        assert!(matches!(lost(&read), Some(Lost::Key)), "{read:?}");
    }
}
