//! `Control`: the threads that follow the journals, judge rollouts and rehearse rollbacks.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    operate::{Operator, is_due, lock},
    registry::package_copies::PackageCopies,
};

/// The interval at which each thread does its work. A decision of another replica takes effect here
/// after at most this time.
const TICK: Duration = Duration::from_millis(200);
/// How often the server checks the disk space that is reserved for urgent decisions.
const RESERVE_INTERVAL: Duration = Duration::from_secs(5);

impl Operator {
    /// Does all work that does not need an order, once.
    pub(crate) fn tick(&self) {
        self.check_reserve();
        self.reread();
        self.tick_monitors();
        for name in self.names() {
            let controlled = self.controlled(&name);
            let mut model = lock(&controlled);
            self.follow(&mut model);
            self.follow_repair(&mut model);
            if model.trouble.is_none() && !model.pending.is_empty() {
                // A failure sets `model.trouble`, which is logged. The next tick tries again.
                let _ = self.flush(&mut model);
            }
            if model.trouble.is_none() && model.pending.is_empty() {
                self.promote_newest(&mut model);
            }
            self.gather(&mut model);
            self.judge(&mut model);
        }
    }

    /// Reserves disk space for urgent decisions, unless it is reserved already. An urgent decision
    /// uses up the reserve, and an older server did not create it.
    fn check_reserve(&self) {
        if !is_due(&self.reserve_checked, RESERVE_INTERVAL) {
            return;
        }
        let before = self.store.lacks_reserve();
        self.store.keep_reserve();
        if self.store.lacks_reserve() != before {
            for name in self.names() {
                self.enforce(&mut lock(&self.controlled(&name)));
            }
        }
    }
}

/// The threads of the control plane. They end when this value is dropped.
pub(crate) struct Control {
    stop: Vec<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
    kept: PackageCopies,
}

impl Control {
    pub(crate) fn start(operator: &Arc<Operator>) -> std::io::Result<Control> {
        let mut control = Control {
            stop: Vec::new(),
            threads: Vec::new(),
            kept: operator.kept.clone(),
        };
        control.every("judge", TICK, operator, Operator::tick)?;
        control.every("rehearsal", TICK, operator, Operator::rehearse)?;
        Ok(control)
    }

    fn every(
        &mut self,
        name: &str,
        interval: Duration,
        operator: &Arc<Operator>,
        work: fn(&Operator),
    ) -> std::io::Result<()> {
        let (stop, stopped) = mpsc::channel();
        let operator = Arc::clone(operator);
        let run = move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                if catch_unwind(AssertUnwindSafe(|| work(&operator))).is_err() {
                    tracing::error!("the control plane panicked; its next tick continues");
                    operator.metrics.panics().inc();
                }
            }
        };
        self.threads
            .push(thread::Builder::new().name(name.to_owned()).spawn(run)?);
        self.stop.push(stop);
        Ok(())
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop.clear();
        // A shutdown must not wait until gigabytes are copied.
        self.kept.stop();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, process::Command, thread};

    use crate::{
        config::Config,
        id::{ModelId, ModelName, Version},
        operate::Control,
        package::bare::BareGraph,
        registry::{package_copies::PackageCopies, servable::Contents},
    };

    #[test]
    fn a_shutdown_does_not_wait_for_a_copy() {
        let (models, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let directory = models.path().join("m/1");
        let graph = directory.join("model.onnx");
        fs_err::create_dir_all(&directory).unwrap();
        fs_err::write(&graph, "").unwrap();
        let id = ModelId {
            name: ModelName::parse("m").unwrap(),
            version: Version::parse("1").unwrap(),
        };
        let contents = Contents::Bare(Box::new(BareGraph::open(&directory, &id).unwrap()));
        // A pipe acts like a file that is as long as its writer wants.
        fs_err::remove_file(&graph).unwrap();
        assert!(
            Command::new("mkfifo")
                .arg(&graph)
                .status()
                .unwrap()
                .success()
        );
        let mut config = Config::default();
        config.state.url = state.path().to_str().unwrap().to_owned();
        let kept = PackageCopies::of(&config.state);
        let copier = kept.clone();
        let copier = thread::spawn(move || assert!(copier.keep(&contents, &directory).is_err()));
        let mut source = fs_err::OpenOptions::new().write(true).open(&graph).unwrap();
        let chunk = vec![1; 1 << 20];
        // This is more than fits into a pipe. Once it is written, the copy is in progress.
        source.write_all(&chunk).unwrap();
        let writer = thread::spawn(move || (0..200).find(|_| source.write_all(&chunk).is_err()));
        drop(Control {
            stop: Vec::new(),
            threads: vec![copier],
            kept,
        });
        assert!(
            writer.join().unwrap().is_some(),
            "the copy must be cancelled"
        );
        assert_eq!(
            fs_err::read_dir(state.path().join("packages/m"))
                .unwrap()
                .count(),
            0,
            "an unfinished copy must be removed"
        );
    }
}
