//! `/v1/sql/schema`: what SQL can read, what it may call, and how large it may be.

use axum::{Json, extract::State};

use super::{AppState, NoParameters, SqlWriter, problem_types::Refused};
use crate::sql::schema::{SqlSchema, described};

/// Describe what SQL can ask
///
/// The relations with their columns, types, units and meanings; the functions that may be called; and the limits of a
/// statement. It holds nothing of any tenant: which rows the relations have is up to the key that asks.
#[utoipa::path(
    get, path = "/v1/sql/schema", tag = "sql",
    responses((status = 200, description = "All of it.", body = SqlSchema), Refused<(SqlWriter, NoParameters)>)
)]
pub(super) async fn get_sql_schema(_: SqlWriter, State(state): State<AppState>, _: NoParameters) -> Json<SqlSchema> {
    Json(described(&state.config.sql.limits))
}
