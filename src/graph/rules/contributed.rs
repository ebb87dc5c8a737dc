//! Rules of ONNX Runtime's own operators (`com.microsoft`).

use crate::graph::{
    flow::{Flow, Mixing, TracedTensor},
    rules::{OperatorCall, RowEffect, RuleResult, UNKNOWN},
    size::Size,
};

impl OperatorCall<'_, '_> {
    /// The rule of an operator of the domain `com.microsoft`.
    pub(super) fn contributed(&self) -> Option<RuleResult> {
        Some(match self.node.op {
            "Gelu" | "QuickGelu" => self.first_only(),
            "BiasGelu" | "FastGelu" | "BiasAdd" => {
                self.broadcast(&self.inputs.iter().flatten().collect::<Vec<_>>())
            }
            "QuantizeLinear" | "DequantizeLinear" => return self.elementwise(),
            "FusedConv" | "NhwcMaxPool" => self.example(),
            "FusedMatMul" | "TransposeMatMul" if !self.is_transposed() => self.product(0, 1, &[]),
            "MatMulIntegerToFloat" => self.product(0, 1, &[2, 3, 4, 5, 6]),
            "MatMulNBits" => self.packed_product(self.node.int("N")),
            "QLinearAdd" | "QLinearMul" if self.others_same(&[0, 3]).is_ok() => self
                .input(0)
                .and_then(|a| Ok((a, self.input(3)?)))
                .and_then(|(a, b)| self.broadcast(&[a, b])),
            "QLinearSigmoid" | "QLinearLeakyRelu" => self.first_only(),
            "QLinearGlobalAveragePool" | "QLinearAveragePool"
                if self.node.int("channels_last").unwrap_or(0) == 0 =>
            {
                self.example()
            }
            "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => {
                self.skip_normalization()
            }
            "Attention" => self.fused_attention(),
            "EmbedLayerNormalization" => self.embedding(),
            "DynamicQuantizeMatMul" | "DynamicQuantizeLSTM" => Err(RowEffect(
                Mixing::Proved,
                "takes one scale from the values of all rows",
            )),
            "Tokenizer" => Err(RowEffect(
                Mixing::Unknown,
                "pads each text to the longest of the run",
            )),
            _ => return None,
        })
    }

    fn is_transposed(&self) -> bool {
        ["transA", "transB", "transBatchA", "transBatchB"]
            .iter()
            .any(|name| self.node.int(name).unwrap_or(0) != 0)
    }

    /// A product with packed weights along the last dimension, which gets the size `width`.
    fn packed_product(&self, width: Option<i64>) -> RuleResult {
        self.others_same(&[0])?;
        let value = self.input(0)?;
        let rank = self.rank(value)?;
        if value.axis().is_some_and(|axis| axis + 1 == rank) {
            return Err(RowEffect(Mixing::Proved, "sums over the rows"));
        }
        let mut dims = value.dims.clone().ok_or(UNKNOWN)?;
        dims.pop();
        dims.push(
            width
                .and_then(|width| u64::try_from(width).ok())
                .map_or_else(|| self.fresh(), Size::fixed),
        );
        Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))])
    }

    /// Normalises the sum of two inputs along its last dimension.
    fn skip_normalization(&self) -> RuleResult {
        self.others_same(&[0, 1])?;
        let sum = self
            .broadcast(&[self.input(0)?, self.input(1)?])?
            .into_iter()
            .next()
            .ok_or(UNKNOWN)?;
        let rank = self.rank(&sum)?;
        let value = self
            .unless_along(&sum, &[rank.saturating_sub(1)])?
            .into_iter()
            .next()
            .ok_or(UNKNOWN)?;
        self.each(value)
    }

    /// The inputs are [rows, steps, features], weights, bias, and an optional mask of the rows.
    fn fused_attention(&self) -> RuleResult {
        let value = self.input(0)?;
        let own = value
            .dim(0)
            .filter(|_| value.axis() == Some(0) && value.rank() == Some(3))
            .ok_or(UNKNOWN)?;
        let mask = self.optional(3).is_none_or(|mask| {
            mask.axis() == Some(0) && mask.dim(0) == Some(own) && mask.rank() == Some(2)
        });
        if !mask
            || self.inputs.len() > 4
            || self.node.int("unidirectional").unwrap_or(0) != 0 && self.node.outputs.len() > 1
        {
            return Err(UNKNOWN);
        }
        self.others_same(&[0, 3])?;
        let mut dims = value.dims.clone().unwrap_or_default();
        if let Some(last) = dims.last_mut() {
            *last = self.fresh();
        }
        // The second output is a cache of keys and values. Its rows are along a different
        // dimension.
        if self.node.outputs.len() > 1 {
            return Err(UNKNOWN);
        }
        Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))])
    }

    /// Computes word, position and segment embeddings of [rows, steps]. A mask contains the length
    /// of each row.
    fn embedding(&self) -> RuleResult {
        let value = self.input(0)?;
        let own = value
            .dim(0)
            .filter(|_| value.axis() == Some(0) && value.rank() == Some(2))
            .ok_or(UNKNOWN)?;
        for index in [1, 7] {
            if self
                .optional(index)
                .is_some_and(|other| other.axis() != Some(0) || other.dim(0) != Some(own))
            {
                return Err(UNKNOWN);
            }
        }
        self.others_same(&[0, 1, 7])?;
        let mut dims = value.dims.clone().unwrap_or_default();
        dims.push(self.fresh());
        let rows = |dims: Vec<Size>| TracedTensor::new(Flow::Rows { axis: 0 }, Some(dims));
        Ok(vec![
            rows(dims.clone()),
            rows(vec![own.clone()]),
            rows(dims),
        ])
    }
}
