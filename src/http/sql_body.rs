//! The body of an answer to SQL that is sent while it is made. It ends as a body ends only where the answer is whole; where it
//! breaks off, so does the connection, because half an answer looks like another one.

use std::{io, time::Duration};

use axum::body::{Body, Bytes};
use futures::stream;

use super::{Problem, rights::Standing};
use crate::{
    audit::Trail,
    sql::{SqlAnswer, queries::Tracked},
};

/// How long what was said last has to get out, before the connection is broken off.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// An answer on its way.
pub(super) struct Sending {
    answer: SqlAnswer,
    standing: Standing,
    trail: Trail,
    /// Whether the answer itself says that rows were left out of it.
    says_it: bool,
    /// The limit on rows that the caller named itself.
    wanted: Option<usize>,
    /// Where it is run for who asks: the query that it is.
    query: Option<Tracked>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sending,
    /// It breaks off, once what was said last is out.
    BreakingOff,
    Ended,
}

impl Sending {
    pub(super) fn new(
        answer: SqlAnswer,
        standing: Standing,
        trail: Trail,
        says_it: bool,
        wanted: Option<usize>,
        query: Option<Tracked>,
    ) -> Self {
        Self { answer, standing, trail, says_it, wanted, query, state: State::Sending }
    }

    pub(super) fn into_body(self) -> Body {
        Body::from_stream(stream::unfold(self, Self::piece))
    }

    async fn piece(mut self) -> Option<(io::Result<Bytes>, Self)> {
        let broken_off = || io::Error::other("the answer broke off");
        match self.state {
            State::Ended => return None,
            State::BreakingOff => {
                tokio::time::sleep(LAST_WORDS).await;
                self.state = State::Ended;
                return Some((Err(broken_off()), self));
            }
            State::Sending => {}
        }
        match self.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), self)),
            Ok(None) => {
                if let Some(query) = self.query.take() {
                    query.sent();
                }
                None
            }
            Err(problem) => {
                if let Some(query) = self.query.take() {
                    query.failed(problem.to_json());
                }
                tracing::warn!(problem = problem.code(), "an answer to SQL broke off");
                if let Some(line) = self.answer.broken_off(&problem.to_json()) {
                    self.state = State::BreakingOff;
                    return Some((Ok(line.into()), self));
                }
                self.state = State::Ended;
                Some((Err(broken_off()), self))
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let bytes = self.standing.during(self.answer.next()).await??;
        let rows = self.answer.row_count();
        self.trail.note(|learned| learned.rows = Some(rows));
        if let Some(truncated) = self.answer.truncated() {
            // It has come to its end: the last time to look whether it may be given out.
            self.standing.check().await?;
            let as_wanted = self.wanted.is_some_and(|wanted| wanted as u64 == rows);
            if truncated && !self.says_it && !as_wanted {
                let detail = "the answer has more rows or bytes than sql.max_rows or sql.max_answer_bytes";
                return Err(Problem::new(crate::error::ErrorKind::Rejected, "answer_too_large", detail));
            }
        }
        Ok(bytes)
    }
}
