//! Rules of operators that join, cut, pad or repeat tensors. They keep rows apart if they work
//! along a dimension other than the rows.

use crate::{
    graph::{
        flow::{Flow, Mixing, TracedTensor},
        rules::{OperatorCall, RowEffect, RuleResult, UNKNOWN, shapes::FROM_BATCH, sizes::clamped},
        size::Size,
    },
    tensor::from_end,
};

impl OperatorCall<'_, '_> {
    pub(super) fn concat(&self) -> RuleResult {
        let values: Vec<&TracedTensor> = self.inputs.iter().flatten().collect();
        let first = *values.first().ok_or(UNKNOWN)?;
        let rank = self.rank(first)?;
        let axis = self.axis(first, 1)?;
        let (mut rows, mut own): (Option<usize>, Option<&Size>) = (None, None);
        for value in &values {
            match &value.flow {
                Flow::Rows { axis: along } if *along == axis => {
                    return Err(RowEffect(
                        Mixing::Unknown,
                        "joins rows with other rows along their dimension",
                    ));
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
        // The constant has a fixed number of rows.
        if rows.is_some() && values.iter().any(|value| value.flow == Flow::Same) {
            return Err(RowEffect(
                Mixing::Unknown,
                "joins rows with a constant that fits one number of rows only",
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

    pub(super) fn split(&self) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        let axis = self.axis(value, 0)?;
        // The rows that a cut selects depend on the other rows of the run.
        if value.axis() == Some(axis) {
            return Err(RowEffect(Mixing::Unknown, "cuts through the rows"));
        }
        let sizes = self
            .node
            .ints("split")
            .map(<[i64]>::to_vec)
            .or_else(|| self.optional(1)?.ints());
        let count = self.node.outputs.len();
        let is_given = self.node.ints("split").is_some() || self.optional(1).is_some();
        // Without sizes the operator cuts the tensor into equal parts.
        let even = value
            .dim(axis)
            .and_then(Size::as_fixed)
            .filter(|size| !is_given && count > 0 && size.is_multiple_of(count as u64));
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

    pub(super) fn slice(&self) -> RuleResult {
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
            // The slice takes the whole dimension. Exporters write a large number as the end of
            // such a slice.
            if start == Some(0)
                && step == Some(1)
                && end.is_some_and(|end| end >= i64::from(i32::MAX))
            {
                continue;
            }
            if value.axis() == Some(axis) {
                return Err(RowEffect(Mixing::Unknown, "takes some of the rows"));
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

    pub(super) fn pad(&self) -> RuleResult {
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
            // If the axis has no padding, its rows stay unchanged.
            if before == 0 && after == 0 {
                continue;
            }
            if value.axis() == Some(*axis) {
                return Err(RowEffect(Mixing::Unknown, "adds rows"));
            }
            let dim = dims.get_mut(*axis).ok_or(UNKNOWN)?;
            let padded = dim
                .as_fixed()
                .and_then(|size| size.checked_add_signed(before)?.checked_add_signed(after));
            *dim = padded.map_or_else(|| self.fresh(), Size::fixed);
        }
        Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))])
    }

    pub(super) fn tile(&self) -> RuleResult {
        let value = self.input(0)?;
        let repeats = self.sizes_of(self.input(1)?)?;
        let mut dims = value.dims.clone().ok_or(UNKNOWN)?;
        let mut rows = value.axis();
        for (axis, (dim, times)) in dims.iter_mut().zip(&repeats).enumerate() {
            match times {
                Some(times) if times.is_one() => {}
                _ if value.axis() == Some(axis) => {
                    return Err(RowEffect(Mixing::Unknown, "repeats the rows"));
                }
                // A value that is the same for all rows is repeated for each row.
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
}
