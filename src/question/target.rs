//! The canonical form of a request target.
//!
//! What RFC 3986 section 6.2.2 calls equivalent is made equal, dot segments
//! excepted: an origin may answer `/a/../b` and `/b` differently. The canonical
//! target is both what is keyed and what the origin is asked for, so it cannot
//! be filled with the answer to another target.

use super::policy::{KeyPolicy, any_matches};

/// Path and query in canonical form: without ignored parameters, sorted and
/// lower-cased where the policy says so. Never empty.
pub fn canonical(path_and_query: &str, policy: &KeyPolicy) -> String {
    // A fragment is never part of a request target; one that comes is kept as text.
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let mut text = canonical_pieces(path, '/', policy.lowercase);
    if text.is_empty() {
        // RFC 9110 section 4.2.3.
        text.push('/');
    }
    if let Some(query) = query.and_then(|query| canonical_query(query, policy)) {
        text.push('?');
        text.push_str(&query);
    }
    text
}

/// The path of a target, without its query.
pub fn path_of(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// The query without ignored parameters, sorted if so configured; `None` if
/// nothing of it is left.
fn canonical_query(query: &str, policy: &KeyPolicy) -> Option<String> {
    let query = canonical_pieces(query, '&', false);
    if query.is_empty() {
        return Some(query);
    }
    let mut parameters: Vec<&str> = query
        .split('&')
        .filter(|parameter| !any_matches(&policy.ignore, name_of(parameter)))
        .collect();
    if parameters.is_empty() {
        return None;
    }
    if policy.sort {
        // Stable: the order of one name's values may matter to the origin.
        parameters.sort_by(|a, b| name_of(a).cmp(name_of(b)));
    }
    Some(parameters.join("&"))
}

fn name_of(parameter: &str) -> &str {
    parameter
        .split_once('=')
        .map_or(parameter, |(name, _)| name)
}

/// Segments or parameters, each in canonical form.
fn canonical_pieces(text: &str, delimiter: char, lowercase: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, piece) in text.split(delimiter).enumerate() {
        if index > 0 {
            out.push(delimiter);
        }
        match canonical_escapes(piece, lowercase) {
            Some(canonical) => out.push_str(&canonical),
            None if lowercase => out.push_str(&piece.to_ascii_lowercase()),
            None => out.push_str(piece),
        }
    }
    out
}

/// Escapes of unreserved characters decoded, hexadecimal digits of the others in
/// upper case (RFC 3986 sections 6.2.2.1 and 6.2.2.2).
///
/// `None` if a percent sign begins no escape. Such text is equivalent to nothing
/// else, and decoding an escape behind the sign could create a new one: `%2%35`,
/// which origins refuse, would become `%25`.
fn canonical_escapes(text: &str, lowercase: bool) -> Option<String> {
    let case = |text: &str| match lowercase {
        true => text.to_ascii_lowercase(),
        false => text.to_owned(),
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(&case(before));
        let (byte, remaining) = escaped_byte(after)?;
        let letter = char::from(byte);
        if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_' | '~') {
            out.push_str(&case(letter.encode_utf8(&mut [0; 4])));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        rest = remaining;
    }
    out.push_str(&case(rest));
    Some(out)
}

/// The byte that two hexadecimal digits spell, and what follows them.
fn escaped_byte(text: &str) -> Option<(u8, &str)> {
    let (digits, rest) = text.split_at_checked(2)?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some((u8::from_str_radix(digits, 16).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::super::policy::Pattern;
    use super::*;
    use proptest::prelude::*;

    fn policy(ignore: &[&str], sort: bool) -> KeyPolicy {
        KeyPolicy {
            ignore: ignore.iter().copied().map(Pattern::new).collect(),
            sort,
            ..KeyPolicy::default()
        }
    }

    #[test]
    fn targets_have_a_canonical_form() {
        let plain = policy(&[], false);
        for (target, expected) in [
            ("", "/"),
            ("/", "/"),
            ("/a", "/a"),
            ("/A", "/A"),
            ("/%61%2d%7E%5f", "/a-~_"),
            ("/%2f%c3%a9", "/%2F%C3%A9"),
            ("/a%", "/a%"),
            ("/a%2", "/a%2"),
            ("/a%zz%41/%41", "/a%zz%41/A"),
            ("/%%41", "/%%41"),
            ("/%+1", "/%+1"),
            ("/a//b/", "/a//b/"),
            ("/a/../b/.", "/a/../b/."),
            ("/a/%2e%2E/b", "/a/../b"),
            ("/a?", "/a?"),
            ("/a?b=%7e&a", "/a?b=~&a"),
            ("/a?b?c", "/a?b?c"),
            // Order, repetition and empty parameters are the origin's to read.
            ("/a?b=2&a=1&b=1", "/a?b=2&a=1&b=1"),
            ("/a?&&a=&b&", "/a?&&a=&b&"),
            ("?x", "/?x"),
            ("/\u{e9}%\u{e9}", "/\u{e9}%\u{e9}"),
            ("*", "*"),
        ] {
            assert_eq!(canonical(target, &plain), expected, "{target}");
        }
    }

    /// An answer to a malformed target, such as 404, must not be found under a
    /// well-formed one.
    #[test]
    fn a_stray_percent_sign_makes_no_escape_of_what_follows() {
        let plain = policy(&[], false);
        for (stray, sound) in [
            ("/%2%35", "/%25"),
            ("/%4%31", "/A"),
            ("/%%32%35", "/%25"),
            ("/?a=%2%36b", "/?a=%26b"),
        ] {
            assert_ne!(canonical(stray, &plain), canonical(sound, &plain));
        }
        // Other segments and parameters are made canonical all the same.
        assert_eq!(canonical("/%zz/%41?%&b=%7e", &plain), "/%zz/A?%&b=~");
    }

    #[test]
    fn queries_are_filtered_and_sorted() {
        let tracking = policy(&["utm_*", "fbclid"], true);
        for (target, expected) in [
            ("/?b=2&a=1", "/?a=1&b=2"),
            ("/?a=2&b=0&a=1", "/?a=2&a=1&b=0"),
            ("/?utm_source=x&a=1&fbclid=y", "/?a=1"),
            ("/?utm%5Fsource=x", "/"),
            ("/?utm_", "/"),
            ("/?utm", "/?utm"),
            ("/?UTM_x=1", "/?UTM_x=1"),
            ("/?fbclid2=1", "/?fbclid2=1"),
            ("/?a&&b", "/?&a&b"),
            ("/?", "/?"),
            ("/", "/"),
            // One parameter, whatever an origin splits it into.
            ("/?utm_x=1;callback=evil", "/"),
        ] {
            assert_eq!(canonical(target, &tracking), expected, "{target}");
        }
        assert_eq!(canonical("/?b=2&a=1", &policy(&[], false)), "/?b=2&a=1");
        assert_eq!(canonical("/?b=2&a=1", &policy(&["*"], false)), "/");
    }

    #[test]
    fn paths_are_lower_cased_where_configured_and_queries_never() {
        let lower = KeyPolicy {
            lowercase: true,
            ..KeyPolicy::default()
        };
        for (target, expected) in [
            ("/Page.ASPX?Id=A", "/page.aspx?Id=A"),
            ("/%41%c3%a9", "/a%C3%A9"),
            ("/A%zz", "/a%zz"),
        ] {
            assert_eq!(canonical(target, &lower), expected, "{target}");
        }
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_stable(
            target in prop_oneof!["/[ -~\u{e9}]{0,40}", "/[%0-9a-fA-F&?/=]{0,12}"],
            sort in any::<bool>(),
            lowercase in any::<bool>(),
        ) {
            let policy = KeyPolicy { lowercase, ..policy(&["utm_*", "a"], sort) };
            let once = canonical(&target, &policy);
            prop_assert_eq!(canonical(&once, &policy), once);
        }
    }
}
