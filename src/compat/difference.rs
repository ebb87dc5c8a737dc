//! `Difference`: one difference between two versions that matters to callers.

use std::{borrow::Cow, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
/// The effect of a difference. The variants have the order of a report.
pub(crate) enum Severity {
    /// A promotion would break today's callers.
    Breaking,
    /// The difference is not proved to be harmless, and not proved to break callers. It counts as
    /// breaking unless a person accepts it.
    Unproved,
    /// A rollback would break callers who use the new values.
    ForwardOnly,
    /// The difference breaks no callers.
    Note,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Difference {
    pub severity: Severity,
    /// The compared part: `input`, `output`, `classes`, `units`, `tensors`, `graph` or
    /// `preprocessing`.
    pub side: Cow<'static, str>,
    /// JSON pointer of the field in an instance or an answer. Empty if the difference concerns the
    /// whole.
    pub pointer: String,
    /// Describes the difference and its effect on callers.
    pub detail: String,
    /// Whether a person accepted this unproved difference.
    pub overridden: bool,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Breaking => "breaking",
            Severity::Unproved => "unproved",
            Severity::ForwardOnly => "forward-only",
            Severity::Note => "note",
        })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = if self.pointer.is_empty() {
            "as a whole"
        } else {
            &self.pointer
        };
        let accepted = if self.overridden { " (accepted)" } else { "" };
        write!(
            f,
            "{}{accepted}: {} {pointer} {}",
            self.severity, self.side, self.detail
        )
    }
}

impl Difference {
    pub(super) fn new(
        severity: Severity,
        side: &'static str,
        pointer: impl Into<String>,
        detail: impl Into<String>,
    ) -> Difference {
        Difference {
            severity,
            side: Cow::Borrowed(side),
            pointer: pointer.into(),
            detail: detail.into(),
            overridden: false,
        }
    }

    /// Whether this difference forbids the promotion.
    pub(super) fn forbids_promotion(&self) -> bool {
        // A person can accept an unproved difference, but never a proved one. `is_named_by`
        // enforces this.
        matches!(self.severity, Severity::Breaking | Severity::Unproved) && !self.overridden
    }

    /// Whether an override names this difference, as `SIDE:POINTER` or by the pointer alone.
    pub(super) fn is_named_by(&self, text: &str) -> bool {
        self.severity == Severity::Unproved
            && (text == self.pointer
                || text
                    .strip_prefix(&*self.side)
                    .and_then(|rest| rest.strip_prefix(':'))
                    == Some(&self.pointer))
    }
}
