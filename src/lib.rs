//! Wattlake: an analytics query server over the electricity payments of mini-grids and solar home systems.
//!
//! The modules, from the ground up. Each imports only from those above it; `tests/it/tidy.rs` holds them to that.

pub mod error;
pub mod failpoints;
pub mod ids;
pub mod local_day;
pub mod nearest;

pub mod durable;

pub mod config;
pub mod telemetry;

pub mod access;
pub mod payments;

pub mod connections;
pub mod programmes;

pub mod catalog;
pub mod lake;

pub mod audit;
pub mod query;

pub mod sql;

pub mod ingest;
pub mod verification;

pub mod http;

pub mod server;

pub mod cli;
pub mod demo;

#[cfg(test)]
#[path = "../tests/fuzz/engine.rs"]
mod fuzz;
