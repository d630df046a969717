//! What wraps every request: its id, its log line, limits on time, and the headers that every answer has.

use std::{
    any::Any,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use tower_http::{
    compression::{
        CompressionLayer, Predicate,
        predicate::{DefaultPredicate, NotForContentType},
    },
    cors::CorsLayer,
};
use tracing::{Instrument, Span};

use super::{
    Problem,
    body::{Counted, OnBodyEnd, Pace, PacedBody},
    idempotency::REPLAYED,
    linger::Lingering,
};
use crate::{
    error::ErrorKind,
    telemetry::{Counters, UnderWay},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// By which id a query in SQL is found among those of its organisation.
pub(super) const QUERY_ID: HeaderName = HeaderName::from_static("x-wattlake-query-id");
/// The cursor of the page of a result after this one, where there is one; forms that have no room for it say it here.
pub(super) const NEXT_CURSOR: HeaderName = HeaderName::from_static("x-wattlake-next-cursor");
/// What of a request's `Prefer` was done (RFC 7240).
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// Says that the limit on rows left some out; in the forms that have no room for a warning, it is where that is said.
pub(super) const TRUNCATED: HeaderName = HeaderName::from_static("x-wattlake-truncated");
/// How many cells of what is shared as aggregates an answer leaves out.
pub(super) const WITHHELD: HeaderName = HeaderName::from_static("x-wattlake-withheld-cells");
/// How many projects an answer leaves out, because they are shared as aggregates and more is asked of them.
pub(super) const LEFT_OUT: HeaderName = HeaderName::from_static("x-wattlake-left-out");
const MAX_REQUEST_ID: usize = 64;
/// How long a browser may remember a preflight.
const CORS_MAX_AGE: Duration = Duration::from_mins(10);

/// The id of a request, among its extensions.
#[derive(Clone)]
pub(super) struct RequestId(pub(super) String);

/// Where authentication leaves the key's prefix for the log line.
#[derive(Clone, Default)]
pub(super) struct KeyOfRequest(Arc<OnceLock<String>>);

impl KeyOfRequest {
    pub(super) fn set(&self, prefix: &str) {
        // A second extractor of the same request finds the same key.
        let _ = self.0.set(prefix.to_owned());
    }
}

/// Gives a request its id, which every log line that it causes has, and every answer; and logs it once it has ended.
pub(super) async fn observe(State(counters): State<Arc<Counters>>, mut request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let span = tracing::error_span!("request", request_id = id);
    let key = KeyOfRequest::default();
    request.extensions_mut().insert(key.clone());
    request.extensions_mut().insert(RequestId(id.clone()));
    let path = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str).to_owned();
    let mut line = LogLine {
        _under_way: counters.request(),
        counters,
        span: span.clone(),
        started: Instant::now(),
        method: request.method().clone(),
        path,
        key,
        status: None,
        logged: false,
    };
    let mut response = next.run(request).instrument(span).await;
    line.status = Some(response.status().as_u16());
    set_headers(response.headers_mut(), &id);
    response.map(|body| Body::new(Counted::new(body, line)))
}

/// The caller's id where it is a plain one, so that it can be followed through several systems; else a new one.
fn request_id(headers: &HeaderMap) -> String {
    headers
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()))
        .filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)))
        .map_or_else(|| uuid::Uuid::now_v7().simple().to_string(), str::to_owned)
}

fn set_headers(headers: &mut HeaderMap, request_id: &str) {
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // An answer is one key's own. With an ETag it may be kept, to be asked for again each time.
    let cache = if headers.contains_key(header::ETAG) { "private, no-cache" } else { "no-store" };
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static(cache));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    headers.entry(header::REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
}

/// The one line of a request, and its step in the counters. Written when its answer was sent, or when either side gave it
/// up.
struct LogLine {
    counters: Arc<Counters>,
    _under_way: UnderWay,
    span: Span,
    started: Instant,
    method: Method,
    /// The route's pattern, because a path may hold what belongs in no log.
    path: String,
    key: KeyOfRequest,
    status: Option<u16>,
    logged: bool,
}

impl OnBodyEnd for LogLine {
    fn body_ended(&mut self, bytes: u64, complete: bool) {
        self.logged = true;
        let took = self.started.elapsed();
        let route = if self.path == "-" { "unknown" } else { &self.path };
        self.counters.answered(known_method(&self.method), route, self.status.unwrap_or_default(), took);
        let _entered = self.span.enter();
        tracing::info!(
            method = %self.method,
            path = self.path,
            status = self.status.unwrap_or_default(),
            ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            bytes,
            // The body of an answer to HEAD is never sent.
            complete = complete || self.method == Method::HEAD,
            key = self.key.0.get().map_or("-", String::as_str),
            "request"
        );
    }
}

/// A method as a label; callers may invent others.
fn known_method(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}

impl Drop for LogLine {
    fn drop(&mut self) {
        if !self.logged {
            self.body_ended(0, false);
        }
    }
}

/// Ends a request whose answer has not started in time.
pub(super) async fn limit_time(State(limit): State<Duration>, request: Request, next: Next) -> Response {
    tokio::time::timeout(limit, next.run(request)).await.unwrap_or_else(|_| {
        let detail = format!("the answer took more than {} seconds and was given up", limit.as_secs());
        Problem::new(ErrorKind::Timeout, "request_timeout", detail).into_response()
    })
}

/// Gives up a body that stops coming, or comes too slowly, and takes what is left of one that is refused before its end.
pub(super) async fn limit_slow_body(State(pace): State<Pace>, request: Request, next: Next) -> Response {
    next.run(request.map(|body| Body::new(Lingering::new(Body::new(PacedBody::new(body, pace)))))).await
}

/// A panic is our defect; its text may quote data, so it goes to the log alone.
#[expect(clippy::needless_pass_by_value, reason = "the layer gives it away")]
pub(super) fn answer_panic(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("without a text"), "a handler panicked");
    Problem::unexplained().into_response()
}

/// gzip and zstd for what is text; what is packed already stays as it is.
pub(super) fn compression() -> CompressionLayer<impl Predicate> {
    let packed = DefaultPredicate::new()
        .and(NotForContentType::const_new("application/vnd.apache.parquet"))
        .and(NotForContentType::const_new("application/vnd.apache.arrow"))
        .and(NotForContentType::const_new("application/gzip"))
        .and(NotForContentType::const_new("application/zstd"));
    CompressionLayer::new().compress_when(packed)
}

/// A packed answer has other bytes than the plain one under the same tag, which therefore becomes a weak one (RFC 9110,
/// 8.8.1).
pub(super) async fn weaken_packed_etag(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let packed = headers.contains_key(header::CONTENT_ENCODING);
    let tag =
        headers.get(header::ETAG).and_then(|tag| tag.to_str().ok()).filter(|tag| packed && !tag.starts_with("W/"));
    if let Some(weak) = tag.and_then(|tag| HeaderValue::from_str(&format!("W/{tag}")).ok()) {
        headers.insert(header::ETAG, weak);
    }
    response
}

/// Lets pages of the configured origins read answers, and no others.
/// `None` without any: the layer would answer every OPTIONS, whether the path is there or not.
pub(super) fn cors(origins: &[String]) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    if origins.is_empty() {
        return None;
    }
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::PUT, Method::DELETE])
        .allow_headers([
            header::ACCEPT,
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("prefer"),
            REQUEST_ID,
        ])
        .expose_headers([
            header::CONTENT_DISPOSITION,
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            REPLAYED,
            REQUEST_ID,
            TRUNCATED,
            WITHHELD,
            LEFT_OUT,
            QUERY_ID,
            NEXT_CURSOR,
            PREFERENCE_APPLIED,
        ])
        .max_age(CORS_MAX_AGE);
    Some(layer)
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::to_bytes, routing::get};
    use tower::ServiceExt;
    use tower_http::catch_panic::CatchPanicLayer;

    use super::*;

    async fn ask(router: Router) -> (u16, HeaderMap, String) {
        let request = Request::builder().uri("/").body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_quotes_nothing_and_has_a_request_id() {
        let router = Router::new()
            .route("/", get(async || -> String { panic!("meter 00123 is odd") }))
            .layer(CatchPanicLayer::custom(answer_panic))
            .layer(axum::middleware::from_fn_with_state(Arc::new(Counters::default()), observe));
        let (status, headers, body) = ask(router).await;
        assert_eq!(status, 500);
        assert!(headers.contains_key(REQUEST_ID));
        assert!(body.contains("/problems/internal") && !body.contains("00123"), "{body}");
    }

    #[tokio::test]
    async fn an_answer_that_does_not_start_in_time_is_given_up() {
        let slow = get(async || tokio::time::sleep(Duration::from_mins(1)).await);
        let limit = axum::middleware::from_fn_with_state(Duration::from_millis(50), limit_time);
        let (status, _, body) = ask(Router::new().route("/", slow).layer(limit)).await;
        assert_eq!(status, 504);
        assert!(body.contains("/problems/request_timeout"), "{body}");
    }

    #[tokio::test]
    async fn an_answer_with_an_etag_may_be_kept_and_asked_for_again() {
        let tagged = get(async || ([(header::ETAG, "\"1\"")], "x"));
        let observed = axum::middleware::from_fn_with_state(Arc::new(Counters::default()), observe);
        let (_, headers, _) = ask(Router::new().route("/", tagged).layer(observed)).await;
        assert_eq!(headers[header::CACHE_CONTROL], "private, no-cache");
    }
}
