//! `Server`: serves on every listener until a signal, then drains.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use axum::Router;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{
    api::{
        Api, ServeOptions,
        grpc::{self, Services},
        http,
    },
    app::{greeting::greet, signals::Signals},
    config::ServerConfig,
    metrics::Metrics,
    registry::Registry,
};

/// Everything that listens, built and not yet started.
pub(super) struct Server<'a> {
    pub listener: TcpListener,
    pub grpc: Option<TcpListener>,
    pub admin: Option<(TcpListener, Router)>,
    pub config: &'a ServerConfig,
    pub registry: &'a Registry,
    pub api: &'a Arc<Api>,
    pub metrics: &'a Metrics,
}

/// The addresses at which the server can be reached.
pub(super) struct Addresses {
    pub data: SocketAddr,
    pub grpc: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
}

impl Server<'_> {
    pub(super) async fn run(self, mut signals: Signals, started: Instant) -> anyhow::Result<()> {
        let (config, api) = (self.config, Arc::clone(self.api));
        let addresses = self.addresses()?;
        let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        tracing::info!(address = %addresses.data, grpc = text(addresses.grpc), admin = text(addresses.admin), "listening");
        let greeting = tokio::spawn(greet(self.registry.clone(), addresses, started));
        let (stop, stopped) = watch::channel(false);
        let servers = self.start(&stopped)?;

        signals.next().await;
        greeting.abort();
        tracing::info!(
            grace_ms = config.drain_grace_ms,
            "shutting down: not ready any more, still serving; a second signal (Ctrl-C again) stops at once"
        );
        api.draining.store(true, Ordering::Relaxed);
        tokio::select! {
            () = drain(config, &stop, servers) => {}
            () = signals.next() => tracing::warn!("second signal: stopping at once"),
        }
        Ok(())
    }

    fn addresses(&self) -> std::io::Result<Addresses> {
        let grpc = self.grpc.as_ref();
        let admin = self.admin.as_ref();
        Ok(Addresses {
            data: self.listener.local_addr()?,
            grpc: grpc.map(TcpListener::local_addr).transpose()?,
            admin: admin
                .map(|(listener, _)| listener.local_addr())
                .transpose()?,
        })
    }

    fn start(self, stopped: &watch::Receiver<bool>) -> anyhow::Result<JoinSet<()>> {
        let options = ServeOptions {
            read_timeout: self.config.read_timeout(),
            max_connections: self.config.max_connections,
            idle_timeout: self.config.idle_timeout(),
            metrics: self.metrics.clone(),
            draining: Arc::clone(&self.api.draining),
        };
        let mut servers = JoinSet::new();
        servers.spawn(http::connections::serve(
            self.listener,
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
            servers.spawn(grpc::connections::serve(
                listener,
                services,
                options,
                stopped.clone(),
            ));
        }
        if let Some((listener, router)) = self.admin {
            servers.spawn(http::connections::serve(
                listener,
                router,
                options,
                stopped.clone(),
            ));
        }
        Ok(servers)
    }
}

/// Serves on for a while so that load balancers notice, then finishes the requests in flight.
async fn drain(config: &ServerConfig, stop: &watch::Sender<bool>, servers: JoinSet<()>) {
    tokio::time::sleep(config.drain_grace()).await;
    tracing::info!("no new connections; finishing the requests in flight");
    // Without a receiver every server has ended already.
    let _ = stop.send(true);
    match tokio::time::timeout(config.drain_timeout(), servers.join_all()).await {
        Ok(_) => tracing::info!("all requests are answered"),
        Err(_) => tracing::warn!(
            timeout_ms = config.drain_timeout_ms,
            "requests are still in flight; they are cut off"
        ),
    }
}
