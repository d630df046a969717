//! The commands that ask a server: the real command against a real server, and against one that is made to fail.

use std::{
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Json, Router,
    body::Bytes,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::IntoResponse,
};
use serde_json::{Value, json};

use crate::{
    harness::{TestServer, Upload, file, paid, row, stdout, wattlake},
    packed_uploads::{GZIP, pack},
};

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/samples").join(name).join("ELECTRICITY_PAYMENT.csv")
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What a command wrote to stderr, once it has ended with that code.
#[track_caller]
pub fn failed(output: &Output, code: i32) -> String {
    let told = text(&output.stderr).to_owned();
    assert_eq!(output.status.code(), Some(code), "{told}{}", text(&output.stdout));
    told
}

/// The one line of JSON that a failure is.
#[track_caller]
pub fn failed_in_json(output: &Output, code: i32) -> Value {
    let told = failed(output, code);
    assert_eq!(told.lines().count(), 1, "{told}");
    let error = serde_json::from_str::<Value>(&told).unwrap()["error"].clone();
    assert_eq!(error["exit_code"], code);
    assert!(error["kind"].is_string() && error["message"].is_string(), "{error}");
    error
}

/// Runs the command beside the server, which is in this process, so that neither waits for the other.
pub async fn ask(address: &str, key: &str, input: &[u8], arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = wattlake(folder.path(), arguments);
    command.env("WATTLAKE_SERVER", address).env("WATTLAKE_KEY", key);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_vec();
    let run = move || {
        let mut child = command.spawn().unwrap();
        // A command that does not read its input has closed it.
        let _ = child.stdin.take().unwrap().write_all(&input);
        child.wait_with_output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

pub async fn on(server: &TestServer, arguments: &[&str]) -> Output {
    ask(&server.address, &server.admin.secret, &[], arguments).await
}

fn ingest<'a>(file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["ingest", file, "--project", "kitobo", "--dataset-name", "12_2024_Kitobo"], more].concat()
}

pub async fn server_with_project() -> TestServer {
    let server = TestServer::start().await;
    server.admin().make_project("kitobo").await;
    server
}

#[tokio::test]
async fn a_file_lands_and_its_report_is_told_for_people_and_for_scripts() {
    let server = server_with_project().await;
    let good = sample("good");
    let good = good.to_str().unwrap();
    let dry = stdout(&on(&server, &ingest(good, &["--dry-run"])).await);
    assert!(dry.contains("all rows are good; this was a dry run, and nothing is kept"), "{dry}");
    let output = on(&server, &ingest(good, &[])).await;
    let told = stdout(&output);
    assert!(told.starts_with(&format!("{good}: landed as upl_")), "{told}");
    let counts = told.lines().nth(2).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(counts, ["10", "10", "10", "0", "0", "0"], "{told}");
    assert!(told.contains("Months: 2024-12"), "{told}");
    assert_eq!(text(&output.stderr), "", "no bar where no terminal is");

    let again: Value = serde_json::from_str(&stdout(&on(&server, &ingest(good, &["--json"])).await)).unwrap();
    assert_eq!((&again["file"], &again["already_uploaded"]), (&json!(good), &json!(true)));
    assert_eq!(again["counts"]["new"], 10);
    assert_eq!(stdout(&on(&server, &ingest(good, &["--quiet"])).await), "");
    assert_eq!(server.admin().get("/v1/uploads").await.body["uploads"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_refused_file_ends_with_1_and_each_mistake_is_named_by_line() {
    let server = server_with_project().await;
    let bad = sample("three_mistakes");
    let bad = bad.to_str().unwrap();
    let told = failed(&on(&server, &ingest(bad, &[])).await, 1);
    let first = told.lines().next().unwrap();
    assert!(first.starts_with(&format!("wattlake: {bad}: 3 of 10 rows are rejected")), "{told}");
    for (line, column, value) in
        [("4", "PAYMENT_AMOUNT", "250,50"), ("6", "METER_ID", ""), ("9", "TIMESTAMP", "31/12/2024")]
    {
        let found = told
            .lines()
            .any(|told| told.trim_start().starts_with(&format!("{line}  {column}")) && told.contains(value));
        assert!(found, "{line} {column}\n{told}");
    }
    assert!(told.contains("wattlake uploads rejected upl_"), "{told}");

    let error = failed_in_json(&on(&server, &ingest(bad, &["--json"])).await, 1);
    assert_eq!((&error["file"], &error["kind"]), (&json!(bad), &json!("rejected")));
    assert_eq!(error["problem"]["errors"].as_array().unwrap().len(), 3);

    let some = stdout(&on(&server, &ingest(bad, &["--on-error", "skip_rows"])).await);
    assert!(some.contains("landed as upl_") && some.contains("250,50"), "{some}");
}

#[tokio::test]
async fn each_kind_of_failure_has_its_exit_code_and_its_words() {
    let server = server_with_project().await;
    let good = sample("good");
    let good = good.to_str().unwrap();
    let told = failed(&on(&server, &["ingest", good, "--project", "hill", "--dataset-name", "x"]).await, 3);
    assert!(told.contains("there is no such project, or none that this key may see"), "{told}");
    let told = failed(&on(&server, &ingest("nowhere.csv", &[])).await, 3);
    assert!(told.starts_with("wattlake: nowhere.csv: cannot read the file: "), "{told}");
    let told = failed(&ask(&server.address, "wl_wrong", &[], &ingest(good, &[])).await, 5);
    assert!(told.contains("send a key that holds") && !told.contains("wl_wrong"), "{told}");
    let told = failed(&ask(&server.address, "", &[], &ingest(good, &[])).await, 5);
    assert!(told.starts_with("wattlake: a key is needed: WATTLAKE_KEY, --key-file or --key has it\n"), "{told}");
    failed(&on(&server, &ingest(good, &["--on-error", "sometimes"])).await, 2);
    failed(&on(&server, &ingest(good, &["--server", "127.0.0.1"])).await, 2);
    let error = failed_in_json(&on(&server, &["ingest", good, "--json"]).await, 2);
    assert!(error["message"].as_str().unwrap().starts_with("the following required arguments"), "{error}");

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{free}");
    let told = failed(&ask(&nobody, "wl_any", &[], &ingest(good, &[])).await, 6);
    assert!(told.contains(&format!("cannot reach a server at {nobody}/; --server or WATTLAKE_SERVER names")), "{told}");
    assert!(told.contains("refused") && !told.contains("does not land twice"), "{told}");
}

#[tokio::test]
async fn several_files_have_each_their_own_report_and_the_exit_code_of_the_worst() {
    let server = server_with_project().await;
    let (bad, good) = (sample("three_mistakes"), sample("good"));
    let (bad, good) = (bad.to_str().unwrap(), good.to_str().unwrap());
    let output = on(&server, &ingest(bad, &["absent.csv", good, "--json"])).await;
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let errors: Vec<Value> = text(&output.stderr).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<_> = errors.iter().map(|error| (&error["error"]["file"], &error["error"]["exit_code"])).collect();
    assert_eq!(told, [(&json!(bad), &json!(1)), (&json!("absent.csv"), &json!(3))]);
    let landed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&landed["file"], &landed["status"]), (&json!(good), &json!("committed")));

    let told = failed(&ask(&server.address, "wl_wrong", &[], &ingest(good, &[bad])).await, 5);
    assert!(told.contains("1 more files were not sent"), "what fails for one fails for all: {told}");
}

#[tokio::test]
async fn standard_input_is_a_file_too() {
    let server = server_with_project().await;
    let input = file(&[row("A1", "5"), row("A2", "7")]);
    let output = ask(&server.address, &server.admin.secret, &input, &ingest("-", &["--json"])).await;
    let landed: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&landed["counts"]["new"], &landed["file"]), (&json!(2), &json!("-")));
    let kept = server.admin().get(&format!("/v1/uploads/{}/file", landed["id"].as_str().unwrap())).await;
    assert_eq!(kept.text.as_bytes(), input);

    let packed = pack(GZIP, &file(&[row("A3", "5")])).await;
    let output = ask(&server.address, &server.admin.secret, &packed, &ingest("-", &["--json"])).await;
    let landed: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!((&landed["counts"]["new"], &landed["file_name"]), (&json!(1), &json!(GZIP)));
}

#[tokio::test]
async fn a_large_file_that_is_refused_before_it_is_sent_is_told_why() {
    let server = server_with_project().await;
    let strict = TestServer::with(|config| config.upload.max_bytes = 1 << 20).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ELECTRICITY_PAYMENT.csv");
    std::fs::write(&path, vec![b'\n'; 30 << 20]).unwrap();
    let path = path.to_str().unwrap();
    let told = failed(&on(&strict, &ingest(path, &[])).await, 2);
    assert!(told.contains("1048576"), "{told}");
    failed(&ask(&server.address, "wl_wrong", &[], &ingest(path, &[])).await, 5);
    failed(&on(&server, &["ingest", path, "--project", "hill", "--dataset-name", "x"]).await, 3);
    failed(&on(&server, &["ingest", path, "--project", "kitobo", "--dataset-name", "a\u{7}b"]).await, 2);
}

/// A request as a [`Scripted`] server saw it.
#[derive(Clone)]
struct Seen {
    method: Method,
    path: String,
    idempotency_key: String,
    body: Bytes,
}

/// A server that answers what it is told to, in turn, and the last for ever.
struct Scripted {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Scripted {
    async fn answering(answers: Vec<(u16, Value)>) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (kept, turn) = (seen.clone(), AtomicUsize::new(0));
        let answer = async move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let idempotency_key =
                headers.get("idempotency-key").map_or(String::new(), |key| key.to_str().unwrap().to_owned());
            kept.lock().unwrap().push(Seen { method, path: uri.path().to_owned(), idempotency_key, body });
            let (status, body) = answers[turn.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1)].clone();
            (StatusCode::from_u16(status).unwrap(), [("retry-after", "0")], Json(body)).into_response()
        };
        let answer = Arc::new(answer);
        let router = Router::new().fallback(move |method, uri, headers, body| {
            let answer = answer.clone();
            async move { answer(method, uri, headers, body).await }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { address, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn landed() -> Value {
    json!({"id": "upl_x", "status": "committed", "lake_version": 3, "months": ["2024-12"], "warnings": [], "errors": [],
        "counts": {"read": 10, "accepted": 10, "new": 10, "corrected": 0, "duplicate": 0, "rejected": 0}})
}

fn problem(status: u16) -> (u16, Value) {
    (status, json!({"type": "/problems/x", "title": "x", "status": status, "detail": "come again"}))
}

#[tokio::test]
async fn a_file_is_sent_again_whole_and_under_the_same_key_when_a_server_is_busy() {
    let server = Scripted::answering(vec![problem(429), problem(503), (201, landed())]).await;
    let good = sample("good");
    let told = stdout(&ask(&server.address, "wl_k", &[], &ingest(good.to_str().unwrap(), &[])).await);
    assert!(told.contains("landed as upl_x, in version 3 of the lake"), "{told}");
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    let whole = std::fs::read(&good).unwrap();
    assert!(seen.iter().all(|seen| seen.body == whole && seen.method == Method::POST && seen.path == "/v1/uploads"));
    assert!(seen[0].idempotency_key.len() >= 32, "{:?}", seen[0].idempotency_key);
    assert!(seen.iter().all(|request| request.idempotency_key == seen[0].idempotency_key));
    let own = ingest(good.to_str().unwrap(), &["--idempotency-key", "mine"]);
    stdout(&ask(&server.address, "wl_k", &[], &own).await);
    assert_eq!(server.seen()[3].idempotency_key, "mine");
}

#[tokio::test]
async fn a_server_that_stays_busy_is_given_up_and_standard_input_is_sent_once() {
    let server = Scripted::answering(vec![problem(429)]).await;
    let good = sample("good");
    let told = failed(&ask(&server.address, "wl_k", &[], &ingest(good.to_str().unwrap(), &[])).await, 6);
    assert!(told.starts_with(&format!("wattlake: {}: come again\n", good.display())), "{told}");
    assert_eq!(server.seen().len(), 4);
    failed(&ask(&server.address, "wl_k", b"x", &ingest("-", &[])).await, 6);
    assert_eq!(server.seen().len(), 5);
}

#[tokio::test]
async fn a_connection_that_breaks_off_once_bytes_were_sent_is_not_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = accepted.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            count.fetch_add(1, Ordering::Relaxed);
            std::io::Read::read(&mut stream.unwrap(), &mut [0; 100]).unwrap();
        }
    });
    let told = failed(&ask(&address, "wl_k", &[], &ingest(sample("good").to_str().unwrap(), &[])).await, 6);
    assert!(told.contains("broke off") && told.contains("does not land twice"), "{told}");
    assert_eq!(accepted.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_https_address_is_spoken_to_in_tls_and_a_redirect_is_not_followed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let first = std::thread::spawn(move || {
        let mut byte = [0];
        std::io::Read::read_exact(&mut listener.accept().unwrap().0, &mut byte).unwrap();
        byte[0]
    });
    failed(&ask(&address, "wl_k", &[], &["query"]).await, 6);
    assert_eq!(first.join().unwrap(), 0x16, "a handshake");

    let server = Scripted::answering(vec![(308, json!({}))]).await;
    failed(&ask(&server.address, "wl_k", &[], &["query"]).await, 2);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn uploads_are_deleted_and_restored_by_what_the_api_says() {
    let server = Scripted::answering(vec![(200, landed())]).await;
    let (one, two) = (format!("upl_{}", "a".repeat(32)), format!("upl_{}", "b".repeat(32)));
    let told = failed(&ask(&server.address, "wl_k", b"y\n", &["uploads", "delete", &one]).await, 2);
    assert!(told.contains("--yes"), "only a person at a terminal is asked: {told}");
    assert_eq!(server.seen().len(), 0);
    let output = ask(&server.address, "wl_k", &[], &["uploads", "delete", &one, "--yes"]).await;
    assert_eq!(stdout(&output), format!("{one} is deleted\n"));
    stdout(&ask(&server.address, "wl_k", &[], &["uploads", "delete", &one, &two, "--yes"]).await);
    let output = ask(&server.address, "wl_k", &[], &["uploads", "restore", &one]).await;
    assert_eq!(stdout(&output), format!("{one} is restored\n"));
    let seen = server.seen();
    let requests: Vec<_> = seen.iter().map(|seen| format!("{} {}", seen.method, seen.path)).collect();
    let (delete, restore) = (format!("DELETE /v1/uploads/{one}"), format!("POST /v1/uploads/{one}/restore"));
    assert_eq!(requests, [delete.as_str(), "POST /v1/uploads/delete", restore.as_str()]);
    assert_eq!(serde_json::from_slice::<Value>(&seen[1].body).unwrap(), json!({"uploads": [one, two]}));
}

#[tokio::test]
async fn deleted_uploads_leave_the_figures_and_come_back() {
    let server = server_with_project().await;
    let admin = server.admin();
    let first = admin.commit(&Upload::new("kitobo", file(&[row("A1", "5")]))).await;
    let second = admin.commit(&Upload::new("kitobo", file(&[row("A2", "7")]))).await;
    let (first, second) = (first["id"].as_str().unwrap(), second["id"].as_str().unwrap());
    let revenue = || admin.figures("revenue_per_site?project=kitobo", "revenue");
    assert_eq!(revenue().await, ["12.0000"]);
    let deleted = stdout(&on(&server, &["uploads", "delete", first, "--yes", "--json"]).await);
    assert_eq!(serde_json::from_str::<Value>(&deleted).unwrap()["status"], "deleted");
    assert_eq!(revenue().await, ["7.0000"]);
    stdout(&on(&server, &["uploads", "restore", first]).await);
    assert_eq!(revenue().await, ["12.0000"]);
    let told = stdout(&on(&server, &["uploads", "delete", first, second, "--yes"]).await);
    assert_eq!(told, format!("{first} is deleted\n{second} is deleted\n"));
    assert_eq!(revenue().await.len(), 0);
    let absent = format!("upl_{}", "0".repeat(32));
    failed(&on(&server, &["uploads", "restore", &absent]).await, 3);
}

#[tokio::test]
async fn uploads_are_listed_shown_and_fetched_byte_for_byte() {
    let server = server_with_project().await;
    let admin = server.admin();
    let original = file(&[row("A1", "5"), paid("A2", "31/12/2024", "7", "SUCCESS")]);
    let upload = admin.commit(&Upload::new("kitobo", original.clone()).with("on_error", "skip_rows")).await;
    admin.commit(&Upload::new("kitobo", file(&[row("B1", "5")]))).await;
    let id = upload["id"].as_str().unwrap();

    let list = stdout(&on(&server, &["uploads", "list", "--project", "kitobo"]).await);
    let lines: Vec<_> = list.lines().collect();
    assert_eq!(lines.len(), 3, "{list}");
    assert!(lines[0].starts_with("ID") && lines[2].starts_with(id) && lines[2].contains("committed"), "{list}");
    let newest = on(&server, &["uploads", "list", "--limit", "1"]).await;
    assert_eq!(stdout(&newest).lines().count(), 2);
    assert_eq!(text(&newest.stderr), "wattlake: there are older uploads; --limit shows more\n");
    let list: Value = serde_json::from_str(&stdout(&on(&server, &["uploads", "list", "--json"]).await)).unwrap();
    assert_eq!((&list["uploads"][1]["id"], &list["next_cursor"]), (&json!(id), &Value::Null));

    let show = stdout(&on(&server, &["uploads", "show", id]).await);
    assert!(show.contains("05_2024_Kitobo") && show.contains("31/12/2024"), "{show}");
    let show: Value = serde_json::from_str(&stdout(&on(&server, &["uploads", "show", id, "--json"]).await)).unwrap();
    assert_eq!(show, admin.get(&format!("/v1/uploads/{id}")).await.body);

    let output = on(&server, &["uploads", "file", id]).await;
    assert!(output.status.success() && output.stdout == original);
    let kept = server.folder.path().join("kept.csv");
    stdout(&on(&server, &["uploads", "file", id, "--output", kept.to_str().unwrap()]).await);
    assert_eq!(std::fs::read(kept).unwrap(), original);
    let rejected = admin.get(&format!("/v1/uploads/{id}/rejected.csv")).await.text;
    assert_eq!(stdout(&on(&server, &["uploads", "rejected", id]).await), rejected);

    failed(&on(&server, &["uploads", "show", &format!("upl_{}", "0".repeat(32))]).await, 3);
    failed(&on(&server, &["uploads", "show", "../keys"]).await, 2);
}

#[tokio::test]
async fn a_metric_is_asked_for_in_each_form() {
    let server = server_with_project().await;
    let admin = server.admin();
    admin.commit(&Upload::new("kitobo", file(&[row("A1", "1000000000.25"), row("A2", "7")]))).await;
    let query = ["query", "revenue_per_site", "--project", "kitobo"];
    let with = |more: &[&'static str]| [&query, more].concat();

    let table = stdout(&on(&server, &with(&["--format", "table", "order=-revenue"])).await);
    let lines: Vec<_> = table.lines().collect();
    assert!(lines.len() == 2 && lines[0].starts_with("project"), "{table}");
    assert!(lines[1].contains("1000000007.2500"), "{table}");
    let csv = admin.get("/v1/metrics/revenue_per_site?project=kitobo&format=csv").await.text;
    assert_eq!(stdout(&on(&server, &query).await), csv, "a pipe gets CSV");
    let json: Value = serde_json::from_str(&stdout(&on(&server, &with(&["--json"])).await)).unwrap();
    assert_eq!(json["metric"], "revenue_per_site");
    let path = server.folder.path().join("answer.parquet");
    let path = path.to_str().unwrap();
    stdout(&on(&server, &[&query[..], &["--output", path]].concat()).await);
    assert!(std::fs::read(path).unwrap().starts_with(b"PAR1"), "by its name");

    failed(&on(&server, &with(&["--output", "no/such/folder/a.csv"])).await, 2);
    let told = failed(&on(&server, &with(&["--grain", "day"])).await, 2);
    assert!(told.contains("grain") && told.contains("revenue_per_site takes"), "{told}");
    let told = failed(&on(&server, &["query", "revenue_per_sites"]).await, 3);
    assert!(told.contains("did you mean revenue_per_site?") && told.contains("source_mix"), "{told}");
    let told = failed(&on(&server, &["query", "revenue_per_site", "limits=3"]).await, 2);
    assert!(told.contains("limit"), "{told}");
    failed(&on(&server, &["query", "grain=month"]).await, 2);
    failed(&on(&server, &["query", ".."]).await, 3);
}

#[tokio::test]
async fn without_a_metric_all_are_listed() {
    let server = server_with_project().await;
    let list = stdout(&on(&server, &["query"]).await);
    assert!(list.starts_with("METRIC") && list.contains("\nrevenue_per_site ") && list.contains("Source"), "{list}");
    let list: Value = serde_json::from_str(&stdout(&on(&server, &["query", "--json"]).await)).unwrap();
    assert_eq!(list, server.admin().get("/v1/metrics").await.body);
}

#[tokio::test]
async fn what_the_limit_left_out_is_said_beside_the_answer() {
    let server = server_with_project().await;
    let rows = [paid("A1", "2024-05-03T10:00:00", "5", "SUCCESS"), paid("A2", "2024-06-03T10:00:00", "5", "SUCCESS")];
    server.admin().commit(&Upload::new("kitobo", file(&rows))).await;
    for form in ["table", "csv"] {
        let output = on(&server, &["query", "revenue_over_time", "limit=1", "--format", form]).await;
        assert_eq!(stdout(&output).lines().count(), 2);
        assert!(text(&output.stderr).contains("limit"), "{}", text(&output.stderr));
    }
}

#[tokio::test]
async fn every_command_tells_a_failure_in_json_where_it_is_asked_to() {
    let server = server_with_project().await;
    for (arguments, code) in [
        (&["keys", "revoke", "aaaaaaaa", "--data-dir", ".", "--json"][..], 3),
        (&["projects", "list", "--json", "--data-dir", "nowhere"], 3),
        (&["serve", "--json", "--query-timeout-s", "0"], 2),
        (&["demo", "--json", "--listen", "nowhere"], 2),
        (&["query", "nothing", "--json"], 3),
        (&["--json", "uploads", "list", "--status", "odd"], 2),
        (&["no-such-command", "--json"], 2),
    ] {
        failed_in_json(&on(&server, arguments).await, code);
    }
}
