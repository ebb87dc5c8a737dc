//! Transform: columns to the graph's tensors, and the graph's tensors to the fields of an answer.

mod cast;
mod compile;
pub mod constant;
mod dates;
mod derived;
pub mod fields;
pub mod image;
pub mod outputs;
pub mod plan;
pub mod postprocess;
pub mod preprocess;
pub mod steps;
