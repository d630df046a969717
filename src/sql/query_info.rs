//! A query in SQL, as it is shown to its organisation.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::ids::{OrganisationSlug, QueryId, QueryName};

/// How far a query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueryState {
    /// It waits for its turn.
    Queued,
    Running,
    Succeeded,
    Failed,
    /// By who asked, by who has the organisation's queries in hand, or because nobody waited any more.
    Cancelled,
}

/// One query, as it is shown to its organisation.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct QueryInfo {
    pub id: QueryId,
    pub state: QueryState,
    /// Whether its result is kept for who asked, instead of being sent at once.
    pub respond_async: bool,
    pub sql: String,
    /// The values of its placeholders, as they were sent.
    pub params: Value,
    /// The saved query that it is.
    #[schema(required)]
    pub saved_query: Option<QueryName>,
    #[schema(required)]
    pub saved_version: Option<u32>,
    /// Null for an administrator's.
    #[schema(required)]
    pub organisation: Option<OrganisationSlug>,
    /// The start of the key that asked.
    pub key: String,
    /// The version of the lake that it is answered from.
    pub lake_version: u64,
    #[schema(value_type = String, format = DateTime)]
    pub submitted_at: DateTime<Utc>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub started_at: Option<DateTime<Utc>>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    pub ended_at: Option<DateTime<Utc>>,
    pub progress: QueryProgress,
    /// What is kept for who asked; null before it is whole, where it is sent at once, and when it is kept no longer.
    #[schema(required)]
    pub result: Option<ResultInfo>,
    /// Why it failed, as the answer to it would have said.
    #[schema(required)]
    pub problem: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct QueryProgress {
    /// That were read of files so far.
    pub scanned_rows: u64,
    pub scanned_bytes: u64,
    /// Of the files that it reads, as often as it reads them; null where that is not known.
    #[schema(required)]
    pub rows_to_scan: Option<u64>,
    /// Of the answer, so far.
    pub row_count: u64,
}

/// A result that is kept.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ResultInfo {
    pub row_count: u64,
    /// On disk.
    pub bytes: u64,
    /// Whether there are more rows than `limit`, `sql.max_rows` or `sql.max_answer_bytes` let through.
    pub truncated: bool,
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: DateTime<Utc>,
    #[schema(example = "/v1/queries/qry_019…/result")]
    pub url: String,
}
