//! What is answered of programmes, and what requests bring of them: each struct is also the description.

use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Ref, RefOr,
        schema::{ArrayBuilder, Schema},
    },
};

use super::Problem;
use crate::{
    access::Principal,
    catalog::{Programme, ProgrammeVersion, Side},
    ids::{OrganisationSlug, ProgrammeSlug},
    programmes::{DISCLOSES, Disclosure, Rule},
};

/// A programme, and how the caller stands to it.
#[derive(Serialize)]
pub(super) struct SidedProgramme {
    #[serde(flatten)]
    pub(super) programme: Programme,
    pub(super) side: Side,
}

/// A programme as it is read before a project is enrolled.
#[derive(Serialize)]
pub(super) struct ProgrammeTerms {
    #[serde(flatten)]
    pub(super) programme: Programme,
    pub(super) side: Side,
    discloses: &'static [Disclosure],
}

impl ProgrammeTerms {
    /// As the caller is shown it.
    pub(super) fn of(programme: Programme, principal: &Principal) -> Result<Self, Problem> {
        let side = programme.side_of(principal).ok_or_else(Problem::not_found)?;
        let programme = programme.shown_to(principal).ok_or_else(Problem::not_found)?;
        Ok(Self { programme, side, discloses: DISCLOSES })
    }
}

/// The schema of a programme with what is told beside it, all in one object.
fn programme_with(about: &str, more: impl IntoIterator<Item = (&'static str, RefOr<Schema>)>) -> RefOr<Schema> {
    let mut schema = Programme::schema();
    if let RefOr::T(Schema::Object(programme)) = &mut schema {
        programme.description = Some(about.to_owned());
        for (name, property) in more {
            programme.properties.insert(name.to_owned(), property);
            programme.required.push(name.to_owned());
        }
    }
    schema
}

impl PartialSchema for SidedProgramme {
    fn schema() -> RefOr<Schema> {
        let side = Ref::from_schema_name(Side::name()).into();
        programme_with("A programme, and how the caller stands to it.", [("side", side)])
    }
}

impl ToSchema for SidedProgramme {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Side::name().into_owned(), Side::schema()));
        Programme::schemas(schemas);
    }
}

impl PartialSchema for ProgrammeTerms {
    fn schema() -> RefOr<Schema> {
        let about = "What a project that takes part shares with the organisation that administers the programme, and nothing else.";
        let discloses = ArrayBuilder::new().items(Ref::from_schema_name(Disclosure::name())).description(Some(about));
        let side = Ref::from_schema_name(Side::name()).into();
        let about = "A programme as it is read before a project is enrolled.";
        programme_with(about, [("side", side), ("discloses", discloses.into())])
    }
}

impl ToSchema for ProgrammeTerms {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Disclosure::name().into_owned(), Disclosure::schema()));
        SidedProgramme::schemas(schemas);
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct ProgrammeList {
    pub(super) programmes: Vec<SidedProgramme>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ProgrammeVersionList {
    pub(super) versions: Vec<ProgrammeVersion>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

/// The body that makes a programme.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the description of what `create_programme` reads")]
pub(super) struct NewProgrammeFields {
    slug: ProgrammeSlug,
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    /// Who administers it; an administrator's key needs it where there are several.
    organisation: Option<OrganisationSlug>,
    /// Of those that a file of payments may leave out.
    #[schema(max_items = 100)]
    required_columns: Option<Vec<String>>,
    rule: Rule,
    /// At most `programmes.max_invited`.
    invited: Option<Vec<OrganisationSlug>>,
}

/// The body that changes one: each or none.
#[derive(ToSchema)]
#[allow(dead_code, reason = "the description of what `update_programme` reads")]
pub(super) struct ProgrammeChangeFields {
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// All of them; an empty list asks for none.
    #[schema(max_items = 100)]
    required_columns: Option<Vec<String>>,
    rule: Option<Rule>,
    /// All of them: who is left out is invited no longer.
    invited: Option<Vec<OrganisationSlug>>,
}
