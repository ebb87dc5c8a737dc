//! Exact: numbers as JSON has them, compared and divided without rounding.

use std::cmp::Ordering;

use serde_json::Number;

/// A number as JSON has it: beyond 2^53 a double does not tell neighbours apart.
#[derive(Clone, Copy, Debug)]
pub struct Exact {
    pub value: f64,
    /// The same without rounding, where it is a whole number that fits.
    whole: Option<i128>,
}

/// Below this every whole number is a double of its own.
const EXACT_DOUBLES: f64 = 9_007_199_254_740_992.0;

impl Exact {
    /// A number of a schema.
    pub fn of(number: &Number) -> Option<Exact> {
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

    /// Whether a double tells it apart from its neighbours.
    pub fn is_small(self) -> bool {
        self.value.abs() < EXACT_DOUBLES
    }

    /// A number of a request: its value, and the text that it was read from.
    pub fn read(value: f64, text: &[u8]) -> Exact {
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

    /// The least whole number that is not below it; itself beyond all whole numbers that are told apart.
    pub fn ceil(self) -> Exact {
        self.whole.map_or_else(
            || Exact {
                value: self.value.ceil(),
                whole: whole_of(self.value.ceil()),
            },
            |_| self,
        )
    }

    pub fn floor(self) -> Exact {
        self.whole.map_or_else(
            || Exact {
                value: self.value.floor(),
                whole: whole_of(self.value.floor()),
            },
            |_| self,
        )
    }

    /// The whole number `by` further; itself where it is none.
    pub fn shift(self, by: i128) -> Exact {
        let moved = self.whole.and_then(|whole| whole.checked_add(by));
        moved.map_or(self, |whole| Exact {
            value: whole as f64,
            whole: Some(whole),
        })
    }

    pub fn whole(self) -> Option<i128> {
        self.whole
    }

    pub fn compare(self, other: Exact) -> Ordering {
        match (self.whole, other.whole) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => self.value.total_cmp(&other.value),
        }
    }
}

fn whole_of(value: f64) -> Option<i128> {
    (value.fract() == 0.0 && value.abs() < 1e38).then_some(value as i128)
}

/// Whether `value` is a multiple of `step`, decided on the decimal digits of both.
pub fn is_multiple(value: Exact, step: Exact) -> bool {
    if let (Some(value), Some(step)) = (value.whole, step.whole) {
        return value % step == 0;
    }
    let (Some((value, value_exponent)), Some((step, step_exponent))) =
        (decimal(value.value.abs()), decimal(step.value))
    else {
        return false;
    };
    if value == 0 {
        return true;
    }
    // value * 10^a is a multiple of step * 10^b, for integers without trailing zeros.
    let shift = value_exponent - step_exponent;
    if shift >= 0 {
        // (value * 10^shift) mod step, without the large product.
        let mut rest = value % step;
        for _ in 0..shift {
            rest = rest * 10 % step;
            if rest == 0 {
                return true;
            }
        }
        rest == 0
    } else {
        // `value` has no trailing zero, so it is no multiple of step * 10^n unless n is 0.
        let power = u32::try_from(-shift)
            .ok()
            .and_then(|shift| 10u128.checked_pow(shift))
            .and_then(|power| power.checked_mul(step));
        power.is_some_and(|power| value % power == 0)
    }
}

/// The shortest decimal digits of a number as an integer and a power of ten.
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
