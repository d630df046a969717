//! What is kept of uploads: their list, what a restart finds of them, and what is left of those that did not end.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};
use wattlake::{
    access::{Principal, Scope},
    catalog::{OnError, UploadRecord, UploadStatus},
    config::UploadConfig,
    ingest::{Ingest, UploadRequest},
    lake::{Change, ChangeKind},
};

use crate::harness::{HEADER, TestServer, Upload, counts, file, row};

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.admin().make_project("kitobo").await;
    server
}

fn one_row(id: &str) -> Upload {
    Upload::new("kitobo", file(&[row(id, "100.00")]))
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Waits until there are so many temporary folders.
async fn under_way(server: &TestServer, count: usize) {
    let folder = server.folder.path().join("tmp");
    for _ in 0..400 {
        if entries(&folder) == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("there are {} uploads under way, not {count}", entries(&folder));
}

fn ids(list: &Value) -> Vec<String> {
    list["uploads"].as_array().unwrap().iter().map(|upload| upload["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_sender_that_breaks_off_leaves_nothing() {
    let server = server().await;
    let text = String::from_utf8(file(&[row("A1", "1"), row("A2", "2")])).unwrap();
    let form = format!(
        "--x\r\nContent-Disposition: form-data; name=\"project\"\r\n\r\nkitobo\r\n--x\r\nContent-Disposition: form-data; \
         name=\"dataset_name\"\r\n\r\na\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; \
         filename=\"ELECTRICITY_PAYMENT.csv\"\r\n\r\n{text}"
    );
    let key = &server.admin.secret;
    for (head, body) in [
        ("PUT /v1/uploads?project=kitobo&dataset_name=a HTTP/1.1\r\nContent-Length: 9000", text.clone()),
        (
            "PUT /v1/uploads?project=kitobo&dataset_name=a HTTP/1.1\r\nTransfer-Encoding: chunked",
            format!("{:x}\r\n{text}\r\n", text.len()),
        ),
        ("POST /v1/uploads HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 9000", form),
    ] {
        let mut stream = TcpStream::connect(server.host()).await.unwrap();
        let head = format!("{head}\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body.as_bytes()).await.unwrap();
        under_way(&server, 1).await;
        drop(stream);
        under_way(&server, 0).await;
    }
    assert_eq!(server.admin().get("/v1/uploads").await.body["uploads"], json!([]));
    assert_eq!((server.admin().lake_version().await, entries(&server.folder.path().join("uploads"))), (0, 0));
    server.admin().commit(&one_row("A1")).await;
}

#[tokio::test]
async fn an_upload_that_is_given_up_while_its_rows_are_checked_leaves_nothing() {
    let server = server().await;
    let config = UploadConfig { concurrency: 256, ..server.config.upload.clone() };
    let ingest = Ingest::open(server.catalog.clone(), server.lake.clone(), server.folder.path(), config).await.unwrap();
    let ingest = Arc::new(ingest);
    let project = server.catalog.project(&"kitobo".parse().unwrap()).await.unwrap().unwrap();
    let request = UploadRequest {
        scope: Scope::of(&Principal::admin("abcdefgh"), [project.owner()]),
        projects: vec![project],
        dataset_name: "a".to_owned(),
        dataset_type: "electricity_payments".to_owned(),
        data_provider: "user".to_owned(),
        file_name: "ELECTRICITY_PAYMENT.csv".to_owned(),
        on_error: OnError::RejectFile,
        dry_run: false,
        key_prefix: "abcdefgh".to_owned(),
        idempotency_key: None,
    };
    let bytes = Bytes::from(file(&(0..2000).map(|n| row(&format!("A{n}"), "x")).collect::<Vec<_>>()));
    // What is written about bad rows and the removal of their folder meet by chance, so it is tried often.
    for _ in 0..200 {
        let body = stream::iter([Ok(bytes.clone())]).chain(stream::pending());
        let upload = ingest.upload(request.clone(), body);
        assert!(tokio::time::timeout(Duration::from_millis(2), upload).await.is_err());
    }
    under_way(&server, 0).await;
}

#[tokio::test]
async fn a_form_that_ends_before_its_last_boundary_is_no_upload() {
    let server = server().await;
    let body = format!(
        "--x\r\nContent-Disposition: form-data; name=\"project\"\r\n\r\nkitobo\r\n--x\r\nContent-Disposition: form-data; \
         name=\"dataset_name\"\r\n\r\na\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; \
         filename=\"ELECTRICITY_PAYMENT.csv\"\r\n\r\n{HEADER}\n{}\n",
        row("A1", "1")
    );
    let request = server.admin().request(reqwest::Method::POST, "/v1/uploads").body(body);
    let request = request.header("content-type", "multipart/form-data; boundary=x");
    assert_eq!(request.send().await.unwrap().status(), 400);
    under_way(&server, 0).await;
    assert_eq!(server.admin().get("/v1/uploads").await.body["uploads"], json!([]));
}

#[tokio::test]
async fn the_list_is_filtered_and_its_pages_meet() {
    let server = server().await;
    let admin = server.admin();
    admin.make_project("lolwe").await;
    let mut made = Vec::new();
    for id in ["A1", "A2", "A3"] {
        made.push(admin.commit(&one_row(id).with("dataset_name", &format!("name {id}"))).await);
    }
    let lolwe = admin.commit(&one_row("A1").with("project", "lolwe")).await;
    let fourth = admin.commit(&one_row("A4")).await;
    let refused = admin.upload(&Upload::new("kitobo", file(&[row("A5", "x")]))).await.body["upload_id"].clone();
    let newest_first = [&refused, &fourth["id"], &lolwe["id"], &made[2]["id"], &made[1]["id"], &made[0]["id"]];
    let newest_first = newest_first.map(|id| id.as_str().unwrap().to_owned()).to_vec();
    let list = async |query: &str| ids(&admin.get(&format!("/v1/uploads?{query}")).await.body);
    assert_eq!(list("").await, newest_first);
    assert_eq!(list("project=lolwe").await, newest_first[2..3]);
    assert_eq!(list("status=rejected").await, newest_first[..1]);
    assert_eq!(list("dataset_name=name%20A2").await, newest_first[4..5]);
    assert_eq!(list("project=kitobo&status=committed&limit=2").await, [&newest_first[1][..], &newest_first[3]]);
    let at = made[1]["received_at"].as_str().unwrap().to_owned();
    assert_eq!(list(&format!("from={at}")).await, newest_first[..5]);
    assert_eq!(list(&format!("to={at}")).await, newest_first[5..]);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    for size in [2, 2, 2] {
        let page = admin.get(&format!("/v1/uploads?limit=2{cursor}")).await.body;
        assert_eq!(ids(&page).len(), size);
        assert!(page["uploads"][0]["errors"].is_null(), "a list is without row errors");
        seen.extend(ids(&page));
        cursor = page["next_cursor"].as_str().map_or(String::new(), |next| format!("&cursor={next}"));
    }
    assert_eq!((seen, cursor.as_str()), (newest_first, ""));
    admin.get("/v1/uploads?project=absent").await.assert_problem(404, "not_found");
    for wrong in ["status=done", "limit=0", "limit=201", "cursor=x", "from=yesterday", "colour=red"] {
        let answer = admin.get(&format!("/v1/uploads?{wrong}")).await;
        answer.assert_problem(400, "invalid_parameter");
        assert_eq!(answer.body["parameter"], wrong.split('=').next().unwrap());
    }
}

#[tokio::test]
async fn an_upload_that_is_not_there_answers_as_one_that_cannot_be() {
    let server = server().await;
    let admin = server.admin();
    let absent = admin.get(&format!("/v1/uploads/{}", wattlake::ids::UploadId::new())).await;
    absent.assert_problem(404, "not_found");
    for path in ["/v1/uploads/x", "/v1/uploads/x/file", "/v1/uploads/x/rejected.csv", "/v1/uploads/..%2F..%2Fx/file"] {
        assert_eq!(admin.get(path).await.text, absent.text, "{path}");
    }
}

#[tokio::test]
async fn the_template_uploads_as_it_is_and_has_the_columns_of_the_dataset_type() {
    let server = server().await;
    let admin = server.admin();
    let template = admin.get("/v1/templates/ELECTRICITY_PAYMENT.csv").await;
    let report = admin.commit(&Upload::new("kitobo", template.text.clone())).await;
    assert_eq!((counts(&report), &report["warnings"]), ([2, 2, 0, 0, 0], &json!([])));
    let types = admin.get("/v1/dataset-types").await.body;
    let [only, connections] = &types["dataset_types"].as_array().unwrap()[..] else { panic!("{types}") };
    assert_eq!(connections["template"], "/v1/templates/CONNECTIONS.csv");
    assert_eq!(only["name"], report["dataset_type"]);
    assert_eq!(only["template"], "/v1/templates/ELECTRICITY_PAYMENT.csv");
    let columns = only["columns"].as_array().unwrap();
    let names: Vec<_> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(names[..14].join(","), template.text.lines().next().unwrap());
    assert_eq!(names[14..], ["Source", "external_id"]);
    // What it calls required is what a file may not leave out.
    for (index, column) in columns.iter().enumerate().take(14) {
        let lines = template.text.lines().map(|line| {
            let fields = line.split(',').enumerate().filter(|(at, _)| *at != index);
            fields.map(|(_, field)| field).collect::<Vec<_>>().join(",") + "\n"
        });
        let upload = Upload::new("kitobo", lines.collect::<String>()).with("dry_run", "true");
        let expected = if column["required"] == json!(true) { 422 } else { 200 };
        assert_eq!(admin.upload(&upload).await.status, expected, "{column}");
    }
}

#[tokio::test]
async fn a_restart_gives_the_same_answers() {
    let server = server().await;
    server.admin().commit(&one_row("A1")).await;
    let mixed = file(&[row("A1", "60"), row("A2", "x"), row("A3", "1")]);
    server.admin().commit(&Upload::new("kitobo", mixed).with("on_error", "skip_rows")).await;
    server.admin().upload(&Upload::new("kitobo", file(&[row("A9", "x")]))).await;
    let list = server.admin().get("/v1/uploads").await.body;
    let mut paths: Vec<String> = vec!["/v1/uploads".into(), "/v1/projects".into(), "/v1/metrics/completeness".into()];
    for metric in ["revenue_per_site", "payments_per_customer", "revenue_over_time?format=csv", "source_mix"] {
        paths.push(format!("/v1/metrics/{metric}"));
    }
    for id in ids(&list) {
        paths.extend(["", "/file", "/rejected.csv"].map(|rest| format!("/v1/uploads/{id}{rest}")));
    }
    let ask = async |server: &TestServer| {
        let mut answers = Vec::new();
        for path in &paths {
            let answer = server.admin().get(path).await;
            answers.push((path.clone(), answer.status, answer.header("etag").to_owned(), answer.text));
        }
        answers
    };
    let before = ask(&server).await;
    let server = server.restarted().await;
    assert_eq!(ask(&server).await, before);
    // And the same row is known as such.
    let again = Upload::new("kitobo", file(&[row("A1", "60"), row("A4", "1")]));
    assert_eq!(counts(&server.admin().commit(&again).await), [2, 1, 0, 1, 0]);
}

#[tokio::test]
async fn uploads_that_a_crash_left_on_their_way_are_settled_by_the_lakes_log() {
    let server = server().await;
    let admin = server.admin();
    let first = admin.commit(&one_row("A1")).await;
    let left = |sha256: &str| {
        let project = "kitobo".parse().unwrap();
        let mut record = UploadRecord::starting(vec![project], "05_2024_a".into(), "f.csv".into(), "abcdefgh".into());
        record.status = UploadStatus::Committing;
        record.sha256 = sha256.to_owned();
        record.report = json!({"counts": {"read": 1}});
        record
    };
    let lost = left(first["sha256"].as_str().unwrap());
    server.catalog.insert_upload(&lost).await.unwrap();
    let landed = left("5a");
    server.catalog.insert_upload(&landed).await.unwrap();
    server
        .lake
        .commit(&Change {
            id: (&landed.id).into(),
            kind: ChangeKind::Upload,
            facts: vec![],
            removed: vec![],
            added: vec![],
            metadata: None,
        })
        .await
        .unwrap();
    let receiving = UploadRecord { status: UploadStatus::Receiving, ..left("5b") };
    server.catalog.insert_upload(&receiving).await.unwrap();
    std::fs::create_dir_all(server.folder.path().join("tmp/upl_left/accepted")).unwrap();

    let server = server.restarted().await;
    let status = async |record: &UploadRecord| {
        let upload = server.admin().get(&format!("/v1/uploads/{}", record.id)).await.body;
        (upload["status"].clone(), upload["lake_version"].clone(), upload["committed_at"].is_string())
    };
    assert_eq!(status(&lost).await, (json!("failed"), Value::Null, false));
    assert_eq!(status(&landed).await, (json!("committed"), json!(2), true));
    assert_eq!(status(&receiving).await, (json!("failed"), Value::Null, false));
    under_way(&server, 0).await;
    assert_eq!(server.admin().figures("revenue_per_site", "revenue").await, ["100.0000"]);
}
