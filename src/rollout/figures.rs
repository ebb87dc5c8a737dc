//! Formats numbers for people, in judgements and in the output of commands.

/// A percentage with two significant digits: `3.1 %`, `0.023 %`, `50 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", digits(share * 100.0, 2))
}

/// A number with three significant digits. A large number has an exponent: `2.5e9`.
pub(crate) fn number(value: f64) -> String {
    if value >= 1e6 {
        format!("{value:.1e}")
    } else {
        digits(value, 3)
    }
}

/// A number with at most nine decimals. A value that is not finite becomes 0.
fn digits(value: f64, digits: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".to_owned();
    }
    // Each digit before the decimal point reduces the number of decimals by one.
    let decimals = (digits - 1 - value.abs().log10().floor() as i32).clamp(0, 9) as usize;
    let text = format!("{value:.decimals$}");
    // Trailing zeros after a decimal point are removed. Without a point they are significant.
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A duration in the largest unit of which it contains at least 2: `90 s`, `20 min`, `5 h`, `7 d`.
pub(crate) fn duration(seconds: f64) -> String {
    let units = [("d", 86_400.0), ("h", 3600.0), ("min", 60.0)];
    let (unit, length) = units
        .into_iter()
        .find(|(_, length)| seconds >= 2.0 * length)
        .unwrap_or(("s", 1.0));
    format!("{} {unit}", digits(seconds / length, 3))
}

#[cfg(test)]
mod tests {
    use crate::rollout::figures::{duration, number, percent};

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!(
            [percent(0.0), percent(0.031), percent(0.5), percent(0.00023)],
            ["0 %", "3.1 %", "50 %", "0.023 %"]
        );
        assert_eq!(
            [number(671.2), number(2.5e9), number(0.25)],
            ["671", "2.5e9", "0.25"]
        );
        assert_eq!(
            [
                duration(90.0),
                duration(1200.0),
                duration(604_800.0),
                duration(0.0)
            ],
            ["90 s", "20 min", "7 d", "0 s"]
        );
    }
}
