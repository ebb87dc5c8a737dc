//! `Shape`: the dimensions that a graph declares for a tensor. Some dimensions may be dynamic.

use std::fmt;

/// One dimension that a graph declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    /// A dimension of this size.
    Fixed(usize),
    /// A dynamic dimension, which has any size.
    Any,
    /// Any number of further dimensions. It occurs only as the last entry of a shape that the graph
    /// does not declare.
    Rest,
}

impl Dim {
    pub(crate) fn fits(self, size: usize) -> bool {
        match self {
            Dim::Fixed(fixed) => fixed == size,
            Dim::Any | Dim::Rest => true,
        }
    }
}

/// The dimensions that a graph declares for a tensor. Empty for a scalar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(pub Vec<Dim>);

impl Shape {
    /// Whether the first dimension is dynamic, so that the rows of several requests can share a
    /// run.
    pub fn has_batch_axis(&self) -> bool {
        self.0.first() == Some(&Dim::Any)
    }

    pub(crate) fn fits(&self, shape: &[usize]) -> bool {
        fit(&self.0, shape)
    }

    /// The shape of a tensor without a declared shape. Any rank fits, but the runtime may refuse
    /// it.
    pub fn unknown() -> Shape {
        Shape(vec![Dim::Any, Dim::Rest])
    }

    /// Completes the shape of nested lists. A list of length 0 hides the dimensions below it. These
    /// are taken from the declaration.
    #[must_use]
    pub fn completed(&self, mut nested: Vec<usize>) -> Vec<usize> {
        // In any other nesting, all dimensions are visible.
        if nested.last() == Some(&0) {
            let rest = self.0.iter().skip(nested.len());
            nested.extend(rest.map(|dim| if let Dim::Fixed(size) = dim { *size } else { 0 }));
        }
        nested
    }

    /// The dimensions of one row, which are all except the first.
    pub fn row(&self) -> &[Dim] {
        self.0.get(1..).unwrap_or(&[])
    }
}

/// Whether a shape fits declared dimensions.
pub fn fit(dims: &[Dim], sizes: &[usize]) -> bool {
    // `zip` ends with the shorter list, so `Rest` also fits if no dimension follows.
    let open = dims.last() == Some(&Dim::Rest);
    (open || dims.len() == sizes.len()) && dims.iter().zip(sizes).all(|(dim, size)| dim.fits(*size))
}

impl Shape {
    /// The shape as text, with the graph's names for its dynamic dimensions: `[batch, 3]`.
    pub fn named(&self, names: &[String]) -> String {
        let dims = self.0.iter().enumerate().map(|(index, dim)| {
            match (dim, names.get(index).filter(|name| !name.is_empty())) {
                (Dim::Fixed(size), _) => size.to_string(),
                (Dim::Any, Some(name)) => name.clone(),
                (Dim::Any, None) => "-1".to_owned(),
                (Dim::Rest, _) => "...".to_owned(),
            }
        });
        format!("[{}]", dims.collect::<Vec<_>>().join(", "))
    }
}

/// Writes the notation of the Open Inference Protocol: `[-1, 3]`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, dim) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match dim {
                Dim::Fixed(size) => write!(f, "{size}")?,
                Dim::Any => f.write_str("-1")?,
                Dim::Rest => f.write_str("...")?,
            }
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use crate::tensor::{Dim, Shape};

    #[test]
    fn hidden_dimensions_are_taken_from_the_declaration() {
        let shape = Shape(vec![Dim::Any, Dim::Any, Dim::Fixed(4), Dim::Any]);
        for (nested, expected) in [
            (vec![2, 0], vec![2, 0, 4, 0]),
            (vec![0], vec![0, 0, 4, 0]),
            (vec![2, 3], vec![2, 3]),
            (vec![], vec![]),
        ] {
            assert_eq!(shape.completed(nested), expected);
        }
        assert_eq!(Shape(vec![Dim::Any]).completed(vec![2, 0]), [2, 0]);
    }
}
