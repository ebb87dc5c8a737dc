//! `Prediction`: the answer to a request, with the output of a model.

use std::{sync::Arc, time::Duration};

use crate::{
    config::FallbackOn,
    id::PredictionId,
    metrics::{RequestMetrics, Stage},
    predict::PredictError,
    registry::{route::Unrouted, servable::Servable},
    tensor::{Data, Tensors},
    transform::{
        fields::{self, NamedTensor, RaggedOutput},
        outputs::{Json, OutputColumn, Outputs},
    },
};

/// The answer to a request. Passed on in a box, because it is moved through many calls.
pub(crate) struct Prediction {
    pub id: PredictionId,
    /// The request id that the client sent, unchanged. `None` if the client sent none.
    pub client_id: Option<String>,
    /// The version that answered.
    pub servable: Arc<Servable>,
    pub output: ModelOutput,
    pub rows: usize,
    pub timing: Timing,
    /// The fallback that answered. `None` if the assigned version answered.
    pub fallback: Option<Fallback>,
}

/// The version that answered instead of the assigned one, and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fallback {
    pub to: String,
    pub reason: FallbackOn,
}

/// The output of a model.
#[derive(Clone, Debug)]
pub(crate) enum ModelOutput {
    /// Fields of the output schema.
    Fields(Outputs),
    /// Output tensors of the graph.
    Graph(Tensors),
}

/// A refused or failed request, and the version for which it is counted.
pub(crate) struct Failure {
    pub error: PredictError,
    /// The version that should have answered. `None` if the request failed before it was found.
    pub servable: Option<Arc<Servable>>,
    /// The metrics of the model if only its version was not found. `None` in all other cases.
    pub unversioned: Option<Arc<RequestMetrics>>,
}

impl From<Unrouted> for Failure {
    fn from(unrouted: Unrouted) -> Failure {
        Failure {
            error: PredictError::Route(Box::new(unrouted.error)),
            servable: None,
            unversioned: unrouted.unversioned,
        }
    }
}

impl Prediction {
    /// Takes the output as tensors: those in `wanted`, in this order, or all of them if `wanted` is
    /// empty. Returns an error for an output whose rows have different shapes, because it is not a
    /// tensor.
    pub(crate) fn take_tensors(
        &mut self,
        wanted: &[String],
    ) -> Result<Vec<NamedTensor>, RaggedOutput> {
        let tensors =
            match std::mem::replace(&mut self.output, ModelOutput::Graph(Tensors::default())) {
                ModelOutput::Fields(outputs) => fields::tensors(outputs)?,
                ModelOutput::Graph(tensors) => {
                    let labels = self.servable.labels();
                    let named = tensors.0.into_iter().map(|(name, tensor)| {
                        let labels = labels.and_then(|labels| labels.get(&*name)).cloned();
                        NamedTensor {
                            name,
                            tensor,
                            labels,
                        }
                    });
                    named.collect()
                }
            };
        if wanted.is_empty() {
            return Ok(tensors);
        }
        Ok(wanted
            .iter()
            .filter_map(|name| {
                tensors
                    .iter()
                    .find(|tensor| *tensor.name == **name)
                    .cloned()
            })
            .collect())
    }

    /// The approximate number of values in the answer. The time of encoding is proportional to it.
    pub(crate) fn weight(&self) -> usize {
        self.output.weight()
    }
}

impl ModelOutput {
    fn weight(&self) -> usize {
        /// Number of bytes of a string that take about as long to write as one number.
        const BYTES: usize = 8;
        /// Maximum number of strings whose lengths are added up. More strings are heavy because of
        /// their number.
        const COUNTED: usize = 1 << 16;
        let texts = |texts: &[String]| {
            texts.len() + texts.iter().take(COUNTED).map(String::len).sum::<usize>() / BYTES
        };
        let label =
            |labels: &[Json]| 1 + labels.iter().map(|label| label.len()).max().unwrap_or(0) / BYTES;
        let plain = |column: &OutputColumn| match column {
            OutputColumn::Labels { labels, indices } => indices.len() * label(labels),
            OutputColumn::TopK { labels, ranked, .. } => ranked.len() * label(labels),
            OutputColumn::Map { keys, values } => values.len() * label(keys),
            OutputColumn::Numbers { values, .. } => values.len(),
            OutputColumn::Bools { values, .. } => values.len(),
            OutputColumn::Texts { values, .. } => texts(values),
            OutputColumn::Ragged { rows, .. } => rows.len(),
        };
        let field = |column: &OutputColumn| match column {
            OutputColumn::Ragged { runs, .. } => runs.iter().map(plain).sum(),
            column => plain(column),
        };
        match self {
            ModelOutput::Fields(outputs) => outputs
                .rows
                .max(outputs.fields.iter().map(|(_, column)| field(column)).sum()),
            ModelOutput::Graph(tensors) => {
                let tensor = |data: &Data| {
                    if let Data::Bytes(values) = data {
                        texts(values)
                    } else {
                        data.len()
                    }
                };
                tensors
                    .0
                    .iter()
                    .map(|(_, output)| tensor(output.data()))
                    .sum()
            }
        }
    }
}

/// The time that each stage of a request took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timing([Duration; Stage::ALL.len()]);

impl Timing {
    pub(crate) fn get(&self, stage: Stage) -> Duration {
        self.0.get(stage as usize).copied().unwrap_or_default()
    }

    pub(crate) fn set(&mut self, stage: Stage, elapsed: Duration) {
        if let Some(slot) = self.0.get_mut(stage as usize) {
            *slot = elapsed;
        }
    }

    /// The stage times before the first engine run. The stage times of a fallback start from them.
    pub(crate) fn before_runs(mut self) -> Timing {
        for stage in [Stage::Queue, Stage::Infer, Stage::Postprocess] {
            self.set(stage, Duration::ZERO);
        }
        self
    }

    /// Adds time to a stage that happens several times.
    pub(crate) fn add(&mut self, stage: Stage, elapsed: Duration) {
        self.set(stage, self.get(stage) + elapsed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{
        predict::{HEAVY_VALUES, ModelOutput},
        tensor::{Data, Tensor, Tensors},
        transform::outputs::{Numbers, OutputColumn, Outputs},
    };

    #[test]
    fn long_answers_are_heavy() {
        let graph = |data: Data| {
            ModelOutput::Graph(Tensors(vec![(
                Arc::from("y"),
                Tensor::new(vec![data.len()], data).unwrap(),
            )]))
        };
        let field = |rows, column| {
            ModelOutput::Fields(Outputs {
                rows,
                fields: vec![(Arc::from("\"y\":"), column)],
            })
        };
        let numbers = |rows, count| {
            field(
                rows,
                OutputColumn::Numbers {
                    shape: vec![count / rows],
                    values: Numbers::F32(vec![0.0; count]),
                },
            )
        };
        let texts = |length| OutputColumn::Texts {
            shape: vec![],
            values: vec!["x".repeat(length)],
        };
        let labels = |length| OutputColumn::Labels {
            labels: Arc::from(vec![Arc::from("x".repeat(length))]),
            indices: vec![0; 100],
        };
        let cases = [
            (graph(Data::Fp32(vec![0.0; 1 << 10].into())), false),
            (graph(Data::Fp32(vec![0.0; 1 << 11].into())), true),
            (graph(Data::Bytes(vec!["x".repeat(1 << 10)])), false),
            (graph(Data::Bytes(vec!["x".repeat(1 << 20)])), true),
            (graph(Data::Bytes(vec![String::new(); 1 << 11])), true),
            (numbers(10, 10), false),
            // One row of many numbers.
            (numbers(1, 1 << 11), true),
            (field(1, texts(100)), false),
            (field(1, texts(1 << 20)), true),
            (field(100, labels(10)), false),
            (field(100, labels(1 << 10)), true),
        ];
        for (index, (outcome, heavy)) in cases.iter().enumerate() {
            assert_eq!(outcome.weight() > HEAVY_VALUES, *heavy, "{index}");
        }
    }
}
