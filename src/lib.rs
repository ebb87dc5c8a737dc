//! predictd puts a trained model into production and keeps it observable and reversible.
//!
//! # The path of a request
//!
//! One straight line, whatever protocol it came by; each step lies in the file of its name, and nobody reaches back.
//!
//! ```text
//! bytes ── decode ── route ── preprocess ── batch ── infer ── postprocess ── encode ── bytes
//! ```
//!
//! | step | where | from, to |
//! |---|---|---|
//! | admit | `api::http::exchange`, `api::grpc::unary`, `api::grpc::stream` | a place among the requests in flight, before anything is read |
//! | take apart | a dialect: `api::http::{predict, v2, v1, invocations}`, `api::grpc::infer_request` | the protocol's form, to an [`Input`](predict::Input): instances, tensors, rows or a table, their values untouched |
//! | route | [`registry::route`], `predict::assign` | the URL's model and version, to the version that decodes; during a rollout the key of what was decoded, to the arm that answers ([`schema::binding`]: its columns by field name) |
//! | decode | [`decode`] | the values' bytes, to validated [`Columns`](schema::columns::Columns): one pass, no tree between; tensors by [`transform::fields`] and [`decode::elements`], tables by [`decode::csv_table`] |
//! | preprocess | [`transform::preprocess`] | columns, to the graph's input [`Tensors`](tensor::Tensors); arithmetic in float64, cast once |
//! | batch | [`engine::batch`] | jobs of many requests, to one run; and back |
//! | infer | [`engine::infer`] | one run of an ONNX Runtime session; the only folder that names `ort` |
//! | postprocess | [`transform::postprocess`] | output tensors, to the response's fields |
//! | encode | the same dialect | the response's fields, or the graph's outputs, to the protocol's form |
//!
//! A request without a version is decoded once, by the stable version's schema, and only then assigned to an arm. What a shadow
//! answers is a copy (`predict::shadow`), on a thread that no caller waits for; what answers in place of a version that fails
//! is `predict::fallback`.
//!
//! `api::call` is the frame around it for every protocol: deadline, threads, timing, metrics. `api::http::exchange` adds what all
//! dialects over HTTP share: limits, decompression, headers. A dialect only reads and writes; no rule is written twice. A graph without a schema, and a request that names a
//! package's graph inputs under an explicit version, skip decode, preprocess and postprocess: their tensors are checked
//! against the graph's signature and run as they are.
//!
//! # The life of a version
//!
//! ```text
//! models/NAME/VERSION/ ── source ── reconcile ── loader ── trial (a process of its own: the gate) ── servable ── registry
//! ```
//!
//! A version is a verified package, or a bare graph ([`package::bare`]) for which no manifest vouches.
//!
//! Copies of the package that answers and of the one before lie beside the journal (`registry::package_copies`): what was decided on outlives
//! its files in the models directory.
//!
//! [`registry`]'s watch looks at the directory, decides with pure functions what to load and unload, loads in the
//! background, and publishes a new snapshot. A request takes one snapshot and keeps its version alive by holding it.
//!
//! # What answers, and who decides it
//!
//! ```text
//! order, verdict ── operate: check ── journal: create-if-absent ── state: fold ── registry: the next request
//! ```
//!
//! [`journal`] is the one truth about which version is stable and which rollout runs; [`rollout::state`] is its fold, the same on
//! every replica and after every restart. [`operate`] is the one door to it, for operators, the judge and the configuration.
//! [`rollout::judge`] is a pure function of the evidence ([`rollout::evidence`]) that all replicas' [`rollout::tally`]s add up to.
//!
//! # Layers
//!
//! A module imports only from lines above its own; `tests/tidy.rs` holds it to that, and to the doors below.
//!
//! | layer | modules |
//! |---|---|
//! | names, identities, time, digests | [`id`], [`actor`], [`suggestion`], [`error`], [`clock`], [`digest`], [`config`], [`metrics`] |
//! | values, and the tensors that a graph takes and gives | [`tensor`] |
//! | the ONNX file, read without the runtime: what its graph does to rows | [`graph`] |
//! | the contract with callers | [`schema`] |
//! | bytes to columns | [`decode`] |
//! | columns to tensors, and tensors to outputs | [`transform`] |
//! | a model at rest | [`package`] |
//! | what callers of an old version may do with a new one | [`compat`] |
//! | who may do what | [`security`] |
//! | decisions, and the documents about them | [`journal`], [`rollout`], [`admin`] |
//! | tensors in, tensors out | [`engine`] |
//! | which versions are loaded | [`registry`] |
//! | the data plane | [`predict`] |
//! | the control plane | [`operate`] |
//! | transports | [`api`] |
//! | roots | [`telemetry`], [`app`], [`cli`] |
//!
//! One library, one door: `axum` and `hyper` only in [`api`], `tower_http` only in `api::http::cors`, `tonic` and `prost` only in [`api::grpc`], `ort` only in
//! [`engine::infer`], `prometheus` only in [`metrics`], `sha2` only in [`digest`], `csv` only in [`decode::csv_table`],
//! `subtle` only in [`security`], `object_store` only in [`journal::store`], `clap` only in [`cli`], `ureq` only in [`cli`]'s client and [`operate`]'s webhook, wall time only in [`clock`].
//!
//! # Invariants
//!
//! - A [`ModelPackage`](package::ModelPackage) as a value means: its hashes matched, now. What no manifest vouches for says
//!   so, and does not answer where `models.require_manifest` is set.
//! - The data plane changes nothing. What changes something is on the operators' listener ([`api::http::admin`]).
//! - No panic is reachable from a request, a package or a configuration: the lints forbid what could.
//! - No value of a field marked `x-pii` reaches an error text; no value of any field reaches a log.
//! - A label of a metric is never a client's to choose.
//! - What a version may take of memory, rows and time is configured; what one request took is given back.
//! - Nothing on the network threads waits for a model, a disk or a lock that inference holds.
//! - Only the journal decides what is stable. A file that appears promotes nothing, and neither does a restart.
//! - A decision takes effect when it is written, not before; and then for the next request, without a load. Only what protects callers
//!   (a rollback, an abort) and the first choice take effect though they can't be written: `operate::pending` writes them first.
//! - What is known of a journal holds: damage costs changes, never answers (`operate::trouble`).
//! - What was decided on is a package with a digest: other bytes under the same version get no traffic.
//! - What a caller sees of an error is an [`ErrorCode`](error::ErrorCode); below `predict` each layer has its own errors.

pub mod actor;
pub mod admin;
pub mod api;
pub mod app;
pub mod cli;
pub mod clock;
pub mod compat;
pub mod config;
pub mod decode;
pub mod digest;
pub mod engine;
pub mod error;
pub mod graph;
pub mod id;
pub mod journal;
pub mod metrics;
pub mod operate;
pub mod package;
pub mod predict;
pub mod registry;
pub mod rollout;
pub mod schema;
pub mod security;
pub mod suggestion;
pub mod telemetry;
pub mod tensor;
pub mod transform;
