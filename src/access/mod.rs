//! Who calls, what they may do and what they may see: pure values, computed once per request, before anything is planned.

mod shared;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use shared::{Detail, MaskKey, MonthRange, Shared, Shown, Sight};

use crate::ids::{Month, OrganisationSlug, ProjectSlug, ShareId};

/// What a key may do. All but `admin` are of one organisation, and may nothing beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs the server: every organisation, every action.
    Admin,
    /// Has the organisation's projects, uploads, keys and shares in hand.
    Manager,
    /// Reads the organisation's metrics, projects and uploads, and asks in SQL.
    Analyst,
    /// Reads the organisation's metrics and projects.
    Viewer,
    /// Uploads, and sees its own uploads: for a machine.
    Uploader,
}

impl Role {
    pub const ALL: [Self; 5] = [Self::Admin, Self::Manager, Self::Analyst, Self::Viewer, Self::Uploader];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Manager => "manager",
            Self::Analyst => "analyst",
            Self::Viewer => "viewer",
            Self::Uploader => "uploader",
        }
    }

    #[must_use]
    pub fn may(self, permission: Permission) -> bool {
        permission.roles().contains(&self)
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == text);
        found.ok_or_else(|| {
            format!("there is no role {text:?}; the roles are {}", Self::ALL.map(Self::as_str).join(", "))
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a request asks to do with something that its caller may know of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Make and name organisations, erase uploads, read the operational counters.
    RunServer,
    /// Make and change projects, keys and shares; delete and restore uploads.
    Manage,
    Upload,
    /// See one's own uploads at least.
    ReadUploads,
    ReadProjects,
    ReadMetrics,
    /// Read connections, which are customers by name.
    ReadConnections,
    /// Ask in SQL of one's own, for rows too.
    WriteSql,
}

impl Permission {
    /// The roles that have it, the greatest first.
    #[must_use]
    pub fn roles(self) -> &'static [Role] {
        use Role::{Admin, Analyst, Manager, Uploader, Viewer};
        match self {
            Self::RunServer => &[Admin],
            Self::Manage => &[Admin, Manager],
            Self::Upload => &[Admin, Manager, Uploader],
            Self::ReadUploads => &[Admin, Manager, Analyst, Uploader],
            Self::ReadProjects | Self::ReadMetrics => &[Admin, Manager, Analyst, Viewer],
            Self::ReadConnections | Self::WriteSql => &[Admin, Manager, Analyst],
        }
    }
}

/// The caller of a request, as its key proved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The public prefix of the key.
    pub key_prefix: String,
    pub role: Role,
    /// Of every role but `admin`.
    pub organisation: Option<OrganisationSlug>,
    /// The prefixes of the keys that this one took the place of. Of uploaders alone, because nobody else's rights go by it.
    pub earlier_keys: Vec<String>,
}

/// How far a principal sees, before it is asked what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    Server,
    Organisation(&'a OrganisationSlug),
    Nothing,
}

impl Principal {
    /// Whoever runs the server.
    #[must_use]
    pub fn admin(key_prefix: &str) -> Self {
        Self { key_prefix: key_prefix.to_owned(), role: Role::Admin, organisation: None, earlier_keys: Vec::new() }
    }

    #[must_use]
    pub fn reach(&self) -> Reach<'_> {
        match (self.role, &self.organisation) {
            (Role::Admin, _) => Reach::Server,
            (_, Some(organisation)) => Reach::Organisation(organisation),
            // No such key can be made. Were there one, it would see nothing.
            (_, None) => Reach::Nothing,
        }
    }

    /// Whether it is of this organisation, or above all of them.
    #[must_use]
    pub fn reaches(&self, organisation: &OrganisationSlug) -> bool {
        match self.reach() {
            Reach::Server => true,
            Reach::Organisation(own) => own == organisation,
            Reach::Nothing => false,
        }
    }
}

/// A project, and the organisation that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectOwner {
    pub project: ProjectSlug,
    pub organisation: OrganisationSlug,
}

/// What a request may see. A query gets the files of its scope and no others: what is outside is not filtered out, it is not
/// there. Uploads, their files, and what can be done with them go by it too.
///
/// The projects whose payments may be asked for and those whose uploads may be seen are two sets: an uploader has no figures,
/// and who is shown the figures of another organisation's project has none of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Those whose payments queries may read, each with the months of which and in what detail: all of one's own, and what is
    /// shared of others'.
    projects: BTreeMap<ProjectSlug, Shown>,
    /// Those of the caller's own organisation; for an administrator, all.
    own: BTreeSet<ProjectSlug>,
    /// Where it is there, the keys whose uploads alone are seen.
    senders: Option<BTreeSet<String>>,
}

impl Scope {
    /// What `principal` may see of `existing`, as far as nothing is shared with it.
    #[must_use]
    pub fn of(principal: &Principal, existing: impl IntoIterator<Item = ProjectOwner>) -> Self {
        let reached = existing.into_iter().filter(|owner| principal.reaches(&owner.organisation));
        let own: BTreeSet<ProjectSlug> = reached.map(|owner| owner.project).collect();
        let readable = own.iter().filter(|_| principal.role.may(Permission::ReadMetrics));
        let projects = readable.map(|project| (project.clone(), Shown::own())).collect();
        let senders = match principal.role {
            Role::Uploader => Some(principal.earlier_keys.iter().chain([&principal.key_prefix]).cloned().collect()),
            Role::Admin | Role::Manager | Role::Analyst | Role::Viewer => None,
        };
        Self { projects, own, senders }
    }

    /// Besides, what is shared with the organisation of `principal`: of each project the union of the months, each in its own
    /// detail. Who has no figures is not shown any, and whose project it is sees all of it anyway.
    #[must_use]
    pub fn and_shared(mut self, principal: &Principal, shares: impl IntoIterator<Item = Shared>) -> Self {
        if !principal.role.may(Permission::ReadMetrics) {
            return self;
        }
        let mut shown: BTreeMap<ProjectSlug, Vec<Shared>> = BTreeMap::new();
        for share in shares {
            if principal.reach() == Reach::Organisation(&share.recipient) && !self.own.contains(&share.project) {
                shown.entry(share.project.clone()).or_default().push(share);
            }
        }
        self.projects.extend(shown.into_iter().map(|(project, shares)| (project, Shown::by(shares))));
        self
    }

    /// The part of it that is about `wanted`; all of it where nothing is.
    ///
    /// # Errors
    /// The first wanted project that is absent or foreign; the caller answers the same 404 for both.
    pub fn narrowed(mut self, wanted: &[ProjectSlug]) -> Result<Self, NotInScope> {
        if wanted.is_empty() {
            return Ok(self);
        }
        if let Some(foreign) = wanted.iter().find(|slug| !self.knows(slug)) {
            return Err(NotInScope(foreign.clone()));
        }
        let wanted: BTreeSet<&ProjectSlug> = wanted.iter().collect();
        self.projects.retain(|project, _| wanted.contains(project));
        self.own.retain(|project| wanted.contains(project));
        Ok(self)
    }

    /// Whether queries may read payments of the project: of some months at least.
    #[must_use]
    pub fn contains(&self, project: &ProjectSlug) -> bool {
        self.projects.contains_key(project)
    }

    /// How queries may read the project's payments of that month, if they may.
    #[must_use]
    pub fn sight(&self, project: &ProjectSlug, month: Month) -> Option<&Sight> {
        self.projects.get(project).and_then(|shown| shown.sight(month))
    }

    /// The projects whose payments queries may read.
    pub fn projects(&self) -> impl Iterator<Item = &ProjectSlug> {
        self.projects.keys()
    }

    /// The months whose payments queries may read, of a project that is in it, and how.
    #[must_use]
    pub fn shown(&self, project: &ProjectSlug) -> Option<&Shown> {
        self.projects.get(project)
    }

    /// The shares that it rests on, each with its project.
    #[must_use]
    pub fn shares(&self) -> BTreeMap<ShareId, ProjectSlug> {
        let of = |(project, shown): (&ProjectSlug, &Shown)| {
            shown.shares().map(|share| (share.clone(), project.clone())).collect::<Vec<_>>()
        };
        self.projects.iter().flat_map(of).collect()
    }

    /// Whether any of it is another organisation's, which shares it.
    #[must_use]
    pub fn has_shared(&self) -> bool {
        self.projects.keys().any(|project| !self.own.contains(project))
    }

    /// Whether queries may still read all that they could by an earlier scope.
    #[must_use]
    pub fn still_has(&self, earlier: &Self) -> bool {
        let kept = |(project, then): (&ProjectSlug, &Shown)| self.shown(project).is_some_and(|now| now.serves(then));
        earlier.projects.iter().all(kept)
    }

    /// Whether the caller may know that the project is there.
    #[must_use]
    pub fn knows(&self, project: &ProjectSlug) -> bool {
        self.projects.contains_key(project) || self.own.contains(project)
    }

    /// Every project that the caller may know of.
    pub fn known(&self) -> impl Iterator<Item = &ProjectSlug> {
        self.projects.keys().chain(self.own.iter().filter(|project| !self.projects.contains_key(*project)))
    }

    /// Whether the project is of the caller's organisation, so that its role counts there.
    #[must_use]
    pub fn owns(&self, project: &ProjectSlug) -> bool {
        self.own.contains(project)
    }

    /// The projects whose uploads the caller may see.
    pub fn owned(&self) -> impl Iterator<Item = &ProjectSlug> {
        self.own.iter()
    }

    /// The keys whose uploads alone the caller may see; all where there are none.
    #[must_use]
    pub fn senders(&self) -> Option<&BTreeSet<String>> {
        self.senders.as_ref()
    }

    /// Whether the caller may see an upload to these projects which that key sent. Of several projects it must own all,
    /// because a file has the rows of all.
    #[must_use]
    pub fn has_upload(&self, projects: &[ProjectSlug], key_prefix: &str) -> bool {
        let owned = !projects.is_empty() && projects.iter().all(|project| self.own.contains(project));
        owned && self.senders.as_ref().is_none_or(|senders| senders.contains(key_prefix))
    }
}

/// A project that the caller asked for and may not see, or that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotInScope(pub ProjectSlug);

#[cfg(test)]
mod tests {
    use super::*;

    fn slug(text: &str) -> ProjectSlug {
        text.parse().unwrap()
    }

    fn existing() -> Vec<ProjectOwner> {
        let owner = |project: &str, organisation: &str| ProjectOwner {
            project: slug(project),
            organisation: organisation.parse().unwrap(),
        };
        vec![owner("a1", "a"), owner("a2", "a"), owner("b1", "b")]
    }

    fn of_a(role: Role) -> Principal {
        let organisation = Some("a".parse().unwrap());
        Principal { key_prefix: "new".to_owned(), role, organisation, earlier_keys: vec!["old".to_owned()] }
    }

    fn seen<'a>(slugs: impl Iterator<Item = &'a ProjectSlug>) -> Vec<&'a str> {
        slugs.map(ProjectSlug::as_str).collect()
    }

    #[test]
    fn a_role_sees_its_organisation_and_an_administrator_all() {
        let scope = |principal: &Principal| Scope::of(principal, existing());
        let admin = scope(&Principal::admin("k"));
        assert_eq!((seen(admin.projects()), seen(admin.owned())), (vec!["a1", "a2", "b1"], vec!["a1", "a2", "b1"]));
        for role in [Role::Manager, Role::Analyst, Role::Viewer] {
            let own = scope(&of_a(role));
            assert_eq!((seen(own.projects()), seen(own.owned())), (vec!["a1", "a2"], vec!["a1", "a2"]), "{role}");
            assert!(own.has_upload(&[slug("a1")], "anybody") && !own.has_upload(&[slug("b1")], "anybody"), "{role}");
            assert!(!own.has_upload(&[slug("a1"), slug("b1")], "new") && !own.has_upload(&[], "new"), "{role}");
        }
        let nobody = Principal { organisation: None, ..of_a(Role::Manager) };
        assert_eq!(seen(scope(&nobody).known()), [""; 0]);
    }

    #[test]
    fn an_uploader_has_no_figures_and_no_uploads_but_those_of_its_own_keys() {
        let scope = Scope::of(&of_a(Role::Uploader), existing());
        assert_eq!(seen(scope.projects()), [""; 0]);
        assert!(scope.owns(&slug("a1")) && scope.knows(&slug("a1")) && !scope.knows(&slug("b1")));
        let has = |key: &str| scope.has_upload(&[slug("a1")], key);
        assert_eq!((has("new"), has("old"), has("another")), (true, true, false));
    }

    fn shared(project: &str, recipient: &str, from: &str, to: &str) -> Shared {
        Shared {
            share: ShareId::new(),
            project: slug(project),
            recipient: recipient.parse().unwrap(),
            months: MonthRange { from: from.parse().ok(), to: to.parse().ok() },
            detail: Detail::Full,
            mask_key: MaskKey([0; 32]),
        }
    }

    #[test]
    fn what_is_shared_is_seen_by_the_recipients_roles_that_have_figures_and_for_its_months_alone() {
        let shares = [
            shared("b1", "a", "2024-03", "2024-04"),
            shared("b1", "a", "2024-06", "2024-06"),
            shared("b1", "c", "2024-05", ""),
            shared("a1", "a", "2024-05", "2024-05"),
        ];
        let scope = |role: Role| Scope::of(&of_a(role), existing()).and_shared(&of_a(role), shares.clone());
        for role in [Role::Manager, Role::Analyst, Role::Viewer] {
            let scope = scope(role);
            assert_eq!(seen(scope.projects()), ["a1", "a2", "b1"], "{role}");
            assert_eq!(seen(scope.owned()), ["a1", "a2"], "{role}");
            let months: Vec<String> = ["2024-02", "2024-03", "2024-04", "2024-05", "2024-06", "2024-07"]
                .into_iter()
                .filter(|month| scope.sight(&slug("b1"), month.parse().unwrap()).is_some())
                .map(str::to_owned)
                .collect();
            assert_eq!(months, ["2024-03", "2024-04", "2024-06"], "{role}");
            let own = scope.sight(&slug("a1"), "2030-01".parse().unwrap()).unwrap();
            assert_eq!((own.detail, &own.share), (Detail::Full, &None), "what is one's own is whole");
            assert!(scope.has_shared() && !scope.owns(&slug("b1")) && !scope.has_upload(&[slug("b1")], "new"));
            let narrowed = scope.clone().narrowed(&[slug("b1")]).unwrap();
            assert!(scope.still_has(&narrowed) && !narrowed.still_has(&scope));
            let used = BTreeMap::from([0, 1].map(|at: usize| (shares[at].share.clone(), slug("b1"))));
            assert_eq!((scope.shares(), narrowed.shares()), (used.clone(), used), "{role}: its own are no share");
            assert!(scope.clone().narrowed(&[slug("a1")]).unwrap().shares().is_empty());
            assert!(!Scope::of(&of_a(role), existing()).still_has(&narrowed), "{role}");
        }
        assert!(!scope(Role::Uploader).knows(&slug("b1")));
        let admin = Principal::admin("k");
        let all = Scope::of(&admin, existing());
        assert_eq!(all.clone().and_shared(&admin, shares), all);
    }

    #[test]
    fn what_is_wanted_is_in_the_scope_or_refused_be_it_foreign_or_absent() {
        let of = |wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|text| slug(text)).collect();
            Scope::of(&of_a(Role::Viewer), existing()).narrowed(&wanted)
        };
        assert_eq!(seen(of(&["a2"]).unwrap().projects()), ["a2"]);
        assert_eq!(of(&["a1", "b1"]), Err(NotInScope(slug("b1"))));
        assert_eq!(of(&["a1", "c1"]), Err(NotInScope(slug("c1"))));
    }

    #[test]
    fn every_permission_is_an_administrators() {
        use Permission::{Manage, ReadMetrics, ReadProjects, ReadUploads, RunServer, Upload, WriteSql};
        for permission in [RunServer, Manage, Upload, ReadUploads, ReadProjects, ReadMetrics, WriteSql] {
            assert!(Role::Admin.may(permission), "{permission:?}");
        }
        assert!(Role::ALL.iter().all(|role| role.as_str().parse() == Ok(*role)));
    }
}
