//! `wattlake connections`: the real command against a real server.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    client_commands::{ask, failed, failed_in_json, on, server_with_project, text},
    connections::paid,
    harness::{TestServer, Upload, file, stdout},
};

/// Three connections; one has a name that a terminal would obey, and one an id that a path would not have.
const FILE: &str = "EXTERNAL_ID,CUSTOMER_NAME,CATEGORY,SITE,CONNECTED_ON,MILESTONE\n\
                    1,Amina,Residential,Hill,2024-05-01,M1\n\
                    2,\"\u{202e}Baraka, Ltd\",Commercial,Lake,2024-06-01,\n\
                    7/4 %,Chege,,Hill,,M2\n";

/// A file of a temporary folder, and its path.
fn kept(csv: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("CONNECTIONS.csv");
    std::fs::write(&path, csv).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

fn import<'a>(file: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["connections", "import", file, "--project", "kitobo"], more].concat()
}

fn list<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["connections", "list", "--project", "kitobo"], more].concat()
}

/// The ids that are in the project now.
async fn ids(server: &TestServer) -> Vec<Value> {
    let all = server.admin().get("/v1/projects/kitobo/connections").await.body;
    all["connections"].as_array().unwrap().iter().map(|one| one["external_id"].clone()).collect()
}

#[tokio::test]
async fn a_file_of_connections_is_taken_and_its_report_is_told_for_people_and_for_scripts() {
    let server = server_with_project().await;
    server.admin().commit(&Upload::new("kitobo", file(&[paid("A1", "1", "Dale")]))).await;
    let (_folder, path) = kept(FILE);
    let dry = stdout(&on(&server, &import(&path, &["--dry-run"])).await);
    assert!(dry.starts_with(&format!("{path}: all rows are good; this was a dry run, and nothing changed\n")), "{dry}");
    assert_eq!(ids(&server).await, [json!(null); 0]);

    let output = on(&server, &import(&path, &[])).await;
    let told = stdout(&output);
    let first = format!("{path}: 3 rows taken; payments show what changed from version 2 of the lake on");
    assert_eq!(told.lines().next(), Some(first.as_str()), "{told}");
    let counts = told.lines().nth(2).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(counts, ["3", "3", "3", "0", "0", "0"], "{told}");
    assert_eq!(text(&output.stderr), "");
    assert_eq!(ids(&server).await, [json!("1"), json!("2"), json!("7/4 %")]);

    let again = stdout(&on(&server, &import(&path, &["--json"])).await);
    let again: Value = serde_json::from_str(&again).unwrap();
    assert_eq!(
        (&again["file"], &again["counts"]["duplicate"], &again["dry_run"]),
        (&json!(path), &json!(3), &json!(false))
    );
    let none = stdout(&on(&server, &import(&path, &[])).await);
    assert!(none.contains("nothing in it is new, and nothing changed"), "{none}");
    assert_eq!(stdout(&on(&server, &import(&path, &["--quiet"])).await), "");

    let (address, key) = (&server.address, &server.admin.secret);
    let piped = ask(address, key, b"EXTERNAL_ID\n9\n", &import("-", &[])).await;
    assert!(
        stdout(&piped).starts_with("-: 1 rows taken; no payment shows anything of what changed"),
        "{}",
        text(&piped.stdout)
    );
    assert_eq!(ids(&server).await.len(), 4);
}

#[tokio::test]
async fn a_refused_file_of_connections_ends_with_1_and_its_good_rows_are_taken_where_it_is_said() {
    let server = server_with_project().await;
    let (_folder, path) = kept("EXTERNAL_ID,CATEGORY,CONNECTED_ON\n1,Residential,\n2,Farm,\n3,,31/12/2024\n");
    let told = failed(&on(&server, &import(&path, &[])).await, 1);
    assert!(told.starts_with(&format!("wattlake: {path}: 2 of 3 connections are rejected")), "{told}");
    for (line, column, value) in [("3", "CATEGORY", "Farm"), ("4", "CONNECTED_ON", "31/12/2024")] {
        let named = |told: &str| told.trim_start().starts_with(&format!("{line}  {column}")) && told.contains(value);
        assert!(told.lines().any(named), "{line} {column}\n{told}");
    }
    let error = failed_in_json(&on(&server, &import(&path, &["--json"])).await, 1);
    assert_eq!((&error["problem"]["counts"]["rejected"], &error["file"]), (&json!(2), &json!(path)));
    assert_eq!(ids(&server).await, [json!(null); 0]);

    let dry = stdout(&on(&server, &import(&path, &["--on-error", "skip_rows", "--dry-run"])).await);
    assert!(dry.contains("1 rows would be taken; this was a dry run, and nothing changed"), "{dry}");
    let taken = stdout(&on(&server, &import(&path, &["--on-error", "skip_rows"])).await);
    assert!(taken.contains("1 rows taken") && taken.contains("31/12/2024"), "{taken}");
    assert_eq!(ids(&server).await, [json!("1")]);

    let absent = failed(&on(&server, &import("nowhere.csv", &[])).await, 3);
    assert!(absent.starts_with("wattlake: nowhere.csv: cannot read the file"), "{absent}");
    failed(&on(&server, &["connections", "import", &path, "--project", "lolwe"]).await, 3);
    failed(&on(&server, &["connections", "import", &path]).await, 2);
}

#[tokio::test]
async fn connections_are_listed_in_each_form_and_as_they_are_filtered() {
    let server = server_with_project().await;
    server.admin().take_connections("kitobo", FILE).await;
    let shown = stdout(&on(&server, &list(&["--format", "table"])).await);
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>(),
        ["ID", "CUSTOMER", "CATEGORY", "SITE", "CONNECTED", "ON", "MILESTONE"]
    );
    assert_eq!(lines.len(), 4, "{shown}");
    assert!(lines[2].contains("\\u{202e}Baraka, Ltd") && lines[3].starts_with("7/4 %"), "{shown}");

    let csv = server.admin().get("/v1/projects/kitobo/connections?format=csv").await.text;
    for arguments in [&["--format", "csv"][..], &[]] {
        assert_eq!(stdout(&on(&server, &list(arguments)).await), csv, "a pipe gets csv");
    }
    let wrong = failed(&on(&server, &list(&["--limit", "1"])).await, 2);
    assert!(wrong.contains("--limit"), "{wrong}");
    let file = server.folder.path().join("kept.json");
    stdout(&on(&server, &list(&["--output", file.to_str().unwrap()])).await);
    let all: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(all, server.admin().get("/v1/projects/kitobo/connections").await.body);

    let first = on(&server, &list(&["--limit", "2", "--format", "table"])).await;
    assert_eq!(stdout(&first).lines().count(), 3);
    assert_eq!(text(&first.stderr), "wattlake: there are more connections; --limit shows more, and --format csv all\n");
    for (filter, found) in [
        (&["--site", "Hill"][..], &["1", "7/4 %"][..]),
        (&["--category", "Commercial"], &["2"]),
        (&["--milestone", "M2"], &["7/4 %"]),
        (&["--connected-from", "2024-05-01", "--connected-to", "2024-06-01"], &["1"]),
    ] {
        let found_now: Value =
            serde_json::from_str(&stdout(&on(&server, &list(&[filter, &["--json"]].concat())).await)).unwrap();
        let ids: Vec<_> = found_now["connections"].as_array().unwrap().iter().map(|one| &one["external_id"]).collect();
        assert_eq!(json!(ids), json!(found), "{filter:?}");
    }
    let wrong = failed(&on(&server, &list(&["--category", "Farm"])).await, 2);
    assert!(wrong.contains("There is: Residential, Commercial"), "{wrong}");
}

#[tokio::test]
async fn a_list_of_connections_goes_on_beyond_a_page() {
    let server = server_with_project().await;
    let rows: Vec<String> = (0..450).map(|id| format!("{id:04}")).collect();
    server.admin().take_connections("kitobo", &format!("EXTERNAL_ID\n{}\n", rows.join("\n"))).await;
    let list: Value = serde_json::from_str(&stdout(&on(&server, &list(&["--limit", "430", "--json"])).await)).unwrap();
    let ids: Vec<_> =
        list["connections"].as_array().unwrap().iter().map(|one| one["external_id"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), ids[429], list["next_cursor"].is_string()), (430, "0429", true));
}

#[tokio::test]
async fn a_connection_is_shown_and_deleted_whatever_its_id() {
    let server = server_with_project().await;
    server.admin().take_connections("kitobo", FILE).await;
    let get = |id: &'static str| ["connections", "get", id, "--project", "kitobo"];
    let shown = stdout(&on(&server, &get("7/4 %")).await);
    let values: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(values.contains(&vec!["milestone", "M2"]) && !shown.contains("category"), "{shown}");
    let json: Value =
        serde_json::from_str(&stdout(&on(&server, &[&get("2")[..], &["--json"]].concat()).await)).unwrap();
    assert_eq!(json, server.admin().get("/v1/projects/kitobo/connections/2").await.body);
    failed(&on(&server, &get("nobody")).await, 3);

    let delete = |ids: &[&'static str]| [&["connections", "delete"], ids, &["--project", "kitobo"]].concat();
    let asked = failed(&on(&server, &delete(&["1"])).await, 2);
    assert!(asked.contains("--yes"), "{asked}");
    let stopped = failed(&on(&server, &[&delete(&["7/4 %", "nobody", "1"])[..], &["--yes"]].concat()).await, 3);
    assert!(stopped.contains("nobody: 1 of 3 connections were deleted before it"), "{stopped}");
    assert_eq!(ids(&server).await, [json!("1"), json!("2")]);
    let both = stdout(&on(&server, &[&delete(&["1", "2"])[..], &["--yes"]].concat()).await);
    assert_eq!(both, "1 is deleted\n2 is deleted\n");
    assert_eq!(ids(&server).await, [json!(null); 0]);
}

#[tokio::test]
async fn the_template_of_connections_can_be_sent_and_a_viewer_is_told_who_may() {
    let server = server_with_project().await;
    let path = server.folder.path().join("template.csv");
    stdout(&on(&server, &["connections", "template", "--output", path.to_str().unwrap()]).await);
    let template = server.admin().get("/v1/templates/CONNECTIONS.csv").await.text;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), template);
    assert_eq!(stdout(&on(&server, &["connections", "template"]).await), template);
    let viewer = server.key_of("main", wattlake::access::Role::Viewer).await;
    for arguments in [list(&[]), import(path.to_str().unwrap(), &[])] {
        let refused = failed(&ask(&server.address, &viewer.secret, &[], &arguments).await, 5);
        assert!(refused.contains("viewer"), "{refused}");
    }
    let sent = server.admin().request(Method::GET, "/v1/projects/kitobo/connections").send().await.unwrap();
    assert_eq!(sent.json::<Value>().await.unwrap()["connections"], json!([]));
    assert!(stdout(&on(&server, &import(path.to_str().unwrap(), &[])).await).contains("2 rows taken"));
}
