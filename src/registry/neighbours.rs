//! Neighbours: whether a row answers beside hostile others as it does alone. Golden examples in one batch prove it only for
//! neighbours like themselves.

use std::time::{Duration, Instant};

use half::{bf16, f16};

use crate::{
    engine::Engine,
    graph::Vocabulary,
    tensor::{Data, Tensor, Tensors, join, split},
};

/// Rows that are tried beside others; more prove little more.
const MAX_ROWS: usize = 8;

/// A slow graph is tried with fewer rows, but with every kind of neighbour.
const BUDGET: Duration = Duration::from_secs(3);

/// How many times its budget a graph may take for what must be tried.
const PATIENCE: u32 = 4;

/// Text that is longer than any other.
const LONG_TEXT: usize = 4096;

/// Numbers of rows in a run that are always tried, beside the largest.
const SIZES: [usize; 3] = [2, 3, 5];

/// Others, as long as there is time: an effect may show at one number only.
const MORE_SIZES: [usize; 14] = [4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 32];

/// Words and numbers of the graph's own that are tried.
const MAX_WORDS: usize = 4;

/// What is done to a row to make a neighbour of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hostile {
    Scaled,
    Negated,
    Zero,
    /// 1 where there is no NaN.
    NotANumber,
    /// The largest where there is no infinity.
    Infinite,
    NegativeInfinite,
    /// Other small numbers.
    Next,
    /// Something that the graph itself knows.
    Known(usize),
    /// The row in another version of itself: numbers a little off, something else that the graph knows.
    Off(usize),
}

const KINDS: [Hostile; 7 + MAX_WORDS] = [
    Hostile::Scaled,
    Hostile::Negated,
    Hostile::Zero,
    Hostile::NotANumber,
    Hostile::Infinite,
    Hostile::NegativeInfinite,
    Hostile::Next,
    Hostile::Known(0),
    Hostile::Known(1),
    Hostile::Known(2),
    Hostile::Known(3),
];

impl Hostile {
    fn describe(self) -> &'static str {
        match self {
            Hostile::Scaled => "rows of ten thousand times its size",
            Hostile::Negated => "rows of the other sign",
            Hostile::Zero => "rows of zeros",
            Hostile::NotANumber => "rows of NaN",
            Hostile::Infinite => "rows of infinity",
            Hostile::NegativeInfinite => "rows of minus infinity",
            Hostile::Next | Hostile::Known(_) | Hostile::Off(_) => "rows of other values",
        }
    }

    fn of(self, row: &Tensors, vocabulary: &Vocabulary) -> Option<Tensors> {
        let change = |tensor: &Tensor| {
            Tensor::new(
                tensor.shape().to_vec(),
                self.data(tensor.data(), vocabulary),
            )
        };
        row.0
            .iter()
            .map(|(name, tensor)| Some((name.clone(), change(tensor)?)))
            .collect::<Option<Vec<_>>>()
            .map(Tensors)
    }

    fn real(self, x: f64, place: usize) -> f64 {
        match self {
            Hostile::Scaled => x * 1e4,
            Hostile::Negated => -x,
            Hostile::Zero => 0.0,
            Hostile::NotANumber => f64::NAN,
            Hostile::Infinite => f64::INFINITY,
            Hostile::NegativeInfinite => f64::NEG_INFINITY,
            // No more than that: who knows how long a graph takes for others.
            Hostile::Next | Hostile::Known(_) => x + off(place, 4),
            Hostile::Off(salt) => x + off(place, salt),
        }
    }

    /// Of a type with these limits.
    fn whole(
        self,
        x: i128,
        (least, most): (i128, i128),
        place: usize,
        vocabulary: &Vocabulary,
    ) -> i128 {
        let number = match self {
            Hostile::Scaled => (x + 1) * 10_000,
            Hostile::Negated => -x - 1,
            Hostile::Zero => 0,
            Hostile::NotANumber => 1,
            Hostile::Infinite => most,
            Hostile::NegativeInfinite => least,
            Hostile::Next => x + 1 + (place % 3) as i128,
            Hostile::Known(at) | Hostile::Off(at) => pick(&vocabulary.numbers, at + place)
                .map_or(x + 2 + at as i128, |number| i128::from(*number)),
        };
        number.clamp(least, most)
    }

    fn text(self, text: &str, place: usize, vocabulary: &Vocabulary) -> String {
        match self {
            Hostile::Scaled => "long ".repeat(LONG_TEXT / 5),
            Hostile::Zero => String::new(),
            Hostile::Negated => text.chars().rev().collect(),
            Hostile::NotANumber => "NaN".to_owned(),
            Hostile::Infinite => "zzz".to_owned(),
            Hostile::NegativeInfinite => "-1".to_owned(),
            Hostile::Next => format!("{text}a"),
            Hostile::Known(at) | Hostile::Off(at) => pick(&vocabulary.texts, at + place)
                .cloned()
                .unwrap_or_else(|| format!("word {at}")),
        }
    }

    fn data(self, data: &Data, vocabulary: &Vocabulary) -> Data {
        macro_rules! whole {
            ($variant:ident, $type:ty, $values:expr) => {{
                let limits = (i128::from(<$type>::MIN), i128::from(<$type>::MAX));
                let change = |(place, x): (usize, &$type)| {
                    self.whole(i128::from(*x), limits, place, vocabulary) as $type
                };
                Data::$variant(
                    $values
                        .iter()
                        .enumerate()
                        .map(change)
                        .collect::<Vec<_>>()
                        .into(),
                )
            }};
        }
        macro_rules! real {
            ($variant:ident, $values:expr, $from:expr, $to:expr) => {
                Data::$variant(
                    $values
                        .iter()
                        .enumerate()
                        .map(|(place, x)| $to(self.real($from(*x), place)))
                        .collect::<Vec<_>>()
                        .into(),
                )
            };
        }
        match data {
            Data::Fp32(values) => real!(Fp32, values, f64::from, |x: f64| x as f32),
            Data::Fp64(values) => real!(Fp64, values, |x: f64| x, |x: f64| x),
            Data::Fp16(values) => real!(Fp16, values, f16::to_f64, f16::from_f64),
            Data::Bf16(values) => real!(Bf16, values, bf16::to_f64, bf16::from_f64),
            Data::Bool(values) => {
                let change = |(place, x): (usize, &bool)| match self {
                    Hostile::Zero | Hostile::NegativeInfinite => false,
                    Hostile::Infinite => true,
                    Hostile::Negated | Hostile::Next => !x,
                    Hostile::Known(at) | Hostile::Off(at) => (place + at).is_multiple_of(2),
                    Hostile::Scaled | Hostile::NotANumber => *x,
                };
                Data::Bool(values.iter().enumerate().map(change).collect())
            }
            Data::Int8(values) => whole!(Int8, i8, values),
            Data::Int16(values) => whole!(Int16, i16, values),
            Data::Int32(values) => whole!(Int32, i32, values),
            Data::Int64(values) => whole!(Int64, i64, values),
            Data::Uint8(values) => whole!(Uint8, u8, values),
            Data::Uint16(values) => whole!(Uint16, u16, values),
            Data::Uint32(values) => whole!(Uint32, u32, values),
            Data::Uint64(values) => whole!(Uint64, u64, values),
            Data::Bytes(values) => Data::Bytes(
                values
                    .iter()
                    .enumerate()
                    .map(|(place, text)| self.text(text, place, vocabulary))
                    .collect(),
            ),
        }
    }
}

/// A little off a number: from -0.75 to 0.75, by its place.
fn off(place: usize, salt: usize) -> f64 {
    ((place * 7 + salt * 5) % 13) as f64 / 8.0 - 0.75
}

/// One of a list, again from the first where it is shorter; none of an empty one.
fn pick<T>(list: &[T], at: usize) -> Option<&T> {
    list.get(at.checked_rem(list.len())?)
}

/// A row as it is, and versions of it that are no more than a little off: one row of zeros alone would hide what a neighbour does.
/// The graph may refuse some of them.
pub fn variations(row: &Tensors, vocabulary: &Vocabulary) -> Vec<Tensors> {
    let others = (1..=3).filter_map(|salt| Hostile::Off(salt).of(row, vocabulary));
    std::iter::once(row.clone()).chain(others).collect()
}

/// A row, and what the graph answers to it alone.
struct Alone {
    inputs: Tensors,
    outputs: Tensors,
}

/// Tries each row beside hostile versions of all, beside the others, in other orders and numbers of rows.
///
/// # Errors
/// What a row answered alone and beside others, where that differs by more than rounding, or what could not be tried; for people.
pub fn prove(
    engine: &mut dyn Engine,
    rows: &[Tensors],
    vocabulary: &Vocabulary,
    max_batch_size: usize,
) -> Result<(), Failure> {
    let mut trial = Trial {
        engine,
        differed: Vec::new(),
    };
    let since = Instant::now();
    let mut alone: Vec<Alone> = Vec::new();
    for inputs in rows {
        let fits = alone
            .first()
            .is_none_or(|first| join(&[&first.inputs, inputs]).is_some());
        if !fits || alone.len() == MAX_ROWS {
            continue;
        }
        // Golden rows were run before; invented ones may be refused.
        if let Ok(outputs) = trial.engine.run(inputs) {
            alone.push(Alone {
                inputs: inputs.clone(),
                outputs,
            });
        }
    }
    let Some((first, count)) = alone.first().zip(u32::try_from(alone.len()).ok()) else {
        return Err(Failure::NotTried(
            "no row is known that the graph answers".to_owned(),
        ));
    };
    trial.differed = vec![false; first.inputs.0.len()];
    // As many rows as there is time for: each takes part in some two dozen runs.
    let each = since.elapsed() / count;
    let affordable = (BUDGET.as_secs_f64() / (each.as_secs_f64() * 24.0).max(1e-9)) as usize;
    alone.truncate(affordable.max(1));
    for kind in KINDS {
        let hostile: Vec<Tensors> = alone
            .iter()
            .filter_map(|row| kind.of(&row.inputs, vocabulary))
            .collect();
        for first in [true, false] {
            if since.elapsed() > BUDGET * PATIENCE {
                return Err(Failure::NotTried(
                    "rows take too long beside others to be tried".to_owned(),
                ));
            }
            trial.beside(&alone, &hostile, first, max_batch_size, kind.describe())?;
        }
    }
    for size in SIZES.into_iter().chain([max_batch_size]) {
        trial.among(&alone, size.min(max_batch_size))?;
    }
    for size in MORE_SIZES.into_iter().filter(|size| *size < max_batch_size) {
        if since.elapsed() > BUDGET {
            break;
        }
        trial.among(&alone, size)?;
    }
    trial.all_differed(&alone)
}

/// Why requests don't share runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A row was answered otherwise beside others.
    Shown(String),
    /// There was nothing to try.
    NotTried(String),
}

impl Failure {
    pub fn because(self) -> String {
        match self {
            Failure::Shown(because) | Failure::NotTried(because) => because,
        }
    }
}

struct Trial<'a> {
    engine: &'a mut dyn Engine,
    /// For each input, whether a neighbour had other values there, and was answered.
    differed: Vec<bool>,
}

impl Trial<'_> {
    fn all_differed(&self, alone: &[Alone]) -> Result<(), Failure> {
        let inputs = alone
            .first()
            .map(|row| row.inputs.0.as_slice())
            .unwrap_or_default();
        let same = inputs
            .iter()
            .zip(&self.differed)
            .find(|((_, tensor), differed)| !**differed && !tensor.data().is_empty());
        same.map_or(Ok(()), |((name, _), _)| {
            Err(Failure::NotTried(format!(
                "no other values of input \"{name}\" are known that the graph answers; golden examples would show some"
            )))
        })
    }

    /// Each row between two hostile ones, as many as fit into a run.
    fn beside(
        &mut self,
        alone: &[Alone],
        hostile: &[Tensors],
        first: bool,
        limit: usize,
        what: &str,
    ) -> Result<(), Failure> {
        let pairs = limit / 2;
        for (rows, others) in alone.chunks(pairs.max(1)).zip(hostile.chunks(pairs.max(1))) {
            let mut members: Vec<(&Tensors, Option<&Tensors>)> = Vec::new();
            for (row, other) in rows.iter().zip(others) {
                let own = (&row.inputs, Some(&row.outputs));
                members.extend(if first {
                    [(other, None), own]
                } else {
                    [own, (other, None)]
                });
            }
            if self.together(&members, what)? {
                continue;
            }
            // Together they fail. Rows that fail alone do so without any neighbour: the batcher tells them apart.
            let good: Vec<&Tensors> = others
                .iter()
                .filter(|other| self.engine.run(other).is_ok())
                .collect();
            let members: Vec<_> = rows
                .iter()
                .map(|row| (&row.inputs, Some(&row.outputs)))
                .chain(good.iter().map(|other| (*other, None)))
                .collect();
            if !good.is_empty() && !self.together(&members, what)? {
                return Err(Failure::Shown(format!(
                    "rows that are answered alone fail beside {what}"
                )));
            }
        }
        Ok(())
    }

    /// `size` rows in one run, beginning with each in turn.
    fn among(&mut self, alone: &[Alone], size: usize) -> Result<(), Failure> {
        for start in 0..alone.len().min(2) {
            let members: Vec<_> = (0..size)
                .filter_map(|index| {
                    alone.get((start + index * 3 + index / alone.len()) % alone.len())
                })
                .map(|row| (&row.inputs, Some(&row.outputs)))
                .collect();
            if !self.together(&members, &format!("others in a run of {size}"))? {
                return Err(Failure::Shown(format!(
                    "rows that are answered alone fail in a run of {size}"
                )));
            }
        }
        Ok(())
    }

    /// One run of all; `false` where it fails. Those with an answer must get it again.
    fn together(
        &mut self,
        members: &[(&Tensors, Option<&Tensors>)],
        what: &str,
    ) -> Result<bool, Failure> {
        let Some(batch) = join(
            &members
                .iter()
                .map(|(inputs, _)| *inputs)
                .collect::<Vec<_>>(),
        ) else {
            return Ok(true);
        };
        let Ok(outputs) = self.engine.run(&batch) else {
            return Ok(false);
        };
        let shapes: Vec<String> = outputs
            .0
            .iter()
            .map(|(name, tensor)| format!("{name} {:?}", tensor.shape()))
            .collect();
        let parts = split(outputs, &vec![1; members.len()]).ok_or_else(|| {
            Failure::Shown(format!(
                "{} rows give {}: not a row for each",
                members.len(),
                shapes.join(", ")
            ))
        })?;
        if let Some((first, _)) = members.iter().find(|(_, expected)| expected.is_some()) {
            for (inputs, _) in members {
                for (differed, ((_, a), (_, b))) in
                    self.differed.iter_mut().zip(first.0.iter().zip(&inputs.0))
                {
                    *differed = *differed || a.data() != b.data();
                }
            }
        }
        for (part, expected) in parts
            .iter()
            .zip(members)
            .filter_map(|(part, (_, expected))| Some((part, (*expected)?)))
        {
            for ((name, alone), (_, beside)) in expected.0.iter().zip(&part.0) {
                difference(alone, beside).map_or(Ok(()), |(a, b)| {
                    Err(Failure::Shown(format!("a row answers otherwise beside {what} (output \"{name}\": {a} alone, {b} beside them)")))
                })?;
            }
        }
        Ok(true)
    }
}

/// The first values that differ by more than a sum in another order explains.
fn difference(alone: &Tensor, beside: &Tensor) -> Option<(String, String)> {
    if alone.shape() != beside.shape() {
        return Some((
            format!("{:?}", alone.shape()),
            format!("{:?}", beside.shape()),
        ));
    }
    fn reals<T: Copy>(
        a: &[T],
        b: &[T],
        tolerance: f64,
        real: impl Fn(T) -> f64,
    ) -> Option<(String, String)> {
        let finite = |x: &T| real(*x).is_finite().then(|| real(*x).abs());
        let scale = a.iter().filter_map(finite).fold(1.0, f64::max);
        let same = |a: f64, b: f64| {
            a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * scale
        };
        a.iter()
            .zip(b)
            .map(|(a, b)| (real(*a), real(*b)))
            .find(|(a, b)| !same(*a, *b))
            .map(|(a, b)| (a.to_string(), b.to_string()))
    }
    fn exact<T: PartialEq + std::fmt::Debug>(a: &[T], b: &[T]) -> Option<(String, String)> {
        a.iter()
            .zip(b)
            .find(|(a, b)| a != b)
            .map(|(a, b)| (format!("{a:?}"), format!("{b:?}")))
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
