//! `Idempotency-Key`: the same request again gets the first answer, and nothing is written.

use std::time::Duration;

use reqwest::{Body, Method, RequestBuilder};
use serde_json::{Value, json};
use wattlake::{
    catalog::{KeyTerms, RequestKey, UploadRecord, UploadStatus},
    ids::UploadId,
};

use crate::harness::{Answer, TestServer, Upload, counts, file, row};

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.admin().make_project("kitobo").await;
    server
}

fn one_row(id: &str) -> Upload {
    Upload::new("kitobo", file(&[row(id, "100")]))
}

fn request(server: &TestServer, upload: &Upload) -> RequestBuilder {
    let form = upload.fields().part("file", upload.part());
    server.admin().request(Method::POST, "/v1/uploads").multipart(form)
}

async fn send(server: &TestServer, upload: &Upload, key: &str) -> Answer {
    Answer::of(request(server, upload).header("Idempotency-Key", key).send().await.unwrap()).await
}

#[track_caller]
fn assert_replayed(answer: &Answer, replayed: bool) {
    assert_eq!(answer.header("idempotency-replayed"), if replayed { "true" } else { "" }, "{}", answer.text);
}

async fn uploads(server: &TestServer) -> usize {
    server.admin().get("/v1/uploads").await.body["uploads"].as_array().unwrap().len()
}

#[tokio::test]
async fn the_same_request_with_the_same_key_gets_the_first_answer() {
    let server = server().await;
    let first = send(&server, &one_row("A1"), "k-1").await;
    assert_eq!(first.status, 201, "{}", first.text);
    assert_replayed(&first, false);
    let server = server.restarted().await;
    for _ in 0..2 {
        let again = send(&server, &one_row("A1"), "k-1").await;
        assert_eq!((again.status, &again.text), (first.status, &first.text));
        assert_eq!(again.header("location"), first.header("location"));
        assert_replayed(&again, true);
    }
    // As a plain body it is the same request too.
    let path = "/v1/uploads?project=kitobo&dataset_name=05_2024_Kitobo";
    let put = server.admin().request(Method::PUT, path).header("Idempotency-Key", "k-1").body(one_row("A1").file);
    let put = Answer::of(put.send().await.unwrap()).await;
    assert_eq!((put.status, &put.text), (first.status, &first.text));
    assert_eq!((uploads(&server).await, server.admin().lake_version().await), (1, 1));
}

#[tokio::test]
async fn the_same_key_with_another_request_is_refused() {
    let server = server().await;
    server.admin().make_project("lolwe").await;
    send(&server, &one_row("A1"), "k-1").await;
    for other in [
        one_row("A2"),
        one_row("A1").with("dataset_name", "another"),
        one_row("A1").with("project", "lolwe"),
        one_row("A1").with("on_error", "skip_rows"),
    ] {
        let answer = send(&server, &other, "k-1").await;
        answer.assert_problem(422, "idempotency_key_reused");
        assert_replayed(&answer, false);
    }
    assert_eq!((uploads(&server).await, server.admin().lake_version().await), (1, 1));
    assert_eq!(send(&server, &one_row("A2"), "k-2").await.status, 201);
}

#[tokio::test]
async fn a_key_counts_for_the_one_who_sent_it() {
    let server = server().await;
    send(&server, &one_row("A1"), "k-1").await;
    let other = server.catalog.create_key(KeyTerms::of_admin("other")).await.unwrap();
    let form = one_row("A2").fields().part("file", one_row("A2").part());
    let request = reqwest::Client::new().post(format!("{}/v1/uploads", server.address)).bearer_auth(&other.secret);
    let answer = Answer::of(request.header("Idempotency-Key", "k-1").multipart(form).send().await.unwrap()).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_replayed(&answer, false);
}

#[tokio::test]
async fn a_refused_file_is_refused_again_and_kept_once() {
    let server = server().await;
    let bad = Upload::new("kitobo", file(&[row("A1", "x")]));
    let first = send(&server, &bad, "k-1").await;
    first.assert_problem(422, "upload_rejected");
    let again = send(&server, &bad, "k-1").await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_replayed(&again, true);
    assert_eq!(uploads(&server).await, 1);
    send(&server, &one_row("A1"), "k-1").await.assert_problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_dry_run_keeps_no_key() {
    let server = server().await;
    let dry = one_row("A1").with("dry_run", "true");
    for _ in 0..2 {
        let answer = send(&server, &dry, "k-1").await;
        assert_eq!((answer.status.as_u16(), &answer.body["status"]), (200, &json!("checked")));
        assert_replayed(&answer, false);
    }
    let landed = send(&server, &one_row("A1"), "k-1").await;
    assert_eq!(landed.status, 201);
    assert_eq!(counts(&send(&server, &dry, "k-1").await.body), [1, 0, 0, 1, 0]);
}

#[tokio::test]
async fn a_key_of_bytes_that_came_before_keeps_that_answer() {
    let server = server().await;
    let first = server.admin().commit(&one_row("A1")).await;
    let renamed = one_row("A1").with("dataset_name", "05_2024_Renamed");
    let found = send(&server, &renamed, "k-1").await;
    assert_eq!(
        (found.status.as_u16(), &found.body["id"], &found.body["already_uploaded"]),
        (200, &first["id"], &json!(true))
    );
    assert_replayed(&found, false);
    let again = send(&server, &renamed, "k-1").await;
    assert_eq!((again.status, &again.text), (found.status, &found.text));
    assert_replayed(&again, true);
    send(&server, &one_row("A2"), "k-1").await.assert_problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_request_under_way_has_its_key_alone() {
    let server = server().await;
    let (sender, chunks) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let chunks = futures::stream::unfold(chunks, async |mut chunks| Some((chunks.recv().await?, chunks)));
    let path = "/v1/uploads?project=kitobo&dataset_name=05_2024_Kitobo";
    let slow = server.admin().request(Method::PUT, path).header("Idempotency-Key", "k-1");
    let slow = tokio::spawn(slow.body(Body::wrap_stream(chunks)).send());
    let bytes = one_row("A1").file;
    sender.send(Ok(bytes[..20].to_vec())).await.unwrap();
    let begun = server.folder.path().join("tmp");
    for _ in 0..400 {
        if std::fs::read_dir(&begun).is_ok_and(|entries| entries.count() == 1) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let meanwhile = send(&server, &one_row("A1"), "k-1").await;
    meanwhile.assert_problem(409, "idempotency_key_in_flight");
    assert_eq!(send(&server, &one_row("A2"), "k-2").await.status, 201);
    sender.send(Ok(bytes[20..].to_vec())).await.unwrap();
    drop(sender);
    let first = Answer::of(slow.await.unwrap().unwrap()).await;
    assert_eq!(first.status, 201, "{}", first.text);
    let again = send(&server, &one_row("A1"), "k-1").await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_replayed(&again, true);
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let server = server().await;
    let long = "k".repeat(255);
    assert_eq!(send(&server, &one_row("A1"), &long).await.status, 201);
    let long = long + "k";
    for wrong in [&b""[..], b"two words", long.as_bytes(), "clé".as_bytes(), b"\tk\tk"] {
        let header = reqwest::header::HeaderValue::from_bytes(wrong).unwrap();
        let answer = request(&server, &one_row("A2")).header("Idempotency-Key", header).send().await.unwrap();
        let answer = Answer::of(answer).await;
        answer.assert_problem(400, "invalid_header");
        assert_eq!(answer.body["header"], "Idempotency-Key");
    }
    let twice = request(&server, &one_row("A2")).header("Idempotency-Key", "a").header("Idempotency-Key", "b");
    Answer::of(twice.send().await.unwrap()).await.assert_problem(400, "invalid_header");
    assert_eq!(uploads(&server).await, 1);
}

#[tokio::test]
async fn an_upload_that_failed_frees_its_key_and_one_that_landed_keeps_it_whatever_the_catalogue_says() {
    let server = server().await;
    let landed = send(&server, &one_row("A1"), "landed").await;
    let id: UploadId = landed.body["id"].as_str().unwrap().parse().unwrap();
    // As a crash between the commit and the catalogue leaves it.
    server.catalog.set_upload_status(&id, UploadStatus::Committing, None).await.unwrap();
    let lost = async |server: &TestServer, key: &str| {
        let project = "kitobo".parse().unwrap();
        let mut record =
            UploadRecord::starting(vec![project], "05_2024_a".into(), "f.csv".into(), server.admin.key.prefix.clone());
        record.sha256 = key.to_owned();
        let key_prefix = server.admin.key.prefix.clone();
        let key = RequestKey { key_prefix, key: key.parse().unwrap(), request_sha256: "5a".into() };
        server.catalog.insert_upload_with_key(&record, Some(&key)).await.unwrap();
    };
    lost(&server, "lost").await;
    let server = server.restarted().await;
    let again = send(&server, &one_row("A1"), "landed").await;
    assert_eq!(
        (again.status.as_u16(), &again.body["id"], &again.body["status"]),
        (201, &landed.body["id"], &json!("committed"))
    );
    assert_replayed(&again, true);
    let answer = send(&server, &one_row("A2"), "lost").await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_replayed(&answer, false);
    // Left by a failure while the server runs, it is settled when its key comes again.
    lost(&server, "lost-2").await;
    assert_eq!(send(&server, &one_row("A3"), "lost-2").await.status, 201);
}

#[tokio::test]
async fn the_key_of_a_deleted_upload_still_has_its_answer() {
    let server = server().await;
    let first = send(&server, &one_row("A1"), "k-1").await;
    let path = format!("/v1/uploads/{}", first.body["id"].as_str().unwrap());
    assert_eq!(server.admin().delete(&path).await.status, 200);
    let again = send(&server, &one_row("A1"), "k-1").await;
    assert_eq!(
        (again.status.as_u16(), &again.body["id"], &again.body["status"]),
        (201, &first.body["id"], &json!("deleted"))
    );
    assert_replayed(&again, true);
    assert_eq!(server.admin().figures("revenue_per_site", "revenue").await, [""; 0]);
}

#[tokio::test]
async fn the_commit_itself_holds_the_key() {
    let server = server().await;
    send(&server, &one_row("A1"), "k-1").await;
    let log = std::fs::read_to_string(server.lake.root().join("_delta_log/00000000000000000001.json")).unwrap();
    let info = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["commitInfo"].clone());
    let info = info.into_iter().find(Value::is_object).unwrap();
    assert_eq!(
        (&info["wattlake.idempotency_key"], &info["wattlake.key_prefix"]),
        (&json!("k-1"), &json!(server.admin.key.prefix))
    );
}
