//! All benches, in one program: link-time optimisation takes 20 minutes for each.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that cannot go on has failed")]

mod audit;
mod ingest;
mod queries;
mod rights;
mod set;
mod sql;
mod turns;

criterion::criterion_main!(audit::benches, ingest::benches, queries::benches, rights::benches, sql::benches);
