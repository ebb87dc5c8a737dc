//! `ModelDecision`: what the journal decided about a model.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    id::Version,
    journal::entry::VersionRef,
    package::{PackageError, manifest},
    registry::traffic::ActiveStep,
    suggestion::Suggestion,
};

#[derive(Clone, Default)]
pub(crate) struct ModelDecision {
    pub stable: Option<VersionRef>,
    /// The target of a rollback.
    pub previous: Option<VersionRef>,
    /// The digest of every version that was ever decided on. A package with another digest is not
    /// that version.
    pub digests: BTreeMap<String, String>,
    /// Versions that a rollback or an abort took out of use.
    pub withdrawn: BTreeSet<String>,
    /// The running step of a rollout.
    pub step: Option<Arc<ActiveStep>>,
    /// Versions to keep loaded in addition, because a decision about them is being prepared.
    pub wanted: Vec<Version>,
    /// Why nothing can be decided, not even a first choice, and what an operator can do about it.
    pub trouble: Option<(String, Option<Suggestion>)>,
    /// Notices for operators that don't keep requests from being answered.
    pub notices: Vec<String>,
}

impl ModelDecision {
    /// Versions that must be loaded, whatever the retention policy says.
    pub(crate) fn needed(&self) -> Vec<Version> {
        let candidates = self.step.iter().flat_map(|step| &step.candidates);
        let decided = self
            .stable
            .iter()
            .chain(&self.previous)
            .chain(candidates)
            // A text that is no version can't be in the models directory.
            .filter_map(|named| Version::parse(&named.version));
        decided.chain(self.wanted.iter().cloned()).collect()
    }
}

/// An error if the journal decided on this version with another digest. `digests` is
/// `ModelDecision::digests`.
pub(crate) fn digest_conflict(
    digests: &BTreeMap<String, String>,
    version: &Version,
    digest: &str,
) -> Option<PackageError> {
    // A version that was never decided on may have any digest.
    let decided = digests
        .get(version.as_str())
        .filter(|decided| *decided != digest)?;
    let detail = format!(
        "has the digest {digest}, but the journal knows this version as {decided}; a changed package needs a new version"
    );
    Some(PackageError::new("journal", manifest::FILE, detail))
}
