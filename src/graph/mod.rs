//! The ONNX file itself, read without the runtime: what its graph does to rows, the labels it holds, and what is cut off it.

pub mod advice;
pub mod flow;
pub mod labels;
pub mod locale;
pub mod model;
pub mod rows;
mod rules;
mod size;
pub mod wire;
pub mod zipmap;
