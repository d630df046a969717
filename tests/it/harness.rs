//! The real router on a temporary folder and a free port, and one type for each kind of caller.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use reqwest::{
    Method, RequestBuilder, Response, StatusCode, header,
    multipart::{Form, Part},
};
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinHandle};
use wattlake::{
    access::Role,
    catalog::{Catalog, KeyTerms, NewKey},
    config::{Config, Sources},
    ingest::Ingest,
    lake::Lake,
    server::Server,
    verification::Verification,
};

/// A server in this process; it stops when it is dropped.
pub struct TestServer {
    pub address: String,
    pub catalog: Catalog,
    pub lake: Arc<Lake>,
    pub ingest: Arc<Ingest>,
    pub verification: Arc<Verification>,
    pub folder: tempfile::TempDir,
    pub admin: NewKey,
    pub config: Config,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A server with some settings changed.
    pub async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Sources::default().load().unwrap().config;
        config.data_dir = folder.path().to_owned();
        // Tests ask as fast as they can; those of these limits set them.
        (config.http.key_requests_per_s, config.http.organisation_requests_per_s) = (0, 0);
        // This process is no program that a process for SQL could be.
        (config.sql.worker_program, config.sql.workers) = (Some(env!("CARGO_BIN_EXE_wattlake").into()), 0);
        change(&mut config);
        "127.0.0.1:0".clone_into(&mut config.listen);
        let server = Server::start(config.clone()).await.unwrap();
        let admin = server.state.catalog.create_key(KeyTerms::of_admin("test")).await.unwrap();
        Self::serve(server, folder, config, admin)
    }

    fn serve(server: Server, folder: tempfile::TempDir, config: Config, admin: NewKey) -> Self {
        let (catalog, lake) = (server.state.catalog.clone(), server.state.lake.clone());
        let (ingest, verification) = (server.state.ingest.clone(), server.state.verification.clone());
        let address = server.address.clone();
        let (stop, told_to_stop) = oneshot::channel();
        let running = tokio::spawn(server.run_until(async { drop(told_to_stop.await) }));
        Self { address, catalog, lake, ingest, verification, folder, admin, config, stop: Some(stop), served: running }
    }

    /// Stops, and starts again on the same folder, with the same key.
    pub async fn restarted(self) -> Self {
        self.restarted_after(|_| {}).await
    }

    /// The same, with something done to the data folder while no server runs on it.
    pub async fn restarted_after(mut self, meanwhile: impl FnOnce(&Path)) -> Self {
        self.begin_stop();
        let Self { folder, admin, config, served, .. } = self;
        served.await.unwrap();
        meanwhile(folder.path());
        let server = Server::start(config.clone()).await.unwrap();
        Self::serve(server, folder, config, admin)
    }

    pub fn admin(&self) -> Admin<'_> {
        Admin::new(&self.address, &self.admin.secret)
    }

    /// A key of an organisation.
    pub async fn key_of(&self, organisation: &str, role: Role) -> NewKey {
        let organisation = Some(organisation.parse().unwrap());
        let terms = KeyTerms { role, organisation, ..KeyTerms::of_admin(role.as_str()) };
        self.catalog.create_key(terms).await.unwrap()
    }

    pub fn holder<'a>(&'a self, key: &'a NewKey) -> Holder<'a> {
        Holder::new(&self.address, &key.secret)
    }

    pub fn anonymous(&self) -> Anonymous<'_> {
        Anonymous { server: self, client: reqwest::Client::new() }
    }

    /// `host:port`, for those who speak HTTP by hand.
    pub fn host(&self) -> &str {
        self.address.trim_start_matches("http://")
    }

    /// Tells the server to stop, without waiting for it.
    pub fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until it has drained.
    pub async fn stopped(self) {
        self.served.await.unwrap();
    }
}

/// Holds an administrator's key.
pub struct Admin<'a> {
    address: &'a str,
    key: &'a str,
    client: reqwest::Client,
}

/// Holds a key of any role, and asks for the same.
pub type Holder<'a> = Admin<'a>;

impl<'a> Admin<'a> {
    pub fn new(address: &'a str, key: &'a str) -> Self {
        Self { address, key, client: reqwest::Client::new() }
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.address)).bearer_auth(self.key)
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(&body).send().await.unwrap()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path).send().await.unwrap()).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::PATCH, path).json(&body).send().await.unwrap()).await
    }

    /// Sends a file as a form.
    pub async fn upload(&self, upload: &Upload) -> Answer {
        Answer::of(self.request(Method::POST, "/v1/uploads").multipart(upload.form()).send().await.unwrap()).await
    }

    /// Uploads a file that must be taken in, and gives its record.
    #[track_caller]
    pub fn commit(&self, upload: &Upload) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.upload(upload).await;
            assert_eq!(answer.status, StatusCode::CREATED, "{caller}: {}", answer.text);
            answer.body
        }
    }

    /// Sends a CSV of connections, which must be taken.
    pub async fn take_connections(&self, project: &str, csv: &str) {
        let request = self.request(Method::POST, &format!("/v1/projects/{project}/connections"));
        let request = request.header(header::CONTENT_TYPE, "text/csv").body(csv.to_owned());
        let answer = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }

    /// Columns of a metric's rows with a space between, as its CSV has them, where amounts are exact.
    pub async fn figures(&self, metric: &str, columns: &str) -> Vec<String> {
        let joint = if metric.contains('?') { '&' } else { '?' };
        let answer = self.get(&format!("/v1/metrics/{metric}{joint}format=csv")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let mut reader = csv::Reader::from_reader(answer.text.as_bytes());
        let header = reader.headers().unwrap().clone();
        let places: Vec<_> =
            columns.split(' ').map(|column| header.iter().position(|name| name == column).expect(column)).collect();
        let text = |row: csv::StringRecord| places.iter().map(|place| &row[*place]).collect::<Vec<_>>().join(" ");
        reader.records().map(|row| text(row.unwrap())).collect()
    }

    /// The version that answers are from.
    pub async fn lake_version(&self) -> u64 {
        self.get("/v1/metrics/revenue_per_site").await.body["lake_version"].as_u64().unwrap()
    }

    /// A project with the slug, in KES.
    pub async fn make_project(&self, slug: &str) {
        let answer = self.post("/v1/projects", project(slug)).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    }
}

/// The body that makes a project.
pub fn project(slug: &str) -> Value {
    serde_json::json!({"slug": slug, "name": "Kitobo", "kind": "mini_grid", "currency": "KES",
        "time_zone": "Africa/Nairobi", "country": "KE"})
}

/// The seed's columns, in its order.
pub const HEADER: &str = "TIMESTAMP,ID,METER_ID,UTILITY_ID,CUSTOMER_ID,CUSTOMER NAME,TRANSACTION CHARGES,PAYMENT_SOURCE,\
                          REFERENCE_ID,PAYMENT_AMOUNT,ACCOUNT_TYPE,STATUS,NOTES,LOCATION";

/// A payment of 3 May 2024 under [`HEADER`].
pub fn row(id: &str, amount: &str) -> String {
    paid(id, "2024-05-03T10:00:00", amount, "SUCCESS")
}

pub fn paid(id: &str, at: &str, amount: &str, status: &str) -> String {
    format!("{at},{id},00104,,C-{id},Amina Otieno,,M-PESA,,{amount},,{status},,Kitobo")
}

/// A file of such rows.
pub fn file<T: AsRef<str>>(rows: &[T]) -> Vec<u8> {
    let lines = rows.iter().map(AsRef::as_ref);
    [HEADER].into_iter().chain(lines).flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
}

/// A file, and what a form says about it.
#[derive(Clone)]
pub struct Upload {
    pub fields: Vec<(String, String)>,
    pub file_name: String,
    pub file: Vec<u8>,
}

impl Upload {
    pub fn new(project: &str, file: impl Into<Vec<u8>>) -> Self {
        let fields = [("project", project), ("dataset_name", "05_2024_Kitobo")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { fields, file_name: "ELECTRICITY_PAYMENT.csv".to_owned(), file: file.into() }
    }

    /// With a field more, or another value of one.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self
    }

    pub fn part(&self) -> Part {
        Part::bytes(self.file.clone()).file_name(self.file_name.clone())
    }

    pub fn fields(&self) -> Form {
        self.fields.iter().cloned().fold(Form::new(), |form, (name, value)| form.text(name, value))
    }

    pub fn form(&self) -> Form {
        self.fields().part("file", self.part())
    }
}

/// The counts of a report, which add up: read, new, corrected, duplicate, rejected.
#[track_caller]
pub fn counts(report: &Value) -> [u64; 5] {
    let count = |name: &str| report["counts"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"));
    assert_eq!(count("accepted"), count("new") + count("corrected"), "{report}");
    assert_eq!(count("read"), count("accepted") + count("duplicate") + count("rejected"), "{report}");
    ["read", "new", "corrected", "duplicate", "rejected"].map(count)
}

/// Holds no key, or one that was made up.
pub struct Anonymous<'a> {
    server: &'a TestServer,
    client: reqwest::Client,
}

impl Anonymous<'_> {
    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.client.get(format!("{}{path}", self.server.address)).send().await.unwrap()).await
    }

    pub async fn get_with(&self, path: &str, authorization: &str) -> Answer {
        let request = self.client.get(format!("{}{path}", self.server.address));
        Answer::of(request.header(header::AUTHORIZATION, authorization).send().await.unwrap()).await
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: header::HeaderMap,
    pub text: String,
    /// `Null` where the text is not JSON.
    pub body: Value,
}

impl Answer {
    pub async fn of(response: Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Self { status, headers, text, body }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that it is a problem of that status and code.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["type"], format!("/problems/{code}"), "{}", self.text);
        assert_eq!(self.body["status"], status);
        assert!(self.body["detail"].is_string());
    }
}

/// The real command, with an environment that has no settings in it.
pub fn wattlake(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wattlake"));
    command.args(arguments).current_dir(folder).env_clear();
    command
}

/// What a server that is a process of its own needs to let tests ask as fast as they can, and to start nothing that they do
/// not ask for.
pub const NO_RATES: [(&str, &str); 3] = [
    ("WATTLAKE_HTTP_KEY_REQUESTS_PER_S", "0"),
    ("WATTLAKE_HTTP_ORGANISATION_REQUESTS_PER_S", "0"),
    ("WATTLAKE_SQL_WORKERS", "0"),
];

/// Runs the real command to its end.
pub fn run(folder: &Path, arguments: &[&str]) -> Output {
    wattlake(folder, arguments).output().unwrap()
}

/// What a command wrote to stdout; it must have succeeded.
#[track_caller]
pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// `wattlake serve` as a process of its own; it is killed when it is dropped.
pub struct Process {
    child: Child,
    pub address: String,
}

impl Process {
    pub fn serve(folder: &Path, arguments: &[&str]) -> Self {
        let mut command = wattlake(folder, &["serve", "--listen", "127.0.0.1:0"]);
        command.args(arguments);
        Self::started(command, Stdio::null())
    }

    /// The same, with all that it logs in a file.
    pub fn serve_logging(folder: &Path, log: std::fs::File, arguments: &[&str]) -> Self {
        let mut command =
            wattlake(folder, &["serve", "--listen", "127.0.0.1:0", "--log-filter", "warn,wattlake=debug"]);
        command.args(arguments);
        Self::started(command, log.into())
    }

    /// The same, with a limit on the files that it may have open: the system's own, where that is lower.
    pub fn serve_within(open_files: u32, folder: &Path, arguments: &[&str]) -> Self {
        let limited = "ulimit -Sn \"$0\" 2>/dev/null || ulimit -Sn \"$(ulimit -Hn)\"; exec \"$@\"";
        let mut command = Command::new("/bin/sh");
        command.args(["-c", limited, &open_files.to_string(), env!("CARGO_BIN_EXE_wattlake")]);
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments).current_dir(folder).env_clear();
        Self::started(command, Stdio::null())
    }

    fn started(mut command: Command, log: Stdio) -> Self {
        use std::io::{BufRead, BufReader};
        let mut child = command.envs(NO_RATES).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            line.trim().strip_prefix("wattlake listens on ").expect("the address on the first line").to_owned();
        Self { child, address }
    }

    /// Of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has taken so far, in KiB. (Linux: `VmHWM`)
    pub fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// The exit code, which must come within ten seconds.
    pub fn wait(mut self) -> Option<i32> {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(10) {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the server did not end");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
