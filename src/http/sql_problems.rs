//! What is wrong with a statement of SQL, as a problem.

use super::{Problem, problem_types::Raises};
use crate::sql::{Fault, FaultKind, Place};

impl From<Fault> for Problem {
    fn from(error: Fault) -> Self {
        if error.kind == FaultKind::Internal {
            return Self::internal(&error);
        }
        let mut problem = Self::new(error.kind.error_kind(), error.kind.code(), error.to_string());
        if let Some(Place { line, column }) = error.place {
            problem = problem.with("line", line).with("column", column);
        }
        if let Some(meant) = error.meant {
            problem = problem.with("meant", meant);
        }
        match error.setting {
            Some(setting) => problem.with("setting", setting),
            None => problem,
        }
    }
}

impl Raises for Fault {
    fn codes() -> Vec<&'static str> {
        let told = FaultKind::ALL.into_iter().filter(|fault| *fault != FaultKind::Internal);
        told.map(FaultKind::code).chain(["internal"]).collect()
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;
    use crate::config::SqlLimits;

    #[test]
    fn every_fault_of_sql_is_a_problem_that_is_described() {
        let limits = SqlLimits::default();
        for kind in FaultKind::ALL {
            let error = Fault { kind, ..crate::sql::check(" ", &limits).unwrap_err() };
            let status = Problem::from(error).into_response().status().as_u16();
            assert_eq!(status, kind.error_kind().http_status(), "{kind:?}");
        }
    }
}
