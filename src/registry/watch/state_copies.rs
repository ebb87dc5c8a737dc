//! Serving the copy of a package in the state instead of its files in the models directory.

use std::fmt;

use crate::{
    id::{ModelName, Version},
    package::PackageError,
    registry::{
        VersionState,
        decision::digest_conflict,
        watch::{
            RegistryLoop,
            tracked::{ServedCopy, TrackedVersion},
        },
    },
};

/// Why the files in the models directory are not served.
pub(super) enum FilesProblem<'a> {
    /// A file is missing or short.
    Incomplete(&'a str),
    Rejected(&'a PackageError),
}

impl fmt::Display for FilesProblem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const RULE: &str = "a changed package needs a new version";
        match self {
            FilesProblem::Incomplete(detail) => write!(f, "{detail}; {RULE}"),
            // This error states the rule itself.
            FilesProblem::Rejected(error) if error.check == "journal" => error.fmt(f),
            FilesProblem::Rejected(error) => write!(f, "{error}; {RULE}"),
        }
    }
}

impl RegistryLoop {
    /// Stable and previous versions whose files are gone from the models directory are served from
    /// their copies.
    pub(super) fn use_copies_of_missing_versions(&mut self) {
        let protected = self.parts.registry.stable_and_previous();
        let is_protected = |name: &ModelName, version: &Version| {
            protected
                .iter()
                .any(|(model, named)| model == name && named.version == version.as_str())
        };
        for (name, model) in &mut self.models.0 {
            for (version, tracked) in &mut model.versions {
                if tracked.copy.is_some() && !is_protected(name, version) {
                    (tracked.found, tracked.copy) = (None, None);
                }
            }
        }
        for (name, named) in protected {
            // While a directory can't be read, nobody knows whether its files are gone.
            if self.unreadable.contains(&name) {
                continue;
            }
            let Some(version) = Version::parse(&named.version) else {
                continue;
            };
            let tracked = self.models.version(&name, &version);
            if tracked.is_some_and(|tracked| tracked.found.is_some()) {
                continue;
            }
            let Some(found) = self.parts.copies.found(&name, &named) else {
                continue;
            };
            // An operator who removed the whole model while no server ran does not want it back.
            let root = &self.parts.models.root;
            if self.models.get(&name).is_none() && !root.join(name.as_str()).is_dir() {
                continue;
            }
            tracing::warn!(model = %name, version = %version, "the files of this version are gone from the models directory; the copy kept in the state is served");
            let model = self.models.0.entry(name).or_default();
            let tracked = model
                .versions
                .entry(version)
                .or_insert_with(|| TrackedVersion::new(found.clone()));
            tracked.copy = Some(ServedCopy {
                reason: "its files are gone from the models directory".to_owned(),
                instead_of: None,
            });
            // A loaded version stays as it is: the copy has the same digest.
            tracked.checked_fingerprint = found.fingerprint;
            tracked.found = Some(found);
        }
    }

    /// Serves the copy of a stable or previous version whose files have a problem. `false` if there
    /// is no copy, or if the copy itself has the problem.
    pub(super) fn use_copy(
        &mut self,
        name: &ModelName,
        version: &Version,
        problem: &FilesProblem<'_>,
    ) -> bool {
        let protected = self.parts.registry.stable_and_previous();
        let named = protected
            .into_iter()
            .find(|(model, named)| model == name && named.version == version.as_str());
        let Some(found) = named.and_then(|(_, named)| self.parts.copies.found(name, &named)) else {
            return false;
        };
        let Some(tracked) = self.models.version_mut(name, version) else {
            return false;
        };
        // The copy itself has the problem. A second try would loop.
        if tracked.copy.is_some() {
            return false;
        }
        tracing::error!(model = %name, version = %version, reason = %problem, "the files in the models directory are ignored, the copy kept in the state is served");
        tracked.copy = Some(ServedCopy {
            reason: format!("its files in the models directory are ignored ({problem})"),
            instead_of: tracked.found.as_ref().map(|found| found.fingerprint),
        });
        tracked.found = Some(found);
        // The next plan loads the copy.
        tracked.state = VersionState::Idle;
        true
    }

    /// Unloads versions whose digest is not the one that the journal names. They were loaded before
    /// the journal could be read. Their copies replace them, if there are any.
    pub(super) fn evict_conflicting(&mut self, name: &ModelName) {
        let Some(decision) = self.parts.registry.decision(name) else {
            return;
        };
        let Some(model) = self.models.get_mut(name) else {
            return;
        };
        let mut evicted = Vec::new();
        for (version, tracked) in &mut model.versions {
            let VersionState::Available(servable) = &tracked.state else {
                continue;
            };
            let Some(error) = digest_conflict(&decision.digests, version, servable.digest()) else {
                continue;
            };
            let rejected = VersionState::Refused(error.clone());
            if let VersionState::Available(servable) =
                std::mem::replace(&mut tracked.state, rejected)
            {
                // Requests that use it are answered to their end, but new ones get another version.
                self.draining.add(servable);
            }
            evicted.push((version.clone(), error));
        }
        for (version, error) in evicted {
            if !self.use_copy(name, &version, &FilesProblem::Rejected(&error)) {
                tracing::error!(model = %name, version = %version, reason = error.check, error = %error, "refused");
            }
        }
    }
}
