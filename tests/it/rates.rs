//! How many requests a key may make, and how many queries it may have: beyond that it is told which setting says so, and when
//! to come again.

use std::time::Duration;

use futures::future::join_all;
use reqwest::Method;
use wattlake::catalog::{AuditFilter, KeyTerms, NewKey};

use crate::harness::{Admin, Answer, TestServer};

#[tokio::test]
async fn a_key_that_asks_too_often_is_told_when_to_come_again_and_others_are_answered() {
    let server = TestServer::with(|config| {
        (config.http.key_requests_per_s, config.http.key_burst) = (1, 5);
        config.audit.flush = Duration::from_millis(5);
    })
    .await;
    let answers = join_all((0..25).map(|_| server.admin().get_owned("/v1/projects"))).await;
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!((1..=20).contains(&refused.len()), "{} of 25 are refused", refused.len());
    for answer in refused {
        answer.assert_problem(429, "too_many_requests");
        assert!(answer.body["detail"].as_str().unwrap().contains("http.key_requests_per_s"), "{}", answer.text);
        assert_eq!(answer.header("retry-after"), "1");
    }
    let key = server.catalog.create_key(KeyTerms::of_admin("other")).await.unwrap();
    let other = Admin::new(&server.address, &key.secret);
    assert_eq!(other.get("/v1/projects").await.status, 200);
    // A flood of refusals is no flood of entries. They are written in their order.
    let log_of = async |key: &NewKey| {
        let filter = AuditFilter { key: Some(key.key.prefix.clone()), ..AuditFilter::default() };
        server.catalog.audit(&filter, None, 200).await.unwrap().items
    };
    while log_of(&key).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let entries = log_of(&server.admin).await;
    let refused = entries.iter().filter(|entry| entry.status == Some(429)).count();
    let answered = entries.iter().filter(|entry| entry.status == Some(200)).count();
    assert!((1..=answered).contains(&refused), "{refused} refusals and {answered} answers are recorded");
}

#[tokio::test]
async fn what_holds_nothing_of_a_tenant_needs_no_key_and_knows_no_rate() {
    let server = TestServer::with(|config| (config.http.key_requests_per_s, config.http.key_burst) = (1, 1)).await;
    for _ in 0..20 {
        assert_eq!(server.anonymous().get("/healthz").await.status, 200);
    }
}

#[tokio::test]
async fn a_key_with_too_many_queries_is_refused_by_name_while_another_is_answered() {
    let server = TestServer::with(|config| {
        config.query.concurrency = 1;
        config.query.key_queue = 2;
    })
    .await;
    server.admin().make_project("kitobo").await;
    let other = server.catalog.create_key(KeyTerms::of_admin("other")).await.unwrap();
    let other = Admin::new(&server.address, &other.secret);
    let flood = join_all((0..60).map(|_| server.admin().get_owned("/v1/metrics/completeness")));
    let calm = async {
        for _ in 0..5 {
            let answer = other.get("/v1/metrics/completeness").await;
            assert_eq!(answer.status, 200, "{}", answer.text);
        }
    };
    let (flood, ()) = tokio::join!(flood, calm);
    let refused: Vec<&Answer> = flood.iter().filter(|answer| answer.status != 200).collect();
    assert!(!refused.is_empty(), "a flood of 60 has more than three at once");
    for answer in refused {
        answer.assert_problem(429, "too_many_queries");
        assert!(answer.body["detail"].as_str().unwrap().contains("query.key_queue"), "{}", answer.text);
        assert_eq!(answer.header("retry-after"), "1");
    }
}

impl Admin<'_> {
    /// The same as `get`, of an administrator that is made for this one request.
    async fn get_owned(self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).send().await.unwrap()).await
    }
}
