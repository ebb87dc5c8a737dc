//! `NumericStep`: a compiled step from a number to a number, in float64. NaN is a missing value.

use crate::transform::steps::PowerMethod;

#[derive(Clone, Debug)]
pub(crate) enum NumericStep {
    Impute {
        value: f64,
        missing: Vec<f64>,
    },
    /// Computes (x - offset) / divisor.
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

impl NumericStep {
    /// Applies all steps in order. `None` if a step is not defined for its input value.
    #[inline]
    pub(crate) fn run(steps: &[NumericStep], x: f64) -> Option<f64> {
        steps.iter().try_fold(x, |x, step| step.apply(x))
    }

    #[inline]
    pub(super) fn apply(&self, x: f64) -> Option<f64> {
        Some(match self {
            NumericStep::Impute { value, missing } => {
                if x.is_nan() || missing.contains(&x) {
                    *value
                } else {
                    x
                }
            }
            NumericStep::Scale { offset, divisor } => (x - offset) / divisor,
            // `clamp` is not used, because it panics for bounds that are NaN. A value of NaN stays
            // NaN, like with `numpy.clip`.
            NumericStep::Clip { min, .. } if x < *min => *min,
            NumericStep::Clip { max, .. } if x > *max => *max,
            NumericStep::Clip { .. } => x,
            NumericStep::Log1p => x.ln_1p(),
            NumericStep::Rescale(factor) => x * factor,
            NumericStep::Power {
                method: PowerMethod::BoxCox,
                ..
            } if x <= 0.0 => return None,
            NumericStep::Power { method, lambda } => power(*method, *lambda, x),
            // NumPy sorts NaN after all numbers, so it is above every boundary.
            NumericStep::Bucketize { boundaries, right } => boundaries.partition_point(|boundary| {
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

/// The power transform: (x^lambda - 1) / lambda by Box and Cox (1964), or the extension to all
/// numbers by Yeo and Johnson (2000).
fn power(method: PowerMethod, lambda: f64, x: f64) -> f64 {
    match method {
        PowerMethod::BoxCox => power_of_log(x.ln(), lambda),
        PowerMethod::YeoJohnson if x >= 0.0 => power_of_log(x.ln_1p(), lambda),
        PowerMethod::YeoJohnson => -power_of_log((-x).ln_1p(), 2.0 - lambda),
    }
}

/// Computes (e^(lambda * log) - 1) / lambda. `exp_m1` keeps the digits that the subtraction would
/// lose for a small lambda. NaN stays NaN.
fn power_of_log(log: f64, lambda: f64) -> f64 {
    // The limit for lambda = 0 is the logarithm.
    if lambda.abs() < f64::EPSILON {
        log
    } else {
        (lambda * log).exp_m1() / lambda
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::steps::{NumericStep, PowerMethod};

    #[test]
    fn numeric_steps() {
        let check = |step: NumericStep, input: &[f64], expected: &[f64]| {
            for (value, expected) in input.iter().map(|x| step.apply(*x).unwrap()).zip(expected) {
                assert!(
                    (value - expected).abs() < 1e-12 || (value.is_nan() && expected.is_nan()),
                    "{step:?}: {value} {expected}"
                );
            }
        };
        let nan = f64::NAN;
        check(
            NumericStep::Impute {
                value: 2.0,
                missing: vec![-1.0],
            },
            &[nan, -1.0, 3.0],
            &[2.0, 2.0, 3.0],
        );
        check(
            NumericStep::Scale {
                offset: 1.0,
                divisor: 4.0,
            },
            &[3.0, nan],
            &[0.5, nan],
        );
        check(
            NumericStep::Clip { min: 0.0, max: 1.0 },
            &[-1.0, 0.5, 7.0, nan],
            &[0.0, 0.5, 1.0, nan],
        );
        check(
            NumericStep::Bucketize {
                boundaries: vec![0.0, 1.0],
                right: false,
            },
            &[-1.0, 0.0, 0.5, 1.0, nan],
            &[0.0, 1.0, 1.0, 2.0, 2.0],
        );
        check(
            NumericStep::Bucketize {
                boundaries: vec![0.0, 1.0],
                right: true,
            },
            &[0.0, 1.0, 2.0],
            &[0.0, 1.0, 2.0],
        );
        // sklearn.preprocessing.PowerTransformer(standardize=False) with lambdas_ set.
        check(
            NumericStep::Power {
                method: PowerMethod::YeoJohnson,
                lambda: 0.5,
            },
            &[3.0, -3.0],
            &[2.0, -4.666_666_666_666_667],
        );
        check(
            NumericStep::Power {
                method: PowerMethod::YeoJohnson,
                lambda: 2.0,
            },
            &[-1.0],
            &[-std::f64::consts::LN_2],
        );
        check(
            NumericStep::Power {
                method: PowerMethod::BoxCox,
                lambda: 2.0,
            },
            &[3.0],
            &[4.0],
        );
        assert_eq!(
            NumericStep::run(
                &[
                    NumericStep::Power {
                        method: PowerMethod::BoxCox,
                        lambda: 2.0
                    },
                    NumericStep::Clip { min: 0.0, max: 1.0 }
                ],
                -3.0
            ),
            None
        );
    }
}
