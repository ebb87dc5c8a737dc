//! From columns to the tensors of a graph, and from the tensors of a graph to the fields of a
//! response.

mod cast;
mod compile;
pub(crate) mod constant;
mod date_parts;
pub(crate) mod declaration;
mod derived;
pub mod field_plan;
mod field_source;
pub mod fields;
pub(crate) mod image;
pub mod outputs;
pub mod postprocess;
pub mod preprocess;
pub(crate) mod row_fault;
pub(crate) mod steps;
mod table_column;
