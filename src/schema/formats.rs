//! The string formats that the keyword `format` supports, and the parser of dates and times.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StringFormat {
    DateTime,
    Date,
    Uuid,
}

/// The name of a format in messages.
pub(crate) fn name(format: StringFormat) -> &'static str {
    match format {
        StringFormat::DateTime => "date-time (RFC 3339)",
        StringFormat::Date => "date (YYYY-MM-DD)",
        StringFormat::Uuid => "UUID",
    }
}

/// Whether a string has a format.
pub(crate) fn fits(format: StringFormat, text: &str) -> bool {
    match format {
        StringFormat::Date => is_date(text.as_bytes()),
        StringFormat::DateTime => is_date_time(text.as_bytes()),
        StringFormat::Uuid => is_uuid(text.as_bytes()),
    }
}

/// Parses digits as a number. The callers pass at most four digits, so the number does not
/// overflow.
fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0u32, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + u32::from(byte - b'0'))
    })
}

/// A date and its wall time. A date without a time has midnight as its wall time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub year: u32,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
}

/// Parses a date, or a date and a time with an optional offset from UTC. The wall time is local to
/// the offset. The year 0 is refused, because pandas and Python do not have it.
pub(crate) fn moment(text: &str) -> Option<Moment> {
    let (date, time) = text.as_bytes().split_at_checked(DATE_LENGTH)?;
    let (year, month, day) = self::date(date).filter(|(year, ..)| *year > 0)?;
    let (hour, minute) = match time {
        [] => (0, 0),
        // Like pandas, this parser also accepts a space between date and time.
        [b'T' | b't' | b' ', time @ ..] => {
            let time = self::time(time)?;
            (time.hour, time.minute)
        }
        _ => return None,
    };
    Some(Moment {
        year,
        month,
        day,
        hour,
        minute,
    })
}

pub(crate) fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// The length of `2024-02-29` in bytes.
const DATE_LENGTH: usize = 10;

fn is_date(text: &[u8]) -> bool {
    date(text).is_some()
}

/// Parses year, month and day of a date in the Gregorian calendar.
fn date(text: &[u8]) -> Option<(u32, u32, u32)> {
    let [year @ .., b'-', m1, m2, b'-', d1, d2] = text else {
        return None;
    };
    // RFC 3339 allows only years of four digits.
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

/// Whether a string is a date-time of RFC 3339, section 5.6.
fn is_date_time(text: &[u8]) -> bool {
    let (Some(date), Some(separator), Some(time)) = (
        text.get(..DATE_LENGTH),
        text.get(DATE_LENGTH),
        text.get(DATE_LENGTH + 1..),
    ) else {
        return false;
    };
    is_date(date)
        && matches!(separator, b'T' | b't')
        && self::time(time).is_some_and(|time| time.has_offset)
}

struct Time {
    hour: u32,
    minute: u32,
    has_offset: bool,
}

/// Parses a time of day. A leap second is accepted only at 23:59:60 UTC, because leap seconds are
/// inserted at that time.
fn time(text: &[u8]) -> Option<Time> {
    let [h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = text else {
        return None;
    };
    let (hour, minute, second) = (
        digits(&[*h1, *h2])?,
        digits(&[*m1, *m2])?,
        digits(&[*s1, *s2])?,
    );
    // A fraction needs at least one digit.
    let rest = match rest {
        [b'.', fraction @ ..] => {
            let length = fraction
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
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
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            match (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?) {
                (hours @ 0..=23, minutes @ 0..=59) => {
                    Some((hours * 60 + minutes) as i32 * if *sign == b'-' { -1 } else { 1 })
                }
                _ => return None,
            }
        }
        _ => return None,
    };
    // Without an offset, the time in UTC is unknown, so a leap second is refused.
    let may_leap = offset
        .is_some_and(|offset| ((hour * 60 + minute) as i32 - offset).rem_euclid(1440) == 1439);
    let exists = hour <= 23 && minute <= 59 && (second < 60 || second == 60 && may_leap);
    exists.then_some(Time {
        hour,
        minute,
        has_offset: offset.is_some(),
    })
}

fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(index, byte)| {
            if matches!(index, 8 | 13 | 18 | 23) {
                *byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
        })
}

#[cfg(test)]
mod tests {
    use crate::schema::formats::{Moment, StringFormat, fits, moment};

    #[test]
    fn strings_of_each_format() {
        let valid = [
            (StringFormat::Date, "2024-02-29"),
            (StringFormat::DateTime, "2024-02-29T12:00:00Z"),
            (StringFormat::DateTime, "1990-12-31T15:59:60-08:00"),
            (StringFormat::DateTime, "2024-02-29t12:00:00.123+05:30"),
            (StringFormat::Uuid, "2EB8AA08-aa98-11ea-b4aa-73b441d16380"),
        ];
        let invalid = [
            (StringFormat::Date, "2023-02-29"),
            (StringFormat::Date, "2023-2-9"),
            (StringFormat::Date, "12023-02-09"),
            (StringFormat::DateTime, "2024-02-29 12:00:00Z"),
            (StringFormat::DateTime, "2024-02-29T12:00:60Z"),
            (StringFormat::DateTime, "2024-02-29T24:00:00Z"),
            (StringFormat::DateTime, "2024-02-29T12:00:00"),
            (StringFormat::DateTime, "2024-02-29T12:00:00.Z"),
            (StringFormat::Uuid, "2eb8aa08aa9811eab4aa73b441d16380"),
        ];
        for (format, text) in valid {
            assert!(fits(format, text), "{text}");
        }
        for (format, text) in invalid {
            assert!(!fits(format, text), "{text}");
        }
    }

    #[test]
    fn times_are_dates_with_or_without_a_time() {
        let at = |year, month, day, hour, minute| {
            Some(Moment {
                year,
                month,
                day,
                hour,
                minute,
            })
        };
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
}
