//! What the catalogue does not take of programmes and of enrolments. The messages are fit for outsiders.

use crate::{
    error::ErrorKind,
    ids::{OrganisationSlug, ProgrammeSlug, ProjectSlug},
};

/// Why a programme is not made or changed, or a project not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum ProgrammeError {
    #[error("there is a programme {0} already")]
    Exists(ProgrammeSlug),
    #[error("there is no programme {0}")]
    Missing(ProgrammeSlug),
    #[error("there is no organisation {0} to invite")]
    InvitedMissing(OrganisationSlug),
    #[error("the programme is {0}'s own, which takes part without an invitation")]
    OwnerInvited(OrganisationSlug),
    #[error("the terms of {programme} have changed: version {newest} is the newest; read it, and consent to it")]
    Changed { programme: ProgrammeSlug, newest: u32 },
    #[error("the programme {programme} does not invite {organisation}, whose project it is; who administers it can")]
    NotInvited { programme: ProgrammeSlug, organisation: OrganisationSlug },
    #[error(transparent)]
    Currency(Box<WrongCurrency>),
    #[error("{project} is not enrolled in {programme}, and never was")]
    NotEnrolled { programme: ProgrammeSlug, project: ProjectSlug },
}

impl ProgrammeError {
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Exists(_) | Self::Changed { .. } | Self::NotInvited { .. } => ErrorKind::Conflict,
            Self::Missing(_) | Self::InvitedMissing(_) | Self::NotEnrolled { .. } => ErrorKind::NotFound,
            Self::OwnerInvited(_) => ErrorKind::Invalid,
            Self::Currency(_) => ErrorKind::Rejected,
        }
    }
}

/// A project is paid in a currency of which a programme's rule names no least amount, while it does of others.
#[derive(Debug, thiserror::Error)]
#[error(
    "the rule of {programme} names least amounts in {}, and {project} is paid in {currency}, of which nothing could ever be \
     verified; who administers the programme can name one in {currency}",
    named.join(", ")
)]
pub struct WrongCurrency {
    pub programme: ProgrammeSlug,
    pub project: ProjectSlug,
    pub currency: String,
    /// Those that the rule names.
    pub named: Vec<String>,
}
