//! `Flow`: what the rows of a run have to do with a tensor inside the graph.

use std::rc::Rc;

use crate::graph::size::Size;

/// How a tensor depends on the rows that share a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Flow {
    /// The same for every run: constants, and what follows from sizes that all rows of a run share.
    Same,
    /// Sizes, some of which depend on the number of rows; no value of any row.
    Counts,
    /// The dimension `axis` goes over the rows: as many equal blocks, in their order, each of one row's values alone.
    Rows { axis: usize },
    /// A row's values depend on its neighbours, or nobody knows that they don't.
    Mixed(Rc<Reason>),
}

/// Which operator brings rows together, as far as can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The operator's type.
    pub op: String,
    /// Type and name, for people.
    pub node: String,
    /// What it does, as the end of a sentence that begins with the node.
    pub what: String,
    pub kind: Mixing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixing {
    /// It does bring rows together.
    Proved,
    /// It is not known to keep them apart.
    Unknown,
    /// It takes the dimension of the rows for steps in time.
    Time,
    /// How many values it gives depends on the values: they are no rows.
    Found,
}

/// An element of a small tensor of whole numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Element {
    Int(i64),
    Size(Size),
    /// Not known, but the same for any number of rows.
    Common,
    /// Depends on the number of rows.
    Counted,
}

impl Element {
    pub fn counts(&self) -> bool {
        match self {
            Element::Int(_) | Element::Common => false,
            Element::Size(size) => size.counts(),
            Element::Counted => true,
        }
    }

    /// A number that is known is never a product.
    pub fn of_size(size: &Size) -> Element {
        match size.as_fixed().and_then(|fixed| i64::try_from(fixed).ok()) {
            Some(fixed) => Element::Int(fixed),
            None => Element::Size(size.clone()),
        }
    }

    pub fn as_size(&self) -> Option<Size> {
        match self {
            Element::Int(number) => u64::try_from(*number).ok().map(Size::fixed),
            Element::Size(size) => Some(size.clone()),
            Element::Common | Element::Counted => None,
        }
    }
}

/// A tensor inside the graph.
#[derive(Clone, Debug)]
pub struct Value {
    pub flow: Flow,
    /// `None` where not even the number of dimensions is known.
    pub dims: Option<Vec<Size>>,
    /// Elements of a scalar or a list of whole numbers, where they are known.
    pub elements: Option<Rc<Vec<Element>>>,
    /// The same of a constant of floating-point numbers.
    pub reals: Option<Rc<Vec<f64>>>,
}

impl Value {
    pub fn new(flow: Flow, dims: Option<Vec<Size>>) -> Value {
        Value {
            flow,
            dims,
            elements: None,
            reals: None,
        }
    }

    pub fn rank(&self) -> Option<usize> {
        self.dims.as_ref().map(Vec::len)
    }

    /// The axis that goes over the rows.
    pub fn axis(&self) -> Option<usize> {
        if let Flow::Rows { axis } = self.flow {
            Some(axis)
        } else {
            None
        }
    }

    /// The size of an axis.
    pub fn dim(&self, axis: usize) -> Option<&Size> {
        self.dims.as_ref()?.get(axis)
    }

    /// The rows' axis, counted from the last one.
    pub fn from_right(&self) -> Option<usize> {
        self.rank()?.checked_sub(self.axis()?)
    }

    /// Known whole numbers, all of them.
    pub fn ints(&self) -> Option<Vec<i64>> {
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
