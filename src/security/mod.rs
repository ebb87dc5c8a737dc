//! Access control: who may do what.

pub(crate) mod tokens;
