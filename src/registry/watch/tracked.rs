//! `TrackedVersion`: the state of a version on disk, as the thread of `Watch` knows it.

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

/// The size and modification time of a `config.pbtxt`. `None` if the file does not exist.
pub(super) type ConfigStamp = Option<(u64, Option<SystemTime>)>;

#[derive(Default)]
pub(super) struct TrackedModel {
    pub versions: BTreeMap<Version, TrackedVersion>,
    /// The retention policy in `config.pbtxt`. `None` if the file does not set one.
    pub retention: Option<RetentionPolicy>,
    /// The stamp of the `config.pbtxt` when it was read. `None` before it was first read.
    pub config_stamp: Option<ConfigStamp>,
    /// Whether an operator unloaded the model.
    pub unloaded: bool,
    /// The stable version, if it is not loaded and another version answers in its place.
    pub awaited: Option<VersionRef>,
}

pub(super) struct TrackedVersion {
    /// The files that a load reads, in the models directory or in the copy in the state directory.
    pub found: Option<FoundDirectory>,
    /// The copy, if `found` is the copy in the state directory. Otherwise `None`.
    pub copy: Option<ServedCopy>,
    /// The fingerprint of the files when `state` was reached. A different fingerprint means that
    /// files changed.
    pub checked_fingerprint: u64,
    pub state: VersionState,
    pub warning: Option<String>,
    pub info: PublishedInfo,
    /// The copy progress of a bare graph that is new in the directory. Without a manifest, only
    /// this shows whether the file is complete.
    pub arriving: Option<CopyProgress>,
    /// The copy progress while files of the package are missing. Otherwise `None`.
    pub copying: Option<CopyProgress>,
    /// The last failure of a load, if an unfinished copy can explain it. Otherwise `None`.
    pub retried: Option<RetriedFailure>,
}

/// The copy in the state directory that is served instead of the files in the models directory.
pub(super) struct ServedCopy {
    pub reason: String,
    /// The fingerprint of the ignored files in the models directory. `None` if they are gone.
    pub instead_of: Option<u64>,
}

#[derive(Clone, Copy)]
pub(super) struct RetriedFailure {
    /// The fingerprint of the files whose load failed.
    pub fingerprint: u64,
    /// The number of the scan after which the load failed.
    pub scan: u64,
}

/// The last published values of `predictd_model_info`.
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
            retried: None,
        }
    }

    /// A warning for operators about the directory of the version. `None` without a warning.
    pub(super) fn warning(&self) -> Option<String> {
        let gone = matches!(self.state, VersionState::Available(_)) && self.found.is_none();
        let gone = gone.then(|| {
            "its files are gone: it answers from memory, and can't be loaded again".to_owned()
        });
        let copy = self
            .copy
            .as_ref()
            .map(|copy| format!("{}: the copy in the state directory is served", copy.reason));
        // The most specific warning comes first.
        self.warning.clone().or(copy).or(gone)
    }

    /// Whether the version is served although the models directory does not contain its files.
    pub(super) fn lost_its_files(&self) -> bool {
        let only_copy = self
            .copy
            .as_ref()
            .is_some_and(|copy| copy.instead_of.is_none());
        matches!(self.state, VersionState::Available(_)) && (self.found.is_none() || only_copy)
    }

    /// Applies the result of a scan of the models directory. The copy in the state directory stays
    /// in use until the ignored files change.
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
            // A new graph counts as complete, because only the delay prevents its load.
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

/// The versions that a `config.pbtxt` keeps loaded. `Latest` keeps at least `keep_versions`
/// versions: a file written for another server must not unload the target of a rollback.
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
