//! Open Inference Protocol v2 with Triton's extensions: what REST and gRPC have in common, in no form of either.

use std::{cmp::Ordering, sync::Arc, time::Instant};

use crate::{
    api::refusal::Refusal,
    decode::elements::write_element,
    error::ErrorCode,
    metrics::statistics::StatisticsView,
    predict::PredictError,
    registry::{
        ServedModel, Snapshot, VersionState, VersionStatus,
        route::{Target, route},
        servable::{Contents, Servable},
    },
    tensor::{
        Data, Dim, Tensor,
        signature::{Symbols, TensorSpec},
    },
    transform::fields::NamedTensor,
};

pub const SERVER_NAME: &str = "predictd";
pub const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");

/// As Triton calls ONNX models.
pub const PLATFORM: &str = "onnxruntime_onnx";
pub const BACKEND: &str = "onnxruntime";

/// Extensions of the protocol: exactly those that are there.
pub const EXTENSIONS: [&str; 7] = [
    "classification",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
];

/// An output that a request names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedOutput {
    pub name: String,
    /// Whether its data is to come as bytes; unset: as the request says for all.
    pub binary: Option<bool>,
    /// So many of the best classes instead of the values; 0: the values.
    pub classification: usize,
}

/// The tensor that answers a requested output.
pub fn answer_output(
    servable: &Servable,
    tensor: NamedTensor,
    classification: usize,
) -> Result<NamedTensor, Refusal> {
    if classification == 0 {
        return Ok(tensor);
    }
    let specs = servable
        .offered()
        .outputs
        .iter()
        .chain(&servable.graph.outputs);
    let batch = specs
        .into_iter()
        .find(|spec| spec.name == tensor.name)
        .is_some_and(|spec| spec.shape.has_batch_axis());
    classify(&tensor, classification, batch).map_err(|detail| {
        Refusal::new(
            ErrorCode::Malformed,
            format!("output `{}`: {detail}", tensor.name),
        )
    })
}

/// The `count` largest values of each row, as texts `value:index[:label]`. `batch`: the leading dimension counts rows.
fn classify(named: &NamedTensor, count: usize, batch: bool) -> Result<NamedTensor, String> {
    let tensor = &named.tensor;
    let keys = Keys::of(tensor.data()).ok_or("only numbers can be ranked as classes")?;
    let (rows, width) = match tensor.shape() {
        [] => (1, 1),
        [rows, rest @ ..] if batch || !rest.is_empty() => (*rows, rest.iter().product()),
        [width, ..] => (1, *width),
    };
    let count = count.min(width);
    let mut texts = Vec::with_capacity(tensor.data().len().min(rows.saturating_mul(count)));
    for row in 0..if width == 0 { 0 } else { rows } {
        let mut order: Vec<usize> = (row * width..(row + 1) * width).collect();
        order.sort_by(|a, b| keys.compare(*b, *a).then(a.cmp(b)));
        for at in order.into_iter().take(count) {
            let mut text = Vec::new();
            write_element(tensor.data(), at, &mut text);
            let index = at - row * width;
            let label = named
                .labels
                .as_ref()
                .and_then(|labels| labels.get(index))
                .map(|label| format!(":{label}"))
                .unwrap_or_default();
            texts.push(format!("{}:{index}{label}", String::from_utf8_lossy(&text)));
        }
    }
    let shape = if batch || tensor.shape().len() > 1 {
        vec![rows, count]
    } else {
        vec![count]
    };
    let tensor = Tensor::new(shape, Data::Bytes(texts)).ok_or("has no rows")?;
    Ok(NamedTensor {
        name: Arc::clone(&named.name),
        tensor,
        labels: None,
    })
}

/// Numbers in an order that is total.
enum Keys {
    Floats(Vec<f64>),
    /// 64 bits of either sign.
    Integers(Vec<i128>),
}

impl Keys {
    fn of(data: &Data) -> Option<Keys> {
        Some(match data {
            Data::Uint8(values) => Keys::Integers(values.iter().map(|x| i128::from(*x)).collect()),
            Data::Uint16(values) => Keys::Integers(values.iter().map(|x| i128::from(*x)).collect()),
            Data::Uint32(values) => Keys::Integers(values.iter().map(|x| i128::from(*x)).collect()),
            Data::Uint64(values) => Keys::Integers(values.iter().map(|x| i128::from(*x)).collect()),
            Data::Int8(values) => Keys::Integers(values.iter().map(|x| i128::from(*x)).collect()),
            Data::Int16(values) => Keys::Integers(values.iter().map(|x| i128::from(*x)).collect()),
            Data::Int32(values) => Keys::Integers(values.iter().map(|x| i128::from(*x)).collect()),
            Data::Int64(values) => Keys::Integers(values.iter().map(|x| i128::from(*x)).collect()),
            Data::Fp16(values) => Keys::Floats(values.iter().map(|x| x.to_f64()).collect()),
            Data::Bf16(values) => Keys::Floats(values.iter().map(|x| x.to_f64()).collect()),
            Data::Fp32(values) => Keys::Floats(values.iter().map(|x| f64::from(*x)).collect()),
            Data::Fp64(values) => Keys::Floats(values.to_vec()),
            Data::Bool(_) | Data::Bytes(_) => return None,
        })
    }

    /// What is not a number ranks below all that are.
    fn compare(&self, a: usize, b: usize) -> Ordering {
        match self {
            Keys::Integers(values) => values.get(a).cmp(&values.get(b)),
            Keys::Floats(values) => {
                let value = |at| values.get(at).copied().unwrap_or(f64::NAN);
                match (value(a), value(b)) {
                    (x, y) if x.is_nan() || y.is_nan() => y.is_nan().cmp(&x.is_nan()),
                    (x, y) => x.partial_cmp(&y).unwrap_or(Ordering::Equal),
                }
            }
        }
    }
}

/// The version that a request about a model means.
pub fn find(snapshot: &Snapshot, target: Target<'_>) -> Result<Arc<Servable>, Refusal> {
    route(snapshot, target, Instant::now())
        .map(|routed| routed.servable)
        .map_err(|(error, _)| {
            let error = PredictError::Route(error);
            Refusal::new(error.code(), error.to_string())
        })
}

/// Whether a model (or one version) answers; an error where it is not known.
pub fn is_ready(snapshot: &Snapshot, target: Target<'_>) -> Result<bool, Refusal> {
    match find(snapshot, target) {
        Ok(servable) => Ok(servable.batcher.unready_reason(Instant::now()).is_none()),
        Err(Refusal {
            code: ErrorCode::NotReady,
            ..
        }) => Ok(false),
        Err(refusal) => Err(refusal),
    }
}

#[derive(Clone, Debug)]
pub struct ModelMetadata {
    pub name: String,
    /// The versions that are loaded.
    pub versions: Vec<String>,
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    /// What the graph calls the dimensions of its tensors, where callers see those.
    pub symbols: Symbols,
}

pub fn model_metadata(snapshot: &Snapshot, target: Target<'_>) -> Result<ModelMetadata, Refusal> {
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

/// A model's configuration in the words of Triton's `ModelConfig`; read-only. Its tensors are the graph's.
#[derive(Clone, Debug)]
pub struct ModelConfiguration {
    pub name: String,
    /// The version that was asked for, or the stable one.
    pub version: String,
    /// 0: requests don't share runs, and `dims` are complete. Else `dims` leave the leading dimension out.
    pub max_batch_size: usize,
    pub inputs: Vec<ConfiguredTensor>,
    pub outputs: Vec<ConfiguredTensor>,
    pub instances: usize,
    /// Set where requests share runs.
    pub max_queue_delay_us: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct ConfiguredTensor {
    pub name: String,
    /// `TYPE_FP32`, `TYPE_STRING`.
    pub data_type: String,
    /// -1 where it is free.
    pub dims: Vec<i64>,
    /// What its classes are called; empty where no file says it.
    pub label_filename: String,
}

pub fn model_configuration(
    snapshot: &Snapshot,
    target: Target<'_>,
) -> Result<ModelConfiguration, Refusal> {
    let servable = find(snapshot, target)?;
    let batched = servable.is_batched();
    let policy = servable.batcher.policy();
    let label_file = |name: &str| match &servable.contents {
        Contents::Bare(bare) => bare.label_file(name).unwrap_or_default().to_owned(),
        Contents::Package(_) => String::new(),
    };
    let tensor = |spec: &TensorSpec| ConfiguredTensor {
        label_filename: label_file(&spec.name),
        ..configured(spec, batched)
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

fn configured(spec: &TensorSpec, batched: bool) -> ConfiguredTensor {
    let data_type = match spec.datatype.protocol_name() {
        "BYTES" => "TYPE_STRING".to_owned(),
        name => format!("TYPE_{name}"),
    };
    let dims = spec
        .shape
        .0
        .iter()
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

/// -1 for a free dimension.
pub fn dim_to_wire(dim: Dim) -> i64 {
    match dim {
        Dim::Fixed(size) => i64::try_from(size).unwrap_or(i64::MAX),
        Dim::Any | Dim::Rest => -1,
    }
}

#[derive(Clone, Debug)]
pub struct ModelStatistics {
    pub name: String,
    pub version: String,
    pub numbers: StatisticsView,
}

/// Of one version, of the loaded versions of one model, or of all.
pub fn statistics(
    snapshot: &Snapshot,
    model: Option<&str>,
    version: Option<&str>,
) -> Result<Vec<ModelStatistics>, Refusal> {
    let of = |servable: &Servable| ModelStatistics {
        name: servable.id().name.to_string(),
        version: servable.id().version.to_string(),
        numbers: servable.metrics.requests.statistics.view(),
    };
    if version.is_some() {
        return find(snapshot, Target { model, version }).map(|servable| vec![of(&servable)]);
    }
    if let Some(name) = model
        && !snapshot.models.contains_key(name)
    {
        return find(snapshot, Target { model, version }).map(|_| Vec::new());
    }
    let chosen = |(name, _): &(&crate::id::ModelName, &ServedModel)| {
        model.is_none_or(|model| name.as_str() == model)
    };
    let versions = snapshot
        .models
        .iter()
        .filter(chosen)
        .flat_map(|(_, model)| model.versions.values());
    let loaded = versions.filter_map(|status| match &status.state {
        VersionState::Available(servable) => Some(of(servable)),
        _ => None,
    });
    Ok(loaded.collect())
}

/// A version in the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    pub name: String,
    pub version: String,
    /// READY, LOADING, UNLOADING or UNAVAILABLE.
    pub state: &'static str,
    /// Why it does not answer; empty where it does.
    pub reason: String,
}

pub fn repository_index(snapshot: &Snapshot, only_ready: bool) -> Vec<IndexEntry> {
    let mut entries = Vec::new();
    for (name, model) in &snapshot.models {
        for (version, status) in &model.versions {
            let (state, reason) = match &status.state {
                VersionState::Available(_) => ("READY", String::new()),
                VersionState::Loading => ("LOADING", "it is being verified and loaded".to_owned()),
                VersionState::Draining => ("UNLOADING", "it finishes what is in flight".to_owned()),
                VersionState::Idle if model.unloaded => ("UNAVAILABLE", "unloaded".to_owned()),
                VersionState::Idle => (
                    "UNAVAILABLE",
                    "not among the versions that are kept loaded".to_owned(),
                ),
                state => ("UNAVAILABLE", state.reason().unwrap_or_default()),
            };
            if state == "READY" || !only_ready {
                entries.push(IndexEntry {
                    name: name.to_string(),
                    version: version.to_string(),
                    state,
                    reason,
                });
            }
        }
    }
    entries
}

/// The protocols of others know no 422.
pub fn error_status(code: ErrorCode) -> u16 {
    if code == ErrorCode::Invalid {
        400
    } else {
        code.http_status()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{
        api::oip::classify,
        tensor::{Data, Tensor},
        transform::fields::NamedTensor,
    };

    fn named(shape: &[usize], values: &[f32], labels: Option<&[&str]>) -> NamedTensor {
        let tensor = Tensor::new(shape.to_vec(), Data::Fp32(values.to_vec().into())).unwrap();
        let labels = labels.map(|labels| labels.iter().map(|label| (*label).to_owned()).collect());
        NamedTensor {
            name: Arc::from("p"),
            tensor,
            labels,
        }
    }

    #[test]
    fn classes_are_ranked_row_by_row() {
        let ranked = classify(
            &named(&[2, 3], &[0.1, 0.7, 0.2, 0.5, 0.25, 0.5], Some(&["a", "b"])),
            2,
            true,
        )
        .unwrap();
        assert_eq!(ranked.tensor.shape(), [2, 2]);
        let texts = ["0.7:1:b", "0.2:2", "0.5:0:a", "0.5:2"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(ranked.tensor.data(), &Data::Bytes(texts));
        assert_eq!(
            classify(&named(&[3], &[1.0, 3.0, 2.0], None), 9, false)
                .unwrap()
                .tensor
                .shape(),
            [3]
        );
        assert_eq!(
            classify(&named(&[3], &[1.0, 3.0, 2.0], None), 9, true)
                .unwrap()
                .tensor
                .shape(),
            [3, 1]
        );
        assert_eq!(
            classify(&named(&[2, 0], &[], None), 1, true)
                .unwrap()
                .tensor
                .shape(),
            [2, 0]
        );
        let texts = NamedTensor {
            name: Arc::from("t"),
            tensor: Tensor::new(vec![1], Data::Bytes(vec!["x".into()])).unwrap(),
            labels: None,
        };
        assert!(classify(&texts, 1, true).is_err());
    }

    #[test]
    fn what_is_no_number_ranks_last() {
        let values: Vec<f32> = (0..100)
            .map(|index| {
                if index % 5 < 2 {
                    f32::NAN
                } else {
                    (index * 37 % 100) as f32
                }
            })
            .collect();
        let ranked = classify(&named(&[1, 100], &values, None), 100, true).unwrap();
        let Data::Bytes(texts) = ranked.tensor.data() else {
            panic!("no texts")
        };
        assert_eq!(
            texts.iter().position(|text| text.starts_with("null")),
            Some(60)
        );
        let exact =
            Tensor::new(vec![1, 2], Data::Int64(vec![i64::MAX - 1, i64::MAX].into())).unwrap();
        let exact = NamedTensor {
            name: Arc::from("i"),
            tensor: exact,
            labels: None,
        };
        assert_eq!(
            classify(&exact, 1, true).unwrap().tensor.data(),
            &Data::Bytes(vec![format!("{}:1", i64::MAX)])
        );
    }
}
