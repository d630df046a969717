//! What is under way when the rights that it rests on end, ends with them within a second: queries, answers that are being sent,
//! and files that are read slowly.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{sleep, timeout},
};
use wattlake::{access::Role, catalog::NewKey};

use crate::harness::{Answer, TestServer, Upload, file};

/// Customers of the project, each with a payment: answers and files of several times what the buffers between the two sides of a
/// connection hold.
const CUSTOMERS: usize = 60_000;
/// What they hold at most of a client whose own holds 64 KiB: the system's buffer of the server's side, and hyper's.
const BUFFERED: usize = 6 << 20;
/// Within which what is revoked must have ended here, where other tests run beside this one.
const SOON: Duration = Duration::from_secs(5);
const ALL: &str = "/v1/metrics/payments_per_customer?limit=1000000";

struct World {
    server: TestServer,
    /// An analyst of `main`, whose the project is, and one of `fund`, with whom it is shared.
    owner: NewKey,
    fund: NewKey,
    share: String,
    upload: String,
}

impl World {
    async fn new() -> Self {
        let server = TestServer::with(|config| {
            config.query.key_concurrency = 1;
            (config.query.key_queue, config.query.organisation_queue, config.query.queue) = (1000, 1000, 1000);
        })
        .await;
        server.admin().make_project("kitobo").await;
        server.admin().post("/v1/organisations", json!({"slug": "fund", "name": "Fund"})).await;
        let (owner, fund) = (server.key_of("main", Role::Analyst).await, server.key_of("fund", Role::Analyst).await);
        let padding = "x".repeat(150);
        let rows: Vec<String> = (0..CUSTOMERS)
            .map(|number| {
                format!(
                    "2024-05-03T10:00:00,A{number},M1,,customer-{number:060},Amina,,M-PESA,,1,,SUCCESS,{padding},Kitobo"
                )
            })
            .collect();
        let upload = server.admin().commit(&Upload::new("kitobo", file(&rows))).await;
        let body = json!({"recipient": "fund", "detail": "full"});
        let share = server.admin().post("/v1/projects/kitobo/shares", body).await;
        let share = share.header("location").to_owned();
        Self { server, owner, fund, share, upload: upload["id"].as_str().unwrap().to_owned() }
    }

    /// Asks for something, over a connection whose client has a small buffer, and reads its head and some of its body.
    async fn begin(&self, key: &NewKey, path: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let mut stream = socket.connect(self.server.host().parse().unwrap()).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", key.secret);
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut begin = [0; 1000];
        stream.read_exact(&mut begin).await.unwrap();
        assert!(begin.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&begin));
        stream
    }
}

/// Reads what still comes: how many bytes that are, and whether the server broke the connection off.
async fn rest(stream: &mut TcpStream) -> (usize, bool) {
    let (mut bytes, mut buffer) = (0, vec![0; 64 << 10]);
    loop {
        match timeout(Duration::from_mins(1), stream.read(&mut buffer)).await.expect("it ends") {
            Ok(0) => return (bytes, false),
            Ok(more) => bytes += more,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                return (bytes, true);
            }
        }
    }
}

#[tokio::test]
async fn what_is_being_sent_breaks_off_when_its_key_or_its_share_is_revoked_however_slowly_it_is_read() {
    let world = World::new().await;
    let admin = world.server.admin();
    let file = format!("/v1/uploads/{}/file", world.upload);
    let [mut figures, mut shared, mut download, mut other] = [
        world.begin(&world.owner, ALL).await,
        world.begin(&world.fund, ALL).await,
        world.begin(&world.owner, &file).await,
        world.begin(&world.server.admin, &file).await,
    ];
    assert_eq!(admin.delete(&world.share).await.status, 200);
    // Nobody reads meanwhile.
    sleep(SOON).await;
    let (bytes, broken_off) = rest(&mut shared).await;
    assert!(broken_off && bytes < BUFFERED, "{bytes}");
    assert_eq!(admin.delete(&format!("/v1/keys/{}", world.owner.key.prefix)).await.status, 200);
    // One reads on, slowly, and the other does not.
    let began = Instant::now();
    let mut buffer = vec![0; 10 << 10];
    let ended = loop {
        match download.read(&mut buffer).await {
            Ok(0) => break "ended",
            Ok(_) => sleep(Duration::from_millis(20)).await,
            Err(_) => break "broken off",
        }
    };
    assert_eq!(ended, "broken off");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    sleep(SOON.saturating_sub(began.elapsed())).await;
    let (bytes, broken_off) = rest(&mut figures).await;
    assert!(broken_off && bytes < BUFFERED, "{bytes}");
    // What rests on rights that hold goes on.
    let mut end = Vec::new();
    while !end.ends_with(b"0\r\n\r\n") {
        assert!(other.read_buf(&mut end).await.unwrap() > 0, "it ends after {} bytes", end.len());
    }
    assert!(end.len() > BUFFERED, "the test is about more than what is buffered: {}", end.len());
}

#[tokio::test]
async fn queries_that_run_or_wait_when_their_key_is_revoked_are_answered_as_without_a_key() {
    let world = World::new().await;
    let holder = world.server.holder(&world.owner);
    let ask = async |number: usize| {
        let path = format!("{ALL}&format=csv&from=2024-01-{:02}", 1 + number % 28);
        let answer = Answer::of(holder.request(Method::GET, &path).send().await.unwrap()).await;
        (answer, Instant::now())
    };
    let revoked = async {
        sleep(Duration::from_millis(300)).await;
        world.server.catalog.revoke_key(&world.owner.key.prefix).await.unwrap();
        Instant::now()
    };
    let (answers, revoked_at) = tokio::join!(join_all((0..200).map(ask)), revoked);
    let ended: Vec<_> = answers.iter().filter(|(answer, _)| answer.status != 200).collect();
    assert!(!ended.is_empty(), "the test is about queries that were not over");
    for (answer, at) in ended {
        answer.assert_problem(401, "unauthenticated");
        assert!(at.duration_since(revoked_at) < SOON);
    }
}

#[tokio::test]
async fn who_asks_again_over_a_connection_whose_key_has_ended_is_told_so() {
    let server = TestServer::start().await;
    let key = server.key_of("main", Role::Viewer).await;
    let mut stream = TcpStream::connect(server.host()).await.unwrap();
    let head = format!("GET /v1/metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n", key.secret);
    let mut answer = String::new();
    for status in ["200 OK", "401 Unauthorized"] {
        stream.write_all(head.as_bytes()).await.unwrap();
        answer.clear();
        while !answer.ends_with('}') {
            let mut buffer = vec![0; 64 << 10];
            let read = timeout(Duration::from_mins(1), stream.read(&mut buffer)).await.unwrap().unwrap();
            assert!(read > 0, "{answer}");
            answer += &String::from_utf8_lossy(&buffer[..read]);
        }
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        server.catalog.revoke_key(&key.key.prefix).await.unwrap();
        sleep(Duration::from_secs(2)).await;
    }
}

#[tokio::test]
async fn a_file_that_stops_coming_ends_with_its_key() {
    let server = TestServer::start().await;
    server.admin().make_project("kitobo").await;
    let key = server.key_of("main", Role::Uploader).await;
    let begun = futures::stream::once(async { Ok::<_, std::io::Error>(Bytes::from_static(b"TIMESTAMP,")) });
    let body = reqwest::Body::wrap_stream(futures::StreamExt::chain(begun, futures::stream::pending()));
    let request = server.holder(&key).request(Method::PUT, "/v1/uploads?project=kitobo&dataset_name=d").body(body);
    let revoked = async {
        sleep(Duration::from_millis(300)).await;
        server.catalog.revoke_key(&key.key.prefix).await.unwrap();
        Instant::now()
    };
    let (answer, revoked_at) = tokio::join!(request.send(), revoked);
    Answer::of(answer.unwrap()).await.assert_problem(401, "unauthenticated");
    assert!(revoked_at.elapsed() < SOON, "{:?}", revoked_at.elapsed());
}
