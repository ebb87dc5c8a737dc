//! Assignment: the arm of a rollout that answers a request.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use crate::{
    id::PredictionId,
    registry::{
        servable::Servable,
        traffic::{CandidateArm, Traffic},
    },
    rollout::{plan::AssignmentKey, split::KeyHash, tally::Unit},
    schema::{
        Schema,
        binding::Binding,
        columns::{Column, Columns},
    },
};

/// The arm and the unit of a request in a rollout.
pub(crate) struct Assignment {
    pub traffic: Arc<Traffic>,
    pub hash: KeyHash,
    /// The index of the arm. 0 is the stable version; the candidates follow in their order.
    pub arm: usize,
    pub unit: Unit,
    pub started: Instant,
    /// Whether the engine run of the request has begun.
    pub running: Arc<AtomicBool>,
}

impl Assignment {
    /// Assigns the request to an arm. `columns`: the request's columns as the stable version
    /// decoded them. `None` without a schema.
    pub(crate) fn new(
        traffic: &Arc<Traffic>,
        header: Option<&[u8]>,
        columns: Option<(&Schema, &Columns)>,
        id: PredictionId,
        now: Instant,
    ) -> Assignment {
        let step = &traffic.step;
        let salt = step.salt.as_bytes();
        let field = |name: &str| {
            columns
                .and_then(|(schema, columns)| field_key(columns.columns.get(schema.column(name)?)?))
        };
        let key = match &step.plan.key {
            AssignmentKey::PredictionId => None,
            AssignmentKey::Header(_) => header.map(<[u8]>::to_vec),
            AssignmentKey::Field(name) => field(name),
        };
        // A request without the key is its own unit.
        let hash = match key {
            Some(key) => KeyHash::of(salt, &key),
            None => KeyHash::of(salt, id.write(&mut [0; 26]).as_bytes()),
        };
        let arm = traffic.assign(hash, now).map_or(0, |(index, _)| index + 1);
        let unit = Unit {
            counts: step.tally.claim(arm, hash.slot),
            slot: hash.slot,
            at_seconds: step.seconds(now),
        };
        Assignment {
            traffic: Arc::clone(traffic),
            hash,
            arm,
            unit,
            started: now,
            running: Arc::default(),
        }
    }

    /// The index of the candidate among the rollout's candidates. `None` for the stable version.
    pub(crate) fn candidate(&self) -> Option<usize> {
        self.arm.checked_sub(1)
    }

    /// The candidate that answers. `None` if the stable version answers.
    pub(crate) fn servable(&self) -> Option<&Arc<Servable>> {
        Some(&self.candidate_arm()?.servable)
    }

    /// Converts the decoded columns to those of the candidate that answers. `None` if they need no
    /// conversion.
    pub(crate) fn binding(&self) -> Option<&Binding> {
        self.candidate_arm()?.binding.as_ref()
    }

    fn candidate_arm(&self) -> Option<&CandidateArm> {
        self.traffic.arms.get(self.candidate()?)?.as_ref()
    }

    /// Whether candidates also answer a copy of the request.
    pub(crate) fn is_shadowed(&self) -> bool {
        self.arm == 0 && self.traffic.shadows(self.hash).next().is_some()
    }
}

/// The field's value in the first instance, as bytes.
fn field_key(column: &Column) -> Option<Vec<u8>> {
    match column {
        Column::Boolean(values) => values.first()?.map(|value| vec![u8::from(value)]),
        Column::Integer(values) => values.first()?.map(|value| value.to_le_bytes().to_vec()),
        Column::Number(values) => values
            .first()
            .filter(|value| !value.is_nan())
            .map(|value| value.to_bits().to_le_bytes().to_vec()),
        Column::Text(spans) | Column::Binary(spans) => spans.get(0).map(<[u8]>::to_vec),
        Column::Array(_) => None,
    }
}
