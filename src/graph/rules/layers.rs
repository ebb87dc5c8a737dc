//! Rules of layers with examples along dimension 0: convolutions, pooling, and normalisation within
//! an example.

use crate::{
    graph::{
        flow::{Element, Mixing, TracedTensor},
        rules::{OperatorCall, RowEffect, RuleResult, UNKNOWN},
        size::Size,
    },
    tensor::from_end,
};

impl OperatorCall<'_, '_> {
    pub(super) fn layer(&self) -> Option<RuleResult> {
        Some(match self.node.op {
            "Conv" | "ConvTranspose" | "ConvInteger" | "QLinearConv" | "DeformConv" => {
                self.example()
            }
            "AveragePool" | "GlobalAveragePool" | "GlobalLpPool" | "GlobalMaxPool" | "LpPool" => {
                self.example()
            }
            "InstanceNormalization" | "LRN" | "GroupNormalization" => self.same_example(),
            "DepthToSpace" | "SpaceToDepth" => self.example(),
            "MaxPool" => self.max_pool(),
            "BatchNormalization" => self.batch_normalization(),
            "GridSample" => self.grid_sample(),
            "Resize" | "Upsample" => self.resize(),
            "LSTM" => self.recurrent(&[5, 6], 3),
            "GRU" | "RNN" => self.recurrent(&[5], 2),
            "Attention" => self.attention(),
            _ => return None,
        })
    }

    /// The first input, which has its examples along dimension 0. Pools also keep channels apart,
    /// so their rows may be along dimension 1. The other inputs must be independent of the rows.
    fn examples(&self) -> Result<&TracedTensor, RowEffect> {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        match value.axis() {
            Some(1) if self.pools() => Ok(value),
            Some(1) if self.node.op == "InstanceNormalization" => Err(UNKNOWN),
            Some(axis) if axis != 0 => Err(RowEffect(
                Mixing::Proved,
                "treats the dimension of the rows as channels or positions",
            )),
            _ => Ok(value),
        }
    }

    fn pools(&self) -> bool {
        [
            "AveragePool",
            "GlobalAveragePool",
            "GlobalLpPool",
            "GlobalMaxPool",
            "LpPool",
            "MaxPool",
        ]
        .contains(&self.node.op)
    }

    /// The rule of layers that process each example independently and keep the shape of the input.
    fn same_example(&self) -> RuleResult {
        let value = self.examples()?;
        self.rank(value)?;
        Ok(vec![TracedTensor::new(
            value.flow.clone(),
            value.dims.clone(),
        )])
    }

    /// The rule of layers that process each example independently and change its shape, but not its
    /// rank.
    pub(super) fn example(&self) -> RuleResult {
        let value = self.examples()?;
        let mut dims = self.unknown_sizes.fresh_dims(self.rank(value)?);
        if let (Some(first), Some(own)) = (dims.first_mut(), value.dim(0)) {
            *first = own.clone();
        }
        let weights = match self.node.op {
            "Conv" | "ConvInteger" => self.optional(1),
            "QLinearConv" => self.optional(3),
            _ => None,
        };
        let channels = if self.pools() {
            value.dim(1)
        } else {
            weights.and_then(|weights| weights.dim(0))
        };
        if let (Some(second), Some(channels)) = (dims.get_mut(1), channels) {
            *second = channels.clone();
        }
        if self.pools() || weights.is_some() {
            for (place, dim) in dims.iter_mut().skip(2).enumerate() {
                let own = weights.and_then(|weights| weights.dim(place + 2)?.as_fixed());
                let size = value
                    .dim(place + 2)
                    .and_then(Size::as_fixed)
                    .and_then(|size| self.window(size, place, own));
                *dim = size.map_or_else(|| dim.clone(), Size::fixed);
            }
        }
        if self.node.op.starts_with("Global") {
            dims.iter_mut()
                .skip(2)
                .for_each(|dim| *dim = Size::fixed(1));
        }
        Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))])
    }

    /// The output size of a window along the spatial dimension `place`, by the formula for Conv and
    /// the pools in the operator set. `kernel` is the size of the window, used if the attributes do
    /// not contain it.
    fn window(&self, size: u64, place: usize, kernel: Option<u64>) -> Option<u64> {
        let at = |name: &str, index: usize| {
            self.node
                .ints(name)
                .filter(|list| !list.is_empty())
                .map(|list| list.get(index).copied())
        };
        let positive = |number: Option<Option<i64>>, default: u64| match number {
            Some(number) => u64::try_from(number?).ok(),
            None => Some(default),
        };
        let stride = positive(at("strides", place), 1)?.max(1);
        match self.node.text("auto_pad").unwrap_or("NOTSET") {
            "SAME_UPPER" | "SAME_LOWER" => return Some(size.div_ceil(stride)),
            "NOTSET" | "VALID" => {}
            _ => return None,
        }
        // The formula below rounds down.
        if self.node.int("ceil_mode").unwrap_or(0) != 0 {
            return None;
        }
        let kernel = at("kernel_shape", place).map_or(kernel, |size| u64::try_from(size?).ok())?;
        let dims = self.node.ints("pads").map_or(0, |pads| pads.len() / 2);
        let pads =
            positive(at("pads", place), 0)?.checked_add(positive(at("pads", place + dims), 0)?)?;
        let reach = positive(at("dilations", place), 1)?
            .checked_mul(kernel.checked_sub(1)?)?
            .checked_add(1)?;
        Some(size.checked_add(pads)?.checked_sub(reach)? / stride + 1)
    }

    /// The second output contains the indices of the maxima, which also count the values of earlier
    /// rows.
    fn max_pool(&self) -> RuleResult {
        let mut values = self.example()?;
        if self.node.outputs.len() > 1 {
            let flow = crate::graph::flow::mixed(
                self.node,
                Mixing::Proved,
                "returns indices that count through all rows",
            );
            values.push(TracedTensor::new(flow, None));
        }
        Ok(values)
    }

    fn batch_normalization(&self) -> RuleResult {
        // Before operator set 14, more than one output meant training.
        if self.node.int("training_mode").unwrap_or(0) != 0
            || self
                .node
                .outputs
                .iter()
                .filter(|name| !name.is_empty())
                .count()
                > 1
        {
            return Err(RowEffect(
                Mixing::Proved,
                "normalises by the statistics of the batch (training mode)",
            ));
        }
        // Statistics per position depend on the shape, which this rule does not follow.
        if self.node.int("spatial").unwrap_or(1) == 0 {
            return Err(UNKNOWN);
        }
        self.same_example()
    }

    fn grid_sample(&self) -> RuleResult {
        let (value, grid) = (self.input(0)?, self.input(1)?);
        match (value.axis(), grid.axis()) {
            (Some(0), Some(0)) if value.dim(0) == grid.dim(0) => {}
            _ => return Err(UNKNOWN),
        }
        let mut dims = self.unknown_sizes.fresh_dims(self.rank(value)?);
        if let (Some(first), Some(own)) = (dims.first_mut(), value.dim(0)) {
            *first = own.clone();
        }
        Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))])
    }

    /// The rule of Resize. The dimension of rows must keep its size.
    fn resize(&self) -> RuleResult {
        let value = self.input(0)?;
        let rank = self.rank(value)?;
        let Some(axis) = value.axis() else {
            return Err(UNKNOWN);
        };
        let axes = self.node.ints("axes").map(|axes| {
            axes.iter()
                .map(|axis| from_end(*axis, rank))
                .collect::<Option<Vec<_>>>()
        });
        let at = match axes {
            None => Some(axis),
            Some(axes) => axes.ok_or(UNKNOWN)?.iter().position(|known| *known == axis),
        };
        let mut dims = self.unknown_sizes.fresh_dims(rank);
        let own = value.dim(axis).ok_or(UNKNOWN)?;
        *dims.get_mut(axis).ok_or(UNKNOWN)? = own.clone();
        let resized = Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))]);
        let Some(at) = at else { return resized };
        // A kept aspect ratio means one scale for all dimensions, and a region may cut the rows.
        let one_scale = self
            .node
            .text("keep_aspect_ratio_policy")
            .is_some_and(|policy| policy != "stretch");
        if one_scale
            || self.node.text("coordinate_transformation_mode") == Some("tf_crop_and_resize")
        {
            return Err(UNKNOWN);
        }
        if self.keeps_size(at, own)? {
            resized
        } else {
            Err(RowEffect(
                Mixing::Unknown,
                "may stretch the dimension of the rows",
            ))
        }
    }

    /// Whether the scales or sizes of a `Resize` keep the size `own` of the dimension of rows. `at`
    /// is the index of this dimension in their lists.
    fn keeps_size(&self, at: usize, own: &Size) -> Result<bool, RowEffect> {
        let (scales, sizes) = match (self.node.op, self.opset) {
            ("Upsample", 9..) | ("Resize", 10) => (self.optional(1), None),
            ("Upsample", _) => return Err(UNKNOWN),
            _ => (self.optional(2), self.optional(3)),
        };
        let is_given =
            |value: &&TracedTensor| value.dim(0).is_some_and(|size| size.as_fixed() != Some(0));
        if let Some(scales) = scales.filter(is_given) {
            let scale = scales.reals.as_ref().and_then(|reals| reals.get(at));
            return Ok(scale == Some(&1.0));
        }
        let Some(sizes) = sizes.filter(is_given) else {
            return Ok(false);
        };
        Ok(sizes.elements.as_ref().is_some_and(|elements| {
            let is_same = elements.get(at).and_then(Element::as_size).as_ref() == Some(own);
            // The other sizes must not depend on the number of rows.
            is_same
                && elements
                    .iter()
                    .enumerate()
                    .all(|(index, element)| index == at || !element.depends_on_rows())
        }))
    }
}
