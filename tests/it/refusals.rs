//! What is refused, and what is said about it, beyond the rows of a file.

use std::time::Duration;

use reqwest::{
    Method,
    multipart::{Form, Part},
};

use crate::harness::{Answer, TestServer};

/// More than the pieces that wait between the form's reader and the check.
const LARGE: usize = 4 << 20;
/// After this a test is taken to hang.
const PATIENCE: Duration = Duration::from_mins(1);

fn file() -> Part {
    Part::bytes(vec![b'x'; LARGE]).file_name("ELECTRICITY_PAYMENT.csv")
}

async fn send(server: &TestServer, form: Form) -> Answer {
    let request = server.admin().request(Method::POST, "/v1/uploads").timeout(PATIENCE).multipart(form);
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test]
async fn a_form_that_is_refused_for_its_fields_is_answered_whatever_the_size_of_its_file() {
    let server = TestServer::start().await;
    let unknown = Form::new().text("project", "nowhere").text("dataset_name", "01_2024_Hill").part("file", file());
    send(&server, unknown).await.assert_problem(404, "not_found");
    let file_first = Form::new().part("file", file()).text("project", "nowhere");
    let answer = send(&server, file_first).await;
    answer.assert_problem(400, "invalid_parameter");
    assert_eq!(answer.body["parameter"], "project");
}

#[tokio::test]
async fn a_form_whose_file_is_over_the_limit_is_answered() {
    let server = TestServer::with(|config| config.upload.max_bytes = 64 << 10).await;
    server.admin().make_project("hill").await;
    let form = Form::new().text("project", "hill").text("dataset_name", "01_2024_Hill").part("file", file());
    send(&server, form).await.assert_problem(413, "file_too_large");
}

#[tokio::test]
async fn a_body_of_another_type_or_coding_is_refused_before_it_is_read() {
    let server = TestServer::start().await;
    server.admin().make_project("hill").await;
    for (name, value, told) in [
        ("content-encoding", "br", "gzip or zstd"),
        ("content-type", "application/json", "text/csv"),
        ("content-type", "text/csv; charset=windows-1252", "CSV UTF-8"),
    ] {
        let request = server.admin().request(Method::PUT, "/v1/uploads?project=hill&dataset_name=01_2024_Hill");
        let answer = Answer::of(request.header(name, value).body(vec![b'x'; LARGE]).send().await.unwrap()).await;
        answer.assert_problem(415, "unsupported_type");
        assert!(answer.body["detail"].as_str().unwrap().contains(told), "{}", answer.text);
    }
    assert_eq!(server.admin().get("/v1/uploads").await.body["uploads"], serde_json::json!([]));
}

#[tokio::test]
async fn a_parameter_that_is_no_text_and_a_key_that_repeats_are_refused_by_name() {
    let server = TestServer::start().await;
    for path in ["/v1/metrics/revenue_per_site?site=%ff", "/v1/uploads?site=a%C3", "/v1/dataset-types?site=%80"] {
        let answer = server.admin().get(path).await;
        answer.assert_problem(400, "invalid_parameter");
        assert_eq!(answer.body["parameter"], "site", "{path}");
        assert!(answer.body["detail"].as_str().unwrap().contains("UTF-8"), "{}", answer.text);
    }
    let twice = r#"{"slug": "hill", "name": "Hill", "kind": "mini_grid", "currency": "KES", "name": "Hull",
                    "time_zone": "Africa/Nairobi", "country": "KE"}"#;
    let request = server.admin().request(Method::POST, "/v1/projects").header("content-type", "application/json");
    let answer = Answer::of(request.body(twice).send().await.unwrap()).await;
    answer.assert_problem(400, "repeated_key");
    assert_eq!(answer.body["key"], "name");
    assert!(answer.body["detail"].as_str().unwrap().contains("\"name\""), "{}", answer.text);
    assert_eq!(server.admin().get("/v1/projects").await.body["projects"], serde_json::json!([]));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_names_no_rejected_rows_to_fetch() {
    let server = TestServer::start().await;
    server.admin().make_project("hill").await;
    let send = async |file: &'static str| {
        let request = server.admin().request(Method::PUT, "/v1/uploads?project=hill&dataset_name=01_2024_Hill");
        Answer::of(request.body(file).send().await.unwrap()).await
    };
    let answer = send("").await;
    answer.assert_problem(422, "upload_rejected");
    assert!(answer.body["upload"].is_string() && answer.body["rejected_rows"].is_null(), "{}", answer.text);
    let answer = send("TIMESTAMP,ID,METER_ID,CUSTOMER_ID,CUSTOMER NAME,PAYMENT_AMOUNT\n31/12/2024,1,2,3,Ann,4\n").await;
    answer.assert_problem(422, "upload_rejected");
    let rows = server.admin().get(answer.body["rejected_rows"].as_str().unwrap()).await;
    assert!(rows.text.contains("31/12/2024"), "{}", rows.text);
}

#[tokio::test]
async fn a_project_that_is_not_there_is_named_as_what_is_wrong() {
    let server = TestServer::start().await;
    for path in ["/v1/uploads?project=nowhere", "/v1/metrics/revenue_per_site?project=nowhere"] {
        let answer = server.admin().get(path).await;
        answer.assert_problem(404, "not_found");
        assert_eq!(answer.body["parameter"], "project", "{path}");
    }
}

#[tokio::test]
async fn a_wrong_form_of_an_answer_or_an_instant_says_which_there_are() {
    let server = TestServer::start().await;
    let request = server.admin().request(Method::GET, "/v1/metrics/revenue_per_site").header("accept", "text/html");
    Answer::of(request.send().await.unwrap()).await.assert_problem(406, "not_acceptable");
    server.admin().get("/v1/metrics/revenue_per_site?format=xml").await.assert_problem(400, "invalid_parameter");
    let answer = server.admin().get("/v1/uploads?from=2024-05").await;
    answer.assert_problem(400, "invalid_parameter");
    assert!(answer.body["detail"].as_str().unwrap().contains("2024-05-01T00:00:00Z"), "{}", answer.text);
}
