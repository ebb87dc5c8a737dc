//! `VersionState`: the state of a version in the models directory.

use std::sync::Arc;

use crate::{package::PackageError, registry::servable::Servable};

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
    pub(crate) fn name(&self) -> &'static str {
        match self {
            VersionState::Incomplete { .. } => "incomplete",
            VersionState::Loading => "loading",
            VersionState::Available(_) => "available",
            VersionState::Draining => "draining",
            VersionState::Refused(_) => "refused",
            VersionState::Idle => "idle",
        }
    }

    /// Why the version does not answer. `None` if there is no reason to report.
    pub(crate) fn reason(&self) -> Option<String> {
        match self {
            VersionState::Incomplete { missing } => Some(missing.clone()),
            VersionState::Refused(error) => Some(format!("{}: {error}", error.check)),
            VersionState::Loading
            | VersionState::Available(_)
            | VersionState::Draining
            | VersionState::Idle => None,
        }
    }
}
