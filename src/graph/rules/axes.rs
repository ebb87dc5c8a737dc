//! Rules of reductions, sorting and normalisation. They mix the values along their axes.

use crate::{
    graph::{
        flow::{Flow, Mixing, TracedTensor},
        rules::{OperatorCall, RowEffect, RuleResult, UNKNOWN},
        size::Size,
    },
    tensor::from_end,
};

const REDUCES: RowEffect = RowEffect(Mixing::Proved, "reduces along the dimension of the rows");

impl OperatorCall<'_, '_> {
    pub(super) fn along_axes(&self) -> Option<RuleResult> {
        Some(match self.node.op {
            "ReduceL1" | "ReduceL2" | "ReduceLogSum" | "ReduceLogSumExp" | "ReduceMax"
            | "ReduceMean" | "ReduceMin" | "ReduceProd" | "ReduceSum" | "ReduceSumSquare" => {
                self.reduce()
            }
            "ArgMax" | "ArgMin" => self.arg(),
            "Softmax" | "LogSoftmax" | "Hardmax" => self.softmax(),
            "LpNormalization" => self.one_axis(-1),
            // ONNX Runtime defines `SimplifiedLayerNormalization` in the standard's domain.
            "LayerNormalization" | "RMSNormalization" | "SimplifiedLayerNormalization" => {
                self.layer_normalization()
            }
            "MeanVarianceNormalization" => self.mean_variance(),
            "CumSum" => self.cumulative(),
            "TopK" => self.top_k(),
            "ReverseSequence" => self.reverse_sequence(),
            "DynamicQuantizeLinear" => Err(RowEffect(
                Mixing::Proved,
                "takes one scale from the values of all rows",
            )),
            "NonMaxSuppression" => Err(RowEffect(
                Mixing::DataDependent,
                "gives as many detections as it finds, over all rows",
            )),
            "NonZero" | "Unique" => Err(RowEffect(
                Mixing::DataDependent,
                "gives as many values as it finds, over all rows",
            )),
            _ => return None,
        })
    }

    fn one_axis(&self, default: i64) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        let axis = self.axis(value, default)?;
        self.unless_along(value, &[axis])
    }

    /// Before operator set 13, the axis and all later dimensions were one vector.
    fn softmax(&self) -> RuleResult {
        let value = self.input(0)?;
        // Since operator set 13, the operator works along one axis.
        if self.opset >= 13 {
            return self.one_axis(-1);
        }
        let (axis, rank) = (self.axis(value, 1)?, self.rank(value)?);
        self.unless_along(value, &(axis..rank).collect::<Vec<_>>())
    }

    fn layer_normalization(&self) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        let (axis, rank) = (self.axis(value, -1)?, self.rank(value)?);
        let mut values = self.unless_along(value, &(axis..rank).collect::<Vec<_>>())?;
        // The mean and the deviation have size 1 in the normalised dimensions.
        let mut dims = value.dims.clone().unwrap_or_default();
        dims.iter_mut()
            .skip(axis)
            .for_each(|dim| *dim = Size::fixed(1));
        values.resize(3, TracedTensor::new(value.flow.clone(), Some(dims)));
        Ok(values)
    }

    fn mean_variance(&self) -> RuleResult {
        let value = self.input(0)?;
        let rank = self.rank(value)?;
        let axes = self
            .node
            .ints("axes")
            .filter(|axes| !axes.is_empty())
            .unwrap_or(&[0, 2, 3]);
        let axes: Option<Vec<usize>> = axes.iter().map(|axis| from_end(*axis, rank)).collect();
        self.unless_along(value, &axes.ok_or(UNKNOWN)?)
    }

    fn cumulative(&self) -> RuleResult {
        self.others_same(&[0])?;
        let (value, axis) = (self.input(0)?, self.input(1)?);
        let rank = self.rank(value)?;
        let axis = axis
            .ints()
            .and_then(|ints| from_end(*ints.first()?, rank))
            .ok_or(UNKNOWN)?;
        self.unless_along(value, &[axis])
    }

    fn reduce(&self) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        let keep = self.node.int("keepdims").unwrap_or(1) != 0;
        let given = match (self.node.ints("axes"), self.optional(1)) {
            (Some(axes), _) => Some(axes.to_vec()),
            (None, Some(axes)) => Some(axes.ints().ok_or(RowEffect(
                Mixing::Unknown,
                "reduces along axes that are not constant",
            ))?),
            (None, None) => None,
        };
        let Some(axes) = given.filter(|axes| !axes.is_empty()) else {
            // Without axes the operator reduces all dimensions, unless this attribute is set.
            if self.node.int("noop_with_empty_axes").unwrap_or(0) != 0 {
                return Ok(vec![value.clone()]);
            }
            return if value.axis().is_some() {
                Err(REDUCES)
            } else {
                Err(UNKNOWN)
            };
        };
        let rank = self.rank(value)?;
        let axes: Option<Vec<usize>> = axes.iter().map(|axis| from_end(*axis, rank)).collect();
        self.reduced(value, &axes.ok_or(UNKNOWN)?, keep)
    }

    fn arg(&self) -> RuleResult {
        let value = self.input(0)?;
        let axis = self.axis(value, 0)?;
        self.reduced(value, &[axis], self.node.int("keepdims").unwrap_or(1) != 0)
    }

    /// The output of a reduction along `axes`. If `keep` is true, the axes stay with size 1.
    pub(super) fn reduced(&self, value: &TracedTensor, axes: &[usize], keep: bool) -> RuleResult {
        if value.axis().is_some_and(|rows| axes.contains(&rows)) {
            return Err(REDUCES);
        }
        let mut dims = Vec::new();
        for (axis, size) in value.dims.iter().flatten().enumerate() {
            match (axes.contains(&axis), keep) {
                (false, _) => dims.push(size.clone()),
                (true, true) => dims.push(Size::fixed(1)),
                (true, false) => {}
            }
        }
        let flow = match &value.flow {
            // The axes may name the same axis twice.
            Flow::Rows { axis } if !keep => Flow::Rows {
                axis: (0..*axis).filter(|before| !axes.contains(before)).count(),
            },
            flow => flow.clone(),
        };
        Ok(vec![TracedTensor::new(flow, Some(dims))])
    }

    fn top_k(&self) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        let axis = self.axis(value, -1)?;
        let values = self.unless_along(value, &[axis])?;
        let mut dims = value.dims.clone().unwrap_or_default();
        let k = self
            .optional(1)
            .and_then(TracedTensor::ints)
            .and_then(|ints| ints.first().copied())
            .or_else(|| self.node.int("k"));
        let k = k
            .and_then(|k| u64::try_from(k).ok())
            .map_or_else(|| self.fresh(), Size::fixed);
        if let Some(dim) = dims.get_mut(axis) {
            *dim = k;
        }
        let value = values.into_iter().next().ok_or(UNKNOWN)?;
        self.each(TracedTensor::new(value.flow, Some(dims)))
    }

    fn reverse_sequence(&self) -> RuleResult {
        let (value, lengths) = (self.input(0)?, self.input(1)?);
        let batch =
            usize::try_from(self.node.int("batch_axis").unwrap_or(1)).map_err(|_| UNKNOWN)?;
        // Each row is reversed independently if the rows are along the batch axis.
        let fits = value.axis() == Some(batch)
            && (lengths.flow == Flow::Same && lengths.dim(0).is_some_and(Size::is_one)
                || lengths.axis() == Some(0));
        if !fits || lengths.axis().is_some() && lengths.dim(0) != value.dim(batch) {
            return Err(UNKNOWN);
        }
        Ok(vec![TracedTensor::new(
            value.flow.clone(),
            value.dims.clone(),
        )])
    }
}
