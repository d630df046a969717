//! Cells: the payments of a site in a month and a currency, as an aggregate share shows them. Those of too few customers are
//! not shown at all, and within a cell, sources of too few customers are counted together. What is shown are so sums over
//! disjoint groups, each large enough; whatever is asked of them, and however answers are subtracted from one another, nothing
//! smaller comes out.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray, StringViewBuilder},
    datatypes::DataType,
};
use datafusion::{
    common::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
};

use crate::payments::words::OTHER_SOURCE;

/// The fewest customers of a group that is shown.
pub const MIN_CUSTOMERS: usize = 15;
/// The most that one customer may have of the amount of a group that is shown, in percent.
pub const MOST_OF_ONE: i128 = 15;

/// The settled payments of one customer in one site, currency and source of a month.
#[derive(Clone, Debug)]
pub struct Group {
    pub site: String,
    pub currency: String,
    pub source: String,
    pub customer: String,
    /// Refunds subtract; in ten-thousandths of the currency.
    pub amount: i128,
    /// Refunds add; in ten-thousandths of the currency.
    pub turnover: i128,
}

/// The source that another is counted to.
type CountedTo = BTreeMap<String, String>;

/// The cells of one project and month that are shown: by site and currency the sources that are counted to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cells(BTreeMap<String, BTreeMap<String, CountedTo>>);

impl Cells {
    /// Which cells of a project and month are shown, and how many are not.
    #[must_use]
    pub fn of(groups: impl IntoIterator<Item = Group>) -> (Self, u64) {
        let mut all: BTreeMap<(String, String), BTreeMap<String, Members>> = BTreeMap::new();
        for group in groups {
            let sources = all.entry((group.site, group.currency)).or_default();
            sources.entry(group.source).or_default().add(group.customer, group.amount, group.turnover);
        }
        let (mut cells, mut withheld) = (Self::default(), 0);
        for ((site, currency), sources) in all {
            match counted_together(&sources) {
                Some(counted_to) => drop(cells.0.entry(site).or_default().insert(currency, counted_to)),
                None => withheld += 1,
            }
        }
        (cells, withheld)
    }

    /// Whether none is shown.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn cell(&self, site: &str, currency: &str) -> Option<&CountedTo> {
        self.0.get(site)?.get(currency)
    }
}

/// The customers of a group.
#[derive(Clone, Debug, Default)]
struct Members {
    amount: i128,
    turnover: HashMap<String, i128>,
}

impl Members {
    fn add(&mut self, customer: String, amount: i128, turnover: i128) {
        self.amount += amount;
        *self.turnover.entry(customer).or_default() += turnover;
    }

    fn add_all(&mut self, others: &Self) {
        self.amount += others.amount;
        for (customer, turnover) in &others.turnover {
            *self.turnover.entry(customer.clone()).or_default() += turnover;
        }
    }

    /// Whether no customer can be made out of its sums: they are enough, and none of them has too much of it. What a customer
    /// was given back counts to what it has, so that refunds do not hide it.
    fn is_shown(&self) -> bool {
        let most = self.turnover.values().max().copied().unwrap_or_default();
        self.turnover.len() >= MIN_CUSTOMERS && most * 100 <= self.amount.abs() * MOST_OF_ONE
    }
}

/// The sources of a cell that are counted to `other`: those that are not shown by themselves, and as many of the next smallest
/// as `other` needs. Nothing where the whole cell is not shown.
fn counted_together(sources: &BTreeMap<String, Members>) -> Option<CountedTo> {
    let mut whole = Members::default();
    for members in sources.values() {
        whole.add_all(members);
    }
    if !whole.is_shown() {
        return None;
    }
    let (mut next, mut counted): (Vec<_>, Vec<_>) = sources.iter().partition(|(_, members)| members.is_shown());
    if counted.is_empty() {
        return Some(CountedTo::new());
    }
    // What is `other` in the files is among it, whatever its size.
    counted.extend(next.extract_if(.., |(source, _)| *source == OTHER_SOURCE));
    let mut together = Members::default();
    for (_, members) in &counted {
        together.add_all(members);
    }
    next.sort_by_key(|(source, members)| Reverse((members.turnover.len(), *source)));
    // The whole cell is large enough at the latest.
    while !together.is_shown()
        && let Some(smallest) = next.pop()
    {
        together.add_all(smallest.1);
        counted.push(smallest);
    }
    Some(counted.into_iter().map(|(source, _)| (source.clone(), OTHER_SOURCE.to_owned())).collect())
}

/// The function of site, currency and source that gives the source a payment is counted to; null where its cell is not shown.
pub(super) fn shown_source(cells: &Arc<Cells>) -> Arc<ScalarUDF> {
    let signature = Signature::exact(vec![DataType::Utf8View; 3], Volatility::Immutable);
    Arc::new(ScalarUDF::from(ShownSource { cells: Arc::clone(cells), signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct ShownSource {
    cells: Arc<Cells>,
    signature: Signature,
}

impl ShownSource {
    fn of_all(&self, columns: &[ArrayRef], rows: usize) -> ArrayRef {
        let [sites, currencies, sources] = [0, 1, 2].map(|at| columns[at].as_string_view());
        let mut shown = StringViewBuilder::with_capacity(rows).with_deduplicate_strings();
        let mut last: Option<(&str, &str, Option<&CountedTo>)> = None;
        for row in 0..rows {
            let (site, currency, source) = (sites.value(row), currencies.value(row), sources.value(row));
            let cell = match last {
                Some((its_site, its_currency, cell)) if its_site == site && its_currency == currency => cell,
                _ => self.cells.cell(site, currency),
            };
            last = Some((site, currency, cell));
            shown.append_option(cell.map(|counted_to| counted_to.get(source).map_or(source, String::as_str)));
        }
        Arc::new(shown.finish())
    }
}

impl ScalarUDFImpl for ShownSource {
    fn name(&self) -> &'static str {
        "shown_source"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = arguments.args.iter().map(|argument| argument.to_array(arguments.number_rows));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(ColumnarValue::Array(self.of_all(&columns, arguments.number_rows)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Customers `from..to` of a source who paid so much each.
    fn paid(source: &str, customers: std::ops::Range<usize>, amount: i128) -> Vec<Group> {
        let of = |customer: usize| Group {
            site: "Hill".to_owned(),
            currency: "KES".to_owned(),
            source: source.to_owned(),
            customer: format!("c{customer}"),
            amount,
            turnover: amount.abs(),
        };
        customers.map(of).collect()
    }

    /// The sources of the one cell that are counted to `other`; nothing where it is withheld.
    fn other(groups: impl IntoIterator<Item = Vec<Group>>) -> Option<Vec<String>> {
        let (cells, withheld) = Cells::of(groups.into_iter().flatten());
        let cell = cells.cell("Hill", "KES");
        assert_eq!((withheld, cells.is_empty()), (u64::from(cell.is_none()), cell.is_none()));
        cell.map(|counted_to| counted_to.keys().cloned().collect())
    }

    #[test]
    fn a_cell_of_too_few_customers_or_with_one_that_has_too_much_is_withheld() {
        assert_eq!(other([paid("mpesa", 0..14, 10)]), None);
        assert_eq!(other([paid("mpesa", 0..15, 10)]), Some(vec![]));
        // 300 of 2,000 are 15 percent; 301 are more.
        assert_eq!(other([paid("mpesa", 0..17, 100), paid("mpesa", 17..18, 300)]), Some(vec![]));
        assert_eq!(other([paid("mpesa", 0..17, 100), paid("mpesa", 17..18, 301)]), None);
        assert_eq!(other([paid("mpesa", 0..20, 100), paid("mpesa", 20..40, -100)]), None, "it comes to nothing");
        let mut refunded = paid("mpesa", 20..21, 0);
        refunded[0].turnover = 100_000;
        assert_eq!(other([paid("mpesa", 0..20, 100), refunded]), None);
    }

    #[test]
    fn a_source_that_is_too_small_is_counted_to_other_with_the_next_smallest_where_other_is_too_small() {
        let cell =
            |cash: usize| [paid("mpesa", 0..40, 10), paid("airtel_money", 40..60, 10), paid("cash", 60..60 + cash, 10)];
        assert_eq!(other(cell(15)), Some(vec![]));
        assert_eq!(other(cell(14)), Some(vec!["airtel_money".to_owned(), "cash".to_owned()]));
        let two = [paid("mpesa", 0..40, 10), paid("bank", 40..48, 10), paid("cash", 48..56, 10)];
        assert_eq!(other(two), Some(vec!["bank".to_owned(), "cash".to_owned()]), "together they are enough");
        let named = [paid("mpesa", 0..40, 10), paid("other", 40..60, 10), paid("cash", 60..61, 10)];
        assert_eq!(other(named), Some(vec!["cash".to_owned(), "other".to_owned()]));
        let all = [paid("mpesa", 0..15, 10), paid("cash", 15..16, 10)];
        assert_eq!(other(all), Some(vec!["cash".to_owned(), "mpesa".to_owned()]));
    }

    proptest! {
        #[test]
        fn every_group_that_is_shown_has_enough_customers_and_none_with_too_much(
            payments in prop::collection::vec((0..3_usize, 0..4_usize, 0..60_usize, -20..200_i128), 0..400),
        ) {
            let groups: Vec<Group> = payments.iter().map(|(site, source, customer, amount)| Group {
                site: format!("site {site}"),
                currency: "KES".to_owned(),
                source: ["mpesa", "cash", "bank", "other"][*source].to_owned(),
                customer: customer.to_string(),
                amount: *amount,
                turnover: amount.abs(),
            }).collect();
            let (cells, withheld) = Cells::of(groups.clone());
            let mut shown: BTreeMap<(&str, &str), Members> = BTreeMap::new();
            let mut sites: BTreeMap<&str, bool> = BTreeMap::new();
            for group in &groups {
                let cell = cells.cell(&group.site, "KES");
                sites.insert(&group.site, cell.is_some());
                if let Some(counted_to) = cell {
                    let source = counted_to.get(&group.source).unwrap_or(&group.source);
                    let members = shown.entry((&group.site, source)).or_default();
                    members.add(group.customer.clone(), group.amount, group.turnover);
                }
            }
            prop_assert_eq!(withheld, sites.values().filter(|shown| !**shown).count() as u64);
            for (group, members) in shown {
                prop_assert!(members.turnover.len() >= 15, "{:?}", group);
                let most = members.turnover.values().max().unwrap();
                prop_assert!(most * 100 <= members.amount.abs() * 15, "{:?}", group);
            }
        }
    }
}
