//! Layers that take examples along dimension 0: convolutions, pooling, normalisation of an example,
//! recurrent networks.

use crate::{
    graph::{
        flow::{Element, Flow, Mixing, TracedTensor},
        rules::{OperatorCall, RuleResult, UNKNOWN},
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

    /// The first input, whose examples lie along dimension 0 (of pools, which keep channels apart,
    /// 1 as well); what else there is, is the same for all.
    fn examples(&self) -> Result<&TracedTensor, (Mixing, &'static str)> {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        match value.axis() {
            Some(1) if self.pools() => Ok(value),
            Some(1) if self.node.op == "InstanceNormalization" => Err(UNKNOWN),
            Some(axis) if axis != 0 => Err((
                Mixing::Proved,
                "takes the dimension of the rows for channels or places",
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

    /// Example by example, in the same shape.
    fn same_example(&self) -> RuleResult {
        let value = self.examples()?;
        self.rank(value)?;
        Ok(vec![TracedTensor::new(
            value.flow.clone(),
            value.dims.clone(),
        )])
    }

    /// Example by example, in another shape of as many dimensions.
    pub(super) fn example(&self) -> RuleResult {
        let value = self.examples()?;
        let mut dims = self.walk.fresh_dims(self.rank(value)?);
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

    /// How many places a window takes along the dimension `place` of a picture; `kernel` where the
    /// attributes don't say its size. The formula of the operator set's Conv and pools, of the
    /// output's shape.
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

    /// Places of the maxima count through the whole tensor, all rows before included.
    fn max_pool(&self) -> RuleResult {
        let mut values = self.example()?;
        if self.node.outputs.len() > 1 {
            let flow = crate::graph::walk::mixed(
                self.node,
                Mixing::Proved,
                "counts places through all rows",
            );
            values.push(TracedTensor::new(flow, None));
        }
        Ok(values)
    }

    fn batch_normalization(&self) -> RuleResult {
        // Before operator set 14 more outputs than one meant training.
        if self.node.int("training_mode").unwrap_or(0) != 0
            || self
                .node
                .outputs
                .iter()
                .filter(|name| !name.is_empty())
                .count()
                > 1
        {
            return Err((
                Mixing::Proved,
                "normalises by the statistics of the batch (training mode)",
            ));
        }
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
        let mut dims = self.walk.fresh_dims(self.rank(value)?);
        if let (Some(first), Some(own)) = (dims.first_mut(), value.dim(0)) {
            *first = own.clone();
        }
        Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))])
    }

    /// Rows are neither stretched nor thinned out.
    fn resize(&self) -> RuleResult {
        let value = self.input(0)?;
        let rank = self.rank(value)?;
        let Some(axis) = value.axis() else {
            return Err(UNKNOWN);
        };
        let wanted = self.node.ints("axes").map(|axes| {
            axes.iter()
                .map(|axis| from_end(*axis, rank))
                .collect::<Option<Vec<_>>>()
        });
        let at = match wanted {
            None => Some(axis),
            Some(axes) => axes.ok_or(UNKNOWN)?.iter().position(|known| *known == axis),
        };
        let mut dims = self.walk.fresh_dims(rank);
        let own = value.dim(axis).ok_or(UNKNOWN)?;
        *dims.get_mut(axis).ok_or(UNKNOWN)? = own.clone();
        let done = Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))]);
        let Some(at) = at else { return done };
        // A ratio to be kept makes one scale of all, and a region may be one of the rows.
        let one_scale = self
            .node
            .text("keep_aspect_ratio_policy")
            .is_some_and(|policy| policy != "stretch");
        if one_scale
            || self.node.text("coordinate_transformation_mode") == Some("tf_crop_and_resize")
        {
            return Err(UNKNOWN);
        }
        let (scales, sizes) = match (self.node.op, self.opset) {
            ("Upsample", 9..) | ("Resize", 10) => (self.optional(1), None),
            ("Upsample", _) => return Err(UNKNOWN),
            _ => (self.optional(2), self.optional(3)),
        };
        let empty =
            |value: &&TracedTensor| value.dim(0).is_none_or(|size| size.as_fixed() == Some(0));
        let kept = match (
            scales.filter(|scales| !empty(scales)),
            sizes.filter(|sizes| !empty(sizes)),
        ) {
            (Some(scales), _) => {
                scales
                    .reals
                    .as_ref()
                    .and_then(|reals| reals.get(at).copied())
                    == Some(1.0)
            }
            (None, Some(sizes)) => sizes.elements.as_ref().is_some_and(|elements| {
                let own = elements
                    .get(at)
                    .and_then(Element::as_size)
                    .is_some_and(|size| size == *own);
                // The places of a row don't count rows.
                own && elements
                    .iter()
                    .enumerate()
                    .all(|(index, element)| index == at || !element.depends_on_rows())
            }),
            (None, None) => false,
        };
        if kept {
            done
        } else {
            Err((Mixing::Unknown, "may stretch the dimension of the rows"))
        }
    }

    /// Steps in time along dimension 0 and examples along dimension 1, or the other way round
    /// (`layout` 1).
    fn recurrent(&self, states: &[usize], outputs: usize) -> RuleResult {
        let value = self.input(0)?;
        let batch = usize::from(self.node.int("layout").unwrap_or(0) == 0);
        match value.axis() {
            Some(axis) if axis == batch => {}
            Some(axis) if axis == 1 - batch => {
                return Err((
                    Mixing::TimeSteps,
                    "goes over the rows one after the other, as over steps in time",
                ));
            }
            _ => return Err(UNKNOWN),
        }
        let own = value.dim(batch).ok_or(UNKNOWN)?;
        let beside = |index: usize, axis: usize| match self.optional(index) {
            None => true,
            Some(other) => other.axis() == Some(axis) && other.dim(axis) == Some(own),
        };
        // Initial states have their examples where the layout says; a constant one fits one number
        // of rows only.
        let state_axis = usize::from(batch == 1);
        if !beside(4, 0) || !states.iter().all(|index| beside(*index, state_axis)) {
            return Err(UNKNOWN);
        }
        let mut but = vec![0, 4];
        but.extend_from_slice(states);
        self.others_same(&but)?;
        let directions = if self.node.text("direction") == Some("bidirectional") {
            2
        } else {
            1
        };
        let hidden = self
            .node
            .int("hidden_size")
            .and_then(|size| u64::try_from(size).ok())
            .map_or_else(|| self.fresh(), Size::fixed);
        let steps = value.dim(1 - batch).cloned().ok_or(UNKNOWN)?;
        let directions = Size::fixed(directions);
        let (all, last) = if batch == 1 {
            (
                (
                    2,
                    vec![steps, directions.clone(), own.clone(), hidden.clone()],
                ),
                (1, vec![directions, own.clone(), hidden]),
            )
        } else {
            (
                (
                    0,
                    vec![own.clone(), steps, directions.clone(), hidden.clone()],
                ),
                (0, vec![own.clone(), directions, hidden]),
            )
        };
        let mut values = vec![TracedTensor::new(Flow::Rows { axis: all.0 }, Some(all.1))];
        values.resize(
            outputs,
            TracedTensor::new(Flow::Rows { axis: last.0 }, Some(last.1)),
        );
        Ok(values)
    }

    /// Queries, keys and values of one row each; a mask may be the same for all.
    fn attention(&self) -> RuleResult {
        let query = self.input(0)?;
        let own = query
            .dim(0)
            .filter(|_| query.axis() == Some(0))
            .ok_or(UNKNOWN)?;
        for index in 1..self.inputs.len() {
            match self.optional(index) {
                None => {}
                // A mask of fewer dimensions has none of rows: it is laid over them from the last
                // on.
                Some(value)
                    if value.axis() == Some(0)
                        && value.dim(0) == Some(own)
                        && (index != 3 || value.rank() == Some(4)) => {}
                // A mask without rows, broadcast over them.
                Some(value)
                    if index == 3
                        && value.flow == Flow::Same
                        && (value.rank() == Some(2) || value.dim(0).is_some_and(Size::is_one)) => {}
                Some(_) => return Err(UNKNOWN),
            }
        }
        let rank = self.rank(query)?;
        let mut dims = self.walk.fresh_dims(rank);
        if let Some(first) = dims.first_mut() {
            *first = own.clone();
        }
        let first = TracedTensor::new(Flow::Rows { axis: 0 }, Some(dims));
        let mut values = vec![first];
        for _ in 1..self.node.outputs.len() {
            let mut dims = self.walk.fresh_dims(4);
            if let Some(first) = dims.first_mut() {
                *first = own.clone();
            }
            values.push(TracedTensor::new(Flow::Rows { axis: 0 }, Some(dims)));
        }
        Ok(values)
    }
}
