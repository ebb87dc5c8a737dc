//! The composition root: builds all parts from the configuration, starts them in order, and stops
//! them in order.

mod core;
mod greeting;
mod listeners;
mod server;
mod signals;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub use listeners::Addresses;
pub(crate) use listeners::listening_faults;
pub use server::{RunningServer, ServerParts};

use crate::{
    app::{server::BoundServer, signals::Signals},
    config::{Config, ModelsConfig},
    engine::{infer::Runtime, library},
    registry::trial::GateTrial,
    telemetry::Telemetry,
};

/// The number of cores that this process may use. It takes cgroup limits and affinity into account.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// Finds the ONNX Runtime library. `configured` is the value of `runtime.library`, which may be
/// empty.
pub fn find_library(configured: &Path) -> anyhow::Result<PathBuf> {
    let environment = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let executable = std::env::current_exe().ok();
    Ok(library::find(
        configured,
        environment.as_deref(),
        executable.as_deref(),
    )?)
}

/// The path of this program, which also runs the load gate.
pub(crate) fn executable() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("finding the path of this program")
}

/// The settings of the process that runs the load gate.
pub(crate) fn trial(config: &ModelsConfig, library: &Path, executable: PathBuf) -> GateTrial {
    GateTrial {
        executable,
        library: library.to_path_buf(),
        timeout: config.gate_timeout(),
        memory_bytes: config.gate_memory_bytes,
    }
}

/// Serves until a signal stops the server. It blocks, and owns its tokio runtime.
pub(crate) fn serve(config: &Config) -> anyhow::Result<()> {
    let started = Instant::now();
    let telemetry = Telemetry::install(&config.telemetry)?;
    raise_descriptor_limit();
    let library = find_library(&config.runtime.library)?;
    let network = network_threads()?;
    // A signal that arrives from now on stops the server in order, however early it arrives.
    let signals = network.block_on(async { Signals::install() })?;
    // Bind ports before loading models: a second server on the same ports must fail at once, and
    // connections may wait while models load.
    let bound = BoundServer::bind(config, network)?;
    let onnxruntime = Runtime::load(&library)?;
    tracing::info!(
        library = %library.display(),
        onnxruntime = onnxruntime.version(),
        cores = cores(),
        "starting"
    );
    let mut server = bound.start(ServerParts {
        config,
        onnxruntime,
        library: &library,
        executable: executable()?,
        dropped_log_lines: telemetry.dropped_lines(),
    })?;
    server.run(signals, started);
    server.stop();
    // Dropping the log writes its last lines.
    drop(telemetry);
    Ok(())
}

/// Creates the threads that read requests and write responses.
fn network_threads() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores())
        .thread_name("network")
        .enable_all()
        .build()
}

/// Raises the soft limit of file descriptors to the hard limit. Each connection takes a descriptor,
/// and the usual soft limit of 1024 is too low.
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
