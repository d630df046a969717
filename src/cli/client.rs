//! The one place that speaks HTTP to a server: its address, the key, and how a refusal is told.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{self, HeaderMap, HeaderValue},
    redirect,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::Url;

use super::{
    Failure,
    output::Sink,
    report::{ERRORS_SHOWN, Report},
};
use crate::{
    config::{ClientConfig, environment},
    error::ErrorKind,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that is gone without a word is found out by the system's probes, because an answer may take as long as it takes.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// How often a request is sent at most.
const TRIES: u32 = 4;
/// The pause after the first connection that failed; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// A server that wants a longer pause is not waited for.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Bytes of an answer that is read whole, at most. What a server gives at most by default is half of it.
const MAX_ANSWER_BYTES: usize = 512 << 20;
/// Names that a failure lists at most.
const MAX_ALLOWED: usize = 40;

/// The flags of the commands that ask a server.
#[derive(Args)]
pub(super) struct ClientFlags {
    /// The server's address; else `WATTLAKE_SERVER`, else `http://127.0.0.1:8080`.
    #[arg(long, global = true, value_name = "URL")]
    server: Option<String>,
    /// The key; else `WATTLAKE_KEY`. Others on this machine may see a command's flags: prefer the variable or the file.
    #[arg(long, global = true, value_name = "KEY", conflicts_with = "key_file")]
    key: Option<String>,
    /// A file with the key in it.
    #[arg(long, global = true, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// A server and the key for it.
pub(super) struct Client {
    http: reqwest::Client,
    server: Url,
    authorization: HeaderValue,
}

/// Why a request has no good answer, and when it may be sent again.
struct Refused {
    failure: Failure,
    again_after: Option<Duration>,
}

impl ClientFlags {
    /// Asks nobody yet.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let (server, key) = (self.server.as_deref(), self.key.as_deref());
        let config = ClientConfig::load(&environment(), server, key, self.key_file.as_deref())?;
        let key = config.key.ok_or_else(|| {
            Failure::new(ErrorKind::Unauthenticated, "a key is needed: WATTLAKE_KEY, --key-file or --key has it")
                .with_line("`wattlake keys create` makes one, on the server's machine")
        })?;
        let no_key = |_| Failure::new(ErrorKind::Invalid, "the key is no key");
        let mut authorization = HeaderValue::from_str(&format!("Bearer {key}")).map_err(no_key)?;
        authorization.set_sensitive(true);
        let http = reqwest::Client::builder()
            .user_agent(concat!("wattlake/", env!("CARGO_PKG_VERSION")))
            // A redirect would send a POST on as a GET, and the key to who knows where.
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(KEEPALIVE)
            // A connection that the server closed meanwhile must not cost an upload.
            .pool_max_idle_per_host(0)
            // Reading the system's certificates takes a while, and fails where there are none.
            .tls_built_in_root_certs(config.server.scheme() == "https")
            .build()
            .map_err(|error| Failure::of(ErrorKind::Unavailable, &error))?;
        Ok(Client { http, server: config.server, authorization })
    }
}

impl Client {
    /// A request to a path of the API; the segments are put into the URL as they are, whatever is in them.
    pub(super) fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(String, String)],
    ) -> Result<RequestBuilder, Failure> {
        let mut url = self.server.clone();
        // The parser would take these out, and what is left would be another resource.
        if path.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
            return Err(Failure::new(ErrorKind::NotFound, "there is nothing of that name"));
        }
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(self.http.request(method, url).header(header::AUTHORIZATION, self.authorization.clone()))
    }

    /// Asks for what changes nothing, again where the server was not there or is busy.
    pub(super) async fn get(&self, path: &[&str], query: &[(String, String)]) -> Result<Response, Failure> {
        self.send_patiently(true, |_| self.request(Method::GET, path, query)).await
    }

    pub(super) async fn get_json<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(String, String)],
    ) -> Result<T, Failure> {
        self.read_json(self.get(path, query).await?).await
    }

    /// Sends a request once.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        self.try_once(request).await.map_err(|refused| refused.failure)
    }

    /// Sends a request that may be sent again: where no connection came about, so that nothing was sent, and where the
    /// server says that it is busy or unavailable and when to come again. `request` makes it for each try, from 1.
    pub(super) async fn send_patiently(
        &self,
        may_repeat: bool,
        mut request: impl FnMut(u32) -> Result<RequestBuilder, Failure>,
    ) -> Result<Response, Failure> {
        let mut tries = 1;
        loop {
            let refused = match self.try_once(request(tries)?).await {
                Ok(response) => return Ok(response),
                Err(refused) => refused,
            };
            match refused.again_after {
                Some(pause) if may_repeat && tries < TRIES => {
                    // Zero is what a failed connection asks for.
                    let pause = if pause.is_zero() { FIRST_PAUSE * 2_u32.pow(tries - 1) } else { pause };
                    tokio::time::sleep(pause).await;
                    tries += 1;
                }
                _ => return Err(refused.failure),
            }
        }
    }

    async fn try_once(&self, request: RequestBuilder) -> Result<Response, Refused> {
        match request.send().await {
            Err(error) => {
                let again_after = error.is_connect().then_some(Duration::ZERO);
                Err(Refused { failure: self.no_answer(&error), again_after })
            }
            Ok(response) if response.status().is_success() => Ok(response),
            Ok(response) => {
                let again_after = retry_after(response.status(), response.headers());
                Err(Refused { failure: self.refusal(response).await, again_after })
            }
        }
    }

    /// Reads a whole answer.
    pub(super) async fn read_bytes(&self, mut response: Response) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.no_answer(&error))? {
            if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
                let message = format!("the answer has more than {MAX_ANSWER_BYTES} bytes; ask for less at once");
                return Err(Failure::new(ErrorKind::TooLarge, &message));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    pub(super) async fn read_json<T: DeserializeOwned>(&self, response: Response) -> Result<T, Failure> {
        let bytes = self.read_bytes(response).await?;
        serde_json::from_slice(&bytes).map_err(|_| self.not_understood())
    }

    /// Passes an answer on as it comes, whatever its size.
    pub(super) async fn save(&self, mut response: Response, mut sink: Sink) -> Result<(), Failure> {
        while let Some(chunk) = response.chunk().await.map_err(|error| self.no_answer(&error))? {
            if !sink.write(&chunk)? {
                return Ok(());
            }
        }
        sink.finish()
    }

    /// The answer is none that Wattlake gives.
    pub(super) fn not_understood(&self) -> Failure {
        let message =
            format!("the answer of {} is none of this version of Wattlake; is it the right server?", self.server);
        Failure::new(ErrorKind::Unavailable, &message)
    }

    fn no_answer(&self, error: &reqwest::Error) -> Failure {
        let failure = if error.is_connect() {
            let message =
                format!("cannot reach a server at {}; --server or WATTLAKE_SERVER names another", self.server);
            Failure::new(ErrorKind::Unavailable, &message)
        } else {
            let message = format!("the connection to {} broke off", self.server);
            Failure::new(ErrorKind::Unavailable, &message).leaving_open()
        };
        // What is between only says that a request failed.
        let mut root: &dyn std::error::Error = error;
        while let Some(source) = root.source() {
            root = source;
        }
        failure.with_line(format!("because {root}"))
    }

    /// What a server refused, in its own words.
    async fn refusal(&self, response: Response) -> Failure {
        let (status, headers) = (response.status(), response.headers().clone());
        let kind = ErrorKind::of_http_status(status.as_u16());
        if let Some(place) = headers.get(header::LOCATION).filter(|_| status.is_redirection()) {
            let place = String::from_utf8_lossy(place.as_bytes()).into_owned();
            let message = format!("{} sends on to {place}; name the right address with --server", self.server);
            return Failure::new(kind, &message);
        }
        let problem: Option<Map<String, Value>> = self.read_json(response).await.ok();
        let problem = problem.and_then(|problem| Some((problem.get("detail")?.as_str()?.to_owned(), problem)));
        let Some((detail, problem)) = problem else {
            let message =
                format!("{} answers {status}, and not as Wattlake does; is it the right server?", self.server);
            return Failure::new(kind, &message);
        };
        let mut failure = Failure::new(kind, &detail);
        if let Some(report) = Report::of(&problem) {
            failure = report.lines(ERRORS_SHOWN).into_iter().fold(failure, Failure::with_line);
        }
        if problem.get("rejected_rows").is_some_and(Value::is_string)
            && let Some(id) = problem.get("upload_id").and_then(Value::as_str)
        {
            failure = failure.with_line(format!("All of its rejected rows: wattlake uploads rejected {id}"));
        }
        if let Some(allowed) = problem.get("allowed").and_then(names) {
            failure = failure.with_line(format!("There is: {allowed}"));
        }
        let id = headers.get("x-request-id").and_then(|id| id.to_str().ok());
        if let Some(id) = id.filter(|_| status.is_server_error()) {
            failure = failure.with_line(format!("x-request-id: {id}"));
        }
        failure.with_problem(problem)
    }
}

/// Texts of a list, where they are few enough to be read.
fn names(list: &Value) -> Option<String> {
    let list = list.as_array().filter(|list| (1..=MAX_ALLOWED).contains(&list.len()))?;
    let names: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
    Some(names?.join(", "))
}

/// The pause that a server asks for: whole seconds, of an answer that says "not now".
fn retry_after(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let not_now = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let seconds = headers.get(header::RETRY_AFTER).filter(|_| not_now)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds)).filter(|pause| *pause <= LONGEST_PAUSE)
}
