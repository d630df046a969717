//! What SQL can ask, described: relations, functions and limits.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    functions::{self, Kind},
    relations::{self, Relation},
};
use crate::config::SqlLimits;

/// What SQL can read and call, and how large a statement may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SqlSchema {
    pub relations: Vec<Relation>,
    pub functions: Vec<SqlFunction>,
    pub limits: Vec<SqlLimit>,
}

/// A function that may be called, under each of its names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SqlFunction {
    pub name: &'static str,
    pub kind: Kind,
}

/// A limit of one statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SqlLimit {
    /// The server's setting.
    pub setting: &'static str,
    pub limit: usize,
}

/// All of it.
#[must_use]
pub fn described(limits: &SqlLimits) -> SqlSchema {
    let limit = |(setting, limit)| SqlLimit { setting, limit };
    SqlSchema {
        relations: relations::ALL.clone(),
        functions: functions::listed().map(|(name, kind)| SqlFunction { name, kind }).collect(),
        limits: limits.by_setting().into_iter().map(limit).collect(),
    }
}
