//! `Flow`: how a tensor inside the graph depends on the rows of a run.

use std::rc::Rc;

use crate::graph::{
    model::{Constant, GraphNode},
    size::Size,
};

/// How a tensor depends on the rows that share a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Flow {
    /// The tensor is the same for every run: a constant, or values that depend only on sizes that
    /// all rows share.
    Same,
    /// The tensor contains sizes that depend on the number of rows, but not on the values of a row.
    RowCount,
    /// The rows are along the dimension `axis`: one block per row, in the order of the rows. Each
    /// block depends only on its row.
    Rows { axis: usize },
    /// The values of a row depend on other rows, or are not proved to be independent of them.
    Mixed(Rc<MixingReason>),
}

/// An operator that mixes rows, or may mix them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MixingReason {
    /// The operator's type.
    pub op: String,
    /// The type and the name of the node, for messages.
    pub node: String,
    /// The effect of the operator, as the end of a sentence that begins with the node.
    pub effect: String,
    pub kind: Mixing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixing {
    /// The operator mixes rows.
    Proved,
    /// The operator is not known to keep rows apart.
    Unknown,
    /// The operator treats the dimension of rows as time steps.
    TimeSteps,
    /// The number of output values depends on the values of the input, so the output values are not
    /// rows.
    DataDependent,
}

/// An element of a small integer tensor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Element {
    Int(i64),
    Size(Size),
    /// The value is not known, but it is independent of the number of rows.
    Unknown,
    /// The value is not known, and it depends on the number of rows.
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

    /// The element for a size. A known size becomes a number, so that equal elements compare as
    /// equal.
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
    /// The sizes of the dimensions. `None` means that not even their number is known.
    pub dims: Option<Vec<Size>>,
    /// The elements of an integer scalar or list. `None` means that they are not known.
    pub elements: Option<Rc<Vec<Element>>>,
    /// The elements of a small floating-point constant. `None` for any other tensor.
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

    /// The index of the dimension of rows. `None` for a tensor without rows.
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

    /// The position of the dimension of rows, counted from the last dimension, which has position
    /// 1.
    pub(crate) fn position_from_right(&self) -> Option<usize> {
        self.rank()?.checked_sub(self.axis()?)
    }

    /// The elements as integers. `None` if an element is not a known number.
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

/// The flow of the outputs of a node that mixes rows, or may mix them.
pub(super) fn mixed(node: &GraphNode<'_>, kind: Mixing, effect: &str) -> Flow {
    Flow::Mixed(Rc::new(MixingReason {
        op: node.op.to_owned(),
        node: node.describe(),
        effect: effect.to_owned(),
        kind,
    }))
}

/// The tensor of a constant in the file.
pub(super) fn constant_tensor(constant: &Constant<'_>) -> TracedTensor {
    let dims = constant
        .dims
        .iter()
        .map(|dim| u64::try_from(*dim).ok().map(Size::fixed))
        .collect();
    TracedTensor {
        flow: Flow::Same,
        dims,
        elements: constant
            .ints
            .as_ref()
            .map(|ints| Rc::new(ints.iter().map(|int| Element::Int(*int)).collect())),
        reals: constant.reals.clone().map(Rc::new),
    }
}
