//! `ElementIndex`: the place of an element in nested arrays.

use std::fmt;

/// The indices of an element, from the outermost array to the innermost. Empty outside of all
/// arrays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementIndex(pub Vec<usize>);

impl fmt::Display for ElementIndex {
    /// Formats the indices like `[2][0]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|index| write!(f, "[{index}]"))
    }
}
