//! The composition root: builds every part from the configuration, starts them in order, and stops
//! them in order.

mod greeting;
mod listeners;
mod server;
mod signals;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use axum::Router;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;

pub(crate) use listeners::listening_faults;

use crate::{
    api::{
        Api, ApiParts,
        http::{
            self,
            admin::{Admin, Authentication},
        },
    },
    app::{
        listeners::{Listeners, operators},
        server::Server,
        signals::Signals,
    },
    config::Config,
    engine::{infer::Runtime, library, supervisor::Supervisor},
    journal::store::Store,
    metrics::Metrics,
    operate::{Control, Operator, OperatorParts, OperatorSettings, Webhook},
    predict::Predictor,
    registry::{
        GateCache, Registry, Watch, WatchParts, loader::Loader, package_copies::PackageCopies,
        trial::GateTrial,
    },
    security::tokens::Operators,
    telemetry::Telemetry,
};

/// How long wedged threads and open connections may delay the very end.
const LAST_WAIT: Duration = Duration::from_millis(200);

/// The cores that this process may use (cgroup limits and affinity included).
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// The ONNX Runtime library that the configuration leads to.
pub fn find_library(config: &Config) -> anyhow::Result<PathBuf> {
    let environment = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let executable = std::env::current_exe().ok();
    Ok(library::find(
        &config.runtime.library,
        environment.as_deref(),
        executable.as_deref(),
    )?)
}

/// The process of the gate: predictd itself.
pub(crate) fn trial(config: &Config, library: &Path) -> anyhow::Result<GateTrial> {
    Ok(GateTrial {
        executable: std::env::current_exe().context("finding the path of this program")?,
        library: library.to_path_buf(),
        timeout: config.models.gate_timeout(),
        memory_bytes: config.models.gate_memory_bytes,
    })
}

/// Serves until a signal ends it. Blocks, and owns its tokio runtime.
pub(crate) fn serve(config: &Config) -> anyhow::Result<()> {
    let started = Instant::now();
    let telemetry = Telemetry::install(&config.telemetry)?;
    raise_descriptor_limit();
    let library = find_library(config)?;
    let network = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores())
        .thread_name("network")
        .enable_all()
        .build()?;
    // From here on a signal is a request to stop, however early it comes.
    let signals = network.block_on(async { Signals::install() })?;
    let operators = operators(&config.admin)?;
    // Ports come before models: a second server on them must fail at once, and connections may wait
    // while models load.
    let listeners = network.block_on(Listeners::bind(config))?;
    let onnxruntime = Runtime::load(&library)?;
    let metrics = Metrics::new(config.cost.dollars_per_core_hour)?;
    metrics.server.set_build_info(
        env!("CARGO_PKG_VERSION"),
        option_env!("PREDICTD_COMMIT").unwrap_or("unknown"),
        onnxruntime.version(),
    );
    tracing::info!(library = %library.display(), onnxruntime = onnxruntime.version(), cores = cores(), "starting");

    let core = Core::start(config, onnxruntime, &library, &metrics)?;
    let api = core.api(config, &metrics, &telemetry)?;
    let admin = listeners
        .admin
        .map(|listener| core.admin(listener, operators, &api))
        .transpose()?;
    let server = Server {
        listener: listeners.data,
        grpc: listeners.grpc,
        admin,
        config: &config.server,
        registry: &core.registry,
        api: &api,
        metrics: &metrics,
    };
    network.block_on(server.run(signals, started))?;

    // No request is in flight any more. Versions end before the library, and the last lines of the
    // log are written at the end.
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
    // The store has a tokio runtime of its own. Dropping that on a thread of another runtime would
    // panic.
    drop(operator);
    drop(telemetry);
    Ok(())
}

/// The parts below the transports.
struct Core {
    registry: Registry,
    operator: Arc<Operator>,
    watch: Watch,
    control: Control,
}

impl Core {
    fn start(
        config: &Config,
        onnxruntime: Runtime,
        library: &Path,
        metrics: &Metrics,
    ) -> anyhow::Result<Core> {
        let registry = Registry::default();
        let kept = PackageCopies::of(&config.state);
        let loader = Loader {
            trial: trial(config, library)?,
            gate_cache: GateCache::new(config.state.directory(), onnxruntime.version()),
            runtime: onnxruntime,
            settings: config.model_settings(),
            require_manifest: config.models.require_manifest,
            metrics: metrics.clone(),
            copies: kept.clone(),
            cores: cores(),
        };
        let store = match config.state.directory() {
            Some(directory) => Store::local(directory)?,
            None => Store::memory()?,
        };
        let operator = Operator::new(OperatorParts {
            registry: registry.clone(),
            store,
            metrics: metrics.clone(),
            kept: kept.clone(),
            settings: OperatorSettings {
                models: config.models.clone(),
                cost: config.cost.clone(),
                pinned: config.pinned_versions(),
            },
            webhook: Webhook::start(&config.admin.webhook, metrics)?,
        });
        let watch = Watch::start(WatchParts {
            registry: registry.clone(),
            adopter: Arc::<Operator>::clone(&operator),
            loader: Arc::new(loader),
            metrics: metrics.clone(),
            supervisor: Arc::new(Supervisor::start()?),
            copies: kept,
            models: config.models.clone(),
            settings: config.model_settings(),
        })?;
        operator.connect(watch.commander());
        Ok(Core {
            registry,
            control: Control::start(&operator)?,
            operator,
            watch,
        })
    }

    fn api(
        &self,
        config: &Config,
        metrics: &Metrics,
        telemetry: &Telemetry,
    ) -> anyhow::Result<Arc<Api>> {
        let max_wedged = match config.runtime.max_wedged {
            0 => cores(),
            limit => limit,
        };
        Ok(Api::new(ApiParts {
            registry: self.registry.clone(),
            predictor: Predictor::new(self.registry.clone(), cores(), Vec::new())?,
            metrics: metrics.clone(),
            config: config.server.clone(),
            platform: config.platform.clone(),
            max_wedged,
            request_log: config.telemetry.request_log,
            dropped_log_lines: telemetry.dropped_lines(),
        }))
    }

    fn admin(
        &self,
        listener: TcpListener,
        operators: Option<Operators>,
        api: &Arc<Api>,
    ) -> anyhow::Result<(TcpListener, Router)> {
        let user = std::env::var_os("USER").map_or_else(
            || "unknown".to_owned(),
            |user| user.to_string_lossy().into_owned(),
        );
        let admin = Admin {
            api: Arc::clone(api),
            commander: self.watch.commander(),
            operator: Arc::clone(&self.operator),
            authentication: Authentication {
                operators,
                address: listener.local_addr()?,
                user,
            },
        };
        Ok((listener, http::admin::router(Arc::new(admin))))
    }
}

/// Each connection takes a descriptor, and the usual soft limit of 1024 is below what the hard one
/// allows.
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
