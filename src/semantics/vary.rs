//! Which variant answers a request (RFC 9111 section 4.1).

use super::line::members;
use http::header::VARY;
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

/// The fields that a response's `Vary` names; empty where it says nothing, or
/// matches no later request.
pub fn selecting_names(response_headers: &HeaderMap) -> Vec<HeaderName> {
    match vary(response_headers) {
        Vary::Fields(fields) => fields,
        Vary::None | Vary::Any => Vec::new(),
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

    proptest! {
        #[test]
        fn what_is_named_is_sorted_and_named_once(response in arbitrary_map()) {
            let names = selecting_names(&response);
            prop_assert!(names.len() <= FIELDS_MAX);
            prop_assert!(names.is_sorted_by(|a, b| a.as_str() < b.as_str()));
            let any_or_none = !matches!(vary(&response), Vary::Fields(_));
            prop_assert_eq!(names.is_empty(), any_or_none);
        }
    }
}
