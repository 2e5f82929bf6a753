//! Entity tags (RFC 9110 section 8.8.3).

use super::fields::single;
use super::line::trim;
use http::HeaderMap;
use http::header::ETAG;

/// One entity tag, as bytes between its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntityTag<'a> {
    /// `"…"`.
    Strong(&'a [u8]),
    /// `W/"…"`.
    Weak(&'a [u8]),
    /// What is none: some origins forget the quotes. Equal only to itself.
    Malformed(&'a [u8]),
}

impl<'a> EntityTag<'a> {
    pub(super) fn parse(text: &'a [u8]) -> Self {
        let text = trim(text);
        let (weak, quoted) = match text.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        match quoted
            .strip_prefix(b"\"")
            .and_then(|rest| rest.strip_suffix(b"\""))
        {
            Some(opaque) if !opaque.contains(&b'"') => {
                if weak {
                    EntityTag::Weak(opaque)
                } else {
                    EntityTag::Strong(opaque)
                }
            }
            Some(_) | None => EntityTag::Malformed(text),
        }
    }

    /// Weak comparison (RFC 9110 section 8.8.3.2).
    pub(super) fn weakly_equals(self, other: EntityTag<'_>) -> bool {
        match (self, other) {
            (
                EntityTag::Strong(a) | EntityTag::Weak(a),
                EntityTag::Strong(b) | EntityTag::Weak(b),
            )
            | (EntityTag::Malformed(a), EntityTag::Malformed(b)) => a == b,
            (EntityTag::Malformed(_), EntityTag::Strong(_) | EntityTag::Weak(_))
            | (EntityTag::Strong(_) | EntityTag::Weak(_), EntityTag::Malformed(_)) => false,
        }
    }

    /// Strong comparison (RFC 9110 section 8.8.3.2).
    pub(super) fn strongly_equals(self, other: EntityTag<'_>) -> bool {
        match (self, other) {
            (EntityTag::Strong(a), EntityTag::Strong(b)) => a == b,
            (EntityTag::Strong(_) | EntityTag::Weak(_) | EntityTag::Malformed(_), _) => false,
        }
    }
}

/// A response's entity tag; `None` without one, and with several, which name nothing.
pub(super) fn entity_tag(headers: &HeaderMap) -> Option<EntityTag<'_>> {
    single(headers, &ETAG)
        .map(|value| EntityTag::parse(value.as_bytes()))
        .filter(|tag| *tag != EntityTag::Malformed(b""))
}

/// Splits a list of entity tags at commas outside quotes. No escapes: a
/// backslash is a character like any other here.
pub(super) fn tags(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    line.split(move |&byte| {
        if byte == b'"' {
            quoted = !quoted;
        }
        byte == b',' && !quoted
    })
    .map(trim)
    .filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn tags_are_compared() {
        // RFC 9110 section 8.8.3.2, table 3; then what is malformed.
        for (a, b, strong, weak) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
            ("\"\"", "\"\"", true, true),
            ("\"\u{e9},\\\"", "\"\u{e9},\\\"", true, true),
            ("1", "1", false, true),
            ("1", "\"1\"", false, false),
            ("w/\"1\"", "w/\"1\"", false, true),
            ("w/\"1\"", "W/\"1\"", false, false),
            ("\"1", "\"1", false, true),
            ("\"a\"b\"", "\"a\"b\"", false, true),
        ] {
            let (a, b) = (
                EntityTag::parse(a.as_bytes()),
                EntityTag::parse(b.as_bytes()),
            );
            assert_eq!(
                (a.strongly_equals(b), a.weakly_equals(b)),
                (strong, weak),
                "{a:?} {b:?}"
            );
            assert_eq!(
                (b.strongly_equals(a), b.weakly_equals(a)),
                (strong, weak),
                "{b:?} {a:?}"
            );
        }
    }

    #[test]
    fn lists_are_split_outside_quotes() {
        let split = |line: &'static str| {
            tags(line.as_bytes())
                .map(|tag| std::str::from_utf8(tag).unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            split("\"a,b\" ,W/\"c\\\",, d"),
            ["\"a,b\"", "W/\"c\\\"", "d"]
        );
        assert_eq!(split("\"open, \"x\""), ["\"open, \"x\""]);
        assert!(split(" , ").is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            for tag in tags(&line) {
                let tag = EntityTag::parse(tag);
                prop_assert!(tag.weakly_equals(tag));
            }
        }
    }
}
