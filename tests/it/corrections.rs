//! An ID is unique in its project: the same row again is a duplicate, another content a correction, whatever month either
//! is in.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::json;

use crate::harness::{TestServer, Upload, counts, file, paid, row};

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.admin().make_project("kitobo").await;
    server
}

fn upload(rows: &[String]) -> Upload {
    Upload::new("kitobo", file(rows))
}

async fn by_month(server: &TestServer) -> Vec<String> {
    server.admin().figures("revenue_over_time?grain=month&tz=UTC", "period revenue payments").await
}

#[tokio::test]
async fn the_same_row_again_is_a_duplicate_however_it_is_written() {
    let server = server().await;
    let admin = server.admin();
    admin.commit(&upload(&[paid("A1", "2024-05-03T10:00:00", "100", "SUCCESS")])).await;
    let again = [
        paid("A1", "2024-05-03 13:00:00+03:00", "100.00", "SUCCESS"),
        paid("A1", "2024-05-03T10:00:00.000Z", "100.0", "SUCCESS"),
    ];
    for (number, row) in (2..).zip(again) {
        let report = admin.commit(&upload(&[row]).with("dataset_name", "05_2024_Another Site")).await;
        assert_eq!(counts(&report), [1, 0, 0, 1, 0]);
        assert_eq!(report["lake_version"], number);
    }
    assert_eq!(by_month(&server).await, ["2024-05-01 100.0000 1"]);
    // Within one file too.
    let report = admin.commit(&upload(&[row("A2", "5"), row("A2", "5.00"), row("A2", "5.0")])).await;
    assert_eq!(counts(&report), [3, 1, 0, 2, 0]);
    assert_eq!(by_month(&server).await, ["2024-05-01 105.0000 2"]);
}

#[tokio::test]
async fn a_corrected_amount_or_status_takes_the_place_of_the_earlier() {
    let server = server().await;
    let admin = server.admin();
    admin.commit(&upload(&[row("A1", "100"), row("A2", "10")])).await;
    assert_eq!(counts(&admin.commit(&upload(&[row("A1", "60.25")])).await), [1, 0, 1, 0, 0]);
    assert_eq!(by_month(&server).await, ["2024-05-01 70.2500 2"]);
    let reversed = paid("A1", "2024-05-03T10:00:00", "60.25", "REVERSED");
    assert_eq!(counts(&admin.commit(&upload(&[reversed])).await), [1, 0, 1, 0, 0]);
    assert_eq!(by_month(&server).await, ["2024-05-01 10.0000 1"]);
    // Back to what it was first, in other bytes.
    assert_eq!(counts(&admin.commit(&upload(&[row("A1", "100.00")])).await), [1, 0, 1, 0, 0]);
    assert_eq!(by_month(&server).await, ["2024-05-01 110.0000 2"]);
}

#[tokio::test]
async fn a_correction_into_another_month_leaves_the_old_one_without_the_row() {
    let server = server().await;
    let admin = server.admin();
    admin.commit(&upload(&[row("A1", "100"), row("A2", "10")])).await;
    let report = admin.commit(&upload(&[paid("A1", "2024-06-01T00:00:00", "100", "SUCCESS"), row("A3", "1")])).await;
    assert_eq!((counts(&report), &report["months"]), ([2, 1, 1, 0, 0], &json!(["2024-05", "2024-06"])));
    assert_eq!(by_month(&server).await, ["2024-05-01 11.0000 2", "2024-06-01 100.0000 1"]);
    // The last row of a month takes its partition along.
    let last = upload(&[paid("A1", "2024-07-01T00:00:00", "100", "SUCCESS")]);
    let tried = admin.upload(&last.clone().with("dry_run", "true")).await.body;
    let report = admin.commit(&last).await;
    for report in [&tried, &report] {
        assert_eq!((counts(report), &report["months"]), ([1, 0, 1, 0, 0], &json!(["2024-06", "2024-07"])));
    }
    assert_eq!(by_month(&server).await, ["2024-05-01 11.0000 2", "2024-07-01 100.0000 1"]);
    assert!(server.lake.snapshot().partition(&"kitobo".parse().unwrap(), "2024-06".parse().unwrap()).is_empty());
    let server = server.restarted().await;
    assert_eq!(by_month(&server).await, ["2024-05-01 11.0000 2", "2024-07-01 100.0000 1"]);
}

#[tokio::test]
async fn an_id_of_another_project_is_another_payment() {
    let server = server().await;
    server.admin().make_project("lolwe").await;
    server.admin().commit(&upload(&[row("A1", "100")])).await;
    let other = upload(&[row("A1", "60")]).with("project", "lolwe");
    assert_eq!(counts(&server.admin().commit(&other).await), [1, 1, 0, 0, 0]);
    assert_eq!(
        server.admin().figures("revenue_per_site", "project revenue").await,
        ["kitobo 100.0000", "lolwe 60.0000"]
    );
}

#[tokio::test]
async fn rows_of_one_id_that_differ_in_one_file_are_all_rejected() {
    let server = server().await;
    let admin = server.admin();
    let rows = [row("A1", "1"), row("A2", "2"), row("A1", "3"), row("A1", "1")];
    let refused = admin.upload(&upload(&rows)).await;
    refused.assert_problem(422, "upload_rejected");
    assert_eq!(counts(&refused.body), [4, 1, 0, 0, 3]);
    let errors = refused.body["errors"].as_array().unwrap();
    let lines: Vec<_> = errors.iter().map(|error| json!([error["line"], error["code"], error["column"]])).collect();
    assert_eq!(lines, [2, 4, 5].map(|line| json!([line, "conflicting_id", "ID"])));
    assert!(errors[0]["message"].as_str().unwrap().contains("line 4"), "{}", refused.text);

    let report = admin.commit(&upload(&rows).with("on_error", "skip_rows")).await;
    assert_eq!(counts(&report), [4, 1, 0, 0, 3]);
    assert_eq!(by_month(&server).await, ["2024-05-01 2.0000 1"]);
    let rejected = admin.get(&format!("/v1/uploads/{}/rejected.csv", report["id"].as_str().unwrap())).await;
    assert_eq!(rejected.text.lines().count(), 4, "{}", rejected.text);
}

#[tokio::test]
async fn an_upload_that_overlaps_brings_what_is_new_and_what_changed() {
    let server = server().await;
    let admin = server.admin();
    let rows = |ids: std::ops::Range<u32>, amount: &str| -> Vec<String> {
        ids.map(|n| paid(&format!("A{n}"), &format!("2024-0{}-03T10:00:00", n % 3 + 4), amount, "")).collect()
    };
    admin.commit(&upload(&rows(0..30, "1"))).await;
    let next = [rows(10..20, "1"), rows(20..30, "2"), rows(30..40, "4")].concat();
    assert_eq!(counts(&admin.commit(&upload(&next)).await), [30, 10, 10, 10, 0]);
    assert_eq!(admin.figures("revenue_per_site", "revenue payments").await, ["80.0000 40"]);
}

#[tokio::test]
async fn many_uploads_to_one_month_are_made_one_file_and_no_figure_changes() {
    let server = server().await;
    let (project, month) = ("kitobo".parse().unwrap(), "2024-05".parse().unwrap());
    let mut most = 0;
    for n in 1..=20 {
        server.admin().commit(&upload(&[row(&format!("A{n}"), &n.to_string())])).await;
        let files = server.lake.snapshot().partition(&project, month).len();
        assert!(files <= 8, "{files} files after {n} uploads");
        most = most.max(files);
        assert_eq!(by_month(&server).await, [format!("2024-05-01 {}.0000 {n}", n * (n + 1) / 2)]);
    }
    assert_eq!(most, 8);
    let before = server.admin().figures("payments_per_customer", "customer_id amount last_payment_at").await;
    let server = server.restarted().await;
    assert_eq!(server.admin().figures("payments_per_customer", "customer_id amount last_payment_at").await, before);
    assert_eq!(counts(&server.admin().commit(&upload(&[row("A7", "70")])).await), [1, 0, 1, 0, 0]);
}

/// A payment of the model: its day, amount and STATUS.
type Content = (&'static str, u32, &'static str);
/// What a random upload is: rows, and whether bad ones may be skipped.
type Plan = (Vec<(u8, Content)>, bool);

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let day = prop::sample::select(vec!["2024-04-30", "2024-05-01", "2024-05-31", "2024-06-01"]);
    let content = (day, 1..4u32, prop::sample::select(vec!["SUCCESS", "", "FAILED"]));
    let rows = prop::collection::vec((0..6u8, content), 1..6);
    prop::collection::vec((rows, prop::bool::weighted(0.7)), 1..14)
}

/// The project as it should be.
#[derive(Default)]
struct Model {
    payments: BTreeMap<u8, Content>,
    /// The counts of the files that landed.
    landed: BTreeMap<Vec<u8>, [u64; 5]>,
}

impl Model {
    /// The status that an upload is to be answered with, and its counts.
    fn upload(&mut self, bytes: &[u8], (rows, skip): &Plan) -> (u16, [u64; 5]) {
        if let Some(counts) = self.landed.get(bytes) {
            return (200, *counts);
        }
        let mut contents: BTreeMap<u8, Vec<Content>> = BTreeMap::new();
        for (id, content) in rows {
            contents.entry(*id).or_default().push(*content);
        }
        let [mut new, mut corrected, mut duplicate, mut rejected] = [0; 4];
        let mut after = self.payments.clone();
        for (id, contents) in contents {
            let rows = contents.len() as u64;
            if BTreeSet::from_iter(&contents).len() > 1 {
                rejected += rows;
                continue;
            }
            duplicate += rows - 1;
            match after.insert(id, contents[0]) {
                None => new += 1,
                Some(before) if before == contents[0] => duplicate += 1,
                Some(_) => corrected += 1,
            }
        }
        let counts = [rows.len() as u64, new, corrected, duplicate, rejected];
        if rejected == counts[0] || (rejected > 0 && !skip) {
            return (422, counts);
        }
        self.payments = after;
        self.landed.insert(bytes.to_vec(), counts);
        (201, counts)
    }

    fn settled(&self) -> impl Iterator<Item = (u8, Content)> {
        self.payments.iter().map(|(id, content)| (*id, *content)).filter(|(_, content)| content.2 != "FAILED")
    }

    fn by_day(&self) -> Vec<String> {
        let mut days: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        for (_, (day, amount, _)) in self.settled() {
            let (revenue, payments) = days.entry(day).or_default();
            (*revenue, *payments) = (*revenue + amount, *payments + 1);
        }
        days.iter().map(|(day, (revenue, payments))| format!("{day} {revenue}.0000 {payments}")).collect()
    }

    fn by_customer(&self) -> Vec<String> {
        self.settled().map(|(id, (day, amount, _))| format!("C-{id} 1 {amount}.0000 {day}T10:00:00Z")).collect()
    }
}

async fn follow(server: &TestServer, project: &str, plans: &[Plan]) -> Result<(), TestCaseError> {
    let admin = server.admin();
    admin.make_project(project).await;
    let mut model = Model::default();
    for plan in plans {
        let rows = plan.0.iter().map(|(id, (day, amount, status))| {
            paid(&id.to_string(), &format!("{day}T10:00:00"), &amount.to_string(), status)
        });
        let bytes = file(&rows.collect::<Vec<_>>());
        let upload =
            Upload::new(project, bytes.clone()).with("on_error", if plan.1 { "skip_rows" } else { "reject_file" });
        let answer = admin.upload(&upload).await;
        prop_assert_eq!((answer.status.as_u16(), counts(&answer.body)), model.upload(&bytes, plan), "{}", answer.text);
    }
    let days = format!("revenue_over_time?grain=day&tz=UTC&project={project}");
    prop_assert_eq!(admin.figures(&days, "period revenue payments").await, model.by_day());
    let customers = format!("payments_per_customer?project={project}");
    let customers = admin.figures(&customers, "customer_id payments amount first_payment_at").await;
    prop_assert_eq!(customers, model.by_customer());
    let rows: u64 = server.lake.snapshot().project_files(&project.parse().unwrap()).map(|file| file.rows).sum();
    prop_assert_eq!(rows, model.payments.len() as u64);
    Ok(())
}

#[test]
fn random_uploads_give_what_a_simple_model_gives() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(TestServer::start());
    let cases = std::cell::Cell::new(0);
    let mut runner = TestRunner::new(Config { cases: 30, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&plans(), |plans| {
        cases.set(cases.get() + 1);
        runtime.block_on(follow(&server, &format!("case-{}", cases.get()), &plans))
    });
    outcome.unwrap();
}
