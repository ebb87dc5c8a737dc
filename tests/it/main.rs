//! Tests with the real server process and real requests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stdout,
    reason = "a test may panic: that is how it fails"
)]

mod admin;
mod check;
mod commands;
mod compat;
mod control;
mod decisions;
mod dialects;
mod drain;
mod drift;
mod engine;
mod errors;
mod fallback;
mod fuzz;
mod gate;
mod grpc;
mod hang_ups;
mod harness;
mod health;
mod ignored;
mod import;
mod init;
mod memory;
mod metrics;
mod pages;
mod predict;
mod proto;
mod readme;
mod recovery;
mod repository;
mod rollout;
mod rows;
mod scenarios;
mod shapes;
mod snapshots;
mod watch;
