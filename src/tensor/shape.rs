//! `Shape`: the dimensions a graph declares, some of them free.

use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    Fixed(usize),
    Any,
}

impl Dim {
    pub fn fits(self, size: usize) -> bool {
        match self {
            Dim::Fixed(fixed) => fixed == size,
            Dim::Any => true,
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
        self.0.len() == shape.len() && self.0.iter().zip(shape).all(|(dim, size)| dim.fits(*size))
    }

    /// The dimensions after the leading one.
    pub fn row(&self) -> &[Dim] {
        self.0.get(1..).unwrap_or(&[])
    }
}

impl Shape {
    /// With the graph's names of its free dimensions, where it has any: `[batch, 3]`.
    pub fn named(&self, names: &[String]) -> String {
        let dims = self.0.iter().enumerate().map(|(index, dim)| match (dim, names.get(index).filter(|name| !name.is_empty())) {
            (Dim::Fixed(size), _) => size.to_string(),
            (Dim::Any, Some(name)) => name.clone(),
            (Dim::Any, None) => "-1".to_owned(),
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
            }
        }
        f.write_str("]")
    }
}
