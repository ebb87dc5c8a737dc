//! The difference between two answers to the same request.

use crate::{
    predict::prediction::ModelOutput,
    tensor::{Data, Tensors},
    transform::outputs::OutputColumn,
};

/// The difference between a candidate's answer and the stable version's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct AnswerDifference {
    pub differs: bool,
    /// The largest absolute difference between the first numbers of the two answers. NaN if one of
    /// the numbers is NaN.
    pub magnitude: f64,
}

/// Compares two answers. If both have classes, only the classes count. Numbers are compared only
/// without classes, because the probabilities of two models are never equal.
pub(super) fn compare(
    stable: &ModelOutput,
    candidate: &ModelOutput,
    tolerance: f64,
) -> AnswerDifference {
    match (stable, candidate) {
        (ModelOutput::Fields(stable), ModelOutput::Fields(candidate)) => {
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
            let differs = if classes.is_empty() {
                differences.iter().any(|d| exceeds(*d, tolerance))
            } else {
                classes.contains(&true)
            };
            AnswerDifference {
                differs,
                magnitude: differences.first().copied().unwrap_or_default(),
            }
        }
        (ModelOutput::Graph(Tensors(stable)), ModelOutput::Graph(Tensors(candidate))) => {
            match stable.first().zip(candidate.first()) {
                Some(((_, a), (_, b))) => compare_data(a.data(), b.data(), tolerance),
                None => AnswerDifference {
                    differs: false,
                    magnitude: 0.0,
                },
            }
        }
        _ => AnswerDifference {
            differs: true,
            magnitude: 0.0,
        },
    }
}

fn compare_data(a: &Data, b: &Data, tolerance: f64) -> AnswerDifference {
    let numbers = |largest: f64, same_length: bool| AnswerDifference {
        differs: !same_length || exceeds(largest, tolerance),
        magnitude: largest,
    };
    match (a, b) {
        (Data::Fp32(a), Data::Fp32(b)) => {
            let wide = |x: &f32| f64::from(*x);
            numbers(
                largest(a.iter().map(wide), b.iter().map(wide)),
                a.len() == b.len(),
            )
        }
        (Data::Fp64(a), Data::Fp64(b)) => numbers(
            largest(a.iter().copied(), b.iter().copied()),
            a.len() == b.len(),
        ),
        (a, b) => AnswerDifference {
            differs: a != b,
            magnitude: 0.0,
        },
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

/// Whether the difference exceeds the tolerance. A NaN exceeds every tolerance.
fn exceeds(difference: f64, tolerance: f64) -> bool {
    difference.is_nan() || difference > tolerance
}

/// The largest absolute difference. NaN if one of the numbers is NaN.
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
