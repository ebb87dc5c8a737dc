//! `[server]`: the data plane's listeners and limits.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{
    error::{InvalidKey, at_least_one},
    listen::{Listen, OptionalListen},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Address of the data plane: predictions, probes, metrics, documentation. HOST:PORT; a name like localhost is resolved at the start.
    pub listen: Listen,
    /// Address of the Open Inference Protocol over gRPC; empty: off.
    pub grpc_listen: OptionalListen,
    /// The largest request body in bytes, as sent and after decompression.
    pub max_body_bytes: usize,
    /// The head of a request and its body must each arrive within this time, else the answer is 408.
    pub read_timeout_ms: u64,
    /// A connection may be silent for this long between requests, or leave an answer unread. It must be longer than the load balancer's
    /// own limit, or a request now and then meets a closing connection (502): Google's keep connections for 600 s (set 620000), Envoy for an hour.
    pub idle_timeout_ms: u64,
    /// The same for gRPC, where the server asks a silent client to reconnect and no call is lost. A stream may be silent for this long, too.
    pub grpc_idle_timeout_ms: u64,
    /// Deadline of a request from its first byte to its answer; a client may set a shorter one with x-request-timeout-ms.
    pub request_timeout_ms: u64,
    /// After SIGTERM the server is not ready but still serves for this long, so that load balancers notice.
    pub drain_grace_ms: u64,
    /// After that it has this long to finish the requests in flight.
    pub drain_timeout_ms: u64,
    /// Requests in flight; more are answered 503 before their body is read.
    pub max_inflight: usize,
    /// Open connections; more are answered 503 and closed.
    pub max_connections: usize,
    #[expect(
        rustdoc::bare_urls,
        reason = "the text becomes a comment in config/predictd.toml"
    )]
    /// Web pages of other origins that may use the data plane from a browser (CORS): exact origins such as "https://app.example.com",
    /// or "*" for all; empty: none. Credentials are not allowed. The operators' listener allows no origin, whatever is set here.
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
    pub fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms)
    }

    pub fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub fn grpc_idle_timeout(&self) -> Duration {
        Duration::from_millis(self.grpc_idle_timeout_ms)
    }

    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub fn drain_grace(&self) -> Duration {
        Duration::from_millis(self.drain_grace_ms)
    }

    pub fn drain_timeout(&self) -> Duration {
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
        let wrong = |reason: String| InvalidKey::new("server.cors_origins", format!(": {reason}"));
        let fault = self
            .cors_origins
            .iter()
            .find_map(|origin| origin_fault(origin));
        if let Some(fault) = fault {
            return Err(wrong(fault));
        }
        if self.cors_origins.len() > 1 && self.cors_origins.iter().any(|origin| origin == "*") {
            return Err(wrong(
                "\"*\" means every origin, so that it stands alone".to_owned(),
            ));
        }
        Ok(())
    }
}

/// Why no browser would ever send this as its `Origin`.
fn origin_fault(origin: &str) -> Option<String> {
    if origin == "*" {
        return None;
    }
    let example = "an origin is like \"https://app.example.com\" or \"http://localhost:3000\", or \"*\" for all";
    let Some((scheme, host)) = origin.split_once("://") else {
        return Some(format!("\"{origin}\" has no scheme; {example}"));
    };
    let default_port = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => "",
    };
    let is_sent = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._:[]".contains(c);
    if host.is_empty() || !host.chars().all(is_sent) {
        return Some(format!(
            "\"{origin}\" is not an origin (lower case, without a path); {example}"
        ));
    }
    (!default_port.is_empty() && host.ends_with(default_port))
        .then(|| format!("\"{origin}\": browsers leave out the port {default_port}"))
}
