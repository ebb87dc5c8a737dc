//! `VersionLabel`: a role that a caller can use instead of a version number. Every decision may
//! change which version has the role.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionLabel {
    /// The version that answers requests without a version. Rollouts do not affect requests with
    /// this label.
    Stable,
    /// The target of a rollback.
    Previous,
    /// The candidate of the running rollout.
    Candidate,
}

impl VersionLabel {
    pub(crate) const ALL: [VersionLabel; 3] = [
        VersionLabel::Stable,
        VersionLabel::Previous,
        VersionLabel::Candidate,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            VersionLabel::Stable => "stable",
            VersionLabel::Previous => "previous",
            VersionLabel::Candidate => "candidate",
        }
    }

    /// Parses a label. A label is never the name of a version, because versions begin with a
    /// number.
    pub(crate) fn parse(text: &str) -> Option<VersionLabel> {
        VersionLabel::ALL
            .into_iter()
            .find(|label| label.name() == text)
    }
}
