//! Metrics over small lakes whose figures are counted by hand.

mod aggregates;
mod by_file;
mod figures;
mod lake;
mod requests;
mod shares;
