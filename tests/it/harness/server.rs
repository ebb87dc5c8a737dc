//! A running server: its start, its requests, its log and its metrics.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use reqwest::blocking::{Client, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    command::PREDICTD,
    files::root,
    wait::{PATIENCE, wait_for, wait_until},
};

/// A running server; killed when dropped.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    pub client: Client,
    log: Arc<Mutex<Vec<Value>>>,
    stdout: Arc<Mutex<String>>,
    _state: TempDir,
}

impl Server {
    /// Starts on a free port and waits until it is ready. `settings` are `section.key` and value.
    pub fn start(models: &Path, settings: &[(&str, &str)]) -> Server {
        let server = Server::start_unready(models, settings);
        server.wait_until_ready();
        server
    }

    /// As [`Server::start`], after `prepare` changed the command.
    pub fn start_prepared(
        models: &Path,
        settings: &[(&str, &str)],
        prepare: impl FnOnce(&mut Command),
    ) -> Server {
        let server = Server::spawn(models, settings, prepare);
        server.wait_until_ready();
        server
    }

    /// Starts on a free port and waits only until it listens.
    pub fn start_unready(models: &Path, settings: &[(&str, &str)]) -> Server {
        Server::spawn(models, settings, |_| {})
    }

    fn spawn(
        models: &Path,
        settings: &[(&str, &str)],
        prepare: impl FnOnce(&mut Command),
    ) -> Server {
        let state = tempfile::tempdir().unwrap();
        let mut command = serve_command(models, state.path(), settings);
        prepare(&mut command);
        let mut child = command
            .current_dir(root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (log, stdout) = (Arc::default(), Arc::default());
        collect_lines(child.stderr.take().unwrap(), Arc::clone(&log));
        collect_text(child.stdout.take().unwrap(), Arc::clone(&stdout));
        let client = Client::builder().timeout(PATIENCE).build().unwrap();
        let mut server = Server {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            client,
            log,
            stdout,
            _state: state,
        };
        server.address = wait_for("the server listens", || {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!(
                    "the server exited at its start ({status}): {:?}",
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

    pub fn wait_until_ready(&self) {
        wait_until("the server is ready", || {
            self.get("/readyz").status() == 200
        });
    }

    /// The readiness of each model and the reasons, as text.
    pub fn readiness(&self) -> String {
        self.get("/readyz?verbose").text().unwrap()
    }

    /// Waits until the readiness contains this text, and returns it.
    pub fn wait_for_readiness(&self, text: &str) -> String {
        wait_for(&format!("/readyz?verbose contains {text:?}"), || {
            Some(self.readiness()).filter(|readiness| readiness.contains(text))
        })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The address of the gRPC listener.
    pub fn grpc_address(&self) -> String {
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

    /// Sends these bytes over a connection and returns the bytes that the server answers.
    pub fn send_raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    /// The lines of the log. A line that is not JSON is a string.
    pub fn log(&self) -> Vec<Value> {
        self.log.lock().unwrap().clone()
    }

    /// The lines of the log with this message.
    pub fn logged(&self, message: &str) -> Vec<Value> {
        self.log()
            .into_iter()
            .filter(|line| line["message"] == message)
            .collect()
    }

    /// The text that the server wrote to standard output.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// The text of `/metrics`.
    pub fn metrics(&self) -> String {
        self.get("/metrics").text().unwrap()
    }

    /// The value of a series of `/metrics`. 0 if the series is missing.
    pub fn metric(&self, series: &str) -> f64 {
        self.metrics()
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
            .unwrap_or(0.0)
    }

    /// Waits until a series of `/metrics` has this value.
    pub fn wait_for_metric(&self, series: &str, value: f64) {
        wait_until(&format!("{series} is {value}"), || {
            self.metric(series) == value
        });
    }

    /// A value of `/proc/PID/status`, such as `VmRSS`, in bytes.
    pub fn memory(&self, field: &str) -> u64 {
        let status = fs_err::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let value = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
            .unwrap();
        value.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .unwrap();
    }

    pub fn wait_for_exit(&mut self) -> ExitStatus {
        wait_for("the server exits", || self.child.try_wait().unwrap())
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

/// `predictd serve` on free ports, with an empty state and short intervals.
fn serve_command(models: &Path, state: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(PREDICTD);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--models"])
        .arg(models)
        .env("PREDICTD_TELEMETRY__LOG_FORMAT", "json")
        .env("PREDICTD_MODELS__POLL_SECONDS", "0.05")
        .env("PREDICTD_SERVER__GRPC_LISTEN", "127.0.0.1:0")
        .env("PREDICTD_ADMIN__LISTEN", "127.0.0.1:0")
        .env("PREDICTD_SERVER__DRAIN_GRACE_MS", "50")
        .env("PREDICTD_STATE__URL", state);
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
    command
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
