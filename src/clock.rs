//! Wall-clock time. Only this module reads the clock, so that tests can pass times as arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat};

/// The current time in whole seconds, as RFC 3339 in UTC: `2026-11-23T20:00:00Z`.
///
/// `source_date_epoch`: seconds since the Unix epoch that replace the clock. A build sets the
/// environment variable of that name to get the same bytes each time (reproducible-builds.org).
pub(crate) fn now_rfc3339(source_date_epoch: Option<&str>) -> String {
    let seconds = source_date_epoch
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(unix_seconds);
    // This fails only for years outside the range of the library.
    DateTime::from_timestamp_secs(seconds)
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
        .unwrap_or_default()
}

/// The current time in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    since_epoch().as_millis() as u64
}

/// A time in milliseconds since the Unix epoch, as RFC 3339 in UTC: `2026-11-23T20:00:00.125Z`.
pub(crate) fn rfc3339_of_ms(ms: u64) -> String {
    i64::try_from(ms)
        .ok()
        .and_then(DateTime::from_timestamp_millis)
        .map(|time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
        .unwrap_or_default()
}

/// Converts RFC 3339 to milliseconds since the Unix epoch. `None` if the string is not RFC 3339, or
/// the time is before the epoch.
pub(crate) fn ms_of_rfc3339(text: &str) -> Option<u64> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    u64::try_from(time.timestamp_millis()).ok()
}

/// Whether a file's time is less than `span` before now, or in the future. A time in the future
/// counts as recent because the clocks of two machines may differ.
pub(crate) fn is_recent(time: SystemTime, span: Duration) -> bool {
    time.duration_since(UNIX_EPOCH)
        .is_ok_and(|time| time + span > since_epoch())
}

fn unix_seconds() -> i64 {
    since_epoch().as_secs() as i64
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the one reader of wall time"
)]
fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::clock::{ms_of_rfc3339, now_ms, now_rfc3339, rfc3339_of_ms};

    #[test]
    fn milliseconds_are_written_and_read() {
        assert_eq!(rfc3339_of_ms(1_500), "1970-01-01T00:00:01.500Z");
        let now = now_ms();
        assert_eq!(ms_of_rfc3339(&rfc3339_of_ms(now)), Some(now));
        assert_eq!(ms_of_rfc3339("yesterday"), None);
    }

    #[test]
    fn a_given_epoch_is_printed_in_utc() {
        assert_eq!(now_rfc3339(Some("0")), "1970-01-01T00:00:00Z");
        assert!(now_rfc3339(None).starts_with("20"));
    }
}
