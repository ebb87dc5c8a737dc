//! The configuration of a model, in the form of Triton's `ModelConfig`.

use crate::{
    api::{
        oip::{dim_to_wire, find},
        refusal::Refusal,
    },
    registry::{Snapshot, route::Target, servable::Contents},
    tensor::signature::TensorSpec,
};

/// A configuration that clients can read but not change. Its tensors are those of the graph.
#[derive(Clone, Debug)]
pub(crate) struct ModelConfiguration {
    pub name: String,
    /// The requested version, or the stable version if the request names none.
    pub version: String,
    /// Maximum batch size. 0 if requests do not share runs. Otherwise the `dims` of the tensors
    /// leave out the first dimension.
    pub max_batch_size: usize,
    pub inputs: Vec<ConfiguredTensor>,
    pub outputs: Vec<ConfiguredTensor>,
    pub instances: usize,
    /// Maximum delay of a run in microseconds. `None` if requests do not share runs.
    pub max_queue_delay_us: Option<u64>,
}

#[derive(Clone, Debug)]
pub(crate) struct ConfiguredTensor {
    pub name: String,
    /// Triton's name of the datatype, like `TYPE_FP32` or `TYPE_STRING`.
    pub data_type: String,
    /// The sizes of the dimensions. -1 for a dynamic dimension.
    pub dims: Vec<i64>,
    /// The file with the names of the classes. Empty if there is none.
    pub label_filename: String,
}

pub(crate) fn model_configuration(
    snapshot: &Snapshot,
    target: Target<'_>,
) -> Result<ModelConfiguration, Refusal> {
    let servable = find(snapshot, target)?;
    let batched = servable.is_batched();
    let policy = servable.batcher.policy();
    // A package has no label file.
    let label_file = |name: &str| match &servable.contents {
        Contents::Bare(bare) => bare.label_file(name).unwrap_or_default().to_owned(),
        Contents::Package(_) => String::new(),
    };
    let tensor = |spec: &TensorSpec| ConfiguredTensor {
        label_filename: label_file(&spec.name),
        ..configured_tensor(spec, batched)
    };
    let tensors = |specs: &[TensorSpec]| specs.iter().map(tensor).collect();
    Ok(ModelConfiguration {
        name: servable.id().name.to_string(),
        version: servable.id().version.to_string(),
        max_batch_size: if batched { policy.max_batch_size } else { 0 },
        inputs: tensors(&servable.graph.inputs),
        outputs: tensors(&servable.graph.outputs),
        instances: servable.workers,
        max_queue_delay_us: batched.then_some(policy.max_delay.as_micros() as u64),
    })
}

fn configured_tensor(spec: &TensorSpec, batched: bool) -> ConfiguredTensor {
    let data_type = match spec.datatype.protocol_name() {
        // Triton has two names for this type.
        "BYTES" => "TYPE_STRING".to_owned(),
        name => format!("TYPE_{name}"),
    };
    let dims = spec
        .shape
        .0
        .iter()
        // Triton leaves the batch dimension out of `dims` if the model supports batching.
        .skip(usize::from(batched))
        .map(|dim| dim_to_wire(*dim))
        .collect();
    ConfiguredTensor {
        name: spec.name.to_string(),
        data_type,
        dims,
        label_filename: String::new(),
    }
}
