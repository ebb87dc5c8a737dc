//! Security: who may do what.

pub mod tokens;
