//! gRPC: the Open Inference Protocol's service, health checks and reflection.

pub mod contents;

/// The messages and the service, made from `proto/open_inference.proto` by `tests/it/proto.rs`.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::redundant_closure_for_method_calls,
    rust_2018_idioms,
    reason = "generated code is as its generator writes it"
)]
pub mod inference {
    include!("generated/inference.rs");
}

/// The descriptors of these messages, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/inference.bin");
