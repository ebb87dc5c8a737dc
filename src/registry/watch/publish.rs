//! Publishes snapshots, and the role of each loaded version in the metrics.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    id::{ModelName, Version},
    metrics::{LoadedInfo, Metrics},
    registry::{
        ServedModel, Snapshot, VersionState, VersionStatus,
        watch::{
            RegistryLoop,
            tracked::{TrackedModel, TrackedVersion},
        },
    },
    rollout::role::VersionRole,
};

impl RegistryLoop {
    pub(super) fn publish(&mut self) {
        let models: BTreeMap<ModelName, ServedModel> = self
            .models
            .0
            .iter()
            .map(|(name, tracked)| (name.clone(), self.published_model(name, tracked)))
            .collect();
        // A model that an operator unloaded does not prevent the server from being ready.
        let required = self
            .required
            .iter()
            .filter(|name| !self.models.get(name).is_some_and(|model| model.unloaded));
        let configured = ModelName::parse(&self.parts.models.default);
        let only = models.keys().next().filter(|_| models.len() == 1).cloned();
        self.parts.registry.publish(Snapshot {
            models,
            required: required.cloned().collect(),
            none_required: self.required.is_empty(),
            default: configured.or(only),
            initial_loads_done: self.initial_loads_done,
            required_by_config: !self.parts.models.required.is_empty(),
            ignored: Arc::clone(&self.ignored),
        });
        self.publish_roles();
    }

    /// The model without the parts that come from its journal. `Registry::publish` adds these
    /// parts.
    fn published_model(&self, name: &ModelName, tracked: &TrackedModel) -> ServedModel {
        let versions: BTreeMap<Version, VersionStatus> = tracked
            .versions
            .iter()
            .map(|(version, tracked)| {
                let status = VersionStatus {
                    state: tracked.state.clone(),
                    warning: tracked.warning(),
                };
                (version.clone(), status)
            })
            .collect();
        // The configuration may name models that do not exist, and a model need not have a
        // fallback.
        let fallback = self.parts.settings.fallback(name.as_str());
        let snapshot = self.parts.registry.snapshot();
        let before = snapshot.models.get(name);
        ServedModel {
            // These values are kept across snapshots: a version answers until the new stable
            // version is loaded.
            stable: before.and_then(|model| model.stable.clone()),
            samples: before.and_then(|model| model.samples.clone()),
            decided: None,
            withdrawn: BTreeSet::new(),
            trouble: None,
            notices: Vec::new(),
            previous: None,
            traffic: None,
            fallback: fallback.cloned().map(Arc::new),
            versions,
            unversioned: self.parts.metrics.unversioned(name.as_str()),
            pinned: self.pinned(name),
            unloaded: tracked.unloaded,
        }
    }

    fn publish_roles(&mut self) {
        let snapshot = self.parts.registry.snapshot();
        for (name, tracked) in &mut self.models.0 {
            let model = snapshot.models.get(name);
            tracked.note_awaited(name, model);
            for (version, tracked) in &mut tracked.versions {
                tracked.publish_role(name, version, model, &self.parts.metrics);
            }
        }
    }
}

impl TrackedModel {
    /// Logs once that another version answers in place of the stable version.
    fn note_awaited(&mut self, name: &ModelName, model: Option<&ServedModel>) {
        let awaited = model.and_then(ServedModel::awaited).cloned();
        if awaited == self.awaited {
            return;
        }
        let answering = model.and_then(|model| model.stable.as_ref());
        if let (Some(awaited), Some(answering)) = (&awaited, answering) {
            tracing::error!(
                model = %name,
                decided = %awaited,
                answering = %answering.id().version,
                "the stable version is not loaded here; the version that answered until now stays \
                 in use"
            );
        }
        self.awaited = awaited;
    }
}

impl TrackedVersion {
    /// Updates `predictd_model_info` if the role of the version changed.
    fn publish_role(
        &mut self,
        name: &ModelName,
        version: &Version,
        model: Option<&ServedModel>,
        metrics: &Metrics,
    ) {
        let role = match (&self.state, model) {
            (VersionState::Available(servable), Some(model)) => {
                servable.digest().clone_into(&mut self.info.digest);
                self.info.verified = servable.contents.is_verified();
                Some(model.role(servable))
            }
            _ => None,
        };
        // An unconditional write would remove and create series in every round.
        if role == self.info.role {
            return;
        }
        let loaded = LoadedInfo {
            model: name.as_str(),
            version: version.as_str(),
            digest: &self.info.digest,
            verified: self.info.verified,
        };
        metrics.models.set_role(
            loaded,
            self.info.role.map(VersionRole::name),
            role.map(VersionRole::name),
        );
        self.info.role = role;
    }
}
