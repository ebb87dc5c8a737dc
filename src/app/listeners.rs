//! Listeners: binds their addresses before anything else starts.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use tokio::net::TcpListener;

use crate::{
    config::{AdminConfig, Config, Listen, ServerConfig},
    error::text_with_sources,
    security::tokens::Operators,
};

/// The addresses at which a server can be reached.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// The address for HTTP.
    pub data: SocketAddr,
    /// The address for gRPC. `None` if gRPC is disabled.
    pub grpc: Option<SocketAddr>,
    /// The address of the admin API. `None` if the admin API is disabled.
    pub admin: Option<SocketAddr>,
}

pub(super) struct Listeners {
    pub data: TcpListener,
    pub grpc: Option<TcpListener>,
    pub admin: Option<TcpListener>,
}

impl Listeners {
    pub(super) async fn bind(config: &Config) -> anyhow::Result<Listeners> {
        Ok(Listeners {
            data: bind_data(&config.server).await?,
            grpc: bind_grpc(&config.server).await?,
            admin: bind_admin(&config.admin).await?,
        })
    }

    /// The bound addresses.
    pub(super) fn addresses(&self) -> std::io::Result<Addresses> {
        let of = |listener: &Option<TcpListener>| {
            listener.as_ref().map(TcpListener::local_addr).transpose()
        };
        Ok(Addresses {
            data: self.data.local_addr()?,
            grpc: of(&self.grpc)?,
            admin: of(&self.admin)?,
        })
    }
}

async fn bind_data(config: &ServerConfig) -> anyhow::Result<TcpListener> {
    bind(&config.listen, "--listen or server.listen").await
}

async fn bind_grpc(config: &ServerConfig) -> anyhow::Result<Option<TcpListener>> {
    match &config.grpc_listen.0 {
        Some(listen) => bind(listen, "server.grpc_listen (empty: off)")
            .await
            .map(Some),
        None => Ok(None),
    }
}

async fn bind_admin(config: &AdminConfig) -> anyhow::Result<Option<TcpListener>> {
    match &config.listen.0 {
        Some(listen) => bind(listen, "admin.listen (empty: off)").await.map(Some),
        None => Ok(None),
    }
}

/// Opens every listener for a moment, like `serve` does. Returns an error message for each listener
/// that can't be opened.
pub(crate) fn listening_faults(config: &Config) -> anyhow::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut faults = Vec::new();
    let mut note = |fault: Option<anyhow::Error>| {
        faults.extend(fault.map(|error| text_with_sources(error.as_ref())));
    };
    // All listeners stay open until the end, so that two listeners on one address are also
    // reported.
    let data = runtime.block_on(bind_data(&config.server));
    let grpc = runtime.block_on(bind_grpc(&config.server));
    let operators = operators(&config.admin);
    let admin = if operators.is_ok() {
        runtime.block_on(bind_admin(&config.admin))
    } else {
        Ok(None)
    };
    note(data.err());
    note(grpc.err());
    note(operators.err());
    note(admin.err());
    Ok(faults)
}

/// Binds the first address of the host that can be bound.
async fn bind(listen: &Listen, key: &str) -> anyhow::Result<TcpListener> {
    let addresses = listen
        .resolve()
        .with_context(|| format!("{key}: resolving {listen}"))?;
    let mut failed = None;
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                bail!(
                    "{address} is in use, by another process or by another listener of this \
                     server; choose another address with {key}"
                )
            }
            Err(error) => failed = Some(error),
        }
    }
    let error = failed.unwrap_or_else(|| std::io::Error::other("it has no address"));
    Err(error).with_context(|| format!("{key}: listening on {listen}"))
}

/// Reads the operators. Returns `None` if no token is required, which is allowed only on loopback.
pub(super) fn operators(config: &AdminConfig) -> anyhow::Result<Option<Operators>> {
    if !config.token_file.as_os_str().is_empty() {
        return Ok(Some(Operators::read(&config.token_file)?));
    }
    let Some(listen) = &config.listen.0 else {
        return Ok(None);
    };
    // A name may resolve to an address that other machines can reach.
    let addresses = listen
        .resolve()
        .with_context(|| format!("admin.listen: resolving {listen}"))?;
    match addresses.iter().find(|address| !address.ip().is_loopback()) {
        Some(address) => {
            bail!(
                "admin.listen is {listen} ({address}), which others can reach: name a file of tokens in admin.token_file, or listen on 127.0.0.1"
            )
        }
        None => Ok(None),
    }
}
