//! Route: which version answers a request.

use std::{sync::Arc, time::Instant};

use crate::{
    config::FallbackConfig,
    metrics::RequestMetrics,
    registry::{
        Snapshot, VersionState, request_samples::RequestSamples, servable::Servable,
        traffic::Traffic, version_label::VersionLabel,
    },
};

/// Whom a request is for, as its URL says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Target<'a> {
    /// `None`: the default model.
    pub model: Option<&'a str>,
    /// A number or a label; `None`: the stable version, or whom a rollout assigns.
    pub version: Option<&'a str>,
}

impl Target<'_> {
    /// Whether it names one version, which stays what it is: a label does not.
    pub fn is_pinned(&self) -> bool {
        self.version
            .is_some_and(|version| VersionLabel::parse(version).is_none())
    }
}

/// Why nobody answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error(
        "there are several models and no default; POST to /models/NAME/predict with NAME one of: {}",
        known.join(", ")
    )]
    NoDefault { known: Vec<String> },
    #[error("there is no model \"{model}\"; known are: {}", known.join(", "))]
    UnknownModel { model: String, known: Vec<String> },
    #[error("model {model} has no version \"{version}\"; known are: {}", known.join(", "))]
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
        reason: String,
    },
    /// The version is known, but does not answer, or not yet.
    #[error("not ready: {reason}")]
    NotReady { reason: String },
}

/// Who may answer a request.
pub struct Routed {
    /// Decodes it, and answers unless a candidate does.
    pub servable: Arc<Servable>,
    /// A rollout that has a say; never where the URL names a version.
    pub traffic: Option<Arc<Traffic>>,
    /// Where a few valid requests are kept for trying the way back on.
    pub samples: Option<Arc<RequestSamples>>,
    /// What steps in where the version does not answer.
    pub fallback: Option<Arc<FallbackConfig>>,
    pub previous: Option<Arc<Servable>>,
}

/// The version that answers, or why none does and where that is counted.
pub fn route(
    snapshot: &Snapshot,
    target: Target<'_>,
    now: Instant,
) -> Result<Routed, (RouteError, Option<Arc<RequestMetrics>>)> {
    let known_models = || {
        snapshot
            .models
            .keys()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let name = match target.model {
        Some(name) => name,
        None => match &snapshot.default {
            Some(name) => name.as_str(),
            None if !snapshot.settled || snapshot.models.is_empty() => {
                return Err((
                    RouteError::NotReady {
                        reason: "no model is loaded".to_owned(),
                    },
                    None,
                ));
            }
            None => {
                return Err((
                    RouteError::NoDefault {
                        known: known_models(),
                    },
                    None,
                ));
            }
        },
    };
    let Some(model) = snapshot.models.get(name) else {
        let required = snapshot.required.contains(name) || !snapshot.settled;
        let error = if required {
            RouteError::NotReady {
                reason: format!("model {name} is not loaded"),
            }
        } else {
            RouteError::UnknownModel {
                model: name.to_owned(),
                known: known_models(),
            }
        };
        return Err((error, None));
    };
    let refuse = |error| Err((error, Some(Arc::clone(&model.unversioned))));
    let Some(version) = target.version else {
        return match &model.stable {
            Some(servable) => Ok(Routed {
                servable: Arc::clone(servable),
                traffic: model.traffic.clone(),
                samples: model.samples.clone(),
                fallback: model.fallback.clone(),
                previous: model.previous.clone(),
            }),
            None => refuse(RouteError::NotReady {
                reason: format!(
                    "model {name}: {}",
                    model
                        .outage(now)
                        .map(|outage| outage.reason)
                        .unwrap_or_default()
                ),
            }),
        };
    };
    let alone = |servable: &Arc<Servable>| Routed {
        servable: Arc::clone(servable),
        traffic: None,
        samples: None,
        fallback: None,
        previous: None,
    };
    if let Some(label) = VersionLabel::parse(version) {
        return match model.labelled(name, label, now) {
            Ok(servable) => Ok(alone(servable)),
            Err(error) => refuse(error),
        };
    }
    match model.version(version) {
        Some(status) => match &status.state {
            VersionState::Available(servable) => Ok(alone(servable)),
            state => {
                let reason = state
                    .reason()
                    .map(|reason| format!(": {reason}"))
                    .unwrap_or_default();
                refuse(RouteError::NotReady {
                    reason: format!(
                        "model {name}: version {version} is {}{reason}",
                        state.name()
                    ),
                })
            }
        },
        None => {
            let known = model.versions.keys().map(ToString::to_string).collect();
            refuse(RouteError::UnknownVersion {
                model: name.to_owned(),
                version: version.to_owned(),
                known,
            })
        }
    }
}
