//! Rules of matrix products and Einstein sums. They mix rows if they sum over the dimension of
//! rows.

use crate::graph::{
    flow::{Flow, Mixing, TracedTensor},
    rules::{OperatorCall, RowEffect, RuleResult, UNKNOWN},
    size::Size,
};

const SUMS: RowEffect = RowEffect(Mixing::Proved, "sums over the rows");
const PRODUCT: RowEffect = RowEffect(Mixing::Proved, "multiplies rows with other rows");

impl OperatorCall<'_, '_> {
    pub(super) fn contraction(&self) -> Option<RuleResult> {
        Some(match self.node.op {
            "MatMul" => self.product(0, 1, &[]),
            "MatMulInteger" => self.product(0, 1, &[2, 3]),
            "QLinearMatMul" => self.product(0, 3, &[1, 2, 4, 5, 6, 7]),
            "Gemm" => self.gemm(),
            "Einsum" => self.einsum(),
            _ => return None,
        })
    }

    /// A matrix product of two inputs. The inputs `scales` must be independent of the rows.
    pub(super) fn product(&self, left: usize, right: usize, scales: &[usize]) -> RuleResult {
        if scales
            .iter()
            .filter_map(|index| self.optional(*index))
            .any(|value| value.flow != Flow::Same)
        {
            return Err(RowEffect(
                Mixing::Unknown,
                "takes a scale that depends on the rows",
            ));
        }
        let (a, b) = (self.input(left)?, self.input(right)?);
        if [a, b].iter().any(|value| value.flow == Flow::RowCount) {
            return Err(UNKNOWN);
        }
        let (rank_a, rank_b) = (self.rank(a)?, self.rank(b)?);
        if rank_a < 2 || rank_b < 2 {
            // The sum is over the vector, and over the matrix's last dimension.
            return match (rank_a, rank_b, a.axis(), b.axis()) {
                (2.., 1, Some(axis), None) if axis + 1 < rank_a => {
                    let dims = a
                        .dims
                        .as_ref()
                        .map(|dims| dims.iter().take(rank_a - 1).cloned().collect());
                    Ok(vec![TracedTensor::new(a.flow.clone(), dims)])
                }
                _ => Err(UNKNOWN),
            };
        }
        let rank = rank_a.max(rank_b);
        let axis = match (a.position_from_right(), b.position_from_right()) {
            (None, None) => None,
            // The sum is over the last dimension of the left operand and the second-to-last
            // dimension of the right operand.
            (Some(1), _) => return Err(SUMS),
            (_, Some(2)) => return Err(SUMS),
            (Some(a), None) => Some(a),
            (None, Some(b)) => Some(b),
            // In both operands the rows are a batch dimension of the product.
            (Some(a), Some(b)) if a == b && a > 2 => Some(a),
            (Some(_), Some(_)) => return Err(PRODUCT),
        };
        let mut dims = Vec::with_capacity(rank);
        for position_from_right in (3..=rank).rev() {
            let at = |value: &TracedTensor, rank: usize| {
                value.dim(rank.checked_sub(position_from_right)?).cloned()
            };
            dims.push(match (at(a, rank_a), at(b, rank_b)) {
                (Some(a), Some(b)) if a == b || b.is_one() => a,
                (Some(a), Some(b)) if a.is_one() => b,
                (Some(a), Some(b)) if a.depends_on_rows() || b.depends_on_rows() => {
                    return Err(PRODUCT);
                }
                (Some(_), Some(_)) => self.fresh(),
                (Some(size), None) | (None, Some(size)) => size,
                (None, None) => return Err(UNKNOWN),
            });
        }
        dims.push(a.dim(rank_a - 2).cloned().ok_or(UNKNOWN)?);
        dims.push(b.dim(rank_b - 1).cloned().ok_or(UNKNOWN)?);
        let flow = axis.map_or(Flow::Same, |position_from_right| Flow::Rows {
            axis: rank - position_from_right,
        });
        Ok(vec![TracedTensor::new(flow, Some(dims))])
    }

    fn gemm(&self) -> RuleResult {
        let (a, b) = (self.input(0)?, self.input(1)?);
        if self.rank(a)? != 2
            || self.rank(b)? != 2
            || [a, b].iter().any(|value| value.flow == Flow::RowCount)
        {
            return Err(UNKNOWN);
        }
        let is_transposed = |name: &str| self.node.int(name).unwrap_or(0) != 0;
        let (outer_a, outer_b) = (
            usize::from(is_transposed("transA")),
            usize::from(!is_transposed("transB")),
        );
        let axis = match (a.axis(), b.axis()) {
            (None, None) => None,
            (Some(axis), _) if axis != outer_a => return Err(SUMS),
            (_, Some(axis)) if axis != outer_b => return Err(SUMS),
            (Some(_), Some(_)) => return Err(PRODUCT),
            (Some(_), None) => Some(0),
            (None, Some(_)) => Some(1),
        };
        let dims = vec![
            a.dim(outer_a).cloned().ok_or(UNKNOWN)?,
            b.dim(outer_b).cloned().ok_or(UNKNOWN)?,
        ];
        let product = TracedTensor::new(
            axis.map_or(Flow::Same, |axis| Flow::Rows { axis }),
            Some(dims),
        );
        match self.optional(2) {
            Some(added) => self.broadcast(&[&product, added]),
            None => Ok(vec![product]),
        }
    }

    /// The letter of the dimension of rows must be in every operand that has rows, in no other
    /// operand, and in the result.
    fn einsum(&self) -> RuleResult {
        let equation: String = self
            .node
            .text("equation")
            .unwrap_or_default()
            .chars()
            .filter(|c| !c.is_whitespace())
            .collect();
        let (operands, result) = equation.split_once("->").ok_or(UNKNOWN)?;
        // An ellipsis represents dimensions whose number is not known here.
        if equation.contains('.') {
            return Err(UNKNOWN);
        }
        let operands: Vec<&str> = operands.split(',').collect();
        let (mut letter, mut sizes): (Option<char>, Vec<(char, Size)>) = (None, Vec::new());
        for (operand, value) in operands.iter().zip(self.inputs) {
            let value = value.as_ref().ok_or(UNKNOWN)?;
            if value.flow == Flow::RowCount || self.rank(value)? != operand.len() {
                return Err(UNKNOWN);
            }
            sizes.extend(operand.chars().zip(value.dims.iter().flatten().cloned()));
            if let Some(axis) = value.axis() {
                let own = operand.chars().nth(axis).ok_or(UNKNOWN)?;
                if letter.is_some_and(|letter| letter != own) {
                    return Err(PRODUCT);
                }
                letter = Some(own);
            }
        }
        // Without rows the product is a constant, which needs no rule.
        let Some(letter) = letter else {
            return Err(UNKNOWN);
        };
        for (operand, value) in operands.iter().zip(self.inputs.iter().flatten()) {
            // A letter that occurs twice in one operand selects a diagonal over the rows.
            let times = operand.matches(letter).count();
            if times != usize::from(value.axis().is_some()) {
                return Err(PRODUCT);
            }
        }
        let axis = result.find(letter).ok_or(SUMS)?;
        let size = |letter: char| {
            sizes
                .iter()
                .find(|(known, size)| *known == letter && !size.is_one())
        };
        let dims = result
            .chars()
            .map(|letter| size(letter).map_or(Size::fixed(1), |(_, size)| size.clone()))
            .collect();
        Ok(vec![TracedTensor::new(Flow::Rows { axis }, Some(dims))])
    }
}
