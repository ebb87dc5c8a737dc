//! Gate: whether the callers of one version can use another, as `predictd compat` tells it.

use serde_json::Value;

use crate::{
    compat::{Report, Severity, Side, Verdict, compare},
    config::Oip,
    registry::servable::Servable,
};

pub struct Compatibility(Report);

impl Compatibility {
    /// What callers of `old` meet in `new`. `accepted` are pointers of what can't be shown, and that a person answers for.
    pub fn of(old: &Servable, new: &Servable, accepted: &[String]) -> Compatibility {
        Compatibility(compare(&side(old), &side(new), accepted))
    }

    pub fn is_breaking(&self) -> bool {
        self.0.verdict == Verdict::Breaking
    }

    pub fn is_forward_only(&self) -> bool {
        self.0.verdict == Verdict::ForwardOnly
    }

    /// What was accepted, but is no difference that could not be shown.
    pub fn unused(&self) -> &[String] {
        &self.0.unused_overrides
    }

    /// A line a difference that matters.
    pub fn lines(&self) -> Vec<String> {
        let matters = self
            .0
            .differences
            .iter()
            .filter(|difference| difference.severity != Severity::Note);
        matters.map(ToString::to_string).collect()
    }

    pub fn to_value(&self) -> Value {
        serde_json::to_value(&self.0).unwrap_or_default()
    }
}

fn side(servable: &Servable) -> Side<'_> {
    Side {
        parts: servable.package().map(|package| &package.parts),
        graph: &servable.graph,
        labels: servable.labels(),
        raw: servable.oip == Oip::Graph,
    }
}
