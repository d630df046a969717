//! Programmes verify that connections really pay: each outcome, each edge of a window, and what becomes of verdicts.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    process::Stdio,
    time::Duration,
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use reqwest::Method;
use serde_json::{Value, json};
use wattlake::{
    access::Role,
    catalog::NewKey,
    verification::{ReportFault, Seen, check_report},
};

use crate::{
    binary::{Site, quick_folder, rounds},
    harness::{Admin, Answer, TestServer, Upload, file, run as run_command, stdout, wattlake},
};

/// The point of a verification that no other operation passes.
pub const POINTS: [&str; 1] = ["catalog::end_run"];

pub const PROGRAMME: &str = "/v1/programmes/light";

/// A payment of a meter, with its `REFERENCE_ID` and its `STATUS`.
pub fn paid(id: &str, at: &str, meter: &str, amount: &str, (reference, status): (&str, &str)) -> String {
    format!("{at},{id},{meter},,C-{meter},Amina Otieno,,M-PESA,{reference},{amount},,{status},,Kitobo")
}

pub const SETTLED: (&str, &str) = ("", "SUCCESS");

/// A server with a project `kitobo`, and an organisation `fund` that has a programme.
pub struct World {
    pub server: TestServer,
    /// Of the fund, which administers the programme.
    pub fund: NewKey,
    /// Of the organisation whose project it is.
    developer: NewKey,
}

impl World {
    pub async fn with(rule: Value) -> Self {
        let server = TestServer::with(|config| config.verification.recheck = Duration::from_hours(9)).await;
        Self::on(server, rule).await
    }

    /// On a server that looks at nothing again by itself.
    pub async fn on(server: TestServer, rule: Value) -> Self {
        let admin = server.admin();
        admin.make_project("kitobo").await;
        assert_eq!(admin.post("/v1/organisations", json!({"slug": "fund", "name": "Fund"})).await.status, 201);
        let (fund, developer) =
            (server.key_of("fund", Role::Manager).await, server.key_of("main", Role::Manager).await);
        let world = Self { server, fund, developer };
        let programme = json!({"slug": "light", "name": "Light", "rule": rule, "invited": ["main"]});
        let made = world.fund().post("/v1/programmes", programme).await;
        assert_eq!(made.status, 201, "{}", made.text);
        world.enrol("kitobo").await;
        world
    }

    pub fn fund(&self) -> Admin<'_> {
        self.server.holder(&self.fund)
    }

    pub fn developer(&self) -> Admin<'_> {
        self.server.holder(&self.developer)
    }

    pub async fn enrol(&self, project: &str) {
        let consent = json!({"project": project, "version": 1, "consent": true});
        let enrolled = self.developer().post(&format!("{PROGRAMME}/enrolments"), consent).await;
        assert_eq!(enrolled.status, 201, "{}", enrolled.text);
    }

    /// Sends connections, under their header.
    pub async fn connect(&self, project: &str, csv: &str) {
        let path = format!("/v1/projects/{project}/connections");
        let developer = self.developer();
        let request = developer.request(Method::POST, &path).header("content-type", "text/csv");
        let answer = Answer::of(request.body(csv.to_owned()).send().await.unwrap()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    pub async fn submit(&self, project: &str) {
        let answer = self.developer().post(&format!("{PROGRAMME}/submissions"), json!({"project": project})).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
    }

    pub async fn upload<T: AsRef<str>>(&self, project: &str, rows: &[T]) -> String {
        let record = self.developer().commit(&Upload::new(project, file(rows))).await;
        record["id"].as_str().unwrap().to_owned()
    }

    /// Verifies, and waits for the end; the run as it is then.
    pub async fn verify(&self, body: Value) -> Value {
        verified(&self.fund(), body).await
    }

    /// What came of each connection, by project and id.
    pub async fn outcomes(&self, run: &Value) -> BTreeMap<String, String> {
        outcomes(&self.fund(), run).await
    }

    pub async fn submission(&self, id: &str) -> Value {
        let mut body = self.fund().get(&format!("{PROGRAMME}/submissions/kitobo/{id}")).await.body;
        body["submission"]["history"] = body["history"].take();
        body["submission"].take()
    }

    /// Looks at verdicts again, as the server does now and then.
    pub async fn recheck(&self) -> usize {
        self.server.verification.recheck(&mut Seen::default()).await.unwrap()
    }
}

pub fn path_of(run: &Value) -> String {
    format!("{PROGRAMME}/verifications/{}", run["id"].as_str().unwrap())
}

pub async fn verified(holder: &Admin<'_>, body: Value) -> Value {
    let begun = holder.post(&format!("{PROGRAMME}/verifications"), body).await;
    assert_eq!(begun.status, 202, "{}", begun.text);
    let path = begun.header("location").to_owned();
    loop {
        let run = holder.get(&path).await;
        assert_eq!(run.status, 200, "{}", run.text);
        if run.body["verification"]["state"] != "running" {
            let state = (&run.body["verification"]["state"], &run.body["progress"]);
            assert_eq!(state, (&json!("done"), &json!(1.0)), "{}", run.text);
            return run.body["verification"].clone();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub async fn outcomes(holder: &Admin<'_>, run: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut path = format!("{}/verdicts?limit=3", path_of(run));
    loop {
        let page = holder.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.text);
        for verdict in page.body["verdicts"].as_array().unwrap() {
            let name = format!("{}/{}", verdict["project"].as_str().unwrap(), verdict["external_id"].as_str().unwrap());
            assert!(found.insert(name, verdict["outcome"].as_str().unwrap().to_owned()).is_none(), "once");
        }
        let Some(cursor) = page.body["next_cursor"].as_str() else { return found };
        path = format!("{}/verdicts?limit=3&cursor={cursor}", path_of(run));
    }
}

/// Three payments in two months, 300 in all, within 90 days of being connected.
fn strict() -> Value {
    json!({"window": {"kind": "after_connection", "days": 90}, "min_payments": 3, "min_months": 2,
        "min_amount": {"KES": "300.00"}})
}

#[tokio::test]
async fn each_outcome_comes_out_of_real_files_with_its_reason_and_its_evidence() {
    let world = World::with(strict()).await;
    let admin = world.server.admin();
    let mut project = crate::harness::project("ndevu");
    project["organisation"] = json!("main");
    assert_eq!(admin.post("/v1/projects", project).await.status, 201);
    world.enrol("ndevu").await;
    world
        .connect(
            "kitobo",
            "EXTERNAL_ID,SERIAL_NUMBER,SITE,CATEGORY,CONNECTED_ON\n\
             good,D1,Kitobo,Residential,2024-05-01\nsilent,D2,,,2024-05-01\nearly,D3,,,2024-05-01\nfew,D4,,,2024-05-01\n\
             one-month,D5,,,2024-05-01\npoor,D6,,,2024-05-01\nreversed,D7,,,2024-05-01\nrefunded,D8,,,2024-05-01\n\
             undated,D9,,,\nfailed,D10,,,2024-05-01\npart,D11,,,2024-05-01\nnamed,D12,,,2024-05-01\n\
             unnamed,D13,,,2024-05-01\n",
        )
        .await;
    world.connect("ndevu", "EXTERNAL_ID,SERIAL_NUMBER,CONNECTED_ON\nother,D1,2024-05-01\ngood,D99,2024-05-01\n").await;
    world.submit("kitobo").await;
    world.submit("ndevu").await;
    let three = |meter: &str, amounts: [&str; 3]| {
        let days = ["2024-05-02", "2024-05-03", "2024-06-02"];
        [0, 1, 2]
            .map(|at| paid(&format!("{meter}-{at}"), &format!("{}T10:00:00", days[at]), meter, amounts[at], SETTLED))
    };
    let mut rows = Vec::new();
    for meter in ["good", "undated", "part", "refunded", "named", "unnamed"] {
        rows.extend(three(meter, ["100", "100", "100.00"]));
    }
    rows.extend(three("poor", ["100", "100", "99.9999"]));
    rows.extend(three("few", ["200", "200", "1"]).into_iter().skip(1));
    rows.extend(three("one-month", ["200", "200", "200"]).into_iter().take(2));
    rows.push(paid("one-month-9", "2024-05-31T20:59:59", "one-month", "1", SETTLED));
    rows.push(paid("early-0", "2024-04-30T20:59:59", "early", "900", SETTLED));
    rows.push(paid("reversed-0", "2024-05-02T10:00:00", "reversed", "900", ("", "REVERSED")));
    rows.push(paid("failed-0", "2024-05-02T10:00:00", "failed", "900", ("", "FAILED")));
    // Given back in the window; and after it, once by the payment's ID, once by its reference.
    rows.push(paid("part-r", "2024-06-05T10:00:00", "part", "-0.0001", SETTLED));
    rows.push(paid("refunded-r0", "2024-06-05T10:00:00", "refunded", "-100", SETTLED));
    rows.push(paid("refunded-r1", "2024-11-05T10:00:00", "refunded", "-100", ("refunded-1", "SUCCESS")));
    rows.push(paid("refunded-r2", "2024-11-05T10:00:00", "refunded", "-100", ("refunded-2", "SUCCESS")));
    // With a STATUS that says that it is given back: what of is named by the reference, in the window or after it.
    rows.push(paid("named-r0", "2024-06-05T10:00:00", "named", "-100", ("named-0", "REVERSED")));
    rows.push(paid("named-r1", "2024-11-05T10:00:00", "named", "-100", ("named-1", "REFUNDED")));
    rows.push(paid("unnamed-r0", "2024-06-05T10:00:00", "unnamed", "-100", ("", "REVERSED")));
    rows.push(paid("good-r", "2024-11-05T10:00:00", "good", "-300", ("of another one", "SUCCESS")));
    let upload = world.upload("kitobo", &rows).await;

    let run = world.verify(json!({})).await;
    let expected = [
        ("kitobo/early", "no_payment_in_window"),
        ("kitobo/failed", "no_payment_in_window"),
        ("kitobo/few", "below_threshold"),
        ("kitobo/good", "verified"),
        ("kitobo/named", "below_threshold"),
        ("kitobo/one-month", "below_threshold"),
        ("kitobo/part", "below_threshold"),
        ("kitobo/poor", "below_threshold"),
        ("kitobo/refunded", "reversed_only"),
        ("kitobo/reversed", "reversed_only"),
        ("kitobo/silent", "meter_not_found"),
        ("kitobo/undated", "missing_data"),
        ("kitobo/unnamed", "verified"),
        ("ndevu/good", "duplicate_connection"),
        ("ndevu/other", "duplicate_connection"),
    ];
    let expected: BTreeMap<_, _> =
        expected.map(|(name, outcome)| (name.to_owned(), outcome.to_owned())).into_iter().collect();
    assert_eq!(world.outcomes(&run).await, expected);
    assert_eq!(run["outcomes"]["below_threshold"], 5);
    assert_eq!((&run["connections"], &run["rule_version"], &run["dry_run"]), (&json!(15), &json!(1), &json!(false)));

    are_explained(&world, &run, &upload).await;
}

/// That each of these verdicts says why, and rests on the payments that it should.
async fn are_explained(world: &World, run: &Value, upload: &str) {
    let verdict = async |name: &str| world.fund().get(&format!("{}/verdicts/{name}", path_of(run))).await;
    let details = [
        ("kitobo/few", "2 of 3 payments"),
        ("kitobo/one-month", "1 of 2 months"),
        ("kitobo/poor", "KES 299.9999 of 300.00"),
        ("kitobo/part", "KES 299.9999 of 300.00"),
        ("kitobo/named", "1 of 3 payments; 1 of 2 months; KES 100.00 of 300.00"),
        ("kitobo/good", "3 payments in 2 months, KES 300.00"),
        ("ndevu/other", "the same connection as kitobo/good"),
        ("kitobo/refunded", "KES 300.00, all refunded"),
        ("kitobo/undated", "connected_on, which is blank"),
    ];
    for (name, detail) in details {
        let told = verdict(name).await.body["verdict"]["detail"].as_str().unwrap().to_owned();
        assert!(told.contains(detail), "{name}: {told}");
    }
    let good = verdict("kitobo/good").await;
    assert!(good.text.contains(r#""amount":300.00,"#), "{}", good.text);
    assert_eq!(
        (&good.body["verdict"]["site"], &good.body["verdict"]["category"]),
        (&json!("Kitobo"), &json!("Residential"))
    );
    assert_eq!(good.body["verdict"]["window_from"], "2024-04-30T21:00:00Z");
    let evidence = &good.body["evidence"];
    let parts: Vec<_> = evidence["payments"].as_array().unwrap().iter().map(|one| &one["payment_id"]).collect();
    assert_eq!(parts, ["good-0", "good-1", "good-2"]);
    assert_eq!((&evidence["source"], &evidence["uploads"][0]["id"]), (&json!("lake"), &json!(upload)));
    let record = world.developer().get(&format!("/v1/uploads/{upload}")).await.body;
    assert_eq!(evidence["uploads"][0]["sha256"], record["sha256"]);
    for (name, parts) in [
        ("kitobo/refunded", vec!["counts", "given_back", "given_back", "refund", "refund", "refund"]),
        ("kitobo/named", vec!["given_back", "given_back", "counts", "refund", "refund"]),
        ("kitobo/unnamed", vec!["counts", "counts", "counts", "reversed"]),
    ] {
        let told = verdict(name).await.body["evidence"]["payments"].take();
        let told: Vec<_> = told.as_array().unwrap().iter().map(|one| one["part"].as_str().unwrap()).collect();
        assert_eq!(told, parts, "{name}");
    }
    assert_eq!(verdict("kitobo/named").await.body["verdict"]["reversed_payments"], 0);
    verdict("kitobo/nobody").await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn meters_that_payments_say_otherwise_are_told_as_near_misses() {
    let world = World::with(json!({"window": {"kind": "before_as_of", "days": 3660}})).await;
    world.connect("kitobo", "EXTERNAL_ID\n00104\nAB 12\n46012345678\nxyz\nknown\n0known\n").await;
    world.submit("kitobo").await;
    let rows = [("1", "104"), ("2", "ab12"), ("3", "known")];
    let mut rows = rows.map(|(id, meter)| paid(id, "2024-05-03T10:00:00", meter, "5", SETTLED)).to_vec();
    rows.push(paid("4", "2024-05-03T10:00:00", "4.6012E+10", "5", SETTLED));
    let sent = world.developer().upload(&Upload::new("kitobo", file(&rows)).with("on_error", "skip_rows")).await;
    assert_eq!(sent.status, 201, "{}", sent.text);
    let run = world.verify(json!({})).await;
    let near = async |id: &str| {
        let verdict = world.fund().get(&format!("{}/verdicts/kitobo/{id}", path_of(&run))).await.body;
        (verdict["verdict"]["outcome"].as_str().unwrap().to_owned(), verdict["verdict"]["near_misses"].clone())
    };
    let not_found = |meters: Value| ("meter_not_found".to_owned(), meters);
    assert_eq!(near("00104").await, not_found(json!(["104"])));
    assert_eq!(near("AB%2012").await, not_found(json!(["ab12"])));
    assert_eq!(near("xyz").await, not_found(json!([])));
    assert_eq!(near("0known").await, not_found(json!([])), "a meter that is connected is nobody else's");
    assert_eq!(near("known").await.0, "verified");
    let accepted = sent.body["counts"]["accepted"] == 4;
    assert_eq!(near("46012345678").await, not_found(if accepted { json!(["4.6012E+10"]) } else { json!([]) }));
}

/// Each payment at an edge of a window, and whether it counts.
#[tokio::test]
async fn windows_hold_at_their_first_and_last_instant_with_offsets_and_on_a_leap_day() {
    // The days of Nairobi begin at 21:00 UTC.
    let edges = |first: &str, before: &str, last: &str, after: &str| {
        [(first, true), (before, false), (last, true), (after, false)].map(|(at, counts)| (at.to_owned(), counts))
    };
    let (leap, as_of) = ("2024-02-29", "2024-07-01T06:30:00Z");
    let of_connection =
        edges("2024-02-29T00:00:00+03:00", "2024-02-28T20:59:59", "2024-03-29T23:59:59+03:00", "2024-03-29T21:00:00");
    let of_dates =
        edges("2024-02-28T21:00:00", "2024-02-28T20:59:59", "2024-02-29T20:59:59", "2024-03-01T00:00:00+03:00");
    let of_as_of =
        edges("2024-06-01T06:30:00", "2024-06-01T09:29:59+03:00", "2024-07-01T06:29:59", "2024-07-01T06:30:00");
    for (window, edges) in [
        (json!({"kind": "after_connection", "days": 30}), of_connection),
        (json!({"kind": "dates", "from": leap, "to": "2024-03-01"}), of_dates),
        (json!({"kind": "before_as_of", "days": 30}), of_as_of),
    ] {
        let world = World::with(json!({"window": window})).await;
        let meters: Vec<String> = (0..edges.len()).map(|at| format!("m{at}")).collect();
        let lines: Vec<String> = meters.iter().map(|meter| format!("{meter},{leap}\n")).collect();
        world.connect("kitobo", &format!("EXTERNAL_ID,CONNECTED_ON\n{}", lines.concat())).await;
        world.submit("kitobo").await;
        let rows: Vec<String> =
            edges.iter().zip(&meters).map(|((at, _), meter)| paid(meter, at, meter, "5", SETTLED)).collect();
        world.upload("kitobo", &rows).await;
        let run = world.verify(json!({"as_of": as_of})).await;
        let found = world.outcomes(&run).await;
        for ((at, counts), meter) in edges.iter().zip(&meters) {
            let expected = match (counts, at.as_str()) {
                (true, _) => "verified",
                // What was paid at as-of is as if it were not there.
                (false, "2024-07-01T06:30:00") => "meter_not_found",
                (false, _) => "no_payment_in_window",
            };
            assert_eq!(found[&format!("kitobo/{meter}")], expected, "{window}: {at}");
        }
    }
}

#[tokio::test]
async fn what_changes_a_verdict_opens_it_again_and_a_new_run_settles_it_with_its_history() {
    let world = World::with(json!({"window": {"kind": "dates", "from": "2024-05-01", "to": "2024-06-01"}})).await;
    world
        .connect(
            "kitobo",
            "EXTERNAL_ID,CONNECTED_ON\nmoved,2024-05-01\nlate,2024-05-01\nback,2024-05-01\nstays,2024-05-01\n",
        )
        .await;
    world.submit("kitobo").await;
    let may = "2024-05-03T10:00:00";
    let rows = ["moved", "back", "stays"].map(|meter| paid(meter, may, meter, "5", SETTLED));
    let first = world.upload("kitobo", &rows).await;
    let run = world.verify(json!({})).await;
    assert_eq!(world.outcomes(&run).await["kitobo/late"], "meter_not_found");
    assert_eq!(world.recheck().await, 0);

    // A correction moves a payment into another month, a late file brings one, and another is reversed in a later month.
    let june = "2024-06-03T10:00:00";
    let rows = [
        paid("moved", june, "moved", "5", SETTLED),
        paid("late", may, "late", "5", SETTLED),
        paid("back", june, "back", "5", ("", "REVERSED")),
    ];
    let second = world.upload("kitobo", &rows).await;
    assert_eq!(world.recheck().await, 3);
    let open = world.fund().get(&format!("{PROGRAMME}/submissions?reopened=true")).await.body;
    let told = |list: &Value| -> Vec<String> {
        let told =
            |one: &Value| format!("{} {} {}", one["external_id"], one["outcome"], one["would_be"]).replace('"', "");
        list["submissions"].as_array().unwrap().iter().map(told).collect()
    };
    assert_eq!(
        told(&open),
        ["back verified no_payment_in_window", "late meter_not_found verified", "moved verified no_payment_in_window"]
    );
    let pay = |id: &str| json!({"connections": [{"project": "kitobo", "external_id": id}]});
    let refused = world.fund().post(&format!("{PROGRAMME}/submissions/paid"), pay("moved")).await;
    refused.assert_problem(409, "not_payable");
    assert!(refused.text.contains("kitobo/moved (open again)"), "{}", refused.text);
    // Taken back, nothing is open any more.
    assert_eq!(world.developer().delete(&format!("/v1/uploads/{second}")).await.status, 200);
    assert_eq!(world.recheck().await, 3);
    assert_eq!(world.submission("moved").await["reopened_at"], Value::Null);
    assert_eq!(world.developer().post(&format!("/v1/uploads/{second}/restore"), json!({})).await.status, 200);
    assert_eq!(world.recheck().await, 3);

    let again = world.verify(json!({})).await;
    assert_eq!(world.recheck().await, 0);
    let moved = world.submission("moved").await;
    assert_eq!((&moved["state"], &moved["outcome"]), (&json!("failed"), &json!("no_payment_in_window")));
    let events: Vec<_> =
        moved["history"].as_array().unwrap().iter().map(|one| one["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["submitted", "verified", "reopened", "settled", "reopened", "failed"]);
    assert_eq!(world.submission("stays").await["history"].as_array().unwrap().len(), 2, "what stays is no news");
    // What was found first is still to be read.
    assert_eq!(world.outcomes(&run).await["kitobo/moved"], "verified");
    assert_eq!(world.outcomes(&again).await["kitobo/late"], "verified");
    // A connection that goes is missing, and one that is corrected is judged as it is.
    assert_eq!(world.developer().delete("/v1/projects/kitobo/connections/stays").await.status, 200);
    assert_eq!(world.recheck().await, 1);
    assert_eq!(world.submission("stays").await["would_be"], "missing_data");
    assert!(world.outcomes(&run).await.contains_key("kitobo/stays"));
    let _ = first;
}

#[tokio::test]
async fn a_run_replayed_gives_the_same_bytes_from_the_lake_or_the_uploads_and_says_when_its_evidence_is_gone() {
    let world = World::with(json!({"window": {"kind": "before_as_of", "days": 3660}, "min_payments": 2})).await;
    world.connect("kitobo", "EXTERNAL_ID\na\nb\nc\nd\n").await;
    world.submit("kitobo").await;
    let row = |id: &str, meter: &str, amount: &str| paid(id, "2024-05-03T10:00:00", meter, amount, SETTLED);
    // The same ID again with the same content, with another, and in three uploads.
    world.upload("kitobo", &[row("1", "a", "5"), row("2", "a", "6"), row("3", "b", "1"), row("4", "x", "1")]).await;
    let second = world.upload("kitobo", &[row("2", "a", "6"), row("3", "b", "2"), row("5", "b", "1")]).await;
    world.upload("kitobo", &[row("3", "b", "2"), row("1", "c", "5")]).await;
    let run = world.verify(json!({})).await;
    let replay = async || world.fund().post(&format!("{}/replay", path_of(&run)), json!({})).await;
    let said = |answer: &Answer| (answer.body["same"].clone(), answer.body["source"].clone());
    assert_eq!(said(&replay().await), (json!(true), json!("lake")));
    let explained = async |id: &str| {
        let verdict = world.fund().get(&format!("{}/verdicts/kitobo/{id}", path_of(&run))).await.body;
        (verdict["verdict"]["outcome"].clone(), verdict["evidence"].clone())
    };
    let payments = |evidence: &Value| evidence["payments"].as_array().unwrap().len();
    let before = explained("b").await;
    assert_eq!((&before.0, payments(&before.1)), (&json!("verified"), 2));

    // The lake moves on, connections change, and the version that was looked at is kept no longer.
    world.upload("kitobo", &[row("3", "d", "9"), row("6", "a", "1")]).await;
    world.connect("kitobo", "EXTERNAL_ID,SITE\na,Hill\ne,\n").await;
    assert_eq!(world.developer().delete(&format!("/v1/uploads/{second}")).await.status, 200);
    assert_eq!(said(&replay().await), (json!(true), json!("lake")));
    assert!(world.server.lake.remove_old_files(Duration::ZERO).await.unwrap() > 0);
    assert_eq!(said(&replay().await), (json!(true), json!("uploads")));
    let after = explained("b").await;
    assert_eq!((&after.1["payments"], &after.1["source"]), (&before.1["payments"], &json!("uploads")));
    assert_eq!(after.1["uploads"][0]["status"], "deleted");

    // An upload that a verdict rests on is erased only when that is said.
    let purge =
        async |how: &str| world.server.admin().post(&format!("/v1/uploads/{second}/purge{how}"), json!({})).await;
    let refused = purge("").await;
    refused.assert_problem(409, "evidence_of_verdicts");
    assert_eq!(refused.body["runs"], json!([run["id"]]));
    assert_eq!(purge("?with_evidence=true").await.status, 200);
    let gone = replay().await;
    gone.assert_problem(410, "evidence_gone");
    assert_eq!(gone.body["uploads"], json!([second]));
    let after = explained("b").await;
    assert_eq!((&after.0, &after.1["gone"], payments(&after.1)), (&json!("verified"), &json!([second]), 0));
    assert_eq!(after.1["uploads"][0]["status"], "purged");
    assert_eq!(world.outcomes(&run).await.len(), 4, "verdicts stay");
}

#[tokio::test]
async fn a_connection_is_submitted_verified_and_paid_once_and_who_did_it_is_known() {
    let world = World::with(json!({"window": {"kind": "before_as_of", "days": 3660}})).await;
    let developer = world.developer();
    let submissions = format!("{PROGRAMME}/submissions");
    world.connect("kitobo", "EXTERNAL_ID\na\nb\nc\n").await;
    world.upload("kitobo", &[paid("1", "2024-05-03T10:00:00", "a", "5", SETTLED)]).await;
    let drafts = async || {
        let page = developer.get(&format!("{submissions}?state=draft&project=kitobo")).await;
        page.body["submissions"].as_array().unwrap().len()
    };
    assert_eq!(drafts().await, 3);
    world.fund().get(&format!("{submissions}?state=draft&project=kitobo")).await.assert_problem(404, "not_found");
    let nothing = world.fund().post(&format!("{PROGRAMME}/verifications"), json!({})).await;
    nothing.assert_problem(422, "nothing_to_verify");
    let submit =
        async |ids: Value| developer.post(&submissions, json!({"project": "kitobo", "connections": ids})).await;
    submit(json!(["a", "nobody"])).await.assert_problem(422, "connections_missing");
    assert_eq!(submit(json!(["a"])).await.body["submitted"], 1);
    let again = submit(json!(["b", "a"])).await;
    again.assert_problem(409, "already_submitted");
    assert!(again.body["detail"].as_str().unwrap().ends_with(": a"), "{}", again.text);
    assert_eq!((drafts().await, submit(json!(["b"])).await.status.as_u16()), (2, 201));
    world.submit("kitobo").await;
    assert_eq!(drafts().await, 0);
    assert_eq!(developer.post(&submissions, json!({"project": "kitobo"})).await.body["submitted"], 0);
    for wrong in [
        json!({"project": "kitobo", "connections": []}),
        json!({"connections": ["a"]}),
        json!({"project": "kitobo", "connections": ["a", "a"]}),
    ] {
        developer.post(&submissions, wrong).await.assert_problem(400, "invalid_submission");
    }

    let run = world.verify(json!({"connections": [{"project": "kitobo", "external_id": "a"}, {"project": "kitobo", "external_id": "b"}]})).await;
    assert_eq!(run["connections"], 2);
    let states = async || -> Vec<String> {
        let page = developer.get(&submissions).await.body;
        let state = |one: &Value| format!("{} {}", one["external_id"], one["state"]).replace('"', "");
        page["submissions"].as_array().unwrap().iter().map(state).collect()
    };
    assert_eq!(states().await, ["a verified", "b failed", "c submitted"]);
    let pay = async |ids: &[&str]| {
        let names: Vec<_> = ids.iter().map(|id| json!({"project": "kitobo", "external_id": id})).collect();
        world.fund().post(&format!("{submissions}/paid"), json!({"connections": names})).await
    };
    let refused = pay(&["a", "b", "x"]).await;
    refused.assert_problem(409, "not_payable");
    assert!(refused.text.contains("kitobo/b (failed), kitobo/x (not submitted)"), "{}", refused.text);
    let many: Vec<String> = (0..10_001).map(|number| format!("a-rather-long-identifier-{number:09}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    pay(&many[1..]).await.assert_problem(409, "not_payable");
    pay(&many).await.assert_problem(400, "invalid_submission");
    assert_eq!(pay(&["a"]).await.body["paid"], 1);
    pay(&["a"]).await.assert_problem(409, "not_payable");
    developer.post(&format!("{submissions}/paid"), json!({"connections": []})).await.assert_problem(404, "not_found");
    assert_eq!(states().await, ["a paid", "b failed", "c submitted"]);
    // Verified again, it stays paid.
    world.verify(json!({})).await;
    assert_eq!(states().await, ["a paid", "b failed", "c failed"]);
    let history = async |holder: &Admin<'_>| -> Vec<(String, bool)> {
        let body = holder.get(&format!("{submissions}/kitobo/a")).await.body;
        let event = |one: &Value| (one["event"].as_str().unwrap().to_owned(), one["by"].is_string());
        body["history"].as_array().unwrap().iter().map(event).collect()
    };
    let told = |known: [bool; 3]| -> Vec<(String, bool)> {
        ["submitted", "verified", "paid"].map(str::to_owned).into_iter().zip(known).collect()
    };
    assert_eq!(history(&developer).await, told([true, false, false]), "each side's keys are its own business");
    assert_eq!(history(&world.fund()).await, told([false, true, true]));
}

#[tokio::test]
async fn who_takes_part_tries_out_its_own_and_sees_of_verdicts_what_concerns_it() {
    let world = World::with(json!({"window": {"kind": "before_as_of", "days": 3660}})).await;
    let admin = world.server.admin();
    // Another developer, whose device was submitted first.
    assert_eq!(admin.post("/v1/organisations", json!({"slug": "rival", "name": "Rival"})).await.status, 201);
    let rival = world.server.key_of("rival", Role::Manager).await;
    let rival = world.server.holder(&rival);
    let invited = world.fund().patch(PROGRAMME, json!({"invited": ["main", "rival"]})).await;
    assert_eq!(invited.status, 200, "{}", invited.text);
    let body = json!({"slug": "secret", "name": "S", "kind": "mini_grid", "currency": "KES", "time_zone": "Africa/Nairobi", "country": "KE"});
    assert_eq!(rival.post("/v1/projects", body).await.status, 201);
    let consent = json!({"project": "secret", "version": 1, "consent": true});
    assert_eq!(rival.post(&format!("{PROGRAMME}/enrolments"), consent).await.status, 201);
    let request = rival.request(Method::POST, "/v1/projects/secret/connections").header("content-type", "text/csv");
    assert_eq!(request.body("EXTERNAL_ID,SERIAL_NUMBER\ntheirs,D1\n").send().await.unwrap().status(), 200);
    assert_eq!(rival.post(&format!("{PROGRAMME}/submissions"), json!({"project": "secret"})).await.status, 201);
    world.connect("kitobo", "EXTERNAL_ID,SERIAL_NUMBER\na,D1\nb,D2\n").await;
    world.upload("kitobo", &[paid("1", "2024-05-03T10:00:00", "b", "5", SETTLED)]).await;

    let developer = world.developer();
    let start = async |holder: &Admin<'_>, body: Value| holder.post(&format!("{PROGRAMME}/verifications"), body).await;
    start(&developer, json!({})).await.assert_problem(403, "dry_run_only");
    start(&developer, json!({"dry_run": true, "projects": ["secret"]})).await.assert_problem(404, "not_found");
    start(&world.fund(), json!({"rule": {"window": {"kind": "before_as_of", "days": 1}}}))
        .await
        .assert_problem(400, "invalid_verification");
    start(&world.fund(), json!({"rule_version": 9})).await.assert_problem(400, "invalid_verification");
    start(&world.fund(), json!({"as_of": "2999-01-01T00:00:00Z"})).await.assert_problem(400, "invalid_verification");
    let other = json!({"connections": [{"project": "kitobo", "external_id": "a"}]});
    start(&world.fund(), other).await.assert_problem(422, "not_submitted");

    // Drafts are tried out by those whose they are, by another rule too, and settle nothing.
    let tried = verified(
        &developer,
        json!({"dry_run": true, "rule": {"window": {"kind": "before_as_of", "days": 3660}, "min_payments": 2}}),
    )
    .await;
    assert_eq!(
        (&tried["rule_version"], &tried["outcomes"]),
        (&Value::Null, &json!({"below_threshold": 1, "meter_not_found": 1})),
        "that somebody else has the same device is not told by a try"
    );
    let found = outcomes(&developer, &tried).await;
    assert_eq!(found.keys().collect::<Vec<_>>(), ["kitobo/a", "kitobo/b"]);
    let listed = async |holder: &Admin<'_>| {
        holder.get(&format!("{PROGRAMME}/verifications")).await.body["verifications"].as_array().unwrap().len()
    };
    assert_eq!((listed(&developer).await, listed(&world.fund()).await, listed(&rival).await), (1, 0, 0));
    world.fund().get(&path_of(&tried)).await.assert_problem(404, "not_found");
    rival.get(&path_of(&tried)).await.assert_problem(404, "not_found");

    world.submit("kitobo").await;
    let run = world.verify(json!({})).await;
    assert_eq!((listed(&developer).await, listed(&world.fund()).await, listed(&rival).await), (2, 1, 1));
    assert_eq!(outcomes(&developer, &run).await.keys().collect::<Vec<_>>(), ["kitobo/a", "kitobo/b"]);
    let duplicate = developer.get(&format!("{}/verdicts/kitobo/a", path_of(&run))).await;
    assert_eq!(
        (&duplicate.body["verdict"]["outcome"], &duplicate.body["verdict"]["duplicate_of"]),
        (&json!("duplicate_connection"), &Value::Null)
    );
    let about = developer.get(&path_of(&run)).await;
    let csv = developer.get(&format!("{}/verdicts?format=csv", path_of(&run))).await;
    for answer in [&duplicate, &about, &csv] {
        assert!(!answer.text.contains("secret") && !answer.text.contains("theirs"), "{}", answer.text);
    }
    assert_eq!((csv.text.lines().count(), &about.body["verification"]["outcomes"]), (3, &Value::Null));
    developer.get(&format!("{}/verdicts/secret/theirs", path_of(&run))).await.assert_problem(404, "not_found");
    developer.get(&format!("{}/report", path_of(&run))).await.assert_problem(403, "report_of_others");
    let viewer = world.server.key_of("fund", Role::Viewer).await;
    world.server.holder(&viewer).get(&path_of(&run)).await.assert_problem(403, "forbidden");

    developer.get(&format!("{}/report", path_of(&tried))).await.assert_problem(403, "report_of_others");
    let names = [("secret", "theirs"), ("kitobo", "b")];
    let names = names.map(|(project, id)| json!({"project": project, "external_id": id}));
    let selected = world.verify(json!({"connections": names})).await;
    assert_eq!((&selected["connections"], &selected["selection"]["connections"][1]), (&json!(2), &names[0]));
    let list = developer.get(&format!("{PROGRAMME}/verifications")).await;
    assert!(list.text.contains(selected["id"].as_str().unwrap()) && !list.text.contains("theirs"), "{}", list.text);
    assert!(!developer.get(&path_of(&selected)).await.text.contains("theirs"));
    developer.post(&format!("{}/replay", path_of(&run)), json!({})).await.assert_problem(403, "replay_of_others");
    assert_eq!(developer.post(&format!("{}/replay", path_of(&tried)), json!({})).await.body["same"], true);
    let (number, turn) = (developer.get(&format!("{PROGRAMME}/submissions/kitobo/b")).await, duplicate);
    assert_eq!((&number.body["submission"]["number"], &turn.body["verdict"]["turn"]), (&Value::Null, &Value::Null));
    // Each sees who looked at what is its own, and not that there are others.
    let audit = rival.get("/v1/audit?limit=200").await;
    assert!(audit.text.contains("fund") && !audit.text.contains("kitobo"), "{}", audit.text);
    let looked = audit.body["entries"].as_array().unwrap().iter().filter(|entry| entry["organisation"] == "main");
    assert_eq!(looked.count(), 0, "{}", audit.text);

    // Who leaves takes its connections along; what was found stays.
    assert_eq!(developer.delete(&format!("{PROGRAMME}/enrolments/kitobo")).await.status, 200);
    let again = world.verify(json!({})).await;
    assert_eq!(world.outcomes(&again).await.keys().collect::<Vec<_>>(), ["secret/theirs"]);
    assert_eq!(world.outcomes(&run).await.len(), 3);
    for (holder, withheld, payments) in [(&world.fund(), json!("withdrawn"), 0), (&developer, Value::Null, 1)] {
        let explained = holder.get(&format!("{}/verdicts/kitobo/b", path_of(&run))).await.body;
        let told = explained["evidence"]["payments"].as_array().unwrap().len();
        assert_eq!(
            (&explained["verdict"]["outcome"], &explained["evidence"]["withheld"]),
            (&json!("verified"), &withheld)
        );
        assert_eq!(told, payments, "what is paid is shown to the programme no longer");
    }
    developer
        .post(&format!("{PROGRAMME}/submissions"), json!({"project": "kitobo"}))
        .await
        .assert_problem(409, "not_enrolled");
}

#[tokio::test]
async fn a_report_is_checked_without_the_server_and_whatever_is_altered_in_it_is_found() {
    let world = World::with(json!({"window": {"kind": "before_as_of", "days": 3660}})).await;
    world.connect("kitobo", "EXTERNAL_ID\na\nb\n").await;
    world.submit("kitobo").await;
    world.upload("kitobo", &[paid("1", "2024-05-03T10:00:00", "a", "5", SETTLED)]).await;
    let run = world.verify(json!({})).await;
    let report = world.fund().get(&format!("{}/report", path_of(&run))).await.text;
    let key = world.fund().get("/v1/verification-key").await.body["public_key"].as_str().unwrap().to_owned();
    let checked = check_report(report.as_bytes(), Some(&key)).unwrap();
    assert_eq!((checked.verdicts, &checked.head["outcomes"]), (2, &run["outcomes"]));
    let csv = world.fund().get(&format!("{}/verdicts?format=csv", path_of(&run))).await.text;
    assert!(report.contains(&csv), "the report has the verdicts as they are");
    for (from, to) in
        [("verified", "Verified"), ("kitobo,b,", "kitobo,c,"), ("report 1", "report 2"), (&key[..4], "0000")]
    {
        let altered = report.replacen(from, to, 1);
        assert_ne!(altered, report, "{from}");
        assert!(check_report(altered.as_bytes(), None).is_err(), "{from}");
    }
    assert_eq!(check_report(report.as_bytes(), Some(&"0".repeat(64))), Err(ReportFault::OtherKey(key.clone())));
    let cut = &report[..report.len() - 1];
    assert!(check_report(cut.as_bytes(), None).is_err());

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("report.txt"), &report).unwrap();
    let good = run_in(folder.path(), &["verify-report", "report.txt", "--key", &key]);
    assert!(good.contains("2 verdicts") && good.contains("light"), "{good}");
    std::fs::write(folder.path().join("report.txt"), report.replace("kitobo,b,", "kitobo,c,")).unwrap();
    let bad = run_command(folder.path(), &["verify-report", "report.txt"]);
    assert!(!bad.status.success() && String::from_utf8_lossy(&bad.stderr).contains("signature is wrong"));
    // The key stays, and only its owner can read it.
    let server = world.server.restarted().await;
    let again = server.admin().get("/v1/verification-key").await.body;
    assert_eq!(again["public_key"], json!(key));
    let file = server.folder.path().join("verification.key");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

fn run_in(folder: &std::path::Path, arguments: &[&str]) -> String {
    stdout(&run_command(folder, arguments))
}

#[tokio::test]
async fn verdicts_as_parquet_are_those_of_the_csv_with_types() {
    let world = World::with(json!({"window": {"kind": "before_as_of", "days": 3660}})).await;
    world.connect("kitobo", "EXTERNAL_ID,CONNECTED_ON\na,2024-02-29\nb,\n").await;
    world.submit("kitobo").await;
    world.upload("kitobo", &[paid("1", "2024-05-03T10:00:00", "a", "12.5", SETTLED)]).await;
    let run = world.verify(json!({})).await;
    let fund = world.fund();
    let request = fund.request(Method::GET, &format!("{}/verdicts?format=parquet", path_of(&run)));
    let bytes = request.send().await.unwrap().bytes().await.unwrap();
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    let shown = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
    assert!(
        shown.contains("12.5000") && shown.contains("2024-02-29") && shown.contains("2024-05-03T10:00:00Z"),
        "{shown}"
    );
    assert_eq!(batches.iter().map(arrow::array::RecordBatch::num_rows).sum::<usize>(), 2);
    fund.get(&format!("{}/verdicts?format=xml", path_of(&run))).await.assert_problem(400, "invalid_parameter");
    let filtered = fund.get(&format!("{}/verdicts?outcome=verified&project=kitobo", path_of(&run))).await.body;
    assert_eq!(filtered["verdicts"].as_array().unwrap().len(), 1);
}

/// A payment: its ID, meter, hour of the year, amount, whether it is settled or reversed, and the ID that its reference names.
type Payment = (u8, u8, u16, i16, bool, Option<u8>);

/// What is verified of some payments, however they come: as one file, or in parts in any order. An ID is once among them.
#[tokio::test]
async fn verdicts_are_the_same_whatever_the_order_and_the_files_in_which_payments_came() {
    let cases = u32::try_from(rounds("VERIFICATION_CASES", 6)).unwrap();
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    // Few enough of everything that references name something.
    let reference = prop::option::of(0_u8..40);
    let payment = (0_u8..40, 0_u8..6, 0_u16..8_000, -150_i16..200, prop::bool::weighted(0.8), reference);
    let payments = prop::collection::vec(payment, 1..60);
    let parts = prop::collection::vec(0_usize..4, 60);
    let runtime = tokio::runtime::Handle::current();
    let outcome = tokio::task::spawn_blocking(move || {
        runner.run(&(payments, parts), |(payments, parts)| {
            runtime.block_on(same_whatever_the_order(payments, &parts));
            Ok(())
        })
    });
    outcome.await.unwrap().unwrap();
}

async fn same_whatever_the_order(payments: Vec<Payment>, parts: &[usize]) {
    let once: BTreeMap<u8, Payment> = payments.into_iter().map(|payment| (payment.0, payment)).collect();
    let line = |(id, meter, hour, amount, settled, named): &Payment| {
        let at = chrono::DateTime::from_timestamp(1_704_067_200 + i64::from(*hour) * 3_600, 0).unwrap();
        let status = if *settled { "SUCCESS" } else { "REVERSED" };
        let reference = named.map_or(String::new(), |named| format!("P{named}"));
        paid(
            &format!("P{id}"),
            &at.format("%Y-%m-%dT%H:%M:%S").to_string(),
            &format!("m{meter}"),
            &amount.to_string(),
            (&reference, status),
        )
    };
    let rule = json!({"window": {"kind": "after_connection", "days": 120}, "min_payments": 2, "min_months": 2, "min_amount": {"KES": "100"}});
    let mut found = Vec::new();
    for split in [false, true] {
        let world = World::with(rule.clone()).await;
        let lines: Vec<String> = (0..6).map(|meter| format!("m{meter},2024-0{}-15\n", meter + 1)).collect();
        world.connect("kitobo", &format!("EXTERNAL_ID,CONNECTED_ON\n{}", lines.concat())).await;
        world.submit("kitobo").await;
        let mut files: Vec<Vec<String>> = vec![Vec::new(); 4];
        for (at, payment) in once.values().enumerate() {
            files[if split { parts[at] } else { 0 }].push(line(payment));
        }
        for rows in files.iter().rev().filter(|rows| !rows.is_empty()) {
            world.upload("kitobo", rows).await;
        }
        let run = world.verify(json!({"as_of": "2025-01-01T00:00:00Z"})).await;
        let csv = world.fund().get(&format!("{}/verdicts?format=csv", path_of(&run))).await.text;
        let expected = judged_plainly(&once);
        assert_eq!(world.outcomes(&run).await, expected, "{once:?}");
        // All but the uploads that it came with.
        let mut records = csv::Reader::from_reader(csv.as_bytes());
        let uploads = records.headers().unwrap().iter().position(|name| name == "uploads").unwrap();
        let record = |record: csv::StringRecord| {
            record
                .iter()
                .enumerate()
                .filter(|(at, _)| *at != uploads)
                .map(|(_, text)| text.to_owned())
                .collect::<Vec<_>>()
        };
        found.push(records.records().map(|one| record(one.unwrap())).collect::<Vec<_>>());
    }
    assert_eq!(found[0], found[1]);
}

/// What the rule above says, worked out payment by payment.
fn judged_plainly(payments: &BTreeMap<u8, Payment>) -> BTreeMap<String, String> {
    (0..6).map(|meter| (format!("kitobo/m{meter}"), judged_meter(payments, meter).to_owned())).collect()
}

fn judged_meter(payments: &BTreeMap<u8, Payment>, meter: u8) -> &'static str {
    let day = |day: chrono::NaiveDate| day.and_hms_opt(0, 0, 0).unwrap().and_utc() - chrono::Duration::hours(3);
    let connected = chrono::NaiveDate::from_ymd_opt(2024, u32::from(meter) + 1, 15).unwrap();
    let (from, to) = (day(connected), day(connected + chrono::Days::new(120)));
    let at =
        |payment: &Payment| chrono::DateTime::from_timestamp(1_704_067_200 + i64::from(payment.2) * 3_600, 0).unwrap();
    let mut of_meter: Vec<&Payment> = payments.values().filter(|payment| payment.1 == meter).collect();
    of_meter.sort_by_key(|payment| (at(payment), format!("P{}", payment.0)));
    let inside = |payment: &Payment| at(payment) >= from && at(payment) < to;
    let counts = |payment: &&&Payment| inside(payment) && payment.4 && payment.3 > 0;
    let paid: Vec<&Payment> = of_meter.iter().filter(counts).copied().collect();
    let mut left: Vec<i64> = paid.iter().map(|payment| i64::from(payment.3)).collect();
    let (mut refunded, mut reversed) = (0, 0);
    for payment in of_meter.iter().filter(|payment| at(payment) >= from) {
        let (below, settled) = (payment.3 < 0, payment.4);
        let is_named = |one: &&Payment| payment.5.is_some_and(|name| one.0 == name || one.5 == Some(name));
        let named: Vec<usize> = (0..paid.len()).filter(|number| is_named(&paid[*number])).collect();
        if below && !named.is_empty() || below && settled && inside(payment) {
            let mut amount = -i64::from(payment.3);
            refunded += amount;
            for number in named {
                let taken = amount.min(left[number]);
                left[number] -= taken;
                amount -= taken;
            }
        } else if !settled && inside(payment) {
            reversed += 1;
        }
    }
    let counted: Vec<&Payment> = paid.iter().zip(&left).filter(|(_, left)| **left > 0).map(|(one, _)| *one).collect();
    let month = |payment: &&Payment| (at(payment) + chrono::Duration::hours(3)).format("%Y-%m").to_string();
    let months: std::collections::BTreeSet<String> = counted.iter().map(month).collect();
    let sum: i64 = paid.iter().map(|payment| i64::from(payment.3)).sum();
    match (of_meter.len(), paid.len()) {
        (0, _) => "meter_not_found",
        (_, 0) if reversed > 0 => "reversed_only",
        (_, 0) => "no_payment_in_window",
        _ if sum - refunded <= 0 => "reversed_only",
        _ if counted.len() < 2 || months.len() < 2 || sum - refunded < 100 => "below_threshold",
        _ => "verified",
    }
}

#[tokio::test]
async fn a_run_that_the_process_did_not_end_is_told_so_and_settles_nothing() {
    for outcome in ["abort", "EIO"] {
        let folder = quick_folder();
        let site = Site::new(folder.path().join("data")).await;
        let mut running = site.start_with(&format!("catalog::end_run=1*return({outcome})"));
        let admin = running.admin();
        admin.make_project("kitobo").await;
        let programme = json!({"slug": "light", "name": "L", "rule": {"window": {"kind": "before_as_of", "days": 9}}});
        assert_eq!(admin.post("/v1/programmes", programme).await.status, 201);
        let consent = json!({"project": "kitobo", "version": 1, "consent": true});
        assert_eq!(admin.post(&format!("{PROGRAMME}/enrolments"), consent).await.status, 201);
        let request = admin.request(Method::POST, "/v1/projects/kitobo/connections").header("content-type", "text/csv");
        assert_eq!(request.body("EXTERNAL_ID\na\n").send().await.unwrap().status(), 200);
        assert_eq!(admin.post(&format!("{PROGRAMME}/submissions"), json!({"project": "kitobo"})).await.status, 201);
        // Where the process ends, it may end before it answers.
        let begin = admin.request(Method::POST, &format!("{PROGRAMME}/verifications")).json(&json!({})).send().await;
        assert!(outcome == "abort" || begin.is_ok_and(|begun| begun.status() == 202));
        if outcome == "abort" {
            assert_eq!(running.ended_by(), Some(6), "it ended by SIGABRT");
            running = site.start();
        }
        let admin = running.admin();
        let listed = admin.get(&format!("{PROGRAMME}/verifications")).await.body["verifications"].take();
        let path = path_of(&listed[0]);
        let failed = loop {
            let run = admin.get(&path).await.body["verification"].take();
            if run["state"] != "running" {
                break run;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        assert_eq!(failed["state"], "failed", "{failed}");
        assert!(failed["failure"].as_str().unwrap().contains("begin another"), "{failed}");
        admin.get(&format!("{path}/verdicts")).await.assert_problem(409, "verification_not_done");
        let submission = admin.get(&format!("{PROGRAMME}/submissions/kitobo/a")).await.body["submission"].take();
        assert_eq!((&submission["state"], &submission["outcome"]), (&json!("submitted"), &Value::Null));
        let run = verified(&admin, json!({})).await;
        assert_eq!(outcomes(&admin, &run).await["kitobo/a"], "meter_not_found");
    }
}

#[tokio::test]
async fn the_demo_has_a_programme_with_300_connections_and_each_outcome_among_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = wattlake(folder.path(), &["demo", "--listen", "127.0.0.1:0"]);
    let mut demo = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // It is kept, because a demo that cannot say what to try ends.
    let mut said = BufReader::new(demo.stdout.take().unwrap());
    let lines: Vec<String> =
        said.by_ref().lines().map(Result::unwrap).take_while(|line| !line.starts_with("# ")).collect();
    let after = |start: &str| lines.iter().find_map(|line| line.strip_prefix(start)).unwrap().to_owned();
    let address = after("Wattlake listens on ").split(',').next().unwrap().to_owned();
    let key = after("FUND_KEY=");
    let fund = Admin::new(&address, &key);
    let begun = fund.post("/v1/programmes/rural-light/verifications", json!({})).await;
    assert_eq!(begun.status, 202, "{}", begun.text);
    let run = loop {
        let run = fund.get(begun.header("location")).await.body["verification"].take();
        if run["state"] != "running" {
            break run;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((&run["state"], &run["connections"]), (&json!("done"), &json!(300)), "{run}");
    let mut outcomes: Vec<&str> = run["outcomes"].as_object().unwrap().keys().map(String::as_str).collect();
    outcomes.sort_unstable();
    let each = ["below_threshold", "duplicate_connection", "meter_not_found", "missing_data", "no_payment_in_window"];
    assert_eq!(outcomes, [&each[..], &["reversed_only", "verified"]].concat(), "{run}");
    let not_found = fund.get(&format!("{}/verdicts?outcome=meter_not_found", begun.header("location"))).await.body;
    let near = not_found["verdicts"].as_array().unwrap().iter().filter(|one| one["near_misses"] != json!([])).count();
    assert!(near > 3, "{not_found}");
    demo.kill().unwrap();
    demo.wait().unwrap();
}
