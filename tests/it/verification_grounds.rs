//! What verdicts go by: the terms that were consented to, which of two connections counts, payments after as-of; and what stays of runs.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use wattlake::{access::Role, catalog::NewKey, lake::Finding, verification::Seen};

use crate::{
    harness::{Admin, TestServer},
    verification::{PROGRAMME, SETTLED, World, paid, path_of},
};

const MAY: &str = "2024-05-03T10:00:00";

fn ten_years() -> Value {
    json!({"window": {"kind": "before_as_of", "days": 3660}})
}

/// Another organisation, whose project `ndevu` takes part by this version of the terms and has submitted these connections.
async fn rival(world: &World, version: u32, connections: &str) -> NewKey {
    let admin = world.server.admin();
    assert_eq!(admin.post("/v1/organisations", json!({"slug": "rival", "name": "Rival"})).await.status, 201);
    let key = world.server.key_of("rival", Role::Manager).await;
    assert_eq!(world.fund().patch(PROGRAMME, json!({"invited": ["main", "rival"]})).await.status, 200);
    let holder = world.server.holder(&key);
    let mut project = crate::harness::project("ndevu");
    project["organisation"] = json!("rival");
    assert_eq!(admin.post("/v1/projects", project).await.status, 201);
    consent(&holder, "ndevu", version).await;
    let request = holder.request(Method::POST, "/v1/projects/ndevu/connections").header("content-type", "text/csv");
    assert_eq!(request.body(connections.to_owned()).send().await.unwrap().status(), 200);
    assert_eq!(holder.post(&format!("{PROGRAMME}/submissions"), json!({"project": "ndevu"})).await.status, 201);
    key
}

async fn consent(holder: &Admin<'_>, project: &str, version: u32) {
    let consent = json!({"project": project, "version": version, "consent": true});
    let enrolled = holder.post(&format!("{PROGRAMME}/enrolments"), consent).await;
    assert!(enrolled.status.is_success(), "{}", enrolled.text);
}

#[tokio::test]
async fn a_project_is_verified_by_the_terms_that_it_consented_to() {
    let world = World::with(ten_years()).await;
    world.connect("kitobo", "EXTERNAL_ID\na\n").await;
    world.submit("kitobo").await;
    world.upload("kitobo", &[paid("1", MAY, "a", "5", SETTLED)]).await;
    let stricter = json!({"rule": {"window": {"kind": "before_as_of", "days": 3660}, "min_payments": 2}});
    assert_eq!(world.fund().patch(PROGRAMME, stricter).await.status, 200);

    let start = async |body: Value| world.fund().post(&format!("{PROGRAMME}/verifications"), body).await;
    let newest = start(json!({})).await;
    newest.assert_problem(422, "nothing_to_verify");
    assert!(newest.body["detail"].as_str().unwrap().contains("other terms: kitobo"), "{}", newest.text);
    let named = start(json!({"projects": ["kitobo"]})).await;
    named.assert_problem(409, "other_terms");
    assert_eq!(named.body["rule_version"], 1);
    let run = world.verify(json!({"rule_version": 1})).await;
    assert_eq!((&run["outcomes"], &run["other_terms"]), (&json!({"verified": 1}), &json!([])));
    // What would come of the newer ones can be tried out.
    let tried = world.verify(json!({"dry_run": true, "projects": ["kitobo"]})).await;
    assert_eq!((&tried["outcomes"], &tried["rule_version"]), (&json!({"below_threshold": 1}), &json!(2)));
    // But not read by it what the consent does not cover.
    let withheld = async |run: &Value| {
        let explained = world.fund().get(&format!("{}/verdicts/kitobo/a", path_of(run))).await.body;
        (explained["evidence"]["withheld"].clone(), explained["evidence"]["payments"].as_array().unwrap().len())
    };
    assert_eq!(withheld(&tried).await, (json!("tried_out"), 0));
    assert_eq!(withheld(&run).await, (Value::Null, 1));

    consent(&world.developer(), "kitobo", 2).await;
    let key = rival(&world, 2, "EXTERNAL_ID\ntheirs\n").await;
    let run = world.verify(json!({})).await;
    assert_eq!(run["outcomes"], json!({"below_threshold": 1, "meter_not_found": 1}));
    assert_eq!(world.fund().patch(PROGRAMME, json!({"rule": ten_years()})).await.status, 200);
    consent(&world.developer(), "kitobo", 3).await;
    let run = world.verify(json!({})).await;
    assert_eq!((&run["outcomes"], &run["other_terms"]), (&json!({"verified": 1}), &json!(["ndevu"])));
    let about = world.developer().get(&path_of(&run)).await;
    assert!(!about.text.contains("ndevu"), "who else takes part is nobody's business: {}", about.text);
    world.server.holder(&key).get(&path_of(&run)).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn which_of_two_connections_counts_is_settled_by_what_was_submitted_first_and_what_is_paid_for() {
    let world = World::with(ten_years()).await;
    world.connect("kitobo", "EXTERNAL_ID,SERIAL_NUMBER\na,D1\nb,D2\n").await;
    world.submit("kitobo").await;
    let key = rival(&world, 1, "EXTERNAL_ID,SERIAL_NUMBER\nx,D1\ny,D9\n").await;
    let rival = world.server.holder(&key);
    let found = async || {
        let run = world.verify(json!({})).await;
        let duplicates =
            world.outcomes(&run).await.into_iter().filter(|(_, outcome)| outcome == "duplicate_connection");
        duplicates.map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(found().await, ["ndevu/x"]);
    let mut seen = Seen::default();
    let mut recheck = async || world.server.verification.recheck(&mut seen).await.unwrap();
    assert_eq!(recheck().await, 0);
    // To take a device over that another one was submitted with makes one's own the duplicate.
    let change = json!({"serial_number": "D9"});
    let path = "/v1/projects/kitobo/connections/b";
    assert_eq!(world.developer().patch(path, change).await.status, 200);
    assert_eq!(recheck().await, 1);
    assert_eq!(found().await, ["kitobo/b", "ndevu/x"]);
    assert_eq!(recheck().await, 0);
    // One that is gone claims nothing.
    assert_eq!(world.developer().delete("/v1/projects/kitobo/connections/a").await.status, 200);
    assert_eq!(recheck().await, 2, "also of the other's project, where nothing has changed");
    assert_eq!(found().await, ["kitobo/b"]);
    // Once it is paid for, it counts, whoever was submitted first.
    world.upload("kitobo", &[paid("1", MAY, "a", "5", SETTLED)]).await;
    let csv = crate::harness::file(&[paid("2", MAY, "x", "5", SETTLED)]);
    rival.commit(&crate::harness::Upload::new("ndevu", csv)).await;
    assert_eq!(found().await, ["kitobo/b"]);
    let names = json!({"connections": [{"project": "ndevu", "external_id": "x"}]});
    assert_eq!(world.fund().post(&format!("{PROGRAMME}/submissions/paid"), names).await.status, 200);
    world.connect("kitobo", "EXTERNAL_ID,SERIAL_NUMBER\na,D1\n").await;
    assert_eq!(found().await, ["kitobo/a", "kitobo/b"]);
    assert_eq!(rival.delete(&format!("{PROGRAMME}/enrolments/ndevu")).await.status, 200);
    assert_eq!(found().await, ["kitobo/a"], "who leaves takes along what is not paid for");
}

#[tokio::test]
async fn of_two_that_are_the_same_one_is_paid_for_whatever_their_verdicts_said() {
    let world = World::with(ten_years()).await;
    world.connect("kitobo", "EXTERNAL_ID,SERIAL_NUMBER\na,D1\nb,D2\n").await;
    world.submit("kitobo").await;
    world.upload("kitobo", &["a", "b"].map(|meter| paid(meter, MAY, meter, "5", SETTLED))).await;
    let key = rival(&world, 1, "EXTERNAL_ID,SERIAL_NUMBER\nx,D1\n").await;
    let csv = crate::harness::file(&[paid("1", MAY, "x", "5", SETTLED)]);
    world.server.holder(&key).commit(&crate::harness::Upload::new("ndevu", csv)).await;
    assert_eq!(world.outcomes(&world.verify(json!({})).await).await["ndevu/x"], "duplicate_connection");
    let pay = async |project: &str, id: &str| {
        let names = json!({"connections": [{"project": project, "external_id": id}]});
        world.fund().post(&format!("{PROGRAMME}/submissions/paid"), names).await
    };
    // Who leaves claims nothing, and comes back with a verdict of before.
    assert_eq!(world.developer().delete(&format!("{PROGRAMME}/enrolments/kitobo")).await.status, 200);
    let left = pay("kitobo", "a").await;
    left.assert_problem(409, "not_payable");
    assert!(left.text.contains("kitobo/a (its project has left)"), "{}", left.text);
    assert_eq!(world.outcomes(&world.verify(json!({})).await).await["ndevu/x"], "verified");
    assert_eq!(pay("ndevu", "x").await.status, 200);
    consent(&world.developer(), "kitobo", 1).await;
    let refused = pay("kitobo", "a").await;
    refused.assert_problem(409, "not_payable");
    assert!(refused.text.contains("kitobo/a (the same as ndevu/x)"), "{}", refused.text);
    assert_eq!(pay("kitobo", "b").await.status, 200);
}

#[tokio::test]
async fn what_is_given_back_after_as_of_opens_a_verdict_again_and_what_is_paid_then_does_not() {
    let world = World::with(json!({"window": {"kind": "before_as_of", "days": 30}})).await;
    world.connect("kitobo", "EXTERNAL_ID\na\nb\n").await;
    world.submit("kitobo").await;
    let rows = [paid("1", MAY, "a", "5", SETTLED), paid("2", "2023-05-03T10:00:00", "b", "5", SETTLED)];
    world.upload("kitobo", &rows).await;
    let run = world.verify(json!({"as_of": "2024-05-20T00:00:00Z"})).await;
    assert_eq!(run["outcomes"], json!({"verified": 1, "no_payment_in_window": 1}));
    let june = "2024-06-03T10:00:00";
    let rows = [paid("3", june, "a", "-5", ("1", "SUCCESS")), paid("4", june, "b", "5", SETTLED)];
    world.upload("kitobo", &rows).await;
    assert_eq!(world.recheck().await, 1);
    assert_eq!(world.submission("a").await["would_be"], "reversed_only");
    // A verification as of then knows what was given back since, and is settled.
    let again = world.verify(json!({"as_of": "2024-05-20T00:00:00Z"})).await;
    assert_eq!(again["outcomes"], json!({"reversed_only": 1, "no_payment_in_window": 1}));
    assert_eq!(world.recheck().await, 0);
    let replayed = world.fund().post(&format!("{}/replay", path_of(&again)), json!({})).await;
    assert_eq!(replayed.body["same"], true, "{}", replayed.text);
    assert_eq!(world.fund().post(&format!("{}/replay", path_of(&run)), json!({})).await.body["same"], true);
}

#[tokio::test]
async fn the_newest_dry_runs_are_kept_and_older_ones_leave_nothing() {
    let server = TestServer::with(|config| {
        config.verification.recheck = Duration::from_hours(9);
        config.verification.dry_runs = 2;
    });
    let world = World::on(server.await, ten_years()).await;
    world.connect("kitobo", "EXTERNAL_ID\na\n").await;
    world.submit("kitobo").await;
    let counted = world.verify(json!({})).await;
    let mut tried = Vec::new();
    for _ in 0..4 {
        tried.push(world.verify(json!({"dry_run": true})).await);
    }
    let kept = async || {
        let listed = world.fund().get(&format!("{PROGRAMME}/verifications")).await.body["verifications"].take();
        listed.as_array().unwrap().iter().map(|run| run["id"].clone()).collect::<Vec<_>>()
    };
    let newest = [&tried[3], &tried[2], &counted].map(|run| run["id"].clone());
    // They are forgotten after the last has ended.
    while kept().await != newest {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let files = || std::fs::read_dir(world.server.folder.path().join("verifications")).unwrap().count();
    while files() != 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    world.fund().get(&path_of(&tried[0])).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn a_project_of_which_an_upload_is_lost_is_not_verified_and_holds_up_no_other() {
    let world = World::with(ten_years()).await;
    world.connect("kitobo", "EXTERNAL_ID\na\n").await;
    world.submit("kitobo").await;
    let upload = world.upload("kitobo", &[paid("1", MAY, "a", "5", SETTLED)]).await;
    let key = rival(&world, 1, "EXTERNAL_ID\ntheirs\n").await;
    world.verify(json!({})).await;
    // Nor can it be made anew.
    std::fs::remove_dir_all(world.server.folder.path().join("uploads").join(&upload)).unwrap();
    world
        .server
        .lake
        .found(&[Finding::UploadMissing { project: "kitobo".parse().unwrap(), upload: upload.parse().unwrap() }]);
    let start = async |body: Value| world.fund().post(&format!("{PROGRAMME}/verifications"), body).await;
    start(json!({})).await.assert_problem(503, "data_damaged");
    let csv = crate::harness::file(&[paid("2", MAY, "theirs", "5", SETTLED)]);
    world.server.holder(&key).commit(&crate::harness::Upload::new("ndevu", csv)).await;
    assert_eq!(world.recheck().await, 1, "the other project's");
    let run = world.verify(json!({"projects": ["ndevu"]})).await;
    assert_eq!(run["outcomes"], json!({"verified": 1}));
}
