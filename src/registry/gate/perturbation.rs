//! `Perturbation`: a change of a row's values. The changed row shares a run with the row itself.

use half::{bf16, f16};

use crate::{
    graph::Vocabulary,
    tensor::{Data, Tensor, Tensors},
};

/// Length of a string that is longer than most strings of callers.
const LONG_TEXT: usize = 4096;

/// Maximum number of strings, and of numbers, from the graph's own vocabulary that are tried.
const MAX_WORDS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Perturbation {
    /// Ten thousand times the value.
    Scaled,
    Negated,
    Zero,
    /// NaN, or 1 in a type without NaN.
    NotANumber,
    /// Infinity, or the largest value of a type without infinity.
    Infinite,
    NegativeInfinite,
    /// Slightly larger numbers.
    Next,
    /// A string or number from the vocabulary of the graph, with this index.
    FromVocabulary(usize),
    /// Numbers that differ by at most 0.75, and other values of the vocabulary. The index selects
    /// one of several variations.
    Variation(usize),
}

impl Perturbation {
    pub(super) const ALL: [Perturbation; 7 + MAX_WORDS] = [
        Perturbation::Scaled,
        Perturbation::Negated,
        Perturbation::Zero,
        Perturbation::NotANumber,
        Perturbation::Infinite,
        Perturbation::NegativeInfinite,
        Perturbation::Next,
        Perturbation::FromVocabulary(0),
        Perturbation::FromVocabulary(1),
        Perturbation::FromVocabulary(2),
        Perturbation::FromVocabulary(3),
    ];

    pub(super) fn describe(self) -> &'static str {
        match self {
            Perturbation::Scaled => "rows of ten thousand times its size",
            Perturbation::Negated => "rows of the other sign",
            Perturbation::Zero => "rows of zeros",
            Perturbation::NotANumber => "rows of NaN",
            Perturbation::Infinite => "rows of infinity",
            Perturbation::NegativeInfinite => "rows of minus infinity",
            Perturbation::Next | Perturbation::FromVocabulary(_) | Perturbation::Variation(_) => {
                "rows of other values"
            }
        }
    }

    /// The perturbed row. `None` if a tensor can't be created, which can't happen for a valid row.
    pub(super) fn apply(self, row: &Tensors, vocabulary: &Vocabulary) -> Option<Tensors> {
        let perturb = |tensor: &Tensor| {
            Tensor::new(
                tensor.shape().to_vec(),
                self.perturb_data(tensor.data(), vocabulary),
            )
        };
        row.0
            .iter()
            .map(|(name, tensor)| Some((name.clone(), perturb(tensor)?)))
            .collect::<Option<Vec<_>>>()
            .map(Tensors)
    }

    /// Perturbs a float. `index` is the position of the value in its tensor.
    fn perturb_float(self, x: f64, index: usize) -> f64 {
        match self {
            Perturbation::Scaled => x * 1e4,
            Perturbation::Negated => -x,
            Perturbation::Zero => 0.0,
            Perturbation::NotANumber => f64::NAN,
            Perturbation::Infinite => f64::INFINITY,
            Perturbation::NegativeInfinite => f64::NEG_INFINITY,
            // The offsets are small: a number may be a length or a count, and a large number could
            // make the graph run for minutes.
            Perturbation::Next | Perturbation::FromVocabulary(_) => x + offset(index, 4),
            Perturbation::Variation(salt) => x + offset(index, salt),
        }
    }

    /// Perturbs an integer. `least` and `most` are the limits of the value's type.
    fn perturb_integer(
        self,
        x: i128,
        (least, most): (i128, i128),
        index: usize,
        vocabulary: &Vocabulary,
    ) -> i128 {
        let number = match self {
            Perturbation::Scaled => (x + 1) * 10_000,
            Perturbation::Negated => -x - 1,
            Perturbation::Zero => 0,
            // Many graphs treat 1 as a flag or as the first class.
            Perturbation::NotANumber => 1,
            Perturbation::Infinite => most,
            Perturbation::NegativeInfinite => least,
            Perturbation::Next => x + 1 + (index % 3) as i128,
            Perturbation::FromVocabulary(at) | Perturbation::Variation(at) => {
                pick(&vocabulary.numbers, at + index)
                    .map_or(x + 2 + at as i128, |number| i128::from(*number))
            }
        };
        // A product may be out of the type's range.
        number.clamp(least, most)
    }

    fn perturb_text(self, text: &str, index: usize, vocabulary: &Vocabulary) -> String {
        match self {
            Perturbation::Scaled => "long ".repeat(LONG_TEXT / 5),
            Perturbation::Zero => String::new(),
            Perturbation::Negated => text.chars().rev().collect(),
            Perturbation::NotANumber => "NaN".to_owned(),
            Perturbation::Infinite => "zzz".to_owned(),
            Perturbation::NegativeInfinite => "-1".to_owned(),
            Perturbation::Next => format!("{text}a"),
            Perturbation::FromVocabulary(at) | Perturbation::Variation(at) => {
                pick(&vocabulary.texts, at + index)
                    .cloned()
                    .unwrap_or_else(|| format!("word {at}"))
            }
        }
    }

    fn perturb_bool(self, x: bool, index: usize) -> bool {
        match self {
            Perturbation::Zero | Perturbation::NegativeInfinite => false,
            Perturbation::Infinite => true,
            Perturbation::Negated | Perturbation::Next => !x,
            Perturbation::FromVocabulary(at) | Perturbation::Variation(at) => {
                (index + at).is_multiple_of(2)
            }
            Perturbation::Scaled | Perturbation::NotANumber => x,
        }
    }

    fn perturb_data(self, data: &Data, vocabulary: &Vocabulary) -> Data {
        macro_rules! integers {
            ($variant:ident, $type:ty, $values:expr) => {{
                let limits = (i128::from(<$type>::MIN), i128::from(<$type>::MAX));
                let perturb = |(index, x): (usize, &$type)| {
                    self.perturb_integer(i128::from(*x), limits, index, vocabulary) as $type
                };
                let perturbed: Vec<_> = $values.iter().enumerate().map(perturb).collect();
                Data::$variant(perturbed.into())
            }};
        }
        macro_rules! floats {
            ($variant:ident, $values:expr, $from:expr, $to:expr) => {{
                let perturb = |(index, x): (usize, &_)| $to(self.perturb_float($from(*x), index));
                let perturbed: Vec<_> = $values.iter().enumerate().map(perturb).collect();
                Data::$variant(perturbed.into())
            }};
        }
        match data {
            Data::Fp32(values) => floats!(Fp32, values, f64::from, |x: f64| x as f32),
            Data::Fp64(values) => floats!(Fp64, values, |x: f64| x, |x: f64| x),
            Data::Fp16(values) => floats!(Fp16, values, f16::to_f64, f16::from_f64),
            Data::Bf16(values) => floats!(Bf16, values, bf16::to_f64, bf16::from_f64),
            Data::Bool(values) => {
                let perturb = |(index, x): (usize, &bool)| self.perturb_bool(*x, index);
                Data::Bool(values.iter().enumerate().map(perturb).collect())
            }
            Data::Int8(values) => integers!(Int8, i8, values),
            Data::Int16(values) => integers!(Int16, i16, values),
            Data::Int32(values) => integers!(Int32, i32, values),
            Data::Int64(values) => integers!(Int64, i64, values),
            Data::Uint8(values) => integers!(Uint8, u8, values),
            Data::Uint16(values) => integers!(Uint16, u16, values),
            Data::Uint32(values) => integers!(Uint32, u32, values),
            Data::Uint64(values) => integers!(Uint64, u64, values),
            Data::Bytes(values) => Data::Bytes(
                values
                    .iter()
                    .enumerate()
                    .map(|(index, text)| self.perturb_text(text, index, vocabulary))
                    .collect(),
            ),
        }
    }
}

/// A number from -0.75 to 0.75 that depends on the position. 13 is coprime to 7 and 5, so that
/// adjacent positions and salts give different numbers.
fn offset(index: usize, salt: usize) -> f64 {
    ((index * 7 + salt * 5) % 13) as f64 / 8.0 - 0.75
}

/// The element at `at`. The list repeats if it is too short. `None` if the list is empty.
fn pick<T>(list: &[T], at: usize) -> Option<&T> {
    list.get(at.checked_rem(list.len())?)
}
