//! Rules of operators that change a tensor's shape. They keep rows apart if the block of each row
//! stays together.

use crate::{
    graph::{
        flow::{Element, Flow, Mixing, TracedTensor},
        rules::{OperatorCall, RowEffect, RuleResult, UNKNOWN},
        size::Size,
    },
    tensor::from_end,
};

/// The effect of a shape that was computed from the input's sizes and that splits rows.
pub(super) const FROM_BATCH: RowEffect = RowEffect(
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
                // A 0 copies the size of the input's dimension.
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
        // The number of elements stays the same, which determines the size for -1.
        let total = value.dims.as_ref().and_then(Size::product);
        if let Some(rest) = rest {
            let others = Size::product(dims.iter().flatten());
            let own = total
                .as_ref()
                .zip(others.as_ref())
                .and_then(|(total, others)| total.over(others));
            // The remaining size can't depend on the number of rows if another dimension already
            // depends on it.
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

    /// The index of the dimension of rows after a reshape to `dims`, which keeps the order of the
    /// values. `None` if rows would be mixed: the dimensions before the rows must have the same
    /// product as before the reshape, and only one dimension may depend on the number of rows.
    fn rows_after(&self, value: &TracedTensor, axis: usize, dims: &[Size]) -> Option<usize> {
        // The values keep their order. The block of a row stays together if the same number of
        // values precedes it.
        let before = Size::product(value.dims.as_ref()?.get(..axis)?)?;
        let found = dims.iter().position(Size::depends_on_rows)?;
        let is_only_one = dims.iter().filter(|size| size.depends_on_rows()).count() == 1
            && dims.get(found)?.rows == 1;
        (is_only_one && Size::product(dims.get(..found)?)? == before).then_some(found)
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

    /// The axes in an attribute or an input of the node. `None` if the node has none.
    fn axes(&self, rank: usize) -> Result<Option<Vec<usize>>, RowEffect> {
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
        // A run of one row would lose its dimension of rows, but a run of two rows would not.
        let Some(axes) = self.axes(self.rank(value)?)? else {
            return Err(RowEffect(
                Mixing::Unknown,
                "drops every dimension of size 1, which includes the rows if a run has one row",
            ));
        };
        if value.axis().is_some_and(|rows| axes.contains(&rows)) {
            return Err(RowEffect(
                Mixing::Unknown,
                "drops the dimension of the rows",
            ));
        }
        self.reduced(value, &axes, false)
    }

    fn unsqueeze(&self) -> RuleResult {
        let value = self.input(0)?;
        let rank = self.rank(value)?;
        let count = self.axes_given().ok_or(UNKNOWN)?.len();
        let axes = self.axes(rank + count)?.ok_or(UNKNOWN)?;
        let mut old = value.dims.iter().flatten().cloned();
        // The added axes shift the dimension of rows.
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
