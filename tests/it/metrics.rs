//! `/v1/metrics` over HTTP: forms, validators, parameters and what a question opens.

use std::io::Cursor;

use arrow::{datatypes::Schema, ipc::reader::StreamReader};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::harness::{Answer, TestServer, Upload, file, paid, row};

/// A server with payments of three months, one with the greatest amount that there is.
async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.admin().make_project("kitobo").await;
    let rows = [
        paid("A1", "2024-04-10T10:00:00", "99999999999999.9999", "SUCCESS"),
        paid("A2", "2024-05-10T10:00:00", "0.1", "SUCCESS"),
        paid("A3", "2024-06-10T10:00:00", "-0.3001", "SUCCESS"),
    ];
    server.admin().commit(&Upload::new("kitobo", file(&rows))).await;
    server
}

/// The names of an answer's columns, and the number of its rows.
fn shape(format: &str, bytes: &[u8]) -> (Vec<String>, usize) {
    let text = || std::str::from_utf8(bytes).unwrap();
    let keys = |row: &Value| row.as_object().unwrap().keys().cloned().collect();
    let fields = |schema: &Schema| schema.fields().iter().map(|field| field.name().clone()).collect();
    match format {
        "json" => {
            let body: Value = serde_json::from_str(text()).unwrap();
            (keys(&body["rows"][0]), body["rows"].as_array().unwrap().len())
        }
        "ndjson" => {
            let rows: Vec<Value> = text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (keys(&rows[0]), rows.len())
        }
        "csv" => {
            let mut reader = csv::Reader::from_reader(bytes);
            (reader.headers().unwrap().iter().map(str::to_owned).collect(), reader.records().count())
        }
        "arrow" => {
            let reader = StreamReader::try_new(Cursor::new(bytes), None).unwrap();
            (fields(&reader.schema()), reader.map(|batch| batch.unwrap().num_rows()).sum())
        }
        _ => {
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::copy_from_slice(bytes)).unwrap();
            let columns = fields(reader.schema());
            (columns, reader.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum())
        }
    }
}

#[tokio::test]
async fn every_metric_answers_in_every_format_with_the_columns_of_the_catalogue() {
    let server = server().await;
    let admin = server.admin();
    let catalogue = admin.get("/v1/metrics").await.body;
    let metrics = catalogue["metrics"].as_array().unwrap();
    let names: Vec<_> = metrics.iter().map(|metric| metric["name"].as_str().unwrap()).collect();
    for name in [
        "active_customers",
        "arppu",
        "arpu",
        "churn",
        "cohort_retention",
        "completeness",
        "concentration",
        "days_since_last_payment",
        "dormancy",
        "inter_payment_gap",
        "match_rate",
        "net_revenue",
        "paying_ratio",
        "payments_per_customer",
        "reversal_rate",
        "revenue_over_time",
        "revenue_per_category",
        "revenue_per_site",
        "source_mix",
        "ticket_size",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
    let media = [
        ("json", "application/json"),
        ("ndjson", "application/x-ndjson"),
        ("csv", "text/csv"),
        ("arrow", "application/vnd.apache.arrow.stream"),
        ("parquet", "application/vnd.apache.parquet"),
    ];
    for metric in metrics {
        let takes_from = metric["parameters"].as_array().unwrap().iter().any(|parameter| parameter["name"] == "from");
        let period = if takes_from { "from=2024-01-01" } else { "to=2026-01-01" };
        let path = format!("/v1/metrics/{}?{period}", metric["name"].as_str().unwrap());
        let columns = metric["columns"].as_array().unwrap();
        let columns: Vec<_> = columns.iter().map(|column| column["name"].as_str().unwrap().to_owned()).collect();
        let json = admin.get(&path).await;
        for (told, column) in json.body["columns"].as_array().unwrap().iter().zip(metric["columns"].as_array().unwrap())
        {
            for part in ["name", "type", "unit"] {
                assert_eq!(told[part], column[part], "{path}");
            }
        }
        let rows = json.body["rows"].as_array().unwrap().len();
        assert!(rows > 0, "{}", json.text);
        for (format, media) in media {
            let asked = admin.request(Method::GET, &format!("{path}&format={format}")).send().await.unwrap();
            assert!(asked.headers()["content-type"].to_str().unwrap().starts_with(media));
            let asked = asked.bytes().await.unwrap();
            assert_eq!(shape(format, &asked), (columns.clone(), rows), "{path} {format}");
            let accepted = admin.request(Method::GET, &path).header(header::ACCEPT, media).send().await.unwrap();
            assert_eq!(accepted.bytes().await.unwrap(), asked, "{path} {media}");
        }
    }
}

#[tokio::test]
async fn money_is_an_exact_numeral() {
    let server = server().await;
    let months = server.admin().get("/v1/metrics/revenue_over_time?grain=month&tz=UTC").await.text;
    for row in [
        r#"{"project":"kitobo","period":"2024-04-01","currency":"KES","revenue":99999999999999.9999,"payments":1}"#,
        r#"{"project":"kitobo","period":"2024-05-01","currency":"KES","revenue":0.1000,"payments":1}"#,
        r#"{"project":"kitobo","period":"2024-06-01","currency":"KES","revenue":-0.3001,"payments":1}"#,
    ] {
        assert!(months.contains(row), "{months}");
    }
    let more = [paid("B1", "2024-04-10T10:00:00", "99999999999999.9999", "")];
    server.admin().commit(&Upload::new("kitobo", file(&more))).await;
    assert_eq!(server.admin().figures("revenue_per_site", "revenue").await, ["199999999999999.7997"]);
}

#[tokio::test]
async fn an_answer_that_is_known_is_not_sent_again_until_the_lake_changes() {
    let server = server().await;
    let admin = server.admin();
    let ask = async |path: &str, known: &str| {
        let request = admin.request(Method::GET, path).header(header::IF_NONE_MATCH, known);
        Answer::of(request.send().await.unwrap()).await
    };
    for path in ["/v1/metrics/revenue_per_site", "/v1/metrics/completeness", "/v1/metrics/ticket_size?format=csv"] {
        let first = admin.get(path).await;
        let tag = first.header("etag").to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
        assert_eq!(first.header("cache-control"), "private, no-cache");
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            let same = ask(path, &known).await;
            assert_eq!(
                (same.status.as_u16(), same.text.as_str(), same.header("etag")),
                (304, "", tag.as_str()),
                "{known}"
            );
        }
        assert_eq!(ask(path, "\"other\"").await.text, first.text);
        assert_eq!(ask("/v1/metrics/source_mix", &tag).await.status, 200);
    }
    let path = "/v1/metrics/revenue_per_site";
    let tag = admin.get(path).await.header("etag").to_owned();
    admin.commit(&Upload::new("kitobo", file(&[row("B1", "1")]))).await;
    let changed = ask(path, &tag).await;
    assert_eq!((changed.status.as_u16(), &changed.body["lake_version"]), (200, &json!(2)));
    assert_ne!(changed.header("etag"), tag);
}

#[tokio::test]
async fn a_wrong_parameter_is_named_with_what_is_allowed() {
    let server = server().await;
    for (query, parameter, told) in [
        ("colour=red", "colour", "project, from, to"),
        ("curency=KES", "curency", "did you mean currency?"),
        ("grain=hour", "grain", "day, week, month"),
        ("from=yesterday", "from", "write 2024-05-01"),
        ("to=2024-13-01", "to", "write 2024-05-01"),
        ("from=2024-05-02&to=2024-05-01", "to", "from"),
        ("limit=0", "limit", "1"),
        ("limit=ten", "limit", "1"),
        ("tz=Mars/Phobos", "tz", "IANA"),
        ("currency=shilling", "currency", "ISO 4217"),
        ("order=colour", "order", "revenue"),
        ("project=No%20Slug", "project", "slug"),
        ("site=", "site", "value"),
        ("grain=day&grain=week", "grain", "once"),
        ("format=xml", "format", "parquet"),
    ] {
        let answer = server.admin().get(&format!("/v1/metrics/revenue_over_time?{query}")).await;
        answer.assert_problem(400, "invalid_parameter");
        assert_eq!(answer.body["parameter"], parameter, "{}", answer.text);
        assert!(answer.text.contains(told), "{query}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_project_or_metric_that_is_not_there_is_not_found() {
    let server = server().await;
    let admin = server.admin();
    let absent = admin.get("/v1/metrics/revenue_per_site?project=lolwe").await;
    absent.assert_problem(404, "not_found");
    assert_eq!(admin.get("/v1/metrics/revenue_per_site?project=kitobo&project=lolwe").await.text, absent.text);
    let metric = admin.get("/v1/metrics/revenue_by_site").await;
    metric.assert_problem(404, "unknown_metric");
    assert!(metric.text.contains("did you mean revenue_per_site?"), "{}", metric.text);
    server.anonymous().get("/v1/metrics/revenue_per_site").await.assert_problem(401, "unauthenticated");
    server.anonymous().get("/v1/metrics").await.assert_problem(401, "unauthenticated");
}

#[tokio::test]
async fn an_answer_cut_off_by_the_limit_says_so_in_every_format() {
    let server = server().await;
    let admin = server.admin();
    let path = "/v1/metrics/payments_per_customer?order=-amount";
    let cut = admin.get(&format!("{path}&limit=2")).await;
    assert_eq!((cut.body["rows"].as_array().unwrap().len(), cut.header("x-wattlake-truncated")), (2, "true"));
    assert_eq!(cut.body["warnings"][0]["code"], "truncated");
    let csv = admin.get(&format!("{path}&limit=2&format=csv")).await;
    assert_eq!((csv.text.lines().count(), csv.header("x-wattlake-truncated")), (3, "true"));
    let whole = admin.get(&format!("{path}&limit=3")).await;
    assert_eq!((&whole.body["warnings"], whole.header("x-wattlake-truncated")), (&json!([]), ""));
}

#[tokio::test]
async fn a_question_about_a_month_opens_the_files_of_that_month_alone() {
    // Started anew, so that nothing that an upload looked at is still in memory.
    let server = server().await.restarted().await;
    let partitions = server.folder.path().join("lake/payments/project_id=kitobo");
    for month in ["month=2024-04", "month=2024-06"] {
        std::fs::rename(partitions.join(month), server.folder.path().join(month)).unwrap();
    }
    let admin = server.admin();
    let may = "?from=2024-05-01&to=2024-06-01&tz=UTC";
    for metric in ["revenue_per_site", "revenue_over_time", "payments_per_customer", "source_mix", "ticket_size"] {
        assert_eq!(admin.figures(&format!("{metric}{may}"), "project").await, ["kitobo"], "{metric}");
    }
    assert_eq!(admin.figures(&format!("revenue_per_site{may}"), "revenue payments").await, ["0.1000 1"]);
    let broken = admin.get("/v1/metrics/revenue_per_site").await;
    broken.assert_problem(503, "data_damaged");
    assert!(!broken.text.contains("month=") && !broken.text.contains("parquet"), "{}", broken.text);
}
