//! The clear text of a key: a request target in its normal form.
//!
//! Only what RFC 3986 section 6.2.2 calls equivalent is made equal, and of that
//! not dot segments: an origin may well answer `/a/../b` and `/b` differently,
//! and nobody shall fill the key of the one with the answer to the other.

/// What the operator says about keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyPolicy {
    /// Names of query parameters that do not count; a trailing `*` matches any ending.
    pub ignore: Vec<String>,
    /// Whether the order of query parameters does not count. Values of one name
    /// keep theirs.
    pub sort: bool,
    /// Whether the scheme and host are part of the key.
    pub vary_host: bool,
}

/// The canonical text of a key. GET and HEAD share it. Every part carries its
/// length, so that no target can imitate another host's.
pub fn key(scheme: &str, host: Option<&str>, path_and_query: &str, policy: &KeyPolicy) -> String {
    let mut text = String::new();
    if policy.vary_host {
        let scheme = scheme.to_ascii_lowercase();
        push_counted(&mut text, &scheme);
        push_counted(&mut text, &normal_host(&scheme, host.unwrap_or_default()));
    } else {
        text.push('-');
    }
    push_counted(&mut text, &normal_target(path_and_query, policy));
    text
}

/// Path and query in their normal form, as [`key`] contains it.
pub fn normal_target(path_and_query: &str, policy: &KeyPolicy) -> String {
    // A fragment never is part of a request target; one that is, is the client's error.
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let mut text = normal_pieces(path, '/');
    if text.is_empty() {
        // RFC 9110 section 4.2.3.
        text.push('/');
    }
    if let Some(query) = query.and_then(|query| normal_query(query, policy)) {
        text.push('?');
        text.push_str(&query);
    }
    text
}

/// Host and port without what scheme and case make meaningless (RFC 3986
/// sections 6.2.2.1 and 6.2.3).
pub(super) fn normal_host(scheme: &str, host: &str) -> String {
    let host = host.to_ascii_lowercase();
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => ":",
    };
    let host = host.strip_suffix(':').unwrap_or(&host);
    host.strip_suffix(default_port).unwrap_or(host).to_owned()
}

/// The query without ignored parameters, sorted if so configured; `None` if
/// nothing of it is left.
fn normal_query(query: &str, policy: &KeyPolicy) -> Option<String> {
    let query = normal_pieces(query, '&');
    if query.is_empty() {
        return Some(query);
    }
    let mut parameters: Vec<&str> = query
        .split('&')
        .filter(|parameter| !is_ignored(name_of(parameter), policy))
        .collect();
    if parameters.is_empty() {
        return None;
    }
    if policy.sort {
        // Stable: the order of one name's values may mean something.
        parameters.sort_by(|a, b| name_of(a).cmp(name_of(b)));
    }
    Some(parameters.join("&"))
}

fn name_of(parameter: &str) -> &str {
    parameter
        .split_once('=')
        .map_or(parameter, |(name, _)| name)
}

fn is_ignored(name: &str, policy: &KeyPolicy) -> bool {
    policy
        .ignore
        .iter()
        .any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == pattern,
        })
}

/// Segments or parameters, each in its normal form.
fn normal_pieces(text: &str, delimiter: char) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, piece) in text.split(delimiter).enumerate() {
        if index > 0 {
            out.push(delimiter);
        }
        match normal_escapes(piece) {
            Some(normal) => out.push_str(&normal),
            None => out.push_str(piece),
        }
    }
    out
}

/// Escapes of unreserved characters undone, hexadecimal digits of the others in
/// upper case (RFC 3986 sections 6.2.2.1 and 6.2.2.2).
///
/// `None` if a percent sign begins no escape: such text is equivalent to
/// nothing, and undoing an escape behind the sign could make one of it, so that
/// `%2%35`, which origins refuse, would pass for `%25`.
fn normal_escapes(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let (byte, remaining) = escaped_byte(after)?;
        let letter = char::from(byte);
        if letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.' | '_' | '~') {
            out.push(letter);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        rest = remaining;
    }
    out.push_str(rest);
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

/// Appends `<length in bytes>:<text>`.
fn push_counted(out: &mut String, text: &str) {
    out.push_str(&text.len().to_string());
    out.push(':');
    out.push_str(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(ignore: &[&str], sort: bool) -> KeyPolicy {
        KeyPolicy {
            ignore: ignore.iter().map(|name| (*name).to_owned()).collect(),
            sort,
            vary_host: false,
        }
    }

    #[test]
    fn targets_have_a_normal_form() {
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
            ("?x", "/?x"),
            ("/\u{e9}%\u{e9}", "/\u{e9}%\u{e9}"),
            ("*", "*"),
        ] {
            assert_eq!(normal_target(target, &plain), expected, "{target}");
        }
    }

    /// An answer to a malformed target, such as 404, must not be found under a
    /// sound one.
    #[test]
    fn a_stray_percent_sign_makes_no_escape_of_what_follows() {
        let plain = policy(&[], false);
        for (stray, sound) in [
            ("/%2%35", "/%25"),
            ("/%4%31", "/A"),
            ("/%%32%35", "/%25"),
            ("/?a=%2%36b", "/?a=%26b"),
        ] {
            assert_ne!(
                normal_target(stray, &plain),
                normal_target(sound, &plain),
                "{stray}"
            );
        }
        // The others of a path or query are in their normal form all the same.
        assert_eq!(normal_target("/%zz/%41?%&b=%7e", &plain), "/%zz/A?%&b=~");
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
        ] {
            assert_eq!(normal_target(target, &tracking), expected, "{target}");
        }
        assert_eq!(normal_target("/?b=2&a=1", &policy(&[], false)), "/?b=2&a=1");
        assert_eq!(normal_target("/?b=2&a=1", &policy(&["*"], false)), "/");
    }

    #[test]
    fn hosts_count_if_they_vary() {
        let vary = KeyPolicy {
            vary_host: true,
            ..KeyPolicy::default()
        };
        let one = key("https", Some("example.com"), "/", &vary);
        for (scheme, host, same) in [
            ("HTTPS", "EXAMPLE.com", true),
            ("https", "example.com:443", true),
            ("https", "example.com:", true),
            ("https", "example.com:80", false),
            ("http", "example.com", false),
            ("https", "example.org", false),
        ] {
            assert_eq!(
                key(scheme, Some(host), "/", &vary) == one,
                same,
                "{scheme} {host}"
            );
        }
        assert_ne!(key("https", None, "/", &vary), one);
        let alone = KeyPolicy::default();
        assert_eq!(
            key("https", Some("a"), "/x", &alone),
            key("http", Some("b"), "/x", &alone)
        );
        assert_ne!(
            key("https", Some("a"), "/x", &alone),
            key("https", Some("a"), "/x", &vary)
        );
    }

    proptest! {
        #[test]
        fn the_normal_form_is_stable(target in prop_oneof!["/[ -~\u{e9}]{0,40}", "/[%0-9a-f&?/=]{0,12}"], sort in any::<bool>()) {
            let policy = policy(&["utm_*", "a"], sort);
            let once = normal_target(&target, &policy);
            prop_assert_eq!(normal_target(&once, &policy), once);
        }

        #[test]
        fn no_target_imitates_another_host(host in "[a-z0-9:.-]{0,8}", path in "[a-z0-9:/-]{0,8}", other in "[a-z0-9:.-]{0,8}", target in "[a-z0-9:/-]{0,8}") {
            let vary = KeyPolicy { vary_host: true, ..KeyPolicy::default() };
            let equal = key("http", Some(&host), &path, &vary) == key("http", Some(&other), &target, &vary);
            let same = normal_host("http", &host) == normal_host("http", &other)
                && normal_target(&path, &vary) == normal_target(&target, &vary);
            prop_assert_eq!(equal, same);
        }
    }
}
