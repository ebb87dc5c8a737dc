//! The ONNX file, read without the runtime: how its graph treats rows, its labels, and the edits
//! that make it servable.

mod analysis;
pub(crate) mod class_labels;
mod control_flow;
mod dimension_names;
pub(crate) mod flow;
pub mod locale;
pub mod model;
mod model_reader;
pub mod row_dimension;
pub(crate) mod row_report;
mod rules;
mod size;
mod walk;
pub mod wire;
pub mod zipmap;

pub use analysis::{GraphAnalysis, Vocabulary};

use crate::graph::class_labels::ClassLabel;

/// A model that is loaded instead of its file, because the runtime can't load the file or can't
/// serve its outputs.
#[derive(Debug)]
pub struct Edited {
    /// The bytes of the edited ONNX model.
    pub model: Vec<u8>,
    /// The outputs whose maps were removed, with the labels of their values.
    pub maps: Vec<(String, Vec<ClassLabel>)>,
}
