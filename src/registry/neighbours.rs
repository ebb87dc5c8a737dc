//! Neighbours: whether a row answers beside hostile others as it does alone. Golden examples in one batch prove it only for
//! neighbours like themselves.

use std::time::{Duration, Instant};

use half::{bf16, f16};

use crate::{
    engine::Engine,
    tensor::{Data, Tensor, Tensors, join, split},
};

/// Rows that are tried beside others; more prove little more.
const MAX_ROWS: usize = 8;

/// A slow graph is tried with fewer rows, but with every kind of neighbour.
const BUDGET: Duration = Duration::from_secs(3);

/// Text that is longer than any other.
const LONG_TEXT: usize = 4096;

/// What is done to a row to make a neighbour of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hostile {
    Scaled,
    Negated,
    Zero,
    NotANumber,
    Infinite,
    NegativeInfinite,
}

const KINDS: [Hostile; 6] =
    [Hostile::Scaled, Hostile::Negated, Hostile::Zero, Hostile::NotANumber, Hostile::Infinite, Hostile::NegativeInfinite];

impl Hostile {
    fn describe(self) -> &'static str {
        match self {
            Hostile::Scaled => "rows of ten thousand times its size",
            Hostile::Negated => "rows of the other sign",
            Hostile::Zero => "rows of zeros",
            Hostile::NotANumber => "rows of NaN",
            Hostile::Infinite => "rows of infinity",
            Hostile::NegativeInfinite => "rows of minus infinity",
        }
    }

    fn of(self, row: &Tensors) -> Option<Tensors> {
        let change = |tensor: &Tensor| Tensor::new(tensor.shape().to_vec(), self.data(tensor.data()));
        row.0.iter().map(|(name, tensor)| Some((name.clone(), change(tensor)?))).collect::<Option<Vec<_>>>().map(Tensors)
    }

    fn real(self, x: f64) -> f64 {
        match self {
            Hostile::Scaled => x * 1e4,
            Hostile::Negated => -x,
            Hostile::Zero => 0.0,
            Hostile::NotANumber => f64::NAN,
            Hostile::Infinite => f64::INFINITY,
            Hostile::NegativeInfinite => f64::NEG_INFINITY,
        }
    }

    fn data(self, data: &Data) -> Data {
        macro_rules! whole {
            ($variant:ident, $values:expr) => {
                Data::$variant(
                    $values
                        .iter()
                        .map(|x| match self {
                            Hostile::Zero => Default::default(),
                            Hostile::Negated => x.wrapping_neg(),
                            _ => *x,
                        })
                        .collect::<Vec<_>>()
                        .into(),
                )
            };
        }
        match data {
            Data::Fp32(values) => Data::Fp32(values.iter().map(|x| self.real(f64::from(*x)) as f32).collect::<Vec<_>>().into()),
            Data::Fp64(values) => Data::Fp64(values.iter().map(|x| self.real(*x)).collect::<Vec<_>>().into()),
            Data::Fp16(values) => Data::Fp16(values.iter().map(|x| f16::from_f64(self.real(x.to_f64()))).collect::<Vec<_>>().into()),
            Data::Bf16(values) => Data::Bf16(values.iter().map(|x| bf16::from_f64(self.real(x.to_f64()))).collect::<Vec<_>>().into()),
            Data::Bool(values) => Data::Bool(
                values
                    .iter()
                    .map(|x| match self {
                        Hostile::Zero => false,
                        Hostile::Negated => !x,
                        _ => *x,
                    })
                    .collect(),
            ),
            Data::Int8(values) => whole!(Int8, values),
            Data::Int16(values) => whole!(Int16, values),
            Data::Int32(values) => whole!(Int32, values),
            Data::Int64(values) => whole!(Int64, values),
            Data::Uint8(values) => whole!(Uint8, values),
            Data::Uint16(values) => whole!(Uint16, values),
            Data::Uint32(values) => whole!(Uint32, values),
            Data::Uint64(values) => whole!(Uint64, values),
            Data::Bytes(values) => Data::Bytes(
                values
                    .iter()
                    .map(|text| match self {
                        Hostile::Scaled => "long ".repeat(LONG_TEXT / 5),
                        Hostile::Zero => String::new(),
                        Hostile::Negated => text.chars().rev().collect(),
                        _ => text.clone(),
                    })
                    .collect(),
            ),
        }
    }
}

/// A row, and what the graph answers to it alone.
struct Alone {
    inputs: Tensors,
    outputs: Tensors,
}

/// Tries each row beside hostile versions of all, beside the others, in other orders and numbers of rows.
///
/// # Errors
/// What a row answered alone and beside others, where that differs by more than rounding; for people.
pub fn prove(engine: &mut dyn Engine, rows: &[Tensors], max_batch_size: usize) -> Result<(), String> {
    let mut trial = Trial(engine);
    let since = Instant::now();
    let mut alone: Vec<Alone> = Vec::new();
    for inputs in rows {
        let fits = alone.first().is_none_or(|first| join(&[&first.inputs, inputs]).is_some());
        if !fits || alone.len() == MAX_ROWS {
            continue;
        }
        // Golden rows were run before; invented ones may be refused.
        if let Ok(outputs) = trial.0.run(inputs) {
            alone.push(Alone { inputs: inputs.clone(), outputs });
        }
    }
    let Some(count) = u32::try_from(alone.len()).ok().filter(|count| *count > 0) else {
        return Err("no row is known that the graph answers".to_owned());
    };
    // As many rows as there is time for: each takes part in some two dozen runs.
    let each = since.elapsed() / count;
    let affordable = (BUDGET.as_secs_f64() / (each.as_secs_f64() * 24.0).max(1e-9)) as usize;
    alone.truncate(affordable.max(1));
    for kind in KINDS {
        let hostile: Vec<Tensors> = alone.iter().filter_map(|row| kind.of(&row.inputs)).collect();
        for first in [true, false] {
            trial.beside(&alone, &hostile, first, max_batch_size, kind.describe())?;
        }
    }
    for size in [2, 3, 5, max_batch_size] {
        trial.among(&alone, size.min(max_batch_size))?;
    }
    Ok(())
}

struct Trial<'a>(&'a mut dyn Engine);

impl Trial<'_> {
    /// Each row between two hostile ones, as many as fit into a run.
    fn beside(&mut self, alone: &[Alone], hostile: &[Tensors], first: bool, limit: usize, what: &str) -> Result<(), String> {
        let pairs = limit / 2;
        for (rows, others) in alone.chunks(pairs.max(1)).zip(hostile.chunks(pairs.max(1))) {
            let mut members: Vec<(&Tensors, Option<&Tensors>)> = Vec::new();
            for (row, other) in rows.iter().zip(others) {
                let own = (&row.inputs, Some(&row.outputs));
                members.extend(if first { [(other, None), own] } else { [own, (other, None)] });
            }
            if self.together(&members, what)? {
                continue;
            }
            // Together they fail. Rows that fail alone do so without any neighbour: the batcher tells them apart.
            let good: Vec<&Tensors> = others.iter().filter(|other| self.0.run(other).is_ok()).collect();
            let members: Vec<_> =
                rows.iter().map(|row| (&row.inputs, Some(&row.outputs))).chain(good.iter().map(|other| (*other, None))).collect();
            if !good.is_empty() && !self.together(&members, what)? {
                return Err(format!("rows that are answered alone fail beside {what}"));
            }
        }
        Ok(())
    }

    /// `size` rows in one run, beginning with each in turn.
    fn among(&mut self, alone: &[Alone], size: usize) -> Result<(), String> {
        for start in 0..alone.len().min(2) {
            let members: Vec<_> = (0..size)
                .filter_map(|index| alone.get((start + index * 3 + index / alone.len()) % alone.len()))
                .map(|row| (&row.inputs, Some(&row.outputs)))
                .collect();
            if !self.together(&members, &format!("others in a run of {size}"))? {
                return Err(format!("rows that are answered alone fail in a run of {size}"));
            }
        }
        Ok(())
    }

    /// One run of all; `false` where it fails. Those with an answer must get it again.
    fn together(&mut self, members: &[(&Tensors, Option<&Tensors>)], what: &str) -> Result<bool, String> {
        let Some(batch) = join(&members.iter().map(|(inputs, _)| *inputs).collect::<Vec<_>>()) else { return Ok(true) };
        let Ok(outputs) = self.0.run(&batch) else { return Ok(false) };
        let shapes: Vec<String> = outputs.0.iter().map(|(name, tensor)| format!("{name} {:?}", tensor.shape())).collect();
        let parts = split(outputs, &vec![1; members.len()])
            .ok_or_else(|| format!("{} rows give {}: not a row for each", members.len(), shapes.join(", ")))?;
        for (part, expected) in parts.iter().zip(members).filter_map(|(part, (_, expected))| Some((part, (*expected)?))) {
            for ((name, alone), (_, beside)) in expected.0.iter().zip(&part.0) {
                difference(alone, beside).map_or(Ok(()), |(a, b)| {
                    Err(format!("a row answers otherwise beside {what} (output \"{name}\": {a} alone, {b} beside them)"))
                })?;
            }
        }
        Ok(true)
    }
}

/// The first values that differ by more than a sum in another order explains.
fn difference(alone: &Tensor, beside: &Tensor) -> Option<(String, String)> {
    if alone.shape() != beside.shape() {
        return Some((format!("{:?}", alone.shape()), format!("{:?}", beside.shape())));
    }
    fn reals<T: Copy>(a: &[T], b: &[T], tolerance: f64, real: impl Fn(T) -> f64) -> Option<(String, String)> {
        let finite = |x: &T| real(*x).is_finite().then(|| real(*x).abs());
        let scale = a.iter().filter_map(finite).fold(1.0, f64::max);
        let same = |a: f64, b: f64| a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * scale;
        a.iter().zip(b).map(|(a, b)| (real(*a), real(*b))).find(|(a, b)| !same(*a, *b)).map(|(a, b)| (a.to_string(), b.to_string()))
    }
    fn exact<T: PartialEq + std::fmt::Debug>(a: &[T], b: &[T]) -> Option<(String, String)> {
        a.iter().zip(b).find(|(a, b)| a != b).map(|(a, b)| (format!("{a:?}"), format!("{b:?}")))
    }
    match (alone.data(), beside.data()) {
        (Data::Fp32(a), Data::Fp32(b)) => reals(a, b, 1e-5, f64::from),
        (Data::Fp64(a), Data::Fp64(b)) => reals(a, b, 1e-9, |x| x),
        (Data::Fp16(a), Data::Fp16(b)) => reals(a, b, 4e-3, f16::to_f64),
        (Data::Bf16(a), Data::Bf16(b)) => reals(a, b, 3e-2, bf16::to_f64),
        (Data::Bool(a), Data::Bool(b)) => exact(a, b),
        (Data::Uint8(a), Data::Uint8(b)) => exact(a, b),
        (Data::Uint16(a), Data::Uint16(b)) => exact(a, b),
        (Data::Uint32(a), Data::Uint32(b)) => exact(a, b),
        (Data::Uint64(a), Data::Uint64(b)) => exact(a, b),
        (Data::Int8(a), Data::Int8(b)) => exact(a, b),
        (Data::Int16(a), Data::Int16(b)) => exact(a, b),
        (Data::Int32(a), Data::Int32(b)) => exact(a, b),
        (Data::Int64(a), Data::Int64(b)) => exact(a, b),
        (Data::Bytes(a), Data::Bytes(b)) => exact(a, b),
        _ => Some(("one type".to_owned(), "another".to_owned())),
    }
}
