//! Postprocessing steps, in the form of `preprocessing.json` and compiled.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::transform::outputs::Json;

/// A step in the form of `preprocessing.json`: an object with one member, whose name is the name of
/// the step.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum PostprocessStep {
    /// Takes one index of an axis, like `numpy.take`. The axis is removed.
    Take {
        axis: i64,
        index: i64,
    },
    /// Reorders the axes, like `numpy.transpose`.
    Transpose {
        axes: Vec<i64>,
    },
    Argmax {
        labels: Option<Vec<Value>>,
    },
    Softmax {},
    Sigmoid {},
    Threshold {
        value: f64,
        labels: Option<Vec<Value>>,
        index: Option<usize>,
    },
    TopK {
        k: usize,
        labels: Vec<Value>,
    },
    AsMap {
        labels: Vec<Value>,
    },
    Round {
        decimals: i32,
    },
    InverseScale {
        mean: f64,
        std: f64,
    },
}

/// A compiled step. Labels are JSON texts.
#[derive(Debug)]
pub(super) enum CompiledStep {
    Argmax(Option<Arc<[Json]>>),
    Softmax,
    Sigmoid,
    Threshold {
        value: f64,
        labels: Option<Arc<[Json]>>,
        index: Option<usize>,
    },
    // The best labels with their scores. `k` is from 1 to the number of labels.
    TopK {
        k: usize,
        labels: Arc<[Json]>,
    },
    /// An object of labels and numbers. The keys are JSON texts with the colon: `"label":`.
    AsMap(Arc<[Json]>),
    Round(i32),
    InverseScale {
        mean: f64,
        std: f64,
    },
}

impl CompiledStep {
    /// Whether the step changes each value and keeps their shape. The other steps must be the last
    /// one.
    pub(super) fn keeps_shape(&self) -> bool {
        matches!(
            self,
            CompiledStep::Softmax
                | CompiledStep::Sigmoid
                | CompiledStep::Round(_)
                | CompiledStep::InverseScale { .. }
        )
    }
}
