//! Postprocessing steps: as written in `preprocessing.json`, and compiled.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::transform::outputs::Json;

/// A step as written: an object with one member, which has the name of the step.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum PostprocessStep {
    /// One index of an axis, as numpy.take. The axis is removed.
    Take {
        axis: i64,
        index: i64,
    },
    /// As numpy.transpose.
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

/// A checked step. Labels are JSON texts.
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
    // `k` is from 1 to the number of labels.
    TopK {
        k: usize,
        labels: Arc<[Json]>,
    },
    /// The keys are JSON texts with the colon: `"label":`.
    AsMap(Arc<[Json]>),
    Round(i32),
    InverseScale {
        mean: f64,
        std: f64,
    },
}

impl CompiledStep {
    /// Whether the step changes each value and keeps their shape. The other steps end the list.
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
