//! The problems that the API answers with. Their codes are stable, and every one is described here: what is not in the table
//! cannot be answered (see `Problem::into_response`), and what handlers can answer with is said by their extractors.

use std::{collections::BTreeMap, marker::PhantomData};

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use utoipa::{
    IntoResponses,
    openapi::{
        ContentBuilder, Header, Object, Ref, RefOr, Response, ResponseBuilder, Schema, Type, header::HeaderBuilder,
        schema::OneOfBuilder,
    },
};

use super::openapi::type_name;

pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// One `type` of problem.
pub(super) struct ProblemType {
    /// The last part of its `type`, which is `/problems/<code>`.
    pub(super) code: &'static str,
    pub(super) status: u16,
    meaning: &'static str,
    /// Its members beside the standard ones. A `?` stands behind the name of one that is not always there.
    members: &'static [(&'static str, Member)],
}

/// What a member of a problem holds.
#[derive(Clone, Copy)]
enum Member {
    Text,
    Texts,
    /// A place in a text, from 1.
    Place,
    /// A schema of its own.
    One(&'static str),
    Many(&'static str),
    TextOrNull,
    Number,
}

const fn plain(code: &'static str, status: u16, meaning: &'static str) -> ProblemType {
    ProblemType { code, status, meaning, members: &[] }
}

const fn with(
    code: &'static str,
    status: u16,
    members: &'static [(&'static str, Member)],
    meaning: &'static str,
) -> ProblemType {
    ProblemType { code, status, meaning, members }
}

/// What is said of a statement of SQL: where it is wrong, what was meant, and which limit it passes.
const SQL: &[(&str, Member)] =
    &[("line?", Member::Place), ("column?", Member::Place), ("meant?", Member::Text), ("setting?", Member::Text)];

/// All of them, by status.
#[rustfmt::skip]
pub(super) const PROBLEMS: &[ProblemType] = {
    use Member::{Many, Number, One, Place, Text, TextOrNull, Texts};
    &[
        with("invalid_parameter", 400, &[("parameter", Text), ("allowed?", Texts), ("expected?", Text)],
            "A parameter is missing, unknown, repeated or ill-typed; `parameter` names it."),
        plain("too_many_parameters", 400, "The query or the form has more parameters than the server reads."),
        with("invalid_json", 400, &[("line", Place), ("column", Place)], "The body is not a JSON object."),
        with("repeated_key", 400, &[("key", Text)], "The body has a key twice, and nothing says which one counts."),
        plain("invalid_body", 400, "The body's fields are missing or wrong."),
        with("invalid_header", 400, &[("header", Text)], "A header is there more than once, or holds what it cannot."),
        with("invalid_project", 400, &[("errors", Many("FieldError"))], "Fields of the project are missing or wrong."),
        with("invalid_organisation", 400, &[("errors", Many("FieldError"))],
            "Fields of the organisation are missing or wrong."),
        with("invalid_key", 400, &[("errors", Many("FieldError"))], "Fields of the key are missing or wrong."),
        with("invalid_share", 400, &[("errors", Many("FieldError"))], "Fields of the share are missing or wrong."),
        with("invalid_submission", 400, &[("errors", Many("FieldError"))], "Fields of the submission are missing or wrong."),
        with("invalid_verification", 400, &[("errors", Many("FieldError"))],
            "Fields of the verification are missing or wrong."),
        with("invalid_saved_query", 400, &[("errors?", Many("FieldError"))],
            "Fields of the saved query are missing or wrong."),
        with("invalid_programme", 400, &[("errors", Many("FieldError"))], "Fields of the programme are missing or wrong."),
        with("invalid_enrolment", 400, &[("errors", Many("FieldError"))], "Fields of the enrolment are missing or wrong."),
        with("invalid_connection", 400, &[("errors", Many("FieldError"))], "Fields of the connection are missing or wrong."),
        with("sql_syntax", 400, SQL, "The text is no SQL."),
        with("sql_not_allowed", 400, SQL, "The statement is SQL that is not offered: no query, or with something in it that no query may have."),
        with("sql_unknown_name", 400, SQL, "There is no relation, column or function of that name; `meant` is the nearest right one."),
        with("sql_type", 400, SQL, "The types of the statement do not fit."),
        with("sql_invalid", 400, SQL, "The statement means nothing, though each of its parts does."),
        plain("body_broken", 400, "The body broke off before its end."),
        plain("broken_form", 400, "The body is not a whole multipart form."),
        plain("unauthenticated", 401, "No key, a wrong one, a revoked one, or one that expired."),
        with("forbidden", 403, &[("role", Text), ("needed", Texts)],
            "The role of the key is too small for what its holder may know of; `needed` names those that are not."),
        plain("dry_run_only", 403, "Who takes part in a programme verifies with `dry_run` alone."),
        with("report_of_others", 403, &[("run", Text)], "The report has verdicts on connections of others."),
        plain("replay_of_others", 403, "The verification judged connections of others too."),
        with("shared_as_aggregates", 403, &[("projects", Texts)],
            "Of these projects, months that the question reads are shared as aggregates, and it asks more of them than that."),
        with("shared_as_it_is", 403, &[("projects", Texts)],
            "These projects are shared with the key's organisation, and the question asks of them as they were: `as_of`."),
        with("connections_not_shared", 403, &[("projects", Texts)],
            "These projects are shared with the key's organisation, and the metric needs their connections, which are not."),
        with("not_found", 404, &[("parameter?", Text), ("uploads?", Texts)],
            "Nothing is there, or nothing that the key may see; `parameter` or `uploads` name what, where that is no path."),
        with("unknown_metric", 404, &[("allowed", Texts)], "There is no such metric."),
        plain("unknown_route", 404, "The API has no such path."),
        plain("wrong_method", 405, "The path does not answer this method; the Allow header has those that it does."),
        with("not_acceptable", 406, &[("allowed", Texts)], "The Accept header leaves no form that there is."),
        plain("body_timeout", 408, "The body stopped coming, or came too slowly."),
        plain("project_exists", 409, "The slug is taken."),
        plain("slug_taken", 409, "The slug is taken by something that the key may not see."),
        plain("programme_exists", 409, "The slug is taken."),
        with("programme_changed", 409, &[("newest", Number)],
            "The terms of the programme have another version by now, which is to be read and consented to."),
        plain("not_invited", 409, "The programme does not invite the organisation whose project it is."),
        plain("not_enrolled", 409, "The project is not enrolled in the programme, or has left it."),
        with("other_terms", 409, &[("rule_version", Number)],
            "A project consented to other terms of the programme: `rule_version` is theirs."),
        plain("already_submitted", 409, "Connections were submitted to the programme before; a connection is submitted once."),
        plain("not_payable", 409, "Submissions are not verified, are open again, or are paid already."),
        plain("verification_not_done", 409, "The verification is under way, or came to nothing."),
        with("evidence_of_verdicts", 409, &[("runs", Texts)],
            "Verdicts of these verifications rest on the upload; `with_evidence=true` erases it even so."),
        plain("organisation_exists", 409, "The slug is taken."),
        plain("key_ended", 409, "The key is revoked, expired or rotated already, and so cannot be rotated."),
        plain("share_revoked", 409, "The share is revoked for good, and changes no more."),
        plain("share_ended", 409, "A share that the question needs was revoked, or expired, while it was answered."),
        plain("cancelled", 409, "The query was cancelled: by a DELETE of it, or by its organisation."),
        plain("currency_fixed", 409, "The project has uploads, so its currency no longer changes."),
        with("query_under_way", 409, &[("state", Text)], "The query has not come to its end; `state` says how far it is."),
        plain("currency_changed", 409, "The project's currency changed while the file came; send it again."),
        plain("idempotency_key_in_flight", 409, "A request under this Idempotency-Key is under way."),
        with("upload_status", 409, &[("uploads", Texts)], "These uploads are not in a status in which that can be done."),
        plain("limit_reached", 409, "The server holds as many of these as it can."),
        plain("result_not_kept", 410, "The query is over, and its result is kept no longer, or never was."),
        with("evidence_gone", 410, &[("uploads", Texts)], "What the verification rests on is erased for good."),
        plain("version_not_kept", 410, "The version of the lake that `as_of` asks for is no longer kept whole."),
        plain("body_too_large", 413, "The body has too many bytes."),
        plain("file_too_large", 413, "The file, or what it unpacks to, has more bytes than `upload.max_bytes`."),
        plain("form_too_large", 413, "The form has too many bytes before its file, or after its end."),
        plain("unsupported_type", 415, "The body's media type or coding is not one that is read here."),
        plain("wrong_file_name", 422, "The file has another name than its dataset type asks for."),
        with("upload_rejected", 422, &[
                ("upload_status", Text), ("counts", One("Counts")), ("errors", Many("RowError")),
                ("warnings", Many("Warning")), ("sha256", Text), ("upload_id?", One("UploadId")),
                ("upload?", Text), ("rejected_rows?", TextOrNull),
            ],
            "The file is refused for its content; nothing of it is in the lake. The last three members are not there after a dry run."),
        with("connections_rejected", 422, &[
                ("counts", One("Counts")), ("errors", Many("RowError")), ("warnings", Many("Warning")),
            ],
            "Connections are refused for their content; none was taken."),
        with("consent_needed", 422, &[("discloses", Many("Disclosure"))],
            "A project is enrolled by consenting to what it then shares: `discloses`."),
        plain("enrolment_currency", 422, "The programme's rule names least amounts, and none in the project's currency."),
        plain("connections_missing", 422, "The project has no such connections."),
        plain("nothing_to_verify", 422, "Nothing that was asked for was submitted, or is there."),
        plain("not_submitted", 422, "Connections that were asked for were not submitted, or are not there."),
        plain("too_many_to_verify", 422, "More connections than `verification.max_connections`."),
        with("organisation_needed", 422, &[("allowed", Texts)],
            "There are several organisations, and none is named; `allowed` has the first hundred."),
        plain("idempotency_key_reused", 422, "The Idempotency-Key was sent with another request."),
        with("sql_too_large", 422, SQL, "The statement passes a limit of its size; `setting` names it."),
        with("sql_execution", 422, SQL, "The statement failed over the rows: a division by zero, a cast that does not go. No value is told."),
        with("out_of_memory", 422, SQL, "The statement needs more memory than there is for one: `sql.worker_memory_bytes`, or `sql.spill_bytes` on disk."),
        plain("query_memory", 422, "The question needs more memory than the server has for it."),
        plain("answer_too_large", 422, "The answer has more bytes than `query.max_answer_bytes`."),
        plain("too_many_connections", 422, "The SQL names `connections`, or the metric needs them, and the projects have more than `sql.max_connections` or `query.max_connections`."),
        plain("results_full", 422, "The results that are kept would have more bytes than `sql.results_bytes`."),
        plain("row_too_large", 422, "A row of the answer has more bytes than can be sent."),
        plain("too_many_uploads", 429, "As many uploads as `upload.concurrency` are under way."),
        plain("too_many_verifications", 429, "As many verifications as `verification.concurrency` and `verification.queue` run or wait."),
        plain("too_many_queries", 429, "Too many queries wait: of the key, of its organisation, or of all."),
        plain("too_many_requests", 429, "The key, or its organisation, makes more requests than it may; Retry-After says when to come again."),
        plain("internal", 500, "Something failed on the server's side; its log has the request id."),
        plain("crashed", 500, "The process of the SQL ended before its answer did; nothing else is concerned."),
        plain("unavailable", 503, "The server cannot reach its storage now."),
        with("data_damaged", 503, &[("projects", Texts)],
            "Stored payments of these projects are damaged, and are being made anew from the uploads."),
        plain("verdicts_damaged", 503, "The verdicts are not as they were kept; verify again."),
        plain("verification_timeout", 504, "The verification took longer than `verification.timeout_s`."),
        plain("query_timeout", 504, "The query took longer than `query.timeout_s`."),
        plain("deadline", 504, "The SQL took longer than it may: `timeout_s` of its own, `sql.timeout_s`, or `sql.cpu_s`."),
        plain("request_timeout", 504, "The answer took longer than `http.request_timeout_s` to begin."),
        plain("storage_full", 507, "The server's disk is full; nothing was changed."),
    ]
};

/// The row of a code.
pub(super) fn problem(code: &str) -> Option<&'static ProblemType> {
    PROBLEMS.iter().find(|problem| problem.code == code)
}

/// The name of a problem's schema: `not_found` is `NotFoundProblem`.
pub(super) fn schema_name(code: &str) -> String {
    type_name(code) + "Problem"
}

/// The `title` of every problem of a status.
pub(super) fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}

impl ProblemType {
    /// Its schema (RFC 9457, 3.1).
    pub(super) fn schema(&self) -> Value {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut properties = Map::from_iter([
            ("type".to_owned(), json!({"type": "string", "const": format!("/problems/{}", self.code)})),
            ("title".to_owned(), json!({"type": "string", "const": title(status)})),
            ("status".to_owned(), json!({"type": "integer", "const": self.status})),
            (
                "detail".to_owned(),
                json!({"type": "string", "description": "For people: what is wrong, and what to do."}),
            ),
        ]);
        let mut required: Vec<&str> = vec!["type", "title", "status", "detail"];
        for (name, member) in self.members {
            let always = name.strip_suffix('?');
            required.extend(always.is_none().then_some(name));
            properties.insert(always.unwrap_or(name).to_owned(), member.schema());
        }
        json!({"type": "object", "description": self.meaning, "required": required, "properties": properties})
    }
}

impl Member {
    fn schema(self) -> Value {
        let of = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
        match self {
            Self::Text => json!({"type": "string"}),
            Self::Texts => json!({"type": "array", "items": {"type": "string"}}),
            Self::Number => json!({"type": "integer", "minimum": 1}),
            Self::Place => json!({"type": "integer", "minimum": 0}),
            Self::One(name) => of(name),
            Self::Many(name) => json!({"type": "array", "items": of(name)}),
            Self::TextOrNull => json!({"type": ["string", "null"]}),
        }
    }
}

/// What can answer a request with a problem: an extractor, or the work of a handler.
pub(super) trait Raises {
    /// The codes of its problems.
    fn codes() -> Vec<&'static str>;
}

/// The problems of an operation: those of its extractors and of its work, `Refused<(Caller, NoParameters)>`.
pub(super) struct Refused<T>(PhantomData<T>);

impl<T: Raises> IntoResponses for Refused<T> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = BTreeMap::new();
        for code in T::codes() {
            add(&mut responses, code);
        }
        responses
    }
}

macro_rules! raises_of_tuples {
    ($(($($part:ident)+))+) => {
        $(impl<$($part: Raises),+> Raises for ($($part,)+) {
            fn codes() -> Vec<&'static str> {
                [$($part::codes()),+].concat()
            }
        })+
    };
}

raises_of_tuples! { (A) (A B) (A B C) (A B C D) (A B C D E) }

/// Adds a problem to the answers of an operation. A code that is not in the table leads to a schema that is not there, which
/// a test finds.
pub(super) fn add(responses: &mut BTreeMap<String, RefOr<Response>>, code: &str) {
    let (status, meaning) = problem(code).map_or((500, ""), |problem| (problem.status, problem.meaning));
    let entry = responses.entry(status.to_string()).or_insert_with(|| RefOr::T(none_yet(status)));
    let RefOr::T(response) = entry else { return };
    let Some(RefOr::T(content)) = response.content.get_mut(MEDIA_TYPE) else { return };
    let Some(RefOr::T(Schema::OneOf(one_of))) = content.schema.as_mut() else { return };
    let reference: RefOr<Schema> = Ref::from_schema_name(schema_name(code)).into();
    if !one_of.items.contains(&reference) {
        one_of.items.push(reference);
        let line = format!("`{code}`: {meaning}");
        let so_far = std::mem::take(&mut response.description);
        response.description = if so_far.is_empty() { line } else { format!("{so_far}\n\n{line}") };
    }
}

/// The answer of a status, with no problem in it yet.
fn none_yet(status: u16) -> Response {
    let content = ContentBuilder::new().schema(Some(OneOfBuilder::new())).build();
    let response = ResponseBuilder::new().content(MEDIA_TYPE, content);
    match status {
        401 => response.header("WWW-Authenticate", header(Type::String, "Bearer.")),
        405 => response.header("Allow", header(Type::String, "The methods of the path, with commas between.")),
        429 | 503 => response.header("Retry-After", header(Type::Integer, "Seconds after which to try again.")),
        _ => response,
    }
    .build()
}

fn header(kind: Type, about: &str) -> Header {
    HeaderBuilder::new().schema(Some(Object::with_type(kind))).description(Some(about)).build()
}
