//! What is kept of files from query to query: it says the same as the files, and nothing else.

use datafusion::physical_plan::displayable;
use proptest::prelude::*;

use super::lake::{Lake, Payment, default_limits, paid};
use crate::{config::QueryConfig, lake::scan::files_of, query::QueryError};

const SITES: [&str; 3] = ["Hill", "Lake", "A village with a name that is longer than a view holds"];
const METRICS: [&str; 7] = [
    "active_customers",
    "completeness",
    "payments_per_customer",
    "revenue_over_time",
    "revenue_per_site",
    "source_mix",
    "ticket_size",
];

fn payments() -> Vec<Payment> {
    vec![
        paid("kitobo", "2024-04-30T20:00:00Z", "ann", 50),
        paid("kitobo", "2024-04-30T22:00:00Z", "ann", 20),
        paid("kitobo", "2024-05-10T08:00:00Z", "ben", 200),
        paid("kitobo", "2024-05-31T22:00:00Z", "ben", 9),
        paid("zola", "2024-05-01T00:00:00Z", "cat", 5),
        paid("zola", "2024-06-01T00:00:00Z", "cat", 7),
    ]
}

/// The files that a question would open now.
async fn opened(lake: &Lake, metric: &str, pairs: &[(&str, &str)]) -> usize {
    files_of(&lake.plan(metric, pairs).await).len()
}

#[tokio::test]
async fn a_file_is_read_once_for_all_periods_that_hold_it_whole() {
    let lake = Lake::of(&payments()).await;
    assert_eq!(opened(&lake, "revenue_over_time", &[]).await, 4);
    let all = lake.rows("revenue_over_time", &[]).await;
    assert_eq!(opened(&lake, "revenue_over_time", &[]).await, 0);
    assert_eq!(opened(&lake, "revenue_over_time", &[("project", "zola"), ("from", "2024-05")]).await, 0);
    lake.lose_files();
    assert_eq!(lake.rows("revenue_over_time", &[]).await, all);
    assert_eq!(
        lake.rows("revenue_over_time", &[("from", "2024-06"), ("tz", "UTC"), ("project", "zola")]).await,
        ["zola,2024-06-01,KES,7.0000,1"]
    );
    let error = lake.ask("revenue_per_site", &[]).await.unwrap_err();
    assert!(matches!(error, QueryError::Storage(_)), "what was not asked before is not known: {error:?}");
}

#[tokio::test]
async fn a_file_that_a_period_cuts_is_asked_for_its_part() {
    let lake = Lake::of(&payments()).await;
    let all = [("project", "kitobo"), ("grain", "all")];
    assert_eq!(lake.rows("revenue_over_time", &all).await, ["kitobo,,KES,279.0000,4"]);
    let part = [all[0], all[1], ("from", "2024-05"), ("to", "2024-06")];
    assert_eq!(opened(&lake, "revenue_over_time", &part).await, 2, "both months of UTC have a part of May in Nairobi");
    assert_eq!(lake.rows("revenue_over_time", &part).await, ["kitobo,,KES,220.0000,2"]);
    let day = [all[0], all[1], ("from", "2024-05-10"), ("to", "2024-05-11")];
    assert_eq!(lake.rows("revenue_over_time", &day).await, ["kitobo,,KES,200.0000,1"]);
    assert_eq!(lake.rows("revenue_over_time", &all).await, ["kitobo,,KES,279.0000,4"]);
}

#[tokio::test]
async fn another_zone_another_site_and_another_currency_are_other_questions() {
    let mut other = paid("kitobo", "2024-05-31T22:00:00Z", "dan", 1);
    (other.site, other.currency) = ("Lake", "USD");
    let lake = Lake::of(&[payments(), vec![other]].concat()).await;
    let months = async |pairs: &[(&str, &str)]| {
        let pairs = [&[("project", "kitobo")], pairs].concat();
        lake.rows("revenue_over_time", &pairs).await
    };
    let nairobi = months(&[("currency", "KES")]).await;
    assert_eq!(
        nairobi,
        ["kitobo,2024-04-01,KES,50.0000,1", "kitobo,2024-05-01,KES,220.0000,2", "kitobo,2024-06-01,KES,9.0000,1"]
    );
    assert_eq!(
        months(&[("currency", "KES"), ("tz", "UTC")]).await,
        ["kitobo,2024-04-01,KES,70.0000,2", "kitobo,2024-05-01,KES,209.0000,2"]
    );
    assert_eq!(months(&[("site", "Lake")]).await, ["kitobo,2024-06-01,USD,1.0000,1"]);
    assert_eq!(months(&[("currency", "KES")]).await, nairobi);
}

#[tokio::test]
async fn what_is_kept_stays_within_its_bytes_and_is_forgotten_when_told() {
    let limits = |partials_bytes| QueryConfig { partials_bytes, target_partitions: 2, ..default_limits() };
    let lake = Lake::of(&payments()).await;
    let all = lake.rows("payments_per_customer", &[]).await;
    let room = lake.engine.partials_bytes();
    assert!(room > 0);
    let lake = lake.limited(limits(room - 1));
    for _ in 0..3 {
        assert_eq!(lake.rows("payments_per_customer", &[]).await, all);
        assert!((1..room).contains(&lake.engine.partials_bytes()));
    }
    lake.engine.forget();
    assert_eq!(lake.engine.partials_bytes(), 0);
    assert_eq!(opened(&lake, "payments_per_customer", &[]).await, 4);
    let lake = lake.limited(limits(0));
    assert_eq!(lake.rows("payments_per_customer", &[]).await, all);
    assert_eq!(lake.engine.partials_bytes(), 0);
}

#[tokio::test]
async fn a_query_that_ran_while_all_was_forgotten_keeps_nothing() {
    let lake = Lake::of(&payments()).await;
    let rows = lake.rows_interrupted("payments_per_customer", &[], || lake.engine.forget()).await;
    assert_eq!(rows, lake.rows_afresh("payments_per_customer", &[]).await);
    assert_eq!(lake.engine.partials_bytes(), 0);
}

#[tokio::test]
async fn what_files_say_counts_to_the_memory_of_queries() {
    let customers: Vec<String> = (0..400).map(|customer| format!("customer {customer} of a long list")).collect();
    let customers: &'static [String] = customers.leak();
    let months =
        (1..=9).flat_map(|month| [format!("2024-0{month}-10T08:00:00Z"), format!("2025-0{month}-10T08:00:00Z")]);
    let months: Vec<&'static str> = months.map(|month| &*month.leak()).collect();
    let of_month = |month: &&'static str| customers.iter().map(|name| paid("zola", month, name, 1)).collect::<Vec<_>>();
    let payments: Vec<Payment> = months.iter().flat_map(of_month).collect();
    let limits = |memory_bytes| QueryConfig { memory_bytes, target_partitions: 1, ..default_limits() };
    let lake = Lake::of(&payments).await.limited(limits(64 << 20));
    assert_eq!(lake.rows("payments_per_customer", &[]).await.len(), 400);
    let tight = lake.engine.partials_bytes() * 2 / 3;
    let lake = lake.limited(limits(tight));
    assert_eq!(lake.rows("payments_per_customer", &[("to", "2024-03")]).await.len(), 400, "a few files do");
    let error = lake.ask("payments_per_customer", &[]).await.unwrap_err();
    assert!(matches!(error, QueryError::Resources(_)), "{error:?}");
}

#[tokio::test]
async fn constants_of_a_file_are_no_columns_of_its_scan() {
    let lake = Lake::of(&payments()).await;
    let plan = lake.plan("revenue_per_site", &[("from", "2024-04"), ("to", "2030-01")]).await;
    let shown = displayable(plan.as_ref()).indent(false).to_string();
    let scan = shown.lines().find(|line| line.contains("DataSourceExec")).unwrap();
    assert!(scan.contains("projection=[site, amount, currency, settlement]"), "{shown}");
    let plan = lake.plan("ticket_size", &[]).await;
    let shown = displayable(plan.as_ref()).indent(false).to_string();
    assert!(!shown.contains("paid_at"), "one bucket for everything asks for no time: {shown}");
}

pub(super) fn any_payment() -> impl Strategy<Value = Payment> {
    let instants = [
        "2024-03-31T20:59:59Z",
        "2024-03-31T21:00:00Z",
        "2024-04-01T00:00:00Z",
        "2024-04-25T22:30:00Z",
        "2024-05-15T12:00:00Z",
        "2024-05-31T23:59:59.999999Z",
        "2024-06-30T21:00:00Z",
    ];
    let sources = [(Some("M-PESA"), "mpesa"), (Some("Mpesa"), "mpesa"), (None, "unknown")];
    (
        prop::sample::select(vec!["kitobo", "cairo", "zola"]),
        prop::sample::select(instants.to_vec()),
        prop::sample::select(vec!["ann", "ben", "a customer whose name is longer than twelve bytes"]),
        -3_i128..9,
        prop::sample::select(SITES.to_vec()),
        prop::sample::select(vec!["KES", "USD"]),
        prop::sample::select(vec!["settled", "settled", "failed"]),
        prop::sample::select(sources.to_vec()),
    )
        .prop_map(|(project, paid_at, customer, amount, site, currency, settlement, source)| Payment {
            currency,
            site,
            source,
            settlement,
            ..paid(project, paid_at, customer, amount)
        })
}

pub(super) type Pairs = Vec<(&'static str, &'static str)>;

pub(super) fn any_question() -> impl Strategy<Value = (&'static str, Pairs)> {
    let one = |name: &'static str, values: &[&'static str]| {
        prop::option::of(prop::sample::select(values.to_vec()).prop_map(move |value| (name, value)))
    };
    let parameters = (
        one("project", &["kitobo", "cairo", "zola"]),
        one("from", &["2024-03", "2024-04", "2024-04-26", "2024-05-15T12:00:00Z"]),
        one("to", &["2024-06", "2024-06-01T00:00:00Z", "2024-07", "2025-01"]),
        one("tz", &["UTC", "Africa/Cairo", "Asia/Kathmandu"]),
        one("site", &SITES),
        one("currency", &["KES", "USD"]),
        one("grain", &["day", "month", "all"]),
    );
    (prop::sample::select(METRICS.to_vec()), parameters)
        .prop_map(|(metric, (a, b, c, d, e, f, g))| (metric, [a, b, c, d, e, f, g].into_iter().flatten().collect()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_was_asked_before_an_answer_is_that_of_the_files(
        payments in prop::collection::vec(any_payment(), 1..40),
        questions in prop::collection::vec(any_question(), 1..24),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let lake = Lake::of(&payments).await;
            for (metric, pairs) in questions {
                let takes = |(name, value): &(&str, &str)| match *name {
                    "project" => lake.projects.iter().any(|project| project.slug.as_str() == *value),
                    name => lake.metric(metric).takes(name),
                };
                let pairs: Pairs = pairs.into_iter().filter(takes).collect();
                let plainly = lake.rows_afresh(metric, &pairs).await;
                prop_assert_eq!(lake.rows(metric, &pairs).await, plainly, "{} {:?}", metric, pairs);
            }
            Ok(())
        })?;
    }
}
