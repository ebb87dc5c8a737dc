//! predictd puts a trained model into production and keeps it observable and reversible.
//!
//! # The path of a request
//!
//! A request passes these steps in this order, whatever its protocol. No step calls an earlier one.
//!
//! ```text
//! bytes ── parse ── route ── decode ── assign ── preprocess ── batch ── infer ── postprocess ── encode ── bytes
//! ```
//!
//! | step | where | from, to |
//! |---|---|---|
//! | admit | `api::http::exchange`, `api::grpc::unary`, `api::grpc::stream` | nothing, to a slot among the requests in flight, before the body is read |
//! | parse | a dialect: `api::http::{predict, v2, v1, invocations}`, `api::grpc::infer_request` | the protocol's format, to an [`Input`](predict::Input): instances, tensors, rows or a table, whose values are not decoded yet |
//! | route | [`registry::route`] | the model and version in the URL, to the version that decodes the request |
//! | decode | `predict::decode`, [`decode`] | the bytes of the values, to validated [`Columns`](schema::columns::Columns) in one pass; tensors by [`transform::fields`] and [`decode::elements`], tables by [`decode::csv_table`] |
//! | assign | `predict::assign` | during a rollout: the key of the request, to the arm that answers it ([`schema::binding`] maps the columns by field name) |
//! | preprocess | `predict::preprocess`, [`transform::preprocess`] | columns, to the input [`Tensors`](tensor::Tensors) of the graph; arithmetic in float64, cast once |
//! | batch | `predict::run`, [`engine::batch`] | jobs of many requests, to one run, and back |
//! | infer | [`engine::infer`] | one run of an ONNX Runtime session; the only folder that names `ort` |
//! | postprocess | [`transform::postprocess`] | output tensors, to the fields of the answer |
//! | encode | the same dialect | the fields of the answer, or the outputs of the graph, to the protocol's format |
//!
//! The stable version decodes a request that names no version, once. Only then the request is
//! assigned to an arm. `predict::fallback` finds another answer if the assigned version fails.
//!
//! After postprocessing, or after a failure, [`predict::event`] passes one value that describes the
//! outcome to the observers: rollout evidence, samples for rehearsals, shadow copies, monitors. A new observer
//! requires no change on the path. A request that fails before it is routed has no event.
//!
//! `api::call_frame` does the work around the path for every protocol: deadline, threads, timing.
//! `Api::count_answered` and `FailedRequest::count` write the metrics and the log.
//! `api::http::exchange` adds the parts that all dialects over HTTP share: limits, decompression,
//! headers. A dialect only parses and encodes. Decode, preprocess and postprocess are skipped for a
//! graph without a schema, and for a request that names an explicit version and the graph's inputs.
//! These tensors are checked against the graph's signature and run unchanged.
//!
//! # The life of a version
//!
//! ```text
//! models/NAME/VERSION/ ── source ── reconcile ── loader ── trial (the gate, in a separate process) ── servable ── registry
//! ```
//!
//! A version is a verified package, or a bare graph ([`package::bare`]), which no manifest
//! verifies.
//!
//! The [`registry`]'s watch scans the directory, decides with pure functions what to load and
//! unload, loads in the background, and publishes a new snapshot. A request takes one snapshot,
//! which keeps its version alive.
//!
//! Copies of the stable package and of the previous one are kept next to the journal
//! (`registry::package_copies`), so that these versions survive the loss of their files in the
//! models directory.
//!
//! # Decisions
//!
//! ```text
//! order, verdict ── operate: check ── journal: create if absent ── state: fold ── registry: the next request
//! ```
//!
//! Only the [`journal`] determines which version is stable and which rollout is in progress.
//! [`rollout::state`] is computed from all of its entries in order (a fold), so it is the same on
//! every replica and after every restart. Operators, the judge and the configuration all decide
//! through [`operate`]. [`rollout::judge`] is a pure function of the evidence
//! ([`rollout::evidence`]), which is the sum of all replicas' [`rollout::tally`]. The server, the
//! commands and the console all use the types of [`admin`] as the documents of the admin API.
//!
//! # Layers
//!
//! A module imports only from the lines above its own, and from the modules before it in its line.
//! `tests/tidy.rs` enforces this rule, and the rule below that each library is used in one place.
//!
//! | layer | modules |
//! |---|---|
//! | names, identities, time, digests, documents, settings, metrics | [`id`], [`actor`], [`suggestion`], [`load_state`], [`error`], [`clock`], [`digest`], [`distance`](mod@distance), [`pointer`](mod@pointer), [`document`], [`config`], [`metrics`] |
//! | values, and the signature of a graph | [`tensor`] |
//! | the ONNX file, read without the runtime: whether its graph keeps rows apart | [`graph`] |
//! | the contract with callers | [`schema`] |
//! | bytes to columns | [`decode`] |
//! | columns to tensors, and tensors to outputs | [`transform`] |
//! | a model on disk | [`package`] |
//! | whether callers of an old version can use a new one | [`compat`] |
//! | authentication | [`security`] |
//! | decisions, and the documents about them | [`journal`], [`rollout`], [`admin`] |
//! | tensors in, tensors out | [`engine`] |
//! | drift, and the versions that are loaded | [`monitor`], [`registry`] |
//! | the data plane | [`predict`] |
//! | the control plane | [`operate`] |
//! | transports | [`api`] |
//! | roots | [`telemetry`], [`app`], [`cli`] |
//!
//! Each library is used in one place: `axum` only in [`api`], and in [`app`], which serves the
//! routers; `hyper` only in [`api`], `tower_http` only in `api::http::cors`, `tonic` and `prost`
//! only in [`api::grpc`], `ort` only in [`engine::infer`], `prometheus` only in [`metrics`], `sha2`
//! only in [`digest`], `csv` only in [`decode::csv_table`], `subtle` only in [`security`],
//! `object_store` only in [`journal::store`], `clap` only in [`cli`], `ureq` only in [`cli`]'s
//! client and [`operate`]'s webhook. Only [`clock`] reads the wall-clock time.
//!
//! # Invariants
//!
//! - A value of type [`ModelPackage`](package::ModelPackage) proves that its hashes matched. A
//!   version without a manifest is marked as unverified, and is not served if
//!   `models.require_manifest` is set.
//! - The data plane changes nothing. Operators make every change through the admin listener
//!   ([`api::http::admin`]).
//! - No panic is reachable from a request, a package or a configuration. The lints forbid the usual
//!   causes.
//! - No value of a field marked `x-pii` reaches an error text. No value of any field reaches a log.
//! - A client never chooses the label of a metric.
//! - The memory, rows and time of a version are limited by configuration. Memory that a request
//!   took is given back.
//! - The network threads never wait for a model, a disk, or a lock that inference holds.
//! - Only the journal determines which version is stable. Neither a new file nor a restart promotes
//!   a version.
//! - A decision takes effect when it is written, for the next request, without a load. Only
//!   decisions that protect callers (rollback, abort) and the first choice of a stable version may
//!   take effect before they are written. `operate::pending` writes them before any other decision.
//! - Decisions that were read from a journal stay valid. Damage prevents changes, but never answers
//!   (`operate::trouble`).
//! - A decision is about a package with a digest: other bytes under the same version get no
//!   traffic.
//! - Callers get an error as an [`ErrorCode`](error::ErrorCode). Below `predict` each layer has its
//!   own error types. The text of an error describes its own layer. `error::text_with_sources` adds
//!   the sources where a text leaves the process.

#![deny(missing_docs, unreachable_pub)]
// Tables of cases may be long in tests.
#![cfg_attr(not(test), deny(clippy::too_many_lines))]
#![allow(
    rustdoc::private_intra_doc_links,
    reason = "the documentation is for contributors, and is built with private items"
)]

mod actor;
mod admin;
pub mod api;
pub mod app;
pub mod cli;
mod clock;
pub mod compat;
pub mod config;
pub mod decode;
mod digest;
mod distance;
pub mod document;
pub mod engine;
mod error;
pub mod graph;
pub mod id;
mod journal;
mod load_state;
mod metrics;
mod monitor;
mod operate;
pub mod package;
mod pointer;
mod predict;
pub mod registry;
pub mod rollout;
pub mod schema;
mod security;
mod suggestion;
mod telemetry;
pub mod tensor;
pub mod transform;
