//! The header `Idempotency-Key`, and the one that says that an answer was given before.

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue},
    response::{IntoResponse, Response},
};

use utoipa::{
    IntoParams,
    openapi::{
        Required, Type,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::ObjectBuilder,
    },
};

use super::{Problem, problem_types::Raises};
use crate::{
    error::ErrorKind,
    ids::{IdempotencyKey, InvalidId},
};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The header in the description of an operation. What has it can be replayed.
pub(super) struct IdempotencyHeader;

impl IdempotencyHeader {
    pub(super) const NAME: &str = "Idempotency-Key";
}

impl IntoParams for IdempotencyHeader {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let about = "A name that the sender gives the request: the same request under it again has the first answer, and no other \
                     can have it. A dry run does not count.";
        let key = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[!-~]+$"));
        let key = key.min_length(Some(1)).max_length(Some(IdempotencyKey::MAX_LENGTH)).build();
        let parameter = ParameterBuilder::new().name(Self::NAME).parameter_in(ParameterIn::Header);
        vec![parameter.required(Required::False).description(Some(about)).schema(Some(key)).build()]
    }
}

impl Raises for IdempotencyHeader {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_header", "idempotency_key_in_flight", "idempotency_key_reused"]
    }
}

/// The one key of a request, as it is: quotes around it are part of it.
pub(super) fn key_of(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let wrong = |detail: &str| {
        Problem::new(ErrorKind::Invalid, "invalid_header", format!("Idempotency-Key: {detail}"))
            .with("header", "Idempotency-Key")
    };
    let mut values = headers.get_all(KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(wrong("it is there more than once; once is right"));
    }
    // Bytes that are no text are no key either.
    let key = value.to_str().unwrap_or_default().parse();
    key.map(Some).map_err(|error: InvalidId| wrong(error.0))
}

/// The first answer to a key, given again.
pub(super) fn replayed(first: Result<Response, Problem>) -> Response {
    let mut response = first.into_response();
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
