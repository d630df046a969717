//! The exact figures of each metric.

use super::lake::{Lake, Payment, UPLOADS, paid};

/// Two currencies, refunds, other settlements, and offsets over a month's edge, in two projects.
fn payments() -> Vec<Payment> {
    let with = |payment: Payment, change: fn(&mut Payment)| {
        let mut payment = payment;
        change(&mut payment);
        payment
    };
    vec![
        paid("kitobo", "2024-04-30T20:59:59Z", "ann", 100),
        // The first of May in Nairobi, still April in UTC.
        paid("kitobo", "2024-04-30T21:00:00Z", "ann", 50),
        paid("kitobo", "2024-05-10T08:00:00Z", "ben", 200),
        with(paid("kitobo", "2024-05-11T08:00:00Z", "ben", -30), |p| p.source = (Some("Mpesa"), "mpesa")),
        with(paid("kitobo", "2024-05-12T08:00:00Z", "cat", 7), |p| {
            p.amount = 70_001;
            p.currency = "USD";
            p.source = (None, "cash");
        }),
        with(paid("kitobo", "2024-05-13T08:00:00Z", "dan", 1000), |p| p.settlement = "failed"),
        with(paid("kitobo", "2024-05-13T08:00:01Z", "dan", 1000), |p| p.settlement = "pending"),
        with(paid("kitobo", "2024-05-13T08:00:02Z", "dan", 1000), |p| p.settlement = "unknown"),
        with(paid("kitobo", "2024-05-14T08:00:00Z", "eve", 80), |p| {
            p.site = "Lake";
            p.source = (Some("CASH"), "cash");
            p.upload = UPLOADS[1];
        }),
        paid("zola", "2024-07-01T00:00:00Z", "ann", 5),
    ]
}

#[tokio::test]
async fn revenue_is_settled_and_net_of_refunds_per_site_and_currency() {
    let lake = Lake::of(&payments()).await;
    assert_eq!(
        lake.rows("revenue_per_site", &[]).await,
        [
            "kitobo,Hill,KES,320.0000,4",
            "kitobo,Hill,USD,7.0001,1",
            "kitobo,Lake,KES,80.0000,1",
            "zola,Hill,KES,5.0000,1"
        ]
    );
    assert_eq!(
        lake.rows("revenue_per_site", &[("order", "-revenue"), ("currency", "kes"), ("site", "Hill"), ("limit", "1")])
            .await,
        ["kitobo,Hill,KES,320.0000,4"]
    );
}

#[tokio::test]
async fn a_period_is_counted_in_local_days() {
    let lake = Lake::of(&payments()).await;
    assert_eq!(
        lake.rows("revenue_per_site", &[("from", "2024-05"), ("to", "2024-06"), ("currency", "KES")]).await,
        ["kitobo,Hill,KES,220.0000,3", "kitobo,Lake,KES,80.0000,1"],
        "the payment of 21:00 UTC is of May in Nairobi"
    );
    assert_eq!(
        lake.rows("revenue_over_time", &[("project", "kitobo"), ("currency", "KES")]).await,
        ["kitobo,2024-04-01,KES,100.0000,1", "kitobo,2024-05-01,KES,300.0000,4"]
    );
    assert_eq!(
        lake.rows("revenue_over_time", &[("project", "kitobo"), ("currency", "KES"), ("tz", "UTC")]).await,
        ["kitobo,2024-04-01,KES,150.0000,2", "kitobo,2024-05-01,KES,250.0000,3"]
    );
    assert_eq!(
        lake.rows("revenue_over_time", &[("grain", "all"), ("currency", "USD")]).await,
        ["kitobo,,USD,7.0001,1"]
    );
}

#[tokio::test]
async fn a_day_of_summer_time_has_its_own_length() {
    let at = |paid_at| paid("cairo", paid_at, "ann", 1);
    // Egypt's clocks skip from midnight of 26 April 2024 to one o'clock: that day is 22:00 to 21:00 UTC.
    let lake = Lake::of(&[
        at("2024-04-25T21:59:59Z"),
        at("2024-04-25T22:00:00Z"),
        at("2024-04-26T20:59:59Z"),
        at("2024-04-26T21:00:00Z"),
    ])
    .await;
    assert_eq!(
        lake.rows("revenue_over_time", &[("grain", "day")]).await,
        ["cairo,2024-04-25,KES,1.0000,1", "cairo,2024-04-26,KES,2.0000,2", "cairo,2024-04-27,KES,1.0000,1"]
    );
    assert_eq!(
        lake.rows("revenue_per_site", &[("from", "2024-04-26"), ("to", "2024-04-27")]).await,
        ["cairo,Hill,KES,2.0000,2"]
    );
}

#[tokio::test]
async fn a_customer_has_count_sum_first_and_last() {
    let lake = Lake::of(&payments()).await;
    assert_eq!(
        lake.rows("payments_per_customer", &[("project", "kitobo"), ("site", "Hill")]).await,
        [
            "kitobo,ann,KES,2,150.0000,2024-04-30T20:59:59Z,2024-04-30T21:00:00Z",
            "kitobo,ben,KES,2,170.0000,2024-05-10T08:00:00Z,2024-05-11T08:00:00Z",
            "kitobo,cat,USD,1,7.0001,2024-05-12T08:00:00Z,2024-05-12T08:00:00Z"
        ]
    );
}

#[tokio::test]
async fn the_source_mix_shares_amounts_and_counts_and_keeps_the_spellings() {
    let lake = Lake::of(&payments()).await;
    assert_eq!(
        lake.rows("source_mix", &[("project", "kitobo")]).await,
        [
            "kitobo,KES,cash,80.0000,1,0.200000,0.200000,CASH",
            "kitobo,KES,mpesa,320.0000,4,0.800000,0.800000,M-PESA | Mpesa",
            "kitobo,USD,cash,7.0001,1,1.000000,1.000000,"
        ]
    );
    let zero =
        Lake::of(&[paid("zola", "2024-05-01T00:00:00Z", "a", 9), paid("zola", "2024-05-02T00:00:00Z", "a", -9)]).await;
    assert_eq!(zero.rows("source_mix", &[]).await, ["zola,KES,mpesa,0.0000,2,,1.000000,M-PESA"]);
}

#[tokio::test]
async fn active_customers_are_distinct_in_the_period_or_the_last_days() {
    let lake = Lake::of(&payments()).await;
    assert_eq!(lake.rows("active_customers", &[]).await, ["kitobo,,4"], "of the 30 days before 20 May");
    assert_eq!(lake.rows("active_customers", &[("days", "8")]).await, ["kitobo,,1"], "13 to 20 May");
    assert_eq!(
        lake.rows("active_customers", &[("grain", "month")]).await,
        ["kitobo,2024-04-01,1", "kitobo,2024-05-01,4", "zola,2024-07-01,1"]
    );
    assert_eq!(lake.rows("active_customers", &[("from", "2024-04-01")]).await, ["kitobo,,4", "zola,,1"]);
    let answer = lake.ask("active_customers", &[("project", "kitobo")]).await.unwrap();
    assert_eq!(answer.parameters["from"], "2024-04-21");
    assert_eq!(answer.parameters["to"], "2024-05-21");
}

#[tokio::test]
async fn ticket_sizes_are_exact_and_rounded_once() {
    let exact = |amounts: &[i128]| {
        let at = |amount: &i128| {
            let mut payment = paid("zola", "2024-05-01T00:00:00Z", "a", 0);
            payment.amount = *amount;
            payment
        };
        amounts.iter().map(at).collect::<Vec<_>>()
    };
    let rows = async |amounts: &[i128]| Lake::of(&exact(amounts)).await.rows("ticket_size", &[]).await;
    assert_eq!(rows(&[10_000]).await, ["zola,,KES,1,1.0000,1.0000,1.0000"]);
    // The mean and the median of 1.0000 and 1.0001 lie half way: away from zero.
    assert_eq!(rows(&[10_000, 10_001]).await, ["zola,,KES,2,1.0001,1.0001,1.0001"]);
    assert_eq!(rows(&[-10_000, -10_001]).await, ["zola,,KES,2,-1.0001,-1.0001,-1.0000"]);
    // A third is cut to 0.33333333 before it is rounded.
    assert_eq!(rows(&[0, 0, 10_000]).await, ["zola,,KES,3,0.3333,0.0000,1.0000"]);
    let ten: Vec<i128> = (1..=10).map(|amount| amount * 10_000).collect();
    assert_eq!(rows(&ten).await, ["zola,,KES,10,5.5000,5.5000,9.0000"]);
    let eleven: Vec<i128> = (1..=11).map(|amount| amount * 10_000).collect();
    assert_eq!(rows(&eleven).await, ["zola,,KES,11,6.0000,6.0000,10.0000"]);
}

#[tokio::test]
async fn a_month_without_data_is_shown_and_is_not_zero_revenue() {
    let lake = Lake::of(&payments()).await;
    assert_eq!(
        lake.rows("completeness", &[]).await,
        [
            "kitobo,Hill,2024-04-01,1,2024-04-30T20:59:59Z,2024-04-30T20:59:59Z,2024-06-01T08:00:00Z",
            "kitobo,Hill,2024-05-01,7,2024-04-30T21:00:00Z,2024-05-13T08:00:02Z,2024-06-01T08:00:00Z",
            "kitobo,Hill,2024-06-01,0,,,",
            "kitobo,Hill,2024-07-01,0,,,",
            "kitobo,Lake,2024-04-01,0,,,",
            "kitobo,Lake,2024-05-01,1,2024-05-14T08:00:00Z,2024-05-14T08:00:00Z,2024-07-01T08:00:00Z",
            "kitobo,Lake,2024-06-01,0,,,",
            "kitobo,Lake,2024-07-01,0,,,",
            "zola,Hill,2024-04-01,0,,,",
            "zola,Hill,2024-05-01,0,,,",
            "zola,Hill,2024-06-01,0,,,",
            "zola,Hill,2024-07-01,1,2024-07-01T00:00:00Z,2024-07-01T00:00:00Z,2024-06-01T08:00:00Z",
        ]
    );
    assert_eq!(
        lake.rows(
            "completeness",
            &[("from", "2024-06"), ("to", "2024-09"), ("project", "zola"), ("project", "kitobo")]
        )
        .await,
        [
            "kitobo,Hill,2024-06-01,0,,,",
            "kitobo,Hill,2024-07-01,0,,,",
            "kitobo,Hill,2024-08-01,0,,,",
            "kitobo,Lake,2024-06-01,0,,,",
            "kitobo,Lake,2024-07-01,0,,,",
            "kitobo,Lake,2024-08-01,0,,,",
            "zola,Hill,2024-06-01,0,,,",
            "zola,Hill,2024-07-01,1,2024-07-01T00:00:00Z,2024-07-01T00:00:00Z,2024-06-01T08:00:00Z",
            "zola,Hill,2024-08-01,0,,,",
        ]
    );
}

#[tokio::test]
async fn a_site_that_fell_silent_is_shown_in_every_period_that_is_asked() {
    let lake = Lake::of(&payments()).await;
    let silent = ["kitobo,Hill,2024-06-01,0,,,", "kitobo,Lake,2024-06-01,0,,,"];
    let june = [("project", "kitobo"), ("from", "2024-06"), ("to", "2024-07")];
    assert_eq!(lake.rows("completeness", &june).await, silent);
    assert_eq!(lake.rows("completeness", &june[..2]).await, silent, "no data reaches June, and it was asked for");
    let lake_alone = [june[0], june[1], june[2], ("site", "Lake")];
    assert_eq!(lake.rows("completeness", &lake_alone).await, silent[1..]);
    assert_eq!(
        lake.rows("completeness", &[("project", "kitobo"), ("to", "2024-04")]).await,
        ["kitobo,Hill,2024-03-01,0,,,", "kitobo,Lake,2024-03-01,0,,,"]
    );
}

#[tokio::test]
async fn each_project_has_the_months_of_its_own_zone() {
    let lake = Lake::of(&payments()).await;
    // From 21:00 UTC of the last of May it is June in Nairobi, and May in UTC.
    let asked = [("from", "2024-05-31T21:00:00Z"), ("to", "2024-06-30T21:00:00Z")];
    assert_eq!(
        lake.rows("completeness", &asked).await,
        [
            "kitobo,Hill,2024-06-01,0,,,",
            "kitobo,Lake,2024-06-01,0,,,",
            "zola,Hill,2024-05-01,0,,,",
            "zola,Hill,2024-06-01,0,,,",
        ]
    );
}

#[tokio::test]
async fn a_lake_without_payments_answers_with_no_rows() {
    let lake = Lake::of(&[]).await;
    for metric in lake.metrics.iter() {
        assert!(lake.rows(metric.name(), &[]).await.is_empty(), "{}", metric.name());
    }
}
