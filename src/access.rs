//! Who calls, and what they may see: pure values, computed once per request, before anything is planned.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::ProjectSlug;

/// What a key may do. Tenancy adds the narrower roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs the server: every project, every action.
    Admin,
}

impl Role {
    pub const NAMES: [&'static str; 1] = ["admin"];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "admin" => Ok(Self::Admin),
            _ => Err(format!("there is no role {text:?}; the roles are {}", Self::NAMES.join(", "))),
        }
    }
}

/// The caller of a request, as its key proved it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The public prefix of the key.
    pub key_prefix: String,
    pub role: Role,
}

/// The projects whose files a query may open. A query gets the files of its scope and no others: what is outside is not
/// filtered out, it is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    projects: BTreeSet<ProjectSlug>,
}

impl Scope {
    /// What `principal` may see of `existing`, narrowed to `wanted` (all when empty).
    ///
    /// # Errors
    /// The first wanted project that is absent or foreign; the caller answers the same 404 for both.
    pub fn of(
        principal: &Principal,
        existing: BTreeSet<ProjectSlug>,
        wanted: &[ProjectSlug],
    ) -> Result<Self, NotInScope> {
        let visible = match principal.role {
            Role::Admin => existing,
        };
        if wanted.is_empty() {
            return Ok(Self { projects: visible });
        }
        if let Some(foreign) = wanted.iter().find(|slug| !visible.contains(slug)) {
            return Err(NotInScope(foreign.clone()));
        }
        Ok(Self { projects: wanted.iter().cloned().collect() })
    }

    #[must_use]
    pub fn contains(&self, project: &ProjectSlug) -> bool {
        self.projects.contains(project)
    }

    pub fn projects(&self) -> impl Iterator<Item = &ProjectSlug> {
        self.projects.iter()
    }
}

/// A project that the caller asked for and may not see, or that is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotInScope(pub ProjectSlug);
