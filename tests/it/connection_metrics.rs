//! Metrics that need connections: who is answered, of which projects, and when the answer is another.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use wattlake::access::Role;

use crate::harness::{Admin, Answer, TestServer, Upload, file, paid, project};

/// Those that the catalogue says need them.
const METRICS: [&str; 3] = ["arpu", "match_rate", "paying_ratio"];

/// A server whose organisation `main` has the project kitobo, with a payment in May 2024 and one in June of the meter 00104, which
/// is a connection, and another connection without a payment.
async fn server() -> TestServer {
    server_of(TestServer::start().await).await
}

async fn server_of(server: TestServer) -> TestServer {
    let admin = server.admin();
    admin.make_project("kitobo").await;
    let rows = [paid("A1", "2024-05-10T10:00:00", "30", "SUCCESS"), paid("A2", "2024-06-10T10:00:00", "10", "SUCCESS")];
    admin.commit(&Upload::new("kitobo", file(&rows))).await;
    admin
        .take_connections(
            "kitobo",
            "EXTERNAL_ID,CUSTOMER_NAME,CONNECTED_ON\n00104,Amina,2024-05-01\n7,Baraka,2024-06-01\n",
        )
        .await;
    server
}

/// The answer to one who has the answer with this tag.
async fn again(admin: &Admin<'_>, path: &str, etag: &str) -> Answer {
    let asked = admin.request(Method::GET, path).header(header::IF_NONE_MATCH, etag);
    Answer::of(asked.send().await.unwrap()).await
}

/// The kitobo of the admin, and a project hill of the organisation fund, with which kitobo is shared; gives fund's key.
async fn shared(server: &TestServer, role: Role) -> wattlake::catalog::NewKey {
    let admin = server.admin();
    assert_eq!(admin.post("/v1/organisations", json!({"slug": "fund", "name": "F"})).await.status, 201);
    let mut body = project("hill");
    body["organisation"] = json!("fund");
    assert_eq!(admin.post("/v1/projects", body).await.status, 201);
    admin.commit(&Upload::new("hill", file(&[paid("H1", "2024-05-10T10:00:00", "8", "SUCCESS")]))).await;
    admin.take_connections("hill", "EXTERNAL_ID\n00104\n5\n").await;
    let share = admin.post("/v1/projects/kitobo/shares", json!({"recipient": "fund", "detail": "full"})).await;
    assert_eq!(share.status, 201, "{}", share.text);
    server.key_of("fund", role).await
}

#[tokio::test]
async fn the_catalogue_says_which_metrics_need_connections() {
    let server = server().await;
    let catalogue = server.admin().get("/v1/metrics").await.body;
    let needing = catalogue["metrics"].as_array().unwrap().iter().filter(|one| one["needs_connections"] == true);
    assert_eq!(needing.map(|one| one["name"].as_str().unwrap()).collect::<Vec<_>>(), METRICS);
}

#[tokio::test]
async fn who_reads_no_connections_reads_metrics_of_them_and_finds_no_customer_in_them() {
    let server = server().await;
    for role in [Role::Viewer, Role::Analyst, Role::Manager] {
        let key = server.key_of("main", role).await;
        let holder = server.holder(&key);
        let arpu = holder.figures("arpu", "period connections arpu").await;
        assert_eq!(arpu, ["2024-05-01 1 30.0000", "2024-06-01 2 5.0000"], "{role}");
        for metric in METRICS {
            let answer = holder.get(&format!("/v1/metrics/{metric}")).await;
            assert_eq!(answer.status, 200, "{role} {metric}: {}", answer.text);
            assert!(!answer.text.contains("00104") && !answer.text.contains("Amina"), "{}", answer.text);
        }
    }
    let viewer = server.key_of("main", Role::Viewer).await;
    server.holder(&viewer).get("/v1/projects/kitobo/connections").await.assert_problem(403, "forbidden");
    let uploader = server.key_of("main", Role::Uploader).await;
    for metric in METRICS {
        server.holder(&uploader).get(&format!("/v1/metrics/{metric}")).await.assert_problem(403, "forbidden");
    }
}

#[tokio::test]
async fn of_a_project_that_is_only_shared_no_metric_of_connections_is_answered() {
    let server = server().await;
    for role in [Role::Viewer, Role::Manager] {
        let server = if role == Role::Viewer { &server } else { &self::server().await };
        let fund = shared(server, role).await;
        let holder = server.holder(&fund);
        assert_eq!(holder.figures("revenue_per_category?grain=all", "project revenue").await.len(), 2);
        for metric in METRICS {
            for asked in ["project=kitobo", "project=kitobo&project=hill", "project=kitobo&as_of=1"] {
                let refused = holder.get(&format!("/v1/metrics/{metric}?{asked}")).await;
                refused.assert_problem(403, "connections_not_shared");
                assert_eq!(refused.body["projects"], json!(["kitobo"]), "{}", refused.text);
            }
            let all = holder.get(&format!("/v1/metrics/{metric}")).await;
            assert_eq!((all.status, all.header("x-wattlake-left-out")), (StatusCode::OK, "1"), "{}", all.text);
            assert_eq!(all.body["warnings"][0]["code"], "left_out", "{}", all.text);
            let rows = all.body["rows"].as_array().unwrap();
            assert!(!rows.is_empty() && rows.iter().all(|row| row["project"] == "hill"), "{}", all.text);
            let own = holder.get(&format!("/v1/metrics/{metric}?project=hill")).await;
            assert_eq!((&own.body["rows"], own.header("x-wattlake-left-out")), (&all.body["rows"], ""));
        }
        let alone = holder.get("/v1/metrics/arpu").await;
        let share = server.admin().get("/v1/shares").await.body["shares"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(server.admin().delete(&format!("/v1/projects/kitobo/shares/{share}")).await.status, 200);
        let ended = again(&holder, "/v1/metrics/arpu", alone.header("etag")).await;
        assert_eq!(
            (ended.status, &ended.body["warnings"]),
            (StatusCode::OK, &json!([])),
            "the warning went with the share"
        );
        assert_eq!(ended.body["rows"], alone.body["rows"]);
        let on = json!({"recipient": "fund", "detail": "full"});
        assert_eq!(server.admin().post("/v1/projects/kitobo/shares", on).await.status, 201);
        // Of what is shared, a change of connections is not to be seen, not even in a tag.
        let tag = holder.get("/v1/metrics/arpu").await.header("etag").to_owned();
        server.admin().take_connections("kitobo", "EXTERNAL_ID\n8\n").await;
        assert_eq!(again(&holder, "/v1/metrics/arpu", &tag).await.status, StatusCode::NOT_MODIFIED);
        let both = server.admin().figures("match_rate", "project connections").await;
        assert_eq!(both, ["hill 2", "kitobo 3"], "an administrator's are all");
    }
}

#[tokio::test]
async fn an_answer_from_connections_is_another_where_they_are_and_one_that_needs_none_is_not() {
    let server = server().await;
    let admin = server.admin();
    let tag_of =
        async |metric: &str| -> String { admin.get(&format!("/v1/metrics/{metric}")).await.header("etag").to_owned() };
    let mut tags = Vec::new();
    for metric in METRICS {
        tags.push(tag_of(metric).await);
    }
    let others = [tag_of("arppu").await, tag_of("revenue_per_category").await];
    let version = admin.lake_version().await;
    let of_connection = "/v1/projects/kitobo/connections/7";
    let changes: [(Method, Value, [&str; 2]); 3] = [
        (Method::PATCH, json!({"connected_on": "2024-05-02"}), ["2 0 15.0000", "2 0 5.0000"]),
        (Method::PATCH, json!({"connected_on": null}), ["2 1 15.0000", "2 1 5.0000"]),
        (Method::DELETE, Value::Null, ["1 0 30.0000", "1 0 10.0000"]),
    ];
    for (method, change, figures) in changes {
        let request = admin.request(method, of_connection);
        let request = if change.is_null() { request } else { request.json(&change) };
        let sent = request.send().await.unwrap();
        assert!(sent.status().is_success(), "{change}");
        for (metric, tag) in METRICS.iter().zip(&mut tags) {
            let path = format!("/v1/metrics/{metric}");
            let answer = again(&admin, &path, tag).await;
            assert_eq!(answer.status, StatusCode::OK, "{metric} {change}");
            answer.header("etag").clone_into(tag);
            assert_eq!(again(&admin, &path, tag).await.status, StatusCode::NOT_MODIFIED, "{metric} {change}");
        }
        assert_eq!(admin.figures("arpu", "connections undated arpu").await, figures, "{change}");
    }
    assert_eq!(admin.lake_version().await, version, "payments show none of it");
    for (metric, tag) in ["arppu", "revenue_per_category"].iter().zip(&others) {
        assert_eq!(again(&admin, &format!("/v1/metrics/{metric}"), tag).await.status, StatusCode::NOT_MODIFIED);
    }
    // What metrics do not read of connections makes no other answer.
    let renamed = admin.patch("/v1/projects/kitobo/connections/00104", json!({"customer_name": "Zawadi"})).await;
    assert_eq!(renamed.status, 200, "{}", renamed.text);
    for (metric, tag) in METRICS.iter().zip(&tags) {
        assert_eq!(again(&admin, &format!("/v1/metrics/{metric}"), tag).await.status, StatusCode::NOT_MODIFIED);
    }
}

#[tokio::test]
async fn an_earlier_lake_is_looked_at_with_the_connections_of_now() {
    let server = server().await;
    let admin = server.admin();
    let version = admin.lake_version().await;
    let of_then = format!("arpu?project=kitobo&as_of={version}");
    assert_eq!(
        admin.figures(&of_then, "period revenue connections").await,
        ["2024-05-01 30.0000 1", "2024-06-01 10.0000 2"]
    );
    admin.commit(&Upload::new("kitobo", file(&[paid("A3", "2024-06-11T10:00:00", "5", "SUCCESS")]))).await;
    admin.take_connections("kitobo", "EXTERNAL_ID,CONNECTED_ON\n8,2024-06-03\n9,2024-05-31\n").await;
    assert_eq!(
        admin.figures(&of_then, "period revenue connections").await,
        ["2024-05-01 30.0000 2", "2024-06-01 10.0000 4"]
    );
}

#[tokio::test]
async fn a_metric_reads_at_most_as_many_connections_as_it_may_and_none_where_it_needs_none() {
    let server = server_of(TestServer::with(|config| config.query.max_connections = 2).await).await;
    let admin = server.admin();
    assert_eq!(admin.figures("match_rate", "connections matched_meters").await, ["2 1"]);
    admin.take_connections("kitobo", "EXTERNAL_ID\n8\n").await;
    let catalogue = admin.get("/v1/metrics").await.body;
    for metric in catalogue["metrics"].as_array().unwrap() {
        let name = metric["name"].as_str().unwrap();
        let answer = admin.get(&format!("/v1/metrics/{name}")).await;
        if METRICS.contains(&name) {
            answer.assert_problem(422, "too_many_connections");
            assert!(answer.text.contains("query.max_connections"), "{}", answer.text);
        } else {
            assert_eq!(answer.status, 200, "{name}: {}", answer.text);
        }
    }
    admin.make_project("lolwe").await;
    let one = admin.get("/v1/metrics/match_rate?project=lolwe").await;
    assert_eq!((one.status, &one.body["rows"][0]["connections"]), (StatusCode::OK, &json!(0)), "{}", one.text);
}
