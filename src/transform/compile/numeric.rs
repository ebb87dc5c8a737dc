//! Numeric steps.

use serde_json::Value;

use crate::transform::{
    compile::InputCompiler,
    declaration::DeclarationError,
    steps::{ImputeStep, NumericStep, PreprocessStep},
};

impl InputCompiler<'_> {
    /// Checks a numeric step. Returns `None` if the step does not take a number.
    pub(super) fn numeric_step(
        &self,
        step: &PreprocessStep,
        below: &str,
    ) -> Result<Option<NumericStep>, DeclarationError> {
        Ok(Some(match step {
            PreprocessStep::Impute(impute) => self.impute_number(impute, below)?,
            PreprocessStep::StandardScale { mean, std } => NumericStep::Scale {
                offset: *mean,
                divisor: self.divisor(*std, "std", below)?,
            },
            PreprocessStep::MinMaxScale { min, max } => NumericStep::Scale {
                offset: *min,
                divisor: self.divisor(max - min, "max - min", below)?,
            },
            PreprocessStep::RobustScale { center, scale } => NumericStep::Scale {
                offset: *center,
                divisor: self.divisor(*scale, "scale", below)?,
            },
            PreprocessStep::Rescale { factor } => {
                NumericStep::Rescale(self.divisor(*factor, "factor", below)?)
            }
            PreprocessStep::Clip { min, max } => {
                let (min, max) = (
                    min.unwrap_or(f64::NEG_INFINITY),
                    max.unwrap_or(f64::INFINITY),
                );
                // With min above max, the result of `clip` would be outside one of the bounds.
                if min > max {
                    return self.fail(below, "min is above max");
                }
                NumericStep::Clip { min, max }
            }
            PreprocessStep::Log1p(_) => NumericStep::Log1p,
            PreprocessStep::Power { method, lambda } if !lambda.is_finite() => {
                return self.fail(below, format!("lambda of {method:?} must be finite"));
            }
            PreprocessStep::Power { method, lambda } => NumericStep::Power {
                method: *method,
                lambda: *lambda,
            },
            PreprocessStep::Bucketize { boundaries, right } => {
                if boundaries.is_empty() || !boundaries.is_sorted_by(|a, b| a < b) {
                    return self.fail(
                        below,
                        "boundaries must be distinct numbers in ascending order",
                    );
                }
                NumericStep::Bucketize {
                    boundaries: boundaries.clone(),
                    right: *right,
                }
            }
            _ => return Ok(None),
        }))
    }

    fn impute_number(
        &self,
        impute: &ImputeStep,
        below: &str,
    ) -> Result<NumericStep, DeclarationError> {
        let number = |value: &Value| match value {
            Value::Bool(value) => Ok(f64::from(u8::from(*value))),
            value => value
                .as_f64()
                .map_or_else(|| self.fail(below, "must be a number"), Ok),
        };
        // Null, a missing value, is always replaced.
        let missing = impute
            .missing_values
            .iter()
            .filter(|value| !value.is_null());
        Ok(NumericStep::Impute {
            value: number(&impute.value)?,
            missing: missing.map(number).collect::<Result<_, _>>()?,
        })
    }

    fn divisor(&self, value: f64, name: &str, below: &str) -> Result<f64, DeclarationError> {
        if value == 0.0 || !value.is_finite() {
            return self.fail(below, format!("{name} must be a number other than 0"));
        }
        Ok(value)
    }
}
