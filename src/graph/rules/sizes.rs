//! Sizes: arithmetic of shapes, which exporters write into the graph to keep dimensions free.

use std::rc::Rc;

use crate::{
    graph::{
        flow::{Element, Flow, Value},
        rules::Call,
        size::Size,
    },
    tensor::from_end,
};

/// Longer lists are no shapes.
const MAX_ELEMENTS: usize = 256;

impl Call<'_, '_> {
    /// The outputs where the operator works on sizes; `None` where it works on anything else, or not in a way known here.
    pub(super) fn sizes(&self) -> Option<Vec<Value>> {
        if !matches!(self.node.domain, "" | "ai.onnx") {
            return None;
        }
        let first = self.optional(0)?;
        match self.node.op {
            "Shape" => return Some(vec![self.shape_of(first)]),
            "Size" => {
                let total = first.dims.as_ref().and_then(Size::product).map(|size| vec![Element::of_size(&size)]);
                return Some(vec![list(total, Some(Vec::new()), first.axis().is_some())]);
            }
            _ => {}
        }
        if self.inputs.iter().flatten().any(|value| !matches!(value.flow, Flow::Same | Flow::Counts)) {
            return None;
        }
        let elements: Vec<Option<&[Element]>> =
            self.inputs.iter().map(|value| Some(value.as_ref()?.elements.as_ref()?.as_slice())).collect();
        let at = |index: usize| elements.get(index).copied().flatten();
        let scalar = first.rank() == Some(0);
        let (result, is_scalar) = match self.node.op {
            "Cast" | "Identity" => (at(0)?.to_vec(), scalar),
            "Unsqueeze" if scalar => (at(0)?.to_vec(), false),
            "Squeeze" if at(0)?.len() == 1 => (at(0)?.to_vec(), true),
            "Reshape" => (at(0)?.to_vec(), at(1)?.is_empty()),
            "Flatten" => return None,
            "Concat" => (elements.iter().copied().collect::<Option<Vec<_>>>()?.concat(), false),
            "Gather" => (gather(at(0)?, at(1)?)?, self.optional(1)?.rank() == Some(0)),
            "Slice" => (self.slice_elements(at(0)?)?, false),
            "ReduceProd" => (vec![product(at(0)?)], self.node.int("keepdims").unwrap_or(1) == 0),
            "Add" | "Sub" | "Mul" | "Div" | "Equal" | "Min" | "Max" => {
                let (a, b) = (at(0)?, at(1)?);
                (self.pairs(a, b)?, scalar && self.optional(1)?.rank() == Some(0))
            }
            "Where" => (choose(at(0)?, at(1)?, at(2)?)?, false),
            "ConstantOfShape" => (self.filled(at(0)?)?, false),
            _ => return None,
        };
        if result.len() > MAX_ELEMENTS {
            return None;
        }
        let dims = if is_scalar { Vec::new() } else { vec![Size::fixed(result.len() as u64)] };
        // More dimensions than one hold no shape.
        let flat = self.inputs.iter().flatten().all(|value| value.rank().is_none_or(|rank| rank <= 1)) || self.node.op == "Reshape";
        if !flat || self.node.op == "Reshape" && at(1)?.len() > 1 {
            return None;
        }
        Some(vec![list(Some(result), Some(dims), false)])
    }

    fn shape_of(&self, value: &Value) -> Value {
        let rank = value.rank();
        let bound = |name: &str, default: usize| match (self.node.int(name), rank) {
            (Some(at), Some(rank)) => usize::try_from(if at < 0 { at.saturating_add(rank as i64) } else { at }).unwrap_or(0).min(rank),
            _ => default,
        };
        let elements = value.dims.as_ref().and_then(|dims| {
            let (start, end) = (bound("start", 0), bound("end", dims.len()));
            Some(dims.get(start..end.max(start))?.iter().map(Element::of_size).collect::<Vec<_>>())
        });
        let dims = elements.as_ref().map(|elements| vec![Size::fixed(elements.len() as u64)]);
        list(elements, dims, value.axis().is_some() || value.flow == Flow::Counts)
    }

    fn slice_elements(&self, list: &[Element]) -> Option<Vec<Element>> {
        let given = |name: &str, index: usize| match self.node.ints(name) {
            Some(ints) => ints.first().copied(),
            None => self.optional(index)?.ints()?.first().copied(),
        };
        if given("axes", 3).unwrap_or(0) != 0 || given("steps", 4).unwrap_or(1) != 1 {
            return None;
        }
        let length = i64::try_from(list.len()).ok()?;
        let clamp = |at: i64| usize::try_from(if at < 0 { at.saturating_add(length).max(0) } else { at.min(length) }).ok();
        let (start, end) = (clamp(given("starts", 1)?)?, clamp(given("ends", 2)?)?);
        Some(list.get(start..end.max(start))?.to_vec())
    }

    /// Operands of one length, or one of them a single number.
    fn pairs(&self, a: &[Element], b: &[Element]) -> Option<Vec<Element>> {
        let length = a.len().max(b.len());
        let at = |list: &[Element], index: usize| if list.len() == 1 { list.first().cloned() } else { list.get(index).cloned() };
        (0..length).map(|index| Some(combine(self.node.op, &at(a, index)?, &at(b, index)?))).collect()
    }

    fn filled(&self, shape: &[Element]) -> Option<Vec<Element>> {
        let [Element::Int(length)] = shape else { return None };
        let length = usize::try_from(*length).ok().filter(|length| *length <= MAX_ELEMENTS)?;
        let value = match self.node.attributes.get("value").and_then(|attribute| attribute.tensor.as_ref()) {
            Some(tensor) => *tensor.ints.as_ref()?.first()?,
            None => return None,
        };
        Some(vec![Element::Int(value); length])
    }
}

/// A tensor of sizes; `counts`: some depend on the number of rows though they are not known.
fn list(elements: Option<Vec<Element>>, dims: Option<Vec<Size>>, counts: bool) -> Value {
    let counted = elements.as_ref().map_or(counts, |elements| elements.iter().any(Element::counts));
    let mut value = Value::new(if counted { Flow::Counts } else { Flow::Same }, dims);
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
    list.iter().fold(Element::Int(1), |product, element| combine("Mul", &product, element))
}

fn combine(op: &str, a: &Element, b: &Element) -> Element {
    let unknown = || if a.counts() || b.counts() { Element::Counted } else { Element::Common };
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
        return number.map_or(Element::Common, Element::Int);
    }
    let of = |size: Option<Size>| size.map_or_else(unknown, |size| Element::of_size(&size));
    match (op, a, b) {
        // A size is never below 1 here.
        ("Equal", Element::Size(_), Element::Int(..=0)) | ("Equal", Element::Int(..=0), Element::Size(_)) => Element::Int(0),
        ("Equal", Element::Size(a), Element::Size(b)) if a == b => Element::Int(1),
        ("Max", size @ Element::Size(_), Element::Int(..=1)) | ("Max", Element::Int(..=1), size @ Element::Size(_)) => size.clone(),
        ("Add" | "Sub", size, Element::Int(0)) | ("Add", Element::Int(0), size) => size.clone(),
        ("Mul", ..) => of(a.as_size().zip(b.as_size()).and_then(|(a, b)| a.times(&b))),
        ("Div", ..) => of(a.as_size().zip(b.as_size()).and_then(|(a, b)| a.over(&b))),
        _ => unknown(),
    }
}

fn choose(conditions: &[Element], yes: &[Element], no: &[Element]) -> Option<Vec<Element>> {
    let length = conditions.len().max(yes.len()).max(no.len());
    let at = |list: &[Element], index: usize| if list.len() == 1 { list.first().cloned() } else { list.get(index).cloned() };
    (0..length)
        .map(|index| match at(conditions, index)? {
            Element::Int(0) => at(no, index),
            Element::Int(_) => at(yes, index),
            _ => None,
        })
        .collect()
}
