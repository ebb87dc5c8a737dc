//! The metadata of a model: its versions, its inputs and its outputs.

use crate::{
    api::{oip::find, refusal::Refusal},
    registry::{Snapshot, VersionState, VersionStatus, route::Target},
    tensor::signature::{Symbols, TensorSpec},
};

#[derive(Clone, Debug)]
pub(crate) struct ModelMetadata {
    pub name: String,
    /// The loaded versions.
    pub versions: Vec<String>,
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    /// The graph's names of dimensions. Empty if the tensors are fields of a schema.
    pub symbols: Symbols,
}

pub(crate) fn model_metadata(
    snapshot: &Snapshot,
    target: Target<'_>,
) -> Result<ModelMetadata, Refusal> {
    let servable = find(snapshot, target)?;
    let offered = servable.offered();
    let name = servable.id().name.clone();
    let model = snapshot.models.get(&name);
    let loaded = |status: &VersionStatus| matches!(status.state, VersionState::Available(_));
    let versions = model
        .into_iter()
        .flat_map(|model| &model.versions)
        .filter(|(_, status)| loaded(status));
    Ok(ModelMetadata {
        versions: versions.map(|(version, _)| version.to_string()).collect(),
        name: name.to_string(),
        // Only graphs have optional inputs. A schema marks optional fields itself.
        inputs: match servable.fields() {
            Some(_) => offered.inputs.clone(),
            None => offered
                .inputs
                .iter()
                .chain(&servable.optional)
                .cloned()
                .collect(),
        },
        outputs: offered.outputs.clone(),
        symbols: servable
            .fields()
            .map_or_else(|| servable.symbols.clone(), |_| Symbols::default()),
    })
}
