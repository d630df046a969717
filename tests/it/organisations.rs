//! Organisations and keys: what they are made with, what they may not be made with, and when keys end.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use reqwest::{Body, Method};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use wattlake::access::Role;

use crate::harness::{Admin, Answer, Process, TestServer, Upload, file, project, row, run, stdout};

/// A server with the organisations `main` and `hill`, and a project in each.
async fn server() -> TestServer {
    let server = TestServer::start().await;
    let made = server.admin().post("/v1/organisations", json!({"slug": "hill", "name": "Hill Power"})).await;
    assert_eq!((made.status.as_u16(), made.header("location")), (201, "/v1/organisations/hill"), "{}", made.text);
    for (slug, organisation) in [("kitobo", "main"), ("gbamu", "hill")] {
        let mut body = project(slug);
        body["organisation"] = json!(organisation);
        let made = server.admin().post("/v1/projects", body).await;
        assert_eq!((made.status.as_u16(), &made.body["organisation"]), (201, &json!(organisation)), "{}", made.text);
    }
    server
}

#[tokio::test]
async fn where_there_is_one_organisation_nobody_has_to_name_it_and_of_several_an_administrator_must() {
    let server = TestServer::start().await;
    let admin = server.admin();
    assert_eq!(admin.get("/v1/organisations").await.body["organisations"][0]["name"], "Main");
    assert_eq!(admin.post("/v1/projects", project("a")).await.body["organisation"], "main");
    let viewer = json!({"name": "board", "role": "viewer"});
    assert_eq!(admin.post("/v1/keys", viewer.clone()).await.body["key"]["organisation"], "main");
    admin.post("/v1/organisations", json!({"slug": "hill", "name": "Hill"})).await;
    for (path, body) in [("/v1/projects", project("b")), ("/v1/keys", viewer)] {
        let refused = admin.post(path, body).await;
        refused.assert_problem(422, "organisation_needed");
        assert_eq!(refused.body["allowed"], json!(["hill", "main"]));
        assert!(refused.body["detail"].as_str().unwrap().contains("organisation is one of hill, main"));
    }
    let manager = server.key_of("hill", Role::Manager).await;
    let made = server.holder(&manager).post("/v1/projects", project("b")).await;
    assert_eq!((made.status.as_u16(), &made.body["organisation"]), (201, &json!("hill")));
}

#[tokio::test]
async fn an_organisation_is_made_once_and_renamed_and_its_faults_are_named() {
    let server = server().await;
    let admin = server.admin();
    let again = admin.post("/v1/organisations", json!({"slug": "hill", "name": "x"})).await;
    again.assert_problem(409, "organisation_exists");
    let renamed = admin.patch("/v1/organisations/hill", json!({"name": "Hill & Vale"})).await;
    assert_eq!((renamed.status.as_u16(), &renamed.body["name"]), (200, &json!("Hill & Vale")), "{}", renamed.text);
    assert_eq!(admin.get("/v1/organisations/hill").await.body, renamed.body);
    let moved = admin.patch("/v1/organisations/hill", json!({"slug": "vale"})).await;
    moved.assert_problem(400, "invalid_organisation");
    let wrong = admin.post("/v1/organisations", json!({"slug": "A b", "nam": "x"})).await;
    wrong.assert_problem(400, "invalid_organisation");
    let fields: Vec<_> = wrong.body["errors"].as_array().unwrap().iter().map(|error| error["field"].clone()).collect();
    assert_eq!(fields, ["slug", "name", "nam"]);
    let moved = admin.patch("/v1/projects/kitobo", json!({"organisation": "hill"})).await;
    moved.assert_problem(400, "invalid_project");
    assert_eq!(moved.body["errors"][0]["field"], "organisation");
}

#[tokio::test]
async fn a_slug_that_a_foreign_project_has_is_taken_and_nothing_else_is_said_of_it() {
    let server = server().await;
    let manager = server.key_of("hill", Role::Manager).await;
    let taken = server.holder(&manager).post("/v1/projects", project("kitobo")).await;
    taken.assert_problem(409, "slug_taken");
    assert_eq!(taken.body["detail"], "this slug is taken; choose another");
    assert_eq!(taken.body.as_object().unwrap().len(), 4, "{}", taken.text);
    server.holder(&manager).post("/v1/projects", project("gbamu")).await.assert_problem(409, "project_exists");
}

#[tokio::test]
async fn a_manager_makes_keys_of_its_organisation_and_none_that_is_above_it() {
    let server = server().await;
    let manager = server.key_of("hill", Role::Manager).await;
    let manager = server.holder(&manager);
    for role in Role::ALL {
        let made = manager.post("/v1/keys", json!({"name": "new", "role": role})).await;
        if role == Role::Admin {
            made.assert_problem(403, "forbidden");
            assert_eq!(made.body["needed"], json!(["admin"]));
            continue;
        }
        assert_eq!((made.status.as_u16(), &made.body["key"]["organisation"]), (201, &json!("hill")), "{}", made.text);
        let secret = made.body["secret"].as_str().unwrap();
        let own = Admin::new(&server.address, secret).get("/v1/organisations").await;
        assert_eq!(own.body["organisations"][0]["slug"], "hill");
        assert!(!manager.get("/v1/keys").await.text.contains(secret), "a secret is told once");
    }
    let listed = manager.get("/v1/keys").await.body;
    assert_eq!(listed["keys"].as_array().unwrap().len(), 5);
    let admins = manager.delete(&format!("/v1/keys/{}", server.admin.key.prefix)).await;
    admins.assert_problem(404, "not_found");
    let wrong = json!({"name": "", "role": "owner", "expires_at": "2001-01-01T00:00:00Z", "secret": "x"});
    let wrong = server.admin().post("/v1/keys", wrong).await;
    wrong.assert_problem(400, "invalid_key");
    assert_eq!(wrong.body["errors"].as_array().unwrap().len(), 4, "{}", wrong.text);
    let of_none = server.admin().post("/v1/keys", json!({"name": "a", "role": "admin", "organisation": "hill"})).await;
    of_none.assert_problem(400, "invalid_key");
}

#[tokio::test]
async fn a_role_that_may_not_manage_keys_knows_of_its_own_alone() {
    let server = server().await;
    for role in [Role::Analyst, Role::Viewer, Role::Uploader] {
        let key = server.key_of("hill", role).await;
        let own = server.holder(&key).delete(&format!("/v1/keys/{}", key.key.prefix)).await;
        own.assert_problem(403, "forbidden");
        assert_eq!(server.holder(&key).get("/v1/organisations").await.status, 200);
    }
}

#[tokio::test]
async fn a_rotated_key_and_its_successor_both_hold_until_the_overlap_is_over() {
    let server = server().await;
    let manager = server.key_of("hill", Role::Manager).await;
    let manager = server.holder(&manager);
    let old = server.key_of("hill", Role::Analyst).await;
    let path = format!("/v1/keys/{}/rotate", old.key.prefix);
    manager.post(&path, json!({"overlap_s": 2_592_001})).await.assert_problem(400, "invalid_key");
    let rotated = manager.post(&path, json!({"overlap_s": 3600})).await;
    assert_eq!(rotated.status, 201, "{}", rotated.text);
    let (new, replaced) = (&rotated.body["key"], &rotated.body["replaced"]);
    for same in ["name", "role", "organisation"] {
        assert_eq!(new[same], replaced[same], "{same}");
    }
    assert_eq!((&new["rotated_from"], &replaced["replaced_by"]), (&json!(old.key.prefix), &new["prefix"]));
    assert!(replaced["expires_at"].is_string() && new["expires_at"].is_null(), "{}", rotated.text);
    let ask = async |secret: &str| Admin::new(&server.address, secret).get("/v1/projects").await.status.as_u16();
    let secret = |answer: &Answer| answer.body["secret"].as_str().unwrap().to_owned();
    assert_eq!((ask(&old.secret).await, ask(&secret(&rotated)).await), (200, 200));
    manager.post(&path, json!({})).await.assert_problem(409, "key_ended");
    let path = format!("/v1/keys/{}/rotate", new["prefix"].as_str().unwrap());
    let last = manager.post(&path, json!({"overlap_s": 0})).await;
    assert_eq!((ask(&secret(&rotated)).await, ask(&secret(&last)).await), (401, 200));
}

#[tokio::test]
async fn an_uploader_sees_what_its_key_and_the_keys_before_it_sent_and_nothing_of_others() {
    let server = server().await;
    let (own, another) = (server.key_of("main", Role::Uploader).await, server.key_of("main", Role::Uploader).await);
    let send = async |secret: &str, id: &str| {
        let upload = Upload::new("kitobo", file(&[row(id, "1")]));
        let made = Admin::new(&server.address, secret).upload(&upload).await;
        (made.status.as_u16(), made.body["id"].as_str().unwrap_or_default().to_owned())
    };
    let (_, first) = send(&own.secret, "A1").await;
    let (_, theirs) = send(&another.secret, "A2").await;
    let path = format!("/v1/keys/{}/rotate", own.key.prefix);
    let new = server.admin().post(&path, json!({})).await.body["secret"].as_str().unwrap().to_owned();
    let (_, second) = send(&new, "A3").await;
    let listed = async |secret: &str| {
        let list = Admin::new(&server.address, secret).get("/v1/uploads").await.body;
        list["uploads"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&new).await, [second.clone(), first.clone()]);
    assert_eq!(listed(&own.secret).await, std::slice::from_ref(&first), "a key knows nothing of what comes after it");
    let uploader = Admin::new(&server.address, &new);
    for of in ["", "/file"] {
        assert_eq!(uploader.get(&format!("/v1/uploads/{first}{of}")).await.status, 200);
        uploader.get(&format!("/v1/uploads/{theirs}{of}")).await.assert_problem(404, "not_found");
    }
    // The same bytes again: the answer is one's own upload, and never somebody else's.
    assert_eq!(send(&new, "A1").await, (200, first));
    let (status, again) = send(&new, "A2").await;
    assert_eq!(status, 201);
    assert_ne!(again, theirs);
    let manager = server.key_of("main", Role::Manager).await;
    assert_eq!(send(&manager.secret, "A2").await, (200, theirs));
}

#[tokio::test]
async fn the_same_bytes_in_another_organisation_are_an_upload_of_their_own() {
    let server = server().await;
    let bytes = file(&[row("A1", "1")]);
    let first = server.admin().commit(&Upload::new("kitobo", bytes.clone())).await;
    let manager = server.key_of("hill", Role::Manager).await;
    let own = server.holder(&manager).upload(&Upload::new("gbamu", bytes.clone())).await;
    assert_eq!(own.status, 201, "{}", own.text);
    assert_ne!(own.body["id"], first["id"]);
    let manager = server.holder(&manager);
    let foreign = manager.upload(&Upload::new("kitobo", bytes.clone())).await;
    foreign.assert_problem(404, "not_found");
    let absent = manager.upload(&Upload::new("nowhere", bytes)).await;
    assert_eq!((foreign.status, foreign.text), (absent.status, absent.text));
}

#[tokio::test]
async fn one_foreign_upload_among_several_to_delete_leaves_all_as_they_were() {
    let server = server().await;
    let foreign = server.admin().commit(&Upload::new("kitobo", file(&[row("A1", "1")]))).await;
    let manager = server.key_of("hill", Role::Manager).await;
    let manager = server.holder(&manager);
    let own = manager.commit(&Upload::new("gbamu", file(&[row("A1", "1")]))).await;
    let refused = manager.post("/v1/uploads/delete", json!({"uploads": [own["id"], foreign["id"]]})).await;
    refused.assert_problem(404, "not_found");
    assert_eq!(refused.body["uploads"], json!([foreign["id"]]));
    let is = async |upload: &Value| {
        server.admin().get(&format!("/v1/uploads/{}", upload["id"].as_str().unwrap())).await.body["status"].clone()
    };
    assert_eq!((is(&own).await, is(&foreign).await), (json!("committed"), json!("committed")));
    let deleted = manager.delete(&format!("/v1/uploads/{}", own["id"].as_str().unwrap())).await;
    assert_eq!((deleted.status.as_u16(), &deleted.body["status"]), (200, &json!("deleted")));
    let restored = manager.post(&format!("/v1/uploads/{}/restore", own["id"].as_str().unwrap()), json!({})).await;
    assert_eq!((restored.status.as_u16(), &restored.body["status"]), (200, &json!("committed")));
}

#[tokio::test]
async fn a_file_that_still_comes_when_its_key_is_revoked_does_not_land() {
    let server = server().await;
    let key = server.key_of("main", Role::Uploader).await;
    let (chunks, queue) = mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    let body = futures::stream::unfold(queue, async |mut queue| Some((queue.recv().await?, queue)));
    let holder = server.holder(&key);
    let request = holder.request(Method::PUT, "/v1/uploads?project=kitobo&dataset_name=d");
    let coming = tokio::spawn(request.body(Body::wrap_stream(body.boxed())).send());
    let bytes = file(&[row("A1", "1")]);
    chunks.send(Ok(bytes[..50].to_vec().into())).await.unwrap();
    let tmp = server.folder.path().join("tmp");
    while std::fs::read_dir(&tmp).map_or(0, Iterator::count) == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let revoked = server.admin().delete(&format!("/v1/keys/{}", key.key.prefix)).await;
    assert!(revoked.body["revoked_at"].is_string(), "{}", revoked.text);
    chunks.send(Ok(bytes[50..].to_vec().into())).await.unwrap();
    drop(chunks);
    Answer::of(coming.await.unwrap().unwrap()).await.assert_problem(401, "unauthenticated");
    assert_eq!(server.admin().get("/v1/uploads").await.body["uploads"], json!([]));
}

#[tokio::test]
async fn the_command_line_makes_organisations_and_keys_for_a_running_server_and_ends_them() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::serve(folder.path(), &[]);
    let done = |arguments: &[&str]| stdout(&run(folder.path(), arguments)).trim().to_owned();
    let failed = |arguments: &[&str]| {
        let output = run(folder.path(), arguments);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(done(&["orgs", "create", "--slug", "hill", "--name", "Hill"]), "hill");
    assert_eq!(done(&["orgs", "rename", "hill", "--name", "Hill Power"]), "hill is Hill Power now");
    assert!(done(&["orgs", "list"]).contains("Hill Power"));
    let of_a_viewer = ["keys", "create", "--role", "viewer", "--name", "board", "--expires-in", "90d"];
    let (code, told) = failed(&of_a_viewer);
    assert_eq!(code, 2);
    assert!(told.contains("--organisation is one of hill, main"), "{told}");
    let made = done(&[&of_a_viewer[..], &["--organisation", "hill", "--json"]].concat());
    let board: Value = serde_json::from_str(&made).unwrap();
    assert_eq!((&board["role"], &board["organisation"]), (&json!("viewer"), &json!("hill")));
    let ask = async |key: &str| Admin::new(&process.address, key).get("/v1/projects").await.status.as_u16();
    let (key, prefix) = (board["key"].as_str().unwrap(), board["prefix"].as_str().unwrap());
    assert_eq!(ask(key).await, 200);
    let new = done(&["keys", "rotate", prefix, "--overlap", "0s"]);
    assert_eq!((ask(key).await, ask(&new).await), (401, 200));
    let list: Value = serde_json::from_str(&done(&["keys", "list", "--json"])).unwrap();
    assert_eq!((&list[0]["rotated_from"], &list[1]["replaced_by"]), (&json!(prefix), &list[0]["prefix"]));
    assert!(list[0]["expires_at"].is_string());
    assert!(done(&["keys", "list"]).contains("hill"));
    done(&["keys", "revoke", list[0]["prefix"].as_str().unwrap()]);
    assert_eq!(ask(&new).await, 401);
    assert_eq!(failed(&["keys", "rotate", prefix]).0, 4);
    let project =
        ["projects", "create", "--slug", "gbamu", "--name", "Gbamu", "--kind", "mini_grid", "--currency", "NGN"];
    let project = [&project[..], &["--time-zone", "Africa/Lagos", "--country", "NG"]].concat();
    assert_eq!(failed(&project).0, 2);
    let made = done(&[&project[..], &["--organisation", "hill", "--json"]].concat());
    assert_eq!(serde_json::from_str::<Value>(&made).unwrap()["organisation"], "hill");
    assert_eq!(failed(&[&project[..], &["--organisation", "nowhere"]].concat()).0, 3);
}
