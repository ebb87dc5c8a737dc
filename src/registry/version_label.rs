//! `VersionLabel`: a role that a caller can use instead of a version number. Every decision may
//! change which version has the role.

use std::{sync::Arc, time::Instant};

use crate::registry::{ServedModel, route::RouteError, servable::Servable};

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

impl ServedModel {
    /// The version that currently has the label. `name` is the name of the model.
    ///
    /// # Errors
    /// If no version has the label, or if that version is not loaded.
    pub(crate) fn labelled(
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
        match label {
            VersionLabel::Stable => self
                .stable
                .as_ref()
                .ok_or_else(|| RouteError::model_not_ready(name, self, now)),
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
                    // Only a single candidate is unambiguous.
                    ([Some(arm)], _) => Ok(&arm.servable),
                    (_, [candidate]) => Err(RouteError::NotReady {
                        reason: format!(
                            "model {name}: the candidate {} is not loaded",
                            candidate.version
                        ),
                    }),
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
