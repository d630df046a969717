//! A file over several projects: which of them a row goes to, by its meter. A meter that is connected in none of them, or in
//! two, is a fault of the row; of one that is in none, the connections that were likely meant are told.

use std::{collections::HashMap, sync::OnceLock};

use super::{
    near_meters::NearMeters,
    report::{clip, code},
};

/// The meters of some projects.
#[derive(Debug)]
pub struct Routing {
    /// As messages name them.
    projects: Vec<String>,
    /// The projects in which a meter is connected, by their numbers.
    meters: HashMap<String, Places>,
    near: OnceLock<NearMeters>,
}

/// The first project in which a meter is connected, and another one if there is.
#[derive(Clone, Copy, Debug)]
struct Places {
    first: usize,
    other: Option<usize>,
}

/// Why a row goes to no project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NoRoute {
    pub(super) code: &'static str,
    pub(super) message: String,
}

impl Routing {
    /// The meters of each of `projects`, which are named as messages are to name them.
    #[must_use]
    pub fn of(projects: Vec<String>, meters: impl IntoIterator<Item = (usize, String)>) -> Self {
        let mut places: HashMap<String, Places> = HashMap::new();
        for (project, meter) in meters {
            let there = places.entry(meter).or_insert(Places { first: project, other: None });
            if there.first != project {
                there.other = Some(project);
            }
        }
        Self { projects, meters: places, near: OnceLock::new() }
    }

    /// The number of the project that a meter's rows go to, where they go to one.
    #[must_use]
    pub fn project_of(&self, meter: &str) -> Option<usize> {
        self.meters.get(meter).filter(|places| places.other.is_none()).map(|places| places.first)
    }

    /// The same, or why they go to none.
    pub(super) fn check(&self, meter: &str) -> Result<usize, NoRoute> {
        match self.meters.get(meter) {
            Some(Places { first, other: None }) => Ok(*first),
            Some(Places { first, other: Some(other) }) => {
                let (first, other) = (&self.projects[*first], &self.projects[*other]);
                let message = format!(
                    "this meter is connected in {first} and in {other}; delete it from one of the two, or upload to one project"
                );
                Err(NoRoute { code: code::AMBIGUOUS_METER, message })
            }
            None => {
                let hint = self.hint(meter).unwrap_or_else(|| "add its connection, or correct the METER_ID".to_owned());
                let message = format!("this meter is connected in none of {}; {hint}", self.projects.join(", "));
                Err(NoRoute { code: code::UNMATCHED_METER, message })
            }
        }
    }

    /// Which connections were likely meant by a meter that is in none of the projects, for a person.
    pub(super) fn hint(&self, meter: &str) -> Option<String> {
        let near = self.near.get_or_init(|| NearMeters::of(self.meters.keys()));
        let (found, count, why) = near.find(meter)?;
        let named: Vec<String> = found
            .iter()
            .map(|id| {
                format!("{} of {}", clip(id), self.meters.get(*id).map_or("", |at| self.projects[at.first].as_str()))
            })
            .collect();
        let more = count.saturating_sub(found.len());
        let more = if more > 0 { format!(", or one of {more} more") } else { String::new() };
        Some(format!("did you mean {}{more}? {why}", named.join(", or ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing() -> Routing {
        let meters = [
            (0, "00104000123"),
            (0, "AB 12"),
            (1, "46012345678"),
            (1, "46098765432"),
            (0, "both"),
            (1, "both"),
            (1, "x"),
        ];
        let meters = meters.map(|(project, meter)| (project, meter.to_owned()));
        Routing::of(vec!["hill".to_owned(), "lake".to_owned()], meters)
    }

    #[test]
    fn a_meter_goes_to_the_project_in_which_it_is_connected_and_to_no_other() {
        let routing = routing();
        assert_eq!((routing.check("00104000123"), routing.check("x")), (Ok(0), Ok(1)));
        assert_eq!(
            (routing.project_of("x"), routing.project_of("both"), routing.project_of("y")),
            (Some(1), None, None)
        );
        let ambiguous = routing.check("both").unwrap_err();
        assert_eq!(ambiguous.code, "ambiguous_meter");
        assert!(ambiguous.message.contains("in hill and in lake"), "{}", ambiguous.message);
    }

    #[test]
    fn near_misses_are_told_and_nothing_else_is() {
        let routing = routing();
        for (meter, meant) in [
            ("104000123", "did you mean 00104000123 of hill?"),
            ("000104000123", "did you mean 00104000123 of hill?"),
            (" 00104000123 ", "did you mean 00104000123 of hill?"),
            ("ab12", "did you mean AB 12 of hill?"),
            ("4.6E+10", "did you mean 46012345678 of lake, or 46098765432 of lake?"),
            ("4,6099e10", "did you mean 46098765432 of lake?"),
            ("1.04E+8", "did you mean 00104000123 of hill?"),
        ] {
            let fault = routing.check(meter).unwrap_err();
            assert!(fault.message.contains(meant), "{meter}: {}", fault.message);
        }
        for meter in ["y", "0", "4.7E+10", "4.6E+99", "12E", "", "00"] {
            let fault = routing.check(meter).unwrap_err();
            assert_eq!(fault.code, "unmatched_meter");
            assert!(!fault.message.contains("did you mean"), "{meter}: {}", fault.message);
        }
        let many = (0..9).map(|n| (0, format!("46{n}")));
        let many = Routing::of(vec!["hill".to_owned()], many);
        assert!(
            many.check("4.6E+2")
                .unwrap_err()
                .message
                .contains("460 of hill, or 461 of hill, or 462 of hill, or one of 3 more")
        );
    }
}
