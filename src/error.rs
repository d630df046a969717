//! The kinds of failure that a caller can tell apart. Each module's own error says what went wrong and keeps its
//! source; its `kind()` says which of these it is, and only this file maps a kind to a status and an exit code.

use serde::Serialize;

/// What a caller can do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request is malformed: a parameter, a body, a value.
    Invalid,
    /// No key, or one that does not hold.
    Unauthenticated,
    /// The caller is known, and may not.
    Forbidden,
    /// Absent, or not for this caller: the two are never told apart.
    NotFound,
    /// It was there, and is kept no longer.
    Gone,
    /// It clashes with what is there.
    Conflict,
    /// A limit on bytes.
    TooLarge,
    /// The body's type is not one that is read here.
    UnsupportedType,
    /// The request is well formed, and what it comes to is refused: an upload with bad rows, a question whose answer
    /// takes more memory than the server gives it. The same again would end the same.
    Rejected,
    /// A limit on concurrency or rate; the caller may try again.
    Busy,
    /// A limit on our own time. A sender who is slow is another matter, which only HTTP has.
    Timeout,
    /// The disk is full.
    StorageFull,
    /// The server cannot answer now: starting, draining, or its storage fails.
    Unavailable,
    /// A defect of Wattlake. Outsiders learn the request id and nothing else.
    Internal,
}

impl ErrorKind {
    /// The HTTP status of RFC 9110 that says the same.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Gone => 410,
            Self::TooLarge => 413,
            Self::UnsupportedType => 415,
            Self::Rejected => 422,
            Self::Busy => 429,
            Self::Internal => 500,
            Self::Unavailable => 503,
            // Not 503, whose Retry-After asks for the same work once more; nor 408, which clients repeat unasked.
            Self::Timeout => 504,
            Self::StorageFull => 507,
        }
    }

    /// What an answer of that status is, to who asked: the way back of [`Self::http_status`]. Statuses that a server of ours
    /// does not answer, such as those of a proxy, are the nearest kind.
    #[must_use]
    pub fn of_http_status(status: u16) -> Self {
        match status {
            401 => Self::Unauthenticated,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            409 => Self::Conflict,
            410 => Self::Gone,
            413 => Self::TooLarge,
            415 => Self::UnsupportedType,
            422 => Self::Rejected,
            429 => Self::Busy,
            408 | 504 => Self::Timeout,
            502 | 503 => Self::Unavailable,
            507 => Self::StorageFull,
            500.. => Self::Internal,
            _ => Self::Invalid,
        }
    }

    /// The process's exit code: 1 for a refusal, 2 for a wrong request, 3 and up for what is not the caller's doing.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Rejected => 1,
            Self::Invalid | Self::TooLarge | Self::UnsupportedType => 2,
            Self::NotFound | Self::Gone => 3,
            Self::Conflict => 4,
            Self::Unauthenticated | Self::Forbidden => 5,
            Self::Busy | Self::Timeout | Self::Unavailable | Self::StorageFull => 6,
            Self::Internal => 70,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_comes_back_from_its_status() {
        use ErrorKind as Kind;
        for kind in [
            Kind::Invalid,
            Kind::Unauthenticated,
            Kind::Forbidden,
            Kind::NotFound,
            Kind::Conflict,
            Kind::Gone,
            Kind::TooLarge,
            Kind::UnsupportedType,
            Kind::Rejected,
            Kind::Busy,
            Kind::Timeout,
            Kind::StorageFull,
            Kind::Unavailable,
            Kind::Internal,
        ] {
            assert_eq!(Kind::of_http_status(kind.http_status()), kind);
        }
        assert_eq!(Kind::of_http_status(431), Kind::Invalid);
        assert_eq!(Kind::of_http_status(502), Kind::Unavailable);
    }
}
