//! SQL that people write: what it answers, over what, within which limits, and that nothing but its own process ends with it.

use std::{
    fs,
    time::{Duration, Instant},
};

use reqwest::{Method, Response, header};
use serde_json::{Value, json};
use wattlake::access::Role;

use crate::{
    binary::Site,
    harness::{Admin, Answer, Process, TestServer, Upload, file, paid, row},
};

async fn server() -> TestServer {
    let server = TestServer::with(|config| config.audit.flush = Duration::from_millis(5)).await;
    server.admin().make_project("kitobo").await;
    server
}

/// So many payments: a join of them with themselves has more rows than anybody waits for.
fn payments(count: usize) -> Vec<u8> {
    file(&(0..count).map(|number| row(&format!("P{number}"), "1.50")).collect::<Vec<_>>())
}

async fn ask(holder: &Admin<'_>, body: Value) -> Answer {
    holder.post("/v1/sql", body).await
}

async fn rows(holder: &Admin<'_>, sql: &str) -> Value {
    let answer = ask(holder, json!({ "sql": sql })).await;
    assert_eq!(answer.status, 200, "{sql}: {}", answer.text);
    answer.body["rows"].clone()
}

#[tokio::test]
async fn every_value_is_exact_in_json_and_csv() {
    let server = server().await;
    server.admin().commit(&Upload::new("kitobo", file(&[row("A1", "10")]))).await;
    let sql = "SELECT 12.50 AS decimal, 9007199254740993 AS large, 7 AS small, true AS yes, NULL AS nothing, \
               DATE '2026-02-28' AS day, (SELECT min(paid_at) FROM payments) AS at, \
               TIMESTAMP '2026-02-28 10:00:00.5' AS local, 'é\"' AS text, sqrt(2.25) AS root, \
               CAST('NaN' AS DOUBLE PRECISION) AS nan, -CAST('Infinity' AS DOUBLE PRECISION) AS minus, TIME '10:11:12' AS clock";
    let answer = ask(&server.admin(), json!({ "sql": sql })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let expected = "[12.50,\"9007199254740993\",7,true,null,\"2026-02-28\",\"2024-05-03T10:00:00Z\",\
                    \"2026-02-28T10:00:00.500\",\"é\\\"\",1.5,\"NaN\",\"-Infinity\",\"10:11:12\"]";
    assert!(answer.text.contains(expected), "{}", answer.text);
    let kinds: Vec<&str> =
        answer.body["columns"].as_array().unwrap().iter().map(|column| column["type"].as_str().unwrap()).collect();
    let expected = [
        "decimal",
        "integer",
        "integer",
        "boolean",
        "text",
        "date",
        "timestamp",
        "local_timestamp",
        "text",
        "float",
        "float",
        "float",
        "time",
    ];
    assert_eq!(kinds, expected);
    assert_eq!((&answer.body["row_count"], &answer.body["truncated"]), (&json!(1), &json!(false)));
    let csv = ask(&server.admin(), json!({"sql": sql, "format": "csv"})).await;
    let line = "12.50,9007199254740993,7,true,,2026-02-28,2024-05-03T10:00:00Z,2026-02-28T10:00:00.500,\"é\"\"\",1.5,NaN,-Infinity,10:11:12\r\n";
    assert!(csv.text.ends_with(line), "{}", csv.text);
}

#[tokio::test]
async fn a_zero_of_any_type_is_a_numeral_of_json() {
    let server = server().await;
    let sql =
        "SELECT 0e1 AS a, CAST(0 AS DECIMAL(10,-2)) AS b, CAST(12345 AS DECIMAL(10,-2)) AS c, 0.00 AS d, 1e10 AS f";
    assert_eq!(rows(&server.admin(), sql).await, json!([[0, 0, 12300, 0.0, 10_000_000_000_u64]]));
}

/// What the most rows of an answer are is no reason to make room for so many.
#[tokio::test]
async fn few_groups_in_order_take_little_memory_and_those_without_a_value_are_among_them() {
    let server = TestServer::with(|config| config.sql.worker_memory_bytes = 256 << 20).await;
    server.admin().make_project("kitobo").await;
    server.admin().commit(&Upload::new("kitobo", file(&[row("A1", "10"), row("A2", "0.5")]))).await;
    for (sql, expected) in [
        ("SELECT DISTINCT payment_id FROM payments ORDER BY 1", json!([["A1"], ["A2"]])),
        ("SELECT payment_id, max(amount) FROM payments GROUP BY 1 ORDER BY 2", json!([["A2", 0.5], ["A1", 10.0]])),
        ("SELECT payment_id FROM payments GROUP BY 1 ORDER BY 1 LIMIT 9000000", json!([["A1"], ["A2"]])),
        (
            "SELECT k, max(v) FROM (VALUES ('a', NULL), ('b', 'x'), ('c', 'y')) AS t(k, v) GROUP BY k \
             ORDER BY 2 DESC NULLS FIRST LIMIT 2",
            json!([["a", null], ["c", "y"]]),
        ),
    ] {
        assert_eq!(rows(&server.admin(), sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn the_same_rows_come_in_every_form() {
    let server = server().await;
    server.admin().commit(&Upload::new("kitobo", file(&[row("A1", "10"), row("A2", "0.5")]))).await;
    let sql = "SELECT payment_id, amount FROM payments ORDER BY payment_id";
    let of = async |format: &str| {
        let request = server.admin().request(Method::POST, "/v1/sql").json(&json!({"sql": sql, "format": format}));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{format}");
        answer.bytes().await.unwrap()
    };
    assert_eq!(of("csv").await, "payment_id,amount\r\nA1,10.0000\r\nA2,0.5000\r\n".as_bytes());
    let lines = String::from_utf8(of("ndjson").await.to_vec()).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines[..2], [r#"{"payment_id":"A1","amount":10.0000}"#, r#"{"payment_id":"A2","amount":0.5000}"#]);
    let status: Value = serde_json::from_str(lines[2]).unwrap();
    assert_eq!((&status["wattlake"]["status"], &status["wattlake"]["row_count"]), (&json!("complete"), &json!(2)));
    let text = |batches: Vec<arrow::array::RecordBatch>| -> Vec<String> {
        let rows = batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)));
        let value =
            |column: &dyn arrow::array::Array, row| arrow::util::display::array_value_to_string(column, row).unwrap();
        rows.map(|(batch, row)| format!("{} {}", value(batch.column(0), row), value(batch.column(1), row))).collect()
    };
    let expected = ["A1 10.0000", "A2 0.5000"];
    let reader = arrow::ipc::reader::StreamReader::try_new(std::io::Cursor::new(of("arrow").await), None).unwrap();
    assert_eq!(text(reader.map(Result::unwrap).collect()), expected);
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(of("parquet").await).unwrap();
    assert_eq!(text(reader.build().unwrap().map(Result::unwrap).collect()), expected);
}

#[tokio::test]
async fn a_spreadsheet_runs_no_text_of_a_guarded_csv() {
    let server = server().await;
    let sql = "SELECT '=1+1' AS text, -5 AS number, '@x' AS other, 'a=b' AS plain";
    let of = async |guard: bool| {
        let answer = ask(&server.admin(), json!({"sql": sql, "format": "csv", "csv_guard": guard})).await;
        answer.text.lines().nth(1).unwrap().to_owned()
    };
    assert_eq!(of(true).await, "'=1+1,-5,'@x,a=b");
    assert_eq!(of(false).await, "=1+1,-5,@x,a=b");
}

#[tokio::test]
async fn parameters_are_bound_as_values_of_their_types_and_are_never_sql() {
    let server = server().await;
    server.admin().commit(&Upload::new("kitobo", file(&[row("A1", "10"), row("A2", "0.5")]))).await;
    let of = async |sql: &str, params: Value| {
        let answer = ask(&server.admin(), json!({"sql": sql, "params": params})).await;
        assert_eq!(answer.status, 200, "{sql}: {}", answer.text);
        answer.body["rows"].clone()
    };
    let named = "SELECT payment_id FROM payments WHERE amount > $least AND site = $site ORDER BY 1";
    assert_eq!(of(named, json!({"least": 0.5, "site": "Kitobo"})).await, json!([["A1"]]));
    assert_eq!(of(named, json!({"least": 0, "site": "' OR true --"})).await, json!([]));
    let placed = "SELECT payment_id FROM payments WHERE payment_id = ? AND paid_at < ?";
    let until = json!({"type": "timestamp", "value": "2024-05-04T00:00:00Z"});
    assert_eq!(of(placed, json!(["A2", until])).await, json!([["A2"]]));
    assert_eq!(
        of("SELECT $1 + 1, $2", json!([41, "; DROP TABLE payments"])).await,
        json!([[42, "; DROP TABLE payments"]])
    );
    for (sql, params) in [
        ("SELECT $1", json!([])),
        ("SELECT $a", json!({"b": 1})),
        ("SELECT 1", json!([1])),
        ("SELECT $a", json!({"a": 1, "b": 2})),
    ] {
        ask(&server.admin(), json!({"sql": sql, "params": params})).await.assert_problem(400, "sql_invalid");
    }
    ask(&server.admin(), json!({"sql": "SELECT $1", "params": [1e300]})).await.assert_problem(400, "invalid_parameter");
}

#[tokio::test]
async fn a_mistake_is_told_with_its_place_and_the_nearest_right_name_and_nothing_but_queries_runs() {
    let server = server().await;
    server.admin().commit(&Upload::new("kitobo", file(&[row("A1", "10")]))).await;
    let of = async |sql: &str| ask(&server.admin(), json!({ "sql": sql })).await;
    let syntax = of("SELECT 1,\n ) FROM payments").await;
    syntax.assert_problem(400, "sql_syntax");
    assert_eq!(syntax.body["line"], 2, "{}", syntax.text);
    let table = of("SELECT 1 FROM payment").await;
    table.assert_problem(400, "sql_unknown_name");
    assert_eq!(table.body["meant"], "payments", "{}", table.text);
    let column = of("SELECT custmer_id FROM payments").await;
    column.assert_problem(400, "sql_unknown_name");
    assert_eq!(column.body["meant"], "customer_id", "{}", column.text);
    for failing in [
        "SELECT CAST(customer_id AS INT) / 0 FROM (VALUES ('1')) AS t(customer_id)",
        "SELECT count(*) FROM payments WHERE CAST(customer_name AS INT) > 0",
    ] {
        of(failing).await.assert_problem(422, "sql_execution");
    }
    for sql in [
        "",
        "SELECT 1; SELECT 2",
        "DROP TABLE payments",
        "CREATE TABLE t AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "COPY payments TO '/tmp/x.csv'",
        "INSERT INTO payments SELECT * FROM payments",
        "SET datafusion.execution.batch_size = 1",
        "SHOW TABLES",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM '/etc/passwd'",
        "SELECT random()",
        "SELECT input_file_name() FROM payments",
    ] {
        let answer = of(sql).await;
        let code = answer.body["type"].as_str().unwrap_or_default();
        assert!(code.starts_with("/problems/sql_") && answer.status == 400, "{sql}: {}", answer.text);
        let folder = server.folder.path().to_str().unwrap();
        assert!(!answer.text.contains(folder) && !answer.text.contains("datafusion"), "{sql}: {}", answer.text);
    }
}

#[tokio::test]
async fn explain_tells_the_steps_and_nothing_of_files_or_scope() {
    let server = server().await;
    server.admin().commit(&Upload::new("kitobo", file(&[row("A1", "10")]))).await;
    let answer =
        ask(&server.admin(), json!({"sql": "EXPLAIN SELECT site FROM payments WHERE amount > $1", "params": [5]}))
            .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(answer.body["row_count"].as_u64().unwrap() > 1 && answer.text.contains("payments"), "{}", answer.text);
    for told in ["kitobo", "parquet", "lake", server.folder.path().to_str().unwrap()] {
        assert!(!answer.body["rows"].to_string().contains(told), "{told}: {}", answer.text);
    }
}

#[tokio::test]
async fn bare_sql_and_json_are_the_same_question() {
    let server = server().await;
    let bare = server.admin().request(Method::POST, "/v1/sql?format=csv&params=%5B7%5D&limit=1");
    let bare =
        bare.header(header::CONTENT_TYPE, "text/plain; charset=utf-8").body("SELECT $1 AS n").send().await.unwrap();
    assert_eq!(Answer::of(bare).await.text, "n\r\n7\r\n");
    let request = server.admin().request(Method::POST, "/v1/sql").header(header::CONTENT_TYPE, "application/x-what");
    Answer::of(request.body("SELECT 1").send().await.unwrap()).await.assert_problem(415, "unsupported_type");
    let misplaced = server.admin().request(Method::POST, "/v1/sql?format=csv").json(&json!({"sql": "SELECT 1"}));
    Answer::of(misplaced.send().await.unwrap()).await.assert_problem(400, "invalid_parameter");
    server.admin().get("/v1/sql").await.assert_problem(400, "invalid_parameter");
}

#[tokio::test]
async fn an_answer_that_the_caller_has_is_not_made_again_until_something_changed() {
    let server = server().await;
    let path = "/v1/sql?q=SELECT+count(*)+AS+n+FROM+payments&format=csv";
    let asked = async |tag: &str| {
        let request = server.admin().request(Method::GET, path).header(header::IF_NONE_MATCH, tag);
        Answer::of(request.send().await.unwrap()).await
    };
    let first = server.admin().get(path).await;
    assert_eq!(first.text, "n\r\n0\r\n");
    let tag = first.header("etag").to_owned();
    assert!(tag.starts_with("W/"), "{tag}");
    assert_eq!(asked(&tag).await.status, 304);
    let clock = server.admin().get("/v1/sql?q=SELECT+now()").await;
    assert_eq!((clock.status.as_u16(), clock.header("etag")), (200, ""), "the next answer is another one");
    let other = server.admin().get("/v1/sql?q=SELECT+count(*)+AS+m+FROM+payments&format=csv").await;
    assert_ne!(other.header("etag"), tag);
    server.admin().commit(&Upload::new("kitobo", file(&[row("A1", "10")]))).await;
    let again = asked(&tag).await;
    assert_eq!((again.status.as_u16(), again.text.as_str()), (200, "n\r\n1\r\n"));
}

#[tokio::test]
async fn the_tables_hold_what_the_scope_goes_to_and_uploads_are_the_owners_alone() {
    let server = server().await;
    let of = |month: &str| paid(month, &format!("2024-{month}-10T08:00:00"), "5", "SUCCESS");
    server.admin().commit(&Upload::new("kitobo", file(&[of("03"), of("04"), of("05")]))).await;
    for slug in ["fund", "rival"] {
        let made = server.admin().post("/v1/organisations", json!({"slug": slug, "name": slug})).await;
        assert_eq!(made.status, 201, "{}", made.text);
    }
    let share = json!({"recipient": "fund", "months_from": "2024-04", "months_to": "2024-04", "detail": "full"});
    assert_eq!(server.admin().post("/v1/projects/kitobo/shares", share).await.status, 201);
    let keys = [
        server.key_of("main", Role::Analyst).await,
        server.key_of("fund", Role::Analyst).await,
        server.key_of("rival", Role::Manager).await,
    ];
    let counts = async |key| {
        let holder = server.holder(key);
        let mut counts = Vec::new();
        for table in ["payments", "projects", "sites", "uploads"] {
            let count = rows(&holder, &format!("SELECT count(*) FROM {table}")).await;
            counts.push(count[0][0].as_u64().unwrap());
        }
        counts
    };
    assert_eq!(counts(&keys[0]).await, [3, 1, 1, 1], "one's own");
    assert_eq!(counts(&keys[1]).await, [1, 1, 1, 0], "what is shared");
    assert_eq!(counts(&keys[2]).await, [0, 0, 0, 0], "nothing");
    let shared = rows(&server.holder(&keys[1]), "SELECT DISTINCT payment_id, month FROM payments").await;
    assert_eq!(shared, json!([["04", "2024-04"]]));
}

/// Whatever is asked of a masked share, in whatever words, has nothing to tell but pseudonyms; of an aggregate share there are no
/// rows at all.
#[tokio::test]
async fn sql_over_a_masked_share_has_pseudonyms_to_work_with_and_nothing_else() {
    let server = server().await;
    for slug in ["fund", "rival"] {
        server.admin().post("/v1/organisations", json!({"slug": slug, "name": slug})).await;
    }
    let of = |id: &str, meter: &str| {
        format!(
            "2024-05-03T10:00:00,{id},{meter},INV-7{id},C-{id},Amina Otieno,,M-PESA,REF-{id},10,,SUCCESS,call 0722 {id},Kitobo"
        )
    };
    let secret = ["ZQ1", "ZQ2", "0M987", "INV-7", "Amina", "REF-", "0722"];
    server.admin().commit(&Upload::new("kitobo", file(&[of("ZQ1", "0M987"), of("ZQ2", "0M987")]))).await;
    for (recipient, detail) in [("fund", "masked"), ("rival", "aggregate")] {
        let share = json!({"recipient": recipient, "detail": detail});
        assert_eq!(server.admin().post("/v1/projects/kitobo/shares", share).await.status, 201);
    }
    let analyst = server.key_of("fund", Role::Analyst).await;
    let fund = server.holder(&analyst);
    let seen =
        rows(&fund, "SELECT count(DISTINCT customer_id), count(DISTINCT meter_id), sum(amount) FROM payments").await;
    assert_eq!(seen, json!([[2, 1, 20.0]]));
    let nothing = "SELECT count(customer_name), count(notes), count(reference_id) FROM payments";
    assert_eq!(rows(&fund, nothing).await, json!([[0, 0, 0]]));
    for sql in [
        "SELECT * FROM payments",
        "SELECT * FROM payments WHERE customer_id = 'C-ZQ1'",
        "SELECT count(*) AS n FROM payments WHERE customer_id LIKE 'C-%' OR meter_id = '0M987' OR payment_id = 'ZQ1'",
        "SELECT CAST(customer_id AS INT) FROM payments",
        "SELECT CAST(meter_id AS INT) FROM payments",
        "SELECT arrow_cast(payment_id, 'Int64') FROM payments WHERE meter_id > '0'",
        "SELECT 1 / (ascii(customer_id) - ascii('C')) FROM payments",
        "SELECT min(customer_id), max(meter_id), min(payment_id), max(customer_name) FROM payments",
        "SELECT string_agg(customer_id, ',') FROM payments GROUP BY meter_id",
        "SELECT customer_id FROM payments ORDER BY payment_id LIMIT 1",
        "SELECT a.utility_id FROM payments a JOIN payments b ON a.customer_id = b.customer_id WHERE a.meter_id <> ''",
    ] {
        let answer = ask(&fund, json!({ "sql": sql })).await;
        let told: Vec<_> = secret.into_iter().filter(|secret| answer.text.contains(secret)).collect();
        assert!(told.is_empty(), "{sql}: {told:?} in {}", answer.text);
        if sql.contains("count(*)") {
            assert_eq!(answer.body["rows"], json!([[0]]), "no filter finds what is hidden");
        }
    }
    let analyst = server.key_of("rival", Role::Analyst).await;
    let rival = server.holder(&analyst);
    assert_eq!(rows(&rival, "SELECT count(*), count(DISTINCT site) FROM payments").await, json!([[0, 0]]));
    assert_eq!(rows(&rival, "SELECT count(*) FROM sites").await, json!([[0]]));
}

#[tokio::test]
async fn what_is_left_out_is_said_and_an_answer_that_cannot_say_it_breaks_off() {
    let server = TestServer::with(|config| config.sql.max_rows = 500_000).await;
    server.admin().make_project("kitobo").await;
    server.admin().commit(&Upload::new("kitobo", payments(1000))).await;
    let few = ask(&server.admin(), json!({"sql": "SELECT payment_id FROM payments", "limit": 10})).await;
    assert_eq!((few.header("x-wattlake-truncated"), &few.body["row_count"]), ("true", &json!(10)));
    assert_eq!(few.body["truncated"], true);
    let exact = ask(&server.admin(), json!({"sql": "SELECT payment_id FROM payments", "limit": 1000})).await;
    assert_eq!((exact.header("x-wattlake-truncated"), &exact.body["truncated"]), ("", &json!(false)));
    let beyond = ask(&server.admin(), json!({"sql": "SELECT 1", "limit": 500_001})).await;
    beyond.assert_problem(400, "invalid_parameter");
    let many = "SELECT a.payment_id FROM payments a CROSS JOIN payments b";
    let said = ask(&server.admin(), json!({ "sql": many })).await;
    assert_eq!((&said.body["row_count"], &said.body["truncated"]), (&json!(500_000), &json!(true)));
    for (limit, whole) in [(None, false), (Some(400_000), true)] {
        let body = json!({"sql": many, "format": "csv", "limit": limit});
        let answer = server.admin().request(Method::POST, "/v1/sql").json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.bytes().await.is_ok(), whole, "{limit:?}");
    }
}

/// Processes for SQL of a server that is a process of its own.
fn workers_of(server: &Process) -> Vec<u32> {
    children_of(server.id())
}

/// What a process has started, and what still runs.
pub fn children_of(parent: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(status) = fs::read_to_string(format!("/proc/{id}/status")) else { continue };
        let value = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(|value| value.trim().to_owned())
                .unwrap_or_default()
        };
        if value("PPid:") == parent.to_string() && !value("State:").starts_with('Z') {
            found.push(id);
        }
    }
    found
}

/// Whether something comes true within some seconds.
pub async fn comes_true(seconds: u64, mut holds: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(seconds) {
        if holds() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

/// A server that is a process of its own, with so many payments, and the key to it.
async fn process(folder: &std::path::Path, count: usize, arguments: &[&str]) -> (Process, String) {
    let key = Site::new(folder.join("data")).await.key;
    let server = Process::serve(folder, &[&["--data-dir", "data"], arguments].concat());
    let admin = Admin::new(&server.address, &key);
    admin.make_project("kitobo").await;
    admin.commit(&Upload::new("kitobo", payments(count))).await;
    (server, key)
}

/// More rows than anybody waits for, of which none comes out.
const ENDLESS: &str = "SELECT sum(ab.amount * c.amount) FROM payments c CROSS JOIN \
                       (SELECT a.amount + b.amount AS amount FROM payments a CROSS JOIN payments b) AS ab";
/// More rows than anybody waits for, the first of them at once.
const STREAM: &str = "SELECT ab.payment_id, c.customer_name FROM payments c CROSS JOIN \
                      (SELECT a.payment_id FROM payments a CROSS JOIN payments b) AS ab";

async fn begin(admin: &Admin<'_>, format: &str) -> Response {
    let request = admin.request(Method::POST, "/v1/sql").json(&json!({"sql": STREAM, "format": format}));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer
}

#[tokio::test]
async fn a_query_ends_at_its_deadline_or_when_its_connection_closes_and_its_process_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (server, key) = process(folder.path(), 2000, &[]).await;
    let admin = Admin::new(&server.address, &key);
    let began = Instant::now();
    let late = ask(&admin, json!({"sql": ENDLESS, "timeout_s": 1})).await;
    late.assert_problem(504, "deadline");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(comes_true(1, || workers_of(&server).is_empty()).await);
    // Nothing of its answer has come.
    let asked = tokio::time::timeout(Duration::from_millis(1500), ask(&admin, json!({ "sql": ENDLESS }))).await;
    assert!(asked.is_err());
    assert!(comes_true(1, || workers_of(&server).is_empty()).await, "a closed connection ends the process");
    // Some of it has.
    let mut answer = begin(&admin, "csv").await;
    answer.chunk().await.unwrap().unwrap();
    assert_eq!(workers_of(&server).len(), 1);
    drop(answer);
    assert!(comes_true(2, || workers_of(&server).is_empty()).await, "a closed connection ends the process");
    assert_eq!(rows(&admin, "SELECT count(*) FROM payments").await, json!([[2000]]));
}

#[tokio::test]
async fn a_process_is_shut_in_and_knows_nothing_but_its_question() {
    let folder = tempfile::tempdir().unwrap();
    let (server, key) = process(folder.path(), 2000, &[]).await;
    let admin = Admin::new(&server.address, &key);
    let mut answer = begin(&admin, "csv").await;
    answer.chunk().await.unwrap().unwrap();
    let [worker] = workers_of(&server)[..] else { panic!("one process runs") };
    let of = |name: &str| fs::read(format!("/proc/{worker}/{name}")).unwrap();
    assert_eq!(of("environ"), b"MALLOC_ARENA_MAX=2\0");
    assert_eq!(of("cmdline"), b"wattlake\0sql-worker\0");
    let limits = String::from_utf8(of("limits")).unwrap();
    let soft = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!((soft("Max core file size"), soft("Max cpu time")), ("0".to_owned(), "120".to_owned()));
    assert!(soft("Max address space").parse::<u64>().unwrap() < 4 << 30, "{limits}");
    let status = String::from_utf8(of("status")).unwrap();
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    let open = fs::read_dir(format!("/proc/{worker}/fd")).unwrap().flatten();
    let open: Vec<String> = open
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .map(|path| path.to_string_lossy().into_owned())
        // What whoever started the server left open to it is not the server's to close.
        .filter(|path| !path.starts_with("pipe:") && path != "/dev/null" && !path.contains("/lake/payments/"))
        .collect();
    assert!(open.is_empty(), "{open:?}");
    drop(answer);
}

/// The nineteenth field of what the system says of a process, of which the second may have spaces.
fn niceness(process: u32) -> i32 {
    let said = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    said.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_process_that_was_started_ahead_is_one_thread_until_it_is_shut_in_and_another_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let (server, key) = process(folder.path(), 100, &["--sql-workers", "1"]).await;
    let admin = Admin::new(&server.address, &key);
    let mut waited = Vec::new();
    for _ in 0..2 {
        let sleeps = |worker: &u32| {
            fs::read_to_string(format!("/proc/{worker}/status")).is_ok_and(|status| status.contains("State:\tS"))
        };
        let waits = || matches!(&workers_of(&server)[..], [worker] if !waited.contains(worker) && sleeps(worker));
        assert!(comes_true(10, waits).await);
        let worker = workers_of(&server)[0];
        assert_eq!(fs::read_dir(format!("/proc/{worker}/task")).unwrap().count(), 1);
        assert_eq!(niceness(worker), (niceness(server.id()) + 5).min(19), "it stands back behind the server");
        // It says itself that it is not shut in where it has a second thread by then, and does not answer.
        assert_eq!(rows(&admin, "SELECT count(*) FROM payments").await, json!([[100]]));
        waited.push(worker);
    }
}

#[tokio::test]
async fn a_process_that_dies_is_one_querys_clear_error_and_never_a_clean_end() {
    let folder = tempfile::tempdir().unwrap();
    let (server, key) =
        process(folder.path(), 2000, &["--sql-worker-memory-bytes", "256MiB", "--sql-spill-bytes", "0"]).await;
    let admin = Admin::new(&server.address, &key);
    // Counted by the engine, and not counted by it.
    let group = "SELECT a.payment_id || b.payment_id || c.payment_id AS id, count(*) FROM payments a, payments b, payments c GROUP BY 1";
    let array = "SELECT array_agg(a.payment_id || b.payment_id || 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx') FROM payments a, payments b, \
                 (VALUES (1), (2), (3), (4), (5), (6), (7), (8)) AS t(n)";
    for sql in [group, array] {
        ask(&admin, json!({ "sql": sql })).await.assert_problem(422, "out_of_memory");
    }
    for (signal, format) in [("-ILL", "csv"), ("-ILL", "ndjson"), ("-KILL", "json"), ("-ABRT", "arrow")] {
        let mut answer = begin(&admin, format).await;
        let mut text = answer.chunk().await.unwrap().unwrap().to_vec();
        let [worker] = workers_of(&server)[..] else { panic!("one process runs") };
        assert!(std::process::Command::new("kill").args([signal, &worker.to_string()]).status().unwrap().success());
        let read = async {
            loop {
                match answer.chunk().await {
                    Ok(Some(more)) => text.extend_from_slice(&more),
                    end => break end,
                }
            }
        };
        // Long before it would be cut off at a limit.
        let end = tokio::time::timeout(Duration::from_secs(5), read).await.unwrap();
        assert!(end.is_err(), "{format}: half an answer is no answer");
        if format == "ndjson" {
            let last = text.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap();
            let status: Value = serde_json::from_slice(last).unwrap();
            assert_eq!(status["wattlake"]["status"], "failed", "{status}");
            assert_eq!(status["wattlake"]["problem"]["type"], "/problems/crashed", "{status}");
        }
    }
    let before = tokio::spawn({
        let (address, key) = (server.address.clone(), key.clone());
        async move { ask(&Admin::new(&address, &key), json!({ "sql": ENDLESS })).await }
    });
    assert!(comes_true(5, || !workers_of(&server).is_empty()).await);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let [worker] = workers_of(&server)[..] else { panic!("one process runs") };
    assert!(std::process::Command::new("kill").args(["-ILL", &worker.to_string()]).status().unwrap().success());
    before.await.unwrap().assert_problem(500, "crashed");
    assert_eq!(rows(&admin, "SELECT count(*) FROM payments").await, json!([[2000]]));
    assert_eq!(admin.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_process_ends_with_its_server_however_that_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (server, key) = process(folder.path(), 2000, &[]).await;
    let mut answer = begin(&Admin::new(&server.address, &key), "csv").await;
    answer.chunk().await.unwrap().unwrap();
    let [worker] = workers_of(&server)[..] else { panic!("one process runs") };
    drop(server);
    let gone = || {
        let state = fs::read_to_string(format!("/proc/{worker}/status")).unwrap_or_default();
        state.is_empty() || state.contains("State:\tZ")
    };
    assert!(comes_true(2, gone).await);
}

#[tokio::test]
async fn an_answer_of_millions_of_rows_takes_no_more_memory_than_one_of_thousands() {
    let folder = tempfile::tempdir().unwrap();
    let (server, key) = process(folder.path(), 1500, &[]).await;
    let admin = Admin::new(&server.address, &key);
    let sql = |limit: usize| json!({"sql": STREAM, "format": "json", "limit": limit});
    let read = async |limit: usize| {
        let answer = admin.request(Method::POST, "/v1/sql").json(&sql(limit)).send().await.unwrap();
        let mut answer: Response = answer;
        let mut bytes = 0;
        let mut last = Vec::new();
        while let Some(piece) = answer.chunk().await.unwrap() {
            bytes += piece.len();
            last = [last, piece.to_vec()].concat();
            last.drain(..last.len().saturating_sub(300));
        }
        (bytes, String::from_utf8_lossy(&last).into_owned())
    };
    read(10_000).await;
    let before = server.peak_memory_kib();
    let (bytes, last) = read(2_000_000).await;
    assert!(bytes > 40 << 20 && last.contains("\"row_count\":2000000,\"truncated\":true"), "{bytes} {last}");
    let grown = server.peak_memory_kib().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB more for {bytes} bytes");
}

#[tokio::test]
async fn a_query_ends_with_the_share_or_the_key_that_it_needs() {
    let server = server().await;
    server.admin().commit(&Upload::new("kitobo", payments(2000))).await;
    assert_eq!(server.admin().post("/v1/organisations", json!({"slug": "fund", "name": "F"})).await.status, 201);
    let share = json!({"recipient": "fund", "detail": "full"});
    let shared = server.admin().post("/v1/projects/kitobo/shares", share.clone()).await;
    let (fund, own) = (server.key_of("fund", Role::Analyst).await, server.key_of("main", Role::Analyst).await);
    // Before its first row.
    let revoke = async {
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(server.admin().delete(shared.header("location")).await.status, 200);
    };
    let (holder, sql) = (server.holder(&fund), json!({ "sql": ENDLESS }));
    let (answer, ()) = tokio::join!(ask(&holder, sql), revoke);
    answer.assert_problem(409, "share_ended");
    // While its rows are sent.
    let shared = server.admin().post("/v1/projects/kitobo/shares", share).await;
    let mut answer = begin(&holder, "csv").await;
    answer.chunk().await.unwrap().unwrap();
    assert_eq!(server.admin().delete(shared.header("location")).await.status, 200);
    assert!(broke_off_within(&mut answer, 3).await);
    let mut answer = begin(&server.holder(&own), "csv").await;
    answer.chunk().await.unwrap().unwrap();
    server.catalog.revoke_key(&own.key.prefix).await.unwrap();
    assert!(broke_off_within(&mut answer, 3).await);
}

async fn broke_off_within(answer: &mut Response, seconds: u64) -> bool {
    let read = async {
        loop {
            match answer.chunk().await {
                Ok(Some(_)) => {}
                end => break end.is_err(),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(seconds), read).await.unwrap_or(false)
}

#[tokio::test]
async fn the_log_has_the_sql_its_rows_and_the_version_of_the_lake() {
    let server = server().await;
    let version = server.admin().commit(&Upload::new("kitobo", payments(1000))).await["lake_version"].clone();
    let entry = async |id: &str| {
        for _ in 0..500 {
            let page = server.admin().get("/v1/audit?action=sql.run").await;
            let found =
                page.body["entries"].as_array().unwrap().iter().find(|entry| entry["request_id"] == id).cloned();
            if let Some(found) = found {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{id} is not in the log");
    };
    let sql = "SELECT payment_id FROM payments WHERE site = $1";
    let run = async |id: &str, body: Value| {
        let request = server.admin().request(Method::POST, "/v1/sql").header("x-request-id", id).json(&body);
        request.send().await.unwrap()
    };
    run("whole", json!({"sql": sql, "params": ["Kitobo"]})).await.bytes().await.unwrap();
    let whole = entry("whole").await;
    assert_eq!(whole["parameters"], json!({"sql": sql, "params": ["Kitobo"]}));
    assert_eq!((&whole["rows"], &whole["lake_version"], &whole["status"]), (&json!(1000), &version, &json!(200)));
    assert_eq!(whole["projects"], json!(["kitobo"]));
    // Its rows are known at its end alone.
    let many = json!({"sql": "SELECT a.payment_id FROM payments a, payments b", "format": "csv"});
    run("streamed", many.clone()).await.bytes().await.unwrap();
    let streamed = entry("streamed").await;
    assert_eq!((&streamed["rows"], &streamed["outcome"]), (&json!(1_000_000), &json!("answered")));
    let mut given_up = run("given-up", json!({"sql": STREAM, "format": "csv"})).await;
    given_up.chunk().await.unwrap().unwrap();
    drop(given_up);
    let given_up = entry("given-up").await;
    assert_eq!(given_up["outcome"], "abandoned");
    assert!(given_up["rows"].as_u64().unwrap() > 0, "{given_up}");
}

#[tokio::test]
async fn as_many_run_as_may_and_who_finds_the_line_full_is_told_to_come_again() {
    let server = TestServer::with(|config| {
        (config.sql.concurrency, config.sql.queue, config.sql.organisation_queue) = (1, 1, 1);
    })
    .await;
    server.admin().make_project("kitobo").await;
    server.admin().commit(&Upload::new("kitobo", payments(2000))).await;
    let (one, other) = (server.key_of("main", Role::Analyst).await, server.key_of("main", Role::Analyst).await);
    let mut running = begin(&server.holder(&one), "csv").await;
    running.chunk().await.unwrap().unwrap();
    let holder = server.holder(&other);
    let waiting = ask(&holder, json!({"sql": "SELECT 1"}));
    let refused = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let refused = ask(&server.holder(&one), json!({"sql": "SELECT 1"})).await;
        drop(running);
        refused
    };
    let (waited, refused) = tokio::join!(waiting, refused);
    refused.assert_problem(429, "too_many_queries");
    assert_eq!(refused.header("retry-after"), "1");
    assert!(refused.body["detail"].as_str().unwrap().contains("sql.organisation_queue"), "{}", refused.text);
    assert_eq!(waited.status, 200, "{}", waited.text);
}

#[tokio::test]
async fn a_damaged_file_is_never_read_by_sql_either() {
    let server = server().await;
    server.admin().commit(&Upload::new("kitobo", file(&[row("A1", "10")]))).await;
    let server = server
        .restarted_after(|folder| {
            let partition = folder.join("lake/payments/project_id=kitobo/month=2024-05");
            let file = fs::read_dir(partition).unwrap().next().unwrap().unwrap().path();
            let mut bytes = fs::read(&file).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(&file, bytes).unwrap();
        })
        .await;
    let answer = ask(&server.admin(), json!({"sql": "SELECT sum(amount) FROM payments"})).await;
    answer.assert_problem(503, "data_damaged");
    assert_eq!(answer.body["projects"], json!(["kitobo"]));
}
