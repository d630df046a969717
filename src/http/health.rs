//! Whether the server is alive, and whether it can work. Without a key, for those who start and watch it.

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{AppState, Problem};

/// `GET /healthz`: the process answers.
pub(super) async fn get_health() -> Json<Value> {
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
}

/// `GET /readyz`: what requests need answers too.
pub(super) async fn get_readiness(State(state): State<AppState>) -> Result<Json<Value>, Problem> {
    state.catalog.ping().await?;
    state.lake.ping().await.map_err(|error| Problem::failure(error.kind(), "lake", &error))?;
    Ok(Json(json!({"status": "ready", "checks": {"catalog": "ok", "lake": "ok"}})))
}
