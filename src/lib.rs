//! predictd puts a trained model into production and keeps it observable and reversible.
//!
//! # The path of a request
//!
//! One straight line; each step lies in the file of its name, and nobody reaches back.
//!
//! ```text
//! bytes ── decode ── route ── preprocess ── batch ── infer ── postprocess ── encode ── bytes
//! ```
//!
//! | step | where | from, to |
//! |---|---|---|
//! | admit | [`api::http`], [`api::grpc`] | a place among the requests in flight, before anything is read |
//! | route | [`registry::route`] | the URL's model and version, to the version that answers |
//! | decode | [`package::decode`] | the body's bytes, to validated [`Columns`](package::columns::Columns): one pass, no tree between |
//! | preprocess | [`package::preprocess`] | columns, to the graph's input [`Tensors`](tensor::Tensors); arithmetic in float64, cast once |
//! | batch | [`engine::batch`] | jobs of many requests, to one run; and back |
//! | infer | [`engine::infer`] | one run of an ONNX Runtime session; the only file that names `ort` |
//! | postprocess | [`package::postprocess`] | output tensors, to the response's fields |
//! | encode | `api::http::encode`, [`api::grpc::contents`] | the response's fields, to bytes |
//!
//! (A version decides how its requests are decoded, so the route is found by the URL first. Decoding and routing change
//! places once a version is chosen by more than the URL.)
//!
//! # The life of a version
//!
//! ```text
//! models/NAME/VERSION/ ── source ── reconcile ── loader ── trial (a process of its own: the gate) ── servable ── registry
//! ```
//!
//! [`registry`]'s watch looks at the directory, decides with pure functions what to load and unload, loads in the
//! background, and publishes a new snapshot. A request takes one snapshot and keeps its version alive by holding it.
//!
//! # Layers
//!
//! A module imports only from lines above its own; `tests/tidy.rs` holds it to that, and to the doors below.
//!
//! | layer | modules |
//! |---|---|
//! | names, numbers, time | [`id`], [`error`], [`clock`], [`config`], [`metrics`] |
//! | values | [`tensor`] |
//! | a model at rest | [`package`] |
//! | tensors in, tensors out | [`engine`] |
//! | which versions are loaded | [`registry`] |
//! | the data plane | [`predict`] |
//! | transports | [`api`] |
//! | roots | [`telemetry`], [`app`], [`cli`] |
//!
//! One library, one door: `axum` and `hyper` only in [`api`], `tonic` and `prost` only in [`api::grpc`], `ort` only in
//! [`engine::infer`], `prometheus` only in [`metrics`], `sha2` only in [`package::digest`], `clap` only in [`cli`], wall
//! time only in [`clock`].
//!
//! # Invariants
//!
//! - A [`ModelPackage`](package::ModelPackage) as a value means: its hashes matched, now. Nothing unverified answers.
//! - No panic is reachable from a request, a package or a configuration: the lints forbid what could.
//! - No value of a field marked `x-pii` reaches an error text; no value of any field reaches a log.
//! - A label of a metric is never a client's to choose.
//! - Nothing on the network threads waits for a model, a disk or a lock that inference holds.
//! - A stable version is chosen on start or by an operator. A file that appears promotes nothing.
//! - What a caller sees of an error is an [`ErrorCode`](error::ErrorCode); below `predict` each layer has its own errors.

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
