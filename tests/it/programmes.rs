//! Programmes: who sees which, terms that are never edited, projects that are enrolled by consent, and what that asks of files.

use reqwest::Method;
use serde_json::{Value, json};
use wattlake::{access::Role, catalog::NewKey};

use crate::harness::{Admin, HEADER, TestServer, Upload, counts, file, project, row, run, stdout};

/// A server with the organisations `main`, a developer with the project kitobo; `hill`, another one, with the project gbamu; and
/// `fund`, which administers programmes; each with a key of a manager.
struct World {
    server: TestServer,
    main: NewKey,
    hill: NewKey,
    fund: NewKey,
}

impl World {
    async fn new() -> Self {
        let server = TestServer::start().await;
        for slug in ["hill", "fund"] {
            let made = server.admin().post("/v1/organisations", json!({"slug": slug, "name": slug})).await;
            assert_eq!(made.status, 201, "{}", made.text);
        }
        let [main, hill, fund] = ["main", "hill", "fund"].map(|slug| server.key_of(slug, Role::Manager));
        let (main, hill, fund) = (main.await, hill.await, fund.await);
        server.holder(&main).make_project("kitobo").await;
        server.holder(&hill).make_project("gbamu").await;
        Self { server, main, hill, fund }
    }

    fn main(&self) -> Admin<'_> {
        self.server.holder(&self.main)
    }

    fn hill(&self) -> Admin<'_> {
        self.server.holder(&self.hill)
    }

    fn fund(&self) -> Admin<'_> {
        self.server.holder(&self.fund)
    }

    /// Makes a programme of the fund.
    async fn programme(&self, slug: &str, columns: &[&str], invited: &[&str]) -> Value {
        let body = json!({"slug": slug, "name": "Rural Light", "rule": rule(), "required_columns": columns,
            "invited": invited});
        let made = self.fund().post("/v1/programmes", body).await;
        assert_eq!((made.status.as_u16(), made.header("location")), (201, format!("/v1/programmes/{slug}").as_str()));
        made.body
    }
}

fn rule() -> Value {
    json!({"window": {"kind": "after_connection", "days": 90}, "min_payments": 2, "min_months": 1, "min_amount": {},
        "statuses": ["settled"]})
}

fn consent(project: &str, version: u32) -> Value {
    json!({"project": project, "version": version, "consent": true})
}

async fn enrol(holder: &Admin<'_>, programme: &str, project: &str, version: u32) {
    let enrolled = holder.post(&format!("/v1/programmes/{programme}/enrolments"), consent(project, version)).await;
    assert_eq!(enrolled.status, 201, "{}", enrolled.text);
}

/// Line, column, code and message of each error.
fn errors(answer: &Value) -> Vec<(u64, String, String, String)> {
    let of = |error: &Value, name: &str| error[name].as_str().unwrap_or_default().to_owned();
    let told =
        |error: &Value| (error["line"].as_u64().unwrap(), of(error, "column"), of(error, "code"), of(error, "message"));
    answer["errors"].as_array().unwrap().iter().map(told).collect()
}

#[tokio::test]
async fn a_programme_is_seen_by_its_own_organisation_and_the_invited_and_is_absent_to_all_others() {
    let world = World::new().await;
    let made = world.programme("light", &["STATUS"], &["main"]).await;
    assert_eq!((&made["version"], &made["side"], &made["rule"]), (&json!(1), &json!("administrator"), &rule()));
    assert_eq!((&made["created_by"], &made["invited"]), (&json!(world.fund.key.prefix), &json!(["main"])));
    world.programme("other", &[], &["main", "hill"]).await;

    let seen = world.main().get("/v1/programmes/other").await;
    assert_eq!((&seen.body["side"], &seen.body["created_by"]), (&json!("invited"), &Value::Null), "{}", seen.text);
    assert_eq!(seen.body["invited"], json!(["main"]), "who else is invited is not told");
    assert!(!seen.text.contains("hill"), "{}", seen.text);
    let disclosed: Vec<_> = seen.body["discloses"].as_array().unwrap().iter().map(|one| one["of"].clone()).collect();
    assert_eq!(disclosed, ["project", "connection", "verdict", "payment", "upload"]);

    let absent = world.hill().get("/v1/programmes/nowhere").await;
    absent.assert_problem(404, "not_found");
    for (method, path) in [
        (Method::GET, "/v1/programmes/light"),
        (Method::GET, "/v1/programmes/light?version=1"),
        (Method::GET, "/v1/programmes/light/versions"),
        (Method::GET, "/v1/programmes/light/enrolments"),
        (Method::DELETE, "/v1/programmes/light/enrolments/gbamu"),
    ] {
        let answer = world.hill().request(method, path).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap()), (404, absent.text.clone()), "{path}");
    }
    let foreign = world.hill().post("/v1/programmes/light/enrolments", consent("gbamu", 1)).await;
    assert_eq!(foreign.text, absent.text);

    let slugs = async |holder: Admin<'_>| {
        let list = holder.get("/v1/programmes").await.body;
        let of = |one: &Value| format!("{} {}", one["slug"].as_str().unwrap(), one["side"].as_str().unwrap());
        list["programmes"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    assert_eq!(slugs(world.fund()).await, ["light administrator", "other administrator"]);
    assert_eq!(slugs(world.server.admin()).await, ["light administrator", "other administrator"]);
    assert_eq!(slugs(world.main()).await, ["light invited", "other invited"]);
    assert_eq!(slugs(world.hill()).await, ["other invited"]);
    // Who is invited changes nothing, and who is not cannot find out that the slug is another's, only that it is taken.
    world.main().patch("/v1/programmes/light", json!({"name": "Ours"})).await.assert_problem(404, "not_found");
    let body = json!({"slug": "light", "name": "Ours", "rule": rule()});
    world.hill().post("/v1/programmes", body.clone()).await.assert_problem(409, "slug_taken");
    world.main().post("/v1/programmes", body).await.assert_problem(409, "programme_exists");
}

#[tokio::test]
async fn terms_are_never_edited_other_ones_are_the_next_version_and_the_same_again_change_nothing() {
    let world = World::new().await;
    let (fund, light) = (world.fund(), "/v1/programmes/light");
    let made = world.programme("light", &["STATUS"], &["main"]).await;
    let patch = async |body: Value| {
        let changed = fund.patch(light, body).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        changed.body
    };
    assert_eq!(patch(json!({"rule": rule(), "required_columns": ["STATUS", "STATUS"]})).await, made);
    let mut other = rule();
    other["min_payments"] = json!(3);
    let second = patch(json!({"rule": other, "name": "Light 2"})).await;
    assert_eq!((&second["version"], &second["required_columns"]), (&json!(2), &json!(["STATUS"])));
    let third = patch(json!({"required_columns": ["external_id", "STATUS"], "invited": []})).await;
    assert_eq!((&third["version"], &third["required_columns"]), (&json!(3), &json!(["STATUS", "external_id"])));
    let first = fund.get(&format!("{light}?version=1")).await.body;
    assert_eq!((&first["version"], &first["rule"], &first["name"]), (&json!(1), &rule(), &json!("Light 2")));
    assert_eq!(first["version_created_at"], made["version_created_at"]);
    fund.get(&format!("{light}?version=4")).await.assert_problem(404, "not_found");
    fund.get(&format!("{light}?version=0")).await.assert_problem(400, "invalid_parameter");
    let page = fund.get(&format!("{light}/versions?limit=2")).await.body;
    let numbers = |page: &Value| {
        page["versions"].as_array().unwrap().iter().map(|version| version["version"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&page), [3, 2]);
    let rest = format!("{light}/versions?cursor={}", page["next_cursor"].as_str().unwrap());
    assert_eq!(numbers(&fund.get(&rest).await.body), [1]);
    world.main().get(light).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn what_is_wrong_with_a_programme_is_told_by_its_field_with_what_was_likely_meant() {
    let world = World::new().await;
    let body = json!({"slug": "light", "name": "Light", "rule": rule()});
    for (field, value, meant) in [
        ("required_columns", json!(["ACCOUNT_TIPE"]), "did you mean \"ACCOUNT_TYPE\"?"),
        ("required_columns", json!(["METER_ID"]), "every file needs \"METER_ID\" anyway"),
        ("required_columns", json!("STATUS"), "a list"),
        ("rule", json!({"window": {"kind": "before_as_of", "days": 0}}), "window: days is from 1"),
        ("rule", json!({"window": {"kind": "ninety_days"}}), "unknown variant"),
        ("rule", json!(null), "missing"),
        ("invited", json!(["fund"]), "without an invitation"),
        ("invited", json!(["A b"]), "slug"),
        ("slug", json!("A b"), "slug"),
        ("colour", json!("red"), "there is no"),
    ] {
        let mut body = body.clone();
        body[field] = value;
        let refused = world.fund().post("/v1/programmes", body).await;
        refused.assert_problem(400, "invalid_programme");
        assert_eq!(refused.body["errors"][0]["field"], field, "{}", refused.text);
        assert!(refused.body["detail"].as_str().unwrap().contains(meant), "{}", refused.text);
    }
    let mut unknown = body.clone();
    unknown["invited"] = json!(["main", "nobody"]);
    let absent = world.fund().post("/v1/programmes", unknown).await;
    absent.assert_problem(404, "not_found");
    assert_eq!(absent.body["parameter"], "invited");
    let mut foreign = body.clone();
    foreign["organisation"] = json!("hill");
    world.fund().post("/v1/programmes", foreign).await.assert_problem(404, "not_found");
    world.server.admin().post("/v1/programmes", body).await.assert_problem(422, "organisation_needed");
    world.programme("light", &[], &[]).await;
    let fixed = world.fund().patch("/v1/programmes/light", json!({"slug": "dark", "organisation": "main"})).await;
    fixed.assert_problem(400, "invalid_programme");
    assert_eq!(fixed.body["errors"].as_array().unwrap().len(), 2, "{}", fixed.text);
}

#[tokio::test]
async fn a_project_is_enrolled_by_its_own_organisation_with_consent_to_the_newest_terms() {
    let world = World::new().await;
    let (main, path) = (world.main(), "/v1/programmes/light/enrolments");
    let made = world.programme("light", &[], &["main"]).await;
    for unsaid in
        [json!({"project": "kitobo", "version": 1}), json!({"project": "kitobo", "version": 1, "consent": false})]
    {
        let refused = main.post(path, unsaid).await;
        refused.assert_problem(422, "consent_needed");
        assert_eq!(refused.body["discloses"], made["discloses"], "what it would share is shown");
    }
    main.post(path, json!({"consent": "yes"})).await.assert_problem(400, "invalid_enrolment");
    let changed = main.post(path, consent("kitobo", 2)).await;
    changed.assert_problem(409, "programme_changed");
    assert_eq!(changed.body["newest"], 1);
    let [foreign, absent] = [main.post(path, consent("gbamu", 1)).await, main.post(path, consent("nowhere", 1)).await];
    foreign.assert_problem(404, "not_found");
    assert_eq!(foreign.text, absent.text);
    world.fund().post(path, consent("kitobo", 1)).await.assert_problem(404, "not_found");
    world.server.admin().post(path, consent("gbamu", 1)).await.assert_problem(409, "not_invited");

    let enrolled = main.post(path, consent("kitobo", 1)).await;
    assert_eq!((enrolled.status.as_u16(), &enrolled.body["enrolled_by"]), (201, &json!(world.main.key.prefix)));
    let again = main.post(path, consent("kitobo", 1)).await;
    assert_eq!((again.status.as_u16(), &again.body), (200, &enrolled.body));
    let listed = async |holder: Admin<'_>| holder.get(path).await.body["enrolments"].as_array().unwrap().clone();
    assert_eq!(listed(world.main()).await, std::slice::from_ref(&enrolled.body));
    let by_fund = &listed(world.fund()).await[0];
    assert_eq!((&by_fund["project_name"], &by_fund["organisation"]), (&json!("Kitobo"), &json!("main")));
    assert_eq!(by_fund["enrolled_by"], Value::Null, "which key it was is the other side's business");
    let fund_sees = |path: &'static str| async { world.fund().get(path).await.status.as_u16() };
    assert_eq!(fund_sees("/v1/projects/kitobo").await, 404, "nothing else of the project is seen by it");
    assert_eq!(fund_sees("/v1/metrics/revenue_per_site?project=kitobo").await, 404);
    assert_eq!(fund_sees("/v1/projects/kitobo/connections").await, 404);
}

#[tokio::test]
async fn an_invited_organisation_sees_its_own_enrolments_alone_and_also_once_it_is_invited_no_longer() {
    let world = World::new().await;
    let path = "/v1/programmes/light/enrolments";
    world.programme("light", &[], &["main", "hill"]).await;
    enrol(&world.main(), "light", "kitobo", 1).await;
    enrol(&world.hill(), "light", "gbamu", 1).await;
    let projects = async |holder: Admin<'_>| {
        let list = holder.get(path).await.body;
        list["enrolments"].as_array().unwrap().iter().map(|one| one["project"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(projects(world.fund()).await, ["gbamu", "kitobo"]);
    assert_eq!(projects(world.main()).await, ["kitobo"]);
    let first = world.fund().get(&format!("{path}?limit=1")).await.body;
    let next = format!("{path}?cursor={}", first["next_cursor"].as_str().unwrap());
    assert_eq!(world.fund().get(&next).await.body["enrolments"][0]["project"], "kitobo");

    let changed = world.fund().patch("/v1/programmes/light", json!({"invited": ["hill"]})).await;
    assert_eq!(changed.body["invited"], json!(["hill"]), "{}", changed.text);
    assert_eq!(projects(world.main()).await, ["kitobo"]);
    let seen = world.main().get("/v1/programmes/light").await.body;
    assert_eq!((&seen["side"], &seen["invited"]), (&json!("invited"), &json!([])));
    world.server.holder(&world.main).make_project("second").await;
    world.main().post(path, consent("second", 1)).await.assert_problem(409, "not_invited");
    // Nobody but its own organisation withdraws a project.
    let own = format!("{path}/kitobo");
    world.fund().delete(&own).await.assert_problem(404, "not_found");
    world.hill().delete(&own).await.assert_problem(404, "not_found");
    let withdrawn = world.main().delete(&own).await;
    assert_eq!((withdrawn.status.as_u16(), &withdrawn.body["project_name"]), (200, &Value::Null));
    assert!(withdrawn.body["withdrawn_at"].is_string(), "{}", withdrawn.text);
    assert_eq!(world.main().delete(&own).await.body, withdrawn.body, "it stays as it was");
    world.main().delete(&format!("{path}/second")).await.assert_problem(404, "not_found");
    assert_eq!(projects(world.fund()).await, ["gbamu", "kitobo"], "that it took part stays");
}

#[tokio::test]
async fn a_rule_with_least_amounts_takes_no_project_in_another_currency() {
    let world = World::new().await;
    let mut rule = rule();
    rule["min_amount"] = json!({"NGN": "500.00"});
    let body = json!({"slug": "naira", "name": "N", "rule": rule, "invited": ["main"]});
    assert_eq!(world.fund().post("/v1/programmes", body).await.status, 201);
    let refused = world.main().post("/v1/programmes/naira/enrolments", consent("kitobo", 1)).await;
    refused.assert_problem(422, "enrolment_currency");
    let detail = refused.body["detail"].as_str().unwrap();
    assert!(detail.contains("in NGN") && detail.contains("paid in KES"), "{detail}");
    let mut naira = project("lekki");
    naira["currency"] = json!("NGN");
    assert_eq!(world.main().post("/v1/projects", naira).await.status, 201);
    enrol(&world.main(), "naira", "lekki", 1).await;
    // Nor does one that takes part get another currency.
    let changed = world.main().patch("/v1/projects/lekki", json!({"currency": "KES"})).await;
    changed.assert_problem(422, "enrolment_currency");
    assert_eq!(world.main().delete("/v1/programmes/naira/enrolments/lekki").await.status, 200);
    assert_eq!(world.main().patch("/v1/projects/lekki", json!({"currency": "KES"})).await.status, 200);
}

/// A file without a column of the usual ones.
fn file_without(column: &str, rows: &[String]) -> Vec<u8> {
    let at = HEADER.split(',').position(|name| name == column).unwrap();
    let without = |line: &str| {
        let fields = line.split(',').enumerate().filter(|(field, _)| *field != at).map(|(_, text)| text);
        fields.collect::<Vec<_>>().join(",") + "\n"
    };
    [HEADER].into_iter().chain(rows.iter().map(String::as_str)).map(without).collect::<String>().into_bytes()
}

#[tokio::test]
async fn files_of_an_enrolled_project_need_the_columns_of_the_terms_that_it_consented_to() {
    let world = World::new().await;
    let main = world.main();
    world.programme("light", &["ACCOUNT_TYPE"], &["main"]).await;
    world.programme("meters", &["ACCOUNT_TYPE", "external_id"], &["main"]).await;
    let rows = [row("A1", "5"), row("A2", "5").replace(",,SUCCESS", ",RESIDENTIAL,SUCCESS")];
    let upload = |bytes: Vec<u8>| Upload::new("kitobo", bytes);
    let dry = |bytes: Vec<u8>| upload(bytes).with("dry_run", "true");
    assert_eq!(main.upload(&dry(file_without("ACCOUNT_TYPE", &rows))).await.status, 200, "before, no file needs it");
    enrol(&main, "light", "kitobo", 1).await;

    // The header.
    for sent in [upload(file_without("ACCOUNT_TYPE", &rows)), dry(file_without("ACCOUNT_TYPE", &rows))] {
        let refused = main.upload(&sent).await;
        refused.assert_problem(422, "upload_rejected");
        let message = "the column \"ACCOUNT_TYPE\" is missing; the programme light needs it".to_owned();
        assert_eq!(errors(&refused.body), [(1, "ACCOUNT_TYPE".to_owned(), "missing_column".to_owned(), message)]);
    }
    // A row.
    for sent in [upload(file(&rows)), dry(file(&rows))] {
        let refused = main.upload(&sent).await;
        refused.assert_problem(422, "upload_rejected");
        let message = "ACCOUNT_TYPE is blank; the programme light needs it".to_owned();
        assert_eq!(errors(&refused.body), [(2, "ACCOUNT_TYPE".to_owned(), "missing_value".to_owned(), message)]);
    }
    let skipped = main.commit(&upload(file(&rows)).with("on_error", "skip_rows")).await;
    assert_eq!(counts(&skipped), [2, 1, 0, 0, 1]);

    // Two programmes, both of which ask.
    enrol(&main, "meters", "kitobo", 1).await;
    let both = main.upload(&dry(file_without("ACCOUNT_TYPE", &rows))).await;
    let told: Vec<_> = errors(&both.body).into_iter().map(|(.., message)| message).collect();
    assert!(told[0].ends_with("the programmes light, meters need it"), "{told:?}");
    assert_eq!(told[1], "the column \"external_id\" is missing; the programme meters needs it");
    assert_eq!(main.delete("/v1/programmes/meters/enrolments/kitobo").await.status, 200);

    // Newer terms count once they are consented to.
    let changed = world.fund().patch("/v1/programmes/light", json!({"required_columns": ["NOTES"]})).await;
    assert_eq!(changed.body["version"], 2, "{}", changed.text);
    assert_eq!(counts(&main.upload(&dry(file(&rows))).await.body), [2, 0, 0, 1, 1], "as it was consented to");
    enrol(&main, "light", "kitobo", 2).await;
    let told = errors(&main.upload(&dry(file(&rows))).await.body);
    assert!(told.iter().all(|(_, column, ..)| column == "NOTES") && told.len() == 2, "{told:?}");
    // The same bytes again are the first upload, whatever is asked of others meanwhile.
    let again = main.upload(&upload(file(&rows)).with("on_error", "skip_rows")).await;
    assert_eq!((again.status.as_u16(), &again.body["id"]), (200, &skipped["id"]));
    // And once it is withdrawn, nothing is asked any more.
    assert_eq!(main.delete("/v1/programmes/light/enrolments/kitobo").await.status, 200);
    assert_eq!(main.upload(&dry(file_without("ACCOUNT_TYPE", &rows))).await.status, 200);
}

#[tokio::test]
async fn a_file_over_several_projects_needs_what_the_programmes_of_all_of_them_ask_for() {
    let world = World::new().await;
    let main = world.main();
    main.make_project("mtito").await;
    for (slug, meter) in [("kitobo", "00104"), ("mtito", "7")] {
        let path = format!("/v1/projects/{slug}/connections");
        let sent = main.post(&path, json!({"connections": [{"external_id": meter}]})).await;
        assert_eq!(sent.status, 200, "{}", sent.text);
    }
    world.programme("light", &["ACCOUNT_TYPE"], &["main"]).await;
    world.programme("notes", &["NOTES"], &["main"]).await;
    enrol(&main, "light", "kitobo", 1).await;
    enrol(&main, "notes", "mtito", 1).await;
    let mut upload = Upload::new("kitobo", file(&[row("A1", "5")]));
    upload.fields.push(("project".to_owned(), "mtito".to_owned()));
    let told = errors(&main.upload(&upload).await.body);
    let expected = [
        (2, "ACCOUNT_TYPE", "missing_value", "ACCOUNT_TYPE is blank; the programme light needs it"),
        (2, "NOTES", "missing_value", "NOTES is blank; the programme notes needs it"),
    ];
    assert_eq!(told, expected.map(|(line, column, code, message)| (line, column.into(), code.into(), message.into())));
    assert_eq!(
        main.commit(&Upload::new("mtito", file(&[row("A1", "5").replace(",,Kitobo", ",n,Kitobo")]))).await["status"],
        "committed"
    );
}

#[tokio::test]
async fn rows_made_again_from_the_original_are_those_of_then_whatever_is_asked_for_now() {
    let world = World::new().await;
    let main = world.main();
    world.programme("light", &["ACCOUNT_TYPE"], &["main"]).await;
    enrol(&main, "light", "kitobo", 1).await;
    let rows = [row("A1", "5"), row("A2", "70").replace(",,SUCCESS", ",RESIDENTIAL,SUCCESS")];
    let skipped = main.commit(&Upload::new("kitobo", file(&rows)).with("on_error", "skip_rows")).await;
    assert_eq!(counts(&skipped), [2, 1, 0, 0, 1]);
    // Of an upload from before, nothing was asked.
    assert_eq!(main.delete("/v1/programmes/light/enrolments/kitobo").await.status, 200);
    main.commit(&Upload::new("kitobo", file(&[row("B1", "300")]))).await;
    enrol(&main, "light", "kitobo", 1).await;
    let figures = async || main.figures("revenue_per_site", "revenue payments").await;
    assert_eq!(figures().await, ["370.0000 2"]);
    assert_eq!(main.delete("/v1/programmes/light/enrolments/kitobo").await.status, 200);

    let World { server, main, .. } = world;
    let server = server
        .restarted_after(|folder| {
            let mut staged = 0;
            for upload in std::fs::read_dir(folder.join("uploads")).unwrap() {
                let rows = upload.unwrap().path().join("accepted");
                staged += usize::from(rows.exists());
                let _ = std::fs::remove_dir_all(rows);
            }
            assert_eq!(staged, 2, "their staged rows are gone");
            stdout(&run(folder, &["rebuild", "--data-dir", folder.to_str().unwrap()]));
        })
        .await;
    let main = server.holder(&main);
    assert_eq!(main.figures("revenue_per_site", "revenue payments").await, ["370.0000 2"]);
}

#[tokio::test]
async fn what_happens_to_a_programme_is_in_the_log_and_its_developer_sees_who_read_that_it_takes_part() {
    let world = World::new().await;
    world.programme("light", &[], &["main"]).await;
    enrol(&world.main(), "light", "kitobo", 1).await;
    assert_eq!(world.fund().get("/v1/programmes/light/enrolments").await.status, 200);
    assert_eq!(world.main().delete("/v1/programmes/light/enrolments/kitobo").await.status, 200);
    let entries = async |holder: Admin<'_>, path: &str| {
        let log = holder.get(path).await.body;
        let of = |entry: &Value| format!("{} {}", entry["action"].as_str().unwrap(), entry["object"]);
        log["entries"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    let own = entries(world.main(), "/v1/audit?project=kitobo").await;
    let of = |action: &str| own.iter().filter(|entry| *entry == &format!("{action} \"light\"")).count();
    assert!(of("enrolment.create") > 0 && of("enrolment.withdraw") > 0, "{own:?}");
    assert!(own.iter().any(|entry| entry.starts_with("enrolment.list")), "{own:?}");
    let all = entries(world.server.admin(), "/v1/audit?action=programme.create").await;
    assert!(all.contains(&"programme.create \"light\"".to_owned()), "{all:?}");
}

#[tokio::test]
async fn an_organisation_has_as_many_programmes_and_a_programme_as_much_as_the_settings_say() {
    let server = TestServer::with(|config| {
        (config.programmes.per_organisation, config.programmes.max_invited, config.programmes.max_projects) = (1, 1, 1);
    })
    .await;
    let admin = server.admin();
    let body = |slug: &str, invited: Value| json!({"slug": slug, "name": "N", "rule": rule(), "invited": invited});
    for slug in ["a", "b"] {
        assert_eq!(admin.post("/v1/organisations", json!({"slug": slug, "name": slug})).await.status, 201);
    }
    let main = server.key_of("main", Role::Manager).await;
    let main = server.holder(&main);
    let refused = |answer: crate::harness::Answer, setting: &str| {
        answer.assert_problem(409, "limit_reached");
        assert!(answer.body["detail"].as_str().unwrap().contains(setting), "{}", answer.text);
    };
    refused(main.post("/v1/programmes", body("p", json!(["a", "b"]))).await, "programmes.max_invited");
    assert_eq!(main.post("/v1/programmes", body("p", json!(["a"]))).await.status, 201);
    refused(main.post("/v1/programmes", body("q", json!([]))).await, "programmes.per_organisation");
    for slug in ["one", "two"] {
        main.make_project(slug).await;
    }
    enrol(&main, "p", "one", 1).await;
    refused(main.post("/v1/programmes/p/enrolments", consent("two", 1)).await, "programmes.max_projects");
}

#[test]
fn the_command_line_makes_programmes_and_enrols_with_consent() {
    let folder = tempfile::tempdir().unwrap();
    let done = |arguments: &[&str]| stdout(&run(folder.path(), arguments)).trim().to_owned();
    let told_json =
        |arguments: &[&str]| -> Value { serde_json::from_str(&done(&[arguments, &["--json"]].concat())).unwrap() };
    let failed = |arguments: &[&str]| {
        let output = run(folder.path(), arguments);
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for slug in ["fund", "hill"] {
        done(&["orgs", "create", "--slug", slug, "--name", slug]);
    }
    let terms = ["--slug", "kitobo", "--name", "Kitobo", "--kind", "shs", "--currency", "KES", "--time-zone", "UTC"];
    done(&[&["projects", "create", "--country", "KE", "--organisation", "hill"][..], &terms].concat());
    std::fs::write(folder.path().join("rule.json"), rule().to_string()).unwrap();
    let create =
        ["programmes", "create", "--slug", "light", "--name", "Light", "--invite", "hill", "--require", "STATUS"];
    let of_file = ["--rule", "@rule.json", "--organisation", "fund"];
    assert_eq!(failed(&[&create[..], &["--rule", "{}"]].concat()).0, 2);
    assert!(failed(&[&create[..], &of_file[..2]].concat()).1.contains("--organisation is one of fund, hill, main"));
    assert_eq!(done(&[&create[..], &of_file].concat()), "light");
    assert_eq!(told_json(&["programmes", "list"])[0]["rule"], rule());
    let shown = done(&["programmes", "get", "light"]);
    assert!(shown.contains("required columns: STATUS") && shown.contains("invited: hill"), "{shown}");

    let enrol = ["programmes", "enrol", "light", "--project", "kitobo", "--version"];
    let (code, told) = failed(&[&enrol[..], &["1"]].concat());
    assert!(code != 0 && told.contains("payment: payment_id, paid_at, amount"), "{told}");
    let inline = r#"{"window": {"kind": "before_as_of", "days": 30}}"#;
    let second = told_json(&["programmes", "update", "light", "--rule", inline, "--require-nothing"]);
    assert_eq!((&second["version"], &second["required_columns"]), (&json!(2), &json!([])));
    let (_, told) = failed(&[&enrol[..], &["1", "--consent"]].concat());
    assert!(told.contains("version 2 is the newest"), "{told}");
    let enrolled = done(&[&enrol[..], &["2", "--consent"]].concat());
    assert_eq!(enrolled, "kitobo takes part in light, by version 2 of its terms");
    assert_eq!(told_json(&["programmes", "versions", "light"]).as_array().unwrap().len(), 2);
    assert_eq!(told_json(&["programmes", "get", "light", "--version", "1"])["rule"], rule());
    done(&["programmes", "withdraw", "light", "--project", "kitobo"]);
    assert!(told_json(&["programmes", "enrolments", "light"])[0]["withdrawn_at"].is_string());
    assert!(done(&["programmes", "enrolments", "light"]).contains("kitobo"));
    let log = done(&["audit", "list", "--json"]);
    for action in ["programme.create", "programme.update", "enrolment.create", "enrolment.withdraw"] {
        assert!(log.contains(action), "{action}: {log}");
    }
    assert_eq!(failed(&["programmes", "get", "nowhere"]).0, 3);
}
