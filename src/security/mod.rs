//! Access control for operators.

pub(crate) mod tokens;
