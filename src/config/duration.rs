//! Durations as an operator writes them: a whole number and a unit.

use std::time::Duration;

/// Units, the largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a duration as an operator writes it: `90s`, `500ms`.
///
/// # Errors
///
/// What to write instead.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || {
        if unit.is_empty() && !number.is_empty() {
            format!("{text:?} has no unit; write for instance \"{number}s\"")
        } else {
            format!(
                "{text:?} is not a duration; write a whole number and a unit (ms, s, m, h, d), for \
                 instance \"90s\""
            )
        }
    };
    let (_, millis) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_millis(number.saturating_mul(*millis)))
}

/// A duration as an operator writes it.
pub(crate) fn show(duration: Duration) -> String {
    let millis = crate::time::millis(duration);
    if millis == 0 {
        return "0s".to_owned();
    }
    UNITS
        .iter()
        .find(|(_, unit)| millis.is_multiple_of(*unit))
        .map_or_else(
            || format!("{millis}ms"),
            |(name, unit)| format!("{}{name}", millis / unit),
        )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("0s", 0),
            ("500ms", 500),
            ("60s", 60_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            let duration = parse(text).unwrap();
            assert_eq!(duration, Duration::from_millis(millis), "{text}");
        }
        for text in [
            "",
            "s",
            "5",
            "-1s",
            "1.5s",
            "1 s",
            "1S",
            "1w",
            "99999999999999999999s",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(parse("60").unwrap_err().contains("\"60s\""));
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for text in ["0s", "1ms", "1500ms", "2s", "1m", "90s", "1h", "7d"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
    }
}
