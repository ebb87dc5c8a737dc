//! predictd
pub mod package;
pub mod tensor;
