//! What is shared by months: a recipient's answers are those of a lake that has these months and no others.

use std::collections::BTreeSet;

use hmac::{Hmac, Mac};
use proptest::prelude::*;
use sha2::Sha256;

use super::{
    by_file::{Pairs, any_payment, any_question},
    lake::{Lake, Payment, UPLOADS, bytes, paid},
};
use crate::{
    access::{Detail, MaskKey, MonthRange, Principal, ProjectOwner, Role, Scope, Shared},
    ids::{Month, ShareId},
    lake::scan::files_of,
    query::{Format, MetricRequest},
};

pub(super) fn viewer() -> Principal {
    Principal { role: Role::Viewer, organisation: "fund".parse().ok(), ..Principal::admin("k") }
}

pub(super) fn shared(project: &str, from: Option<&str>, to: Option<&str>) -> Shared {
    let month = |text: Option<&str>| text.map(|text| text.parse::<Month>().unwrap());
    Shared {
        share: ShareId::new(),
        project: project.parse().unwrap(),
        recipient: "fund".parse().unwrap(),
        months: MonthRange { from: month(from), to: month(to) },
        detail: Detail::Full,
        mask_key: MaskKey([0; 32]),
    }
}

/// The pseudonym of a customer, by its definition.
fn pseudonym(key: MaskKey, customer: &str) -> String {
    let mut keyed = Hmac::<Sha256>::new_from_slice(&key.0).unwrap();
    keyed.update(format!("cus_{customer}").as_bytes());
    format!("cus_{}", hex::encode(&keyed.finalize().into_bytes()[..16]))
}

/// What the fund sees of a lake where zola is its own: all that is shared with it besides.
pub(super) fn scope_of(lake: &Lake, shares: &[Shared]) -> Scope {
    let owners = lake.projects.iter().map(|project| ProjectOwner {
        project: project.slug.clone(),
        organisation: if project.slug.as_str() == "zola" { "fund" } else { "main" }.parse().unwrap(),
    });
    let there = shares.iter().filter(|share| lake.projects.iter().any(|project| project.slug == share.project));
    Scope::of(&viewer(), owners).and_shared(&viewer(), there.cloned())
}

/// The JSON of an answer, all of it.
async fn told(lake: &Lake, metric: &str, request: &MetricRequest, scope: &Scope) -> String {
    let answer = lake.engine.run(lake.metric(metric), request, lake.inputs(scope)).await.unwrap();
    String::from_utf8(bytes(&answer, Format::Json)).unwrap()
}

fn payments() -> Vec<Payment> {
    let mut june = paid("kitobo", "2024-06-10T08:00:00Z", "cat", 9);
    (june.site, june.upload) = ("Lake", UPLOADS[1]);
    vec![
        paid("kitobo", "2024-04-10T08:00:00Z", "ann", 50),
        paid("kitobo", "2024-05-10T08:00:00Z", "ben", 200),
        june,
        paid("cairo", "2024-05-10T08:00:00Z", "dan", 7),
    ]
}

#[tokio::test]
async fn a_query_opens_the_files_of_the_shared_months_and_an_answer_is_another_where_they_are() {
    let lake = Lake::of(&payments()).await;
    let request = lake.request("completeness", &[("project", "kitobo")]).unwrap();
    let may = [shared("kitobo", Some("2024-05"), Some("2024-05"))];
    let to_may = [may[0].clone(), shared("kitobo", None, Some("2024-04"))];
    let mut etags = BTreeSet::new();
    for (shares, months) in [(&may[..], &["2024-05"][..]), (&to_may[..], &["2024-04", "2024-05"][..])] {
        let scope = scope_of(&lake, shares).narrowed(&request.projects).unwrap();
        let (metric, revenue) = (lake.metric("revenue_per_site"), lake.request("revenue_per_site", &[]).unwrap());
        let plan = lake.engine.physical_plan(metric, &revenue, &lake.inputs(&scope)).await.unwrap();
        let files: BTreeSet<String> = files_of(&plan).into_iter().collect();
        let wanted = months.iter().map(|month| format!("project_id=kitobo/month={month}/part.parquet"));
        assert_eq!(files, wanted.collect::<BTreeSet<_>>());
        let answer = told(&lake, "completeness", &request, &scope).await;
        assert!(!answer.contains("Lake") && !answer.contains("2024-07-01T08:00:00Z"), "{answer}");
        etags.insert(
            lake.engine.etag(lake.metric("completeness"), &request, &lake.inputs(&scope), Format::Json).unwrap(),
        );
    }
    etags.insert(lake.etag("completeness", &[("project", "kitobo")], Format::Json));
    assert_eq!(etags.len(), 3, "the months of a scope are in its ETags");
}

fn any_share() -> impl Strategy<Value = Shared> {
    let month = || prop::option::of(prop::sample::select(vec!["2024-02", "2024-03", "2024-04", "2024-05", "2024-06"]));
    let project = prop::sample::select(vec!["kitobo", "cairo", "zola"]);
    let detail = prop::sample::select(vec![Detail::Full, Detail::Masked]);
    (project, month(), month(), prop::bool::weighted(0.8), detail, any::<u8>()).prop_map(
        |(project, from, to, ours, detail, key)| {
            let recipient = if ours { "fund" } else { "rival" }.parse().unwrap();
            Shared { recipient, detail, mask_key: MaskKey([key; 32]), ..shared(project, from, to) }
        },
    )
}

fn any_payment_of_any_upload() -> impl Strategy<Value = Payment> {
    (any_payment(), prop::sample::select(UPLOADS.to_vec())).prop_map(|(payment, upload)| Payment { upload, ..payment })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_a_recipient_is_answered_is_what_a_lake_of_the_shared_months_alone_answers(
        payments in prop::collection::vec(any_payment_of_any_upload(), 1..40),
        shares in prop::collection::vec(any_share(), 0..6),
        questions in prop::collection::vec(any_question(), 1..16),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let lake = Lake::of(&payments).await;
            let scope = scope_of(&lake, &shares);
            let within = |payment: &&Payment| {
                payment.project == "zola" || shares.iter().any(|share| {
                    let at = payment.paid_at[..7].to_owned();
                    let bound = |month: Option<Month>| month.map(|month| month.to_string());
                    share.recipient.as_str() == "fund" && share.project.as_str() == payment.project
                        && bound(share.months.from).is_none_or(|from| from <= at)
                        && bound(share.months.to).is_none_or(|to| at <= to)
                })
            };
            let seen = |payment: &Payment| {
                let month = payment.paid_at[..7].parse().unwrap();
                let sight = scope.sight(&payment.project.parse().unwrap(), month).unwrap();
                let masked = sight.mask_key.filter(|_| sight.detail == Detail::Masked);
                let customer = masked.map(|key| &*pseudonym(key, payment.customer).leak());
                Payment { customer: customer.unwrap_or(payment.customer), ..payment.clone() }
            };
            let mut alone = Lake::of(&payments.iter().filter(within).map(seen).collect::<Vec<_>>()).await;
            alone.projects = lake.projects.iter().filter(|project| scope.contains(&project.slug)).cloned().collect();
            for (metric, pairs) in questions {
                let takes = |(name, value): &(&str, &str)| match *name {
                    "project" => lake.projects.iter().any(|project| project.slug.as_str() == *value),
                    name => lake.metric(metric).takes(name),
                };
                let pairs: Pairs = pairs.into_iter().filter(takes).collect();
                let request = lake.request(metric, &pairs).unwrap();
                let Ok(scope) = scope.clone().narrowed(&request.projects) else { continue };
                // An administrator asks the same before and after, of files that both see.
                let all = lake.rows(metric, &pairs).await;
                let expected = told(&alone, metric, &request, &alone.scope(&request)).await;
                prop_assert_eq!(told(&lake, metric, &request, &scope).await, expected, "{} {:?}", metric, pairs);
                prop_assert_eq!(lake.rows(metric, &pairs).await, all);
            }
            Ok(())
        })?;
    }
}
