//! SQL as it comes: a JSON body, the bare text, or `?q=`; and what may be said with it.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::{AppState, Parameters, Problem, invalid_parameter, problem_types::Raises, unreadable_body};
use crate::{
    config::{Config, SqlConfig},
    error::ErrorKind,
    lake::AsOf,
    query::{Format, UnknownFormat},
    sql::{Parameters as Bound, SqlRequest, WrongParameter},
};

/// The body of a query.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SqlFields<'a> {
    /// One SELECT, over `payments`, `projects`, `sites` and `uploads`.
    sql: String,
    /// The values of placeholders: an object of `$name`, or a list of `$1` or `?`. A value is a text, a number, true, false,
    /// null, or an object with `type` and `value`.
    #[serde(borrow)]
    #[schema(value_type = Option<serde_json::Value>)]
    params: Option<&'a RawValue>,
    /// `json` (the default), `ndjson`, `csv`, `arrow` or `parquet`; it goes before the Accept header.
    format: Option<String>,
    /// The most rows that are wanted, up to `sql.max_rows`.
    #[schema(minimum = 1)]
    limit: Option<usize>,
    /// The most seconds that it may take, up to `sql.timeout_s`.
    #[schema(minimum = 1)]
    timeout_s: Option<u64>,
    /// The lake as it was: in a version, by its number, or at an instant with its offset.
    as_of: Option<String>,
    /// Whether texts in CSV are no formulas to a spreadsheet: those that begin as one get an apostrophe before it.
    csv_guard: Option<bool>,
}

/// What may be said in a query string: beside the bare text of a body, or with `q`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "the description of what `Asked::take` reads")]
pub(super) struct SqlOptions {
    /// The values of placeholders in JSON.
    #[param(example = "[1]")]
    params: Option<String>,
    /// The form of the answer; it goes before the Accept header.
    #[param(inline, value_type = Option<String>, example = "json")]
    format: Option<String>,
    /// The most rows that are wanted, up to `sql.max_rows`.
    #[param(minimum = 1)]
    limit: Option<u64>,
    /// The most seconds that it may take, up to `sql.timeout_s`.
    #[param(minimum = 1)]
    timeout_s: Option<u64>,
    /// Whether texts in CSV are no formulas to a spreadsheet.
    csv_guard: Option<bool>,
}

/// The SQL of a GET.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "the description of what `Asked::of_query` reads")]
pub(super) struct SqlText {
    /// One SELECT.
    #[param(required = true)]
    q: String,
}

/// A query and what is said with it, as it came.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) sql: String,
    /// In JSON.
    pub(super) params: Option<String>,
    format: Option<String>,
    pub(super) limit: Option<usize>,
    timeout_s: Option<u64>,
    csv_guard: bool,
    pub(super) as_of: Option<AsOf>,
}

impl Raises for Asked {
    fn codes() -> Vec<&'static str> {
        let body = ["invalid_json", "invalid_body", "body_broken", "body_timeout", "body_too_large"];
        [&body[..], &["unsupported_type", "invalid_parameter", "too_many_parameters", "not_acceptable"]].concat()
    }
}

/// The media types of the bare text.
const BARE: [&str; 2] = ["text/plain", "application/sql"];

impl FromRequest<AppState> for Asked {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let mut parameters = Parameters::parse(request.uri().query().unwrap_or_default())?;
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = content_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim();
        let essence = essence.to_ascii_lowercase();
        let asked = Self::take(&mut parameters)?;
        parameters.finish()?;
        if essence == "application/json" {
            if asked != Self::default() {
                return Err(invalid_parameter(
                    "params",
                    "a JSON body has all of it; a query string goes with the bare SQL",
                ));
            }
            return Self::of_json(&bytes(request, state).await?);
        }
        if !BARE.contains(&essence.as_str()) {
            let detail = "the body is JSON, with Content-Type: application/json, or the bare SQL, with text/plain or application/sql";
            return Err(Problem::new(ErrorKind::UnsupportedType, "unsupported_type", detail));
        }
        let text = String::from_utf8(bytes(request, state).await?.into());
        let sql = text.map_err(|_| Problem::new(ErrorKind::Invalid, "invalid_body", "the SQL is not UTF-8"))?;
        Ok(Self { sql, ..asked })
    }
}

/// The most bytes of a body: a statement, of which JSON may make two bytes of each, and what is said with it.
pub(super) fn longest_body(config: &Config) -> usize {
    2 * config.sql.limits.max_bytes + super::MAX_JSON_BYTES
}

async fn bytes(request: Request, state: &AppState) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let limit = longest_body(&state.config);
            let detail = format!(
                "the body has more than {limit} bytes; a statement has {} at most, the server's sql.max_bytes",
                state.sql.limits().limits.max_bytes
            );
            return Problem::new(ErrorKind::TooLarge, "body_too_large", detail);
        }
        unreadable_body(&rejection)
    })
}

impl Asked {
    fn of_json(body: &[u8]) -> Result<Self, Problem> {
        let fields: SqlFields<'_> = serde_json::from_slice(body).map_err(|error| {
            if error.is_data() {
                let detail = format!("the body is not {{\"sql\": …, \"params\": …}}: {error}");
                return Problem::new(ErrorKind::Invalid, "invalid_body", detail);
            }
            Problem::new(ErrorKind::Invalid, "invalid_json", format!("the body is not a JSON object: {error}"))
                .with("line", error.line())
                .with("column", error.column())
        })?;
        let SqlFields { sql, params, format, limit, timeout_s, as_of, csv_guard } = fields;
        let params = params.map(|json| json.get().to_owned());
        let as_of = as_of.map(|text| text.parse()).transpose();
        let as_of = as_of.map_err(|error| invalid_parameter("as_of", format!("as_of: {error}")))?;
        Ok(Self { sql, params, format, limit, timeout_s, csv_guard: csv_guard.unwrap_or_default(), as_of })
    }

    /// The query of a GET.
    pub(super) fn of_query(mut parameters: Parameters) -> Result<Self, Problem> {
        let sql = parameters.take("q")?;
        let asked = Self::take(&mut parameters)?;
        parameters.finish()?;
        let sql = sql.ok_or_else(|| invalid_parameter("q", "q is the SQL: GET /v1/sql?q=SELECT…"))?;
        Ok(Self { sql, ..asked })
    }

    /// The same options with other SQL.
    #[must_use]
    pub(super) fn with_sql(self, sql: String) -> Self {
        Self { sql, ..self }
    }

    fn take(parameters: &mut Parameters) -> Result<Self, Problem> {
        let params = parameters.take("params")?;
        Ok(Self { params, ..Self::take_options(parameters)? })
    }

    /// What is said beside the SQL and its values.
    pub(super) fn take_options(parameters: &mut Parameters) -> Result<Self, Problem> {
        Ok(Self {
            sql: String::new(),
            params: None,
            format: parameters.take("format")?,
            limit: parameters.take_as("limit")?,
            timeout_s: parameters.take_as("timeout_s")?,
            csv_guard: parameters.take_as("csv_guard")?.unwrap_or_default(),
            as_of: parameters.take_as("as_of")?,
        })
    }

    /// What is asked, once every part of it is known to be right.
    ///
    /// It takes `longest` at most.
    pub(super) fn into_request(
        self,
        headers: &HeaderMap,
        limits: &SqlConfig,
        longest: Duration,
    ) -> Result<SqlRequest, Problem> {
        let format = chosen_format(self.format.as_deref(), headers)?;
        let (most, seconds) = (limits.max_rows, longest.as_secs());
        let limit = self.limit.unwrap_or(most);
        if limit == 0 || limit > most {
            return Err(invalid_parameter("limit", format!("limit is 1 to {most}, the server's sql.max_rows")));
        }
        let timeout_s = self.timeout_s.unwrap_or(seconds);
        if timeout_s == 0 || timeout_s > seconds {
            let setting = if longest == limits.timeout { "sql.timeout_s" } else { "sql.background_timeout_s" };
            let detail = format!("timeout_s is 1 to {seconds}, the server's {setting}");
            return Err(invalid_parameter("timeout_s", detail));
        }
        let parameters = match &self.params {
            None => Bound::default(),
            Some(json) => {
                let json: &RawValue = serde_json::from_str(json)
                    .map_err(|error| invalid_parameter("params", format!("params is not JSON: {error}")))?;
                Bound::read(json).map_err(|error: WrongParameter| invalid_parameter("params", error.to_string()))?
            }
        };
        Ok(SqlRequest {
            sql: self.sql,
            parameters,
            format,
            csv_guard: self.csv_guard,
            max_rows: limit,
            timeout: Duration::from_secs(timeout_s),
            only_plan: false,
        })
    }
}

/// The form that is named, or else one that the Accept header leaves.
pub(super) fn chosen_format(named: Option<&str>, headers: &HeaderMap) -> Result<Format, Problem> {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    Format::choose(named, accept).map_err(|error: UnknownFormat| {
        let allowed = Format::ALL.map(Format::name).to_vec();
        match named {
            Some(_) => invalid_parameter("format", error.to_string()),
            None => Problem::not_acceptable(error.to_string()),
        }
        .with("allowed", allowed)
    })
}
