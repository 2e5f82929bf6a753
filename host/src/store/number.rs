//! How `increment` keeps its numbers, which differs from store to store.

use super::StoreError;

/// The format of a stored number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    /// Eight bytes, little-endian, as Spin's SQLite store keeps it. Sums past
    /// the end wrap around, as they do in Spin as it is released.
    LittleEndian,
    /// Decimal text, as Redis keeps it. A sum past the end is an error.
    Decimal,
}

impl Number {
    /// The bytes and the value of `stored + delta`; `stored` is none where the
    /// key is absent.
    pub(super) fn add(
        self,
        stored: Option<&[u8]>,
        delta: i64,
    ) -> Result<(Vec<u8>, i64), StoreError> {
        match self {
            Self::LittleEndian => {
                let before = match stored {
                    None => 0,
                    Some(bytes) => i64::from_le_bytes(bytes.try_into().map_err(|_| {
                        StoreError::NotANumber(format!(
                            "not a number: the stored value has {} bytes, not 8",
                            bytes.len()
                        ))
                    })?),
                };
                let sum = before.wrapping_add(delta);
                Ok((sum.to_le_bytes().to_vec(), sum))
            }
            Self::Decimal => {
                let before = match stored {
                    None => 0,
                    Some(bytes) => parse_decimal(bytes).ok_or_else(|| {
                        StoreError::NotANumber("value is not an integer or out of range".to_owned())
                    })?,
                };
                let sum = before.checked_add(delta).ok_or_else(|| {
                    StoreError::Other("increment or decrement would overflow".to_owned())
                })?;
                Ok((sum.to_string().into_bytes(), sum))
            }
        }
    }
}

/// A decimal number as Redis takes it: the canonical text and nothing else, no
/// plus, no leading zero, no space.
fn parse_decimal(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let value: i64 = text.parse().ok()?;
    (value.to_string() == text).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_takes_only_canonical_integers() {
        for (text, value) in [
            ("0", Some(0)),
            ("42", Some(42)),
            ("-7", Some(-7)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("", None),
            ("+1", None),
            ("01", None),
            ("-0", None),
            (" 1", None),
            ("1 ", None),
            ("1.0", None),
        ] {
            assert_eq!(parse_decimal(text.as_bytes()), value, "{text:?}");
        }
    }

    #[test]
    fn sums_past_the_end_wrap_in_binary_and_fail_in_decimal() {
        let end = i64::MAX.to_le_bytes();
        assert_eq!(
            Number::LittleEndian.add(Some(&end), 1),
            Ok((i64::MIN.to_le_bytes().to_vec(), i64::MIN))
        );
        assert!(
            Number::Decimal
                .add(Some(i64::MAX.to_string().as_bytes()), 1)
                .is_err()
        );
    }
}
