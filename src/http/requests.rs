//! What requests bring, described: the fields of organisations, keys, projects and shares, and what an upload says about itself. How they are read is
//! beside the handlers.

use serde_json::json;
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{
        Object, Ref, RefOr, Required, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{ArrayBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, SchemaType},
    },
};

use crate::{
    access::{Detail, Role},
    catalog::{Direction, MAX_NAME_CHARS, MAX_PAGE, OnError, Project, ProjectText},
    connections::{CATEGORIES, ConnectionFields},
    ids::{OrganisationSlug, ProjectSlug, UploadId},
    payments::{dataset_name, definition, packing::Packing},
};

use super::{
    keys::DEFAULT_OVERLAP,
    page::{DEFAULT_LIMIT, PageRequest},
    withdraw::MAX_UPLOADS,
};

/// The body that makes a project.
pub(super) struct NewProjectFields;
/// The body that changes one: all but the slug and the organisation, each or none.
pub(super) struct ProjectChangeFields;

/// The fields of a project that people write, without some.
fn project_fields(without: &[&str]) -> (Object, Vec<String>) {
    let names = ProjectText::FIELDS.iter().filter(|name| !without.contains(name));
    let names: Vec<String> = names.map(|name| (*name).to_owned()).collect();
    let RefOr::T(Schema::Object(mut project)) = Project::schema() else { return (Object::new(), names) };
    project.properties.retain(|name, _| names.contains(name));
    project.required.clear();
    project.description = None;
    (project, names)
}

impl PartialSchema for NewProjectFields {
    fn schema() -> RefOr<Schema> {
        let (mut project, names) = project_fields(&[]);
        project.required = names.into_iter().filter(|name| name != ProjectText::ORGANISATION).collect();
        RefOr::T(project.into())
    }
}

impl PartialSchema for ProjectChangeFields {
    fn schema() -> RefOr<Schema> {
        RefOr::T(project_fields(&["slug", ProjectText::ORGANISATION]).0.into())
    }
}

impl ToSchema for NewProjectFields {}
impl ToSchema for ProjectChangeFields {}

/// The body that makes an organisation.
pub(super) struct NewOrganisationFields;
/// The body that changes one.
pub(super) struct OrganisationChangeFields;
/// The body that makes a key.
pub(super) struct NewKeyFields;
/// The body that rotates one.
pub(super) struct RotationFields;

/// A name that people read.
fn name_field() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some(MAX_NAME_CHARS))
}

impl PartialSchema for NewOrganisationFields {
    fn schema() -> RefOr<Schema> {
        let slug = Ref::from_schema_name(OrganisationSlug::name());
        let fields = ObjectBuilder::new().property("slug", slug).property("name", name_field());
        fields.required("slug").required("name").into()
    }
}

impl PartialSchema for OrganisationChangeFields {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().property("name", name_field()).into()
    }
}

impl PartialSchema for NewKeyFields {
    fn schema() -> RefOr<Schema> {
        let instant = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .description(Some("In the future. Without it, the key holds until it is revoked."));
        let name = name_field().description(Some("Who or what it is for; 100 characters of it are kept."));
        let fields = ObjectBuilder::new()
            .property("name", name)
            .property("role", Ref::from_schema_name(Role::name()))
            .property("organisation", Ref::from_schema_name(OrganisationSlug::name()))
            .property("expires_at", instant);
        fields.required("name").required("role").into()
    }
}

impl PartialSchema for RotationFields {
    fn schema() -> RefOr<Schema> {
        let seconds = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(0))
            .default(Some(json!(DEFAULT_OVERLAP.as_secs())))
            .description(Some("For how long both keys hold; at most keys.max_overlap_days."));
        ObjectBuilder::new().property("overlap_s", seconds).into()
    }
}

impl ToSchema for NewOrganisationFields {}
impl ToSchema for OrganisationChangeFields {}
impl ToSchema for NewKeyFields {}
impl ToSchema for RotationFields {}

/// The body that makes a share.
pub(super) struct NewShareFields;
/// The body that changes one.
pub(super) struct ShareChangeFields;

/// The fields that both have. An end that can be opened can be null.
fn share_fields(kind: &SchemaType) -> ObjectBuilder {
    let text = || ObjectBuilder::new().schema_type(kind.clone());
    let month = |about: &str| text().pattern(Some("^[0-9]{4}-(0[1-9]|1[0-2])$")).description(Some(about));
    let instant = text().format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)));
    let note = ObjectBuilder::new().schema_type(Type::String);
    ObjectBuilder::new()
        .property(
            "months_from",
            month("The first month in UTC, such as 2024-05. Without it, all before are shown too."),
        )
        .property("months_to", month("The last month in UTC. Without it, those to come are shown too."))
        .property("detail", Ref::from_schema_name(Detail::name()))
        .property("note", note.description(Some("What both sides read; at most shares.max_note_chars.")))
        .property(
            "expires_at",
            instant.description(Some("In the future. Without it, the share holds until it is revoked.")),
        )
}

impl PartialSchema for NewShareFields {
    fn schema() -> RefOr<Schema> {
        let fields =
            share_fields(&Type::String.into()).property("recipient", Ref::from_schema_name(OrganisationSlug::name()));
        fields.required("recipient").required("detail").into()
    }
}

impl PartialSchema for ShareChangeFields {
    fn schema() -> RefOr<Schema> {
        share_fields(&SchemaType::from_iter([Type::String, Type::Null])).into()
    }
}

impl ToSchema for NewShareFields {}
impl ToSchema for ShareChangeFields {}

/// The body that sends connections.
pub(super) struct ConnectionsBody;

impl PartialSchema for ConnectionsBody {
    fn schema() -> RefOr<Schema> {
        let items = ArrayBuilder::new().items(ConnectionFields::schema()).min_items(Some(1));
        ObjectBuilder::new().property("connections", items).required("connections").into()
    }
}

impl ToSchema for ConnectionsBody {}

/// What is to be done with connections that are sent.
pub(super) struct ImportParameters;

impl IntoParams for ImportParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let about_errors = "`reject_file`: one bad row, and nothing is taken. `skip_rows`: the good rows are taken.";
        let on_error = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(OnError::NAMES));
        let on_error = on_error.default(Some(json!(OnError::default())));
        let flag = ObjectBuilder::new().schema_type(Type::Boolean).default(Some(json!(false)));
        vec![
            query("on_error", about_errors, on_error.into(), Required::False),
            query("dry_run", "Report, and change nothing.", flag.into(), Required::False),
        ]
    }
}

/// Which connections to list, and how.
pub(super) struct ConnectionFilterParameters;

impl IntoParams for ConnectionFilterParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let text = || ObjectBuilder::new().schema_type(Type::String);
        let day = || text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Date)));
        let forms = text().enum_values(Some(["json", "csv"])).default(Some(json!("json")));
        [
            ("site", "Those on exactly this site.", text()),
            ("category", "Those of this category.", text().enum_values(Some(CATEGORIES))),
            ("milestone", "Those of exactly this milestone.", text()),
            ("connected_from", "Those connected on or after this day.", day()),
            ("connected_to", "Those connected before this day.", day()),
            ("format", "`csv` is all that match, as a file, and has no pages.", forms),
        ]
        .map(|(name, about, schema)| query(name, about, schema.into(), Required::False))
        .into()
    }
}

/// Which shares to list.
pub(super) struct ShareSide;

impl IntoParams for ShareSide {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let sides = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(Direction::NAMES));
        vec![query("direction", "Those of one side; of both by default.", sides.into(), Required::False)]
    }
}

impl<K> IntoParams for PageRequest<K> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let limit = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(MAX_PAGE));
        let limit = limit.default(Some(json!(DEFAULT_LIMIT))).build();
        let text = Object::with_type(Type::String);
        [("limit", "The most items of a page.", limit), ("cursor", "The `next_cursor` of the page before.", text)]
            .map(|(name, about, schema)| query(name, about, schema.into(), Required::False))
            .into()
    }
}

fn query(name: &str, about: &str, schema: RefOr<Schema>, required: Required) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .description(Some(about))
        .schema(Some(schema))
        .required(required)
        .build()
}

/// The body that names uploads.
pub(super) struct UploadIds;

impl PartialSchema for UploadIds {
    fn schema() -> RefOr<Schema> {
        let id = Ref::from_schema_name(UploadId::name());
        let ids = ArrayBuilder::new().items(RefOr::from(id)).min_items(Some(1)).max_items(Some(MAX_UPLOADS));
        ObjectBuilder::new().property("uploads", ids).required("uploads").into()
    }
}

impl ToSchema for UploadIds {}

/// How a plain body is packed, where its type and its name do not say it.
pub(super) struct ContentEncoding;

impl IntoParams for ContentEncoding {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let codings = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["identity", "gzip", "zstd"]));
        let about =
            "How a file that is the body is packed, where neither its type nor its name says so. A form has none.";
        let parameter = ParameterBuilder::new().name("Content-Encoding").parameter_in(ParameterIn::Header);
        vec![parameter.required(Required::False).description(Some(about)).schema(Some(codings)).build()]
    }
}

/// What an upload says about itself in the query, where the body is the file.
pub(super) struct UploadQuery;
/// The same, where the body may be a form that says it.
pub(super) struct UploadQueryOrForm;
/// The form: the same fields, and then the file.
pub(super) struct UploadForm;

/// A field: its name, what it is, its schema, and whether there is no default.
type UploadField = (&'static str, &'static str, RefOr<Schema>, bool);

/// The name of the file, where no form says it.
fn file_name() -> Parameter {
    let names = Packing::ALL.map(Packing::file_name);
    let name = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names));
    let about = "The name of a file that is the body, which says how it is packed; a form has its own.";
    query("file_name", about, name.default(Some(json!(definition::FILE_NAME))).into(), Required::False)
}

fn upload_fields() -> [UploadField; 6] {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let only = |value: &str| text().enum_values(Some([value])).default(Some(json!(value)));
    let flag = ObjectBuilder::new().schema_type(Type::Boolean).default(Some(json!(false)));
    let name =
        text().min_length(Some(1)).max_length(Some(dataset_name::MAX_CHARACTERS)).examples([json!("05_2024_Kitobo")]);
    let on_error = text().enum_values(Some(OnError::NAMES)).default(Some(json!(OnError::default())));
    [
        (
            "project",
            "The slug of the project that the payments belong to. Repeated, each row goes to the one whose connections hold its METER_ID.",
            ArrayBuilder::new()
                .items(RefOr::from(Ref::from_schema_name(ProjectSlug::name())))
                .min_items(Some(1))
                .into(),
            true,
        ),
        (
            "dataset_name",
            "A name for the upload; `MM_YYYY_Site Name` also gives the site of rows without LOCATION.",
            name.into(),
            true,
        ),
        (
            "on_error",
            "`reject_file`: one bad row, and nothing lands. `skip_rows`: the good rows land, the bad ones are kept apart.",
            on_error.into(),
            false,
        ),
        ("dry_run", "Report, and keep nothing.", flag.into(), false),
        ("dataset_type", "The one that there is.", only(definition::DATASET_TYPE).into(), false),
        ("data_provider", "The one that there is.", only("user").into(), false),
    ]
}

impl IntoParams for UploadQuery {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let fields = upload_fields().into_iter();
        fields
            .map(|(name, about, schema, needed)| {
                query(name, about, schema, if needed { Required::True } else { Required::False })
            })
            .chain([file_name()])
            .collect()
    }
}

impl IntoParams for UploadQueryOrForm {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let fields = upload_fields().into_iter();
        fields
            .map(|(name, about, schema, needed)| {
                let about = format!("{about}{}", if needed { " Needed here or in the form." } else { "" });
                query(name, &about, schema, Required::False)
            })
            .chain([file_name()])
            .collect()
    }
}

impl PartialSchema for UploadForm {
    fn schema() -> RefOr<Schema> {
        let [plain, gzip, zstd] = Packing::ALL.map(Packing::file_name);
        let about =
            format!("The file, as the last part of the form, under the name {plain}, or packed {gzip} or {zstd}.");
        let file =
            ObjectBuilder::new().schema_type(Type::String).content_media_type("text/csv").description(Some(about));
        let form = upload_fields()
            .into_iter()
            .fold(ObjectBuilder::new(), |form, (name, _, schema, _)| form.property(name, schema));
        form.property("file", file).required("file").into()
    }
}

impl ToSchema for UploadForm {}
