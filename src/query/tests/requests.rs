//! What a request may ask, which files it opens, and the forms of its answer.

use std::{io::Cursor, time::Duration};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Decimal128Type,
    ipc::reader::StreamReader,
};
use bytes::Bytes;
use datafusion::physical_plan::displayable;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::lake::{Lake, Payment, bytes, default_limits, paid};
use crate::{
    config::QueryConfig,
    error::ErrorKind,
    lake::scan::files_of,
    query::{Format, QueryError},
};

fn payments() -> Vec<Payment> {
    vec![
        paid("kitobo", "2024-04-30T21:00:00Z", "ann", 50),
        paid("kitobo", "2024-05-10T08:00:00Z", "ben", 200),
        paid("kitobo", "2024-06-10T08:00:00Z", "ben", 200),
        paid("zola", "2024-05-01T00:00:00Z", "ann", 5),
        paid("zola", "2024-06-01T00:00:00Z", "ann", 5),
    ]
}

#[tokio::test]
async fn a_query_opens_the_files_of_its_scope_and_period_alone() {
    let lake = Lake::of(&payments()).await;
    let opened = async |pairs: &[(&str, &str)]| {
        let files = files_of(&lake.plan("revenue_per_site", pairs).await);
        let short = |path: &str| path.replace("project_id=", "").replace("month=", "").replace("/part.parquet", "");
        files.iter().map(|path| short(path)).collect::<Vec<_>>()
    };
    assert_eq!(opened(&[("project", "zola")]).await, ["zola/2024-05", "zola/2024-06"]);
    // May begins in Nairobi while it is still April in UTC, so one project needs a file more than the other.
    assert_eq!(
        opened(&[("from", "2024-05"), ("to", "2024-06")]).await,
        ["kitobo/2024-04", "kitobo/2024-05", "zola/2024-05"]
    );
    assert_eq!(
        opened(&[("from", "2024-05"), ("to", "2024-06"), ("tz", "UTC")]).await,
        ["kitobo/2024-05", "zola/2024-05"]
    );
    assert_eq!(opened(&[("from", "2024-06-01T00:00:00Z")]).await, ["kitobo/2024-06", "zola/2024-06"]);
    assert!(opened(&[("from", "2030-01")]).await.is_empty());
}

#[tokio::test]
async fn the_sites_of_a_scope_are_read_from_their_column_alone() {
    let lake = Lake::of(&payments()).await;
    let plan = lake.plan("completeness", &[("project", "zola"), ("from", "2024-06"), ("to", "2024-07")]).await;
    let shown = displayable(plan.as_ref()).indent(false).to_string();
    let sites = shown.lines().find(|line| line.contains("month=2024-05")).unwrap();
    assert!(sites.contains("projection=[site]"), "{sites}");
    assert!(files_of(&plan).iter().all(|path| path.starts_with("project_id=zola/")));
}

#[tokio::test]
async fn a_day_and_an_instant_are_compared_in_the_zone_of_the_project() {
    let lake = Lake::of(&payments()).await;
    let ask = async |project: &str, from: &str, to: &str| {
        let error = lake.ask("revenue_per_site", &[("project", project), ("from", from), ("to", to)]).await.err()?;
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let QueryError::Parameter(error) = error else { panic!("{error:?}") };
        Some(error.parameter)
    };
    let (day, evening) = ("2024-05-02", "2024-05-01T22:00:00Z");
    assert_eq!(ask("kitobo", day, evening).await, None, "the day began in Nairobi an hour before");
    assert_eq!(ask("zola", day, evening).await.as_deref(), Some("to"));
    assert_eq!(ask("kitobo", evening, day).await.as_deref(), Some("to"));
    assert_eq!(ask("zola", evening, day).await, None);
    assert!(lake.ask("revenue_per_site", &[("from", day), ("to", evening)]).await.is_ok(), "one of them has a period");
}

#[tokio::test]
async fn a_wrong_parameter_is_named_with_what_is_allowed() {
    let lake = Lake::of(&payments()).await;
    let error = |metric: &str, name: &str, value: &str| lake.request(metric, &[(name, value)]).unwrap_err().to_string();
    let cases = [
        (error("revenue_per_site", "grian", "day"), "the parameter \"grian\" is not one of this metric"),
        (error("revenue_over_time", "grian", "day"), "did you mean grain?"),
        (error("revenue_over_time", "grain", "hour"), "day, week, month, quarter, year, all"),
        (error("revenue_over_time", "from", "01/05/2024"), "write 2024-05-01"),
        (error("revenue_over_time", "from", "2024-02-30"), "is not a day"),
        (error("revenue_over_time", "from", "0024-05-01"), "from 1970 to 2199"),
        (error("revenue_over_time", "tz", "Africa/Nairob"), "did you mean Africa/Nairobi?"),
        (error("revenue_over_time", "limit", "0"), "from 1 to 1000000"),
        (error("revenue_over_time", "limit", "ten"), "whole number"),
        (
            error("revenue_over_time", "order", "income"),
            "revenue_over_time has project, period, currency, revenue, payments",
        ),
        (error("revenue_over_time", "currency", "Naira"), "ISO 4217"),
        (error("revenue_over_time", "project", "../x"), "a slug is"),
        (error("revenue_over_time", "site", ""), "is empty"),
        (error("active_customers", "days", "0"), "from 1 to 3660"),
    ];
    for (message, part) in cases {
        assert!(message.contains(part), "{message} does not say {part}");
    }
    let twice = lake.request("revenue_over_time", &[("tz", "UTC"), ("tz", "UTC")]).unwrap_err();
    assert!(twice.to_string().contains("more than once"));
    let backwards = lake.request("revenue_over_time", &[("from", "2024-05"), ("to", "2024-05-01")]).unwrap_err();
    assert_eq!(backwards.parameter, "to");
    let both = lake.request("active_customers", &[("from", "2024-05"), ("days", "3")]).unwrap_err();
    assert_eq!(both.parameter, "days");
}

#[tokio::test]
async fn text_that_looks_like_sql_is_a_value() {
    let mut quoted = paid("zola", "2024-05-01T00:00:00Z", "ann", 5);
    quoted.site = "x' OR '1'='1";
    let lake = Lake::of(&[quoted, paid("zola", "2024-05-01T00:00:00Z", "ann", 7)]).await;
    assert_eq!(lake.rows("revenue_per_site", &[("site", "x' OR '1'='1")]).await, ["zola,x' OR '1'='1,KES,5.0000,1"]);
}

#[tokio::test]
async fn an_answer_cut_off_by_the_limit_says_so() {
    let lake = Lake::of(&payments()).await;
    let answer = lake.ask("payments_per_customer", &[("limit", "2"), ("order", "-amount,customer_id")]).await.unwrap();
    assert!(answer.truncated);
    assert_eq!(answer.rows.num_rows(), 2);
    assert_eq!(answer.warnings[0].code, "truncated");
    assert!(answer.warnings[0].message.contains("more than 2 rows"));
    assert!(!lake.ask("payments_per_customer", &[("limit", "3")]).await.unwrap().truncated);
}

#[tokio::test]
async fn every_format_holds_the_same_exact_figures() {
    let mut payment = paid("zola", "2024-05-01T00:00:00Z", "a,\"b\"\nc", 0);
    payment.amount = 900_719_925_474_099_301;
    let lake = Lake::of(&[payment]).await;
    let answer = lake.ask("payments_per_customer", &[]).await.unwrap();
    let text = |format| String::from_utf8(bytes(&answer, format)).unwrap();
    let row = r#"{"project":"zola","customer_id":"a,\"b\"\nc","currency":"KES","payments":1,"amount":90071992547409.9301,"first_payment_at":"2024-05-01T00:00:00Z","last_payment_at":"2024-05-01T00:00:00Z"}"#;
    assert_eq!(text(Format::Ndjson), format!("{row}\n"));
    let json = text(Format::Json);
    assert!(json.contains(row), "{json}");
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    let keys: Vec<&String> = parsed.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "metric",
            "title",
            "definition",
            "lake_version",
            "parameters",
            "columns",
            "rows",
            "withheld_cells",
            "warnings"
        ]
    );
    assert_eq!(parsed["lake_version"], 7);
    assert_eq!(parsed["columns"][4], serde_json::json!({"name": "amount", "type": "decimal", "unit": "currency"}));
    assert_eq!(
        text(Format::Csv),
        "project,customer_id,currency,payments,amount,first_payment_at,last_payment_at\r\n\
         zola,\"a,\"\"b\"\"\nc\",KES,1,90071992547409.9301,2024-05-01T00:00:00Z,2024-05-01T00:00:00Z\r\n"
    );
    let amount = |batch: &RecordBatch| batch.column(4).as_primitive::<Decimal128Type>().value(0);
    let mut stream = StreamReader::try_new(Cursor::new(bytes(&answer, Format::Arrow)), None).unwrap();
    assert_eq!(amount(&stream.next().unwrap().unwrap()), 900_719_925_474_099_301);
    let parquet = Bytes::from(bytes(&answer, Format::Parquet));
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(parquet).unwrap().build().unwrap();
    assert_eq!(amount(&reader.next().unwrap().unwrap()), 900_719_925_474_099_301);
}

#[tokio::test]
async fn the_format_comes_from_the_parameter_then_the_header() {
    let choose = |format, accept| Format::choose(format, accept);
    assert_eq!(choose(None, None), Ok(Format::Json));
    assert_eq!(choose(Some("csv"), Some("application/json")), Ok(Format::Csv));
    assert_eq!(choose(None, Some("text/csv;q=0.5, application/vnd.apache.parquet")), Ok(Format::Parquet));
    assert_eq!(choose(None, Some("text/html,application/xhtml+xml,*/*;q=0.8")), Ok(Format::Json));
    assert!(choose(None, Some("image/png")).is_err());
    assert!(choose(Some("xml"), None).unwrap_err().to_string().contains("json, ndjson, csv, arrow and parquet"));
}

#[tokio::test]
async fn an_etag_changes_with_whatever_changes_the_answer() {
    let mut lake = Lake::of(&payments()).await;
    let plain = lake.etag("revenue_over_time", &[], Format::Json);
    assert_eq!(plain, lake.etag("revenue_over_time", &[("grain", "month")], Format::Json), "the default, spelt out");
    assert_ne!(plain, lake.etag("revenue_over_time", &[("grain", "day")], Format::Json));
    assert_ne!(plain, lake.etag("revenue_over_time", &[], Format::Csv));
    assert_ne!(plain, lake.etag("revenue_over_time", &[("project", "zola")], Format::Json));
    let days = lake.etag("active_customers", &[], Format::Json);
    lake.now += chrono::Duration::days(1);
    assert_eq!(plain, lake.etag("revenue_over_time", &[], Format::Json), "it does not depend on the day");
    assert_ne!(days, lake.etag("active_customers", &[], Format::Json), "it does");
    lake.projects[0].time_zone = chrono_tz::Africa::Lagos;
    assert_ne!(plain, lake.etag("revenue_over_time", &[], Format::Json));
}

#[tokio::test]
async fn a_running_query_may_move_between_threads() {
    fn moves<T: Send>(_: &T) {}
    let lake = Lake::of(&payments()).await;
    moves(&lake.send("revenue_per_site", &[], Format::Json));
}

#[tokio::test]
async fn limits_end_a_query_with_an_error_of_their_own() {
    let kind = async |limits: QueryConfig| {
        let error = Lake::of(&payments()).await.limited(limits).ask("revenue_per_site", &[]).await.unwrap_err();
        error.kind()
    };
    assert_eq!(kind(QueryConfig { timeout: Duration::ZERO, ..default_limits() }).await, ErrorKind::Timeout);
    assert_eq!(kind(QueryConfig { memory_bytes: 10, ..default_limits() }).await, ErrorKind::Rejected);
}

#[tokio::test]
async fn an_answer_that_outgrows_its_limit_names_it_in_every_format() {
    let limits = QueryConfig { max_answer_bytes: 50, ..default_limits() };
    let lake = Lake::of(&payments()).await.limited(limits);
    for format in Format::ALL {
        let error = lake.send("revenue_per_site", &[], format).await.unwrap_err();
        assert!(matches!(error, QueryError::AnswerTooLarge { limit: 50 }), "{format}: {error:?}");
        assert_eq!(error.kind(), ErrorKind::Rejected);
        assert!(error.to_string().contains("query.max_answer_bytes"));
    }
}

#[tokio::test]
async fn an_answer_counts_to_the_memory_of_queries_until_it_was_sent() {
    let limits = QueryConfig { target_partitions: 1, ..default_limits() };
    let lake = Lake::of(&payments()).await.limited(limits);
    assert_eq!(lake.engine.reserved_memory(), 0);
    let unsent = lake.send("revenue_per_site", &[], Format::Csv).await.unwrap();
    assert!(lake.engine.reserved_memory() >= unsent.bytes.len());
    drop(unsent);
    assert_eq!(lake.engine.reserved_memory(), 0);
}

#[tokio::test]
async fn more_queries_than_may_wait_are_told_to_come_again() {
    let lake = Lake::of(&payments()).await.limited(QueryConfig { concurrency: 1, queue: 8, ..default_limits() });
    let asked = futures::future::join_all((0..12).map(|_| lake.send("revenue_per_site", &[], Format::Csv))).await;
    let busy = asked.iter().filter(|answer| matches!(answer, Err(QueryError::Busy { .. }))).count();
    assert_eq!(busy, 3, "one runs and eight wait");
    assert_eq!(asked.iter().filter(|answer| answer.is_ok()).count(), 9);
}

#[tokio::test]
async fn a_missing_file_is_storage_that_fails_and_its_path_is_not_told() {
    let mut lake = Lake::of(&payments()).await;
    let mut snapshot = (*lake.snapshot).clone();
    let file = snapshot.partitions.values_mut().next().unwrap();
    let mut gone = (*file[0]).clone();
    gone.path = "project_id=kitobo/month=2024-04/gone.parquet".to_owned();
    file[0] = gone.into();
    lake.snapshot = snapshot.into();
    let error = lake.ask("revenue_per_site", &[]).await.unwrap_err();
    assert!(matches!(error, QueryError::Storage(_)), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!error.to_string().contains("gone"));
}

#[tokio::test]
async fn the_catalogue_describes_every_metric() {
    let lake = Lake::of(&[]).await;
    let names: Vec<&str> = lake.metrics.iter().map(|metric| metric.name()).collect();
    assert_eq!(
        names,
        [
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
            "revenue_over_time",
            "revenue_per_category",
            "revenue_per_site",
            "reversal_rate",
            "source_mix",
            "ticket_size"
        ]
    );
    for metric in lake.metrics.iter() {
        let info = serde_json::to_value(&metric.info).unwrap();
        assert!(info["columns"].as_array().unwrap().iter().all(|column| column["type"] != "float"));
    }
    let over_time = serde_json::to_value(&lake.metric("revenue_over_time").info).unwrap();
    assert_eq!(over_time["parameters"][4]["default"], "month");
    assert_eq!(
        over_time["columns"][3],
        serde_json::json!({
            "name": "revenue",
            "type": "decimal",
            "unit": "currency",
            "description": "In the row's currency. A period without settled payments has no row: it may be without data."
        })
    );
}
