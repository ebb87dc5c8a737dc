//! Rules: what each operator does to the rows of its inputs. An operator without a rule is not
//! known to keep rows apart.
//!
//! Operators and their attributes are those of the ONNX operator sets `ai.onnx` (up to 23) and
//! `ai.onnx.ml` (up to 5), and of ONNX Runtime's own `com.microsoft`, as far as exporters write
//! them.

mod axes;
mod contraction;
mod elementwise;
mod features;
mod gather;
mod layers;
mod shapes;
mod sizes;

use crate::{
    graph::{
        flow::{Flow, Mixing, TracedTensor},
        model::Node,
        size::Size,
        walk::{GraphWalk, mixed},
    },
    tensor::from_end,
};

pub const NOT_KNOWN: &str = "is not known to keep rows apart";
pub const DRAWS_RANDOM_NUMBERS: &str = "draws random numbers, which no run repeats";

/// One application of an operator. No input is mixed.
pub struct OperatorCall<'c, 'a> {
    pub walk: &'c GraphWalk<'c, 'a>,
    pub node: &'c Node<'a>,
    pub inputs: &'c [Option<TracedTensor>],
    pub opset: i64,
}

/// What a rule gives: the outputs, or what the operator does to rows.
pub type RuleResult = Result<Vec<TracedTensor>, (Mixing, &'static str)>;

pub const UNKNOWN: (Mixing, &str) = (Mixing::Unknown, NOT_KNOWN);

/// The outputs of a node.
pub fn apply<'a>(
    walk: &GraphWalk<'_, 'a>,
    node: &Node<'a>,
    inputs: &[Option<TracedTensor>],
    opset: i64,
) -> Vec<TracedTensor> {
    let call = OperatorCall {
        walk,
        node,
        inputs,
        opset,
    };
    if draws_random_numbers(node) && !call.idle_dropout() {
        return vec![
            TracedTensor::new(mixed(node, Mixing::Unknown, DRAWS_RANDOM_NUMBERS), None);
            node.outputs.len()
        ];
    }
    let all_same = inputs
        .iter()
        .flatten()
        .all(|value| value.flow == Flow::Same);
    match call.rule() {
        Ok(mut values) => {
            if all_same {
                // What is made of nothing but constants can't depend on rows.
                values.iter_mut().for_each(|value| value.flow = Flow::Same);
            }
            values
        }
        Err(_) if all_same => vec![TracedTensor::new(Flow::Same, None); node.outputs.len()],
        Err((kind, effect)) => {
            vec![TracedTensor::new(mixed(node, kind, effect), None); node.outputs.len()]
        }
    }
}

/// The input that is a shape: what it counts becomes a dimension and no value.
fn shape_operand(op: &str) -> Option<usize> {
    match op {
        "ConstantOfShape" => Some(0),
        "Reshape" | "Expand" | "Tile" => Some(1),
        "Resize" => Some(3),
        _ => None,
    }
}

/// A value that is the same for all rows, but not for any number of them.
fn counted(value: TracedTensor) -> TracedTensor {
    match value.flow {
        Flow::Same => TracedTensor::new(Flow::RowCount, value.dims),
        _ => value,
    }
}

/// Whether the operator draws random numbers, or does so when a third input tells it to.
pub fn draws_random_numbers(node: &Node<'_>) -> bool {
    match node.op {
        "RandomNormal" | "RandomNormalLike" | "RandomUniform" | "RandomUniformLike"
        | "Multinomial" | "Bernoulli" => true,
        "Dropout" => node.inputs.get(2).is_some_and(|mode| !mode.is_empty()),
        _ => false,
    }
}

impl OperatorCall<'_, '_> {
    fn rule(&self) -> RuleResult {
        // Sizes that count rows are followed through arithmetic of sizes, and never become values
        // of rows.
        if let Some(values) = self.sizes() {
            return Ok(values);
        }
        let ruled = match self.node.domain {
            "" | "ai.onnx" => self.standard(),
            "ai.onnx.ml" => self.machine_learning(),
            "com.microsoft" => self.contributed(),
            _ => None,
        };
        let ruled = ruled.unwrap_or(Err(UNKNOWN));
        let counts = |value: &Option<TracedTensor>| {
            value
                .as_ref()
                .is_some_and(|value| value.flow == Flow::RowCount)
        };
        if !self.inputs.iter().any(counts) {
            return ruled;
        }
        // What is made of the number of rows depends on it, whatever the rule says; and it may
        // shape rows, but not enter them.
        let shapes = shape_operand(self.node.op);
        let enters = self
            .inputs
            .iter()
            .enumerate()
            .any(|(index, value)| counts(value) && Some(index) != shapes);
        match ruled {
            Ok(values) if !(enters && values.iter().any(|value| value.axis().is_some())) => {
                Ok(values.into_iter().map(counted).collect())
            }
            Err((kind @ (Mixing::Proved | Mixing::TimeSteps | Mixing::DataDependent), effect)) => {
                Err((kind, effect))
            }
            _ => Err((Mixing::Unknown, "computes with the number of rows")),
        }
    }

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

    pub fn input(&self, index: usize) -> Result<&TracedTensor, (Mixing, &'static str)> {
        self.inputs
            .get(index)
            .and_then(Option::as_ref)
            .ok_or(UNKNOWN)
    }

    pub fn optional(&self, index: usize) -> Option<&TracedTensor> {
        self.inputs.get(index)?.as_ref()
    }

    /// Every input but these is the same for any rows.
    pub fn others_same(&self, but: &[usize]) -> Result<(), (Mixing, &'static str)> {
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

    pub fn rank(&self, value: &TracedTensor) -> Result<usize, (Mixing, &'static str)> {
        value.rank().ok_or((
            Mixing::Unknown,
            "takes a tensor of which not even the number of dimensions is known",
        ))
    }

    /// An attribute's axis, counted from the front; `default` where it is not written.
    pub fn axis(
        &self,
        value: &TracedTensor,
        default: i64,
    ) -> Result<usize, (Mixing, &'static str)> {
        from_end(self.node.int("axis").unwrap_or(default), self.rank(value)?).ok_or(UNKNOWN)
    }

    /// One output like `value`, which `axes` mix along.
    pub fn unless_along(&self, value: &TracedTensor, axes: &[usize]) -> RuleResult {
        match value.axis() {
            Some(rows) if axes.contains(&rows) => {
                Err((Mixing::Proved, "works along the dimension of the rows"))
            }
            _ => Ok(vec![TracedTensor::new(
                value.flow.clone(),
                value.dims.clone(),
            )]),
        }
    }

    /// As many outputs as the node has, all like this one.
    pub fn each(&self, value: TracedTensor) -> RuleResult {
        Ok(vec![value; self.node.outputs.len().max(1)])
    }

    pub fn fresh(&self) -> Size {
        self.walk.fresh()
    }
}
