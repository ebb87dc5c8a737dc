//! TrackedVersion: what the loop knows of each version on disk: its files, its state, and what stands in its files' place.

use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime},
};

use crate::{
    id::Version,
    journal::entry::VersionRef,
    package::triton_config::VersionPolicy,
    registry::{
        VersionState,
        reconcile::{CopyProgress, LoadPhase, RetentionPolicy, VersionView},
        source::FoundDirectory,
    },
};

/// Size and time of a `config.pbtxt`; `None`: there is none.
pub(super) type ConfigStamp = Option<(u64, Option<SystemTime>)>;

#[derive(Default)]
pub(super) struct TrackedModel {
    pub versions: BTreeMap<Version, TrackedVersion>,
    /// What a `config.pbtxt` says about the versions to keep, and how the file looked when it was read.
    pub keep: Option<RetentionPolicy>,
    pub config_stamp: Option<ConfigStamp>,
    /// An operator unloaded it.
    pub unloaded: bool,
    /// The stable version, while another answers because that one is not loaded.
    pub awaited: Option<VersionRef>,
}

pub(super) struct TrackedVersion {
    pub found: Option<FoundDirectory>,
    /// Where `found` is the copy that is kept in the state: why, and the fingerprint of the files that it stands for.
    pub kept: Option<(String, Option<u64>)>,
    /// The fingerprint at which the phase was reached.
    pub seen: u64,
    pub state: VersionState,
    pub warning: Option<String>,
    /// What `predictd_model_info` says now.
    pub role: Option<&'static str>,
    pub digest: String,
    pub verified: bool,
    /// A graph without a manifest that arrived just now: at which fingerprint, seen when. Nothing else tells whether all of it
    /// is there.
    pub arriving: Option<(u64, Instant)>,
    /// Files are missing: since when none came.
    pub copying: Option<CopyProgress>,
    /// A failure that may only mean that files are still being copied was forgiven: at which fingerprint, in which look.
    pub forgiven: Option<(u64, u64)>,
}

impl TrackedVersion {
    pub fn new(found: FoundDirectory) -> TrackedVersion {
        TrackedVersion {
            seen: found.fingerprint,
            found: Some(found),
            kept: None,
            state: VersionState::Idle,
            warning: None,
            role: None,
            digest: String::new(),
            verified: true,
            arriving: None,
            copying: None,
            forgiven: None,
        }
    }

    pub fn warning(&self) -> Option<String> {
        let gone = matches!(self.state, VersionState::Available(_)) && self.found.is_none();
        let gone = gone.then(|| {
            "its files are gone: it answers from memory, and can't be loaded again".to_owned()
        });
        let kept = self
            .kept
            .as_ref()
            .map(|(why, _)| format!("{why}: the copy kept in the state is served"));
        self.warning.clone().or(kept).or(gone)
    }

    /// Takes what was found at the last look; the kept copy stays for files that were passed over, and for none.
    pub fn look(&mut self, found: Option<FoundDirectory>) {
        let passed_over = self.kept.as_ref().is_some_and(|(_, instead_of)| {
            *instead_of == found.as_ref().map(|found| found.fingerprint)
        });
        if !passed_over {
            (self.found, self.kept) = (found, None);
        }
    }

    pub fn view(&self) -> VersionView {
        let phase = match self.state {
            // What arrived just now is complete as far as anybody knows.
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
            .is_some_and(|found| found.fingerprint != self.seen);
        VersionView {
            present: self.found.is_some(),
            changed,
            phase,
        }
    }
}

/// A previous version stays loaded for a way back, whatever a configuration made for another server says.
pub(super) fn keep(policy: &VersionPolicy, keep_versions: usize) -> RetentionPolicy {
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
