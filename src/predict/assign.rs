//! Assign: which arm of a rollout answers a request, and what is noted of its answer.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    id::PredictionId,
    predict::{Outcome, PredictError},
    registry::traffic::Traffic,
    rollout::{
        plan::Key,
        split::KeyHash,
        tally::{self, Unit},
    },
    schema::{
        Schema,
        columns::{Column, Columns},
    },
    tensor::{Data, Tensors},
    transform::outputs::OutputColumn,
};

/// A request's part in a rollout. One that ends without an answer, because its caller hung up, is noted, too.
pub struct Part {
    pub traffic: Arc<Traffic>,
    pub hash: KeyHash,
    /// 0 is the stable version; candidates follow in their order.
    pub arm: usize,
    pub unit: Unit,
    started: Instant,
    noted: bool,
    /// Its run has begun.
    pub running: Arc<AtomicBool>,
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.noted {
            // A run that hangs is one failure, however many wait for it in vain.
            let lost = self.running.load(Ordering::Relaxed);
            let outcome = tally::Outcome::Failed {
                kind: "cancelled",
                lost,
                callers: true,
            };
            self.traffic
                .step
                .tally
                .observe(self.arm, self.unit, self.started.elapsed(), &outcome);
        }
    }
}

impl Part {
    /// Decides the arm. `columns` are the request's fields as the stable version decoded them, where it has some.
    pub fn new(
        traffic: &Arc<Traffic>,
        header: Option<&[u8]>,
        columns: Option<(&Schema, &Columns)>,
        id: PredictionId,
        now: Instant,
    ) -> Part {
        let step = &traffic.step;
        let salt = step.salt.as_bytes();
        let field = |name: &str| {
            columns
                .and_then(|(schema, columns)| field_key(columns.columns.get(schema.column(name)?)?))
        };
        let key = match &step.plan.key {
            Key::PredictionId => None,
            Key::Header(_) => header.map(<[u8]>::to_vec),
            Key::Field(name) => field(name),
        };
        // A request without the key is a unit of its own.
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
        Part {
            traffic: Arc::clone(traffic),
            hash,
            arm,
            unit,
            started: now,
            noted: false,
            running: Arc::default(),
        }
    }

    pub fn observe(&mut self, outcome: Result<&Outcome, &PredictError>) {
        self.noted = true;
        let elapsed = self.started.elapsed();
        note(&self.traffic, self.arm, self.unit, elapsed, outcome);
    }
}

/// Counts how a request, or a copy of one, ended.
pub fn note(
    traffic: &Traffic,
    arm: usize,
    unit: Unit,
    elapsed: Duration,
    outcome: Result<&Outcome, &PredictError>,
) {
    let tally = &traffic.step.tally;
    let text;
    let noted = match outcome {
        Ok(outcome) if holds_nan(outcome) => tally::Outcome::NotFinite,
        Ok(outcome) => {
            text = if unit.counts {
                predicted(outcome)
            } else {
                None
            };
            tally::Outcome::Answered {
                prediction: text.as_deref(),
            }
        }
        Err(PredictError::NotFinite(_)) => tally::Outcome::NotFinite,
        Err(error) => tally::Outcome::Failed {
            // The request fits the schema: that this version's graph refuses it counts as a failure of its.
            kind: if matches!(error, PredictError::Refused(_)) {
                "inference"
            } else {
                error.code().kind().unwrap_or("internal")
            },
            lost: matches!(error, PredictError::Lost(_)),
            callers: may_be_the_callers(error),
        },
    };
    tally.observe(arm, unit, elapsed, &noted);
}

/// Whether the caller may have brought it about: it chooses the deadline, and the values. Such failures are compared between the
/// arms, which they hit alike; against an absolute ceiling anybody could bring down any rollout with them.
fn may_be_the_callers(error: &PredictError) -> bool {
    matches!(
        error,
        PredictError::DeadlineExceeded
            | PredictError::Invalid { .. }
            | PredictError::Refused(_)
            | PredictError::Malformed(_)
    )
}

/// The first instance's value, as bytes.
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

/// Outputs of more numbers than this are not looked through for those that are none.
const LOOKED_THROUGH: usize = 1 << 16;

/// Fields with such a number are refused before they get here; a graph's own outputs are not.
fn holds_nan(outcome: &Outcome) -> bool {
    let Outcome::Graph(Tensors(outputs)) = outcome else {
        return false;
    };
    outputs.iter().any(|(_, tensor)| match tensor.data() {
        Data::Fp32(values) => values
            .iter()
            .take(LOOKED_THROUGH)
            .any(|value| value.is_nan()),
        Data::Fp64(values) => values
            .iter()
            .take(LOOKED_THROUGH)
            .any(|value| value.is_nan()),
        _ => false,
    })
}

/// Classes that are counted apart; of more, those with the same rest share a count, in every arm and process alike.
const CLASSES: i64 = 50;

fn label(labels: &[crate::transform::outputs::Json], index: usize) -> Option<Cow<'_, str>> {
    let label = labels.get(index)?;
    let few = labels.len() <= CLASSES as usize;
    Some(if few {
        Cow::Borrowed(&**label)
    } else {
        Cow::Owned(format!("classes {} of {CLASSES}", index % CLASSES as usize))
    })
}

/// What was predicted for the first instance, for counting: a class that the package declares, or else the bin of a number. A text of
/// the model's own may be the caller's, and is never counted.
fn predicted(outcome: &Outcome) -> Option<Cow<'_, str>> {
    match outcome {
        Outcome::Fields(outputs) => {
            let class = outputs.fields.iter().find_map(|(_, column)| match column {
                OutputColumn::Labels { labels, indices } => label(labels, *indices.first()?),
                OutputColumn::TopK { labels, ranked, .. } => label(labels, *ranked.first()?),
                OutputColumn::Bools { values, .. } => values
                    .first()
                    .map(|value| Cow::Borrowed(if *value { "true" } else { "false" })),
                OutputColumn::Texts { .. }
                | OutputColumn::Numbers { .. }
                | OutputColumn::Map { .. }
                | OutputColumn::Ragged { .. } => None,
            });
            class.or_else(|| {
                outputs.fields.iter().find_map(|(_, column)| match column {
                    OutputColumn::Numbers { shape, values } if shape.is_empty() => {
                        values.get_f64(0).map(|value| Cow::Owned(tally::bin(value)))
                    }
                    _ => None,
                })
            })
        }
        Outcome::Graph(Tensors(outputs)) => {
            let (_, tensor) = outputs.first()?;
            match tensor.data() {
                Data::Int64(values) => values.first().map(|value| match value {
                    0..CLASSES => Cow::Owned(value.to_string()),
                    _ => Cow::Owned(tally::bin(*value as f64)),
                }),
                Data::Fp32(values) => values
                    .first()
                    .map(|value| Cow::Owned(tally::bin(f64::from(*value)))),
                Data::Fp64(values) => values.first().map(|value| Cow::Owned(tally::bin(*value))),
                _ => None,
            }
        }
    }
}

/// Whether two answers to one request differ, and by how much their first numbers do.
///
/// Where both have classes these decide; numbers are compared only where there is no class: probabilities of two models are never
/// the same.
pub fn compare(stable: &Outcome, candidate: &Outcome, tolerance: f64) -> (bool, f64) {
    match (stable, candidate) {
        (Outcome::Fields(stable), Outcome::Fields(candidate)) => {
            let shared = || {
                stable.fields.iter().filter_map(|(key, column)| {
                    let (_, other) = candidate.fields.iter().find(|(other, _)| other == key)?;
                    Some((column, other))
                })
            };
            let classes: Vec<bool> = shared().filter_map(|(a, b)| classes_differ(a, b)).collect();
            let differences: Vec<f64> = shared()
                .filter_map(|(a, b)| largest_difference(a, b))
                .collect();
            let first = differences.first().copied().unwrap_or_default();
            if classes.is_empty() {
                (differences.iter().any(|d| exceeds(*d, tolerance)), first)
            } else {
                (classes.contains(&true), first)
            }
        }
        (Outcome::Graph(Tensors(stable)), Outcome::Graph(Tensors(candidate))) => {
            let Some(((_, a), (_, b))) = stable.first().zip(candidate.first()) else {
                return (false, 0.0);
            };
            match (a.data(), b.data()) {
                (Data::Fp32(a), Data::Fp32(b)) => {
                    let largest = largest(
                        a.iter().map(|x| f64::from(*x)),
                        b.iter().map(|x| f64::from(*x)),
                    );
                    (a.len() != b.len() || exceeds(largest, tolerance), largest)
                }
                (Data::Fp64(a), Data::Fp64(b)) => {
                    let largest = largest(a.iter().copied(), b.iter().copied());
                    (a.len() != b.len() || exceeds(largest, tolerance), largest)
                }
                (a, b) => (a != b, 0.0),
            }
        }
        _ => (true, 0.0),
    }
}

fn classes_differ(a: &OutputColumn, b: &OutputColumn) -> Option<bool> {
    match (a, b) {
        (
            OutputColumn::Labels { labels, indices },
            OutputColumn::Labels {
                labels: other_labels,
                indices: others,
            },
        ) => {
            let same = |(a, b): (&usize, &usize)| labels.get(*a) == other_labels.get(*b);
            Some(indices.len() != others.len() || !indices.iter().zip(others).all(same))
        }
        (
            OutputColumn::TopK {
                labels,
                ranked,
                count,
                ..
            },
            OutputColumn::TopK {
                labels: other_labels,
                ranked: others,
                count: other_count,
                ..
            },
        ) => {
            let best = |(a, b): (&usize, &usize)| labels.get(*a) == other_labels.get(*b);
            Some(
                !ranked
                    .iter()
                    .step_by((*count).max(1))
                    .zip(others.iter().step_by((*other_count).max(1)))
                    .all(best),
            )
        }
        (OutputColumn::Texts { values, .. }, OutputColumn::Texts { values: others, .. }) => {
            Some(values != others)
        }
        (OutputColumn::Bools { values, .. }, OutputColumn::Bools { values: others, .. }) => {
            Some(values != others)
        }
        (
            OutputColumn::Ragged { runs, rows },
            OutputColumn::Ragged {
                runs: others,
                rows: other_rows,
            },
        ) if rows == other_rows => {
            let differ: Vec<bool> = runs
                .iter()
                .zip(others)
                .filter_map(|(a, b)| classes_differ(a, b))
                .collect();
            (!differ.is_empty()).then(|| differ.contains(&true))
        }
        _ => None,
    }
}

fn largest_difference(a: &OutputColumn, b: &OutputColumn) -> Option<f64> {
    match (a, b) {
        (
            OutputColumn::Numbers { values, .. } | OutputColumn::Map { values, .. },
            OutputColumn::Numbers { values: others, .. } | OutputColumn::Map { values: others, .. },
        ) => Some(largest(
            values.to_f64().into_iter(),
            others.to_f64().into_iter(),
        )),
        (
            OutputColumn::Ragged { runs, rows },
            OutputColumn::Ragged {
                runs: others,
                rows: other_rows,
            },
        ) if rows == other_rows => {
            let each = runs
                .iter()
                .zip(others)
                .filter_map(|(a, b)| largest_difference(a, b));
            each.reduce(|a, b| {
                if a.is_nan() || b.is_nan() {
                    f64::NAN
                } else {
                    f64::max(a, b)
                }
            })
        }
        _ => None,
    }
}

/// NaN does, too.
fn exceeds(difference: f64, tolerance: f64) -> bool {
    difference.is_nan() || difference > tolerance
}

/// NaN where one of the numbers is none.
fn largest(a: impl Iterator<Item = f64>, b: impl Iterator<Item = f64>) -> f64 {
    a.zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |largest, d| {
            if d.is_nan() || largest.is_nan() {
                f64::NAN
            } else {
                f64::max(largest, d)
            }
        })
}
