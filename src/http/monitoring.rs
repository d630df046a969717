//! `GET /metrics`: the operational counters, for Prometheus. Not to be taken for `/v1/metrics`, which are the figures of
//! payments.

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use super::{AppState, Monitor, NoParameters, Problem, problem_types::Refused};
use crate::{
    lake::Snapshot,
    telemetry::{Counters, LakeReading, Readings},
};

/// Get the operational counters
///
/// In the text format of Prometheus. Since the server started; no figure of any project. With `http.metrics_open` it needs
/// no key.
#[utoipa::path(
    get, path = "/metrics", tag = "server",
    responses(
        (status = 200, description = "All counters.", body = String, content_type = "text/plain"),
        Refused<(Monitor, NoParameters)>
    )
)]
pub(super) async fn get_counters(
    _: Monitor,
    State(state): State<AppState>,
    _: NoParameters,
) -> Result<Response, Problem> {
    let now = Readings {
        lake: reading(&state.lake.snapshot()),
        query_memory_bytes: state.engine.reserved_memory() as u64,
        query_partials_bytes: state.engine.partials_bytes() as u64,
    };
    let text = state.counters.text(now).map_err(|error| Problem::internal(&error))?;
    Ok(([(header::CONTENT_TYPE, Counters::MEDIA_TYPE)], text).into_response())
}

fn reading(snapshot: &Snapshot) -> LakeReading {
    let mut reading = LakeReading {
        version: snapshot.version,
        partitions: snapshot.partitions.len() as u64,
        ..LakeReading::default()
    };
    for file in snapshot.partitions.values().flatten() {
        reading.files += 1;
        reading.bytes += file.bytes;
        reading.rows += file.rows;
    }
    reading
}
