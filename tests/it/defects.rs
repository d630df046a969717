//! What real files have wrong with them, each sent as a form: taken in as it was meant, or refused with its place and
//! reason. Never guessed, never silently dropped.

use serde_json::{Value, json};

use crate::harness::{HEADER, TestServer, Upload, counts, file, paid, row};

async fn server() -> TestServer {
    let server = TestServer::start().await;
    server.admin().make_project("kitobo").await;
    server
}

/// A row with the ID `bad` and one field as it is given, quotes and all.
fn row_with(column: &str, field: impl AsRef<[u8]>) -> Vec<u8> {
    let good = row("bad", "7.00");
    let fields: Vec<&[u8]> = good.split(',').map(str::as_bytes).collect();
    let at = HEADER.split(',').position(|name| name == column).unwrap();
    let fields: Vec<&[u8]> = fields.iter().enumerate().map(|(i, f)| if i == at { field.as_ref() } else { f }).collect();
    fields.join(&b","[..])
}

/// A good row, the bad one on line 3, a good row.
fn around(bad: &[u8]) -> Vec<u8> {
    [&file(&[row("A1", "100.00")]), bad, b"\n", row("A2", "50.50").as_bytes(), b"\n"].concat()
}

#[track_caller]
fn find(file: &[u8], needle: &[u8]) -> usize {
    file.windows(needle.len()).position(|window| window == needle).expect("the value is in the file")
}

/// The first error of a report.
#[track_caller]
fn assert_first(report: &Value, line: u64, byte: usize, column: Option<&str>, code: &str) {
    let first = &report["errors"][0];
    let found = (&first["line"], &first["byte"], &first["column"], &first["code"]);
    assert_eq!(found, (&json!(line), &json!(byte), &json!(column), &json!(code)), "{report}");
    assert!(first["message"].as_str().unwrap().len() > 15, "it says what to do: {first}");
}

/// Asserts that a file is refused with this first error, is kept, and is not in the lake. Gives the upload's id.
async fn assert_refused(
    server: &TestServer,
    upload: &Upload,
    place: (u64, usize, Option<&str>),
    code: &str,
    expected: [u64; 5],
) -> String {
    let admin = server.admin();
    let (line, byte, column) = place;
    let answer = admin.upload(upload).await;
    answer.assert_problem(422, "upload_rejected");
    assert_first(&answer.body, line, byte, column, code);
    assert_eq!(counts(&answer.body), expected, "{}", answer.text);
    assert!(answer.body["detail"].as_str().unwrap().contains(&format!("line {line}")), "{}", answer.text);
    let id = answer.body["upload_id"].as_str().unwrap().to_owned();
    let kept = admin.get(&format!("/v1/uploads/{id}")).await.body;
    assert_eq!((&kept["status"], &kept["lake_version"]), (&json!("rejected"), &Value::Null));
    assert_eq!((&kept["counts"], &kept["errors"]), (&answer.body["counts"], &answer.body["errors"]));
    let bytes = admin.request(reqwest::Method::GET, &format!("/v1/uploads/{id}/file")).send().await.unwrap();
    assert_eq!(bytes.bytes().await.unwrap(), upload.file);
    assert!(admin.figures("payments_per_customer", "customer_id").await.is_empty());
    assert_eq!(admin.lake_version().await, 0);
    id
}

/// Asserts that a bad row keeps its file out, is kept with its reason, and may be left out with `skip_rows`.
async fn assert_row_refused(bad: &[u8], at: &[u8], column: Option<&str>, code: &str) {
    let server = server().await;
    let upload = Upload::new("kitobo", around(bad));
    let place = (3, find(&upload.file, at), column);
    let id = assert_refused(&server, &upload, place, code, [3, 2, 0, 0, 1]).await;

    let skipped = server.admin().commit(&upload.with("on_error", "skip_rows")).await;
    assert_eq!(counts(&skipped), [3, 2, 0, 0, 1]);
    assert_first(&skipped, place.0, place.1, column, code);
    assert_eq!(server.admin().figures("revenue_per_site", "revenue").await, ["150.5000"]);
    for id in [&id, skipped["id"].as_str().unwrap()] {
        let rejected = server.admin().get(&format!("/v1/uploads/{id}/rejected.csv")).await;
        assert_eq!(rejected.header("content-type"), "text/csv; charset=utf-8");
        let mut reader = csv::Reader::from_reader(rejected.text.as_bytes());
        let header: Vec<_> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        let names: Vec<_> = HEADER.split(',').chain(["line", "column", "code", "message"]).collect();
        assert_eq!(header, names);
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 1, "{}", rejected.text);
        let reason: Vec<_> = rows[0].iter().skip(14).take(3).collect();
        assert_eq!(reason, ["3", column.unwrap_or_default(), code], "{}", rejected.text);
        assert!(rows[0].iter().take(14).any(|field| field == "bad"), "{}", rejected.text);
    }
}

/// The same for a value, without `skip_rows`.
async fn assert_field_refused(column: &str, field: &str, code: &str) {
    let bad = row_with(column, field);
    let server = server().await;
    let upload = Upload::new("kitobo", around(&bad));
    // Looked for in its own row, because a short value may stand in another one too.
    let place = (3, find(&upload.file, &bad) + find(&bad, field.as_bytes()), Some(column));
    assert_refused(&server, &upload, place, code, [3, 2, 0, 0, 1]).await;
}

/// Asserts that a file as a whole is refused, whatever is to be done with bad rows.
async fn assert_file_refused(file: impl Into<Vec<u8>>, place: (u64, usize, Option<&str>), code: &str, rows: u64) {
    let server = server().await;
    let upload = Upload::new("kitobo", file);
    for on_error in ["reject_file", "skip_rows"] {
        let upload = upload.clone().with("on_error", on_error);
        assert_refused(&server, &upload, place, code, [rows, 0, 0, 0, rows]).await;
    }
}

/// Takes a file in that has the payments `A1` of 100 and `A2` of 50.50 of May 2024, and gives its report.
async fn assert_fine(bytes: impl Into<Vec<u8>>) -> Value {
    let server = server().await;
    let report = server.admin().commit(&Upload::new("kitobo", bytes)).await;
    assert_eq!(counts(&report), [2, 2, 0, 0, 0]);
    assert_eq!((&report["status"], &report["months"]), (&json!("committed"), &json!(["2024-05"])));
    let figures = server.admin().figures("payments_per_customer", "customer_id amount").await;
    assert_eq!(figures, ["C-A1 100.0000", "C-A2 50.5000"]);
    report
}

fn good() -> Vec<u8> {
    file(&[row("A1", "100.00"), row("A2", "50.50")])
}

fn good_text() -> String {
    String::from_utf8(good()).unwrap()
}

#[tokio::test]
async fn a_byte_order_mark_is_no_part_of_the_first_name() {
    assert_fine([b"\xef\xbb\xbf", &good()[..]].concat()).await;
}

#[tokio::test]
async fn crlf_line_ends_are_fine() {
    assert_fine(good_text().replace('\n', "\r\n")).await;
}

#[tokio::test]
async fn a_missing_last_newline_is_fine() {
    assert_fine(good_text().trim_end()).await;
}

#[tokio::test]
async fn blank_lines_are_passed_over() {
    assert_fine(good_text().replace('\n', "\n\n\r\n")).await;
}

#[tokio::test]
async fn columns_may_stand_in_another_order_and_optional_ones_be_absent() {
    assert_fine(
        "CUSTOMER NAME,PAYMENT_AMOUNT,CUSTOMER_ID,METER_ID,ID,TIMESTAMP\n\
         Amina,100.00,C-A1,00104,A1,2024-05-03T10:00:00\nAmina,50.50,C-A2,00104,A2,2024-05-03T10:00:00\n",
    )
    .await;
}

#[tokio::test]
async fn quoted_values_may_hold_line_breaks_commas_and_quotes() {
    assert_fine(good_text().replace("Amina Otieno", "\"Amina,\n\"\"Mama\"\"\r\nOtieno\"")).await;
}

#[tokio::test]
async fn an_error_after_a_quoted_line_break_has_the_line_where_its_row_starts() {
    let server = server().await;
    let file = file(&[row("A1", "1").replace("Kitobo", "\"a\nb\""), row("A2", "x")]);
    let place = (4, find(&file, b",x,") + 1, Some("PAYMENT_AMOUNT"));
    assert_refused(&server, &Upload::new("kitobo", file), place, "bad_amount", [2, 1, 0, 0, 1]).await;
}

#[tokio::test]
async fn both_timestamp_forms_mix_and_an_offset_moves_a_payment_into_its_utc_month() {
    let server = server().await;
    let rows = [
        paid("A1", "2024-05-01 01:30:00+03:00", "1", ""),
        paid("A2", "2024-04-30T23:30:00-01:00", "2", ""),
        paid("A3", "2024-05-01T00:00:00Z", "4", ""),
        paid("A4", "2024-05-01 00:00:00+00:00", "8", ""),
    ];
    let report = server.admin().commit(&Upload::new("kitobo", file(&rows))).await;
    assert_eq!(report["months"], json!(["2024-04", "2024-05"]));
    let months = server.admin().figures("revenue_over_time?grain=month&tz=UTC", "period revenue").await;
    assert_eq!(months, ["2024-04-01 1.0000", "2024-05-01 14.0000"]);
}

#[tokio::test]
async fn refunds_subtract_and_only_settled_words_are_revenue() {
    let server = server().await;
    let statuses = ["", "success", "Completed", "PENDING", "failed", "Reversed", "MAYBE"];
    let mut rows: Vec<_> =
        (1..).zip(statuses).map(|(n, status)| paid(&format!("A{n}"), "2024-05-03T10:00:00", "100", status)).collect();
    rows.push(row("A8", "-30.25"));
    let report = server.admin().commit(&Upload::new("kitobo", file(&rows))).await;
    assert_eq!(counts(&report), [8, 8, 0, 0, 0]);
    let warnings = report["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{report}");
    let warning = &warnings[0];
    assert_eq!((&warning["code"], &warning["value"]), (&json!("unknown_status"), &json!("MAYBE")));
    assert_eq!((&warning["count"], &warning["line"], &warning["column"]), (&json!(1), &json!(8), &json!("STATUS")));
    assert_eq!(server.admin().figures("revenue_per_site", "revenue payments").await, ["269.7500 4"]);
}

#[tokio::test]
async fn spellings_of_a_source_are_one_and_the_raw_ones_stay() {
    let server = server().await;
    let spell = |id: &str, spelling: &str| row(id, "10").replace("M-PESA", spelling);
    let rows = [spell("A1", "MPESA"), spell("A2", "m-pesa"), spell("A3", "Carrier Pigeon"), spell("A4", "")];
    let report = server.admin().commit(&Upload::new("kitobo", file(&rows))).await;
    assert_eq!(report["warnings"].as_array().unwrap().len(), 1);
    assert_eq!(report["warnings"][0]["code"], "unknown_source");
    let mix = server.admin().figures("source_mix", "source payments spellings").await;
    assert_eq!(mix, ["mpesa 2 MPESA | m-pesa", "other 1 Carrier Pigeon", "unknown 1 "]);
}

#[tokio::test]
async fn text_that_a_spreadsheet_would_run_is_kept_with_a_warning() {
    let report = assert_fine(good_text().replacen("Amina Otieno", "=cmd|'/c calc'!A1", 1)).await;
    let warning = &report["warnings"][0];
    assert_eq!(
        (&warning["code"], &warning["column"], &warning["line"]),
        (&json!("formula_text"), &json!("CUSTOMER NAME"), &json!(2))
    );
}

#[tokio::test]
async fn a_meter_and_an_id_in_two_projects_are_payments_of_each() {
    let server = server().await;
    server.admin().make_project("zola").await;
    server.admin().commit(&Upload::new("kitobo", file(&[row("A1", "10"), row("A2", "5")]))).await;
    let report = server.admin().commit(&Upload::new("zola", file(&[row("A1", "7")]))).await;
    assert_eq!(counts(&report), [1, 1, 0, 0, 0]);
    let customers = server.admin().figures("payments_per_customer", "project customer_id amount").await;
    assert_eq!(customers, ["kitobo C-A1 10.0000", "kitobo C-A2 5.0000", "zola C-A1 7.0000"]);
}

#[tokio::test]
async fn ids_keep_their_zeros_and_spaces() {
    let server = server().await;
    let rows = ["00123", "123", "123 "].map(|id| row(&format!("T{id}"), "1").replace(&format!("C-T{id}"), id));
    let report = server.admin().commit(&Upload::new("kitobo", file(&rows))).await;
    assert_eq!(report["warnings"][0]["code"], "padded_value");
    let customers = server.admin().figures("payments_per_customer", "customer_id").await;
    assert_eq!(customers, ["00123", "123", "123 "]);
}

#[tokio::test]
async fn an_amount_is_a_plain_number() {
    for (field, code) in [
        ("\"1,50\"", "amount_decimal_comma"),
        ("\"1.000,00\"", "amount_thousands"),
        ("\"1,250.00\"", "amount_thousands"),
        ("₦500", "amount_currency"),
        ("1.5e3", "amount_exponent"),
        ("1.23456", "amount_decimals"),
    ] {
        assert_field_refused("PAYMENT_AMOUNT", field, code).await;
    }
    let naira = row_with("PAYMENT_AMOUNT", "₦500");
    assert_row_refused(&naira, "₦500".as_bytes(), Some("PAYMENT_AMOUNT"), "amount_currency").await;
}

#[tokio::test]
async fn a_decimal_comma_without_quotes_is_a_field_too_many() {
    let bad = row_with("PAYMENT_AMOUNT", "1,50");
    assert_row_refused(&bad, &bad, None, "long_row").await;
}

#[tokio::test]
async fn a_meter_that_a_spreadsheet_destroyed_is_refused() {
    assert_row_refused(&row_with("METER_ID", "4.6E+10"), b"4.6E+10", Some("METER_ID"), "scientific_notation").await;
}

#[tokio::test]
async fn a_required_value_is_not_blank() {
    assert_field_refused("CUSTOMER_ID", "   ", "missing_value").await;
    let bad = row_with("CUSTOMER NAME", "");
    assert_row_refused(&bad, b",,M-PESA,,7.00", Some("CUSTOMER NAME"), "missing_value").await;
}

#[tokio::test]
async fn a_timestamp_has_one_of_the_two_forms_and_is_a_real_and_likely_day() {
    for (field, code) in [
        ("31/12/2024", "bad_timestamp"),
        ("2024-02-30T10:00:00", "impossible_timestamp"),
        ("0024-05-03 10:00:00+00:00", "timestamp_out_of_range"),
        ("2124-05-03T10:00:00", "timestamp_out_of_range"),
    ] {
        assert_field_refused("TIMESTAMP", field, code).await;
    }
}

#[tokio::test]
async fn latin_1_is_refused_where_it_stands() {
    let bad = row_with("CUSTOMER NAME", b"Jos\xe9");
    assert_row_refused(&bad, b"Jos\xe9", Some("CUSTOMER NAME"), "not_utf8").await;
}

#[tokio::test]
async fn a_nul_byte_is_refused_where_it_stands() {
    assert_row_refused(&row_with("NOTES", b"a\0b"), b"a\0b", Some("NOTES"), "nul_byte").await;
}

#[tokio::test]
async fn a_row_has_as_many_fields_as_the_header() {
    assert_row_refused(b"2024-05-03T10:00:00,bad,00104", b"2024-05-03T10:00:00,bad,00104", None, "short_row").await;
    let long = [&row("bad", "7.00"), ",extra"].concat();
    assert_row_refused(long.as_bytes(), long.as_bytes(), None, "long_row").await;
}

#[tokio::test]
async fn a_file_that_was_cut_in_a_row_is_refused() {
    let server = server().await;
    let whole = around(row("bad", "7.00").as_bytes());
    let cut = &whole[..whole.len() - "50.50,,SUCCESS,,Kitobo\n".len()];
    let place = (4, find(cut, row("A2", "").split_once(",,,").unwrap().0.as_bytes()), None);
    assert_refused(&server, &Upload::new("kitobo", cut), place, "short_row", [3, 2, 0, 0, 1]).await;
}

#[tokio::test]
async fn utf_16_is_refused_with_and_without_its_mark() {
    let wide = |to: fn(u16) -> [u8; 2]| good_text().encode_utf16().flat_map(to).collect::<Vec<u8>>();
    let (little, big) = (wide(u16::to_le_bytes), wide(u16::to_be_bytes));
    for bytes in [[b"\xff\xfe", &little[..]].concat(), [b"\xfe\xff", &big[..]].concat(), little, big] {
        assert_file_refused(bytes, (1, 0, None), "utf16", 0).await;
    }
}

#[tokio::test]
async fn semicolons_and_tabs_divide_no_columns() {
    for delimiter in [";", "\t"] {
        assert_file_refused(good_text().replace(',', delimiter), (1, 9, None), "wrong_delimiter", 0).await;
    }
}

#[tokio::test]
async fn an_unterminated_quote_is_refused_where_it_opens() {
    let bytes = good_text().replace("A2,00104,,C-A2,Amina", "A2,00104,,C-A2,\"Amina").into_bytes();
    let place = (3, find(&bytes, b"\"Amina"), None);
    assert_file_refused(bytes, place, "unterminated_quote", 1).await;
}

#[tokio::test]
async fn an_empty_file_and_a_header_alone_are_refused() {
    assert_file_refused("", (1, 0, None), "empty_file", 0).await;
    assert_file_refused("\r\n\n", (1, 0, None), "empty_file", 0).await;
    assert_file_refused(HEADER, (1, 0, None), "no_rows", 0).await;
    assert_file_refused(format!("{HEADER}\r\n\r\n"), (1, 0, None), "no_rows", 0).await;
}

#[tokio::test]
async fn a_workbook_and_old_line_ends_are_refused_for_what_they_are() {
    assert_file_refused(*b"PK\x03\x04\x14\0\0\0", (1, 0, None), "not_csv", 0).await;
    assert_file_refused(good_text().replace('\n', "\r"), (1, 0, None), "cr_line_ends", 0).await;
}

#[tokio::test]
async fn a_header_is_exact_and_the_right_name_is_told() {
    for (from, to, code, right) in [
        ("CUSTOMER NAME", "CUSTOMER_NAME", "unknown_column", "\"CUSTOMER NAME\""),
        ("CUSTOMER NAME", " CUSTOMER NAME", "padded_column", "\"CUSTOMER NAME\""),
        ("METER_ID", "Meter_id", "wrong_case_column", "\"METER_ID\""),
        ("STATUS", "STATSU", "unknown_column", "\"STATUS\""),
        ("NOTES", "STATUS", "repeated_column", "column 12"),
    ] {
        let file = good_text().replacen(from, to, 1);
        let at = HEADER.replacen(from, to, 1).rfind(to).unwrap();
        let server = server().await;
        let answer = server.admin().upload(&Upload::new("kitobo", file.clone())).await;
        assert!(answer.body["errors"][0]["message"].as_str().unwrap().contains(right), "{}", answer.text);
        assert_file_refused(file, (1, at, Some(to)), code, 0).await;
    }
    let without = good_text().replace("METER_ID,", "").replace(",00104", "");
    assert_file_refused(without, (1, 0, Some("METER_ID")), "missing_column", 0).await;
}

#[tokio::test]
async fn a_file_has_the_one_name() {
    let server = server().await;
    let upload = Upload { file_name: "electricity_payment.csv".to_owned(), ..Upload::new("kitobo", good()) };
    let answer = server.admin().upload(&upload).await;
    answer.assert_problem(422, "wrong_file_name");
    assert!(answer.body["detail"].as_str().unwrap().contains("ELECTRICITY_PAYMENT.csv"));
    assert_eq!(server.admin().get("/v1/uploads").await.body["uploads"], json!([]));
}
