//! Reading lists of directives: `Cache-Control` (RFC 9111 section 5.2) as the
//! world writes it, and numbers in seconds (section 1.2.2).

use super::line::{latin1, members, trim};
use http::{HeaderMap, HeaderName};

/// The largest number of seconds; larger and unrepresentable ones count as
/// this (RFC 9111 section 1.2.2).
pub const SECONDS_MAX: u32 = 0x7fff_ffff;

/// One directive. Unknown ones are read too: the caller decides what to ignore.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Directive {
    /// Lower case, no surrounding white space.
    pub(super) name: String,
    /// What follows the name.
    pub(super) argument: Argument,
}

/// A directive's argument. Token and quoted form are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// No `=`.
    None,
    /// Without quotes and escapes.
    Text(String),
    /// White space beside `=`, an open quote, or text after the closing one.
    Malformed,
}

/// Seconds as a field states them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seconds {
    /// 0 to [`SECONDS_MAX`].
    Valid(u32),
    /// Missing, negative, fractional or otherwise not delta-seconds. For
    /// lifetimes this means zero, never for ever.
    Malformed,
}

impl Seconds {
    /// The number, with zero for a malformed one.
    pub fn or_zero(self) -> u32 {
        match self {
            Seconds::Valid(seconds) => seconds,
            Seconds::Malformed => 0,
        }
    }

    /// The number if there is one.
    pub fn valid(self) -> Option<u32> {
        match self {
            Seconds::Valid(seconds) => Some(seconds),
            Seconds::Malformed => None,
        }
    }
}

/// All directives of all lines of a field, in order (RFC 9110 section 5.3:
/// several lines are one list). A quoted string does not span lines.
pub(super) fn directives(headers: &HeaderMap, name: &HeaderName) -> Vec<Directive> {
    let mut found = Vec::new();
    for line in headers.get_all(name) {
        for member in members(line.as_bytes()) {
            if let Some(directive) = directive(member) {
                found.push(directive);
            }
        }
    }
    found
}

/// The words of those parts of a field that are not directives by the grammar, each with
/// the bytes that follow it: what somebody has separated by semicolons or spaces, or has
/// put behind a quotation mark that is never closed. Words are letters, digits, `-` and
/// `_`, in lower case.
pub(super) fn misplaced_words<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = (String, &'a [u8])> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| members(line.as_bytes()))
        .filter(|member| !is_directive(member))
        .flat_map(words)
}

/// The words of a text, each with the bytes that follow it.
pub(super) fn words(mut text: &[u8]) -> impl Iterator<Item = (String, &[u8])> {
    std::iter::from_fn(move || {
        let start = text.iter().position(is_of_word)?;
        let (_, from) = text.split_at_checked(start)?;
        let length = from.iter().position(|byte| !is_of_word(byte));
        let (word, rest) = from.split_at_checked(length.unwrap_or(from.len()))?;
        text = rest;
        Some((latin1(word).to_ascii_lowercase(), rest))
    })
}

fn is_of_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

/// Whether a member is a directive as RFC 9111 section 5.2 writes it: a token, and perhaps
/// an argument that is a token or a quoted string.
pub(super) fn is_directive(member: &[u8]) -> bool {
    let is_word = |text: &[u8]| text.iter().all(is_of_word);
    let mut parts = member.splitn(2, |&byte| byte == b'=');
    // No directive that is known has other characters in its name.
    let has_name = parts
        .next()
        .is_some_and(|name| !name.is_empty() && is_word(name));
    has_name
        && parts.next().is_none_or(|text| {
            is_word(text) || (text.starts_with(b"\"") && argument(text) != Argument::Malformed)
        })
}

/// Reads delta-seconds: digits alone (RFC 9111 section 1.2.2).
pub(super) fn seconds(text: &[u8]) -> Seconds {
    if text.is_empty() {
        return Seconds::Malformed;
    }
    let mut value: u32 = 0;
    for &byte in text {
        if !byte.is_ascii_digit() {
            return Seconds::Malformed;
        }
        value = value
            .saturating_mul(10)
            .saturating_add(u32::from(byte.saturating_sub(b'0')))
            .min(SECONDS_MAX);
    }
    Seconds::Valid(value)
}

impl Argument {
    /// The argument as delta-seconds.
    pub(super) fn seconds(&self) -> Seconds {
        match self {
            Argument::Text(text) => seconds(text.as_bytes()),
            Argument::None | Argument::Malformed => Seconds::Malformed,
        }
    }
}

/// Reads one member of a list of directives; `None` for one without a name.
pub(super) fn directive(member: &[u8]) -> Option<Directive> {
    let mut parts = member.splitn(2, |&byte| byte == b'=');
    let before = parts.next().unwrap_or_default();
    let name = latin1(trim(before)).to_ascii_lowercase();
    if name.is_empty() {
        return None;
    }
    let argument = match parts.next() {
        None => Argument::None,
        Some(after) if trim(before) != before || trim(after) != after => Argument::Malformed,
        Some(after) => argument(after),
    };
    Some(Directive { name, argument })
}

fn argument(text: &[u8]) -> Argument {
    let Some(inner) = text.strip_prefix(b"\"") else {
        return if text.contains(&b'"') {
            Argument::Malformed
        } else {
            Argument::Text(latin1(text))
        };
    };
    let mut value = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        match byte {
            b'"' if bytes.as_slice().is_empty() => return Argument::Text(latin1(&value)),
            b'"' => return Argument::Malformed,
            b'\\' => match bytes.next() {
                Some(&escaped) => value.push(escaped),
                None => return Argument::Malformed,
            },
            _ => value.push(byte),
        }
    }
    Argument::Malformed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use http::HeaderValue;
    use http::header::CACHE_CONTROL;
    use proptest::prelude::*;

    fn read(lines: &[&str]) -> Vec<(String, Argument)> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(
                CACHE_CONTROL,
                HeaderValue::from_bytes(line.as_bytes()).unwrap(),
            );
        }
        directives(&headers, &CACHE_CONTROL)
            .into_iter()
            .map(|d| (d.name, d.argument))
            .collect()
    }

    fn text(value: &str) -> Argument {
        Argument::Text(value.to_owned())
    }

    type Row<'a> = (&'a [&'a str], &'a [(&'a str, Argument)]);

    #[test]
    fn lists_are_read_as_written() {
        let table: &[Row<'_>] = &[
            (&[], &[]),
            (&["", " , ,"], &[]),
            (&["no-store"], &[("no-store", Argument::None)]),
            (&["No-StOrE"], &[("no-store", Argument::None)]),
            (
                &["a, b", "c"],
                &[
                    ("a", Argument::None),
                    ("b", Argument::None),
                    ("c", Argument::None),
                ],
            ),
            (&["max-age=1"], &[("max-age", text("1"))]),
            (&["max-age=\"1\""], &[("max-age", text("1"))]),
            (
                &["\tmax-age=1 \t,\tpublic"],
                &[("max-age", text("1")), ("public", Argument::None)],
            ),
            // A comma or a directive inside quotes is text.
            (
                &["x=\"max-age=3600, no-store\", max-age=1"],
                &[
                    ("x", text("max-age=3600, no-store")),
                    ("max-age", text("1")),
                ],
            ),
            (
                &["x=\"a\\\"b, c\", d"],
                &[("x", text("a\"b, c")), ("d", Argument::None)],
            ),
            (&["x=a=b"], &[("x", text("a=b"))]),
            (&["x="], &[("x", text(""))]),
            (&["x=\"\""], &[("x", text(""))]),
            // Malformed, and the name still counts.
            (&["max-age =1"], &[("max-age", Argument::Malformed)]),
            (&["max-age= 1"], &[("max-age", Argument::Malformed)]),
            (&["max-age=\"1"], &[("max-age", Argument::Malformed)]),
            (&["max-age=\"1\"x"], &[("max-age", Argument::Malformed)]),
            (&["max-age=1\"\""], &[("max-age", Argument::Malformed)]),
            (
                &["private=\"a, no-store"],
                &[("private", Argument::Malformed)],
            ),
            // A quote does not reach the next line.
            (
                &["x=\"a", "no-store"],
                &[("x", Argument::Malformed), ("no-store", Argument::None)],
            ),
            (&["=1, a"], &[("a", Argument::None)]),
        ];
        for (lines, expected) in table {
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, argument)| ((*name).to_owned(), argument.clone()))
                .collect();
            assert_eq!(read(lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn seconds_are_digits_alone() {
        for (text, expected) in [
            ("0", Seconds::Valid(0)),
            ("003600", Seconds::Valid(3600)),
            ("2147483647", Seconds::Valid(SECONDS_MAX)),
            ("2147483648", Seconds::Valid(SECONDS_MAX)),
            ("99999999999999999999999999", Seconds::Valid(SECONDS_MAX)),
            ("", Seconds::Malformed),
            ("-1", Seconds::Malformed),
            ("+1", Seconds::Malformed),
            ("1.0", Seconds::Malformed),
            ("1e3", Seconds::Malformed),
            (" 1", Seconds::Malformed),
            ("'3600'", Seconds::Malformed),
            ("a1", Seconds::Malformed),
            ("1a", Seconds::Malformed),
        ] {
            assert_eq!(seconds(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            for member in members(&line) {
                let _ = directive(member);
            }
        }
    }
}
