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
    pub(crate) fn reason(&self) -> Option<String> {
        match self {
            VersionState::Incomplete { missing } => Some(missing.clone()),
            VersionState::Refused(error) => {
                Some(format!("{}: {}", error.check, text_with_sources(error)))
            }
            VersionState::Loading
            | VersionState::Available(_)
            | VersionState::Draining
            | VersionState::Idle => None,
        }
    }
}
