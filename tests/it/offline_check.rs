//! `wattlake check`: without a server it says what a server would.

use std::{
    io::Write,
    path::Path,
    process::{Output, Stdio},
};

use serde_json::{Value, json};

use crate::{
    harness::{HEADER, TestServer, Upload, file, paid, row, stdout, wattlake},
    packed_uploads::{GZIP, PLAIN, ZSTD, pack},
};

/// Checks a file of these bytes in a folder of its own.
fn check(bytes: &[u8], arguments: &[&str]) -> Output {
    check_named(PLAIN, bytes, arguments)
}

fn check_named(name: &str, bytes: &[u8], arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), bytes).unwrap();
    let output = check_in(folder.path(), &[&[name], arguments].concat());
    let left: Vec<_> = std::fs::read_dir(folder.path().join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    output
}

/// With the folder for what does not fit in memory inside, so that what is left of it shows.
fn check_in(folder: &Path, arguments: &[&str]) -> Output {
    let scratch = folder.join("tmp");
    std::fs::create_dir_all(&scratch).unwrap();
    wattlake(folder, &[&["check"], arguments].concat()).env("TMPDIR", &scratch).output().unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let sample = |name| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/samples").join(name);
        (name, std::fs::read(path.join("ELECTRICITY_PAYMENT.csv")).unwrap())
    };
    let repeats =
        [row("A1", "5"), row("A1", "5.00"), row("A2", "5"), row("A2", "6"), row("A3", "5"), paid("A3", "x", "5", "")];
    let mut cut = file(&[row("A1", "5"), row("A2", "6")]);
    cut.truncate(cut.len() - 20);
    let mut open_quote = file(&[row("A1", "5"), row("A1", "5"), row("A2", "x")]);
    open_quote.extend_from_slice(b"2024-05-03T10:00:00,\"A4,");
    let mut latin = file(&[row("A1", "5"), row("A2", "6")]);
    let at = latin.len() - 3;
    latin[at] = 0xe9;
    let words = [paid("A1", "2024-05-03T10:00:00", "5", "DANCING"), paid("A2", "2099-05-03T10:00:00", "5", "")];
    vec![
        sample("good"),
        sample("three_mistakes"),
        ("repeats", file(&repeats)),
        ("cut", cut),
        ("open quote", open_quote),
        ("Latin-1", latin),
        ("words and a day to come", file(&words)),
        ("empty", Vec::new()),
        ("header alone", format!("{HEADER}\n").into_bytes()),
        ("another header", b"TIMESTAMP;ID\n".to_vec()),
        ("UTF-16", HEADER.encode_utf16().flat_map(u16::to_le_bytes).collect()),
    ]
}

#[tokio::test]
async fn a_check_reports_what_a_dry_run_on_an_empty_project_reports() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.make_project("kitobo").await;
    let (mut good, mut bad) = (0, 0);
    let mut files: Vec<_> = samples().into_iter().map(|(what, bytes)| (what, PLAIN, bytes)).collect();
    for (what, bytes) in samples() {
        let (gzip, zstd) = (pack(GZIP, &bytes).await, pack(ZSTD, &bytes).await);
        files.push((what, ZSTD, zstd[..zstd.len() - 1].to_vec()));
        files.extend([(what, GZIP, gzip), (what, ZSTD, zstd)]);
    }
    files.push(("packed twice", GZIP, pack(GZIP, &pack(GZIP, &samples()[0].1).await).await));
    files.push(("another packing", GZIP, pack(ZSTD, &samples()[0].1).await));
    for (name, file_name, bytes) in files {
        let upload = Upload { file_name: file_name.to_owned(), ..Upload::new("kitobo", bytes.clone()) };
        let dry = admin.upload(&upload.with("dry_run", "true")).await;
        let output = check_named(file_name, &bytes, &["--json"]);
        let report = report(&output);
        let refused = !dry.status.is_success();
        assert_eq!(output.status.code(), Some(i32::from(refused)), "{name}: {}", dry.text);
        for member in ["errors", "warnings", "sha256"] {
            assert_eq!(report[member], dry.body[member], "{name}: {member}");
        }
        for count in ["read", "accepted", "duplicate", "rejected"] {
            assert_eq!(report["counts"][count], dry.body["counts"][count], "{name}: {count}");
        }
        if refused {
            bad += 1;
            assert!(report["errors"].as_array().is_some_and(|errors| !errors.is_empty()), "{name}");
        } else {
            good += 1;
            assert_eq!((&report["months"], &report["bytes"]), (&dry.body["months"], &dry.body["bytes"]), "{name}");
        }
    }
    assert!(good >= 3 && bad >= 36, "{good} {bad}");
}

#[tokio::test]
async fn the_rejected_rows_are_those_that_a_server_keeps() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.make_project("kitobo").await;
    for (name, bytes) in samples().into_iter().take(3) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rejected.csv");
        check(&bytes, &["--rejected", path.to_str().unwrap()]);
        let upload = admin.commit(&Upload::new("kitobo", bytes).with("on_error", "skip_rows")).await;
        let kept = match upload["rejected_rows"].as_str() {
            Some(link) => admin.get(link).await.text,
            None => String::new(),
        };
        assert_eq!(std::fs::read_to_string(path).unwrap(), kept, "{name}");
    }
}

#[test]
fn a_good_file_ends_with_0_and_a_bad_one_with_1_and_its_lines() {
    let [(_, good), (_, bad)] = [0, 1].map(|at| samples().swap_remove(at));
    let told = stdout(&check(&good, &[]));
    assert_eq!(told, "READ  ACCEPTED  DUPLICATE  REJECTED\n  10        10          0         0\n\nMonths: 2024-12\n");
    let output = check(&bad, &["--errors", "2"]);
    let (shown, told) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1));
    assert!(shown.contains("4  PAYMENT_AMOUNT  250,50"), "{shown}");
    assert!(shown.contains("METER_ID") && !shown.contains("31/12/2024") && shown.contains("1 more"), "{shown}");
    assert!(told.starts_with("wattlake: ELECTRICITY_PAYMENT.csv: 3 of 10 rows are rejected; line 4: "), "{told}");
    let json = check(&bad, &["--errors", "2", "--json"]);
    assert_eq!(report(&json)["errors"].as_array().unwrap().len(), 2);
    let told = String::from_utf8(json.stderr).unwrap();
    let error = serde_json::from_str::<Value>(&told).unwrap()["error"].clone();
    assert_eq!((&error["kind"], &error["exit_code"]), (&json!("rejected"), &json!(1)));
}

#[tokio::test]
async fn another_name_is_refused_and_standard_input_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = file(&[row("A1", "5")]);
    std::fs::write(folder.path().join("payments.csv"), &bytes).unwrap();
    let output = check_in(folder.path(), &["payments.csv"]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("payments.csv: the file is named \"payments.csv\"; its name must be exactly"), "{told}");

    let mut command = wattlake(folder.path(), &["check", "-", "--json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert_eq!(report(&child.wait_with_output().unwrap())["counts"]["accepted"], 1);

    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&pack(ZSTD, &bytes).await).unwrap();
    assert_eq!(
        report(&child.wait_with_output().unwrap())["counts"]["accepted"],
        1,
        "its first bytes say how it is packed"
    );
}

#[test]
fn a_files_limits_are_the_settings_and_a_file_is_never_written_over() {
    let bytes = file(&[row("A1", "5"), row("A2", "6")]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ELECTRICITY_PAYMENT.csv");
    std::fs::write(&path, &bytes).unwrap();
    std::fs::write(folder.path().join("wattlake.toml"), "[upload]\nmax_rows = 1").unwrap();
    let few = check_in(folder.path(), &["ELECTRICITY_PAYMENT.csv", "--json"]);
    assert_eq!(report(&few)["errors"][0]["code"], "too_many_rows");
    std::fs::write(folder.path().join("wattlake.toml"), "[upload]\nmax_bytes = 1024").unwrap();
    std::fs::write(&path, vec![b'\n'; 2000]).unwrap();
    let large = check_in(folder.path(), &["ELECTRICITY_PAYMENT.csv"]);
    assert_eq!(large.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&large.stderr).contains("the file has more than 1024 bytes"));
    let over = check_in(folder.path(), &["ELECTRICITY_PAYMENT.csv", "--rejected", "./ELECTRICITY_PAYMENT.csv"]);
    assert_eq!(over.status.code(), Some(2));
    assert_eq!(std::fs::read(&path).unwrap().len(), 2000);
}

#[test]
fn a_column_that_a_programme_asks_for_can_be_required() {
    let bytes = file(&[row("A1", "5"), row("A2", "5").replace(",,SUCCESS", ",RESIDENTIAL,SUCCESS")]);
    assert_eq!(check(&bytes, &["--json"]).status.code(), Some(0));
    let told = report(&check(&bytes, &["--json", "--require", "ACCOUNT_TYPE", "--require", "STATUS"]));
    assert_eq!(told["counts"]["rejected"], 1, "{told}");
    let error = &told["errors"][0];
    assert_eq!(
        (&error["line"], &error["column"], &error["code"]),
        (&json!(2), &json!("ACCOUNT_TYPE"), &json!("missing_value"))
    );
    assert_eq!(error["message"], "ACCOUNT_TYPE is blank; it is asked for");
    let told = report(&check(&bytes, &["--json", "--require", "external_id"]));
    assert_eq!(told["errors"][0]["message"], "the column \"external_id\" is missing; it is asked for");
    let wrong = check(&bytes, &["--require", "ACCOUNT_TIPE"]);
    let told = String::from_utf8_lossy(&wrong.stderr);
    assert!(wrong.status.code() == Some(2) && told.contains("did you mean \"ACCOUNT_TYPE\"?"), "{told}");
}
