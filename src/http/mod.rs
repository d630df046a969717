//! The HTTP API. `router()` is all of it on one screen; one file a resource.

mod allowance;
mod answers;
mod as_of;
mod audit;
mod auth;
mod body;
mod connection;
mod connection_answers;
mod connections;
mod dataset_answers;
mod declared;
mod enrolments;
mod etag;
mod extract;
mod fields;
mod found;
mod found_programmes;
mod found_verifications;
mod health;
mod idempotency;
mod keys;
mod linger;
mod metric_paths;
mod metrics;
mod middleware;
mod monitoring;
mod openapi;
mod organisations;
mod outcome;
mod page;
pub mod problem;
mod problem_types;
mod programme_answers;
mod programmes;
mod projects;
mod queries;
mod receive;
mod recording;
mod refusals;
mod requests;
mod rights;
mod saved;
mod shares;
mod sql;
mod sql_body;
mod sql_problems;
mod sql_request;
mod sql_run;
mod sql_schema;
mod submissions;
mod uploads;
mod verdicts;
mod verification_answers;
mod verifications;
mod watch;
mod withdraw;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{Method, Uri},
};
use tower::util::option_layer;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use allowance::Allowance;
pub use auth::{
    Admin, Caller, MetricReader, Monitor, OrganisationManager, ProjectReader, SqlWriter, UploadReader, Uploader,
};
pub use body::{SlowBody, slow_body_in};
pub use connection::SendTimeout;
pub use extract::{JsonObject, NoParameters, Parameters, PathName, invalid_parameter, unreadable_body};
pub use page::{PageRequest, next_cursor};
pub use problem::Problem;
pub use recording::Peer;
pub use refusals::Refusals;
pub use watch::{Watch, WatchedStream};

use crate::{
    audit::Recorder,
    catalog::Catalog,
    config::Config,
    error::ErrorKind,
    ingest::Ingest,
    lake::Lake,
    query::{Engine, Metrics, ParameterLimits},
    sql::SqlEngine,
    telemetry::Counters,
    verification::Verification,
};

/// JSON bodies are a few fields; uploads set their own limit.
const MAX_JSON_BYTES: usize = 64 << 10;
/// Those that name connections: ten thousand of them.
const MAX_NAMES_BYTES: usize = 4 << 20;

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct AppState {
    pub catalog: Catalog,
    pub config: Arc<Config>,
    pub lake: Arc<Lake>,
    pub ingest: Arc<Ingest>,
    pub metrics: Arc<Metrics>,
    pub engine: Arc<Engine>,
    pub sql: Arc<SqlEngine>,
    pub verification: Arc<Verification>,
    pub counters: Arc<Counters>,
    pub audit: Recorder,
    pub allowance: Arc<Allowance>,
    pub refusals: Arc<Refusals>,
}

impl AppState {
    fn parameter_limits(&self) -> ParameterLimits {
        ParameterLimits { max_rows: self.config.query.max_rows, ..ParameterLimits::default() }
    }
}

/// Every route, and what wraps them: the last layer is the outermost. `routes!` takes a route's path and method from what
/// stands above its handler, which is its description too.
pub fn router(state: AppState) -> Router {
    let (config, counters, recorded) = (state.config.clone(), state.counters.clone(), state.clone());
    let timed = OpenApiRouter::new()
        .routes(routes!(health::get_health))
        .routes(routes!(health::get_readiness))
        .routes(routes!(monitoring::get_counters))
        .routes(routes!(openapi::get_openapi))
        .routes(routes!(organisations::list_organisations, organisations::create_organisation))
        .routes(routes!(organisations::get_organisation, organisations::update_organisation))
        .routes(routes!(keys::list_keys, keys::create_key))
        .routes(routes!(keys::revoke_key))
        .routes(routes!(keys::rotate_key))
        .routes(routes!(projects::list_projects, projects::create_project))
        .routes(routes!(projects::get_project, projects::update_project))
        .routes(routes!(shares::list_project_shares, shares::create_share))
        .routes(routes!(shares::update_share, shares::revoke_share))
        .routes(routes!(shares::list_shares))
        .routes(routes!(programmes::list_programmes, programmes::create_programme))
        .routes(routes!(programmes::get_programme, programmes::update_programme))
        .routes(routes!(programmes::list_programme_versions))
        .routes(routes!(enrolments::list_enrolments, enrolments::create_enrolment))
        .routes(routes!(enrolments::withdraw_enrolment))
        .merge(
            OpenApiRouter::new()
                .routes(routes!(submissions::list_submissions, submissions::submit_connections))
                .routes(routes!(submissions::pay_submissions))
                .layer(DefaultBodyLimit::max(MAX_NAMES_BYTES)),
        )
        .routes(routes!(submissions::get_submission))
        .routes(routes!(verifications::list_verifications))
        .routes(routes!(verifications::get_verification))
        .routes(routes!(verifications::get_verification_key))
        .routes(routes!(uploads::get_upload))
        .routes(routes!(metrics::list_metrics))
        .routes(routes!(metrics::get_metric))
        .routes(routes!(sql_schema::get_sql_schema))
        .routes(routes!(queries::list_queries))
        .routes(routes!(queries::get_query, queries::cancel_query))
        .routes(routes!(saved::list_saved))
        .routes(routes!(saved::list_versions))
        .routes(routes!(audit::list_audit))
        .routes(routes!(uploads::list_dataset_types))
        .routes(routes!(uploads::get_template))
        .routes(routes!(connections::get_connections_template))
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES));

    // The work goes with the rows of the projects, and is done even where nobody waits for it any more.
    let withdrawals = OpenApiRouter::new()
        .routes(routes!(withdraw::delete_upload))
        .routes(routes!(withdraw::restore_upload))
        .routes(routes!(withdraw::purge_upload))
        .routes(routes!(withdraw::delete_uploads))
        .routes(routes!(connections::get_connection, connections::update_connection, connections::delete_connection))
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES));

    // Verdicts are made of all payments of a programme's projects: their own limit is verification.timeout_s.
    let verdicts = OpenApiRouter::new()
        .routes(routes!(verifications::start_verification))
        .routes(routes!(verdicts::list_verdicts))
        .routes(routes!(verdicts::explain_verdict))
        .routes(routes!(verdicts::replay_verification))
        .routes(routes!(verdicts::get_report))
        .layer(DefaultBodyLimit::max(MAX_NAMES_BYTES));

    let saved = OpenApiRouter::new()
        .routes(routes!(saved::run_saved, saved::save_query, saved::delete_saved))
        .layer(DefaultBodyLimit::max(MAX_JSON_BYTES));

    // SQL has a limit of its own on its time, from the turn that it waits for to its last byte.
    let sql = OpenApiRouter::new()
        .routes(routes!(sql::get_sql, sql::run_sql))
        .layer(DefaultBodyLimit::max(sql_request::longest_body(&config)))
        .routes(routes!(queries::get_result))
        .merge(saved);

    // Files take as long as their size and the sender's line make them; idle bodies are cut off below.
    let untimed = OpenApiRouter::new()
        .routes(routes!(uploads::list_uploads, receive::create_upload, receive::put_upload))
        .routes(routes!(connections::list_connections, connections::import_connections))
        .routes(routes!(uploads::get_upload_file))
        .routes(routes!(uploads::get_rejected_rows))
        .layer(DefaultBodyLimit::disable());

    let pace = body::Pace { idle: config.http.body_idle_timeout, bytes_per_s: config.http.min_body_bytes_per_s };
    let all =
        openapi::timed(timed, config.http.request_timeout).merge(withdrawals).merge(verdicts).merge(sql).merge(untimed);
    openapi::described(all, &state.metrics)
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
        .layer(axum::middleware::from_fn_with_state(pace, middleware::limit_slow_body))
        .layer(CatchPanicLayer::custom(middleware::answer_panic))
        .layer(middleware::compression())
        .layer(axum::middleware::map_response(middleware::weaken_packed_etag))
        .layer(option_layer(middleware::cors(&config.http.cors_origins)))
        .layer(axum::middleware::from_fn_with_state(recorded, recording::record))
        .layer(axum::middleware::from_fn(watch::let_refusals_out))
        .layer(axum::middleware::from_fn_with_state(counters, middleware::observe))
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
