//! Preprocessing steps, in the form of `preprocessing.json` and compiled. They have the names and
//! the definitions of scikit-learn.

mod encoding;
mod numeric;
mod text;

use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::{
    encoding::{Categories, CategoryEncoding},
    numeric::NumericStep,
    text::TextStep,
};

/// A step in the form of `preprocessing.json`: an object with one member, whose name is the name of
/// the step.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum PreprocessStep {
    /// Replaces missing values, like `SimpleImputer` with a constant.
    Impute(ImputeStep),
    /// Gives 1 for a missing value and 0 for any other, like `MissingIndicator`.
    MissingIndicator(NoParameters),
    /// Computes (x - mean) / std, like `StandardScaler`.
    StandardScale { mean: f64, std: f64 },
    /// Computes (x - min) / (max - min), like `MinMaxScaler` with the range 0 to 1.
    MinMaxScale { min: f64, max: f64 },
    /// Computes (x - center) / scale, like `RobustScaler`.
    RobustScale { center: f64, scale: f64 },
    /// Limits a value to a range, like `numpy.clip`.
    Clip { min: Option<f64>, max: Option<f64> },
    /// Computes ln(1 + x), like `numpy.log1p`.
    Log1p(NoParameters),
    /// Like `PowerTransformer` without standardisation (Yeo and Johnson 2000; Box and Cox 1964).
    Power { method: PowerMethod, lambda: f64 },
    /// Counts the boundaries that are at most the value (with `right`: below the value), like
    /// `numpy.digitize`.
    Bucketize {
        boundaries: Vec<f64>,
        #[serde(default)]
        right: bool,
    },
    /// Changes the shape of a row's array, like `numpy.reshape`.
    Reshape { shape: Vec<usize> },
    /// Gives one column per category, like `OneHotEncoder`.
    OneHot {
        categories: Vec<Value>,
        unknown: UnknownCategory,
    },
    /// Replaces each category with its index, like `OrdinalEncoder`.
    Ordinal {
        categories: Vec<Value>,
        unknown: Value,
    },
    /// Replaces each category with one number, like scikit-learn's fitted `TargetEncoder`.
    TargetEncode {
        categories: Vec<Value>,
        values: Vec<f64>,
        default: f64,
    },
    /// Hashes one string like `FeatureHasher`: MurmurHash3 of 32 bits with seed 0, as a signed
    /// number that determines the column and the sign.
    Hash {
        n_features: usize,
        #[serde(default = "default_alternate_sign")]
        alternate_sign: bool,
    },
    /// Splits a date or time into parts, like the accessors of pandas.
    DateParts { parts: Vec<Value>, unknown: Value },
    /// Like Python's `str.lower`.
    Lowercase(NoParameters),
    /// Like Python's `str.strip`.
    Strip(NoParameters),
    /// Like Python's `unicodedata.normalize`.
    NormalizeUnicode { form: UnicodeForm },
    /// Like Python's `re.sub`.
    RegexReplace {
        pattern: String,
        replacement: String,
    },
    /// Decodes the bytes of a PNG or JPEG to pixels. This is the first step of every image.
    DecodeImage { mode: ColorMode },
    /// Like Pillow's `Image.resize`.
    Resize {
        height: u32,
        width: u32,
        #[serde(default)]
        interpolation: Interpolation,
    },
    /// Crops the centre of an image.
    CenterCrop { height: usize, width: usize },
    /// Computes x * factor, for a number, an array or an image.
    Rescale { factor: f64 },
    /// Computes (x - mean) / std for each channel of an image.
    Normalize { mean: Vec<f64>, std: Vec<f64> },
    /// The order of the dimensions, as the last step of an image. The default is NHWC.
    Layout(Layout),
}

/// The parameters of a step without parameters: `{}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParameters {}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImputeStep {
    /// The replacement of missing values.
    pub value: Value,
    #[serde(default)]
    /// Values that also count as missing, such as -1. Null always counts as missing.
    pub missing_values: Vec<Value>,
}

/// The default of FeatureHasher.
fn default_alternate_sign() -> bool {
    true
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum PowerMethod {
    #[serde(rename = "yeo-johnson")]
    YeoJohnson,
    #[serde(rename = "box-cox")]
    BoxCox,
}

/// The treatment of an unknown category.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UnknownCategory {
    Zeros,
    Error,
}

/// The normalization forms of Unicode Standard Annex 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum UnicodeForm {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ColorMode {
    Grey,
    Rgb,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Interpolation {
    Nearest,
    #[default]
    Bilinear,
    Bicubic,
    Lanczos,
}

/// The order of the dimensions of an image tensor: N rows, C channels, H height, W width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Layout {
    Nchw,
    Nhwc,
}
