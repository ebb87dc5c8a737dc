//! `Exact`: a JSON number that is compared and divided without rounding.

use std::cmp::Ordering;

use serde_json::Number;

/// A JSON number. A double alone is not enough: beyond 2^53, several integers have the same double.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exact {
    pub value: f64,
    /// The exact value if it is an integer that fits. Otherwise `None`.
    whole: Option<i128>,
}

/// 2^53. Every integer below it has its own double.
const EXACT_DOUBLES: f64 = 9_007_199_254_740_992.0;

impl Exact {
    /// Reads a number of a schema.
    pub(crate) fn of(number: &Number) -> Option<Exact> {
        let value = number.as_f64()?;
        let whole = number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from));
        Some(Exact {
            value,
            whole: whole.or_else(|| whole_of(value)),
        })
    }

    /// Whether the value can be represented exactly as a double, if it is an integer.
    pub(crate) fn is_small(self) -> bool {
        self.value.abs() < EXACT_DOUBLES
    }

    /// Reads a number of a request. `text` contains the bytes from which `value` was read.
    pub(crate) fn read(value: f64, text: &[u8]) -> Exact {
        // Most numbers are small: their double is exact, and the text need not be parsed again.
        let whole = if value.abs() < EXACT_DOUBLES {
            None
        } else {
            std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok())
        };
        Exact {
            value,
            whole: whole.or_else(|| whole_of(value)),
        }
    }

    /// The smallest integer that is at least this number.
    pub(crate) fn ceil(self) -> Exact {
        self.whole.map_or_else(
            || Exact {
                value: self.value.ceil(),
                whole: whole_of(self.value.ceil()),
            },
            |_| self,
        )
    }

    /// The largest integer that is at most this number.
    pub(crate) fn floor(self) -> Exact {
        self.whole.map_or_else(
            || Exact {
                value: self.value.floor(),
                whole: whole_of(self.value.floor()),
            },
            |_| self,
        )
    }

    /// The integer plus `by`. A number that is not an integer is returned unchanged.
    pub(crate) fn shift(self, by: i128) -> Exact {
        let shifted = self.whole.and_then(|whole| whole.checked_add(by));
        shifted.map_or(self, |whole| Exact {
            value: whole as f64,
            whole: Some(whole),
        })
    }

    /// The exact value if it is an integer that fits. Otherwise `None`.
    pub(crate) fn whole(self) -> Option<i128> {
        self.whole
    }

    pub(crate) fn compare(self, other: Exact) -> Ordering {
        match (self.whole, other.whole) {
            (Some(a), Some(b)) => a.cmp(&b),
            // At least one number is a fraction, or too large for i128. Both are compared as
            // doubles.
            _ => self.value.total_cmp(&other.value),
        }
    }
}

/// The value of a double that is an integer. Otherwise `None`. 1e38 is below 2^127, which is the
/// limit of i128.
fn whole_of(value: f64) -> Option<i128> {
    (value.fract() == 0.0 && value.abs() < 1e38).then_some(value as i128)
}

/// Whether `value` is a multiple of `step`. The decimal digits are compared: as doubles, 0.3 is not
/// a multiple of 0.1.
pub(crate) fn is_multiple(value: Exact, step: Exact) -> bool {
    if let (Some(value), Some(step)) = (value.whole, step.whole) {
        return value % step == 0;
    }
    let (Some((value, value_exponent)), Some((step, step_exponent))) =
        (decimal(value.value.abs()), decimal(step.value))
    else {
        return false;
    };
    // Zero has no digits whose trailing zeros could be removed.
    if value == 0 {
        return true;
    }
    // Is value * 10^a a multiple of step * 10^b? Neither integer has trailing zeros.
    let shift = value_exponent - step_exponent;
    if shift >= 0 {
        // Computes (value * 10^shift) mod step without the product, which may overflow.
        let mut rest = value % step;
        for _ in 0..shift {
            rest = rest * 10 % step;
            if rest == 0 {
                return true;
            }
        }
        rest == 0
    } else {
        // A product that overflows is larger than `value`, so `value` is not a multiple of it.
        let power = u32::try_from(-shift)
            .ok()
            .and_then(|shift| 10u128.checked_pow(shift))
            .and_then(|power| power.checked_mul(step));
        power.is_some_and(|power| value % power == 0)
    }
}

/// The shortest decimal digits that read back as the same number: an integer without trailing
/// zeros, and a power of ten.
fn decimal(value: f64) -> Option<(u128, i32)> {
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    Some((
        digits,
        exponent.parse::<i32>().ok()? - i32::try_from(fraction.len()).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use crate::schema::exact::{Exact, is_multiple};

    #[test]
    fn multiples_are_exact_in_decimal() {
        for (value, step) in [
            (0.3, 0.1),
            (1e300, 0.1),
            (7.0, 3.5),
            (0.0, 7.0),
            (-4.5, 1.5),
            (1.1, 0.01),
            (19.99, 0.01),
        ] {
            assert!(
                is_multiple(Exact::read(value, b""), Exact::read(step, b"")),
                "{value} {step}"
            );
        }
        for (value, step) in [
            (0.35, 0.1),
            (1.0, 3.0),
            (1e-300, 1e300),
            (5.0, 10.0),
            (0.075, 0.01),
        ] {
            assert!(
                !is_multiple(Exact::read(value, b""), Exact::read(step, b"")),
                "{value} {step}"
            );
        }
    }
}
