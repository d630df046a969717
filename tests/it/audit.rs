//! The audit log: what every request of a key leaves in it, what is in it whenever a process ends, and who may read it.

use std::{path::Path, time::Duration};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use wattlake::access::Role;

use crate::{
    binary::{Site, quick_folder},
    harness::{Answer, Process, TestServer, Upload, file, project, row, run, stdout},
};

/// A server that writes its log soon, with a project.
async fn server() -> TestServer {
    let server = TestServer::with(|config| config.audit.flush = Duration::from_millis(5)).await;
    server.admin().make_project("kitobo").await;
    server
}

/// Asks under an id of its own, and gives the entries of it once there is the last one.
async fn recorded(server: &TestServer, method: Method, path: &str, body: Option<Value>) -> (Answer, Vec<Value>) {
    let id = format!("{method}-{}", path.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
    let id = id.chars().take(60).collect::<String>();
    let request = server.admin().request(method, path).header("x-request-id", &id);
    let request = if let Some(body) = body { request.json(&body) } else { request };
    let answer = Answer::of(request.send().await.unwrap()).await;
    (answer, entries_of(server, &id).await)
}

/// The entries of a request, the first first.
async fn entries_of(server: &TestServer, request_id: &str) -> Vec<Value> {
    for _ in 0..1000 {
        let page = server.admin().get("/v1/audit?limit=200").await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        let mut found: Vec<Value> = page.body["entries"].as_array().unwrap().clone();
        found.retain(|entry| entry["request_id"] == request_id);
        found.reverse();
        if found.iter().any(|entry| entry["outcome"] != "begun") {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{request_id} is not in the log");
}

/// What an entry says, without what differs from run to run.
fn said(entry: &Value) -> Value {
    let mut entry = entry.clone();
    for name in [
        "seq",
        "at",
        "hash",
        "request_id",
        "actor",
        "organisation",
        "shares",
        "share_count",
        "project_count",
        "address",
        "key",
    ] {
        entry.as_object_mut().unwrap().remove(name).unwrap_or_else(|| panic!("no {name} in {entry}"));
    }
    entry
}

#[tokio::test]
async fn a_read_of_figures_leaves_who_what_from_where_how_many_rows_and_of_which_version() {
    let server = server().await;
    let upload = server.admin().commit(&Upload::new("kitobo", file(&[row("A1", "1"), row("A2", "2")]))).await;
    let path = "/v1/metrics/payments_per_customer?project=kitobo&site=Kitobo&limit=50";
    let (answer, entries) = recorded(&server, Method::GET, path, None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    let version = upload["lake_version"].as_u64().unwrap();
    assert_eq!(
        said(entry),
        json!({
            "action": "metric.read", "object": "payments_per_customer", "projects": ["kitobo"],
            "parameters": {"site": "Kitobo", "limit": "50"}, "outcome": "answered", "status": 200, "rows": 2,
            "lake_version": version,
        })
    );
    assert_eq!((&entry["actor"], &entry["key"]), (&json!("key"), &json!(server.admin.key.prefix)));
    assert_eq!((&entry["address"], &entry["shares"]), (&json!("127.0.0.1"), &json!([])));
    let stored: chrono::DateTime<chrono::Utc> = entry["at"].as_str().unwrap().parse().unwrap();
    assert!((chrono::Utc::now() - stored).num_seconds() < 60);

    let (answer, entries) = recorded(&server, Method::GET, "/v1/metrics/source_mix?project=absent", None).await;
    assert_eq!(answer.status, 404);
    let refused = json!({
        "action": "metric.read", "object": "source_mix", "projects": [], "parameters": {"project": "absent"},
        "outcome": "answered", "status": 404, "rows": null, "lake_version": null,
    });
    assert_eq!(entries.iter().map(said).collect::<Vec<_>>(), [refused]);
}

#[tokio::test]
async fn what_changes_or_deletes_is_recorded_before_it_is_begun_and_again_when_it_is_done() {
    let server = server().await;
    let upload = server.admin().commit(&Upload::new("kitobo", file(&[row("A1", "1")]))).await;
    let id = upload["id"].as_str().unwrap();
    let name = json!({"name": "Kitobo Island"});
    for (method, path, body, action, object) in [
        (Method::PATCH, "/v1/projects/kitobo".to_owned(), Some(name), "project.update", "kitobo"),
        (Method::DELETE, format!("/v1/uploads/{id}"), None, "upload.delete", id),
        (Method::POST, format!("/v1/uploads/{id}/restore"), None, "upload.restore", id),
        (Method::POST, "/v1/uploads/delete".to_owned(), Some(json!({"uploads": [id]})), "upload.delete", ""),
        (Method::POST, format!("/v1/uploads/{id}/purge"), None, "upload.purge", id),
    ] {
        let (answer, entries) = recorded(&server, method, &path, body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let [begun, done] = entries.as_slice() else { panic!("{path}: {entries:?}") };
        assert_eq!((&begun["action"], &begun["outcome"]), (&json!(action), &json!("begun")), "{path}");
        assert_eq!((&done["action"], &done["status"]), (&json!(action), &json!(200)), "{path}");
        assert_eq!(done["projects"], json!(["kitobo"]), "{path}");
        assert_eq!(done["object"].as_str().unwrap_or_default(), object, "{path}");
        if object.is_empty() {
            assert_eq!(done["parameters"], json!({"uploads": [id]}));
        }
    }
    // A body that is refused before anything is done.
    let (answer, entries) = recorded(&server, Method::PATCH, "/v1/projects/kitobo?x=1", Some(json!({}))).await;
    assert_eq!(answer.status, 400);
    assert_eq!(entries.last().unwrap()["status"], 400);
}

#[tokio::test]
async fn every_route_is_recorded_under_a_name_of_its_own_or_holds_nothing_of_any_tenant() {
    let server = server().await;
    let document = server.anonymous().get("/v1/openapi.json").await.body;
    let open = [
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/openapi.json",
        "/v1/dataset-types",
        "/v1/templates/ELECTRICITY_PAYMENT.csv",
        "/v1/templates/CONNECTIONS.csv",
    ];
    let mut missing = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        if open.contains(&path.as_str()) {
            continue;
        }
        for method in ["get", "post", "put", "patch", "delete"].into_iter().filter(|method| item.get(method).is_some())
        {
            let asked: String = path.split('{').enumerate().fold(String::new(), |url, (place, part)| {
                if place == 0 { part.to_owned() } else { url + "absent" + part.split_once('}').unwrap().1 }
            });
            let method: Method = method.to_uppercase().parse().unwrap();
            let (_, entries) = recorded(&server, method.clone(), &asked, None).await;
            let action = entries.last().unwrap()["action"].as_str().unwrap().to_owned();
            if action.contains(' ') || !action.contains('.') {
                missing.push(format!("{method} {path}: {action}"));
            }
        }
    }
    assert!(missing.is_empty(), "no name in ACTIONS of http/recording.rs: {missing:?}");
}

#[tokio::test]
async fn who_has_no_key_that_holds_leaves_nothing_in_the_log() {
    let server = server().await;
    let (_, before) = recorded(&server, Method::GET, "/v1/projects", None).await;
    for _ in 0..3 {
        server.anonymous().get("/v1/projects").await.assert_problem(401, "unauthenticated");
        let wrong = format!("Bearer wl_{}_{}", server.admin.key.prefix, "0".repeat(64));
        server.anonymous().get_with("/v1/projects", &wrong).await.assert_problem(401, "unauthenticated");
    }
    let (_, after) = recorded(&server, Method::GET, "/v1/projects?limit=1", None).await;
    let seq = |entries: &[Value]| entries[0]["seq"].as_u64().unwrap();
    let between = server.admin().get("/v1/audit?limit=200").await.body;
    let between = between["entries"].as_array().unwrap().iter();
    let others = between.filter(|entry| (seq(&before) + 1..seq(&after)).contains(&entry["seq"].as_u64().unwrap()));
    assert!(others.clone().all(|entry| entry["action"] == "audit.read"), "{:?}", others.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_key_that_has_ended_and_is_still_used_is_in_the_log_once_and_counted_each_time() {
    let server = server().await;
    let key = server.key_of("main", Role::Manager).await;
    server.catalog.revoke_key(&key.key.prefix).await.unwrap();
    let holder = server.holder(&key);
    for _ in 0..20 {
        holder.get("/v1/metrics/source_mix?project=kitobo").await.assert_problem(401, "unauthenticated");
        holder.delete("/v1/projects/kitobo/shares/x").await.assert_problem(401, "unauthenticated");
    }
    let (_, _) = recorded(&server, Method::GET, "/v1/projects", None).await;
    let entries = server.admin().get(&format!("/v1/audit?key={}", key.key.prefix)).await.body["entries"].clone();
    let [entry] = entries.as_array().unwrap().as_slice() else { panic!("{entries}") };
    let said = [&entry["action"], &entry["object"], &entry["status"], &entry["organisation"], &entry["parameters"]];
    let parameters = json!({"key": "revoked", "refused_before": 0});
    assert_eq!(said, [&json!("metric.read"), &json!("source_mix"), &json!(401), &json!("main"), &parameters]);
    let counters = server.admin().get("/metrics").await.text;
    assert!(counters.contains("wattlake_http_unauthenticated_total{key=\"revoked\"} 40"), "{counters}");
}

#[tokio::test]
async fn a_header_says_where_a_request_comes_from_only_where_it_is_configured() {
    for (header, address) in [(None, "127.0.0.1"), (Some("x-forwarded-for"), "203.0.113.7")] {
        let server = TestServer::with(|config| {
            config.audit.flush = Duration::from_millis(5);
            config.http.client_address_header = header.map(str::to_owned);
        })
        .await;
        let request = server.admin().request(Method::GET, "/v1/projects").header("x-request-id", "forwarded");
        let answer = request.header("x-forwarded-for", "10.0.0.1, 203.0.113.7").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(entries_of(&server, "forwarded").await[0]["address"], address);
    }
}

#[tokio::test]
async fn the_log_is_listed_by_key_project_action_and_time_in_pages() {
    let server = server().await;
    let admin = server.admin();
    admin.make_project("gbamu").await;
    for project in ["kitobo", "gbamu", "kitobo"] {
        assert_eq!(admin.get(&format!("/v1/metrics/source_mix?project={project}")).await.status, 200);
    }
    let (_, newest) = recorded(&server, Method::GET, "/v1/metrics/source_mix", None).await;
    let list = async |query: &str| -> Vec<Value> {
        let answer = admin.get(&format!("/v1/audit?{query}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body["entries"].as_array().unwrap().clone()
    };
    let of_metrics = list("action=metric.read").await;
    let projects: Vec<&Value> = of_metrics.iter().map(|entry| &entry["projects"]).collect();
    assert_eq!(
        projects,
        [&json!(["gbamu", "kitobo"]), &json!(["kitobo"]), &json!(["gbamu"]), &json!(["kitobo"])],
        "the newest first"
    );
    assert_eq!(list("action=metric.read&project=gbamu").await.len(), 2);
    assert_eq!(list(&format!("action=metric.read&project=kitobo&key={}", server.admin.key.prefix)).await.len(), 3);
    assert_eq!(list("key=aaaaaaaa").await.len(), 0);
    let at = newest[0]["at"].as_str().unwrap();
    assert_eq!(list(&format!("action=metric.read&from={at}")).await.len(), 1);
    assert_eq!(list(&format!("action=metric.read&to={at}")).await.len(), 3);
    let first = admin.get("/v1/audit?action=metric.read&limit=3").await.body;
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(list(&format!("action=metric.read&limit=3&cursor={cursor}")).await, of_metrics[3..]);
    admin.get("/v1/audit?project=absent").await.assert_problem(404, "not_found");
    admin.get("/v1/audit?from=yesterday").await.assert_problem(400, "invalid_parameter");
}

#[tokio::test]
async fn a_manager_sees_who_did_what_with_its_organisations_projects_and_nothing_else() {
    let server = server().await;
    let admin = server.admin();
    for (organisation, slug) in [("acme", "hill"), ("other", "lake")] {
        assert_eq!(admin.post("/v1/organisations", json!({"slug": organisation, "name": "N"})).await.status, 201);
        let mut body = project(slug);
        body["organisation"] = json!(organisation);
        assert_eq!(admin.post("/v1/projects", body).await.status, 201);
    }
    let (manager, analyst) = (server.key_of("acme", Role::Manager).await, server.key_of("acme", Role::Analyst).await);
    let figures = "/v1/metrics/revenue_per_site";
    assert_eq!(server.holder(&analyst).get(&format!("{figures}?site=Own")).await.status, 200);
    assert_eq!(admin.get(&format!("{figures}?project=lake&project=hill&site=Theirs")).await.status, 200);
    let (_, theirs) = recorded(&server, Method::GET, &format!("{figures}?project=lake"), None).await;
    assert_eq!(theirs[0]["projects"], json!(["lake"]));
    let list = async |query: &str| server.holder(&manager).get(&format!("/v1/audit?{query}")).await;
    let answer = list("action=metric.read").await;
    let entries = answer.body["entries"].as_array().unwrap();
    let [mixed, own] = entries.as_slice() else { panic!("{}", answer.text) };
    assert_eq!((&own["key"], &own["organisation"]), (&json!(analyst.key.prefix), &json!("acme")));
    assert_eq!((&own["parameters"], &own["address"]), (&json!({"site": "Own"}), &json!("127.0.0.1")));
    assert_eq!((&mixed["key"], &mixed["projects"]), (&json!(server.admin.key.prefix), &json!(["hill"])));
    assert_eq!((&mixed["parameters"], &mixed["rows"], &mixed["address"]), (&Value::Null, &Value::Null, &Value::Null));
    let answer = list("").await;
    assert!(!answer.text.contains("lake\"") && !answer.text.contains("Theirs"), "{}", answer.text);
    list("project=lake").await.assert_problem(404, "not_found");
    let request = server.holder(&analyst).request(Method::GET, "/v1/audit").header("x-request-id", "too-small");
    Answer::of(request.send().await.unwrap()).await.assert_problem(403, "forbidden");
    assert_eq!(entries_of(&server, "too-small").await[0]["status"], 403);
}

/// The entries of a data folder, the first first.
fn log_of(folder: &Path, action: &str) -> Vec<Value> {
    let output = run(folder, &["audit", "list", "--data-dir", folder.to_str().unwrap(), "--action", action, "--json"]);
    let list: Value = serde_json::from_str(&stdout(&output)).unwrap();
    list["entries"].as_array().unwrap().iter().rev().cloned().collect()
}

fn fsck(folder: &Path) -> (Option<i32>, Value) {
    let output = run(folder, &["fsck", "--data-dir", folder.to_str().unwrap(), "--json"]);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test]
async fn a_deletion_is_in_the_log_whenever_the_process_ends() {
    let folder = quick_folder();
    let site = Site::new(folder.path().join("data")).await;
    let server = site.start();
    server.admin().make_project("kitobo").await;
    let mut ids = Vec::new();
    for amount in ["1", "2", "3"] {
        let upload = server.admin().commit(&Upload::new("kitobo", file(&[row("A1", amount)]))).await;
        ids.push(upload["id"].as_str().unwrap().to_owned());
    }
    let mut server = server;
    for id in &ids[..2] {
        assert_eq!(server.admin().delete(&format!("/v1/uploads/{id}")).await.status, 200);
        server.kill();
        let outcomes: Vec<Value> =
            log_of(&site.data, "upload.delete").into_iter().filter(|e| e["object"] == **id).collect();
        let outcomes: Vec<&Value> = outcomes.iter().map(|entry| &entry["outcome"]).collect();
        assert_eq!(outcomes, ["begun", "answered"]);
        server = site.start();
    }
    // Ended when the lake is without the upload and the answer not sent.
    drop(server);
    let mut server = site.start_with("catalog::end_change=return(abort)");
    let path = format!("{}/v1/uploads/{}", server.address, ids[2]);
    let sent = reqwest::Client::new().delete(path).bearer_auth(&site.key).send().await;
    assert!(sent.is_err());
    assert_eq!(server.ended_by(), Some(6), "it ended by SIGABRT");
    let last = log_of(&site.data, "upload.delete").pop().unwrap();
    assert_eq!((&last["object"], &last["outcome"]), (&json!(ids[2]), &json!("begun")));
    assert_eq!(fsck(&site.data).1["audit"]["entries"], fsck(&site.data).1["audit"]["last"]["seq"]);
}

#[tokio::test]
async fn a_server_that_stops_in_order_loses_no_entry() {
    let server = TestServer::with(|config| config.audit.flush = Duration::from_secs(10)).await;
    for _ in 0..20 {
        assert_eq!(server.admin().get("/v1/projects").await.status, 200);
    }
    let server = server.restarted().await;
    assert_eq!(log_of(server.folder.path(), "project.list").len(), 20);
}

#[tokio::test]
async fn a_command_that_changes_something_is_recorded_and_the_log_is_read_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("wattlake-data");
    let key = stdout(&run(folder.path(), &["keys", "create", "--role", "admin", "--name", "ops"]));
    let prefix = &key["wl_".len().."wl_".len() + 8];
    stdout(&run(folder.path(), &["keys", "revoke", prefix]));
    assert_eq!(run(folder.path(), &["keys", "revoke", "aaaaaaaa"]).status.code(), Some(3));
    let facts = |action: &str| -> Vec<Value> {
        let entries = log_of(&data, action).into_iter();
        entries.map(|entry| json!([entry["actor"], entry["object"], entry["outcome"]])).collect()
    };
    assert_eq!(facts("key.create"), [json!(["command_line", null, "begun"]), json!(["command_line", prefix, "done"])]);
    assert_eq!(
        facts("key.revoke"),
        [
            json!(["command_line", prefix, "begun"]),
            json!(["command_line", prefix, "done"]),
            json!(["command_line", "aaaaaaaa", "begun"]),
            json!(["command_line", "aaaaaaaa", "failed"]),
        ]
    );
    let table = stdout(&run(folder.path(), &["audit", "list", "--limit", "1"]));
    assert!(table.lines().count() == 2 && table.contains("key.revoke") && table.contains("failed"), "{table}");
}

#[tokio::test]
async fn fsck_names_the_first_entry_that_was_altered() {
    use sqlx::Connection;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("wattlake-data");
    for name in ["a", "b", "c"] {
        stdout(&run(folder.path(), &["keys", "create", "--role", "admin", "--name", name]));
    }
    // A lake, which a server makes.
    drop(Process::serve(folder.path(), &[]));
    let statement = "DROP TRIGGER audit_entries_stay; UPDATE audit_entries SET action = 'key.list' WHERE seq = 4";
    let file = data.join("catalog.sqlite");
    let mut connection = sqlx::SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
    assert!(sqlx::query("UPDATE audit_entries SET seq = 9 WHERE seq = 4").execute(&mut connection).await.is_err());
    sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let (code, report) = fsck(&data);
    assert_eq!(code, Some(1));
    let found: Vec<&Value> =
        report["findings"].as_array().unwrap().iter().filter(|finding| finding["code"] == "audit_broken").collect();
    assert_eq!(found.len(), 1, "{report}");
    assert!(found[0]["message"].as_str().unwrap().starts_with("entry 4 of the audit log"), "{report}");
}
