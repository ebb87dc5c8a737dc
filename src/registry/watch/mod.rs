//! `Watch`: the thread that scans the models directory, loads versions in the background, and
//! publishes snapshots of the served versions.

mod actions;
mod drain;
mod loading;
mod orders;
mod publish;
mod running_loads;
mod scan;
mod state_copies;
mod tracked;

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    config::{ModelSettings, ModelsConfig},
    engine::supervisor::Supervisor,
    id::ModelName,
    journal::entry::VersionRef,
    metrics::Metrics,
    registry::{
        Registry,
        commander::{Commander, Event},
        ignored::IgnoredPath,
        loader::Loader,
        package_copies::PackageCopies,
        watch::{
            drain::Draining, orders::PendingOrder, running_loads::RunningLoads,
            tracked::TrackedModels,
        },
    },
};

/// How often draining versions are checked.
const DRAIN_INTERVAL: Duration = Duration::from_millis(50);

/// Writes the first choice of a stable version to the journal.
pub(crate) trait Adopter: Send + Sync {
    /// Makes `version` the stable version if the model has no decisions yet. The decision reaches
    /// the registry through `Registry::decide`.
    fn adopt(&self, name: &ModelName, version: VersionRef);
}

pub(crate) struct WatchParts {
    pub registry: Registry,
    pub adopter: Arc<dyn Adopter>,
    pub loader: Arc<Loader>,
    pub metrics: Metrics,
    pub supervisor: Arc<Supervisor>,
    pub copies: PackageCopies,
    pub models: ModelsConfig,
    pub settings: ModelSettings,
}

/// A handle to the running thread. The thread ends when the handle is dropped.
pub(crate) struct Watch {
    events: mpsc::Sender<Event>,
    stopped: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Watch {
    pub(crate) fn start(parts: WatchParts) -> io::Result<Watch> {
        let (events, inbox) = mpsc::channel();
        let stopped = Arc::<AtomicBool>::default();
        // The thread owns all of its state, so no lock is held while a directory is read.
        let registry_loop = RegistryLoop {
            parts,
            events: events.clone(),
            stopped: Arc::clone(&stopped),
            models: TrackedModels::default(),
            draining: Draining::default(),
            scans: 0,
            listed: false,
            listing_failed: false,
            initial_loads_done: false,
            required: BTreeSet::new(),
            ignored: Arc::default(),
            unreadable: BTreeSet::new(),
            loads: RunningLoads::default(),
            orders: Vec::new(),
        };
        let thread = thread::Builder::new()
            .name("registry".to_owned())
            .spawn(move || registry_loop.run(&inbox))?;
        Ok(Watch {
            events,
            stopped,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(crate) fn commander(&self) -> Commander {
        Commander {
            events: self.events.clone(),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // The event alone would wait for the end of a scan.
        self.stopped.store(true, Ordering::Relaxed);
        // The thread may have ended already.
        let _ = self.events.send(Event::Stop);
        if let Some(thread) = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            let _ = thread.join();
        }
    }
}

/// The state of the thread. Only this thread changes it, so it needs no lock.
struct RegistryLoop {
    parts: WatchParts,
    /// The sender through which load threads report their results.
    events: mpsc::Sender<Event>,
    /// Whether the thread must end. A scan ends early.
    stopped: Arc<AtomicBool>,
    models: TrackedModels,
    draining: Draining,
    /// The number of scans so far.
    scans: u64,
    /// Whether the directory was scanned at least once, successfully or not.
    listed: bool,
    listing_failed: bool,
    /// Whether the first scan, and all loads that it started, have finished.
    initial_loads_done: bool,
    /// Models that must answer for the server to be ready.
    required: BTreeSet<ModelName>,
    /// The paths that the last scan ignored, although they look like models.
    ignored: Arc<[IgnoredPath]>,
    /// Models whose directory the last scan could not read.
    unreadable: BTreeSet<ModelName>,
    loads: RunningLoads,
    /// Orders of operators that are waiting for loads.
    orders: Vec<PendingOrder>,
}

impl RegistryLoop {
    fn run(mut self, inbox: &mpsc::Receiver<Event>) {
        let mut next_scan = Instant::now();
        loop {
            if next_scan <= Instant::now() {
                self.scan();
                next_scan = Instant::now() + self.parts.models.poll_interval();
            }
            // Late loads are given up before the actions, because this makes room for another load.
            self.give_up_late_loads();
            self.act();
            self.release_drained();
            self.publish();
            // Orders are answered after the publication: an operator must see the effect of an
            // answered order.
            self.answer_orders();
            let wake = if self.draining.is_empty() {
                next_scan
            } else {
                next_scan.min(Instant::now() + DRAIN_INTERVAL)
            };
            match inbox.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok(Event::LoadEnded(ended)) => self.end_load(ended),
                Ok(Event::Control { name, order, done }) => self.begin_order(name, order, done),
                Ok(Event::Scan { done }) => {
                    self.scan();
                    self.act();
                    self.publish();
                    let _ = done.send(());
                }
                _ if self.stopped.load(Ordering::Relaxed) => return,
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                // The next round of the loop does the work.
                Ok(Event::Decided) | Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}
