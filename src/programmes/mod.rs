//! Programmes that pay for connections which really pay: the rule by which a connection is verified, and what a connection comes
//! to by it. Pure: payments in, verdicts out. (seed: "Verify your connections"; domain: Remote verification)

pub mod rule;
pub mod terms;

pub use rule::{MinAmount, Rule, Window};
pub use terms::{DISCLOSES, Disclosure, checked_columns};
