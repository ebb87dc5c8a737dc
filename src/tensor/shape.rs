//! `Shape`: the dimensions a graph declares, some of them free.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    Fixed(usize),
    Any,
    /// Stands last, for any number of further dimensions: the graph declares no shape.
    Rest,
}

impl Dim {
    pub fn fits(self, size: usize) -> bool {
        match self {
            Dim::Fixed(fixed) => fixed == size,
            Dim::Any | Dim::Rest => true,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(pub Vec<Dim>);

impl Shape {
    /// Whether the leading dimension is free, so that rows of several requests can share a run.
    pub fn has_batch_axis(&self) -> bool {
        self.0.first() == Some(&Dim::Any)
    }

    pub fn fits(&self, shape: &[usize]) -> bool {
        fit(&self.0, shape)
    }

    /// No shape is declared: any rank may be right, and the runtime judges.
    pub fn unknown() -> Shape {
        Shape(vec![Dim::Any, Dim::Rest])
    }

    /// A shape that nested lists show: behind a dimension of 0 they show none, and the declared ones follow.
    #[must_use]
    pub fn completed(&self, mut nested: Vec<usize>) -> Vec<usize> {
        if nested.last() == Some(&0) {
            let rest = self.0.iter().skip(nested.len());
            nested.extend(rest.map(|dim| if let Dim::Fixed(size) = dim { *size } else { 0 }));
        }
        nested
    }

    /// The dimensions after the leading one.
    pub fn row(&self) -> &[Dim] {
        self.0.get(1..).unwrap_or(&[])
    }
}

/// Whether sizes are what dimensions allow.
pub fn fit(dims: &[Dim], sizes: &[usize]) -> bool {
    let open = dims.last() == Some(&Dim::Rest);
    (open || dims.len() == sizes.len()) && dims.iter().zip(sizes).all(|(dim, size)| dim.fits(*size))
}

impl Shape {
    /// With the graph's names of its free dimensions, where it has any: `[batch, 3]`.
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

/// Prints as clients know it: `[-1, 3]`.
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
    fn what_nesting_does_not_show_is_declared() {
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
