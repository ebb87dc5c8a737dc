//! Rollout evidence: an observer that counts how the requests of each arm ended.

use std::{borrow::Cow, time::Duration};

use crate::{
    predict::{
        PredictError,
        event::{Observer, PredictionEvent},
        prediction::ModelOutput,
    },
    registry::traffic::Traffic,
    rollout::tally::{self, Unit},
    tensor::{Data, Tensors},
    transform::outputs::{Json, OutputColumn},
};

/// Maximum number of values of an output that are searched for NaN. The search must not cost more
/// than the answer.
const MAX_SEARCHED: usize = 1 << 16;

/// Number of separate counts for classes. If a model has more classes, those with the same
/// remainder share a count, in every arm and every process.
const MAX_CLASSES: i64 = 50;

pub(super) struct RolloutEvidence;

impl Observer for RolloutEvidence {
    fn observe(&self, event: &PredictionEvent<'_>) {
        if let Some(assignment) = event.assignment {
            let (traffic, arm, unit) = (&assignment.traffic, assignment.arm, assignment.unit);
            count(traffic, arm, unit, event.elapsed, event.outcome);
        }
    }
}

/// Counts the outcome of a request, or of a shadow copy of a request.
pub(super) fn count(
    traffic: &Traffic,
    arm: usize,
    unit: Unit,
    elapsed: Duration,
    outcome: Result<&ModelOutput, &PredictError>,
) {
    let prediction;
    let outcome = match outcome {
        Ok(output) if has_nan(output) => tally::RequestOutcome::NotFinite,
        Ok(output) => {
            prediction = unit.counts.then(|| first_prediction(output)).flatten();
            tally::RequestOutcome::Answered {
                prediction: prediction.as_deref(),
            }
        }
        Err(PredictError::NotFinite(_)) => tally::RequestOutcome::NotFinite,
        Err(error) => tally::RequestOutcome::Failed {
            // The request matches the schema. If the version's graph refuses it anyway, the version
            // has failed.
            kind: if matches!(error, PredictError::Refused(_)) {
                "inference"
            } else {
                error.code().kind().unwrap_or("internal")
            },
            lost: matches!(error, PredictError::Lost(_)),
            callers: may_be_the_callers(error),
        },
    };
    traffic.step.tally.observe(arm, unit, elapsed, &outcome);
}

/// Whether the caller may have caused the failure. The caller chooses the deadline, the values, and
/// when to disconnect. Such failures are compared between the arms, because they affect all arms
/// alike. They don't count against an absolute ceiling: otherwise any caller could abort any
/// rollout.
fn may_be_the_callers(error: &PredictError) -> bool {
    match error {
        PredictError::DeadlineExceeded
        | PredictError::Cancelled
        | PredictError::Invalid { .. }
        | PredictError::Refused(_)
        | PredictError::Malformed(_) => true,
        PredictError::Lost(error) => matches!(**error, PredictError::Cancelled),
        _ => false,
    }
}

/// Whether an output of the graph contains NaN. Fields with NaN were refused earlier; graph outputs
/// were not.
fn has_nan(output: &ModelOutput) -> bool {
    let ModelOutput::Graph(Tensors(outputs)) = output else {
        return false;
    };
    outputs.iter().any(|(_, tensor)| match tensor.data() {
        Data::Fp32(values) => values.iter().take(MAX_SEARCHED).any(|value| value.is_nan()),
        Data::Fp64(values) => values.iter().take(MAX_SEARCHED).any(|value| value.is_nan()),
        _ => false,
    })
}

fn label(labels: &[Json], index: usize) -> Option<Cow<'_, str>> {
    let label = labels.get(index)?;
    if labels.len() <= MAX_CLASSES as usize {
        return Some(Cow::Borrowed(&**label));
    }
    let remainder = index % MAX_CLASSES as usize;
    Some(Cow::Owned(format!("classes {remainder} of {MAX_CLASSES}")))
}

/// The prediction for the first instance, for counting: a class that the package declares, or the
/// bin of a number. A string that the model computes may come from the caller, so it is never
/// counted.
fn first_prediction(output: &ModelOutput) -> Option<Cow<'_, str>> {
    match output {
        ModelOutput::Fields(outputs) => {
            let columns = || outputs.fields.iter().map(|(_, column)| column);
            let class = columns().find_map(first_class);
            class.or_else(|| columns().find_map(first_bin))
        }
        ModelOutput::Graph(Tensors(outputs)) => {
            let (_, tensor) = outputs.first()?;
            let bin = |value: f64| Cow::Owned(tally::bin(value));
            match tensor.data() {
                Data::Int64(values) => values.first().map(|value| match value {
                    0..MAX_CLASSES => Cow::Owned(value.to_string()),
                    _ => bin(*value as f64),
                }),
                Data::Fp32(values) => values.first().map(|value| bin(f64::from(*value))),
                Data::Fp64(values) => values.first().map(|value| bin(*value)),
                _ => None,
            }
        }
    }
}

fn first_class(column: &OutputColumn) -> Option<Cow<'_, str>> {
    match column {
        OutputColumn::Labels { labels, indices } => label(labels, *indices.first()?),
        OutputColumn::TopK { labels, ranked, .. } => label(labels, *ranked.first()?),
        OutputColumn::Bools { values, .. } => values
            .first()
            .map(|value| Cow::Borrowed(if *value { "true" } else { "false" })),
        OutputColumn::Texts { .. }
        | OutputColumn::Numbers { .. }
        | OutputColumn::Map { .. }
        | OutputColumn::Ragged { .. } => None,
    }
}

fn first_bin(column: &OutputColumn) -> Option<Cow<'_, str>> {
    match column {
        OutputColumn::Numbers { shape, values } if shape.is_empty() => {
            values.get_f64(0).map(|value| Cow::Owned(tally::bin(value)))
        }
        _ => None,
    }
}
