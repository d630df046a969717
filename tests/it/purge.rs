//! Erasure by law: nothing of a purged upload is left in the data folder, and nobody else's rows are touched.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::Output,
};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, TestServer, Upload, file, run, stdout};

const MARK: &str = "Xaverine Zwolinski";

/// A payment of a customer of that name.
fn of(name: &str, id: &str, amount: &str) -> String {
    format!("2024-05-03T10:00:00,{id},00104,,C-{id},{name},,M-PESA,,{amount},,SUCCESS,,Kitobo")
}

/// The files below `folder` that hold the mark, as they are or unpacked.
fn holding(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            let bytes = fs::read(&path).unwrap();
            let mut text = bytes.clone();
            if path.extension().is_some_and(|extension| extension == "zst") {
                zstd::Decoder::new(&bytes[..]).unwrap().read_to_end(&mut text).unwrap();
            }
            if path.extension().is_some_and(|extension| extension == "parquet")
                && !path.to_str().unwrap().contains("_delta_log")
            {
                for batch in
                    ParquetRecordBatchReaderBuilder::try_new(fs::File::open(&path).unwrap()).unwrap().build().unwrap()
                {
                    text.extend(format!("{batch:?}").into_bytes());
                }
            }
            if text.windows(MARK.len()).any(|window| window == MARK.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

async fn post(server: &TestServer, path: &str) -> Answer {
    Answer::of(server.admin().request(Method::POST, path).send().await.unwrap()).await
}

/// The bytes that queries keep of files.
async fn kept_in_memory(server: &TestServer) -> u64 {
    let counters = server.admin().get("/metrics").await.text;
    let line = counters.lines().find_map(|line| line.strip_prefix("wattlake_query_partials_bytes "));
    line.unwrap().parse().unwrap()
}

/// Runs the command on a thread of its own, while this test's server answers it.
async fn run_beside(folder: &Path, arguments: &[&str]) -> Output {
    let (folder, arguments) = (folder.to_owned(), arguments.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    let work = move || run(&folder, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test]
async fn of_a_purged_upload_nothing_is_left_in_the_data_folder_but_its_counts() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.make_project("kitobo").await;
    admin.commit(&Upload::new("kitobo", file(&[of("Amina", "A1", "10")]))).await;
    let marked = admin.commit(&Upload::new("kitobo", file(&[of(MARK, "A2", "20"), of(MARK, "A1", "11")]))).await;
    // Its rows were materialised with others, so that earlier files hold them too; and a rejected file quotes the name.
    admin.commit(&Upload::new("kitobo", file(&[of("Amina", "A1", "12"), of("Amina", "A3", "1")]))).await;
    let rejected =
        admin.upload(&Upload::new("kitobo", file(&[of("Amina", MARK, "x")])).with("dataset_name", "05_2024_B")).await;
    rejected.assert_problem(422, "upload_rejected");
    assert!(holding(server.folder.path()).len() >= 4);

    let id = marked["id"].as_str().unwrap();
    let path = format!("/v1/uploads/{id}/purge");
    post(&server, &path).await.assert_problem(409, "upload_status");
    assert!(!admin.figures("payments_per_customer", "customer_id").await.is_empty());
    assert!(kept_in_memory(&server).await > 0, "what was asked about its customers is kept");
    let deleted = Answer::of(admin.request(Method::DELETE, &format!("/v1/uploads/{id}")).send().await.unwrap()).await;
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    let purged = post(&server, &path).await;
    assert_eq!((purged.status.as_u16(), &purged.body["upload"]["status"]), (200, &json!("purged")), "{}", purged.text);
    assert!(purged.body["lake_files_removed"].as_u64().unwrap() >= 2, "{}", purged.text);
    assert_eq!(kept_in_memory(&server).await, 0);
    assert_eq!(post(&server, &path).await.status, 200, "again does no harm");
    let refused = rejected.body["upload_id"].as_str().unwrap().to_owned();
    let arguments = ["purge", &refused, "--server", &server.address, "--key", &server.admin.secret];
    let unasked = run_beside(server.folder.path(), &arguments).await;
    assert_eq!(unasked.status.code(), Some(2), "nobody is there to be asked");
    let erased = run_beside(server.folder.path(), &[&arguments[..], &["--yes"]].concat()).await;
    assert!(stdout(&erased).contains(&format!("{refused} is erased")));
    assert_eq!(holding(server.folder.path()), Vec::<PathBuf>::new());

    assert_eq!(admin.figures("revenue_over_time?grain=all", "revenue payments").await, ["13.0000 2"]);
    let record = admin.get(&format!("/v1/uploads/{id}")).await.body;
    assert_eq!((&record["status"], &record["counts"]["read"]), (&json!("purged"), &json!(2)));
    admin.get(&format!("/v1/uploads/{id}/file")).await.assert_problem(404, "not_found");
    post(&server, &format!("/v1/uploads/{id}/restore")).await.assert_problem(409, "upload_status");
    let folder = server.folder.path();
    let fsck = run(folder, &["fsck", "--data-dir", folder.to_str().unwrap()]);
    assert_eq!(fsck.status.code(), Some(0), "{}", String::from_utf8_lossy(&fsck.stdout));
    let server = server.restarted().await;
    assert_eq!(holding(server.folder.path()), Vec::<PathBuf>::new());
    assert_eq!(server.admin().figures("revenue_over_time?grain=all", "revenue payments").await, ["13.0000 2"]);
}
