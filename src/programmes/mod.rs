//! Programmes that pay for connections which really pay: the rule by which a connection is verified, and what a connection comes
//! to by it. Pure: payments in, verdicts out. (seed: "Verify your connections"; domain: Remote verification)

mod duplicates;
pub mod rule;
pub mod terms;
pub mod verdict;

pub use duplicates::duplicates;
pub use rule::{Instants, MinAmount, MonthStarts, Rule, Window};
pub use terms::{DISCLOSES, Disclosure, checked_columns};
pub use verdict::{ConnectionName, Facts, Outcome, Paid, Selection, Subject, Verdict, decide};
