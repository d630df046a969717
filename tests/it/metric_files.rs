//! What each metric says of two files that are small enough to be worked out by hand: `tests/metrics/*.slt`, in the form of
//! sqllogictest, with the metric and its parameters in the place of SQL.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::json;

use crate::harness::{Admin, TestServer, Upload, project};

/// The questions of a file, each with the rows of its answer.
fn questions(text: &str) -> Vec<(String, Vec<String>)> {
    let records = text.split("\n\n").map(|record| record.lines().filter(|line| !line.starts_with('#')));
    let records = records.filter_map(|mut lines| {
        assert!(lines.next()?.starts_with("query "), "a record is a query");
        let question = lines.next().unwrap().to_owned();
        assert_eq!(lines.next(), Some("----"), "{question}");
        Some((question, lines.map(str::to_owned).collect()))
    });
    records.collect()
}

/// The rows of an answer, as a file has them.
async fn answered(holder: &Admin<'_>, question: &str) -> Vec<String> {
    let joint = if question.contains('?') { '&' } else { '?' };
    let answer = holder.get(&format!("/v1/metrics/{question}{joint}format=csv")).await;
    assert_eq!(answer.status, 200, "{question}: {}", answer.text);
    let mut reader = csv::Reader::from_reader(answer.text.as_bytes());
    let header = reader.headers().unwrap().clone();
    let cell = |(name, cell): (&str, &str)| match (name, cell) {
        (_, "") => "NULL".to_owned(),
        // It is another each time.
        ("last_upload_at", _) => "UPLOADED".to_owned(),
        _ => cell.replace(' ', "_"),
    };
    let rows = reader.records().map(|row| header.iter().zip(&row.unwrap()).map(cell).collect::<Vec<_>>().join(" "));
    rows.collect()
}

#[tokio::test]
async fn every_metric_says_of_two_small_files_what_can_be_worked_out_by_hand() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metrics");
    let server = TestServer::start().await;
    for (slug, currency, zone) in [("kitobo", "KES", "Africa/Nairobi"), ("gbamu", "NGN", "Africa/Lagos")] {
        let mut body = project(slug);
        (body["currency"], body["time_zone"]) = (json!(currency), json!(zone));
        assert_eq!(server.admin().post("/v1/projects", body).await.status, 201);
        let file = fs::read(folder.join(slug).with_extension("csv")).unwrap();
        server.admin().commit(&Upload::new(slug, file)).await;
    }
    let connections = fs::read_to_string(folder.join("kitobo.connections.csv")).unwrap();
    server.admin().take_connections("kitobo", &connections).await;
    let catalogue = server.admin().get("/v1/metrics").await.body;
    let metrics = catalogue["metrics"].as_array().unwrap().iter();
    let metrics: BTreeSet<String> = metrics.map(|metric| metric["name"].as_str().unwrap().to_owned()).collect();
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files: BTreeSet<_> = files.filter(|path| path.extension().is_some_and(|end| end == "slt")).collect();
    let named = files.iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    assert_eq!(metrics, named, "each metric has a file that says what it answers");
    for file in files {
        let questions = questions(&fs::read_to_string(&file).unwrap());
        assert!(!questions.is_empty(), "{}", file.display());
        for (question, rows) in questions {
            assert_eq!(answered(&server.admin(), &question).await, rows, "{question}");
        }
    }
}
