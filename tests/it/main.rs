//! The promises of the whole: one binary, because each links the engine.

mod cli;
mod harness;
mod projects;
mod server;
mod tidy;
