//! Access control: who may do what.

pub mod tokens;
