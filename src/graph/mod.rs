//! The ONNX file itself, read without the runtime: what its graph does to rows, the labels it holds, and what is cut off it.

mod about;
pub mod flow;
pub mod labels;
pub mod locale;
pub mod model;
pub mod rows;
mod rules;
mod size;
pub mod wire;
pub mod zipmap;

pub use about::{About, Vocabulary};

use crate::graph::labels::Label;

/// A model's file as it is loaded in its own's place.
#[derive(Debug)]
pub struct Edited {
    pub model: Vec<u8>,
    /// The outputs whose maps were cut off, with the labels of their values.
    pub maps: Vec<(String, Vec<Label>)>,
}
