//! Carries out the actions that `reconcile` plans for each model.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    error::text_with_sources,
    id::{ModelName, Version},
    journal::entry::VersionRef,
    metrics::LoadOutcome,
    package::{
        PackageCheck, PackageError,
        bare::BareGraph,
        manifest::{self, Manifest},
    },
    registry::{
        VersionState,
        reconcile::{self, LoadAction, LoadPhase, ModelView, RetentionPolicy},
        servable::{Contents, Servable},
        source::FoundDirectory,
        watch::RegistryLoop,
    },
};

impl RegistryLoop {
    pub(super) fn act(&mut self) {
        let names: Vec<ModelName> = self.models.0.keys().cloned().collect();
        for name in names {
            self.evict_conflicting(&name);
            // A version that is found to be incomplete makes room for an older one, which the next
            // plan loads. Every round changes a phase and phases don't go back, so the loop ends.
            let mut before = None;
            while let Some(phases) =
                Some(self.phases(&name)).filter(|phases| before.as_ref() != Some(phases))
            {
                before = Some(phases);
                self.carry_out(&name);
            }
            self.adopt(&name);
            let gone = self
                .models
                .get(&name)
                .is_some_and(|model| model.versions.is_empty());
            // A model whose directory can't be read is expected to become readable again.
            if gone && !self.unreadable.contains(&name) {
                self.models.0.remove(&name);
            }
        }
        let arriving = self.models.0.keys().any(|name| self.awaits_arrival(name));
        if !self.initial_loads_done && self.listed && self.loads.is_empty() && !arriving {
            self.initial_loads_done = true;
            tracing::info!(models = self.models.0.len(), "models are loaded");
        }
    }

    fn phases(&self, name: &ModelName) -> Vec<LoadPhase> {
        let versions = self.models.get(name).map(|model| model.versions.values());
        versions
            .into_iter()
            .flatten()
            .map(|tracked| tracked.view().phase)
            .collect()
    }

    fn carry_out(&mut self, name: &ModelName) {
        for action in self.plan(name) {
            match action {
                LoadAction::Load(version) => self.load(name, &version),
                LoadAction::Unload(version) => self.unload(name, &version),
                LoadAction::Compare(version) => self.check_changed_files(name, &version),
                LoadAction::Forget(version) => {
                    if let Some(model) = self.models.get_mut(name) {
                        model.versions.remove(&version);
                    }
                }
            }
        }
    }

    pub(super) fn plan(&self, name: &ModelName) -> Vec<LoadAction> {
        let Some(model) = self.models.get(name) else {
            return Vec::new();
        };
        let view = self.model_view(name).unwrap_or_default();
        if model.unloaded {
            return reconcile::plan(&view, &RetentionPolicy::Newest(0));
        }
        let newest = RetentionPolicy::Newest(self.parts.models.keep_versions);
        reconcile::plan(&view, model.retention.as_ref().unwrap_or(&newest))
    }

    pub(super) fn model_view(&self, name: &ModelName) -> Option<ModelView> {
        let model = self.models.get(name)?;
        let versions = model
            .versions
            .iter()
            .map(|(version, tracked)| (version.clone(), tracked.view()))
            .collect();
        let decision = self.parts.registry.decision(name);
        let needed = match &decision {
            // An operator's order takes precedence over the journal.
            _ if model.unloaded => BTreeSet::new(),
            // The version that answers now stays until the new stable version is loaded.
            Some(decision) if decision.stable.is_some() => decision
                .needed()
                .into_iter()
                .chain(self.substitute(name))
                .collect(),
            _ => self
                .pinned(name)
                .into_iter()
                .chain(decision.iter().flat_map(|decision| decision.needed()))
                .collect(),
        };
        Some(ModelView { versions, needed })
    }

    /// The version that answers because the stable version is not loaded. `None` if there is no
    /// such version.
    fn substitute(&self, name: &ModelName) -> Option<Version> {
        let snapshot = self.parts.registry.snapshot();
        let model = snapshot.models.get(name)?;
        // Without a substitute, `needed` already contains the version that answers.
        model.awaited()?;
        model
            .stable
            .as_ref()
            .map(|servable| servable.id().version.clone())
    }

    pub(super) fn pinned(&self, name: &ModelName) -> Option<Version> {
        self.parts
            .settings
            .pinned(name.as_str())
            .and_then(Version::parse)
    }

    /// Whether a version to load is a new bare graph whose file may be incomplete.
    fn awaits_arrival(&self, name: &ModelName) -> bool {
        self.plan(name).iter().any(|action| match action {
            LoadAction::Load(version) => self
                .models
                .version(name, version)
                .is_some_and(|tracked| tracked.arriving.is_some()),
            _ => false,
        })
    }

    /// Whether a load or unload of the model is in progress or about to begin. A version with
    /// missing files is not counted, because it is not known when the files arrive.
    pub(super) fn is_busy(&self, name: &ModelName) -> bool {
        let Some(model) = self.models.get(name) else {
            return false;
        };
        let loads = model
            .versions
            .values()
            .any(|tracked| matches!(tracked.state, VersionState::Loading));
        loads
            || self.plan(name).iter().any(|action| match action {
                LoadAction::Load(version) => model.versions.get(version).is_some_and(|tracked| {
                    tracked.arriving.is_some()
                        || !matches!(tracked.state, VersionState::Incomplete { .. })
                }),
                LoadAction::Unload(_) => true,
                LoadAction::Compare(_) | LoadAction::Forget(_) => false,
            })
    }

    /// Chooses the first stable version of a model that has no decisions yet.
    fn adopt(&mut self, name: &ModelName) {
        let decided = self
            .parts
            .registry
            .decision(name)
            .is_some_and(|decision| decision.stable.is_some() || decision.trouble.is_some());
        let unloaded = self.models.get(name).is_none_or(|model| model.unloaded);
        // A choice before all files arrived would depend on the order of the copies.
        if decided || unloaded || self.awaits_arrival(name) {
            return;
        }
        let Some(view) = self.model_view(name) else {
            return;
        };
        let Some(version) = reconcile::first_choice(&view, self.pinned(name).as_ref()) else {
            return;
        };
        let tracked = self.models.version(name, &version);
        if let Some(VersionState::Available(servable)) = tracked.map(|tracked| &tracked.state) {
            let digest = servable.digest().to_owned();
            let version = version.to_string();
            self.parts
                .adopter
                .adopt(name, VersionRef { version, digest });
        }
    }

    /// Checks the changed directory of a loaded version. A package must not change: the loaded
    /// version stays in use, and operators get a warning.
    fn check_changed_files(&mut self, name: &ModelName, version: &Version) {
        let Some(tracked) = self.models.version_mut(name, version) else {
            return;
        };
        let (Some(found), VersionState::Available(servable)) = (&tracked.found, &tracked.state)
        else {
            return;
        };
        // The fingerprint is set before the check, so that the same change is not checked and
        // logged again.
        tracked.checked_fingerprint = found.fingerprint;
        tracked.warning = check_same_files(servable, found).err().map(|error| {
            format!(
                "the files of this version were changed and are refused, the loaded ones stay in \
                 use: {}",
                text_with_sources(&error)
            )
        });
        if let Some(warning) = &tracked.warning {
            tracing::error!(
                model = %name,
                version = %version,
                warning,
                "a loaded version was overwritten"
            );
            let outcome = LoadOutcome::Refused {
                reason: "overwritten",
            };
            self.parts.metrics.models.observe_load(
                name.as_str(),
                version.as_str(),
                outcome,
                Duration::ZERO,
            );
        }
    }
}

/// Checks whether the directory still contains the files that were loaded.
fn check_same_files(servable: &Servable, found: &FoundDirectory) -> Result<(), PackageError> {
    let manifest = match &servable.contents {
        Contents::Package(_) => Manifest::read(&found.directory)?,
        Contents::Bare(bare) => BareGraph::open(&found.directory, &bare.id)?.manifest,
    };
    if manifest.digest == servable.digest() {
        // A listed file may be overwritten although the manifest is unchanged.
        return manifest.check_files(&found.directory);
    }
    let detail = format!(
        "has digest {}, but {} is loaded",
        manifest.digest,
        servable.digest()
    );
    Err(PackageError::new(
        PackageCheck::Overwritten,
        manifest::FILE,
        detail,
    ))
}
