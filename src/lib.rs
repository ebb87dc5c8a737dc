//! predictd
pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod error;
pub mod id;
pub mod metrics;
pub mod package;
pub mod predict;
pub mod registry;
pub mod telemetry;
pub mod tensor;
