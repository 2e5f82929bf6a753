//! Amounts of bytes as an operator writes them: a whole number and a unit.

/// Units, the largest first, in bytes.
const UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Reads an amount, or says what to write instead.
pub(super) fn parse(text: &str) -> Result<u64, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || {
        format!(
            "{text:?} is not an amount of bytes; write a whole number and a unit (B, KiB, MiB, \
             GiB), for instance \"512MiB\""
        )
    };
    let (_, bytes) = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    Ok(number.saturating_mul(*bytes))
}

/// An amount as an operator writes it.
pub(super) fn show(bytes: u64) -> String {
    UNITS
        .iter()
        .find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit))
        .map_or_else(
            || format!("{bytes}B"),
            |(name, unit)| format!("{}{name}", bytes / unit),
        )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn amounts() {
        for (text, bytes) in [
            ("0B", 0),
            ("1GiB", 1 << 30),
            ("512MiB", 512 << 20),
            ("1000B", 1_000),
        ] {
            assert_eq!(parse(text).unwrap(), bytes);
            assert_eq!(show(bytes), text);
        }
        assert_eq!(
            parse("20000000000000000000B"),
            Err(wrong("20000000000000000000B"))
        );
        assert_eq!(parse("18446744073709551615GiB").unwrap(), u64::MAX);
        for text in ["", "1", "1GB", "GiB", "-1B", "1.5GiB", "1 GiB"] {
            assert_eq!(parse(text), Err(wrong(text)), "{text}");
        }
    }

    fn wrong(text: &str) -> String {
        format!(
            "{text:?} is not an amount of bytes; write a whole number and a unit (B, KiB, MiB, \
             GiB), for instance \"512MiB\""
        )
    }
}
