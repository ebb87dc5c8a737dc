//! Rules of operators that select values by indices. They keep rows apart if they select along a
//! dimension other than the rows, or from constants.

use crate::graph::{
    flow::{Flow, Mixing, TracedTensor},
    rules::{OperatorCall, RowEffect, RuleResult, UNKNOWN},
    size::Size,
};

const PICKS: RowEffect = RowEffect(Mixing::Proved, "picks along the dimension of the rows");

impl OperatorCall<'_, '_> {
    pub(super) fn gather(&self) -> Option<RuleResult> {
        Some(match self.node.op {
            "Gather" => self.gather_along(),
            "GatherElements" => self.elements_along(&[1]),
            "ScatterElements" => self.elements_along(&[1, 2]),
            "GatherND" => self.gather_nd(),
            "Compress" => self.compress(),
            _ => return None,
        })
    }

    fn gather_along(&self) -> RuleResult {
        let (data, indices) = (self.input(0)?, self.input(1)?);
        if [data, indices]
            .iter()
            .any(|value| value.flow == Flow::RowCount)
        {
            return Err(RowEffect(Mixing::Unknown, "picks by the number of rows"));
        }
        let axis = self.axis(data, 0)?;
        let wide = self.rank(indices)?;
        let flow = match (data.axis(), indices.axis()) {
            (None, None) => Flow::Same,
            (Some(rows), None) if rows == axis => return Err(PICKS),
            (Some(rows), None) => Flow::Rows {
                axis: if rows < axis { rows } else { rows + wide - 1 },
            },
            (None, Some(rows)) => Flow::Rows { axis: axis + rows },
            // Each row's indices would select from the rows of all requests.
            (Some(_), Some(_)) => {
                return Err(RowEffect(
                    Mixing::Proved,
                    "picks for each row from every row",
                ));
            }
        };
        let dims = data.dims.as_ref().ok_or(UNKNOWN)?;
        let mut picked = dims.get(..axis).unwrap_or_default().to_vec();
        picked.extend(indices.dims.iter().flatten().cloned());
        picked.extend(dims.get(axis + 1..).unwrap_or_default().iter().cloned());
        Ok(vec![TracedTensor::new(flow, Some(picked))])
    }

    /// The rule of operators whose inputs `aligned` (indices, and updates) must have the same rows
    /// as the data.
    fn elements_along(&self, aligned: &[usize]) -> RuleResult {
        let data = self.input(0)?;
        let axis = self.axis(data, 0)?;
        let Some(rows) = data.axis() else {
            return Err(UNKNOWN);
        };
        if rows == axis {
            return Err(PICKS);
        }
        let own = data.dim(rows);
        for index in aligned {
            let other = self.input(*index)?;
            if other.axis() != Some(rows) || other.dim(rows) != own || own.is_none() {
                return Err(UNKNOWN);
            }
        }
        let shaped = if self.node.op == "GatherElements" {
            self.input(1)?
        } else {
            data
        };
        Ok(vec![TracedTensor::new(
            data.flow.clone(),
            shaped.dims.clone(),
        )])
    }

    fn gather_nd(&self) -> RuleResult {
        let (data, indices) = (self.input(0)?, self.input(1)?);
        let batch =
            usize::try_from(self.node.int("batch_dims").unwrap_or(0)).map_err(|_| UNKNOWN)?;
        let last = self.rank(indices)?.checked_sub(1).ok_or(UNKNOWN)?;
        let axis = match (data.axis(), indices.axis()) {
            // Each row selects from a constant.
            (None, Some(rows)) if rows < last && batch == 0 => rows,
            (Some(a), Some(b))
                if a == b && a < batch && b < last && data.dim(a) == indices.dim(b) =>
            {
                a
            }
            _ => return Err(UNKNOWN),
        };
        // The size of the indices' last dimension is the number of dimensions of the data from
        // which they select.
        let depth = indices
            .dim(last)
            .and_then(Size::as_fixed)
            .and_then(|size| usize::try_from(size).ok())
            .ok_or(UNKNOWN)?;
        let mut dims = indices.dims.clone().unwrap_or_default();
        dims.pop();
        dims.extend(
            data.dims
                .as_ref()
                .ok_or(UNKNOWN)?
                .iter()
                .skip(batch + depth)
                .cloned(),
        );
        Ok(vec![TracedTensor::new(Flow::Rows { axis }, Some(dims))])
    }

    fn compress(&self) -> RuleResult {
        self.others_same(&[0]).map_err(|_| {
            RowEffect(
                Mixing::DataDependent,
                "keeps a number of values that depends on the rows",
            )
        })?;
        let value = self.input(0)?;
        if self.node.int("axis").is_none() {
            return Err(RowEffect(
                Mixing::DataDependent,
                "keeps values of all rows in one list",
            ));
        }
        let axis = self.axis(value, 0)?;
        if value.axis() == Some(axis) {
            return Err(PICKS);
        }
        let mut dims = value.dims.clone().ok_or(UNKNOWN)?;
        *dims.get_mut(axis).ok_or(UNKNOWN)? = self.fresh();
        Ok(vec![TracedTensor::new(value.flow.clone(), Some(dims))])
    }
}
