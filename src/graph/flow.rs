//! `Flow`: how a tensor inside the graph depends on the rows of a run.

use std::rc::Rc;

use crate::graph::size::Size;

/// How a tensor depends on the rows that share a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Flow {
    /// The same for every run: constants, and values that depend only on sizes that all rows share.
    Same,
    /// Sizes that depend on the number of rows, and on no value of a row.
    RowCount,
    /// The dimension `axis` has the rows: one block for each row, in their order. Each block
    /// depends on its row only.
    Rows { axis: usize },
    /// A row's values depend on other rows, or are not proved to be independent of them.
    Mixed(Rc<MixingReason>),
}

/// The operator that mixes rows, or may mix them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MixingReason {
    /// The operator's type.
    pub op: String,
    /// Type and name, for people.
    pub node: String,
    /// Its effect, as the end of a sentence that begins with the node.
    pub effect: String,
    pub kind: Mixing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixing {
    /// It mixes rows.
    Proved,
    /// It is not known to keep them apart.
    Unknown,
    /// It treats the dimension of rows as time steps.
    TimeSteps,
    /// The number of its values depends on the values, so they are no rows.
    DataDependent,
}

/// An element of a small tensor of whole numbers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Element {
    Int(i64),
    Size(Size),
    /// Not known, but independent of the number of rows.
    Unknown,
    /// Not known, and depends on the number of rows.
    RowCount,
}

impl Element {
    /// Whether the element depends on the number of rows.
    pub(crate) fn depends_on_rows(&self) -> bool {
        match self {
            Element::Int(_) | Element::Unknown => false,
            Element::Size(size) => size.depends_on_rows(),
            Element::RowCount => true,
        }
    }

    /// The element for a size. A known size becomes a number, so that equal elements compare equal.
    pub(crate) fn of_size(size: &Size) -> Element {
        match size.as_fixed().and_then(|fixed| i64::try_from(fixed).ok()) {
            Some(fixed) => Element::Int(fixed),
            None => Element::Size(size.clone()),
        }
    }

    pub(crate) fn as_size(&self) -> Option<Size> {
        match self {
            Element::Int(number) => u64::try_from(*number).ok().map(Size::fixed),
            Element::Size(size) => Some(size.clone()),
            Element::Unknown | Element::RowCount => None,
        }
    }
}

/// A tensor inside the graph.
#[derive(Clone, Debug)]
pub(crate) struct TracedTensor {
    pub flow: Flow,
    /// `None` means that not even the number of dimensions is known.
    pub dims: Option<Vec<Size>>,
    /// The elements of a scalar or list of whole numbers, if they are known.
    pub elements: Option<Rc<Vec<Element>>>,
    /// The elements of a constant of floating-point numbers, if it is small.
    pub reals: Option<Rc<Vec<f64>>>,
}

impl TracedTensor {
    pub(crate) fn new(flow: Flow, dims: Option<Vec<Size>>) -> TracedTensor {
        TracedTensor {
            flow,
            dims,
            elements: None,
            reals: None,
        }
    }

    pub(crate) fn rank(&self) -> Option<usize> {
        self.dims.as_ref().map(Vec::len)
    }

    /// The dimension of rows.
    pub(crate) fn axis(&self) -> Option<usize> {
        if let Flow::Rows { axis } = self.flow {
            Some(axis)
        } else {
            None
        }
    }

    /// The size of an axis.
    pub(crate) fn dim(&self, axis: usize) -> Option<&Size> {
        self.dims.as_ref()?.get(axis)
    }

    /// The dimension of rows, counted from the last one, which is 1.
    pub(crate) fn position_from_right(&self) -> Option<usize> {
        self.rank()?.checked_sub(self.axis()?)
    }

    /// The elements, if all of them are known numbers.
    pub(crate) fn ints(&self) -> Option<Vec<i64>> {
        let number = |element: &Element| {
            if let Element::Int(number) = element {
                Some(*number)
            } else {
                None
            }
        };
        self.elements.as_ref()?.iter().map(number).collect()
    }
}
