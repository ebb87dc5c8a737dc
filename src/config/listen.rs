//! Addresses of listeners.

use std::net::{SocketAddr, ToSocketAddrs};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not an address; write HOST:PORT, like 127.0.0.1:8080, localhost:8080 or [::1]:8080{}",
    if *optional { ", or an empty string to disable it" } else { "" }
)]
pub(crate) struct AddressError {
    text: String,
    /// Whether the listener may be disabled.
    optional: bool,
}

impl Listen {
    /// Returns the address of a port on the loopback interface.
    pub(crate) fn loopback(port: u16) -> Listen {
        Listen::from(SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

/// An address as `HOST:PORT`, where HOST is an IP address or a name. A name is resolved when the
/// listener is opened. An IPv6 address is in brackets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub(crate) struct Listen {
    /// The host without brackets.
    host: String,
    port: u16,
}

impl Listen {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the addresses of the host, IPv4 first, because most clients of `localhost` connect
    /// to 127.0.0.1. There is always at least one.
    ///
    /// # Errors
    /// The name can't be resolved.
    pub(crate) fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        let mut addresses: Vec<SocketAddr> =
            (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses.dedup();
        if addresses.is_empty() {
            Err(std::io::Error::other("the host name has no address"))
        } else {
            Ok(addresses)
        }
    }
}

impl From<SocketAddr> for Listen {
    fn from(address: SocketAddr) -> Listen {
        Listen {
            host: address.ip().to_string(),
            port: address.port(),
        }
    }
}

impl TryFrom<String> for Listen {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Listen, AddressError> {
        text.parse()
    }
}

impl std::str::FromStr for Listen {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Listen, AddressError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Listen::from(address));
        }
        let wrong = || AddressError {
            text: text.to_owned(),
            optional: false,
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let is_name = host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
        // A host of only digits and dots is a mistyped address, not a name to resolve.
        let is_number = host
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        if host.is_empty() || host.len() > 253 || !is_name || is_number {
            Err(wrong())
        } else {
            Ok(Listen {
                host: host.to_owned(),
                port,
            })
        }
    }
}

impl From<Listen> for String {
    fn from(listen: Listen) -> String {
        listen.to_string()
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// The address of a listener, or an empty string if the listener is disabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub(crate) struct OptionalListen(pub(crate) Option<Listen>);

impl TryFrom<String> for OptionalListen {
    type Error = AddressError;

    fn try_from(text: String) -> Result<OptionalListen, AddressError> {
        if text.is_empty() {
            return Ok(OptionalListen(None));
        }
        text.parse()
            .map(|listen| OptionalListen(Some(listen)))
            .map_err(|error: AddressError| AddressError {
                optional: true,
                ..error
            })
    }
}

impl From<OptionalListen> for String {
    fn from(listen: OptionalListen) -> String {
        listen
            .0
            .map_or_else(String::new, |listen| listen.to_string())
    }
}
