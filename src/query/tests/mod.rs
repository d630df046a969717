//! Metrics over small lakes whose figures are counted by hand.

mod figures;
mod lake;
mod requests;
