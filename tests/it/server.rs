//! What holds for every request: keys, problems, headers, limits, and a stop that loses nothing.

use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Answer, Process, TestServer, run, stdout};

/// Reads until the server closes, or for five seconds.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes))
        .await
        .expect("closed in time")
        .unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn no_key_a_wrong_one_and_a_revoked_one_answer_the_same() {
    let server = TestServer::start().await;
    let revoked = server.catalog.create_key(wattlake::catalog::KeyTerms::of_admin("old")).await.unwrap();
    server.catalog.revoke_key(&revoked.key.prefix).await.unwrap();
    let none = server.anonymous().get("/v1/projects").await;
    none.assert_problem(401, "unauthenticated");
    assert_eq!(none.header("www-authenticate"), "Bearer");
    let wrong = server.admin.secret.replace(|c: char| c.is_ascii_digit(), "f");
    for key in [format!("Bearer {}", revoked.secret), format!("Bearer {wrong}"), "Bearer".into(), "Basic abc".into()] {
        let refused = server.anonymous().get_with("/v1/projects", &key).await;
        assert_eq!((refused.status, &refused.text), (none.status, &none.text), "{key}");
    }
    let lower = server.anonymous().get_with("/v1/projects", &format!("bearer {}", server.admin.secret)).await;
    assert_eq!(lower.status, 200);
}

#[tokio::test]
async fn health_and_readiness_need_no_key() {
    let server = TestServer::start().await;
    assert_eq!(server.anonymous().get("/healthz").await.body["status"], "ok");
    assert_eq!(server.anonymous().get("/readyz").await.body["status"], "ready");
    server.catalog.close().await;
    assert_eq!(server.anonymous().get("/healthz").await.status, 200);
    let unready = server.anonymous().get("/readyz").await;
    unready.assert_problem(503, "unavailable");
    assert!(!unready.text.to_lowercase().contains("sql") && !unready.text.contains("pool"), "{}", unready.text);
}

#[tokio::test]
async fn unknown_paths_and_wrong_methods_are_problems_too() {
    let server = TestServer::start().await;
    server.anonymous().get("/v1/nothing").await.assert_problem(404, "unknown_route");
    let refused = server.admin().request(Method::DELETE, "/v1/projects").send().await.unwrap();
    let refused = Answer::of(refused).await;
    refused.assert_problem(405, "wrong_method");
    for method in ["GET", "POST"] {
        assert!(refused.header("allow").contains(method), "{}", refused.header("allow"));
    }
}

#[tokio::test]
async fn every_answer_has_a_request_id_and_the_callers_own_where_it_is_sane() {
    let server = TestServer::start().await;
    let ask = async |id: &str| {
        let request = server.admin().request(Method::GET, "/v1/projects").header("x-request-id", id);
        Answer::of(request.send().await.unwrap()).await
    };
    assert_eq!(ask("order-17.a_b").await.header("x-request-id"), "order-17.a_b");
    for insane in ["a b", "<script>", "", &"x".repeat(65)] {
        assert_eq!(ask(insane).await.header("x-request-id").len(), 32, "{insane}");
    }
    assert_eq!(server.anonymous().get("/nowhere").await.header("x-request-id").len(), 32);
}

#[tokio::test]
async fn answers_are_not_sniffed_stored_or_framed() {
    let server = TestServer::start().await;
    let answer = server.admin().get("/v1/projects").await;
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"));
}

#[tokio::test]
async fn text_is_packed_for_those_who_ask() {
    let server = TestServer::start().await;
    for slug in ["a", "b", "c"] {
        server.admin().make_project(slug).await;
    }
    for encoding in ["gzip", "zstd"] {
        let request = server.admin().request(Method::GET, "/v1/projects").header("accept-encoding", encoding);
        assert_eq!(request.send().await.unwrap().headers()["content-encoding"], encoding);
    }
    let plain = server.admin().get("/v1/projects").await;
    assert_eq!(plain.header("content-encoding"), "");
}

#[tokio::test]
async fn only_configured_origins_may_read_answers() {
    let server = TestServer::with(|config| config.http.cors_origins = vec!["https://a.org".into()]).await;
    let ask = async |origin: &str| {
        let request = server.admin().request(Method::GET, "/v1/projects").header("origin", origin);
        Answer::of(request.send().await.unwrap()).await.header("access-control-allow-origin").to_owned()
    };
    assert_eq!(ask("https://a.org").await, "https://a.org");
    assert_eq!(ask("https://b.org").await, "");
    let preflight = server.admin().request(Method::OPTIONS, "/v1/projects");
    let preflight = preflight.header("origin", "https://a.org").header("access-control-request-method", "POST");
    let preflight = Answer::of(preflight.send().await.unwrap()).await;
    assert_eq!(preflight.status, StatusCode::OK);
    assert!(preflight.header("access-control-allow-headers").contains("authorization"));

    let closed = TestServer::start().await;
    let request = closed.admin().request(Method::GET, "/v1/projects").header("origin", "https://a.org");
    assert!(!request.send().await.unwrap().headers().contains_key("access-control-allow-origin"));
    let options = closed.admin().request(Method::OPTIONS, "/v1/projects").send().await.unwrap();
    Answer::of(options).await.assert_problem(405, "wrong_method");
}

#[tokio::test]
async fn slow_headers_are_cut_off() {
    let server = TestServer::with(|config| config.http.header_timeout = Duration::from_millis(300)).await;
    let mut stream = TcpStream::connect(server.host()).await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    let started = Instant::now();
    read_to_end(&mut stream).await;
    assert!(started.elapsed() >= Duration::from_millis(250));
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up_with_a_reason() {
    let server = TestServer::with(|config| config.http.body_idle_timeout = Duration::from_secs(1)).await;
    let mut stream = TcpStream::connect(server.host()).await.unwrap();
    let head = format!(
        "POST /v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: 100\r\n\r\n{{",
        server.admin.secret
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("no byte of the body came for 1 seconds"), "{answer}");
}

#[tokio::test]
async fn headers_beyond_the_limit_are_431() {
    let server = TestServer::with(|config| config.http.max_header_bytes = 8 << 10).await;
    let mut stream = TcpStream::connect(server.host()).await.unwrap();
    let head = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    // The server may close before it has read all of it.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 431");
}

#[tokio::test]
async fn a_connection_beyond_the_limit_waits_for_a_place() {
    let server = TestServer::with(|config| config.http.max_connections = 1).await;
    let first = TcpStream::connect(server.host()).await.unwrap();
    let mut second = TcpStream::connect(server.host()).await.unwrap();
    second.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut start = [0; 12];
    let early = tokio::time::timeout(Duration::from_millis(300), second.read_exact(&mut start)).await;
    assert!(early.is_err(), "it was served beside the first");
    drop(first);
    assert!(read_to_end(&mut second).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_stop_lets_requests_under_way_end_and_takes_no_more() {
    let mut server = TestServer::start().await;
    let mut stream = TcpStream::connect(server.host()).await.unwrap();
    let body = json!({"slug": "late", "name": "Late", "kind": "shs", "currency": "TZS",
        "time_zone": "Africa/Dar_es_Salaam", "country": "TZ"})
    .to_string();
    let (early, late) = body.split_at(10);
    let head = format!(
        "POST /v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{early}",
        server.admin.secret,
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.begin_stop();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(TcpStream::connect(server.host()).await.is_err(), "a new connection was accepted");
    stream.write_all(late.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    server.stopped().await;
}

#[tokio::test]
async fn what_does_not_end_in_the_drain_timeout_is_cut_off() {
    let mut server = TestServer::with(|config| config.http.drain_timeout = Duration::from_millis(300)).await;
    let mut stream = TcpStream::connect(server.host()).await.unwrap();
    let head = "POST /v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ";
    let head =
        format!("{head}{}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{{", server.admin.secret);
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.begin_stop();
    tokio::time::timeout(Duration::from_secs(5), server.stopped()).await.expect("stopped in time");
}

#[test]
fn sigterm_and_sigint_end_the_process_with_0() {
    for signal in ["-TERM", "-INT"] {
        let folder = tempfile::tempdir().unwrap();
        let process = Process::serve(folder.path(), &[]);
        process.signal(signal);
        assert_eq!(process.wait(), Some(0), "{signal}");
    }
}

#[tokio::test]
async fn sigterm_lets_a_request_under_way_end_and_then_ends_with_0() {
    let folder = tempfile::tempdir().unwrap();
    let key = stdout(&run(folder.path(), &["keys", "create", "--role", "admin", "--name", "ops"]));
    let process = Process::serve(folder.path(), &[]);
    let mut stream = TcpStream::connect(process.address.trim_start_matches("http://")).await.unwrap();
    let body = crate::harness::project("late").to_string();
    let head = format!(
        "POST /v1/projects HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        key.trim(),
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    process.signal("-TERM");
    tokio::time::sleep(Duration::from_millis(200)).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(process.wait(), Some(0));
}

#[tokio::test]
async fn a_key_made_and_revoked_beside_a_running_server_holds_and_fails_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::serve(folder.path(), &[]);
    let made = stdout(&run(folder.path(), &["keys", "create", "--role", "admin", "--name", "ops", "--json"]));
    let made: serde_json::Value = serde_json::from_str(&made).unwrap();
    let ask = async || {
        let request = reqwest::Client::new().get(format!("{}/v1/projects", process.address));
        request.bearer_auth(made["key"].as_str().unwrap()).send().await.unwrap().status()
    };
    assert_eq!(ask().await, 200);
    stdout(&run(folder.path(), &["keys", "revoke", made["prefix"].as_str().unwrap()]));
    assert_eq!(ask().await, 401);
}

#[tokio::test]
async fn the_use_of_a_key_shows_in_the_list_of_keys() {
    let server = TestServer::start().await;
    assert_eq!(server.admin().get("/v1/projects").await.status, 200);
    let folder = server.folder.path();
    for _ in 0..50 {
        let list = stdout(&run(folder, &["keys", "list", "--json", "--data-dir", folder.to_str().unwrap()]));
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        if list[0]["last_used_at"].is_string() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the use was never noted");
}
