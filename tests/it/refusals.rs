//! The upload as a form: what is refused before or while its file is read.

use reqwest::{
    Method,
    multipart::{Form, Part},
};
use std::time::Duration;

use crate::harness::{Answer, TestServer};

/// More than the pieces that wait between the form's reader and the check.
const LARGE: usize = 4 << 20;
/// After this a test is taken to hang.
const PATIENCE: Duration = Duration::from_secs(60);

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
