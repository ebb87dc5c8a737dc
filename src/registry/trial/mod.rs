//! `GateTrial`: runs the load gate in another process, because a model file can make the runtime
//! hang, crash or exhaust the memory.

mod gate_progress;
mod reporter;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

pub(crate) use reporter::Reporter;
use serde::{Deserialize, Serialize};

use crate::{
    package::{PackageCheck, PackageError},
    registry::{
        gate::{Batching, GateOptions, PassedCheck},
        trial::gate_progress::GateProgress,
    },
};

/// How long the parent waits after the child's own limit before it kills the child.
const KILL_DELAY: Duration = Duration::from_secs(2);

/// A message from the child, printed as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TrialMessage {
    Check(PassedCheck),
    Passed(TrialResult),
    Failed {
        check: PackageCheck,
        file: String,
        field: String,
        detail: String,
    },
}

/// The result of the gate for a version that passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrialResult {
    pub batching: Batching,
    pub digest: String,
    /// The operator set of each domain that the graph uses.
    pub opset: BTreeMap<String, u32>,
    /// Whether the graph accepted the run with which engines are warmed.
    pub warm: bool,
    /// Outputs of a bare graph that do not have one row per row of the inputs, with the reason.
    #[serde(default)]
    pub without_rows: BTreeMap<String, String>,
    /// A setting of the configuration that the graph does not allow. `None` if there is no such
    /// setting.
    #[serde(default)]
    pub warning: Option<String>,
}

/// The child's program and limits.
#[derive(Clone, Debug)]
pub(crate) struct GateTrial {
    /// The path of predictd itself. Its hidden command `gate` runs the checks.
    pub executable: PathBuf,
    /// The path of the ONNX Runtime library.
    pub library: PathBuf,
    pub timeout: Duration,
    /// The address space that the child may take in addition to its program, in bytes.
    pub memory_bytes: u64,
}

impl GateTrial {
    /// Checks the package in `directory`. `report` is called for each check as soon as it passes.
    pub(crate) fn run(
        &self,
        directory: &Path,
        options: GateOptions,
        report: &mut dyn FnMut(PassedCheck),
    ) -> Result<TrialResult, PackageError> {
        let no_child = |error: std::io::Error| {
            PackageError::caused_by(
                PackageCheck::Gate,
                &self.executable.to_string_lossy(),
                "the gate's process can't be started",
                error,
            )
        };
        let mut child = self.start(directory, options).map_err(no_child)?;
        let messages = read_messages(&mut child).map_err(no_child)?;
        let mut progress = GateProgress::default();
        let outcome = self.follow(&messages, &mut progress, report);
        if matches!(outcome, Some(Err(_))) {
            let _ = child.kill();
        }
        // Without this call the child would stay in the process table.
        let status = child.wait();
        outcome.unwrap_or_else(|| Err(self.crashed(&progress, status.ok())))
    }

    fn start(&self, directory: &Path, options: GateOptions) -> std::io::Result<Child> {
        Command::new(&self.executable)
            .arg("gate")
            .arg(directory)
            .arg("--library")
            .arg(&self.library)
            .args(["--timeout-ms", &self.timeout.as_millis().to_string()])
            .args(["--memory-bytes", &self.memory_bytes.to_string()])
            .args(["--max-batch-size", &options.max_batch_size.to_string()])
            .args(["--intra-op-threads", &options.intra_op_threads.to_string()])
            .args(["--parent", &std::process::id().to_string()])
            .args(options.bare.then_some("--bare"))
            // The allocator would reserve 1 GiB of the address space at once, which would count as
            // the program's own.
            .env("MIMALLOC_ARENA_RESERVE", "32MiB")
            // The child reads no input. An inherited terminal could stop it.
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // The runtime may print warnings to this stream, and they are not messages.
            .stderr(Stdio::null())
            .spawn()
    }

    /// Reads messages until the child reports its result or its time limit passes. `None` if the
    /// child ended without a result.
    fn follow(
        &self,
        messages: &mpsc::Receiver<TrialMessage>,
        progress: &mut GateProgress,
        report: &mut dyn FnMut(PassedCheck),
    ) -> Option<Result<TrialResult, PackageError>> {
        let deadline = Instant::now() + self.timeout + KILL_DELAY;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match messages.recv_timeout(left) {
                Ok(TrialMessage::Check(check)) => {
                    progress.passed(&check.name);
                    report(check);
                }
                Ok(TrialMessage::Passed(result)) => return Some(Ok(result)),
                Ok(TrialMessage::Failed {
                    check,
                    file,
                    field,
                    detail,
                }) => {
                    let error = PackageError::new(check, &file, detail);
                    return Some(Err(error.at(&field)));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let detail = progress.timeout_detail(self.timeout);
                    return Some(Err(PackageError::new(
                        PackageCheck::Timeout,
                        progress.file(),
                        detail,
                    )));
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// The error for a child that ended without a result. The runtime library may end the process
    /// when it gets no memory, so the error names the limit.
    fn crashed(&self, progress: &GateProgress, status: Option<ExitStatus>) -> PackageError {
        let status =
            status.map_or_else(|| "unknown status".to_owned(), |status| status.to_string());
        let detail = format!(
            "{} ended the gate's process ({status}), whose memory limit was {} bytes \
             (models.gate_memory_bytes)",
            progress.doing(),
            self.memory_bytes
        );
        PackageError::new(PackageCheck::Crash, progress.file(), detail)
    }
}

/// Reads the child's output in a thread, because a read from a pipe has no timeout.
fn read_messages(child: &mut Child) -> std::io::Result<mpsc::Receiver<TrialMessage>> {
    let (sender, messages) = mpsc::channel();
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| std::io::Error::other("no pipe"))?;
    thread::Builder::new()
        .name("gate-lines".to_owned())
        .spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The runtime printed this line. If no result follows, the parent reports a crash.
                let Ok(message) = serde_json::from_str(&line) else {
                    return;
                };
                if sender.send(message).is_err() {
                    return;
                }
            }
        })?;
    Ok(messages)
}
