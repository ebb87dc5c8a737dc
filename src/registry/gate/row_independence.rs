//! Tests whether a row has the same answer in a batch as alone, whatever the other rows contain. A
//! batch of only golden examples would show this only for similar rows.

use std::time::{Duration, Instant};

use crate::{
    engine::Engine,
    graph::Vocabulary,
    registry::gate::{perturbation::Perturbation, tensor_difference::first_difference},
    tensor::{Tensors, join, split},
};

/// Maximum number of rows that are tried. More rows would find few additional errors.
const MAX_ROWS: usize = 8;

/// Maximum duration of the tests. A slow graph is tried with fewer rows, but with every
/// perturbation.
const BUDGET: Duration = Duration::from_secs(3);

/// Maximum factor by which the required runs may exceed the budget.
const BUDGET_FACTOR: u32 = 4;

/// The number of runs that contain each row: two for each perturbation, and the batches.
const RUNS_PER_ROW: f64 = 24.0;

/// Batch sizes that are always tried, in addition to the largest size.
const REQUIRED_SIZES: [usize; 3] = [2, 3, 5];

/// Batch sizes that are tried if time is left. An effect may occur at one size only, for example at
/// the width of a vector register.
const OPTIONAL_SIZES: [usize; 14] = [4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 32];

/// Why requests must not share runs of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Dependence {
    /// A row had a different answer in a batch than alone.
    Shown(String),
    /// No batch could be tried.
    NotTried(String),
}

impl Dependence {
    pub(super) fn because(self) -> String {
        match self {
            Dependence::Shown(because) | Dependence::NotTried(because) => because,
        }
    }
}

/// Returns the row and slight variations of it. If a batch contained only rows of zeros, the effect
/// of the other rows could also be zero. The graph may reject some variations.
pub(super) fn variations(row: &Tensors, vocabulary: &Vocabulary) -> Vec<Tensors> {
    let others = (1..=3).filter_map(|salt| Perturbation::Variation(salt).apply(row, vocabulary));
    std::iter::once(row.clone()).chain(others).collect()
}

/// Runs each row in batches with perturbed versions of all rows and with the other rows, in
/// different orders and sizes.
///
/// # Errors
/// If a row's answer in a batch differs from its answer alone by more than rounding, or if no batch
/// could be tried.
pub(super) fn prove(
    engine: &mut dyn Engine,
    rows: &[Tensors],
    vocabulary: &Vocabulary,
    max_batch_size: usize,
) -> Result<(), Dependence> {
    let since = Instant::now();
    let mut rows = answer_alone(engine, rows);
    let Some((first, count)) = rows.first().zip(u32::try_from(rows.len()).ok()) else {
        return Err(Dependence::NotTried(
            "no row is known that the graph answers".to_owned(),
        ));
    };
    let mut test = IndependenceTest {
        varied: vec![false; first.inputs.0.len()],
        engine,
        max_batch_size,
    };
    let seconds_per_run = (since.elapsed() / count).as_secs_f64();
    let affordable = BUDGET.as_secs_f64() / (seconds_per_run * RUNS_PER_ROW).max(1e-9);
    // At least one row is kept, so that a slow graph is tested too, up to `BUDGET_FACTOR`.
    rows.truncate((affordable as usize).max(1));
    for perturbation in Perturbation::ALL {
        let perturbed: Vec<Tensors> = rows
            .iter()
            .filter_map(|row| perturbation.apply(&row.inputs, vocabulary))
            .collect();
        // A graph may treat its first row in a special way.
        for perturbed_first in [true, false] {
            if since.elapsed() > BUDGET * BUDGET_FACTOR {
                return Err(Dependence::NotTried(
                    "batches of the rows take too long to be tried".to_owned(),
                ));
            }
            let others = Others {
                rows: &perturbed,
                first: perturbed_first,
                description: perturbation.describe(),
            };
            test.with_perturbed(&rows, &others)?;
        }
    }
    for size in REQUIRED_SIZES.into_iter().chain([max_batch_size]) {
        test.with_each_other(&rows, size.min(max_batch_size))?;
    }
    for size in OPTIONAL_SIZES
        .into_iter()
        .filter(|size| *size < max_batch_size)
    {
        // The required sizes were tried. The optional sizes only add evidence.
        if since.elapsed() > BUDGET {
            break;
        }
        test.with_each_other(&rows, size)?;
    }
    test.check_all_inputs_varied(&rows)
}

/// A row, and its outputs when it runs alone.
struct AnsweredRow {
    inputs: Tensors,
    outputs: Tensors,
}

impl AnsweredRow {
    fn member(&self) -> Member<'_> {
        Member {
            inputs: &self.inputs,
            expected: Some(&self.outputs),
        }
    }
}

/// Runs each row alone. Rows with a shape different from the first row's can't share a run with it,
/// and the graph may reject generated rows.
fn answer_alone(engine: &mut dyn Engine, rows: &[Tensors]) -> Vec<AnsweredRow> {
    let mut answered: Vec<AnsweredRow> = Vec::new();
    for inputs in rows {
        if answered.len() == MAX_ROWS {
            break;
        }
        let fits = answered
            .first()
            .is_none_or(|first| join(&[&first.inputs, inputs]).is_some());
        if fits && let Ok(outputs) = engine.run(inputs) {
            answered.push(AnsweredRow {
                inputs: inputs.clone(),
                outputs,
            });
        }
    }
    answered
}

/// A row of a batch. Perturbed rows have no expected outputs.
#[derive(Clone, Copy)]
struct Member<'a> {
    inputs: &'a Tensors,
    expected: Option<&'a Tensors>,
}

impl Member<'_> {
    fn perturbed(inputs: &Tensors) -> Member<'_> {
        Member {
            inputs,
            expected: None,
        }
    }
}

/// Perturbed rows that share a run with the rows under test.
struct Others<'a> {
    rows: &'a [Tensors],
    /// Whether each perturbed row comes before the row under test. Otherwise it comes after the
    /// row.
    first: bool,
    description: &'static str,
}

struct IndependenceTest<'a> {
    engine: &'a mut dyn Engine,
    max_batch_size: usize,
    /// For each input: whether the graph answered a batch with different values of this input.
    varied: Vec<bool>,
}

impl IndependenceTest<'_> {
    /// Checks that every input was varied. Otherwise the rows may depend on each other through an
    /// input that was the same in all rows.
    fn check_all_inputs_varied(&self, rows: &[AnsweredRow]) -> Result<(), Dependence> {
        let inputs = rows
            .first()
            .map(|row| row.inputs.0.as_slice())
            .unwrap_or_default();
        let same = inputs
            .iter()
            .zip(&self.varied)
            // An empty tensor has no values to vary.
            .find(|((_, tensor), varied)| !**varied && !tensor.data().is_empty());
        match same {
            None => Ok(()),
            Some(((name, _), _)) => Err(Dependence::NotTried(format!(
                "no other values of input \"{name}\" are known that the graph answers; golden examples would show some"
            ))),
        }
    }

    /// Runs each row next to a perturbed row, with the maximum number of pairs in each run.
    fn with_perturbed(
        &mut self,
        rows: &[AnsweredRow],
        others: &Others<'_>,
    ) -> Result<(), Dependence> {
        // Half of the rows in each run are perturbed.
        let pairs = (self.max_batch_size / 2).max(1);
        for (rows, perturbed) in rows.chunks(pairs).zip(others.rows.chunks(pairs)) {
            let mut members = Vec::new();
            for (row, other) in rows.iter().zip(perturbed) {
                let (row, other) = (row.member(), Member::perturbed(other));
                members.extend(if others.first {
                    [other, row]
                } else {
                    [row, other]
                });
            }
            if self.run_batch(&members, others.description)? {
                continue;
            }
            // A perturbed row that fails alone may also fail the batch. The batcher isolates such
            // rows.
            let accepted: Vec<&Tensors> = perturbed
                .iter()
                .filter(|other| self.engine.run(other).is_ok())
                .collect();
            let members: Vec<Member<'_>> = rows
                .iter()
                .map(AnsweredRow::member)
                .chain(accepted.iter().map(|other| Member::perturbed(other)))
                .collect();
            if !accepted.is_empty() && !self.run_batch(&members, others.description)? {
                return Err(Dependence::Shown(format!(
                    "rows that are answered alone fail in a batch with {}",
                    others.description
                )));
            }
        }
        Ok(())
    }

    /// Runs `size` rows together, once with the first row at the start and once with the second.
    fn with_each_other(&mut self, rows: &[AnsweredRow], size: usize) -> Result<(), Dependence> {
        for start in 0..rows.len().min(2) {
            // Steps of 3 and a shift after each round vary the order of the rows.
            let members: Vec<Member<'_>> = (0..size)
                .filter_map(|index| rows.get((start + index * 3 + index / rows.len()) % rows.len()))
                .map(AnsweredRow::member)
                .collect();
            if !self.run_batch(&members, &format!("others in a run of {size}"))? {
                return Err(Dependence::Shown(format!(
                    "rows that are answered alone fail in a run of {size}"
                )));
            }
        }
        Ok(())
    }

    /// Runs all members together. Returns `Ok(false)` if the run fails.
    ///
    /// # Errors
    /// If a member's outputs differ from the expected ones. `others` describes the other members.
    fn run_batch(&mut self, members: &[Member<'_>], others: &str) -> Result<bool, Dependence> {
        let inputs: Vec<&Tensors> = members.iter().map(|member| member.inputs).collect();
        let Some(batch) = join(&inputs) else {
            // The server would not run these rows together either.
            return Ok(true);
        };
        let Ok(outputs) = self.engine.run(&batch) else {
            // The caller decides whether a single row caused the failure.
            return Ok(false);
        };
        let parts = split_rows(outputs, members.len())?;
        self.note_varied_inputs(members);
        for (part, member) in parts.iter().zip(members) {
            if let Some(expected) = member.expected {
                check_same(expected, part, others)?;
            }
        }
        Ok(true)
    }

    fn note_varied_inputs(&mut self, members: &[Member<'_>]) {
        let Some(tested) = members.iter().find(|member| member.expected.is_some()) else {
            return;
        };
        for member in members {
            let pairs = tested.inputs.0.iter().zip(&member.inputs.0);
            for (varied, ((_, a), (_, b))) in self.varied.iter_mut().zip(pairs) {
                *varied = *varied || a.data() != b.data();
            }
        }
    }
}

fn split_rows(outputs: Tensors, rows: usize) -> Result<Vec<Tensors>, Dependence> {
    let shapes: Vec<String> = outputs
        .0
        .iter()
        .map(|(name, tensor)| format!("{name} {:?}", tensor.shape()))
        .collect();
    split(outputs, &vec![1; rows]).ok_or_else(|| {
        Dependence::Shown(format!(
            "{rows} rows give {}: not a row for each",
            shapes.join(", ")
        ))
    })
}

fn check_same(alone: &Tensors, in_batch: &Tensors, others: &str) -> Result<(), Dependence> {
    for ((name, alone), (_, in_batch)) in alone.0.iter().zip(&in_batch.0) {
        if let Some((a, b)) = first_difference(alone, in_batch) {
            return Err(Dependence::Shown(format!(
                "a row has another answer in a batch with {others} (output \"{name}\": {a} alone, {b} in the batch)"
            )));
        }
    }
    Ok(())
}
