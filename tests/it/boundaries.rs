//! A small upload that is cut, or sent in two pieces, at every byte of its body.

use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{TestServer, counts};

/// Connections at once.
const AT_ONCE: usize = 16;
/// After this a test is taken to hang.
const PATIENCE: Duration = Duration::from_mins(1);
/// Enough for a piece to be read before the next one comes.
const PAUSE: Duration = Duration::from_millis(2);

/// The ways in which the bytes of a file can come.
#[derive(Clone, Copy, Debug)]
enum Way {
    Plain,
    Chunked,
    Form,
    ChunkedForm,
}

impl Way {
    const ALL: [Self; 4] = [Self::Plain, Self::Chunked, Self::Form, Self::ChunkedForm];

    /// Head and body of an upload of two payments of 1.50 to `project`, like no other of another `number`.
    fn request(self, server: &TestServer, project: &str, number: usize) -> (Vec<u8>, Vec<u8>) {
        let columns = "TIMESTAMP,ID,METER_ID,CUSTOMER_ID,CUSTOMER NAME,PAYMENT_AMOUNT";
        let row = |n| format!("2024-05-03T10:00:00,{self:?}{number:04}-{n},7,C,A\u{e9},1.5\r\n");
        let file = format!("{columns}\n{}{}", row(1), row(2)).into_bytes();
        let query = format!("/v1/uploads?project={project}&dataset_name=d");
        let form = matches!(self, Self::Form | Self::ChunkedForm);
        let (line, content_type, body) = if form {
            let part = |name: &str, value: &str| {
                format!("--b0\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
            };
            let file_part =
                "--b0\r\nContent-Disposition: form-data; name=\"file\"; filename=\"ELECTRICITY_PAYMENT.csv\"\r\n\r\n";
            let before = part("project", project) + &part("dataset_name", "d") + file_part;
            (
                "POST /v1/uploads",
                "multipart/form-data; boundary=b0",
                [before.as_bytes(), &file, b"\r\n--b0--\r\n"].concat(),
            )
        } else {
            (query.as_str(), "text/csv", file)
        };
        let line = if form { line.to_owned() } else { format!("PUT {line}") };
        let (length, body) = match self {
            Self::Plain | Self::Form => (format!("Content-Length: {}", body.len()), body),
            Self::Chunked | Self::ChunkedForm => ("Transfer-Encoding: chunked".to_owned(), in_chunks(&body)),
        };
        let key = &server.admin.secret;
        let head = format!(
            "{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: {content_type}\r\nConnection: close\r\n{length}\r\n\r\n"
        );
        (head.into_bytes(), body)
    }
}

/// A body in two chunks.
fn in_chunks(body: &[u8]) -> Vec<u8> {
    let (one, other) = body.split_at(body.len() / 2);
    let chunk = |piece: &[u8]| [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
    [&chunk(one)[..], &chunk(other), b"0\r\n\r\n"].concat()
}

/// Every way with every offset in its body but the first and the end.
fn places(server: &TestServer) -> Vec<(Way, usize)> {
    let offsets = |way: Way| 1..way.request(server, "p00", 0).1.len();
    Way::ALL.into_iter().flat_map(|way| offsets(way).map(move |at| (way, at))).collect()
}

async fn connect(server: &TestServer) -> TcpStream {
    let stream = TcpStream::connect(server.host()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// All that the server sends before it closes.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A connection that is reset has said what it had to say.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("answered or closed");
    String::from_utf8(bytes).unwrap()
}

/// Sends a whole upload, in two pieces, and gives the status and the body of the answer.
async fn send(server: &TestServer, head: &[u8], body: &[u8], at: usize) -> (String, Value) {
    let mut stream = connect(server).await;
    stream.write_all(&[head, &body[..at]].concat()).await.unwrap();
    tokio::time::sleep(PAUSE).await;
    stream.write_all(&body[at..]).await.unwrap();
    let answer = answer(&mut stream).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// Sends the start of an upload and closes, one way or the other.
async fn cut(server: &TestServer, (way, at): (Way, usize)) {
    let (head, body) = way.request(server, "kitobo", at);
    let mut stream = connect(server).await;
    stream.write_all(&[&head, &body[..at]].concat()).await.unwrap();
    if at % 2 == 0 {
        tokio::time::sleep(PAUSE).await;
        drop(stream);
        return;
    }
    // Says that it is done, and listens: whoever is told of a success would take the upload for landed.
    stream.shutdown().await.unwrap();
    let answer = answer(&mut stream).await;
    assert!(!answer.starts_with("HTTP/1.1 2"), "{way:?}, cut at {at} of {}: {answer}", body.len());
}

/// Asserts that no upload left a trace.
async fn assert_nothing_kept(server: &TestServer) {
    let entries = |name: &str| std::fs::read_dir(server.folder.path().join(name)).map_or(0, Iterator::count);
    for _ in 0..400 {
        if entries("tmp") == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!((entries("tmp"), entries("uploads")), (0, 0));
    let listed = server.admin().get("/v1/uploads").await;
    assert_eq!(listed.body["uploads"], json!([]), "{}", listed.text);
    assert_eq!(server.admin().lake_version().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_cut_at_any_byte_of_its_body_leaves_nothing() {
    // More than at once: one that goes away gives its place back a moment later. Fewer than cuts: none keeps its place.
    let server = TestServer::with(|config| config.upload.concurrency = 4 * AT_ONCE).await;
    server.admin().make_project("kitobo").await;
    let cuts = places(&server);
    assert!(cuts.len() > 5 * AT_ONCE);
    stream::iter(cuts).for_each_concurrent(AT_ONCE, |place| cut(&server, place)).await;
    assert_nothing_kept(&server).await;
    // A server that stops waits for every request, so that what could still have landed has.
    let server = server.restarted().await;
    assert_nothing_kept(&server).await;
    for (number, way) in Way::ALL.into_iter().enumerate() {
        let (head, body) = way.request(&server, "kitobo", 0);
        let (status, record) = send(&server, &head, &body, 0).await;
        assert_eq!((status.as_str(), counts(&record)), ("201", [2, 2, 0, 0, 0]), "{way:?}: {record}");
        assert_eq!(record["lake_version"], number as u64 + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_in_two_pieces_is_the_same_wherever_it_is_divided() {
    let server = TestServer::with(|config| config.upload.concurrency = 4 * AT_ONCE).await;
    for project in 0..AT_ONCE {
        server.admin().make_project(&format!("p{project:02}")).await;
    }
    let places = places(&server);
    stream::iter(places.iter().enumerate())
        .for_each_concurrent(AT_ONCE, async |(number, (way, at))| {
            let (head, body) = way.request(&server, &format!("p{:02}", number % AT_ONCE), number);
            let (status, record) = send(&server, &head, &body, *at).await;
            assert_eq!(status, "201", "{way:?}, divided at {at} of {}: {record}", body.len());
            assert_eq!(counts(&record), [2, 2, 0, 0, 0], "{way:?}, divided at {at}: {record}");
        })
        .await;
    let figures = server.admin().figures("revenue_over_time?grain=all", "revenue payments").await;
    let of_projects: usize =
        figures.iter().map(|figure| figure.split_once(' ').unwrap().1.parse::<usize>().unwrap()).sum();
    assert_eq!(of_projects, 2 * places.len());
}
