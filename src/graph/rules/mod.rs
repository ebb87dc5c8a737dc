//! Rules: the effect of each operator on the rows of its inputs. An operator without a rule is
//! assumed to mix rows.
//!
//! The rules cover the ONNX operator sets `ai.onnx` (up to 23) and `ai.onnx.ml` (up to 5), and the
//! operators of ONNX Runtime's domain `com.microsoft` that exporters write.

mod axes;
mod constants;
mod contraction;
mod contributed;
mod elementwise;
mod features;
mod gather;
mod layers;
mod sequences;
mod shapes;
mod sizes;
mod slices;

use crate::{
    graph::{
        flow::{Flow, Mixing, TracedTensor, mixed},
        model::GraphNode,
        size::{Size, UnknownSizes},
    },
    tensor::from_end,
};

pub(super) const NOT_KNOWN: &str = "is not known to keep rows apart";
pub(super) const DRAWS_RANDOM_NUMBERS: &str = "draws random numbers, which no run repeats";

/// One call of an operator. None of its inputs is mixed.
pub(super) struct OperatorCall<'c, 'a> {
    pub unknown_sizes: &'c UnknownSizes,
    pub node: &'c GraphNode<'a>,
    pub inputs: &'c [Option<TracedTensor>],
    pub opset: i64,
}

/// Why an operator mixes rows, or may mix them. The text is the end of a sentence that begins with
/// the node.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowEffect(pub Mixing, pub &'static str);

/// The outputs of an operator that keeps rows apart.
pub(super) type RuleResult = Result<Vec<TracedTensor>, RowEffect>;

pub(super) const UNKNOWN: RowEffect = RowEffect(Mixing::Unknown, NOT_KNOWN);

/// Applies the rule of a node's operator, and returns the outputs of the node.
pub(super) fn apply<'a>(
    unknown_sizes: &UnknownSizes,
    node: &GraphNode<'a>,
    inputs: &[Option<TracedTensor>],
    opset: i64,
) -> Vec<TracedTensor> {
    let call = OperatorCall {
        unknown_sizes,
        node,
        inputs,
        opset,
    };
    // Two equal rows would get different answers, so a comparison of runs could not prove anything.
    if draws_random_numbers(node) && !call.idle_dropout() {
        return vec![
            TracedTensor::new(mixed(node, Mixing::Unknown, DRAWS_RANDOM_NUMBERS), None);
            node.outputs.len()
        ];
    }
    // An operator that gets only constants gives constants, even if it has no rule.
    let all_same = inputs
        .iter()
        .flatten()
        .all(|value| value.flow == Flow::Same);
    match call.rule() {
        Ok(mut values) => {
            if all_same {
                // A value that is computed from constants only can't depend on rows.
                values.iter_mut().for_each(|value| value.flow = Flow::Same);
            }
            values
        }
        Err(_) if all_same => vec![TracedTensor::new(Flow::Same, None); node.outputs.len()],
        Err(RowEffect(kind, effect)) => {
            vec![TracedTensor::new(mixed(node, kind, effect), None); node.outputs.len()]
        }
    }
}

/// The index of the input that sets the shape of the output. If this input contains the number of
/// rows, only a dimension of the output depends on that number, not the values.
fn shape_operand(op: &str) -> Option<usize> {
    match op {
        "ConstantOfShape" => Some(0),
        "Reshape" | "Expand" | "Tile" => Some(1),
        "Resize" => Some(3),
        _ => None,
    }
}

/// Marks a value without rows as dependent on the number of rows.
fn with_row_count(value: TracedTensor) -> TracedTensor {
    match value.flow {
        Flow::Same => TracedTensor::new(Flow::RowCount, value.dims),
        _ => value,
    }
}

/// Whether the operator draws random numbers, or may do so depending on its third input.
pub(super) fn draws_random_numbers(node: &GraphNode<'_>) -> bool {
    match node.op {
        "RandomNormal" | "RandomNormalLike" | "RandomUniform" | "RandomUniformLike"
        | "Multinomial" | "Bernoulli" => true,
        "Dropout" => node.inputs.get(2).is_some_and(|mode| !mode.is_empty()),
        _ => false,
    }
}

impl OperatorCall<'_, '_> {
    fn rule(&self) -> RuleResult {
        // Arithmetic on sizes is followed, so that a size may depend on the number of rows.
        if let Some(values) = self.sizes() {
            return Ok(values);
        }
        let result = match self.node.domain {
            "" | "ai.onnx" => self.standard(),
            "ai.onnx.ml" => self.machine_learning(),
            "com.microsoft" => self.contributed(),
            _ => None,
        };
        let result = result.unwrap_or(Err(UNKNOWN));
        let is_row_count = |value: &Option<TracedTensor>| {
            value
                .as_ref()
                .is_some_and(|value| value.flow == Flow::RowCount)
        };
        if !self.inputs.iter().any(is_row_count) {
            return result;
        }
        // A value computed from the number of rows depends on that number, even if the operator's
        // rule keeps rows apart. The number of rows may set a shape, but the values of a row must
        // not depend on it.
        let shapes = shape_operand(self.node.op);
        let enters = self
            .inputs
            .iter()
            .enumerate()
            .any(|(index, value)| is_row_count(value) && Some(index) != shapes);
        match result {
            Ok(values) if !(enters && values.iter().any(|value| value.axis().is_some())) => {
                Ok(values.into_iter().map(with_row_count).collect())
            }
            Err(RowEffect(
                kind @ (Mixing::Proved | Mixing::TimeSteps | Mixing::DataDependent),
                effect,
            )) => Err(RowEffect(kind, effect)),
            _ => Err(RowEffect(
                Mixing::Unknown,
                "computes with the number of rows",
            )),
        }
    }

    /// The rule of an operator of the domain `ai.onnx`.
    fn standard(&self) -> Option<RuleResult> {
        match self.node.op {
            "TfIdfVectorizer" => return Some(self.vocabulary()),
            "StringNormalizer" => return Some(self.normalizer()),
            _ => {}
        }
        self.elementwise()
            .or_else(|| self.contraction())
            .or_else(|| self.layer())
            .or_else(|| self.along_axes())
            .or_else(|| self.shape())
            .or_else(|| self.gather())
    }

    /// An input that must be present. Its absence is an error.
    pub(super) fn input(&self, index: usize) -> Result<&TracedTensor, RowEffect> {
        self.inputs
            .get(index)
            .and_then(Option::as_ref)
            .ok_or(UNKNOWN)
    }

    pub(super) fn optional(&self, index: usize) -> Option<&TracedTensor> {
        self.inputs.get(index)?.as_ref()
    }

    /// Checks that every input that is not in `but` is independent of the rows.
    pub(super) fn others_same(&self, but: &[usize]) -> Result<(), RowEffect> {
        let others = self
            .inputs
            .iter()
            .enumerate()
            .filter(|(index, _)| !but.contains(index));
        let same = others
            .filter_map(|(_, value)| value.as_ref())
            .all(|value| value.flow == Flow::Same);
        if same { Ok(()) } else { Err(UNKNOWN) }
    }

    pub(super) fn rank(&self, value: &TracedTensor) -> Result<usize, RowEffect> {
        value.rank().ok_or(RowEffect(
            Mixing::Unknown,
            "takes a tensor whose number of dimensions is not known",
        ))
    }

    /// The attribute `axis` as an index from the front. `default` applies if the attribute is
    /// missing.
    pub(super) fn axis(&self, value: &TracedTensor, default: i64) -> Result<usize, RowEffect> {
        from_end(self.node.int("axis").unwrap_or(default), self.rank(value)?).ok_or(UNKNOWN)
    }

    /// Returns one output with the shape of `value`, for an operator that mixes values along
    /// `axes`.
    pub(super) fn unless_along(&self, value: &TracedTensor, axes: &[usize]) -> RuleResult {
        match value.axis() {
            Some(rows) if axes.contains(&rows) => Err(RowEffect(
                Mixing::Proved,
                "works along the dimension of the rows",
            )),
            _ => Ok(vec![TracedTensor::new(
                value.flow.clone(),
                value.dims.clone(),
            )]),
        }
    }

    /// Returns `value` for each output of the node.
    pub(super) fn each(&self, value: TracedTensor) -> RuleResult {
        Ok(vec![value; self.node.outputs.len().max(1)])
    }

    pub(super) fn fresh(&self) -> Size {
        self.unknown_sizes.fresh()
    }
}
