//! `Signature`: the input and output tensors of a graph.

use std::{fmt, sync::Arc};

use crate::tensor::{Data, DataType, Dim, Shape, Tensor, Tensors};

/// The name, datatype and shape of an input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// The name in the graph.
    pub name: Arc<str>,
    /// The type of the elements.
    pub datatype: DataType,
    /// The dimensions that the graph declares.
    pub shape: Shape,
}

/// The inputs and outputs that a graph declares, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature {
    /// The input tensors of a run.
    pub inputs: Vec<TensorSpec>,
    /// The output tensors of a run.
    pub outputs: Vec<TensorSpec>,
}

/// The names that a graph gives to the dimensions of its tensors, in the order of the signature. A
/// dimension without a name has an empty one. Dimensions with the same name have the same size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbols {
    /// One list per input, with one name per dimension.
    pub inputs: Vec<Vec<String>>,
    /// One list per output, with one name per dimension.
    pub outputs: Vec<Vec<String>>,
}

/// Why a graph does not accept tensors as its inputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum SignatureError {
    #[error("input `{}`: expected {spec}, got nothing", spec.name)]
    Missing { spec: TensorSpec },
    #[error("input `{}`: expected {spec}, got {datatype}{shape:?}", spec.name)]
    Mismatch {
        spec: TensorSpec,
        datatype: DataType,
        shape: Vec<usize>,
    },
    #[error("input `{name}`: expected no such input, got a tensor")]
    Unknown { name: Arc<str> },
}

/// Why rows of several requests can't share a run of a graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message says what it means")]
pub enum BatchAxisError {
    #[error("the graph has no input")]
    NoInput,
    #[error("input \"{}\" of the graph has no dynamic first dimension: {spec}", spec.name)]
    Input { spec: TensorSpec },
    #[error("output \"{}\" of the graph has no dynamic first dimension: {spec}", spec.name)]
    Output { spec: TensorSpec },
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.datatype, self.shape)
    }
}

impl TensorSpec {
    /// The datatype and shape as text, with the graph's names for its dynamic dimensions:
    /// `float32[batch, 3]`.
    pub fn named(&self, names: &[String]) -> String {
        format!("{}{}", self.datatype, self.shape.named(names))
    }
}

impl Signature {
    /// The inputs and the outputs, each with the names of its dimensions.
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

    /// Inputs that contain zeros, false and empty strings. Dynamic dimensions have the size 1.
    pub fn zeros(&self) -> Tensors {
        let size = |dim: &Dim| match dim {
            Dim::Fixed(size) => *size,
            Dim::Any | Dim::Rest => 1,
        };
        let tensor = |spec: &TensorSpec| {
            let shape: Vec<usize> = spec.shape.0.iter().map(size).collect();
            // Dynamic dimensions are 1, so a request of zeros is as small as the graph allows.
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

    pub(crate) fn output(&self, name: &str) -> Option<&TensorSpec> {
        self.outputs.iter().find(|spec| &*spec.name == name)
    }

    /// Checks the names, the order, the datatypes and the shapes of input tensors.
    pub fn check_inputs(&self, tensors: &Tensors) -> Result<(), SignatureError> {
        for (index, spec) in self.inputs.iter().enumerate() {
            // The tensors are checked by position: the engine binds inputs in the order of the
            // signature.
            match tensors.0.get(index) {
                Some((name, tensor)) if *name == spec.name => {
                    if tensor.datatype() != spec.datatype || !spec.shape.fits(tensor.shape()) {
                        return Err(SignatureError::Mismatch {
                            spec: spec.clone(),
                            datatype: tensor.datatype(),
                            shape: tensor.shape().to_vec(),
                        });
                    }
                }
                _ => return Err(SignatureError::Missing { spec: spec.clone() }),
            }
        }
        match tensors.0.get(self.inputs.len()) {
            Some((name, _)) => Err(SignatureError::Unknown {
                name: Arc::clone(name),
            }),
            None => Ok(()),
        }
    }

    /// Checks that rows of several requests can share a run: every input and output needs a dynamic
    /// first dimension. Exporters declare the size 1 for some outputs that have one row per input
    /// row. `keeps_rows` says whether this is known for an output.
    pub fn check_batch_axes(
        &self,
        keeps_rows: impl Fn(&str) -> bool,
    ) -> Result<(), BatchAxisError> {
        // A graph without inputs computes a constant. It has no rows.
        if self.inputs.is_empty() {
            return Err(BatchAxisError::NoInput);
        }
        let is_fixed = |spec: &&TensorSpec| !spec.shape.has_batch_axis();
        if let Some(spec) = self.inputs.iter().find(is_fixed) {
            return Err(BatchAxisError::Input { spec: spec.clone() });
        }
        let mut outputs = self.outputs.iter().filter(is_fixed);
        match outputs.find(|spec| !keeps_rows(&spec.name)) {
            Some(spec) => Err(BatchAxisError::Output { spec: spec.clone() }),
            None => Ok(()),
        }
    }
}
