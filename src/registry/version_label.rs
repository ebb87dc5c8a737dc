//! VersionLabel: the role by which a caller may name a version in place of its number. What it means changes with every decision.

use std::{sync::Arc, time::Instant};

use crate::registry::{Model, route::RouteError, servable::Servable};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionLabel {
    /// What answers requests without a version, but for a rollout's candidates.
    Stable,
    /// Where a rollback leads.
    Previous,
    /// The one that a rollout tries.
    Candidate,
}

impl VersionLabel {
    pub const ALL: [VersionLabel; 3] = [
        VersionLabel::Stable,
        VersionLabel::Previous,
        VersionLabel::Candidate,
    ];

    pub fn name(self) -> &'static str {
        match self {
            VersionLabel::Stable => "stable",
            VersionLabel::Previous => "previous",
            VersionLabel::Candidate => "candidate",
        }
    }

    /// No version is called so: they are numbers.
    pub fn parse(text: &str) -> Option<VersionLabel> {
        VersionLabel::ALL
            .into_iter()
            .find(|label| label.name() == text)
    }
}

impl Model {
    /// The version that has the role now.
    ///
    /// # Errors
    /// Where none has it, or the one that has it is not loaded.
    pub fn labelled(
        &self,
        name: &str,
        label: VersionLabel,
        now: Instant,
    ) -> Result<&Arc<Servable>, RouteError> {
        let absent = |reason: &str| RouteError::NoSuchRole {
            model: name.to_owned(),
            label: label.name(),
            reason: reason.to_owned(),
        };
        let not_ready = |reason: String| RouteError::NotReady {
            reason: format!("model {name}: {reason}"),
        };
        match label {
            VersionLabel::Stable => self.stable.as_ref().ok_or_else(|| {
                not_ready(
                    self.outage(now)
                        .map(|outage| outage.reason)
                        .unwrap_or_default(),
                )
            }),
            VersionLabel::Previous => self
                .previous
                .as_ref()
                .ok_or_else(|| absent("there is no version to roll back to")),
            VersionLabel::Candidate => {
                let traffic = self
                    .traffic
                    .as_ref()
                    .ok_or_else(|| absent("no rollout is running"))?;
                match (traffic.arms.as_slice(), traffic.step.candidates.as_slice()) {
                    ([Some(arm)], _) => Ok(&arm.servable),
                    (_, [candidate]) => Err(not_ready(format!(
                        "the candidate {} is not loaded",
                        candidate.version
                    ))),
                    (_, candidates) => {
                        let versions: Vec<&str> = candidates
                            .iter()
                            .map(|candidate| candidate.version.as_str())
                            .collect();
                        Err(absent(&format!(
                            "the rollout has several, name one of them: {}",
                            versions.join(", ")
                        )))
                    }
                }
            }
        }
    }
}
