//! Field values as text: lists, weights and canonical forms.

use super::line::{latin1, members, trim};
use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE};
use http::{HeaderMap, HeaderName};

/// The members of a list field over all of its lines (RFC 9110 section 5.6.1).
pub(crate) fn field_members<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| members(line.as_bytes()))
}

/// The lines of a field joined to one (RFC 9110 section 5.2), without white space
/// around commas outside quotes. Empty if the field is absent.
pub(crate) fn joined_value(name: &HeaderName, headers: &HeaderMap) -> Vec<u8> {
    let mut joined = Vec::new();
    for (index, line) in headers.get_all(name).iter().enumerate() {
        if index > 0 {
            joined.push(b',');
        }
        let (mut quoted, mut escaped) = (false, false);
        let parts = line.as_bytes().split(|&byte| {
            if escaped {
                escaped = false;
            } else if quoted && byte == b'\\' {
                escaped = true;
            } else if byte == b'"' {
                quoted = !quoted;
            }
            byte == b',' && !quoted
        });
        for (index, part) in parts.enumerate() {
            if index > 0 {
                joined.push(b',');
            }
            joined.extend_from_slice(trim(part));
        }
    }
    joined
}

/// A field's value without what its syntax calls meaningless (RFC 9111 section
/// 4.1), each byte as one character; `None` if the field is absent.
///
/// Two values are equal if and only if no origin that follows the syntax can tell
/// them apart, so the canonical value can be sent in place of the original.
pub(crate) fn normal_value(name: &HeaderName, headers: &HeaderMap) -> Option<String> {
    if !headers.contains_key(name) {
        return None;
    }
    let by_meaning = match *name {
        ACCEPT_ENCODING => choices(name, headers, |coding| {
            // RFC 9110 section 8.4.1: the old names of two codings.
            coding
                .strip_prefix("x-")
                .filter(|rest| matches!(*rest, "gzip" | "compress"))
                .unwrap_or(coding)
                .to_owned()
        }),
        ACCEPT_LANGUAGE => choices(name, headers, str::to_owned),
        _ => None,
    };
    Some(match by_meaning {
        Some(mut choices) => {
            choices.sort_by(|a, b| b.weight.cmp(&a.weight).then_with(|| a.name.cmp(&b.name)));
            choices.dedup();
            let choices: Vec<String> = choices.iter().map(Choice::text).collect();
            choices.join(", ")
        }
        None => latin1(&joined_value(name, headers)),
    })
}

/// One member of `Accept-Encoding` or `Accept-Language`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Choice {
    /// Lower case.
    name: String,
    /// In thousandths: 0 to 1000.
    weight: u16,
}

impl Choice {
    fn text(&self) -> String {
        match self.weight {
            1_000 => self.name.clone(),
            weight => format!("{};q=0.{weight:03}", self.name),
        }
    }
}

/// Members with their weights (RFC 9110 section 12.4.2); `None` if any member is
/// malformed.
fn choices(
    name: &HeaderName,
    headers: &HeaderMap,
    rename: impl Fn(&str) -> String,
) -> Option<Vec<Choice>> {
    let mut choices = Vec::new();
    for member in field_members(headers, name) {
        let member = std::str::from_utf8(member).ok()?.to_ascii_lowercase();
        let mut parts = member.split(';').map(|part| part.trim_matches([' ', '\t']));
        let name = parts
            .next()
            .filter(|name| HeaderName::try_from(*name).is_ok())?;
        let weight = match parts.next() {
            None => 1_000,
            Some(parameter) => weight(parameter.strip_prefix("q=")?)?,
        };
        if parts.next().is_some() {
            return None;
        }
        choices.push(Choice {
            name: rename(name),
            weight,
        });
    }
    Some(choices)
}

/// Reads a weight in thousandths (RFC 9110 section 12.4.2): `0` to `1`, at most
/// three decimals.
pub(crate) fn weight(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", _) => Some(thousandths),
        ("1", 0) => Some(1_000),
        (_, _) => None,
    }
}

/// Appends `<length in bytes>:<text>`, so that no text can imitate another part.
pub(crate) fn push_counted(out: &mut String, text: &str) {
    out.push_str(&text.len().to_string());
    out.push(':');
    out.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::super::fields::tests::{arbitrary_map, map};
    use super::*;
    use proptest::prelude::*;

    type Fields<'a> = &'a [(&'a str, &'a str)];

    #[test]
    fn values_are_equal_by_meaning() {
        let names = ["accept-encoding", "accept-language", "foo"].map(HeaderName::from_static);
        let table: &[(Fields<'_>, Fields<'_>, bool)] = &[
            (&[], &[], true),
            (&[("foo", "1")], &[("foo", "1")], true),
            (&[("foo", "1")], &[("foo", "2")], false),
            (&[("foo", "a")], &[("foo", "A")], false),
            (&[("foo", "")], &[], false),
            // Unknown fields: lines are joined, white space beside commas goes.
            (&[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")], true),
            (&[("foo", "1,2")], &[("foo", " 1, 2 ")], true),
            (&[("foo", "1 2")], &[("foo", "1  2")], false),
            (&[("foo", "1, 2")], &[("foo", "2, 1")], false),
            (&[("foo", "\"a, b\"")], &[("foo", "\"a,b\"")], false),
            // By meaning.
            (
                &[("accept-language", "en, de")],
                &[("accept-language", "de, en")],
                true,
            ),
            (
                &[("accept-language", "en, de")],
                &[("accept-language", "eN, De")],
                true,
            ),
            (
                &[("accept-language", "en, de;q=0.5")],
                &[
                    ("accept-language", "de; Q=0.500"),
                    ("accept-language", "en;q=1.0"),
                ],
                true,
            ),
            (
                &[("accept-language", "en, de;q=0.5")],
                &[("accept-language", "de, en;q=0.5")],
                false,
            ),
            (
                &[("accept-language", "en")],
                &[("accept-language", "en, *;q=0.1")],
                false,
            ),
            (
                &[("accept-encoding", "gzip, br")],
                &[("accept-encoding", "br,x-GZIP,gzip")],
                true,
            ),
            (
                &[("accept-encoding", "gzip;q=0")],
                &[("accept-encoding", "gzip")],
                false,
            ),
            (&[("accept-encoding", "")], &[], false),
            // A malformed value is compared as text.
            (
                &[("accept-encoding", "gzip;q=2, br")],
                &[("accept-encoding", "br, gzip;q=2")],
                false,
            ),
            (
                &[("accept-encoding", "gzip;q=2, br")],
                &[("accept-encoding", "gzip;q=2 , br")],
                true,
            ),
            (
                &[("accept-encoding", "gzip;q=0.1234")],
                &[("accept-encoding", "gzip;q=0.123")],
                false,
            ),
            (
                &[("accept-encoding", "gzip;x=1")],
                &[("accept-encoding", "gzip")],
                false,
            ),
            // What is malformed is not what a valid value is written as.
            (
                &[("accept-language", "de;1000")],
                &[("accept-language", "de")],
                false,
            ),
            (
                &[("accept-language", "de;q=1000")],
                &[("accept-language", "de")],
                false,
            ),
            (&[("foo", "-")], &[], false),
        ];
        for (a, b, expected) in table {
            let values = |fields| {
                names
                    .each_ref()
                    .map(|name| normal_value(name, &map(fields)))
            };
            assert_eq!(values(a) == values(b), *expected, "{a:?} {b:?}");
        }
    }

    #[test]
    fn weights_have_at_most_three_decimals() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1", Some(1_000)),
            ("0.", Some(0)),
            ("1.", Some(1_000)),
            ("0.5", Some(500)),
            ("0.055", Some(55)),
            ("1.000", Some(1_000)),
            ("1.001", None),
            ("0.1234", None),
            ("", None),
            (".5", None),
            ("2", None),
            ("-1", None),
            ("0.x", None),
            ("0.+1", None),
            ("1.0.0", None),
        ] {
            assert_eq!(weight(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_normal_value_is_its_own(headers in arbitrary_map()) {
            for name in headers.keys() {
                // A quote that one line opens would end in another.
                let lines: Vec<_> = headers.get_all(name).iter().collect();
                if lines.len() > 1 && lines.iter().any(|line| line.as_bytes().contains(&b'"')) {
                    continue;
                }
                let once = normal_value(name, &headers);
                let mut again = HeaderMap::new();
                let bytes: Vec<u8> = once.iter().flat_map(|text| text.chars()).map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')).collect();
                if let Ok(value) = http::HeaderValue::from_bytes(&bytes) {
                    again.insert(name, value);
                    prop_assert_eq!(normal_value(name, &again), once);
                }
            }
        }
    }
}
