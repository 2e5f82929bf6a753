//! Names as an operator writes them: fields, cookies, query parameters, hosts.
//!
//! Each function reads one item of a list, or says what is wrong with it and
//! what to write instead.

use crate::question::has_valid_port;
use crate::question::policy::Pattern;
use http::HeaderName;
use http::uri::Authority;

/// Field names that a list may not have.
#[derive(Debug)]
pub struct Refused {
    /// The names, in lower case; a `*` at the end stands for any ending.
    names: &'static [&'static str],
    /// Whether a pattern that stands for one of the names is refused, too.
    covered: bool,
    /// Why, and what to write instead.
    why: &'static str,
}

/// What `request.forward` may not have.
pub(super) const NEVER_FORWARDED: &[Refused] = &[
    Refused {
        names: &["cookie", "cookie2"],
        covered: true,
        why: "cookies can make an answer one visitor's; remove it, and write for instance \
              cookies = { key = [\"lang\"] }",
    },
    Refused {
        names: &["authorization", "proxy-authorization"],
        covered: true,
        why: "credentials make an answer one visitor's; remove it, and write credentials = \"key\"",
    },
    Refused {
        names: &["host"],
        covered: true,
        why: "it decides which page is meant; remove it, and list the hosts in key.hosts",
    },
    Refused {
        names: &[
            "connection",
            "http2-settings",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ],
        covered: true,
        why: "it concerns the visitor's connection, and the origin has another; remove it",
    },
    Refused {
        names: &["content-*", "expect"],
        covered: true,
        why: "it concerns content, and a request that fills the cache has none; remove it",
    },
    Refused {
        names: &["accept", "accept-encoding", "if-*", "range"],
        covered: true,
        why: "what one visitor asks for with it would be stored for all; remove it",
    },
    Refused {
        names: &[
            "x-http-method",
            "x-http-method-override",
            "x-method-override",
        ],
        covered: false,
        why: "a request with it is forwarded whole and never stored; remove it",
    },
    Refused {
        names: &["via", "x-forwarded-host", "x-forwarded-proto"],
        covered: false,
        why: "Leeward sends its own; remove it",
    },
];

/// What `request.drop` may not have.
pub(super) const NEVER_DROPPED: &[Refused] = &[
    Refused {
        names: &["cookie", "cookie2"],
        covered: true,
        why: "cookies have a setting of their own; remove it, and write cookies = \"ignore\"",
    },
    Refused {
        names: &["authorization", "proxy-authorization"],
        covered: true,
        why: "credentials have a setting of their own; remove it, and write credentials = \
              \"ignore\"",
    },
];

/// What `response.drop` may not have.
pub(super) const KEPT_IN_RESPONSES: &[Refused] = &[
    Refused {
        names: &[
            "content-encoding",
            "content-length",
            "content-range",
            "content-type",
            "transfer-encoding",
        ],
        covered: true,
        why: "clients cannot read the body without it; remove it",
    },
    Refused {
        names: &[
            "age",
            "cache-control",
            "date",
            "etag",
            "expires",
            "last-modified",
            "vary",
        ],
        covered: true,
        why: "a stored response is chosen, validated and kept by it; remove it",
    },
];

/// A pattern: a `*` can only stand at its end.
fn pattern(text: &str, example: &str) -> Result<Pattern, String> {
    if text.is_empty() {
        return Err(format!("is empty; write for instance {example:?}"));
    }
    match text.split_once('*') {
        Some((beginning, rest)) if !rest.is_empty() => Err(format!(
            "{text:?} has a * before its end; write for instance {:?}",
            format!("{beginning}*")
        )),
        _ => Ok(Pattern::new(text)),
    }
}

/// The name of a query parameter. Case matters.
pub(super) fn parameter(text: &str) -> Result<Pattern, String> {
    pattern(text, "utm_*")
}

/// The name of a field, in lower case.
pub(super) fn field(text: &str, refused: &[Refused]) -> Result<Pattern, String> {
    let pattern = pattern(&text.to_ascii_lowercase(), "x-device-id")?;
    let beginning = pattern.as_str().trim_end_matches('*');
    if !beginning.is_empty() && HeaderName::from_bytes(beginning.as_bytes()).is_err() {
        return Err(format!(
            "{text:?} is not the name of a field; write for instance \"x-device-id\" or \"x-app-*\""
        ));
    }
    for Refused {
        names,
        covered,
        why,
    } in refused
    {
        let hit = names.iter().find(|name| match covered {
            true => pattern.overlaps(&Pattern::new(**name)),
            false => pattern.as_str() == **name,
        });
        if let Some(name) = hit {
            return Err(match name.trim_end_matches('*') == beginning {
                true => format!("{text:?} cannot be listed: {why}"),
                false => format!("{text:?} cannot be listed, because it stands for {name}: {why}"),
            });
        }
    }
    Ok(pattern)
}

/// The name of a cookie, or the beginning of names. Case matters.
pub(super) fn cookies(text: &str) -> Result<Pattern, String> {
    let pattern = pattern(text, "_ga*")?;
    cookie_letters(text)?;
    Ok(pattern)
}

/// The whole name of a cookie.
pub(super) fn cookie(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty; write for instance \"lang\"".to_owned());
    }
    if text.contains('*') {
        return Err(format!(
            "{text:?} has a *, but cookies are keyed by their whole name; write each name"
        ));
    }
    cookie_letters(text)?;
    Ok(text.to_owned())
}

fn cookie_letters(text: &str) -> Result<(), String> {
    match text
        .chars()
        .find(|letter| !letter.is_ascii_graphic() || matches!(letter, '=' | ';' | ','))
    {
        Some(letter) => Err(format!(
            "{text:?} is not the name of a cookie, because of the {letter:?}; write the name \
             alone, for instance \"lang\""
        )),
        None => Ok(()),
    }
}

/// Most bytes of a path with its query.
const TARGET_MAX: usize = 8 << 10;

/// A path with its query.
pub(super) fn target(text: &str) -> Result<String, String> {
    let wrong = |what: &str, remedy: &str| Err(format!("{text:?} {what}; write {remedy}"));
    if text.len() > TARGET_MAX {
        return Err(format!("a path has at most {TARGET_MAX} bytes"));
    }
    if text.contains("://") {
        return wrong(
            "has a scheme",
            "the path alone; it is fetched for each of key.hosts",
        );
    }
    if !text.starts_with('/') {
        return wrong("does not begin with /", &format!("\"/{text}\""));
    }
    if text.contains('#') {
        return wrong(
            "has a fragment, which servers do not get",
            "the path before the #",
        );
    }
    match text.parse::<http::uri::PathAndQuery>() {
        Ok(target) if target.as_str() == text => Ok(text.to_owned()),
        Ok(_) | Err(_) => wrong(
            "is no path",
            "it as a browser sends it, with %20 for a blank",
        ),
    }
}

/// A host with an optional port, in lower case and without a default port.
pub(super) fn host(text: &str) -> Result<String, String> {
    let wrong = |what: &str, remedy: &str| Err(format!("{text:?} {what}; write {remedy}"));
    let without_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let alone = without_scheme
        .split(['/', '?', '#'])
        .next()
        .unwrap_or_default();
    if text.contains("://") {
        return wrong("has a scheme", &format!("the host alone, {alone:?}"));
    }
    if alone != text {
        return wrong("has a path", &format!("the host alone, {alone:?}"));
    }
    if text.contains('*') {
        return wrong(
            "has a *, but hosts are compared whole",
            "each host that is served, for instance \"www.example.com\"",
        );
    }
    if text.contains('@') {
        return wrong("has a user name", "the host without it");
    }
    if !text.is_ascii() {
        return wrong(
            "has letters that a Host field does not have",
            "the form that begins with xn-- (punycode)",
        );
    }
    let host = match text.parse::<Authority>() {
        Ok(authority) if is_host(authority.host()) => authority,
        Ok(_) | Err(_) => {
            return wrong(
                "is not a host",
                "for instance \"www.example.com\", \"localhost:8080\" or \"[::1]:8080\"",
            );
        }
    };
    if !has_valid_port(&host) {
        return wrong(
            "has a port that is not a number from 1 to 65535",
            &format!("for instance {:?}", format!("{}:8080", host.host())),
        );
    }
    let name = host.host().to_ascii_lowercase();
    Ok(match host.port_u16() {
        None | Some(80 | 443) => name,
        Some(port) => format!("{name}:{port}"),
    })
}

fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn hosts_are_read_in_their_normal_form() {
        for (text, expected) in [
            ("example.com", "example.com"),
            ("WWW.Example.com", "www.example.com"),
            ("example.com:80", "example.com"),
            ("example.com:443", "example.com"),
            ("example.com:080", "example.com"),
            ("example.com:8080", "example.com:8080"),
            ("example.com:8443", "example.com:8443"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("[2001:DB8::1]:8080", "[2001:db8::1]:8080"),
            ("a_b.internal", "a_b.internal"),
        ] {
            assert_eq!(host(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_wrong_host_is_refused_with_a_remedy() {
        for (text, remedy) in [
            ("", "is not a host; write for instance \"www.example.com\""),
            (
                "https://a.example/",
                "has a scheme; write the host alone, \"a.example\"",
            ),
            (
                "a.example/x",
                "has a path; write the host alone, \"a.example\"",
            ),
            (
                "a.example?x",
                "has a path; write the host alone, \"a.example\"",
            ),
            (
                "*.example",
                "has a *, but hosts are compared whole; write each host",
            ),
            (
                "u:p@a.example",
                "has a user name; write the host without it",
            ),
            ("bücher.example", "write the form that begins with xn--"),
            ("a b", "is not a host"),
            ("::1", "\"[::1]:8080\""),
            ("[::g]", "is not a host"),
            ("a.example:", "write for instance \"a.example:8080\""),
            (
                "a.example:+80",
                "has a port that is not a number from 1 to 65535",
            ),
            (
                "a.example:0",
                "has a port that is not a number from 1 to 65535",
            ),
            (
                "a.example:99999",
                "has a port that is not a number from 1 to 65535",
            ),
            ("$a", "is not a host"),
        ] {
            let message = host(text).unwrap_err();
            assert!(message.contains(remedy), "{text}: {message}");
        }
    }

    #[test]
    fn names_of_fields_are_read_in_lower_case() {
        for text in ["x-a", "X-A", "x-a-*", "*"] {
            let read = field(text, &[]).unwrap();
            assert_eq!(read.as_str(), text.to_ascii_lowercase());
        }
        for (text, remedy) in [
            ("", "is empty; write for instance \"x-device-id\""),
            ("x a", "is not the name of a field"),
            ("x:a*", "is not the name of a field"),
            ("é", "is not the name of a field"),
            (
                "x-*-id",
                "has a * before its end; write for instance \"x-*\"",
            ),
            ("x-**", "has a * before its end"),
        ] {
            let message = field(text, &[]).unwrap_err();
            assert!(message.contains(remedy), "{text}: {message}");
        }
    }

    #[test]
    fn a_pattern_that_covers_a_refused_field_is_refused() {
        for (text, name) in [
            ("Cookie", "cookies = { key"),
            ("c*", "stands for cookie"),
            ("*", "stands for cookie"),
            ("authorization", "credentials = \"key\""),
            ("Host", "key.hosts"),
            ("hos*", "stands for host"),
            ("transfer-encoding", "concerns the visitor's connection"),
            ("content-length", "concerns content"),
            ("content-md5", "concerns content"),
            ("if-none-match", "would be stored for all"),
            ("x-http-method-override", "never stored"),
            ("via", "Leeward sends its own"),
        ] {
            let message = field(text, NEVER_FORWARDED).unwrap_err();
            assert!(message.contains(name), "{text}: {message}");
        }
        for text in ["x-*", "hx-*", "user-agent", "accept-language", "hostess"] {
            field(text, NEVER_FORWARDED).unwrap();
        }
        for text in ["cookie", "co*", "*", "proxy-authorization"] {
            field(text, NEVER_DROPPED).unwrap_err();
        }
        for text in ["content-type", "content-*", "etag", "vary"] {
            field(text, KEPT_IN_RESPONSES).unwrap_err();
        }
        for text in ["server", "content-security-policy", "x-powered-by"] {
            field(text, KEPT_IN_RESPONSES).unwrap();
        }
    }

    #[test]
    fn names_of_cookies_keep_their_case() {
        for text in ["_ga*", "ASP.NET_SessionId", "a[b]", "*"] {
            assert_eq!(cookies(text).unwrap().as_str(), text);
        }
        for (text, remedy) in [
            ("", "write for instance \"_ga*\""),
            ("a=b", "because of the '='; write the name alone"),
            ("a; b", "because of the ';'"),
            ("a b", "because of the ' '"),
            ("*id", "has a * before its end"),
        ] {
            let message = cookies(text).unwrap_err();
            assert!(message.contains(remedy), "{text}: {message}");
        }
        assert_eq!(cookie("lang").unwrap(), "lang");
        for (text, remedy) in [
            ("", "is empty; write for instance \"lang\""),
            ("la*", "write each name"),
            ("a=b", "write the name alone"),
        ] {
            let message = cookie(text).unwrap_err();
            assert!(message.contains(remedy), "{text}: {message}");
        }
    }
}
