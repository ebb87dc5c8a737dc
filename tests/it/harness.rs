//! Starting the server, and waiting for conditions.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

pub const PREDICTD: &str = env!("CARGO_BIN_EXE_predictd");

/// Longer than anything here takes on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A package of the repository.
pub fn package(name: &str, version: &str) -> PathBuf {
    let places = [root().join("models"), root().join("tests/fixtures/models")];
    places
        .iter()
        .map(|place| place.join(name).join(version))
        .find(|path| path.is_dir())
        .unwrap_or_else(|| panic!("there is no package {name}/{version}"))
}

/// A models directory of its own with these packages.
pub fn models(packages: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, version) in packages {
        install(directory.path(), name, version);
    }
    directory
}

/// A models directory of bare graphs, as Triton lays them out: (name, file of tests/fixtures/onnx).
pub fn bare_models(graphs: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, file) in graphs {
        let version = directory.path().join(name).join("1");
        fs_err::create_dir_all(&version).unwrap();
        fs_err::copy(
            root().join("tests/fixtures/onnx").join(file),
            version.join("model.onnx"),
        )
        .unwrap();
    }
    directory
}

/// Copies a package in whole, as a deployment that moves a finished directory into place.
pub fn install(models: &Path, name: &str, version: &str) {
    let staging = models.join(format!(".{name}-{version}"));
    copy(&package(name, version), &staging);
    fs_err::create_dir_all(models.join(name)).unwrap();
    fs_err::rename(&staging, models.join(name).join(version)).unwrap();
}

/// A graph without a manifest: `NAME/VERSION/model.onnx`, and its model's configuration.
pub fn graph(models: &Path, name: &str, version: u64, fixture: &str, config: Option<&str>) {
    let directory = models.join(name).join(version.to_string());
    fs_err::create_dir_all(&directory).unwrap();
    fs_err::copy(
        root().join(format!("tests/fixtures/onnx/{fixture}.onnx")),
        directory.join("model.onnx"),
    )
    .unwrap();
    if let Some(config) = config {
        fs_err::write(models.join(name).join("config.pbtxt"), config).unwrap();
    }
}

/// The parts of a package around a fixture's graph, in `NAME/1.0.0`; without a preprocessing where that is null.
pub fn draft(
    models: &Path,
    name: &str,
    fixture: &str,
    schema: &Value,
    preprocessing: &Value,
) -> PathBuf {
    let directory = models.join(name).join("1.0.0");
    fs_err::create_dir_all(&directory).unwrap();
    fs_err::copy(
        root().join(format!("tests/fixtures/onnx/{fixture}.onnx")),
        directory.join("model.onnx"),
    )
    .unwrap();
    fs_err::write(directory.join("schema.json"), schema.to_string()).unwrap();
    if !preprocessing.is_null() {
        fs_err::write(
            directory.join("preprocessing.json"),
            preprocessing.to_string(),
        )
        .unwrap();
    }
    directory
}

/// The schema of one side of a package: an object of these fields, all of them required.
pub fn side(properties: Value) -> Value {
    let required: Vec<&String> = properties.as_object().unwrap().keys().collect();
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

pub fn copy(from: &Path, to: &Path) {
    fs_err::create_dir_all(to).unwrap();
    for entry in fs_err::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs_err::copy(&path, &target).unwrap();
        }
    }
}

/// The golden examples of a package.
pub fn golden(name: &str, version: &str) -> Vec<Value> {
    let text = fs_err::read_to_string(package(name, version).join("golden.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub fn instance(name: &str, version: &str) -> Value {
    golden(name, version)[0]["input"].clone()
}

/// Asks until there is an answer. Panics when it takes too long.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// A running server; killed when dropped.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    pub client: Client,
    log: Arc<Mutex<Vec<Value>>>,
    greeting: Arc<Mutex<String>>,
    _state: TempDir,
}

impl Server {
    /// Starts on a free port and waits until it is ready. `settings` are `section.key` and value.
    pub fn start(models: &Path, settings: &[(&str, &str)]) -> Server {
        let server = Server::begin(models, settings);
        server.ready();
        server
    }

    /// As `start`, in an environment of the caller's making.
    pub fn start_in(
        models: &Path,
        settings: &[(&str, &str)],
        prepare: impl FnOnce(&mut Command),
    ) -> Server {
        let server = Server::begin_in(models, settings, prepare);
        server.ready();
        server
    }

    /// Starts, and waits only until it listens.
    pub fn begin(models: &Path, settings: &[(&str, &str)]) -> Server {
        Server::begin_in(models, settings, |_| {})
    }

    fn begin_in(
        models: &Path,
        settings: &[(&str, &str)],
        prepare: impl FnOnce(&mut Command),
    ) -> Server {
        let state = tempfile::tempdir().unwrap();
        let mut command = Command::new(PREDICTD);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--models"])
            .arg(models);
        command
            .env("PREDICTD_TELEMETRY__LOG_FORMAT", "json")
            .env("PREDICTD_MODELS__POLL_SECONDS", "0.05");
        command
            .env("PREDICTD_SERVER__GRPC_LISTEN", "127.0.0.1:0")
            .env("PREDICTD_ADMIN__LISTEN", "127.0.0.1:0");
        command
            .env("PREDICTD_SERVER__DRAIN_GRACE_MS", "50")
            .env("PREDICTD_STATE__URL", state.path());
        for (key, value) in settings {
            let (section, key) = key.split_once('.').unwrap();
            command.env(
                format!(
                    "PREDICTD_{}__{}",
                    section.to_uppercase(),
                    key.to_uppercase()
                ),
                value,
            );
        }
        prepare(&mut command);
        let mut child = command
            .current_dir(root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (log, greeting) = (Arc::default(), Arc::default());
        collect_lines(child.stderr.take().unwrap(), Arc::clone(&log));
        collect_text(child.stdout.take().unwrap(), Arc::clone(&greeting));
        let client = Client::builder().timeout(PATIENCE).build().unwrap();
        let mut server = Server {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            client,
            log,
            greeting,
            _state: state,
        };
        server.address = until("the server listens", || {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!(
                    "the server ended at its start ({status}): {:?}",
                    server.log()
                );
            }
            server
                .logged("listening")
                .first()
                .map(|line| line["address"].as_str().unwrap().parse().unwrap())
        });
        server
    }

    pub fn ready(&self) {
        until("the server is ready", || {
            (self.get("/readyz").status() == 200).then_some(())
        });
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The address of the gRPC port.
    pub fn grpc(&self) -> String {
        self.logged("listening")[0]["grpc"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().unwrap()
    }

    pub fn get_json(&self, path: &str) -> Value {
        self.get(path).json().unwrap()
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client
            .post(self.url(path))
            .header("content-type", "application/json")
    }

    pub fn predict(&self, path: &str, body: &Value) -> Response {
        self.post(path).body(body.to_string()).send().unwrap()
    }

    /// What came back over one connection, after these bytes were sent.
    pub fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    pub fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
    }

    pub fn logged(&self, message: &str) -> Vec<Value> {
        self.log()
            .into_iter()
            .filter(|line| line["message"] == message)
            .collect()
    }

    pub fn greeting(&self) -> String {
        self.greeting.lock().unwrap().clone()
    }

    /// The value of a series of `/metrics`; 0 where it is not there.
    pub fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").text().unwrap();
        text.lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or(0.0)
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .unwrap();
    }

    pub fn wait(&mut self) -> ExitStatus {
        until("the server ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            for line in self.log() {
                println!("{line}");
            }
        }
    }
}

fn collect_lines(stream: impl Read + Send + 'static, lines: Arc<Mutex<Vec<Value>>>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
            lines.lock().unwrap().push(line);
        }
    });
}

fn collect_text(stream: impl Read + Send + 'static, text: Arc<Mutex<String>>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut text = text.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
}

/// Runs a command of ours to its end: (exit code, stdout, stderr).
pub fn predictd(
    arguments: &[&str],
    input: &str,
    environment: &[(&str, &str)],
) -> (i32, String, String) {
    let mut command = Command::new(PREDICTD);
    command
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root());
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input closes it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}
