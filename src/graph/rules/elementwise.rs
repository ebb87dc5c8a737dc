//! Rules of operators that compute each element of the output from the same element of each input.

use crate::graph::{
    flow::{Flow, Mixing, TracedTensor},
    rules::{OperatorCall, RowEffect, RuleResult, UNKNOWN},
    size::Size,
};

impl OperatorCall<'_, '_> {
    pub(super) fn elementwise(&self) -> Option<RuleResult> {
        Some(match self.node.op {
            "Abs" | "Acos" | "Acosh" | "Asin" | "Asinh" | "Atan" | "Atanh" | "BitwiseNot"
            | "Cast" | "Ceil" | "Celu" | "Clip" | "Cos" | "Cosh" | "Elu" | "Erf" | "Exp"
            | "Floor" | "Gelu" | "HardSigmoid" | "HardSwish" | "IsInf" | "IsNaN" | "LeakyRelu"
            | "Log" | "Mish" | "Neg" | "Not" | "Reciprocal" | "Relu" | "Round" | "Selu"
            | "Shrink" | "Sigmoid" | "Sign" | "Sin" | "Sinh" | "Softplus" | "Softsign" | "Sqrt"
            | "Swish" | "Tan" | "Tanh" | "ThresholdedRelu" => self.first_only(),
            "Identity" => self.input(0).map(|value| vec![value.clone()]),
            "CastLike" => self
                .input(0)
                .map(|value| vec![TracedTensor::new(value.flow.clone(), value.dims.clone())]),
            "Dropout" => self.dropout(),
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Max" | "Min" | "Mean" | "Sum" | "Where"
            | "And" | "Or" | "Xor" | "Equal" | "Less" | "LessOrEqual" | "Greater"
            | "GreaterOrEqual" | "Mod" | "PRelu" | "BitShift" | "BitwiseAnd" | "BitwiseOr"
            | "BitwiseXor" | "StringConcat" => {
                self.broadcast(&self.inputs.iter().flatten().collect::<Vec<_>>())
            }
            "QuantizeLinear" | "DequantizeLinear" => self.quantize(),
            "RegexFullMatch" => self.first_only(),
            _ => return None,
        })
    }

    /// The rule of an operator that uses each value of the first input alone. The other inputs are
    /// parameters such as limits.
    pub(super) fn first_only(&self) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        Ok(vec![TracedTensor::new(
            value.flow.clone(),
            value.dims.clone(),
        )])
    }

    fn dropout(&self) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        Ok(vec![value.clone(); 2])
    }

    /// Whether the operator is a dropout whose training mode is the constant 0.
    pub(super) fn idle_dropout(&self) -> bool {
        self.node.op == "Dropout"
            && self
                .optional(2)
                .and_then(TracedTensor::ints)
                .is_some_and(|ints| ints == [0])
    }

    /// The rule of quantization. The scale is one number, or a list along an axis other than the
    /// dimension of rows.
    fn quantize(&self) -> RuleResult {
        self.others_same(&[0])?;
        let (value, scale) = (self.input(0)?, self.input(1)?);
        match scale.rank() {
            Some(0) => {}
            Some(1) if scale.dim(0).is_some_and(Size::is_one) => {}
            Some(_)
                if self.axis(value, 1)? != value.axis().unwrap_or(usize::MAX)
                    && self.node.int("block_size").unwrap_or(0) == 0 => {}
            _ => {
                return Err(RowEffect(
                    Mixing::Unknown,
                    "scales along the dimension of the rows",
                ));
            }
        }
        Ok(vec![TracedTensor::new(
            value.flow.clone(),
            value.dims.clone(),
        )])
    }

    /// Broadcasts like NumPy: dimensions are matched starting from the last one.
    pub(super) fn broadcast(&self, values: &[&TracedTensor]) -> RuleResult {
        if values.iter().any(|value| value.flow == Flow::RowCount) {
            return Err(RowEffect(
                Mixing::Unknown,
                "computes with the number of rows",
            ));
        }
        let mut ranks = Vec::with_capacity(values.len());
        for value in values {
            ranks.push(self.rank(value)?);
        }
        // Missing dimensions are added in front.
        let rank = ranks.iter().copied().max().ok_or(UNKNOWN)?;
        let rows = aligned_rows(values)?;
        let mut dims = Vec::with_capacity(rank);
        for position_from_right in (1..=rank).rev() {
            let sizes = values
                .iter()
                .filter_map(|value| value.dim(value.rank()?.checked_sub(position_from_right)?));
            dims.push(self.broadcast_size(sizes)?);
        }
        let flow = rows.map_or(Flow::Same, |position_from_right| Flow::Rows {
            axis: rank - position_from_right,
        });
        Ok(vec![TracedTensor::new(flow, Some(dims))])
    }

    /// The size of a dimension after broadcasting several tensors.
    fn broadcast_size<'s>(&self, sizes: impl Iterator<Item = &'s Size>) -> Result<Size, RowEffect> {
        let mut found: Option<Size> = None;
        for size in sizes.filter(|size| !size.is_one()) {
            found = match found {
                None => Some(size.clone()),
                Some(known) if known == *size => Some(known),
                // At run time the two sizes are equal, or one of them is 1.
                Some(known) if !known.depends_on_rows() && !size.depends_on_rows() => {
                    Some(match (known.as_fixed(), size.as_fixed()) {
                        (Some(_), _) => known,
                        (None, Some(_)) => size.clone(),
                        (None, None) => self.fresh(),
                    })
                }
                Some(_) => {
                    return Err(RowEffect(
                        Mixing::Unknown,
                        "combines rows with a constant that fits one number of rows only",
                    ));
                }
            };
        }
        Ok(found.unwrap_or_else(|| Size::fixed(1)))
    }
}

/// The common dimension of rows of all tensors that have rows, counted from the last dimension.
fn aligned_rows(values: &[&TracedTensor]) -> Result<Option<usize>, RowEffect> {
    let mut found: Option<(usize, &Size)> = None;
    for value in values.iter().filter(|value| value.axis().is_some()) {
        let position_from_right = value.position_from_right().ok_or(UNKNOWN)?;
        let size = value
            .axis()
            .and_then(|axis| value.dim(axis))
            .ok_or(UNKNOWN)?;
        match found {
            None => found = Some((position_from_right, size)),
            Some((known, other)) if known == position_from_right && other == size => {}
            Some((known, _)) if known == position_from_right => return Err(UNKNOWN),
            Some(_) => {
                return Err(RowEffect(
                    Mixing::Proved,
                    "combines rows with other rows: their dimensions are not aligned",
                ));
            }
        }
    }
    Ok(found.map(|(position_from_right, _)| position_from_right))
}
