//! `[server]`: the data plane's listeners and limits.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{
    error::{InvalidKey, KeyFault, OriginFault, at_least_one},
    listen::{Listen, OptionalListen},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ServerConfig {
    /// Address of the data plane (predictions, probes, metrics, documentation) as HOST:PORT. A host
    /// name is resolved once, when the server starts.
    pub listen: Listen,
    /// Address of the Open Inference Protocol over gRPC. Empty disables it.
    pub grpc_listen: OptionalListen,
    /// Maximum size of a request body in bytes, both as sent and after decompression.
    pub max_body_bytes: usize,
    /// Time limit for receiving the head of a request, and again for its body. A slower request is
    /// answered 408.
    pub read_timeout_ms: u64,
    /// Time that a connection may be idle between requests, or leave an answer unread. It must be
    /// longer than the load balancer's idle timeout; otherwise the load balancer sometimes sends a
    /// request on a closing connection (502). Google Cloud's load balancers use 600 s (set 620000),
    /// Envoy uses one hour.
    pub idle_timeout_ms: u64,
    /// Time that a gRPC connection or stream may be idle. The server then asks the client to
    /// reconnect (GOAWAY), and no call is lost.
    pub grpc_idle_timeout_ms: u64,
    /// Deadline of a request, from its first byte to its answer. A client may set a shorter one
    /// with x-request-timeout-ms.
    pub request_timeout_ms: u64,
    /// Time after SIGTERM in which the server reports not ready but still serves, so that load
    /// balancers stop sending requests.
    pub drain_grace_ms: u64,
    /// Time limit for finishing the requests in flight, after drain_grace_ms.
    pub drain_timeout_ms: u64,
    /// Maximum number of requests in flight. Further requests get 503 before their body is
    /// read.
    pub max_inflight: usize,
    /// Maximum number of open connections. Further connections get 503 and are closed.
    pub max_connections: usize,
    #[expect(
        rustdoc::bare_urls,
        reason = "the text becomes a comment in config/predictd.toml"
    )]
    /// Origins of web pages that may use the data plane from a browser (CORS): exact origins such
    /// as "https://app.example.com", or "*" for all. Empty allows none. Credentials are not
    /// allowed. The admin listener never allows another origin.
    pub cors_origins: Vec<String>,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            listen: Listen::loopback(8080),
            grpc_listen: OptionalListen(Some(Listen::loopback(8081))),
            max_body_bytes: 16 << 20,
            read_timeout_ms: 10_000,
            idle_timeout_ms: 75_000,
            grpc_idle_timeout_ms: 300_000,
            request_timeout_ms: 10_000,
            drain_grace_ms: 5_000,
            drain_timeout_ms: 30_000,
            max_inflight: 1024,
            max_connections: 10_000,
            cors_origins: Vec::new(),
        }
    }
}

impl ServerConfig {
    pub(crate) fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub(crate) fn grpc_idle_timeout(&self) -> Duration {
        Duration::from_millis(self.grpc_idle_timeout_ms)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(crate) fn drain_grace(&self) -> Duration {
        Duration::from_millis(self.drain_grace_ms)
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        Duration::from_millis(self.drain_timeout_ms)
    }

    pub(super) fn check(&self) -> Result<(), InvalidKey> {
        at_least_one(&[
            ("server.max_body_bytes", self.max_body_bytes as u64),
            ("server.read_timeout_ms", self.read_timeout_ms),
            ("server.idle_timeout_ms", self.idle_timeout_ms),
            ("server.grpc_idle_timeout_ms", self.grpc_idle_timeout_ms),
            ("server.request_timeout_ms", self.request_timeout_ms),
            ("server.max_inflight", self.max_inflight as u64),
            ("server.max_connections", self.max_connections as u64),
        ])?;
        let wrong =
            |fault: OriginFault| InvalidKey::new("server.cors_origins", KeyFault::Origin(fault));
        let fault = self
            .cors_origins
            .iter()
            .find_map(|origin| origin_fault(origin));
        if let Some(fault) = fault {
            return Err(wrong(fault));
        }
        if self.cors_origins.len() > 1 && self.cors_origins.iter().any(|origin| origin == "*") {
            return Err(wrong(OriginFault::NotAlone));
        }
        Ok(())
    }
}

/// The reason why no browser would send this string as its `Origin`. `None` if it is valid.
fn origin_fault(origin: &str) -> Option<OriginFault> {
    if origin == "*" {
        return None;
    }
    let Some((scheme, host)) = origin.split_once("://") else {
        return Some(OriginFault::NoScheme(origin.to_owned()));
    };
    let default_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => "",
    };
    let is_sent = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._:[]".contains(c);
    if host.is_empty() || !host.chars().all(is_sent) {
        return Some(OriginFault::NotAnOrigin(origin.to_owned()));
    }
    (!default_port.is_empty() && host.ends_with(default_port)).then(|| OriginFault::DefaultPort {
        origin: origin.to_owned(),
        port: default_port,
    })
}
