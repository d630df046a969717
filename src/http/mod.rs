//! The HTTP API. `router()` is all of it on one screen; one file a resource.

mod auth;
mod body;
mod connection;
mod declared;
mod extract;
mod health;
mod idempotency;
mod linger;
mod metrics;
mod middleware;
mod page;
pub mod problem;
mod projects;
mod receive;
mod uploads;
mod withdraw;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{Method, Uri},
    routing::{delete, get, post},
};
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;

pub use auth::{Admin, Caller};
pub use body::{BodyIdle, idle_timeout_in};
pub use connection::SendTimeout;
pub use extract::{JsonObject, NoParameters, Parameters, PathName, invalid_parameter, unreadable_body};
pub use page::{PageRequest, next_cursor};
pub use problem::Problem;

use crate::{
    catalog::Catalog,
    config::Config,
    error::ErrorKind,
    ingest::Ingest,
    lake::Lake,
    query::{Engine, Metrics, ParameterLimits},
};

/// JSON bodies are a few fields; uploads set their own limit.
const MAX_JSON_BYTES: usize = 64 << 10;

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    pub catalog: Catalog,
    pub config: Arc<Config>,
    pub lake: Arc<Lake>,
    pub ingest: Arc<Ingest>,
    pub metrics: Arc<Metrics>,
    pub engine: Arc<Engine>,
}

impl AppState {
    fn parameter_limits(&self) -> ParameterLimits {
        ParameterLimits { max_rows: self.config.query.max_rows, ..ParameterLimits::default() }
    }
}

/// Every route, and what wraps them: the last layer is the outermost.
pub fn router(state: AppState) -> Router {
    let config = state.config.clone();
    let timed = Router::new()
        .route("/healthz", get(health::get_health))
        .route("/readyz", get(health::get_readiness))
        .route("/v1/projects", get(projects::list_projects).post(projects::create_project))
        .route("/v1/projects/{slug}", get(projects::get_project).patch(projects::update_project))
        .route("/v1/uploads/{id}", get(uploads::get_upload))
        .route("/v1/metrics", get(metrics::list_metrics))
        .route("/v1/metrics/{name}", get(metrics::get_metric))
        .route("/v1/dataset-types", get(uploads::list_dataset_types))
        .route("/v1/templates/ELECTRICITY_PAYMENT.csv", get(uploads::get_template))
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES))
        .layer(axum::middleware::from_fn_with_state(config.http.request_timeout, middleware::limit_time));

    // The work goes with the rows of the projects, and is done even where nobody waits for it any more.
    let withdrawals = Router::new()
        .route("/v1/uploads/{id}", delete(withdraw::delete_upload))
        .route("/v1/uploads/{id}/restore", post(withdraw::restore_upload))
        .route("/v1/uploads/{id}/purge", post(withdraw::purge_upload))
        .route("/v1/uploads/delete", post(withdraw::delete_uploads))
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES));

    // Files take as long as their size and the sender's line make them; idle bodies are cut off below.
    let untimed = Router::new()
        .route("/v1/uploads", get(uploads::list_uploads).post(receive::create_upload).put(receive::create_upload))
        .route("/v1/uploads/{id}/file", get(uploads::get_upload_file))
        .route("/v1/uploads/{id}/rejected.csv", get(uploads::get_rejected_rows))
        .layer(DefaultBodyLimit::disable());

    Router::new()
        .merge(timed)
        .merge(withdrawals)
        .merge(untimed)
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
        .layer(axum::middleware::from_fn_with_state(config.http.body_idle_timeout, middleware::limit_idle_body))
        .layer(CatchPanicLayer::custom(middleware::answer_panic))
        .layer(middleware::compression())
        .layer(axum::middleware::map_response(middleware::weaken_packed_etag))
        .layer(option_layer(middleware::cors(&config.http.cors_origins)))
        .layer(axum::middleware::from_fn(middleware::observe))
}

async fn unknown_route(uri: Uri) -> Problem {
    let path: String = uri.path().chars().take(200).collect();
    Problem::new(ErrorKind::NotFound, "unknown_route", format!("there is no {path} in this API"))
}

/// The router adds `Allow` with the methods that the path has.
async fn wrong_method(method: Method) -> Problem {
    let detail = format!("this path does not answer {method}; the Allow header has the methods that it does");
    Problem::wrong_method(detail)
}
