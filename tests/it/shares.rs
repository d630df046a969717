//! Shares of a project with another organisation: what its keys read then, what they do not, and until when.

use std::{
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use chrono::{TimeDelta, Utc};
use reqwest::{Method, header};
use serde_json::{Value, json};
use wattlake::{
    access::Role,
    catalog::{NewKey, ShareChange},
};

use crate::harness::{Admin, Answer, Process, TestServer, Upload, file, paid, project, run, stdout, wattlake};

/// A server whose organisation `main` has the project kitobo, with a payment a month from March to June of 2024, two of them of
/// a second upload; and the organisations `fund` and `rival`, with keys to be shared with.
struct World {
    server: TestServer,
    owner: NewKey,
    fund: NewKey,
    rival: NewKey,
}

impl World {
    async fn new() -> Self {
        let server = TestServer::start().await;
        for slug in ["fund", "rival"] {
            let made = server.admin().post("/v1/organisations", json!({"slug": slug, "name": slug})).await;
            assert_eq!(made.status, 201, "{}", made.text);
        }
        let owner = server.key_of("main", Role::Manager).await;
        let (fund, rival) = (server.key_of("fund", Role::Manager).await, server.key_of("rival", Role::Manager).await);
        server.holder(&owner).make_project("kitobo").await;
        let of = |month: &str, amount: &str| paid(month, &format!("2024-{month}-10T08:00:00"), amount, "SUCCESS");
        for rows in [[of("03", "3"), of("04", "40")], [of("05", "500"), of("06", "6000")]] {
            server.holder(&owner).commit(&Upload::new("kitobo", file(&rows))).await;
        }
        Self { server, owner, fund, rival }
    }

    fn owner(&self) -> Admin<'_> {
        self.server.holder(&self.owner)
    }

    fn fund(&self) -> Admin<'_> {
        self.server.holder(&self.fund)
    }

    /// Shares months of kitobo, and gives the path of the share.
    async fn share(&self, recipient: &str, from: Option<&str>, to: Option<&str>) -> String {
        let body = json!({"recipient": recipient, "months_from": from, "months_to": to, "detail": "full"});
        let made = self.owner().post("/v1/projects/kitobo/shares", body).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.header("location").to_owned()
    }

    /// Makes it show another detail.
    async fn detail(&self, share: &str, detail: &str) {
        let changed = self.owner().patch(share, json!({"detail": detail})).await;
        assert_eq!(changed.body["detail"], detail, "{}", changed.text);
    }

    /// The revenue by month that the fund reads.
    async fn figures(&self) -> Vec<String> {
        self.fund().figures("revenue_over_time?project=kitobo&grain=month&tz=UTC", "period revenue").await
    }
}

const FIGURES: &str = "/v1/metrics/revenue_over_time?project=kitobo&grain=month";

#[tokio::test]
async fn a_recipient_reads_the_union_of_the_months_shared_with_it_and_the_projects_record() {
    let world = World::new().await;
    let fund = world.fund();
    fund.get(FIGURES).await.assert_problem(404, "not_found");
    world.share("fund", None, Some("2024-03")).await;
    world.share("fund", Some("2024-05"), Some("2024-05")).await;
    world.share("rival", Some("2024-06"), None).await;
    assert_eq!(world.figures().await, ["2024-03-01 3.0000", "2024-05-01 500.0000"]);
    let all = world.owner().figures("revenue_over_time?grain=all", "revenue").await;
    assert_eq!(all, ["6543.0000"]);
    assert_eq!(fund.figures("revenue_over_time?grain=all", "project revenue").await, ["kitobo 503.0000"]);
    let uploads = fund.figures("completeness?tz=UTC", "period payments").await;
    assert_eq!(uploads, ["2024-03-01 1", "2024-04-01 0", "2024-05-01 1"], "a month beyond is as one without data");
    let record = fund.get("/v1/projects/kitobo").await;
    assert_eq!(record.body, world.owner().get("/v1/projects/kitobo").await.body);
    assert_eq!(fund.get("/v1/projects").await.body["projects"], json!([record.body]));
    let rival = world.server.holder(&world.rival);
    assert_eq!(rival.figures("revenue_over_time?grain=all", "revenue").await, ["6000.0000"]);
}

#[tokio::test]
async fn a_recipient_has_nothing_of_a_project_but_its_record_and_figures_and_cannot_share_on() {
    let world = World::new().await;
    let fund = world.fund();
    let share = world.share("fund", None, None).await;
    let upload = world.owner().get("/v1/uploads").await.body["uploads"][0]["id"].as_str().unwrap().to_owned();
    let absent =
        |path: &str| path.replace("kitobo", "nowhere").replace(&upload, "upl_00000000000000000000000000000000");
    let on = json!({"recipient": "rival", "detail": "full"});
    let asked = [
        (Method::GET, "/v1/uploads?project=kitobo".to_owned(), Value::Null),
        (Method::GET, format!("/v1/uploads/{upload}"), Value::Null),
        (Method::GET, format!("/v1/uploads/{upload}/file"), Value::Null),
        (Method::DELETE, format!("/v1/uploads/{upload}"), Value::Null),
        (Method::PATCH, "/v1/projects/kitobo".to_owned(), json!({"name": "Ours"})),
        (Method::GET, "/v1/projects/kitobo/shares".to_owned(), Value::Null),
        (Method::POST, "/v1/projects/kitobo/shares".to_owned(), on),
        (Method::PATCH, share.clone(), json!({"months_to": null})),
        (Method::DELETE, share, Value::Null),
    ];
    for role in [Role::Manager, Role::Analyst] {
        let key = world.server.key_of("fund", role).await;
        let holder = world.server.holder(&key);
        for (method, path, body) in &asked {
            let ask = async |path: &str| {
                let request = holder.request(method.clone(), path);
                let request = if body.is_null() { request } else { request.json(body) };
                Answer::of(request.send().await.unwrap()).await
            };
            let answer = ask(path).await;
            answer.assert_problem(404, "not_found");
            assert_eq!(answer.text, ask(&absent(path)).await.text, "{role} {method} {path}");
        }
    }
    assert_eq!(fund.get("/v1/uploads").await.body["uploads"], json!([]));
    let deleted = fund.post("/v1/uploads/delete", json!({"uploads": [upload]})).await;
    deleted.assert_problem(404, "not_found");
}

#[tokio::test]
async fn who_gives_sees_all_of_its_shares_and_who_receives_its_own_alone() {
    let world = World::new().await;
    let (to_fund, to_rival) = (world.share("fund", None, None).await, world.share("rival", None, None).await);
    let listed = async |holder: &Admin<'_>, path: &str| {
        let list = holder.get(path).await;
        assert_eq!(list.status, 200, "{}", list.text);
        list.body["shares"].as_array().unwrap().clone()
    };
    let [given, received] = [world.owner(), world.fund()];
    let all = listed(&given, "/v1/shares").await;
    let ids =
        |shares: &[Value]| shares.iter().map(|share| share["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let id_of = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    assert_eq!(ids(&all), [id_of(&to_rival), id_of(&to_fund)]);
    assert_eq!((&all[0]["direction"], &all[0]["created_by"]), (&json!("given"), &json!(world.owner.key.prefix)));
    assert_eq!(ids(&listed(&given, "/v1/projects/kitobo/shares").await), ids(&all));
    assert_eq!(listed(&given, "/v1/shares?direction=received").await, Vec::<Value>::new());
    let own = listed(&received, "/v1/shares").await;
    assert_eq!(ids(&own), [id_of(&to_fund)]);
    let seen = &own[0];
    assert_eq!((&seen["direction"], &seen["created_by"]), (&json!("received"), &Value::Null));
    assert_eq!((&seen["organisation"], &seen["recipient"]), (&json!("main"), &json!("fund")));
    let page = received.get("/v1/shares?limit=1").await.body;
    assert_eq!(page["next_cursor"], Value::Null, "what is foreign is no further page either");
    let first = given.get("/v1/shares?limit=1").await.body;
    let next = listed(&given, &format!("/v1/shares?cursor={}", first["next_cursor"].as_str().unwrap())).await;
    assert_eq!(ids(&next), [id_of(&to_fund)]);
    let viewer = world.server.key_of("main", Role::Viewer).await;
    let viewer = world.server.holder(&viewer);
    assert_eq!(listed(&viewer, "/v1/shares").await, Vec::<Value>::new());
    viewer.get("/v1/shares?direction=given").await.assert_problem(403, "forbidden");
    viewer.post("/v1/projects/kitobo/shares", json!({})).await.assert_problem(403, "forbidden");
}

#[tokio::test]
async fn a_share_that_changes_expires_or_is_revoked_counts_from_the_next_question_on() {
    let world = World::new().await;
    let fund = world.fund();
    let path = world.share("fund", Some("2024-03"), Some("2024-04")).await;
    let id = path.rsplit('/').next().unwrap().parse().unwrap();
    let first = fund.get(FIGURES).await;
    let known = async |etag: &str| {
        let request = fund.request(Method::GET, FIGURES).header(header::IF_NONE_MATCH, etag);
        Answer::of(request.send().await.unwrap()).await.status.as_u16()
    };
    assert_eq!(known(first.header("etag")).await, 304);
    let changed =
        world.owner().patch(&path, json!({"months_from": "2024-04", "months_to": null, "note": "more"})).await;
    assert_eq!((&changed.body["months_to"], &changed.body["note"]), (&Value::Null, &json!("more")), "{}", changed.text);
    assert_eq!(known(first.header("etag")).await, 200, "another share, another answer");
    assert_eq!(world.figures().await, ["2024-04-01 40.0000", "2024-05-01 500.0000", "2024-06-01 6000.0000"]);

    let expired = Some(Some(Utc::now() - TimeDelta::microseconds(1)));
    world
        .server
        .catalog
        .update_share(&id, ShareChange { expires_at: expired, ..ShareChange::default() })
        .await
        .unwrap();
    let gone = async || {
        for path in [FIGURES, "/v1/projects/kitobo"] {
            let answer = fund.get(path).await;
            answer.assert_problem(404, "not_found");
            assert_eq!(answer.text, fund.get(&path.replace("kitobo", "nowhere")).await.text);
        }
        assert_eq!(fund.get("/v1/shares").await.body["shares"], json!([]));
        assert_eq!(fund.get("/v1/projects").await.body["projects"], json!([]));
        assert_eq!(fund.figures("revenue_over_time", "revenue").await, [""; 0]);
    };
    gone().await;
    assert_eq!(world.owner().patch(&path, json!({"expires_at": null})).await.status, 200);
    assert_eq!(world.figures().await.len(), 3, "who gave it has prolonged it");

    let revoked = world.owner().delete(&path).await;
    assert!(revoked.body["revoked_at"].is_string(), "{}", revoked.text);
    gone().await;
    assert_eq!(world.owner().delete(&path).await.body, revoked.body);
    world.owner().patch(&path, json!({"note": "x"})).await.assert_problem(409, "share_revoked");
    let listed = world.owner().get("/v1/projects/kitobo/shares").await;
    assert_eq!(listed.body["shares"], json!([revoked.body]));
}

#[tokio::test]
async fn a_masked_share_has_pseudonyms_that_are_its_own_and_stay_and_nothing_else_that_names_a_customer() {
    let world = World::new().await;
    let share = world.share("fund", Some("2024-04"), None).await;
    let customers = async || world.fund().figures("payments_per_customer?project=kitobo", "customer_id payments").await;
    let real = customers().await;
    let of_rival = world.share("rival", None, None).await;
    for path in [&share, &of_rival] {
        world.detail(path, "masked").await;
    }
    let masked = customers().await;
    assert_eq!(masked.len(), real.len(), "customers can be counted as before");
    assert!(masked.iter().all(|row| row.starts_with("cus_") && row.len() > 36), "{masked:?}");
    assert_eq!(customers().await, masked);
    let rival = world.server.holder(&world.rival);
    let others = rival.figures("payments_per_customer?project=kitobo&from=2024-04", "customer_id payments").await;
    assert_eq!(others.len(), masked.len());
    assert!(others.iter().all(|row| !masked.contains(row)), "another share has other pseudonyms");
    assert_eq!(world.figures().await.len(), 3, "all else is as it is");
    let id = real[0].split(' ').next().unwrap();
    for metric in world.server.admin().get("/v1/metrics").await.body["metrics"].as_array().unwrap() {
        for format in ["json", "ndjson", "csv"] {
            let path = format!("/v1/metrics/{}?project=kitobo&format={format}", metric["name"].as_str().unwrap());
            let answer = world.fund().get(&path).await;
            if metric["needs_connections"] == true {
                answer.assert_problem(403, "connections_not_shared");
            } else {
                assert_eq!(answer.status, 200, "{}", answer.text);
            }
            assert!(!answer.text.contains(id), "{path}: {}", answer.text);
        }
    }
    let shown = world.owner().get("/v1/shares").await.text;
    assert!(!shown.contains("key"), "nobody is shown what pseudonyms are made with: {shown}");
}

#[tokio::test]
async fn what_is_shared_as_aggregates_answers_in_sums_of_enough_customers_and_says_what_it_withholds() {
    let world = World::new().await;
    let july: Vec<String> =
        (0..20).map(|customer| paid(&format!("j{customer}"), "2024-07-10T08:00:00", "50", "SUCCESS")).collect();
    world.owner().commit(&Upload::new("kitobo", file(&july))).await;
    let share = world.share("fund", Some("2024-05"), None).await;
    world.detail(&share, "aggregate").await;
    assert_eq!(world.figures().await, ["2024-07-01 1000.0000"]);
    let whole = world.fund().get("/v1/metrics/revenue_per_site?project=kitobo").await;
    assert_eq!((whole.status.as_u16(), &whole.body["withheld_cells"]), (200, &json!(2)), "{}", whole.text);
    let csv = world.fund().get("/v1/metrics/revenue_per_site?project=kitobo&format=csv").await;
    assert_eq!(csv.header("x-wattlake-withheld-cells"), "2");
    assert!(world.owner().get("/v1/metrics/revenue_per_site").await.body["withheld_cells"].is_null());
    for path in
        ["payments_per_customer?", "completeness?", "revenue_over_time?grain=day&", "revenue_per_site?to=2024-07-15&"]
    {
        let refused = world.fund().get(&format!("/v1/metrics/{path}project=kitobo")).await;
        refused.assert_problem(403, "shared_as_aggregates");
        assert_eq!(refused.body["projects"], json!(["kitobo"]), "{}", refused.text);
    }
    let all = world.fund().get("/v1/metrics/completeness").await;
    assert_eq!((all.header("x-wattlake-left-out"), &all.body["rows"]), ("1", &json!([])), "{}", all.text);
    assert_eq!(all.body["warnings"][0]["code"], "left_out");
    // The next question is answered in the detail of then.
    world.detail(&share, "full").await;
    assert_eq!(world.figures().await.len(), 3);
}

#[tokio::test]
async fn the_audit_log_says_by_which_shares_a_recipient_read_and_to_each_side_what_is_its_own() {
    let world = World::new().await;
    let id_of = |path: String| path.rsplit('/').next().unwrap().to_owned();
    let mut shares =
        [id_of(world.share("fund", None, Some("2024-03")).await), id_of(world.share("fund", None, None).await)];
    shares.sort();
    world.share("rival", None, None).await;
    let mut body = project("lake");
    body["organisation"] = json!("rival");
    assert_eq!(world.server.admin().post("/v1/projects", body).await.status, 201);
    let lake = json!({"recipient": "fund", "detail": "full"});
    let lake = world.server.holder(&world.rival).post("/v1/projects/lake/shares", lake).await;
    let lake = lake.body["id"].as_str().unwrap().to_owned();
    for path in [FIGURES, "/v1/projects/kitobo", "/v1/projects", "/v1/metrics/source_mix"] {
        assert_eq!(world.fund().get(path).await.status, 200);
    }
    assert_eq!(world.owner().get(FIGURES).await.status, 200);
    let seen_by = async |holder: &Admin<'_>, query: &str| -> Vec<Value> {
        for _ in 0..1000 {
            let page = holder.get(&format!("/v1/audit?{query}&limit=200")).await;
            assert_eq!(page.status, 200, "{}", page.text);
            let mut entries = page.body["entries"].as_array().unwrap().clone();
            // The last of the requests above, written in their order.
            if entries.iter().any(|entry| entry["key"] == world.owner.key.prefix && entry["action"] == "metric.read") {
                entries.retain(|entry| entry["key"] == world.fund.key.prefix);
                entries.reverse();
                return entries;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("the last request is not in the log");
    };
    let said = |entries: &[Value]| {
        let said = |entry: &Value| json!([entry["action"], entry["projects"], entry["shares"], entry["share_count"]]);
        entries.iter().map(said).collect::<Vec<_>>()
    };
    let owner = seen_by(&world.owner(), "").await;
    let read = |action: &str| json!([action, ["kitobo"], shares, 2]);
    assert_eq!(said(&owner), ["metric.read", "project.read", "project.list", "metric.read"].map(read));
    let mut all = shares.to_vec();
    all.push(lake.clone());
    all.sort();
    let entries = seen_by(&world.server.admin(), "").await;
    let last = said(&entries).pop().unwrap();
    assert_eq!(last, json!(["metric.read", ["kitobo", "lake"], all, 3]));
    let rival = world.server.holder(&world.rival).get("/v1/audit?action=metric.read").await;
    assert_eq!(said(rival.body["entries"].as_array().unwrap()), [json!(["metric.read", ["lake"], [lake], 1])]);
    let folder = world.server.folder.path();
    let command = ["audit", "list", "--data-dir", folder.to_str().unwrap(), "--action", "project.read"];
    let table = stdout(&run(folder, &command));
    assert!(table.contains(&format!("{} and 1 more", shares[0])), "{table}");
}

#[tokio::test]
async fn what_cannot_be_shared_is_refused_and_says_what_can() {
    let world = World::new().await;
    let owner = world.owner();
    let good = json!({"recipient": "fund", "detail": "full"});
    let send = async |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        owner.post("/v1/projects/kitobo/shares", body).await
    };
    for (field, value) in [
        ("recipient", json!("main")),
        ("recipient", Value::Null),
        ("detail", Value::Null),
        ("detail", json!("all")),
        ("months_from", json!("2024-13")),
        ("months_to", json!("2024-05-01")),
        ("note", json!("x".repeat(501))),
        ("note", json!("\u{1b}[2J")),
        ("expires_at", json!("2001-01-01T00:00:00Z")),
        ("months", json!("2024-05")),
    ] {
        let refused = send(field, value).await;
        refused.assert_problem(400, "invalid_share");
        assert_eq!(refused.body["errors"][0]["field"], field, "{}", refused.text);
    }
    let absent = send("recipient", json!("nobody")).await;
    absent.assert_problem(404, "not_found");
    assert_eq!(absent.body["parameter"], "recipient");
    let backwards = json!({"recipient": "fund", "detail": "full", "months_from": "2024-06", "months_to": "2024-05"});
    let backwards = owner.post("/v1/projects/kitobo/shares", backwards).await;
    backwards.assert_problem(400, "invalid_share");
    assert_eq!(owner.get("/v1/shares").await.body["shares"], json!([]));
    let path = world.share("fund", None, None).await;
    for wrong in [json!({"recipient": "rival"}), json!({"project": "gbamu"}), json!({"months_from": 5})] {
        owner.patch(&path, wrong).await.assert_problem(400, "invalid_share");
    }
    owner.patch(&path, json!({"detail": "whole"})).await.assert_problem(400, "invalid_share");
}

#[tokio::test]
async fn the_command_line_shares_for_a_running_server_and_ends_shares() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::serve(folder.path(), &[]);
    let done = |arguments: &[&str]| stdout(&run(folder.path(), arguments)).trim().to_owned();
    let code = |arguments: &[&str]| run(folder.path(), arguments).status.code().unwrap();
    let secret = done(&["keys", "create", "--role", "admin", "--name", "a"]);
    Admin::new(&process.address, &secret).make_project("kitobo").await;
    done(&["orgs", "create", "--slug", "fund", "--name", "Fund"]);
    let viewer = done(&["keys", "create", "--role", "viewer", "--organisation", "fund", "--name", "v"]);
    let ask = async || Admin::new(&process.address, &viewer).get("/v1/projects/kitobo").await.status.as_u16();
    let create = ["shares", "create", "--project", "kitobo", "--detail"];
    assert_eq!(code(&[&create[..], &["whole", "--recipient", "fund"]].concat()), 2);
    assert_eq!(code(&[&create[..], &["full", "--recipient", "main"]].concat()), 2);
    assert_eq!(code(&[&create[..], &["full", "--recipient", "nobody"]].concat()), 3);
    assert_eq!(ask().await, 404);
    let terms = ["full", "--recipient", "fund", "--from", "2024-05", "--expires-in", "90d", "--json"];
    let made: Value = serde_json::from_str(&done(&[&create[..], &terms].concat())).unwrap();
    assert_eq!((&made["months_from"], &made["months_to"]), (&json!("2024-05"), &Value::Null));
    assert!(made["expires_at"].is_string() && made["created_by"].is_null(), "{made}");
    assert_eq!(ask().await, 200);
    let list: Value = serde_json::from_str(&done(&["shares", "list", "--project", "kitobo", "--json"])).unwrap();
    assert_eq!(list, json!([made]));
    let id = made["id"].as_str().unwrap();
    assert!(done(&["shares", "list"]).contains(id));
    assert_eq!(done(&["shares", "revoke", id]), format!("{id} no longer shows kitobo to fund"));
    assert_eq!(ask().await, 404);
    assert_eq!(code(&["shares", "revoke", &format!("shr_{}", "0".repeat(32))]), 3);
}

#[tokio::test]
async fn the_demo_has_an_investor_who_is_shown_a_project_masked_and_another_as_aggregates() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = wattlake(folder.path(), &["demo", "--listen", "127.0.0.1:0"]);
    let mut demo = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // It is kept, because a demo that cannot say what to try ends.
    let mut said = BufReader::new(demo.stdout.take().unwrap());
    let lines: Vec<String> =
        said.by_ref().lines().map(Result::unwrap).take_while(|line| !line.starts_with("# ")).collect();
    let after = |start: &str| {
        let rest = lines.iter().find_map(|line| line.strip_prefix(start));
        rest.unwrap_or_else(|| panic!("no {start} in {lines:?}")).to_owned()
    };
    let address = after("Wattlake listens on ").split(',').next().unwrap().to_owned();
    let [key, investor] = [after("KEY="), after("INVESTOR_KEY=")];
    let months = async |key: &str, query: &str| {
        let metric = format!("revenue_over_time?grain=month&tz=UTC{query}");
        Admin::new(&address, key).figures(&metric, "project period revenue").await
    };
    let shown = months(&investor, "&project=kitobo").await;
    assert_eq!(shown, months(&key, "&project=kitobo&from=2026-06&to=2026-09").await);
    assert_eq!(shown.len(), 3, "{shown:?}");
    let own = Admin::new(&address, &investor);
    let customers = own.figures("payments_per_customer?project=kitobo", "customer_id").await;
    assert!(customers.len() > 20 && customers.iter().all(|customer| customer.starts_with("cus_")), "{customers:?}");
    let gbamu = own.get("/v1/metrics/revenue_over_time?project=gbamu").await.body;
    assert!(gbamu["withheld_cells"].as_u64() > Some(0) && gbamu["rows"][0]["payments"].is_u64(), "{gbamu}");
    demo.kill().unwrap();
    demo.wait().unwrap();
}
