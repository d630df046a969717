//! What is stored and then altered is never answered from: it is named, mended from what is known twice, or its project is
//! refused until it is made anew from the uploads.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::harness::{TestServer, Upload, file, paid, row, run, stdout};

/// Two projects, three uploads, one of them with a correction, so that there are linked and materialised files.
async fn server() -> TestServer {
    let server = TestServer::start().await;
    let admin = server.admin();
    for project in ["kitobo", "other"] {
        admin.make_project(project).await;
    }
    admin.commit(&Upload::new("kitobo", file(&[row("A1", "100"), row("A2", "10")]))).await;
    admin
        .commit(&Upload::new("kitobo", file(&[row("A1", "60"), paid("A3", "2024-06-01T10:00:00", "5", "SUCCESS")])))
        .await;
    admin.commit(&Upload::new("other", file(&[row("B1", "7")]))).await;
    server
}

const KITOBO: [&str; 2] = ["2024-05-01 70.0000", "2024-06-01 5.0000"];

async fn revenue(server: &TestServer, project: &str) -> Vec<String> {
    let metric = format!("revenue_over_time?grain=month&tz=UTC&project={project}");
    server.admin().figures(&metric, "period revenue").await
}

/// Asks until the project is answered again, and holds that until then nothing but its damage is told.
async fn repaired(server: &TestServer, project: &str) -> Vec<String> {
    let path = format!("/v1/metrics/revenue_over_time?grain=month&tz=UTC&project={project}&format=csv");
    for _ in 0..300 {
        let answer = server.admin().get(&path).await;
        if answer.status.is_success() {
            return revenue(server, project).await;
        }
        answer.assert_problem(503, "data_damaged");
        assert_eq!(answer.body["projects"], json!([project]));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{project} was not repaired");
}

fn table(folder: &Path) -> PathBuf {
    folder.join("lake/payments")
}

fn entry(folder: &Path, version: u64) -> PathBuf {
    table(folder).join(format!("_delta_log/{version:020}.json"))
}

/// The lake's files of a partition, by path.
fn parquet(folder: &Path, partition: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(table(folder).join(partition)).unwrap();
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn set_aside(folder: &Path) -> usize {
    fs::read_dir(folder.join("lake/set-aside")).map_or(0, Iterator::count)
}

fn fsck(folder: &Path) -> (Option<i32>, Value) {
    let output = run(folder, &["fsck", "--data-dir", folder.to_str().unwrap(), "--json"]);
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
}

#[tokio::test]
async fn a_sound_folder_has_no_findings_and_a_torn_missing_or_altered_log_entry_is_written_again() {
    let mut server = server().await;
    let (code, report) = fsck(server.folder.path());
    assert_eq!(
        (code, report["sound"].clone(), report["uploads"].clone()),
        (Some(0), json!(true), json!(3)),
        "{report}"
    );
    let whole: Vec<_> = (0..=3).map(|version| fs::read(entry(server.folder.path(), version)).unwrap()).collect();
    let spoil: [fn(&Path); 5] = [
        |folder| fs::write(entry(folder, 3), "").unwrap(),
        |folder| fs::remove_file(entry(folder, 3)).unwrap(),
        |folder| fs::remove_file(entry(folder, 1)).unwrap(),
        |folder| flip(&entry(folder, 2)),
        |folder| fs::write(entry(folder, 3), &fs::read(entry(folder, 3)).unwrap()[..40]).unwrap(),
    ];
    for (number, spoil) in spoil.into_iter().enumerate() {
        server = server.restarted_after(spoil).await;
        assert_eq!(revenue(&server, "kitobo").await, KITOBO, "{number}");
        assert_eq!(revenue(&server, "other").await, ["2024-05-01 7.0000"], "{number}");
        for (version, whole) in (0..).zip(&whole) {
            assert!(fs::read(entry(server.folder.path(), version)).unwrap() == *whole, "{number}: entry {version}");
        }
        assert_eq!(fsck(server.folder.path()).0, Some(0), "{number}");
    }
    assert_eq!(set_aside(server.folder.path()), 3, "what was altered is kept");
}

#[tokio::test]
async fn an_altered_file_is_never_answered_from_and_its_project_is_made_anew_while_others_are_answered() {
    let mut server = server().await;
    // Both kinds of file, a linked one (whose bytes the upload shares) and a materialised one, altered, cut and removed.
    for partition in ["project_id=kitobo/month=2024-05", "project_id=kitobo/month=2024-06"] {
        let spoil: [fn(&Path); 3] =
            [flip, |path| fs::write(path, "PAR1").unwrap(), |path| fs::remove_file(path).unwrap()];
        for (number, spoil) in spoil.into_iter().enumerate() {
            let current: Vec<PathBuf> = server
                .lake
                .snapshot()
                .files()
                .filter(|file| file.path.starts_with(partition))
                .map(|file| table(server.folder.path()).join(&file.path))
                .collect();
            server = server.restarted_after(|_| spoil(&current[0])).await;
            assert_eq!(revenue(&server, "other").await, ["2024-05-01 7.0000"]);
            assert_eq!(repaired(&server, "kitobo").await, KITOBO, "{partition} {number}");
            let (code, report) = fsck(server.folder.path());
            assert_eq!(code, Some(0), "{report}");
        }
    }
    // And it goes on from there: the correction is still known as one.
    let again = server.admin().commit(&Upload::new("kitobo", file(&[row("A1", "60.0"), row("A2", "11")]))).await;
    assert_eq!((again["counts"]["duplicate"].clone(), again["counts"]["corrected"].clone()), (json!(1), json!(1)));
}

#[tokio::test]
async fn what_cannot_be_made_anew_stays_refused_and_is_named() {
    let server = server().await;
    let server = server
        .restarted_after(|folder| {
            let june = &parquet(folder, "project_id=kitobo/month=2024-06")[0];
            flip(june);
            for upload in fs::read_dir(folder.join("uploads")).unwrap() {
                flip(&upload.unwrap().path().join("original.csv.zst"));
            }
        })
        .await;
    for _ in 0..3 {
        let answer = server.admin().get("/v1/metrics/revenue_over_time?project=kitobo&grain=month").await;
        answer.assert_problem(503, "data_damaged");
        assert!(!answer.text.contains("parquet") && !answer.text.contains("upl_"), "{}", answer.text);
    }
    let admin = server.admin();
    let may = admin.figures("revenue_over_time?project=kitobo&grain=month&tz=UTC&to=2024-06", "period revenue");
    assert_eq!(may.await, ["2024-05-01 70.0000"], "files that are whole are answered from");
    assert_eq!(revenue(&server, "other").await, ["2024-05-01 7.0000"]);
    let (code, report) = fsck(server.folder.path());
    assert_eq!(code, Some(1));
    let codes: Vec<&str> =
        report["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect();
    assert!(codes.contains(&"file_altered") && codes.contains(&"upload_altered"), "{report}");
}

#[tokio::test]
async fn foreign_files_are_set_aside_and_what_an_ended_change_left_is_removed() {
    let server = server().await;
    let names = ["foreign.parquet", "chg_00000000000000000000000000000001-0.parquet"];
    let server = server
        .restarted_after(|folder| {
            for name in names {
                fs::write(table(folder).join("project_id=kitobo/month=2024-05").join(name), "x").unwrap();
            }
            fs::copy(entry(folder, 1), entry(folder, 4)).unwrap();
        })
        .await;
    assert_eq!(revenue(&server, "kitobo").await, KITOBO);
    assert_eq!(set_aside(server.folder.path()), 2);
    let left = parquet(server.folder.path(), "project_id=kitobo/month=2024-05");
    assert!(!left.iter().any(|path| names.contains(&path.file_name().unwrap().to_str().unwrap())), "{left:?}");
    assert_eq!(server.admin().lake_version().await, 3);
    server.admin().commit(&Upload::new("other", file(&[row("B2", "1")]))).await;
    assert_eq!(server.admin().lake_version().await, 4);
}

#[tokio::test]
async fn broken_rows_of_the_ledger_are_mended_from_the_log() {
    let mut server = server().await;
    let statements = [
        "UPDATE lake_files SET bytes = bytes + 1 WHERE project = 'kitobo' AND month = '2024-06'",
        "UPDATE lake_files SET sha256 = zeroblob(32)",
        "DELETE FROM lake_files WHERE project = 'other'",
        "UPDATE lake_versions SET change_id = replace(change_id, 'upl_', 'upl-') WHERE version = 2",
        "UPDATE lake_versions SET entry = zeroblob(8) WHERE version = 3",
        "UPDATE lake_versions SET version = 4096 WHERE version = 3",
        "UPDATE lake_versions SET rows = rows + 1 WHERE version = 3",
        "UPDATE staged_files SET rows = 0",
    ];
    for statement in statements {
        server = server.restarted_after(|folder| execute(&folder.join("catalog.sqlite"), statement)).await;
        assert_eq!(revenue(&server, "kitobo").await, KITOBO, "{statement}");
        assert_eq!(revenue(&server, "other").await, ["2024-05-01 7.0000"], "{statement}");
        assert_eq!(server.admin().lake_version().await, 3, "{statement}");
        if !statement.contains("staged_files") {
            let (code, report) = fsck(server.folder.path());
            assert_eq!(code, Some(0), "{statement}: {report}");
        }
    }
}

/// Runs a statement on the catalogue behind Wattlake's back.
fn execute(file: &Path, statement: &'static str) {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                use sqlx::Connection;
                let mut connection = sqlx::SqliteConnection::connect(file.to_str().unwrap()).await.unwrap();
                sqlx::query(statement).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            });
        });
        run.join().unwrap();
    });
}

#[tokio::test]
async fn rebuild_makes_the_same_rows_from_the_uploads_alone() {
    let server = server().await;
    let before = (revenue(&server, "kitobo").await, revenue(&server, "other").await);
    let server = server
        .restarted_after(|folder| {
            let output = run(folder, &["rebuild", "--data-dir", folder.to_str().unwrap(), "--json"]);
            let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
            assert_eq!(report["projects"].as_array().unwrap().len(), 2, "{report}");
        })
        .await;
    assert_eq!((revenue(&server, "kitobo").await, revenue(&server, "other").await), before);
    assert_eq!(server.admin().lake_version().await, 5);
    assert_eq!(fsck(server.folder.path()).0, Some(0));
    // A running server has the folder to itself.
    let folder = server.folder.path();
    let refused = run(folder, &["rebuild", "--data-dir", folder.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(4), "{}", String::from_utf8_lossy(&refused.stderr));
}

#[tokio::test]
async fn old_files_go_when_no_version_within_the_retention_and_no_reader_needs_them() {
    let server = server().await;
    let count = |server: &TestServer| parquet(server.folder.path(), "project_id=kitobo/month=2024-05").len();
    assert_eq!(count(&server), 2, "the corrected row's earlier file is still there");
    let day = Duration::from_hours(24);
    assert_eq!(server.lake.remove_old_files(day).await.unwrap(), 0);
    let reader = server.lake.snapshot();
    server.admin().commit(&Upload::new("kitobo", file(&[row("A1", "61")]))).await;
    assert_eq!(count(&server), 3);
    assert_eq!(server.lake.remove_old_files(Duration::ZERO).await.unwrap(), 1, "not the one that the reader has");
    drop(reader);
    assert_eq!(server.lake.remove_old_files(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(count(&server), 1);
    assert_eq!(revenue(&server, "kitobo").await, ["2024-05-01 71.0000", "2024-06-01 5.0000"]);
    assert_eq!(fsck(server.folder.path()).0, Some(0));
}
