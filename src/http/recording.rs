//! Every request of a key that holds is recorded in the audit log: what it is, by its route; who makes it, once the key has
//! proved that; and what it came to. What changes rights or deletes is on disk before it is begun, and before it is answered.

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Instant,
};

use axum::{
    body::Body,
    extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State},
    http::{HeaderMap, Method, StatusCode, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use futures::FutureExt;
use serde_json::{Map, Value, json};

use super::{
    AppState, Problem,
    allowance::TooEarly,
    body::{Counted, OnBodyEnd},
    middleware::RequestId,
};
use crate::{
    access::Principal,
    audit::{Learned, RecorderError, Room, Trail, note},
    catalog::{AuditActor, AuditEntry, AuditOutcome},
    ids::OrganisationSlug,
};

/// The address at the other end of a request's connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// How soon an entry has to be on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durable {
    /// With the next group.
    Soon,
    /// Before anything is done, and before the answer.
    First,
}

use Durable::{First, Soon};

/// What a request to a route is called in the log.
#[rustfmt::skip]
const ACTIONS: &[(Method, &str, &str, Durable)] = &[
    (Method::GET, "/v1/organisations", "organisation.list", Soon),
    (Method::POST, "/v1/organisations", "organisation.create", First),
    (Method::GET, "/v1/organisations/{slug}", "organisation.read", Soon),
    (Method::PATCH, "/v1/organisations/{slug}", "organisation.update", First),
    (Method::GET, "/v1/keys", "key.list", Soon),
    (Method::POST, "/v1/keys", "key.create", First),
    (Method::DELETE, "/v1/keys/{prefix}", "key.revoke", First),
    (Method::POST, "/v1/keys/{prefix}/rotate", "key.rotate", First),
    (Method::GET, "/v1/projects", "project.list", Soon),
    (Method::POST, "/v1/projects", "project.create", First),
    (Method::GET, "/v1/projects/{slug}", "project.read", Soon),
    (Method::PATCH, "/v1/projects/{slug}", "project.update", First),
    (Method::GET, "/v1/shares", "share.list", Soon),
    (Method::GET, "/v1/projects/{slug}/shares", "share.list", Soon),
    (Method::POST, "/v1/projects/{slug}/shares", "share.create", First),
    (Method::PATCH, "/v1/projects/{slug}/shares/{id}", "share.update", First),
    (Method::DELETE, "/v1/projects/{slug}/shares/{id}", "share.revoke", First),
    (Method::GET, "/v1/projects/{slug}/connections", "connection.list", Soon),
    (Method::POST, "/v1/projects/{slug}/connections", "connection.import", First),
    (Method::GET, "/v1/projects/{slug}/connections/{external_id}", "connection.read", Soon),
    (Method::PATCH, "/v1/projects/{slug}/connections/{external_id}", "connection.update", First),
    (Method::DELETE, "/v1/projects/{slug}/connections/{external_id}", "connection.delete", First),
    (Method::GET, "/v1/programmes", "programme.list", Soon),
    (Method::POST, "/v1/programmes", "programme.create", First),
    (Method::GET, "/v1/programmes/{programme}", "programme.read", Soon),
    (Method::PATCH, "/v1/programmes/{programme}", "programme.update", First),
    (Method::GET, "/v1/programmes/{programme}/versions", "programme.list_versions", Soon),
    (Method::GET, "/v1/programmes/{programme}/enrolments", "enrolment.list", Soon),
    (Method::POST, "/v1/programmes/{programme}/enrolments", "enrolment.create", First),
    (Method::DELETE, "/v1/programmes/{programme}/enrolments/{project}", "enrolment.withdraw", First),
    (Method::GET, "/v1/programmes/{programme}/submissions", "submission.list", Soon),
    (Method::POST, "/v1/programmes/{programme}/submissions", "submission.create", First),
    (Method::POST, "/v1/programmes/{programme}/submissions/paid", "submission.pay", First),
    (Method::GET, "/v1/programmes/{programme}/submissions/{project}/{external_id}", "submission.read", Soon),
    (Method::GET, "/v1/programmes/{programme}/verifications", "verification.list", Soon),
    (Method::POST, "/v1/programmes/{programme}/verifications", "verification.start", First),
    (Method::GET, "/v1/programmes/{programme}/verifications/{run}", "verification.read", Soon),
    (Method::GET, "/v1/programmes/{programme}/verifications/{run}/verdicts", "verification.verdicts.read", Soon),
    (
        Method::GET,
        "/v1/programmes/{programme}/verifications/{run}/verdicts/{project}/{external_id}",
        "verification.evidence.read",
        Soon,
    ),
    (Method::POST, "/v1/programmes/{programme}/verifications/{run}/replay", "verification.replay", Soon),
    (Method::GET, "/v1/programmes/{programme}/verifications/{run}/report", "verification.report.read", Soon),
    (Method::GET, "/v1/verification-key", "verification_key.read", Soon),
    (Method::GET, "/v1/uploads", "upload.list", Soon),
    (Method::POST, "/v1/uploads", "upload.create", Soon),
    (Method::PUT, "/v1/uploads", "upload.create", Soon),
    (Method::GET, "/v1/uploads/{id}", "upload.read", Soon),
    (Method::DELETE, "/v1/uploads/{id}", "upload.delete", First),
    (Method::POST, "/v1/uploads/delete", "upload.delete", First),
    (Method::POST, "/v1/uploads/{id}/restore", "upload.restore", First),
    (Method::POST, "/v1/uploads/{id}/purge", "upload.purge", First),
    (Method::GET, "/v1/uploads/{id}/file", "upload.file.read", Soon),
    (Method::GET, "/v1/uploads/{id}/rejected.csv", "upload.rejected.read", Soon),
    (Method::GET, "/v1/metrics", "metric.list", Soon),
    (Method::GET, "/v1/metrics/{name}", "metric.read", Soon),
    (Method::GET, "/v1/sql", "sql.run", Soon),
    (Method::POST, "/v1/sql", "sql.run", Soon),
    (Method::GET, "/v1/sql/schema", "sql.schema.read", Soon),
    (Method::GET, "/v1/queries", "query.list", Soon),
    (Method::GET, "/v1/queries/{id}", "query.read", Soon),
    (Method::GET, "/v1/queries/{id}/result", "query.result.read", Soon),
    (Method::DELETE, "/v1/queries/{id}", "query.cancel", Soon),
    (Method::GET, "/v1/queries/saved", "saved_query.list", Soon),
    (Method::GET, "/v1/queries/saved/{name}", "saved_query.run", Soon),
    (Method::PUT, "/v1/queries/saved/{name}", "saved_query.save", First),
    (Method::DELETE, "/v1/queries/saved/{name}", "saved_query.delete", First),
    (Method::GET, "/v1/queries/saved/{name}/versions", "saved_query.list_versions", Soon),
    (Method::GET, "/v1/audit", "audit.read", Soon),
];

/// Routes that hold nothing of any tenant.
const NOT_RECORDED: [&str; 7] = [
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/openapi.json",
    "/v1/dataset-types",
    "/v1/templates/ELECTRICITY_PAYMENT.csv",
    "/v1/templates/CONNECTIONS.csv",
];

/// What a request to a route is called, and how soon it is on disk. A route that the table does not have is called by its
/// method and path, so that none is left out.
fn action_of(method: &Method, path: &str) -> Option<(Cow<'static, str>, Durable)> {
    if NOT_RECORDED.contains(&path) {
        return None;
    }
    let method = if method == Method::HEAD { &Method::GET } else { method };
    let known = ACTIONS.iter().find(|(known, route, ..)| known == method && *route == path);
    Some(match known {
        Some((_, _, action, durable)) => (Cow::Borrowed(*action), *durable),
        None => (Cow::Owned(format!("{method} {path}")), if method == Method::GET { Soon } else { First }),
    })
}

/// The entry of a request, as far as it is known; among the request's extensions.
#[derive(Clone)]
pub(super) struct Record(Arc<Facts>);

struct Facts {
    action: Option<(Cow<'static, str>, Durable)>,
    address: Option<IpAddr>,
    request_id: Option<String>,
    who: OnceLock<AuditActor>,
    /// Where its entry goes. There is none before the key has proved who asks, and none once the entry is written.
    room: Mutex<Option<Room>>,
    trail: Trail,
}

/// Records a request when it is answered, or when its sender gave it up.
pub(super) async fn record(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let path = parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let object = match RawPathParams::from_request_parts(&mut parts, &()).await {
        Ok(names) => names.iter().last().map(|(_, value)| value.to_owned()),
        Err(_) => None,
    };
    let record = Record(Arc::new(Facts {
        action: path.and_then(|path| action_of(&parts.method, &path)),
        address: address_of(&parts, state.config.http.client_address_header.as_deref()),
        request_id: parts.extensions.get::<RequestId>().map(|RequestId(id)| id.clone()),
        who: OnceLock::new(),
        room: Mutex::new(None),
        trail: Trail::of(Learned { object, ..Learned::default() }),
    }));
    parts.extensions.insert(record.clone());
    let unanswered = Unanswered(record.clone());
    let mut response = record.0.trail.follow(next.run(Request::from_parts(parts, body))).await;
    if response.extensions_mut().remove::<RecordedAtEnd>().is_some() {
        let end = EntryAtEnd { unanswered, status: response.status().as_u16() };
        return response.map(|body| Body::new(Counted::new(body, end)));
    }
    let Some((room, entry)) = unanswered.0.end(AuditOutcome::Answered(response.status().as_u16())) else {
        return response;
    };
    // Who is refused for its key changes nothing, and waits for no disk.
    if record.0.durable() == Soon || response.status() == StatusCode::UNAUTHORIZED {
        room.fill(entry);
        return response;
    }
    match room.fill_durably(entry).await {
        Ok(()) => response,
        Err(error) => Problem::from(error).into_response(),
    }
}

/// Among the extensions of an answer that is sent while it is made: what it came to is known at its end.
#[derive(Clone)]
pub(super) struct RecordedAtEnd;

/// Writes the entry when the answer has been sent, or was not to its end.
struct EntryAtEnd {
    unanswered: Unanswered,
    status: u16,
}

impl OnBodyEnd for EntryAtEnd {
    fn body_ended(&mut self, _bytes: u64, complete: bool) {
        let outcome = if complete { AuditOutcome::Answered(self.status) } else { AuditOutcome::Abandoned };
        if let Some((room, entry)) = self.unanswered.0.end(outcome) {
            room.fill(entry);
        }
    }
}

/// What every request of a key that holds goes through, once: it is let in at the key's rate, and its entry has a place.
///
/// # Errors
/// 429 where the key, or its organisation, makes more requests than it may; 503 or 507 where the log cannot be written.
pub(super) async fn admit(parts: &Parts, state: &AppState, principal: &Principal) -> Result<(), Problem> {
    let Some(Record(facts)) = parts.extensions.get::<Record>() else { return Ok(()) };
    let organisation = principal.organisation.as_ref().map(ToString::to_string);
    let actor = AuditActor::Key { prefix: principal.key_prefix.clone(), organisation };
    if facts.who.set(actor).is_err() {
        // Another extractor of the same request.
        return Ok(());
    }
    let early = state.allowance.take(principal).err();
    if facts.action.is_some() && early.is_none_or(|early: TooEarly| early.is_first) {
        if facts.durable() == First && early.is_none() {
            state.audit.record_durably(facts.entry(AuditOutcome::Begun)).await?;
        }
        // After that, because who holds a place must not wait for another one.
        let room = state.audit.room().await?;
        facts.room.lock().unwrap_or_else(PoisonError::into_inner).replace(room);
    }
    early.map_or(Ok(()), |early| Err(early.into()))
}

/// Notes that a key which has ended was refused. Its request is recorded where the one before it was long enough ago, and where
/// the log has a place: nobody whose key does not hold waits for one to be told so.
pub(super) fn refuse(
    parts: &Parts,
    state: &AppState,
    prefix: &str,
    organisation: Option<OrganisationSlug>,
    how: &'static str,
) {
    let Some(Record(facts)) = parts.extensions.get::<Record>() else { return };
    let organisation = organisation.map(|slug| slug.to_string());
    let is_first = facts.who.set(AuditActor::Key { prefix: prefix.to_owned(), organisation }).is_ok();
    if !is_first || facts.action.is_none() {
        return;
    }
    let Some(before) = state.refusals.to_record(prefix, Instant::now()) else { return };
    if let Some(Ok(room)) = state.audit.room().now_or_never() {
        note(|learned| learned.parameters = Some(json!({ "key": how, "refused_before": before })));
        facts.room.lock().unwrap_or_else(PoisonError::into_inner).replace(room);
    }
}

impl Facts {
    fn durable(&self) -> Durable {
        self.action.as_ref().map_or(Soon, |(_, durable)| *durable)
    }

    fn entry(&self, outcome: AuditOutcome) -> AuditEntry {
        let Learned { object, projects, shares, parameters, rows, lake_version } = self.trail.learned();
        let actor = self.who.get().cloned().unwrap_or(AuditActor::Server);
        let action = self.action.as_ref().map_or(Cow::Borrowed(""), |(action, _)| action.clone());
        AuditEntry {
            object,
            projects,
            shares,
            parameters,
            rows,
            lake_version,
            address: self.address,
            request_id: self.request_id.clone(),
            ..AuditEntry::new(actor, action, outcome)
        }
    }
}

impl Record {
    /// The entry and its place, where it has one and none was written yet.
    fn end(&self, outcome: AuditOutcome) -> Option<(Room, AuditEntry)> {
        let room = self.0.room.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some((room, self.0.entry(outcome)))
    }
}

/// A request that was not answered yet: dropped, it was given up.
struct Unanswered(Record);

impl Drop for Unanswered {
    fn drop(&mut self) {
        if let Some((room, entry)) = self.0.end(AuditOutcome::Abandoned) {
            room.fill(entry);
        }
    }
}

/// Parameters of a query as an entry has them, except for some; those that are repeated as a list.
pub(super) fn given(pairs: &[(String, String)], except: &[&str]) -> Option<Value> {
    let mut object = Map::new();
    for (name, value) in pairs.iter().filter(|(name, _)| !except.contains(&name.as_str())) {
        match object.get_mut(name) {
            None => drop(object.insert(name.clone(), Value::from(value.as_str()))),
            Some(Value::Array(values)) => values.push(Value::from(value.as_str())),
            Some(one) => *one = Value::from(vec![one.take(), Value::from(value.as_str())]),
        }
    }
    (!object.is_empty()).then_some(Value::Object(object))
}

/// Where a request comes from: the other end of its connection, or the last address in the header in which a proxy that is
/// ours says for whom it asks.
fn address_of(parts: &Parts, header: Option<&str>) -> Option<IpAddr> {
    let forwarded = header.and_then(|name| last_address(&parts.headers, name));
    forwarded.or_else(|| parts.extensions.get::<Peer>().map(|Peer(address)| *address))
}

/// A proxy adds the address of its own peer at the end; what stands before that may be anybody's invention.
fn last_address(headers: &HeaderMap, name: &str) -> Option<IpAddr> {
    let last = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    let last = last.rsplit(',').next()?.trim();
    last.parse().ok().or_else(|| last.parse().ok().map(|address: SocketAddr| address.ip()))
}

impl From<RecorderError> for Problem {
    fn from(error: RecorderError) -> Self {
        Self::failure(error.kind(), "audit", &error)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::http::HeaderValue;

    use super::*;
    use crate::{
        audit::Recorder,
        catalog::{AuditFilter, Catalog},
        config::AuditConfig,
    };

    #[tokio::test]
    async fn a_request_that_its_sender_gave_up_is_recorded_with_what_it_had_learned() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).await.unwrap();
        let config = AuditConfig { buffer_entries: 10, ..AuditConfig::default() };
        let recorder = Recorder::start(catalog.clone(), &config, Duration::from_mins(1));
        let facts = async |room| Facts {
            action: Some(("metric.read".into(), Soon)),
            address: None,
            request_id: Some("given-up".to_owned()),
            who: OnceLock::from(AuditActor::Key { prefix: "abcdefgh".to_owned(), organisation: None }),
            room: Mutex::new(room),
            trail: Trail::default(),
        };
        let record = Record(Arc::new(facts(Some(recorder.room().await.unwrap())).await));
        let unanswered = Unanswered(record.clone());
        record.0.trail.follow(async { note(|learned| learned.lake_version = Some(7)) }).await;
        drop(unanswered);
        // One whose key has not proved anything yet has no place in the log.
        drop(Unanswered(Record(Arc::new(facts(None).await))));
        recorder.flush().await.unwrap();
        let entries = catalog.audit(&AuditFilter::default(), None, 10).await.unwrap().items;
        let said: Vec<_> = entries.iter().map(|entry| (entry.outcome.as_str(), entry.lake_version)).collect();
        assert_eq!(said, [("abandoned", Some(7))]);
    }

    #[test]
    fn the_address_is_the_last_of_the_header_and_what_is_no_address_counts_for_nothing() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", HeaderValue::from_static(value));
            }
            last_address(&headers, "x-forwarded-for").map(|address| address.to_string())
        };
        assert_eq!(of(&["10.0.0.1, 203.0.113.7"]).as_deref(), Some("203.0.113.7"));
        assert_eq!(of(&["10.0.0.1", "2001:db8::1"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(of(&["203.0.113.7:4711"]).as_deref(), Some("203.0.113.7"));
        assert_eq!(of(&["[2001:db8::1]:80"]).as_deref(), Some("2001:db8::1"));
        for wrong in ["unknown", "", "203.0.113.7,", "203.0.113.7, _hidden"] {
            assert_eq!(of(&[wrong]), None, "{wrong}");
        }
    }

    #[test]
    fn parameters_are_kept_as_they_were_given() {
        let pairs = [("from", "2024-05"), ("site", "A"), ("project", "x"), ("site", "B"), ("site", "C")];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let kept = given(&pairs, &["project"]);
        assert_eq!(kept, Some(serde_json::json!({"from": "2024-05", "site": ["A", "B", "C"]})));
        assert_eq!(given(&pairs[2..3], &["project"]), None);
    }

    #[test]
    fn a_route_that_is_not_in_the_table_is_recorded_by_its_method_and_path() {
        let of = |method: &str, path: &str| action_of(&method.parse().unwrap(), path);
        assert_eq!(of("HEAD", "/v1/projects"), Some(("project.list".into(), Soon)));
        assert_eq!(of("POST", "/v1/new"), Some(("POST /v1/new".into(), First)));
        assert_eq!(of("GET", "/v1/new"), Some(("GET /v1/new".into(), Soon)));
        assert_eq!(of("GET", "/healthz"), None);
    }
}
