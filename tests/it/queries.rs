//! SQL that is answered later, what an organisation sees of its queries, and saved queries.

use std::{
    fs,
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use wattlake::access::Role;

use crate::harness::{Admin, Answer, TestServer, Upload, file, row};

/// More rows than anybody waits for, of which none comes out.
const ENDLESS: &str = "SELECT sum(ab.amount * c.amount) FROM payments c CROSS JOIN \
                       (SELECT a.amount + b.amount AS amount FROM payments a CROSS JOIN payments b) AS ab";

async fn server() -> TestServer {
    filled(TestServer::start().await).await
}

async fn filled(server: TestServer) -> TestServer {
    server.admin().make_project("kitobo").await;
    let rows: Vec<String> = (0..2000).map(|number| row(&format!("P{number:04}"), "1.50")).collect();
    server.admin().commit(&Upload::new("kitobo", file(&rows))).await;
    server
}

async fn later(holder: &Admin<'_>, body: Value) -> Answer {
    let request = holder.request(Method::POST, "/v1/sql").header("prefer", "respond-async").json(&body);
    Answer::of(request.send().await.unwrap()).await
}

/// Where a query is followed that is answered later.
async fn submitted(holder: &Admin<'_>, body: Value) -> String {
    let answer = later(holder, body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(answer.header("preference-applied"), "respond-async");
    assert!(["queued", "running"].contains(&answer.body["state"].as_str().unwrap()), "{}", answer.text);
    assert_eq!(answer.header("location"), format!("/v1/queries/{}", answer.body["id"].as_str().unwrap()));
    answer.header("location").to_owned()
}

/// What a query came to.
async fn ended(holder: &Admin<'_>, location: &str) -> Value {
    let began = Instant::now();
    loop {
        let query = holder.get(location).await;
        assert_eq!(query.status, 200, "{}", query.text);
        if !query.body["ended_at"].is_null() {
            return query.body;
        }
        assert!(began.elapsed() < Duration::from_mins(1), "{}", query.text);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

fn results(server: &TestServer) -> usize {
    let folder = server.folder.path().join("tmp/results");
    fs::read_dir(folder).map_or(0, Iterator::count)
}

#[tokio::test]
async fn a_query_that_is_answered_later_has_the_rows_of_one_that_is_waited_for_in_every_form() {
    let server = server().await;
    let admin = server.admin();
    let sql = "SELECT payment_id, amount, paid_at FROM payments ORDER BY payment_id";
    let location = submitted(&admin, json!({ "sql": sql })).await;
    let query = ended(&admin, &location).await;
    assert_eq!((&query["state"], &query["result"]["row_count"]), (&json!("succeeded"), &json!(2000)), "{query}");
    assert_eq!((&query["progress"]["scanned_rows"], &query["progress"]["row_count"]), (&json!(2000), &json!(2000)));
    assert_eq!(query["result"]["url"], json!(format!("{location}/result")));
    assert_eq!(results(&server), 0, "a result has no name that anybody could open");
    for format in ["csv", "ndjson", "arrow", "parquet"] {
        let now = admin.request(Method::POST, "/v1/sql").json(&json!({"sql": sql, "format": format}));
        let kept = admin.request(Method::GET, &format!("{location}/result?format={format}"));
        let (now, kept) = (now.send().await.unwrap(), kept.send().await.unwrap());
        assert_eq!(now.headers()["content-type"], kept.headers()["content-type"]);
        let (now, kept) = (now.bytes().await.unwrap(), kept.bytes().await.unwrap());
        match format {
            // The last line has the times.
            "ndjson" => assert_eq!(now.split(|b| *b == b'\n').count(), kept.split(|b| *b == b'\n').count()),
            _ => assert!(now == kept, "{format}"),
        }
    }
    let json = admin.get(&format!("{location}/result")).await;
    assert_eq!((&json.body["row_count"], &json.body["statistics"]["next_cursor"]), (&json!(2000), &Value::Null));
}

#[tokio::test]
async fn a_result_comes_in_pages_that_have_each_row_once() {
    let server = server().await;
    let admin = server.admin();
    // Large rows, so that they are in many pieces.
    let sql = "SELECT payment_id, repeat('x', 3000) AS filler FROM payments ORDER BY payment_id";
    let location = submitted(&admin, json!({ "sql": sql })).await;
    ended(&admin, &location).await;
    for (size, format) in [(1, "csv"), (300, "json"), (999, "csv"), (2000, "csv"), (5000, "json")] {
        let (mut ids, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        while pages < 8 {
            let page = admin.get(&format!("{location}/result?limit={size}&format={format}{cursor}")).await;
            assert_eq!(page.status, 200, "{}", page.text);
            pages += 1;
            if format == "csv" {
                let lines = page.text.lines().skip(1);
                ids.extend(lines.map(|line| line.split(',').next().unwrap().to_owned()));
            } else {
                let rows = page.body["rows"].as_array().unwrap();
                ids.extend(rows.iter().map(|row| row[0].as_str().unwrap().to_owned()));
                let next = page.body["statistics"]["next_cursor"].as_str().unwrap_or_default();
                assert_eq!(next, page.headers.get("x-wattlake-next-cursor").map_or("", |v| v.to_str().unwrap()));
            }
            match page.headers.get("x-wattlake-next-cursor") {
                Some(next) => cursor = format!("&cursor={}", next.to_str().unwrap()),
                None => break,
            }
        }
        let expected: Vec<String> = (0..2000.min(size * pages)).map(|number| format!("P{number:04}")).collect();
        assert_eq!(ids, expected, "{size} {format}");
    }
    // A page that the caller has is not sent again; a cursor of something else is none.
    let page = admin.get(&format!("{location}/result?limit=10")).await;
    let again = admin.request(Method::GET, &format!("{location}/result?limit=10"));
    let again = again.header("if-none-match", page.header("etag")).send().await.unwrap();
    assert_eq!(again.status(), 304);
    for wrong in ["cursor=x", "cursor=OTk5OTk5", "limit=0", "format=xml", "page=2"] {
        admin.get(&format!("{location}/result?{wrong}")).await.assert_problem(400, "invalid_parameter");
    }
}

#[tokio::test]
async fn a_query_that_is_wrong_says_so_where_it_is_followed() {
    let server = server().await;
    let admin = server.admin();
    let location = submitted(&admin, json!({"sql": "SELECT amont FROM payments"})).await;
    let query = ended(&admin, &location).await;
    assert_eq!((&query["state"], &query["result"]), (&json!("failed"), &Value::Null));
    assert_eq!(
        (&query["problem"]["type"], &query["problem"]["meant"]),
        (&json!("/problems/sql_unknown_name"), &json!("amount"))
    );
    let told = admin.get(&format!("{location}/result")).await;
    told.assert_problem(400, "sql_unknown_name");
    assert_eq!(told.body, query["problem"]);
    let late = submitted(&admin, json!({"sql": ENDLESS, "timeout_s": 1})).await;
    assert_eq!(ended(&admin, &late).await["problem"]["type"], "/problems/deadline");
    // What is wrong with the request itself is told at once.
    later(&admin, json!({"sql": "SELECT 1", "timeout_s": 999_999})).await.assert_problem(400, "invalid_parameter");
    assert_eq!(later(&admin, json!({"sql": "SELECT 1", "timeout_s": 600})).await.status, 202, "longer than who waits");
}

#[tokio::test]
async fn a_query_is_cancelled_by_who_may_and_its_process_is_gone_within_a_second() {
    let server = server().await;
    let (own, other) = (server.key_of("main", Role::Analyst).await, server.key_of("main", Role::Analyst).await);
    let (holder, colleague) = (server.holder(&own), server.holder(&other));
    let location = submitted(&holder, json!({ "sql": ENDLESS })).await;
    while holder.get(&location).await.body["state"] != "running" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let running = colleague.get(&location).await;
    assert_eq!(running.body["sql"], ENDLESS, "a colleague sees it");
    colleague.get(&format!("{location}/result")).await.assert_problem(409, "query_under_way");
    colleague.delete(&location).await.assert_problem(403, "forbidden");
    let began = Instant::now();
    assert_eq!(holder.delete(&location).await.status, 200);
    let query = ended(&holder, &location).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!((&query["state"], &query["problem"]), (&json!("cancelled"), &Value::Null));
    // One that is waited for can be cancelled too.
    let cancel = async {
        loop {
            let list = holder.get("/v1/queries").await.body;
            let running = list["queries"].as_array().unwrap().iter().find(|query| query["state"] == "running").cloned();
            if let Some(running) = running {
                return holder.delete(&format!("/v1/queries/{}", running["id"].as_str().unwrap())).await.status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = colleague.post("/v1/sql", json!({ "sql": ENDLESS }));
    let by_a_manager = server.key_of("main", Role::Manager).await;
    let manager = server.holder(&by_a_manager);
    let by_manager = async {
        assert_eq!(cancel.await, 403);
        let list = manager.get("/v1/queries").await.body;
        let running = list["queries"].as_array().unwrap().iter().find(|query| query["state"] == "running").unwrap();
        manager.delete(&format!("/v1/queries/{}", running["id"].as_str().unwrap())).await.status
    };
    let (waited, cancelled) = tokio::join!(waited, by_manager);
    assert_eq!(cancelled, 200);
    waited.assert_problem(409, "cancelled");
}

#[tokio::test]
async fn the_list_has_what_an_organisation_ran_and_nothing_of_another() {
    let server = server().await;
    assert_eq!(server.admin().post("/v1/organisations", json!({"slug": "fund", "name": "F"})).await.status, 201);
    let (own, foreign) = (server.key_of("main", Role::Analyst).await, server.key_of("fund", Role::Analyst).await);
    let (holder, stranger) = (server.holder(&own), server.holder(&foreign));
    let body = json!({"sql": "SELECT count(*) AS n FROM payments WHERE amount > $1", "params": [1]});
    let asked = holder.post("/v1/sql", body).await;
    assert_eq!(asked.status, 200);
    holder.post("/v1/sql", json!({"sql": "SELECT 1/0"})).await.assert_problem(422, "sql_execution");
    let list = holder.get("/v1/queries").await.body;
    let [wrong, right] = list["queries"].as_array().unwrap().as_slice() else { panic!("{list}") };
    assert_eq!(right["id"], asked.header("x-wattlake-query-id"));
    assert_eq!(
        (&right["state"], &right["params"], &right["key"]),
        (&json!("succeeded"), &json!([1]), &json!(own.key.prefix))
    );
    assert_eq!((&right["progress"]["scanned_rows"], &right["progress"]["row_count"]), (&json!(2000), &json!(1)));
    assert!(right["progress"]["scanned_bytes"].as_u64().unwrap() > 0);
    assert_eq!((&wrong["state"], &wrong["problem"]["type"]), (&json!("failed"), &json!("/problems/sql_execution")));
    let page = holder.get("/v1/queries?limit=1").await.body;
    assert_eq!(page["queries"][0]["id"], wrong["id"]);
    let next = page["next_cursor"].as_str().unwrap();
    let page = holder.get(&format!("/v1/queries?limit=1&cursor={next}")).await.body;
    assert_eq!((&page["queries"][0]["id"], &page["next_cursor"]), (&right["id"], &Value::Null));
    assert_eq!(stranger.get("/v1/queries").await.body["queries"], json!([]));
    let path = format!("/v1/queries/{}", right["id"].as_str().unwrap());
    stranger.get(&path).await.assert_problem(404, "not_found");
    assert_eq!(server.admin().get(&path).await.status, 200);
}

#[tokio::test]
async fn a_result_is_no_longer_told_when_what_it_rests_on_is_not_shared_any_more() {
    let server = server().await;
    let admin = server.admin();
    assert_eq!(admin.post("/v1/organisations", json!({"slug": "fund", "name": "F"})).await.status, 201);
    let key = server.key_of("fund", Role::Analyst).await;
    let fund = server.holder(&key);
    let share = json!({"recipient": "fund", "detail": "full"});
    let shared = admin.post("/v1/projects/kitobo/shares", share).await;
    let location = submitted(&fund, json!({"sql": "SELECT count(*) AS n FROM payments"})).await;
    ended(&fund, &location).await;
    let result = fund.get(&format!("{location}/result?format=csv")).await;
    assert_eq!(result.text, "n\r\n2000\r\n");
    // One that runs ends with it as well.
    let running = submitted(&fund, json!({ "sql": ENDLESS })).await;
    assert_eq!(admin.delete(shared.header("location")).await.status, 200);
    fund.get(&format!("{location}/result?format=csv")).await.assert_problem(409, "share_ended");
    assert_eq!(ended(&fund, &running).await["problem"]["type"], "/problems/share_ended");
    // So does one whose key ends.
    let own = server.key_of("main", Role::Analyst).await;
    let running = submitted(&server.holder(&own), json!({ "sql": ENDLESS })).await;
    server.catalog.revoke_key(&own.key.prefix).await.unwrap();
    assert_eq!(ended(&admin, &running).await["problem"]["type"], "/problems/unauthenticated");
}

#[tokio::test]
async fn an_organisation_has_so_many_results_and_they_are_kept_for_so_long() {
    let server = TestServer::with(|config| {
        (config.sql.background.results, config.sql.background.kept) = (2, Duration::from_secs(2));
        (config.sql.background.concurrency, config.sql.background.results_bytes) = (1, 1 << 20);
    });
    let server = filled(server.await).await;
    let admin = server.admin();
    let sql = json!({"sql": "SELECT count(*) AS n FROM payments"});
    let mut locations = Vec::new();
    for _ in 0..3 {
        let location = submitted(&admin, sql.clone()).await;
        ended(&admin, &location).await;
        locations.push(location);
    }
    admin.get(&format!("{}/result", locations[0])).await.assert_problem(410, "result_not_kept");
    assert_eq!(admin.get(&format!("{}/result", locations[2])).await.status, 200);
    let large = json!({"sql": "SELECT repeat('x', 900) AS filler FROM payments"});
    let large = submitted(&admin, large).await;
    assert_eq!(ended(&admin, &large).await["problem"]["type"], "/problems/results_full");
    tokio::time::sleep(Duration::from_millis(2100)).await;
    admin.get(&locations[2]).await.assert_problem(404, "not_found");
    // Two that have not ended leave no room for a third.
    let running =
        [submitted(&admin, json!({ "sql": ENDLESS })).await, submitted(&admin, json!({ "sql": ENDLESS })).await];
    let refused = later(&admin, sql).await;
    refused.assert_problem(429, "too_many_queries");
    assert!(refused.body["detail"].as_str().unwrap().contains("sql.organisation_results"), "{}", refused.text);
    let states: Vec<Value> =
        [admin.get(&running[0]).await, admin.get(&running[1]).await].map(|one| one.body["state"].clone()).into();
    assert!(states.contains(&json!("queued")), "one runs at a time: {states:?}");
    for location in running {
        admin.delete(&location).await;
        ended(&admin, &location).await;
    }
}

#[tokio::test]
async fn a_saved_query_is_fetched_like_a_metric_with_its_parameters_and_by_version() {
    let server = server().await;
    let (analyst, viewer) = (server.key_of("main", Role::Analyst).await, server.key_of("main", Role::Viewer).await);
    let (analyst, viewer) = (server.holder(&analyst), server.holder(&viewer));
    let body = json!({
        "sql": "SELECT site, count(*) AS payments, sum(amount) AS amount FROM payments WHERE amount >= $at_least AND paid_at >= $since GROUP BY site",
        "description": "What a site took in",
        "parameters": [
            {"name": "at_least", "type": "decimal", "default": "1.00", "description": "In the project's currency"},
            {"name": "since", "type": "timestamp"},
        ],
    });
    let put = async |body: &Value| {
        let request = analyst.request(Method::PUT, "/v1/queries/saved/site-income").json(body);
        Answer::of(request.send().await.unwrap()).await
    };
    let saved = put(&body).await;
    assert_eq!((saved.status.as_u16(), &saved.body["version"]), (201, &json!(1)), "{}", saved.text);
    let columns: Vec<&str> =
        saved.body["columns"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(columns, ["site", "payments", "amount"]);
    assert_eq!(put(&body).await.body["version"], 1, "the same again changes nothing");
    let path = "/v1/queries/saved/site-income?since=2024-01-01T00:00:00Z";
    let csv = viewer.get(&format!("{path}&format=csv")).await;
    assert_eq!(csv.text, "site,payments,amount\r\nKitobo,2000,3000.0000\r\n", "{}", csv.text);
    assert_eq!(viewer.get(&format!("{path}&format=csv&at_least=1.51")).await.text, "site,payments,amount\r\n");
    let request = viewer.request(Method::GET, &format!("{path}&format=csv"));
    assert_eq!(request.header("if-none-match", csv.header("etag")).send().await.unwrap().status(), 304);
    let missing = viewer.get("/v1/queries/saved/site-income").await;
    missing.assert_problem(400, "invalid_parameter");
    assert_eq!(missing.body["parameter"], "since");
    for wrong in ["since=May", "since=2024-01-01T00:00:00Z&at_least=much", "since=2024-01-01T00:00:00Z&until=x"] {
        let answer = viewer.get(&format!("/v1/queries/saved/site-income?{wrong}")).await;
        answer.assert_problem(400, "invalid_parameter");
    }
    // A value is never SQL.
    let value = "2024-01-01T00:00:00Z'%20OR%201=1%20--";
    viewer.get(&format!("/v1/queries/saved/site-income?since={value}")).await.assert_problem(400, "invalid_parameter");

    let next = json!({"sql": "SELECT count(*) AS n FROM payments"});
    let second = put(&next).await;
    assert_eq!((second.status.as_u16(), &second.body["version"]), (200, &json!(2)));
    assert_eq!(viewer.get("/v1/queries/saved/site-income?format=csv").await.text, "n\r\n2000\r\n");
    let first = viewer.get(&format!("{path}&format=csv&version=1")).await;
    assert_eq!(first.text, csv.text, "a version stays what it is");
    viewer.get("/v1/queries/saved/site-income?version=3").await.assert_problem(404, "not_found");
    let versions = viewer.get("/v1/queries/saved/site-income/versions").await.body;
    let numbers: Vec<u64> =
        versions["versions"].as_array().unwrap().iter().map(|one| one["version"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [2, 1]);
    let list = viewer.get("/v1/queries/saved").await.body;
    assert_eq!(list["saved_queries"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&list["saved_queries"][0]["name"], &list["saved_queries"][0]["version"]),
        (&json!("site-income"), &json!(2))
    );
    let run = analyst.get("/v1/queries").await.body;
    assert_eq!(run["queries"][0]["saved_query"], "site-income");
    let deleted = analyst.delete("/v1/queries/saved/site-income").await;
    assert_eq!(deleted.status, 204);
    viewer.get("/v1/queries/saved/site-income").await.assert_problem(404, "not_found");
    assert_eq!(put(&next).await.body["version"], 3, "a number never means two things");
}

#[tokio::test]
async fn what_is_wrong_with_a_query_is_told_before_it_is_saved() {
    let server = server().await;
    let admin = server.admin();
    let put = async |body: Value| {
        let request = admin.request(Method::PUT, "/v1/queries/saved/wrong").json(&body);
        Answer::of(request.send().await.unwrap()).await
    };
    let unknown = put(json!({"sql": "SELECT amont FROM payments"})).await;
    unknown.assert_problem(400, "sql_unknown_name");
    assert_eq!((&unknown.body["line"], &unknown.body["column"]), (&json!(1), &json!(8)));
    put(json!({"sql": "DROP TABLE payments"})).await.assert_problem(400, "sql_not_allowed");
    let text = |name: &str, kind: &str| json!([{"name": name, "type": kind}]);
    for (parameters, says) in [
        (text("Site", "text"), "begins with a letter"),
        (text("format", "text"), "something else"),
        (text("site", "txt"), "unknown variant"),
        (json!([{"name": "a", "type": "text"}, {"name": "a", "type": "text"}]), "two parameters"),
        (json!({"a": "text"}), "a list of objects"),
    ] {
        let answer = put(json!({"sql": "SELECT 1", "parameters": parameters})).await;
        answer.assert_problem(400, "invalid_saved_query");
        assert!(answer.body["detail"].as_str().unwrap().contains(says), "{}", answer.text);
    }
    put(json!({"sql": "SELECT 1", "parameter": []})).await.assert_problem(400, "invalid_saved_query");
    put(json!({})).await.assert_problem(400, "invalid_saved_query");
    assert_eq!(admin.get("/v1/queries/saved").await.body["saved_queries"], json!([]));
}

#[tokio::test]
async fn sql_reads_the_connections_of_ones_own_projects_and_a_viewer_none() {
    let server = server().await;
    let admin = server.admin();
    let connections = json!({"connections": [
        {"external_id": "0001", "category": "Public", "site": "Hill", "latitude": -3.3869, "longitude": 36.683, "connected_on": "2024-05-01"},
        {"external_id": "0002", "customer_name": "Amina"},
    ]});
    let sent = admin.post("/v1/projects/kitobo/connections", connections).await;
    assert_eq!(sent.status, 200, "{}", sent.text);
    let sql = "SELECT project_id, external_id, category, latitude, connected_on, customer_name FROM connections ORDER BY external_id";
    let analyst = server.key_of("main", Role::Analyst).await;
    let analyst = server.holder(&analyst);
    let rows = analyst.post("/v1/sql", json!({"sql": sql, "format": "csv"})).await;
    let expected = "project_id,external_id,category,latitude,connected_on,customer_name\r\nkitobo,0001,Public,-3.3869000,2024-05-01,\r\nkitobo,0002,,,,Amina\r\n";
    assert_eq!(rows.text, expected);
    // They are part of what an answer is kept by.
    let path = "/v1/sql?q=SELECT+count(*)+AS+n+FROM+connections&format=csv";
    let (one, deleted) = (analyst.get(path).await, admin.delete("/v1/projects/kitobo/connections/0002").await);
    assert_eq!((one.text.as_str(), deleted.status.as_u16()), ("n\r\n2\r\n", 200), "{}", deleted.text);
    let request = analyst.request(Method::GET, path).header("if-none-match", one.header("etag"));
    assert_eq!(Answer::of(request.send().await.unwrap()).await.text, "n\r\n1\r\n");
    // Nothing of them is shared, and who reads metrics alone does not read them by way of a saved query.
    assert_eq!(admin.post("/v1/organisations", json!({"slug": "fund", "name": "F"})).await.status, 201);
    let share = json!({"recipient": "fund", "detail": "full"});
    assert_eq!(admin.post("/v1/projects/kitobo/shares", share).await.status, 201);
    let fund = server.key_of("fund", Role::Analyst).await;
    let seen = server.holder(&fund).post("/v1/sql", json!({"sql": sql, "format": "csv"})).await;
    assert_eq!(seen.text.lines().count(), 1, "{}", seen.text);
    let put =
        analyst.request(Method::PUT, "/v1/queries/saved/connected").json(&json!({ "sql": sql })).send().await.unwrap();
    assert_eq!(put.status(), 201);
    let viewer = server.key_of("main", Role::Viewer).await;
    server.holder(&viewer).get("/v1/queries/saved/connected").await.assert_problem(403, "forbidden");
    assert_eq!(analyst.get("/v1/queries/saved/connected").await.status, 200);
}
