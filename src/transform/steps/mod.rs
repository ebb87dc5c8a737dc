//! Preprocessing steps: as written in `preprocessing.json`, and compiled. They have the names and
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

/// A step as written: an object with one member, which has the name of the step.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum PreprocessStep {
    /// Replaces missing values, as SimpleImputer with a constant.
    Impute(ImputeStep),
    /// 1 for a missing value, 0 for any other, as MissingIndicator.
    MissingIndicator(NoParameters),
    /// (x - mean) / std, as StandardScaler.
    StandardScale { mean: f64, std: f64 },
    /// (x - min) / (max - min), as MinMaxScaler with the range 0 to 1.
    MinMaxScale { min: f64, max: f64 },
    /// (x - center) / scale, as RobustScaler.
    RobustScale { center: f64, scale: f64 },
    /// As numpy.clip.
    Clip { min: Option<f64>, max: Option<f64> },
    /// ln(1 + x), as numpy.log1p.
    Log1p(NoParameters),
    /// As PowerTransformer without standardisation (Yeo and Johnson 2000; Box and Cox 1964).
    Power { method: PowerMethod, lambda: f64 },
    /// The number of boundaries that are at most the value, or below it with `right`, as
    /// numpy.digitize.
    Bucketize {
        boundaries: Vec<f64>,
        #[serde(default)]
        right: bool,
    },
    /// Another shape for the array of a row, as numpy.reshape.
    Reshape { shape: Vec<usize> },
    /// One column for each category, as OneHotEncoder.
    OneHot {
        categories: Vec<Value>,
        unknown: UnknownCategory,
    },
    /// The index of the category, as OrdinalEncoder.
    Ordinal {
        categories: Vec<Value>,
        unknown: Value,
    },
    /// One number for each category, as the fitted TargetEncoder.
    TargetEncode {
        categories: Vec<Value>,
        values: Vec<f64>,
        default: f64,
    },
    /// As FeatureHasher of one string: MurmurHash3 of 32 bits with seed 0, as a signed number that
    /// chooses column and sign.
    Hash {
        n_features: usize,
        #[serde(default = "default_alternate_sign")]
        alternate_sign: bool,
    },
    /// Parts of a date or time, as the accessors of pandas.
    DateParts { parts: Vec<Value>, unknown: Value },
    /// As `str.lower` of Python.
    Lowercase(NoParameters),
    /// As `str.strip` of Python.
    Strip(NoParameters),
    /// As `unicodedata.normalize` of Python.
    NormalizeUnicode { form: UnicodeForm },
    /// As `re.sub` of Python.
    RegexReplace {
        pattern: String,
        replacement: String,
    },
    /// From the bytes of a PNG or JPEG to pixels. The first step of every image.
    DecodeImage { mode: ColorMode },
    /// As `Image.resize` of Pillow.
    Resize {
        height: u32,
        width: u32,
        #[serde(default)]
        interpolation: Interpolation,
    },
    /// Cuts out the centre of an image.
    CenterCrop { height: usize, width: usize },
    /// x * factor. For a number, an array or an image.
    Rescale { factor: f64 },
    /// (x - mean) / std for each channel of an image.
    Normalize { mean: Vec<f64>, std: Vec<f64> },
    /// The last step of an image. The default is NHWC.
    Layout(Layout),
}

/// The parameters of a step without parameters: `{}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParameters {}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImputeStep {
    /// The replacement.
    pub value: Value,
    #[serde(default)]
    /// Values that also count as missing, such as -1. Null always does.
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

/// What an unknown category becomes.
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
