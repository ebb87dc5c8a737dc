//! Loads a version for an order. The order waits until the version is loaded.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    id::{ModelName, Version},
    journal::entry::VersionRef,
    operate::{OperateError, Operator, lock},
    registry::{VersionFault, VersionState, VersionStatus, servable::Servable, traffic},
};

/// How long an order waits until a version is loaded. A client waits longer than this for its
/// answer.
const LOAD_TIMEOUT: Duration = Duration::from_secs(120);
/// The interval at which an order checks whether the load is complete. A load takes at least tens
/// of milliseconds.
const LOAD_POLL: Duration = Duration::from_millis(10);

impl Operator {
    /// Returns the identity of a version once it is loaded. No lock is held during the load, so
    /// other orders are not delayed. On success the version stays loaded until `release`.
    pub(super) fn ensure_loaded(
        &self,
        name: &ModelName,
        version: &str,
    ) -> Result<VersionRef, OperateError> {
        let parsed = Version::parse(version)
            .ok_or_else(|| OperateError::InvalidVersion(version.to_owned()))?;
        // Keep the version loaded before the first check. If this happened after the check, the
        // version could be unloaded in between.
        self.keep_loaded(name, &parsed);
        let outcome = self.wait_until_loaded(name, version);
        if outcome.is_err() {
            self.release(name, version);
        }
        outcome
    }

    fn wait_until_loaded(
        &self,
        name: &ModelName,
        version: &str,
    ) -> Result<VersionRef, OperateError> {
        let deadline = Instant::now() + LOAD_TIMEOUT;
        let mut rescanned = false;
        loop {
            if let Some(servable) = self.loaded(name, version) {
                return Ok(VersionRef {
                    version: version.to_owned(),
                    digest: servable.digest().to_owned(),
                });
            }
            match self.load_status(name, version)? {
                // The version's directory may be newer than the last scan.
                None if !rescanned => {
                    rescanned = true;
                    if let Some(commander) = self.commander.get() {
                        commander.scan();
                    }
                }
                None => return Err(self.not_there(name, version)),
                Some(status) => {
                    check_loading(name, version, &status, deadline)?;
                    thread::park_timeout(LOAD_POLL);
                }
            }
        }
    }

    fn load_status(
        &self,
        name: &ModelName,
        version: &str,
    ) -> Result<Option<VersionStatus>, OperateError> {
        let snapshot = self.registry.snapshot();
        match snapshot.models.get(name) {
            None => Err(OperateError::NotServed(name.to_string())),
            Some(model) if model.unloaded => Err(OperateError::Unloaded(name.to_string())),
            Some(model) => Ok(model.version(version).cloned()),
        }
    }

    fn not_there(&self, name: &ModelName, version: &str) -> OperateError {
        let controlled = self.controlled(name);
        let decided_before = lock(&controlled).state.digests.contains_key(version);
        let (model, version) = (name.to_string(), version.to_owned());
        if decided_before {
            OperateError::FilesMissing { model, version }
        } else {
            OperateError::UnknownVersion { model, version }
        }
    }

    fn keep_loaded(&self, name: &ModelName, version: &Version) {
        let controlled = self.controlled(name);
        let mut model = lock(&controlled);
        model.wanted.retain(|other| other != version);
        model.wanted.push(version.clone());
        self.enforce(&mut model);
    }

    /// Allows the registry to unload a version that `ensure_loaded` kept loaded.
    pub(super) fn release(&self, name: &ModelName, version: &str) {
        let controlled = self.controlled(name);
        let mut model = lock(&controlled);
        model.wanted.retain(|other| other.as_str() != version);
        self.enforce(&mut model);
    }

    /// Finds a loaded version by its name.
    pub(super) fn loaded(&self, name: &ModelName, version: &str) -> Option<Arc<Servable>> {
        let snapshot = self.registry.snapshot();
        match &snapshot.models.get(name)?.version(version)?.state {
            VersionState::Available(servable) => Some(Arc::clone(servable)),
            _ => None,
        }
    }

    /// Finds a loaded version whose digest is the one in the journal.
    pub(super) fn decided(&self, name: &ModelName, named: &VersionRef) -> Option<Arc<Servable>> {
        traffic::available(&self.registry.snapshot().models.get(name)?.versions, named).cloned()
    }

    /// The loaded versions, lowest first.
    pub(super) fn available(&self, name: &ModelName) -> Vec<String> {
        let snapshot = self.registry.snapshot();
        snapshot
            .models
            .get(name)
            .into_iter()
            .flat_map(|model| &model.versions)
            .filter(|(_, status)| matches!(status.state, VersionState::Available(_)))
            .map(|(version, _)| version.to_string())
            .collect()
    }
}

/// Returns an error if the version can't become loaded.
fn check_loading(
    name: &ModelName,
    version: &str,
    status: &VersionStatus,
    deadline: Instant,
) -> Result<(), OperateError> {
    let (model, version) = (name.to_string(), version.to_owned());
    if let VersionState::Refused(error) = &status.state {
        return Err(OperateError::VersionRefused {
            model,
            version,
            fault: Box::new(VersionFault::Refused(error.clone())),
        });
    }
    if Instant::now() < deadline {
        return Ok(());
    }
    Err(OperateError::LoadTimeout {
        model,
        version,
        state: status.state.load_state(),
        fault: status.state.fault().map(Box::new),
    })
}
