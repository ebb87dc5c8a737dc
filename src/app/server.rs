//! `RunningServer`: serves on every listener in the background, until it is stopped.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use axum::Router;
use tokio::{net::TcpListener, runtime::Runtime, sync::watch, task::JoinSet};

use crate::{
    api::{
        Api, ServeOptions,
        grpc::{self, Services},
        http,
    },
    app::{
        core::Core,
        greeting::greet,
        listeners::{Addresses, Listeners, operators},
        network_threads,
        signals::Signals,
        trial,
    },
    config::{Config, ServerConfig},
    engine::infer,
    metrics::Metrics,
    security::tokens::Operators,
};

/// Maximum time that wedged threads and open connections may delay the end of the server.
const LAST_WAIT: Duration = Duration::from_millis(200);

/// The parts that a server gets from its process.
pub struct ServerParts<'a> {
    /// The settings of the server.
    pub config: &'a Config,
    /// The ONNX Runtime library. A process loads it once, for all of its servers.
    pub onnxruntime: infer::Runtime,
    /// The path of the library. The process of the load gate loads the same library.
    pub library: &'a Path,
    /// The path of the `predictd` executable, which runs the load gate.
    pub executable: PathBuf,
    /// A function that returns the number of log lines that the process has dropped.
    pub dropped_log_lines: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// A server whose ports are bound. Connections wait until the server is started.
pub(super) struct BoundServer {
    network: Runtime,
    listeners: Listeners,
    operators: Option<Operators>,
}

impl BoundServer {
    pub(super) fn bind(config: &Config, network: Runtime) -> anyhow::Result<BoundServer> {
        Ok(BoundServer {
            operators: operators(&config.admin)?,
            listeners: network.block_on(Listeners::bind(config))?,
            network,
        })
    }

    /// Starts to load the models and to answer requests.
    pub(super) fn start(self, parts: ServerParts<'_>) -> anyhow::Result<RunningServer> {
        let config = parts.config;
        let addresses = self.listeners.addresses()?;
        let metrics = Metrics::new(config.cost.dollars_per_core_hour)?;
        metrics.server.set_build_info(
            env!("CARGO_PKG_VERSION"),
            option_env!("PREDICTD_COMMIT").unwrap_or("unknown"),
            parts.onnxruntime.version(),
        );
        let trial = trial(&config.models, parts.library, parts.executable);
        let core = Core::start(config, parts.onnxruntime, trial, &metrics)?;
        let api = core.api(config, &metrics, parts.dropped_log_lines)?;
        let Listeners { data, grpc, admin } = self.listeners;
        let admin = admin
            .map(|listener| core.admin(listener, self.operators, &api))
            .transpose()?;
        let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        tracing::info!(
            address = %addresses.data,
            grpc = text(addresses.grpc),
            admin = text(addresses.admin),
            "listening"
        );
        let (stop, stopped) = watch::channel(false);
        let transports = Transports {
            data,
            grpc,
            admin,
            config: &config.server,
            api: &api,
            metrics: &metrics,
        };
        let connections = self
            .network
            .block_on(async { transports.start(&stopped) })?;
        Ok(RunningServer {
            addresses,
            config: config.server.clone(),
            core,
            api,
            stop,
            connections,
            network: self.network,
        })
    }
}

/// A running server in this process.
pub struct RunningServer {
    addresses: Addresses,
    config: ServerConfig,
    core: Core,
    api: Arc<Api>,
    stop: watch::Sender<bool>,
    connections: JoinSet<()>,
    network: Runtime,
}

impl RunningServer {
    /// Binds the ports of the configuration and starts a server on them. Models load in the
    /// background.
    ///
    /// # Errors
    ///
    /// A port can't be bound, the operators' tokens can't be read, or the state directory can't be
    /// opened.
    pub fn start(parts: ServerParts<'_>) -> anyhow::Result<RunningServer> {
        BoundServer::bind(parts.config, network_threads()?)?.start(parts)
    }

    /// The addresses at which the server can be reached.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Prints the greeting, serves until a signal, and drains. `started`: the start of the process.
    pub(super) fn run(&mut self, mut signals: Signals, started: Instant) {
        let RunningServer {
            addresses,
            config,
            core,
            api,
            stop,
            connections,
            network,
        } = self;
        network.block_on(async {
            let greeting = tokio::spawn(greet(core.registry.clone(), *addresses, started));
            signals.next().await;
            greeting.abort();
            tracing::info!(
                grace_ms = config.drain_grace_ms,
                "shutting down: not ready any more, still serving; a second signal (Ctrl-C again) stops at once"
            );
            api.draining.store(true, Ordering::Relaxed);
            tokio::select! {
                () = drain(config, stop, connections) => {}
                () = signals.next() => tracing::warn!("second signal: stopping at once"),
            }
        });
    }

    /// Ends every thread of the server. Requests in flight are cut off.
    pub fn stop(self) {
        let RunningServer {
            core,
            api,
            connections,
            network,
            ..
        } = self;
        drop(connections);
        // Unload the versions before the library is unloaded.
        let Core {
            control,
            watch,
            operator,
            ..
        } = core;
        drop(control);
        drop(watch);
        drop(api);
        network.shutdown_timeout(LAST_WAIT);
        // The store has its own tokio runtime. Dropping that runtime on a thread of another runtime
        // would panic.
        drop(operator);
    }
}

/// The listeners, and the parts that answer requests on them.
struct Transports<'a> {
    data: TcpListener,
    grpc: Option<TcpListener>,
    admin: Option<(TcpListener, Router)>,
    config: &'a ServerConfig,
    api: &'a Arc<Api>,
    metrics: &'a Metrics,
}

impl Transports<'_> {
    fn start(self, stopped: &watch::Receiver<bool>) -> anyhow::Result<JoinSet<()>> {
        let options = ServeOptions {
            read_timeout: self.config.read_timeout(),
            max_connections: self.config.max_connections,
            idle_timeout: self.config.idle_timeout(),
            metrics: self.metrics.clone(),
            draining: Arc::clone(&self.api.draining),
        };
        let mut connections = JoinSet::new();
        connections.spawn(http::connections::serve(
            self.data,
            http::router(Arc::clone(self.api)),
            options.clone(),
            stopped.clone(),
        ));
        if let Some(listener) = self.grpc {
            let services = Services::new(self.api, stopped)?;
            let options = ServeOptions {
                idle_timeout: self.config.grpc_idle_timeout(),
                ..options.clone()
            };
            connections.spawn(grpc::connections::serve(
                listener,
                services,
                options,
                stopped.clone(),
            ));
        }
        if let Some((listener, router)) = self.admin {
            connections.spawn(http::connections::serve(
                listener,
                router,
                options,
                stopped.clone(),
            ));
        }
        Ok(connections)
    }
}

/// Continues to serve for a while so that load balancers notice the shutdown, then finishes the
/// requests in flight.
async fn drain(config: &ServerConfig, stop: &watch::Sender<bool>, connections: &mut JoinSet<()>) {
    tokio::time::sleep(config.drain_grace()).await;
    tracing::info!("no new connections; finishing the requests in flight");
    // If no receiver exists, every server has already ended.
    let _ = stop.send(true);
    let ended = async { while connections.join_next().await.is_some() {} };
    match tokio::time::timeout(config.drain_timeout(), ended).await {
        Ok(_) => tracing::info!("all requests are answered"),
        Err(_) => tracing::warn!(
            timeout_ms = config.drain_timeout_ms,
            "requests are still in flight; they are cut off"
        ),
    }
}
