//! Whether the server is alive, and whether it can work. Without a key, for those who start and watch it.

use axum::{Json, extract::State};

use super::{
    AppState, Problem,
    answers::{Health, Readiness, ReadinessChecks},
    problem_types::{Raises, Refused},
};

/// Whether the server is alive
///
/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "server", responses((status = 200, description = "It is.", body = Health)))]
pub(super) async fn get_health() -> Json<Health> {
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Its storage does not answer.
struct Storage;

impl Raises for Storage {
    fn codes() -> Vec<&'static str> {
        vec!["unavailable", "storage_full"]
    }
}

/// Whether the server can work
///
/// What requests need answers too.
#[utoipa::path(
    get, path = "/readyz", tag = "server",
    responses((status = 200, description = "It can.", body = Readiness), Refused<(Storage,)>)
)]
pub(super) async fn get_readiness(State(state): State<AppState>) -> Result<Json<Readiness>, Problem> {
    state.catalog.ping().await?;
    state.lake.ping().await.map_err(|error| Problem::failure(error.kind(), "lake", &error))?;
    Ok(Json(Readiness { status: "ready", checks: ReadinessChecks { catalog: "ok", lake: "ok" } }))
}
