//! Which variant answers a request (RFC 9111 section 4.1).

use super::directives::{members, trim};
use super::fields::latin1;
use http::header::{ACCEPT_ENCODING, ACCEPT_LANGUAGE, VARY};
use http::{HeaderMap, HeaderName};

/// What a response's `Vary` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vary {
    /// Nothing: one variant for all.
    None,
    /// These request fields select the variant: sorted, each once, 1 to [`FIELDS_MAX`].
    Fields(Vec<HeaderName>),
    /// `*`, unreadable, or too long: matches no later request.
    Any,
}

/// The most fields that a `Vary` may name.
pub const FIELDS_MAX: usize = 32;

/// Reads `Vary` (RFC 9110 section 12.5.5); several lines are one list.
pub fn vary(response_headers: &HeaderMap) -> Vary {
    let mut fields = Vec::new();
    for member in response_headers
        .get_all(VARY)
        .iter()
        .flat_map(|line| members(line.as_bytes()))
    {
        match HeaderName::from_bytes(member) {
            // `*` is a token, so it passes as a field name.
            Ok(name) if name.as_str() != "*" => fields.push(name),
            Ok(_) | Err(_) => return Vary::Any,
        }
        if fields.len() > FIELDS_MAX.saturating_mul(4) {
            return Vary::Any;
        }
    }
    fields.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    fields.dedup();
    match fields.len() {
        0 => Vary::None,
        1..=FIELDS_MAX => Vary::Fields(fields),
        _ => Vary::Any,
    }
}

/// Canonical text of the selecting fields' normalised values: for the same
/// fields, two requests match if and only if it is equal.
///
/// Each name and value carries its length, so that no value can imitate
/// another field; an absent field differs from an empty one.
pub fn selector(fields: &[HeaderName], request_headers: &HeaderMap) -> String {
    let mut text = String::new();
    for name in fields {
        push_counted(&mut text, name.as_str());
        match normalised(name, request_headers) {
            Value::Absent => text.push('-'),
            Value::Text(value) => {
                text.push('=');
                push_counted(&mut text, &value);
            }
            Value::Choices(choices) => {
                let choices: Vec<_> = choices
                    .iter()
                    .map(|choice| format!("{};{}", choice.name, choice.weight))
                    .collect();
                text.push('~');
                push_counted(&mut text, &choices.join(","));
            }
        }
    }
    text
}

/// What a selector says of one field. Each kind has a mark of its own, so that
/// no value of one kind equals a value of another.
enum Value {
    /// The request has no such field.
    Absent,
    /// As text.
    Text(String),
    /// As a set of weighted choices.
    Choices(Vec<Choice>),
}

/// Appends `<length in bytes>:<text>`.
fn push_counted(out: &mut String, text: &str) {
    out.push_str(&text.len().to_string());
    out.push(':');
    out.push_str(text);
}

/// A field's value without what its syntax calls meaningless (RFC 9111 section 4.1).
fn normalised(name: &HeaderName, headers: &HeaderMap) -> Value {
    if !headers.contains_key(name) {
        return Value::Absent;
    }
    let by_meaning = match *name {
        ACCEPT_ENCODING => choices(name, headers, |coding| {
            // RFC 9110 section 8.4.1: the old names of two codings.
            let current = coding
                .strip_prefix("x-")
                .filter(|rest| matches!(*rest, "gzip" | "compress"));
            current.unwrap_or(coding).to_owned()
        }),
        ACCEPT_LANGUAGE => choices(name, headers, str::to_owned),
        _ => None,
    };
    match by_meaning {
        Some(mut choices) => {
            choices.sort();
            choices.dedup();
            Value::Choices(choices)
        }
        None => Value::Text(joined(name, headers)),
    }
}

/// Lines joined to one list, without white space around commas outside quotes.
fn joined(name: &HeaderName, headers: &HeaderMap) -> String {
    let mut parts = Vec::new();
    for line in headers.get_all(name) {
        let mut quoted = false;
        let mut escaped = false;
        let split = line.as_bytes().split(|&byte| {
            if escaped {
                escaped = false;
            } else if quoted && byte == b'\\' {
                escaped = true;
            } else if byte == b'"' {
                quoted = !quoted;
            }
            byte == b',' && !quoted
        });
        parts.extend(split.map(|part| latin1(trim(part))));
    }
    parts.join(",")
}

/// One member of `Accept-Encoding` or `Accept-Language`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Choice {
    /// Lower case.
    name: String,
    /// In thousandths: 0 to 1000.
    weight: u16,
}

/// Members with their weights (RFC 9110 section 12.4.2), in the order of the
/// field; `None` if any member is malformed, and the text is all there is.
fn choices(
    name: &HeaderName,
    headers: &HeaderMap,
    rename: impl Fn(&str) -> String,
) -> Option<Vec<Choice>> {
    let mut choices = Vec::new();
    for member in headers
        .get_all(name)
        .iter()
        .flat_map(|line| members(line.as_bytes()))
    {
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

/// Reads a weight (RFC 9110 section 12.4.2): `0` to `1`, at most three decimals.
fn weight(text: &str) -> Option<u16> {
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

#[cfg(test)]
mod tests {
    use super::super::fields::tests::{arbitrary_map, map};
    use super::*;
    use proptest::prelude::*;

    fn named(names: &[&'static str]) -> Vec<HeaderName> {
        names
            .iter()
            .map(|name| HeaderName::from_static(name))
            .collect()
    }

    #[test]
    fn vary_is_a_list_of_fields() {
        for (lines, expected) in [
            (&[][..], Vary::None),
            (&[""][..], Vary::None),
            (&[" , "][..], Vary::None),
            (&["Foo"][..], Vary::Fields(named(&["foo"]))),
            (
                &["Foo, bar", "BAR,Accept"][..],
                Vary::Fields(named(&["accept", "bar", "foo"])),
            ),
            (&["*"][..], Vary::Any),
            (&["*, *"][..], Vary::Any),
            (&["", "*"][..], Vary::Any),
            (&[", *"][..], Vary::Any),
            (&["Foo, *"][..], Vary::Any),
            (&["*, Foo"][..], Vary::Any),
            (&["a b"][..], Vary::Any),
            (&["\u{e9}"][..], Vary::Any),
        ] {
            let fields: Vec<_> = lines.iter().map(|line| ("vary", *line)).collect();
            assert_eq!(vary(&map(&fields)), expected, "{lines:?}");
        }
        let many = |count: usize| {
            (0..count)
                .map(|n| format!("x{n}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert!(matches!(
            vary(&map(&[("vary", &many(FIELDS_MAX))])),
            Vary::Fields(_)
        ));
        assert_eq!(vary(&map(&[("vary", &many(FIELDS_MAX + 1))])), Vary::Any);
        assert_eq!(vary(&map(&[("vary", &many(10_000))])), Vary::Any);
    }

    type Fields<'a> = &'a [(&'a str, &'a str)];

    #[test]
    fn requests_match_by_meaning() {
        let fields = named(&["accept-encoding", "accept-language", "foo"]);
        let table: &[(Fields<'_>, Fields<'_>, bool)] = &[
            (&[], &[], true),
            (&[("foo", "1")], &[("foo", "1")], true),
            (&[("foo", "1")], &[("foo", "2")], false),
            (&[("foo", "a")], &[("foo", "A")], false),
            (&[("foo", "")], &[], false),
            (
                &[("foo", "1"), ("other", "2")],
                &[("foo", "1"), ("other", "3")],
                true,
            ),
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
                &[("accept-language", "en, de")],
                &[("accept-language", " en ,   de")],
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
            // What cannot be read is compared as text.
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
            // No field imitates another.
            (
                &[("accept-language", "3:foo1:1")],
                &[("accept-language", ""), ("foo", "1")],
                false,
            ),
            (&[("foo", "-")], &[], false),
        ];
        for (a, b, expected) in table {
            let (a, b) = (selector(&fields, &map(a)), selector(&fields, &map(b)));
            assert_eq!(a == b, *expected, "{a} {b}");
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

    #[test]
    fn a_malformed_language_does_not_select_what_a_valid_one_selects() {
        let one = [ACCEPT_LANGUAGE];
        let plain = selector(&one, &map(&[("accept-language", "de")]));
        for malformed in ["de;1000", "de;q=1000", "~de;1000", "=de"] {
            let spelled = selector(&one, &map(&[("accept-language", malformed)]));
            assert_ne!(plain, spelled, "{malformed}");
        }
    }

    proptest! {
        #[test]
        fn any_fields_select(response in arbitrary_map(), request in arbitrary_map()) {
            if let Vary::Fields(fields) = vary(&response) {
                prop_assert!(!fields.is_empty() && fields.len() <= FIELDS_MAX);
                prop_assert_eq!(selector(&fields, &request), selector(&fields, &request.clone()));
            }
        }

        #[test]
        fn different_values_of_an_unknown_field_differ(a in "[a-z0-9:;=-]{0,12}", b in "[a-z0-9:;=-]{0,12}") {
            let fields = named(&["bar", "foo"]);
            let equal = selector(&fields, &map(&[("foo", &a)])) == selector(&fields, &map(&[("foo", &b)]));
            prop_assert_eq!(equal, a == b);
            prop_assert_ne!(selector(&fields, &map(&[("foo", &a)])), selector(&fields, &map(&[("bar", &b)])));
        }
    }
}
