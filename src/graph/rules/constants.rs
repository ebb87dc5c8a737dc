//! Rules of operators that create tensors from constants or sizes.

use std::rc::Rc;

use crate::graph::{
    flow::{Element, Flow, Mixing, TracedTensor, constant_tensor},
    rules::{
        OperatorCall, RowEffect, RuleResult, UNKNOWN, shapes::FROM_BATCH, sizes::MAX_ELEMENTS,
    },
    size::Size,
};

impl OperatorCall<'_, '_> {
    pub(super) fn constant(&self) -> RuleResult {
        let attribute = |name: &str| self.node.attributes.get(name);
        if let Some(constant) = attribute("value").and_then(|attribute| attribute.tensor.as_ref()) {
            return Ok(vec![constant_tensor(constant)]);
        }
        let of_ints = |ints: Vec<i64>, dims: Vec<Size>| {
            let mut value = TracedTensor::new(Flow::Same, Some(dims));
            value.elements = Some(Rc::new(ints.into_iter().map(Element::Int).collect()));
            value
        };
        if let Some(int) = self.node.int("value_int") {
            return Ok(vec![of_ints(vec![int], Vec::new())]);
        }
        if let Some(ints) = self
            .node
            .ints("value_ints")
            .filter(|ints| ints.len() <= MAX_ELEMENTS)
        {
            return Ok(vec![of_ints(
                ints.to_vec(),
                vec![Size::fixed(ints.len() as u64)],
            )]);
        }
        if let Some(floats) = attribute("value_floats").map(|attribute| &attribute.floats) {
            let mut value =
                TracedTensor::new(Flow::Same, Some(vec![Size::fixed(floats.len() as u64)]));
            value.reals = Some(Rc::new(floats.iter().map(|x| f64::from(*x)).collect()));
            return Ok(vec![value]);
        }
        if let Some(ints) = self.node.ints("value_ints") {
            return Ok(vec![TracedTensor::new(
                Flow::Same,
                Some(vec![Size::fixed(ints.len() as u64)]),
            )]);
        }
        let dims = (attribute("value_float").is_some() || attribute("value_string").is_some())
            .then(Vec::new);
        Ok(vec![TracedTensor::new(Flow::Same, dims)])
    }

    /// The elements of a shape. `None` if they are not known.
    pub(super) fn target(&self, shape: &TracedTensor) -> Option<Vec<Element>> {
        if matches!(shape.flow, Flow::Rows { .. } | Flow::Mixed(_)) {
            return None;
        }
        shape.elements.as_ref().map(|elements| elements.to_vec())
    }

    /// The sizes in a list of repetitions or in a shape. `None` for an unknown size.
    pub(super) fn sizes_of(&self, value: &TracedTensor) -> Result<Vec<Option<Size>>, RowEffect> {
        let elements = self.target(value).ok_or(UNKNOWN)?;
        if elements.contains(&Element::RowCount) {
            return Err(FROM_BATCH);
        }
        Ok(elements.iter().map(Element::as_size).collect())
    }

    /// Broadcasts to a shape. A shape that contains the number of rows repeats a value for each
    /// row.
    pub(super) fn expand(&self) -> RuleResult {
        let value = self.input(0)?;
        if value.flow == Flow::RowCount {
            return Err(UNKNOWN);
        }
        let sizes = self.sizes_of(self.input(1)?)?;
        let sizes: Vec<Size> = sizes
            .into_iter()
            .map(|size| size.unwrap_or_else(|| self.fresh()))
            .collect();
        // If two dimensions depend on the number of rows, it is not known along which one the rows
        // are.
        let counted = sizes.iter().filter(|size| size.depends_on_rows()).count();
        let flow = match sizes.iter().position(Size::depends_on_rows) {
            None => Flow::Same,
            Some(axis) if counted == 1 => Flow::Rows { axis },
            Some(_) => return Err(FROM_BATCH),
        };
        self.broadcast(&[value, &TracedTensor::new(flow, Some(sizes))])
    }

    pub(super) fn constant_of_shape(&self) -> RuleResult {
        let sizes = self.sizes_of(self.input(0)?)?;
        let dims: Vec<Size> = sizes
            .into_iter()
            .map(|size| size.unwrap_or_else(|| self.fresh()))
            .collect();
        let mut counted = dims
            .iter()
            .enumerate()
            .filter(|(_, size)| size.depends_on_rows());
        let flow = match (counted.next(), counted.next()) {
            (None, _) => Flow::Same,
            // A size with the square of the number of rows has no block per row.
            (Some((axis, size)), None) if size.rows == 1 => Flow::Rows { axis },
            _ => return Err(FROM_BATCH),
        };
        Ok(vec![TracedTensor::new(flow, Some(dims))])
    }

    /// Numbers that are the same for all rows, such as positions.
    pub(super) fn range(&self) -> RuleResult {
        let element = |index: usize| match self.optional(index)?.elements.as_ref()?.as_slice() {
            [element] => Some(element.clone()),
            _ => None,
        };
        if self
            .inputs
            .iter()
            .flatten()
            .any(|value| value.flow != Flow::Same)
        {
            return Err(RowEffect(Mixing::Unknown, "counts the rows"));
        }
        // Only ranges from 0 in steps of 1 have their limit as their length.
        let length = match (element(0), element(1), element(2)) {
            (Some(Element::Int(0)), Some(limit), Some(Element::Int(1))) => limit.as_size(),
            _ => None,
        };
        Ok(vec![TracedTensor::new(
            Flow::Same,
            Some(vec![length.unwrap_or_else(|| self.fresh())]),
        )])
    }
}
