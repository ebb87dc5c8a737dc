//! `ModelDecision`: the decisions of the journal about a model.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    id::Version,
    journal::entry::VersionRef,
    package::{PackageCheck, PackageError, manifest},
    registry::traffic::ActiveStep,
    suggestion::Suggestion,
};

#[derive(Clone, Default)]
pub(crate) struct ModelDecision {
    pub stable: Option<VersionRef>,
    /// The target of a rollback. `None` if there is none.
    pub previous: Option<VersionRef>,
    /// The digest of every version in a decision. A package with a different digest is not that
    /// version.
    pub digests: BTreeMap<String, String>,
    /// Versions that a rollback or an abort took out of use.
    pub withdrawn: BTreeSet<String>,
    /// The current step of a rollout. `None` if no rollout is running.
    pub step: Option<Arc<ActiveStep>>,
    /// Additional versions to keep loaded, because a decision about them is being prepared.
    pub wanted: Vec<Version>,
    /// The problem that prevents all decisions, even a first choice, and what an operator can do
    /// about it. `None` without a problem.
    pub trouble: Option<(String, Option<Suggestion>)>,
    /// Notices for operators about problems that do not prevent answers to requests.
    pub notices: Vec<String>,
}

impl ModelDecision {
    /// Versions that must be loaded, regardless of the retention policy.
    pub(crate) fn needed(&self) -> Vec<Version> {
        let candidates = self.step.iter().flat_map(|step| &step.candidates);
        let decided = self
            .stable
            .iter()
            .chain(&self.previous)
            .chain(candidates)
            // A text that is not a version can't be in the models directory.
            .filter_map(|named| Version::parse(&named.version));
        decided.chain(self.wanted.iter().cloned()).collect()
    }
}

/// Returns an error if a decision in the journal contains this version with a different digest.
/// `digests` is `ModelDecision::digests`.
pub(crate) fn digest_conflict(
    digests: &BTreeMap<String, String>,
    version: &Version,
    digest: &str,
) -> Option<PackageError> {
    // A version that is in no decision may have any digest.
    let decided = digests
        .get(version.as_str())
        .filter(|decided| *decided != digest)?;
    let detail = format!(
        "has the digest {digest}, but the journal knows this version as {decided}; a changed package needs a new version"
    );
    Some(PackageError::new(
        PackageCheck::Journal,
        manifest::FILE,
        detail,
    ))
}
