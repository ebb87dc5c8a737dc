//! Intake: decodes a request, assigns it to a version, and preprocesses it for that version.

use std::{sync::Arc, time::Instant};

use crate::{
    decode::DecodeLimits,
    predict::{
        PredictError,
        assign::Assignment,
        decode::{DecodeOptions, decode},
        event::{PendingEvent, SharedInput},
        input::Input,
        prepared::{Decoded, DecodedFields, Prepared},
        preprocess::preprocess,
    },
    registry::servable::Contents,
};

/// The parameters of a request that the intake needs in addition to the data.
pub(super) struct Intake {
    /// The value of the header by which the rollout assigns requests. `None` if the request has
    /// none, or no rollout uses a header.
    pub key: Option<Vec<u8>>,
    /// The names of the outputs that the caller requests.
    pub wanted: Vec<String>,
    /// Whether the caller named a version by its number.
    pub explicit: bool,
    pub limits: DecodeLimits,
}

impl Intake {
    /// Decodes the request with the stable version's schema, assigns it to a version, and
    /// preprocesses it for that version. `event` keeps the assignment, even if a later step fails.
    pub(super) fn take(
        &self,
        input: Input,
        event: &mut PendingEvent,
    ) -> Result<Prepared, PredictError> {
        let stable = Arc::clone(&event.routed.servable);
        let options = DecodeOptions {
            wanted: &self.wanted,
            explicit: self.explicit,
            limits: &self.limits,
        };
        let decoded = decode(&stable, input, &options)?;
        let now = Instant::now();
        let columns = match (&decoded, stable.package()) {
            (Decoded::Fields(fields), Some(package)) => {
                Some((&package.parts.input, &fields.columns))
            }
            _ => None,
        };
        event.assignment =
            event.routed.traffic.as_ref().map(|traffic| {
                Assignment::new(traffic, self.key.as_deref(), columns, event.id, now)
            });
        if let Some(servable) = event.assignment.as_ref().and_then(Assignment::servable) {
            event.servable = Arc::clone(servable);
        }
        let prepared = prepare(decoded, event.keeps_input(now), event)?;
        (event.rows, event.by_row, event.timing) =
            (prepared.rows, prepared.by_row, prepared.timing);
        Ok(prepared)
    }
}

/// Preprocesses the request for the assigned version. If `keeps` is set, the event keeps the
/// decoded input.
fn prepare(
    decoded: Decoded,
    keeps: bool,
    event: &mut PendingEvent,
) -> Result<Prepared, PredictError> {
    let servable = Arc::clone(&event.servable);
    match (decoded, &servable.contents) {
        (Decoded::Fields(fields), Contents::Package(packaged)) => {
            let DecodedFields { columns, context } = fields;
            let binding = event.assignment.as_ref().and_then(Assignment::binding);
            let (prepared, columns) = match binding {
                None => (preprocess(&servable, packaged, &columns, context)?, columns),
                // The event gets the columns as they were decoded.
                Some(binding) if keeps => {
                    let bound = binding.bind_ref(&columns);
                    let prepared = preprocess(&servable, packaged, &bound, context)?;
                    drop(bound);
                    (prepared, columns)
                }
                Some(binding) => {
                    let bound = binding.bind(columns);
                    (preprocess(&servable, packaged, &bound, context)?, bound)
                }
            };
            // The columns are moved, not copied, because no later step needs them.
            event.input = keeps.then(|| SharedInput::Columns(Arc::new(columns)));
            Ok(prepared)
        }
        (Decoded::Tensors(prepared), _) => {
            // The engine consumes its tensors, so the event needs a copy.
            let group = prepared.groups.first().filter(|_| keeps);
            event.input = group.map(|group| SharedInput::Tensors(Arc::new(group.tensors.clone())));
            Ok(prepared)
        }
        // A graph without a schema never decodes to fields.
        (Decoded::Fields(_), Contents::Bare(_)) => Err(PredictError::Broken),
    }
}
