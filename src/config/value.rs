//! Values as an operator writes them, checked.

use std::time::Duration;
use toml::de::DeValue;

/// What a setting takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text such as `"500ms"`, within bounds.
    Duration {
        /// The shortest allowed.
        min: Duration,
        /// The longest allowed.
        max: Duration,
    },
    /// A whole number, within bounds.
    Integer {
        /// The smallest allowed.
        min: u64,
        /// The largest allowed.
        max: u64,
    },
    /// A number from 0 to below 1, kept in thousandths.
    Ratio,
    /// `true` or `false`.
    Boolean,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// A list of texts.
    Texts,
}

/// A checked value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Of [`Kind::Duration`].
    Duration(Duration),
    /// Of [`Kind::Integer`]; of [`Kind::Ratio`], thousandths.
    Integer(u64),
    /// Of [`Kind::Boolean`].
    Boolean(bool),
    /// Of [`Kind::Choice`].
    Choice(&'static str),
    /// Of [`Kind::Texts`].
    Texts(Vec<String>),
}

impl Kind {
    /// Checks a value, or says what is wrong with it and what to write.
    pub fn check(&self, value: &DeValue<'_>) -> Result<Value, String> {
        match self {
            Kind::Duration { min, max } => match value {
                DeValue::String(text) => {
                    let duration = duration(text)?;
                    if duration < *min || duration > *max {
                        return Err(format!(
                            "{text:?} is out of bounds; write a duration from {} to {}",
                            show(*min),
                            show(*max)
                        ));
                    }
                    Ok(Value::Duration(duration))
                }
                other => Err(format!(
                    "is a duration, not a {}; write text with a unit, for instance \"{}\"",
                    other.type_str(),
                    show(*min.max(&Duration::from_secs(1)).min(max)),
                )),
            },
            Kind::Integer { min, max } => value
                .as_integer()
                .and_then(|integer| {
                    u64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
                })
                .filter(|integer| (min..=max).contains(&integer))
                .map(Value::Integer)
                .ok_or_else(|| format!("write a whole number from {min} to {max}")),
            Kind::Ratio => ratio(value)
                .map(Value::Integer)
                .ok_or_else(|| "write a number from 0 to 0.999, for instance 0.1".to_owned()),
            Kind::Boolean => value
                .as_bool()
                .map(Value::Boolean)
                .ok_or_else(|| "write true or false".to_owned()),
            Kind::Choice(words) => value
                .as_str()
                .and_then(|text| words.iter().find(|word| **word == text))
                .map(|word| Value::Choice(word))
                .ok_or_else(|| {
                    let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
                    format!("write {}", words.join(" or "))
                }),
            Kind::Texts => value
                .as_array()
                .and_then(|array| {
                    array
                        .iter()
                        .map(|item| item.get_ref().as_str().map(str::to_owned))
                        .collect::<Option<Vec<_>>>()
                })
                .map(Value::Texts)
                .ok_or_else(|| "write a list of texts, for instance [\"a\", \"b\"]".to_owned()),
        }
    }

    /// How the reference describes what to write.
    pub fn describe(&self) -> String {
        match self {
            Kind::Duration { min, max } => {
                format!("duration, {} to {}", show(*min), show(*max))
            }
            Kind::Integer { min, max } => format!("whole number, {min} to {max}"),
            Kind::Ratio => "number, 0 to 0.999".to_owned(),
            Kind::Boolean => "true or false".to_owned(),
            Kind::Choice(words) => words
                .iter()
                .map(|word| format!("{word:?}"))
                .collect::<Vec<_>>()
                .join(" or "),
            Kind::Texts => "list of texts".to_owned(),
        }
    }
}

/// Units, the largest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || {
        if unit.is_empty() && !number.is_empty() {
            format!("{text:?} has no unit; write for instance \"{number}s\"")
        } else {
            format!(
                "{text:?} is no duration; write a whole number and a unit (ms, s, m, h, d), for instance \"90s\""
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

/// A duration as an operator would write it.
pub(super) fn show(duration: Duration) -> String {
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

/// Thousandths of a number below one. Decimal text, so that no rounding of
/// binary fractions comes in.
fn ratio(value: &DeValue<'_>) -> Option<u64> {
    if value
        .as_integer()
        .is_some_and(|integer| integer.as_str() == "0")
    {
        return Some(0);
    }
    let text = value.as_float()?.as_str().replace('_', "");
    let decimals = text.strip_prefix("0.")?;
    if decimals.is_empty() || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    format!("{decimals:0<3}").get(..3)?.parse().ok()
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
            let duration = duration(text).unwrap();
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
            assert!(duration(text).is_err(), "{text:?}");
        }
        assert!(duration("60").unwrap_err().contains("\"60s\""));
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for text in ["0s", "1ms", "1500ms", "2s", "1m", "90s", "1h", "7d"] {
            assert_eq!(show(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn ratios() {
        for (text, thousandths) in [
            ("0", Some(0)),
            ("0.0", Some(0)),
            ("0.1", Some(100)),
            ("0.25", Some(250)),
            ("0.9999", Some(999)),
            ("1", None),
            ("1.0", None),
            ("-0.1", None),
            ("nan", None),
            ("1e-1", None),
            ("\"0.1\"", None),
        ] {
            let value = DeValue::parse(text).unwrap();
            assert_eq!(ratio(value.get_ref()), thousandths, "{text}");
        }
    }
}
