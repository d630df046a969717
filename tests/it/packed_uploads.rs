//! `ELECTRICITY_PAYMENT.csv.gz` and `.csv.zst`: taken for the CSV in them, kept as they came, and refused as a whole
//! where they do not unpack to their end.

use std::{fs, path::Path, process::Command};

use async_compression::tokio::bufread::GzipEncoder;
use reqwest::{Method, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;

use crate::harness::{Answer, HEADER, Process, TestServer, Upload, counts, file, project, row, run, stdout};

pub const GZIP: &str = "ELECTRICITY_PAYMENT.csv.gz";
pub const ZSTD: &str = "ELECTRICITY_PAYMENT.csv.zst";
pub const PLAIN: &str = "ELECTRICITY_PAYMENT.csv";

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.admin().make_project("kitobo").await;
    server
}

async fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    GzipEncoder::new(bytes).read_to_end(&mut packed).await.unwrap();
    packed
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

pub async fn pack(name: &str, bytes: &[u8]) -> Vec<u8> {
    match name {
        GZIP => gzip(bytes).await,
        ZSTD => zstd(bytes),
        _ => bytes.to_vec(),
    }
}

fn named(name: &str, bytes: Vec<u8>) -> Upload {
    Upload { file_name: name.to_owned(), ..Upload::new("kitobo", bytes) }
}

/// Payments of 1 each, enough that a file of them is packed in several blocks.
fn rows(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|n| row(&format!("R{n}"), "1")).collect()
}

async fn revenue(server: &TestServer) -> Vec<String> {
    server.admin().figures("revenue_per_site", "revenue").await
}

async fn download(server: &TestServer, upload: &Value) -> (String, String, Vec<u8>) {
    let path = format!("/v1/uploads/{}/file", upload["id"].as_str().unwrap());
    let answer = server.admin().request(Method::GET, &path).send().await.unwrap();
    let header = |name| answer.headers()[name].to_str().unwrap().to_owned();
    let (media_type, disposition) = (header(header::CONTENT_TYPE), header(header::CONTENT_DISPOSITION));
    assert!(answer.headers().get(header::CONTENT_ENCODING).is_none(), "its bytes are packed once");
    (media_type, disposition, answer.bytes().await.unwrap().to_vec())
}

/// Nothing of a refused file is in the lake, and its counts add up.
async fn assert_refused(server: &TestServer, answer: &Answer, code: &str) {
    answer.assert_problem(422, "upload_rejected");
    assert_eq!(answer.body["errors"][0]["code"], code, "{}", answer.text);
    let [_, new, corrected, duplicate, _] = counts(&answer.body);
    assert_eq!((new, corrected, duplicate), (0, 0, 0));
    assert_eq!((revenue(server).await, server.admin().lake_version().await), (vec![], 0));
}

#[tokio::test]
async fn a_packed_file_lands_as_its_csv_does_and_is_kept_as_it_came() {
    let text = file(&rows(0, 3000));
    for (name, media_type) in [(GZIP, "application/gzip"), (ZSTD, "application/zstd")] {
        let server = server().await;
        let admin = server.admin();
        let packed = pack(name, &text).await;
        let made = admin.commit(&named(name, packed.clone())).await;
        assert_eq!(counts(&made), [3000, 3000, 0, 0, 0]);
        assert_eq!((&made["file_name"], &made["bytes"]), (&json!(name), &json!(packed.len())));
        assert_eq!(made["sha256"], hex::encode(Sha256::digest(&packed)));
        assert_eq!(revenue(&server).await, ["3000.0000"]);
        let kept = (media_type.to_owned(), format!("attachment; filename=\"{name}\""), packed.clone());
        assert_eq!(download(&server, &made).await, kept);
        // The same bytes are the same file; the same text in other bytes is another, all of it there already.
        let again = admin.upload(&named(name, packed)).await;
        assert_eq!((again.status.as_u16(), &again.body["id"]), (200, &made["id"]));
        assert_eq!(counts(&admin.commit(&named(PLAIN, text.clone())).await), [3000, 0, 0, 3000, 0]);
    }
}

#[tokio::test]
async fn a_plain_body_says_by_its_name_its_coding_or_its_type_how_it_is_packed() {
    let server = server().await;
    let path = "/v1/uploads?project=kitobo&dataset_name=a&file_name=";
    let mut sent = 0;
    for (name, given, header, value) in [
        (GZIP, GZIP, "content-type", "application/octet-stream"),
        (ZSTD, ZSTD, "content-type", "application/x-www-form-urlencoded"),
        (GZIP, PLAIN, "content-encoding", "gzip"),
        (ZSTD, PLAIN, "content-encoding", "zstd"),
        (GZIP, GZIP, "content-encoding", "gzip"),
        (GZIP, "", "content-type", "application/gzip"),
        (ZSTD, "", "content-encoding", "zstd"),
    ] {
        let packed = pack(name, &file(&rows(sent, 1))).await;
        let path = if given.is_empty() { path.trim_end_matches("&file_name=") } else { &format!("{path}{given}") };
        let request = server.admin().request(Method::PUT, path).header(header, value);
        let answer = Answer::of(request.body(packed.clone()).send().await.unwrap()).await;
        assert_eq!((answer.status.as_u16(), &answer.body["file_name"]), (201, &json!(name)), "{}", answer.text);
        assert_eq!(download(&server, &answer.body).await.2, packed);
        sent += 1;
    }
    assert_eq!(revenue(&server).await, [format!("{sent}.0000")]);
    let request = server.admin().request(Method::PUT, &format!("{path}{GZIP}")).header("content-encoding", "zstd");
    let answer = Answer::of(request.body(zstd(&file(&rows(0, 1)))).send().await.unwrap()).await;
    answer.assert_problem(415, "unsupported_type");
}

#[tokio::test]
async fn curl_sends_what_gzip_made() {
    let server = server().await;
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(PLAIN), file(&rows(0, 5))).unwrap();
    assert!(Command::new("gzip").arg(PLAIN).current_dir(folder.path()).status().unwrap().success());
    let key = format!("Authorization: Bearer {}", server.admin.secret);
    let url = format!("{}/v1/uploads", server.address);
    let with_query = format!("{url}?project=kitobo&dataset_name=b&file_name={GZIP}");
    let form = ["-F", "project=kitobo", "-F", "dataset_name=a", "-F", "file=@ELECTRICITY_PAYMENT.csv.gz", &url];
    for (arguments, status) in [(&form[..], "201"), (&["-T", GZIP, &with_query], "200")] {
        let mut command = Command::new("curl");
        command.args(["-sS", "-o", "-", "-w", "%{http_code}", "-H", &key]).args(arguments).current_dir(folder.path());
        let output = tokio::task::spawn_blocking(move || command.output().expect("curl is installed")).await.unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(answer.ends_with(status), "{answer}");
    }
    assert_eq!(revenue(&server).await, ["5.0000"]);
}

#[tokio::test]
async fn every_member_of_a_packed_file_is_read() {
    for name in [GZIP, ZSTD] {
        let server = server().await;
        let text = file(&rows(0, 2000));
        let mut packed = Vec::new();
        // Cut within rows, so that a member left out would be missed.
        for part in text.chunks(text.len() / 5) {
            packed.extend(pack(name, part).await);
        }
        assert_eq!(counts(&server.admin().commit(&named(name, packed)).await), [2000, 2000, 0, 0, 0]);
        assert_eq!(revenue(&server).await, ["2000.0000"]);
    }
}

#[tokio::test]
async fn a_packed_file_that_is_cut_off_is_refused_and_nothing_of_it_lands() {
    let server = server().await;
    for name in [GZIP, ZSTD] {
        let packed = pack(name, &file(&rows(0, 20_000))).await;
        for eighth in 0..8 {
            let cut = packed[..packed.len() * eighth / 8].to_vec();
            let upload =
                named(name, cut.clone()).with("on_error", if eighth % 2 == 0 { "skip_rows" } else { "reject_file" });
            let answer = server.admin().upload(&upload).await;
            assert_refused(&server, &answer, if eighth == 0 { "empty_file" } else { "packed_cut_off" }).await;
            let kept = json!({"id": answer.body["upload_id"]});
            assert_eq!(download(&server, &kept).await.2, cut, "a refused file is kept as it came");
        }
    }
}

#[tokio::test]
async fn what_is_no_packed_file_or_more_than_one_is_refused() {
    let server = server().await;
    let text = file(&rows(0, 100));
    let (gzipped, zstded) = (gzip(&text).await, zstd(&text));
    let mut damaged = gzipped.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x10;
    for (name, bytes, code) in [
        (GZIP, text.clone(), "wrong_packing"),
        (ZSTD, text.clone(), "wrong_packing"),
        (GZIP, zstded.clone(), "wrong_packing"),
        (PLAIN, gzipped.clone(), "wrong_packing"),
        (PLAIN, zstded.clone(), "wrong_packing"),
        (GZIP, gzip(&gzipped).await, "wrong_packing"),
        (GZIP, damaged, "packed_damaged"),
        (GZIP, [&gzipped[..], b"\0\0\0\0"].concat(), "packed_trailing"),
        (ZSTD, [&zstded[..], &text].concat(), "packed_trailing"),
    ] {
        let answer = server.admin().upload(&named(name, bytes)).await;
        assert_refused(&server, &answer, code).await;
        if code == "wrong_packing" {
            assert_eq!((&answer.body["errors"][0]["line"], &answer.body["errors"][0]["byte"]), (&json!(1), &json!(0)));
        }
    }
}

#[tokio::test]
async fn places_and_rejected_rows_of_a_packed_file_are_those_of_its_csv() {
    // Rows that contradict one another are found at the end, and read again from what was kept.
    let text = file(&[row("A1", "1"), row("A2", "x"), row("A3", "3"), row("A1", "2")]);
    let plain = server().await.admin().upload(&named(PLAIN, text.clone())).await;
    for name in [GZIP, ZSTD] {
        let server = server().await;
        let packed = server.admin().upload(&named(name, pack(name, &text).await)).await;
        packed.assert_problem(422, "upload_rejected");
        for member in ["counts", "errors", "warnings", "detail"] {
            assert_eq!(packed.body[member], plain.body[member], "{member}");
        }
        assert_eq!(counts(&packed.body), [4, 1, 0, 0, 3]);
        let rejected = server.admin().get(packed.body["rejected_rows"].as_str().unwrap()).await;
        assert_eq!(rejected.text.matches("conflicting_id").count(), 2, "{}", rejected.text);
    }
}

#[tokio::test]
async fn rows_that_are_lost_are_made_again_from_packed_originals() {
    let server = server().await;
    for (name, text) in [(GZIP, file(&rows(0, 50))), (ZSTD, file(&rows(50, 50)))] {
        server.admin().commit(&named(name, pack(name, &text).await)).await;
    }
    let server = server
        .restarted_after(|folder| {
            for upload in fs::read_dir(folder.join("uploads")).unwrap() {
                fs::remove_dir_all(upload.unwrap().path().join("accepted")).unwrap();
            }
            stdout(&run(folder, &["rebuild", "--data-dir", folder.to_str().unwrap()]));
        })
        .await;
    assert_eq!(revenue(&server).await, ["100.0000"]);
    let folder = server.folder.path();
    let findings = run(folder, &["fsck", "--data-dir", folder.to_str().unwrap()]);
    assert_eq!(findings.status.code(), Some(0), "{}", String::from_utf8_lossy(&findings.stdout));
}

#[tokio::test]
async fn a_packed_file_is_bounded_before_and_after_it_is_unpacked() {
    let text = file(&rows(0, 100));
    let limit = text.len() as u64;
    let within = async |max_bytes: u64| {
        let server = TestServer::with(|config| config.upload.max_bytes = max_bytes).await;
        server.admin().make_project("kitobo").await;
        server
    };
    for name in [GZIP, ZSTD] {
        let packed = pack(name, &text).await;
        assert!((packed.len() as u64) < limit / 2);
        let server = within(limit).await;
        server.admin().commit(&named(name, packed.clone())).await;
        let empty = pack(name, b"").await;
        let mut hollow = packed.clone();
        while hollow.len() as u64 <= limit {
            hollow.extend(&empty);
        }
        let server = within(limit - 1).await;
        for bytes in [packed, hollow] {
            let answer = server.admin().upload(&named(name, bytes)).await;
            answer.assert_problem(413, "file_too_large");
            let detail = answer.body["detail"].as_str().unwrap();
            assert!(detail.contains("upload.max_bytes") && detail.contains(&(limit - 1).to_string()), "{detail}");
        }
        assert_eq!(server.admin().get("/v1/uploads").await.body["uploads"], json!([]));
    }
}

/// 16 KB that unpack to half a gigabyte, which is the most that zstd can say in them: a header, a row, and line feeds.
fn dense_blank_lines() -> Vec<u8> {
    let mut bomb = zstd(&file(&rows(0, 1)));
    bomb.extend_from_slice(b"\x28\xb5\x2f\xfd\x00\x38");
    let blocks = 4000_u32;
    for block in 1..=blocks {
        let header = u32::from(block == blocks) | 1 << 1 | (128 << 10) << 3;
        bomb.extend_from_slice(&header.to_le_bytes()[..3]);
        bomb.push(b'\n');
    }
    bomb
}

/// 16 KB that unpack to more than a hundred megabytes of good rows.
fn dense_rows() -> Vec<u8> {
    let rows: String = std::iter::repeat_n(row("R1", "1") + "\n", 100_000).collect();
    let frame = zstd(rows.as_bytes());
    let mut bomb = zstd(format!("{HEADER}\n").as_bytes());
    while bomb.len() + frame.len() < 16 << 10 {
        bomb.extend(&frame);
    }
    assert!(bomb.len() / frame.len() * rows.len() > 100 << 20);
    bomb
}

/// The most memory that a process ever had, in KiB.
fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
    entries
        .map(|entry| entry.path())
        .map(|path| if path.is_dir() { bytes_below(&path) } else { path.metadata().unwrap().len() })
        .sum()
}

#[tokio::test]
async fn a_small_body_that_unpacks_to_hundreds_of_megabytes_ends_early_with_flat_memory() {
    let folder = tempfile::tempdir().unwrap();
    let key = stdout(&run(folder.path(), &["keys", "create", "--role", "admin", "--name", "t"])).trim().to_owned();
    let server = Process::serve(folder.path(), &[]);
    let client = reqwest::Client::new();
    let made = client.post(format!("{}/v1/projects", server.address)).bearer_auth(&key).json(&project("kitobo"));
    assert_eq!(made.send().await.unwrap().status(), 201);
    let send = async |bytes: Vec<u8>| {
        let url = format!("{}/v1/uploads?project=kitobo&dataset_name=a&file_name={ZSTD}", server.address);
        Answer::of(client.put(url).bearer_auth(&key).body(bytes).send().await.unwrap()).await
    };
    assert_eq!(send(zstd(&file(&rows(0, 10)))).await.status, 201);
    let (memory, disk) = (peak_memory(server.id()), bytes_below(folder.path()));
    for bomb in [dense_blank_lines(), dense_rows()] {
        assert!(bomb.len() <= 16 << 10);
        let answer = send(bomb).await;
        answer.assert_problem(413, "file_too_large");
        assert!(answer.body["detail"].as_str().unwrap().contains("upload.max_unpack_ratio"), "{}", answer.text);
    }
    let grown = peak_memory(server.id()) - memory;
    assert!(grown < 256 << 10, "memory grew by {grown} KiB");
    assert!(bytes_below(folder.path()) < disk + (1 << 20));
}
