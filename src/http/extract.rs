//! What requests bring, read so that every fault is a problem that names its place.

use std::{
    error::Error,
    fmt::{self, Display},
    str::FromStr,
};

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{StatusCode, header, request::Parts},
};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value};

use super::{Problem, body::slow_body_in, problem_types::Raises};
use crate::{error::ErrorKind, nearest::nearest};

/// The most parameters of one query string.
const MAX_PARAMETERS: usize = 200;

/// A body that is a JSON object of at most `MAX` bytes, as the layer around its route has it.
pub struct JsonObject<const MAX: usize = { super::MAX_JSON_BYTES }>(pub Map<String, Value>);

impl<S: Send + Sync, const MAX: usize> FromRequest<S> for JsonObject<MAX> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            let detail = "the body is to be JSON, with Content-Type: application/json";
            return Err(Problem::new(ErrorKind::UnsupportedType, "unsupported_type", detail));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                let detail = format!("the body has more than {MAX} bytes");
                return Problem::new(ErrorKind::TooLarge, "body_too_large", detail);
            }
            unreadable_body(&rejection)
        })?;
        let members: Members = serde_json::from_slice(&bytes).map_err(|error| {
            let detail = format!("the body is not a JSON object: {error}");
            Problem::new(ErrorKind::Invalid, "invalid_json", detail)
                .with("line", error.line())
                .with("column", error.column())
        })?;
        members.into_object().map(Self)
    }
}

/// The members of a JSON object as they stand there, also those that repeat a key: a map would keep the last one.
pub(super) struct Members(Vec<(String, Value)>);

impl Members {
    /// # Errors
    /// One of them is there twice.
    pub(super) fn into_object(self) -> Result<Map<String, Value>, Problem> {
        let mut object = Map::new();
        for (key, value) in self.0 {
            if object.contains_key(&key) {
                let key: String = key.chars().take(100).collect();
                let detail = format!("the body has the key {key:?} more than once, and nothing says which one counts");
                return Err(Problem::new(ErrorKind::Invalid, "repeated_key", detail).with("key", key));
            }
            object.insert(key, value);
        }
        Ok(object)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<const MAX: usize> Raises for JsonObject<MAX> {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_json", "repeated_key", "body_broken", "body_timeout", "body_too_large", "unsupported_type"]
    }
}

/// The answer to a body that broke off: a sender that stopped or was too slow, or a connection that ended.
pub fn unreadable_body(error: &(dyn Error + 'static)) -> Problem {
    match slow_body_in(error) {
        Some(slow) => Problem::slow_body(format!("{slow}, and the request was given up")),
        None => Problem::new(ErrorKind::Invalid, "body_broken", "the body broke off before its end"),
    }
}

/// What the path names: a project's slug, an upload's id, a metric. What is no slug is no project either, and answers the
/// same; so does what is no text.
pub struct PathName<T>(pub T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for PathName<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| Problem::not_found())?;
        text.parse().map(Self).map_err(|_| Problem::not_found())
    }
}

impl<T> Raises for PathName<T> {
    fn codes() -> Vec<&'static str> {
        vec!["not_found"]
    }
}

/// The query string of a route that has no parameters: there is none, so that a misspelt or misplaced one is an error.
pub struct NoParameters;

impl<S: Send + Sync> FromRequestParts<S> for NoParameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Parameters::from_request_parts(parts, state).await?.finish().map(|()| Self)
    }
}

impl Raises for NoParameters {
    fn codes() -> Vec<&'static str> {
        Parameters::codes()
    }
}

impl Raises for Parameters {
    fn codes() -> Vec<&'static str> {
        vec!["invalid_parameter", "too_many_parameters"]
    }
}

/// `true` or `false`, and nothing that merely looks like it.
pub(super) struct Flag(pub(super) bool);

impl FromStr for Flag {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "true" => Ok(Self(true)),
            "false" => Ok(Self(false)),
            _ => Err("true or false is what it takes"),
        }
    }
}

/// The query string, to be taken apart by name. A handler takes what it knows and then calls [`Parameters::finish`],
/// so that a misspelt parameter is an error and not silently without effect.
pub struct Parameters {
    pairs: Vec<(String, String)>,
    known: Vec<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        Self::parse(parts.uri.query().unwrap_or_default())
    }
}

impl Parameters {
    /// What is written as a query string.
    pub fn parse(query: &str) -> Result<Self, Problem> {
        refuse_other_encodings(query)?;
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().take(MAX_PARAMETERS + 1).collect();
        if pairs.len() > MAX_PARAMETERS {
            let detail = format!("a query has at most {MAX_PARAMETERS} parameters");
            return Err(Problem::new(ErrorKind::Invalid, "too_many_parameters", detail));
        }
        Ok(Self { pairs, known: Vec::new() })
    }

    /// What came as the fields of a form.
    #[must_use]
    pub fn of(pairs: Vec<(String, String)>) -> Self {
        Self { pairs, known: Vec::new() }
    }

    /// Every value of a parameter that may be repeated, in the order in which they came.
    pub fn take_all(&mut self, name: &str) -> Vec<String> {
        self.known.push(name.to_owned());
        let (taken, rest) = std::mem::take(&mut self.pairs).into_iter().partition(|(pair, _)| pair == name);
        self.pairs = rest;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// The value of a parameter that may be there once.
    pub fn take(&mut self, name: &str) -> Result<Option<String>, Problem> {
        let mut values = self.take_all(name);
        if values.len() > 1 {
            return Err(invalid_parameter(name, format!("{name} is there {} times; once is right", values.len())));
        }
        Ok(values.pop())
    }

    /// The same, as what it stands for.
    pub fn take_as<T: FromStr<Err: Display>>(&mut self, name: &str) -> Result<Option<T>, Problem> {
        self.take(name)?
            .map(|text| text.parse().map_err(|error: T::Err| invalid_parameter(name, format!("{name}: {error}"))))
            .transpose()
    }

    /// What nobody took, for a reader that knows its names only at run time.
    #[must_use]
    pub fn rest(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// Refuses what nobody took.
    pub fn finish(self) -> Result<(), Problem> {
        let Some((name, _)) = self.pairs.first() else {
            return Ok(());
        };
        let name: String = name.chars().take(100).collect();
        let meant = nearest(&name, self.known.iter().map(String::as_str));
        let meant = meant.map_or(String::new(), |meant| format!("; did you mean {meant}?"));
        let detail = format!("there is no parameter {name:?} here{meant}");
        Err(invalid_parameter(&name, detail).with("allowed", self.known))
    }
}

/// Refuses what is no text: taken for text, it would become the same replacement character as any other.
fn refuse_other_encodings(query: &str) -> Result<(), Problem> {
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (percent_decoded(name), percent_decoded(value));
        if std::str::from_utf8(&name).is_err() || std::str::from_utf8(&value).is_err() {
            let name: String = String::from_utf8_lossy(&name).chars().take(100).collect();
            return Err(invalid_parameter(&name, format!("{name} is not UTF-8; in a URL, é is written %C3%A9")));
        }
    }
    Ok(())
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|digit| char::from(*digit).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = if *byte == b'%' { digit(at + 1).zip(digit(at + 2)) } else { None };
        if let Some(byte) = escaped.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(*byte);
            at += 1;
        }
    }
    decoded
}

/// A parameter that is unknown, repeated or ill-typed.
pub fn invalid_parameter(name: &str, detail: impl Into<String>) -> Problem {
    Problem::new(ErrorKind::Invalid, "invalid_parameter", detail).with("parameter", name)
}

#[cfg(test)]
mod tests {
    use axum::{body::to_bytes, response::IntoResponse};
    use futures::executor::block_on;

    use super::*;
    use crate::{
        fuzz::{Target, fuzz},
        query::{Metric, MetricRequest, Metrics, ParameterLimits},
    };

    #[test]
    fn fuzz_parameters_each_is_taken_once_or_named_as_what_is_wrong() {
        let target = Target {
            name: "parameters",
            words: &[
                "&",
                "=",
                "%",
                "+",
                "%26",
                "%3D",
                "%FF",
                "%C3%A9",
                "%00",
                ";",
                "project",
                "from",
                "to",
                "tz",
                "grain",
                "site",
                "currency",
                "order",
                "limit",
                "days",
                "format",
                "csv",
                "month",
                "all",
                "week",
                "UTC",
                "Africa/Nairobi",
                "nairobi",
                "kitobo",
                "KES",
                "xts",
                "-revenue",
                "-",
                ",",
                "project,period",
                "2024-05",
                "2024-05-01",
                "2024-05-01T06:00:00Z",
                "2024-05-01T06:00:00%2B03:00",
                "2199-12-31T23:59:60-14:00",
                "1969-12-31",
                "1970-01-01T00:00:00%2B14:00",
                "2200-01",
                "0",
                "-1",
                "30",
                "3660",
                "1000001",
                "9223372036854775808",
                "00",
                "%2B5",
            ],
            inputs: 4000,
        };
        let metrics = block_on(Metrics::load(&ParameterLimits::default())).unwrap();
        fuzz(&target, |bytes| {
            let query = String::from_utf8_lossy(bytes);
            let Some(expected) = pairs_of(&query) else {
                let problem = Parameters::parse(&query).err().expect("what is no text is refused");
                assert!(format!("{problem:?}").contains("is not UTF-8"), "{problem:?}");
                return vec!["no text".to_owned()];
            };
            let Ok(parameters) = Parameters::parse(&query) else {
                assert!(expected.len() > MAX_PARAMETERS);
                return vec!["too many".to_owned()];
            };
            assert_eq!(parameters.rest(), expected);
            assert_taken_once(parameters, &expected);
            metrics.iter().map(|metric| taken_by(metric, &expected)).collect()
        });
    }

    /// The pairs of a query string, read plainly (URL standard, 5.1); none where one of them is not text.
    fn pairs_of(query: &str) -> Option<Vec<(String, String)>> {
        let decoded = |text: &str| {
            let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
            while let Some((first, behind)) = rest.split_first() {
                let code = behind.get(..2).filter(|_| *first == b'%').and_then(|code| hex::decode(code).ok());
                bytes.push(code.as_ref().map_or(if *first == b'+' { b' ' } else { *first }, |code| code[0]));
                rest = if code.is_some() { &behind[2..] } else { behind };
            }
            String::from_utf8(bytes).ok()
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.map(|(name, value)| Some((decoded(name)?, decoded(value)?))).collect()
    }

    fn assert_taken_once(mut parameters: Parameters, given: &[(String, String)]) {
        let values = |name: &str| -> Vec<String> {
            given.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
        };
        assert_eq!(parameters.take_all("site"), values("site"));
        let limit = parameters.take("limit").map_err(|_| values("limit").len());
        assert!(limit.as_ref().map_or_else(|count| *count > 1, |limit| limit.as_ref() == values("limit").first()));
        let left: Vec<_> = given.iter().filter(|(name, _)| name != "site" && name != "limit").cloned().collect();
        assert_eq!(parameters.rest(), left);
        match (parameters.finish(), left.first()) {
            (Ok(()), None) => {}
            (Err(problem), Some((name, _))) => {
                let answer = problem.into_response();
                assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
                let body = block_on(to_bytes(answer.into_body(), 1 << 20)).unwrap();
                let body: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(body["parameter"], name.chars().take(100).collect::<String>());
                assert_eq!(body["allowed"], serde_json::json!(["site", "limit"]));
            }
            (finished, left) => panic!("{finished:?} with {left:?} left"),
        }
    }

    /// How a metric takes the pairs, after it was asserted that what took effect says the same again, or that an error
    /// names what was given.
    fn taken_by(metric: &Metric, pairs: &[(String, String)]) -> String {
        let limits = ParameterLimits::default();
        let request = match MetricRequest::parse(metric, pairs, &limits) {
            Ok(request) => request,
            Err(error) => {
                let given = |name: &str| name.chars().take(200).collect::<String>() == error.parameter;
                let named = pairs.iter().any(|(name, _)| given(name));
                assert!(named, "{error} names what was not given");
                return error.problem;
            }
        };
        assert!((1..=limits.max_rows).contains(&request.limit));
        let known = |name: &str| metric.info.parameters.iter().any(|parameter| parameter.name == name);
        assert!(pairs.iter().all(|(name, _)| name == "format" || known(name)));
        let effective = request.effective(metric);
        let again: Vec<(String, String)> = effective
            .iter()
            .flat_map(|(name, value)| {
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let values = match value {
                    Value::Null => Vec::new(),
                    Value::Array(values) => values.iter().map(text).collect(),
                    value => vec![text(value)],
                };
                values.into_iter().map(|value| (name.clone(), value))
            })
            .collect();
        let again = MetricRequest::parse(metric, &again, &limits).map(|request| request.effective(metric));
        assert_eq!(again.as_ref(), Ok(&effective), "what took effect is {again:?} when it is asked for");
        effective.keys().filter(|name| pairs.iter().any(|(given, _)| given == *name)).cloned().collect()
    }

    #[test]
    fn a_parameter_that_nobody_takes_is_refused() {
        let mut parameters = Parameters::parse("limit=5&curser=x").unwrap();
        assert_eq!(parameters.take("limit").unwrap().as_deref(), Some("5"));
        assert_eq!(parameters.take("cursor").unwrap(), None);
        let problem = format!("{:?}", parameters.finish().unwrap_err());
        assert!(problem.contains("did you mean cursor?"), "{problem}");
    }

    #[test]
    fn a_parameter_that_is_no_text_is_refused_by_name() {
        for (query, name) in
            [("site=%ff", "site"), ("a=1&site=x%C3", "site"), ("s%ffte=1", "s\u{fffd}te"), ("b%80", "b\u{fffd}")]
        {
            let problem = format!("{:?}", Parameters::parse(query).err().unwrap());
            assert!(problem.contains("invalid_parameter") && problem.contains(name), "{problem}");
        }
        let mut fine = Parameters::parse("site=Caf%C3%A9+%EF%BF%BD&b=%&c=%4&d=%zz&e=é").unwrap();
        assert_eq!(fine.take("site").unwrap().as_deref(), Some("Café \u{fffd}"));
    }

    #[test]
    fn a_parameter_twice_is_refused_unless_it_may_repeat() {
        let mut parameters = Parameters::parse("a=1&a=2&b=1&b=2").unwrap();
        assert_eq!(parameters.take_all("a"), ["1", "2"]);
        assert!(parameters.take("b").is_err());
    }
}
