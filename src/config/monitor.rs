//! `[monitor]`: how far inputs and predictions moved from their reference.

use std::{fmt, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::error::{InvalidKey, KeyFault};

/// The allowed length of a window. The counts of a shorter one would be few and would cost more.
const LENGTHS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(31 * 24 * 3600);

/// Maximum number of windows. Each keeps eleven copies of all counters.
const MAX_WINDOWS: usize = 8;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MonitorConfig {
    /// Windows in which inputs and predictions are compared with the reference, such as ["10m",
    /// "1h", "24h"]: whole numbers with s, m or h, from 10s to 744h. Empty: nothing is monitored.
    pub windows: Vec<WindowLength>,
}

impl MonitorConfig {
    pub(super) fn check(&self) -> Result<(), InvalidKey> {
        let invalid = |fault| Err(InvalidKey::new("monitor.windows", fault));
        if self.windows.len() > MAX_WINDOWS {
            return invalid(KeyFault::TooManyWindows { limit: MAX_WINDOWS });
        }
        match self
            .windows
            .iter()
            .find(|window| !LENGTHS.contains(&window.0))
        {
            Some(window) => invalid(KeyFault::WindowLength(*window)),
            None => Ok(()),
        }
    }

    /// The lengths of the windows, the shortest one first, each once.
    pub(crate) fn lengths(&self) -> Vec<Duration> {
        let mut lengths: Vec<Duration> = self.windows.iter().map(|window| window.0).collect();
        lengths.sort_unstable();
        lengths.dedup();
        lengths
    }
}

/// The length of a window, written as `10m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct WindowLength(Duration);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a window: a whole number with s, m or h, like 10m")]
pub struct WindowLengthError(String);

impl WindowLength {
    /// The length in seconds.
    pub(crate) fn seconds(self) -> u64 {
        self.0.as_secs()
    }
}

impl std::str::FromStr for WindowLength {
    type Err = WindowLengthError;

    fn from_str(text: &str) -> Result<WindowLength, WindowLengthError> {
        let seconds = || {
            let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
            let factor = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => return None,
            };
            number.parse::<u64>().ok()?.checked_mul(factor)
        };
        let seconds = seconds().ok_or_else(|| WindowLengthError(text.to_owned()))?;
        Ok(WindowLength(Duration::from_secs(seconds)))
    }
}

impl TryFrom<String> for WindowLength {
    type Error = WindowLengthError;

    fn try_from(text: String) -> Result<WindowLength, WindowLengthError> {
        text.parse()
    }
}

impl fmt::Display for WindowLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds() {
            seconds if seconds % 3600 == 0 => write!(f, "{}h", seconds / 3600),
            seconds if seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

impl From<WindowLength> for String {
    fn from(window: WindowLength) -> String {
        window.to_string()
    }
}

#[cfg(test)]
mod tests {
    use crate::config::monitor::{MonitorConfig, WindowLength, WindowLengthError};

    #[test]
    fn a_window_is_a_number_with_a_unit() {
        for (text, seconds) in [("10m", 600), ("24h", 86_400), ("90s", 90), ("0s", 0)] {
            let window: WindowLength = text.parse().unwrap();
            assert_eq!(window.seconds(), seconds);
        }
        for text in ["10m", "24h", "90s"] {
            assert_eq!(text.parse::<WindowLength>().unwrap().to_string(), text);
        }
        for wrong in [
            "",
            "m",
            "10",
            "10 m",
            "-1h",
            "1d",
            "1µ",
            "99999999999999999999h",
        ] {
            let parsed: Result<WindowLength, WindowLengthError> = wrong.parse();
            assert!(parsed.is_err(), "{wrong}");
        }
    }

    #[test]
    fn windows_are_few_and_of_a_useful_length() {
        let check = |windows: &[&str]| {
            let config = MonitorConfig {
                windows: windows.iter().map(|text| text.parse().unwrap()).collect(),
            };
            config.check().map_err(|error| error.to_string())
        };
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&["10s", "744h"]), Ok(()));
        let range = "`monitor.windows`: a window must be from 10s to 744h, not ";
        assert_eq!(check(&["9s"]), Err(format!("{range}9s")));
        assert_eq!(check(&["745h"]), Err(format!("{range}745h")));
        let many = "`monitor.windows` may have at most 8 windows";
        assert_eq!(check(&["10s"; 9]), Err(many.to_owned()));
    }
}
