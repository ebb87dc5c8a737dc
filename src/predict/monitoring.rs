//! Monitoring: an observer that counts the inputs and predictions of each version.

use crate::{
    predict::{
        assign::Assignment,
        event::{AssignedRequest, Observer, PredictionEvent, SharedInput},
        prediction::ModelOutput,
    },
    registry::servable::Servable,
};

pub(super) struct Monitoring;

impl Observer for Monitoring {
    fn wants_input(&self, request: &AssignedRequest<'_>) -> bool {
        let candidate = request.assignment.and_then(Assignment::servable);
        let servable: &Servable = candidate.unwrap_or(&request.routed.servable);
        servable.monitor.is_some()
    }

    fn observe(&self, event: &PredictionEvent<'_>) {
        let Some(monitor) = &event.servable.monitor else {
            return;
        };
        if let Some(SharedInput::Columns(columns)) = event.input {
            match event.assignment.and_then(Assignment::binding) {
                None => monitor.count_inputs(columns),
                // The columns are those of the version that decoded the request.
                Some(binding) => monitor.count_inputs(&binding.bind_ref(columns)),
            }
        }
        if let Ok(ModelOutput::Fields(outputs)) = event.outcome {
            monitor.count_predictions(outputs);
        }
    }
}
