//! `Signature`: the tensors that a graph takes and gives.

use std::{fmt, sync::Arc};

use crate::tensor::{Data, DataType, Dim, Shape, Tensor, Tensors};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: Arc<str>,
    pub datatype: DataType,
    pub shape: Shape,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
}

/// What the graph calls the dimensions of its tensors, in the signature's order; an empty name where it has none. Equal names stand
/// for equal sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    pub inputs: Vec<Vec<String>>,
    pub outputs: Vec<Vec<String>>,
}

/// A tensor that the graph does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("input `{name}`: expected {expected}, given {given}")]
pub struct SignatureError {
    pub name: String,
    pub expected: String,
    pub given: String,
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.datatype, self.shape)
    }
}

impl TensorSpec {
    /// Type and shape, free dimensions by the names that the graph has for them: `float32[batch, 3]`.
    pub fn named(&self, names: &[String]) -> String {
        format!("{}{}", self.datatype, self.shape.named(names))
    }
}

impl Signature {
    /// The inputs and outputs, each with what `symbols` call its dimensions.
    pub fn sides<'a>(&'a self, symbols: &'a Symbols) -> [Vec<(&'a TensorSpec, &'a [String])>; 2] {
        [
            (&self.inputs, &symbols.inputs),
            (&self.outputs, &symbols.outputs),
        ]
        .map(|(specs, symbols)| {
            let names = symbols
                .iter()
                .map(Vec::as_slice)
                .chain(std::iter::repeat(&[][..]));
            specs.iter().zip(names).collect()
        })
    }

    /// One row of zeros, false and empty texts; free dimensions are 1.
    pub fn zeros(&self) -> Tensors {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => *size,
            Dim::Any | Dim::Rest => 1,
        };
        let tensor = |spec: &TensorSpec| {
            let shape: Vec<usize> = spec.shape.0.iter().map(size).collect();
            let elements = shape.iter().product();
            Tensor::new(shape, Data::zeros(spec.datatype, elements))
        };
        Tensors(
            self.inputs
                .iter()
                .filter_map(|spec| Some((Arc::clone(&spec.name), tensor(spec)?)))
                .collect(),
        )
    }

    pub fn output(&self, name: &str) -> Option<&TensorSpec> {
        self.outputs.iter().find(|spec| &*spec.name == name)
    }

    /// Names, order, types and shapes.
    pub fn check_inputs(&self, tensors: &Tensors) -> Result<(), SignatureError> {
        let wrong = |name: &str, expected: String, given: String| {
            Err(SignatureError {
                name: name.to_owned(),
                expected,
                given,
            })
        };
        for (index, spec) in self.inputs.iter().enumerate() {
            match tensors.0.get(index) {
                Some((name, tensor)) if *name == spec.name => {
                    if tensor.datatype() != spec.datatype || !spec.shape.fits(tensor.shape()) {
                        return wrong(
                            &spec.name,
                            spec.to_string(),
                            format!("{}{:?}", tensor.datatype(), tensor.shape()),
                        );
                    }
                }
                _ => return wrong(&spec.name, spec.to_string(), "nothing".to_owned()),
            }
        }
        match tensors.0.get(self.inputs.len()) {
            Some((name, _)) => wrong(name, "no such input".to_owned(), "a tensor".to_owned()),
            None => Ok(()),
        }
    }

    /// Whether rows of several requests could share a run: every input and output has a free leading dimension. Exporters write
    /// a 1 there for outputs that have a row for each all the same; `keeps` are outputs that are known to.
    ///
    /// # Errors
    /// What has none.
    pub fn check_rows(&self, keeps: impl Fn(&str) -> bool) -> Result<(), String> {
        let input = self
            .inputs
            .iter()
            .find(|spec| !spec.shape.has_batch_axis())
            .map(|spec| ("input", spec));
        let output = self
            .outputs
            .iter()
            .find(|spec| !spec.shape.has_batch_axis() && !keeps(&spec.name))
            .map(|spec| ("output", spec));
        match input.or(output) {
            _ if self.inputs.is_empty() => Err("the graph has no input".to_owned()),
            Some((side, spec)) => Err(format!(
                "{side} \"{}\" of the graph has no free leading dimension: {spec}",
                spec.name
            )),
            None => Ok(()),
        }
    }
}
