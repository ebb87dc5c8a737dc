//! The fields of a package as tensors: one input per field of the schema, and one output per field
//! of the response.

mod inputs;
mod named_tensor;

pub use self::{
    inputs::{FieldsError, decode, inputs},
    named_tensor::{Labels, NamedTensor, RaggedOutput, score_name, tensors},
};
