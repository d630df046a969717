//! The promises of the whole: one binary, because each links the engine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(unreachable_pub, reason = "one binary: `pub` says what the harness offers to its modules")]

mod answers;
mod as_of;
mod audit;
mod binary;
mod bit_flips;
mod boundaries;
mod canary;
mod cli;
mod client_commands;
mod clients;
mod connection_commands;
mod connection_metrics;
mod connections;
mod corrections;
mod crash;
mod damage;
mod defects;
mod deletions;
mod disk;
mod disk_faults;
mod ended_rights;
mod failpoints;
mod harness;
mod hostile_sql;
mod idempotency;
mod limits;
mod metric_files;
mod metrics;
mod offline_check;
mod openapi;
mod oracle;
mod organisations;
mod packed_uploads;
mod permissions;
mod power_cut;
mod programmes;
mod projects;
mod purge;
mod queries;
mod rates;
mod refusals;
mod server;
mod several_projects;
mod shares;
mod slow_senders;
mod sql;
mod tidy;
mod upload_records;
mod uploads;
mod verification;
mod verification_grounds;
