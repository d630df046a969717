//! `/v1/uploads`: the ways in, what is kept and what is not, and what a restart finds.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use reqwest::{Body, Method};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::harness::{Admin, Answer, TestServer, Upload, counts, file, paid, row};

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.admin().make_project("kitobo").await;
    server
}

fn two_rows() -> Vec<u8> {
    file(&[row("A1", "100.00"), row("A2", "50.50")])
}

/// Every file below a folder with its size, the catalogue aside: it notes when a key was used.
fn files(folder: &Path) -> BTreeSet<(PathBuf, u64)> {
    let (mut folders, mut found) = (vec![folder.to_owned()], BTreeSet::new());
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if !entry.file_name().to_str().unwrap().starts_with("catalog.sqlite") {
                found.insert((entry.path(), entry.metadata().unwrap().len()));
            }
        }
    }
    found
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

/// Waits until nothing temporary is left. What an upload leaves is cleared away beside its answer, not before it.
async fn settled(server: &TestServer) {
    for _ in 0..200 {
        if entries(&server.folder.path().join("tmp")) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Asserts that nothing of an upload was kept.
async fn assert_nothing_kept(server: &TestServer) {
    let folder = server.folder.path();
    settled(server).await;
    assert_eq!((entries(&folder.join("tmp")), entries(&folder.join("uploads"))), (0, 0));
    assert_eq!(server.admin().get("/v1/uploads").await.body["uploads"], json!([]));
    assert_eq!(server.admin().lake_version().await, 0);
}

async fn put(admin: &Admin<'_>, parameters: &str, body: impl Into<Body>) -> Answer {
    let request = admin.request(Method::PUT, &format!("/v1/uploads?{parameters}")).body(body);
    Answer::of(request.send().await.unwrap()).await
}

const PLAIN: &str = "project=kitobo&dataset_name=05_2024_Kitobo";

#[tokio::test]
async fn an_upload_answers_with_its_record_where_its_location_says() {
    let server = server().await;
    let admin = server.admin();
    let upload = Upload::new("kitobo", two_rows());
    let made = admin.upload(&upload).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let id = made.body["id"].as_str().unwrap();
    assert_eq!(made.header("location"), format!("/v1/uploads/{id}"));
    assert_eq!(counts(&made.body), [2, 2, 0, 0, 0]);
    let expected = json!({"status": "committed", "projects": ["kitobo"], "dataset_name": "05_2024_Kitobo", "lake_version": 1,
        "dataset_type": "electricity_payments", "data_provider": "user", "on_error": "reject_file", "warnings": [],
        "months": ["2024-05"], "bytes": upload.file.len(), "sha256": hex::encode(Sha256::digest(&upload.file))});
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&made.body[name], value, "{name}");
    }
    assert_eq!(admin.get(made.header("location")).await.body, made.body);
    let original = admin.get(&format!("/v1/uploads/{id}/file")).await;
    assert_eq!(original.text.as_bytes(), upload.file);
    assert_eq!(original.header("content-disposition"), "attachment; filename=\"ELECTRICITY_PAYMENT.csv\"");
    admin.get(&format!("/v1/uploads/{id}/rejected.csv")).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn curl_uploads_as_a_form_and_as_a_plain_body() {
    let server = server().await;
    let path = server.folder.path().join("ELECTRICITY_PAYMENT.csv");
    let key = format!("Authorization: Bearer {}", server.admin.secret);
    let curl = async |amount: &str, arguments: &[&str]| {
        std::fs::write(&path, file(&[row(&format!("A{amount}"), amount)])).unwrap();
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail-with-body", "-H", &key]).args(arguments).current_dir(server.folder.path());
        let output = tokio::task::spawn_blocking(move || command.output().expect("curl is installed")).await.unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{answer}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    let url = format!("{}/v1/uploads", server.address);
    let form = ["-F", "project=kitobo", "-F", "dataset_name=a", "-F", "file=@ELECTRICITY_PAYMENT.csv", &url];
    assert_eq!(counts(&curl("1", &form).await), [1, 1, 0, 0, 0]);
    let plain = format!("{url}?{PLAIN}");
    assert_eq!(counts(&curl("2", &["-T", "ELECTRICITY_PAYMENT.csv", &plain]).await), [1, 1, 0, 0, 0]);
    let posted = ["--data-binary", "@ELECTRICITY_PAYMENT.csv", "-H", "Content-Type: text/csv", &plain];
    assert_eq!(counts(&curl("4", &posted).await), [1, 1, 0, 0, 0]);
    assert_eq!(server.admin().figures("revenue_per_site", "revenue").await, ["7.0000"]);
}

#[tokio::test]
async fn a_dry_run_gives_the_same_report_and_writes_nothing() {
    let server = server().await;
    let admin = server.admin();
    admin.commit(&Upload::new("kitobo", two_rows())).await;
    let next =
        [row("A1", "100.00"), row("A2", "60.00"), paid("A3", "2024-06-01T00:00:00", "7", "MAYBE"), row("A4", "x")];
    let before = files(server.folder.path());
    for on_error in ["skip_rows", "reject_file"] {
        let upload = Upload::new("kitobo", file(&next)).with("on_error", on_error);
        let dry = admin.upload(&upload.clone().with("dry_run", "true")).await;
        settled(&server).await;
        assert_eq!(files(server.folder.path()), before, "{on_error}");
        assert_eq!(admin.get("/v1/uploads").await.body["uploads"].as_array().unwrap().len(), 1);
        assert_eq!(admin.lake_version().await, 1);
        assert_eq!(counts(&dry.body), [4, 1, 1, 1, 1]);
        assert!(dry.body["upload_id"].is_null() && dry.body["id"].is_null(), "{}", dry.text);
        if on_error == "reject_file" {
            dry.assert_problem(422, "upload_rejected");
            let real = admin.upload(&upload).await;
            for name in ["counts", "errors", "warnings", "detail", "sha256"] {
                assert_eq!(dry.body[name], real.body[name], "{name}");
            }
        } else {
            assert_eq!((dry.status.as_u16(), &dry.body["status"]), (200, &json!("checked")));
            // The real one on a folder of its own, so that the second round finds what the first did.
            let other = self::server().await;
            other.admin().commit(&Upload::new("kitobo", two_rows())).await;
            let real = other.admin().commit(&upload).await;
            for name in ["counts", "errors", "warnings", "months", "sha256", "bytes"] {
                assert_eq!(dry.body[name], real[name], "{name}");
            }
        }
    }
}

#[tokio::test]
async fn a_file_without_a_good_row_is_refused_even_where_bad_rows_may_be_skipped() {
    let server = server().await;
    let upload = Upload::new("kitobo", file(&[row("A1", "x"), row("A2", "y")])).with("on_error", "skip_rows");
    let answer = server.admin().upload(&upload).await;
    answer.assert_problem(422, "upload_rejected");
    assert_eq!(counts(&answer.body), [2, 0, 0, 0, 2]);
    assert_eq!(server.admin().lake_version().await, 0);
}

#[tokio::test]
async fn the_same_bytes_again_answer_with_the_first_upload_and_write_nothing() {
    let server = server().await;
    let admin = server.admin();
    let upload = Upload::new("kitobo", two_rows());
    let mut first = admin.commit(&upload).await;
    let before = files(server.folder.path());
    let again = admin.upload(&upload.clone().with("dataset_name", "another name")).await;
    first["already_uploaded"] = json!(true);
    assert_eq!((again.status.as_u16(), &again.body), (200, &first));
    assert_eq!(put(&admin, PLAIN, upload.file.clone()).await.body, first);
    settled(&server).await;
    assert_eq!(files(server.folder.path()), before);
    assert_eq!(admin.lake_version().await, 1);
    admin.make_project("lolwe").await;
    let elsewhere = admin.commit(&upload.with("project", "lolwe")).await;
    assert_ne!(elsewhere["id"], first["id"], "another project is another upload");
}

#[tokio::test]
async fn the_same_file_twice_at_once_lands_once() {
    let server = server().await;
    let (one, other) = (server.admin(), server.admin());
    for round in 1..=5 {
        let rows: Vec<_> = (0..500).map(|n| row(&format!("R{round}-{n}"), "1")).collect();
        let upload = Upload::new("kitobo", file(&rows));
        let (a, b) = tokio::join!(one.upload(&upload), other.upload(&upload));
        assert_eq!(BTreeSet::from([a.status.as_u16(), b.status.as_u16()]), BTreeSet::from([200, 201]), "{}", b.text);
        assert_eq!((&a.body["id"], &a.body["lake_version"]), (&b.body["id"], &b.body["lake_version"]));
        assert_eq!(one.lake_version().await, round);
        assert_eq!(entries(&server.folder.path().join("uploads")) as u64, round);
    }
}

#[tokio::test]
async fn different_uploads_at_once_all_land_and_an_id_counts_once() {
    let server = TestServer::with(|config| config.upload.concurrency = 8).await;
    let admin = server.admin();
    admin.make_project("kitobo").await;
    let uploads: Vec<_> = (0..8)
        .map(|n| {
            Upload::new("kitobo", file(&[row("shared", "1"), row(&format!("own{n}"), "10"), row("A", &n.to_string())]))
        })
        .collect();
    let answers = futures::future::join_all(uploads.iter().map(|upload| admin.upload(upload))).await;
    let sum = answers
        .iter()
        .map(|answer| counts(&answer.body))
        .fold([0; 5], |sum, counts| std::array::from_fn(|index| sum[index] + counts[index]));
    assert_eq!(sum, [24, 10, 7, 7, 0]);
    let versions: BTreeSet<_> = answers.iter().map(|answer| answer.body["lake_version"].as_u64().unwrap()).collect();
    assert_eq!(versions, (1..=8).collect());
    let last = answers.iter().enumerate().max_by_key(|(_, answer)| answer.body["lake_version"].as_u64()).unwrap().0;
    assert_eq!(admin.figures("revenue_per_site", "revenue payments").await, [format!("{}.0000 10", 81 + last)]);
}

#[tokio::test]
async fn a_part_after_the_file_is_refused_and_nothing_is_kept() {
    let server = server().await;
    let admin = server.admin();
    let upload = Upload::new("kitobo", two_rows());
    for late in ["dry_run", "file"] {
        let form = upload.fields().part("file", upload.part()).text(late, "true");
        let answer = Answer::of(admin.request(Method::POST, "/v1/uploads").multipart(form).send().await.unwrap()).await;
        answer.assert_problem(400, "invalid_parameter");
        assert_eq!(answer.body["parameter"], late);
        assert!(answer.body["detail"].as_str().unwrap().contains("the file is the last part"), "{}", answer.text);
    }
    assert_nothing_kept(&server).await;
}

#[tokio::test]
async fn what_follows_a_form_is_passed_over_and_has_a_limit() {
    let server = server().await;
    let send = async |after: usize| {
        let part =
            |name: &str, more: &str| format!("--b0\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n");
        let fields = part("project", "") + "kitobo\r\n" + &part("dataset_name", "") + "d\r\n";
        let file = part("file", "; filename=\"ELECTRICITY_PAYMENT.csv\"");
        let body = [fields.as_bytes(), file.as_bytes(), &two_rows(), b"\r\n--b0--\r\n", &vec![b'x'; after]].concat();
        let request = server.admin().request(Method::POST, "/v1/uploads");
        let request = request.header("content-type", "multipart/form-data; boundary=b0").body(body);
        Answer::of(request.send().await.unwrap()).await
    };
    send(2_000_000).await.assert_problem(413, "form_too_large");
    assert_nothing_kept(&server).await;
    assert_eq!(counts(&send(100).await.body), [2, 2, 0, 0, 0]);
}

#[tokio::test]
async fn missing_and_wrong_fields_are_named_with_what_is_right() {
    let server = server().await;
    let admin = server.admin();
    let upload = || Upload::new("kitobo", two_rows());
    let cases = [
        (upload().without("project"), "project", "missing"),
        (upload().without("dataset_name"), "dataset_name", "01_2024_Site Name"),
        (upload().with("dataset_nam", "x"), "dataset_nam", "did you mean dataset_name?"),
        (upload().with("on_eror", "skip_rows"), "on_eror", "did you mean on_error?"),
        (upload().with("on_error", "skip"), "on_error", "reject_file, skip_rows"),
        (upload().with("dry_run", "yes"), "dry_run", "true or false"),
        (upload().with("dataset_type", "payments"), "dataset_type", "electricity_payments"),
        (upload().with("data_provider", "me"), "data_provider", "user"),
        (upload().with("dataset_name", " "), "dataset_name", "1 to 200"),
        (upload().with("dataset_name", "a\nb"), "dataset_name", "control"),
        (upload().with("dataset_name", &"x".repeat(5000)), "dataset_name", "4096 bytes"),
    ];
    for (upload, name, told) in cases {
        let answer = admin.upload(&upload).await;
        answer.assert_problem(400, "invalid_parameter");
        assert_eq!(answer.body["parameter"], name);
        assert!(answer.body["detail"].as_str().unwrap().contains(told), "{}", answer.text);
    }
    let twice = upload().fields().text("project", "kitobo").part("file", upload().part());
    let without = upload().fields();
    for (form, name) in [(twice, "project"), (without, "file")] {
        let answer = Answer::of(admin.request(Method::POST, "/v1/uploads").multipart(form).send().await.unwrap()).await;
        answer.assert_problem(400, "invalid_parameter");
        assert_eq!(answer.body["parameter"], name);
    }
    put(&admin, "project=kitobo", two_rows()).await.assert_problem(400, "invalid_parameter");
    put(&admin, &format!("{PLAIN}&sheet=1"), two_rows()).await.assert_problem(400, "invalid_parameter");
    assert_nothing_kept(&server).await;
}

#[tokio::test]
async fn what_the_query_of_a_form_says_is_not_without_effect() {
    let server = server().await;
    let admin = server.admin();
    let send = async |query: &str, upload: Upload| {
        let form = upload.fields().part("file", upload.part());
        let request = admin.request(Method::POST, &format!("/v1/uploads?{query}")).multipart(form);
        Answer::of(request.send().await.unwrap()).await
    };
    let upload = Upload::new("kitobo", two_rows());
    let dry = send("dry_run=true&project=kitobo", upload.clone().without("project")).await;
    assert_eq!((dry.status.as_u16(), &dry.body["status"]), (200, &json!("checked")), "{}", dry.text);
    for (query, name) in [("sheet=1", "sheet"), ("project=kitobo", "project")] {
        let answer = send(query, upload.clone()).await;
        answer.assert_problem(400, "invalid_parameter");
        assert_eq!(answer.body["parameter"], name);
    }
    assert_nothing_kept(&server).await;
}

#[tokio::test]
async fn who_has_no_key_or_names_no_project_uploads_nothing() {
    let server = server().await;
    let url = format!("{}/v1/uploads?{PLAIN}", server.address);
    let refused = reqwest::Client::new().put(url).body(two_rows()).send().await.unwrap();
    Answer::of(refused).await.assert_problem(401, "unauthenticated");
    let absent = server.admin().upload(&Upload::new("lolwe", two_rows())).await;
    absent.assert_problem(404, "not_found");
    let no_slug = server.admin().upload(&Upload::new("No Slug", two_rows())).await;
    assert_eq!((no_slug.status, &no_slug.text), (absent.status, &absent.text));
    assert_nothing_kept(&server).await;
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_and_leaves_nothing() {
    let server = TestServer::with(|config| config.upload.max_bytes = 4096).await;
    let admin = server.admin();
    admin.make_project("kitobo").await;
    for size in [4097, 100_000, 20_000_000] {
        let mut large = two_rows();
        large.resize(size, b'\n');
        let answers = [admin.upload(&Upload::new("kitobo", large.clone())).await, put(&admin, PLAIN, large).await];
        for answer in answers {
            answer.assert_problem(413, "file_too_large");
            assert!(answer.body["detail"].as_str().unwrap().contains("4096"), "{}", answer.text);
        }
    }
    assert_nothing_kept(&server).await;
    let mut fits = two_rows();
    fits.resize(4096, b'\n');
    admin.commit(&Upload::new("kitobo", fits)).await;
}

#[tokio::test]
async fn more_uploads_at_once_than_allowed_are_told_to_come_again() {
    let server = TestServer::with(|config| config.upload.concurrency = 1).await;
    let admin = server.admin();
    admin.make_project("kitobo").await;
    let (chunks, queue) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = futures::stream::unfold(queue, async |mut queue| Some((queue.recv().await?, queue)));
    let slow = admin.request(Method::PUT, &format!("/v1/uploads?{PLAIN}")).body(Body::wrap_stream(body.boxed()));
    let slow = tokio::spawn(slow.send());
    let (start, rest) = (two_rows()[..50].to_vec(), two_rows()[50..].to_vec());
    chunks.send(Ok(start.into())).await.unwrap();
    while entries(&server.folder.path().join("tmp")) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let refused = admin.upload(&Upload::new("kitobo", file(&[row("B1", "1")]))).await;
    refused.assert_problem(429, "too_many_uploads");
    assert_eq!(refused.header("retry-after"), "1");
    chunks.send(Ok(rest.into())).await.unwrap();
    drop(chunks);
    let landed = Answer::of(slow.await.unwrap().unwrap()).await;
    assert_eq!(landed.status, 201, "{}", landed.text);
    admin.commit(&Upload::new("kitobo", file(&[row("B1", "1")]))).await;
}
