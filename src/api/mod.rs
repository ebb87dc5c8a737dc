//! Transports: the only home of axum, hyper and the forms on the wire.

mod accept;
pub mod grpc;
mod head;
pub mod http;
pub mod oip;
