//! What holds for answers: their errors, their headers, their size, and the clients who do not read them.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Answer, TestServer, Upload, file, row};

#[tokio::test]
async fn a_path_that_is_not_text_is_absent_as_any_other() {
    let server = TestServer::start().await;
    for path in ["projects/%FF", "uploads/%FF", "uploads/%FF/file", "uploads/%FF/rejected.csv", "metrics/%FF"] {
        server.admin().get(&format!("/v1/{path}")).await.assert_problem(404, "not_found");
    }
}

#[tokio::test]
async fn a_parameter_is_refused_where_there_are_none() {
    let server = TestServer::start().await;
    server.admin().make_project("kitobo").await;
    let sent = Upload::new("kitobo", file(&[row("A1", "1"), row("A2", "x")])).with("on_error", "skip_rows");
    let sent = server.admin().commit(&sent).await;
    let upload = format!("uploads/{}", sent["id"].as_str().unwrap());
    for path in [
        "projects/kitobo",
        upload.as_str(),
        &format!("{upload}/file"),
        &format!("{upload}/rejected.csv"),
        "metrics",
        "dataset-types",
        "templates/ELECTRICITY_PAYMENT.csv",
    ] {
        let refused = server.admin().get(&format!("/v1/{path}?from=2024-05")).await;
        refused.assert_problem(400, "invalid_parameter");
        assert_eq!(refused.body["parameter"], "from", "{path}");
    }
    server
        .admin()
        .patch("/v1/projects/kitobo?dry_run=true", serde_json::json!({"name": "X"}))
        .await
        .assert_problem(400, "invalid_parameter");
    server
        .admin()
        .post("/v1/projects?dry_run=true", crate::harness::project("b"))
        .await
        .assert_problem(400, "invalid_parameter");
}

#[tokio::test]
async fn pages_may_read_the_headers_that_say_what_an_answer_is() {
    let server = TestServer::with(|config| config.http.cors_origins = vec!["https://a.org".into()]).await;
    let request = server.admin().request(Method::GET, "/v1/metrics/revenue_per_site").header("origin", "https://a.org");
    let answer = Answer::of(request.send().await.unwrap()).await;
    for header in ["x-wattlake-truncated", "content-disposition", "etag", "location", "retry-after", "x-request-id"] {
        let exposed = answer.header("access-control-expose-headers");
        assert!(exposed.split(',').any(|name| name == header), "{header} is not in {exposed}");
    }
}

#[tokio::test]
async fn head_answers_as_get_without_the_body() {
    let server = TestServer::start().await;
    for path in ["metrics/revenue_per_site", "metrics", "templates/ELECTRICITY_PAYMENT.csv", "projects"] {
        let path = format!("/v1/{path}");
        let got = server.admin().get(&path).await;
        let head = Answer::of(server.admin().request(Method::HEAD, &path).send().await.unwrap()).await;
        assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""), "{path}");
        for header in ["content-type", "content-length", "etag", "cache-control", "content-disposition"] {
            assert_eq!(head.header(header), got.header(header), "{path} {header}");
        }
    }
    let head = server.admin().request(Method::HEAD, "/v1/metrics/nothing").send().await.unwrap();
    assert_eq!(head.status(), 404);
}

#[tokio::test]
async fn a_packed_answer_is_known_again_by_its_own_etag() {
    let server = TestServer::start().await;
    let ask = async |method: Method, known: &str| {
        let request = server.admin().request(method, "/v1/metrics/revenue_per_site").header("accept-encoding", "gzip");
        request.header("if-none-match", known).send().await.unwrap()
    };
    let packed = ask(Method::GET, "\"other\"").await;
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let vary = packed.headers().get_all("vary").iter().map(|value| value.to_str().unwrap().to_lowercase());
    let vary = vary.collect::<Vec<_>>().join(",");
    assert!(["accept-encoding", "authorization", "accept"].iter().all(|name| vary.contains(name)), "{vary}");
    let etag = packed.headers()["etag"].to_str().unwrap().to_owned();
    assert!(etag.starts_with("W/\""), "other bytes than those without packing: {etag}");
    for method in [Method::GET, Method::HEAD] {
        let unchanged = ask(method, &etag).await;
        assert_eq!(unchanged.status(), StatusCode::NOT_MODIFIED);
        assert!(!unchanged.headers().contains_key("content-encoding"));
        assert_eq!(unchanged.text().await.unwrap(), "");
    }
    let plain = server.admin().get("/v1/metrics/revenue_per_site").await;
    assert_eq!(format!("W/{}", plain.header("etag")), etag, "the same figures");
}

#[tokio::test]
async fn a_period_that_ends_before_it_begins_is_refused_in_the_projects_own_zone() {
    let server = TestServer::start().await;
    server.admin().make_project("kitobo").await;
    let ask = async |from: &str, to: &str, more: &str| {
        server.admin().get(&format!("/v1/metrics/revenue_over_time?from={from}&to={to}{more}")).await
    };
    // The second of May begins in Nairobi when it is 21:00 of the first in UTC.
    assert_eq!(ask("2024-05-02", "2024-05-01T22:00:00Z", "").await.status, 200);
    for (from, to, zone) in [
        ("2024-05-01T22:00:00Z", "2024-05-02", ""),
        ("2024-05-02", "2024-05-01T22:00:00Z", "&tz=UTC"),
        ("2024-05-02", "2024-05-02", ""),
        ("2024-05-02T00:00:00Z", "2024-05-02T00:00:00Z", ""),
    ] {
        let refused = ask(from, to, zone).await;
        refused.assert_problem(400, "invalid_parameter");
        assert_eq!(refused.body["parameter"], "to", "{from} {to} {zone}");
    }
}

#[tokio::test]
async fn an_answer_beyond_the_limit_on_bytes_is_refused_and_names_the_setting() {
    let server = TestServer::with(|config| config.query.max_answer_bytes = 200).await;
    let refused = server.admin().get("/v1/metrics/revenue_per_site").await;
    refused.assert_problem(422, "answer_too_large");
    assert!(refused.body["detail"].as_str().unwrap().contains("200 bytes, the server's query.max_answer_bytes"));
    let short = server.admin().get("/v1/metrics/revenue_per_site?format=csv").await;
    assert_eq!(short.status, StatusCode::OK, "the limit is on what was asked for");
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_is_let_go() {
    let server = TestServer::with(|config| config.http.send_idle_timeout = Duration::from_secs(1)).await;
    let mut stream = TcpStream::connect(server.host()).await.unwrap();
    let key = &server.admin.secret;
    // Many more answers than the buffers between the two hold.
    let asked = format!("GET /v1/metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n").repeat(4000);
    // The server may have stopped reading, too.
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(asked.as_bytes())).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut answers = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answers)).await;
    assert!(ended.is_ok(), "the connection is open after {} bytes", answers.len());
}
