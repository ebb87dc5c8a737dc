//! Loads versions in separate threads.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::text_with_sources,
    id::{ModelId, ModelName, Version},
    metrics::LoadOutcome,
    package::{MODEL_FILE, PackageCheck, PackageError},
    registry::{
        VersionState,
        commander::{Event, LoadEnded},
        decision::digest_conflict,
        loader::FailedLoad,
        reconcile::CopyProgress,
        servable::{LoadedVersion, Servable},
        source::FoundDirectory,
        watch::{
            RegistryLoop,
            state_copies::{FilesProblem, log_rejection},
            tracked::RetriedFailure,
        },
    },
};

/// The niceness of threads that load versions, so that they don't slow down requests.
const LOAD_NICENESS: i32 = 10;

/// How much longer than the limits of the gate a load may take.
const LOAD_GRACE: Duration = Duration::from_secs(10);

impl RegistryLoop {
    pub(super) fn load(&mut self, name: &ModelName, version: &Version) {
        // A server that does not answer requests yet may use all cores. After that, one load at a
        // time leaves the other cores to requests.
        let concurrent = if self.initial_loads_done {
            1
        } else {
            self.parts.loader.cores
        };
        if self.loads.len() >= concurrent {
            return;
        }
        let Some(tracked) = self.models.version_mut(name, version) else {
            return;
        };
        let Some(found) = tracked.found.clone() else {
            return;
        };
        // An unfinished copy may have caused the failure. Only the next scan shows whether the
        // files have changed.
        if tracked
            .retried
            .is_some_and(|failure| failure.scan == self.scans)
        {
            return;
        }
        tracked.checked_fingerprint = found.fingerprint;
        if let Some(missing) = self.parts.loader.missing(&found.directory) {
            self.wait_for_files(name, version, found.fingerprint, missing);
        } else if !self.waits_for_arrival(name, version, &found) {
            let id = ModelId {
                name: name.clone(),
                version: version.clone(),
            };
            self.start_load(id, found);
        }
    }

    /// Marks a package with missing files as incomplete. It is rejected if its files don't change
    /// for `models.copy_timeout`.
    fn wait_for_files(
        &mut self,
        name: &ModelName,
        version: &Version,
        fingerprint: u64,
        missing: String,
    ) {
        if self.use_copy(name, version, &FilesProblem::Incomplete(&missing)) {
            return;
        }
        let Some(tracked) = self.models.version_mut(name, version) else {
            return;
        };
        let (limit, now) = (self.parts.models.copy_timeout(), Instant::now());
        let progress = CopyProgress::observe(tracked.copying, fingerprint, now);
        tracked.copying = Some(progress);
        if progress.is_unchanged_for(limit, now) {
            let detail = format!(
                "{missing}; its files have not changed for {} s: copy it again, or remove it",
                limit.as_secs_f64()
            );
            let error = PackageError::new(PackageCheck::Incomplete, "", detail);
            self.reject(name, version, error, Duration::ZERO);
            return;
        }
        // Logged once per missing file, not at every scan.
        let known = matches!(&tracked.state, VersionState::Incomplete { missing: before } if *before == missing);
        if !known {
            tracing::warn!(
                model = %name,
                version = %version,
                missing,
                "the package is incomplete; every poll checks it again"
            );
        }
        tracked.state = VersionState::Incomplete { missing };
    }

    /// Whether a bare graph is so new that its file may still grow. It is loaded after it was
    /// unchanged for half a poll interval.
    fn waits_for_arrival(
        &mut self,
        name: &ModelName,
        version: &Version,
        found: &FoundDirectory,
    ) -> bool {
        let new = self.parts.loader.just_arrived(&found.directory);
        let (calm, now) = (self.parts.models.poll_interval() / 2, Instant::now());
        let Some(tracked) = self.models.version_mut(name, version) else {
            return false;
        };
        let before = tracked.arriving.take().filter(|_| new);
        if !new || before.is_some_and(|arrival| arrival.is_same_for(found.fingerprint, calm, now)) {
            return false;
        }
        tracked.arriving = Some(CopyProgress::observe(before, found.fingerprint, now));
        tracked.state = VersionState::Incomplete {
            missing: "a graph without a manifest that is new; the next scan checks whether its \
                      file is complete"
                .to_owned(),
        };
        true
    }

    fn start_load(&mut self, id: ModelId, found: FoundDirectory) {
        let number = self.loads.next_number();
        let limit = self.load_limit();
        let (loader, events) = (Arc::clone(&self.parts.loader), self.events.clone());
        let (load_id, thread_name) = (id.clone(), format!("load-{}", id.name));
        let started = thread::Builder::new().name(thread_name).spawn(move || {
            let start = Instant::now();
            // Only this thread gets a lower priority. The loop starts the workers at normal
            // priority.
            loader.lower_priority(&load_id, &found.directory, LOAD_NICENESS);
            let load = AssertUnwindSafe(|| loader.load(&found.directory, &load_id).map(Box::new));
            // A panic must not leave the version in the state `Loading` for ever.
            let outcome = catch_unwind(load).unwrap_or_else(|_| {
                let error = PackageError::new(PackageCheck::Runtime, "", "the load panicked");
                Err(FailedLoad::Refused(error))
            });
            let _ = events.send(Event::LoadEnded(LoadEnded {
                number,
                fingerprint: found.fingerprint,
                outcome,
                elapsed: start.elapsed(),
            }));
        });
        let Some(tracked) = self.models.version_mut(&id.name, &id.version) else {
            return;
        };
        match started {
            Ok(_) => {
                tracked.state = VersionState::Loading;
                // The result arrives as an event of this loop, so it can't be processed before this
                // line.
                self.loads.begin(number, id, limit);
            }
            Err(error) => {
                tracing::error!(error = %error, "no thread could be started to load a model");
                tracked.state = VersionState::Idle;
            }
        }
    }

    /// The time limit of a load. The gate has its own limit. The load repeats one load and one run,
    /// both of which succeeded within the limit of the gate.
    fn load_limit(&self) -> Duration {
        self.parts.models.gate_timeout() * 2 + LOAD_GRACE
    }

    /// Gives up loads that exceed their limit. A load that hangs must not prevent the server from
    /// being ready, or other models from being loaded.
    pub(super) fn give_up_late_loads(&mut self) {
        for number in self.loads.late() {
            let limit = self.load_limit();
            let error = PackageError::new(
                PackageCheck::Timeout,
                MODEL_FILE,
                format!("the load took longer than {} s", limit.as_secs()),
            );
            self.end_load(LoadEnded {
                number,
                // A timeout is never retried, so no fingerprint is needed.
                fingerprint: 0,
                outcome: Err(FailedLoad::Refused(error)),
                elapsed: limit,
            });
        }
    }

    pub(super) fn end_load(&mut self, ended: LoadEnded) {
        let LoadEnded {
            number,
            fingerprint,
            outcome,
            elapsed,
        } = ended;
        // The result of a load that was given up is ignored.
        let Some(id) = self.loads.end(number) else {
            return;
        };
        // This can't happen: a plan never removes a version that is loading.
        if self.models.version(&id.name, &id.version).is_none() {
            return;
        }
        let started = outcome.and_then(|loaded| self.start_servable(&id, *loaded));
        match started {
            Ok(servable) => {
                tracing::info!(
                    model = %id.name,
                    version = %id.version,
                    digest = servable.digest(),
                    milliseconds = elapsed.as_millis(),
                    workers = servable.workers,
                    "loaded"
                );
                self.parts.metrics.models.observe_load(
                    id.name.as_str(),
                    id.version.as_str(),
                    LoadOutcome::Loaded,
                    elapsed,
                );
                if let Some(tracked) = self.models.version_mut(&id.name, &id.version) {
                    tracked.state = VersionState::Available(Arc::new(servable));
                    // The warning concerned the files of the previous load.
                    tracked.warning = None;
                }
            }
            Err(FailedLoad::Incomplete(missing)) => {
                if let Some(tracked) = self.models.version_mut(&id.name, &id.version) {
                    tracked.state = VersionState::Incomplete { missing };
                }
            }
            Err(FailedLoad::Refused(error)) => {
                if !self.may_retry(&id, fingerprint, &error)
                    && !self.use_copy(&id.name, &id.version, &FilesProblem::Rejected(&error))
                {
                    self.reject(&id.name, &id.version, error, elapsed);
                }
            }
        }
    }

    /// Starts the workers of a loaded version, unless the journal contains a different digest for
    /// it.
    fn start_servable(&self, id: &ModelId, loaded: LoadedVersion) -> Result<Servable, FailedLoad> {
        let digest = &loaded.contents.manifest().digest;
        let decision = self.parts.registry.decision(&id.name);
        if let Some(error) =
            decision.and_then(|decision| digest_conflict(&decision.digests, &id.version, digest))
        {
            return Err(FailedLoad::Refused(error));
        }
        // This call creates the metrics of the version, so versions that fail the gate have none.
        let handles = self
            .parts
            .metrics
            .version(id.name.as_str(), id.version.as_str());
        Servable::start(loaded, handles, &self.parts.supervisor).map_err(|error| {
            FailedLoad::Refused(PackageError::caused_by(
                PackageCheck::Runtime,
                "",
                "no thread for its workers",
                error,
            ))
        })
    }

    /// Whether the load is tried again. It is tried again once if an unfinished copy can explain the
    /// failure: a file may already have its final size, but not its final bytes. The next scan
    /// decides whether the files changed.
    fn may_retry(&mut self, id: &ModelId, fingerprint: u64, error: &PackageError) -> bool {
        let scan = self.scans;
        let Some(tracked) = self.models.version_mut(&id.name, &id.version) else {
            return false;
        };
        let retried_before = tracked
            .retried
            .is_some_and(|failure| failure.fingerprint == fingerprint);
        let bare = tracked
            .found
            .as_ref()
            .is_some_and(|found| self.parts.loader.is_bare(&found.directory));
        let explained = matches!(
            error.check,
            PackageCheck::Manifest | PackageCheck::Files | PackageCheck::Hashes
        ) || bare && error.check == PackageCheck::Graph;
        if !explained || retried_before {
            return false;
        }
        tracked.retried = Some(RetriedFailure { fingerprint, scan });
        tracked.state = VersionState::Incomplete {
            missing: format!(
                "its files may not be complete yet: {}",
                text_with_sources(error)
            ),
        };
        true
    }

    fn reject(
        &mut self,
        name: &ModelName,
        version: &Version,
        error: PackageError,
        elapsed: Duration,
    ) {
        log_rejection(name, version, &error);
        let outcome = LoadOutcome::Refused {
            reason: error.check.name(),
        };
        self.parts
            .metrics
            .models
            .observe_load(name.as_str(), version.as_str(), outcome, elapsed);
        if let Some(tracked) = self.models.version_mut(name, version) {
            tracked.state = VersionState::Refused(error);
        }
    }
}
