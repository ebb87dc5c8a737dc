//! `VersionState`: the state of a version in the models directory.

use std::sync::Arc;

use crate::{
    error::text_with_sources, load_state::LoadState, package::PackageError,
    registry::servable::Servable,
};

#[derive(Clone)]
pub(crate) struct VersionStatus {
    pub state: VersionState,
    /// A warning for operators about the directory of the version. `None` without a warning.
    pub warning: Option<String>,
}

#[derive(Clone)]
pub(crate) enum VersionState {
    /// Files of the version are missing.
    Incomplete {
        missing: String,
    },
    Loading,
    Available(Arc<Servable>),
    /// The version was unloaded. Requests that use it are still answered.
    Draining,
    /// The version failed a check and never answers.
    Refused(PackageError),
    /// The version is on disk, but not among the versions that are kept loaded.
    Idle,
}

impl VersionState {
    /// The state without its content, as it is reported.
    pub(crate) fn load_state(&self) -> LoadState {
        match self {
            VersionState::Incomplete { .. } => LoadState::Incomplete,
            VersionState::Loading => LoadState::Loading,
            VersionState::Available(_) => LoadState::Available,
            VersionState::Draining => LoadState::Draining,
            VersionState::Refused(_) => LoadState::Refused,
            VersionState::Idle => LoadState::Idle,
        }
    }

    /// The loaded version. `None` if the version is not available.
    pub(crate) fn servable(&self) -> Option<&Arc<Servable>> {
        match self {
            VersionState::Available(servable) => Some(servable),
            _ => None,
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.load_state().name()
    }

    /// Why the version does not answer. `None` if there is no reason to report.
    pub(crate) fn fault(&self) -> Option<VersionFault> {
        match self {
            VersionState::Incomplete { missing } => Some(VersionFault::Incomplete {
                missing: missing.clone(),
            }),
            VersionState::Refused(error) => Some(VersionFault::Refused(error.clone())),
            VersionState::Loading
            | VersionState::Available(_)
            | VersionState::Draining
            | VersionState::Idle => None,
        }
    }

    /// The text of [`VersionState::fault`], for documents.
    pub(crate) fn reason(&self) -> Option<String> {
        self.fault().map(|fault| fault.to_string())
    }
}

/// Why a version does not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VersionFault {
    /// `missing` describes the file that is missing or too short.
    #[error("{missing}")]
    Incomplete { missing: String },
    /// The text contains the sources of the error, because callers read the text alone.
    #[error("{}: {}", .0.check, text_with_sources(.0))]
    Refused(PackageError),
}

/// A version that does not answer, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{version} is {}{}",
    state.name(),
    fault.as_ref().map(|fault| format!(": {fault}")).unwrap_or_default()
)]
pub(crate) struct UnansweredVersion {
    pub version: String,
    pub state: LoadState,
    pub fault: Option<VersionFault>,
}

impl UnansweredVersion {
    pub(crate) fn new(version: &str, state: &VersionState) -> UnansweredVersion {
        UnansweredVersion {
            version: version.to_owned(),
            state: state.load_state(),
            fault: state.fault(),
        }
    }
}
