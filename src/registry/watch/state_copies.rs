//! Serves the copy of a package in the state directory instead of the files in the models
//! directory.

use std::fmt;

use crate::{
    error::text_with_sources,
    id::{ModelName, Version},
    package::{PackageCheck, PackageError},
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
    /// A file is missing or too short.
    Incomplete(&'a str),
    Rejected(&'a PackageError),
}

/// Logs that a version is rejected and has no copy that could be served.
pub(super) fn log_rejection(name: &ModelName, version: &Version, error: &PackageError) {
    tracing::error!(
        model = %name,
        version = %version,
        reason = error.check.name(),
        error = %text_with_sources(error),
        "refused"
    );
}

impl fmt::Display for FilesProblem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const RULE: &str = "a changed package needs a new version";
        match self {
            FilesProblem::Incomplete(detail) => write!(f, "{detail}; {RULE}"),
            // This error already contains the rule.
            FilesProblem::Rejected(error) if error.check == PackageCheck::Journal => {
                f.write_str(&text_with_sources(*error))
            }
            FilesProblem::Rejected(error) => write!(f, "{}; {RULE}", text_with_sources(*error)),
        }
    }
}

impl RegistryLoop {
    /// Serves stable and previous versions from their copies if their files are gone from the
    /// models directory.
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
            // While a directory can't be read, it is not known whether its files are gone.
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
            // If an operator removed the whole model while no server was running, the model must
            // not return.
            let root = &self.parts.models.root;
            if self.models.get(&name).is_none() && !root.join(name.as_str()).is_dir() {
                continue;
            }
            tracing::warn!(
                model = %name,
                version = %version,
                "the files of this version are gone from the models directory; the copy in the \
                 state directory is served"
            );
            let model = self.models.0.entry(name).or_default();
            let tracked = model
                .versions
                .entry(version)
                .or_insert_with(|| TrackedVersion::new(found.clone()));
            tracked.copy = Some(ServedCopy {
                reason: "its files are gone from the models directory".to_owned(),
                instead_of: None,
            });
            // A loaded version stays unchanged, because the copy has the same digest.
            tracked.checked_fingerprint = found.fingerprint;
            tracked.found = Some(found);
        }
    }

    /// Serves the copy of a stable or previous version whose files have a problem. Returns `false`
    /// if there is no copy, or if the copy itself has the problem.
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
        // The copy itself has the problem, so another attempt would loop.
        if tracked.copy.is_some() {
            return false;
        }
        tracing::error!(
            model = %name,
            version = %version,
            reason = %problem,
            "the files in the models directory are ignored, the copy in the state directory is \
             served"
        );
        tracked.copy = Some(ServedCopy {
            reason: format!("its files in the models directory are ignored ({problem})"),
            instead_of: tracked.found.as_ref().map(|found| found.fingerprint),
        });
        tracked.found = Some(found);
        // The next plan loads the copy.
        tracked.state = VersionState::Idle;
        true
    }

    /// Unloads versions whose digest differs from the digest in the journal. They were loaded
    /// before the journal could be read. Their copies replace them if they exist.
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
                // Current requests are still answered by this version. New requests get another
                // version.
                self.draining.add(servable);
            }
            evicted.push((version.clone(), error));
        }
        for (version, error) in evicted {
            if !self.use_copy(name, &version, &FilesProblem::Rejected(&error)) {
                log_rejection(name, &version, &error);
            }
        }
    }
}
