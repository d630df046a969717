//! `as_of`: what metrics and SQL say of the lake as it was, and what they say where that is not kept.

use std::time::Duration;

use serde_json::{Value, json};
use wattlake::access::Role;

use crate::harness::{Admin, TestServer, Upload, file, row};

/// A project that had one payment, then a correction of it and another payment, and then lost the second upload.
async fn server() -> TestServer {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.make_project("kitobo").await;
    admin.commit(&Upload::new("kitobo", file(&[row("A1", "10")]))).await;
    let second = admin.commit(&Upload::new("kitobo", file(&[row("A1", "7"), row("A2", "5")]))).await;
    let gone = admin.delete(&format!("/v1/uploads/{}", second["id"].as_str().unwrap())).await;
    assert_eq!(gone.status, 200, "{}", gone.text);
    server
}

/// The version that is answered from, and the revenue of the only site.
async fn revenue(holder: &Admin<'_>, as_of: &str) -> Value {
    let path = format!("revenue_per_site{as_of}");
    let answer = holder.get(&format!("/v1/metrics/{path}")).await;
    assert_eq!(answer.status, 200, "{as_of}: {}", answer.text);
    json!([answer.body["lake_version"], holder.figures(&path, "revenue").await[0]])
}

/// The version that is answered from, and the sum and number of payments, and the number of uploads.
async fn sum(holder: &Admin<'_>, as_of: Value) -> Value {
    let sql = "SELECT sum(amount) AS amount, count(*) AS payments, (SELECT count(*) AS n FROM uploads) AS uploads FROM payments";
    let answer = holder.post("/v1/sql", json!({ "sql": sql, "as_of": as_of })).await;
    assert_eq!(answer.status, 200, "{as_of}: {}", answer.text);
    json!([answer.body["lake_version"], answer.text.split("\"rows\":").nth(1).map(|rest| rest.split(']').next())])
}

#[tokio::test]
async fn metrics_and_sql_say_what_was_there_in_each_version_and_at_each_instant() {
    let server = server().await;
    let admin = server.admin();
    let newest = admin.lake_version().await;
    let [first, second, third] = [newest - 2, newest - 1, newest];
    let expected = |version: u64, rows: &str| json!([version, format!("[\n[{rows}")]);
    for (version, rows) in [(first, "10.0000,1,1"), (second, "12.0000,2,2"), (third, "10.0000,1,1")] {
        assert_eq!(sum(&admin, json!(version.to_string())).await, expected(version, rows), "{version}");
    }
    for (version, amount) in [(first, "10.0000"), (second, "12.0000"), (third, "10.0000")] {
        assert_eq!(revenue(&admin, &format!("?as_of={version}")).await, json!([version, amount]));
    }
    // The instants of the ledger, and those between.
    for (version, rows) in [(first, "10.0000,1,1"), (second, "12.0000,2,2"), (third, "10.0000,1,1")] {
        let written = server.catalog.version_written(version).await.unwrap().unwrap();
        let at = written.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
        assert_eq!(sum(&admin, json!(at)).await, expected(version, rows), "{at}");
    }
    assert_eq!(revenue(&admin, "").await, revenue(&admin, &format!("?as_of={third}")).await);
    // The answer of a version stays what it is, and so does its tag.
    let path = format!("/v1/metrics/revenue_per_site?as_of={second}");
    let tag = admin.get(&path).await.header("etag").to_owned();
    admin.commit(&Upload::new("kitobo", file(&[row("A3", "1")]))).await;
    let request = admin.request(reqwest::Method::GET, &path).header("if-none-match", &tag);
    assert_eq!(request.send().await.unwrap().status(), 304);
}

#[tokio::test]
async fn what_is_no_version_is_told_so() {
    let server = server().await;
    let admin = server.admin();
    for (as_of, says) in [
        ("99", "the newest version of the lake is"),
        ("2999-01-01T00:00:00Z", "still to come"),
        ("2001-01-01T00:00:00Z", "the lake was empty then"),
        ("2024-05-01", "with its offset"),
        ("yesterday", "with its offset"),
    ] {
        let metric = admin.get(&format!("/v1/metrics/revenue_per_site?as_of={as_of}")).await;
        let sql = admin.post("/v1/sql", json!({"sql": "SELECT 1", "as_of": as_of})).await;
        for answer in [metric, sql] {
            answer.assert_problem(400, "invalid_parameter");
            assert_eq!(answer.body["parameter"], "as_of");
            assert!(answer.body["detail"].as_str().unwrap().contains(says), "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn a_version_of_which_files_are_gone_is_refused_and_one_of_another_project_is_not() {
    let server = server().await;
    let admin = server.admin();
    admin.make_project("other").await;
    admin.commit(&Upload::new("other", file(&[row("B1", "3")]))).await;
    let before = admin.lake_version().await;
    admin.commit(&Upload::new("kitobo", file(&[row("A1", "8")]))).await;
    let ask = async |project: &str, version: u64| {
        admin.get(&format!("/v1/metrics/revenue_per_site?project={project}&as_of={version}")).await
    };
    assert_eq!(ask("kitobo", before).await.status, 200);
    assert!(server.lake.remove_old_files(Duration::ZERO).await.unwrap() > 0);
    let refused = ask("kitobo", before).await;
    refused.assert_problem(410, "version_not_kept");
    assert!(refused.body["detail"].as_str().unwrap().contains("lake.retention_days"), "{}", refused.text);
    assert_eq!(ask("other", before).await.status, 200, "another project has lost nothing");
    let newest = admin.lake_version().await;
    assert_eq!(ask("kitobo", newest).await.status, 200);
    let sql = admin.post("/v1/sql", json!({"sql": "SELECT 1", "as_of": before.to_string()})).await;
    sql.assert_problem(410, "version_not_kept");
    // It is remembered.
    let server = server.restarted().await;
    let path = format!("/v1/metrics/revenue_per_site?project=kitobo&as_of={before}");
    server.admin().get(&path).await.assert_problem(410, "version_not_kept");
}

#[tokio::test]
async fn a_lost_file_of_an_earlier_version_is_no_damage_of_the_lake() {
    let server = server().await;
    let admin = server.admin();
    let second = admin.lake_version().await - 1;
    let partition = server.folder.path().join("lake/payments/project_id=kitobo/month=2024-05");
    let current: Vec<String> = server.lake.snapshot().files().map(|file| file.path.clone()).collect();
    for entry in std::fs::read_dir(partition).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !current.iter().any(|path| path.ends_with(&name)) {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let path = format!("/v1/metrics/revenue_per_site?as_of={second}");
    admin.get(&path).await.assert_problem(410, "version_not_kept");
    let sql =
        admin.post("/v1/sql", json!({"sql": "SELECT sum(amount) FROM payments", "as_of": second.to_string()})).await;
    sql.assert_problem(410, "version_not_kept");
    assert!(server.lake.damaged().is_empty());
    assert_eq!(revenue(&admin, "").await, json!([second + 1, "10.0000"]));
}

#[tokio::test]
async fn what_an_owner_took_back_is_not_seen_by_way_of_an_earlier_version() {
    let server = server().await;
    let admin = server.admin();
    let second = admin.lake_version().await - 1;
    assert_eq!(admin.post("/v1/organisations", json!({"slug": "fund", "name": "F"})).await.status, 201);
    let fund = server.key_of("fund", Role::Analyst).await;
    let holder = server.holder(&fund);
    let shared = admin.post("/v1/projects/kitobo/shares", json!({"recipient": "fund", "detail": "full"})).await;
    assert_eq!(shared.status, 201);
    assert_eq!(revenue(&holder, "").await, json!([second + 1, "10.0000"]));
    let named = holder.get(&format!("/v1/metrics/revenue_per_site?project=kitobo&as_of={second}")).await;
    named.assert_problem(403, "shared_as_it_is");
    let all = holder.get(&format!("/v1/metrics/revenue_per_site?as_of={second}")).await;
    assert_eq!((all.status.as_u16(), all.header("x-wattlake-left-out")), (200, "1"), "{}", all.text);
    assert_eq!(all.body["rows"], json!([]));
    let sql =
        json!({"sql": "SELECT count(*) AS n FROM payments, projects", "format": "csv", "as_of": second.to_string()});
    assert_eq!(holder.post("/v1/sql", sql).await.text, "n\r\n0\r\n");
    assert_eq!(admin.delete(shared.header("location")).await.status, 200);
    let gone = holder.get(&format!("/v1/metrics/revenue_per_site?project=kitobo&as_of={second}")).await;
    gone.assert_problem(404, "not_found");
}
