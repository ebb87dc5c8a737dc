//! `Reporter`: the child's side of a trial. It prints messages, and ends the process at the time
//! limit.

use std::{
    io::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crate::{
    package::{PackageCheck, PackageError},
    registry::{
        gate::PassedCheck,
        trial::{TrialMessage, TrialResult, gate_progress::GateProgress},
    },
};

#[derive(Clone)]
pub(crate) struct Reporter {
    progress: Arc<Mutex<GateProgress>>,
}

impl Reporter {
    /// Starts a watchdog thread that ends the process after `timeout`, even if the runtime hangs.
    pub(crate) fn start(timeout: Duration, exit: fn(i32) -> !) -> std::io::Result<Reporter> {
        let reporter = Reporter {
            progress: Arc::default(),
        };
        let watched = reporter.clone();
        thread::Builder::new()
            .name("gate-watchdog".to_owned())
            .spawn(move || {
                let deadline = Instant::now() + timeout;
                // A parked thread may wake up without a reason.
                while let Some(rest) = deadline.checked_duration_since(Instant::now()) {
                    thread::park_timeout(rest);
                }
                let progress = watched.progress().clone();
                print_message(&TrialMessage::Failed {
                    check: PackageCheck::Timeout,
                    file: progress.file().to_owned(),
                    field: String::new(),
                    detail: progress.timeout_detail(timeout),
                });
                // A normal return would wait for the thread that hangs in the runtime.
                exit(1)
            })?;
        Ok(reporter)
    }

    pub(crate) fn check(&self, check: PassedCheck) {
        self.progress().passed(&check.name);
        print_message(&TrialMessage::Check(check));
    }

    /// Prints the outcome. Returns whether the package passed.
    pub(crate) fn finish(&self, outcome: Result<TrialResult, PackageError>) -> bool {
        let passed = outcome.is_ok();
        print_message(&match outcome {
            Ok(result) => TrialMessage::Passed(result),
            Err(error) => TrialMessage::Failed {
                check: error.check,
                detail: error.full_detail(),
                file: error.file,
                field: error.field,
            },
        });
        passed
    }

    fn progress(&self) -> MutexGuard<'_, GateProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn print_message(message: &TrialMessage) {
    let mut stdout = std::io::stdout().lock();
    if let Ok(mut text) = serde_json::to_vec(message) {
        text.push(b'\n');
        // The write fails only if the parent ended. In this case nobody needs the message.
        let _ = stdout.write_all(&text).and_then(|()| stdout.flush());
    }
}
