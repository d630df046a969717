//! Which of the connections that are submitted to a programme are the same, and which of those counts.

use std::collections::HashMap;

use super::{ConnectionName, Subject};

/// Of each connection that is the same as one that counts, that one.
///
/// The same are those with one id, in whatever project, or submitted with one device: what is paid for counts, else the smaller turn.
/// Of those that have one device now, one that was submitted with it goes before one that was given it since: who changes a device
/// afterwards takes no other connection over. One that its project has no more is the same as none, unless it is paid for.
#[must_use]
pub fn duplicates<'a>(subjects: impl Iterator<Item = &'a Subject>) -> HashMap<ConnectionName, ConnectionName> {
    let mut all: Vec<&Subject> = subjects.filter(|subject| subject.is_there || subject.is_paid).collect();
    all.sort_unstable_by_key(|subject| (!subject.is_paid, subject.turn));
    let mut found = HashMap::new();
    loop {
        let (same, counting) = submitted_again(&all);
        let taken = given_since(counting);
        if taken.is_empty() {
            found.extend(same);
            return found;
        }
        // Without these, others may be the first of their id or device.
        all.retain(|subject| !taken.contains_key(&subject.name));
        found.extend(taken);
    }
}

/// Those of which an earlier one in their order has the id, or was submitted with the device; and the others.
fn submitted_again<'a>(all: &[&'a Subject]) -> (HashMap<ConnectionName, ConnectionName>, Vec<&'a Subject>) {
    let (mut found, mut counting) = (HashMap::new(), Vec::with_capacity(all.len()));
    let (mut ids, mut devices): (HashMap<&str, &Subject>, HashMap<&str, &Subject>) = Default::default();
    for subject in all {
        let (id, device) = (subject.name.external_id.as_str(), subject.submitted_serial_number.as_deref());
        if let Some(first) = ids.get(id).or_else(|| devices.get(device?)) {
            found.insert(subject.name.clone(), first.name.clone());
            continue;
        }
        ids.insert(id, subject);
        devices.extend(device.map(|device| (device, *subject)));
        counting.push(*subject);
    }
    (found, counting)
}

/// Those whose device another one has too, that was submitted with it or comes before them.
fn given_since(mut all: Vec<&Subject>) -> HashMap<ConnectionName, ConnectionName> {
    // Those that are alike stay in their order.
    all.sort_by_key(|subject| subject.has_other_device());
    let (mut found, mut devices) = (HashMap::new(), HashMap::<&str, &Subject>::new());
    for subject in all {
        let Some(device) = subject.serial_number.as_deref() else { continue };
        let first = devices.entry(device).or_insert(subject);
        if first.name != subject.name {
            found.insert(subject.name.clone(), first.name.clone());
        }
    }
    found
}

impl Subject {
    /// Whether it has another device than it was submitted with.
    fn has_other_device(&self) -> bool {
        self.serial_number != self.submitted_serial_number
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subject(name: &str, turn: u64, submitted: Option<&str>, now: Option<&str>) -> Subject {
        let (project, id) = name.split_once('/').unwrap();
        Subject {
            name: ConnectionName { project: project.parse().unwrap(), external_id: id.to_owned() },
            turn,
            serial_number: now.map(str::to_owned),
            submitted_serial_number: submitted.map(str::to_owned),
            site: None,
            category: None,
            connected_on: None,
            is_there: true,
            is_paid: false,
        }
    }

    /// Each with the one that it is the same as.
    fn told(all: &[Subject]) -> Vec<Option<String>> {
        let found = duplicates(all.iter());
        all.iter().map(|one| found.get(&one.name).map(ToString::to_string)).collect()
    }

    fn same(all: &[Option<&str>]) -> Vec<Option<String>> {
        all.iter().map(|name| name.map(str::to_owned)).collect()
    }

    #[test]
    fn a_connection_counts_once_by_its_id_or_its_device_whatever_the_order_in_which_it_is_asked() {
        let of = |name: &str, turn, device: Option<&str>| subject(name, turn, device, device);
        let all = [
            of("a/1", 1, Some("x")),
            of("b/1", 2, Some("y")),
            of("b/2", 3, Some("x")),
            of("b/3", 4, None),
            of("a/4", 5, None),
            // The same as one that does not count itself.
            of("c/5", 6, Some("y")),
        ];
        let expected = same(&[None, Some("a/1"), Some("a/1"), None, None, None]);
        assert_eq!(told(&all), expected);
        let mut turned = all.clone();
        turned.reverse();
        let mut found = told(&turned);
        found.reverse();
        assert_eq!(found, expected);
    }

    #[test]
    fn who_changes_a_device_afterwards_takes_no_other_connection_over() {
        let mut all = [
            subject("a/1", 1, Some("x"), Some("x")),
            subject("b/2", 2, Some("y"), Some("y")),
            subject("c/3", 3, None, None),
        ];
        assert_eq!(told(&all), same(&[None, None, None]));
        all[0].serial_number = Some("y".to_owned());
        assert_eq!(told(&all), same(&[Some("b/2"), None, None]), "one that was submitted with it goes first");
        all[2].serial_number = Some("y".to_owned());
        assert_eq!(told(&all), same(&[Some("b/2"), None, Some("b/2")]));
        // Two that were mixed up and are put right are two.
        all[1].serial_number = Some("x".to_owned());
        all[2].serial_number = None;
        assert_eq!(told(&all), same(&[None, None, None]));
        // With the device that another one was submitted with, nothing is submitted again.
        all[2].submitted_serial_number = Some("x".to_owned());
        assert_eq!(told(&all), same(&[None, None, Some("a/1")]));
    }

    #[test]
    fn what_was_paid_for_counts_before_all_others() {
        let mut all = [subject("a/1", 1, Some("x"), Some("x")), subject("b/1", 2, Some("y"), Some("y"))];
        all[1].is_paid = true;
        assert_eq!(told(&all), same(&[Some("b/1"), None]));
    }

    proptest! {
        #[test]
        fn no_two_that_count_are_the_same(
            all in prop::collection::vec((0_u8..3, 0_u8..6, prop::option::of(0_u8..5), prop::option::of(0_u8..5), any::<bool>()), 1..20),
        ) {
            let mut subjects: Vec<Subject> = Vec::new();
            for (turn, (project, id, submitted, now, is_paid)) in (1..).zip(all) {
                let device = |number: Option<u8>| number.map(|number| format!("d{number}"));
                let (submitted, now) = (device(submitted), device(now));
                let mut one = subject(&format!("p{project}/{id}"), turn, submitted.as_deref(), now.as_deref());
                one.is_paid = is_paid;
                if subjects.iter().all(|known| known.name != one.name) {
                    subjects.push(one);
                }
            }
            let found = duplicates(subjects.iter());
            let counting: Vec<&Subject> = subjects.iter().filter(|one| !found.contains_key(&one.name)).collect();
            for (at, one) in counting.iter().enumerate() {
                for other in &counting[at + 1..] {
                    let is_shared = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
                    prop_assert!(one.name.external_id != other.name.external_id);
                    prop_assert!(!is_shared(&one.submitted_serial_number, &other.submitted_serial_number));
                    prop_assert!(!is_shared(&one.serial_number, &other.serial_number));
                }
            }
        }
    }
}
