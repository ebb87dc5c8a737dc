//! Scans the models directory.

use std::{collections::BTreeMap, sync::atomic::Ordering};

use crate::{
    id::{ModelName, Version},
    package::bare,
    registry::{
        IgnoredReason,
        ignored::IgnoredPath,
        root_fault::ignored_paths,
        source::{self, FoundDirectory, Listing},
        watch::{
            RegistryLoop,
            tracked::{TrackedModel, TrackedVersion, retention},
        },
    },
};

impl RegistryLoop {
    /// Compares the models directory with the tracked versions.
    pub(super) fn scan(&mut self) {
        self.scans += 1;
        let root = &self.parts.models.root;
        let listing = source::list_until(root, &|| self.stopped.load(Ordering::Relaxed));
        if self.stopped.load(Ordering::Relaxed) {
            return;
        }
        let mut ignored = ignored_paths(root, &listing);
        match listing {
            Ok(listing) => {
                if self.listing_failed {
                    tracing::info!(
                        root = %root.display(),
                        "the models directory can be read again"
                    );
                }
                self.listing_failed = false;
                self.merge(listing);
            }
            Err(error) => {
                // Every failed scan counts, so that an alert stays active while the disk fails.
                self.parts.metrics.models.source_errors.inc();
                // Logged once, not at every scan.
                if !self.listing_failed {
                    tracing::error!(
                        root = %root.display(),
                        error = %error,
                        "the models directory can't be read; loaded versions stay loaded"
                    );
                }
                self.listing_failed = true;
            }
        }
        ignored.extend(self.versions_without_files());
        self.report_ignored(ignored);
        if !self.listed {
            self.listed = true;
            self.choose_required();
        }
    }

    /// Sets the required models: those in the configuration, or every model of the first scan.
    fn choose_required(&mut self) {
        let configured = self.parts.models.required.iter();
        self.required = configured
            .filter_map(|name| ModelName::parse(name))
            .collect();
        if self.required.is_empty() {
            self.required = self.models.0.keys().cloned().collect();
        }
    }

    /// Versions that answer from memory, or from the copy in the state directory, because their
    /// files are gone.
    fn versions_without_files(&self) -> Vec<IgnoredPath> {
        // A failing disk gives no information about the files.
        if self.listing_failed {
            return Vec::new();
        }
        let root = &self.parts.models.root;
        let mut paths = Vec::new();
        for (name, model) in &self.models.0 {
            if self.unreadable.contains(name)
                || !model.versions.values().any(TrackedVersion::lost_its_files)
            {
                continue;
            }
            // The other versions are unloaded soon, so a warning about them would not help.
            let needed = self.model_view(name).unwrap_or_default().needed;
            let lost = model
                .versions
                .iter()
                .filter(|(version, tracked)| tracked.lost_its_files() && needed.contains(*version));
            paths.extend(lost.map(|(version, _)| {
                IgnoredPath::files_gone(&root.join(name.as_str()).join(version.as_str()))
            }));
        }
        paths
    }

    /// Logs each ignored path once, not at every scan.
    fn report_ignored(&mut self, ignored: Vec<IgnoredPath>) {
        for new in ignored
            .iter()
            // A reason that disappears and returns is logged again.
            .filter(|ignored| !self.ignored.contains(ignored))
        {
            let (path, reason) = (new.path.display(), new.reason.name());
            tracing::warn!(path = %path, reason, detail = new.detail, "{}", new.reason.outcome());
        }
        for reason in IgnoredReason::ALL {
            let count = ignored
                .iter()
                .filter(|ignored| ignored.reason == reason)
                .count();
            self.parts.metrics.models.set_ignored(reason.name(), count);
        }
        self.ignored = ignored.into();
    }

    fn merge(&mut self, listing: Listing) {
        let Listing {
            mut models,
            unreadable,
            ignored: _,
        } = listing;
        for (name, error) in &unreadable {
            self.parts.metrics.models.source_errors.inc();
            if !self.unreadable.contains(name) {
                tracing::error!(
                    model = %name,
                    error = %error,
                    "the model's directory can't be read; its loaded versions stay loaded"
                );
            }
            if !self.listed {
                // The model exists, so the server must not be ready without it.
                self.models.0.entry(name.clone()).or_default();
            }
        }
        self.unreadable = unreadable.into_keys().collect();
        for (name, model) in &mut self.models.0 {
            if !self.unreadable.contains(name) {
                model.update(models.remove(name).unwrap_or_default());
            }
        }
        for (name, found) in models {
            let mut model = TrackedModel::default();
            model.update(found);
            self.models.0.insert(name.clone(), model);
            // A server that started without models becomes ready with the first model that appears.
            // For the first listing, `choose_required` handles all models at once.
            if self.listed && self.required.is_empty() {
                self.required.insert(name);
            }
        }
        // This call comes after the update, because only now is it known which files are gone.
        self.use_copies_of_missing_versions();
        self.read_version_policies();
    }

    /// Reads the version policies of `config.pbtxt` files that are new or changed.
    fn read_version_policies(&mut self) {
        let models = &self.parts.models;
        for (name, model) in &mut self.models.0 {
            // Only repositories of bare graphs have this file, and their versions are numbers.
            if !model.versions.keys().any(Version::is_number) {
                continue;
            }
            let directory = models.root.join(name.as_str());
            let stamp = fs_err::metadata(directory.join(bare::CONFIG_FILE))
                .ok()
                .map(|about| (about.len(), about.modified().ok()));
            // Without the stamp, the same error would be logged at every scan.
            if model.config_stamp.replace(stamp) == Some(stamp) {
                continue;
            }
            // A file that can't be read is rejected by the load.
            if let Ok(config) = bare::read_config(&directory) {
                model.retention =
                    config.map(|config| retention(&config.version_policy, models.keep_versions));
            }
        }
    }
}

impl TrackedModel {
    /// Updates the tracked versions from the directories that a scan found.
    fn update(&mut self, mut found: BTreeMap<Version, FoundDirectory>) {
        for (version, tracked) in &mut self.versions {
            tracked.update(found.remove(version));
        }
        self.versions.extend(
            found
                .into_iter()
                .map(|(version, found)| (version, TrackedVersion::new(found))),
        );
    }
}
