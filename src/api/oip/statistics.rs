//! The statistics extension: counts and durations of requests by version.

use crate::{
    api::{oip::find, refusal::Refusal},
    id::ModelName,
    metrics::statistics::StatisticsView,
    registry::{ServedModel, Snapshot, VersionState, route::Target, servable::Servable},
};

#[derive(Clone, Debug)]
pub(crate) struct ModelStatistics {
    pub name: String,
    pub version: String,
    pub numbers: StatisticsView,
}

/// The statistics of one version, of all loaded versions of a model, or of all models.
pub(crate) fn statistics(
    snapshot: &Snapshot,
    model: Option<&str>,
    version: Option<&str>,
) -> Result<Vec<ModelStatistics>, Refusal> {
    let statistics_of = |servable: &Servable| ModelStatistics {
        name: servable.id().name.to_string(),
        version: servable.id().version.to_string(),
        numbers: servable.metrics.requests.statistics.view(),
    };
    if version.is_some() {
        return find(snapshot, Target { model, version })
            .map(|servable| vec![statistics_of(&servable)]);
    }
    if let Some(name) = model
        && !snapshot.models.contains_key(name)
    {
        // The model is unknown. The error of `find` lists the known models.
        return find(snapshot, Target { model, version }).map(|_| Vec::new());
    }
    let chosen =
        |(name, _): &(&ModelName, &ServedModel)| model.is_none_or(|model| name.as_str() == model);
    let versions = snapshot
        .models
        .iter()
        .filter(chosen)
        .flat_map(|(_, model)| model.versions.values());
    let loaded = versions.filter_map(|status| match &status.state {
        VersionState::Available(servable) => Some(statistics_of(servable)),
        _ => None,
    });
    Ok(loaded.collect())
}
