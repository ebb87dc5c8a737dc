//! App: the composition root. Builds every part from the configuration, starts them in order, and stops them in order.

use std::{
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use axum::Router;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::JoinSet,
};

use crate::{
    api::{
        Api, ApiParts, ServeOptions,
        grpc::{self, Services},
        http::{
            self,
            admin::{Admin, Authentication},
        },
    },
    config::{AdminConfig, Config, Listen},
    engine::{infer::Runtime, library, supervisor::Supervisor},
    journal::store::Store,
    metrics::Metrics,
    operate::{Control, Operator, OperatorParts, Webhook},
    predict::Predictor,
    registry::{
        Registry, Remembered, Watch, WatchParts, kept::Kept, loader::Loader, not_ready,
        trial::Trial,
    },
    security::tokens::Operators,
    telemetry::Telemetry,
};

/// A longer example is not printed: an image would fill the terminal.
const MAX_TRIED_BYTES: usize = 4096;

/// How often the start looks whether the models are loaded, for the greeting.
const GREETING_TICK: Duration = Duration::from_millis(5);

/// How long wedged threads and open connections may hold up the very end.
const LAST_WAIT: Duration = Duration::from_millis(200);

/// Cores that this process may use (cgroup limits and affinity included).
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// The library that this configuration leads to.
pub fn find_library(config: &Config) -> anyhow::Result<PathBuf> {
    let environment = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let executable = std::env::current_exe().ok();
    Ok(library::find(
        &config.runtime.library,
        environment.as_deref(),
        executable.as_deref(),
    )?)
}

/// The gate's process: predictd itself.
pub fn trial(config: &Config, library: &Path) -> anyhow::Result<Trial> {
    Ok(Trial {
        executable: std::env::current_exe().context("finding the path of this program")?,
        library: library.to_path_buf(),
        timeout: config.models.gate_timeout(),
        memory_bytes: config.models.gate_memory_bytes,
    })
}

/// Serves until a signal ends it. Blocks; owns its own tokio runtime.
pub fn serve(config: &Config) -> anyhow::Result<()> {
    let started = Instant::now();
    let telemetry = Telemetry::install(&config.telemetry).map_err(anyhow::Error::msg)?;
    raise_descriptor_limit();
    let library = find_library(config)?;
    // The port comes first: a second server on it must fail at once, and connections may wait while models load.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores())
        .thread_name("network")
        .enable_all()
        .build()?;
    // From here on a signal is a request to stop, however early it comes.
    let signals = runtime.block_on(async { Signals::install() })?;
    let listener = runtime.block_on(bind_data(config))?;
    let grpc = runtime.block_on(bind_grpc(config))?;
    let operators = operators(&config.admin)?;
    let admin_listener = runtime.block_on(bind_admin(config))?;
    let onnxruntime = Runtime::load(&library)?;
    let metrics = Metrics::new(config.cost.dollars_per_core_hour)?;
    metrics.server.set_build_info(
        env!("CARGO_PKG_VERSION"),
        option_env!("PREDICTD_COMMIT").unwrap_or("unknown"),
        onnxruntime.version(),
    );
    tracing::info!(library = %library.display(), onnxruntime = onnxruntime.version(), cores = cores(), "starting");

    let supervisor = Arc::new(Supervisor::start()?);
    let registry = Registry::default();
    let remembered = Remembered::new(config.state.directory(), onnxruntime.version());
    let kept = Kept::of(config);
    let loader = Loader {
        trial: trial(config, &library)?,
        runtime: onnxruntime,
        remembered,
        config: config.clone(),
        metrics: metrics.clone(),
        kept: kept.clone(),
        cores: cores(),
    };
    let store = match config.state.directory() {
        Some(directory) => Store::local(directory)?,
        None => Store::memory()?,
    };
    let webhook = Webhook::start(&config.admin.webhook, &metrics)?;
    let parts = OperatorParts {
        registry: registry.clone(),
        store,
        metrics: metrics.clone(),
        kept: kept.clone(),
        config: config.clone(),
        webhook,
    };
    let operator = Operator::new(parts);
    let watch = Watch::start(WatchParts {
        registry: registry.clone(),
        adopter: Arc::<Operator>::clone(&operator),
        loader: Arc::new(loader),
        metrics: metrics.clone(),
        supervisor,
        kept,
        config: config.clone(),
    })?;
    operator.connect(watch.commander());
    let control = Control::start(&operator)?;
    let api = Api::new(ApiParts {
        registry: registry.clone(),
        predictor: Predictor::new(registry.clone(), cores(), Vec::new())?,
        metrics: metrics.clone(),
        config: config.server.clone(),
        platform: config.platform.clone(),
        max_wedged: if config.runtime.max_wedged == 0 {
            cores()
        } else {
            config.runtime.max_wedged
        },
        request_log: config.telemetry.request_log,
        dropped_log_lines: telemetry.dropped_lines(),
    });
    let admin = match admin_listener {
        Some(listener) => {
            let user = std::env::var_os("USER").map_or_else(
                || "unknown".to_owned(),
                |user| user.to_string_lossy().into_owned(),
            );
            let authentication = Authentication {
                operators,
                address: listener.local_addr()?,
                user,
            };
            let admin = Admin {
                api: Arc::clone(&api),
                commander: watch.commander(),
                operator: Arc::clone(&operator),
                authentication,
            };
            Some((listener, http::admin::router(Arc::new(admin))))
        }
        None => None,
    };
    let server = Server {
        listener,
        grpc,
        admin,
        config,
        registry: &registry,
        api: &api,
        metrics: &metrics,
    };
    runtime.block_on(server.run(signals, started))?;

    // Nothing is in flight any more: versions go before the library, the log's last lines go out at the end.
    drop(control);
    drop(watch);
    drop(api);
    runtime.shutdown_timeout(LAST_WAIT);
    // Its store has a runtime of its own, which no task of this one may be the last to drop: that would be a panic.
    drop(operator);
    drop(telemetry);
    Ok(())
}

async fn bind_data(config: &Config) -> anyhow::Result<TcpListener> {
    bind(&config.server.listen, "--listen or server.listen").await
}

async fn bind_grpc(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    match &config.server.grpc_listen.0 {
        Some(listen) => bind(listen, "server.grpc_listen (empty: off)")
            .await
            .map(Some),
        None => Ok(None),
    }
}

async fn bind_admin(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    match &config.admin.listen.0 {
        Some(listen) => bind(listen, "admin.listen (empty: off)").await.map(Some),
        None => Ok(None),
    }
}

/// Opens every listener for a moment, as `serve` would: what is wrong with each.
pub fn listening_faults(config: &Config) -> anyhow::Result<Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut faults = Vec::new();
    let mut note =
        |fault: Option<anyhow::Error>| faults.extend(fault.map(|error| format!("{error:#}")));
    // All at once: two listeners on one address are a fault, too.
    let data = runtime.block_on(bind_data(config));
    let grpc = runtime.block_on(bind_grpc(config));
    let operators = operators(&config.admin);
    let admin = if operators.is_ok() {
        runtime.block_on(bind_admin(config))
    } else {
        Ok(None)
    };
    note(data.err());
    note(grpc.err());
    note(operators.err());
    note(admin.err());
    Ok(faults)
}

/// The first of the host's addresses that can be listened on.
async fn bind(listen: &Listen, key: &str) -> anyhow::Result<TcpListener> {
    let addresses = listen
        .resolve()
        .with_context(|| format!("{key}: finding the address of {listen}"))?;
    let mut failed = None;
    for address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                bail!("{address} is in use by another process; choose another with {key}")
            }
            Err(error) => failed = Some(error),
        }
    }
    let error = failed.unwrap_or_else(|| std::io::Error::other("it has no address"));
    Err(error).with_context(|| format!("{key}: listening on {listen}"))
}

/// Who may operate; `None` where nobody needs a token, which only loopback allows.
fn operators(config: &AdminConfig) -> anyhow::Result<Option<Operators>> {
    if !config.token_file.as_os_str().is_empty() {
        return Ok(Some(Operators::read(&config.token_file)?));
    }
    let Some(listen) = &config.listen.0 else {
        return Ok(None);
    };
    // A name is what it stands for.
    let addresses = listen
        .resolve()
        .with_context(|| format!("admin.listen: finding the address of {listen}"))?;
    match addresses.iter().find(|address| !address.ip().is_loopback()) {
        Some(address) => {
            bail!(
                "admin.listen is {listen} ({address}), which others can reach: name a file of tokens in admin.token_file, or listen on 127.0.0.1"
            )
        }
        None => Ok(None),
    }
}

/// The signals that end the server.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Caught, so that a file that may not grow is an error of the writing and not the end of the server.
    _file_size: Signal,
}

/// `SIGXFSZ`, on Linux and macOS.
const FILE_SIZE: i32 = 25;

impl Signals {
    fn install() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _file_size: signal(SignalKind::from_raw(FILE_SIZE))?,
        })
    }

    async fn next(&mut self) {
        tokio::select! { _ = self.terminate.recv() => {}, _ = self.interrupt.recv() => {} }
    }
}

/// Everything that listens, built and not yet started.
struct Server<'a> {
    listener: TcpListener,
    grpc: Option<TcpListener>,
    admin: Option<(TcpListener, Router)>,
    config: &'a Config,
    registry: &'a Registry,
    api: &'a Arc<Api>,
    metrics: &'a Metrics,
}

/// Where the server can be reached.
struct Addresses {
    data: SocketAddr,
    grpc: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

impl Server<'_> {
    async fn run(self, mut signals: Signals, started: Instant) -> anyhow::Result<()> {
        let Server {
            listener,
            grpc,
            admin,
            config,
            registry,
            api,
            metrics,
        } = self;
        let addresses = Addresses {
            data: listener.local_addr()?,
            grpc: grpc.as_ref().map(TcpListener::local_addr).transpose()?,
            admin: admin
                .as_ref()
                .map(|(listener, _)| listener.local_addr())
                .transpose()?,
        };
        let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        tracing::info!(address = %addresses.data, grpc = text(addresses.grpc), admin = text(addresses.admin), "listening");
        let (stop, stopped) = watch::channel(false);
        let options = ServeOptions {
            read_timeout: config.server.read_timeout(),
            max_connections: config.server.max_connections,
            idle_timeout: config.server.idle_timeout(),
            metrics: metrics.clone(),
            draining: Arc::clone(&api.draining),
        };
        let mut servers = JoinSet::new();
        servers.spawn(http::serve::serve(
            listener,
            http::router(Arc::clone(api)),
            options.clone(),
            stopped.clone(),
        ));
        if let Some(listener) = grpc {
            let services = Services::new(api, &stopped)?;
            let options = ServeOptions {
                idle_timeout: config.server.grpc_idle_timeout(),
                ..options.clone()
            };
            servers.spawn(grpc::serve::serve(
                listener,
                services,
                options,
                stopped.clone(),
            ));
        }
        if let Some((listener, router)) = admin {
            servers.spawn(http::serve::serve(listener, router, options, stopped));
        }
        let greeting = tokio::spawn(greet(registry.clone(), addresses, started));

        signals.next().await;
        greeting.abort();
        tracing::info!(
            grace_ms = config.server.drain_grace_ms,
            "shutting down: not ready any more, still serving; a second signal (Ctrl-C again) stops at once"
        );
        api.draining.store(true, Ordering::Relaxed);
        let drain = async {
            tokio::time::sleep(config.server.drain_grace()).await;
            tracing::info!("no new connections; finishing what is in flight");
            let _ = stop.send(true);
            match tokio::time::timeout(config.server.drain_timeout(), servers.join_all()).await {
                Ok(_) => tracing::info!("all requests are answered"),
                Err(_) => tracing::warn!(
                    timeout_ms = config.server.drain_timeout_ms,
                    "requests are still in flight; leaving them"
                ),
            }
        };
        tokio::select! {
            () = drain => {}
            () = signals.next() => tracing::warn!("second signal: leaving at once"),
        }
        Ok(())
    }
}

/// Says once, when the first loads are done, what a person does next.
async fn greet(registry: Registry, addresses: Addresses, started: Instant) {
    while !registry.snapshot().settled {
        tokio::time::sleep(GREETING_TICK).await;
    }
    let text = greeting(&registry, &addresses, started.elapsed());
    // Standard output may be closed; the log has what matters.
    let _ = std::io::stdout()
        .write_all(text.as_bytes())
        .and_then(|()| std::io::stdout().flush());
}

fn greeting(registry: &Registry, addresses: &Addresses, elapsed: Duration) -> String {
    use std::fmt::Write;
    let snapshot = registry.snapshot();
    let url = format!("http://{}", addresses.data);
    let mut text = String::new();
    let reasons = not_ready(&snapshot, Instant::now());
    let state = if reasons.is_empty() {
        "ready"
    } else {
        "NOT ready"
    };
    let _ = writeln!(
        text,
        "predictd {} is {state} on {url} after {} ms",
        env!("CARGO_PKG_VERSION"),
        elapsed.as_millis()
    );
    for (model, reason) in reasons {
        let subject = if model.is_empty() {
            String::new()
        } else {
            format!("{model}: ")
        };
        let _ = writeln!(text, "  {subject}{reason}");
    }
    for ignored in snapshot.ignored.iter() {
        let _ = writeln!(text, "  {}: {ignored}", ignored.reason.outcome());
    }
    for (name, model) in &snapshot.models {
        let versions: Vec<String> = model
            .versions
            .iter()
            .map(|(version, status)| format!("{version} {}", status.state.name()))
            .collect();
        let stable = model.stable.as_ref().map_or_else(
            || "none".to_owned(),
            |servable| servable.id().version.to_string(),
        );
        let _ = writeln!(
            text,
            "  {name:<16} stable {stable:<8} ({})",
            versions.join(", ")
        );
    }
    let models: Vec<_> = snapshot
        .models
        .values()
        .filter_map(|model| model.stable.as_ref())
        .collect();
    let shown = models
        .iter()
        .filter_map(|servable| Some((servable, http::examples(servable).first()?.to_string())));
    if let Some((servable, example)) = shown.min_by_key(|(_, example)| example.len()) {
        let name = &servable.id().name;
        let _ = if example.len() <= MAX_TRIED_BYTES {
            let example = example.replace('\'', "'\\''");
            writeln!(
                text,
                "try      curl -s {url}/models/{name}/predict -H 'content-type: application/json' -d '{example}'"
            )
        } else {
            writeln!(text, "try      {url}/docs#{name}")
        };
    }
    let _ = writeln!(text, "docs     {url}/docs");
    let _ = writeln!(text, "metrics  {url}/metrics");
    if let Some(address) = addresses.grpc {
        let _ = writeln!(text, "grpc     {address}");
    }
    if let Some(address) = addresses.admin {
        let _ = writeln!(text, "admin    http://{address}");
    }
    text
}

/// Each connection takes a descriptor, and the usual soft limit of 1024 is below what the hard one allows.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        )
    {
        tracing::warn!(error = %error, "the limit of file descriptors stays as it is");
    }
}
