//! Uploads are deleted as if they had never come, and come back at their old place in the order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::Path,
};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};
use wattlake::{
    ids::{ChangeId, ProjectSlug, UploadId},
    lake::{self, Change, ChangeKind, LakeFile, Meters},
};

use crate::harness::{TestServer, Upload, counts, file, paid, row};

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.admin().make_project("kitobo").await;
    server
}

fn upload(rows: &[String]) -> Upload {
    Upload::new("kitobo", file(rows))
}

fn id(record: &Value) -> &str {
    record["id"].as_str().unwrap()
}

async fn delete(server: &TestServer, record: &Value) -> Value {
    let answer = server.admin().delete(&format!("/v1/uploads/{}", id(record))).await;
    assert_eq!((answer.status.as_u16(), &answer.body["status"]), (200, &json!("deleted")), "{}", answer.text);
    answer.body
}

async fn restore(server: &TestServer, record: &Value) -> Value {
    let answer = server.admin().post(&format!("/v1/uploads/{}/restore", id(record)), json!(null)).await;
    assert_eq!((answer.status.as_u16(), &answer.body["status"]), (200, &json!("committed")), "{}", answer.text);
    answer.body
}

async fn by_month(server: &TestServer) -> Vec<String> {
    server.admin().figures("revenue_over_time?grain=month&tz=UTC", "period revenue payments").await
}

async fn revenue(server: &TestServer) -> Vec<String> {
    server.admin().figures("revenue_per_site", "revenue").await
}

#[tokio::test]
async fn a_deleted_upload_gives_back_what_it_had_corrected_and_comes_back_as_it_was() {
    let server = server().await;
    let admin = server.admin();
    admin.commit(&upload(&[row("A1", "100"), row("A2", "10")])).await;
    let moved = paid("A1", "2024-06-01T00:00:00", "60", "SUCCESS");
    let second = admin.commit(&upload(&[moved, row("A3", "5"), row("A2", "10.00")])).await;
    let both = ["2024-05-01 15.0000 2", "2024-06-01 60.0000 1"];
    assert_eq!(by_month(&server).await, both);

    let deleted = delete(&server, &second).await;
    assert_eq!(by_month(&server).await, ["2024-05-01 110.0000 2"]);
    assert!(deleted["deleted_at"].is_string());
    for kept in ["lake_version", "committed_at", "counts", "months", "sha256"] {
        assert_eq!(deleted[kept], second[kept], "{kept}");
    }
    let path = format!("/v1/uploads/{}", id(&second));
    assert_eq!(admin.get(&path).await.body, deleted);
    assert_eq!(admin.get("/v1/uploads?status=deleted").await.body["uploads"].as_array().unwrap().len(), 1);
    assert!(admin.get(&format!("{path}/file")).await.text.contains("A3"), "its original stays");

    let server = server.restarted().await;
    assert_eq!(by_month(&server).await, ["2024-05-01 110.0000 2"]);
    assert_eq!(restore(&server, &second).await, second);
    assert_eq!(by_month(&server).await, both);
}

#[tokio::test]
async fn a_duplicate_passes_to_the_other_upload() {
    let server = server().await;
    let admin = server.admin();
    let first = admin.commit(&upload(&[row("A1", "100")])).await;
    let second = admin.commit(&upload(&[row("A1", "100.00")])).await;
    assert_eq!(counts(&second), [1, 0, 0, 1, 0]);
    let last_upload = async || admin.figures("completeness", "payments last_upload_at").await;
    let of = async |record: &Value| {
        let at: chrono::DateTime<chrono::Utc> = record["committed_at"].as_str().unwrap().parse().unwrap();
        [format!("1 {}", at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true))]
    };
    assert_eq!(last_upload().await, of(&first).await);
    delete(&server, &first).await;
    assert_eq!(last_upload().await, of(&second).await);
    restore(&server, &first).await;
    assert_eq!(last_upload().await, of(&first).await);
    delete(&server, &second).await;
    delete(&server, &first).await;
    assert_eq!(revenue(&server).await, [""; 0]);
}

#[tokio::test]
async fn an_upload_comes_back_at_its_old_place_in_the_order() {
    let server = server().await;
    let mut uploads = Vec::new();
    for amount in ["1", "2", "3"] {
        uploads.push(server.admin().commit(&upload(&[row("A1", amount)])).await);
    }
    let [_, second, third] = &uploads[..] else { panic!() };
    delete(&server, second).await;
    assert_eq!(revenue(&server).await, ["3.0000"]);
    delete(&server, third).await;
    assert_eq!(revenue(&server).await, ["1.0000"]);
    restore(&server, third).await;
    restore(&server, second).await;
    assert_eq!(revenue(&server).await, ["3.0000"], "the third came after the second, whenever that came back");
    delete(&server, third).await;
    assert_eq!(revenue(&server).await, ["2.0000"]);
}

#[tokio::test]
async fn a_second_deletion_or_restoration_answers_as_the_first_and_writes_nothing() {
    let server = server().await;
    let record = server.admin().commit(&upload(&[row("A1", "1")])).await;
    assert_eq!(restore(&server, &record).await, record, "it was not deleted");
    assert_eq!(server.admin().lake_version().await, 1);
    let deleted = delete(&server, &record).await;
    assert_eq!((delete(&server, &record).await, server.admin().lake_version().await), (deleted, 2));
    restore(&server, &record).await;
    assert_eq!((restore(&server, &record).await, server.admin().lake_version().await), (record, 3));
}

#[tokio::test]
async fn a_deletion_that_changes_no_row_changes_the_version_and_the_etag() {
    let server = server().await;
    let admin = server.admin();
    admin.commit(&upload(&[row("A1", "1")])).await;
    let duplicate = admin.commit(&upload(&[row("A1", "1.0")])).await;
    let etag = async || admin.get("/v1/metrics/revenue_per_site").await.header("etag").to_owned();
    let before = etag().await;
    delete(&server, &duplicate).await;
    assert_eq!((revenue(&server).await, admin.lake_version().await), (vec!["1.0000".to_owned()], 3));
    assert_ne!(etag().await, before);
}

#[tokio::test]
async fn several_uploads_of_several_projects_are_deleted_in_one_commit_or_none_is() {
    let server = server().await;
    let admin = server.admin();
    admin.make_project("lolwe").await;
    let mut ids = Vec::new();
    for (project, at, amount) in
        [("kitobo", "A1", "1"), ("lolwe", "A1", "2"), ("kitobo", "A2", "4"), ("kitobo", "A1", "8")]
    {
        let record = admin.commit(&Upload::new(project, file(&[row(at, amount)]))).await;
        ids.push(id(&record).to_owned());
    }
    let refused = admin.upload(&upload(&[row("A3", "x")])).await.body["upload_id"].as_str().unwrap().to_owned();
    let figures = async || admin.figures("revenue_per_site", "project revenue").await;
    let all = ["kitobo 12.0000", "lolwe 2.0000"];
    assert_eq!(figures().await, all);
    let send = async |uploads: Value| admin.post("/v1/uploads/delete", json!({ "uploads": uploads })).await;

    let absent = UploadId::new();
    let answer = send(json!([ids[0], absent, ids[1]])).await;
    answer.assert_problem(404, "not_found");
    assert_eq!(answer.body["uploads"], json!([absent]));
    let answer = send(json!([ids[0], "upl_x"])).await;
    answer.assert_problem(404, "not_found");
    assert_eq!(answer.body["uploads"], json!(["upl_x"]));
    let answer = send(json!([ids[0], refused])).await;
    answer.assert_problem(409, "upload_status");
    assert_eq!(answer.body["uploads"], json!([refused]));
    assert!(answer.body["detail"].as_str().unwrap().contains("rejected"), "{}", answer.text);
    let too_many: Vec<UploadId> = (0..1001).map(|_| UploadId::new()).collect();
    for (wrong, named) in
        [(json!([]), "1000"), (json!(too_many), "1000"), (json!(["a", 1]), "texts"), (json!("a"), "list")]
    {
        let answer = send(wrong).await;
        answer.assert_problem(400, "invalid_body");
        assert!(answer.body["detail"].as_str().unwrap().contains(named), "{}", answer.text);
    }
    let unknown_field = admin.post("/v1/uploads/delete", json!({"uploads": ids, "force": true})).await;
    unknown_field.assert_problem(400, "invalid_body");
    assert_eq!((figures().await, admin.lake_version().await), (all.map(str::to_owned).to_vec(), 4));

    let answer = send(json!([ids[3], ids[1], ids[2], ids[1]])).await;
    assert_eq!((answer.status.as_u16(), &answer.body["lake_version"]), (200, &json!(5)), "{}", answer.text);
    let records = answer.body["uploads"].as_array().unwrap();
    let asked: Vec<&str> = records.iter().map(id).collect();
    assert_eq!(asked, [&ids[3], &ids[1], &ids[2]]);
    assert!(
        records.iter().all(|record| record["status"] == "deleted" && record["deleted_at"] == records[0]["deleted_at"])
    );
    assert_eq!((figures().await, admin.lake_version().await), (vec!["kitobo 1.0000".to_owned()], 5));
    // With one that is deleted already.
    let answer = send(json!([ids[0], ids[1]])).await;
    assert_eq!((answer.status.as_u16(), &answer.body["lake_version"]), (200, &json!(6)), "{}", answer.text);
    assert!(server.lake.snapshot().partitions.is_empty());
}

#[tokio::test]
async fn only_an_upload_that_landed_can_be_deleted_or_restored_and_only_by_who_may() {
    let server = server().await;
    let admin = server.admin();
    let refused = admin.upload(&upload(&[row("A3", "x")])).await.body["upload"].as_str().unwrap().to_owned();
    for answer in [admin.delete(&refused).await, admin.post(&format!("{refused}/restore"), json!(null)).await] {
        answer.assert_problem(409, "upload_status");
        assert!(answer.body["detail"].as_str().unwrap().contains("rejected"), "{}", answer.text);
    }
    let absent = format!("/v1/uploads/{}", UploadId::new());
    let unknown = admin.get(&absent).await.text;
    for answer in [admin.delete(&absent).await, admin.post(&format!("{absent}/restore"), json!(null)).await] {
        answer.assert_problem(404, "not_found");
        assert_eq!(answer.text, unknown);
    }
    let nobody = reqwest::Client::new();
    let url = |rest: &str| format!("{}{rest}", server.address);
    for request in [
        nobody.delete(url(&refused)),
        nobody.post(url(&format!("{refused}/restore"))),
        nobody.post(url("/v1/uploads/delete")).json(&json!({"uploads": []})),
    ] {
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
}

#[tokio::test]
async fn the_bytes_of_a_deleted_upload_may_come_anew_and_both_may_be_there() {
    let server = server().await;
    let admin = server.admin();
    let same = upload(&[row("A1", "1"), row("A2", "2")]);
    let first = admin.commit(&same).await;
    delete(&server, &first).await;
    let second = admin.commit(&same).await;
    assert_ne!(first["id"], second["id"]);
    restore(&server, &first).await;
    assert_eq!(revenue(&server).await, ["3.0000"]);
    delete(&server, &first).await;
    assert_eq!(revenue(&server).await, ["3.0000"]);
    delete(&server, &second).await;
    assert_eq!(revenue(&server).await, [""; 0]);
    // It can come back, in its currency.
    admin.patch("/v1/projects/kitobo", json!({"currency": "NGN"})).await.assert_problem(409, "currency_fixed");
}

#[tokio::test]
async fn uploads_and_deletions_of_one_project_at_once_all_land() {
    let server = server().await;
    let admin = server.admin();
    let mut first = Vec::new();
    for n in 0..4 {
        first.push(admin.commit(&upload(&[row(&format!("A{n}"), "1"), row("B", &n.to_string())])).await);
    }
    let deletions = futures::future::join_all(first[1..].iter().map(|record| delete(&server, record)));
    let uploads = (4..7).map(|n| upload(&[row(&format!("A{n}"), "10")]));
    let uploads: Vec<Upload> = uploads.collect();
    let uploads = futures::future::join_all(uploads.iter().map(|upload| admin.commit(upload)));
    let (deleted, uploaded) = tokio::join!(deletions, uploads);
    assert_eq!((deleted.len(), uploaded.len()), (3, 3));
    assert_eq!(revenue(&server).await, ["31.0000"]);
    assert_eq!(admin.lake_version().await, 10);
}

#[tokio::test]
async fn what_a_crash_left_half_deleted_or_half_restored_is_settled_by_the_lakes_log() {
    let server = server().await;
    let mut uploads = Vec::new();
    for n in 0..5 {
        uploads.push(server.admin().commit(&upload(&[row(&format!("A{n}"), "1")])).await);
    }
    let ids: Vec<UploadId> = uploads.iter().map(|record| id(record).parse().unwrap()).collect();
    for record in &uploads[2..4] {
        delete(&server, record).await;
    }
    let at = chrono::Utc::now();
    let landed = async |kind: ChangeKind| {
        let change =
            Change { id: ChangeId::new(), kind, facts: vec![], removed: vec![], added: vec![], metadata: None };
        server.lake.commit(&change).await.unwrap();
        change.id
    };
    let (lost, gone, back) = (ChangeId::new(), landed(ChangeKind::Delete).await, landed(ChangeKind::Restore).await);
    server.catalog.begin_deletion(&ids[..1], &lost, at).await.unwrap();
    server.catalog.begin_deletion(&ids[1..2], &gone, at).await.unwrap();
    server.catalog.begin_restoration(&ids[2..3], &ChangeId::new()).await.unwrap();
    server.catalog.begin_restoration(&ids[3..4], &back).await.unwrap();

    let server = server.restarted().await;
    let status = async |server: &TestServer| {
        let mut statuses = Vec::new();
        for id in &ids {
            let upload = server.admin().get(&format!("/v1/uploads/{id}")).await.body;
            assert_eq!(upload["deleted_at"].is_string(), upload["status"] == "deleted", "{upload}");
            statuses.push(upload["status"].as_str().unwrap().to_owned());
        }
        statuses
    };
    assert_eq!(status(&server).await, ["committed", "deleted", "deleted", "committed", "committed"]);
    // Where a failure left one while the server runs, whoever changes the project next settles it.
    server.catalog.begin_deletion(&ids[4..], &ChangeId::new(), at).await.unwrap();
    server.admin().commit(&upload(&[row("A9", "1")])).await;
    assert_eq!(status(&server).await[4], "committed");
    server.catalog.begin_deletion(&ids[4..], &ChangeId::new(), at).await.unwrap();
    delete(&server, &uploads[4]).await;
    assert_eq!(status(&server).await[4], "deleted");
}

#[tokio::test]
async fn a_deletion_that_needs_a_damaged_file_waits_for_its_repair() {
    let server = server().await;
    let first = server.admin().commit(&upload(&[row("A1", "1"), row("A2", "2")])).await;
    server.admin().commit(&upload(&[row("A1", "4")])).await;
    let damaged = server.lake.snapshot().files().next().unwrap().path.clone();
    let damaged = server.lake.root().join(damaged);
    let server = server.restarted().await;
    let mut bytes = std::fs::read(&damaged).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let path = format!("/v1/uploads/{}", id(&first));
    server.admin().delete(&path).await.assert_problem(503, "unavailable");
    assert_eq!(server.admin().get(&path).await.body["status"], "committed");
    for _ in 0..400 {
        if server.admin().delete(&path).await.status == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    assert_eq!(server.admin().get(&path).await.body["status"], "deleted");
    assert_eq!(revenue(&server).await, ["4.0000"]);
}

#[tokio::test]
async fn the_log_says_which_uploads_a_change_took_out() {
    let server = server().await;
    let record = server.admin().commit(&upload(&[row("A1", "1")])).await;
    delete(&server, &record).await;
    restore(&server, &record).await;
    for (version, kind) in [(2, "delete"), (3, "restore")] {
        let path = server.lake.root().join(format!("_delta_log/{version:020}.json"));
        let text = std::fs::read_to_string(path).unwrap();
        let info = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["commitInfo"].clone());
        let info = info.into_iter().find(Value::is_object).unwrap();
        assert_eq!((&info["wattlake.kind"], &info["wattlake.uploads"]), (&json!(kind), &record["id"]), "{info}");
    }
}

/// A payment of the model: its day and amount.
type Content = (&'static str, u32);

#[derive(Clone, Debug)]
enum Step {
    Upload(usize, BTreeMap<u8, Content>),
    Delete(Vec<prop::sample::Index>),
    Restore(prop::sample::Index),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let day = prop::sample::select(vec!["2024-04-30", "2024-05-01", "2024-05-31", "2024-06-01"]);
    let rows = prop::collection::btree_map(0..6u8, (day, 1..3u32), 1..5);
    let some = prop::collection::vec(any::<prop::sample::Index>(), 1..4);
    let step = prop_oneof![
        4 => (0..2usize, rows).prop_map(|(project, rows)| Step::Upload(project, rows)),
        2 => some.prop_map(Step::Delete),
        1 => any::<prop::sample::Index>().prop_map(Step::Restore),
    ];
    prop::collection::vec(step, 1..16)
}

/// An upload that landed.
struct Landed {
    id: String,
    project: usize,
    bytes: Vec<u8>,
    rows: BTreeMap<u8, Content>,
    live: bool,
}

/// Two projects and their uploads, in the order in which these landed.
struct Model<'a> {
    server: &'a TestServer,
    projects: [String; 2],
    uploads: Vec<Landed>,
}

impl Model<'_> {
    async fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let admin = self.server.admin();
        match step {
            Step::Upload(project, rows) => {
                let lines = rows.iter().map(|(id, (day, amount))| {
                    paid(&id.to_string(), &format!("{day}T10:00:00"), &amount.to_string(), "SUCCESS")
                });
                let bytes = file(&lines.collect::<Vec<_>>());
                let answer = admin.upload(&Upload::new(&self.projects[*project], bytes.clone())).await;
                let same = |one: &&Landed| one.live && one.project == *project && one.bytes == bytes;
                if let Some(known) = self.uploads.iter().find(same) {
                    prop_assert_eq!((answer.status.as_u16(), id(&answer.body)), (200, known.id.as_str()));
                    return Ok(());
                }
                prop_assert_eq!(answer.status.as_u16(), 201, "{}", answer.text);
                let id = id(&answer.body).to_owned();
                self.uploads.push(Landed { id, project: *project, bytes, rows: rows.clone(), live: true });
            }
            Step::Delete(which) if !self.uploads.is_empty() => {
                let which: BTreeSet<usize> = which.iter().map(|index| index.index(self.uploads.len())).collect();
                let ids: Vec<&str> = which.iter().map(|index| self.uploads[*index].id.as_str()).collect();
                let answer = admin.post("/v1/uploads/delete", json!({ "uploads": ids })).await;
                prop_assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
                for index in which {
                    self.uploads[index].live = false;
                }
            }
            Step::Restore(index) if !self.uploads.is_empty() => {
                let upload = index.get_mut(&mut self.uploads);
                let answer = admin.post(&format!("/v1/uploads/{}/restore", upload.id), json!(null)).await;
                prop_assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
                upload.live = true;
            }
            Step::Delete(_) | Step::Restore(_) => {}
        }
        Ok(())
    }

    /// The rows of a project: by ID, its content and the upload that it is of.
    fn rows(&self, project: usize) -> BTreeMap<u8, (Content, &str)> {
        let mut rows: BTreeMap<u8, (Content, &str)> = BTreeMap::new();
        for upload in self.uploads.iter().filter(|upload| upload.live && upload.project == project) {
            for (id, content) in &upload.rows {
                if rows.get(id).is_none_or(|(there, _)| there != content) {
                    rows.insert(*id, (*content, &upload.id));
                }
            }
        }
        rows
    }

    async fn check(&self) -> Result<(), TestCaseError> {
        let snapshot = self.server.lake.snapshot();
        for (project, slug) in self.projects.iter().enumerate() {
            let expected = self.rows(project);
            let metric = format!("payments_per_customer?project={slug}");
            let figures = self.server.admin().figures(&metric, "customer_id payments amount first_payment_at").await;
            let customers =
                expected.iter().map(|(id, ((day, amount), _))| format!("C-{id} 1 {amount}.0000 {day}T10:00:00Z"));
            prop_assert_eq!(figures, customers.collect::<Vec<_>>());

            let slug: ProjectSlug = slug.parse().unwrap();
            let rows = rows_of(self.server.lake.root(), snapshot.project_files(&slug).map(AsRef::as_ref));
            let uploads = expected.values().map(|(_, upload)| (*upload).to_owned());
            let of_lake = rows.iter().map(|row| row.rsplit(',').nth(1).unwrap().to_owned());
            prop_assert_eq!(of_lake.collect::<BTreeSet<_>>(), uploads.collect::<BTreeSet<_>>());
            prop_assert_eq!(rows.len(), expected.len());
            // Made anew from its uploads, the project has the same rows, to the last column.
            let anew = tempfile::tempdir().unwrap();
            let live = self.server.ingest.live_uploads(&slug).await.unwrap();
            let rebuilt =
                lake::rebuild(anew.path(), &snapshot, &slug, &ChangeId::new(), &live, &Meters::none()).unwrap();
            prop_assert_eq!(rows_of(anew.path(), rebuilt.added.iter()), rows);
        }
        Ok(())
    }
}

/// Every row of some files as a line of CSV, its month first, sorted. The upload comes last but one.
fn rows_of<'a>(root: &Path, files: impl Iterator<Item = &'a LakeFile>) -> Vec<String> {
    let mut rows = Vec::new();
    for lake_file in files {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(root.join(&lake_file.path)).unwrap()).unwrap();
        for batch in reader.build().unwrap() {
            let mut text = Vec::new();
            arrow::csv::WriterBuilder::new().with_header(false).build(&mut text).write(&batch.unwrap()).unwrap();
            let text = String::from_utf8(text).unwrap();
            rows.extend(text.lines().map(|line| format!("{},{line}", lake_file.month)));
        }
    }
    rows.sort();
    rows
}

#[test]
fn random_uploads_deletions_and_restorations_give_what_a_simple_model_gives_and_so_does_a_rebuild() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(TestServer::start());
    let cases = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&steps(), |steps| {
        cases.set(cases.get() + 1);
        let projects = ["a", "b"].map(|name| format!("case-{}-{name}", cases.get()));
        runtime.block_on(async {
            for project in &projects {
                server.admin().make_project(project).await;
            }
            let mut model = Model { server: &server, projects, uploads: Vec::new() };
            for step in &steps {
                model.step(step).await?;
            }
            model.check().await
        })
    });
    outcome.unwrap();
}
