//! Formats of texts and exact multiples of numbers.

use std::cmp::Ordering;

use serde_json::Number;

use crate::package::schema::Format;

pub(super) fn name(format: Format) -> &'static str {
    match format {
        Format::DateTime => "date-time (RFC 3339)",
        Format::Date => "date (YYYY-MM-DD)",
        Format::Uuid => "UUID",
    }
}

pub(super) fn fits(format: Format, text: &str) -> bool {
    match format {
        Format::Date => is_date(text.as_bytes()),
        Format::DateTime => is_date_time(text.as_bytes()),
        Format::Uuid => is_uuid(text.as_bytes()),
    }
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0u32, |value, byte| byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')))
}

/// A date, and its wall time where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub year: u32,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
}

/// A date; or a date and a time, with its offset from UTC or without one. The wall time is the one of the offset. A year 0
/// is none.
pub(super) fn moment(text: &str) -> Option<Moment> {
    let (date, time) = text.as_bytes().split_at_checked(DATE_LENGTH)?;
    let (year, month, day) = self::date(date).filter(|(year, ..)| *year > 0)?;
    let (hour, minute) = match time {
        [] => (0, 0),
        [b'T' | b't' | b' ', time @ ..] => {
            let time = self::time(time)?;
            (time.hour, time.minute)
        }
        _ => return None,
    };
    Some(Moment { year, month, day, hour, minute })
}

pub(super) fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Bytes of `2024-02-29`.
const DATE_LENGTH: usize = 10;

fn is_date(text: &[u8]) -> bool {
    date(text).is_some()
}

fn date(text: &[u8]) -> Option<(u32, u32, u32)> {
    let [year @ .., b'-', m1, m2, b'-', d1, d2] = text else { return None };
    if year.len() != 4 {
        return None;
    }
    let (year, month, day) = (digits(year)?, digits(&[*m1, *m2])?, digits(&[*d1, *d2])?);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => return None,
    };
    (1..=days).contains(&day).then_some((year, month, day))
}

/// RFC 3339 section 5.6.
fn is_date_time(text: &[u8]) -> bool {
    let (Some(date), Some(separator), Some(time)) = (text.get(..DATE_LENGTH), text.get(DATE_LENGTH), text.get(DATE_LENGTH + 1..)) else {
        return false;
    };
    is_date(date) && matches!(separator, b'T' | b't') && self::time(time).is_some_and(|time| time.has_offset)
}

struct Time {
    hour: u32,
    minute: u32,
    has_offset: bool,
}

/// A time of day; a leap second only where one can be: at 23:59:60 UTC.
fn time(text: &[u8]) -> Option<Time> {
    let [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = text else { return None };
    let (hour, minute, second) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?, digits(&[*s1, *s2])?);
    let rest = match rest {
        [b'.', fraction @ ..] => {
            let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if length == 0 {
                return None;
            }
            fraction.get(length..).unwrap_or_default()
        }
        rest => rest,
    };
    let offset = match rest {
        [] => None,
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => match (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?) {
            (hours @ 0..=23, minutes @ 0..=59) => Some((hours * 60 + minutes) as i32 * if *sign == b'-' { -1 } else { 1 }),
            _ => return None,
        },
        _ => return None,
    };
    let leap = offset.is_some_and(|offset| ((hour * 60 + minute) as i32 - offset).rem_euclid(1440) == 1439);
    let real = hour <= 23 && minute <= 59 && (second < 60 || second == 60 && leap);
    real.then_some(Time { hour, minute, has_offset: offset.is_some() })
}

fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text
            .iter()
            .enumerate()
            .all(|(index, byte)| if matches!(index, 8 | 13 | 18 | 23) { *byte == b'-' } else { byte.is_ascii_hexdigit() })
}

/// A number as JSON has it: beyond 2^53 a double does not tell neighbours apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exact {
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
        let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        Some(Exact { value, whole: whole.or_else(|| whole_of(value)) })
    }

    /// Whether a double tells it apart from its neighbours.
    pub fn is_small(self) -> bool {
        self.value.abs() < EXACT_DOUBLES
    }

    /// A number of a request: its value, and the text that it was read from.
    pub fn read(value: f64, text: &[u8]) -> Exact {
        let whole = if value.abs() < EXACT_DOUBLES { None } else { std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()) };
        Exact { value, whole: whole.or_else(|| whole_of(value)) }
    }

    /// The least whole number that is not below it; itself beyond all whole numbers that are told apart.
    pub fn ceil(self) -> Exact {
        self.whole.map_or_else(|| Exact { value: self.value.ceil(), whole: whole_of(self.value.ceil()) }, |_| self)
    }

    pub fn floor(self) -> Exact {
        self.whole.map_or_else(|| Exact { value: self.value.floor(), whole: whole_of(self.value.floor()) }, |_| self)
    }

    /// The whole number `by` further; itself where it is none.
    pub fn shift(self, by: i128) -> Exact {
        let moved = self.whole.and_then(|whole| whole.checked_add(by));
        moved.map_or(self, |whole| Exact { value: whole as f64, whole: Some(whole) })
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
pub(super) fn is_multiple(value: Exact, step: Exact) -> bool {
    if let (Some(value), Some(step)) = (value.whole, step.whole) {
        return value % step == 0;
    }
    let (Some((value, value_exponent)), Some((step, step_exponent))) = (decimal(value.value.abs()), decimal(step.value)) else {
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
        let power = u32::try_from(-shift).ok().and_then(|shift| 10u128.checked_pow(shift)).and_then(|power| power.checked_mul(step));
        power.is_some_and(|power| value % power == 0)
    }
}

/// The shortest decimal digits of a number as an integer and a power of ten.
fn decimal(value: f64) -> Option<(u128, i32)> {
    let text = format!("{value:e}");
    let (mantissa, exponent) = text.split_once('e')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    Some((digits, exponent.parse::<i32>().ok()? - i32::try_from(fraction.len()).ok()?))
}

#[cfg(test)]
mod tests {
    use crate::package::{
        formats::{Exact, Moment, fits, is_multiple, moment},
        schema::Format,
    };

    #[test]
    fn texts_of_each_format() {
        let good = [
            (Format::Date, "2024-02-29"),
            (Format::DateTime, "2024-02-29T12:00:00Z"),
            (Format::DateTime, "1990-12-31T15:59:60-08:00"),
            (Format::DateTime, "2024-02-29t12:00:00.123+05:30"),
            (Format::Uuid, "2EB8AA08-aa98-11ea-b4aa-73b441d16380"),
        ];
        let bad = [
            (Format::Date, "2023-02-29"),
            (Format::Date, "2023-2-9"),
            (Format::Date, "12023-02-09"),
            (Format::DateTime, "2024-02-29 12:00:00Z"),
            (Format::DateTime, "2024-02-29T12:00:60Z"),
            (Format::DateTime, "2024-02-29T24:00:00Z"),
            (Format::DateTime, "2024-02-29T12:00:00"),
            (Format::DateTime, "2024-02-29T12:00:00.Z"),
            (Format::Uuid, "2eb8aa08aa9811eab4aa73b441d16380"),
        ];
        for (format, text) in good {
            assert!(fits(format, text), "{text}");
        }
        for (format, text) in bad {
            assert!(!fits(format, text), "{text}");
        }
    }

    #[test]
    fn moments_are_dates_with_or_without_a_time() {
        let at = |year, month, day, hour, minute| Some(Moment { year, month, day, hour, minute });
        let cases = [
            ("2024-02-29", at(2024, 2, 29, 0, 0)),
            ("2024-02-29T23:05:59.999Z", at(2024, 2, 29, 23, 5)),
            ("2024-02-29t00:30:00-11:30", at(2024, 2, 29, 0, 30)),
            ("2024-02-29 12:00:00", at(2024, 2, 29, 12, 0)),
            ("1990-12-31T15:59:60-08:00", at(1990, 12, 31, 15, 59)),
            ("9999-12-31T23:59:59", at(9999, 12, 31, 23, 59)),
            ("0000-01-01", None),
            ("2023-02-29", None),
            ("2024-02-29T", None),
            ("2024-02-29 12:00", None),
            ("2024-02-29 12:00:60", None),
            ("2024-02-29x12:00:00", None),
            ("29.02.2024", None),
            ("", None),
            ("é024-02-29", None),
        ];
        for (text, expected) in cases {
            assert_eq!(moment(text), expected, "{text}");
        }
    }

    #[test]
    fn multiples_are_exact_in_decimal() {
        for (value, step) in [(0.3, 0.1), (1e300, 0.1), (7.0, 3.5), (0.0, 7.0), (-4.5, 1.5), (1.1, 0.01), (19.99, 0.01)] {
            assert!(is_multiple(Exact::read(value, b""), Exact::read(step, b"")), "{value} {step}");
        }
        for (value, step) in [(0.35, 0.1), (1.0, 3.0), (1e-300, 1e300), (5.0, 10.0), (0.075, 0.01)] {
            assert!(!is_multiple(Exact::read(value, b""), Exact::read(step, b"")), "{value} {step}");
        }
    }
}
