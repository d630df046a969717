//! The real command.

use std::process::Output;

use serde_json::Value;

use crate::harness::{run, stdout, wattlake};

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

const PROJECT: [&str; 14] = [
    "projects",
    "create",
    "--slug",
    "kitobo",
    "--name",
    "Kitobo",
    "--kind",
    "mini_grid",
    "--currency",
    "KES",
    "--time-zone",
    "Africa/Nairobi",
    "--country",
    "KE",
];

#[test]
fn keys_are_made_shown_once_listed_and_revoked_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let key = stdout(&run(folder.path(), &["keys", "create", "--role", "admin", "--name", "ops"]));
    let (prefix, secret) = key.trim().strip_prefix("wl_").unwrap().split_once('_').unwrap();
    assert_eq!(secret.len(), 64);
    let list = stdout(&run(folder.path(), &["keys", "list"]));
    assert!(list.contains(prefix) && list.contains("ops") && !list.contains(secret), "{list}");
    stdout(&run(folder.path(), &["keys", "revoke", prefix]));
    let list: Value = serde_json::from_str(&stdout(&run(folder.path(), &["keys", "list", "--json"]))).unwrap();
    assert!(list[0]["revoked_at"].is_string(), "{list}");
    let missing = run(folder.path(), &["keys", "revoke", "aaaaaaaa"]);
    assert_eq!(missing.status.code(), Some(3));
    assert_eq!(stderr(&missing), "wattlake: there is no key with the prefix aaaaaaaa\n");
}

#[test]
fn a_project_is_made_once_and_its_faults_are_named_by_flag() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(stdout(&run(folder.path(), &PROJECT)), "kitobo\n");
    let again = run(folder.path(), &PROJECT);
    assert_eq!(
        (again.status.code(), stderr(&again).as_str()),
        (Some(4), "wattlake: there is a project kitobo already\n")
    );
    let list: Value = serde_json::from_str(&stdout(&run(folder.path(), &["projects", "list", "--json"]))).unwrap();
    assert_eq!(list[0]["slug"], "kitobo");

    let mut wrong = PROJECT;
    (wrong[9], wrong[11]) = ("KSH", "Nairobi");
    let refused = run(folder.path(), &wrong);
    assert_eq!(refused.status.code(), Some(2));
    let told = stderr(&refused);
    assert!(told.starts_with("wattlake: the project cannot be made as described\n"), "{told}");
    assert!(told.contains("--currency") && told.contains("KES?") && told.contains("--time-zone"), "{told}");
}

#[test]
fn the_data_folder_comes_from_the_flag_the_variable_and_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let make = ["keys", "create", "--role", "admin", "--name", "ops"];
    let done = |command: &mut std::process::Command| stdout(&command.output().unwrap());
    done(wattlake(folder.path(), &make).args(["--data-dir", "by-flag"]));
    done(wattlake(folder.path(), &make).env("WATTLAKE_DATA_DIR", "by-variable"));
    std::fs::write(folder.path().join("wattlake.toml"), "data_dir = \"by-file\"").unwrap();
    done(&mut wattlake(folder.path(), &make));
    for name in ["by-flag", "by-variable", "by-file"] {
        assert!(folder.path().join(name).join("catalog.sqlite").is_file(), "{name}");
    }
}

#[test]
fn print_config_shows_each_setting_with_its_source() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wattlake.toml"), "[http]\nmax_connections = 7").unwrap();
    let mut command = wattlake(folder.path(), &["serve", "--print-config", "--upload-max-bytes", "1GiB"]);
    let printed = stdout(&command.env("WATTLAKE_HTTP_HEADER_TIMEOUT_S", "4").output().unwrap());
    for line in [
        "max_connections = 7 # from: wattlake.toml",
        "header_timeout_s = 4 # from: WATTLAKE_HTTP_HEADER_TIMEOUT_S",
        "max_bytes = \"1GiB\" # from: --upload-max-bytes",
        "listen = \"127.0.0.1:8080\" # from: default",
    ] {
        assert!(printed.contains(line), "{line}\n{printed}");
    }
    assert!(!folder.path().join("wattlake-data").exists(), "printing makes nothing");
}

#[test]
fn a_wrong_setting_ends_with_2_and_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = wattlake(folder.path(), &["serve"]).env("WATTLAKE_LISTENS", "x").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output), "wattlake: there is no setting WATTLAKE_LISTENS; did you mean WATTLAKE_LISTEN?\n");
    assert_eq!(run(folder.path(), &["serve", "--no-such-flag"]).status.code(), Some(2));
}

#[test]
fn a_folder_that_is_not_there_is_a_mistake_for_who_only_looks() {
    let folder = tempfile::tempdir().unwrap();
    for command in [["keys", "list"], ["projects", "list"]] {
        let output = run(folder.path(), &command);
        assert_eq!(output.status.code(), Some(3));
        assert!(stderr(&output).contains("is no data folder; name the right one with --data-dir"));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "looking makes nothing");
}

#[tokio::test]
async fn a_demo_leaves_a_folder_alone_that_a_server_runs_on() {
    let server = crate::harness::TestServer::start().await;
    std::fs::write(server.folder.path().join("this-is-a-demo"), "").unwrap();
    let path = server.folder.path().to_str().unwrap();
    let output = run(server.folder.path(), &["demo", "--data-dir", path, "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).starts_with("wattlake: another server runs on "), "{}", stderr(&output));
    assert!(server.folder.path().join("catalog.sqlite").is_file());
}

#[tokio::test]
async fn a_second_server_on_one_folder_is_refused_and_says_why() {
    let server = crate::harness::TestServer::start().await;
    let output = run(server.folder.path(), &["serve", "--data-dir", ".", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(4));
    let told = stderr(&output);
    assert!(told.starts_with("wattlake: another server runs on "), "{told}");
    assert!(told.lines().next().unwrap().ends_with("take another folder with --data-dir"), "{told}");
}

#[test]
fn an_address_that_is_taken_is_said_in_one_line_and_ends_with_6() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = run(folder.path(), &["serve", "--listen", &address]);
    assert_eq!(output.status.code(), Some(6));
    let told = stderr(&output);
    assert!(told.lines().next().unwrap().starts_with(&format!("wattlake: cannot listen on {address}")), "{told}");
}
