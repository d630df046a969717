//! Those who connect and send nothing, little, or far too much: others are served meanwhile, and they are let go.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::{
    clients::python,
    harness::{Process, file, row, run, stdout},
};

/// After this a test is taken to hang.
const PATIENCE: Duration = Duration::from_mins(1);
/// Files that a server may open which holds more than a thousand connections.
const MANY_FILES: u32 = 4096;
/// Connections of the largest attack that are not idle, and those of who works meanwhile.
const OTHERS: u32 = 262;

/// The most files that the system lets a process of this test open.
fn most_open_files() -> u32 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    line.split_whitespace().nth(1).and_then(|hard| hard.parse().ok()).unwrap_or(u32::MAX)
}

/// Says what is to be seen of a test that passes too; the harness keeps what the macros print.
fn say_loudly(text: &str) {
    std::io::stderr().write_all(format!("\n{text}\n").as_bytes()).unwrap();
}

/// A server of its own process, with a project `kitobo` and a key.
struct Attacked {
    process: Process,
    key: String,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Attacked {
    fn start(open_files: u32, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = stdout(&run(folder.path(), &["keys", "create", "--role", "admin", "--name", "ops"]));
        let project = ["--slug", "kitobo", "--name", "Kitobo", "--kind", "mini_grid", "--currency", "KES"];
        let place = ["--time-zone", "Africa/Nairobi", "--country", "KE"];
        stdout(&run(folder.path(), &[&["projects", "create"], &project[..], &place].concat()));
        let process = Process::serve_within(open_files, folder.path(), arguments);
        let client = Client::builder().timeout(PATIENCE).build().unwrap();
        Self { process, key: key.trim().to_owned(), client, _folder: folder }
    }

    fn host(&self) -> &str {
        self.process.address.trim_start_matches("http://")
    }

    /// Asserts that it says that it is alive, takes an upload in, and answers with figures that have it.
    async fn assert_works(&self, round: u32) {
        let ask = async |request: reqwest::RequestBuilder, status: StatusCode| {
            let answer = request.bearer_auth(&self.key).send().await.unwrap();
            let found = answer.status();
            let text = answer.text().await.unwrap();
            assert_eq!(found, status, "{text}");
            text
        };
        let url = |path: &str| format!("{}{path}", self.process.address);
        ask(self.client.get(url("/healthz")), StatusCode::OK).await;
        let upload = self.client.put(url("/v1/uploads?project=kitobo&dataset_name=x"));
        ask(upload.body(file(&[row(&format!("A{round}"), "1.00")])), StatusCode::CREATED).await;
        let figures =
            ask(self.client.get(url("/v1/metrics/revenue_over_time?grain=all&format=csv")), StatusCode::OK).await;
        let sums = format!("KES,{round}.0000,{round}");
        assert!(figures.lines().any(|line| line.ends_with(&sums)), "{figures}");
    }

    /// Connections that send little. The script says how many there are; less than was asked for only where the system has
    /// no files for more.
    fn attack(&self, arguments: &[&str]) -> Attack {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/slow_senders.py");
        let (host, port) = self.host().split_once(':').unwrap();
        let mut command = Command::new(python());
        command.arg(script).args([host, port, &self.key]).args(arguments);
        let mut script = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (script.stdin.take(), BufReader::new(script.stdout.take().unwrap()));
        let mut attack = Attack { script, input, output };
        let begun = attack.line();
        if begun["open"] != begun["wanted"] {
            say_loudly(&format!(
                "THE LIMIT ON OPEN FILES (ulimit -Hn) LEAVES A TEST FEWER CONNECTIONS THAN IT IS ABOUT: {begun}"
            ));
        }
        assert!(begun["open"].as_u64().unwrap() >= 200, "{begun}");
        attack
    }
}

struct Attack {
    script: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Attack {
    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the script said {line:?}"))
    }

    /// Ends it where it holds its connections, else waits until all were let go; what it says of them.
    fn end(mut self) -> Value {
        drop(self.input.take());
        let said = self.line();
        assert!(self.script.wait().unwrap().success());
        said
    }
}

#[tokio::test]
async fn a_thousand_idle_and_slow_senders_leave_room_for_work() {
    let held =
        ["--http-header-timeout-s", "600", "--http-request-timeout-s", "600", "--http-min-body-bytes-per-s", "0"];
    let server = Attacked::start(MANY_FILES, &[&held[..], &["--http-max-connections", "1500"]].concat());
    server.assert_works(1).await;
    // Connections take half of the files of a server.
    let idle = (most_open_files() / 2).saturating_sub(OTHERS).min(1000);
    if idle < 1000 {
        say_loudly(&format!(
            "THE LIMIT ON OPEN FILES (ulimit -Hn) LEAVES ROOM FOR {idle} IDLE SOCKETS INSTEAD OF 1000"
        ));
    }
    let attack = server.attack(&[&format!("idle={idle}"), "headers=100", "json=100", "upload=2", "keyless=20"]);
    for round in 2..5 {
        server.assert_works(round).await;
    }
    let end = attack.end();
    // They were there all the time; those without a key were answered without a byte of their file.
    for (kind, all) in [("idle", idle), ("headers", 100), ("json", 100), ("upload", 2)] {
        assert!(end["left"][kind] == all && end["answers"][kind].is_null(), "{kind}: {end}");
    }
    assert!(end["answers"]["keyless"]["HTTP/1.1 401 Unauthorized"].is_u64(), "{end}");
    server.assert_works(5).await;
}

#[tokio::test]
async fn every_slow_sender_is_let_go_with_a_reason_where_there_is_one_to_tell() {
    let short = ["--http-header-timeout-s", "1", "--http-body-idle-timeout-s", "1", "--http-request-timeout-s", "2"];
    let server = Attacked::start(MANY_FILES, &short);
    let attack = server.attack(&["idle=150", "headers=50", "json=50", "upload=3", "keyless=20", "--until-let-go"]);
    let end = attack.end();
    assert_eq!(end["left"], serde_json::json!({}), "{end}");
    assert!(end["answers"]["upload"]["HTTP/1.1 408 Request Timeout"].is_u64(), "{end}");
    let json = end["answers"]["json"].as_object().unwrap();
    let known = ["HTTP/1.1 408 Request Timeout", "HTTP/1.1 504 Gateway Timeout"];
    assert!(json.keys().all(|answer| known.contains(&answer.as_str())), "{end}");
    assert!(end["answers"]["idle"].is_null(), "{end}");
    server.assert_works(1).await;
}

#[tokio::test]
async fn connections_never_take_the_files_that_work_needs() {
    let server = Attacked::start(256, &["--http-header-timeout-s", "600"]);
    // This one is open before; the others take all the places there are.
    server.assert_works(1).await;
    let attack = server.attack(&["idle=240"]);
    for round in 2..5 {
        server.assert_works(round).await;
    }
    attack.end();
    server.assert_works(5).await;
}

/// Bytes of what is too large.
const FLOOD: usize = 64 << 20;

/// Sends a head, then the same bytes over and over up to [`FLOOD`] or until the server closes. Gives what it answered.
fn flood(host: &str, head: &str, piece: &str) -> String {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let mut listening = stream.try_clone().unwrap();
    let answer = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A connection that is reset has said what it had to say.
        if let Err(error) = listening.read_to_end(&mut bytes) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "neither answered nor closed");
        }
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let pieces = piece.repeat((64 << 10) / piece.len());
    let mut sent = stream.write_all(head.as_bytes());
    for _ in 0..FLOOD / pieces.len() {
        sent = sent.and_then(|()| stream.write_all(pieces.as_bytes()));
    }
    if sent.is_ok() {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    answer.join().unwrap()
}

#[tokio::test]
async fn what_is_too_large_is_refused_without_being_held() {
    let server = Attacked::start(MANY_FILES, &[]);
    server.assert_works(1).await;
    let key = format!("Host: x\r\nAuthorization: Bearer {}\r\n", server.key);
    let json = format!("POST /v1/projects HTTP/1.1\r\n{key}Content-Type: application/json\r\n");
    let form = format!(
        "POST /v1/uploads HTTP/1.1\r\n{key}Content-Type: multipart/form-data; boundary=b0\r\nContent-Length: {FLOOD}\r\n\r\n"
    );
    let part = "--b0\r\nContent-Disposition: form-data; name=\"project\"\r\n";
    let chunked =
        format!("PUT /v1/uploads?project=kitobo&dataset_name=x HTTP/1.1\r\n{key}Transfer-Encoding: chunked\r\n\r\n");
    // The head, what follows it over and over, and the statuses that answer it.
    let floods: [(String, &str, &[&str]); 12] = [
        ("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: ".to_owned(), "x", &["431"]),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n".to_owned(), "X-Many: x\r\n", &["431"]),
        ("GET /".to_owned(), "x", &["414", "431"]),
        ("GET /v1/metrics?".to_owned(), "site=x&", &["414", "431"]),
        (format!("{json}Content-Length: {FLOOD}\r\n\r\n"), " ", &["413"]),
        (format!("{json}Transfer-Encoding: chunked\r\n\r\n"), "5\r\n     \r\n", &["413"]),
        (form.clone(), "no boundary ", &["413"]),
        (format!("{form}{part}\r\n"), "x", &["400", "413"]),
        (format!("{form}{part}X-Long: "), "x", &["413"]),
        (form.clone(), "--b0\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n\r\n", &["400"]),
        (format!("{chunked}5;"), "x", &["400"]),
        (format!("{chunked}0\r\nX-Long: "), "x", &["400"]),
    ];
    let before = server.process.peak_memory_kib();
    for (head, piece, statuses) in floods {
        let host = server.host().to_owned();
        let sent = head.clone();
        let piece = piece.to_owned();
        let answer = tokio::task::spawn_blocking(move || flood(&host, &sent, &piece)).await.unwrap();
        let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        // A server that closes while the other side sends may see its answer lost.
        assert!(status.is_none_or(|status| statuses.contains(&status)), "{head:.60}: {answer}");
    }
    server.assert_works(2).await;
    let taken = server.process.peak_memory_kib() - before;
    assert!(taken < (FLOOD >> 10) as u64 / 2, "{taken} KiB more at the peak than before");
}
