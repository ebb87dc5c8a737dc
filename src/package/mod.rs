//! A model at rest: the parts of a package, checked before they exist as values.

pub mod columns;
pub mod fault;
