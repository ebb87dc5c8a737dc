//! Rules of recurrent networks and attention, whose inputs have rows and time steps.

use crate::graph::{
    flow::{Flow, Mixing, TracedTensor},
    rules::{OperatorCall, RowEffect, RuleResult, UNKNOWN},
    size::Size,
};

impl OperatorCall<'_, '_> {
    /// The rule of recurrent networks. Time steps are along dimension 0 and examples along
    /// dimension 1, or the reverse if `layout` is 1. `states` are the indices of the inputs with
    /// initial states.
    pub(super) fn recurrent(&self, states: &[usize], outputs: usize) -> RuleResult {
        let value = self.input(0)?;
        let batch = usize::from(self.node.int("layout").unwrap_or(0) == 0);
        match value.axis() {
            Some(axis) if axis == batch => {}
            // The state after one row would be passed to the next row.
            Some(axis) if axis == 1 - batch => {
                return Err(RowEffect(
                    Mixing::TimeSteps,
                    "processes the rows one after the other, like time steps",
                ));
            }
            _ => return Err(UNKNOWN),
        }
        // The states and lengths must have the same number of rows.
        let own = value.dim(batch).ok_or(UNKNOWN)?;
        let has_rows = |index: usize, axis: usize| match self.optional(index) {
            None => true,
            Some(other) => other.axis() == Some(axis) && other.dim(axis) == Some(own),
        };
        // The layout determines the dimension of examples in the initial states. A constant state
        // fits only one number of rows.
        let state_axis = usize::from(batch == 1);
        if !has_rows(4, 0) || !states.iter().all(|index| has_rows(*index, state_axis)) {
            return Err(UNKNOWN);
        }
        let mut with_rows = vec![0, 4];
        with_rows.extend_from_slice(states);
        self.others_same(&with_rows)?;
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
        let own = own.clone();
        let (all_axis, all, last_axis, last) = if batch == 1 {
            let all = vec![steps, directions.clone(), own.clone(), hidden.clone()];
            (2, all, 1, vec![directions, own, hidden])
        } else {
            let all = vec![own.clone(), steps, directions.clone(), hidden.clone()];
            (0, all, 0, vec![own, directions, hidden])
        };
        let mut values = vec![TracedTensor::new(Flow::Rows { axis: all_axis }, Some(all))];
        let last = TracedTensor::new(Flow::Rows { axis: last_axis }, Some(last));
        values.resize(outputs, last);
        Ok(values)
    }

    /// The rule of attention. Queries, keys and values must have the same rows. A mask may be the
    /// same for all rows.
    pub(super) fn attention(&self) -> RuleResult {
        let query = self.input(0)?;
        let own = query
            .dim(0)
            .filter(|_| query.axis() == Some(0))
            .ok_or(UNKNOWN)?;
        for index in 1..self.inputs.len() {
            match self.optional(index) {
                None => {}
                // A mask with fewer dimensions has no dimension of rows, because it is broadcast
                // from the last dimension on.
                Some(value)
                    if value.axis() == Some(0)
                        && value.dim(0) == Some(own)
                        && (index != 3 || value.rank() == Some(4)) => {}
                // A mask without rows is broadcast over them.
                Some(value)
                    if index == 3
                        && value.flow == Flow::Same
                        && (value.rank() == Some(2) || value.dim(0).is_some_and(Size::is_one)) => {}
                Some(_) => return Err(UNKNOWN),
            }
        }
        let rank = self.rank(query)?;
        let mut dims = self.unknown_sizes.fresh_dims(rank);
        if let Some(first) = dims.first_mut() {
            *first = own.clone();
        }
        let first = TracedTensor::new(Flow::Rows { axis: 0 }, Some(dims));
        let mut values = vec![first];
        // The other outputs are keys, values and scores, with the rows along their first dimension.
        for _ in 1..self.node.outputs.len() {
            let mut dims = self.unknown_sizes.fresh_dims(4);
            if let Some(first) = dims.first_mut() {
                *first = own.clone();
            }
            values.push(TracedTensor::new(Flow::Rows { axis: 0 }, Some(dims)));
        }
        Ok(values)
    }
}
