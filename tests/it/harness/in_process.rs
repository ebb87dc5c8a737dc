//! A server in the process of the tests. It starts in a tenth of the time of a process; a test that
//! reads the log, sends a signal or measures the memory needs a [`Server`](super::Server).

use std::{
    ops::Deref,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
};

use predictd::{
    app::{RunningServer, ServerParts, find_library},
    config::Config,
    engine::infer::Runtime,
};
use tempfile::TempDir;

use super::{
    command::PREDICTD, server::server_variables, server_client::ServerClient, state::empty_state,
};

/// The library, which a process can load only once.
static LIBRARY: LazyLock<(PathBuf, Runtime)> = LazyLock::new(|| {
    let path = find_library(Path::new("")).unwrap();
    let runtime = Runtime::load(&path).unwrap();
    (path, runtime)
});

/// The library for a test that runs a graph without a server.
pub fn runtime() -> &'static Runtime {
    &LIBRARY.1
}

/// A server in this process; stopped when dropped.
pub struct InProcessServer {
    client: ServerClient,
    /// `None` only while the value is dropped.
    running: Option<RunningServer>,
    _state: TempDir,
}

impl InProcessServer {
    /// Starts on free ports and waits until it is ready. `settings` are `section.key` and value.
    pub fn start(models: &Path, settings: &[(&str, &str)]) -> InProcessServer {
        let server = InProcessServer::start_unready(models, settings);
        server.wait_until_ready();
        server
    }

    /// Starts on free ports without waiting for the models.
    pub fn start_unready(models: &Path, settings: &[(&str, &str)]) -> InProcessServer {
        let state = empty_state();
        let variables = server_variables(models, state.path(), settings);
        let (library, onnxruntime) = &*LIBRARY;
        let running = RunningServer::start(ServerParts {
            config: &Config::load(None, variables.into_iter()).unwrap(),
            onnxruntime: onnxruntime.clone(),
            library,
            executable: PathBuf::from(PREDICTD),
            dropped_log_lines: Arc::new(|| 0),
        })
        .unwrap();
        InProcessServer {
            client: ServerClient::new(running.addresses()),
            running: Some(running),
            _state: state,
        }
    }
}

impl Deref for InProcessServer {
    type Target = ServerClient;

    fn deref(&self) -> &ServerClient {
        &self.client
    }
}

impl Drop for InProcessServer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}
