//! The connections of a project, and payments that follow them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::{Path, PathBuf},
};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use wattlake::{
    access::Role,
    catalog::Catalog,
    ids::{ChangeId, ProjectSlug},
    lake::{self, Change, ChangeKind, FileNames, Lake, LakeFile, Verified},
};

use crate::{
    binary::{Site, quick_folder},
    harness::{Admin, Answer, TestServer, Upload, counts, file},
};

const PATH: &str = "/v1/projects/kitobo/connections";

/// The points of a change of connections that no other operation passes.
pub const POINTS: [&str; 3] = ["catalog::change_connections", "connections::changed", "catalog::set_connections_shown"];

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.admin().make_project("kitobo").await;
    server
}

/// Sends a file of connections.
async fn send(admin: &Admin<'_>, query: &str, csv: &str) -> Answer {
    let request = admin.request(Method::POST, &format!("{PATH}{query}")).header("content-type", "text/csv");
    Answer::of(request.body(csv.to_owned()).send().await.unwrap()).await
}

/// Sends connections that must be taken.
async fn take(admin: &Admin<'_>, csv: &str) -> Value {
    let answer = send(admin, "", csv).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

/// A payment of a meter in May 2024, with a LOCATION or without.
pub fn paid(id: &str, meter: &str, location: &str) -> String {
    format!("2024-05-03T10:00:00,{id},{meter},,C-{id},Amina Otieno,,M-PESA,,10,,SUCCESS,,{location}")
}

fn told(answer: &Value) -> Vec<String> {
    let errors = answer["errors"].as_array().unwrap().iter();
    errors.map(|error| format!("{} {} {}", error["line"], error["column"], error["code"]).replace('"', "")).collect()
}

pub async fn by_site(admin: &Admin<'_>) -> Vec<String> {
    admin.figures("revenue_per_site", "site revenue").await
}

/// The rows of a question in SQL, without the header.
async fn sql(admin: &Admin<'_>, sql: &str) -> Vec<String> {
    let answer = admin.post("/v1/sql", json!({"sql": sql, "format": "csv"})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.text.lines().skip(1).map(str::to_owned).collect()
}

#[tokio::test]
async fn connections_come_in_again_and_corrected_as_payments_do() {
    let server = server().await;
    let admin = server.admin();
    let template = admin.get("/v1/templates/CONNECTIONS.csv").await.text;
    let tried = send(&admin, "?dry_run=true", &template).await;
    assert_eq!((counts(&tried.body), tried.body["dry_run"].clone()), ([2, 2, 0, 0, 0], json!(true)));
    assert_eq!(admin.get(PATH).await.body["connections"], json!([]));
    assert_eq!(counts(&take(&admin, &template).await), [2, 2, 0, 0, 0]);
    assert_eq!(counts(&take(&admin, &template).await), [2, 0, 0, 2, 0]);
    // In another order of columns, with a word in another case, twice; and another phone.
    let again = "PHONE,CATEGORY,EXTERNAL_ID,SITE,CUSTOMER_NAME,COUNTRY,CONNECTED_ON\n\
                 ,COMMERCIAL,00104000124,Kitobo,Kitobo Traders Ltd.,Kenya,2024-05-02\n\
                 07,Public,7,,,,\n07,Public,7,,,,\n";
    assert_eq!(counts(&take(&admin, again).await), [3, 1, 0, 2, 0]);
    let corrected = again.replace("\n,COMMERCIAL", "\n0700,COMMERCIAL").replace("07,", "08,");
    assert_eq!(counts(&take(&admin, &corrected).await), [3, 0, 2, 1, 0]);

    let all = admin.get(&format!("{PATH}?format=csv")).await;
    assert_eq!(all.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(counts(&take(&admin, &all.text).await), [3, 0, 0, 3, 0], "what was read can be sent again");
    let first = admin.get(&format!("{PATH}/00104000123")).await.body;
    assert_eq!(
        (&first["latitude"], &first["longitude"], &first["phone"]),
        (&json!(-3.3869), &json!(36.683), &json!("+254700000123"))
    );

    let page = admin.get(&format!("{PATH}?limit=2")).await.body;
    let next = admin.get(&format!("{PATH}?limit=2&cursor={}", page["next_cursor"].as_str().unwrap())).await.body;
    assert_eq!((next["connections"][0]["external_id"].clone(), next["next_cursor"].clone()), (json!("7"), Value::Null));
    let of = async |query: &str| -> Vec<Value> {
        let page = admin.get(&format!("{PATH}?{query}")).await.body;
        page["connections"].as_array().unwrap().iter().map(|one| one["external_id"].clone()).collect()
    };
    assert_eq!(of("site=Kitobo&category=Commercial").await, [json!("00104000124")]);
    assert_eq!(of("connected_from=2024-05-01&connected_to=2024-05-02").await, [json!("00104000123")]);
    assert_eq!(of("milestone=Milestone+1").await, [json!("00104000123")]);
    admin.get(&format!("{PATH}?category=public")).await.assert_problem(400, "invalid_parameter");
}

#[tokio::test]
async fn what_is_wrong_with_connections_is_told_and_good_rows_are_taken_where_that_is_asked() {
    let server = server().await;
    let admin = server.admin();
    let csv = "EXTERNAL_ID,CATEGORY,LATITUDE,LONGITUDE,CONNECTED_ON\n1,Hut,1,2,2024-05-01\n2,Public,1,,\n4.6E+10,,,,\n\
               3,,,,1.5.2024\n4,Anchor,,,\n5,,95,1,\n6,,,,\n6,Public,,,\n";
    let refused = send(&admin, "", csv).await;
    refused.assert_problem(422, "connections_rejected");
    let expected = [
        "2 CATEGORY unknown_category",
        "3 LATITUDE incomplete_place",
        "4 EXTERNAL_ID scientific_notation",
        "5 CONNECTED_ON bad_date",
        "7 LATITUDE degrees_out_of_range",
        "8 EXTERNAL_ID conflicting_id",
        "9 EXTERNAL_ID conflicting_id",
    ];
    assert_eq!((told(&refused.body), counts(&refused.body)), (expected.map(str::to_owned).to_vec(), [8, 1, 0, 0, 7]));
    assert_eq!(admin.get(PATH).await.body["connections"], json!([]));
    let skipped = send(&admin, "?on_error=skip_rows", csv).await;
    assert_eq!((skipped.status.as_u16(), counts(&skipped.body)), (200, [8, 1, 0, 0, 7]));
    let json = json!({"connections": [{"external_id": "9", "latitude": -1.5, "longitude": 30.25, "site": "Hill"}]});
    assert_eq!(counts(&admin.post(PATH, json).await.body), [1, 1, 0, 0, 0]);
    let wrong =
        admin.post(PATH, json!({"connections": [{"external_id": "9"}, {"external_id": 9, "sites": "x"}]})).await;
    wrong.assert_problem(422, "connections_rejected");
    assert_eq!(told(&wrong.body), ["2 external_id wrong_type", "2 sites unknown_field"]);
    admin.post(PATH, json!({"connection": []})).await.assert_problem(400, "invalid_json");
    send(&admin, "?dry_run=maybe", csv).await.assert_problem(400, "invalid_parameter");
    send(&admin, "", "").await.assert_problem(422, "connections_rejected");
}

#[tokio::test]
async fn a_connection_is_changed_and_taken_away_and_its_id_may_have_any_character() {
    let server = server().await;
    let admin = server.admin();
    take(&admin, "EXTERNAL_ID,SITE\nA/b %c,Hill\n").await;
    let path = format!("{PATH}/A%2Fb%20%25c");
    let changed = admin.patch(&path, json!({"category": "public", "site": null})).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!((&changed.body["external_id"], &changed.body["category"]), (&json!("A/b %c"), &json!("Public")));
    assert_eq!((&changed.body["site"], &admin.get(&path).await.body), (&Value::Null, &changed.body));
    let wrong = admin.patch(&path, json!({"external_id": "x", "category": "Hut", "colour": "red"})).await;
    wrong.assert_problem(400, "invalid_connection");
    let fields: BTreeSet<_> =
        wrong.body["errors"].as_array().unwrap().iter().map(|one| one["field"].to_string()).collect();
    assert_eq!(fields.len(), 3, "{}", wrong.text);
    assert_eq!(admin.delete(&path).await.body, changed.body);
    admin.delete(&path).await.assert_problem(404, "not_found");
    admin.patch(&path, json!({})).await.assert_problem(404, "not_found");
    admin.get(&path).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn limits_of_connections_are_named() {
    let server = TestServer::with(|config| {
        config.connections.per_project = 2;
        config.connections.max_rows = 3;
        (config.connections.max_bytes, config.connections.max_json_bytes) = (200, 100);
    })
    .await;
    let admin = server.admin();
    admin.make_project("kitobo").await;
    let too_many = send(&admin, "", "EXTERNAL_ID\n1\n2\n3\n").await;
    too_many.assert_problem(409, "limit_reached");
    assert!(too_many.text.contains("connections.per_project"), "{}", too_many.text);
    let rows = send(&admin, "", "EXTERNAL_ID\n1\n2\n3\n4\n").await;
    assert!(rows.text.contains("connections.max_rows"), "{}", rows.text);
    let bytes = send(&admin, "", &format!("EXTERNAL_ID\n{}\n", "x".repeat(190))).await;
    bytes.assert_problem(413, "body_too_large");
    assert!(bytes.text.contains("connections.max_bytes"), "{}", bytes.text);
    let json = admin.post(PATH, json!({"connections": [{"external_id": "x".repeat(90)}]})).await;
    assert!(json.text.contains("connections.max_json_bytes"), "{}", json.text);
    take(&admin, "EXTERNAL_ID\n1\n2\n").await;
    assert_eq!(counts(&take(&admin, "EXTERNAL_ID,SITE\n1,Hill\n2,Hill\n").await), [2, 0, 2, 0, 0]);
}

#[tokio::test]
async fn viewers_and_those_whom_a_project_is_shared_with_see_no_connection_and_each_use_is_recorded() {
    let server = server().await;
    take(&server.admin(), "EXTERNAL_ID,CUSTOMER_NAME\n1,Amina\n").await;
    let viewer = server.key_of("main", Role::Viewer).await;
    server.holder(&viewer).get(PATH).await.assert_problem(403, "forbidden");
    let uploader = server.key_of("main", Role::Uploader).await;
    server.holder(&uploader).get(PATH).await.assert_problem(403, "forbidden");
    assert_eq!(counts(&take(&server.holder(&uploader), "EXTERNAL_ID\n2\n").await), [1, 1, 0, 0, 0]);
    let analyst = server.key_of("main", Role::Analyst).await;
    assert!(server.holder(&analyst).get(PATH).await.text.contains("Amina"));
    server.holder(&analyst).delete(&format!("{PATH}/1")).await.assert_problem(403, "forbidden");
    let audit = server.admin().get("/v1/audit?project=kitobo&limit=50").await.body;
    let said: BTreeSet<String> =
        audit["entries"].as_array().unwrap().iter().map(|one| one["action"].as_str().unwrap().to_owned()).collect();
    for action in ["connection.import", "connection.list", "connection.delete"] {
        assert!(said.contains(action), "{said:?}");
    }
    assert!(!audit.to_string().contains("Amina"), "the log holds no customer");
}

#[tokio::test]
async fn payments_show_the_site_and_the_category_of_their_connection_as_it_is() {
    let server = server().await;
    let admin = server.admin();
    let rows = [paid("A1", "1", "Lake"), paid("A2", "2", ""), paid("A3", "01", "Lake")];
    let upload = Upload::new("kitobo", file(&rows)).with("dataset_name", "05_2024_Dale");
    admin.commit(&upload).await;
    assert_eq!(by_site(&admin).await, ["Dale 10.0000", "Lake 20.0000"]);
    let report = take(&admin, "EXTERNAL_ID,SITE,CATEGORY\n1,Hill,Public\n2,,Anchor\n9,Hill,\n").await;
    assert_eq!(report["lake_version"], 2);
    assert_eq!(by_site(&admin).await, ["Dale 10.0000", "Hill 10.0000", "Lake 10.0000"]);
    let categories = "SELECT payment_id, site, customer_category FROM payments ORDER BY 1";
    assert_eq!(sql(&admin, categories).await, ["A1,Hill,Public", "A2,Dale,Anchor", "A3,Lake,"]);
    // What payments do not show makes no version.
    assert_eq!(take(&admin, "EXTERNAL_ID,SITE,CATEGORY,PHONE\n1,Hill,Public,07\n").await["lake_version"], Value::Null);
    assert_eq!(take(&admin, "EXTERNAL_ID,SITE\n77,Hill\n").await["lake_version"], Value::Null);
    // New uploads take the connections as they are.
    admin.commit(&Upload::new("kitobo", file(&[paid("B1", "1", "Lake"), paid("B2", "77", "")]))).await;
    assert_eq!(by_site(&admin).await, ["Dale 10.0000", "Hill 30.0000", "Lake 10.0000"]);
    admin.patch(&format!("{PATH}/1"), json!({"site": "Peak"})).await;
    assert_eq!(by_site(&admin).await, ["Dale 10.0000", "Hill 10.0000", "Lake 10.0000", "Peak 20.0000"]);
    admin.delete(&format!("{PATH}/1")).await;
    let server = server.restarted().await;
    assert_eq!(by_site(&server.admin()).await, ["Dale 10.0000", "Hill 10.0000", "Lake 30.0000"]);
    assert_eq!(server.admin().lake_version().await, 5);
}

/// What a step does to the connection of a meter.
#[derive(Clone, Debug)]
enum Step {
    /// Payments by ID: meter, location or none, month, amount.
    Upload(BTreeMap<u8, (u8, bool, u8, u8)>),
    /// Connections by meter: site or none, category or none.
    Connect(BTreeMap<u8, (Option<u8>, Option<bool>)>),
    Change(u8, Option<u8>),
    Disconnect(u8),
    Delete(prop::sample::Index),
    Restore(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = prop::collection::btree_map(0..8u8, (0..4u8, any::<bool>(), 5..7u8, 1..3u8), 1..7);
    let site = || prop::option::of(0..3u8);
    let connections = prop::collection::btree_map(0..4u8, (site(), prop::option::of(any::<bool>())), 1..4);
    let step = prop_oneof![
        3 => rows.prop_map(Step::Upload),
        3 => connections.prop_map(Step::Connect),
        1 => (0..4u8, site()).prop_map(|(meter, site)| Step::Change(meter, site)),
        1 => (0..4u8).prop_map(Step::Disconnect),
        1 => any::<prop::sample::Index>().prop_map(Step::Delete),
        1 => any::<prop::sample::Index>().prop_map(Step::Restore),
    ];
    prop::collection::vec(step, 2..10)
}

/// The file of an upload, with so many blank lines at its end, so that no two files have the same bytes.
fn file_of(rows: &BTreeMap<u8, (u8, bool, u8, u8)>, number: usize) -> Vec<u8> {
    let line = |(id, (meter, located, month, amount)): (&u8, &(u8, bool, u8, u8))| {
        let location = if *located { "Lake" } else { "" };
        format!("2024-0{month}-03T10:00:00,P{id},m{meter},,C{id},A,,CASH,,{amount},,,,{location}")
    };
    let mut bytes = file(&rows.iter().map(line).collect::<Vec<_>>());
    bytes.extend(vec![b'\n'; number]);
    bytes
}

type Connections = BTreeMap<u8, (Option<u8>, Option<bool>)>;

fn csv_of(connections: &Connections) -> String {
    let line = |(meter, (site, public)): (&u8, &(Option<u8>, Option<bool>))| {
        let site = site.map(|site| format!("S{site}")).unwrap_or_default();
        let category = public.map_or("", |public| if public { "Public" } else { "Anchor" });
        format!("m{meter},{site},{category}\n")
    };
    let lines: String = connections.iter().map(line).collect();
    format!("EXTERNAL_ID,SITE,CATEGORY\n{lines}")
}

/// Every row of some files as a line of CSV, sorted, without the upload that it came with.
fn rows_of<'a>(root: &Path, files: impl Iterator<Item = &'a LakeFile>) -> Vec<String> {
    let mut rows = Vec::new();
    for lake_file in files {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(root.join(&lake_file.path)).unwrap()).unwrap();
        for batch in reader.build().unwrap() {
            let mut batch = batch.unwrap();
            batch.remove_column(batch.schema().index_of("upload_id").unwrap());
            let mut text = Vec::new();
            arrow::csv::WriterBuilder::new().with_header(false).build(&mut text).write(&batch).unwrap();
            let text = String::from_utf8(text).unwrap();
            rows.extend(text.lines().map(|line| format!("{},{line}", lake_file.month)));
        }
    }
    rows.sort();
    rows
}

/// The rows of a project in the lake of the server.
fn rows_in(server: &TestServer, slug: &ProjectSlug) -> Vec<String> {
    let snapshot = server.lake.snapshot();
    rows_of(server.lake.root(), snapshot.project_files(slug).map(AsRef::as_ref))
}

/// An upload: its rows, its id, and whether it counts.
type Landed = (BTreeMap<u8, (u8, bool, u8, u8)>, String, bool);

async fn step(
    admin: &Admin<'_>,
    project: &str,
    step: Step,
    uploads: &mut Vec<Landed>,
    connections: &mut Connections,
) -> Result<(), TestCaseError> {
    let path = format!("/v1/projects/{project}/connections");
    let answer = match step {
        Step::Upload(rows) => {
            let answer = admin.upload(&Upload::new(project, file_of(&rows, uploads.len()))).await;
            prop_assert_eq!(answer.status.as_u16(), 201, "{}", answer.text);
            uploads.push((rows, answer.body["id"].as_str().unwrap().to_owned(), true));
            answer
        }
        Step::Connect(some) => {
            let request = admin.request(Method::POST, &path).header("content-type", "text/csv").body(csv_of(&some));
            connections.extend(some);
            Answer::of(request.send().await.unwrap()).await
        }
        Step::Change(meter, site) => {
            let Some((there, _)) = connections.get_mut(&meter) else { return Ok(()) };
            *there = site;
            let site = site.map(|site| format!("S{site}"));
            admin.patch(&format!("{path}/m{meter}"), json!({ "site": site })).await
        }
        Step::Disconnect(meter) => {
            if connections.remove(&meter).is_none() {
                return Ok(());
            }
            admin.delete(&format!("{path}/m{meter}")).await
        }
        Step::Delete(which) if !uploads.is_empty() => {
            let (_, id, counts) = which.get_mut(uploads);
            *counts = false;
            admin.delete(&format!("/v1/uploads/{id}")).await
        }
        Step::Restore(which) if !uploads.is_empty() => {
            let (_, id, counts) = which.get_mut(uploads);
            *counts = true;
            admin.post(&format!("/v1/uploads/{id}/restore"), json!(null)).await
        }
        Step::Delete(_) | Step::Restore(_) => return Ok(()),
    };
    prop_assert!(matches!(answer.status.as_u16(), 200 | 201), "{}", answer.text);
    Ok(())
}

#[test]
fn a_lake_after_any_order_of_uploads_connections_and_deletions_is_that_made_fresh_of_them() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(TestServer::start());
    let cases = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&steps(), |steps| {
        cases.set(cases.get() + 1);
        let [project, fresh] = ["a", "fresh"].map(|name| format!("case-{}-{name}", cases.get()));
        let slug: ProjectSlug = project.parse().unwrap();
        runtime.block_on(async {
            let admin = server.admin();
            for project in [&project, &fresh] {
                admin.make_project(project).await;
            }
            let (mut uploads, mut connections) = (Vec::new(), Connections::new());
            for one in steps {
                step(&admin, &project, one, &mut uploads, &mut connections).await?;
            }
            let rows = rows_in(&server, &slug);
            // Made anew from its uploads and connections as they are, as a rebuild does.
            let anew = tempfile::tempdir().unwrap();
            let live = server.ingest.live_uploads(&slug).await.unwrap();
            let (snapshot, meters) = (server.lake.snapshot(), server.ingest.meters(&slug).await.unwrap());
            let rebuilt = lake::rebuild(anew.path(), &snapshot, &slug, &ChangeId::new(), &live, &meters).unwrap();
            prop_assert_eq!(&rows_of(anew.path(), rebuilt.added.iter()), &rows);
            // Sent to a fresh project, the connections first.
            if !connections.is_empty() {
                let path = format!("/v1/projects/{fresh}/connections");
                let request = admin.request(Method::POST, &path).header("content-type", "text/csv");
                let answer = Answer::of(request.body(csv_of(&connections)).send().await.unwrap()).await;
                prop_assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
            }
            for (number, (payments, ..)) in uploads.iter().enumerate().filter(|(_, (.., counts))| *counts) {
                let answer = admin.upload(&Upload::new(&fresh, file_of(payments, number))).await;
                prop_assert_eq!(answer.status.as_u16(), 201, "{}", answer.text);
            }
            prop_assert_eq!(rows_in(&server, &fresh.parse().unwrap()), rows);
            server.ingest.rebuild(&slug).await.unwrap();
            Ok(())
        })
    });
    outcome.unwrap();
}

#[tokio::test]
async fn a_rebuild_gives_payments_the_connections_as_they_are() {
    let server = server().await;
    let admin = server.admin();
    admin.commit(&Upload::new("kitobo", file(&[paid("A1", "1", "Lake")]))).await;
    take(&admin, "EXTERNAL_ID,SITE,CATEGORY\n1,Hill,Public\n").await;
    let slug: ProjectSlug = "kitobo".parse().unwrap();
    let before = rows_in(&server, &slug);
    server.ingest.rebuild(&slug).await.unwrap();
    assert_eq!(rows_in(&server, &slug), before);
    assert_eq!(by_site(&admin).await, ["Hill 10.0000"]);
}

#[tokio::test]
async fn payments_follow_connections_wherever_the_process_ends_or_fails() {
    let points = ["catalog::record_version", "commit::recorded", "commit::month_placed", "durable::write"];
    for point in POINTS.into_iter().chain(points) {
        for outcome in ["abort", "EIO"] {
            let folder = quick_folder();
            let site = Site::new(folder.path().join("data")).await;
            let running = site.start();
            running.admin().make_project("kitobo").await;
            running.admin().commit(&Upload::new("kitobo", file(&[paid("A1", "1", "Lake")]))).await;
            drop(running);
            let mut running = site.start_with(&format!("{point}=1*return({outcome})"));
            let csv = "EXTERNAL_ID,SITE\n1,Hill\n";
            let request = running.admin().request(Method::POST, PATH).header("content-type", "text/csv").body(csv);
            let sent = request.send().await;
            if outcome == "abort" {
                assert!(sent.is_err(), "{point}");
                assert_eq!(running.ended_by(), Some(6), "it ended at {point}, by SIGABRT");
            } else {
                // Once the lake has it, it is true.
                let status = if point == "catalog::set_connections_shown" { 200 } else { 503 };
                assert_eq!(sent.unwrap().status(), status, "{point}");
            }
            drop(running);
            let running = site.start();
            let connected = running.admin().get(&format!("{PATH}/1")).await.status == 200;
            let expected = if connected { "Hill 10.0000" } else { "Lake 10.0000" };
            assert_eq!(by_site(&running.admin()).await, [expected], "{point}, {outcome}");
            take(&running.admin(), csv).await;
            assert_eq!(by_site(&running.admin()).await, ["Hill 10.0000"], "{point}, {outcome}");
        }
    }
}

/// The entry that makes a table, as it was before there were connections.
async fn entry_from_before() -> String {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(folder.path()).await.unwrap();
    Lake::open(catalog, folder.path()).await.unwrap();
    let entry = std::fs::read_to_string(entry_path(folder.path(), 0)).unwrap();
    let lines = entry.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        if let Some(text) = line["metaData"]["schemaString"].as_str() {
            let mut schema: Value = serde_json::from_str(text).unwrap();
            let fields = schema["fields"].as_array_mut().unwrap();
            let before = fields.len();
            fields.retain(|field| field["name"] != "customer_category");
            assert_eq!(fields.len(), before - 1);
            line["metaData"]["schemaString"] = json!(schema.to_string());
        }
        line.as_object_mut().unwrap().retain(|_, action| !action.is_null());
        line.to_string()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn entry_path(data: &Path, version: u64) -> PathBuf {
    data.join(format!("lake/payments/_delta_log/{version:020}.json"))
}

/// Puts a file without the column in the place of the one that the lake has.
async fn make_old(data: &Path) {
    let catalog = Catalog::open(data).await.unwrap();
    let lake = Lake::open(catalog.clone(), data).await.unwrap();
    let snapshot = lake.snapshot();
    let there = snapshot.files().next().unwrap().clone();
    let id = ChangeId::new();
    let path = FileNames::of(id.clone()).next(&there.project, there.month);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(lake.root().join(&there.path)).unwrap()).unwrap();
    let mut batch = reader.build().unwrap().next().unwrap().unwrap();
    batch.remove_column(batch.schema().index_of("customer_category").unwrap());
    let file = File::create(lake.root().join(&path)).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let bytes = std::fs::read(lake.root().join(&path)).unwrap();
    let old = LakeFile {
        path,
        bytes: bytes.len() as u64,
        sha256: Sha256::digest(&bytes).into(),
        verified: Verified::default(),
        ..there.as_ref().clone()
    };
    let (removed, added) = (vec![there], vec![old]);
    let change = Change { id, kind: ChangeKind::Rebuild, facts: vec![], removed, added, metadata: None };
    lake.commit(&change).await.unwrap();
    catalog.close().await;
}

#[tokio::test]
async fn a_lake_from_before_there_were_connections_gets_their_column_and_its_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::new(folder.path().join("data")).await;
    std::fs::create_dir_all(entry_path(&site.data, 0).parent().unwrap()).unwrap();
    std::fs::write(entry_path(&site.data, 0), entry_from_before().await).unwrap();
    let running = site.start();
    let added = std::fs::read_to_string(entry_path(&site.data, 1)).unwrap();
    assert!(added.contains("customer_category") && added.contains("\"wattlake.kind\":\"schema\""), "{added}");
    running.admin().make_project("kitobo").await;
    let rows = [paid("A1", "1", "Lake"), paid("A2", "2", "")];
    running.admin().commit(&Upload::new("kitobo", file(&rows))).await;
    drop(running);
    make_old(&site.data).await;

    let running = site.start();
    let admin = running.admin();
    assert_eq!(admin.lake_version().await, 3, "the column comes once");
    let shown = "SELECT payment_id, site, customer_category FROM payments ORDER BY 1";
    assert_eq!(sql(&admin, shown).await, ["A1,Lake,", "A2,Kitobo,"]);
    assert_eq!(sql(&admin, "SELECT count(*) FROM payments WHERE customer_category IS NULL").await, ["2"]);
    assert_eq!(by_site(&admin).await, ["Kitobo 10.0000", "Lake 10.0000"]);
    // A file of today beside it.
    admin.commit(&Upload::new("kitobo", file(&[paid("A3", "3", "Lake")]))).await;
    assert_eq!(sql(&admin, shown).await, ["A1,Lake,", "A2,Kitobo,", "A3,Lake,"]);
    take(&admin, "EXTERNAL_ID,SITE,CATEGORY\n1,Hill,Public\n").await;
    assert_eq!(sql(&admin, shown).await, ["A1,Hill,Public", "A2,Kitobo,", "A3,Lake,"]);
}
