//! What an unsafe request invalidates (RFC 9111 section 4.4).

use super::fields::single;
use super::host::canonical_host;
use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, Method, StatusCode};

/// The longest target that a response can have invalidated, in bytes.
pub const TARGET_MAX: usize = 8_192;

/// A request's target, apart from its method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// `http` or `https`, as the visitor used it.
    pub scheme: &'a str,
    /// Host with port if any, as the visitor named it.
    pub host: &'a str,
    /// Path, and query with its `?` if any.
    pub path_and_query: &'a str,
}

/// Whether the method is one that RFC 9110 section 9.2.1 calls safe. Unknown ones are not.
pub fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method)
}

/// Path and query of every key to invalidate: the target first, then what
/// `Location` and `Content-Location` name on the same host. At most three;
/// empty for safe methods, and for errors, which changed nothing.
///
/// Scheme apart, which a proxy in front may have changed: a host cannot have
/// another's keys invalidated (RFC 9111 section 4.4).
pub fn invalidation_targets(
    target: Target<'_>,
    method: &Method,
    status: StatusCode,
    response_headers: &HeaderMap,
) -> Vec<String> {
    if is_safe(method) || !(status.is_success() || status.is_redirection()) {
        return Vec::new();
    }
    let mut targets = vec![target.path_and_query.to_owned()];
    for name in [LOCATION, CONTENT_LOCATION] {
        let named = single(response_headers, &name)
            .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
            .and_then(|reference| resolve(target, reference));
        if let Some(named) = named.filter(|named| !targets.contains(named)) {
            targets.push(named);
        }
    }
    targets
}

/// Whether a response to POST stands for its target, so that it may answer a
/// later GET (RFC 9110 section 9.3.3): its `Content-Location` is the target.
pub fn stands_for_target(target: Target<'_>, response_headers: &HeaderMap) -> bool {
    single(response_headers, &CONTENT_LOCATION)
        .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
        .and_then(|reference| resolve(target, reference))
        .is_some_and(|named| named == target.path_and_query)
}

/// Resolves a reference (RFC 3986 section 5.2) to path and query on the
/// target's host; `None` if it is on another, too long, or no HTTP address.
pub(crate) fn resolve(target: Target<'_>, reference: &str) -> Option<String> {
    let reference = reference
        .split('#')
        .next()
        .unwrap_or_default()
        .trim_matches([' ', '\t']);
    if reference.len().saturating_add(target.path_and_query.len()) > TARGET_MAX {
        return None;
    }
    let (scheme, rest) = match scheme_of(reference) {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => (target.scheme.to_ascii_lowercase(), reference),
    };
    if !matches!(scheme.as_str(), "http" | "https") {
        return None;
    }
    let absolute = scheme_of(reference).is_some();
    if let Some(rest) = rest.strip_prefix("//") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        if canonical_host(&scheme, authority)
            != canonical_host(&target.scheme.to_ascii_lowercase(), target.host)
        {
            return None;
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        return Some(without_dot_segments(&format!("{slash}{path}")));
    }
    if absolute {
        return None;
    }
    let base_path = path_of(target.path_and_query);
    let joined = match rest.chars().next() {
        None => return Some(target.path_and_query.to_owned()),
        Some('/') => rest.to_owned(),
        Some('?') => return Some(format!("{base_path}{rest}")),
        Some(_) => {
            let directory = base_path
                .rsplit_once('/')
                .map_or("", |(directory, _)| directory);
            format!("{directory}/{rest}")
        }
    };
    Some(without_dot_segments(&joined))
}

/// Splits `scheme:` off (RFC 3986 section 3.1).
fn scheme_of(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let mut letters = scheme.bytes();
    let valid = letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    valid.then_some((scheme, rest))
}

fn path_of(path_and_query: &str) -> &str {
    path_and_query
        .split_once('?')
        .map_or(path_and_query, |(path, _)| path)
}

/// RFC 3986 section 5.2.4, for a path that begins with a slash; the query stays.
fn without_dot_segments(path_and_query: &str) -> String {
    let path = path_of(path_and_query);
    let query = path_and_query.get(path.len()..).unwrap_or_default();
    let mut segments: Vec<&str> = Vec::new();
    let mut rest = path.split('/').skip(1).peekable();
    while let Some(segment) = rest.next() {
        let last = rest.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    segments.pop();
                }
                if last {
                    segments.push("");
                }
            }
            _ => segments.push(segment),
        }
    }
    format!("/{}{query}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::fields::tests::{arbitrary_map, map};
    use super::*;
    use proptest::prelude::*;

    const TARGET: Target<'_> = Target {
        scheme: "http",
        host: "Example.com:80",
        path_and_query: "/a/b?q",
    };

    #[test]
    fn only_four_methods_are_safe() {
        for (method, expected) in [
            ("GET", true),
            ("HEAD", true),
            ("OPTIONS", true),
            ("TRACE", true),
            ("POST", false),
            ("PUT", false),
            ("DELETE", false),
            ("PATCH", false),
            ("CONNECT", false),
            ("M-SEARCH", false),
            ("get", false),
        ] {
            assert_eq!(
                is_safe(&Method::from_bytes(method.as_bytes()).unwrap()),
                expected,
                "{method}"
            );
        }
    }

    #[test]
    fn errors_and_safe_methods_invalidate_nothing() {
        let named = map(&[("location", "/x")]);
        for (method, status, expected) in [
            (Method::POST, 200, 2),
            (Method::PUT, 204, 2),
            (Method::DELETE, 303, 2),
            (Method::POST, 304, 2),
            (Method::POST, 400, 0),
            (Method::POST, 500, 0),
            (Method::POST, 100, 0),
            (Method::GET, 200, 0),
            (Method::HEAD, 200, 0),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(
                invalidation_targets(TARGET, &method, status, &named).len(),
                expected,
                "{method} {status}"
            );
        }
    }

    #[test]
    fn references_are_resolved_on_the_same_host_alone() {
        for (reference, expected) in [
            ("/x", Some("/x")),
            ("/x?y#z", Some("/x?y")),
            ("x", Some("/a/x")),
            ("./x", Some("/a/x")),
            ("../x?y/../z", Some("/x?y/../z")),
            ("../../../x", Some("/x")),
            ("..", Some("/")),
            (".", Some("/a/")),
            ("?p", Some("/a/b?p")),
            ("http://example.com/x", Some("/x")),
            ("HTTP://EXAMPLE.COM:80/x", Some("/x")),
            ("https://example.com/x", Some("/x")),
            ("https://example.com:443/x", Some("/x")),
            ("//example.com", Some("/")),
            ("//example.com?x", Some("/?x")),
            ("//example.com/a/./b/../c", Some("/a/c")),
            ("http://example.org/x", None),
            ("http://example.com:8080/x", None),
            ("http://user@example.com/x", None),
            ("http://example.com.evil/x", None),
            ("//evil/x", None),
            ("http:x", None),
            ("mailto:x@example.com", None),
            ("ftp://example.com/x", None),
            ("", None),
            ("#x", None),
        ] {
            let found = invalidation_targets(
                TARGET,
                &Method::POST,
                StatusCode::OK,
                &map(&[("location", reference)]),
            );
            let mut all = vec!["/a/b?q".to_owned()];
            all.extend(expected.map(str::to_owned));
            assert_eq!(found, all, "{reference}");
        }
    }

    #[test]
    fn both_fields_count_once_each() {
        let post =
            |fields| invalidation_targets(TARGET, &Method::POST, StatusCode::OK, &map(fields));
        assert_eq!(
            post(&[("location", "/x"), ("content-location", "/y")]),
            ["/a/b?q", "/x", "/y"]
        );
        assert_eq!(
            post(&[("location", "/x"), ("content-location", "/x")]),
            ["/a/b?q", "/x"]
        );
        assert_eq!(post(&[("location", "/x"), ("location", "/y")]), ["/a/b?q"]);
        let long = format!("/{}", "x".repeat(TARGET_MAX));
        assert_eq!(post(&[("location", &long)]), ["/a/b?q"]);
    }

    #[test]
    fn a_post_stands_for_its_target_if_it_says_so() {
        for (fields, expected) in [
            (&[("content-location", "/a/b?q")][..], true),
            (
                &[("content-location", "http://example.com/a/b?q")][..],
                true,
            ),
            (&[("content-location", "b?q")][..], true),
            (&[("content-location", "")][..], true),
            (&[("content-location", "/a/b")][..], false),
            (
                &[("content-location", "http://example.org/a/b?q")][..],
                false,
            ),
            (&[][..], false),
        ] {
            assert_eq!(
                stands_for_target(TARGET, &map(fields)),
                expected,
                "{fields:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_reference_is_resolved(headers in arbitrary_map(), base in "[ -~]{0,20}", reference in "\\PC{0,30}") {
            let target = Target { path_and_query: &base, ..TARGET };
            let found = invalidation_targets(target, &Method::PUT, StatusCode::OK, &headers);
            prop_assert!((1..=3).contains(&found.len()));
            let _ = resolve(target, &reference);
        }
    }
}
