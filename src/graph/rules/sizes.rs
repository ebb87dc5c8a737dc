//! Arithmetic on sizes. Exporters write it into the graph to keep dimensions dynamic.

use std::rc::Rc;

use crate::{
    graph::{
        flow::{Element, Flow, TracedTensor},
        rules::OperatorCall,
        size::Size,
    },
    tensor::from_end,
};

/// Maximum number of elements of a list of sizes. Longer lists are not shapes. The limit bounds the
/// work for a hostile graph.
pub(super) const MAX_ELEMENTS: usize = 256;

impl OperatorCall<'_, '_> {
    /// The outputs of an operator whose inputs are sizes. `None` means that an input is not a size,
    /// or that this module has no rule for the operator.
    pub(super) fn sizes(&self) -> Option<Vec<TracedTensor>> {
        if !matches!(self.node.domain, "" | "ai.onnx") {
            return None;
        }
        let first = self.optional(0)?;
        if self.node.op == "Shape" {
            return Some(vec![self.shape_of(first)]);
        }
        if self.node.op == "Size" {
            let total = first.dims.as_ref().and_then(Size::product);
            let total = total.map(|size| vec![Element::of_size(&size)]);
            let may_count_rows = first.flow != Flow::Same;
            return Some(vec![list(total, Some(Vec::new()), may_count_rows)]);
        }
        if self
            .inputs
            .iter()
            .flatten()
            .any(|value| !matches!(value.flow, Flow::Same | Flow::RowCount))
        {
            return None;
        }
        let (elements, rank) = self.arithmetic()?;
        let dims = match rank {
            0 => Vec::new(),
            _ => vec![Size::fixed(elements.len() as u64)],
        };
        (elements.len() <= MAX_ELEMENTS).then(|| vec![list(Some(elements), Some(dims), false)])
    }

    /// The elements and the rank of the result, which is a scalar or a list. `None` means that the
    /// result has more dimensions, or may have more.
    fn arithmetic(&self) -> Option<(Vec<Element>, usize)> {
        const INT32: i64 = 6;
        const INT64: i64 = 7;
        let at = |index: usize| Some(self.optional(index)?.elements.as_ref()?.as_slice());
        let rank = |index: usize| self.optional(index)?.rank();
        let (first, rank_of_first) = (at(0)?, rank(0)?);
        // All operands must be scalars or lists. The result is a list if one of them is.
        let widest = || {
            (0..self.inputs.len())
                .map(rank)
                .try_fold(0, |widest, rank| {
                    rank.filter(|rank| *rank <= 1).map(|rank| rank.max(widest))
                })
        };
        let result = match self.node.op {
            "Identity" => (first.to_vec(), rank_of_first),
            // Other types divide differently, or are too small for a size.
            "Cast" if matches!(self.node.int("to"), Some(INT32 | INT64)) => {
                (first.to_vec(), rank_of_first)
            }
            "Unsqueeze" if rank_of_first == 0 && self.axes_given()?.len() == 1 => {
                (first.to_vec(), 1)
            }
            "Squeeze" if rank_of_first == 1 && first.len() == 1 => (first.to_vec(), 0),
            "Reshape" if rank(1)? == 1 => (first.to_vec(), at(1)?.len()),
            "Concat" if (0..self.inputs.len()).all(|index| rank(index) == Some(1)) => {
                let parts = (0..self.inputs.len()).map(at).collect::<Option<Vec<_>>>()?;
                (parts.iter().map(|part| part.len()).sum::<usize>() <= MAX_ELEMENTS)
                    .then(|| (parts.concat(), 1))?
            }
            "Gather" if rank_of_first == 1 => (gather(first, at(1)?)?, rank(1)?),
            "Slice" if rank_of_first == 1 => (self.slice_elements(first)?, 1),
            "ReduceProd" if rank_of_first == 1 => (
                vec![product(first)],
                usize::from(self.node.int("keepdims").unwrap_or(1) != 0),
            ),
            "Add" | "Sub" | "Mul" | "Div" | "Equal" | "Min" | "Max" if self.inputs.len() == 2 => {
                (self.pairs(first, at(1)?)?, widest()?)
            }
            "Where" if self.inputs.len() == 3 => (choose(first, at(1)?, at(2)?)?, widest()?),
            "ConstantOfShape" if rank_of_first == 1 => (self.filled(first)?, first.len()),
            _ => return None,
        };
        (result.1 <= 1).then_some(result)
    }

    /// The axes in an attribute or an input of the node. `None` if they are missing or not known.
    pub(super) fn axes_given(&self) -> Option<Vec<i64>> {
        self.node
            .ints("axes")
            .map(<[i64]>::to_vec)
            .or_else(|| self.optional(1)?.ints())
    }

    fn shape_of(&self, value: &TracedTensor) -> TracedTensor {
        let rank = value.rank();
        let bound = |name: &str, default: usize| match (self.node.int(name), rank) {
            (Some(at), Some(rank)) => usize::try_from(if at < 0 {
                at.saturating_add(rank as i64)
            } else {
                at
            })
            .unwrap_or(0)
            .min(rank),
            _ => default,
        };
        let elements = value.dims.as_ref().and_then(|dims| {
            let (start, end) = (bound("start", 0), bound("end", dims.len()));
            Some(
                dims.get(start..end.max(start))?
                    .iter()
                    .map(Element::of_size)
                    .collect::<Vec<_>>(),
            )
        });
        let dims = elements
            .as_ref()
            .map(|elements| vec![Size::fixed(elements.len() as u64)]);
        list(elements, dims, value.flow != Flow::Same)
    }

    fn slice_elements(&self, list: &[Element]) -> Option<Vec<Element>> {
        let given = |name: &str, index: usize| match self.node.ints(name) {
            Some(ints) => ints.first().copied(),
            None => self.optional(index)?.ints()?.first().copied(),
        };
        // A shape is a list, so axis 0 is its only axis.
        if given("axes", 3).unwrap_or(0) != 0 || given("steps", 4).unwrap_or(1) != 1 {
            return None;
        }
        let length = i64::try_from(list.len()).ok()?;
        let at =
            |name: &str, index: usize| usize::try_from(clamped(given(name, index)?, length)).ok();
        let (start, end) = (at("starts", 1)?, at("ends", 2)?);
        Some(list.get(start..end.max(start))?.to_vec())
    }

    /// Combines two operands of the same length. An operand of one element is combined with each
    /// element of the other.
    fn pairs(&self, a: &[Element], b: &[Element]) -> Option<Vec<Element>> {
        let length = a.len().max(b.len());
        let at = |list: &[Element], index: usize| {
            if list.len() == 1 {
                list.first().cloned()
            } else {
                list.get(index).cloned()
            }
        };
        (0..length)
            .map(|index| Some(combine(self.node.op, &at(a, index)?, &at(b, index)?)))
            .collect()
    }

    fn filled(&self, shape: &[Element]) -> Option<Vec<Element>> {
        let [Element::Int(length)] = shape else {
            return None;
        };
        let length = usize::try_from(*length)
            .ok()
            .filter(|length| *length <= MAX_ELEMENTS)?;
        let value = match self
            .node
            .attributes
            .get("value")
            .and_then(|attribute| attribute.tensor.as_ref())
        {
            Some(tensor) => *tensor.ints.as_ref()?.first()?,
            None => return None,
        };
        Some(vec![Element::Int(value); length])
    }
}

/// A start or end of a slice, limited to a dimension of `length`. A negative number counts from the
/// end.
pub(super) fn clamped(at: i64, length: i64) -> i64 {
    if at < 0 {
        at.saturating_add(length).max(0)
    } else {
        at.min(length)
    }
}

/// A tensor of sizes. `may_count_rows` says whether elements that are not known may depend on the
/// number of rows.
fn list(
    elements: Option<Vec<Element>>,
    dims: Option<Vec<Size>>,
    may_count_rows: bool,
) -> TracedTensor {
    let counts_rows = elements.as_ref().map_or(may_count_rows, |elements| {
        elements.iter().any(Element::depends_on_rows)
    });
    let mut value = TracedTensor::new(
        if counts_rows {
            Flow::RowCount
        } else {
            Flow::Same
        },
        dims,
    );
    value.elements = elements.map(Rc::new);
    value
}

fn gather(list: &[Element], indices: &[Element]) -> Option<Vec<Element>> {
    let pick = |index: &Element| match index {
        Element::Int(index) => list.get(from_end(*index, list.len())?).cloned(),
        _ => None,
    };
    indices.iter().map(pick).collect()
}

fn product(list: &[Element]) -> Element {
    list.iter().fold(Element::Int(1), |product, element| {
        combine("Mul", &product, element)
    })
}

/// The element `a op b`. An unknown result still records whether it depends on the number of rows.
fn combine(op: &str, a: &Element, b: &Element) -> Element {
    let unknown = || {
        if a.depends_on_rows() || b.depends_on_rows() {
            Element::RowCount
        } else {
            Element::Unknown
        }
    };
    // Known numbers are computed like in the runtime. An overflow gives an unknown element.
    if let (Element::Int(a), Element::Int(b)) = (a, b) {
        let number = match op {
            "Add" => a.checked_add(*b),
            "Sub" => a.checked_sub(*b),
            "Mul" => a.checked_mul(*b),
            "Div" if *b != 0 => a.checked_div(*b),
            "Equal" => Some(i64::from(a == b)),
            "Min" => Some(*a.min(b)),
            "Max" => Some(*a.max(b)),
            _ => None,
        };
        return number.map_or(Element::Unknown, Element::Int);
    }
    let of = |size: Option<Size>| size.map_or_else(unknown, |size| Element::of_size(&size));
    match (op, a, b) {
        // A size is never negative.
        ("Equal", Element::Size(_), Element::Int(..=-1))
        | ("Equal", Element::Int(..=-1), Element::Size(_)) => Element::Int(0),
        ("Equal", Element::Size(a), Element::Size(b)) if a == b => Element::Int(1),
        ("Max", size @ Element::Size(_), Element::Int(..=0))
        | ("Max", Element::Int(..=0), size @ Element::Size(_)) => size.clone(),
        ("Add" | "Sub", size, Element::Int(0)) | ("Add", Element::Int(0), size) => size.clone(),
        ("Mul", ..) => of(a.as_size().zip(b.as_size()).and_then(|(a, b)| a.times(&b))),
        ("Div", ..) => of(a.as_size().zip(b.as_size()).and_then(|(a, b)| a.over(&b))),
        _ => unknown(),
    }
}

/// The elements of the result of `Where`.
fn choose(conditions: &[Element], yes: &[Element], no: &[Element]) -> Option<Vec<Element>> {
    let length = conditions.len().max(yes.len()).max(no.len());
    let at = |list: &[Element], index: usize| {
        if list.len() == 1 {
            list.first().cloned()
        } else {
            list.get(index).cloned()
        }
    };
    (0..length)
        .map(|index| match at(conditions, index)? {
            Element::Int(0) => at(no, index),
            Element::Int(_) => at(yes, index),
            _ => None,
        })
        .collect()
}
