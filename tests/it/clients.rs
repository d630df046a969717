//! The lake and the API as others read them: the generator's files go in through HTTP, and `DuckDB`, deltalake and pyarrow
//! find what the generator wrote down about them.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    binary::rounds,
    harness::{TestServer, Upload, counts, project},
};

/// Rows of the generator that are bad by its own word and good by the rules of Wattlake; of the other kinds, each is
/// refused. (`benches/gen_payments.py --list-bad`)
const TAKEN_IN: [&str; 9] = [
    "negative_amount",
    "three_decimals",
    "offset_timestamp",
    "bad_status",
    "blank_line",
    "stray_quote",
    "duplicate_row",
    "multiline_note",
    "formula_name",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[allow(clippy::disallowed_methods, reason = "the variable is make's word to this test, and no setting of Wattlake")]
pub fn python() -> PathBuf {
    let python =
        std::env::var_os("CLIENTS_PYTHON").map_or_else(|| root().join("target/venv/bin/python"), PathBuf::from);
    assert!(
        python.is_file(),
        "there is no {}; `make test` installs the Python readers that this test needs",
        python.display()
    );
    python
}

/// Runs a script of this repository to its end, beside the server.
pub async fn run(script: &str, arguments: &[&dyn AsRef<OsStr>]) {
    let mut command = Command::new(python());
    command.arg(root().join(script)).args(arguments.iter().map(AsRef::as_ref));
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{script}:\n{}{}", text(&output.stdout), text(&output.stderr));
}

/// A set of the generator: 3 projects × 4 months.
struct Set {
    folder: tempfile::TempDir,
    manifest: Value,
}

impl Set {
    async fn generate(rows: &str, more: &[&dyn AsRef<OsStr>]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let size: [&dyn AsRef<OsStr>; 8] = [&"--rows", &rows, &"--projects", &"3", &"--sites", &"4", &"--months", &"4"];
        let out: [&dyn AsRef<OsStr>; 2] = [&"--out", &folder.path()];
        run("benches/gen_payments.py", &[&out[..], &size, more].concat()).await;
        let manifest = std::fs::read(folder.path().join("manifest.json")).unwrap();
        Self { manifest: serde_json::from_slice(&manifest).unwrap(), folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Each file of the set, its name in the manifest, and the slug of its project, which is made.
    async fn files(&self, server: &TestServer) -> Vec<(String, String, Vec<u8>)> {
        let mut files = Vec::new();
        for file in self.manifest["files"].as_array().unwrap() {
            let name = file["file"].as_str().unwrap();
            let slug = name.strip_prefix("project=").unwrap().split('/').next().unwrap().to_lowercase();
            let mut body = project(&slug);
            body["time_zone"] = json!("UTC");
            assert_eq!(server.admin().post("/v1/projects", body).await.status, 201);
            files.push((name.to_owned(), slug, std::fs::read(self.path().join(name)).unwrap()));
        }
        files
    }
}

#[tokio::test]
async fn other_readers_find_every_payment_of_the_generator_to_the_cent() {
    let set = Set::generate("60000", &[]).await;
    let server = TestServer::start().await;
    for (name, slug, file) in set.files(&server).await {
        let report = server.admin().commit(&Upload::new(&slug, file)).await;
        assert_eq!(counts(&report), [20_000, 20_000, 0, 0, 0], "{name}");
        assert_eq!(report["months"], json!(["2024-01", "2024-02", "2024-03", "2024-04"]));
        assert_eq!(report["warnings"], json!([]));
    }
    let manifest = set.path().join("manifest.json");
    run("tests/clients/check_lake.py", &[&server.folder.path(), &manifest]).await;
    run("tests/clients/check_http.py", &[&server.address, &server.admin.secret, &manifest]).await;
}

/// The lines of a file that are to be rejected, by the manifest, and the rows that are duplicates.
fn expected(manifest: &Value, name: &str, file: &[u8]) -> (BTreeSet<u64>, u64) {
    let of_file = |bad: &&Value| bad["file"] == name;
    let bad: Vec<(&str, u64)> = manifest["bad"]
        .as_array()
        .unwrap()
        .iter()
        .filter(of_file)
        .map(|bad| (bad["kind"].as_str().unwrap(), bad["line"].as_u64().unwrap()))
        .collect();
    let id = |line: &[u8]| line.split(|byte| *byte == b',').nth(1).map(<[u8]>::to_vec);
    let ids: Vec<_> = file.split(|byte| *byte == b'\n').map(id).collect();
    let mut rejected: BTreeSet<u64> =
        bad.iter().filter(|(kind, _)| !TAKEN_IN.contains(kind)).map(|(_, line)| *line).collect();
    // Of rows with one ID that differ, none is known to be the right one.
    for (_, line) in bad.iter().filter(|(kind, _)| *kind == "duplicate_id") {
        let id = &ids[usize::try_from(line - 1).unwrap()];
        rejected.extend((1..).zip(&ids).filter(|(_, other)| *other == id).map(|(line, _)| line));
    }
    let duplicates = bad.iter().filter(|(kind, line)| *kind == "duplicate_row" && !rejected.contains(line)).count();
    (rejected, duplicates as u64)
}

#[tokio::test]
async fn of_a_set_with_every_kind_of_bad_row_exactly_the_refused_kinds_are_rejected() {
    let set = Set::generate("6000", &[&"--bad", &"all=2"]).await;
    assert_eq!(set.manifest["bad"].as_array().unwrap().len(), 56);
    let server = TestServer::start().await;
    for (name, slug, file) in set.files(&server).await {
        let (lines, duplicates) = expected(&set.manifest, &name, &file);
        let blank = set.manifest["bad"].as_array().unwrap().iter();
        let blank = blank.filter(|bad| bad["file"] == name && bad["kind"] == "blank_line").count() as u64;
        let info = set.manifest["files"].as_array().unwrap().iter().find(|info| info["file"] == name).unwrap();
        let read = info["rows"].as_u64().unwrap() + info["bad_rows"].as_u64().unwrap() - blank;

        let upload = Upload::new(&slug, file);
        server.admin().upload(&upload).await.assert_problem(422, "upload_rejected");
        let report = server.admin().commit(&upload.with("on_error", "skip_rows")).await;
        let path = format!("/v1/uploads/{}/rejected.csv", report["id"].as_str().unwrap());
        let text = server.admin().get(&path).await.text;
        let rows = csv::Reader::from_reader(text.as_bytes()).into_records();
        let found: Vec<u64> = rows.map(|row| row.unwrap()[14].parse().unwrap()).collect();
        assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), lines, "{name}");
        assert_eq!(found.len(), lines.len(), "a row is rejected once");
        let rejected = lines.len() as u64;
        assert_eq!(counts(&report), [read, read - duplicates - rejected, 0, duplicates, rejected], "{name}");
    }
}

#[tokio::test]
async fn metrics_are_what_python_computes_from_the_same_payments() {
    for seed in 1..=rounds("METRIC_SEEDS", 2) {
        let server = TestServer::start().await;
        let seed = seed.to_string();
        run("tests/clients/check_metrics.py", &[&server.address, &server.admin.secret, &seed]).await;
    }
}

/// Questions that are asked in an ordinary run of the tests; `SQL_QUESTIONS` and `SQL_SEED` ask others.
const QUESTIONS: u64 = 300;

#[tokio::test]
async fn sql_has_the_answers_that_duckdb_gives_over_the_same_rows_to_the_last_decimal() {
    let odd = ["negative_amount=60", "three_decimals=60", "bad_status=30", "formula_name=6", "multiline_note=12"];
    let odd: Vec<&dyn AsRef<OsStr>> = odd.iter().flat_map(|kind| [&"--bad" as &dyn AsRef<OsStr>, kind]).collect();
    let set = Set::generate("6000", &odd).await;
    let server = TestServer::start().await;
    for (_, slug, file) in set.files(&server).await {
        server.admin().commit(&Upload::new(&slug, file)).await;
    }
    // Local months are not those of UTC.
    let moved = server.admin().patch("/v1/projects/p01", json!({"time_zone": "Africa/Nairobi"})).await;
    assert_eq!(moved.status, 200, "{}", moved.text);
    let (questions, seed) = (rounds("SQL_QUESTIONS", QUESTIONS).to_string(), rounds("SQL_SEED", 1).to_string());
    let folder = server.folder.path();
    run("tests/clients/check_sql.py", &[&server.address, &server.admin.secret, &folder, &questions, &seed]).await;
}
