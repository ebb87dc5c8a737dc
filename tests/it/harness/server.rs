//! A server in a process of its own: its start, its log and its end.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    ops::Deref,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use predictd::app::Addresses;
use serde_json::Value;
use tempfile::TempDir;

use super::{
    command::PREDICTD, files::root, server_client::ServerClient, state::empty_state, wait::wait_for,
};

/// A server in a process of its own; killed when dropped.
pub struct Server {
    pub child: Child,
    client: ServerClient,
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
        let state = empty_state();
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
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Server {
            child,
            client: ServerClient::new(Addresses {
                data: unknown,
                grpc: None,
                admin: None,
            }),
            log,
            stdout,
            _state: state,
        };
        server.client.addresses = wait_for("the server listens", || {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!(
                    "the server exited at its start ({status}): {:?}",
                    server.log()
                );
            }
            server.logged("listening").first().map(logged_addresses)
        });
        server
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

    /// No line of the log contains this text.
    #[track_caller]
    pub fn assert_never_logged(&self, text: &str) {
        let log = self.log();
        assert!(
            !log.iter().any(|line| line.to_string().contains(text)),
            "{log:?}"
        );
    }

    /// The text that the server wrote to standard output.
    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
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

impl Deref for Server {
    type Target = ServerClient;

    fn deref(&self) -> &ServerClient {
        &self.client
    }
}

/// The addresses in the line of the log that names them.
fn logged_addresses(line: &Value) -> Addresses {
    let address = |key: &str| line[key].as_str().map(|text| text.parse().unwrap());
    Addresses {
        data: address("address").unwrap(),
        grpc: address("grpc"),
        admin: address("admin"),
    }
}

/// `predictd serve` with these settings.
fn serve_command(models: &Path, state: &Path, settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(PREDICTD);
    command
        .arg("serve")
        .envs(server_variables(models, state, settings));
    command
}

/// The environment of a server: the models, free ports, an empty state, short intervals and these
/// settings.
pub(super) fn server_variables(
    models: &Path,
    state: &Path,
    settings: &[(&str, &str)],
) -> Vec<(String, String)> {
    let defaults = [
        ("server.listen", "127.0.0.1:0"),
        ("server.grpc_listen", "127.0.0.1:0"),
        ("admin.listen", "127.0.0.1:0"),
        ("models.root", models.to_str().unwrap()),
        ("models.poll_seconds", "0.05"),
        ("server.drain_grace_ms", "50"),
        ("state.url", state.to_str().unwrap()),
        ("telemetry.log_format", "json"),
    ];
    let variable = |(key, value): &(&str, &str)| {
        let (section, key) = key.split_once('.').unwrap();
        let name = format!("PREDICTD_{section}__{key}").to_uppercase();
        (name, (*value).to_owned())
    };
    defaults.iter().chain(settings).map(variable).collect()
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
