//! Uploads over several projects: each row goes to the project whose connections hold its meter.

use std::{fs::File, path::Path};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use reqwest::Method;
use serde_json::{Value, json};
use wattlake::access::Role;

use crate::{
    connections::{by_site, paid},
    harness::{Admin, Answer, TestServer, Upload, counts, file, project, run, stdout},
};

/// The projects hill and lake of the organisation main, whose connections are those meters; hill is in KES, lake in TZS.
async fn server() -> TestServer {
    let server = TestServer::start().await;
    let admin = server.admin();
    for (slug, currency, meters) in [
        ("hill", "KES", "EXTERNAL_ID,SITE,CATEGORY\n00104000123,Peak,Public\nAB 1,,\nboth,,\n46012345678,,\n"),
        ("lake", "TZS", "EXTERNAL_ID\n7\nboth\n46098765432\n"),
    ] {
        let mut body = project(slug);
        (body["currency"], body["name"]) = (json!(currency), json!(format!("The {slug}")));
        assert_eq!(admin.post("/v1/projects", body).await.status, 201);
        connect(&admin, slug, meters).await;
    }
    server
}

async fn connect(admin: &Admin<'_>, slug: &str, csv: &str) {
    let path = format!("/v1/projects/{slug}/connections");
    let request = admin.request(Method::POST, &path).header("content-type", "text/csv").body(csv.to_owned());
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

fn to_both(rows: &[String]) -> Upload {
    let mut upload = Upload::new("hill", file(rows)).with("dataset_name", "all of them");
    upload.fields.push(("project".to_owned(), "lake".to_owned()));
    upload
}

async fn figures(admin: &Admin<'_>) -> Vec<String> {
    admin.figures("revenue_per_site", "project site currency revenue").await
}

fn errors(answer: &Value) -> Vec<(u64, String, String)> {
    let of = |error: &Value, name: &str| error[name].as_str().unwrap_or_default().to_owned();
    let errors = answer["errors"].as_array().unwrap().iter();
    errors.map(|error| (error["line"].as_u64().unwrap(), of(error, "code"), of(error, "message"))).collect()
}

#[tokio::test]
async fn each_row_goes_to_the_project_whose_connections_hold_its_meter_in_one_version() {
    let server = server().await;
    let admin = server.admin();
    // The same ID in two projects is two payments.
    let rows = [
        paid("A1", "00104000123", "Shore"),
        paid("A1", "7", "Shore"),
        paid("A2", "AB 1", ""),
        paid("A2", "7", ""),
        paid("A3", "46098765432", ""),
        paid("A3", "46098765432", ""),
    ];
    let tried = admin.upload(&to_both(&rows).with("dry_run", "true")).await;
    assert_eq!((tried.status.as_u16(), counts(&tried.body)), (200, [6, 5, 0, 1, 0]), "{}", tried.text);
    assert_eq!(tried.body["months"], json!(["2024-05"]));
    assert_eq!(figures(&admin).await, [""; 0]);
    let record = admin.commit(&to_both(&rows)).await;
    assert_eq!((counts(&record), &record["projects"]), ([6, 5, 0, 1, 0], &json!(["hill", "lake"])));
    assert_eq!(record["lake_version"], 1, "one version for both");
    let expected =
        ["hill Peak KES 10.0000", "hill The hill KES 10.0000", "lake Shore TZS 10.0000", "lake The lake TZS 20.0000"];
    assert_eq!(figures(&admin).await, expected);
    // The same bytes to the same projects, in whichever order they are named.
    let again =
        admin.upload(&Upload { fields: to_both(&rows).fields.into_iter().rev().collect(), ..to_both(&rows) }).await;
    assert_eq!((again.status.as_u16(), &again.body["id"]), (200, &record["id"]));
    // A correction in one and a duplicate in the other.
    let more = [paid("A1", "00104000123", "Shore").replace(",10,", ",15,"), paid("A1", "7", "Shore")];
    assert_eq!(counts(&admin.commit(&to_both(&more)).await), [2, 0, 1, 1, 0]);
    assert_eq!(figures(&admin).await[0], "hill Peak KES 15.0000");

    let id = record["id"].as_str().unwrap();
    assert_eq!(admin.delete(&format!("/v1/uploads/{id}")).await.status, 200);
    assert_eq!(figures(&admin).await, ["hill Peak KES 15.0000", "lake Shore TZS 10.0000"]);
    assert_eq!(admin.post(&format!("/v1/uploads/{id}/restore"), json!(null)).await.status, 200);
    assert_eq!(figures(&admin).await.len(), 4);
}

#[tokio::test]
async fn a_meter_that_is_connected_nowhere_or_twice_is_told_with_what_was_likely_meant() {
    let server = server().await;
    let admin = server.admin();
    let near = [
        ("104000123", "unmatched_meter", "did you mean 00104000123 of hill?"),
        ("ab1", "unmatched_meter", "did you mean AB 1 of hill?"),
        (" 7", "unmatched_meter", "did you mean 7 of lake?"),
        ("4.6E+10", "scientific_notation", "did you mean 46012345678 of hill, or 46098765432 of lake?"),
        ("4.601E+10", "scientific_notation", "did you mean 46012345678 of hill?"),
        ("both", "ambiguous_meter", "connected in hill and in lake"),
        ("99", "unmatched_meter", "connected in none of hill, lake; add its connection"),
    ];
    let bad = near.iter().enumerate().map(|(at, (meter, ..))| paid(&format!("B{at}"), meter, ""));
    let rows: Vec<String> = [paid("A1", "7", "")].into_iter().chain(bad).collect();
    let refused = admin.upload(&to_both(&rows)).await;
    refused.assert_problem(422, "upload_rejected");
    assert_eq!(counts(&refused.body), [8, 1, 0, 0, 7]);
    for ((line, code, message), (at, (meter, expected, meant))) in errors(&refused.body).iter().zip((3..).zip(near)) {
        assert_eq!((*line, code.as_str()), (at, expected), "{meter}");
        assert!(message.contains(meant), "{meter}: {message}");
    }
    assert_eq!(figures(&admin).await, [""; 0]);
    let record = admin.commit(&to_both(&rows).with("on_error", "skip_rows")).await;
    assert_eq!(counts(&record), [8, 1, 0, 0, 7]);
    let rejected = admin.get(record["rejected_rows"].as_str().unwrap()).await.text;
    assert_eq!(rejected.lines().count(), 8, "{rejected}");
    assert!(rejected.contains("ambiguous_meter") && rejected.contains("did you mean AB 1 of hill?"), "{rejected}");
    assert_eq!(figures(&admin).await, ["lake The lake TZS 10.0000"]);
    // One project asks for no connection.
    let one = Upload::new("hill", file(&[paid("C1", "99", "")]));
    assert_eq!(counts(&admin.commit(&one).await), [1, 1, 0, 0, 0]);
}

#[tokio::test]
async fn rows_of_one_id_contradict_one_another_within_a_project_alone() {
    let server = server().await;
    let rows = [
        paid("A1", "00104000123", ""),
        paid("A1", "AB 1", ""),
        paid("A2", "7", ""),
        // At fault, and of the ID of a good row of the other project.
        paid("A2", "AB 1", "").replace(",10,", ",x,"),
    ];
    let answer = server.admin().upload(&to_both(&rows)).await;
    let told: Vec<_> = errors(&answer.body).into_iter().map(|(line, code, _)| (line, code)).collect();
    let expected = [(2, "conflicting_id"), (3, "conflicting_id"), (5, "bad_amount")];
    assert_eq!(told, expected.map(|(line, code)| (line, code.to_owned())));
}

#[tokio::test]
async fn all_projects_are_the_callers_to_upload_to_and_of_one_organisation() {
    let server = server().await;
    let admin = server.admin();
    assert_eq!(admin.post("/v1/organisations", json!({"slug": "other", "name": "Other"})).await.status, 201);
    let mut far = project("far");
    far["organisation"] = json!("other");
    assert_eq!(admin.post("/v1/projects", far).await.status, 201);
    let uploader = server.key_of("main", Role::Uploader).await;
    let rows = [paid("A1", "7", "")];
    let with = |slug: &str| {
        let mut upload = to_both(&rows);
        upload.fields.push(("project".to_owned(), slug.to_owned()));
        upload
    };
    let foreign = server.holder(&uploader).upload(&with("far")).await;
    foreign.assert_problem(404, "not_found");
    let absent = server.holder(&uploader).upload(&with("nowhere")).await;
    assert_eq!(foreign.text, absent.text);
    admin.upload(&with("far")).await.assert_problem(400, "invalid_parameter");
    server.holder(&uploader).upload(&with("lake")).await.assert_problem(400, "invalid_parameter");
    assert_eq!(server.holder(&uploader).commit(&to_both(&rows)).await["projects"], json!(["hill", "lake"]));
    let server = TestServer::with(|config| config.upload.max_projects = 1).await;
    let too_many = server.admin().upload(&to_both(&rows)).await;
    too_many.assert_problem(400, "invalid_parameter");
    assert!(too_many.text.contains("upload.max_projects"), "{}", too_many.text);
}

#[tokio::test]
async fn rows_stay_where_they_went_when_connections_move_and_staged_rows_are_lost() {
    let server = server().await;
    let admin = server.admin();
    let rows = [paid("A1", "7", "Shore"), paid("A2", "AB 1", ""), paid("A3", "99", "")];
    let record = admin.commit(&to_both(&rows).with("on_error", "skip_rows")).await;
    let before = figures(&admin).await;
    assert_eq!(before, ["hill The hill KES 10.0000", "lake Shore TZS 10.0000"]);
    // The meters change sides, and 99 is connected.
    for (slug, gone, csv) in [("lake", "7", "EXTERNAL_ID\nAB 1\n99\n"), ("hill", "AB%201", "EXTERNAL_ID\n7\n")] {
        assert_eq!(admin.delete(&format!("/v1/projects/{slug}/connections/{gone}")).await.status, 200);
        connect(&admin, slug, csv).await;
    }
    assert_eq!(figures(&admin).await, before);
    let staged = format!("uploads/{}/accepted", record["id"].as_str().unwrap());
    let server = server.restarted_after(|folder| std::fs::remove_dir_all(folder.join(&staged)).unwrap()).await;
    for slug in ["hill", "lake"] {
        server.ingest.rebuild(&slug.parse().unwrap()).await.unwrap();
    }
    assert_eq!(figures(&server.admin()).await, before);
    let ids = |slug: &str| ids_below(&server.folder.path().join(&staged).join(slug));
    assert_eq!((ids("hill"), ids("lake")), (vec!["A2".to_owned()], vec!["A1".to_owned()]));
    let found = run(server.folder.path(), &["fsck", "--data-dir", server.folder.path().to_str().unwrap()]);
    assert!(stdout(&found).contains("all is as it was written"), "{}", stdout(&found));
}

/// The payment IDs of the files in a folder.
fn ids_below(folder: &Path) -> Vec<String> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(entry.unwrap().path()).unwrap()).unwrap();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            let column = arrow::array::AsArray::as_string::<i32>(batch.column_by_name("payment_id").unwrap()).clone();
            ids.extend(column.iter().flatten().map(str::to_owned));
        }
    }
    ids.sort();
    ids
}

#[tokio::test]
async fn the_command_names_several_projects() {
    let server = server().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ELECTRICITY_PAYMENT.csv"), file(&[paid("A1", "7", ""), paid("A2", "AB 1", "")]))
        .unwrap();
    let arguments =
        ["ingest", "ELECTRICITY_PAYMENT.csv", "--project", "hill", "--project", "lake", "--dataset-name", "d"];
    let client = ["--server", &server.address, "--key", &server.admin.secret];
    let path = folder.path().to_owned();
    let arguments: Vec<String> = arguments.iter().chain(&client).map(|text| (*text).to_owned()).collect();
    let output = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(&path, &arguments)
    });
    let said = stdout(&output.await.unwrap());
    assert!(said.contains("in version 1 of the lake"), "{said}");
    assert_eq!(by_site(&server.admin()).await, ["The hill 10.0000", "The lake 10.0000"]);
}
