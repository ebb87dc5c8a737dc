//! GateTrial: the load gate in a process of its own, because a model file can hang, exhaust or crash the library.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    package::PackageError,
    registry::gate::{Batching, GateOptions, PassedCheck},
};

/// How much longer than the child's own limit the parent waits before it kills.
const PATIENCE: Duration = Duration::from_secs(2);

/// A line that the child prints.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialMessage {
    Check(PassedCheck),
    Passed(TrialResult),
    Failed {
        check: String,
        file: String,
        field: String,
        detail: String,
    },
}

/// What passed, as the child found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialResult {
    pub batching: Batching,
    pub digest: String,
    /// Operator set per domain that the graph uses.
    pub opset: BTreeMap<String, u32>,
    /// The graph took the run with which engines are warmed.
    pub warm: bool,
    /// Outputs of a bare graph that have not a row for each row of the inputs, and why.
    #[serde(default)]
    pub without_rows: BTreeMap<String, String>,
    /// What the configuration asks for although the graph objects.
    #[serde(default)]
    pub warning: Option<String>,
}

/// How a child is started and what it may use.
#[derive(Clone, Debug)]
pub struct GateTrial {
    /// predictd itself: its hidden command `gate` runs the checks.
    pub executable: PathBuf,
    /// The ONNX Runtime library.
    pub library: PathBuf,
    pub timeout: Duration,
    /// Address space of the child.
    pub memory_bytes: u64,
}

impl GateTrial {
    /// Tries the package at `directory`; `report` hears of each passed check as it passes.
    pub fn run(
        &self,
        directory: &Path,
        options: GateOptions,
        report: &mut dyn FnMut(PassedCheck),
    ) -> Result<TrialResult, PackageError> {
        let no_child = |error: std::io::Error| {
            PackageError::new(
                "gate",
                &self.executable.to_string_lossy(),
                format!("the gate's process can't be started: {error}"),
            )
        };
        let mut child = Command::new(&self.executable)
            .arg("gate")
            .arg(directory)
            .arg("--library")
            .arg(&self.library)
            .args(["--timeout-ms", &self.timeout.as_millis().to_string()])
            .args(["--memory-bytes", &self.memory_bytes.to_string()])
            .args(["--max-batch-size", &options.max_batch_size.to_string()])
            .args(["--intra-op-threads", &options.intra_op_threads.to_string()])
            .args(options.bare.then_some("--bare"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(no_child)?;
        let lines = read_lines(&mut child).map_err(no_child)?;
        let deadline = Instant::now() + self.timeout + PATIENCE;
        let mut last = String::new();
        let verdict = loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(TrialMessage::Check(check)) => {
                    last.clone_from(&check.name);
                    report(check);
                }
                Ok(TrialMessage::Passed(verdict)) => break Some(Ok(verdict)),
                Ok(TrialMessage::Failed {
                    check,
                    file,
                    field,
                    detail,
                }) => {
                    break Some(Err(PackageError {
                        check: known_check(&check),
                        file,
                        field,
                        detail,
                    }));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => break Some(Err(self.too_slow(&last))),
                Err(mpsc::RecvTimeoutError::Disconnected) => break None,
            }
        };
        if !matches!(verdict, None | Some(Ok(_))) {
            let _ = child.kill();
        }
        let status = child.wait();
        verdict.unwrap_or_else(|| Err(crashed(&last, status.ok())))
    }

    fn too_slow(&self, last: &str) -> PackageError {
        PackageError::new(
            "timeout",
            step_file(last),
            format!(
                "{} took longer than {} s",
                step_after(last),
                self.timeout.as_secs_f64()
            ),
        )
    }
}

fn read_lines(child: &mut Child) -> std::io::Result<mpsc::Receiver<TrialMessage>> {
    let (sender, lines) = mpsc::channel();
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| std::io::Error::other("no pipe"))?;
    thread::Builder::new()
        .name("gate-lines".to_owned())
        .spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let Ok(line) = serde_json::from_str(&line) else {
                    return;
                };
                if sender.send(line).is_err() {
                    return;
                }
            }
        })?;
    Ok(lines)
}

fn crashed(last: &str, status: Option<ExitStatus>) -> PackageError {
    let how = status
        .map(|status| status.to_string())
        .unwrap_or_else(|| "unknown status".to_owned());
    PackageError::new(
        "crash",
        step_file(last),
        format!("{} ended the gate's process ({how})", step_after(last)),
    )
}

/// The check that was going on when `last` had passed.
fn step_after(last: &str) -> &'static str {
    match last {
        "" => "reading the manifest",
        "manifest" => "hashing the files",
        "hashes" => "loading the graph",
        "graph" => "reading the schema",
        "schema" => "compiling the preprocessing",
        "preprocessing" | "config" => "the warm-up run",
        "warm-up" => "replaying the golden examples",
        _ => "trying rows beside others",
    }
}

fn step_file(last: &str) -> &'static str {
    match last {
        "" | "manifest" => "manifest.json",
        "graph" => "schema.json",
        "schema" => "preprocessing.json",
        _ => "model.onnx",
    }
}

/// Reasons are labels of a metric, so they come from a closed set.
fn known_check(check: &str) -> &'static str {
    const KNOWN: [&str; 18] = [
        "config",
        "neighbours",
        "outputs",
        "rows",
        "manifest",
        "files",
        "hashes",
        "graph",
        "schema",
        "preprocessing",
        "serving",
        "warm-up",
        "golden",
        "timeout",
        "memory",
        "crash",
        "runtime",
        "identity",
    ];
    KNOWN
        .into_iter()
        .find(|known| *known == check)
        .unwrap_or("gate")
}

/// The child's side: prints lines, and ends the process when its time is up.
#[derive(Clone)]
pub struct Reporter {
    last: Arc<Mutex<String>>,
}

impl Reporter {
    /// Starts the watchdog: whatever the library does, the process is gone after `timeout`.
    pub fn start(timeout: Duration, exit: fn(i32) -> !) -> std::io::Result<Reporter> {
        let reporter = Reporter {
            last: Arc::default(),
        };
        let watched = reporter.clone();
        thread::Builder::new()
            .name("gate-watchdog".to_owned())
            .spawn(move || {
                let deadline = Instant::now() + timeout;
                // A parked thread may wake up without reason.
                while let Some(rest) = deadline.checked_duration_since(Instant::now()) {
                    thread::park_timeout(rest);
                }
                let last = watched
                    .last
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                let detail = format!(
                    "{} took longer than {} s",
                    step_after(&last),
                    timeout.as_secs_f64()
                );
                print_line(&TrialMessage::Failed {
                    check: "timeout".to_owned(),
                    file: step_file(&last).to_owned(),
                    field: String::new(),
                    detail,
                });
                exit(1)
            })?;
        Ok(reporter)
    }

    pub fn check(&self, check: PassedCheck) {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(&check.name);
        print_line(&TrialMessage::Check(check));
    }

    pub fn finish(&self, outcome: Result<TrialResult, PackageError>) -> bool {
        let passed = outcome.is_ok();
        print_line(&match outcome {
            Ok(verdict) => TrialMessage::Passed(verdict),
            Err(PackageError {
                check,
                file,
                field,
                detail,
            }) => TrialMessage::Failed {
                check: check.to_owned(),
                file,
                field,
                detail,
            },
        });
        passed
    }
}

fn print_line(line: &TrialMessage) {
    let mut stdout = std::io::stdout().lock();
    if let Ok(mut text) = serde_json::to_vec(line) {
        text.push(b'\n');
        // A parent that went away needs no answer.
        let _ = stdout.write_all(&text).and_then(|()| stdout.flush());
    }
}
