//! What the API answers in JSON: each struct is the answer and its description.

use std::{borrow::Cow, collections::BTreeMap};

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::{
    IntoResponses, PartialSchema, ToSchema,
    openapi::{
        ContentBuilder, Object, Ref, RefOr, Response, ResponseBuilder, Type,
        header::HeaderBuilder,
        schema::{ObjectBuilder, OneOfBuilder, Schema},
    },
};

use crate::{
    catalog::{ApiKey, AuditRecord, Direction, OnError, Organisation, Project, Share, UploadRecord, UploadStatus},
    ids::{ProjectSlug, UploadId},
    payments::report::{Counts, RowError, Warning},
    query::MetricInfo,
};

#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    #[schema(value_type = String, example = "ok")]
    pub(super) status: &'static str,
    #[schema(value_type = String)]
    pub(super) version: &'static str,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    #[schema(value_type = String, example = "ready")]
    pub(super) status: &'static str,
    pub(super) checks: ReadinessChecks,
}

/// What was found to answer.
#[derive(Serialize, ToSchema)]
pub(super) struct ReadinessChecks {
    #[schema(value_type = String, example = "ok")]
    pub(super) catalog: &'static str,
    #[schema(value_type = String, example = "ok")]
    pub(super) lake: &'static str,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ProjectList {
    pub(super) projects: Vec<Project>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

/// Entries of the audit log.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditList {
    pub(super) entries: Vec<AuditRecord>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct OrganisationList {
    pub(super) organisations: Vec<Organisation>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct KeyList {
    pub(super) keys: Vec<ApiKey>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct ShareList {
    pub(super) shares: Vec<Share>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

/// A share, and on which side of it the caller is.
pub(super) struct SidedShare;

impl PartialSchema for SidedShare {
    fn schema() -> RefOr<Schema> {
        let mut schema = Share::schema();
        if let RefOr::T(Schema::Object(share)) = &mut schema {
            share.description = Some("A share, and on which side of it the caller is.".to_owned());
            share.properties.insert("direction".to_owned(), Ref::from_schema_name(Direction::name()).into());
            share.required.push("direction".to_owned());
        }
        schema
    }
}

impl ToSchema for SidedShare {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Direction::name().into_owned(), Direction::schema()));
    }
}

#[derive(Serialize, ToSchema)]
pub(super) struct SidedShareList {
    #[schema(value_type = Vec<SidedShare>)]
    pub(super) shares: Vec<Value>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

/// A key that was just made.
#[derive(Serialize, ToSchema)]
pub(super) struct MadeKey {
    /// The whole text to send. It is never told again.
    pub(super) secret: String,
    pub(super) key: ApiKey,
}

/// A key that was rotated.
#[derive(Serialize, ToSchema)]
pub(super) struct RotatedKey {
    /// The whole text to send. It is never told again.
    pub(super) secret: String,
    /// The new key.
    pub(super) key: ApiKey,
    /// The old key as it is now.
    pub(super) replaced: ApiKey,
}

/// An upload: its record, and what its report says.
#[derive(Serialize, ToSchema)]
pub(super) struct Upload<'a> {
    #[schema(value_type = UploadId)]
    id: &'a UploadId,
    status: UploadStatus,
    #[schema(value_type = Vec<ProjectSlug>)]
    projects: &'a [ProjectSlug],
    #[schema(value_type = String)]
    dataset_name: &'a str,
    #[schema(value_type = String)]
    dataset_type: &'a str,
    #[schema(value_type = String)]
    data_provider: &'a str,
    #[schema(value_type = String)]
    file_name: &'a str,
    on_error: OnError,
    /// The version of the lake with which its rows landed: its place in the order of uploads. Null where they did not.
    #[schema(required)]
    lake_version: Option<u64>,
    /// Null until the file is checked, as are months, warnings and errors.
    #[schema(value_type = Option<Counts>, required)]
    counts: &'a Value,
    #[schema(value_type = Option<Vec<String>>, example = json!(["2024-05"]), required)]
    months: &'a Value,
    #[schema(value_type = Option<Vec<Warning>>, required)]
    warnings: &'a Value,
    /// The first 100.
    #[schema(value_type = Option<Vec<RowError>>, required)]
    errors: &'a Value,
    /// Where the rejected rows are; null where there are none.
    #[schema(required)]
    rejected_rows: Option<String>,
    /// Of the file as it came, in hexadecimal.
    #[schema(value_type = String)]
    sha256: &'a str,
    bytes: u64,
    #[schema(value_type = String, format = DateTime)]
    received_at: DateTime<Utc>,
    /// Null where its rows never landed.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    committed_at: Option<DateTime<Utc>>,
    /// Null where it is not deleted, nor being deleted.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    deleted_at: Option<DateTime<Utc>>,
    /// The start of the key that sent it.
    #[schema(value_type = String)]
    key_prefix: &'a str,
}

impl<'a> Upload<'a> {
    pub(super) fn of(record: &'a UploadRecord, rejected_rows: Option<String>) -> Self {
        Self {
            id: &record.id,
            status: record.status,
            projects: &record.projects,
            dataset_name: &record.dataset_name,
            dataset_type: &record.dataset_type,
            data_provider: &record.data_provider,
            file_name: &record.file_name,
            on_error: record.on_error,
            lake_version: record.lake_version,
            counts: &record.report["counts"],
            months: &record.report["months"],
            warnings: &record.report["warnings"],
            errors: &record.report["errors"],
            rejected_rows,
            sha256: &record.sha256,
            bytes: record.bytes,
            received_at: record.received_at,
            committed_at: record.committed_at,
            deleted_at: record.deleted_at,
            key_prefix: &record.key_prefix,
        }
    }
}

/// What a file that was taken in is answered with.
pub(super) struct Received;

impl IntoResponses for Received {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let answer = |about: &str, schema: Cow<'_, str>| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(schema))).build();
            ResponseBuilder::new().description(about).content("application/json", content)
        };
        let text = HeaderBuilder::new().schema(Some(Object::with_type(Type::String)));
        let committed = answer("Its rows are in the lake, on disk.", Upload::name());
        let committed = committed.header("Location", text.description(Some("Where its record is.")).build());
        let about = "The same file came before, or this was a dry run: nothing was written.";
        BTreeMap::from([
            ("201".to_owned(), committed.into()),
            ("200".to_owned(), answer(about, NothingWritten::name()).into()),
        ])
    }
}

/// An upload in a list.
pub(super) struct ListedUpload;
/// The first upload of the same file.
pub(super) struct RepeatedUpload;
/// The report of a dry run.
pub(super) struct CheckedUpload;

/// What is answered where nothing was written.
pub(super) struct NothingWritten;

/// The schema of an upload, changed as its answer is.
fn upload_schema(change: impl FnOnce(&mut Object)) -> RefOr<Schema> {
    let mut schema = Upload::schema();
    if let RefOr::T(Schema::Object(upload)) = &mut schema {
        change(upload);
    }
    schema
}

impl PartialSchema for ListedUpload {
    fn schema() -> RefOr<Schema> {
        upload_schema(|upload| {
            upload.description = Some("An upload in a list, which is without its errors.".to_owned());
            upload.properties.shift_remove("errors");
            upload.required.retain(|name| name != "errors");
        })
    }
}

impl PartialSchema for RepeatedUpload {
    fn schema() -> RefOr<Schema> {
        upload_schema(|upload| {
            upload.description = Some("The first upload of the same file.".to_owned());
            upload.properties.insert("already_uploaded".to_owned(), only(Type::Boolean, true));
            upload.required.push("already_uploaded".to_owned());
        })
    }
}

impl PartialSchema for CheckedUpload {
    fn schema() -> RefOr<Schema> {
        upload_schema(|upload| {
            upload.description = Some("The report of a dry run, which is no upload and has no id.".to_owned());
            upload.properties.insert("status".to_owned(), only(Type::String, "checked"));
            for name in ["id", "rejected_rows"] {
                upload.properties.insert(name.to_owned(), Object::with_type(Type::Null).into());
            }
        })
    }
}

fn only(kind: Type, value: impl Into<Value>) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(kind).enum_values(Some([value.into()])).into()
}

impl PartialSchema for NothingWritten {
    fn schema() -> RefOr<Schema> {
        let of = |name: Cow<'_, str>| Ref::from_schema_name(name);
        OneOfBuilder::new().item(of(RepeatedUpload::name())).item(of(CheckedUpload::name())).into()
    }
}

impl ToSchema for NothingWritten {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((RepeatedUpload::name().into_owned(), RepeatedUpload::schema()));
        schemas.push((CheckedUpload::name().into_owned(), CheckedUpload::schema()));
    }
}

impl ToSchema for ListedUpload {}
impl ToSchema for RepeatedUpload {}
impl ToSchema for CheckedUpload {}

#[derive(Serialize, ToSchema)]
pub(super) struct UploadList {
    #[schema(value_type = Vec<ListedUpload>)]
    pub(super) uploads: Vec<Value>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    pub(super) next_cursor: Option<String>,
}

/// Uploads that were deleted.
#[derive(Serialize, ToSchema)]
pub(super) struct DeletedUploads {
    /// A version of the lake in which they are.
    pub(super) lake_version: u64,
    #[schema(value_type = Vec<ListedUpload>)]
    pub(super) uploads: Vec<Value>,
}

/// An upload that was erased.
#[derive(Serialize, ToSchema)]
pub(super) struct PurgedUpload {
    #[schema(value_type = Upload)]
    pub(super) upload: Value,
    /// Files of earlier versions of the lake that had rows of it.
    pub(super) lake_files_removed: usize,
    /// Files in the lake's folder that nobody has looked into.
    pub(super) files_set_aside: usize,
}

#[derive(Serialize, ToSchema)]
pub(super) struct MetricList<'a> {
    #[schema(value_type = Vec<MetricInfo>)]
    pub(super) metrics: Vec<&'a MetricInfo>,
}
