//! All benches, in one program: link-time optimisation takes 20 minutes for each.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that cannot go on has failed")]

mod ingest;
mod queries;
mod set;

criterion::criterion_main!(ingest::benches, queries::benches);
