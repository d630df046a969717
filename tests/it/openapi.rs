//! The description of the API, and the operational counters: both are held to what the server does.

use std::{collections::BTreeSet, time::Duration};

use reqwest::{Method, header};
use serde_json::Value;
use wattlake::{
    config::Sources,
    http::{AppState, router},
    server::Server,
};

use crate::{
    clients::run,
    harness::{Answer, TestServer},
};

async fn document(server: &TestServer) -> Value {
    let answer = server.anonymous().get("/v1/openapi.json").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/json");
    answer.body
}

/// The routes that a router was given, as it shows them: `RouteId(3): "/v1/projects"`.
fn registered(state: AppState) -> BTreeSet<String> {
    let shown = format!("{:?}", router(state));
    let own = shown.split("fallback_router").next().unwrap();
    let quoted = own.split('"').skip(1).step_by(2).filter(|text| text.starts_with('/'));
    quoted.map(str::to_owned).collect()
}

#[tokio::test]
async fn every_route_is_described_and_every_metric_has_a_path_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Sources::default().load().unwrap().config;
    config.data_dir = folder.path().to_owned();
    "127.0.0.1:0".clone_into(&mut config.listen);
    let state = Server::start(config).await.unwrap().state;
    let metrics: BTreeSet<String> =
        state.metrics.iter().map(|metric| format!("/v1/metrics/{}", metric.name())).collect();
    let routes = registered(state);
    assert!(routes.contains("/v1/uploads/{id}/rejected.csv"), "this is how a router shows its routes: {routes:?}");

    let server = TestServer::start().await;
    let document = document(&server).await;
    let described: BTreeSet<String> = document["paths"].as_object().unwrap().keys().cloned().collect();
    let wanted: BTreeSet<String> = routes.union(&metrics).cloned().collect();
    assert_eq!(described, wanted);
}

/// All values of `$ref` below a value.
fn references(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            into.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| references(member, into));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, into)),
        _ => {}
    }
}

#[tokio::test]
async fn every_reference_of_the_description_leads_somewhere_and_every_schema_is_one_of_an_answer_or_a_request() {
    let server = TestServer::start().await;
    let document = document(&server).await;
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.contains("#/components/schemas/NotFoundProblem"), "{found:?}");
    for reference in &found {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    let schemas = document["components"]["schemas"].as_object().unwrap().keys();
    let unused: Vec<_> = schemas.filter(|name| !found.contains(&format!("#/components/schemas/{name}"))).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[tokio::test]
async fn a_metric_is_described_with_its_own_parameters_and_columns() {
    let server = TestServer::start().await;
    let document = document(&server).await;
    let operation = &document["paths"]["/v1/metrics/active_customers"]["get"];
    let days =
        operation["parameters"].as_array().unwrap().iter().find(|parameter| parameter["name"] == "days").unwrap();
    assert_eq!(days["schema"], serde_json::json!({"type": "integer", "minimum": 1, "maximum": 3660, "default": 30}));
    let row = &document["components"]["schemas"]["ActiveCustomersRow"];
    assert_eq!(row["required"], serde_json::json!(["project", "period", "customers"]));
    assert_eq!(row["additionalProperties"], false);
    assert_eq!(row["properties"]["period"]["format"], "date");
}

#[tokio::test]
async fn the_description_is_not_sent_to_who_has_it() {
    let server = TestServer::start().await;
    let first = server.anonymous().get("/v1/openapi.json").await;
    let request = server.admin().request(Method::GET, "/v1/openapi.json");
    let again = Answer::of(request.header(header::IF_NONE_MATCH, first.header("etag")).send().await.unwrap()).await;
    assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
    assert_eq!(again.header("etag"), first.header("etag"));
}

#[tokio::test]
async fn real_answers_are_those_of_the_description() {
    let server = TestServer::with(|config| {
        config.upload.concurrency = 1;
        config.http.body_idle_timeout = Duration::from_secs(1);
        config.query.max_answer_bytes = 16 << 10;
    })
    .await;
    run("tests/clients/check_openapi.py", &[&server.address, &server.admin.secret]).await;
}

#[tokio::test]
async fn counters_go_up_by_what_was_done() {
    let server = TestServer::start().await;
    run("tests/clients/check_counters.py", &[&server.address, &server.admin.secret]).await;
}

#[tokio::test]
async fn counters_need_no_key_where_the_setting_says_so() {
    let server = TestServer::with(|config| config.http.metrics_open = true).await;
    let answer = server.anonymous().get("/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text.contains("\nwattlake_lake_files 0\n"), "{}", answer.text);
    TestServer::start().await.anonymous().get("/metrics").await.assert_problem(401, "unauthenticated");
}
