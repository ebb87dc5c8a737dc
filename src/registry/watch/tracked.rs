//! `TrackedVersion`: the state of a version on disk, as the loop knows it.

use std::{collections::BTreeMap, time::SystemTime};

use crate::{
    id::{ModelName, Version},
    journal::entry::VersionRef,
    package::triton_config::VersionPolicy,
    registry::{
        VersionState,
        reconcile::{CopyProgress, LoadPhase, RetentionPolicy, VersionView},
        source::FoundDirectory,
    },
    rollout::role::VersionRole,
};

/// All models that are on disk or loaded.
#[derive(Default)]
pub(super) struct TrackedModels(pub(crate) BTreeMap<ModelName, TrackedModel>);

impl TrackedModels {
    pub(super) fn get(&self, name: &ModelName) -> Option<&TrackedModel> {
        self.0.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &ModelName) -> Option<&mut TrackedModel> {
        self.0.get_mut(name)
    }

    pub(super) fn version(&self, name: &ModelName, version: &Version) -> Option<&TrackedVersion> {
        self.0.get(name)?.versions.get(version)
    }

    pub(super) fn version_mut(
        &mut self,
        name: &ModelName,
        version: &Version,
    ) -> Option<&mut TrackedVersion> {
        self.0.get_mut(name)?.versions.get_mut(version)
    }
}

/// Size and modification time of a `config.pbtxt`. `None` if the file does not exist.
pub(super) type ConfigStamp = Option<(u64, Option<SystemTime>)>;

#[derive(Default)]
pub(super) struct TrackedModel {
    pub versions: BTreeMap<Version, TrackedVersion>,
    /// The versions to keep loaded, if a `config.pbtxt` says it.
    pub retention: Option<RetentionPolicy>,
    /// The stamp of the `config.pbtxt` when it was read. `None` before the first reading.
    pub config_stamp: Option<ConfigStamp>,
    /// An operator unloaded it.
    pub unloaded: bool,
    /// The stable version, while another version answers because the stable one is not loaded.
    pub awaited: Option<VersionRef>,
}

pub(super) struct TrackedVersion {
    /// The files that a load reads: in the models directory, or the copy in the state.
    pub found: Option<FoundDirectory>,
    /// Set if `found` is the copy in the state.
    pub copy: Option<ServedCopy>,
    /// The fingerprint of the files when `state` was reached. A difference means changed files.
    pub checked_fingerprint: u64,
    pub state: VersionState,
    pub warning: Option<String>,
    pub info: PublishedInfo,
    /// Set while a bare graph is new in the directory. Without a manifest nothing else tells
    /// whether the file is complete.
    pub arriving: Option<CopyProgress>,
    /// Set while files of the package are missing.
    pub copying: Option<CopyProgress>,
    /// Set if the last load failed in a way that an unfinished copy explains.
    pub forgiven: Option<ForgivenFailure>,
}

/// The copy in the state that is served instead of the files in the models directory.
pub(super) struct ServedCopy {
    pub reason: String,
    /// The fingerprint of the ignored files in the models directory. `None` if they are gone.
    pub instead_of: Option<u64>,
}

#[derive(Clone, Copy)]
pub(super) struct ForgivenFailure {
    /// Of the files whose load failed.
    pub fingerprint: u64,
    /// The number of the scan after which it failed.
    pub scan: u64,
}

/// The values of `predictd_model_info` that were published last.
pub(super) struct PublishedInfo {
    pub role: Option<VersionRole>,
    pub digest: String,
    pub verified: bool,
}

impl TrackedVersion {
    pub(super) fn new(found: FoundDirectory) -> TrackedVersion {
        TrackedVersion {
            // A new version counts as unchanged until its first load.
            checked_fingerprint: found.fingerprint,
            found: Some(found),
            copy: None,
            state: VersionState::Idle,
            warning: None,
            info: PublishedInfo {
                role: None,
                digest: String::new(),
                verified: true,
            },
            arriving: None,
            copying: None,
            forgiven: None,
        }
    }

    /// A warning for operators about the directory of the version.
    pub(super) fn warning(&self) -> Option<String> {
        let gone = matches!(self.state, VersionState::Available(_)) && self.found.is_none();
        let gone = gone.then(|| {
            "its files are gone: it answers from memory, and can't be loaded again".to_owned()
        });
        let copy = self
            .copy
            .as_ref()
            .map(|copy| format!("{}: the copy kept in the state is served", copy.reason));
        // The most specific warning first.
        self.warning.clone().or(copy).or(gone)
    }

    /// Whether the version is served without any files in the models directory.
    pub(super) fn lost_its_files(&self) -> bool {
        let only_copy = self
            .copy
            .as_ref()
            .is_some_and(|copy| copy.instead_of.is_none());
        matches!(self.state, VersionState::Available(_)) && (self.found.is_none() || only_copy)
    }

    /// Takes over what a scan found in the models directory. The copy in the state stays in use
    /// until the ignored files change.
    pub(super) fn update(&mut self, found: Option<FoundDirectory>) {
        let fingerprint = found.as_ref().map(|found| found.fingerprint);
        let unchanged = self
            .copy
            .as_ref()
            .is_some_and(|copy| copy.instead_of == fingerprint);
        if !unchanged {
            (self.found, self.copy) = (found, None);
        }
    }

    pub(super) fn view(&self) -> VersionView {
        let phase = match self.state {
            // A new graph counts as complete: it would be loaded, if it were not for the delay.
            VersionState::Incomplete { .. } if self.arriving.is_some() => LoadPhase::Idle,
            VersionState::Incomplete { .. } => LoadPhase::Incomplete,
            VersionState::Loading => LoadPhase::Loading,
            VersionState::Available(_) => LoadPhase::Available,
            VersionState::Refused(_) => LoadPhase::Refused,
            VersionState::Idle | VersionState::Draining => LoadPhase::Idle,
        };
        let changed = self
            .found
            .as_ref()
            .is_some_and(|found| found.fingerprint != self.checked_fingerprint);
        VersionView {
            present: self.found.is_some(),
            changed,
            phase,
        }
    }
}

/// The versions that a `config.pbtxt` keeps loaded. `Latest` keeps at least `keep_versions`: a file
/// that was written for another server must not unload the version that a rollback leads to.
pub(super) fn retention(policy: &VersionPolicy, keep_versions: usize) -> RetentionPolicy {
    match policy {
        VersionPolicy::Latest(count) => RetentionPolicy::Newest((*count).max(keep_versions)),
        VersionPolicy::All => RetentionPolicy::All,
        VersionPolicy::Specific(versions) => RetentionPolicy::Only(
            versions
                .iter()
                .filter_map(|version| Version::parse(&version.to_string()))
                .collect(),
        ),
    }
}
