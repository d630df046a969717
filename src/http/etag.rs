//! Validators: the tag of an answer, and callers who have that answer already (RFC 9110, 8.8.3 and 13.1.2).

use std::collections::BTreeMap;

use axum::http::{HeaderMap, header};
use utoipa::{
    IntoParams, IntoResponses,
    openapi::{
        Object, RefOr, Required, Response, ResponseBuilder, Type,
        header::HeaderBuilder,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};

/// Whether the caller has the answer with this tag. Weak comparison, because a compressed answer is the same figures.
pub(super) fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|known| {
        let known = known.trim();
        known == "*" || known.trim_start_matches("W/") == etag
    })
}

/// The `If-None-Match` of an operation.
pub(super) struct IfNoneMatch;

impl IntoParams for IfNoneMatch {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let parameter = ParameterBuilder::new()
            .name("If-None-Match")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .description(Some("ETags of answers that the caller has; the answer is 304 where one of them still holds."))
            .schema(Some(Object::with_type(Type::String)));
        vec![parameter.build()]
    }
}

/// The answer to a caller who has it already.
pub(super) struct NotModified;

impl IntoResponses for NotModified {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let response = ResponseBuilder::new()
            .description("The caller's answer still holds.")
            .header("ETag", HeaderBuilder::new().schema(Some(Object::with_type(Type::String))).build());
        BTreeMap::from([("304".to_owned(), response.into())])
    }
}
