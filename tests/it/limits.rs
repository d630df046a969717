//! The limits on a file: up to each it is taken, one more is refused, and the answer names the setting.

use wattlake::config::UploadConfig;

use crate::harness::{Answer, HEADER, TestServer, Upload, counts, file, row};

/// A server with these limits, and a project.
async fn within(change: impl FnOnce(&mut UploadConfig)) -> TestServer {
    let server = TestServer::with(|config| change(&mut config.upload)).await;
    server.admin().make_project("kitobo").await;
    server
}

/// A row that is `length` bytes long, all of them beyond the usual ones in a note.
fn long_row(id: &str, length: usize) -> String {
    let usual = row(id, "1");
    let (before, site) = usual.rsplit_once(",,").unwrap();
    let note = "n".repeat(length - usual.len());
    format!("{before},{note},{site}")
}

#[track_caller]
fn assert_names(answer: &Answer, setting: &str, limit: usize) {
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains(setting) && detail.contains(&limit.to_string()), "{detail}");
}

#[tokio::test]
async fn a_file_has_so_many_bytes_at_most() {
    let mut bytes = file(&[row("A1", "1")]);
    bytes.resize(2000, b'\n');
    let (fits, over) = (bytes.clone(), [&bytes[..], b"\n"].concat());
    let server = within(|limits| limits.max_bytes = 2000).await;
    let answer = server.admin().upload(&Upload::new("kitobo", over.clone())).await;
    answer.assert_problem(413, "file_too_large");
    assert_names(&answer, "upload.max_bytes", 2000);
    // Its length said beforehand, and in pieces of which nobody knows how many will come.
    for body in [reqwest::Body::from(over.clone()), pieces(&over)] {
        let path = "/v1/uploads?project=kitobo&dataset_name=a";
        let answer =
            Answer::of(server.admin().request(reqwest::Method::PUT, path).body(body).send().await.unwrap()).await;
        answer.assert_problem(413, "file_too_large");
        assert_names(&answer, "upload.max_bytes", 2000);
    }
    server.admin().commit(&Upload::new("kitobo", fits)).await;
}

fn pieces(bytes: &[u8]) -> reqwest::Body {
    let pieces: Vec<_> = bytes.chunks(300).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    reqwest::Body::wrap_stream(futures::stream::iter(pieces))
}

#[tokio::test]
async fn a_file_has_so_many_rows_at_most() {
    let server = within(|limits| limits.max_rows = 3).await;
    let rows: Vec<_> = (0..4).map(|n| row(&format!("A{n}"), "1")).collect();
    for on_error in ["reject_file", "skip_rows"] {
        let answer = server.admin().upload(&Upload::new("kitobo", file(&rows)).with("on_error", on_error)).await;
        answer.assert_problem(422, "upload_rejected");
        assert_eq!(answer.body["errors"][0]["code"], "too_many_rows");
        assert_names(&answer, "upload.max_rows", 3);
    }
    server.admin().commit(&Upload::new("kitobo", file(&rows[..3]))).await;
}

#[tokio::test]
async fn a_row_has_so_many_bytes_at_most() {
    let server = within(|limits| limits.max_row_bytes = 300).await;
    assert!(HEADER.len() < 300);
    let of_length = |length| file(&[long_row("A1", length), row("A2", "1")]);
    for on_error in ["reject_file", "skip_rows"] {
        let upload = Upload::new("kitobo", of_length(301)).with("on_error", on_error);
        let answer = server.admin().upload(&upload).await;
        answer.assert_problem(422, "upload_rejected");
        assert_eq!(answer.body["errors"][0]["code"], "row_too_long");
        assert_names(&answer, "upload.max_row_bytes", 300);
    }
    server.admin().commit(&Upload::new("kitobo", of_length(300))).await;
}

#[tokio::test]
async fn a_value_has_so_many_bytes_at_most() {
    let server = within(|limits| limits.max_field_bytes = 300).await;
    let of_length = |length| file(&[long_row("A1", row("A1", "1").len() + length), row("A2", "1")]);
    let over = Upload::new("kitobo", of_length(301));
    let answer = server.admin().upload(&over).await;
    answer.assert_problem(422, "upload_rejected");
    assert_eq!(answer.body["errors"][0]["code"], "field_too_long");
    assert_names(&answer, "upload.max_field_bytes", 300);
    // It is known where the row ends, so the others can be had.
    assert_eq!(counts(&server.admin().commit(&over.with("on_error", "skip_rows")).await), [2, 1, 0, 0, 1]);
    assert_eq!(counts(&server.admin().commit(&Upload::new("kitobo", of_length(300))).await), [2, 1, 0, 1, 0]);
}
