//! Steps: the declared transformations, named and defined as scikit-learn's of the same name.

use std::collections::HashMap;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value;
use unicode_normalization::UnicodeNormalization;

use crate::transform::dates::DateParts;

/// A step as written: an object with one member.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    Impute(Impute),
    MissingIndicator(Empty),
    /// (x - mean) / std: StandardScaler.
    StandardScale {
        mean: f64,
        std: f64,
    },
    /// (x - min) / (max - min): MinMaxScaler with the range 0 to 1.
    MinMaxScale {
        min: f64,
        max: f64,
    },
    /// (x - center) / scale: RobustScaler.
    RobustScale {
        center: f64,
        scale: f64,
    },
    Clip {
        min: Option<f64>,
        max: Option<f64>,
    },
    Log1p(Empty),
    /// PowerTransformer without standardisation (Yeo and Johnson 2000; Box and Cox 1964).
    Power {
        method: PowerMethod,
        lambda: f64,
    },
    /// numpy.digitize: how many boundaries lie at or below the value (below it where `right`).
    Bucketize {
        boundaries: Vec<f64>,
        #[serde(default)]
        right: bool,
    },
    Reshape {
        shape: Vec<usize>,
    },
    OneHot {
        categories: Vec<Value>,
        unknown: UnknownZeros,
    },
    Ordinal {
        categories: Vec<Value>,
        unknown: Value,
    },
    TargetEncode {
        categories: Vec<Value>,
        values: Vec<f64>,
        default: f64,
    },
    /// FeatureHasher over one text: MurmurHash3 (32 bits, seed 0, signed), its sign alternating.
    Hash {
        n_features: usize,
        #[serde(default = "yes")]
        alternate_sign: bool,
    },
    DateParts {
        parts: Vec<Value>,
        unknown: Value,
    },
    Lowercase(Empty),
    Strip(Empty),
    NormalizeUnicode {
        form: Form,
    },
    RegexReplace {
        pattern: String,
        replacement: String,
    },
    DecodeImage {
        mode: Mode,
    },
    Resize {
        height: u32,
        width: u32,
        #[serde(default)]
        interpolation: Interpolation,
    },
    CenterCrop {
        height: usize,
        width: usize,
    },
    Rescale {
        factor: f64,
    },
    Normalize {
        mean: Vec<f64>,
        std: Vec<f64>,
    },
    Layout(Layout),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Impute {
    pub value: Value,
    #[serde(default)]
    pub missing_values: Vec<Value>,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum PowerMethod {
    #[serde(rename = "yeo-johnson")]
    YeoJohnson,
    #[serde(rename = "box-cox")]
    BoxCox,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownZeros {
    Zeros,
    Error,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Form {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Grey,
    Rgb,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interpolation {
    Nearest,
    #[default]
    Bilinear,
    Bicubic,
    Lanczos,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    Nchw,
    Nhwc,
}

/// A numeric step, checked.
#[derive(Clone, Debug)]
pub enum Numeric {
    Impute {
        value: f64,
        missing: Vec<f64>,
    },
    /// (x - offset) / divisor.
    Scale {
        offset: f64,
        divisor: f64,
    },
    Clip {
        min: f64,
        max: f64,
    },
    Log1p,
    Rescale(f64),
    Power {
        method: PowerMethod,
        lambda: f64,
    },
    Bucketize {
        boundaries: Vec<f64>,
        right: bool,
    },
}

impl Numeric {
    /// All steps in order; NaN is missing. `None`: a step is not defined for its value.
    pub fn run(steps: &[Numeric], x: f64) -> Option<f64> {
        steps.iter().try_fold(x, |x, step| step.apply(x))
    }

    fn apply(&self, x: f64) -> Option<f64> {
        Some(match self {
            Numeric::Impute { value, missing } => {
                if x.is_nan() || missing.contains(&x) {
                    *value
                } else {
                    x
                }
            }
            Numeric::Scale { offset, divisor } => (x - offset) / divisor,
            // Not `clamp`: NaN stays, as numpy.clip leaves it.
            Numeric::Clip { min, .. } if x < *min => *min,
            Numeric::Clip { max, .. } if x > *max => *max,
            Numeric::Clip { .. } => x,
            Numeric::Log1p => x.ln_1p(),
            Numeric::Rescale(factor) => x * factor,
            Numeric::Power {
                method: PowerMethod::BoxCox,
                ..
            } if x <= 0.0 => return None,
            Numeric::Power { method, lambda } => power(*method, *lambda, x),
            // NaN comes after all numbers, as NumPy sorts it.
            Numeric::Bucketize { boundaries, right } => boundaries.partition_point(|boundary| {
                x.is_nan()
                    || if *right {
                        *boundary < x
                    } else {
                        *boundary <= x
                    }
            }) as f64,
        })
    }
}

/// Box and Cox 1964; Yeo and Johnson 2000.
fn power(method: PowerMethod, lambda: f64, x: f64) -> f64 {
    match method {
        PowerMethod::BoxCox => power_of_log(x.ln(), lambda),
        PowerMethod::YeoJohnson if x >= 0.0 => power_of_log(x.ln_1p(), lambda),
        PowerMethod::YeoJohnson => -power_of_log((-x).ln_1p(), 2.0 - lambda),
    }
}

/// (e^log ^ lambda - 1) / lambda, without losing the digits of a small lambda; NaN stays.
fn power_of_log(log: f64, lambda: f64) -> f64 {
    if lambda.abs() < f64::EPSILON {
        log
    } else {
        (lambda * log).exp_m1() / lambda
    }
}

/// A step from text to text.
#[derive(Clone, Debug)]
pub enum Textual {
    Impute { value: String, missing: Vec<String> },
    Lowercase,
    Strip,
    Normalize(Form),
    Replace { pattern: Regex, replacement: String },
}

impl Textual {
    pub fn apply(&self, value: Option<String>) -> Option<String> {
        let Textual::Impute {
            value: instead,
            missing,
        } = self
        else {
            let text = value?;
            return Some(match self {
                Textual::Lowercase => text.to_lowercase(),
                Textual::Strip => text.trim_matches(is_space).to_owned(),
                Textual::Normalize(Form::Nfc) => text.nfc().collect(),
                Textual::Normalize(Form::Nfd) => text.nfd().collect(),
                Textual::Normalize(Form::Nfkc) => text.nfkc().collect(),
                Textual::Normalize(Form::Nfkd) => text.nfkd().collect(),
                Textual::Replace {
                    pattern,
                    replacement,
                } => replace_all(pattern, &text, replacement),
                Textual::Impute { .. } => text,
            });
        };
        Some(
            value
                .filter(|text| !missing.contains(text))
                .unwrap_or_else(|| instead.clone()),
        )
    }
}

/// What Python's `str.strip` takes for white space: Unicode's, and four separators of ASCII.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// Replaces as Python's `re.sub` does: an empty match right after another match counts, too.
fn replace_all(pattern: &Regex, text: &str, replacement: &str) -> String {
    let mut output = String::with_capacity(text.len());
    let (mut at, mut copied) = (0, 0);
    while at <= text.len()
        && let Some(captures) = pattern.captures_at(text, at)
        && let Some(found) = captures.get(0)
    {
        output.push_str(text.get(copied..found.start()).unwrap_or_default());
        captures.expand(replacement, &mut output);
        copied = found.end();
        // After an empty match the search goes on behind the next character.
        at = if found.is_empty() {
            text.get(found.end()..)
                .and_then(|rest| rest.chars().next())
                .map_or(text.len() + 1, |c| found.end() + c.len_utf8())
        } else {
            found.end()
        };
    }
    output.push_str(text.get(copied..).unwrap_or_default());
    output
}

/// Categories in their order, none twice.
#[derive(Clone, Debug)]
pub struct Categories(Vec<String>, HashMap<String, usize>);

impl Categories {
    /// Up to this many are compared one by one, which is faster than hashing.
    const FEW: usize = 12;

    pub fn new(categories: Vec<String>) -> Categories {
        let many = categories.len() > Categories::FEW;
        let index = if many {
            categories
                .iter()
                .cloned()
                .enumerate()
                .map(|(at, text)| (text, at))
                .collect()
        } else {
            HashMap::new()
        };
        Categories(categories, index)
    }

    fn find(&self, category: &str) -> Option<usize> {
        if self.1.is_empty() {
            self.0.iter().position(|known| known == category)
        } else {
            self.1.get(category).copied()
        }
    }
}

/// From a category, or a date, to numbers.
#[derive(Clone, Debug)]
pub enum Encode {
    OneHot {
        categories: Categories,
        unknown: UnknownZeros,
    },
    /// One number per category: ordinal and target encoding. `None`: an unknown category is an error.
    Table {
        categories: Categories,
        values: Vec<f64>,
        unknown: Option<f64>,
    },
    Hash {
        width: usize,
        alternate_sign: bool,
    },
    Dates(DateParts),
}

impl Encode {
    pub fn width(&self) -> usize {
        match self {
            Encode::OneHot { categories, .. } => categories.0.len(),
            Encode::Hash { width, .. } => *width,
            Encode::Table { .. } => 1,
            Encode::Dates(parts) => parts.width(),
        }
    }

    /// Why a value is refused: the keyword, and what is wrong.
    pub fn refusal(&self) -> (&'static str, &'static str) {
        match self {
            Encode::Dates(_) => ("format", "must be a date or a date-time"),
            _ => ("enum", "is not a category that this model takes"),
        }
    }

    /// Writes `width` numbers (zeroed before); `false` for a category that is refused.
    pub fn write(&self, category: Option<&str>, row: &mut [f64]) -> bool {
        match self {
            Encode::OneHot {
                categories,
                unknown,
            } => {
                match category
                    .and_then(|category| categories.find(category))
                    .and_then(|at| row.get_mut(at))
                {
                    Some(cell) => *cell = 1.0,
                    None => return *unknown == UnknownZeros::Zeros,
                }
            }
            Encode::Table {
                categories,
                values,
                unknown,
            } => {
                match category
                    .and_then(|category| values.get(categories.find(category)?))
                    .copied()
                    .or(*unknown)
                {
                    Some(value) => row.iter_mut().for_each(|cell| *cell = value),
                    None => return false,
                }
            }
            Encode::Dates(parts) => return parts.write(category, row),
            Encode::Hash {
                width,
                alternate_sign,
            } => {
                let Some(category) = category else {
                    return true;
                };
                // Reading from memory cannot fail.
                let hash =
                    murmur3::murmur3_32(&mut category.as_bytes(), 0).unwrap_or_default() as i32;
                let at = hash.unsigned_abs() as usize % width;
                if let Some(cell) = row.get_mut(at) {
                    *cell = if *alternate_sign && hash < 0 {
                        -1.0
                    } else {
                        1.0
                    };
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::steps::{Encode, Numeric, PowerMethod};

    #[test]
    fn numeric_steps() {
        let check = |step: Numeric, input: &[f64], expected: &[f64]| {
            for (value, expected) in input.iter().map(|x| step.apply(*x).unwrap()).zip(expected) {
                assert!(
                    (value - expected).abs() < 1e-12 || (value.is_nan() && expected.is_nan()),
                    "{step:?}: {value} {expected}"
                );
            }
        };
        let nan = f64::NAN;
        check(
            Numeric::Impute {
                value: 2.0,
                missing: vec![-1.0],
            },
            &[nan, -1.0, 3.0],
            &[2.0, 2.0, 3.0],
        );
        check(
            Numeric::Scale {
                offset: 1.0,
                divisor: 4.0,
            },
            &[3.0, nan],
            &[0.5, nan],
        );
        check(
            Numeric::Clip { min: 0.0, max: 1.0 },
            &[-1.0, 0.5, 7.0, nan],
            &[0.0, 0.5, 1.0, nan],
        );
        check(
            Numeric::Bucketize {
                boundaries: vec![0.0, 1.0],
                right: false,
            },
            &[-1.0, 0.0, 0.5, 1.0, nan],
            &[0.0, 1.0, 1.0, 2.0, 2.0],
        );
        check(
            Numeric::Bucketize {
                boundaries: vec![0.0, 1.0],
                right: true,
            },
            &[0.0, 1.0, 2.0],
            &[0.0, 1.0, 2.0],
        );
        // sklearn.preprocessing.PowerTransformer(standardize=False) with lambdas_ set.
        check(
            Numeric::Power {
                method: PowerMethod::YeoJohnson,
                lambda: 0.5,
            },
            &[3.0, -3.0],
            &[2.0, -4.666_666_666_666_667],
        );
        check(
            Numeric::Power {
                method: PowerMethod::YeoJohnson,
                lambda: 2.0,
            },
            &[-1.0],
            &[-std::f64::consts::LN_2],
        );
        check(
            Numeric::Power {
                method: PowerMethod::BoxCox,
                lambda: 2.0,
            },
            &[3.0],
            &[4.0],
        );
        assert_eq!(
            Numeric::run(
                &[
                    Numeric::Power {
                        method: PowerMethod::BoxCox,
                        lambda: 2.0
                    },
                    Numeric::Clip { min: 0.0, max: 1.0 }
                ],
                -3.0
            ),
            None
        );
    }

    #[test]
    fn hashing_is_feature_hashers() {
        // sklearn.utils.murmurhash3_32("foo", seed=0) is -156908512.
        let mut row = [0.0; 10];
        assert!(
            Encode::Hash {
                width: 10,
                alternate_sign: true
            }
            .write(Some("foo"), &mut row)
        );
        assert_eq!(row.iter().position(|cell| *cell == -1.0), Some(2));
    }
}
