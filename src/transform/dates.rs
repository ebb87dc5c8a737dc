//! Dates: from a text to the parts of its calendar date and wall time, as pandas gives them.

use std::f64::consts::TAU;

use serde_json::Value;

use crate::schema::formats::{self, Moment};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Year,
    Month,
    Day,
    Weekday,
    DayOfYear,
    Week,
    Hour,
    Minute,
}

const PARTS: [(&str, Part); 8] = [
    ("year", Part::Year),
    ("month", Part::Month),
    ("day", Part::Day),
    ("weekday", Part::Weekday),
    ("day_of_year", Part::DayOfYear),
    ("week", Part::Week),
    ("hour", Part::Hour),
    ("minute", Part::Minute),
];

impl Part {
    /// After how many units a part begins again: its largest number, or their count where they begin at 0. A year never does.
    fn period(self) -> Option<f64> {
        match self {
            Part::Year => None,
            Part::Month => Some(12.0),
            Part::Day => Some(31.0),
            Part::Weekday => Some(7.0),
            Part::DayOfYear => Some(366.0),
            Part::Week => Some(53.0),
            Part::Hour => Some(24.0),
            Part::Minute => Some(60.0),
        }
    }

    fn of(self, moment: &Moment) -> u32 {
        match self {
            Part::Year => moment.year,
            Part::Month => moment.month,
            Part::Day => moment.day,
            Part::Weekday => weekday(moment),
            Part::DayOfYear => day_of_year(moment),
            Part::Week => week(moment),
            Part::Hour => moment.hour,
            Part::Minute => moment.minute,
        }
    }
}

/// A number made of a part.
#[derive(Clone, Copy, Debug)]
enum Number {
    Plain(Part),
    Sine(Part, f64),
    Cosine(Part, f64),
}

/// What a value gives that is missing or no date.
#[derive(Clone, Copy, Debug)]
enum Unknown {
    Error,
    Number(f64),
}

/// The step `date_parts`, checked.
#[derive(Clone, Debug)]
pub struct DateParts {
    numbers: Vec<Number>,
    unknown: Unknown,
}

impl DateParts {
    /// Checks the step; an error is a pointer below it, and what is wrong there.
    pub fn compile(parts: &[Value], unknown: &Value) -> Result<DateParts, (String, String)> {
        if parts.is_empty() {
            return Err(("/parts".to_owned(), "must not be empty".to_owned()));
        }
        let numbers = parts
            .iter()
            .enumerate()
            .map(|(at, part)| number(part).map_err(|detail| (format!("/parts/{at}"), detail)));
        let numbers = numbers.collect::<Result<_, _>>()?;
        let unknown = match unknown {
            Value::String(text) if text == "error" => Unknown::Error,
            Value::Number(number) => Unknown::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::Null => Unknown::Number(f64::NAN),
            _ => {
                return Err((
                    "/unknown".to_owned(),
                    "must be \"error\", a number, or null for a missing value".to_owned(),
                ));
            }
        };
        Ok(DateParts { numbers, unknown })
    }

    pub fn width(&self) -> usize {
        self.numbers.len()
    }

    /// Writes `width` numbers; `false` for a value that is refused.
    pub fn write(&self, text: Option<&str>, row: &mut [f64]) -> bool {
        match (text.and_then(formats::moment), self.unknown) {
            (Some(moment), _) => {
                for (cell, number) in row.iter_mut().zip(&self.numbers) {
                    *cell = match number {
                        Number::Plain(part) => f64::from(part.of(&moment)),
                        Number::Sine(part, period) => {
                            (TAU * f64::from(part.of(&moment)) / period).sin()
                        }
                        Number::Cosine(part, period) => {
                            (TAU * f64::from(part.of(&moment)) / period).cos()
                        }
                    };
                }
                true
            }
            (None, Unknown::Number(number)) => {
                row.fill(number);
                true
            }
            (None, Unknown::Error) => false,
        }
    }
}

fn number(written: &Value) -> Result<Number, String> {
    let part = |name: &Value| {
        let found = PARTS
            .iter()
            .find(|(known, _)| Some(*known) == name.as_str())
            .map(|(_, part)| *part);
        found.ok_or_else(|| {
            format!(
                "{name} is no part; known are {}",
                PARTS.map(|(name, _)| name).join(", ")
            )
        })
    };
    let Some(members) = written.as_object() else {
        return part(written).map(Number::Plain);
    };
    let mut members = members.iter();
    let (Some((wave, name)), None) = (members.next(), members.next()) else {
        return Err("must be a part's name, {\"sin\": name} or {\"cos\": name}".to_owned());
    };
    let part = part(name)?;
    let period = part
        .period()
        .ok_or_else(|| format!("{name} never begins again: it has no sine and no cosine"));
    match wave.as_str() {
        "sin" => period.map(|period| Number::Sine(part, period)),
        "cos" => period.map(|period| Number::Cosine(part, period)),
        _ => Err(format!("unknown member \"{wave}\"; known are sin, cos")),
    }
}

/// Days before each month of a year that is not a leap year.
const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

fn day_of_year(moment: &Moment) -> u32 {
    let before = BEFORE
        .get((moment.month as usize).wrapping_sub(1))
        .copied()
        .unwrap_or_default();
    before + moment.day + u32::from(moment.month > 2 && formats::is_leap(moment.year))
}

/// Monday is 0. The year 1 began on a Monday.
fn weekday(moment: &Moment) -> u32 {
    (first_weekday(moment.year) + day_of_year(moment) - 1) % 7
}

/// The weekday of 1 January.
fn first_weekday(year: u32) -> u32 {
    let before = year.saturating_sub(1);
    (before * 365 + before / 4 - before / 100 + before / 400) % 7
}

/// ISO 8601: the weeks begin on Monday, and the first has the year's first Thursday.
fn week(moment: &Moment) -> u32 {
    // The same week has a Thursday, and that Thursday's year is the week's.
    let week = (day_of_year(moment) + 9 - weekday(moment)) / 7;
    match week {
        0 => weeks(moment.year.saturating_sub(1)),
        53 if weeks(moment.year) == 52 => 1,
        week => week,
    }
}

/// Years that begin on a Thursday have 53 weeks, leap years that begin on a Wednesday too.
fn weeks(year: u32) -> u32 {
    match first_weekday(year) {
        3 => 53,
        2 if formats::is_leap(year) => 53,
        _ => 52,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::transform::dates::DateParts;

    #[test]
    fn what_is_no_step_is_refused() {
        let cases = [
            (json!([]), json!("error"), "/parts", "empty"),
            (
                json!(["year", "second"]),
                json!("error"),
                "/parts/1",
                "known are year, month",
            ),
            (
                json!([{"sin": "year"}]),
                json!("error"),
                "/parts/0",
                "never begins again",
            ),
            (
                json!([{"tan": "hour"}]),
                json!("error"),
                "/parts/0",
                "known are sin, cos",
            ),
            (
                json!([{"sin": "hour", "cos": "hour"}]),
                json!("error"),
                "/parts/0",
                "must be a part's name",
            ),
            (json!([7]), json!("error"), "/parts/0", "7 is no part"),
            (
                json!(["year"]),
                json!("zeros"),
                "/unknown",
                "\"error\", a number, or null",
            ),
        ];
        for (parts, unknown, pointer, detail) in cases {
            let error = DateParts::compile(parts.as_array().unwrap(), &unknown).unwrap_err();
            assert_eq!(error.0, pointer, "{parts}");
            assert!(error.1.contains(detail), "{parts}: {}", error.1);
        }
    }

    /// Against the calendar library, for every day of eight hundred years.
    #[test]
    fn every_day_has_its_parts() {
        let parts = DateParts::compile(
            &["weekday", "day_of_year", "week"].map(Value::from),
            &Value::Null,
        )
        .unwrap();
        let mut day = jiff::civil::date(1599, 1, 1);
        while day.year() < 2400 {
            let mut row = [0.0; 3];
            assert!(parts.write(Some(&day.to_string()), &mut row));
            let expected = [
                f64::from(day.weekday().to_monday_zero_offset()),
                f64::from(day.day_of_year()),
                f64::from(day.iso_week_date().week()),
            ];
            assert_eq!(row, expected, "{day}");
            day = day.tomorrow().unwrap();
        }
    }
}
