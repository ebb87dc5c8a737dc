//! From columns to the tensors of a graph, and from the tensors of a graph to the fields of a
//! response.

mod cast;
mod compile;
pub mod constant;
mod date_parts;
pub mod declaration;
mod derived;
pub mod field_plan;
pub mod fields;
pub mod image;
pub mod outputs;
pub mod postprocess;
pub mod preprocess;
pub mod row_fault;
pub mod steps;
mod table_column;
