//! Copies of packages, next to the journal. A stable or previous version must survive the loss of
//! its files in the models directory.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    error::text_with_sources,
    id::ModelName,
    journal::entry::VersionRef,
    operate::{
        Operator, lock,
        model::{Copies, ModelControl},
    },
    registry::servable::Servable,
};

/// The pause after a copy failed. A full disk does not become free within a tick.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// The versions of one model that need a copy or may keep one.
struct Wanted {
    /// The stable version and the previous one. Both need a copy.
    required: Vec<VersionRef>,
    /// The required versions and the candidates. A candidate keeps the copy that it has because it
    /// was stable before. A new candidate gets no copy, because its rollout may end with an abort.
    allowed: Vec<VersionRef>,
    /// Whether no decision is pending or unreadable. If one is, other replicas may know of versions
    /// that need their copies.
    settled: bool,
    done: Option<Copies>,
    failed_at: Option<Instant>,
}

impl Wanted {
    fn of(model: &ModelControl) -> Wanted {
        let required: Vec<VersionRef> = model
            .state
            .stable
            .iter()
            .chain(model.state.previous())
            .cloned()
            .collect();
        let candidates = model
            .state
            .rollout
            .iter()
            .flat_map(|rollout| &rollout.candidates);
        let allowed: Vec<VersionRef> = required.iter().chain(candidates).cloned().collect();
        let failed = model.failed_copies.as_ref();
        Wanted {
            settled: model.trouble.is_none() && model.pending.is_empty(),
            done: model
                .copies
                .clone()
                .filter(|copies| copies.versions == allowed),
            failed_at: failed
                .filter(|(versions, _)| *versions == allowed)
                .map(|(_, at)| *at),
            required,
            allowed,
        }
    }

    fn is_tidied(&self) -> bool {
        !self.settled || self.done.as_ref().is_some_and(|copies| copies.tidied)
    }

    /// Whether a copy or a check is due. `interval`: how often copies that exist are checked.
    fn is_due(&self, interval: Duration) -> bool {
        let made = self
            .done
            .as_ref()
            .is_some_and(|copies| copies.at.elapsed() < interval);
        let waits = self
            .failed_at
            .is_some_and(|at| at.elapsed() < RETRY_INTERVAL);
        let done = made && self.is_tidied();
        !(self.required.is_empty() || done || waits)
    }
}

impl Operator {
    /// Copies the stable version and the previous one once they are loaded, and removes the copies
    /// of other versions.
    pub(super) fn keep_packages(&self, name: &ModelName) {
        if !self.kept.is_wanted() {
            return;
        }
        let controlled = self.controlled(name);
        let wanted = Wanted::of(&lock(&controlled));
        if !wanted.is_due(self.settings.models.rehearse_interval()) {
            return;
        }
        // No lock is held during the copy, because copying gigabytes must not delay a decision.
        let Some((complete, failed)) = self.copy(name, &wanted) else {
            return;
        };
        if complete && !wanted.is_tidied() {
            self.kept.retain(name, &digests(&wanted.allowed));
        }
        let mut model = lock(&controlled);
        model.failed_copies = failed.then(|| (wanted.allowed.clone(), Instant::now()));
        if complete {
            model.copies = Some(Copies {
                versions: wanted.allowed,
                at: Instant::now(),
                tidied: wanted.settled,
            });
        }
    }

    /// Makes the copies. Returns whether all exist, and whether a copy failed. Returns `None`
    /// during a shutdown.
    fn copy(&self, name: &ModelName, wanted: &Wanted) -> Option<(bool, bool)> {
        let (mut all, mut failed) = (true, false);
        for named in &wanted.required {
            let Some(servable) = self.decided(name, named) else {
                all &= self.kept.found(name, named).is_some();
                continue;
            };
            let directory = self.directory_of(&servable);
            let keep = || self.kept.keep(&servable.contents, &directory);
            // Removing the copies of versions that are no longer needed may free enough disk space.
            let outcome = keep().or_else(|error| {
                if wanted.settled && self.kept.retain(name, &digests(&wanted.allowed)) {
                    keep()
                } else {
                    Err(error)
                }
            });
            if self.kept.is_stopped() {
                return None;
            }
            if let Err(error) = outcome {
                if wanted.failed_at.is_none() {
                    tracing::warn!(
                        model = %name,
                        version = %named,
                        error = %text_with_sources(&error),
                        "no copy of the package can be kept: its files in the models directory \
                         are the only ones"
                    );
                }
                failed = true;
            }
        }
        Some((all && !failed, failed))
    }

    /// The directory that a version was loaded from.
    pub(super) fn directory_of(&self, servable: &Servable) -> PathBuf {
        let id = servable.id();
        self.settings
            .models
            .root
            .join(id.name.as_str())
            .join(id.version.as_str())
    }
}

fn digests(versions: &[VersionRef]) -> BTreeSet<String> {
    versions.iter().map(|named| named.digest.clone()).collect()
}
