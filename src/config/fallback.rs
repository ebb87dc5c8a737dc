//! `[model.NAME.fallback]`: the fallback of a version that fails.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::ModelName;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FallbackConfig {
    /// Failures that cause a fallback. There is no fallback without the section; the default is all
    /// four.
    #[schemars(extend("x-example" = r#"["error", "timeout", "overloaded", "nan"]"#))]
    pub on: Vec<FallbackOn>,
    /// Sources of the fallback, tried in this order. The default is previous, then the constant of
    /// the package's serving.json.
    #[schemars(extend("x-example" = r#"["previous", "model:churn-small", "constant"]"#))]
    pub to: Vec<FallbackTo>,
}

impl Default for FallbackConfig {
    fn default() -> FallbackConfig {
        FallbackConfig {
            on: vec![
                FallbackOn::Error,
                FallbackOn::Timeout,
                FallbackOn::Overloaded,
                FallbackOn::Nan,
            ],
            to: vec![FallbackTo::Previous, FallbackTo::Constant],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not \"previous\", \"constant\" or \"model:NAME\"")]
pub(crate) struct FallbackToError(String);

/// The kind of failure that causes a fallback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FallbackOn {
    /// The model failed.
    Error,
    /// The model did not answer within three quarters of the request's time.
    Timeout,
    /// The queue of the model was full.
    Overloaded,
    /// The model answered NaN or infinity.
    Nan,
}

impl FallbackOn {
    pub(crate) fn name(self) -> &'static str {
        match self {
            FallbackOn::Error => "error",
            FallbackOn::Timeout => "timeout",
            FallbackOn::Overloaded => "overloaded",
            FallbackOn::Nan => "nan",
        }
    }
}

/// The source of a fallback answer: `previous`, `constant`, or `model:NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub(crate) enum FallbackTo {
    /// The previous stable version. For a candidate: the stable version.
    Previous,
    /// The stable version of another model.
    Model(String),
    /// The answer in the package's `serving.json`.
    Constant,
}

impl TryFrom<String> for FallbackTo {
    type Error = FallbackToError;

    fn try_from(text: String) -> Result<FallbackTo, FallbackToError> {
        match text.split_once(':') {
            None if text == "previous" => Ok(FallbackTo::Previous),
            None if text == "constant" => Ok(FallbackTo::Constant),
            Some(("model", name)) if ModelName::parse(name).is_some() => {
                Ok(FallbackTo::Model(name.to_owned()))
            }
            _ => Err(FallbackToError(text)),
        }
    }
}

impl From<FallbackTo> for String {
    fn from(to: FallbackTo) -> String {
        to.to_string()
    }
}

impl std::fmt::Display for FallbackTo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FallbackTo::Previous => f.write_str("previous"),
            FallbackTo::Constant => f.write_str("constant"),
            FallbackTo::Model(name) => write!(f, "model:{name}"),
        }
    }
}
