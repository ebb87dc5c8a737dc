//! Routing: finds the version that answers a request.

use std::{sync::Arc, time::Instant};

use crate::{
    config::FallbackConfig,
    metrics::RequestMetrics,
    registry::{
        OutageCause, ServedModel, Snapshot, VersionState, request_samples::RequestSamples,
        servable::Servable, traffic::Traffic, version_label::VersionLabel,
        version_state::UnansweredVersion,
    },
};

/// The model and version that the URL of a request names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target<'a> {
    /// The name of the model. `None` means the default model.
    pub model: Option<&'a str>,
    /// A version number or a label. `None` means the stable version, or the candidate that a
    /// rollout assigns.
    pub version: Option<&'a str>,
}

impl Target<'_> {
    /// Whether the URL names a version number. The version behind a label can change.
    pub(crate) fn is_pinned(&self) -> bool {
        self.version
            .is_some_and(|version| VersionLabel::parse(version).is_none())
    }
}

/// Why no version answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RouteError {
    #[error(
        "there are several models and no default; POST to /models/NAME/predict with NAME one of: {}",
        known.join(", ")
    )]
    NoDefault { known: Vec<String> },
    #[error("there is no model \"{model}\"; expected one of: {}", known.join(", "))]
    UnknownModel { model: String, known: Vec<String> },
    #[error("model {model} has no version \"{version}\"; expected one of: {}", known.join(", "))]
    UnknownVersion {
        model: String,
        version: String,
        known: Vec<String>,
    },
    /// The request names a role instead of a version, and no version has that role.
    #[error("model {model} has no {label} version at the moment: {reason}")]
    NoSuchRole {
        model: String,
        label: &'static str,
        reason: RoleAbsence,
    },
    /// The version is known, but is not loaded. The reason is part of the text, because callers get
    /// no sources.
    #[error("not ready: {0}")]
    NotReady(NotReadyReason),
}

/// Why no version has a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RoleAbsence {
    #[error("there is no version to roll back to")]
    NoPrevious,
    #[error("no rollout is running")]
    NoRollout,
    #[error("the rollout has several, name one of them: {}", .0.join(", "))]
    SeveralCandidates(Vec<String>),
}

/// Why a model or a version is not ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReadyReason {
    #[error("no model is loaded")]
    NoModel,
    #[error("model {model} is not loaded")]
    ModelNotLoaded { model: String },
    /// `cause` is `None` if the model became ready meanwhile.
    #[error("model {model}: {}", cause.as_ref().map(ToString::to_string).unwrap_or_default())]
    Model {
        model: String,
        cause: Option<OutageCause>,
    },
    #[error("model {model}: version {unanswered}")]
    Version {
        model: String,
        unanswered: Box<UnansweredVersion>,
    },
    #[error("model {model}: the candidate {version} is not loaded")]
    Candidate { model: String, version: String },
}

/// A request that no version answers.
pub(crate) struct Unrouted {
    /// The reason.
    pub error: RouteError,
    /// The metrics of the model for requests without a version. `None` if the model is unknown.
    pub unversioned: Option<Arc<RequestMetrics>>,
}

impl RouteError {
    fn model_not_ready(name: &str, model: &ServedModel, now: Instant) -> RouteError {
        RouteError::NotReady(NotReadyReason::Model {
            model: name.to_owned(),
            cause: model.outage(now).map(|outage| outage.cause),
        })
    }
}

/// The versions that may answer a request.
pub(crate) struct Routed {
    /// The version that decodes the request. It also answers the request unless a candidate is
    /// assigned.
    pub servable: Arc<Servable>,
    /// The running rollout. `None` without a rollout, or if the URL names a version.
    pub traffic: Option<Arc<Traffic>>,
    /// The samples for rehearsals of a rollback. `None` without a previous version.
    pub samples: Option<Arc<RequestSamples>>,
    /// The fallback that answers if the version fails. `None` if none is configured.
    pub fallback: Option<Arc<FallbackConfig>>,
    pub previous: Option<Arc<Servable>>,
}

impl Routed {
    /// The route to a version that the URL names. No other version answers in its place.
    fn named(servable: &Arc<Servable>) -> Routed {
        Routed {
            servable: Arc::clone(servable),
            traffic: None,
            samples: None,
            fallback: None,
            previous: None,
        }
    }
}

/// Finds the version that answers.
pub(crate) fn route(
    snapshot: &Snapshot,
    target: Target<'_>,
    now: Instant,
) -> Result<Routed, Unrouted> {
    let (name, model) = find_model(snapshot, target.model).map_err(|error| Unrouted {
        error,
        unversioned: None,
    })?;
    let routed = match target.version {
        None => route_to_stable(name, model, now),
        Some(version) => match VersionLabel::parse(version) {
            Some(label) => model.labelled(name, label, now).map(Routed::named),
            None => route_to_version(name, model, version),
        },
    };
    routed.map_err(|error| Unrouted {
        error,
        unversioned: Some(Arc::clone(&model.unversioned)),
    })
}

fn find_model<'a>(
    snapshot: &'a Snapshot,
    named: Option<&'a str>,
) -> Result<(&'a str, &'a ServedModel), RouteError> {
    let known = || snapshot.models.keys().map(ToString::to_string).collect();
    let loading = !snapshot.initial_loads_done;
    let name = match (named, &snapshot.default) {
        (Some(name), _) => name,
        (None, Some(name)) => name.as_str(),
        (None, None) if loading || snapshot.models.is_empty() => {
            return Err(RouteError::NotReady(NotReadyReason::NoModel));
        }
        (None, None) => return Err(RouteError::NoDefault { known: known() }),
    };
    match snapshot.models.get(name) {
        Some(model) => Ok((name, model)),
        // The model is expected to appear, so the caller may try again. The status is 503 instead
        // of 404.
        None if loading || snapshot.required.contains(name) => {
            Err(RouteError::NotReady(NotReadyReason::ModelNotLoaded {
                model: name.to_owned(),
            }))
        }
        None => Err(RouteError::UnknownModel {
            model: name.to_owned(),
            known: known(),
        }),
    }
}

fn route_to_stable(name: &str, model: &ServedModel, now: Instant) -> Result<Routed, RouteError> {
    let Some(stable) = &model.stable else {
        return Err(RouteError::model_not_ready(name, model, now));
    };
    Ok(Routed {
        // The clones keep these values alive until the request ends, even if a new snapshot is
        // published before.
        servable: Arc::clone(stable),
        traffic: model.traffic.clone(),
        samples: model.samples.clone(),
        fallback: model.fallback.clone(),
        previous: model.previous.clone(),
    })
}

fn route_to_version(name: &str, model: &ServedModel, version: &str) -> Result<Routed, RouteError> {
    let Some(status) = model.version(version) else {
        return Err(RouteError::UnknownVersion {
            model: name.to_owned(),
            version: version.to_owned(),
            known: model.versions.keys().map(ToString::to_string).collect(),
        });
    };
    if let VersionState::Available(servable) = &status.state {
        return Ok(Routed::named(servable));
    }
    Err(RouteError::NotReady(NotReadyReason::Version {
        model: name.to_owned(),
        unanswered: Box::new(UnansweredVersion::new(version, &status.state)),
    }))
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
        let absent = |reason| RouteError::NoSuchRole {
            model: name.to_owned(),
            label: label.name(),
            reason,
        };
        match label {
            VersionLabel::Stable => self
                .stable
                .as_ref()
                .ok_or_else(|| RouteError::model_not_ready(name, self, now)),
            VersionLabel::Previous => self
                .previous
                .as_ref()
                .ok_or_else(|| absent(RoleAbsence::NoPrevious)),
            VersionLabel::Candidate => {
                let traffic = self
                    .traffic
                    .as_ref()
                    .ok_or_else(|| absent(RoleAbsence::NoRollout))?;
                match (traffic.arms.as_slice(), traffic.step.candidates.as_slice()) {
                    // Only a single candidate is unambiguous.
                    ([Some(arm)], _) => Ok(&arm.servable),
                    (_, [candidate]) => Err(RouteError::NotReady(NotReadyReason::Candidate {
                        model: name.to_owned(),
                        version: candidate.version.clone(),
                    })),
                    (_, candidates) => {
                        let candidates = candidates.iter();
                        Err(absent(RoleAbsence::SeveralCandidates(
                            candidates
                                .map(|candidate| candidate.version.clone())
                                .collect(),
                        )))
                    }
                }
            }
        }
    }
}
