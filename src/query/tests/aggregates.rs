//! What is shared as aggregates: every figure is a sum of groups that are large enough, whatever is asked, so that no difference
//! of answers is of a smaller group.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{
    lake::{Lake, Payment, paid},
    shares::{scope_of, shared, viewer},
};
use crate::{
    access::{Detail, Shared},
    query::{QueryError, answer::Answer, tests::lake::as_rows},
};

fn aggregates(project: &str, from: Option<&str>, to: Option<&str>) -> Shared {
    Shared { detail: Detail::Aggregate, ..shared(project, from, to) }
}

async fn ask(lake: &Lake, shares: &[Shared], metric: &str, pairs: &[(&str, &str)]) -> Result<Answer, QueryError> {
    let request = lake.request(metric, pairs).unwrap();
    let scope = scope_of(lake, shares).narrowed(&request.projects).unwrap();
    lake.engine.run(lake.metric(metric), &request, lake.inputs(&scope)).await
}

async fn rows(lake: &Lake, shares: &[Shared], metric: &str, pairs: &[(&str, &str)]) -> Vec<String> {
    as_rows(&ask(lake, shares, metric, pairs).await.unwrap())
}

/// Payments of ten shillings by so many customers.
fn by(customers: usize, like: &Payment) -> Vec<Payment> {
    let name = |number: usize| &*format!("customer {number} of {}", like.site).leak();
    (0..customers).map(|number| Payment { customer: name(number), ..like.clone() }).collect()
}

#[tokio::test]
async fn small_cells_and_what_is_not_settled_are_not_there_and_the_answer_says_how_many_cells() {
    let hill = paid("kitobo", "2024-05-10T08:00:00Z", "", 10);
    let at_lake = Payment { site: "Lake", ..hill.clone() };
    let failed = Payment { settlement: "failed", ..hill.clone() };
    // The last hour of May in UTC, and June in Nairobi.
    let last_hour = Payment { paid_at: "2024-05-31T22:00:00Z", ..hill.clone() };
    let lake = Lake::of(&[by(15, &hill), by(14, &at_lake), by(20, &failed), by(1, &last_hour)].concat()).await;
    let shares = [aggregates("kitobo", None, None)];
    assert_eq!(rows(&lake, &shares, "revenue_over_time", &[]).await, ["kitobo,2024-05-01,KES,160.0000,16"]);
    assert_eq!(rows(&lake, &shares, "revenue_per_site", &[]).await, ["kitobo,Hill,KES,160.0000,16"]);
    assert_eq!(rows(&lake, &shares, "revenue_per_site", &[("site", "Lake")]).await, [""; 0]);
    let of_hill = &[("site", "Hill"), ("grain", "month")];
    assert_eq!(rows(&lake, &shares, "active_customers", of_hill).await, ["kitobo,2024-05-01,15"]);
    assert_eq!(
        rows(&lake, &shares, "source_mix", &[]).await,
        ["kitobo,KES,mpesa,160.0000,16,1.000000,1.000000,"],
        "how a file spelled a source is not shown"
    );
    let withheld = async |shares: &[Shared], pairs: &[(&str, &str)]| {
        ask(&lake, shares, "revenue_per_site", pairs).await.unwrap().withheld_cells
    };
    assert_eq!(withheld(&shares, &[]).await, Some(1));
    assert_eq!(withheld(&shares, &[("site", "Hill")]).await, Some(1), "which site it is, is not told");
    assert_eq!(withheld(&shares, &[("from", "2024-06")]).await, None, "nothing of June is there to be withheld");
    assert_eq!(withheld(&[shared("kitobo", None, None)], &[]).await, None);
}

#[tokio::test]
async fn whoever_is_shown_aggregates_asks_for_whole_months_and_sites_and_one_grouping_at_a_time() {
    let may = paid("kitobo", "2024-05-10T08:00:00Z", "", 10);
    let april = Payment { paid_at: "2024-04-10T08:00:00Z", ..may.clone() };
    let lake = Lake::of(&[by(20, &may), by(20, &april)].concat()).await;
    let shares = [aggregates("kitobo", Some("2024-05"), None), shared("kitobo", None, Some("2024-04"))];
    // Who names the project is refused; who names none has an answer without it, and is told.
    let refused = async |metric: &str, pairs: &[(&str, &str)]| {
        let all = ask(&lake, &shares, metric, pairs).await.unwrap();
        assert_eq!((all.rows.num_rows(), all.left_out, all.withheld_cells), (0, 1, None), "{metric} {pairs:?}");
        assert_eq!(all.warnings[0].code, "left_out");
        match ask(&lake, &shares, metric, &[pairs, &[("project", "kitobo")]].concat()).await {
            Err(QueryError::TooDetailed(error)) => error.to_string(),
            other => panic!("{metric} {pairs:?}: {other:?}"),
        }
    };
    for metric in ["payments_per_customer", "ticket_size", "completeness"] {
        let told = refused(metric, &[]).await;
        assert!(told.starts_with("payments of kitobo from 2024-05 to 2024-05 are shared as aggregates; "), "{told}");
        // Of April all of it is shared.
        ask(&lake, &shares, metric, &[("from", "2024-04"), ("to", "2024-05")]).await.unwrap();
    }
    for (metric, pairs) in [
        ("revenue_over_time", &[("grain", "day")][..]),
        ("revenue_over_time", &[("grain", "week")]),
        ("revenue_over_time", &[("from", "2024-05-02")]),
        ("revenue_over_time", &[("to", "2024-05-31")]),
        ("revenue_per_site", &[("from", "2024-05-01T00:00:00+03:00")]),
        ("revenue_per_site", &[("tz", "Africa/Nairobi")]),
        ("active_customers", &[]),
        ("active_customers", &[("days", "20")]),
        ("active_customers", &[("grain", "month")]),
        ("active_customers", &[("site", "Hill"), ("grain", "quarter")]),
        ("active_customers", &[("site", "Hill"), ("grain", "all")]),
        ("active_customers", &[("site", "Hill"), ("site", "Lake"), ("grain", "month")]),
    ] {
        refused(metric, pairs).await;
    }
    assert_eq!(
        rows(&lake, &shares, "revenue_over_time", &[("from", "2024-04"), ("to", "2024-06"), ("tz", "UTC")]).await,
        ["kitobo,2024-04-01,KES,200.0000,20", "kitobo,2024-05-01,KES,200.0000,20"]
    );
    let request = lake.request("completeness", &[("from", "2024-04"), ("to", "2024-05")]).unwrap();
    let scope = scope_of(&lake, &shares);
    assert_eq!(scope.shares().len(), 2, "{:?}", viewer());
    let plan = lake.engine.physical_plan(lake.metric("completeness"), &request, &lake.inputs(&scope)).await.unwrap();
    let files = crate::lake::scan::files_of(&plan);
    assert!(files.iter().all(|file| file.contains("2024-04")), "sites of May are nobody's business: {files:?}");
}

/// What a group comes to: its amount and its payments.
type Sums = (i128, usize);
/// Month, site, currency and the source that a payment is counted to.
type Atom = (String, &'static str, &'static str, &'static str);

/// By the definition of an aggregate share, in as plain words as can be.
fn atoms(payments: &[Payment]) -> BTreeMap<Atom, Sums> {
    let enough = |payments: &[&Payment]| {
        let mut turnover: BTreeMap<&str, i128> = BTreeMap::new();
        for payment in payments {
            *turnover.entry(payment.customer).or_default() += payment.amount.abs();
        }
        let amount: i128 = payments.iter().map(|payment| payment.amount).sum();
        turnover.len() >= 15 && turnover.values().all(|one| one * 100 <= amount.abs() * 15)
    };
    let mut cells: BTreeMap<(String, &str, &str), Vec<&Payment>> = BTreeMap::new();
    for payment in payments.iter().filter(|payment| payment.settlement == "settled") {
        cells.entry((payment.paid_at[..7].to_owned(), payment.site, payment.currency)).or_default().push(payment);
    }
    let mut atoms: BTreeMap<Atom, Sums> = BTreeMap::new();
    for ((month, site, currency), payments) in cells {
        if !enough(&payments) {
            continue;
        }
        let of = |source: &str| payments.iter().filter(|p| p.source.1 == source).copied().collect::<Vec<_>>();
        let customers = |source: &str| of(source).iter().map(|p| p.customer).collect::<BTreeSet<_>>().len();
        let sources: BTreeSet<&str> = payments.iter().map(|payment| payment.source.1).collect();
        let (mut large, mut together): (Vec<&str>, Vec<&str>) = sources.iter().partition(|source| enough(&of(source)));
        large.sort_by_key(|source| (customers(source), *source));
        if !together.is_empty() {
            together.extend(large.extract_if(.., |source| *source == "other"));
            while !enough(&together.iter().flat_map(|source| of(source)).collect::<Vec<_>>()) {
                together.push(large.remove(0));
            }
        }
        for payment in payments {
            let source = if together.contains(&payment.source.1) { "other" } else { payment.source.1 };
            let sums = atoms.entry((month.clone(), site, currency, source)).or_default();
            *sums = (sums.0 + payment.amount, sums.1 + 1);
        }
    }
    atoms
}

const MONTHS: [&str; 3] = ["2024-04", "2024-05", "2024-07"];

fn any_payment() -> impl Strategy<Value = Payment> {
    (
        // From midnight in UTC to the last hour of the month, which is the next in Nairobi.
        prop::sample::select(MONTHS.to_vec()),
        prop::sample::select(vec!["-01T00:00:00Z", "-15T08:00:00Z", "-30T22:30:00Z"]),
        0..34_usize,
        prop::sample::select(vec![10, 10, 10, 20, 20, 30, -10]),
        prop::sample::select(vec!["Hill", "Hill", "Hill", "Lake"]),
        prop::sample::select(vec!["KES", "KES", "KES", "KES", "USD"]),
        prop::sample::select(vec!["mpesa", "mpesa", "mpesa", "cash", "airtel_money", "other"]),
        prop::bool::weighted(0.9),
    )
        .prop_map(|(month, at, customer, amount, site, currency, source, settled)| Payment {
            paid_at: format!("{month}{at}").leak(),
            customer: format!("customer {customer}").leak(),
            site,
            currency,
            source: (Some(source), source),
            settlement: if settled { "settled" } else { "reversed" },
            ..paid("kitobo", "2024-05-10T08:00:00Z", "", amount)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// All answers are sums of the same disjoint groups, each of which is large enough: what is subtracted from what does not
    /// matter.
    #[test]
    fn no_difference_of_answers_over_aggregates_is_of_a_group_below_the_threshold(
        payments in prop::collection::vec(any_payment(), 200..700),
        period in prop::sample::select(vec![(None, None), (Some("2024-05"), None), (None, Some("2024-05")), (Some("2024-05"), Some("2024-08"))]),
        limit in prop::sample::select(vec!["1", "2", "10000"]),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let lake = Lake::of(&payments).await;
            let atoms = atoms(&payments);
            let shares = [aggregates("kitobo", None, Some("2024-07"))];
            let mut period_pairs: Vec<(&str, &str)> = Vec::new();
            period_pairs.extend(period.0.map(|from| ("from", from)));
            period_pairs.extend(period.1.map(|to| ("to", to)));
            let within = |month: &str| period.0.is_none_or(|from| from <= month) && period.1.is_none_or(|to| month < to);
            let money = |amount: i128| {
                let sign = if amount < 0 { "-" } else { "" };
                format!("{sign}{}.{:04}", amount.abs() / 10_000, amount.abs() % 10_000)
            };
            for sites in [&[][..], &["Hill"], &["Lake"], &["Hill", "Lake"]] {
                let asked: BTreeMap<&Atom, &Sums> = atoms
                    .iter()
                    .filter(|((month, site, ..), _)| within(month) && (sites.is_empty() || sites.contains(site)))
                    .collect();
                let grouped = |key: &dyn Fn(&Atom) -> String| {
                    let mut groups: BTreeMap<String, Sums> = BTreeMap::new();
                    for (atom, sums) in &asked {
                        let group = groups.entry(key(atom)).or_default();
                        *group = (group.0 + sums.0, group.1 + sums.1);
                    }
                    let row = |(key, (amount, count)): (String, Sums)| format!("{key},{},{count}", money(amount));
                    groups.into_iter().map(row).take(limit.parse().unwrap()).collect::<Vec<_>>()
                };
                let mut pairs = period_pairs.clone();
                pairs.extend(sites.iter().map(|site| ("site", *site)));
                pairs.push(("limit", limit));
                let got = rows(&lake, &shares, "revenue_per_site", &pairs).await;
                prop_assert_eq!(got, grouped(&|(_, site, currency, _)| format!("kitobo,{site},{currency}")));
                let mix = rows(&lake, &shares, "source_mix", &pairs).await;
                let mix: Vec<String> = mix.iter().map(|row| row.split(',').take(5).collect::<Vec<_>>().join(",")).collect();
                prop_assert_eq!(mix, grouped(&|(_, _, currency, source)| format!("kitobo,{currency},{source}")));
                for grain in ["month", "quarter", "year", "all"] {
                    let bucket = |month: &str| match grain {
                        "month" => format!("{month}-01"),
                        "quarter" => if month < "2024-07" { "2024-04-01" } else { "2024-07-01" }.to_owned(),
                        "year" => "2024-01-01".to_owned(),
                        _ => String::new(),
                    };
                    let mut pairs = pairs.clone();
                    pairs.push(("grain", grain));
                    let got = rows(&lake, &shares, "revenue_over_time", &pairs).await;
                    let expected = grouped(&|(month, _, currency, _)| format!("kitobo,{},{currency}", bucket(month)));
                    prop_assert_eq!(got, expected, "{} {:?}", grain, pairs);
                }
                if let [site] = sites {
                    let mut pairs = pairs.clone();
                    pairs.push(("grain", "month"));
                    for row in rows(&lake, &shares, "active_customers", &pairs).await {
                        let (of, customers) = row.rsplit_once(',').unwrap();
                        let month = of.split(',').nth(1).unwrap();
                        prop_assert!(asked.keys().any(|(at, ..)| month.starts_with(at)), "{} {}", site, row);
                        prop_assert!(customers.parse::<usize>().unwrap() >= 15, "{} {}", site, row);
                    }
                }
            }
            Ok(())
        })?;
    }
}
