//! The description of the API in OpenAPI 3.1, made from the router that answers: `routes!` registers a handler with what
//! stands above it, and there is no other way to register one. What is the same for all is added here.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Extension, Router,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use utoipa::{
    ToSchema,
    openapi::{
        Components, InfoBuilder, Object, OpenApi, OpenApiBuilder, Ref, RefOr, Type,
        header::HeaderBuilder,
        path::{Operation, PathItem},
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::TagBuilder,
    },
};
use utoipa_axum::router::OpenApiRouter;

use super::{
    AppState, NoParameters,
    answers::NothingWritten,
    etag::{self, IfNoneMatch, NotModified},
    idempotency::{self, IdempotencyHeader},
    metric_paths, middleware,
    problem_types::{self, PROBLEMS, Refused},
    sql::SqlResult,
};
use crate::{
    catalog::FieldError,
    query::{AnswerColumn, AnswerWarning, Metrics},
};

const KEY: &str = "key";

const ABOUT: &str = "\
Payments of mini-grids and solar home systems: files go in, exact figures come out.

Every `GET` answers `HEAD` too, without a body. Answers are packed with gzip or zstd for those who accept it; their ETags \
are weak then. A path that is not here answers 404 `unknown_route`, and a method that a path does not have 405 \
`wrong_method`, with an `Allow` header. A request that is not HTTP, and one whose headers are larger than \
`http.max_header_bytes` (431), are answered without a body before they reach the API.

A key, and all keys of an organisation together, make so many requests a second and no more; beyond that the answer is 429 \
`too_many_requests`, and `Retry-After` says when to come again.";

const TAGS: [(&str, &str); 11] = [
    ("organisations", "Whom projects and keys belong to."),
    ("keys", "Who may do what."),
    ("projects", "What a payment belongs to."),
    ("connections", "Whom a project supplies, by name; never shared."),
    ("programmes", "Who pays for connections which really pay, and which projects take part."),
    ("uploads", "Files of payments, and what became of them."),
    ("metrics", "Exact figures over all that a key may see."),
    ("sql", "Any SELECT over all that a key may see, each in a process of its own."),
    ("audit", "Who did what."),
    ("reference", "What a file of payments holds."),
    ("server", "The server itself."),
];

/// The document as it is sent.
pub(super) struct Document {
    bytes: Bytes,
    etag: String,
}

/// The description of this API
///
/// In OpenAPI 3.1. It holds nothing of any tenant and needs no key.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "server",
    params(IfNoneMatch),
    responses(
        (status = 200, description = "The document.", body = Object, headers(("ETag"))),
        NotModified,
        Refused<(NoParameters,)>
    )
)]
pub(super) async fn get_openapi(
    Extension(document): Extension<Arc<Document>>,
    _: NoParameters,
    headers: HeaderMap,
) -> Response {
    let validators = [(header::ETAG, document.etag.clone()), (header::CACHE_CONTROL, "no-cache".to_owned())];
    if etag::is_known(&headers, &document.etag) {
        return (StatusCode::NOT_MODIFIED, validators).into_response();
    }
    (validators, [(header::CONTENT_TYPE, "application/json")], document.bytes.clone()).into_response()
}

/// A router whose handlers and whose description are the same.
pub(super) fn described(all: OpenApiRouter<AppState>, metrics: &Metrics) -> Router<AppState> {
    let (router, api) = all.split_for_parts();
    let text = document(api, metrics).to_string();
    let etag = format!("\"{}\"", hex::encode(&Sha256::digest(&text)[..16]));
    router.layer(Extension(Arc::new(Document { bytes: text.into(), etag })))
}

/// Bounds the time of some routes, and says so.
pub(super) fn timed(mut routes: OpenApiRouter<AppState>, limit: Duration) -> OpenApiRouter<AppState> {
    for operation in routes.get_openapi_mut().paths.paths.values_mut().flat_map(operations) {
        problem_types::add(&mut operation.responses.responses, "request_timeout");
    }
    routes.layer(axum::middleware::from_fn_with_state(limit, middleware::limit_time))
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

/// The whole document.
fn document(api: OpenApi, metrics: &Metrics) -> Value {
    let mut head = OpenApiBuilder::new()
        .info(InfoBuilder::new().title("Wattlake").version(env!("CARGO_PKG_VERSION")).description(Some(ABOUT)).build())
        .tags(Some(TAGS.map(|(name, about)| TagBuilder::new().name(name).description(Some(about)).build())))
        .build();
    head.merge(api);
    for operation in head.paths.paths.values_mut().flat_map(operations) {
        complete(operation);
    }
    let components = head.components.get_or_insert_default();
    add_components(components);
    let mut document = json!(head);
    let schemas = &mut document["components"]["schemas"];
    for problem in PROBLEMS {
        schemas[problem_types::schema_name(problem.code)] = problem.schema();
    }
    metric_paths::add(&mut document, metrics);
    close(&mut document);
    document
}

/// What holds for every operation: it may fail on our side, an answer has its request's id, and who may be told that no key
/// came has to send one.
fn complete(operation: &mut Operation) {
    let responses = &mut operation.responses.responses;
    problem_types::add(responses, "internal");
    if responses.contains_key("401") {
        operation.security = Some(vec![SecurityRequirement::new(KEY, [""; 0])]);
    }
    let parameters = operation.parameters.iter().flatten();
    let replayable = parameters
        .into_iter()
        .any(|parameter| matches!(parameter, RefOr::T(parameter) if parameter.name == IdempotencyHeader::NAME));
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        let mut add = |name: &str, header: &str| {
            response.headers.insert(name.to_owned(), RefOr::Ref(Ref::new(format!("#/components/headers/{header}"))));
        };
        add("x-request-id", "RequestId");
        if replayable && matches!(status.as_str(), "200" | "201" | "422") {
            add(idempotency::REPLAYED.as_str(), "Replayed");
        }
    }
}

fn add_components(components: &mut Components) {
    add_schema::<NothingWritten>(components);
    add_schema::<FieldError>(components);
    add_schema::<AnswerColumn>(components);
    add_schema::<AnswerWarning>(components);
    add_schema::<SqlResult>(components);
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("wl_…");
    let about = "A key that `POST /v1/keys` or `wattlake keys create` made. Its role says what it may do, and its organisation \
                 what it may see; everything else is as if it were not there. What needs a greater role answers 403 \
                 `forbidden`, where the key may know of it.";
    let scheme = SecurityScheme::Http(bearer.description(Some(about)).build());
    components.add_security_scheme(KEY, scheme);
    let about = "The id of the request, which is in the server's log: the caller's own where it is 1 to 64 of a-z, A-Z, 0-9, \
                 `-`, `_` and `.`, else a new one.";
    let id = HeaderBuilder::new().schema(Some(Object::with_type(Type::String))).description(Some(about)).build();
    components.headers.insert("RequestId".to_owned(), id.into());
    let about = "`true` where the request came before under its Idempotency-Key, and this is its answer again; else it is not there.";
    let replayed = HeaderBuilder::new().schema(Some(Object::with_type(Type::String))).description(Some(about)).build();
    components.headers.insert("Replayed".to_owned(), replayed.into());
    for (name, code) in [("UnknownRoute", "unknown_route"), ("WrongMethod", "wrong_method")] {
        let mut answers = BTreeMap::new();
        problem_types::add(&mut answers, code);
        components.responses.extend(answers.into_values().map(|answer| (name.to_owned(), answer)));
    }
}

/// A schema that no handler names: of a problem, of the answers of metrics.
fn add_schema<T: ToSchema>(components: &mut Components) {
    let mut schemas = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut schemas);
    components.schemas.extend(schemas);
}

/// Closes every object of ours: an answer has no property that is not described.
fn close(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(close),
        Value::Object(members) => {
            if members.get("type").is_some_and(|kind| kind == "object") && members.contains_key("properties") {
                members.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            let of_schema = |name: &&str| !matches!(*name, "example" | "examples" | "default" | "const" | "enum");
            members.iter_mut().filter(|(name, _)| of_schema(&name.as_str())).for_each(|(_, member)| close(member));
        }
        _ => {}
    }
}

/// A name in `snake_case` as the name of a schema: `not_found` is `NotFound`.
pub(super) fn type_name(name: &str) -> String {
    name.split('_')
        .flat_map(|word| {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters)
        })
        .collect()
}
