//! Shapes: operators that move values about and compute nothing. Rows stay apart where each row's
//! block stays whole.

use crate::{
    graph::{
        flow::{Element, Flow, Mixing, TracedTensor},
        rules::{
            OperatorCall, RuleResult, UNKNOWN,
            sizes::{MAX_ELEMENTS, clamped},
        },
        size::Size,
    },
    tensor::from_end,
};

const FROM_BATCH: (Mixing, &str) = (
    Mixing::Unknown,
    "takes a shape from the batch that does not keep each row's values together",
);

impl OperatorCall<'_, '_> {
    pub(super) fn shape(&self) -> Option<RuleResult> {
        Some(match self.node.op {
            "Reshape" => self.reshape(),
            "Flatten" => self.flatten(),
            "Transpose" => self.transpose(),
            "Squeeze" => self.squeeze(),
            "Unsqueeze" => self.unsqueeze(),
            "Concat" => self.concat(),
            "Split" => self.split(),
            "Slice" => self.slice(),
            "Pad" => self.pad(),
            "Tile" => self.tile(),
            "Expand" => self.expand(),
            "ConstantOfShape" => self.constant_of_shape(),
            "Trilu" => self.trilu(),
            "OneHot" => self.one_hot(),
            "Constant" => self.constant(),
            "Range" => self.range(),
            "EyeLike" => Err(UNKNOWN),
            _ => return None,
        })
    }

    fn constant(&self) -> RuleResult {
        let attribute = |name: &str| self.node.attributes.get(name);
        if let Some(constant) = attribute("value").and_then(|attribute| attribute.tensor.as_ref()) {
            return Ok(vec![crate::graph::walk::constant_tensor(constant)]);
        }
        let of_ints = |ints: Vec<i64>, dims: Vec<Size>| {
            let mut value = TracedTensor::new(Flow::Same, Some(dims));
            value.elements = Some(std::rc::Rc::new(
                ints.into_iter().map(Element::Int).collect(),
            ));
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
            value.reals = Some(std::rc::Rc::new(
                floats.iter().map(|x| f64::from(*x)).collect(),
            ));
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

    /// The sizes that a shape's elements stand for; those not known are sizes of their own.
    fn target(&self, shape: &TracedTensor) -> Option<Vec<Element>> {
        if matches!(shape.flow, Flow::Rows { .. } | Flow::Mixed(_)) {
            return None;
        }
        shape.elements.as_ref().map(|elements| elements.to_vec())
    }

    fn reshape(&self) -> RuleResult {
        let value = self.input(0)?;
        let target = match self.optional(1) {
            Some(shape) => self.target(shape).ok_or(FROM_BATCH)?,
            None => self
                .node
                .ints("shape")
                .ok_or(UNKNOWN)?
                .iter()
                .map(|size| Element::Int(*size))
                .collect(),
        };
        let zero_is_size = self.node.int("allowzero").unwrap_or(0) != 0;
        let mut dims: Vec<Option<Size>> = Vec::with_capacity(target.len());
        let mut rest = None;
        for (index, element) in target.iter().enumerate() {
            dims.push(match element {
                Element::Int(0) if !zero_is_size => Some(value.dim(index).cloned().ok_or(UNKNOWN)?),
                Element::Int(-1) if rest.is_none() => {
                    rest = Some(index);
                    None
                }
                Element::Int(size) => Some(Size::fixed(u64::try_from(*size).map_err(|_| UNKNOWN)?)),
                Element::Size(size) => Some(size.clone()),
                Element::Unknown => Some(self.fresh()),
                Element::RowCount => return Err(FROM_BATCH),
            });
        }
        let total = value.dims.as_ref().and_then(Size::product);
        if let Some(rest) = rest {
            let others = Size::product(dims.iter().flatten());
            let own = total
                .as_ref()
                .zip(others.as_ref())
                .and_then(|(total, others)| total.over(others));
            // What is left over can't depend on the number of rows where another dimension has
            // taken them up.
            let taken = dims.iter().flatten().any(Size::depends_on_rows);
            let size = match own {
                Some(size) => size,
                None if taken || value.axis().is_none() => self.fresh(),
                None => return Err(FROM_BATCH),
            };
            if let Some(dim) = dims.get_mut(rest) {
                *dim = Some(size);
            }
        }
        let dims: Vec<Size> = dims.into_iter().flatten().collect();
        let flow = match value.axis() {
            None => value.flow.clone(),
            Some(axis) => Flow::Rows {
                axis: self.rows_after(value, axis, &dims).ok_or(FROM_BATCH)?,
            },
        };
        if value.axis().is_none() && dims.iter().any(Size::depends_on_rows) {
            return Err(FROM_BATCH);
        }
        let mut reshaped = TracedTensor::new(flow, Some(dims));
        reshaped.elements.clone_from(&value.elements);
        Ok(vec![reshaped])
    }

    /// The axis that goes over the rows after the same values, in the same order, got other
    /// dimensions: all before it are as many as before, and it is a multiple of the number of rows.
    fn rows_after(&self, value: &TracedTensor, axis: usize, dims: &[Size]) -> Option<usize> {
        let before = Size::product(value.dims.as_ref()?.get(..axis)?)?;
        let found = dims.iter().position(Size::depends_on_rows)?;
        let apart = dims.iter().filter(|size| size.depends_on_rows()).count() == 1
            && dims.get(found)?.rows == 1;
        (apart && Size::product(dims.get(..found)?)? == before).then_some(found)
    }

    fn flatten(&self) -> RuleResult {
        let value = self.input(0)?;
        let rank = self.rank(value)?;
        let axis = self.node.int("axis").unwrap_or(1);
        let axis = if axis == rank as i64 {
            rank
        } else {
            from_end(axis, rank).ok_or(UNKNOWN)?
        };
        let sizes = value.dims.as_deref().unwrap_or_default();
        let product = |range: Option<&[Size]>| range.and_then(Size::product).ok_or(UNKNOWN);
        let dims = vec![product(sizes.get(..axis))?, product(sizes.get(axis..))?];
        let flow = match value.axis() {
            None => value.flow.clone(),
            Some(rows) => Flow::Rows {
                axis: self.rows_after(value, rows, &dims).ok_or(FROM_BATCH)?,
            },
        };
        Ok(vec![TracedTensor::new(flow, Some(dims))])
    }

    fn transpose(&self) -> RuleResult {
        let value = self.input(0)?;
        let rank = self.rank(value)?;
        let order: Vec<usize> = match self.node.ints("perm") {
            Some(order) => order
                .iter()
                .map(|axis| from_end(*axis, rank))
                .collect::<Option<_>>()
                .ok_or(UNKNOWN)?,
            None => (0..rank).rev().collect(),
        };
        let dims: Option<Vec<Size>> = order.iter().map(|axis| value.dim(*axis).cloned()).collect();
        let flow = match value.axis() {
            None => value.flow.clone(),
            Some(rows) => Flow::Rows {
                axis: order.iter().position(|axis| *axis == rows).ok_or(UNKNOWN)?,
            },
        };
        Ok(vec![TracedTensor::new(flow, Some(dims.ok_or(UNKNOWN)?))])
    }

    /// Axes of an attribute or of an input.
    fn axes(&self, rank: usize) -> Result<Option<Vec<usize>>, (Mixing, &'static str)> {
        if self.node.ints("axes").is_none() && self.optional(1).is_none() {
            return Ok(None);
        }
        let axes = self.axes_given().ok_or(UNKNOWN)?;
        axes.iter()
            .map(|axis| from_end(*axis, rank))
            .collect::<Option<Vec<usize>>>()
            .map(Some)
            .ok_or(UNKNOWN)
    }

    fn squeeze(&self) -> RuleResult {
        let value = self.input(0)?;
        let Some(axes) = self.axes(self.rank(value)?)? else {
            return Err((
                Mixing::Unknown,
                "drops every dimension of one, and so that of the rows where there is one row",
            ));
        };
        if value.axis().is_some_and(|rows| axes.contains(&rows)) {
            return Err((Mixing::Unknown, "drops the dimension of the rows"));
        }
        self.reduced(value, &axes, false)
    }

    fn unsqueeze(&self) -> RuleResult {
        let value = self.input(0)?;
        let rank = self.rank(value)?;
        let count = self.axes_given().ok_or(UNKNOWN)?.len();
        let axes = self.axes(rank + count)?.ok_or(UNKNOWN)?;
        let mut old = value.dims.iter().flatten().cloned();
        let (mut dims, mut rows) = (Vec::with_capacity(rank + count), None);
        let mut seen = 0;
        for axis in 0..rank + count {
            if axes.contains(&axis) {
                dims.push(Size::fixed(1));
                continue;
            }
            if value.axis() == Some(seen) {
                rows = Some(axis);
            }
            seen += 1;
            dims.push(old.next().ok_or(UNKNOWN)?);
        }
        let flow = rows.map_or_else(|| value.flow.clone(), |axis| Flow::Rows { axis });
        Ok(vec![TracedTensor::new(flow, Some(dims))])
    }

    fn concat(&self) -> RuleResult {
        let values: Vec<&TracedTensor> = self.inputs.iter().flatten().collect();
        let first = *values.first().ok_or(UNKNOWN)?;
        let rank = self.rank(first)?;
        let axis = self.axis(first, 1)?;
        let (mut rows, mut own): (Option<usize>, Option<&Size>) = (None, None);
        for value in &values {
            match &value.flow {
                Flow::Rows { axis: along } if *along == axis => {
                    return Err((Mixing::Unknown, "puts rows behind other rows"));
                }
                Flow::Rows { axis: along } => {
                    let size = value.dim(*along);
                    if rows.is_some_and(|known| known != *along)
                        || own.is_some() && own != size
                        || size.is_none()
                    {
                        return Err(UNKNOWN);
                    }
                    (rows, own) = (Some(*along), size);
                }
                Flow::Same => {}
                Flow::RowCount | Flow::Mixed(_) => return Err(UNKNOWN),
            }
        }
        if rows.is_some() && values.iter().any(|value| value.flow == Flow::Same) {
            return Err((
                Mixing::Unknown,
                "puts a constant beside rows, which fits one number of rows only",
            ));
        }
        let mut dims = Vec::with_capacity(rank);
        for index in 0..rank {
            if index == axis {
                let fixed: Option<u64> = values
                    .iter()
                    .map(|value| value.dim(index)?.as_fixed())
                    .sum();
                dims.push(fixed.map_or_else(|| self.fresh(), Size::fixed));
            } else {
                dims.push(first.dim(index).cloned().ok_or(UNKNOWN)?);
            }
        }
        Ok(vec![TracedTensor::new(
            rows.map_or(Flow::Same, |axis| Flow::Rows { axis }),
            Some(dims),
        )])
    }

    fn split(&self) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        let axis = self.axis(value, 0)?;
        if value.axis() == Some(axis) {
            return Err((Mixing::Unknown, "cuts through the rows"));
        }
        let sizes = self
            .node
            .ints("split")
            .map(<[i64]>::to_vec)
            .or_else(|| self.optional(1)?.ints());
        let count = self.node.outputs.len();
        let told = self.node.ints("split").is_some() || self.optional(1).is_some();
        let even = value
            .dim(axis)
            .and_then(Size::as_fixed)
            .filter(|size| !told && count > 0 && size.is_multiple_of(count as u64));
        let mut values = Vec::with_capacity(count);
        for index in 0..count {
            let mut dims = value.dims.clone().ok_or(UNKNOWN)?;
            let size = sizes
                .as_ref()
                .map(|sizes| sizes.get(index).and_then(|size| u64::try_from(*size).ok()));
            let size = size.unwrap_or_else(|| even.map(|size| size / count as u64));
            *dims.get_mut(axis).ok_or(UNKNOWN)? = size.map_or_else(|| self.fresh(), Size::fixed);
            values.push(TracedTensor::new(value.flow.clone(), Some(dims)));
        }
        Ok(values)
    }

    fn slice(&self) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        let rank = self.rank(value)?;
        let given = |name: &str, index: usize| match self.node.ints(name) {
            Some(list) => Some(list.to_vec()),
            None => self.optional(index)?.ints(),
        };
        let axes = match (self.node.ints("axes"), self.optional(3)) {
            (None, None) => {
                let count = given("starts", 1)
                    .map(|starts| starts.len())
                    .or_else(|| self.optional(1)?.dim(0)?.as_fixed().map(|n| n as usize));
                (0..count.filter(|count| *count <= rank).ok_or(UNKNOWN)? as i64).collect()
            }
            _ => given("axes", 3).ok_or(UNKNOWN)?,
        };
        let (starts, ends, steps) = (given("starts", 1), given("ends", 2), given("steps", 4));
        let mut dims = value.dims.clone().ok_or(UNKNOWN)?;
        for (index, axis) in axes.iter().enumerate() {
            let axis = from_end(*axis, rank).ok_or(UNKNOWN)?;
            let at =
                |list: &Option<Vec<i64>>| list.as_ref().and_then(|list| list.get(index).copied());
            let (start, end) = (at(&starts), at(&ends));
            let step = if self.optional(4).is_some() || self.node.ints("steps").is_some() {
                at(&steps)
            } else {
                Some(1)
            };
            if start == Some(0)
                && step == Some(1)
                && end.is_some_and(|end| end >= i64::from(i32::MAX))
            {
                continue;
            }
            if value.axis() == Some(axis) {
                return Err((Mixing::Unknown, "takes some of the rows"));
            }
            let length = dims
                .get(axis)
                .and_then(Size::as_fixed)
                .and_then(|size| i64::try_from(size).ok());
            let size = match (length, start, end, step) {
                (Some(length), Some(start), Some(end), Some(1)) => {
                    Some(u64::try_from(clamped(end, length) - clamped(start, length)).unwrap_or(0))
                }
                _ => None,
            };
            *dims.get_mut(axis).ok_or(UNKNOWN)? = size.map_or_else(|| self.fresh(), Size::fixed);
        }
        Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))])
    }

    fn pad(&self) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        let rank = self.rank(value)?;
        let pads = match self.node.ints("pads") {
            Some(pads) => pads.to_vec(),
            None => self.input(1)?.ints().ok_or(UNKNOWN)?,
        };
        let axes: Vec<usize> = match self.optional(3) {
            Some(axes) => axes
                .ints()
                .ok_or(UNKNOWN)?
                .iter()
                .map(|axis| from_end(*axis, rank))
                .collect::<Option<_>>()
                .ok_or(UNKNOWN)?,
            None => (0..rank).collect(),
        };
        let mut dims = value.dims.clone().ok_or(UNKNOWN)?;
        for (index, axis) in axes.iter().enumerate() {
            let (before, after) = (
                pads.get(index).copied().ok_or(UNKNOWN)?,
                pads.get(index + axes.len()).copied().ok_or(UNKNOWN)?,
            );
            if before == 0 && after == 0 {
                continue;
            }
            if value.axis() == Some(*axis) {
                return Err((Mixing::Unknown, "adds rows of its own"));
            }
            let dim = dims.get_mut(*axis).ok_or(UNKNOWN)?;
            let padded = dim
                .as_fixed()
                .and_then(|size| size.checked_add_signed(before)?.checked_add_signed(after));
            *dim = padded.map_or_else(|| self.fresh(), Size::fixed);
        }
        Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))])
    }

    /// Sizes of repetitions or of a shape, as far as known.
    fn sizes_of(&self, value: &TracedTensor) -> Result<Vec<Option<Size>>, (Mixing, &'static str)> {
        let elements = self.target(value).ok_or(UNKNOWN)?;
        if elements.contains(&Element::RowCount) {
            return Err(FROM_BATCH);
        }
        Ok(elements.iter().map(Element::as_size).collect())
    }

    fn tile(&self) -> RuleResult {
        let value = self.input(0)?;
        let repeats = self.sizes_of(self.input(1)?)?;
        let mut dims = value.dims.clone().ok_or(UNKNOWN)?;
        let mut rows = value.axis();
        for (axis, (dim, times)) in dims.iter_mut().zip(&repeats).enumerate() {
            match times {
                Some(times) if times.is_one() => {}
                _ if value.axis() == Some(axis) => {
                    return Err((Mixing::Unknown, "repeats the rows"));
                }
                // One for all rows, given to each.
                Some(times) if times.depends_on_rows() && dim.is_one() && rows.is_none() => {
                    (rows, *dim) = (Some(axis), times.clone());
                }
                Some(times) if times.depends_on_rows() => return Err(FROM_BATCH),
                Some(times) => *dim = dim.times(times).ok_or(UNKNOWN)?,
                None => *dim = self.fresh(),
            }
        }
        Ok(vec![TracedTensor::new(
            rows.map_or(Flow::Same, |axis| Flow::Rows { axis }),
            Some(dims),
        )])
    }

    /// Broadcast to a shape: what is the same for all rows is given to each where the shape counts
    /// them.
    fn expand(&self) -> RuleResult {
        let value = self.input(0)?;
        if value.flow == Flow::RowCount {
            return Err(UNKNOWN);
        }
        let sizes = self.sizes_of(self.input(1)?)?;
        let sizes: Vec<Size> = sizes
            .into_iter()
            .map(|size| size.unwrap_or_else(|| self.fresh()))
            .collect();
        let counted = sizes.iter().filter(|size| size.depends_on_rows()).count();
        let flow = match sizes.iter().position(Size::depends_on_rows) {
            None => Flow::Same,
            Some(axis) if counted == 1 => Flow::Rows { axis },
            Some(_) => return Err(FROM_BATCH),
        };
        self.broadcast(&[value, &TracedTensor::new(flow, Some(sizes))])
    }

    fn constant_of_shape(&self) -> RuleResult {
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
            (Some((axis, size)), None) if size.rows == 1 => Flow::Rows { axis },
            _ => return Err(FROM_BATCH),
        };
        Ok(vec![TracedTensor::new(flow, Some(dims))])
    }

    /// Numbers that all rows share, as positions are.
    fn range(&self) -> RuleResult {
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
            return Err((Mixing::Unknown, "counts the rows"));
        }
        let length = match (element(0), element(1), element(2)) {
            (Some(Element::Int(0)), Some(limit), Some(Element::Int(1))) => limit.as_size(),
            _ => None,
        };
        Ok(vec![TracedTensor::new(
            Flow::Same,
            Some(vec![length.unwrap_or_else(|| self.fresh())]),
        )])
    }

    fn trilu(&self) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        let rank = self.rank(value)?;
        self.unless_along(value, &(rank.saturating_sub(2)..rank).collect::<Vec<_>>())
    }

    fn one_hot(&self) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        let rank = self.rank(value)?;
        let axis = from_end(self.node.int("axis").unwrap_or(-1), rank + 1).ok_or(UNKNOWN)?;
        let mut dims = value.dims.clone().ok_or(UNKNOWN)?;
        dims.insert(axis, self.fresh());
        let flow = match &value.flow {
            Flow::Rows { axis: rows } => Flow::Rows {
                axis: if axis <= *rows { rows + 1 } else { *rows },
            },
            flow => flow.clone(),
        };
        Ok(vec![TracedTensor::new(flow, Some(dims))])
    }
}
