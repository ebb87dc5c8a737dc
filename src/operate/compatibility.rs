//! Compatibility of two loaded versions, by the rules of `predictd compat`.

use crate::{
    compat::{ComparedVersion, Compatibility, CompatibilityReport, Severity, compare},
    config::Oip,
    registry::servable::Servable,
};

/// Result of a comparison: whether callers of one version can use another version.
pub(super) struct CallerCompatibility(CompatibilityReport);

impl CallerCompatibility {
    /// Compares two versions. `accepted`: pointers to unproved differences that an operator
    /// accepted. A difference is unproved if it is neither breaking nor proved to be harmless.
    pub(super) fn of(old: &Servable, new: &Servable, accepted: &[String]) -> CallerCompatibility {
        CallerCompatibility(compare(&side(old), &side(new), accepted))
    }

    pub(super) fn is_breaking(&self) -> bool {
        self.0.verdict == Compatibility::Breaking
    }

    pub(super) fn is_forward_only(&self) -> bool {
        self.0.verdict == Compatibility::ForwardOnly
    }

    /// Accepted pointers at which there is no unproved difference.
    pub(super) fn unused(&self) -> &[String] {
        &self.0.unused_overrides
    }

    /// Describes each difference that matters to callers, one line per difference.
    pub(super) fn lines(&self) -> Vec<String> {
        self.0
            .differences
            .iter()
            .filter(|difference| difference.severity != Severity::Note)
            .map(ToString::to_string)
            .collect()
    }

    pub(super) fn into_report(self) -> CompatibilityReport {
        self.0
    }
}

fn side(servable: &Servable) -> ComparedVersion<'_> {
    ComparedVersion {
        parts: servable.package().map(|package| &package.parts),
        graph: &servable.graph,
        labels: servable.labels(),
        exposes_graph: servable.oip == Oip::Graph,
    }
}
