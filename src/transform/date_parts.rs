//! `DateParts`: the step that splits a date or time into the parts of its calendar date and wall
//! time. The parts are defined like in pandas.

use std::f64::consts::TAU;

use serde_json::Value;

use crate::{
    schema::formats::{self, Moment},
    transform::declaration::DeclarationError,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DatePart {
    Year,
    Month,
    Day,
    Weekday,
    DayOfYear,
    Week,
    Hour,
    Minute,
}

/// The parts by their names in `preprocessing.json`.
const PARTS: [(&str, DatePart); 8] = [
    ("year", DatePart::Year),
    ("month", DatePart::Month),
    ("day", DatePart::Day),
    ("weekday", DatePart::Weekday),
    ("day_of_year", DatePart::DayOfYear),
    ("week", DatePart::Week),
    ("hour", DatePart::Hour),
    ("minute", DatePart::Minute),
];

impl DatePart {
    /// The period of a part, which is the number of units after which it repeats. `None` for a
    /// year, which does not repeat.
    fn period(self) -> Option<f64> {
        match self {
            DatePart::Year => None,
            DatePart::Month => Some(12.0),
            DatePart::Day => Some(31.0),
            DatePart::Weekday => Some(7.0),
            DatePart::DayOfYear => Some(366.0),
            DatePart::Week => Some(53.0),
            DatePart::Hour => Some(24.0),
            DatePart::Minute => Some(60.0),
        }
    }

    /// The part of a date and time.
    fn value(self, moment: &Moment) -> u32 {
        match self {
            DatePart::Year => moment.year,
            DatePart::Month => moment.month,
            DatePart::Day => moment.day,
            DatePart::Weekday => weekday(moment),
            DatePart::DayOfYear => day_of_year(moment),
            DatePart::Week => week(moment),
            DatePart::Hour => moment.hour,
            DatePart::Minute => moment.minute,
        }
    }
}

/// One output column of the step: a part, or the sine or cosine of its phase. The `f64` is the
/// period of the part.
#[derive(Clone, Copy, Debug)]
enum DateFeature {
    Plain(DatePart),
    Sine(DatePart, f64),
    Cosine(DatePart, f64),
}

/// The result for a missing value, and for a value that is not a date.
#[derive(Clone, Copy, Debug)]
enum UnknownDate {
    Error,
    Number(f64),
}

/// The compiled step `date_parts`.
#[derive(Clone, Debug)]
pub(crate) struct DateParts {
    features: Vec<DateFeature>,
    unknown: UnknownDate,
}

impl DateParts {
    /// Checks the step. Pointers in errors start at the step.
    pub(crate) fn compile(parts: &[Value], unknown: &Value) -> Result<DateParts, DeclarationError> {
        if parts.is_empty() {
            return Err(DeclarationError::new("/parts", "must not be empty"));
        }
        let features = parts
            .iter()
            .enumerate()
            .map(|(at, part)| {
                read_feature(part).map_err(|error| error.below(&format!("/parts/{at}")))
            })
            .collect::<Result<_, _>>()?;
        // The declaration must choose a value, because no default is right for every model.
        let unknown = match unknown {
            Value::String(text) if text == "error" => UnknownDate::Error,
            Value::Number(number) => UnknownDate::Number(number.as_f64().unwrap_or(f64::NAN)),
            Value::Null => UnknownDate::Number(f64::NAN),
            _ => {
                return Err(DeclarationError::new(
                    "/unknown",
                    "must be \"error\", a number, or null for a missing value",
                ));
            }
        };
        Ok(DateParts { features, unknown })
    }

    /// The number of columns.
    pub(crate) fn width(&self) -> usize {
        self.features.len()
    }

    /// Writes the numbers of one row to `row`, which has `width` cells. Returns `false` if the
    /// value is refused.
    pub(crate) fn write(&self, text: Option<&str>, row: &mut [f64]) -> bool {
        match (text.and_then(formats::moment), self.unknown) {
            (Some(moment), _) => {
                for (cell, feature) in row.iter_mut().zip(&self.features) {
                    *cell = match feature {
                        DateFeature::Plain(part) => f64::from(part.value(&moment)),
                        DateFeature::Sine(part, period) => {
                            (TAU * f64::from(part.value(&moment)) / period).sin()
                        }
                        DateFeature::Cosine(part, period) => {
                            (TAU * f64::from(part.value(&moment)) / period).cos()
                        }
                    };
                }
                true
            }
            // All columns get the same number.
            (None, UnknownDate::Number(number)) => {
                row.fill(number);
                true
            }
            (None, UnknownDate::Error) => false,
        }
    }
}

/// Reads one column of the declaration: the name of a part, `{"sin": name}` or `{"cos": name}`.
fn read_feature(written: &Value) -> Result<DateFeature, DeclarationError> {
    let fault = |detail: String| DeclarationError::new("", detail);
    let part = |name: &Value| {
        let found = PARTS
            .iter()
            .find(|(known, _)| Some(*known) == name.as_str())
            .map(|(_, part)| *part);
        found.ok_or_else(|| {
            fault(format!(
                "{name} is not a part; expected one of: {}",
                PARTS.map(|(name, _)| name).join(", ")
            ))
        })
    };
    let Some(members) = written.as_object() else {
        return part(written).map(DateFeature::Plain);
    };
    let mut members = members.iter();
    let (Some((wave, name)), None) = (members.next(), members.next()) else {
        let detail = "must be a part's name, {\"sin\": name} or {\"cos\": name}";
        return Err(fault(detail.to_owned()));
    };
    let part = part(name)?;
    let period = part.period().ok_or_else(|| {
        fault(format!(
            "{name} does not repeat, so it has no sine and no cosine"
        ))
    });
    match wave.as_str() {
        "sin" => period.map(|period| DateFeature::Sine(part, period)),
        "cos" => period.map(|period| DateFeature::Cosine(part, period)),
        _ => Err(fault(format!(
            "unknown member \"{wave}\"; expected one of: sin, cos"
        ))),
    }
}

/// Days before each month of a year that is not a leap year.
const DAYS_BEFORE_MONTH: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

/// The day of the year. 1 January is day 1.
fn day_of_year(moment: &Moment) -> u32 {
    let before = DAYS_BEFORE_MONTH
        .get((moment.month as usize).wrapping_sub(1))
        .copied()
        .unwrap_or_default();
    before + moment.day + u32::from(moment.month > 2 && formats::is_leap(moment.year))
}

/// The day of the week. Monday is 0.
fn weekday(moment: &Moment) -> u32 {
    (first_weekday(moment.year) + day_of_year(moment) - 1) % 7
}

/// The weekday of 1 January. The first day of the year 1 was a Monday in the proleptic Gregorian
/// calendar.
fn first_weekday(year: u32) -> u32 {
    let before = year.saturating_sub(1);
    (before * 365 + before / 4 - before / 100 + before / 400) % 7
}

/// The week of ISO 8601. Weeks start on Monday, and week 1 contains the first Thursday of the year.
fn week(moment: &Moment) -> u32 {
    // A week belongs to the year of its Thursday. The first days of a year may therefore be in the
    // last week of the previous year, and the last days in week 1 of the next year.
    let week = (day_of_year(moment) + 9 - weekday(moment)) / 7;
    match week {
        0 => weeks_of_year(moment.year.saturating_sub(1)),
        53 if weeks_of_year(moment.year) == 52 => 1,
        week => week,
    }
}

/// The number of weeks of a year: 53 if it starts on a Thursday, or on a Wednesday in a leap year;
/// otherwise 52.
fn weeks_of_year(year: u32) -> u32 {
    match first_weekday(year) {
        3 => 53,
        2 if formats::is_leap(year) => 53,
        _ => 52,
    }
}

#[cfg(test)]
mod tests {
    use chrono::{Datelike, NaiveDate};
    use serde_json::{Value, json};

    use crate::transform::date_parts::DateParts;

    #[test]
    fn wrong_steps_are_rejected() {
        let cases = [
            (json!([]), json!("error"), "/parts", "empty"),
            (
                json!(["year", "second"]),
                json!("error"),
                "/parts/1",
                "expected one of: year, month",
            ),
            (
                json!([{"sin": "year"}]),
                json!("error"),
                "/parts/0",
                "does not repeat",
            ),
            (
                json!([{"tan": "hour"}]),
                json!("error"),
                "/parts/0",
                "expected one of: sin, cos",
            ),
            (
                json!([{"sin": "hour", "cos": "hour"}]),
                json!("error"),
                "/parts/0",
                "must be a part's name",
            ),
            (json!([7]), json!("error"), "/parts/0", "7 is not a part"),
            (
                json!(["year"]),
                json!("zeros"),
                "/unknown",
                "\"error\", a number, or null",
            ),
        ];
        for (parts, unknown, pointer, detail) in cases {
            let error = DateParts::compile(parts.as_array().unwrap(), &unknown).unwrap_err();
            assert_eq!(error.pointer, pointer, "{parts}");
            assert!(error.detail.contains(detail), "{parts}: {error}");
        }
    }

    /// Compares the results with the calendar library, for every day of eight hundred years.
    #[test]
    fn every_day_has_all_date_parts() {
        let parts = DateParts::compile(
            &["weekday", "day_of_year", "week"].map(Value::from),
            &Value::Null,
        )
        .unwrap();
        let mut day = NaiveDate::from_ymd_opt(1599, 1, 1).unwrap();
        while day.year() < 2400 {
            let mut row = [0.0; 3];
            assert!(parts.write(Some(&day.to_string()), &mut row));
            let expected = [
                f64::from(day.weekday().num_days_from_monday()),
                f64::from(day.ordinal()),
                f64::from(day.iso_week().week()),
            ];
            assert_eq!(row, expected, "{day}");
            day = day.succ_opt().unwrap();
        }
    }
}
