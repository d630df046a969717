//! What was given back of payments, by rows that name them: by their ID, or by their `REFERENCE_ID`.

use std::collections::HashMap;

/// A payment that counts, unless it is given back.
#[derive(Debug)]
pub(super) struct Counted {
    /// In microseconds.
    pub(super) at: i64,
    pub(super) id: String,
    pub(super) reference: Option<String>,
    /// What is left of its amount, in ten-thousandths.
    pub(super) left: i128,
}

/// A row below zero.
#[derive(Debug)]
pub(super) struct Refund {
    pub(super) at: i64,
    pub(super) id: String,
    /// What it names.
    pub(super) reference: String,
    /// In ten-thousandths, above zero.
    pub(super) amount: i128,
}

/// Takes refunds off the payments of one meter that they name; where one names several, the earliest is given back first. Says of each
/// refund whether it names any. The same whatever the order in which they come.
pub(super) fn give_back(counted: &mut [Counted], refunds: &[Refund]) -> Vec<bool> {
    counted.sort_unstable_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    let mut named: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, payment) in counted.iter().enumerate() {
        let own = payment.reference.iter().filter(|reference| **reference != payment.id);
        for name in own.chain([&payment.id]) {
            named.entry(name.clone()).or_default().push(at);
        }
    }
    let mut order: Vec<usize> = (0..refunds.len()).collect();
    order.sort_unstable_by(|a, b| (refunds[*a].at, &refunds[*a].id).cmp(&(refunds[*b].at, &refunds[*b].id)));
    let mut is_named = vec![false; refunds.len()];
    for at in order {
        let Some(payments) = named.get(&refunds[at].reference) else { continue };
        is_named[at] = true;
        let mut amount = refunds[at].amount;
        for payment in payments {
            let left = &mut counted[*payment].left;
            let taken = amount.min((*left).max(0));
            *left -= taken;
            amount -= taken;
        }
    }
    is_named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(at: i64, id: &str, reference: Option<&str>, left: i128) -> Counted {
        Counted { at, id: id.to_owned(), reference: reference.map(str::to_owned), left }
    }

    fn refund(at: i64, reference: &str, amount: i128) -> Refund {
        Refund { at, id: format!("r{at}"), reference: reference.to_owned(), amount }
    }

    #[test]
    fn what_is_named_is_given_back_up_to_its_amount_the_earliest_first() {
        let mut payments =
            [counted(2, "b", Some("x"), 5), counted(1, "a", Some("x"), 5), counted(3, "c", Some("c"), 5)];
        let refunds = [refund(9, "c", 9), refund(8, "x", 7), refund(7, "b", 1), refund(6, "nobody", 3)];
        assert_eq!(give_back(&mut payments, &refunds), [true, true, true, false]);
        let left: Vec<_> = payments.iter().map(|payment| (payment.id.as_str(), payment.left)).collect();
        assert_eq!(left, [("a", 0), ("b", 2), ("c", 0)]);
    }
}
