//! `/v1/projects`.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Answer, TestServer, project};

#[tokio::test]
async fn a_project_is_made_once_and_found_where_its_location_says() {
    let server = TestServer::start().await;
    let made = server.admin().post("/v1/projects", project("kitobo")).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.header("location"), "/v1/projects/kitobo");
    let found = server.admin().get(made.header("location")).await;
    assert_eq!(found.status, 200);
    assert_eq!(found.body, made.body);
    assert_eq!(found.body["time_zone"], "Africa/Nairobi");
    server.admin().post("/v1/projects", project("kitobo")).await.assert_problem(409, "project_exists");
}

#[tokio::test]
async fn each_wrong_field_has_its_own_error_with_what_is_allowed() {
    let server = TestServer::start().await;
    let mut body = project("Kitobo!");
    body["currency"] = json!("KSH");
    body["kind"] = json!("minigrid");
    body["country"] = json!(404);
    body["timezone"] = json!("Africa/Nairobi");
    let answer = server.admin().post("/v1/projects", body).await;
    answer.assert_problem(400, "invalid_project");
    let message = |field: &str| {
        let errors = answer.body["errors"].as_array().unwrap();
        let found: Vec<_> = errors.iter().filter(|error| error["field"] == field).collect();
        assert_eq!(found.len(), 1, "{field}: {errors:?}");
        found[0]["message"].as_str().unwrap().to_owned()
    };
    assert!(message("currency").ends_with("did you mean KES?"));
    assert!(message("kind").contains("mini_grid, shs"));
    assert!(message("country").contains("text"));
    assert!(message("timezone").ends_with("did you mean time_zone?"));
    assert!(message("slug").contains("a-z"));
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_never_the_slug() {
    let server = TestServer::start().await;
    let admin = server.admin();
    admin.make_project("kitobo").await;
    let changed = admin.patch("/v1/projects/kitobo", json!({"name": "Kitobo island", "currency": "TZS"})).await;
    assert_eq!(changed.status, 200);
    assert_eq!((&changed.body["name"], &changed.body["currency"]), (&json!("Kitobo island"), &json!("TZS")));
    assert_eq!(changed.body["country"], "KE");
    let refused = admin.patch("/v1/projects/kitobo", json!({"slug": "other", "name": "x"})).await;
    refused.assert_problem(400, "invalid_project");
    assert_eq!(refused.body["errors"][0]["field"], "slug");
    assert_eq!(admin.get("/v1/projects/kitobo").await.body["name"], "Kitobo island");
    admin.patch("/v1/projects/nowhere", json!({"name": "x"})).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn absent_projects_and_names_that_are_no_slug_answer_the_same() {
    let server = TestServer::start().await;
    let absent = server.admin().get("/v1/projects/nowhere").await;
    absent.assert_problem(404, "not_found");
    for other in ["/v1/projects/UPPER", "/v1/projects/..%2Fetc", "/v1/projects/%FF"] {
        assert_eq!(server.admin().get(other).await.text, absent.text, "{other}");
    }
}

#[tokio::test]
async fn pages_of_projects_meet_without_gap_or_overlap() {
    let server = TestServer::start().await;
    let admin = server.admin();
    for slug in ["c", "a", "e", "b", "d"] {
        admin.make_project(slug).await;
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/projects?limit=2".to_owned());
    loop {
        let page = admin.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.text);
        seen.extend(page.body["projects"].as_array().unwrap().iter().map(|p| p["slug"].as_str().unwrap().to_owned()));
        let Some(cursor) = page.body["next_cursor"].as_str() else { break };
        path = format!("/v1/projects?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);

    for (query, parameter) in
        [("limit=0", "limit"), ("limit=201", "limit"), ("cursor=%21", "cursor"), ("page=2", "page")]
    {
        let refused = admin.get(&format!("/v1/projects?{query}")).await;
        refused.assert_problem(400, "invalid_parameter");
        assert_eq!(refused.body["parameter"], parameter);
    }
}

#[tokio::test]
async fn a_body_that_is_not_json_is_named_by_line_and_column() {
    let server = TestServer::start().await;
    let send = async |content_type: &str, body: String| {
        let request = server.admin().request(Method::POST, "/v1/projects");
        Answer::of(request.header("content-type", content_type).body(body).send().await.unwrap()).await
    };
    let broken = send("application/json", "{\n  \"slug\": kitobo\n}".into()).await;
    broken.assert_problem(400, "invalid_json");
    assert_eq!((broken.body["line"].as_u64(), broken.body["column"].as_u64()), (Some(2), Some(11)));
    send("application/json", "[]".into()).await.assert_problem(400, "invalid_json");
    send("text/plain", "{}".into()).await.assert_problem(415, "unsupported_type");
    send("application/json", format!("{{\"name\": \"{}\"}}", "x".repeat(100_000)))
        .await
        .assert_problem(413, "body_too_large");
}
