//! Who calls, what they may do and what they may see: pure values, computed once per request, before anything is planned.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ids::{OrganisationSlug, ProjectSlug};

/// What a key may do. All but `admin` are of one organisation, and may nothing beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs the server: every organisation, every action.
    Admin,
    /// Has the organisation's projects, uploads and keys in hand.
    Manager,
    /// Reads the organisation's metrics, projects and uploads.
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
    /// Make and change projects and keys; delete and restore uploads.
    Manage,
    Upload,
    /// See one's own uploads at least.
    ReadUploads,
    ReadProjects,
    ReadMetrics,
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
    /// Those whose payments queries may read.
    projects: BTreeSet<ProjectSlug>,
    /// Those of the caller's own organisation; for an administrator, all.
    own: BTreeSet<ProjectSlug>,
    /// Where it is there, the keys whose uploads alone are seen.
    senders: Option<BTreeSet<String>>,
}

impl Scope {
    /// What `principal` may see of `existing`.
    #[must_use]
    pub fn of(principal: &Principal, existing: impl IntoIterator<Item = ProjectOwner>) -> Self {
        let reached = existing.into_iter().filter(|owner| principal.reaches(&owner.organisation));
        let own: BTreeSet<ProjectSlug> = reached.map(|owner| owner.project).collect();
        let projects = if principal.role.may(Permission::ReadMetrics) { own.clone() } else { BTreeSet::new() };
        let senders = match principal.role {
            Role::Uploader => Some(principal.earlier_keys.iter().chain([&principal.key_prefix]).cloned().collect()),
            Role::Admin | Role::Manager | Role::Analyst | Role::Viewer => None,
        };
        Self { projects, own, senders }
    }

    /// The part of it that is about `wanted`; all of it where nothing is.
    ///
    /// # Errors
    /// The first wanted project that is absent or foreign; the caller answers the same 404 for both.
    pub fn narrowed(self, wanted: &[ProjectSlug]) -> Result<Self, NotInScope> {
        if wanted.is_empty() {
            return Ok(self);
        }
        if let Some(foreign) = wanted.iter().find(|slug| !self.knows(slug)) {
            return Err(NotInScope(foreign.clone()));
        }
        let wanted: BTreeSet<ProjectSlug> = wanted.iter().cloned().collect();
        let projects = self.projects.intersection(&wanted).cloned().collect();
        let own = self.own.intersection(&wanted).cloned().collect();
        Ok(Self { projects, own, senders: self.senders })
    }

    /// Whether queries may read the project's payments.
    #[must_use]
    pub fn contains(&self, project: &ProjectSlug) -> bool {
        self.projects.contains(project)
    }

    /// The projects whose payments queries may read.
    pub fn projects(&self) -> impl Iterator<Item = &ProjectSlug> {
        self.projects.iter()
    }

    /// Whether the caller may know that the project is there.
    #[must_use]
    pub fn knows(&self, project: &ProjectSlug) -> bool {
        self.projects.contains(project) || self.own.contains(project)
    }

    /// Every project that the caller may know of.
    pub fn known(&self) -> impl Iterator<Item = &ProjectSlug> {
        self.projects.union(&self.own)
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
        use Permission::{Manage, ReadMetrics, ReadProjects, ReadUploads, RunServer, Upload};
        for permission in [RunServer, Manage, Upload, ReadUploads, ReadProjects, ReadMetrics] {
            assert!(Role::Admin.may(permission), "{permission:?}");
        }
        assert!(Role::ALL.iter().all(|role| role.as_str().parse() == Ok(*role)));
    }
}
