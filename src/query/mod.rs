//! Queries: the caller's files become a relation, a metric's SELECT runs over it, and its rows become JSON, CSV, Arrow or
//! Parquet. The only place that opens a session of the engine, for SQL that a person wrote too (`sql`).

mod aggregates;
mod answer;
mod bounded;
mod by_file;
mod cells;
mod connection_rows;
mod encode;
mod engine;
mod fair_queue;
mod metrics;
mod month_cells;
mod own;
mod params;
mod period;
mod plan;
mod ranks;
mod relations;
mod select;
mod session;
mod sql_session;
#[cfg(test)]
mod tests;
mod written;

use std::time::Duration;

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;

pub use aggregates::{OverAggregates, TooDetailed};
pub use answer::{AnswerColumn, AnswerWarning, ColumnType};
pub use connection_rows::ProjectConnection;
pub use encode::{Format, UnknownFormat};
pub use engine::{Encoded, Engine};
pub use fair_queue::{FairQueue, Turn};
pub use metrics::{Chart, ColumnInfo, Metric, MetricInfo, Metrics, ParameterInfo, ParameterType};
pub use own::{OwnParameter, OwnValue};
pub use params::{MAX_LENGTH, MAX_VALUES, MetricRequest, OrderKey, ParameterError, ParameterLimits};
pub use period::{Grain, Moment, local_period};
pub use plan::{Inputs, ProjectFacts};
pub use ranks::{exact_median, nearest_rank};
pub use sql_session::{Callable, SqlSession, sql_relations, sql_without_rows};
pub use written::{Ending, Streamed, WrittenColumn, written_rows, written_schema};

use crate::{
    error::ErrorKind,
    ids::ProjectSlug,
    lake::{Finding, LakeError},
};

/// Why a query has no answer. The messages name no values and no paths; what the engine said is the source.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("the metric {name} does not hold: {reason}")]
    MetricFile { name: String, reason: String },
    #[error("the query engine could not be set up")]
    Setup(#[source] DataFusionError),
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    #[error(transparent)]
    TooDetailed(#[from] TooDetailed),
    #[error("the scope holds {0}, of which nothing is known")]
    MissingFacts(ProjectSlug),
    #[error("as many queries wait already as {setting} allows, which is {limit}; try again in a moment")]
    Busy { setting: &'static str, limit: usize },
    #[error("the query took longer than {} s and was stopped; ask for a shorter period or fewer projects", .0.as_secs())]
    Timeout(Duration),
    #[error("the query needs more memory than the server has for it; ask for a shorter period or fewer projects")]
    Resources(#[source] DataFusionError),
    #[error(
        "the answer has more than {limit} bytes, the server's query.max_answer_bytes; ask for a lower limit on its rows, a \
         shorter period or fewer projects"
    )]
    AnswerTooLarge { limit: usize },
    #[error("files of the lake could not be read")]
    Storage(#[source] DataFusionError),
    #[error("files of the lake are lost or altered")]
    Damaged(Vec<Finding>),
    #[error("the query engine failed")]
    Engine(#[source] DataFusionError),
    #[error("a column of the answer has a type that answers do not have")]
    ColumnType,
    #[error("the answer could not be encoded")]
    Encode(#[source] ArrowError),
}

impl QueryError {
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Parameter(_) => ErrorKind::Invalid,
            Self::TooDetailed(_) => ErrorKind::Forbidden,
            Self::Busy { .. } => ErrorKind::Busy,
            Self::Timeout(_) => ErrorKind::Timeout,
            Self::Resources(_) | Self::AnswerTooLarge { .. } => ErrorKind::Rejected,
            Self::Storage(_) | Self::Damaged(_) => ErrorKind::Unavailable,
            Self::MetricFile { .. }
            | Self::Setup(_)
            | Self::MissingFacts(_)
            | Self::Engine(_)
            | Self::ColumnType
            | Self::Encode(_) => ErrorKind::Internal,
        }
    }
}

/// The one place where an error of the engine gets its meaning.
impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        if let DataFusionError::External(external) = error.find_root()
            && let Some(LakeError::Damaged(findings)) = external.downcast_ref::<LakeError>()
        {
            return Self::Damaged(findings.clone());
        }
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => Self::Resources(error),
            DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) | DataFusionError::ParquetError(_) => {
                Self::Storage(error)
            }
            _ => Self::Engine(error),
        }
    }
}
